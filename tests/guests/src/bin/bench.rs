//! Runs each kind of exit a few hundred times, between hints that the bench's plugin knows.
//!
//! HINT #64 + n opens row n and HINT #64 closes it (tests/bench/plugin.c); the rows' names and bounds are in
//! tests/bench/micro.rs, by the same numbers. To a CPU the hints are NOPs.
#![no_std]
#![no_main]

use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use guests::mmio::{read32, read64, write32};
use guests::timer::{VIRTUAL, arm, micros, now, until};
use guests::trap::{self, Frame, attempt};
use guests::{check, gic, mrs, msr, op, psci, timer, uart};

guests::guest!("bench", main);

/// Samples of a row.
const TIMES: u32 = 256;
/// Rounds before them, that caches and first uses are not measured.
const WARM: u32 = 8;
/// An SPI that nobody uses: the last virtio slot's.
const IDLE: usize = 79;
/// PL031's data register.
const RTCDR: usize = 0x0901_0000;

/// Does `$body` in row `$hint` - 64, then `$after` outside of it.
macro_rules! row {
    ($hint:literal, $body:expr, $after:expr) => {
        for _ in 0..WARM {
            $body;
            $after;
        }
        for _ in 0..TIMES {
            op!($hint);
            $body;
            op!("hint #64");
            $after;
        }
    };
    ($hint:literal, $body:expr) => {
        row!($hint, $body, ())
    };
}

/// Does `$body` in row `$hint` - 64, which the interrupt handler closes; `$before` comes before it.
macro_rules! interrupt_row {
    ($hint:literal, $before:expr, $body:expr) => {
        for round in 0..WARM + TIMES {
            let seen = HANDLED.load(Ordering::Relaxed);
            $before;
            if round >= WARM {
                op!($hint);
            }
            $body;
            check!(
                until(1000, || HANDLED.load(Ordering::Relaxed) != seen),
                concat!("no interrupt in row ", $hint)
            );
            op!("hint #64");
        }
    };
}

/// Interrupts that were handled.
static HANDLED: AtomicU32 = AtomicU32::new(0);
/// The handler closes the row as its first deed, not its last.
static FIRST: AtomicBool = AtomicBool::new(false);

fn handler(_: &mut Frame) {
    let first = FIRST.load(Ordering::Relaxed);
    if first {
        op!("hint #64");
    }
    let acknowledged = gic::ack();
    if gic::id(acknowledged) == gic::SPURIOUS {
        return;
    }
    if gic::id(acknowledged) == VIRTUAL {
        timer::stop();
    }
    gic::end(acknowledged);
    if !first {
        op!("hint #64");
    }
    // Plain load and store: exclusives need the MMU on.
    HANDLED.store(HANDLED.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
}

fn main() {
    gic::init();
    calls();
    devices();
    registers();
    interrupts();
    first_floating_point();
    row!("hint #80", op!("nop"));
}

/// Without a hypervisor there is nobody to call but PSCI: such a call is then undefined, and stepped over.
fn calls() {
    attempt(|| {
        row!("hint #65", psci::hvc(0x4b00_0000, [0; 3]));
    });
    row!("hint #66", psci::hvc(psci::VERSION, [0; 3]));
    attempt(|| {
        row!("hint #67", psci::smc(psci::VERSION, [0; 3]));
    });
}

fn devices() {
    row!("hint #68", uart::read(uart::reg::FR));
    row!("hint #69", uart::write(uart::reg::DR, u32::from(b'.')));
    guests::println!();
    // What the UART still has to say to the hypervisor, it says here.
    timer::wait(micros(2000));
    row!("hint #70", read32(gic::gicd() + 4));
    let word = IDLE / 32 * 4;
    row!(
        "hint #71",
        write32(gic::gicd() + gic::reg::ISENABLE + word, 1 << (IDLE % 32)),
        write32(gic::gicd() + gic::reg::ICENABLE + word, 1 << (IDLE % 32))
    );
    if !gic::v2() {
        row!("hint #72", read64(gic::gicr() + 8));
    }
    row!("hint #78", read32(RTCDR));
}

fn registers() {
    row!("hint #76", mrs!("id_aa64pfr0_el1"));
}

fn interrupts() {
    trap::on_irq(handler);
    gic::enable(1);
    gic::enable(VIRTUAL);
    trap::irqs_on();
    interrupt_row!("hint #73", (), gic::send(1, 1));
    FIRST.store(true, Ordering::Relaxed);
    interrupt_row!("hint #74", arm(now() + micros(20)), ());
    FIRST.store(false, Ordering::Relaxed);
    interrupt_row!("hint #75", arm(now() + micros(20)), ());
    FIRST.store(true, Ordering::Relaxed);
    interrupt_row!("hint #77", arm(now() + micros(200)), op!("wfi"));
    trap::irqs_off();
}

fn first_floating_point() {
    msr!("cpacr_el1", 3 << 20);
    op!("hint #79");
    // SAFETY: no compiled code uses vector registers.
    unsafe { core::arch::asm!(".arch_extension simd", "movi v0.2d, #0") };
    op!("hint #64");
}
