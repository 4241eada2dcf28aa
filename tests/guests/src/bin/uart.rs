//! The PL011: registers, interrupts, and 100 KiB of output of which no byte may be lost.
#![no_std]
#![no_main]

use guests::uart::{self, reg};
use guests::{check, check_eq, gic, mmio, print, println, timer, trap};

guests::guest!("uart", main);

/// RIS and IMSC: transmit, receive, receive timeout.
const TX: u32 = 1 << 5;
const RX: u32 = 1 << 4;

fn main() {
    registers();
    interrupt();
    flood();
}

fn registers() {
    let id = [0x11, 0x10, 0x14, 0x00, 0x0d, 0xf0, 0x05, 0xb1];
    for (n, want) in id.into_iter().enumerate() {
        let got = uart::read(reg::PID0 + 4 * n);
        // The revision (in the third) differs between r1p4 and r1p5.
        check_eq!(got & if n == 2 { 0x0f } else { 0xff }, want & if n == 2 { 0x0f } else { 0xff }, "ID {n}");
    }
    for (name, offset, value) in [
        ("IBRD", reg::IBRD, 0x0123),
        ("FBRD", reg::FBRD, 0x2a),
        ("ILPR", reg::ILPR, 0x5a),
        ("LCRH", reg::LCRH, 0x70),
        ("IFLS", reg::IFLS, 0x12),
        ("IMSC", reg::IMSC, 0x7f0),
        ("CR", reg::CR, 0x301),
    ] {
        uart::write(offset, value);
        check_eq!(uart::read(offset), value, "{name} read back");
    }
    uart::write(reg::IMSC, 0);
    uart::write(reg::DMACR, 0);
    uart::write(reg::RSR, 0xff);
    check_eq!(uart::read(reg::RSR), 0, "RSR after clearing");
    check_eq!(uart::read(reg::RIS) & uart::read(reg::IMSC), uart::read(reg::MIS), "MIS");
    check!(timer::until(2000, || uart::read(reg::FR) & uart::TXFE != 0), "the FIFO never runs empty");
    check!(timer::until(2000, || uart::read(reg::FR) & uart::BUSY == 0), "busy for ever");
    check_eq!(uart::read(reg::FR) & uart::RXFE, uart::RXFE, "FR.RXFE without input");
    // Narrow accesses: a driver may use any of these for the data register.
    print!("uart: narrow ");
    mmio::write8(uart::BASE, b'a');
    mmio::write16(uart::BASE, u16::from(b'b'));
    mmio::write32(uart::BASE, u32::from(b'c'));
    println!();
    check_eq!(mmio::read8(uart::BASE + reg::FR) as u32 & uart::RXFE, uart::RXFE, "FR as a byte");
    check_eq!(mmio::read16(uart::BASE + reg::CR), 0x301, "CR as a half word");
}

fn interrupt() {
    gic::init();
    trap::on_irq(gic::record);
    gic::enable(uart::INTID);
    trap::irqs_on();
    uart::write(reg::ICR, 0x7ff);
    uart::write(reg::IMSC, RX);
    timer::wait(timer::micros(1000));
    check_eq!(gic::count(), 0, "interrupts without cause");
    uart::write(reg::IMSC, TX);
    uart::put(b'#');
    let came = timer::until(5000, || gic::count() == 1);
    check!(came, "no transmit interrupt: RIS {:#x} MIS {:#x}", uart::read(reg::RIS), uart::read(reg::MIS));
    check_eq!(gic::entry(0).0, uart::INTID, "interrupt");
    uart::write(reg::ICR, TX);
    check_eq!(uart::read(reg::RIS) & TX, 0, "RIS after ICR");
    trap::irqs_off();
    gic::disable(uart::INTID);
    println!();
}

/// 1600 lines of 64 characters, then the FNV-1a hash of all of them; the harness counts again.
fn flood() {
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    let mut seed = 1u32;
    for line in 0..1600 {
        let mut text = [0u8; 64];
        let number = [b'0' + (line / 1000) as u8, b'0' + (line / 100 % 10) as u8];
        text[..2].copy_from_slice(&number);
        for byte in &mut text[2..] {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            *byte = b'!' + (seed >> 24) as u8 % 94;
        }
        print!("flood:");
        for byte in text {
            uart::put(byte);
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        }
        println!();
    }
    println!("uart: flood hash {hash:016x}");
}
