//! Random guests whose vCPUs look late: while others write registers, they go on with what they have listed.
//!
//! They look when something of their own makes them exit, when they are asked, and now and then; they leave
//! CPUs with list registers in flight and get on others, and are switched off and on.

use super::arrays::Array;
use super::hardware::TIMER;
use super::ops::{Op, PRIVATE, SPIS, Shape, op};
use super::random::{Guest, Run, config, guest};
use super::vm::vcpu;
use crate::machine::IntId;
use crate::vdev::vgic::{Frame, GicVersion};
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Late {
    /// As others do it.
    Step(Op),
    Look(usize),
    /// One vCPU writes to the pending and active registers of an interrupt again and again: by whom, whose, which.
    Burst(usize, usize, u32, Vec<Array>),
    /// PSCI CPU_OFF.
    Off(usize),
    /// PSCI CPU_ON, and what the guest sets up then.
    On(usize),
    /// GICR_WAKER.ProcessorSleep.
    Asleep(usize, bool),
}

fn intid() -> impl Strategy<Value = u32> {
    prop::sample::select([SPIS.as_slice(), PRIVATE.as_slice()].concat())
}

fn burst() -> impl Strategy<Value = Vec<Array>> {
    let states = vec![Array::SetPending, Array::ClearPending, Array::SetActive, Array::ClearActive];
    prop::collection::vec(prop::sample::select(states), 2..6)
}

fn late() -> impl Strategy<Value = Late> {
    let cpu = || 0..8usize;
    prop_oneof![
        30 => op().prop_map(Late::Step),
        4 => cpu().prop_map(Late::Look),
        6 => (cpu(), cpu(), intid(), burst()).prop_map(|(a, b, c, d)| Late::Burst(a, b, c, d)),
        1 => cpu().prop_map(Late::Off),
        2 => cpu().prop_map(Late::On),
        1 => (cpu(), any::<bool>()).prop_map(|(n, asleep)| Late::Asleep(n, asleep)),
    ]
}

struct LateRun {
    run: Run,
    off: Vec<bool>,
}

impl LateRun {
    fn new(guest: Guest) -> Self {
        let mut run = Run::new(guest);
        run.lag();
        Self { run, off: vec![false; guest.setup.vcpus] }
    }

    fn step(&mut self, late: &Late) {
        let vcpus = self.run.guest.setup.vcpus;
        match *late {
            Late::Step(Op::Come(n)) if self.off[n % vcpus] => {}
            Late::Step(ref op) => return self.run.step(op),
            Late::Look(n) => {
                if self.run.is_on(n % vcpus) {
                    self.run.vm.look(n % vcpus);
                    self.run.vm.settle();
                }
            }
            Late::Burst(me, owner, intid, ref arrays) => {
                for &array in arrays {
                    let one = Shape::One(0);
                    self.run.step(&Op::Store(me, owner, array, intid, false, one));
                }
            }
            Late::Off(n) => self.switch_off(n % vcpus),
            Late::On(n) => self.switch_on(n % vcpus),
            Late::Asleep(n, asleep) => {
                let n = n % vcpus;
                if self.run.is_on(n) && !self.run.model.is_v2() {
                    self.run.vm.write(n, Frame::GicrRd(vcpu(n)), 0x14, u32::from(asleep) << 1);
                }
            }
        }
        self.run.after_step();
    }

    fn switch_off(&mut self, n: usize) {
        if self.run.is_on(n) {
            self.run.vm.leave(n);
            let kicks = self.run.vm.vgic.switched_off(vcpu(n));
            self.run.vm.check_kicks(usize::MAX, kicks);
            self.off[n] = true;
        }
    }

    fn switch_on(&mut self, n: usize) {
        if !std::mem::take(&mut self.off[n]) {
            return;
        }
        let run = &mut self.run;
        run.vm.renew(n);
        run.renew(n);
        // The run loop forgets a timer of the life before.
        if !run.by_hand[n] {
            let kicks = run.vm.vgic.retract_linked(vcpu(n), IntId(TIMER));
            assert!(kicks.is_empty());
            run.change(move |model| {
                let timer = model.get(n, TIMER);
                if timer.linked {
                    timer.clear_pending();
                }
            });
        }
        run.vm.come(n);
        run.refresh();
        run.set_up_interface(n);
        if !run.model.is_v2() {
            run.vm.write(n, Frame::GicrRd(vcpu(n)), 0x14, 0);
        }
    }

    fn drain(&mut self) {
        for n in 0..self.off.len() {
            self.switch_on(n);
            self.run.after_step();
        }
        for n in 0..self.off.len() {
            self.step(&Late::Step(Op::Come(n)));
            self.step(&Late::Asleep(n, false));
        }
        self.run.catch_up();
        self.run.check(0);
        self.run.drain();
    }
}

fn late_or_not_all_is_as_some_order_has_it(version: GicVersion, emulated: bool) {
    let streams = (guest(version, emulated), prop::collection::vec(late(), 1..400));
    proptest!(config(24), |((mut guest, steps) in streams)| {
        guest.setup.vcpus = guest.setup.vcpus.max(2);
        let mut run = LateRun::new(guest);
        for step in &steps {
            run.step(step);
        }
        run.drain();
    });
}

#[test]
fn gicv3_on_ich() {
    late_or_not_all_is_as_some_order_has_it(GicVersion::V3, false);
}

#[test]
fn gicv3_emulated() {
    late_or_not_all_is_as_some_order_has_it(GicVersion::V3, true);
}

#[test]
fn gicv2_on_gich() {
    late_or_not_all_is_as_some_order_has_it(GicVersion::V2, false);
}

#[test]
fn gicv2_emulated() {
    late_or_not_all_is_as_some_order_has_it(GicVersion::V2, true);
}
