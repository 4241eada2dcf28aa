//! A CPU that mostly sleeps: `naps=20 period=50` (ms). What it exits for, the hypervisor counts (`trace-exits`).
//!
//! Its output has the same length whatever the numbers are, so that two runs differ in their naps alone.
#![no_std]
#![no_main]

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use guests::timer::{self, VIRTUAL, micros, now};
use guests::{args, check, gic, op, println, trap};

guests::guest!("dedicated", main);

static TAKEN: AtomicU64 = AtomicU64::new(0);

fn on_irq(_: &mut trap::Frame) {
    let acknowledged = gic::ack();
    if gic::id(acknowledged) == VIRTUAL {
        timer::stop();
        TAKEN.store(TAKEN.load(Relaxed) + 1, Relaxed);
        gic::end(acknowledged);
    }
}

fn main() {
    let (naps, period) = (args::number("naps", 20), micros(1000 * args::number("period", 50)));
    gic::init();
    gic::enable(VIRTUAL);
    trap::on_irq(on_irq);
    let (mut wakes, mut latest) = (0u64, 0);
    for nap in 0..naps {
        let due = now() + period;
        timer::arm(due);
        while TAKEN.load(Relaxed) == nap {
            op!("wfi");
            wakes += 1;
            trap::irqs_on();
            op!("isb");
            trap::irqs_off();
        }
        let at = now();
        check!(at >= due, "nap {nap} ends before its time");
        latest = at.saturating_sub(due).max(latest);
    }
    println!(
        "dedicated: {naps:06} naps, {wakes:06} wakes, latest {:08} us",
        latest * 1000 / micros(1000).max(1)
    );
}
