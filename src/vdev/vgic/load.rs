//! List registers: filling, taking back, and what to do when there are too few.
//!
//! The short way through [`Vgic::sync`] is for what happens most: one private interrupt, its predecessor done
//! with. [`Load`] is the general way, and `crowd` what it does when not everything fits.

use super::bank::{Bank, Bits, bit};
use super::sources::{self, Sources};
use super::spis::Spis;
use super::{Cpu, Kicks, Private, Raised, Vgic, lr, v2};
use crate::vcpu::{Lists, MAX_LISTS, VcpuId};
use core::sync::atomic::Ordering;

/// List register `n`.
#[inline(always)]
pub(super) fn read(lists: &Lists, n: u32) -> u64 {
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
fn settle(
    bank: &mut Bank,
    mut sources: Option<&mut Sources>,
    lists: &mut Lists,
    n: u32,
    groups: u32,
    mine: bool,
) -> bool {
    let entry = read(lists, n);
    let intid = lr::intid(entry);
    let lane = intid & 31;
    let b = bit(lane);
    sources::take_back(bank, sources.as_deref_mut(), lane, entry);
    let forward = mine && bank.forwarded(groups) & b != 0;
    if bank.active & b != 0 || forward && bank.pending() & b != 0 {
        let entry = sources::entry(bank, sources, lane, intid, forward);
        write(lists, n, entry);
        return false;
    }
    bank.unlist(lane);
    // From now on registers read the bank itself.
    bank.answered &= !b;
    free(lists, n);
    true
}

/// The short way, for what is by far the most frequent: private interrupts alone, the one before done with,
/// and at most one new. False if it is not like that, with nothing changed.
#[inline(always)]
fn turn_over(bank: &mut Bank, lists: &mut Lists, groups: u32) -> bool {
    let elsewhere = bank.active & !bank.listed;
    // Free list registers hold nothing of either.
    let held = read(lists, 0) & (lr::STATE | lr::EOI);
    let others = u64::from(lists.used >> 1);
    if u64::from(bank.odd | elsewhere) | others | held | (lists.hcr ^ lr::HCR_EN) != 0 {
        return false;
    }
    let Some(entry) = bank.turn_over(groups) else { return false };
    if entry != 0
        && let Some(first) = lists.lr.first_mut()
    {
        *first = entry;
        lists.dirty |= 1;
    }
    lists.used = u16::from(entry != 0);
    lists.parked = bank.parked();
    true
}

/// Takes back the one list register that is used, the first, of a vCPU that left its CPU: the next most frequent, as
/// when its timer's interrupt waits to be taken. False if it is not like that, with nothing changed.
#[inline(always)]
fn take_back_one(private: &mut Private, lists: &mut Lists) -> bool {
    let Private { bank, spi_lists, .. } = private;
    let entry = read(lists, 0);
    let intid = lr::intid(entry);
    let one = lists.used == 1 && *spi_lists == 0 && lists.hcr == lr::HCR_EN;
    if !one || intid >= 32 || bank.odd != 0 || bank.listed & !bank.sourced != bit(intid) {
        return false;
    }
    bank.take_back(intid, entry);
    bank.unlist(intid);
    lists.used = 0;
    if let Some(first) = lists.lr.first_mut() {
        *first = 0;
    }
    // Taking back may end what a physical interrupt stands behind; `put` has seen to that.
    bank.release = 0;
    bank.settle_odd();
    lists.parked = bank.parked();
    true
}

/// What has been turned over is an SGI of a GICv2 guest, which needs its source. Moments of SGIs are also
/// when it is seen whether the CPU interface was turned on or off: then the general way is to be gone.
#[inline(never)]
fn turn_over_sgi(cpu: &Cpu, private: &mut Private, lists: &mut Lists) -> bool {
    let Private { bank, sources, .. } = private;
    if let Some(entry) = lists.lr.first_mut() {
        *entry = sources.with_source(bank, lr::intid(*entry), *entry);
    }
    !v2::switched(cpu, lists)
}

/// The INTID of a lane of a bank of SPIs.
#[inline(always)]
pub(super) fn spi_intid(bank: u32, lane: u32) -> u32 {
    bank.wrapping_mul(32).wrapping_add(32) | lane
}

/// The bank of SPIs of an INTID from 32.
#[inline(always)]
pub(super) fn spi_bank(intid: u32) -> usize {
    (intid as usize >> 5).wrapping_sub(1)
}

/// What one load of list registers works on: everything of one vCPU, locked.
pub(super) struct Load<'a> {
    pub(super) vgic: &'a Vgic,
    pub(super) me: u8,
    pub(super) cpu: &'a Cpu,
    pub(super) groups: u32,
    pub(super) private: &'a mut Private,
    pub(super) spis: Option<&'a mut Spis>,
    pub(super) lists: &'a mut Lists,
    pub(super) kicks: Kicks,
}

impl Load<'_> {
    /// The lowest list register that is free.
    #[inline(always)]
    pub(super) fn vacant(&self) -> Option<u32> {
        let n = (!u32::from(self.lists.used)).trailing_zeros();
        (n < self.vgic.lists).then_some(n)
    }

    /// Takes back private interrupts and keeps in place those that stay.
    #[inline(always)]
    fn settle_private(&mut self) {
        for n in Bits(u32::from(self.lists.used & !self.private.spi_lists)) {
            let intid = lr::intid(read(self.lists, n));
            if intid < 32 && self.private.bank.listed & bit(intid) != 0 {
                let Private { bank, sources, .. } = &mut *self.private;
                settle(bank, Some(sources), self.lists, n, self.groups, true);
            } else {
                free(self.lists, n); // from before a reset
            }
        }
    }

    /// The same for SPIs.
    fn settle_spis(&mut self) {
        let Some(spis) = self.spis.as_deref_mut() else { return };
        for n in Bits(u32::from(self.lists.used & self.private.spi_lists)) {
            let intid = lr::intid(read(self.lists, n));
            let (bank, lane) = (spi_bank(intid), intid & 31);
            let here = spis.banks.get_mut(bank);
            let Some(here) = here.filter(|here| here.holds(lane, self.me)) else {
                free(self.lists, n);
                self.private.spi_lists &= !(bit(n) as u16);
                continue;
            };
            let mine = here.target(lane) == self.me;
            if settle(&mut here.bank, None, self.lists, n, self.groups, mine) {
                self.private.spi_lists &= !(bit(n) as u16);
                self.kicks |= spis.requeue(&self.vgic.cpus, bank, bit(lane));
            }
        }
    }

    /// Puts a private interrupt into list register `n`.
    ///
    /// `apart`: what is active and pending goes there as active alone, and its end calls for the rest.
    #[inline(always)]
    pub(super) fn list_private(&mut self, n: u32, lane: u32, apart: bool) {
        let Private { bank, sources, .. } = &mut *self.private;
        let forward =
            bank.forwarded(self.groups) & bit(lane) != 0 && !(apart && bank.active & bit(lane) != 0);
        let entry = sources::entry(bank, Some(sources), lane, lane, forward);
        write(self.lists, n, entry);
        self.lists.used |= bit(n) as u16;
    }

    /// Puts an SPI of this vCPU's queue into list register `n`; `apart` as above.
    pub(super) fn list_spi(&mut self, n: u32, bank: u32, lane: u32, apart: bool) {
        let Some(spis) = self.spis.as_deref_mut() else { return };
        let Some(here) = spis.banks.get_mut(bank as usize) else { return };
        let apart = apart && here.bank.active & bit(lane) != 0;
        let mine = here.target(lane) == self.me && !apart;
        let forward = here.bank.forwarded(self.groups) & bit(lane) != 0 && mine;
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
            self.list_private(n, lane, false);
        }
        self.spis.is_none() || self.fill_spis()
    }

    fn fill_spis(&mut self) -> bool {
        for bank in Bits(self.cpu.spi_banks.load(Ordering::Relaxed)) {
            for lane in Bits(self.queue(bank)) {
                let Some(n) = self.vacant() else { return false };
                self.list_spi(n, bank, lane, false);
            }
        }
        true
    }

    /// What can be listed of a bank of SPIs.
    pub(super) fn queue(&self, bank: u32) -> u32 {
        let Some(spis) = self.spis.as_deref() else { return 0 };
        let Some(here) = spis.banks.get(bank as usize) else { return 0 };
        spis.queue(self.me, bank as usize) & here.bank.deliverable(self.groups)
    }

    /// Takes everything back and empties all list registers, in `lists` only: nothing becomes dirty.
    pub(super) fn empty(&mut self) {
        for n in Bits(u32::from(self.lists.used)) {
            let entry = read(self.lists, n);
            let intid = lr::intid(entry);
            let lane = intid & 31;
            if let Some(lr) = self.lists.lr.get_mut(n as usize & 15) {
                *lr = 0;
            }
            if intid < 32 {
                let Private { bank, sources, .. } = &mut *self.private;
                if bank.listed & bit(lane) != 0 {
                    sources::take_back(bank, Some(sources), lane, entry);
                    bank.unlist(lane);
                }
            } else if let Some(spis) = self.spis.as_deref_mut()
                && let Some(here) = spis.banks.get_mut(spi_bank(intid)).filter(|b| b.holds(lane, self.me))
            {
                here.bank.take_back_rarely(lane, entry);
                here.bank.unlist(lane);
                self.kicks |= spis.requeue(&self.vgic.cpus, spi_bank(intid), bit(lane));
            }
        }
        self.lists.used = 0;
        self.private.spi_lists = 0;
    }

    /// Whatever is not as `before` has to be written.
    pub(super) fn mark_dirty(&mut self, before: &[u64; MAX_LISTS]) {
        for (n, (now, before)) in (0u32..).zip(self.lists.lr.iter().zip(before)) {
            if now != before {
                self.lists.dirty |= bit(n) as u16;
            }
        }
    }

    /// Ends what the guest ended outside of list registers; before anything is taken back.
    #[inline(always)]
    fn take_eoi_count(&mut self) {
        let ended = self.lists.hcr >> lr::HCR_EOICOUNT_SHIFT & 31;
        // In EOImode 1 deactivations trap where any is outside, so none was counted; QEMU counts priority drops.
        if ended != 0 && self.lists.hcr & lr::HCR_TDIR == 0 {
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

impl Vgic {
    /// Takes back what the guest did with its list registers and fills them with what is due now.
    ///
    /// After `Machine::fold`. Clears [`attention`](Self::attention). Returns which other vCPUs got something
    /// by it: an SPI that was routed away while it was pending here.
    ///
    /// A vCPU that was [unloaded](Self::unload) does this before its next entry if [`Lists::owed`] says so: its list
    /// registers are empty and `attention` is false, whatever waits in the banks.
    #[inline(always)]
    pub fn sync(&self, me: VcpuId, lists: &mut Lists) -> Kicks {
        self.sync_raised(me, lists, Raised::NOTHING)
    }

    /// Has something pend for `me`, and does what [`sync`](Self::sync) does: what happens to a vCPU at an
    /// exit of its own needs no detour by [`attention`](Self::attention).
    #[inline(always)]
    pub fn sync_raised(&self, me: VcpuId, lists: &mut Lists, raised: Raised) -> Kicks {
        self.sync_with(me, lists, |private| private.bank.raise(raised.lanes, raised.linked))
    }

    /// The same with an SGI of a GICv2 guest to itself: [`Outcome::OwnSgi`](super::Outcome::OwnSgi).
    #[inline(always)]
    pub fn sync_sgi(&self, me: VcpuId, lists: &mut Lists, lane: u32) -> Kicks {
        self.sync_with(me, lists, |Private { bank, sources, .. }| {
            sources.raise(bank, lane, Kicks::of(me).0 as u8);
        })
    }

    #[inline(always)]
    fn sync_with(&self, me: VcpuId, lists: &mut Lists, raise: impl FnOnce(&mut Private)) -> Kicks {
        let Some(cpu) = self.cpu(me) else { return Kicks::NONE };
        // Before the locks.
        cpu.looks();
        let mut private = cpu.private.lock();
        // Under the lock: whoever turns a group off looks there whether this vCPU has anything listed.
        let owing = self.owing.load(Ordering::Relaxed);
        let groups = self.groups.load(Ordering::Acquire);
        let spis = cpu.spi_banks.load(Ordering::Acquire) | u32::from(private.spi_lists);
        // After that load, so that what is written here need not be read again.
        raise(&mut private);
        if u64::from(spis) | owing == 0
            && turn_over(&mut private.bank, lists, groups)
            && (private.bank.listed & private.bank.sourced == 0 || turn_over_sgi(cpu, &mut private, lists))
        {
            if lists.emulated {
                self.signal(lists);
            }
            return Kicks::NONE;
        }
        drop(private);
        self.load_any(me, cpu, lists)
    }

    /// The general way.
    #[inline(never)]
    fn load_any(&self, me: VcpuId, cpu: &Cpu, lists: &mut Lists) -> Kicks {
        self.pay(me);
        let moved = self.heed_interface(me, cpu, lists);
        if moved.contains(me) {
            // What came here by that is seen below.
            cpu.looks();
        }
        let mut private = cpu.private.lock();
        let groups = self.groups.load(Ordering::Acquire);
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
        load.private.bank.settle_odd();
        let concerned = load.kicks.without(me);
        if lists.emulated {
            self.signal(lists);
        }
        moved.without(me) | super::call(&self.cpus, concerned)
    }

    /// `me` is about to take back what it has listed: GICx_CTLR.RWP need not wait for it any more.
    #[inline(always)]
    fn pay(&self, me: VcpuId) {
        if self.owing.load(Ordering::Relaxed) != 0 {
            self.owing.fetch_and(!Kicks::of(me).0, Ordering::Relaxed);
        }
    }

    /// Empties the list registers of a vCPU that left its CPU to wait or for good, after `Machine::put`, which cleared the
    /// physical active state of its linked interrupts too. Returns whom to kick.
    ///
    /// Clears [`attention`](Self::attention): it is true in the end only if something came meanwhile. Whether
    /// anything of what is left in the banks would be signalled is for [`signals`](Self::signals) to say.
    pub fn unload(&self, me: VcpuId, lists: &mut Lists) -> Kicks {
        let Some(cpu) = self.cpu(me) else { return Kicks::NONE };
        // Nothing is listed in the end.
        lists.signalled = 0;
        self.pay(me);
        let moved = self.heed_interface(me, cpu, lists).without(me);
        // Before the locks, and after what may have called this vCPU too.
        cpu.looks();
        let groups = self.groups.load(Ordering::Acquire);
        let mut private = cpu.private.lock();
        lists.owed = cpu.spi_banks.load(Ordering::Acquire) != 0;
        // With no group on, nothing is due: what is done with leaves its list register, and nothing takes its place.
        if private.spi_lists == 0 && turn_over(&mut private.bank, lists, 0) {
            // Of an end since the last entry: `put` has seen to it.
            lists.release = 0;
            lists.owed |= private.bank.deliverable(groups) != 0;
            return moved;
        }
        if take_back_one(&mut private, lists) {
            lists.release = 0;
            lists.owed |= private.bank.deliverable(groups) != 0;
            return moved;
        }
        let mut spis = self.spis.lock();
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
        // Nothing becomes dirty: all list registers are written when it gets on a CPU.
        load.empty();
        load.set_hcr(lr::HCR_EN);
        load.report_linked();
        load.lists.release = 0;
        load.private.bank.settle_odd();
        load.lists.owed =
            load.private.bank.deliverable(groups) != 0 || cpu.spi_banks.load(Ordering::Acquire) != 0;
        moved | super::call(&self.cpus, load.kicks.without(me))
    }
}
