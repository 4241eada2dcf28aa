//! AArch32 programs at EL0, where the CPU has them: A32 and T32, conditions, coprocessors, aborts.
#![no_std]
#![no_main]

use guests::trap::{Fault, ec, el0};
use guests::{check, check_eq, code, mrs, msr, println};

guests::guest!("aarch32", main);

/// User mode, A32, interrupts masked.
const A32: u64 = 0x1d0;
/// The same in T32.
const T32: u64 = A32 | 1 << 5;
/// PSTATE.Z.
const Z: u64 = 1 << 30;
/// svc #0x55: the regular end.
const SVC: u32 = 0xef00_0055;
const NOTHING: u64 = 0x0b00_0000;

fn run(words: &[u32], spsr: u64, r0: u64) -> (Fault, u64, usize) {
    let mut all = [if spsr & 1 << 5 == 0 { SVC } else { 0xdf55_df55 }; 16];
    for (slot, word) in all.iter_mut().zip(words) {
        *slot = *word;
    }
    let pc = code::place(&all);
    let (fault, x0) = el0(pc, spsr, 0, [r0, 0]);
    (fault, x0, pc)
}

fn main() {
    if mrs!("id_aa64pfr0_el1") & 0xf != 2 {
        return println!("aarch32: not on this CPU");
    }
    // CP15 barriers, IT, SETEND allowed; no traps of WFI, WFE.
    msr!("sctlr_el1", mrs!("sctlr_el1") & !(1 << 7 | 1 << 8) | 1 << 5 | 1 << 16 | 1 << 18);
    msr!("cpacr_el1", 3 << 20);
    let (fault, r0, pc) = run(&[0xe280_0001], A32, 41); // add r0, r0, #1
    check_eq!(fault.class(), ec::SVC32, "class of svc");
    check_eq!(fault.iss() & 0xffff, 0x55, "immediate of svc");
    check_eq!(fault.vector, 12, "vector of svc");
    check_eq!(fault.elr as usize, pc + 8, "ELR of svc");
    check_eq!(fault.spsr & 0x1f, 0x10, "mode of svc");
    check_eq!(r0, 42, "r0 at svc");
    undefined();
    conditions();
    allowed();
    thumb();
    aborts();
    println!("aarch32: A32 and T32 run at EL0");
}

const UNDEFINED: &[(&str, u32)] = &[
    ("udf", 0xe7f0_00f0),
    ("hvc #0", 0xe140_0070),
    ("smc #0", 0xe160_0070),
    ("eret", 0xe160_006e),
    ("mrc MIDR", 0xee10_0f10),
    ("mrc MPIDR", 0xee10_0fb0),
    ("mrc ID_PFR0", 0xee10_0f11),
    ("mrc CTR", 0xee10_0f30),
    ("mrc SCTLR", 0xee11_0f10),
    ("mcr SCTLR", 0xee01_0f10),
    ("mcr DACR", 0xee03_0f10),
    ("mcr TLBIALL", 0xee08_0f17),
    ("mcr DCISW", 0xee07_0f56),
    ("mcr DCCISW", 0xee07_0f5e),
    ("mcr ICIALLU", 0xee07_0f15),
    ("mcr HCR", 0xee81_0f11),
    ("mrc HVBAR", 0xee9c_0f10),
    ("mrc ACTLR", 0xee11_0f30),
    ("mrc implementation defined c15", 0xee1f_0f10),
    ("mrc implementation defined c11", 0xee1b_0f10),
    ("mrrc PAR", 0xec51_0f07),
    ("mrrc TTBR0", 0xec51_0f02),
    ("mcrr ICC_SGI1R", 0xec41_0f0c),
    ("mrc p14 DBGDSCRext", 0xee10_0e52),
    ("mcr p14 DBGOSLAR", 0xee01_0e90),
    ("ldc p14, c5", 0xed90_5e00),
    ("mrc p10 FPEXC", 0xeef8_0a10),
    ("coprocessor 7", 0xee10_0710),
    ("cdp p15", 0xee00_0f00),
];

fn undefined() {
    for (name, word) in UNDEFINED {
        let (fault, ..) = run(&[*word], A32, NOTHING);
        check!(fault.is_undefined(), "{name}: class {:#x} ESR {:#x}", fault.class(), fault.esr);
        check_eq!(fault.vector, 12, "vector of {name}");
    }
}

/// A condition that fails makes an instruction a no-op, even one that would trap; nothing is skipped twice.
fn conditions() {
    // Z is clear: EQ fails. mrceq, then add.
    for word in [0x0e10_0f10u32, 0x0e1b_0f10, 0x0e1f_0f10, 0x0c51_0f02, 0x0e11_0f30, 0x0320_f003, 0x0e1d_0f70]
    {
        let (fault, r0, pc) = run(&[word, 0xe280_0001], A32, 7);
        check_eq!(fault.class(), ec::SVC32, "class after {word:#x} with a failed condition");
        check_eq!(fault.elr as usize, pc + 12, "ELR after {word:#x}");
        check_eq!(r0, 8, "r0 after {word:#x}");
    }
    // Z is set: EQ holds.
    let (fault, ..) = run(&[0x0e10_0f10], A32 | Z, 7);
    check!(fault.is_undefined(), "mrceq MIDR with Z: class {:#x}", fault.class());
}

/// What EL0 may do when EL1 allows it.
fn allowed() {
    msr!("cntkctl_el1", 0x303);
    for (name, word) in [
        ("dmb by CP15", 0xee07_0fbau32),
        ("dsb by CP15", 0xee07_0f9a),
        ("isb by CP15", 0xee07_0f95),
        ("mrc TPIDRURO", 0xee1d_0f70),
        ("mcr TPIDRURW", 0xee0d_0f50),
        ("mrrc CNTVCT", 0xec51_0f1e),
        ("mrrc CNTPCT", 0xec51_0f0e),
        ("mrc CNTFRQ", 0xee1e_0f10),
        ("mrc CNTV_CTL", 0xee1e_0f33),
        ("mrc CNTP_CTL", 0xee1e_0f32),
        ("mcrr CNTP_CVAL", 0xec41_0f2e),
        ("vmrs FPSCR", 0xeef1_0a10),
        ("yield", 0xe320_f001),
    ] {
        let (fault, ..) = run(&[word], A32, 0);
        check_eq!(fault.class(), ec::SVC32, "class after {name}");
    }
    let (fault, r0, _) = run(&[0xee1e_0f10], A32, 0);
    check_eq!(fault.class(), ec::SVC32, "class after CNTFRQ");
    check_eq!(r0, mrs!("cntfrq_el0"), "CNTFRQ in r0");
    msr!("cntkctl_el1", 0);
    let (fault, ..) = run(&[0xec51_0f1e], A32, 0);
    check_eq!(fault.class(), 4, "class of mrrc CNTVCT while forbidden");
}

fn thumb() {
    let (fault, _, pc) = run(&[0xdf55_bf00], T32, 0); // nop; svc #0x55
    check_eq!(fault.class(), ec::SVC32, "class of svc in T32");
    check_eq!(fault.elr as usize, pc + 4, "ELR of svc in T32");
    let (fault, ..) = run(&[0xdf55_de00], T32, 0); // udf
    check!(fault.is_undefined(), "udf in T32: class {:#x}", fault.class());
    let (fault, ..) = run(&[0x0f10_ee10], T32, 0); // mrc MIDR
    check!(fault.is_undefined(), "mrc MIDR in T32: class {:#x}", fault.class());
    // IT EQ with Z clear: the MRC in the block does nothing, the ADD after it runs.
    // it eq; mrc (2 half words); adds r0, #1; svc
    let (fault, r0, pc) = run(&[0xee10_bf08, 0x3001_0f10, 0xdf55_df55], T32, 7);
    check_eq!(fault.class(), ec::SVC32, "class after an IT block");
    check_eq!(r0, 8, "r0 after an IT block");
    check_eq!(fault.elr as usize, pc + 10, "ELR after an IT block");
    // A 2-byte load from a device, in an IT block of two with the condition true: itt eq; ldr r0, [r0]; adds r0, #1.
    let device = (guests::uart::BASE + 0xffc) as u64;
    let (fault, r0, pc) = run(&[0x6800_bf04, 0xdf55_3001], T32 | Z, device);
    check_eq!(fault.class(), ec::SVC32, "class after a device load in an IT block");
    check_eq!(r0, 0xb2, "r0 after a device load in an IT block");
    check_eq!(fault.elr as usize, pc + 8, "ELR after a device load in an IT block");
    check_eq!(fault.spsr >> 25 & 3 | fault.spsr >> 8 & 0xfc, 0, "IT state after its block");
}

fn aborts() {
    for (name, word, spsr) in [
        ("ldr r1, [r0]", 0xe590_1000u32, A32),
        ("strb r1, [r0]", 0xe5c0_1000, A32),
        ("ldmia r0, {r1, r2}", 0xe890_0006, A32),
        ("stmdb r0!, {r1, r2}", 0xe920_0006, A32),
        ("ldrd r2, r3, [r0]", 0xe1c0_20d0, A32),
        ("ldrex r1, [r0]", 0xe190_1f9f, A32),
        ("swpless ldr r1, [r0], #4", 0xe490_1004, A32),
        ("T32 ldr r1, [r0]", 0xdf55_6801, T32),
    ] {
        let (fault, r0, pc) = run(&[word], spsr, NOTHING);
        check_eq!(fault.class(), ec::DATA_EL0, "class of {name} where nothing is");
        check_eq!(fault.status(), 0x10, "DFSC of {name}");
        check_eq!(fault.elr as usize, pc, "ELR of {name}");
        check_eq!(fault.vector, 12, "vector of {name}");
        check_eq!(r0, NOTHING, "base of {name}");
        check!(fault.far.wrapping_sub(NOTHING - 8) <= 8, "FAR of {name}: {:#x}", fault.far);
    }
    let (fault, ..) = run(&[0xe12f_ff10], A32, NOTHING); // bx r0
    check_eq!(fault.class(), ec::FETCH_EL0, "class of a jump to nothing");
    check_eq!(fault.status(), 0x10, "IFSC of a jump to nothing");
    check_eq!(fault.far, NOTHING, "FAR of a jump to nothing");
    check_eq!(fault.vector, 12, "vector of a jump to nothing");
    // Device loads of the widths that A32 has: sign and zero extension.
    let device = (guests::uart::BASE + 0xffc) as u64;
    for (name, word, want) in [
        ("ldr r0, [r0]", 0xe590_0000u32, 0xb1u64),
        ("ldrb r0, [r0]", 0xe5d0_0000, 0xb1),
        ("ldrsb r0, [r0]", 0xe1d0_00d0, 0xffff_ffb1),
        ("ldrh r0, [r0]", 0xe1d0_00b0, 0xb1),
    ] {
        let (fault, r0, _) = run(&[word], A32, device);
        check_eq!(fault.class(), ec::SVC32, "class after {name} of a device");
        check_eq!(r0 & 0xffff_ffff, want, "{name} of a device");
    }
}
