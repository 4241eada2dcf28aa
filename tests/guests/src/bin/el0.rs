//! What a program at EL0 can do: its faults go to EL1, with the class and vector that belong to them.
#![no_std]
#![no_main]

use guests::trap::{Fault, attempt, ec, el0};
use guests::{check, check_eq, code, image_end, mrs, msr, println, uart};

guests::guest!("el0", main);

/// SVC #0x55: the program's regular end.
const SVC: u32 = 0xd400_0aa1;
const NOTHING: u64 = 0x0b00_0000;
/// EL0t, interrupts masked.
const EL0T: u64 = 0x3c0;

fn run(words: &[u32], x0: u64) -> (Fault, u64, usize) {
    let mut all = [SVC; 16];
    for (slot, word) in all.iter_mut().zip(words) {
        *slot = *word;
    }
    let pc = code::place(&all);
    // A stack beyond the image; with the MMU off EL0 may use all of memory.
    let (fault, x0) = el0(pc, EL0T, image_end() + 0x1000, [x0, 0]);
    (fault, x0, pc)
}

fn main() {
    let sctlr = mrs!("sctlr_el1");
    let (fault, x0, pc) = run(&[0x9100_0400], 41); // add x0, x0, #1
    check_eq!(fault.class(), ec::SVC64, "class of SVC");
    check_eq!(fault.iss() & 0xffff, 0x55, "immediate of SVC");
    check_eq!(fault.vector, 8, "vector of SVC");
    check_eq!(fault.elr as usize, pc + 8, "ELR of SVC");
    check_eq!(fault.spsr & 0x1f, 0, "mode of SVC");
    check_eq!(x0, 42, "x0 at SVC");
    undefined();
    trapped();
    aborts();
    device();
    msr!("sctlr_el1", sctlr);
}

fn undefined() {
    for (name, word) in [
        ("hvc #0", 0xd400_0002u32),
        ("smc #0", 0xd400_0003),
        ("udf #0", 0),
        ("hlt #0xf000", 0xd45e_0000),
        ("eret", 0xd69f_03e0),
        ("dcps1", 0xd4a0_0001),
        ("dcps2", 0xd4a0_0002),
        ("msr vbar_el1, x0", 0xd518_c000),
        ("msr vbar_el2, x0", 0xd51c_c000),
        ("mrs x0, hcr_el2", 0xd53c_1100),
        ("mrs x0, sctlr_el1", 0xd538_1000),
        ("msr sctlr_el1, x0", 0xd518_1000),
        ("mrs x0, icc_iar1_el1", 0xd538_cc00),
        ("msr icc_sgi1r_el1, x0", 0xd518_cba0),
        ("mrs x0, mdscr_el1", 0xd530_0240),
        ("tlbi vmalle1", 0xd508_871f),
        ("tlbi alle1", 0xd50c_879f),
        ("at s1e1r, x0", 0xd508_7800),
        ("dc isw, x0", 0xd508_7640),
        ("dc cisw, x0", 0xd508_7e40),
        ("ic iallu", 0xd508_751f),
        ("msr spsel, #1", 0xd500_41bf),
        ("mrs x0, mpidr_el1", 0xd538_00a0),
        ("mrs x0, actlr_el1", 0xd538_1020),
    ] {
        let (fault, _, pc) = run(&[word], 0);
        // FEAT_IDST reports ID register reads as trapped MRS.
        let id = fault.class() == ec::SYSREG && name == "mrs x0, mpidr_el1";
        check!(fault.is_undefined() || id, "{name}: class {:#x} ESR {:#x}", fault.class(), fault.esr);
        check_eq!(fault.vector, 8, "vector of {name}");
        check_eq!(fault.elr as usize, pc, "ELR of {name}");
    }
}

/// What EL1 controls: trapped while SCTLR_EL1 and CNTKCTL_EL1 say so, working when they allow it.
fn trapped() {
    const NTWI: u64 = 1 << 16;
    const NTWE: u64 = 1 << 18;
    const UCT: u64 = 1 << 15;
    const UCI: u64 = 1 << 26;
    const DZE: u64 = 1 << 14;
    const UMA: u64 = 1 << 9;
    let none = mrs!("sctlr_el1") & !(NTWI | NTWE | UCT | UCI | DZE | UMA);
    let scratch = image_end() as u64 + 0x2000;
    for (name, word, bit, class) in [
        ("wfi", 0xd503_207fu32, NTWI, 1),
        ("mrs x0, ctr_el0", 0xd53b_0020, UCT, ec::SYSREG),
        ("dc cvac, x0", 0xd50b_7a20, UCI, ec::SYSREG),
        ("dc civac, x0", 0xd50b_7e20, UCI, ec::SYSREG),
        ("ic ivau, x0", 0xd50b_7520, UCI, ec::SYSREG),
        ("mrs x0, daif", 0xd53b_4220, UMA, ec::SYSREG),
    ] {
        msr!("sctlr_el1", none);
        let (fault, _, pc) = run(&[word], scratch);
        check_eq!(fault.class(), class, "class of {name} while forbidden");
        check_eq!(fault.elr as usize, pc, "ELR of {name}");
        if bit == NTWI {
            // Something is pending, so that an allowed WFI comes back.
            guests::gic::init();
            guests::gic::enable(1);
            guests::gic::send(1, 1);
        }
        msr!("sctlr_el1", none | bit);
        let (fault, ..) = run(&[word], scratch);
        check_eq!(fault.class(), ec::SVC64, "class of {name} while allowed");
    }
    guests::gic::ack();
    guests::gic::end(1);
    msr!("cntkctl_el1", 0);
    let counter = 0xd53b_e040; // mrs x0, cntvct_el0
    for (name, word, bits) in [
        ("mrs x0, cntvct_el0", counter, 2u64),
        ("mrs x0, cntpct_el0", 0xd53b_e020, 1),
        ("mrs x0, cntv_ctl_el0", 0xd53b_e320, 1 << 8),
        ("mrs x0, cntp_ctl_el0", 0xd53b_e220, 1 << 9),
        ("msr cntp_cval_el0, x0", 0xd51b_e240, 1 << 9),
    ] {
        msr!("cntkctl_el1", 0);
        let (fault, ..) = run(&[word], 0);
        check_eq!(fault.class(), ec::SYSREG, "class of {name} while forbidden");
        msr!("cntkctl_el1", bits);
        let (fault, ..) = run(&[word], 0);
        check_eq!(fault.class(), ec::SVC64, "class of {name} while allowed");
    }
    msr!("cntkctl_el1", 0);
    msr!("cpacr_el1", 0);
    let (fault, ..) = run(&[0x1e27_0000], 0); // fmov s0, w0
    check_eq!(fault.class(), 7, "class of an FP instruction while forbidden");
    msr!("cpacr_el1", 3 << 20);
    let (fault, ..) = run(&[0x1e27_0000], 0);
    check_eq!(fault.class(), ec::SVC64, "class of an FP instruction while allowed");
}

fn aborts() {
    for (name, word) in [
        ("ldr x1, [x0]", 0xf940_0001u32),
        ("str w1, [x0]", 0xb900_0001),
        ("ldp x1, x2, [x0]", 0xa940_0801),
        ("stp x1, x2, [x0], #16", 0xa881_0801),
        ("ldr q0, [x0]", 0x3dc0_0000),
    ] {
        let (fault, x0, pc) = run(&[word], NOTHING);
        check_eq!(fault.class(), ec::DATA_EL0, "class of {name} where nothing is");
        check_eq!(fault.status(), 0x10, "DFSC of {name}");
        check_eq!(fault.far, NOTHING, "FAR of {name}");
        check_eq!(fault.vector, 8, "vector of {name}");
        check_eq!(fault.elr as usize, pc, "ELR of {name}");
        check_eq!(x0, NOTHING, "base of {name}");
    }
    let (fault, ..) = run(&[0xd61f_0000], NOTHING); // br x0
    check_eq!(fault.class(), ec::FETCH_EL0, "class of a jump to nothing");
    check_eq!(fault.status(), 0x10, "IFSC of a jump to nothing");
    check_eq!((fault.far, fault.elr).0, NOTHING, "FAR of a jump to nothing");
    check_eq!(fault.vector, 8, "vector of a jump to nothing");
    // And EL1 itself is as well as before.
    check!(attempt(|| {}).is_none(), "fault without cause");
}

/// With the MMU off, EL0 reaches devices: the access works as EL1's does.
fn device() {
    let (fault, x0, _) = run(&[0xb940_0000], (uart::BASE + 0xffc) as u64); // ldr w0, [x0]
    check_eq!(fault.class(), ec::SVC64, "class after a device access");
    check_eq!(x0, 0xb1, "PCellID3 read at EL0");
    println!("el0: faults go to EL1");
}
