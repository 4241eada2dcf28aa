//! What the property test looks at: after each step, when a guest reads everything, and at the very end.

use super::arrays::{ARRAYS, Array, Place};
use super::hardware::{TIMER, vcpu};
use super::ops::{Op, SPIS};
use super::port::Port;
use super::random::Run;
use crate::machine::IntId;
use crate::vdev::vgic::Frame;

/// HCR_EL2.VI and VF.
const VI: u64 = 1 << 7;
const VF: u64 = 1 << 6;

impl Run {
    /// Timers that fired meanwhile, each at an exit of its vCPU's own.
    pub(super) fn take_raised(&mut self) {
        for n in std::mem::take(&mut self.vm.raised) {
            let timer = self.model.get(n, TIMER);
            assert!(!timer.linked || self.by_hand[n], "fired while active");
            self.change(move |model| {
                let timer = model.get(n, TIMER);
                (timer.linked, timer.latch) = (true, true);
            });
        }
    }

    /// What holds whatever happened.
    pub(super) fn after_step(&mut self) {
        self.refresh();
        for n in 0..self.guest.setup.vcpus {
            let timer = &self.model.private[n][TIMER as usize];
            let linked = timer.linked;
            self.by_hand[n] &= timer.active || timer.latch;
            // A vCPU that is not resident looks before it is.
            if self.vm.vgic.attention(vcpu(n)) {
                continue;
            }
            self.check_signalled(n);
            if self.by_hand[n] {
                continue;
            }
            let cpu = &self.vm.cpus[n];
            let active = if cpu.resident { cpu.timer_active } else { cpu.lists.linked_active(IntId(TIMER)) };
            assert_eq!(active, linked, "physical state of vCPU {n}'s timer");
        }
    }

    /// Running priority, and what HCR_EL2 has to say.
    fn check_signalled(&mut self, n: usize) {
        if !self.is_on(n) {
            return;
        }
        let running = self.model.cpus[n].running_priority();
        let mask = self.model.priority_mask();
        assert_eq!(self.vm.load(n, Port::Rpr) as u8 & mask, running & mask, "RPR of vCPU {n}");
        if !self.guest.setup.emulated {
            return;
        }
        let line = |group1: bool| if group1 || !self.model.cpus[n].fiq_en { VI } else { VF };
        let allowed: Vec<u64> = self.view(n).signals(n).into_iter().map(|s| s.map_or(0, line)).collect();
        let signalled = self.vm.cpus[n].lists.signalled;
        assert!(allowed.contains(&signalled), "vCPU {n} gets {signalled:#x}, not one of {allowed:x?}");
    }

    /// All that registers say.
    pub(super) fn check(&mut self, me: usize) {
        for array in ARRAYS {
            for intid in 0..128 {
                let place = Place::of(array, intid, false);
                if place.first != intid {
                    continue;
                }
                let owners = if intid < 32 && !self.model.is_v2() { self.guest.setup.vcpus } else { 1 };
                for owner in 0..owners {
                    self.load(me, owner, place);
                }
            }
        }
        let value = self.vm.read(me, Frame::Gicd, 0) & 3;
        assert_eq!(value, self.model.groups, "GICD_CTLR");
    }

    /// Everything on and open, by registers.
    fn open(&mut self) {
        let everybody = self.model.everybody() as u32 & 0xff;
        self.groups(0, 3);
        for n in 0..self.guest.setup.vcpus {
            self.pmr(n, 0xff);
            self.enable(n, true, true);
            for intid in (0..96).step_by(4) {
                let word = intid % 32 == 0;
                if word {
                    self.store(n, n, Place::of(Array::ClearActive, intid, false), !0);
                    self.store(n, n, Place::of(Array::SetEnable, intid, false), !0);
                }
                // The lowest priority never gets through.
                let place = Place::of(Array::Priority, intid, false);
                let priorities = self.model.load(n, place);
                self.store(n, n, place, priorities & 0xf0f0_f0f0 & !0x1010_1010);
            }
        }
        for (index, spi) in SPIS.into_iter().enumerate() {
            if self.model.get(0, spi).targets == 0 {
                self.route(0, index, Some(0), false);
            }
        }
        if self.model.is_v2() {
            for intid in (32..96).step_by(4) {
                let place = Place::of(Array::Targets, intid, false);
                let none = (0..4).filter(|n| self.model.get(0, intid + n).targets == 0);
                let all: u32 = none.map(|n| everybody << (8 * n)).sum();
                let value = self.model.load(0, place) | all;
                self.store(0, 0, place, value);
            }
        }
    }

    /// Lets everybody finish: everything that can be delivered is, and in the end nothing is left.
    pub(super) fn drain(&mut self) {
        let vcpus = self.guest.setup.vcpus;
        for n in 0..vcpus {
            self.step(&Op::Come(n));
            self.step(&Op::Timer(n, false));
            self.step(&Op::Ppi(n, false));
        }
        for index in 0..SPIS.len() {
            self.step(&Op::Spi(index, false));
        }
        for n in 0..vcpus {
            while self.end(n, false) {}
            while self.deactivate(n, 0) {}
        }
        self.open();
        let mut taken = true;
        let mut rounds = 0;
        while taken {
            taken = false;
            for n in 0..vcpus {
                taken |= self.take(n, n & 1 != 0);
                self.end(n, true);
                self.deactivate(n, 0);
                self.after_step();
            }
            rounds += 1;
            assert!(rounds < 300, "it never ends");
        }
        let each = self.model.private.iter().flatten().chain(&self.model.spis);
        let left: Vec<_> = each.filter(|i| i.pending() || i.active).collect();
        assert!(left.is_empty(), "never came: {left:?}");
        for n in 0..vcpus {
            assert!(!self.vm.cpus[n].timer_active, "vCPU {n}'s timer can never fire again");
            self.check(n);
        }
    }
}
