//! A second CPU: on, interrupts both ways, shared counters, off, on again.
#![no_std]
#![no_main]

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use guests::psci::{self, hvc};
use guests::timer::until;
use guests::{boot, check, check_eq, fdt, gic, mmu, mrs, op, println, smp, trap};

guests::guest!("smp", main);

static ALIVE: AtomicU64 = AtomicU64::new(0);
static GOT: AtomicU32 = AtomicU32::new(0);
static BACK: AtomicU32 = AtomicU32::new(0);
static COUNTER: AtomicU32 = AtomicU32::new(0);
static GO: AtomicU32 = AtomicU32::new(0);
static DONE: AtomicU32 = AtomicU32::new(0);
const ROUNDS: u32 = 20_000;

fn on_irq(_: &mut trap::Frame) {
    let acknowledged = gic::ack();
    if gic::id(acknowledged) == gic::SPURIOUS {
        return;
    }
    let from = if gic::v2() { 1 - gic::cpu() as u32 } else { 0 };
    check_eq!(gic::source(acknowledged), from, "source of an SGI");
    if gic::cpu() == 0 {
        BACK.fetch_add(1, Ordering::SeqCst);
    } else {
        GOT.fetch_add(1, Ordering::SeqCst);
        gic::send(2, 1);
    }
    gic::end(acknowledged);
}

fn second(n: u64) {
    gic::init_cpu();
    gic::enable(1);
    check_eq!(mrs!("mpidr_el1") & 0xff, n, "MPIDR_EL1 of the second CPU");
    ALIVE.store(mrs!("mpidr_el1"), Ordering::SeqCst);
    trap::irqs_on();
    while GO.load(Ordering::SeqCst) == 0 {
        op!("wfi");
    }
    for _ in 0..ROUNDS {
        COUNTER.fetch_add(1, Ordering::Relaxed);
    }
    DONE.store(1, Ordering::SeqCst);
    trap::irqs_off();
}

fn info(target: u64) -> u32 {
    hvc(psci::AFFINITY_INFO, [target, 0, 0]).x[0] as u32
}

fn main() {
    check!(fdt::cpus() >= 2, "the tree has {} CPU", fdt::cpus());
    check_eq!(boot().x[1], 0, "x1");
    mmu::build();
    mmu::on();
    gic::init();
    gic::enable(2);
    trap::on_irq(on_irq);
    trap::irqs_on();
    for life in 1..=3 {
        check_eq!(info(1), 1, "AFFINITY_INFO before CPU_ON");
        check_eq!(smp::start(1, second), 0, "CPU_ON, life {life}");
        check!(until(5000, || ALIVE.load(Ordering::SeqCst) != 0), "the second CPU does not come");
        check_eq!(info(1), 0, "AFFINITY_INFO while on");
        check_eq!(psci::cpu_on(1, 1), psci::ALREADY_ON, "CPU_ON twice");
        for n in 1..=50 {
            gic::send(1, 2);
            let answered = until(5000, || BACK.load(Ordering::SeqCst) == n);
            check!(
                answered,
                "SGI {n}: {} arrived, {} came back",
                GOT.load(Ordering::SeqCst),
                BACK.load(Ordering::SeqCst)
            );
            if !answered {
                return;
            }
        }
        // To all but self.
        gic::send_to(1, gic::Targets::Others);
        check!(until(5000, || BACK.load(Ordering::SeqCst) == 51), "SGI to all others is lost");
        GO.store(1, Ordering::SeqCst);
        gic::send(1, 2);
        for _ in 0..ROUNDS {
            COUNTER.fetch_add(1, Ordering::Relaxed);
        }
        check!(until(5000, || DONE.load(Ordering::SeqCst) == 1), "the second CPU hangs");
        check_eq!(COUNTER.load(Ordering::SeqCst), 2 * ROUNDS, "shared counter");
        check!(until(5000, || info(1) == 1), "the second CPU does not go off");
        until(100, || BACK.load(Ordering::SeqCst) == 52);
        for word in [&GOT, &BACK, &COUNTER, &GO, &DONE] {
            word.store(0, Ordering::SeqCst);
        }
        ALIVE.store(0, Ordering::SeqCst);
    }
    trap::irqs_off();
    println!("smp: three lives of a second CPU");
}
