//! Console input: every byte arrives, by interrupt, with the CPU in WFI while there is none.
//!
//! The harness sends a first line with the number of bytes that follow, then those. The guest answers with
//! their count and FNV-1a hash.
#![no_std]
#![no_main]

use guests::uart::{self, reg};
use guests::{check, gic, op, println, trap};

guests::guest!("echo", main);

const RX: u32 = 1 << 4 | 1 << 6;

static mut BYTES: usize = 0;
static mut WANTED: usize = 0;
static mut HEADER: bool = true;
static mut HASH: u64 = 0xcbf2_9ce4_8422_2325;
static mut IRQS: usize = 0;

fn take(byte: u8) {
    // SAFETY: only the handler writes these, and main reads them with interrupts masked.
    unsafe {
        if HEADER {
            match byte {
                b'0'..=b'9' => WANTED = WANTED * 10 + usize::from(byte - b'0'),
                _ => HEADER = false,
            }
        } else {
            BYTES += 1;
            HASH = (HASH ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        }
    }
}

fn receive(_: &mut trap::Frame) {
    let id = gic::ack();
    if id == gic::SPURIOUS {
        return;
    }
    check!(id == uart::INTID, "interrupt {id}");
    // SAFETY: see `take`.
    unsafe { IRQS += 1 };
    while let Some(byte) = uart::get() {
        take(byte);
    }
    uart::write(reg::ICR, RX);
    gic::end(id);
}

fn main() {
    gic::init();
    trap::on_irq(receive);
    gic::enable(uart::INTID);
    uart::write(reg::IMSC, RX);
    println!("echo: ready");
    loop {
        trap::irqs_off();
        // SAFETY: interrupts are masked.
        let done = unsafe { !HEADER && BYTES >= WANTED };
        if done {
            break;
        }
        op!("wfi");
        trap::irqs_on();
        op!("isb");
    }
    // SAFETY: interrupts are masked.
    unsafe {
        let (bytes, hash, irqs) = (BYTES, HASH, IRQS);
        println!("echo: {bytes} bytes hash {hash:016x} in {irqs} interrupts");
    }
}
