//! Every MRS, MSR and SYS encoding: it works or is UNDEFINED, and nothing hangs.
#![no_std]
#![no_main]

use guests::code::{MRS, RET, field};
use guests::{RAM, check, fdt, mmio, msr, op, println, psci, trap};

guests::guest!("sysregs", main);

/// Where the generated code lies: 16 MiB up, out of the image's way; 8 bytes for each encoding.
const CODE: usize = RAM + (16 << 20);
/// What system instructions with an address get: RAM of no use.
const SCRATCH: usize = RAM + (24 << 20);
/// op0 2 and 3, op1, CRn, CRm, op2.
const REGISTERS: usize = 1 << 15;

/// Registers whose read takes something away.
fn has_side_effects(register: u32) -> bool {
    // ICC_IAR0_EL1, ICC_IAR1_EL1, ICC_NMIAR1_EL1, and DBGDTRRX_EL0.
    [field(3, 0, 12, 8, 0), field(3, 0, 12, 12, 0), field(3, 0, 12, 9, 5), field(2, 3, 0, 5, 0)]
        .contains(&register)
}

/// Registers that a write of their own value may still upset: the stack in use, and PSTATE.
fn must_keep(register: u32) -> bool {
    // SP_EL0 (as SP), SPSel, DAIF, PAN, ALLINT, and TPIDR_EL1 that the library owns.
    [
        field(3, 0, 4, 2, 0),
        field(3, 3, 4, 2, 1),
        field(3, 0, 4, 2, 3),
        field(3, 0, 4, 3, 0),
        field(3, 0, 13, 0, 4),
    ]
    .contains(&register)
}

fn publish() {
    op!("dsb sy");
    // MMU off: instruction fetches and stores meet in memory.
    op!("ic iallu");
    op!("dsb sy");
    op!("isb");
}

fn call(at: usize, x0: u64) -> u64 {
    let mut value = x0;
    // SAFETY: one generated instruction and RET.
    unsafe { core::arch::asm!("blr {}", in(reg) at, inout("x0") value, clobber_abi("C")) };
    value
}

fn encoding(n: usize) -> (u32, u32, u32, u32, u32) {
    let n = n as u32;
    (2 + (n >> 14), n >> 11 & 7, n >> 7 & 15, n >> 3 & 15, n & 7)
}

fn main() {
    let strict = fdt::under_hypervisor();
    msr!("cpacr_el1", 3 << 24 | 3 << 20 | 3 << 16);
    for n in 0..REGISTERS {
        let (op0, op1, crn, crm, op2) = encoding(n);
        mmio::write32(CODE + 8 * n, MRS | field(op0, op1, crn, crm, op2));
        mmio::write32(CODE + 8 * n + 4, RET);
    }
    publish();
    let (mut readable, mut written) = (0, 0);
    for n in 0..REGISTERS {
        let (op0, op1, crn, crm, op2) = encoding(n);
        let register = field(op0, op1, crn, crm, op2);
        if has_side_effects(register) {
            continue;
        }
        let mut value = 0;
        let fault = trap::attempt(|| value = call(CODE + 8 * n, 0));
        if let Some(fault) = fault {
            // FEAT_IDST: the CPU reports its unallocated ID registers as trapped reads.
            let id = fault.class() == trap::ec::SYSREG && op0 == 3 && crn == 0 && op1 < 4;
            check!(
                !strict || fault.is_undefined() || id,
                "read of S{op0}_{op1}_C{crn}_C{crm}_{op2}: {fault:x?}"
            );
            continue;
        }
        readable += 1;
        if must_keep(register) {
            continue;
        }
        // The same value back: for a read-only register UNDEFINED, for the rest harmless.
        mmio::write32(CODE + 8 * n, guests::code::MSR | register);
        publish();
        let fault = trap::attempt(|| _ = call(CODE + 8 * n, value));
        written += u32::from(fault.is_none());
        check!(
            fault.is_none_or(|f| !strict || f.is_undefined()),
            "write of S{op0}_{op1}_C{crn}_C{crm}_{op2}: {fault:x?}"
        );
    }
    println!("sysregs: {readable} registers read, {written} written");
    let instructions = system_instructions(strict);
    println!("sysregs: {instructions} system instructions executed");
    check!(psci::hvc(psci::VERSION, [0; 3]).x[0] >= 0x1_0000, "PSCI is gone");
}

/// SYS and SYSL with op0 = 1: cache, TLB and address translation maintenance, and what is nobody's.
fn system_instructions(strict: bool) -> u32 {
    let mut worked = 0;
    for crn in [7u32, 8, 9, 11, 15] {
        for rest in 0..1u32 << 10 {
            let (op1, crm, op2) = (rest >> 7, rest >> 3 & 15, rest & 7);
            for read in [0u32, 1 << 21] {
                // SYS: 1101 0101 0000 1op1 CRn CRm op2 Rt.
                let word = 0xd508_0000 | read | op1 << 16 | crn << 12 | crm << 8 | op2 << 5;
                mmio::write32(CODE, word);
                mmio::write32(CODE + 4, RET);
                publish();
                let fault = trap::attempt(|| _ = call(CODE, SCRATCH as u64));
                worked += u32::from(fault.is_none());
                check!(
                    fault.is_none_or(|f| !strict || f.is_undefined() || f.class() == trap::ec::DATA),
                    "SYS {op1}, C{crn}, C{crm}, {op2} L{}: {fault:x?}",
                    read >> 21
                );
            }
        }
    }
    worked
}
