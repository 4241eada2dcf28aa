//! Counts loops on every CPU, and the time in which it did not run: `ms=2000 every=500 gap=100 tag=NAME`.
//!
//! `ms` is how long (0: for ever), `every` when it tells, both in ms of the guest's time; `gap` (us) is the shortest time
//! between two loops that counts as one in which the CPU did not run. Lines: `spin: vcpu 0 at 500 ms: N loops, N gaps,
//! longest N us, sum N us`; the last ones are those at `ms`.
#![no_std]
#![no_main]

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use guests::timer::{micros, now};
use guests::{args, check_eq, fdt, gic, mmu, println, psci, smp, watch};

guests::guest!("spin", main);

/// What one CPU has counted: written by it alone.
#[repr(align(64))]
struct Count {
    loops: AtomicU64,
    gaps: AtomicU64,
    longest: AtomicU64,
    sum: AtomicU64,
    /// Stolen time in ns, as the hypervisor tells it, or u64::MAX.
    stolen: AtomicU64,
}

static COUNTS: [Count; smp::MOST] = [const {
    Count {
        loops: AtomicU64::new(0),
        gaps: AtomicU64::new(0),
        longest: AtomicU64::new(0),
        sum: AtomicU64::new(0),
        stolen: AtomicU64::new(u64::MAX),
    }
}; smp::MOST];
static START: AtomicU64 = AtomicU64::new(0);
static DONE: AtomicU32 = AtomicU32::new(0);

/// PV_TIME_ST (DEN0057): where this CPU's record of stolen time is.
const PV_TIME_ST: u64 = 0xc500_0021;

/// The time that others had of this CPU so far, in ns, if that can be known.
fn stolen() -> u64 {
    let at = if fdt::under_hypervisor() { psci::hvc(PV_TIME_ST, [0; 3]).x[0] } else { u64::MAX };
    if at as i64 <= 0 { u64::MAX } else { guests::mmio::read64(at as usize + 8) }
}

fn run(n: u64) {
    let (me, start) = (n as usize, START.load(SeqCst));
    let count = &COUNTS[me];
    let (ms, every) = (args::number("ms", 2000), micros(1000 * args::number("every", 500).max(1)));
    let (end, gap) = (start + micros(1000 * ms), micros(args::number("gap", 100)));
    let (mut next, mut last) = (start + every, now());
    loop {
        let at = now();
        if at - last > gap {
            // What lies behind the end is not of the time that is measured.
            let until = if ms == 0 { at } else { at.min(end.max(last)) };
            count.gaps.store(count.gaps.load(Relaxed) + 1, Relaxed);
            count.sum.store(count.sum.load(Relaxed) + (until - last), Relaxed);
            count.longest.store(count.longest.load(Relaxed).max(at - last), Relaxed);
        }
        last = at;
        if ms != 0 && at >= end {
            break;
        }
        count.loops.store(count.loops.load(Relaxed) + 1, Relaxed);
        if me == 0 && at >= next {
            tell((next - start) / micros(1000));
            next += every;
            // What telling takes is no gap.
            last = now();
        }
    }
    count.stolen.store(stolen(), SeqCst);
    DONE.fetch_add(1, SeqCst);
}

fn tell(ms: u64) {
    for n in 0..fdt::cpus() {
        let count = &COUNTS[n];
        let us = |counts: &AtomicU64| counts.load(Relaxed) * 1000 / micros(1000).max(1);
        println!(
            "spin{}: vcpu {n} at {ms} ms: {} loops, {} gaps, longest {} us, sum {} us",
            Tag,
            count.loops.load(Relaxed),
            count.gaps.load(Relaxed),
            us(&count.longest),
            us(&count.sum)
        );
    }
}

/// ` NAME`, where VMs are to be told apart.
struct Tag;

impl core::fmt::Display for Tag {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        args::value("tag").map_or(Ok(()), |tag| write!(f, " {tag}"))
    }
}

fn main() {
    let cpus = fdt::cpus();
    mmu::build();
    mmu::on();
    START.store(now(), SeqCst);
    for n in 1..cpus {
        check_eq!(smp::start(n as u64, run), 0, "CPU_ON of {n}");
    }
    run(0);
    gic::version();
    watch::spin(&"its end", watch::ALL, || DONE.load(SeqCst) as usize == cpus);
    tell(args::number("ms", 2000));
    for (n, count) in COUNTS.iter().enumerate().take(cpus) {
        match count.stolen.load(SeqCst) {
            u64::MAX => {}
            ns => println!("spin{Tag}: vcpu {n} stolen {} us", ns / 1000),
        }
    }
}
