//! What guests cost each other on one CPU, between hints that the bench's plugin knows: who blocks, wakes, switches.
//!
//! Rows are those of tests/bench/scale.rs. vCPU 0 measures; vCPU 1 is whom it wakes; all others, and every CPU of a guest that is told
//! `other`, sleep at first and later keep the CPU busy. Everybody goes by the time since its start,
//! and between one part and the next there is more of it than between the first start and the last.
#![no_std]
#![no_main]

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use guests::gic::{self, Targets};
use guests::samples::{self, SGI, TAKEN, TIMERS, TIMES, WARM};
use guests::timer::{self, VIRTUAL, arm, micros, now};
use guests::{check, check_eq, fdt, mmu, msr, op, smp, trap};

guests::guest!("bench-share", main);

/// When, in ms of the guest's time, others begin to spin; when vCPU 0 spins with them until when; when they all begin to use floating
/// point; when vCPU 0 looks again, and until when; when all is over. Between them everybody has had a turn.
const BUSY: u64 = 400;
const SPIN: u64 = 1800;
const SPUN: u64 = 2600;
const FLOAT: u64 = 3000;
const FLOATING: u64 = 3400;
const FLOATED: u64 = 4300;
const END: u64 = 4700;

static START: AtomicU64 = AtomicU64::new(0);
/// This is the guest that measures.
static MEASURES: AtomicBool = AtomicBool::new(false);

fn at(ms: u64) -> u64 {
    START.load(SeqCst) + micros(1000 * ms)
}

/// Sleeps till then, without a handler.
fn sleep_until(ms: u64) {
    trap::irqs_off();
    arm(at(ms));
    while now() < at(ms) {
        op!("wfi");
    }
    timer::stop();
}

/// Keeps the CPU busy till then, with or without floating point.
fn spin_until(ms: u64, float: bool) {
    while now() < at(ms) {
        if float {
            // SAFETY: no compiled code uses vector registers.
            unsafe { core::arch::asm!(".arch_extension simd", "movi v0.2d, #0") };
        }
        // Little of a turn goes into looking at the time.
        // SAFETY: a register counts down.
        unsafe {
            core::arch::asm!("mov {0}, #100", "2:", ".rept 30", "nop", ".endr", "subs {0}, {0}, #1", "b.ne 2b", out(reg) _);
        }
    }
}

/// A CPU that is only there.
fn other(n: u64) {
    if n != 0 {
        gic::init_cpu();
    }
    msr!("cpacr_el1", 3 << 20);
    gic::enable(VIRTUAL);
    sleep_until(BUSY);
    spin_until(FLOAT, false);
    spin_until(END, true);
}

fn life(n: u64) {
    if n == 1 && MEASURES.load(SeqCst) { woken(n) } else { other(n) }
}

/// vCPU 1: sleeps for SGIs, then is one of the others.
fn woken(n: u64) {
    gic::init_cpu();
    gic::enable(SGI);
    while TAKEN.load(SeqCst) < WARM + TIMES {
        op!("wfi");
        trap::irqs_on();
        op!("isb");
        trap::irqs_off();
    }
    other(n);
}

/// Sleeps until `done`, which an interrupt brings about.
fn wait(done: impl Fn() -> bool) {
    trap::irqs_off();
    while !done() {
        op!("wfi");
        trap::irqs_on();
        op!("isb");
        trap::irqs_off();
    }
}

fn wake_another() {
    // All have come as far as their first sleep by then.
    sleep_until(100);
    for round in 0..WARM + TIMES {
        // The other blocks; this one goes on by its timer, should it not be asked to let the other one run.
        let timers = TIMERS.load(SeqCst);
        arm(now() + micros(100));
        wait(|| TIMERS.load(SeqCst) > timers);
        arm(now() + micros(100));
        if round >= WARM {
            op!("hint #89");
        }
        gic::send_to(SGI, Targets::Cpu(1));
        wait(|| TAKEN.load(SeqCst) > round);
        trap::irqs_off();
        timer::stop();
    }
}

fn block_and_wake() {
    for round in 0..WARM + TIMES {
        let timers = TIMERS.load(SeqCst);
        arm(now() + micros(200));
        if round >= WARM {
            op!("hint #90");
        }
        wait(|| TIMERS.load(SeqCst) > timers);
    }
}

fn main() {
    mmu::build();
    mmu::on();
    START.store(now(), SeqCst);
    gic::init();
    gic::enable(VIRTUAL);
    msr!("cpacr_el1", 3 << 20);
    let measures = samples::measures();
    MEASURES.store(measures, SeqCst);
    for n in 1..fdt::cpus() {
        check_eq!(smp::start(n as u64, life), 0, "CPU_ON of {n}");
    }
    if !measures {
        return other(0);
    }
    trap::on_irq(samples::on_irq);
    if fdt::cpus() > 1 {
        wake_another();
    }
    check!(now() < at(BUSY), "the first part took too long");
    sleep_until(BUSY + 1);
    block_and_wake();
    op!("hint #64");
    check!(now() < at(SPIN), "the second part took until {} ms", now() / micros(1000));
    sleep_until(SPIN);
    op!("hint #91");
    spin_until(SPUN, false);
    op!("hint #64");
    spin_until(FLOAT, false);
    spin_until(FLOATING, true);
    op!("hint #92");
    spin_until(FLOATED, true);
    op!("hint #64");
    spin_until(END, true);
}
