//! The console: a PL011 at its place in `virt`, polled.

use crate::mmio::{read32, write32};
use core::fmt;
use core::sync::atomic::{AtomicU32, Ordering};

/// Where it is.
pub const BASE: usize = 0x0900_0000;
/// Its interrupt: SPI 1.
pub const INTID: u32 = 33;

/// Registers (PL011 TRM DDI 0183, 3.2), by offset.
pub mod reg {
    pub const DR: usize = 0x00;
    pub const RSR: usize = 0x04;
    pub const FR: usize = 0x18;
    pub const ILPR: usize = 0x20;
    pub const IBRD: usize = 0x24;
    pub const FBRD: usize = 0x28;
    pub const LCRH: usize = 0x2c;
    pub const CR: usize = 0x30;
    pub const IFLS: usize = 0x34;
    pub const IMSC: usize = 0x38;
    pub const RIS: usize = 0x3c;
    pub const MIS: usize = 0x40;
    pub const ICR: usize = 0x44;
    pub const DMACR: usize = 0x48;
    pub const PID0: usize = 0xfe0;
}

/// FR: receive FIFO empty.
pub const RXFE: u32 = 1 << 4;
/// FR: transmit FIFO full.
pub const TXFF: u32 = 1 << 5;
/// FR: transmitting.
pub const BUSY: u32 = 1 << 3;
/// FR: transmit FIFO empty.
pub const TXFE: u32 = 1 << 7;
/// FR: receive FIFO full.
pub const RXFF: u32 = 1 << 6;

/// Enables UART, FIFOs, both directions.
pub fn init() {
    write(reg::IMSC, 0);
    write(reg::LCRH, 0x70);
    write(reg::CR, 0x301);
}

/// One register.
pub fn read(offset: usize) -> u32 {
    read32(BASE + offset)
}

/// Sets one register.
pub fn write(offset: usize, value: u32) {
    write32(BASE + offset, value);
}

/// Sends a byte, when there is room.
pub fn put(byte: u8) {
    while read(reg::FR) & TXFF != 0 {
        core::hint::spin_loop();
    }
    write(reg::DR, u32::from(byte));
}

/// Takes a byte, if one is there.
pub fn get() -> Option<u8> {
    (read(reg::FR) & RXFE == 0).then(|| read(reg::DR) as u8)
}

/// What `print!` writes to.
pub struct Console;

impl fmt::Write for Console {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        for byte in s.bytes() {
            if byte == b'\n' {
                put(b'\r');
            }
            put(byte);
        }
        Ok(())
    }
}

/// Who prints, where several CPUs run: 0 for nobody.
static PRINTS: AtomicU32 = AtomicU32::new(0);

/// Prints as one piece: lines of several CPUs don't mix once the MMU is on, which exclusives need.
///
/// Whoever holds the line for 5 s is not coming back, and what is to be printed then may be about that.
pub fn print(what: fmt::Arguments<'_>) {
    use fmt::Write as _;
    let daif = crate::mrs!("daif");
    crate::trap::irqs_off();
    let several = crate::mrs!("sctlr_el1") & crate::mmu::M != 0;
    let free = || PRINTS.compare_exchange_weak(0, 1, Ordering::Acquire, Ordering::Relaxed).is_ok();
    let mine = several && crate::timer::until(5000, free);
    let _ = Console.write_fmt(what);
    if mine {
        PRINTS.store(0, Ordering::Release);
    }
    crate::msr!("daif", daif);
}

/// Prints to the console.
#[macro_export]
macro_rules! print {
    ($($arg:tt)*) => { $crate::uart::print(format_args!($($arg)*)) };
}

/// Prints a line to the console.
#[macro_export]
macro_rules! println {
    () => { $crate::uart::print(format_args!("\n")) };
    ($($arg:tt)*) => { $crate::uart::print(format_args!("{}\n", format_args!($($arg)*))) };
}
