//! How late a periodic timer's handler runs: `lines=200 period=1000 limit=10000 tag=NAME`, the times in us.
//!
//! Between interrupts it sleeps in WFI. A numbered line for each tells whether all output arrives; the last says how
//! late the handlers were, and how many more than `limit`.
#![no_std]
#![no_main]

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use guests::timer::{self, VIRTUAL, micros, now};
use guests::{args, check, gic, op, println, trap};

guests::guest!("latency", main);

// One CPU without MMU: plain loads and stores.
static DUE: AtomicU64 = AtomicU64::new(0);
static PERIOD: AtomicU64 = AtomicU64::new(0);
static LIMIT: AtomicU64 = AtomicU64::new(0);
static COUNT: AtomicU64 = AtomicU64::new(0);
static LAST: AtomicU64 = AtomicU64::new(0);
static MAX: AtomicU64 = AtomicU64::new(0);
static SUM: AtomicU64 = AtomicU64::new(0);
static OVER: AtomicU64 = AtomicU64::new(0);
static MISSED: AtomicU64 = AtomicU64::new(0);

fn add(to: &AtomicU64, n: u64) {
    to.store(to.load(Relaxed) + n, Relaxed);
}

fn on_irq(_: &mut trap::Frame) {
    let acknowledged = gic::ack();
    if gic::id(acknowledged) == gic::SPURIOUS {
        return;
    }
    let (at, due, period) = (now(), DUE.load(Relaxed), PERIOD.load(Relaxed));
    check!(at >= due, "{} counts early", due.wrapping_sub(at));
    let late = at.saturating_sub(due);
    LAST.store(late, Relaxed);
    MAX.store(MAX.load(Relaxed).max(late), Relaxed);
    add(&SUM, late);
    add(&COUNT, 1);
    add(&OVER, u64::from(late > LIMIT.load(Relaxed)));
    // Periods that went by meanwhile are counted, and left out.
    add(&MISSED, late / period);
    let next = due + period * (late / period + 1);
    DUE.store(next, Relaxed);
    timer::arm(next);
    gic::end(acknowledged);
}

fn main() {
    let lines = args::number("lines", 200);
    PERIOD.store(micros(args::number("period", 1000)).max(1), Relaxed);
    LIMIT.store(micros(args::number("limit", 10_000)), Relaxed);
    let tag = args::value("tag").unwrap_or("");
    let space = if tag.is_empty() { "" } else { " " };
    let us = |counts: u64| counts * 1000 / micros(1000).max(1);
    gic::init();
    gic::enable(VIRTUAL);
    trap::on_irq(on_irq);
    DUE.store(now() + PERIOD.load(Relaxed), Relaxed);
    timer::arm(DUE.load(Relaxed));
    for line in 1..=lines {
        while COUNT.load(Relaxed) < line {
            op!("wfi");
            trap::irqs_on();
            op!("isb");
            trap::irqs_off();
        }
        println!("latency{space}{tag}: line {line:06} of {lines:06}, late {} us", us(LAST.load(Relaxed)));
    }
    timer::stop();
    let count = COUNT.load(Relaxed);
    println!(
        "latency{space}{tag}: {count} timers, late max {} us, mean {} us, over the limit {}, missed {}",
        us(MAX.load(Relaxed)),
        us(SUM.load(Relaxed) / count.max(1)),
        OVER.load(Relaxed),
        MISSED.load(Relaxed)
    );
}
