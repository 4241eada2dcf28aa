//! The PL031: a clock that ticks, can be set, and rings.
#![no_std]
#![no_main]

use guests::mmio::{read32, write32};
use guests::{check, check_eq, gic, println, timer, trap};

guests::guest!("rtc", main);

const BASE: usize = 0x0901_0000;
const DR: usize = BASE;
const MR: usize = BASE + 0x04;
const LR: usize = BASE + 0x08;
const CR: usize = BASE + 0x0c;
const IMSC: usize = BASE + 0x10;
const RIS: usize = BASE + 0x14;
const MIS: usize = BASE + 0x18;
const ICR: usize = BASE + 0x1c;
const INTID: u32 = 34;

fn alarm(_: &mut trap::Frame) {
    let id = gic::ack();
    if id != gic::SPURIOUS {
        gic::note(id);
        check_eq!(read32(MIS), 1, "MIS in the handler");
        write32(ICR, 1);
        gic::end(id);
    }
}

fn main() {
    let id = [0x31, 0x10, 0x04, 0x00, 0x0d, 0xf0, 0x05, 0xb1];
    for (n, want) in id.into_iter().enumerate() {
        let mask = if n == 2 { 0x0f } else { 0xff };
        check_eq!(read32(BASE + 0xfe0 + 4 * n) & mask, want & mask, "ID {n}");
    }
    println!("rtc: seconds {}", read32(DR));
    check_eq!(read32(CR), 1, "CR");
    let start = read32(DR);
    check!(timer::until(5000, || read32(DR) > start), "the clock stands");
    check!(read32(DR) - start < 60, "the clock jumps");

    gic::init();
    trap::on_irq(alarm);
    gic::enable(INTID);
    trap::irqs_on();
    write32(LR, 1000);
    check!((1000..1060).contains(&read32(DR)), "set to 1000, reads {}", read32(DR));
    check_eq!(read32(LR), 1000, "LR");
    write32(ICR, 1);
    write32(IMSC, 1);
    check_eq!(read32(IMSC), 1, "IMSC");
    write32(MR, read32(DR) + 1);
    check!(timer::until(8000, || gic::count() > 0), "no alarm: DR {} MR {}", read32(DR), read32(MR));
    check_eq!(gic::entry(0).0, INTID, "interrupt");
    check!(read32(DR) >= read32(MR), "alarm before its time");
    check_eq!(read32(RIS), 0, "RIS after ICR");
    trap::irqs_off();
    write32(IMSC, 0);
}
