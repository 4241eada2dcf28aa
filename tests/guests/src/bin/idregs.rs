//! ID registers: all of the ID space reads, and features whose state nobody switches are not shown.
#![no_std]
#![no_main]

use guests::code::{self, MRS, field};
use guests::{check, check_eq, fdt, mrs, println, trap};

guests::guest!("idregs", main);

fn read(crm: u32, op2: u32) -> Option<u64> {
    let mut value = 0;
    let fault = trap::attempt(|| value = code::run(&[MRS | field(3, 0, 0, crm, op2)], 0));
    fault.is_none().then_some(value)
}

fn main() {
    let mut shown = 0;
    for crm in 1..8 {
        for op2 in 0..8 {
            let value = read(crm, op2);
            check!(value.is_some(), "S3_0_C0_C{crm}_{op2} is UNDEFINED");
            shown += u32::from(value.unwrap_or(0) != 0);
        }
    }
    for op2 in [0, 5, 6] {
        check!(read(0, op2).is_some(), "S3_0_C0_C0_{op2} is UNDEFINED");
    }
    println!("idregs: {shown} registers are not zero");
    // CTR_EL0, DCZID_EL0, CLIDR_EL1, CCSIDR_EL1 for what CLIDR shows.
    check!(mrs!("ctr_el0") >> 31 & 1 == 1, "CTR_EL0 {:#x}", mrs!("ctr_el0"));
    let _ = (mrs!("dczid_el0"), mrs!("aidr_el1"), mrs!("revidr_el1"));
    let clidr = mrs!("clidr_el1");
    for level in (0..7).filter(|level| clidr >> (3 * level) & 7 != 0) {
        guests::msr!("csselr_el1", level << 1);
        check_eq!(mrs!("csselr_el1"), level << 1, "CSSELR_EL1");
        check!(mrs!("ccsidr_el1") & 7 <= 4, "CCSIDR_EL1 {:#x}", mrs!("ccsidr_el1"));
    }
    if fdt::under_hypervisor() {
        hidden();
    }
}

/// A field of a register is one of `allowed`.
fn is(register: (u32, u32), name: &str, shift: u32, allowed: &[u64]) {
    let value = read(register.0, register.1).unwrap_or(0) >> shift & 0xf;
    check!(allowed.contains(&value), "{name} is {value}, expected one of {allowed:?}");
}

const PFR0: (u32, u32) = (4, 0);
const PFR1: (u32, u32) = (4, 1);
const ZFR0: (u32, u32) = (4, 4);
const SMFR0: (u32, u32) = (4, 5);
const DFR0: (u32, u32) = (5, 0);
const ISAR1: (u32, u32) = (6, 1);
const ISAR2: (u32, u32) = (6, 2);
const MMFR0: (u32, u32) = (7, 0);
const MMFR1: (u32, u32) = (7, 1);
const MMFR2: (u32, u32) = (7, 2);
const MMFR3: (u32, u32) = (7, 3);

fn hidden() {
    is(PFR0, "PFR0.EL0", 0, &[1, 2]);
    is(PFR0, "PFR0.EL1 (AArch64 only)", 4, &[1]);
    is(PFR0, "PFR0.EL2", 8, &[0]);
    is(PFR0, "PFR0.EL3", 12, &[0]);
    is(PFR0, "PFR0.FP", 16, &[0, 1]);
    is(PFR0, "PFR0.AdvSIMD", 20, &[0, 1]);
    is(PFR0, "PFR0.GIC", 24, &[1]);
    is(PFR0, "PFR0.RAS", 28, &[0, 1]);
    is(PFR0, "PFR0.SVE", 32, &[0]);
    is(PFR0, "PFR0.SEL2", 36, &[0]);
    is(PFR0, "PFR0.MPAM", 40, &[0]);
    is(PFR0, "PFR0.AMU", 44, &[0]);
    is(PFR0, "PFR0.RME", 52, &[0]);
    is(PFR1, "PFR1.MTE", 8, &[0]);
    is(PFR1, "PFR1.MPAM_frac", 16, &[0]);
    is(PFR1, "PFR1.SME", 24, &[0]);
    is(PFR1, "PFR1.NMI", 36, &[0]);
    is(PFR1, "PFR1.GCS", 44, &[0]);
    for shift in (0..64).step_by(4) {
        is(ZFR0, "ZFR0", shift, &[0]);
        is(SMFR0, "SMFR0", shift, &[0]);
    }
    is(DFR0, "DFR0.TraceVer", 4, &[0]);
    is(DFR0, "DFR0.PMUVer", 8, &[0, 15]);
    is(DFR0, "DFR0.PMSVer", 32, &[0]);
    is(DFR0, "DFR0.TraceFilt", 40, &[0]);
    is(DFR0, "DFR0.TraceBuffer", 44, &[0]);
    is(DFR0, "DFR0.MTPMU", 48, &[0, 15]);
    is(DFR0, "DFR0.BRBE", 52, &[0]);
    is(ISAR1, "ISAR1.APA", 4, &[0]);
    is(ISAR1, "ISAR1.API", 8, &[0]);
    is(ISAR1, "ISAR1.GPA", 24, &[0]);
    is(ISAR1, "ISAR1.GPI", 28, &[0]);
    is(ISAR1, "ISAR1.LS64", 60, &[0]);
    is(ISAR2, "ISAR2.GPA3", 8, &[0]);
    is(ISAR2, "ISAR2.APA3", 12, &[0]);
    is(MMFR1, "MMFR1.VH", 8, &[0]);
    is(MMFR1, "MMFR1.LO", 16, &[0]);
    is(MMFR2, "MMFR2.NV", 24, &[0]);
    is(MMFR3, "MMFR3.TCRX", 0, &[0]);
    is(MMFR3, "MMFR3.SCTLRX", 4, &[0]);
    is(MMFR3, "MMFR3.S1PIE", 8, &[0]);
    is(MMFR3, "MMFR3.S1POE", 16, &[0]);
    check!(read(MMFR0.0, MMFR0.1).unwrap_or(0) & 0xf <= 5, "MMFR0.PARange");
    // RAS shown means that its registers answer: ERRIDR_EL1 says how many records there are.
    if read(4, 0).unwrap_or(0) >> 28 & 0xf != 0 {
        let fault = trap::attempt(|| _ = code::run(&[MRS | field(3, 0, 5, 3, 0)], 0));
        check!(fault.is_none(), "RAS is shown but ERRIDR_EL1 is UNDEFINED");
    }
    state();
}

/// What is hidden does not work either: registers and instructions of those features are UNDEFINED.
fn state() {
    // SVE, FP and SME allowed as far as EL1 has a say: its own traps come before EL2's.
    guests::msr!("cpacr_el1", 3 << 24 | 3 << 20 | 3 << 16);
    for (name, register) in [
        ("ZCR_EL1", field(3, 0, 1, 2, 0)),
        ("SMCR_EL1", field(3, 0, 1, 2, 6)),
        ("SVCR", field(3, 3, 4, 2, 2)),
        ("TPIDR2_EL0", field(3, 3, 13, 0, 5)),
        ("APIAKeyLo_EL1", field(3, 0, 2, 1, 0)),
        ("APGAKeyHi_EL1", field(3, 0, 2, 3, 1)),
        ("GCR_EL1", field(3, 0, 1, 0, 6)),
        ("TFSR_EL1", field(3, 0, 5, 6, 0)),
        ("PMSCR_EL1", field(3, 0, 9, 9, 0)),
        ("TRBLIMITR_EL1", field(3, 0, 9, 11, 0)),
        ("TRFCR_EL1", field(3, 0, 1, 2, 1)),
        ("MPAM1_EL1", field(3, 0, 10, 5, 0)),
        ("AMCR_EL0", field(3, 3, 13, 2, 0)),
        ("BRBCR_EL1", field(2, 1, 9, 0, 0)),
        ("LORSA_EL1", field(3, 0, 10, 4, 0)),
        ("HCR_EL2", field(3, 4, 1, 1, 0)),
        ("VBAR_EL12", field(3, 5, 12, 0, 0)),
        ("SCR_EL3", field(3, 6, 1, 1, 0)),
    ] {
        for word in [code::MRS, code::MSR] {
            let fault = trap::attempt(|| _ = code::run(&[word | register], 0));
            let how = if word == code::MRS { "read" } else { "write" };
            check!(fault.is_some_and(|f| f.is_undefined()), "{how} of {name}: {fault:x?}");
        }
    }
    // A key that is enabled: while it is not, the instruction does nothing, and nobody can hide that.
    guests::msr!("sctlr_el1", mrs!("sctlr_el1") | 1 << 27);
    for (name, word) in [
        ("SVE: ptrue p0.b", 0x2518_e3e0),
        ("SVE: rdvl x0, #1", 0x04bf_5020),
        ("SME: smstart", 0xd503_477f),
        ("PAuth: pacda x0, x1", 0xdac1_0820),
    ] {
        let scratch = guests::image_end() as u64;
        let fault = trap::attempt(|| _ = code::run(&[word], scratch));
        check!(fault.is_some_and(|f| f.is_undefined()), "{name} of a hidden feature: {fault:x?}");
    }
    guests::msr!("sctlr_el1", mrs!("sctlr_el1") & !(1 << 27));
    guests::msr!("cpacr_el1", 0);
}
