//! The PL061: eight lines, their interrupts, and the power key on line 3; asked to `press`, it waits for somebody to.
#![no_std]
#![no_main]

use guests::mmio::{read32, write32};
use guests::{args, check, check_eq, gic, println, timer, trap};

guests::guest!("power", main);

const BASE: usize = 0x0903_0000;
/// All lines.
const DATA: usize = BASE + 0x3fc;
const DIR: usize = BASE + 0x400;
const IS: usize = BASE + 0x404;
const IBE: usize = BASE + 0x408;
const IEV: usize = BASE + 0x40c;
const IE: usize = BASE + 0x410;
const RIS: usize = BASE + 0x414;
const MIS: usize = BASE + 0x418;
const IC: usize = BASE + 0x41c;
const AFSEL: usize = BASE + 0x420;
const INTID: u32 = 39;
const KEY: u32 = 1 << 3;

/// GPIODATA of the key's line alone.
fn key() -> u32 {
    read32(BASE + ((KEY as usize) << 2))
}

/// Ends an edge, or turns a level round: whichever it was.
fn handler(_: &mut trap::Frame) {
    let id = gic::ack();
    if id != gic::SPURIOUS {
        gic::note(id);
        check_eq!(read32(MIS), KEY, "MIS in the handler");
        if read32(IS) & KEY != 0 {
            write32(IEV, read32(IEV) ^ KEY);
        }
        write32(IC, KEY);
        gic::end(id);
    }
}

fn main() {
    let id = [0x61, 0x10, 0x04, 0x00, 0x0d, 0xf0, 0x05, 0xb1];
    for (n, want) in id.into_iter().enumerate() {
        let mask = if n == 2 { 0x0f } else { 0xff };
        check_eq!(read32(BASE + 0xfe0 + 4 * n) & mask, want & mask, "ID {n}");
    }
    for (name, at) in [("IS", IS), ("IBE", IBE), ("IEV", IEV), ("AFSEL", AFSEL)] {
        check_eq!(read32(at), 0, "{name} at reset");
        write32(at, 0xffff_ffa5);
        check_eq!(read32(at), 0xa5, "{name}");
        write32(at, 0);
    }
    // QEMU keeps levels that it was shown, until they are cleared.
    write32(IC, 0xff);
    check_eq!(read32(DATA), 0, "nobody drives the lines");
    check_eq!(read32(RIS), 0, "RIS");
    gic::init();
    trap::on_irq(handler);
    gic::enable(INTID);
    trap::irqs_on();
    if args::word() == "press" {
        press();
    } else {
        level();
        lines();
    }
    trap::irqs_off();
    write32(IE, 0);
}

/// A low line is a level that lasts, until another is looked for.
fn level() {
    write32(IS, KEY);
    check_eq!(read32(RIS), KEY, "RIS of a low level");
    check_eq!(read32(MIS), 0, "MIS, masked");
    check_eq!(gic::count(), 0, "interrupts, masked");
    write32(IE, KEY);
    check!(timer::until(5000, || gic::count() > 0), "no interrupt");
    check_eq!(gic::entry(0).0, INTID, "interrupt");
    check_eq!(read32(RIS), 0, "RIS, looking for a high level");
    check_eq!(gic::count(), 1, "interrupts");
    check!(!gic::pending(INTID), "still pending");
    write32(IE, 0);
    write32(IS, 0);
    write32(IEV, 0);
    write32(IC, 0xff);
}

/// Outputs read as they were written, through their masks.
fn lines() {
    write32(DATA, 0xff);
    check_eq!(read32(DATA), 0, "stored, but inputs");
    write32(DIR, 0xf0);
    write32(DATA, 0xa5);
    check_eq!(read32(DATA), 0xa0, "the upper half is output");
    write32(BASE + (0x30 << 2), 0xff);
    check_eq!(read32(DATA), 0xb0, "two lines written");
    check_eq!(read32(BASE + (0x10 << 2)), 0x10, "one line read");
    check_eq!(read32(BASE), 0, "no line read");
    write32(DIR, 0);
}

/// The key goes down, and up by itself, and both are told.
fn press() {
    write32(IBE, KEY);
    write32(IC, 0xff);
    write32(IE, KEY);
    check_eq!(key(), 0, "the key is up");
    println!("power: press");
    check!(timer::until(60_000, || gic::count() > 0), "nobody pressed, or it was not told");
    // On a machine that stood still for so long both edges have become one interrupt.
    let down = key() != 0;
    check!(timer::until(60_000, || key() == 0 && read32(RIS) == 0), "the key stays down, or it was not told");
    println!("power: {}", if down { "down and up" } else { "seen late" });
    check!(gic::count() <= 2, "{} interrupts", gic::count());
    if down {
        check_eq!(gic::count(), 2, "interrupts");
    }
    for n in 0..gic::count() {
        check_eq!(gic::entry(n).0, INTID, "interrupt {n}");
    }
}
