//! More interrupts than list registers: who gets one, and what became of those that did not.
//!
//! The most urgent pending interrupt is always in a list register; then come active ones (most urgent first,
//! since the guest ends those first), then more pending ones. Pending ones that wait outside are fetched when
//! the hardware has none left (NPIE), or when the guest turns a group on or off, which decides what is urgent.
//! An active one outside is ended by EOIcount in EOImode 0, where the guest ends the most urgent first, and
//! by trapping ICC_DIR_EL1 in EOImode 1.

use super::bank::{Bank, Bits, bit};
use super::load::{Load, spi_bank, spi_intid};
use super::lr;
use crate::vcpu::MAX_LISTS;
use core::sync::atomic::Ordering;

/// The most urgent few of many: one key each, smallest first.
struct Ranking<const N: usize = MAX_LISTS> {
    keys: [u32; N],
    len: usize,
    limit: usize,
    /// There were more.
    more: bool,
}

impl<const N: usize> Ranking<N> {
    fn new(limit: u32) -> Self {
        Self { keys: [u32::MAX; N], len: 0, limit: (limit as usize).min(N), more: false }
    }

    fn offer(&mut self, key: u32) {
        let Some(kept) = self.keys.get_mut(..self.limit) else { return };
        self.more |= self.len == self.limit;
        self.len = self.len.wrapping_add(1).min(self.limit);
        // Mostly it is one more that stays outside: no search for it.
        let Some(end) =
            kept.len().checked_sub(1).filter(|&end| kept.get(end).is_some_and(|&last| key < last))
        else {
            return;
        };
        let place = kept.partition_point(|&other| other <= key);
        if place <= end {
            kept.copy_within(place..end, place.wrapping_add(1));
        }
        if let Some(slot) = kept.get_mut(place) {
            *slot = key;
        }
    }

    fn best(&self, count: usize) -> impl Iterator<Item = u32> {
        self.keys.iter().copied().take(count.min(self.len))
    }
}

/// Orders by whether the guest's CPU interface takes that group at all, priority, INTID.
fn key(bank: &Bank, lane: u32, intid: u32, vmcr: u64) -> u32 {
    let group = bank.group >> (lane & 31) & 1;
    let off = (vmcr as u32).wrapping_shr(group) & 1 ^ 1;
    off << 24 | u32::from(bank.priority(lane)) << 16 | intid & 0xffff
}

/// Orders active ones as the guest ends them: by group priority, since that is what lets one preempt another.
fn nesting_key(bank: &Bank, lane: u32, intid: u32, vmcr: u64) -> u32 {
    let priority = bank.priority(lane);
    let group_priority = priority & lr::group_mask(vmcr, bank.group & bit(lane) != 0);
    u32::from(group_priority) << 24 | u32::from(priority) << 16 | intid & 0xffff
}

/// ICH_HCR_EL2 when pending interrupts wait outside, or active ones are outside.
fn crowded_hcr(waiting: bool, outside: bool, vmcr: u64) -> u64 {
    let mut hcr = lr::HCR_EN;
    if waiting {
        // Those inside were chosen by the groups that are on: a change means to choose again.
        hcr |= lr::HCR_NPIE;
        hcr |= if vmcr & lr::VMCR_VENG0 != 0 { lr::HCR_VGRP0DIE } else { lr::HCR_VGRP0EIE };
        hcr |= if vmcr & lr::VMCR_VENG1 != 0 { lr::HCR_VGRP1DIE } else { lr::HCR_VGRP1EIE };
    }
    if outside {
        hcr |= if vmcr & lr::VMCR_VEOIM != 0 { lr::HCR_TDIR } else { lr::HCR_LRENPIE };
    }
    hcr
}

impl Load<'_> {
    /// Chooses anew what is in list registers, as there is more than fits. Returns ICH_HCR_EL2.
    #[cold]
    pub(super) fn crowded(&mut self) -> u64 {
        let before = self.lists.lr;
        self.empty();
        let (mut pending, mut active): (Ranking, Ranking) =
            (Ranking::new(self.vgic.lists), Ranking::new(self.vgic.lists));
        let mut rank = |bank: &Bank, lanes: u32, first: u32, vmcr: u64| {
            for lane in Bits(lanes) {
                if bank.active & bit(lane) != 0 {
                    active.offer(nesting_key(bank, lane, first | lane, vmcr));
                } else {
                    pending.offer(key(bank, lane, first | lane, vmcr));
                }
            }
        };
        let vmcr = self.lists.vmcr;
        rank(&self.private.bank, self.private.bank.deliverable(self.groups), 0, vmcr);
        for bank in Bits(self.cpu.spi_banks.load(Ordering::Relaxed)) {
            let lanes = self.queue(bank);
            if let Some(here) = self.spis.as_deref().and_then(|spis| spis.banks.get(bank as usize)) {
                rank(&here.bank, lanes, spi_intid(bank, 0), vmcr);
            }
        }
        let room = self.vgic.lists as usize;
        let actives = active.len.min(room.saturating_sub(pending.len.min(1)));
        let pendings = pending.len.min(room.saturating_sub(actives));
        // While others wait, nothing may come to pend in a list register without that being told: it would
        // pass for the most urgent.
        let waiting = pending.more || pending.len > pendings;
        for key in pending.best(pendings).chain(active.best(actives)) {
            let intid = key & 0xffff;
            let Some(n) = self.vacant() else { break };
            if intid < 32 {
                self.list_private(n, intid, waiting);
            } else {
                self.list_spi(n, spi_bank(intid) as u32, intid & 31, waiting);
            }
        }
        self.mark_dirty(&before);
        let outside = active.more || active.len > actives;
        crowded_hcr(waiting, outside, vmcr)
    }

    /// The guest ended `count` interrupts that were in no list register: the most urgent active ones.
    #[cold]
    pub(super) fn replay(&mut self, count: u64) {
        let vmcr = self.lists.vmcr;
        // In one go: EOIcount has five bits, and each look is at all that is active.
        let mut ranking = Ranking::<31>::new(count as u32);
        let bank = &self.private.bank;
        for lane in Bits(bank.active & !bank.forced & !bank.listed) {
            ranking.offer(nesting_key(bank, lane, lane, vmcr));
        }
        for n in Bits(self.cpu.spi_banks.load(Ordering::Relaxed)) {
            let queue = self.queue(n);
            let Some(here) = self.spis.as_deref().and_then(|spis| spis.banks.get(n as usize)) else { break };
            for lane in Bits(queue & here.bank.active & !here.bank.forced) {
                ranking.offer(nesting_key(&here.bank, lane, spi_intid(n, lane), vmcr));
            }
        }
        for ended in ranking.best(count as usize) {
            let intid = ended & 0xffff;
            let b = bit(intid & 31);
            if intid < 32 {
                self.private.bank.deactivate(b);
            } else if let Some(spis) = self.spis.as_deref_mut()
                && let Some(here) = spis.banks.get_mut(spi_bank(intid))
            {
                here.bank.deactivate(b);
                self.kicks |= spis.requeue(&self.vgic.cpus, spi_bank(intid), b);
            }
        }
    }
}
