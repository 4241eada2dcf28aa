//! Two CPUs and one controller: where SPIs go, what is banked, what one CPU sees of the other.
#![no_std]
#![no_main]

use core::sync::atomic::{AtomicU32, Ordering::SeqCst};
use guests::gic::{self, GICR_STRIDE, SPURIOUS, reg};
use guests::mmio::{read8, read32, write8, write32, write64};
use guests::timer::{micros, until, wait};
use guests::{check, check_eq, fdt, mmu, op, smp, trap};

guests::guest!("gic-route", main);

const SPI: u32 = 40;
/// A PPI that no device of `virt` uses.
const PPI: u32 = 21;

/// What the second CPU shall do; 0 when it was done.
static ORDER: AtomicU32 = AtomicU32::new(0);
/// What its last acknowledge said.
static HELD: AtomicU32 = AtomicU32::new(0);
/// Interrupts that each CPU took by its handler.
static TAKEN: [AtomicU32; 2] = [const { AtomicU32::new(0) }; 2];

const MASK: u32 = 1;
const UNMASK: u32 = 2;
const ACK: u32 = 3;
const END: u32 = 4;
const READY: u32 = 5;
const OFF: u32 = 6;
/// Its banked registers, into [`HELD`]: priority of the PPI, and enable bit.
const BANK: u32 = 7;

fn handler(_: &mut trap::Frame) {
    let acknowledged = gic::ack();
    if gic::id(acknowledged) == SPURIOUS {
        return;
    }
    TAKEN[gic::cpu() & 1].fetch_add(1, SeqCst);
    gic::end(acknowledged);
}

fn second(_: u64) {
    gic::init_cpu();
    gic::set(reg::ISENABLE, PPI);
    gic::priority(PPI, 0x60);
    loop {
        let order = ORDER.load(SeqCst);
        match order {
            MASK => trap::irqs_off(),
            UNMASK => trap::irqs_on(),
            ACK => HELD.store(gic::ack(), SeqCst),
            END => gic::end(HELD.load(SeqCst)),
            BANK => HELD.store(
                u32::from(gic::priority_of(PPI)) | u32::from(gic::bit(reg::ISENABLE, PPI)) << 8,
                SeqCst,
            ),
            READY => {}
            OFF => return,
            _ => continue,
        }
        op!("dsb sy");
        ORDER.store(0, SeqCst);
    }
}

/// Has the second CPU do something, and waits until it did.
fn order(what: u32) {
    ORDER.store(what, SeqCst);
    check!(until(5000, || ORDER.load(SeqCst) == 0), "the second CPU does not do {what}");
}

fn main() {
    check!(fdt::cpus() >= 2, "the tree has {} CPU", fdt::cpus());
    mmu::build();
    mmu::on();
    gic::init();
    gic::edge(SPI, true);
    gic::enable(SPI);
    check_eq!(smp::start(1, second), 0, "CPU_ON");
    order(READY);
    trap::on_irq(handler);
    one_target();
    nobody();
    if gic::v2() {
        several_targets();
    }
    rerouted();
    banked();
    if !gic::v2() {
        redistributors();
    }
    ORDER.store(OFF, SeqCst);
}

/// Both CPUs take interrupts; how many each took of what `action` causes, until it is `total`.
fn count(total: u32, action: impl FnOnce()) -> [u32; 2] {
    TAKEN.iter().for_each(|n| n.store(0, SeqCst));
    order(UNMASK);
    trap::irqs_on();
    action();
    let taken = || TAKEN[0].load(SeqCst) + TAKEN[1].load(SeqCst);
    until(2000, || taken() >= total);
    wait(micros(100));
    trap::irqs_off();
    order(MASK);
    check_eq!(taken(), total, "interrupts taken by both");
    [TAKEN[0].load(SeqCst), TAKEN[1].load(SeqCst)]
}

/// An SPI comes to the CPU that it is for, once.
fn one_target() {
    for round in 0..10 {
        let cpu = round % 2;
        gic::route(SPI, cpu);
        let taken = count(1, || gic::pend(SPI));
        check_eq!(taken[cpu], 1, "round {round}: interrupts at CPU {cpu}");
    }
}

/// For a CPU that is not there it waits, and comes when it is for one that is.
fn nobody() {
    if gic::v2() {
        write8(gic::gicd() + reg::TARGETS + SPI as usize, 0);
        // Implementations differ in whether it can become pending now.
        count(0, || gic::pend(SPI));
        gic::unpend(SPI);
        gic::route(SPI, 1);
        check_eq!(count(1, || gic::pend(SPI))[1], 1, "with a target again");
    } else {
        write64(gic::gicd() + reg::ROUTER + 8 * SPI as usize, 0x7_0707);
        gic::sync(SPI);
        count(0, || gic::pend(SPI));
        check!(gic::pending(SPI), "an SPI for nobody is not pending");
        check_eq!(count(1, || gic::route(SPI, 1))[1], 1, "with a route again");
    }
}

/// GICv2: for several CPUs it comes to one of them.
fn several_targets() {
    write8(gic::gicd() + reg::TARGETS + SPI as usize, 3);
    check_eq!(read8(gic::gicd() + reg::TARGETS + SPI as usize), 3, "two targets");
    if gic::quirks::qemu_distributor() {
        return guests::println!("gic-route: QEMU's distributor gives an SPI to all of its targets");
    }
    for _ in 0..20 {
        count(1, || gic::pend(SPI));
    }
}

/// What is pending at one CPU goes to another when its route changes; what is active there stays until its end.
fn rerouted() {
    gic::route(SPI, 1);
    gic::pend(SPI);
    wait(micros(100));
    gic::route(SPI, 0);
    let acknowledged = gic::await_ack(SPI);
    gic::end(acknowledged);
    order(ACK);
    check_eq!(HELD.load(SeqCst), SPURIOUS, "what was taken by the first comes to the second too");
    // Active at the second.
    gic::route(SPI, 1);
    gic::pend(SPI);
    until(2000, || {
        order(ACK);
        HELD.load(SeqCst) != SPURIOUS
    });
    check_eq!(HELD.load(SeqCst), SPI, "acknowledged by the second");
    check!(gic::active(SPI), "the first does not see that it is active at the second");
    gic::route(SPI, 0);
    gic::pend(SPI);
    wait(micros(200));
    check!(gic::active(SPI) && gic::pending(SPI), "active at one, pending for the other");
    if !gic::quirks::qemu_distributor() {
        check_eq!(gic::highest_pending(), SPURIOUS, "signalled to the first while active at the second");
    }
    order(END);
    let acknowledged = gic::await_ack(SPI);
    gic::end(acknowledged);
    // Active at the second, deactivated by the first.
    gic::route(SPI, 1);
    gic::pend(SPI);
    until(2000, || {
        order(ACK);
        HELD.load(SeqCst) != SPURIOUS
    });
    gic::set(reg::ICACTIVE, SPI);
    check!(!gic::active(SPI), "the first cannot deactivate what is active at the second");
    order(END);
    check!(!gic::active(SPI) && !gic::pending(SPI), "not idle after all that");
}

/// Private interrupts: each CPU has its own enables, priorities, pending and active bits.
fn banked() {
    gic::disable(PPI);
    gic::priority(PPI, 0x90);
    order(BANK);
    check_eq!(HELD.load(SeqCst), 0x160, "the second CPU's priority and enable bit");
    check_eq!(gic::priority_of(PPI), 0x90, "the first CPU's priority");
    gic::pend(PPI);
    wait(micros(100));
    order(ACK);
    check_eq!(HELD.load(SeqCst), SPURIOUS, "the first CPU's private interrupt at the second");
    gic::unpend(PPI);
    if gic::v2() {
        check_eq!(read8(gic::gicd() + reg::TARGETS), 1, "GICD_ITARGETSR0 of the first CPU");
    }
}

/// GICv3: a CPU's redistributor is everybody's.
fn redistributors() {
    let other = gic::gicr() + GICR_STRIDE + gic::SGI;
    let bit = 1 << PPI;
    check!(read32(other + reg::ISENABLE) & bit != 0, "GICR_ISENABLER0 of the other");
    check_eq!(read8(other + reg::PRIORITY + PPI as usize), 0x60, "GICR_IPRIORITYR of the other");
    write32(other + reg::ISPEND, bit);
    until(2000, || {
        order(ACK);
        HELD.load(SeqCst) != SPURIOUS
    });
    check_eq!(HELD.load(SeqCst), PPI, "pended by the other CPU");
    check!(until(1000, || read32(other + reg::ISACTIVE) & bit != 0), "GICR_ISACTIVER0 of the other");
    check_eq!(read32(other + reg::ISPEND) & bit, 0, "GICR_ISPENDR0 of the other");
    check!(!gic::active(PPI), "active at the first too");
    write32(other + reg::ISPEND, bit);
    check!(until(1000, || read32(other + reg::ISPEND) & bit != 0), "pending and active at the other");
    write32(other + reg::ICPEND, bit);
    check!(until(1000, || read32(other + reg::ISPEND) & bit == 0), "GICR_ICPENDR0 of the other");
    write32(other + reg::ICACTIVE, bit);
    check!(until(1000, || read32(other + reg::ISACTIVE) & bit == 0), "GICR_ICACTIVER0 of the other");
    order(END);
    // An SGI of the other by its redistributor.
    write32(other + reg::ISENABLE, 1 << 3);
    write32(other + reg::ISPEND, 1 << 3);
    until(2000, || {
        order(ACK);
        HELD.load(SeqCst) != SPURIOUS
    });
    check_eq!(HELD.load(SeqCst), 3, "an SGI pended by the other CPU");
    order(END);
    write32(other + reg::ICENABLE, bit);
    write32(other + reg::ISPEND, bit);
    wait(micros(100));
    order(ACK);
    check_eq!(HELD.load(SeqCst), SPURIOUS, "disabled by the other CPU");
    write32(other + reg::ISENABLE, bit);
    until(2000, || {
        order(ACK);
        HELD.load(SeqCst) != SPURIOUS
    });
    check_eq!(HELD.load(SeqCst), PPI, "enabled by the other CPU");
    order(END);
}
