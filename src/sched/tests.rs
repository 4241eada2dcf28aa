//! What the scheduler promises, in virtual time.

use super::simulation::*;
use super::*;
use crate::machine::Ticks;
use crate::vcpu::CpuId;
use proptest::prelude::*;

/// What part of the time each had, against what it should have had: the largest relative error.
fn error(ran: &[u64], due: &[f64]) -> f64 {
    ran.iter().zip(due).map(|(ran, due)| (*ran as f64 / due - 1.0).abs()).fold(0.0, f64::max)
}

/// What each should have had of `ticks` by its weight.
fn by_weight(weights: &[u16], ticks: u64) -> Vec<f64> {
    let sum: f64 = weights.iter().map(|weight| f64::from(*weight)).sum();
    weights.iter().map(|weight| ticks as f64 * f64::from(*weight) / sum).collect()
}

#[test]
fn two_weights_share_as_they_say_with_a_third_that_sleeps() {
    let mut cpu = Simulation::started(&[(256, None), (512, None), (256, None)], 60);
    for _ in 0..3000 {
        // The third works for 50 us of each millisecond.
        cpu.run(MS);
        cpu.wake(2);
        for _ in 0..1000 {
            if cpu.runs() == Some(2) {
                break;
            }
            cpu.run(MS / 100);
        }
        cpu.run(MS / 20);
        cpu.block();
    }
    let hogs = cpu.ran[0] + cpu.ran[1];
    let off = error(&cpu.ran[..2], &by_weight(&[256, 512], hogs));
    assert!(off < 0.02, "{off} {:?}", cpu.ran);
    cpu.settle().unwrap();
}

#[test]
fn who_is_alone_is_left_alone() {
    let mut cpu = Simulation::started(&[(256, None)], 60);
    cpu.run(10 * HZ);
    assert_eq!(cpu.queue.slice_end(), None);
    assert_eq!(cpu.switches, 1);
    assert_eq!(cpu.ran[0], 10 * HZ);
    cpu.block();
    cpu.run(HZ);
    cpu.resume(0);
    cpu.run(HZ);
    assert_eq!((cpu.runs(), cpu.switches, cpu.queue.slice_end()), (Some(0), 1, None));
    // It paid for the switch, too.
    assert_eq!(cpu.account(0).unwrap().ran(), Ticks(10 * HZ + 60));
}

#[test]
fn who_wakes_runs_soon_but_leaves_the_other_its_moment() {
    let mut cpu = Simulation::started(&[(256, None), (256, None)], 0);
    cpu.run(MS);
    let (first, second) = (cpu.runs().unwrap(), 1 - cpu.runs().unwrap());
    // The first blocks, the second runs, the first wakes: it has to wait for the granularity only.
    cpu.block();
    assert_eq!(cpu.runs(), Some(second));
    cpu.run(MS / 10);
    cpu.wake(first);
    cpu.run(MS / 10);
    assert_eq!(cpu.runs(), Some(second));
    cpu.run(MS * GRANULARITY_US / 1000 - MS / 5);
    assert_eq!(cpu.runs(), Some(first));
    cpu.block();
    // One that has run long enough is preempted at once.
    cpu.run(MS);
    cpu.wake(first);
    assert_eq!(cpu.runs(), Some(first));
}

#[test]
fn who_yields_goes_behind_the_next() {
    let mut cpu = Simulation::started(&[(256, None); 3], 0);
    let mut order = vec![];
    for _ in 0..4 {
        order.push(cpu.runs().unwrap());
        cpu.run(MS / 10);
        cpu.give_way(Arrival::Yielded);
    }
    assert_eq!(order, [0, 1, 0, 1]);
    // With nobody else left in its round, it lets the next one begin.
    let mut cpu = Simulation::started(&[(256, None); 2], 0);
    cpu.run(6 * MS);
    assert_eq!(cpu.runs(), Some(1));
    cpu.give_way(Arrival::Yielded);
    assert_eq!(cpu.runs(), Some(0));
}

#[test]
fn two_that_only_yield_do_not_keep_a_third_waiting() {
    let mut cpu = Simulation::started(&[(256, None); 3], MS / 50);
    for _ in 0..20_000 {
        if cpu.runs() == Some(2) {
            cpu.run(MS);
        } else {
            cpu.give_way(Arrival::Yielded);
        }
    }
    assert!(cpu.ran[2] > 0);
    cpu.settle().unwrap();
}

#[test]
fn a_cap_of_a_quarter_is_a_quarter() {
    let mut cpu = Simulation::started(&[(256, Some(25))], 60);
    cpu.run(10 * HZ);
    assert!(error(&cpu.ran, &[2.5 * HZ as f64]) < 0.02, "{:?}", cpu.ran);
    // Forty milliseconds a period: 250 of them.
    assert!((240..=260).contains(&cpu.switches), "{} switches", cpu.switches);
}

#[test]
fn who_goes_off_and_on_again_has_no_more_than_its_cap() {
    let mut queue = RunQueue::new(CpuId(0), 1, HZ);
    let (mut parked, mut ran, mut now) = (Some(Fake::new(0, 256, Some(25))), 0, MS);
    while now < 10 * HZ {
        if let Some(vcpu) = parked.take() {
            queue.push(vcpu, Arrival::Started, Ticks(now));
        }
        queue.release(Ticks(now));
        match queue.pop(Ticks(now)) {
            Some(mut vcpu) => {
                // Off just before its cap ends.
                now += 5 * MS;
                queue.leave(&mut vcpu.account, Ticks(now));
                ran += 5 * MS;
                parked = Some(vcpu);
            }
            None => now += MS,
        }
    }
    assert!(ran <= 10 * HZ / 4 + 100 * MS, "{ran} of {now}");
}

#[test]
fn throttled_time_is_stolen_time_and_not_a_wait_of_others() {
    let mut cpu = Simulation::started(&[(256, Some(10)), (256, None)], 0);
    cpu.run(10 * HZ);
    cpu.wake(0);
    while cpu.runs() != Some(0) {
        cpu.run(MS / 10);
    }
    let stolen = cpu.account(0).unwrap().stolen().0 as f64 / HZ as f64;
    assert!((8.8..9.2).contains(&stolen), "{stolen} s stolen");
    assert!(error(&cpu.ran, &[HZ as f64, 9.0 * HZ as f64]) < 0.02, "{:?}", cpu.ran);
    cpu.settle().unwrap();
}

#[test]
fn only_those_that_may_are_stolen_and_the_books_go_with_them() {
    let mut queues = [0, 1].map(|n| RunQueue::new(CpuId(n), 40, HZ));
    for id in 0..40 {
        let mut vcpu = Fake::new(id, 256, None);
        vcpu.cpus = if id == 2 { 0b10 } else { 0b01 };
        queues[0].push(vcpu, Arrival::Started, Ticks(0));
    }
    let stolen = queues[0].steal(CpuId(1)).unwrap();
    assert_eq!(stolen.id, 2);
    assert!(queues[0].steal(CpuId(1)).is_none());
    assert_eq!(queues[0].waiting(), 39);
    assert!(queues[1].push(stolen, Arrival::Moved, Ticks(700)));
    let stolen = queues[1].pop(Ticks(1000)).unwrap();
    assert_eq!(stolen.account.stolen(), Ticks(1000));
    // It looks at a few only.
    let mut last = Fake::new(40, 256, None);
    last.cpus = 0b11;
    queues[0].push(last, Arrival::Started, Ticks(0));
    assert!(queues[0].steal(CpuId(1)).is_none());
}

#[test]
fn clocks_that_differ_and_the_end_of_time_do_no_harm() {
    let mut queue = RunQueue::new(CpuId(0), 3, u64::MAX);
    for (n, cap) in [None, Some(1), Some(0)].into_iter().enumerate() {
        queue.push(Fake::new(n, 0, cap), Arrival::Woken, Ticks(u64::MAX - n as u64));
    }
    for now in [u64::MAX, 0, 5, u64::MAX, 3] {
        let Some(mut vcpu) = queue.pop(Ticks(now)) else { continue };
        let _ = (queue.slice_end(), queue.should_preempt(Ticks(now)), queue.next_release());
        queue.leave(&mut vcpu.account, Ticks(now / 2));
        queue.push(vcpu, Arrival::Expired, Ticks(now));
        queue.release(Ticks(now));
    }
}

/// The worst that others can do: nearly all come behind the one that waits in one round, stay out of the way at its
/// end, and come before it in the next.
#[test]
fn what_is_promised_is_about_what_can_happen() {
    const HEAVY: usize = 40;
    // The first and the last of a round, and the one that waits.
    const FIRST: usize = HEAVY;
    const WAITS: usize = HEAVY + 1;
    const LAST: usize = HEAVY + 2;
    let mut shares = vec![(6400, None); HEAVY];
    shares.extend([(400, None), (100, None), (400, None)]);
    let mut cpu = Simulation::new(&shares, 0);
    [FIRST, WAITS, LAST].into_iter().for_each(|n| cpu.wake(n));
    let (mut turns, mut before, mut called) = (0, None, None);
    for _ in 0..40_000 {
        cpu.run(MS / 50);
        let runs = cpu.runs();
        if runs == Some(WAITS) && before != runs {
            turns += 1;
        }
        before = runs;
        match runs {
            // A little is left of its turn: it blocks, or it would be a member of the next round.
            Some(id) if id < HEAVY && cpu.queue.turn_ends().saturating_sub(cpu.now) < MS / 8 => cpu.block(),
            Some(FIRST | LAST) if turns % 2 == 0 && called != Some((turns, runs)) => {
                called = Some((turns, runs));
                (0..HEAVY).for_each(|n| cpu.wake(n));
            }
            _ => {}
        }
    }
    cpu.settle().unwrap();
    assert!(cpu.worst > 0.33, "nobody waited longer than {} of what is promised", cpu.worst);
}

/// What happens on a CPU, and how long after what was before, in microseconds.
#[derive(Clone, Copy, Debug)]
enum Event {
    Wake(usize),
    Block,
    Resume(usize),
    Yield,
    Nothing,
}

fn events(most: usize) -> impl Strategy<Value = Vec<(Event, u64)>> {
    let event = prop_oneof![
        4 => any::<usize>().prop_map(Event::Wake),
        2 => Just(Event::Block),
        1 => any::<usize>().prop_map(Event::Resume),
        2 => Just(Event::Yield),
        1 => Just(Event::Nothing),
    ];
    let pause = prop_oneof![0u64..100, 0u64..2_000, 0u64..12_000];
    prop::collection::vec((event, pause), 0..most)
}

fn play(cpu: &mut Simulation, vcpus: usize, events: &[(Event, u64)]) {
    for (event, pause) in events {
        match event {
            Event::Wake(n) => cpu.wake(n % vcpus),
            Event::Block => cpu.block(),
            Event::Resume(n) => cpu.resume(n % vcpus),
            Event::Yield => cpu.give_way(Arrival::Yielded),
            Event::Nothing => {}
        }
        cpu.run(pause * MS / 1000);
    }
}

fn capped() -> impl Strategy<Value = (u16, Option<u8>)> {
    (1u16.., prop::option::weighted(0.3, 1u8..=100))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Those who always want to run share by their weights.
    #[test]
    fn weights_are_kept(weights in prop::collection::vec(100u16..=6400, 2..=6)) {
        let shares: Vec<_> = weights.iter().map(|weight| (*weight, None)).collect();
        let mut cpu = Simulation::started(&shares, 0);
        // Those that came before the first round had as much as everybody.
        cpu.run(100 * MS);
        let before = std::mem::replace(&mut cpu.ran, vec![0; weights.len()]);
        let ticks = 200 * weights.len() as u64 * 5 * MS;
        cpu.run(ticks);
        prop_assert!(before.iter().all(|ran| *ran > 0));
        prop_assert!(error(&cpu.ran, &by_weight(&weights, ticks)) < 0.02, "{:?}", cpu.ran);
        cpu.settle().map_err(TestCaseError::fail)?;
    }

    /// Nobody who could run waits longer than is promised, whatever others do and weigh, with a switch that costs.
    #[test]
    fn waiting_is_bounded(
        shares in prop::collection::vec(capped(), 2..12),
        started in any::<bool>(),
        cost in 0u64..500,
        events in events(300),
    ) {
        let mut cpu = if started { Simulation::started(&shares, cost) } else { Simulation::new(&shares, cost) };
        play(&mut cpu, shares.len(), &events);
        cpu.settle().map_err(TestCaseError::fail)?;
    }

    /// The same with a few that weigh 64 times as much as the others and take turns.
    #[test]
    fn waiting_is_bounded_among_unequals(light in 1usize..4, heavy in 1usize..9, events in events(400)) {
        let shares: Vec<_> = (0..light + heavy).map(|n| (if n < light { 100 } else { 6400 }, None)).collect();
        let mut cpu = Simulation::new(&shares, 60);
        (0..light).for_each(|n| cpu.wake(n));
        play(&mut cpu, shares.len(), &events);
        cpu.settle().map_err(TestCaseError::fail)?;
    }

    /// A cap is reached, and kept, by one that always wants to run and has a larger share.
    #[test]
    fn caps_are_kept(cap in 1u8..=99, others in 0usize..4, weight in 1u16..=20) {
        // As heavy as all others together and `weight` times over, and capped at what it would get or less.
        let weight = 256 * weight * (others as u16).max(1);
        let share = f64::from(weight) / f64::from(weight + 256 * others as u16);
        prop_assume!(f64::from(cap) / 100.0 < share * 0.9);
        let mut shares = vec![(256, None); others];
        shares.push((weight, Some(cap)));
        let mut cpu = Simulation::started(&shares, 0);
        cpu.run(10 * HZ);
        let due = 10.0 * HZ as f64 * f64::from(cap) / 100.0;
        prop_assert!(error(&cpu.ran[others..], &[due]) < 0.02, "{:?} of {due}", cpu.ran);
        let rest: u64 = cpu.ran[..others].iter().sum();
        prop_assert!(others == 0 || rest + cpu.ran[others] == 10 * HZ, "the CPU was idle: {:?}", cpu.ran);
        cpu.settle().map_err(TestCaseError::fail)?;
    }

    /// On two CPUs that steal from each other, every vCPU is in one place, and only where it may be.
    #[test]
    fn nobody_is_lost_or_doubled(
        shares in prop::collection::vec((capped(), 1u64..4), 1..20),
        ops in prop::collection::vec((0u8..7, 0usize..2, any::<usize>(), 0u64..20), 0..400),
    ) {
        let mut queues = [0, 1].map(|n| RunQueue::new(CpuId(n), 20, HZ));
        let mut current: [Option<Fake>; 2] = [None, None];
        let mut parked: Vec<_> = shares.iter().enumerate().map(|(n, ((weight, cap), cpus))| {
            let mut vcpu = Fake::new(n, *weight, *cap);
            vcpu.cpus = *cpus;
            vcpu
        }).collect();
        let mut now = 0;
        for (op, at, n, pause) in ops {
            now += pause * MS;
            let (queue, cpu) = (&mut queues[at], CpuId(at as u16));
            match (op, current[at].take()) {
                (0, taken) => {
                    current[at] = taken;
                    if !parked.is_empty() {
                        let vcpu = parked.swap_remove(n % parked.len());
                        if vcpu.may_run_on(cpu) {
                            queue.push(vcpu, if n % 3 == 0 { Arrival::Started } else { Arrival::Woken }, Ticks(now));
                        } else {
                            parked.push(vcpu);
                        }
                    }
                }
                (1 | 2, None) => {
                    let waited = queue.waiting();
                    current[at] = queue.pop(Ticks(now));
                    prop_assert_eq!(current[at].is_some(), waited != 0);
                    prop_assert_eq!(queue.waiting(), waited.saturating_sub(1));
                }
                (3, taken) => {
                    current[at] = taken;
                    if let Some(vcpu) = queue.steal(CpuId(1 - cpu.0)) {
                        prop_assert!(vcpu.may_run_on(CpuId(1 - cpu.0)));
                        queues[1 - at].push(vcpu, Arrival::Moved, Ticks(now));
                    }
                }
                (4, taken) => {
                    current[at] = taken;
                    let due = queue.next_release().is_some_and(|at| at.0 <= now);
                    let waited = queue.waiting();
                    prop_assert_eq!(queue.release(Ticks(now)), due);
                    prop_assert_eq!(queue.waiting() > waited, due);
                }
                (_, Some(mut vcpu)) => {
                    queue.leave(&mut vcpu.account, Ticks(now));
                    match op {
                        5 => parked.push(vcpu),
                        6 => { queue.push(vcpu, Arrival::Yielded, Ticks(now)); }
                        _ => { queue.push(vcpu, Arrival::Expired, Ticks(now)); }
                    }
                }
                (_, None) => {}
            }
            let mut all: Vec<_> = parked.iter().chain(current.iter().flatten()).map(|vcpu| vcpu.id).collect();
            for queue in &queues {
                all.extend(queue.throttled_ones().chain(queue.waiting_ones()).map(|vcpu| vcpu.id));
            }
            prop_assert!(queues.iter_mut().all(RunQueue::is_sound));
            all.sort_unstable();
            prop_assert_eq!(all, (0..shares.len()).collect::<Vec<_>>());
        }
    }
}
