//! Scripted machines of several CPUs: the hunt for a wake-up that is lost.
//!
//! Guests do anything, on CPUs that go on in any order. In the end every vCPU has handled every interrupt that was sent
//! to it, in time, nothing of anybody's registers was lost or another's (the play itself looks), and all loops end.

use super::play::{Op, Play};
use crate::vm::Reason;
use Op::*;
use proptest::collection::vec;
use proptest::prelude::*;
use std::vec::Vec;

/// A step, with numbers of vCPUs that are brought into range later.
fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => (0..4usize, 1..3u8).prop_map(|(to, id)| Sgi(to, id)),
        2 => (0..400u64).prop_map(SleepVirtual),
        2 => (0..400u64).prop_map(SleepPhysical),
        1 => (0..300u64).prop_map(Virtual),
        1 => (0..300u64).prop_map(Physical),
        1 => (0..300u64).prop_map(Spin),
        1 => Just(Wfe),
        1 => Just(Fp),
        1 => Just(Off),
        1 => (0..4usize).prop_map(On),
        1 => (0..4usize).prop_map(Active),
    ]
}

/// One VM's vCPUs. The first never goes off, and sees to it that all come to their ends.
fn vm() -> impl Strategy<Value = Vec<Vec<Op>>> {
    vec(vec(op(), 0..12), 1..4).prop_map(|mut vcpus| {
        let count = vcpus.len();
        for (me, ops) in vcpus.iter_mut().enumerate() {
            ops.retain(|op| me != 0 || *op != Off);
            for op in ops.iter_mut() {
                if let Sgi(to, _) | On(to) | Active(to) = op {
                    *to %= count;
                }
            }
            ops.extend(if me == 0 { [Gather, SystemOff] } else { [Finished, Wfi] });
        }
        vcpus
    })
}

/// One VM's vCPUs, of which the first ends it in the middle of whatever the others do.
fn short_lived() -> impl Strategy<Value = Vec<Vec<Op>>> {
    vm().prop_map(|mut vcpus| {
        for (me, ops) in vcpus.iter_mut().enumerate() {
            ops.retain(|op| ![Gather, Finished, SystemOff].contains(op));
            ops.extend(if me == 0 { [SystemOff, Off] } else { [Spin(500), Wfi] });
        }
        vcpus
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_lost(cpus in 2..4usize, vms in vec(vm(), 1..3), all_on: bool, seed: u64) {
        let play = Play { all_on, ..Play::new(cpus, vms).seed(seed) };
        let played = play.run();
        if let Some(failure) = played.failure() {
            return Err(TestCaseError::fail(format!("{failure}\n{}", played.story())));
        }
        let played = played.sound();
        prop_assert!(played.vms.iter().all(|vm| vm.stopped() == Some(Reason::PoweredOff)));
    }

    #[test]
    fn whatever_they_do_they_end(cpus in 2..4usize, vms in vec(short_lived(), 1..3), all_on: bool, seed: u64) {
        let played = Play { all_on, ..Play::new(cpus, vms).seed(seed) }.run();
        if let Some(failure) = played.failure() {
            return Err(TestCaseError::fail(format!("{failure}\n{}", played.story())));
        }
        let played = played.sound();
        prop_assert!(played.vms.iter().all(|vm| vm.stopped() == Some(Reason::PoweredOff)));
    }
}
