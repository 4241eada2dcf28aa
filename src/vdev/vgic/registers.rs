//! The register arrays that GICD, GICR and both versions have in common.
//!
//! One row for each array, one function that reads and one that writes, whatever bank it is: 1, 2 or 8 bits
//! for each interrupt, from interrupt 0 up.

use super::bank::{Bank, Bits, bit};
use super::{Access, Kicks, Outcome, Vgic, lr};
use crate::exit::Size;
use crate::vcpu::{Lists, VcpuId};
use crate::vdev::AccessError;
use core::sync::atomic::Ordering;

/// An array of registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Array {
    /// Group 0 or 1.
    Group,
    /// Read or set enables.
    SetEnable,
    /// Read or clear enables.
    ClearEnable,
    /// Read or set pending.
    SetPending,
    /// Read or clear pending.
    ClearPending,
    /// Read or set active.
    SetActive,
    /// Read or clear active.
    ClearActive,
    /// Priority.
    Priority,
    /// Level or edge.
    Config,
    /// RES0.
    Reserved,
}

/// Where an array lies.
struct Row {
    /// First byte of the first register.
    first: u16,
    /// Byte after the last.
    end: u16,
    /// log2 of the bits for each interrupt.
    shift: u8,
    array: Array,
}

const fn row(first: u16, end: u16, shift: u8, array: Array, _name: &str) -> Row {
    Row { first, end, shift, array }
}

// In GICR SGI_base the same offsets serve interrupts 0 to 31 alone. GICD_ITARGETSR and the SGI registers at
// 0xf00 exist without affinity routing only, that is with GICv2.
#[rustfmt::skip]
const ROWS: [Row; 11] = [
    //  first  end   bits  meaning              GICD_, GICR_
    row(0x080, 0x100, 0, Array::Group,        "IGROUPR"),   // RW
    row(0x100, 0x180, 0, Array::SetEnable,    "ISENABLER"), // RW
    row(0x180, 0x200, 0, Array::ClearEnable,  "ICENABLER"), // RW
    row(0x200, 0x280, 0, Array::SetPending,   "ISPENDR"),   // RW
    row(0x280, 0x300, 0, Array::ClearPending, "ICPENDR"),   // RW
    row(0x300, 0x380, 0, Array::SetActive,    "ISACTIVER"), // RW
    row(0x380, 0x400, 0, Array::ClearActive,  "ICACTIVER"), // RW
    row(0x400, 0x800, 3, Array::Priority,     "IPRIORITYR"),// RW, bytes too
    row(0xc00, 0xd00, 1, Array::Config,       "ICFGR"),     // RW
    row(0xd00, 0xd80, 0, Array::Reserved,     "IGRPMODR"),  // RAZ/WI with GICD_CTLR.DS
    row(0xe00, 0xf00, 1, Array::Reserved,     "NSACR"),     // RAZ/WI with GICD_CTLR.DS
];

/// For each 128 bytes up to 0x1000: which row, plus one.
const INDEX: [u8; 32] = {
    let mut index = [0; 32];
    let mut n = 0;
    #[allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "evaluated by the compiler")]
    while n < ROWS.len() {
        let mut place = ROWS[n].first;
        while place < ROWS[n].end {
            index[place as usize >> 7] = n as u8 + 1;
            place += 0x80;
        }
        n += 1;
    }
    index
};

/// What an access means: the array, and the first interrupt that it is about.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) array: Array,
    /// Interrupt number, counted from 0 (SGI 0).
    pub(super) first: u32,
}

/// The array at an offset, or `None` if there is none; an error if it cannot be accessed by this size.
#[inline(always)]
pub(super) fn find(offset: u64, size: Size) -> Option<Result<Place, AccessError>> {
    let slot = INDEX.get(offset as usize >> 7).copied().unwrap_or(0);
    let row = ROWS.get(usize::from(slot).wrapping_sub(1))?;
    let first =
        (offset as u32).wrapping_sub(u32::from(row.first)).wrapping_shl(3).wrapping_shr(row.shift.into());
    let legal = size == Size::Word || size == Size::Byte && row.array == Array::Priority;
    Some(if legal { Ok(Place { array: row.array, first }) } else { Err(AccessError::BadSize) })
}

/// What a read of `array` from `lane` on gives; `pending` and `active` as the guest is to see them.
#[inline(always)]
fn read(bank: &Bank, array: Array, lane: u32, size: Size, pending: u32, active: u32) -> u32 {
    match array {
        Array::Group => bank.group,
        Array::SetEnable | Array::ClearEnable => bank.enabled,
        Array::SetPending | Array::ClearPending => pending,
        Array::SetActive | Array::ClearActive => active,
        Array::Priority if size == Size::Byte => bank.priority(lane).into(),
        Array::Priority => (0..4).rev().fold(0, |word, n| word << 8 | u32::from(bank.priority(lane | n))),
        Array::Config => spread(bank.edge >> (lane & 16)),
        Array::Reserved => 0,
    }
}

/// Each of the low 16 bits to bit 1 of a field of two.
fn spread(bits: u32) -> u32 {
    Bits(bits & 0xffff).fold(0, |word, n| word | bit(n.wrapping_mul(2) | 1))
}

/// The reverse.
fn gather(word: u32) -> u32 {
    (0..16u32).filter(|n| word & bit(n.wrapping_mul(2) | 1) != 0).fold(0, |bits, n| bits | bit(n))
}

/// What a write changed: the interrupts concerned.
#[inline(always)]
fn write(bank: &mut Bank, place: Place, size: Size, value: u32, priority_mask: u8, sgis: u32) -> u32 {
    let lanes = value & bank.valid;
    match place.array {
        Array::Group => {
            let changed = bank.group ^ lanes;
            bank.group = lanes;
            changed
        }
        Array::SetEnable => {
            bank.enabled |= lanes;
            lanes
        }
        Array::ClearEnable => {
            bank.enabled &= !lanes;
            lanes
        }
        Array::SetPending => {
            bank.set_pending(lanes);
            lanes
        }
        Array::ClearPending => {
            bank.clear_pending(lanes);
            lanes
        }
        Array::SetActive => {
            bank.set_active(lanes);
            lanes
        }
        Array::ClearActive => {
            bank.clear_active(lanes);
            lanes
        }
        Array::Priority => {
            let lane = place.first & 31;
            let count = size.bytes() as usize;
            let values = value.to_le_bytes();
            let slots = bank.priority.iter_mut().skip(lane as usize).take(count);
            for (slot, value) in slots.zip(values) {
                *slot = value & priority_mask;
            }
            (bit(count as u32).wrapping_sub(1)).wrapping_shl(lane) & bank.valid
        }
        Array::Config => {
            let half = place.first & 16;
            let field = 0xffffu32.wrapping_shl(half) & bank.valid & !sgis;
            let edge = bank.edge & !field | gather(value).wrapping_shl(half) & field;
            let changed = edge ^ bank.edge;
            bank.edge = edge;
            changed
        }
        Array::Reserved => 0,
    }
}

/// The state of those of `lanes` that `lists`, folded, hold of a bank: pending, active.
fn state_in_lists(lists: &Lists, first: u32, lanes: u32) -> (u32, u32) {
    let (mut pending, mut active) = (0, 0);
    for n in Bits(lists.used.into()) {
        let entry = lists.lr.get(n as usize & 15).copied().unwrap_or(0);
        let b = bit(entry as u32 & 31) & lanes;
        if entry as u32 & !31 == first {
            pending |= if entry & lr::PENDING != 0 { b } else { 0 };
            active |= if entry & lr::ACTIVE != 0 { b } else { 0 };
        }
    }
    (pending, active)
}

impl Vgic {
    /// An access to an array of a private bank.
    #[inline(always)]
    pub(super) fn private_array(&self, access: Access<'_>, vcpu: VcpuId, place: Place) -> Outcome {
        let Some(cpu) = self.cpu(vcpu) else { return Outcome::Done(0, Kicks::NONE) };
        let mut private = cpu.private.lock();
        let bank = &mut private.bank;
        let Some(value) = access.write else {
            let own = if vcpu == access.me { u32::MAX } else { 0 };
            return self.read_bank(&access, bank, place, 0, own, |_| vcpu);
        };
        let before = bank.listed | bank.wanted();
        let touched = write(bank, place, access.size, value as u32, self.priority_mask, super::SGI_EDGES);
        if touched & (before | bank.wanted()) == 0 {
            return Outcome::Done(0, Kicks::NONE);
        }
        if place.array == Array::ClearEnable && touched & bank.listed != 0 {
            self.owe(Kicks::of(vcpu).without(access.me));
        }
        Outcome::Done(0, self.look(cpu, vcpu))
    }

    /// An access to an array of a bank of SPIs.
    #[inline(always)]
    pub(super) fn shared_array(&self, access: Access<'_>, bank: usize, place: Place) -> Outcome {
        let mut spis = self.spis.lock();
        let Some(here) = spis.banks.get_mut(bank) else { return Outcome::Done(0, Kicks::NONE) };
        let Some(value) = access.write else {
            let listed = here.bank.listed;
            let own = if listed == 0 { 0 } else { here.at_home(listed, access.me.0 as u8) };
            let homes = here.home;
            let first = (bank as u32).wrapping_mul(32).wrapping_add(32);
            return self.read_bank(&access, &mut here.bank, place, first, own, |lane| {
                VcpuId(homes.get(lane as usize & 31).copied().unwrap_or(0).into())
            });
        };
        if place.array == Array::SetActive {
            here.settle_homes(value as u32);
        }
        let touched = write(&mut here.bank, place, access.size, value as u32, self.priority_mask, 0);
        let leaving = place.array == Array::ClearEnable && touched & here.bank.listed != 0;
        let kicks = spis.refresh(&self.cpus, bank, touched);
        if leaving {
            self.owe(kicks.without(access.me));
        }
        Outcome::Done(0, kicks)
    }

    /// Until these have been through `sync`, GICx_CTLR.RWP reads as one.
    pub(super) fn owe(&self, vcpus: Kicks) {
        self.owing.fetch_or(vcpus.0, Ordering::Relaxed);
    }

    /// A read of an array. `own`: those of its lanes that are in list registers of the reader, if listed.
    #[inline(always)]
    fn read_bank(
        &self,
        access: &Access<'_>,
        bank: &mut Bank,
        place: Place,
        first: u32,
        own: u32,
        home: impl Fn(u32) -> VcpuId,
    ) -> Outcome {
        use Array::{ClearActive, ClearPending, SetActive, SetPending};
        let (mut pending, mut active) = (bank.pending(), bank.active);
        let live = matches!(place.array, SetPending | ClearPending | SetActive | ClearActive);
        if live && bank.listed != 0 {
            match self.read_listed(access, bank, first, own, home) {
                Ok((p, a)) => (pending, active) = (p, a),
                Err(outcome) => return outcome,
            }
        }
        let value = read(bank, place.array, place.first & 31, access.size, pending, active);
        Outcome::Done(value.into(), Kicks::NONE)
    }

    /// Pending and active state of a bank, some of which is in list registers.
    #[cold]
    fn read_listed(
        &self,
        access: &Access<'_>,
        bank: &mut Bank,
        first: u32,
        own: u32,
        home: impl Fn(u32) -> VcpuId,
    ) -> Result<(u32, u32), Outcome> {
        let own = bank.listed & own;
        if own != 0 && access.lists.loaded {
            return Err(Outcome::Fold);
        }
        let others = bank.listed & !own;
        let unknown = others & !bank.answered;
        if let Some(lane) = Bits(unknown).next() {
            bank.asked |= unknown;
            let vcpus = Bits(unknown).fold(Kicks::NONE, |set, lane| set | Kicks::of(home(lane)));
            super::call(&self.cpus, vcpus);
            return Err(Outcome::Remote(home(lane)));
        }
        bank.answered &= !others;
        // What registers did to the reader's own since they were listed counts already.
        let (p, a) = state_in_lists(access.lists, first, own);
        let p = p & !bank.drop | bank.shown & others & !bank.drop;
        let a = (a | bank.active & others) & !bank.quiet | bank.rouse;
        Ok((bank.pending() | p, bank.active & !bank.listed | a))
    }
}
