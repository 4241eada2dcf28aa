//! RAM is there to its last byte, only there, and each address is a place of its own.
#![no_std]
#![no_main]

use core::arch::asm;
use guests::trap::{attempt, ec};
use guests::{RAM, check, check_eq, fdt, image_end, image_start, mmio, mmu, println};

guests::guest!("memory", main);

fn main() {
    let strict = fdt::under_hypervisor();
    let size = fdt::memory();
    let top = RAM + size;
    check!(size >= 16 << 20, "/memory has {size:#x} bytes");
    let Some(tree) = fdt::tree() else { return check!(false, "no tree") };
    let used = |at: usize| {
        (image_start()..image_end()).contains(&at) || (tree.base()..tree.base() + tree.len()).contains(&at)
    };
    // The edges, by bytes and by words.
    for at in [RAM, top - 1, top - 64] {
        mmio::write8(at, 0xa5);
        check_eq!(mmio::read8(at), 0xa5, "byte at {at:#x}");
    }
    mmio::write64(top - 8, 0x0123_4567_89ab_cdef);
    check_eq!(mmio::read64(top - 8), 0x0123_4567_89ab_cdef, "last word");
    // No two addresses are the same memory: each 64 KiB is told apart.
    let step = 0x1_0000;
    let places = || (RAM..top).step_by(step).map(|at| at + 0x8008).filter(|at| !used(*at));
    for at in places() {
        mmio::write64(at, at as u64 ^ 0x5555_0000_0000_0000);
    }
    let mut wrong = 0;
    for at in places() {
        wrong += u32::from(mmio::read64(at) != at as u64 ^ 0x5555_0000_0000_0000);
    }
    check_eq!(wrong, 0, "places with another's content");

    mmu::build();
    for mmu_on in [false, true] {
        if mmu_on {
            mmu::on();
        }
        outside(strict, top, mmu_on);
    }
    println!("memory: {} MiB, {} places", size >> 20, places().count());
}

fn outside(strict: bool, top: usize, mmu_on: bool) {
    // QEMU's own machine has PCI below RAM; a hypervisor's guest has nothing.
    let below = if strict { RAM - 1 } else { top };
    for at in [below, top, top + 0xfff, top + (1 << 30), RAM + (1 << 36), RAM + (1 << 37)] {
        for write in [false, true] {
            let fault = attempt(|| if write { mmio::write8(at, 1) } else { _ = mmio::read8(at) });
            let got = fault.unwrap_or_default();
            check_eq!(got.class(), ec::DATA, "class at {at:#x} outside RAM (write {write}, MMU {mmu_on})");
            check_eq!(got.status(), 0x10, "DFSC at {at:#x} outside RAM");
            check_eq!(got.far as usize, at, "FAR outside RAM");
        }
    }
    // High address bits do not come back as low ones.
    let mark = top - 16;
    mmio::write64(mark, 1);
    // (QEMU's own machine has its second PCI window at 512 GiB.)
    for bit in (32..52).filter(|bit| strict || *bit != 39) {
        let at = mark | 1 << bit;
        let fault = attempt(|| mmio::write64(at, 2));
        check!(fault.is_some(), "a write at {at:#x} goes through");
    }
    check_eq!(mmio::read64(mark), 1, "RAM written by an alias of its address");
    if mmu_on {
        // Across the end: half of it is RAM.
        let at = top - 4;
        let fault = attempt(|| {
            // SAFETY: half of the load is RAM, the rest faults.
            unsafe { asm!("ldr {0}, [{1}]", out(reg) _, in(reg) at) };
        });
        check_eq!(fault.unwrap_or_default().class(), ec::DATA, "class of a load across the end of RAM");
    }
}
