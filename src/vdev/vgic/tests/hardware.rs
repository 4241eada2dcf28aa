//! A CPU interface with list registers, as IHI 0069 chapter 6 and IHI 0048B chapter 5 describe it.
//!
//! ICH and GICH do the same with the same list registers; what the guest reads and writes differs with the
//! version, as does whether its deactivation ever gets here.

use super::port::Port;
pub(super) use super::vm::{Vm, vcpu};
use crate::machine::{IntId, ppi};
use crate::vcpu::Lists;
use crate::vdev::vgic::{GicVersion, lr};

pub(super) const TIMER: u32 = ppi::VIRTUAL_TIMER.0;
/// No interrupt.
pub(super) const SPURIOUS: u32 = 1023;
/// GICv2: one of Group 1, that this register does not give.
pub(super) const OTHER_GROUP: u32 = 1022;
/// GICC_CTLR.AckCtl, where ICH_VMCR_EL2 and GICH_VMCR have it.
pub(super) const ACK_CTL: u64 = 1 << 2;

/// One vCPU on a CPU of its own, or on none.
pub(super) struct Cpu {
    pub(super) version: GicVersion,
    /// Bits of a priority.
    pub(super) priority_bits: u8,
    /// How many list registers there are.
    pub(super) count: u8,
    pub(super) lists: Lists,
    /// On a CPU.
    pub(super) resident: bool,
    /// ICH_LRn_EL2.
    pub(super) lr: [u64; 16],
    /// ICH_HCR_EL2.
    pub(super) hcr: u64,
    /// ICH_VMCR_EL2.
    pub(super) vmcr: u64,
    /// Group priorities of what was acknowledged and not ended: ICH_APxRn_EL2.
    pub(super) running: Vec<u8>,
    /// The physical timer PPI: its line and its state in the redistributor.
    pub(super) timer_line: bool,
    pub(super) timer_active: bool,
    /// What is in its list registers may have got there by no guest.
    pub(super) untrusted: bool,
}

fn priority(entry: u64) -> u8 {
    (entry >> 48) as u8
}

/// What IAR gives for an entry: GICv2's SGIs with their source CPU.
fn id(entry: u64) -> u32 {
    entry as u32 & 0x1fff
}

impl Cpu {
    pub(super) fn new(version: GicVersion, priority_bits: u8, count: u8, lists: Lists) -> Self {
        Self {
            version,
            priority_bits,
            count,
            lists,
            resident: false,
            lr: [!0; 16],
            hcr: 0,
            vmcr: 0,
            running: Vec::new(),
            timer_line: false,
            timer_active: false,
            untrusted: false,
        }
    }

    fn writeable(&self) -> u64 {
        self.hcr & !(31 << 27)
    }

    /// Machine::fold.
    pub(super) fn fold(&mut self) {
        if self.lists.loaded {
            for n in 0..16 {
                if self.lists.used & 1 << n != 0 {
                    self.lists.lr[n] = self.lr[n];
                }
            }
            self.lists.hcr = self.hcr;
            if self.maintenance() {
                self.hcr = 0;
                self.lists.hcr_dirty = true;
            }
            self.lists.vmcr = self.vmcr;
            self.lists.loaded = false;
        }
    }

    /// Machine::put: the CPU forgets the vCPU, and the next one leaves its own things there.
    pub(super) fn put(&mut self) {
        self.fold();
        self.resident = false;
        self.timer_active = false;
        self.lr = [0xdead << 48; 16];
        self.hcr = !0;
    }

    /// The part of Machine::enter before the ERET.
    pub(super) fn enter(&mut self) {
        if self.lists.loaded {
            assert!(self.lists.dirty == 0 && !self.lists.hcr_dirty);
            assert!(!self.lists.emulated, "there is nothing to load");
            return;
        }
        if !self.resident {
            self.resident = true;
            self.lists.dirty = 0xffff;
            self.lists.hcr_dirty = true;
            self.lists.release = 0;
            self.timer_active = self.lists.linked_active(IntId(TIMER));
            self.vmcr = self.lists.vmcr;
        }
        for n in 0..16 {
            if self.lists.dirty & 1 << n != 0 {
                self.lr[n] = self.lists.lr[n];
            }
        }
        if self.lists.hcr_dirty {
            self.hcr = self.lists.hcr;
            if self.lists.release & 1 << TIMER != 0 {
                assert!(self.timer_active || self.untrusted, "released what was not active");
                self.timer_active = false;
            }
            self.lists.release = 0;
        }
        assert_eq!(self.lists.release, 0);
        self.lists.hcr_dirty = false;
        if self.lists.emulated {
            self.lr = self.lists.lr;
            self.check();
            return;
        }
        self.lists.dirty = 0;
        self.lists.loaded = true;
        self.check();
        assert!(self.hcr & lr::HCR_EN != 0);
        assert_eq!(self.hcr, self.lists.hcr);
    }

    /// What must hold of list registers at an entry.
    fn check(&self) {
        let mut seen = Vec::new();
        assert_eq!(u32::from(self.lists.used) >> self.count, 0, "list registers that do not exist");
        for n in 0..16 {
            let entry = self.lr[n];
            assert_eq!(entry, self.lists.lr[n], "a change of LR{n} was not marked");
            if self.lists.used & 1 << n == 0 || entry & lr::STATE == 0 {
                assert_eq!(entry & lr::STATE, 0, "LR{n} is said to be free");
                continue;
            }
            assert!(
                entry & lr::HW == 0 || entry & lr::STATE != lr::STATE,
                "pending and active hardware entry"
            );
            let intid = entry as u32 & 0x3ff;
            assert!(intid < 16 || entry as u32 == intid, "{entry:#x} has a source CPU");
            assert!(!seen.contains(&intid), "INTID {intid} twice");
            seen.push(intid);
        }
    }

    pub(super) fn running_priority(&self) -> u8 {
        self.running.last().copied().unwrap_or(0xff)
    }

    /// The list register with the most urgent pending interrupt of a group that is on.
    fn most_urgent(&self) -> Option<usize> {
        let enabled = |entry: u64| self.vmcr & if entry & lr::GROUP1 != 0 { 2 } else { 1 } != 0;
        let pending = |n: &usize| self.lr[*n] & lr::STATE == lr::PENDING && enabled(self.lr[*n]);
        (0..16).filter(pending).min_by_key(|&n| priority(self.lr[n]))
    }

    /// The list register that would be signalled.
    pub(super) fn signalled(&self) -> Option<usize> {
        let n = self.most_urgent()?;
        let masked = priority(self.lr[n]) >= (self.vmcr >> 24) as u8;
        let group = priority(self.lr[n]) & lr::group_mask(self.vmcr, self.lr[n] & lr::GROUP1 != 0);
        (!masked && group < self.running_priority()).then_some(n)
    }

    /// Takes what is signalled, whatever its group.
    pub(super) fn acknowledge(&mut self) -> Option<u32> {
        let n = self.signalled()?;
        let entry = self.lr[n];
        self.running.push(priority(entry) & lr::group_mask(self.vmcr, entry & lr::GROUP1 != 0));
        self.lr[n] = entry & !lr::STATE | lr::ACTIVE;
        Some(id(entry))
    }

    /// What IAR or HPPIR says instead of this entry, if it may not say which it is.
    fn denied(&self, entry: u64, group1: bool) -> Option<u32> {
        let is_group1 = entry & lr::GROUP1 != 0;
        match self.version {
            GicVersion::V3 => (is_group1 != group1).then_some(SPURIOUS),
            GicVersion::V2 if group1 => (!is_group1).then_some(SPURIOUS),
            GicVersion::V2 => (is_group1 && self.vmcr & ACK_CTL == 0).then_some(OTHER_GROUP),
        }
    }

    fn deactivate(&mut self, value: u32) {
        let found = (0..16).find(|&n| self.lr[n] & lr::ACTIVE != 0 && id(self.lr[n]) == value);
        let Some(n) = found else {
            self.hcr = self.writeable() | ((self.hcr >> 27 & 31) + 1).min(31) << 27;
            return;
        };
        self.lr[n] &= !lr::ACTIVE;
        if self.lr[n] & lr::HW != 0 && self.lr[n] >> 32 & 0x1fff == u64::from(TIMER) {
            self.timer_active = false;
        }
    }

    /// ICC_EOIRn_EL1, GICV_EOIR, GICV_AEOIR.
    pub(super) fn end(&mut self, value: u32) {
        if value & 0x3ff >= 1020 || self.running.pop().is_none() {
            return;
        }
        if self.vmcr & lr::VMCR_VEOIM == 0 {
            self.deactivate(value);
        }
    }

    /// ICC_DIR_EL1; false if it traps.
    pub(super) fn dir(&mut self, value: u32) -> bool {
        let trapped = self.hcr & lr::HCR_TDIR != 0;
        if !trapped && value & 0x3ff < 1020 && self.vmcr & lr::VMCR_VEOIM != 0 {
            self.deactivate(value);
        }
        !trapped
    }

    /// The lowest binary point of Group 0; that of Group 1 is one more.
    fn lowest_bpr(&self) -> u64 {
        7u64.saturating_sub(self.priority_bits.into())
    }

    /// A load from the guest's interface.
    pub(super) fn read(&mut self, port: Port) -> u32 {
        let bpr = |shift: u32| self.vmcr >> shift & 7;
        let value = match port {
            Port::Iar(group1) => {
                let denied = self.signalled().map(|n| self.denied(self.lr[n], group1));
                return match denied {
                    None => SPURIOUS,
                    Some(Some(special)) => special,
                    Some(None) => self.acknowledge().unwrap(),
                };
            }
            Port::Hppir(group1) => {
                let Some(n) = self.most_urgent() else { return SPURIOUS };
                return self.denied(self.lr[n], group1).unwrap_or(id(self.lr[n]));
            }
            Port::Rpr => return self.running_priority().into(),
            Port::Pmr => self.vmcr >> lr::VMCR_VPMR_SHIFT & 0xff,
            Port::Bpr(false) => bpr(lr::VMCR_VBPR0_SHIFT),
            Port::Bpr(true) if self.version == GicVersion::V3 && self.vmcr & lr::VMCR_VCBPR != 0 => {
                (bpr(lr::VMCR_VBPR0_SHIFT) + 1).min(7)
            }
            Port::Bpr(true) => bpr(lr::VMCR_VBPR1_SHIFT),
            Port::Ctlr if self.version == GicVersion::V2 => self.vmcr & 0x21f,
            Port::Ctlr => self.vmcr >> 4 & 1 | (self.vmcr >> 9 & 1) << 1,
            Port::Enable(group1) => self.vmcr >> u32::from(group1) & 1,
            Port::Eoir(_) | Port::Dir => 0,
        };
        value as u32
    }

    fn set_vmcr(&mut self, mask: u64, bits: u64) {
        self.vmcr = self.vmcr & !mask | bits & mask;
    }

    /// A store to the guest's interface; false if it traps.
    pub(super) fn write(&mut self, port: Port, value: u32) -> bool {
        let wide = u64::from(value);
        match port {
            Port::Eoir(_) => self.end(value & 0x1fff),
            Port::Dir => return self.dir(value & 0x1fff),
            Port::Pmr => {
                self.set_vmcr(0xff << 24, (wide & 0xff << (8 - self.priority_bits) & 0xff) << 24);
            }
            Port::Bpr(false) => {
                let bpr = (wide & 7).max(self.lowest_bpr());
                self.set_vmcr(7 << lr::VMCR_VBPR0_SHIFT, bpr << lr::VMCR_VBPR0_SHIFT);
            }
            Port::Bpr(true) if self.version == GicVersion::V3 && self.vmcr & lr::VMCR_VCBPR != 0 => {}
            Port::Bpr(true) => {
                let bpr = (wide & 7).max(self.lowest_bpr() + 1);
                self.set_vmcr(7 << lr::VMCR_VBPR1_SHIFT, bpr << lr::VMCR_VBPR1_SHIFT);
            }
            Port::Ctlr if self.version == GicVersion::V2 => self.set_vmcr(0x21f, wide),
            Port::Ctlr => self.set_vmcr(1 << 4 | 1 << 9, (wide & 1) << 4 | (wide & 2) << 8),
            Port::Enable(group1) => self.set_vmcr(1 << u32::from(group1), (wide & 1) << u32::from(group1)),
            Port::Iar(_) | Port::Hppir(_) | Port::Rpr => {}
        }
        true
    }

    /// ICH_MISR_EL2 is not zero.
    pub(super) fn maintenance(&self) -> bool {
        let on = |bit: u64| self.hcr & bit != 0;
        let ended = |e: &u64| e & lr::STATE == 0 && e & lr::EOI != 0 && e & lr::HW == 0;
        let (g0, g1) = (self.vmcr & 1 != 0, self.vmcr & 2 != 0);
        self.lr.iter().any(ended)
            || on(lr::HCR_LRENPIE) && self.hcr >> 27 & 31 != 0
            || on(lr::HCR_NPIE) && !self.lr.iter().any(|e| e & lr::STATE == lr::PENDING)
            || on(lr::HCR_VGRP0EIE) && g0
            || on(lr::HCR_VGRP0DIE) && !g0
            || on(lr::HCR_VGRP1EIE) && g1
            || on(lr::HCR_VGRP1DIE) && !g1
    }
}
