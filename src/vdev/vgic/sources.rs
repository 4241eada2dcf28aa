//! Who sent an SGI: a GICv2 guest is told, and what two CPUs send are two interrupts.
//!
//! Of each SGI one source at a time is in a list register, the lowest first (IHI 0048B, 4.3.15 and 4.4.4).
//! It is never pending and active in one: the entry has room for one source, so that the next waits until the
//! end of interrupt calls for it. A [`Bank`] knows which of its lanes are [`sourced`](Bank::sourced), none with
//! GICv3.

use super::bank::{Bank, Bits, bit};
use super::lr;
use crate::vcpu::Lists;

/// The sources of one vCPU's SGIs.
pub(super) struct Sources {
    /// A bit for each vCPU whose SGI waits outside of list registers. Not 0 exactly while the latch is set.
    waiting: [u8; 16],
    /// The source of what is listed or active.
    current: [u8; 16],
}

fn get(of: &[u8; 16], lane: u32) -> u8 {
    of.get(lane as usize & 15).copied().unwrap_or(0)
}

fn set(of: &mut [u8; 16], lane: u32, value: u8) {
    if let Some(slot) = of.get_mut(lane as usize & 15) {
        *slot = value;
    }
}

/// The bit of a source.
fn mask(source: u8) -> u8 {
    1u8.wrapping_shl(source.into())
}

impl Sources {
    /// Nothing is pending.
    pub(super) const NONE: Self = Self { waiting: [0; 16], current: [0; 16] };

    /// SGI `lane` pends, sent by each of `sources`.
    pub(super) fn raise(&mut self, bank: &mut Bank, lane: u32, sources: u8) {
        if sources != 0 {
            let waiting = get(&self.waiting, lane) | sources;
            set(&mut self.waiting, lane, waiting);
            bank.latch |= bit(lane);
        }
    }

    /// SGI `lane` does not pend any more for any of `sources`.
    pub(super) fn clear(&mut self, bank: &mut Bank, lane: u32, sources: u8) {
        let waiting = get(&self.waiting, lane) & !sources;
        set(&mut self.waiting, lane, waiting);
        if waiting == 0 {
            bank.latch &= !bit(lane);
        }
        if sources & mask(get(&self.current, lane)) != 0 {
            bank.drop |= bank.listed & bit(lane);
            bank.odd |= bank.drop;
        }
    }

    /// Before ISACTIVER is written by vCPU `me`: of what is idle, nobody else can be the source.
    pub(super) fn activate(&mut self, bank: &Bank, lanes: u32, me: u8) {
        for lane in Bits(lanes & bank.sourced & !bank.active & !bank.listed) {
            set(&mut self.current, lane, me);
        }
    }

    /// The sources for which `lane` pends; `lists`, folded, are those of the vCPU.
    pub(super) fn pending(&self, bank: &Bank, lane: u32, lists: &Lists) -> u8 {
        let b = bit(lane);
        let stands_for = |n: u32| {
            let entry = super::load::read(lists, n);
            lr::intid(entry) == lane && entry & lr::PENDING != 0
        };
        let listed = bank.listed & !bank.drop & b != 0 && Bits(lists.used.into()).any(stands_for);
        get(&self.waiting, lane) | if listed { mask(get(&self.current, lane)) } else { 0 }
    }

    #[inline(never)]
    fn take_back(&mut self, bank: &mut Bank, lane: u32, entry: u64) {
        let pending = entry & lr::PENDING != 0 && bank.drop & bit(lane) == 0;
        bank.take_back_rarely(lane, entry);
        if pending {
            self.raise(bank, lane, mask(lr::source(entry)));
        }
    }

    #[inline(never)]
    fn entry(&mut self, bank: &mut Bank, lane: u32, forward: bool) -> u64 {
        let active = bank.active & bit(lane) != 0;
        let entry = bank.entry_rarely(lane, lane, forward && !active);
        self.with_source(bank, lane, entry)
    }

    /// The entry for `lane` with its source; if it is pending, that one is there from now on.
    pub(super) fn with_source(&mut self, bank: &mut Bank, lane: u32, mut entry: u64) -> u64 {
        if entry & lr::PENDING != 0 {
            let waiting = get(&self.waiting, lane);
            let others = waiting & waiting.wrapping_sub(1);
            set(&mut self.current, lane, waiting.trailing_zeros() as u8 & 7);
            set(&mut self.waiting, lane, others);
            if others != 0 {
                bank.latch |= bit(lane);
                entry |= lr::EOI;
            }
        }
        entry | u64::from(get(&self.current, lane)) << lr::SOURCE_SHIFT
    }
}

/// [`Bank::take_back`] of an interrupt that may have a source.
#[inline(always)]
pub(super) fn take_back(bank: &mut Bank, sources: Option<&mut Sources>, lane: u32, entry: u64) {
    match sources {
        Some(sources) if bank.sourced & bit(lane) != 0 => sources.take_back(bank, lane, entry),
        _ => bank.take_back(lane, entry),
    }
}

/// [`Bank::entry`] of an interrupt that may have a source.
#[inline(always)]
pub(super) fn entry(
    bank: &mut Bank,
    sources: Option<&mut Sources>,
    lane: u32,
    intid: u32,
    forward: bool,
) -> u64 {
    match sources {
        Some(sources) if bank.sourced & bit(lane) != 0 => sources.entry(bank, lane, forward),
        _ => bank.entry(lane, intid, forward),
    }
}
