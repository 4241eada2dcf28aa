//! Scripted machines of several CPUs: real loops, in orders that the test chooses.

use super::play::{Op, Order, Play, Played, Told, What, every_order};
use crate::vm::Reason;
use Op::*;
use std::vec;
use std::vec::Vec;

const OFF: Option<Reason> = Some(Reason::PoweredOff);

/// In every order with one needless change of turn, and in some by chance.
fn in_many_orders(play: impl Fn() -> Play, check: impl Fn(&Played)) {
    let orders = every_order(1, 1500, &play, &check);
    assert!(orders > 20, "{orders} orders");
    for seed in 0..100 {
        let played = play().seed(seed).run().sound();
        check(&played);
    }
}

/// Who handled that interrupt, and on which CPUs.
fn handlers(played: &Played, id: u8) -> Vec<((usize, usize), usize)> {
    let handled = played.log().iter().filter(|told| told.what == What::Handled(id));
    handled.map(|told| (told.vcpu.unwrap(), told.cpu)).collect()
}

#[test]
fn an_interrupt_wakes_one_that_is_blocked_on_another_cpu() {
    let play = || Play::new(2, vec![vec![vec![Await(1, 1), SystemOff], vec![Sgi(0, 1), Wfi, Wfi]]]);
    in_many_orders(play, |played| {
        assert_eq!(played.vms[0].stopped(), OFF);
        assert_eq!(handlers(played, 1).len(), 1);
    });
}

/// Random seeds over everything that a guest can do.
#[test]
fn nothing_is_lost_by_chance() {
    for seed in 0..300u64 {
        let mut x = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut next = |n: u64| {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            x % n
        };
        let cpus = 2 + next(2) as usize;
        let mut vms = Vec::new();
        for _ in 0..1 + next(2) {
            let count = 1 + next(3) as usize;
            let mut vcpus = Vec::new();
            for me in 0..count {
                let mut ops = Vec::new();
                for _ in 0..next(12) {
                    ops.push(match next(12) {
                        0 | 1 => Sgi(next(count as u64) as usize, 1 + next(2) as u8),
                        2 => SleepVirtual(next(400)),
                        3 => SleepPhysical(next(400)),
                        4 => Spin(next(300)),
                        5 => Wfe,
                        6 if me != 0 => Off,
                        7 => On(next(count as u64) as usize),
                        8 => Fp,
                        9 => Active(next(count as u64) as usize),
                        10 => Virtual(next(300)),
                        _ => Physical(next(300)),
                    });
                }
                ops.push(Finished);
                if me == 0 {
                    ops.pop();
                    ops.extend([Gather, SystemOff]);
                }
                vcpus.push(ops);
            }
            vms.push(vcpus);
        }
        let text = format!("{vms:?}");
        let played = Play::new(cpus, vms).seed(seed).run();
        if let Some(failure) = played.failure() {
            panic!("seed {seed}: {failure}\n{text}\n{}", played.story());
        }
        let played = played.sound();
        assert!(played.vms.iter().all(|vm| vm.stopped() == OFF));
    }
}
