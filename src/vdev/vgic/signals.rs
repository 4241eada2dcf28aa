//! Whether a vCPU has an interrupt to take: what ends a WFI.

use super::bank::{Bank, Bits, bit};
use super::load::{read, spi_bank};
use super::{Cpu, Vgic, lr};
use crate::vcpu::{Lists, VcpuId};
use core::sync::atomic::Ordering;

impl Vgic {
    /// Whether the CPU interface of `me` would signal an interrupt now, PSTATE.I aside: what ends a WFI.
    ///
    /// After `Machine::fold`, and `sync` if there was attention. Pending, enabled, its group enabled in the
    /// distributor and in ICC_IGRPENn_EL1, above ICC_PMR_EL1, and able to preempt what is active. With
    /// EOImode 1 the running priority is taken as idle: a guest that sleeps in a handler wakes too often
    /// rather than never. An emulated interface knows.
    ///
    /// After [`unload`](Self::unload) too: what is listed nowhere is looked at where it waits, so that a vCPU is
    /// parked exactly if it would sleep on.
    pub fn signals(&self, me: VcpuId, lists: &Lists) -> bool {
        let Some(cpu) = self.cpu(me) else { return false };
        self.suspect_interface(me, cpu, lists);
        if lists.emulated && lists.used != 0 {
            return lists.signalled != 0;
        }
        let groups = self.groups.load(Ordering::Relaxed);
        let private = cpu.private.lock();
        let spis = private.spi_lists != 0 || cpu.spi_banks.load(Ordering::Acquire) != 0;
        let mut view = if spis { self.see_spis(me, cpu, lists, groups) } else { self.view(lists) };
        for n in Bits(u32::from(lists.used)) {
            let entry = read(lists, n);
            if lr::intid(entry) < 32 {
                view.see_entry(entry, &private.bank);
            }
        }
        view.see_bank(&private.bank, u32::MAX, groups);
        view.signals()
    }

    /// A CPU interface that has not been shown anything yet.
    fn view(&self, lists: &Lists) -> Interface {
        // The active priorities of hardware are not at hand: what is active tells in EOImode 0.
        let running = if lists.emulated { lists.running(self.form()).min(0xff) as u8 } else { 0xff };
        let told = !lists.emulated && lists.vmcr & lr::VMCR_VEOIM == 0;
        Interface { vmcr: lists.vmcr, best: (0xff, 0xff), running, told }
    }

    /// What the CPU interface of `me` sees of SPIs. Its private bank is locked.
    #[inline(never)]
    fn see_spis(&self, me: VcpuId, cpu: &Cpu, lists: &Lists, groups: u32) -> Interface {
        let mut view = self.view(lists);
        let spis = self.spis.lock();
        for n in Bits(u32::from(lists.used)) {
            let entry = read(lists, n);
            let intid = lr::intid(entry);
            let bank = spis.banks.get(spi_bank(intid)).filter(|_| intid >= 32);
            if let Some(here) = bank {
                view.see_entry(entry, &here.bank);
            }
        }
        for n in Bits(cpu.spi_banks.load(Ordering::Relaxed)) {
            if let Some(here) = spis.banks.get(n as usize) {
                view.see_bank(&here.bank, spis.queue(me.0 as u8, n as usize), groups);
            }
        }
        view
    }
}

/// What a CPU interface makes of what it is shown.
#[derive(Clone, Copy)]
struct Interface {
    vmcr: u64,
    /// Priority and group priority of the most urgent pending interrupt of an enabled group.
    best: (u8, u8),
    /// Running group priority.
    running: u8,
    /// What is active tells it.
    told: bool,
}

impl Interface {
    #[inline(always)]
    fn see(&mut self, priority: u8, group1: bool, active: bool) {
        let group = priority & lr::group_mask(self.vmcr, group1);
        if active {
            if self.told {
                self.running = self.running.min(group);
            }
        } else if self.vmcr & if group1 { lr::VMCR_VENG1 } else { lr::VMCR_VENG0 } != 0 {
            self.best = self.best.min((priority, group));
        }
    }

    #[inline(always)]
    fn see_entry(&mut self, entry: u64, bank: &Bank) {
        let active = entry & lr::ACTIVE != 0;
        let forced = bank.forced & bit(entry as u32 & 31) != 0;
        if entry & lr::STATE != 0 && !(active && forced) {
            self.see((entry >> lr::PRIORITY_SHIFT) as u8, entry & lr::GROUP1 != 0, active);
        }
    }

    #[inline(always)]
    fn see_bank(&mut self, bank: &Bank, lanes: u32, groups: u32) {
        let outside = lanes & bank.deliverable(groups) & !bank.forced;
        if outside != 0 {
            *self = self.with_outside(bank, outside);
        }
    }

    /// After a look at what found no list register.
    #[cold]
    fn with_outside(mut self, bank: &Bank, lanes: u32) -> Self {
        for lane in Bits(lanes) {
            self.see(bank.priority(lane), bank.group & bit(lane) != 0, bank.active & bit(lane) != 0);
        }
        self
    }

    fn signals(&self) -> bool {
        let mask = (self.vmcr >> lr::VMCR_VPMR_SHIFT) as u8;
        self.best.0 < mask && (self.running == 0xff || self.best.1 < self.running)
    }
}
