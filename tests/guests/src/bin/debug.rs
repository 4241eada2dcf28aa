//! Debug and PMU registers: hidden or harmless, whatever a guest writes there.
#![no_std]
#![no_main]

use guests::code::{self, MRS, MSR, field};
use guests::{check, check_eq, fdt, mrs, println, psci, trap};

guests::guest!("debug", main);

/// Writes values and reads; how many of the accesses worked.
fn poke(strict: bool, register: u32, what: &str, n: u32, values: &[u64]) -> u32 {
    let mut worked = 0;
    for value in values {
        for word in [MSR, MRS] {
            let fault = trap::attempt(|| _ = code::run(&[word | register], *value));
            worked += u32::from(fault.is_none());
            check!(!strict || fault.is_none_or(|f| f.is_undefined()), "{what}{n}: {fault:x?}");
        }
    }
    worked
}

fn main() {
    let strict = fdt::under_hypervisor();
    let mut worked = 0;
    // What Linux does at boot must work without a fault: locks, MDSCR_EL1, all breakpoints off.
    let fault = trap::attempt(|| {
        code::run(&[MSR | field(2, 0, 1, 3, 4)], 0); // OSDLR_EL1
        code::run(&[MSR | field(2, 0, 1, 0, 4)], 0); // OSLAR_EL1
        code::run(&[MRS | field(2, 0, 1, 1, 4)], 0); // OSLSR_EL1
        code::run(&[MSR | field(2, 0, 0, 2, 2)], 0); // MDSCR_EL1
        code::run(&[MRS | field(2, 0, 0, 2, 2)], 0);
        code::run(&[MRS | field(2, 3, 0, 1, 0)], 0); // MDCCSR_EL0
    });
    check!(fault.is_none(), "debug registers that Linux writes at boot: {fault:x?}");
    let breakpoints = mrs!("id_aa64dfr0_el1") >> 12 & 0xf;
    let watchpoints = mrs!("id_aa64dfr0_el1") >> 20 & 0xf;
    println!("debug: {} breakpoints, {} watchpoints", breakpoints + 1, watchpoints + 1);
    for n in 0..16 {
        // Values and controls; the controls stay disabled, or enabled for an address nobody runs.
        for (op2, values) in [(4, [0, 0x7000_0000]), (5, [0, 0x1e4]), (6, [0, 0x7000_0000]), (7, [0, 0x1f8])]
        {
            let kind = ["DBGBVR", "DBGBCR", "DBGWVR", "DBGWCR"][op2 as usize - 4];
            let count = if op2 < 6 { breakpoints } else { watchpoints };
            let done = poke(strict, field(2, 0, 0, n, op2), kind, n, &values);
            check!(done == 4 || u64::from(n) > count, "{kind}{n}_EL1 is announced and does not work");
            worked += done;
        }
    }
    for n in 0..16 {
        for op2 in 0..8 {
            // MDCCINT, DBGDTR, DBGCLAIM, DBGAUTHSTATUS and neighbours; not MDSCR and the breakpoints.
            if (n, op2) != (2, 2) && op2 < 4 {
                worked += poke(strict, field(2, 0, 0, n, op2), "debug register ", n, &[0, 0]);
            }
            worked += poke(strict, field(2, 0, 7, n, op2), "debug claim ", n, &[!0, 0]);
        }
    }
    // MDSCR_EL1 with everything on: monitor debug, and no step while PSTATE.D is set.
    for value in [1 << 15, 1 << 13, 1 << 15 | 1 << 13, 1 << 12, 0] {
        worked += poke(strict, field(2, 0, 0, 2, 2), "MDSCR_EL1 ", 0, &[value]);
    }
    // A PMU: all of its registers with all ones, then off.
    let mut pmu = 0;
    for crm in 12..15 {
        for op2 in 0..8 {
            pmu += poke(strict, field(3, 3, 9, crm, op2), "PMU ", crm * 8 + op2, &[!0, 0]);
        }
    }
    for crm in 8..16 {
        for op2 in 0..8 {
            pmu += poke(strict, field(3, 3, 14, crm, op2), "PMU event ", crm * 8 + op2, &[!0, 0]);
        }
    }
    for op2 in 1..3 {
        pmu += poke(strict, field(3, 0, 9, 14, op2), "PMINTEN ", op2, &[!0, 0]);
    }
    poke(strict, field(3, 3, 9, 12, 0), "PMCR_EL0 ", 0, &[0]);
    let version = mrs!("id_aa64dfr0_el1") >> 8 & 0xf;
    println!("debug: {worked} debug and {pmu} PMU accesses worked, PMUVer {version}");
    if strict && (version == 0 || version == 15) {
        check_eq!(pmu, 0, "PMU accesses that work though no PMU is shown");
    }
    check!(psci::hvc(psci::VERSION, [0; 3]).x[0] >= 0x1_0000, "PSCI is gone");
}
