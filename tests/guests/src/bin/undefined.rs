//! Undefined and privileged instructions at EL1: UNDEFINED, or the class that belongs to them.
#![no_std]
#![no_main]

use guests::trap::{attempt, ec};
use guests::{check, check_eq, code, fdt, mrs, op, println, psci, timer};

guests::guest!("undefined", main);

/// Name and encoding.
const UNDEFINED: &[(&str, u32)] = &[
    ("udf #0", 0x0000_0000),
    ("udf #0xffff", 0x0000_ffff),
    ("all ones", 0xffff_ffff),
    ("hlt #0", 0xd440_0000),
    // Semihosting: with it on, a guest could do as it likes with the host.
    ("hlt #0xf000", 0xd45e_0000),
    ("dcps1", 0xd4a0_0001),
    ("dcps2", 0xd4a0_0002),
    ("dcps3", 0xd4a0_0003),
    ("drps", 0xd6bf_03e0),
    ("msr vbar_el2, x0", 0xd51c_c000),
    ("mrs x0, hcr_el2", 0xd53c_1100),
    ("msr hcr_el2, x0", 0xd51c_1100),
    ("mrs x0, vttbr_el2", 0xd53c_2100),
    ("msr cntvoff_el2, x0", 0xd51c_e060),
    ("mrs x0, ich_lr0_el2", 0xd53c_cc00),
    ("msr ich_hcr_el2, x0", 0xd51c_cb00),
    ("mrs x0, sp_el1", 0xd53c_4100),
    ("mrs x0, spsr_el2", 0xd53c_4000),
    ("msr scr_el3, x0", 0xd51e_1100),
    ("mrs x0, cntps_ctl_el1", 0xd53f_e220),
    ("tlbi alle1", 0xd50c_879f),
    ("tlbi alle2", 0xd50c_871f),
    ("tlbi vmalls12e1", 0xd50c_87df),
    ("tlbi ipas2e1, x0", 0xd50c_8420),
    ("at s1e2r, x0", 0xd50c_7800),
    ("at s12e1r, x0", 0xd50c_7880),
    ("implementation defined S3_1_C15_C2_1", 0xd539_f220),
    ("implementation defined SYS c15", 0xd50b_f020),
];

fn main() {
    let strict = fdt::under_hypervisor();
    for (name, word) in UNDEFINED {
        let fault = attempt(|| _ = code::run(&[*word], 0));
        let got = fault.unwrap_or_default();
        // QEMU models a few implementation defined registers of some CPUs; a hypervisor shows none.
        if !strict && name.starts_with("implementation") {
            continue;
        }
        check!(fault.is_some(), "{name} works");
        check!(got.is_undefined(), "{name}: class {:#x}", got.class());
        check_eq!(got.vector, 4, "vector of {name}");
        check_eq!(got.esr & 0x3ff_ffff, 0x200_0000, "ESR of {name}: IL, no ISS");
        check_eq!(got.elr as usize, code::place(&[*word, code::RET]), "ELR of {name}");
    }
    let class =
        |word| attempt(|| _ = code::run(&[word], 0)).map_or((0, 0), |f| (f.class(), f.iss() & 0xffff));
    check_eq!(class(0xd400_00a1).0, ec::SVC64, "class of svc #5");
    check_eq!(class(0xd400_00a1).1, 5, "immediate of svc #5");
    check_eq!(class(0xd420_0020).0, 0x3c, "class of brk #1");
    check_eq!(class(0xd420_0020).1, 1, "immediate of brk #1");
    smc(strict);
    illegal_return();
    if strict {
        check!(psci::hvc(psci::VERSION, [0; 3]).x[0] >= 0x1_0000, "PSCI is gone");
    }
    println!("undefined: {} instructions", UNDEFINED.len());
}

/// SMC with any immediate: a call, or UNDEFINED.
fn smc(strict: bool) {
    for word in [0xd400_0003u32, 0xd400_0023, 0xd41f_ffe3] {
        let mut x0 = 0u64;
        let fault = attempt(|| {
            let at = code::place(&[word, code::RET]);
            // SAFETY: an SMC call changes x0 to x17 at most.
            unsafe {
                core::arch::asm!("blr {}", in(reg) at, inout("x0") 0x8400_0000u64 => x0, clobber_abi("C"))
            };
        });
        check!(fault.is_none_or(|f| f.is_undefined()), "SMC {word:#x}: {fault:x?}");
        check!(
            !strict || fault.is_some() || x0 >> 16 == 1 || x0 as u32 == psci::NOT_SUPPORTED,
            "SMC {word:#x}: {x0:#x}"
        );
    }
}

/// ERET to EL2, to EL3, and to modes that do not exist: PSTATE.IL is set at EL1, nobody gets higher.
fn illegal_return() {
    for mode in [0x3c9u64, 0x3c8, 0x3cd, 0x3cc, 0x3c7, 0x3c6, 0x3cb, 0x3d2] {
        let fault = attempt(|| {
            // SAFETY: the illegal return goes on at the label with PSTATE.IL set, and the next instruction faults.
            unsafe {
                core::arch::asm!("adr {t}, 2f", "msr elr_el1, {t}", "msr spsr_el1, {m}", "isb", "eret",
                    "2:", "nop", t = out(reg) _, m = in(reg) mode)
            };
        });
        let got = fault.unwrap_or_default();
        check_eq!(got.class(), 0x0e, "class of a return to mode {mode:#x}");
        check_eq!(mrs!("currentel"), 4, "level after a return to mode {mode:#x}");
        op!("msr spsel, #1");
    }
    // Time goes on and interrupts still can be masked.
    check_eq!(mrs!("daif") & 0x80, 0x80, "PSTATE.I");
    timer::wait(100);
}
