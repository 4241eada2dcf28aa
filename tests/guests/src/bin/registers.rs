//! What a CPU finds at entry: the boot protocol, reset values, zeroed RAM.
#![no_std]
#![no_main]

use guests::{RAM, boot, check, check_eq, fdt, image_end, image_start, mmio, mrs, msr, println};

guests::guest!("registers", main);

macro_rules! zero {
    ($($reg:literal)*) => {$( check_eq!(mrs!($reg), 0, $reg); )*};
}

fn main() {
    let strict = fdt::under_hypervisor();
    let boot = boot();
    for n in 1..4 {
        check_eq!(boot.x[n], 0, "x{n}");
    }
    if strict {
        for n in (4..31).filter(|n| *n != 29) {
            check_eq!(boot.x[n], 0, "x{n}");
        }
        check_eq!(boot.sp, 0, "SP_EL1");
        check_eq!(mrs!("sctlr_el1"), 0x30d0_0800, "SCTLR_EL1");
        zero!("actlr_el1");
    }
    check_eq!(boot.vbar, 0, "VBAR_EL1");
    check_eq!(boot.tpidr, 0, "TPIDR_EL1");
    check_eq!(boot.daif, 0x3c0, "DAIF");
    check_eq!(mrs!("currentel"), 4, "CurrentEL");
    check_eq!(mrs!("spsel"), 1, "SPSel");
    check_eq!(mrs!("sctlr_el1") & 0x1005, 0, "SCTLR_EL1 M, C, I");
    zero!("cpacr_el1" "ttbr0_el1" "ttbr1_el1" "tcr_el1" "mair_el1" "amair_el1" "esr_el1" "far_el1"
        "afsr0_el1" "afsr1_el1" "elr_el1" "sp_el0" "tpidr_el0" "tpidrro_el0" "contextidr_el1"
        "par_el1" "csselr_el1" "cntkctl_el1" "cntv_ctl_el0" "cntp_ctl_el0");
    check_eq!(mrs!("spsr_el1") & if strict { !0 } else { 0 }, 0, "SPSR_EL1");
    check!(mrs!("cntfrq_el0") >= 1_000_000, "CNTFRQ_EL0 {}", mrs!("cntfrq_el0"));
    check_eq!(mrs!("mpidr_el1") & 0xff_80ff_ffff, 0x8000_0000, "MPIDR_EL1");
    check!(mrs!("midr_el1") != 0, "MIDR_EL1 is zero");
    fp();
    ram(strict);
}

fn fp() {
    msr!("cpacr_el1", 3 << 20);
    let mut all = 0u64;
    macro_rules! v {
        ($($n:literal)*) => {$(
            let (low, high): (u64, u64);
            // SAFETY: reads a vector register.
            unsafe {
                core::arch::asm!(".arch_extension simd", concat!("umov {0}, v", $n, ".d[0]"),
                    concat!("umov {1}, v", $n, ".d[1]"), out(reg) low, out(reg) high)
            };
            all |= low | high;
        )*};
    }
    v!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31);
    check_eq!(all, 0, "V0 to V31 together");
    check_eq!(mrs!("s3_3_c4_c4_0"), 0, "FPCR");
    check_eq!(mrs!("s3_3_c4_c4_1"), 0, "FPSR");
}

/// RAM outside image, tree and initrd reads as zero, sampled at every 4104 bytes.
fn ram(strict: bool) {
    let Some(tree) = fdt::tree() else { return check!(false, "no tree at {:#x}", boot().x[0]) };
    let chosen = |name| tree.find(&["", "chosen"], name).map_or(0, fdt::number) as usize;
    let holes = [
        (image_start(), image_end()),
        (tree.base(), tree.base() + tree.len()),
        (chosen("linux,initrd-start"), chosen("linux,initrd-end")),
        // QEMU's own loader starts there.
        (RAM, if strict { RAM } else { RAM + 0x1000 }),
    ];
    let size = fdt::memory();
    check!(size >= 16 << 20, "/memory has {size:#x} bytes");
    let (mut at, mut samples, mut dirty) = (RAM, 0, 0);
    while at + 8 <= RAM + size {
        if !holes.iter().any(|(from, to)| at + 8 > *from && at < *to) {
            samples += 1;
            if mmio::read64(at) != 0 {
                dirty += 1;
                check!(dirty > 3, "RAM at {at:#x} reads {:#x}", mmio::read64(at));
            }
        }
        at += 4104;
    }
    check_eq!(dirty, 0, "samples of RAM that are not zero");
    println!("registers: {samples} samples of {} MiB", size >> 20);
}
