//! What two CPUs cost each other, between hints that the bench's plugin knows: SGIs, CPU_ON, a timer alone.
//!
//! vCPU 0 and vCPU 1 have a physical CPU each; all others sleep, and so does every CPU of a guest that is told `other`.
//! Rows are those of tests/bench/scale.rs. Whoever waits for the other spins with `yield`, on which QEMU, with all CPUs in
//! one thread, runs the other; a loop without would cost the rest of a turn each time, and no instruction at EL2.
#![no_std]
#![no_main]

use core::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use guests::gic::{self, Targets};
use guests::samples::{self, SGI, TAKEN, TIMERS, TIMES, WARM};
use guests::timer::{self, VIRTUAL, arm, micros, now};
use guests::{check_eq, fdt, mmu, op, psci, smp, trap};

guests::guest!("bench-pair", main);

/// How long sleepers sleep, in ms: longer than everything else takes.
const NIGHT: u64 = 20_000;

/// Opens row `$hint` - 64, but not in the first rounds.
macro_rules! open {
    ($hint:literal, $round:expr) => {
        if $round >= WARM {
            op!($hint);
        }
    };
}

/// The round for which vCPU 1 is ready, + 1.
static READY: AtomicU32 = AtomicU32::new(0);
/// How often vCPU 1 has begun.
static LIVES: AtomicU32 = AtomicU32::new(0);
/// This is the guest that measures.
static MEASURES: AtomicBool = AtomicBool::new(false);
/// vCPU 1 only begins and ends.
static BRIEF: AtomicBool = AtomicBool::new(false);

/// Lets the other CPU run until `done`.
fn meanwhile(mut done: impl FnMut() -> bool) {
    while !done() {
        op!("yield");
    }
}

/// Lets the other CPU run until it has come to its next wait.
fn settle() {
    for _ in 0..16 {
        op!("yield");
    }
}

/// Waits for nothing, till the others are done.
fn sleep(_: u64) {
    gic::init_cpu();
    gic::enable(VIRTUAL);
    arm(now() + micros(1000 * NIGHT));
    op!("wfi");
    timer::stop();
}

fn life(n: u64) {
    if n == 1 && MEASURES.load(SeqCst) { second(n) } else { sleep(n) }
}

/// vCPU 1: spins for SGIs, then sleeps for them, then goes off and on.
fn second(_: u64) {
    op!("hint #64");
    LIVES.fetch_add(1, SeqCst);
    if BRIEF.load(SeqCst) {
        op!("hint #86");
        return;
    }
    gic::init_cpu();
    gic::enable(SGI);
    trap::irqs_on();
    for round in 0..WARM + TIMES {
        open!("hint #82", round);
        READY.store(round + 1, SeqCst);
        meanwhile(|| TAKEN.load(SeqCst) > round);
    }
    trap::irqs_off();
    for round in 0..WARM + TIMES {
        let taken = TAKEN.load(SeqCst);
        READY.store(WARM + TIMES + round + 1, SeqCst);
        open!("hint #84", round);
        op!("wfi");
        trap::irqs_on();
        meanwhile(|| TAKEN.load(SeqCst) > taken);
        trap::irqs_off();
    }
}

fn sender() {
    for round in 0..2 * (WARM + TIMES) {
        meanwhile(|| READY.load(SeqCst) > round);
        settle();
        if round < WARM + TIMES {
            open!("hint #81", round);
        } else {
            open!("hint #83", round - WARM - TIMES);
        }
        gic::send_to(SGI, Targets::Cpu(1));
        op!("hint #64");
        meanwhile(|| TAKEN.load(SeqCst) > round);
    }
}

fn caller() {
    let other = smp::affinity(1);
    BRIEF.store(true, SeqCst);
    for round in 0..WARM + TIMES {
        meanwhile(|| psci::info(other) == 1);
        settle();
        let lives = LIVES.load(SeqCst);
        open!("hint #85", round);
        let answer = smp::start(1, life);
        op!("hint #64");
        check_eq!(answer, 0, "CPU_ON in round {round}");
        meanwhile(|| LIVES.load(SeqCst) > lives);
    }
    meanwhile(|| psci::info(other) == 1);
}

fn timer_alone() {
    settle();
    for round in 0..WARM + TIMES {
        let seen = TIMERS.load(SeqCst);
        trap::irqs_off();
        arm(now() + micros(200));
        open!("hint #87", round);
        op!("wfi");
        trap::irqs_on();
        meanwhile(|| TIMERS.load(SeqCst) > seen);
    }
    trap::irqs_off();
}

fn main() {
    mmu::build();
    mmu::on();
    gic::init();
    let measures = samples::measures();
    MEASURES.store(measures, SeqCst);
    if !measures {
        return sleep(0);
    }
    trap::on_irq(samples::on_irq);
    gic::enable(VIRTUAL);
    for n in 1..fdt::cpus() {
        check_eq!(smp::start(n as u64, life), 0, "CPU_ON of {n}");
    }
    // Those who sleep are asleep by then.
    timer::wait(micros(5000));
    sender();
    caller();
    timer_alone();
}
