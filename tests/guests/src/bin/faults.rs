//! Jumps and accesses to where nothing is: the architecture's own abort, with the right syndrome.
#![no_std]
#![no_main]

use core::arch::asm;
use guests::trap::{Fault, attempt, ec};
use guests::{RAM, check, check_eq, code, fdt, mmio, mmu, msr, op, println};

guests::guest!("faults", main);

/// No device and no memory there, neither in `virt` nor under a hypervisor.
const NOTHING: usize = 0x0b00_0000;

/// A synchronous external abort, not on a table walk.
const EXTERNAL: u64 = 0x10;

fn jump(to: usize) -> Option<Fault> {
    attempt(|| {
        // SAFETY: comes back by x30, by the handler.
        unsafe { asm!("blr {}", in(reg) to, clobber_abi("C")) };
    })
}

fn main() {
    let strict = fdt::under_hypervisor();
    fetches(strict);
    data(strict, "MMU off");
    mmu::build();
    mmu::on();
    fetches(strict);
    data(strict, "MMU on");
    walks();
    mmu::off();
    sources();
    println!("faults: all came back");
}

fn fetches(strict: bool) {
    let top = RAM + fdt::memory();
    for to in [NOTHING, top, 0x1_2345_6000, 0x20_0000_0000] {
        let fault = jump(to).unwrap_or_default();
        check_eq!(fault.class(), ec::FETCH, "class after a jump to {to:#x}");
        check_eq!(fault.status(), EXTERNAL, "IFSC after a jump to {to:#x}");
        check_eq!(fault.far as usize, to, "FAR after a jump");
        check_eq!(fault.elr as usize, to, "ELR after a jump");
        check_eq!(fault.vector, 4, "vector");
        check_eq!(fault.esr >> 10 & 1, 0, "FnV after a jump to {to:#x}");
        // Mode EL1h, and the exception's masks did not leak into what it saved.
        check_eq!(fault.spsr & 0x3cf, 0x3c5, "SPSR after a jump to {to:#x}");
    }
    if strict {
        // A device is no place to run code from. (QEMU alone runs what it reads there.)
        for to in [0x0900_0000, 0x0800_0000, 0x080a_0000, 0x0a00_0000] {
            let fault = jump(to).unwrap_or_default();
            check_eq!(fault.class(), ec::FETCH, "class after a jump to the device {to:#x}");
            check_eq!(fault.far as usize, to, "FAR after a jump to the device");
        }
    }
    let fault = jump(guests::image_start() + 2).unwrap_or_default();
    check_eq!(fault.class(), ec::PC_ALIGN, "class after a jump to an odd address");
}

/// LDR and STR of each size, one instruction at a known place.
fn data(strict: bool, when: &str) {
    let top = RAM + fdt::memory();
    for at in [NOTHING, NOTHING + 0xff8, top, top + 0x1000, 0x1_2345_6000, 0x20_0000_0000] {
        for (name, word, write) in [
            ("ldrb", 0x3940_0001u32, false),
            ("ldrh", 0x7940_0001, false),
            ("ldr w", 0xb940_0001, false),
            ("ldr x", 0xf940_0001, false),
            ("strb", 0x3900_0001, true),
            ("strh", 0x7900_0001, true),
            ("str w", 0xb900_0001, true),
            ("str x", 0xf900_0001, true),
        ] {
            let mut place = 0;
            let fault = attempt(|| {
                place = code::place(&[word, code::RET]);
                code::run(&[word], at as u64);
            });
            let Some(fault) = fault else {
                check!(false, "{name} at {at:#x} with {when}: no fault");
                continue;
            };
            check_eq!(fault.class(), ec::DATA, "class of {name} at {at:#x} with {when}");
            check_eq!(fault.status(), EXTERNAL, "DFSC of {name} at {at:#x} with {when}");
            check_eq!(fault.far as usize, at, "FAR of {name} with {when}");
            check_eq!(fault.elr as usize, place, "ELR of {name} at {at:#x} with {when}");
            check_eq!(fault.esr >> 25 & 1, 1, "IL of {name}");
            // ISV belongs to aborts taken to EL2; WnR may be UNKNOWN for external aborts, but if set must be right.
            check_eq!(fault.esr >> 24 & 1, 0, "ISV of {name}");
            check!(write || fault.esr >> 6 & 1 == 0 || !strict, "WnR of {name}, a load");
            check_eq!(fault.esr >> 10 & 1, 0, "FnV of {name}");
        }
    }
    // Far beyond any memory: an address size fault where the size is known, else an external abort.
    for at in [1usize << 47, 1 << 51 | 0x4000_0000, 1 << 40 | 0x4000_0000] {
        let fault = attempt(|| _ = mmio::read64(at)).unwrap_or_default();
        check_eq!(fault.class(), ec::DATA, "class at {at:#x} with {when}");
        check_eq!(fault.far as usize, at, "FAR far away with {when}");
    }
}

/// Stage 1 tables that lie where nothing is.
fn walks() {
    /// The second half of the addresses by TTBR1, whose table is nowhere.
    const HIGH: usize = 0xffff_ff80_0000_0000;
    let is_walk = |fault: Fault| matches!(fault.status(), EXTERNAL | 0x14..=0x17);
    for (table, high) in [(NOTHING, true), (0x1_2345_6000, true), (NOTHING, false)] {
        if high {
            msr!("ttbr1_el1", table as u64);
            // T1SZ = 25, cacheable walks, 4 KiB granule.
            msr!("tcr_el1", mmu::TCR & !(1 << 23) | 25 << 16 | 1 << 24 | 1 << 26 | 3 << 28 | 2 << 30);
        } else {
            // A table descriptor in the last slot of our own table.
            mmio::write64(mmu::root() + 8 * 511, table as u64 | 3);
        }
        op!("dsb sy");
        op!("tlbi vmalle1");
        op!("dsb sy");
        op!("isb");
        let at = if high { HIGH } else { 511 << 30 };
        let fault = attempt(|| _ = mmio::read64(at)).unwrap_or_default();
        check_eq!(fault.class(), ec::DATA, "class of a walk through {table:#x}");
        check!(is_walk(fault), "DFSC of a walk through {table:#x}: {:#x}", fault.status());
        check_eq!(fault.far as usize, at, "FAR of a walk");
        let fault = jump(at).unwrap_or_default();
        check_eq!(fault.class(), ec::FETCH, "class of a fetch walk through {table:#x}");
        check!(is_walk(fault), "IFSC of a walk through {table:#x}: {:#x}", fault.status());
        check_eq!(fault.far as usize, at, "FAR of a fetch walk");
    }
    // A walk that reads a device's registers as descriptors: any fault will do.
    msr!("ttbr1_el1", 0x0900_0000);
    op!("tlbi vmalle1");
    op!("dsb sy");
    op!("isb");
    let fault = attempt(|| _ = mmio::read64(HIGH));
    check!(fault.is_some(), "a walk through the UART finds a translation");
    // AT on such an address answers in PAR_EL1 or faults.
    let fault = attempt(|| {
        // SAFETY: address translation has no other effect than PAR_EL1.
        unsafe { asm!("at s1e1r, {}", "isb", in(reg) HIGH) };
    });
    check!(
        fault.is_some() || guests::mrs!("par_el1") & 1 == 1,
        "AT through the UART says {:#x}",
        guests::mrs!("par_el1")
    );
    msr!("tcr_el1", mmu::TCR);
}

/// The vector depends on where the fault came from: SP_EL0 in use, SP_EL1 in use (above), EL0 (guest el0).
fn sources() {
    let fault = attempt(|| {
        // SAFETY: nothing uses the stack between the switches; the exception switches to SP_EL1 by itself.
        unsafe {
            asm!("mov {t}, sp", "msr spsel, #0", "mov sp, {t}", "ldr {t}, [{a}]", "msr spsel, #1",
                t = out(reg) _, a = in(reg) NOTHING)
        };
    })
    .unwrap_or_default();
    check_eq!(fault.vector, 0, "vector with SP_EL0");
    check_eq!(fault.spsr & 0xf, 4, "mode saved with SP_EL0");
}
