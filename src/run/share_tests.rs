//! Scripted machines of several CPUs: who has which CPU, and for how long.

use super::play::{Op, Play, Played, What, every_order};
use crate::sched::{Account, Share, TURN_US};
use crate::vcpu::VmId;
use Op::*;
use std::vec;
use std::vec::Vec;

/// The CPUs that a VM was on.
fn places(played: &Played, vm: usize) -> Vec<usize> {
    let mut cpus: Vec<usize> = played
        .log()
        .iter()
        .filter(|told| told.vcpu.is_some_and(|it| it.0 == vm))
        .map(|told| told.cpu)
        .collect();
    cpus.sort_unstable();
    cpus.dedup();
    cpus
}

fn spins(count: usize, ticks: u64) -> Vec<Vec<Vec<Op>>> {
    vec![vec![vec![Spin(ticks), SystemOff]]; count]
}

#[test]
fn an_idle_cpu_takes_what_may_run_there_and_nothing_else() {
    for seed in 0..50 {
        let played = Play::new(2, spins(3, 30_000)).with(|vcpu| vcpu.affinity = 1).seed(seed).run().sound();
        assert!((0..3).all(|vm| places(&played, vm) == [0]));
        assert!(played.now() >= 90_000);

        let mixed = Play::new(2, spins(4, 30_000)).with(|vcpu| {
            vcpu.affinity = if vcpu.vm.0 == 2 { 3 } else { 1 };
        });
        let played = mixed.seed(seed).run().sound();
        assert!([0, 1, 3].iter().all(|vm| places(&played, *vm) == [0]));
        assert!(places(&played, 2).contains(&1));

        let played = Play::new(3, spins(3, 30_000)).seed(seed).run().sound();
        assert!(played.now() < 32_000, "all at once: {}", played.now());
    }
}

/// One CPU comes to its wait while the other gets two to run. The play itself sees whether one is left in a queue.
#[test]
fn a_cpu_that_begins_to_wait_takes_what_comes_meanwhile() {
    for (first, second) in [(1, 2), (2, 1)] {
        let play = || {
            let sender =
                vec![Spin(100), Sgi(first, 1), Sgi(second, 1), SleepVirtual(2_000), Gather, SystemOff];
            let sleeper = vec![Await(1, 1), Spin(500), Finished];
            Play::new(2, vec![vec![sender, sleeper.clone(), sleeper]]).within(100..300)
        };
        let orders = every_order(2, 1_000, play, |played| assert_eq!(played.lives(0, 0), 1));
        assert!(orders > 100, "{orders} orders");
    }
}

#[test]
fn a_dedicated_cpu_has_no_tick() {
    // Its own timer is hardware's; interrupts reach it; the other CPU is full.
    for seed in 0..50 {
        let mut vms = spins(3, 30_000);
        vms[0] = vec![
            vec![Spin(10_000), SleepVirtual(300), Await(1, 1), Spin(40_000), SystemOff],
            vec![Spin(8_000), Sgi(0, 1), Wfi, Wfi],
        ];
        let play = Play::new(2, vms).with(|vcpu| {
            vcpu.dedicated = (vcpu.vm.0, vcpu.id.0) == (0, 0);
            vcpu.affinity = if vcpu.dedicated { 1 } else { 2 };
        });
        let played = play.seed(seed).run().sound();
        let armed = |told: &&super::play::Told| told.cpu == 0 && matches!(told.what, What::Armed(Some(_)));
        assert_eq!(played.log().iter().find(armed), None);
        assert!(played.log().iter().all(|told| told.cpu != 0 || told.vcpu.is_none_or(|it| it == (0, 0))));
        // It leaves its CPU at its end only.
        assert_eq!(played.log().iter().filter(|told| told.cpu == 0 && told.what == What::Put).count(), 1);
    }
}

#[test]
fn weights_hold() {
    for seed in 0..4 {
        let mut vms = spins(3, 4_000_000);
        vms[1] = vec![vec![Spin(2_000_000), Note, SystemOff]];
        let play = Play::new(1, vms).with(|vcpu| {
            let weight = if vcpu.vm == VmId(1) { 512 } else { 256 };
            vcpu.account = Account::new(Share { weight, cap: None });
        });
        let played = play.seed(seed).run().sound();
        for vm in [0, 2] {
            let ran = played.results(1, 0)[vm];
            assert!((980_000..1_020_000).contains(&ran), "{ran}");
        }
    }
}

#[test]
fn slices_end_while_somebody_waits_and_no_tick_comes_else() {
    // A tick of the board is a microsecond. Each of the two has so many turns.
    const TURNS: u64 = 10;
    let played = Play::new(1, spins(2, TURNS * TURN_US)).run().sound();
    let puts = played.log().iter().filter(|told| told.what == What::Put).count() as u64;
    assert!((2 * TURNS - 2..=2 * TURNS + 2).contains(&puts), "turns of {TURN_US}: {puts}");
    let played = Play::new(1, spins(1, TURNS * TURN_US)).run().sound();
    assert!(played.log().iter().all(|told| !matches!(told.what, What::Armed(Some(_)))));
}

#[test]
fn a_cap_stops_one_and_a_timer_lets_it_go() {
    let capped = |vcpu: &mut crate::vcpu::Vcpu| {
        let cap = (vcpu.vm == VmId(0)).then_some(25);
        vcpu.account = Account::new(Share { weight: 256, cap });
    };
    for seed in 0..4 {
        // Alone, and with another one that has what it leaves.
        let played = Play::new(1, spins(1, 500_000)).with(capped).seed(seed).run().sound();
        assert!((1_940_000..2_040_000).contains(&played.now()), "{}", played.now());
        let mut vms = spins(2, 500_000);
        vms[0] = vec![vec![Spin(500_000), Note, SystemOff]];
        vms[1] = vec![vec![Spin(9_000_000), SystemOff]];
        let played = Play::new(1, vms).with(capped).seed(seed).run().sound();
        let other = played.results(0, 0)[1];
        assert!((1_440_000..1_560_000).contains(&other), "{other}");
    }
}

#[test]
fn wfe_traps_exactly_while_somebody_waits_and_gives_way() {
    // The second wakes at 2,000, has the CPU while the first waits, and lets it go by a WFE.
    let first = vec![Spin(10), Wfe, Wfe, Spin(3_000), Wfe, SleepVirtual(50), Spin(100), Wfe, SystemOff];
    let second = vec![SleepVirtual(2_000), Spin(100), Wfe, Spin(100), SystemOff];
    let played = Play::new(1, vec![vec![first], vec![second]]).run().sound();
    let told: Vec<_> = played
        .log()
        .iter()
        .filter(|told| matches!(told.what, What::Twe(_) | What::Put) || told.what == What::Did(Wfe))
        .map(|told| (told.vcpu.unwrap().0, told.what.clone()))
        .collect();
    let twe = What::Twe;
    let wfe = || What::Did(Wfe);
    let expected = [
        // Both are there: the first gives way at its WFE, and the second sleeps.
        vec![(0, twe(true)), (0, wfe()), (0, What::Put), (1, twe(true)), (1, What::Put)],
        // Alone, WFE is the guest's own; it stops as the second wakes, which gives way by WFE.
        vec![(0, twe(false)), (0, wfe()), (0, What::Put), (1, twe(true)), (1, wfe()), (1, What::Put)],
        vec![(0, twe(true)), (0, wfe()), (0, What::Put), (1, twe(true)), (1, What::Put)],
        vec![(0, twe(false)), (0, wfe()), (0, What::Put)],
    ];
    assert_eq!(told, expected.concat(), "{}", played.story());
}
