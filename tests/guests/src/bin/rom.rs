//! Firmware: what a ROM at address 0 is, and what is not one.
//!
//! It starts in the ROM and has copied itself to RAM before `main` (entry.s): code and data can be compared.
#![no_std]
#![no_main]

use core::arch::asm;
use guests::trap::{Fault, attempt, ec};
use guests::{RAM, boot, check, check_eq, fdt, image_start, mmio, mrs, println};

guests::guest!("rom", main);

/// A synchronous external abort, not on a table walk.
const EXTERNAL: u64 = 0x10;
/// ESR_EL1: the abort is a write's.
const WNR: u64 = 1 << 6;
/// The second bank of flash, and its end.
const BANK: usize = 64 << 20;

/// Where the instruction behind the call lies that this makes.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn whence() -> usize {
    let at: usize;
    // SAFETY: an address.
    unsafe { asm!("adr {}, .", out(reg) at) };
    at
}

fn main() {
    let boot = boot();
    check!(boot.x[20] < 0x1000, "started at {:#x}, not at the start of the ROM", boot.x[20]);
    check_eq!(boot.x[21], 4, "CurrentEL at entry");
    check_eq!(boot.x[22] & 0x1005, 0, "SCTLR_EL1 M, C, I at entry");
    check_eq!(mrs!("sctlr_el1") & 0x1005, 0, "SCTLR_EL1 M, C, I");
    check_eq!(image_start(), RAM + 0x20_0000, "where it copied itself to");
    check!(fdt::Tree::at(RAM).is_some(), "no tree at the start of RAM");
    let code = whence() - image_start();
    for offset in (0..0x1000).step_by(8).chain([code & !7]) {
        check_eq!(mmio::read64(offset), mmio::read64(image_start() + offset), "ROM at {offset:#x}");
    }
    erased();
    // What is in the ROM can run there, and what is erased cannot.
    let there: extern "C" fn() -> usize =
        // SAFETY: the same function, in the ROM.
        unsafe { core::mem::transmute(whence as *const () as usize - image_start()) };
    check_eq!(there(), code, "PC of a function called in the ROM");
    for at in [BANK - 0x1000, BANK, 2 * BANK - 0x1000] {
        // SAFETY: comes back by x30, by the handler.
        let fault = attempt(|| unsafe { asm!("blr {}", in(reg) at, clobber_abi("C")) }).unwrap_or_default();
        check_eq!(fault.class(), ec::FETCH, "class after a jump to erased flash, {at:#x}");
        check_eq!(fault.status(), EXTERNAL, "IFSC after a jump to erased flash, {at:#x}");
    }
    for at in [0, code & !7, 0x10_0000, BANK - 8, BANK, 2 * BANK - 8] {
        let before = mmio::read64(at);
        refused(attempt(|| mmio::write8(at, 0x5a)), at, "a byte");
        refused(attempt(|| mmio::write64(at, 0x55)), at, "eight bytes");
        check_eq!(mmio::read64(at), before, "flash at {at:#x} after a write");
    }
    let beyond = attempt(|| _ = mmio::read64(0x0b00_0000)).unwrap_or_default();
    check_eq!(beyond.status(), EXTERNAL, "behind all that there is");
    println!("rom: started at {:#x}, entered again at {:#x}", boot.x[20], image_start());
}

/// A store to flash: an external abort, and a write's.
fn refused(fault: Option<Fault>, at: usize, what: &str) {
    let fault = fault.unwrap_or_default();
    check_eq!(fault.class(), ec::DATA, "class after a store of {what} at {at:#x}");
    check_eq!(fault.status(), EXTERNAL, "DFSC after a store of {what} at {at:#x}");
    check_eq!(fault.esr & WNR, WNR, "WnR after a store of {what} at {at:#x}");
    check_eq!(fault.far as usize, at, "FAR after a store of {what}");
}

/// All of both banks that is not the image reads as ones.
fn erased() {
    let all = (0x10_0000..2 * BANK).step_by(0x1_0000).chain([BANK - 8, BANK, 2 * BANK - 8]);
    let wrong = all.filter(|at| mmio::read64(*at) != u64::MAX).count();
    check_eq!(wrong, 0, "places in erased flash that do not read as ones");
    let bank = |at: usize| [mmio::read8(at), mmio::read8(at + 1)];
    check_eq!(bank(BANK)[0] as u64 + bank(BANK)[1] as u64, 0x1fe, "the second bank, by bytes");
}
