//! What each step of the property test does to the guest and the model.

use super::arrays::Place;
use super::hardware::{OTHER_GROUP, SPURIOUS, TIMER, vcpu};
use super::ops::{LINE, Op, SPIS};
use super::port::Port;
use super::random::Run;
use crate::machine::IntId;

impl Run {
    pub(super) fn step(&mut self, op: &Op) {
        let vcpus = self.guest.setup.vcpus;
        match *op {
            Op::Spi(index, high) => {
                self.change(move |model| model.get(0, SPIS[index]).set_line(high));
                self.vm.set_spi((SPIS[index] - 32) as u16, high);
            }
            Op::Ppi(n, high) => {
                let n = n % vcpus;
                self.change(move |model| model.get(n, LINE).set_line(high));
                let kicks = self.vm.vgic.set_ppi(vcpu(n), IntId(LINE), high);
                self.vm.check_kicks(usize::MAX, kicks);
                self.vm.settle();
            }
            Op::Timer(n, high) => self.vm.set_timer(n % vcpus, high),
            Op::Come(n) => self.vm.come(n % vcpus),
            Op::Store(n, ..)
            | Op::Load(n, ..)
            | Op::Route(n, ..)
            | Op::Groups(n, ..)
            | Op::Retract(n)
            | Op::Sgi(n, ..)
            | Op::Check(n) => {
                if self.is_on(n % vcpus) {
                    self.step_outside(n % vcpus, op);
                }
            }
            Op::Take(n, _)
            | Op::Iar(n, _)
            | Op::Hppir(n, _)
            | Op::End(n, _)
            | Op::Deactivate(n, _)
            | Op::EndNothing(n)
            | Op::Pmr(n, _)
            | Op::Bpr(n, ..)
            | Op::Ctlr(n, ..)
            | Op::Enable(n, ..)
            | Op::Leave(n)
            | Op::Wfi(n) => {
                if self.is_on(n % vcpus) {
                    self.step_inside(n % vcpus, op);
                }
            }
        }
        self.after_step();
    }

    fn step_outside(&mut self, me: usize, op: &Op) {
        match *op {
            Op::Store(_, owner, array, intid, byte, shape) => {
                let owner = self.owner(me, owner);
                let byte = byte && array.takes_bytes(self.guest.setup.version);
                let place = Place::of(array, intid, byte);
                let value = self.value(owner, place, intid, shape);
                self.store(me, owner, place, value);
            }
            Op::Load(_, owner, array, intid, byte) => {
                let byte = byte && array.takes_bytes(self.guest.setup.version);
                self.load(me, owner, Place::of(array, intid, byte));
            }
            Op::Route(_, spi, to, halves) => self.route(me, spi, to, halves),
            Op::Groups(_, groups) => self.groups(me, groups),
            Op::Retract(_) if !self.vm.cpus[me].timer_line && !self.by_hand[me] => {
                self.change(move |model| {
                    let timer = model.get(me, TIMER);
                    if timer.linked {
                        timer.clear_pending();
                    }
                });
                let kicks = self.vm.vgic.retract_linked(vcpu(me), IntId(TIMER));
                self.vm.check_kicks(usize::MAX, kicks);
                self.vm.enter(me);
                self.vm.settle();
            }
            Op::Sgi(_, intid, to, group0) => self.sgi(me, intid, to, group0),
            Op::Check(_) => self.check(me),
            _ => {}
        }
    }

    fn step_inside(&mut self, n: usize, op: &Op) {
        match *op {
            Op::Take(_, group1) => drop(self.take(n, group1)),
            Op::Iar(_, group1) => drop(self.iar(n, group1)),
            // Whether it shows what is pending in a group that is off differs between manuals.
            Op::Hppir(_, group1) if self.model.cpus[n].enabled == [true, true] => {
                let allowed = self.view(n).answers(n, group1, false);
                let id = self.vm.load(n, Port::Hppir(group1));
                assert!(allowed.contains(&id), "HPPIR of vCPU {n}: {id:#x}, not one of {allowed:x?}");
            }
            Op::End(_, by_group0) => drop(self.end(n, by_group0)),
            Op::Deactivate(_, which) => drop(self.deactivate(n, which)),
            Op::EndNothing(_) => {
                for special in [SPURIOUS, OTHER_GROUP] {
                    self.vm.store(n, Port::Eoir(true), special);
                    self.vm.store(n, Port::Eoir(false), special);
                }
            }
            Op::Pmr(_, value) => self.pmr(n, value),
            Op::Bpr(_, group1, value) if !self.is_nesting(n) => self.bpr(n, group1, value),
            Op::Ctlr(_, cbpr, ack_ctl, fiq_en) => {
                let cbpr = if self.is_nesting(n) { self.model.cpus[n].cbpr } else { cbpr };
                self.ctlr(n, cbpr, ack_ctl, fiq_en);
            }
            Op::Enable(_, group0, group1) => self.enable(n, group0, group1),
            Op::Leave(_) => {
                self.vm.leave(n);
                let signals = self.vm.vgic.signals(vcpu(n), &self.vm.cpus[n].lists);
                self.vm.note_called();
                self.check_wakes(n, signals);
            }
            Op::Wfi(_) => self.wfi(n),
            _ => {}
        }
    }

    /// Which interrupt ends first that runs outside of list registers is told by its group priority: a guest
    /// that changes that of those that run is left out.
    fn is_nesting(&self, n: usize) -> bool {
        !self.model.cpus[n].running.is_empty()
    }

    fn wfi(&mut self, n: usize) {
        self.vm.enter(n);
        // A timer that was let go by that fires again before the vCPU could sleep.
        self.vm.settle();
        self.refresh();
        self.vm.cpus[n].fold();
        let signals = self.vm.vgic.signals(vcpu(n), &self.vm.cpus[n].lists);
        self.vm.note_called();
        self.vm.enter(n);
        // It may have found out that the vCPU has to look; who waits does before it is entered again.
        self.vm.settle();
        self.check_wakes(n, signals);
    }

    /// Whether vCPU `n` is woken, or is not parked, if it has something to take.
    fn check_wakes(&mut self, n: usize, signals: bool) {
        self.refresh();
        let allowed = self.view(n).signals(n);
        if self.model.reprioritized(n) {
            return;
        }
        assert!(signals || allowed.contains(&None), "vCPU {n} sleeps and should not");
        // In EOImode 1 it may wake too often.
        if self.model.cpus[n].running.is_empty() && !self.guest.eoimode {
            assert!(!signals || allowed.iter().any(Option::is_some), "vCPU {n} wakes for nothing");
        }
    }
}
