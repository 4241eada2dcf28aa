//! List registers: filling, taking back, and what to do when there are too few.
//!
//! The rule when more is due than fits: the most urgent pending interrupt is always in a list register; then
//! come active ones (most urgent first, since the guest ends those first), then more pending ones. Pending
//! ones that wait outside are fetched when the hardware has none left (NPIE). An active one outside is ended
//! by EOIcount in EOImode 0, where the guest ends the most urgent first, and by trapping ICC_DIR_EL1 in
//! EOImode 1.

use super::bank::{Bank, Bits, bit};
use super::spis::Spis;
use super::{Cpu, Kicks, Private, Vgic, lr};
use crate::vcpu::{Lists, MAX_LISTS, VcpuId};
use core::sync::atomic::Ordering;

/// List register `n`.
#[inline(always)]
fn read(lists: &Lists, n: u32) -> u64 {
    lists.lr.get(n as usize & 15).copied().unwrap_or(0)
}

/// Sets list register `n`, if it is anything else.
#[inline(always)]
fn write(lists: &mut Lists, n: u32, entry: u64) {
    if let Some(lr) = lists.lr.get_mut(n as usize & 15)
        && *lr != entry
    {
        *lr = entry;
        lists.dirty |= bit(n) as u16;
    }
}

/// List register `n` is free; only what still has an effect is worth a write to the hardware.
#[inline(always)]
fn free(lists: &mut Lists, n: u32) {
    if read(lists, n) & (lr::STATE | lr::EOI) != 0 {
        write(lists, n, 0);
    }
    lists.used &= !(bit(n) as u16);
}

/// Takes back what list register `n` holds, an interrupt of `bank`, and writes what it has to hold next.
///
/// `mine`: it is to be delivered here. Says whether the interrupt left the list registers.
#[inline(always)]
fn settle(bank: &mut Bank, lists: &mut Lists, n: u32, groups: u32, mine: bool) -> bool {
    let entry = read(lists, n);
    let intid = entry as u32;
    let lane = intid & 31;
    let b = bit(lane);
    bank.take_back(lane, entry);
    let forward = mine && bank.forwarded(groups) & b != 0;
    if bank.active & b != 0 || forward && bank.pending() & b != 0 {
        let entry = bank.entry(lane, intid, forward);
        write(lists, n, entry);
        return false;
    }
    bank.unlist(lane);
    free(lists, n);
    true
}

/// The most urgent few of many: one key each, smallest first.
struct Ranking {
    keys: [u32; MAX_LISTS],
    len: usize,
    limit: usize,
    /// There were more.
    more: bool,
}

impl Ranking {
    fn new(limit: u32) -> Self {
        Self { keys: [u32::MAX; MAX_LISTS], len: 0, limit: (limit as usize).min(MAX_LISTS), more: false }
    }

    fn offer(&mut self, key: u32) {
        let Some(kept) = self.keys.get_mut(..self.limit) else { return };
        let place = kept.iter().position(|&other| key < other);
        self.more |= self.len == self.limit;
        self.len = self.len.wrapping_add(1).min(self.limit);
        if let Some(tail) = place.and_then(|place| kept.get_mut(place..)) {
            tail.rotate_right(1);
            if let Some(first) = tail.first_mut() {
                *first = key;
            }
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

/// The INTID of a lane of a bank of SPIs.
#[inline(always)]
fn spi_intid(bank: u32, lane: u32) -> u32 {
    bank.wrapping_mul(32).wrapping_add(32) | lane
}

/// The bank of SPIs of an INTID from 32.
#[inline(always)]
fn spi_bank(intid: u32) -> usize {
    (intid as usize >> 5).wrapping_sub(1)
}

/// What one load of list registers works on: everything of one vCPU, locked.
struct Load<'a> {
    vgic: &'a Vgic,
    me: u8,
    cpu: &'a Cpu,
    groups: u32,
    private: &'a mut Private,
    spis: Option<&'a mut Spis>,
    lists: &'a mut Lists,
    kicks: Kicks,
}

impl Load<'_> {
    /// The lowest list register that is free.
    #[inline(always)]
    fn vacant(&self) -> Option<u32> {
        let n = (!u32::from(self.lists.used)).trailing_zeros();
        (n < self.vgic.lists).then_some(n)
    }

    /// Takes back private interrupts and keeps in place those that stay.
    #[inline(always)]
    fn settle_private(&mut self) {
        for n in Bits(u32::from(self.lists.used & !self.private.spi_lists)) {
            let intid = read(self.lists, n) as u32;
            if intid < 32 && self.private.bank.listed & bit(intid) != 0 {
                settle(&mut self.private.bank, self.lists, n, self.groups, true);
            } else {
                free(self.lists, n); // from before a reset
            }
        }
    }

    /// The same for SPIs.
    fn settle_spis(&mut self) {
        let Some(spis) = self.spis.as_deref_mut() else { return };
        for n in Bits(u32::from(self.lists.used & self.private.spi_lists)) {
            let intid = read(self.lists, n) as u32;
            let (bank, lane) = (spi_bank(intid), intid & 31);
            let here = spis.banks.get_mut(bank);
            let Some(here) = here.filter(|here| here.holds(lane, self.me)) else {
                free(self.lists, n);
                self.private.spi_lists &= !(bit(n) as u16);
                continue;
            };
            let mine = here.target(lane) == self.me;
            if settle(&mut here.bank, self.lists, n, self.groups, mine) {
                self.private.spi_lists &= !(bit(n) as u16);
                self.kicks |= spis.requeue(&self.vgic.cpus, bank, bit(lane));
            }
        }
    }

    /// Puts a private interrupt into list register `n`.
    #[inline(always)]
    fn list_private(&mut self, n: u32, lane: u32) {
        let forward = self.private.bank.forwarded(self.groups) & bit(lane) != 0;
        let entry = self.private.bank.entry(lane, lane, forward);
        write(self.lists, n, entry);
        self.lists.used |= bit(n) as u16;
    }

    /// Puts an SPI of this vCPU's queue into list register `n`.
    fn list_spi(&mut self, n: u32, bank: u32, lane: u32) {
        let Some(spis) = self.spis.as_deref_mut() else { return };
        let Some(here) = spis.banks.get_mut(bank as usize) else { return };
        let forward = here.bank.forwarded(self.groups) & bit(lane) != 0 && here.target(lane) == self.me;
        let entry = here.bank.entry(lane, spi_intid(bank, lane), forward);
        write(self.lists, n, entry);
        self.lists.used |= bit(n) as u16;
        self.private.spi_lists |= bit(n) as u16;
        // It leaves the queue; there is nobody to tell.
        spis.requeue(&self.vgic.cpus, bank as usize, bit(lane));
    }

    /// Fills free list registers; says whether everything found a place.
    #[inline(always)]
    fn fill(&mut self) -> bool {
        for lane in Bits(self.private.bank.deliverable(self.groups)) {
            let Some(n) = self.vacant() else { return false };
            self.list_private(n, lane);
        }
        self.spis.is_none() || self.fill_spis()
    }

    fn fill_spis(&mut self) -> bool {
        for bank in Bits(self.cpu.spi_banks.load(Ordering::Relaxed)) {
            for lane in Bits(self.queue(bank)) {
                let Some(n) = self.vacant() else { return false };
                self.list_spi(n, bank, lane);
            }
        }
        true
    }

    /// What can be listed of a bank of SPIs.
    fn queue(&self, bank: u32) -> u32 {
        let Some(spis) = self.spis.as_deref() else { return 0 };
        let Some(here) = spis.banks.get(bank as usize) else { return 0 };
        spis.queue(self.me, bank as usize) & here.bank.deliverable(self.groups)
    }

    /// Takes everything back and empties all list registers, in `lists` only: nothing becomes dirty.
    fn empty(&mut self) {
        for n in Bits(u32::from(self.lists.used)) {
            let entry = read(self.lists, n);
            let intid = entry as u32;
            let lane = intid & 31;
            if let Some(lr) = self.lists.lr.get_mut(n as usize & 15) {
                *lr = 0;
            }
            if intid < 32 {
                if self.private.bank.listed & bit(lane) != 0 {
                    self.private.bank.take_back(lane, entry);
                    self.private.bank.unlist(lane);
                }
            } else if let Some(spis) = self.spis.as_deref_mut()
                && let Some(here) = spis.banks.get_mut(spi_bank(intid)).filter(|b| b.holds(lane, self.me))
            {
                here.bank.take_back(lane, entry);
                here.bank.unlist(lane);
                self.kicks |= spis.requeue(&self.vgic.cpus, spi_bank(intid), bit(lane));
            }
        }
        self.lists.used = 0;
        self.private.spi_lists = 0;
    }

    /// Chooses anew what is in list registers, as there is more than fits. Returns ICH_HCR_EL2.
    #[cold]
    fn crowded(&mut self) -> u64 {
        let before = self.lists.lr;
        self.empty();
        let (mut pending, mut active) = (Ranking::new(self.vgic.lists), Ranking::new(self.vgic.lists));
        let mut rank = |bank: &Bank, lanes: u32, first: u32, vmcr: u64| {
            for lane in Bits(lanes) {
                let ranking = if bank.active & bit(lane) != 0 { &mut active } else { &mut pending };
                ranking.offer(key(bank, lane, first | lane, vmcr));
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
        for key in pending.best(pendings).chain(active.best(actives)) {
            let intid = key & 0xffff;
            let Some(n) = self.vacant() else { break };
            if intid < 32 {
                self.list_private(n, intid);
            } else {
                self.list_spi(n, spi_bank(intid) as u32, intid & 31);
            }
        }
        self.mark_dirty(&before);
        let waiting = pending.more || pending.len > pendings;
        let outside = active.more || active.len > actives;
        crowded_hcr(waiting, outside, vmcr)
    }

    /// Whatever is not as `before` has to be written.
    fn mark_dirty(&mut self, before: &[u64; MAX_LISTS]) {
        for (n, (now, before)) in (0u32..).zip(self.lists.lr.iter().zip(before)) {
            if now != before {
                self.lists.dirty |= bit(n) as u16;
            }
        }
    }

    /// The guest ended `count` interrupts that were in no list register: the most urgent active ones.
    #[cold]
    fn replay(&mut self, count: u64) {
        for _ in 0..count {
            let mut ranking = Ranking::new(1);
            let bank = &self.private.bank;
            for lane in Bits(bank.active & !bank.forced & !bank.listed) {
                ranking.offer(key(bank, lane, lane, u64::MAX));
            }
            for n in Bits(self.cpu.spi_banks.load(Ordering::Relaxed)) {
                let queue = self.queue(n);
                let Some(here) = self.spis.as_deref().and_then(|spis| spis.banks.get(n as usize)) else {
                    break;
                };
                for lane in Bits(queue & here.bank.active & !here.bank.forced) {
                    ranking.offer(key(&here.bank, lane, spi_intid(n, lane), u64::MAX));
                }
            }
            let Some(ended) = ranking.best(1).next() else { return };
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

    /// Ends what the guest ended outside of list registers; before anything is taken back.
    #[inline(always)]
    fn take_eoi_count(&mut self) {
        let ended = self.lists.hcr >> lr::HCR_EOICOUNT_SHIFT & 31;
        if ended != 0 {
            self.replay(ended);
        }
    }

    /// Says what the machine has to know of physical interrupts.
    #[inline(always)]
    fn report_linked(&mut self) {
        self.lists.parked = self.private.bank.parked();
        if self.private.bank.release != 0 {
            self.lists.release |= self.private.bank.release;
            self.lists.hcr_dirty = true;
            self.private.bank.release = 0;
        }
    }

    #[inline(always)]
    fn set_hcr(&mut self, hcr: u64) {
        if self.lists.hcr != hcr {
            self.lists.hcr = hcr;
            self.lists.hcr_dirty = true;
        }
    }
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

impl Vgic {
    /// Takes back what the guest did with its list registers and fills them with what is due now.
    ///
    /// After `Machine::fold`. Clears [`attention`](Self::attention). Returns which other vCPUs got something
    /// by it: an SPI that was routed away while it was pending here.
    #[inline]
    pub fn sync(&self, me: VcpuId, lists: &mut Lists) -> Kicks {
        let Some(cpu) = self.cpu(me) else { return Kicks::NONE };
        // Before the locks: what others note after that sets it again.
        cpu.attention.swap(false, Ordering::AcqRel);
        if self.owing.load(Ordering::Relaxed) != 0 {
            self.owing.fetch_and(!Kicks::of(me).0, Ordering::Relaxed);
        }
        let groups = self.groups.load(Ordering::Relaxed);
        let mut private = cpu.private.lock();
        let spis = private.spi_lists != 0 || cpu.spi_banks.load(Ordering::Acquire) != 0;
        let mut spis = spis.then(|| self.spis.lock());
        let mut load = Load {
            vgic: self,
            me: me.0 as u8,
            cpu,
            groups,
            private: &mut private,
            spis: spis.as_deref_mut(),
            lists,
            kicks: Kicks::NONE,
        };
        load.take_eoi_count();
        load.settle_private();
        if load.private.spi_lists != 0 {
            load.settle_spis();
        }
        let hcr = if load.fill() { lr::HCR_EN } else { load.crowded() };
        load.set_hcr(hcr);
        load.report_linked();
        let kicks = load.kicks.without(me);
        if !kicks.is_empty() {
            super::call(&self.cpus, kicks);
        }
        kicks
    }

    /// Empties the list registers of a vCPU that left its CPU, after `Machine::put`, which cleared the
    /// physical active state of its linked interrupts too. Returns whom to kick.
    pub fn unload(&self, me: VcpuId, lists: &mut Lists) -> Kicks {
        let Some(cpu) = self.cpu(me) else { return Kicks::NONE };
        let groups = self.groups.load(Ordering::Relaxed);
        let mut private = cpu.private.lock();
        let mut spis = self.spis.lock();
        let before = lists.lr;
        let mut load = Load {
            vgic: self,
            me: me.0 as u8,
            cpu,
            groups,
            private: &mut private,
            spis: Some(&mut spis),
            lists,
            kicks: Kicks::NONE,
        };
        load.take_eoi_count();
        load.empty();
        load.mark_dirty(&before);
        load.set_hcr(lr::HCR_EN);
        load.report_linked();
        load.lists.release = 0;
        let kicks = load.kicks.without(me);
        if load.private.bank.deliverable(groups) != 0 || cpu.spi_banks.load(Ordering::Relaxed) != 0 {
            cpu.attention.store(true, Ordering::Release);
        }
        super::call(&self.cpus, kicks);
        kicks
    }

    /// Whether the CPU interface of `me` would signal an interrupt now, PSTATE.I aside: what ends a WFI.
    ///
    /// After `Machine::fold`, and `sync` if there was attention. Pending, enabled, its group enabled in the
    /// distributor and in ICC_IGRPENn_EL1, above ICC_PMR_EL1, and able to preempt what is active. With
    /// EOImode 1 the running priority is taken as idle: a guest that sleeps in a handler wakes too often
    /// rather than never.
    pub fn signals(&self, me: VcpuId, lists: &Lists) -> bool {
        let Some(cpu) = self.cpu(me) else { return false };
        let groups = self.groups.load(Ordering::Relaxed);
        let private = cpu.private.lock();
        let mut view = Interface::new(lists.vmcr);
        let mut forced = private.bank.forced;
        let spis = private.spi_lists != 0 || cpu.spi_banks.load(Ordering::Acquire) != 0;
        let spis = spis.then(|| self.spis.lock());
        for n in Bits(u32::from(lists.used)) {
            let entry = read(lists, n);
            let intid = entry as u32;
            if intid >= 32 {
                let bank = spis.as_deref().and_then(|spis| spis.banks.get(spi_bank(intid)));
                forced = bank.map_or(0, |bank| bank.bank.forced);
            }
            view.see_entry(entry, forced & bit(intid & 31) != 0);
            forced = private.bank.forced;
        }
        view.see_bank(&private.bank, u32::MAX, groups);
        if let Some(spis) = spis.as_deref() {
            for n in Bits(cpu.spi_banks.load(Ordering::Relaxed)) {
                if let Some(here) = spis.banks.get(n as usize) {
                    view.see_bank(&here.bank, spis.queue(me.0 as u8, n as usize), groups);
                }
            }
        }
        view.signals()
    }
}

/// What a CPU interface makes of what it is shown.
struct Interface {
    vmcr: u64,
    /// Group priority and priority of the most urgent pending interrupt of an enabled group.
    best: (u8, u8),
    /// Running group priority.
    running: u8,
}

impl Interface {
    fn new(vmcr: u64) -> Self {
        Self { vmcr, best: (0xff, 0xff), running: 0xff }
    }

    fn see(&mut self, priority: u8, group1: bool, active: bool) {
        let group = priority & lr::group_mask(self.vmcr, group1);
        if active {
            if self.vmcr & lr::VMCR_VEOIM == 0 {
                self.running = self.running.min(group);
            }
        } else if self.vmcr & if group1 { lr::VMCR_VENG1 } else { lr::VMCR_VENG0 } != 0 {
            self.best = self.best.min((group, priority));
        }
    }

    fn see_entry(&mut self, entry: u64, forced: bool) {
        let active = entry & lr::ACTIVE != 0;
        if entry & lr::STATE != 0 && !(active && forced) {
            self.see((entry >> lr::PRIORITY_SHIFT) as u8, entry & lr::GROUP1 != 0, active);
        }
    }

    fn see_bank(&mut self, bank: &Bank, lanes: u32, groups: u32) {
        for lane in Bits(lanes & bank.deliverable(groups) & !bank.forced) {
            self.see(bank.priority(lane), bank.group & bit(lane) != 0, bank.active & bit(lane) != 0);
        }
    }

    fn signals(&self) -> bool {
        let mask = (self.vmcr >> lr::VMCR_VPMR_SHIFT) as u8;
        self.best.1 < mask && (self.running == 0xff || self.best.0 < self.running)
    }
}
