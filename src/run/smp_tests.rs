//! Scripted machines of several CPUs: vCPUs that meet, move, start and stop.

use super::play::{Op, Play, Played, Told, What, every_order};
use crate::psci::status::{ALREADY_ON, SUCCESS};
use crate::vcpu::{VcpuId, VmId};
use crate::vm::Reason;
use Op::*;
use std::vec;
use std::vec::Vec;

const OFF: Option<Reason> = Some(Reason::PoweredOff);

/// In orders with at most two needless changes of turn, and in some by chance.
fn in_many_orders(play: impl Fn() -> Play, check: impl Fn(&Played)) {
    let orders = every_order(2, 150, &play, &check);
    assert!(orders > 20, "{orders} orders");
    for seed in 0..40 {
        check(&play().seed(seed).run().sound());
    }
}

/// When that interrupt was handled, and on which CPUs.
fn handled(played: &Played, id: u8) -> Vec<(u64, usize)> {
    let handled = played.log().iter().filter(|told| told.what == What::Handled(id));
    handled.map(|told| (told.at, told.cpu)).collect()
}

/// When somebody did that.
fn did(played: &Played, op: &Op) -> Vec<u64> {
    played.log().iter().filter(|told| told.what == What::Did(op.clone())).map(|told| told.at).collect()
}

#[test]
fn an_interrupt_wakes_one_that_is_blocked_on_another_cpu() {
    let play = || Play::new(2, vec![vec![vec![Await(1, 1), SystemOff], vec![Sgi(0, 1), Wfi, Wfi]]]);
    in_many_orders(play, |played| {
        assert_eq!(played.vms[0].stopped(), OFF);
        assert_eq!(handled(played, 1).len(), 1);
    });
}

#[test]
fn interrupts_reach_one_that_runs_at_once() {
    let sender = vec![Until(1), Sgi(1, 1), Spin(300), Sgi(1, 2), Spin(300), SystemOff];
    let play = || Play::new(2, vec![vec![sender.clone(), vec![Raise(1), Spin(1_000_000)]]]);
    in_many_orders(play, |played| {
        for id in [1, 2] {
            let (sent, handled) = (did(played, &Sgi(1, id))[0], handled(played, id)[0].0);
            assert!(handled <= sent + 5, "sent at {sent}, handled at {handled}");
        }
    });
}

#[test]
fn one_that_moves_has_everything_with_it() {
    // Interrupts in list registers, one of them the timer's in a hardware entry, FP and EL1 registers: as the first CPU
    // is wanted by two and the second becomes free.
    let traveller = [
        vec![Fp, Mask(true), Sgi(0, 1), Virtual(300), Physical(600), Spin(20_000), Fp, Mask(false)],
        vec![Await(1, 1), Await(27, 1), Await(30, 1), SleepVirtual(50), Fp, SystemOff],
    ]
    .concat();
    let others = || [vec![Spin(6_000), SystemOff], vec![Fp, Spin(20_000), Fp, SystemOff]];
    let play = || {
        let [short, long] = others();
        Play::new(2, vec![vec![traveller.clone()], vec![short], vec![long]])
    };
    in_many_orders(play, |played| {
        assert!(played.log().iter().any(|told| told.what == What::Moved), "{}", played.story());
        assert_eq!(handled(played, 27).len(), 2);
    });
}

#[test]
fn one_that_is_blocked_goes_on_where_there_is_room() {
    let sleeper = vec![Fp, SleepVirtual(2_000), Fp, SleepPhysical(2_000), Fp, SystemOff];
    let play = || {
        let play = Play::new(2, vec![vec![sleeper.clone()], vec![vec![SystemOff]], vec![vec![Spin(50_000)]]]);
        play.with(|vcpu| {
            if vcpu.vm == VmId(2) {
                vcpu.affinity = 1;
            }
        })
    };
    in_many_orders(play, |played| {
        let all = [handled(played, 27), handled(played, 30)].concat();
        assert!(all.len() == 2 && all.iter().all(|(_, cpu)| *cpu == 1), "{all:?}");
    });
}

#[test]
fn what_is_active_is_told_by_one_that_runs() {
    let asked = vec![Mask(true), Sgi(1, 1), Raise(1), Spin(90_000)];
    let play = || Play::new(2, vec![vec![vec![Until(1), Active(1), SystemOff], asked.clone()]]);
    in_many_orders(play, |played| {
        assert_eq!(played.results(0, 0), [0]);
        assert!(played.now() < 1_000, "the one that was asked need not stop for it");
        assert!(did(played, &Active(1)).len() >= 2, "it was not there at once");
    });
}

/// It keeps what it has listed while it waits for its turn: whoever asks has the answer once it has come.
#[test]
fn what_is_active_is_told_by_one_that_is_queued() {
    let asked = vec![Mask(true), Sgi(1, 1), Raise(1), Spin(200_000)];
    let play = || Play::new(1, vec![vec![vec![Until(1), Active(1), SystemOff], asked.clone()]]);
    for seed in 0..20 {
        let played = play().seed(seed).run().sound();
        assert_eq!(played.results(0, 0), [0]);
        assert!(did(&played, &Active(1)).len() >= 2, "it was not there at once\n{}", played.story());
        assert!(played.ran(0, 1) < 100_000, "it ended what it did first");
    }
}

/// The answer takes in what came for the one that is asked, which waits on its CPU: it must not go on waiting.
#[test]
fn one_that_waits_is_asked_and_woken() {
    let play = || {
        let asking = vec![Spin(500), Sgi(1, 1), Active(1), Await(2, 1), SystemOff];
        Play::new(2, vec![vec![asking, vec![Await(1, 1), Sgi(0, 2), Wfi, Wfi]]])
    };
    in_many_orders(play, |played| assert_eq!(played.vms[0].stopped(), OFF));
}

/// The same, of one that waits with its registers still in its CPU. Two of its interrupts are on their way when it is
/// asked, and who asks does not stop between its attempts.
#[test]
fn one_that_waits_is_asked_twice_and_woken() {
    let asking = vec![
        Fp,
        On(0),
        Fp,
        Physical(115),
        Spin(237),
        Sgi(1, 1),
        Sgi(1, 1),
        Spin(92),
        Sgi(1, 1),
        Physical(155),
        ActiveAtOnce(1),
        Gather,
        SystemOff,
    ];
    let play = || Play::new(2, vec![vec![asking.clone(), vec![Fp, Finished]]]);
    let played = play().seed(938).run().sound();
    assert_eq!(played.vms[0].stopped(), OFF);
    for seed in 0..100 {
        assert_eq!(play().seed(seed).run().sound().vms[0].stopped(), OFF);
    }
}

#[test]
fn one_is_turned_on_once() {
    let first = vec![On(1), On(1), Await(1, 1), On(1), On(1), On(1), Spin(50), On(1), Gather, SystemOff];
    let play = || Play::new(2, vec![vec![first.clone(), vec![Spin(20), Sgi(0, 1), Off, Finished]]]).one_on();
    in_many_orders(play, |played| {
        let results = played.results(0, 0);
        assert_eq!((results[0], results[1]), (SUCCESS, ALREADY_ON));
        assert!(results.iter().all(|result| [SUCCESS, ALREADY_ON].contains(result)), "{results:x?}");
        let started = results.iter().filter(|result| **result == SUCCESS).count();
        assert_eq!((started, played.lives(0, 1)), (2, 2));
    });
}

#[test]
fn two_turn_the_same_one_on() {
    let third = vec![Until(1), On(1), On(1), Finished];
    let play = || {
        let first = vec![On(2), Raise(1), On(1), Gather, SystemOff];
        Play::new(3, vec![vec![first, vec![Fp, Finished], third.clone()]]).one_on()
    };
    in_many_orders(play, |played| {
        let results = [&played.results(0, 0)[1..2], played.results(0, 2)].concat();
        assert_eq!(results.iter().filter(|result| **result == SUCCESS).count(), 1, "{results:x?}");
        assert_eq!(played.lives(0, 1), 1);
    });
}

#[test]
fn a_vm_stops_wherever_its_vcpus_are_and_others_go_on() {
    // On two CPUs: one of the VM ends it, one runs, one waits, one is queued, one is off.
    for (end, reason) in [
        (SystemOff, Reason::PoweredOff),
        (Reset, Reason::Reset),
        (Wrong, Reason::Unexpected { esr: 0x3f << 26 }),
    ] {
        let play = || {
            let spins = vec![Spin(1_000_000)];
            let all = vec![vec![Spin(700), end.clone()], spins.clone(), vec![Wfi, Wfi], spins, vec![Off]];
            Play::new(2, vec![all, vec![vec![Fp, Spin(3_000), Fp, SleepVirtual(200), Fp, SystemOff]]])
        };
        in_many_orders(play, |played| {
            assert_eq!(played.vms[0].stopped(), Some(reason.clone()));
            assert_eq!(played.vms[1].stopped(), OFF);
            assert!(played.ran(1, 0) >= 3_000);
            assert!((0..5).all(|n| played.vms[0].slot(VcpuId(n)).is_some_and(|slot| slot.is_off())));
        });
    }
}

#[test]
fn a_vm_stops_while_one_of_it_is_turned_on() {
    let play =
        || Play::new(2, vec![vec![vec![On(2), Spin(20), SystemOff], vec![On(2), Wfi], vec![Wfi, Wfi]]]);
    let play = || {
        let mut play = play();
        play.vms[0][2] = vec![Off, Off, Wfi, Wfi];
        play
    };
    in_many_orders(play, |played| assert_eq!(played.vms[0].stopped(), OFF));
}

#[test]
fn a_vm_whose_vcpus_all_go_off_has_ended() {
    let play = || Play::new(3, vec![vec![vec![Off], vec![Sgi(0, 1), Off], vec![Spin(10), Off]]]);
    in_many_orders(play, |played| assert_eq!(played.vms[0].stopped(), Some(Reason::AllOff)));
}

/// One that waits is put aside for the other one of its CPU, which was woken before, while an interrupt for it comes.
#[test]
fn one_is_woken_while_it_is_put_aside() {
    for (first, second) in [(1, 2), (2, 1)] {
        let play = || {
            let sender = vec![Spin(100), Sgi(first, 1), Sgi(second, 1), Spin(500), Gather, SystemOff];
            let sleeper = vec![Await(1, 1), Finished];
            let play = Play::new(2, vec![vec![sender, sleeper.clone(), sleeper]]).within(100..300);
            play.with(|vcpu| vcpu.affinity = if vcpu.id == VcpuId(0) { 2 } else { 1 })
        };
        let orders = every_order(2, 2_000, play, |played| assert_eq!(handled(played, 1).len(), 2));
        assert!(orders > 100, "{orders} orders");
    }
}

/// The last of its VM to hear of the end turns another one on, which has heard of it and is off.
#[test]
fn one_that_has_stopped_does_not_begin_again() {
    for late in [198, 199, 200] {
        let play = || {
            let first = vec![Spin(200), SystemOff];
            let play = Play::new(3, vec![vec![first, vec![Spin(90_000)], vec![Spin(late), On(1), Wfi]]]);
            play.within(200..300).with(|vcpu| vcpu.affinity = 1 << vcpu.id.0)
        };
        let turned_on = std::cell::Cell::new(0);
        every_order(2, 700, play, |played| {
            assert_eq!((played.vms[0].stopped(), played.lives(0, 1)), (OFF, 1));
            turned_on.set(turned_on.get() + did(played, &On(1)).len());
        });
        assert!(turned_on.get() > 0, "it had always heard of it");
    }
}

#[test]
fn an_old_timer_wakes_nobody() {
    // The first waits on CPU 0 until 5,000, is woken there and goes on to CPU 1, where it waits until much later.
    let first = vec![Virtual(5_000), Await(1, 1), Virtual(20_000), Await(27, 1), SystemOff];
    let play = || {
        let play = Play::new(
            3,
            vec![
                vec![first.clone(), vec![SleepVirtual(1_000), Sgi(0, 1), Wfi, Wfi]],
                vec![vec![SleepVirtual(3_000), Spin(90_000)]],
                vec![vec![Spin(90_000)]],
            ],
        );
        play.with(|vcpu| {
            vcpu.affinity = match (vcpu.vm.0, vcpu.id.0) {
                (0, 0) => 3,
                (0, _) => 4,
                (1, _) => 2,
                _ => 1,
            };
        })
    };
    let both_parked = std::cell::Cell::new(0);
    let check = |played: &Played| {
        assert_eq!(handled(played, 27).len(), 3);
        let last = handled(played, 27)[2].0;
        assert!((21_000..22_000).contains(&last), "{last}");
        // Once to wait, and once after its timer.
        let waits = |told: &&Told| told.vcpu == Some((0, 0)) && told.what == What::Did(Await(27, 1));
        assert_eq!(played.log().iter().filter(waits).count(), 2, "{}", played.story());
        let home = |told: &&Told| told.what == What::Put && told.vcpu == Some((0, 0));
        let homes: Vec<usize> = played.log().iter().filter(home).map(|told| told.cpu).collect();
        if homes.starts_with(&[0, 1]) {
            both_parked.set(both_parked.get() + 1);
        }
    };
    in_many_orders(play, check);
    assert!(both_parked.get() > 20, "it did not wait on both");
}

#[test]
fn a_system_error_ends_the_vm_that_leaves() {
    for how in [vec![Spin(60_000)], vec![Wfi, Wfi], vec![Off]] {
        let breaks = [vec![Spin(100), Breaks], how].concat();
        let play = || {
            let vms = vec![vec![breaks.clone(), vec![Wfi, Wfi]], vec![vec![Spin(9_000), Fp, SystemOff]]];
            Play::new(1, vms)
        };
        for seed in 0..20 {
            let played = play().seed(seed).run().sound();
            assert_eq!(played.vms[0].stopped(), Some(Reason::SystemError));
            assert_eq!(played.vms[1].stopped(), OFF);
        }
        let orders = || {
            let mut play = play();
            play.cpus = 2;
            play.vms[1].push(vec![Spin(9_000), Wfi]);
            play
        };
        in_many_orders(orders, |played| assert_eq!(played.vms[1].stopped(), OFF));
    }
}
