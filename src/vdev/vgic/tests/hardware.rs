//! A CPU interface with list registers, as IHI 0069 chapter 6 describes it, and a small run loop around it.

use crate::exit::Size;
use crate::machine::{IntId, ppi};
use crate::vcpu::{Lists, VcpuId};
use crate::vdev::vgic::{Frame, GicVersion, Kicks, Outcome, Raised, Vgic, VgicConfig, lr};

pub(super) const TIMER: u32 = ppi::VIRTUAL_TIMER.0;

/// One vCPU on a CPU of its own, or on none.
pub(super) struct Cpu {
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
}

fn priority(entry: u64) -> u8 {
    (entry >> 48) as u8
}

impl Cpu {
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
                assert!(self.timer_active, "released what was not active");
                self.timer_active = false;
            }
            self.lists.release = 0;
        }
        assert_eq!(self.lists.release, 0);
        self.lists.dirty = 0;
        self.lists.hcr_dirty = false;
        self.lists.loaded = true;
        self.check();
    }

    /// What must hold of list registers at an entry.
    fn check(&self) {
        let mut seen = Vec::new();
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
            assert!(!seen.contains(&(entry as u32)), "INTID {} twice", entry as u32);
            seen.push(entry as u32);
        }
        assert!(self.hcr & lr::HCR_EN != 0);
        assert_eq!(self.hcr, self.lists.hcr);
    }

    pub(super) fn running_priority(&self) -> u8 {
        self.running.last().copied().unwrap_or(0xff)
    }

    /// The list register that would be signalled.
    pub(super) fn signalled(&self) -> Option<usize> {
        let enabled = |entry: u64| self.vmcr & if entry & lr::GROUP1 != 0 { 2 } else { 1 } != 0;
        let pending = |n: &usize| self.lr[*n] & lr::STATE == lr::PENDING && enabled(self.lr[*n]);
        let n = (0..16).filter(pending).min_by_key(|&n| priority(self.lr[n]))?;
        let masked = priority(self.lr[n]) >= (self.vmcr >> 24) as u8;
        let group = priority(self.lr[n]) & lr::group_mask(self.vmcr, self.lr[n] & lr::GROUP1 != 0);
        (!masked && group < self.running_priority()).then_some(n)
    }

    /// ICC_IARn_EL1.
    pub(super) fn acknowledge(&mut self) -> Option<u32> {
        let n = self.signalled()?;
        let entry = self.lr[n];
        self.running.push(priority(entry) & lr::group_mask(self.vmcr, entry & lr::GROUP1 != 0));
        self.lr[n] = entry & !lr::STATE | lr::ACTIVE;
        Some(entry as u32)
    }

    fn deactivate(&mut self, intid: u32) {
        let found = (0..16).find(|&n| self.lr[n] & lr::ACTIVE != 0 && self.lr[n] as u32 == intid);
        let Some(n) = found else {
            self.hcr = self.writeable() | ((self.hcr >> 27 & 31) + 1).min(31) << 27;
            return;
        };
        self.lr[n] &= !lr::ACTIVE;
        if self.lr[n] & lr::HW != 0 {
            assert_eq!(self.lr[n] >> 32 & 0x1fff, u64::from(TIMER));
            self.timer_active = false;
        }
    }

    /// ICC_EOIRn_EL1.
    pub(super) fn end(&mut self, intid: u32) {
        self.running.pop();
        if self.vmcr & lr::VMCR_VEOIM == 0 {
            self.deactivate(intid);
        }
    }

    /// ICC_DIR_EL1; false if it traps.
    pub(super) fn dir(&mut self, intid: u32) -> bool {
        let trapped = self.hcr & lr::HCR_TDIR != 0;
        if !trapped {
            self.deactivate(intid);
        }
        !trapped
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

/// A VM: its vGIC, its vCPUs, and what runs them.
pub(super) struct Vm {
    pub(super) vgic: Vgic,
    pub(super) cpus: Vec<Cpu>,
    /// Linked interrupts raised since somebody last looked, by vCPU.
    pub(super) raised: Vec<usize>,
    /// Whether the last of them found its vCPU running.
    running: bool,
}

pub(super) const RD: u64 = 0;

pub(super) fn vcpu(n: usize) -> VcpuId {
    VcpuId(n as u16)
}

impl Vm {
    pub(super) fn new(vcpus: usize, lists: u8) -> Self {
        let mpidrs = (0..vcpus as u64).map(|n| 1 << 31 | n % 16 | n / 16 << 8).collect();
        let config = VgicConfig {
            version: GicVersion::V3,
            mpidrs,
            spis: 64,
            lists,
            priority_bits: 5,
            emulated: false,
        };
        let vgic = Vgic::new(config);
        let mut vm = Self { vgic, cpus: Vec::new(), raised: Vec::new(), running: false };
        for n in 0..vcpus {
            let mut lists = Lists::default();
            vm.vgic.reset_cpu(vcpu(n), &mut lists);
            vm.cpus.push(Cpu {
                lists,
                resident: false,
                lr: [!0; 16],
                hcr: 0,
                vmcr: 0,
                running: Vec::new(),
                timer_line: false,
                timer_active: false,
            });
            vm.look(n);
        }
        vm.settle();
        vm
    }

    /// What a Linux kernel sets up: all in Group 1, groups on, priority mask open.
    pub(super) fn linux(vcpus: usize, lists: u8) -> Self {
        let mut vm = Self::new(vcpus, lists);
        vm.write(0, Frame::Gicd, 0, 0x12 | 1);
        for n in 0..vcpus {
            vm.write(n, Frame::GicrRd(vcpu(n)), RD + 0x14, 0);
            vm.write(n, Frame::GicrSgi(vcpu(n)), 0x80, !0);
            vm.write(n, Frame::GicrSgi(vcpu(n)), 0x180, !0);
            vm.write(n, Frame::GicrSgi(vcpu(n)), 0x100, 0xffff);
            for offset in (0x400..0x420).step_by(4) {
                vm.write(n, Frame::GicrSgi(vcpu(n)), offset, 0xa0a0_a0a0);
            }
            vm.cpus[n].vmcr |= 2 | 0xf0 << 24;
        }
        for word in 1..3 {
            vm.write(0, Frame::Gicd, 0x80 + 4 * word, !0);
        }
        for offset in (0x420..0x460).step_by(4) {
            vm.write(0, Frame::Gicd, offset, 0xa0a0_a0a0);
        }
        vm
    }

    /// What the run loop does before an entry.
    pub(super) fn look(&mut self, n: usize) {
        self.look_raised(n, Raised::NOTHING);
    }

    /// The same at an exit that raises something.
    pub(super) fn look_raised(&mut self, n: usize, raised: Raised) {
        let cpu = &mut self.cpus[n];
        cpu.fold();
        let kicks = self.vgic.sync_raised(vcpu(n), &mut cpu.lists, raised);
        assert!(!self.vgic.attention(vcpu(n)));
        cpu.enter();
        self.check_kicks(n, kicks);
    }

    /// Who has to look was kicked, or is the one that is at it.
    pub(super) fn check_kicks(&self, me: usize, kicks: Kicks) {
        for n in 0..self.cpus.len() {
            if n != me && self.cpus[n].resident && self.vgic.attention(vcpu(n)) {
                assert!(kicks.contains(vcpu(n)), "vCPU {n} has to look and was not kicked");
            }
        }
    }

    /// Until nobody has anything to do.
    pub(super) fn settle(&mut self) {
        for _ in 0..20 {
            let mut quiet = true;
            for n in 0..self.cpus.len() {
                let cpu = &self.cpus[n];
                if !cpu.resident {
                    continue;
                }
                if cpu.timer_line && !cpu.timer_active {
                    self.cpus[n].timer_active = true;
                    // While it runs, or while it waits.
                    self.running = !self.running;
                    if self.running {
                        self.look_raised(n, Raised::linked(IntId(TIMER)));
                    } else {
                        self.vgic.raise_linked(vcpu(n), IntId(TIMER));
                    }
                    self.raised.push(n);
                    quiet = false;
                }
                if self.vgic.attention(vcpu(n)) || self.cpus[n].maintenance() {
                    let kicked: Vec<_> =
                        (0..self.cpus.len()).filter(|&n| self.vgic.attention(vcpu(n))).collect();
                    let cpu = &mut self.cpus[n];
                    cpu.fold();
                    let kicks = self.vgic.sync(vcpu(n), &mut cpu.lists);
                    cpu.enter();
                    for m in 0..self.cpus.len() {
                        let new =
                            self.cpus[m].resident && self.vgic.attention(vcpu(m)) && !kicked.contains(&m);
                        assert!(!new || kicks.contains(vcpu(m)), "vCPU {m} was not kicked by a sync");
                    }
                    quiet = false;
                }
            }
            if quiet {
                return;
            }
        }
        panic!("never settles");
    }

    /// An access by a vCPU that runs, as the run loop does it.
    pub(super) fn access(
        &mut self,
        me: usize,
        frame: Frame,
        offset: u64,
        size: Size,
        write: Option<u64>,
    ) -> Outcome {
        for _ in 0..5 {
            let cpu = &mut self.cpus[me];
            let outcome = self.vgic.access(vcpu(me), frame, offset, size, write, &mut cpu.lists);
            match outcome {
                Outcome::Fold => {
                    assert!(write.is_none(), "a write never waits");
                    self.cpus[me].fold();
                }
                Outcome::Remote(other) => {
                    assert!(write.is_none(), "a write never waits");
                    assert!(self.vgic.attention(other) && self.cpus[usize::from(other.0)].resident);
                    self.look(usize::from(other.0));
                }
                Outcome::Done(_, kicks) => {
                    self.check_kicks(me, kicks);
                    self.cpus[me].enter();
                    self.settle();
                    return outcome;
                }
                Outcome::Refused(_) => return outcome,
            }
        }
        panic!("an access is never done");
    }

    pub(super) fn write(&mut self, me: usize, frame: Frame, offset: u64, value: u32) {
        let outcome = self.access(me, frame, offset, Size::Word, Some(value.into()));
        assert!(matches!(outcome, Outcome::Done(0, _)), "{frame:?} {offset:#x}: {outcome:?}");
    }

    pub(super) fn read(&mut self, me: usize, frame: Frame, offset: u64) -> u32 {
        match self.access(me, frame, offset, Size::Word, None) {
            Outcome::Done(value, _) => value as u32,
            other => panic!("{frame:?} {offset:#x}: {other:?}"),
        }
    }

    pub(super) fn set_spi(&mut self, spi: u16, level: bool) {
        let kicks = self.vgic.set_spi(spi, level);
        self.check_kicks(usize::MAX, kicks);
        self.settle();
    }

    pub(super) fn set_timer(&mut self, n: usize, level: bool) {
        self.cpus[n].timer_line = level;
        self.settle();
    }

    /// The guest takes an interrupt, if it is signalled.
    pub(super) fn take(&mut self, n: usize) -> Option<u32> {
        let intid = self.cpus[n].acknowledge();
        self.settle();
        intid
    }

    pub(super) fn end(&mut self, n: usize, intid: u32) {
        self.cpus[n].end(intid);
        self.settle();
    }

    pub(super) fn leave(&mut self, n: usize) {
        self.cpus[n].put();
        let kicks = self.vgic.unload(vcpu(n), &mut self.cpus[n].lists);
        assert_eq!(self.cpus[n].lists.used, 0);
        self.check_kicks(n, kicks);
        self.settle();
    }

    pub(super) fn come(&mut self, n: usize) {
        if !self.cpus[n].resident {
            if self.vgic.attention(vcpu(n)) {
                self.look(n);
            } else {
                self.cpus[n].enter();
            }
            self.settle();
        }
    }
}
