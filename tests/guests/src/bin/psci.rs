//! PSCI and the SMC calling convention: what exists says so, the rest says -1.
#![no_std]
#![no_main]

use guests::psci::{self, Answer, NOT_SUPPORTED, hvc, smc};
use guests::{check, check_eq, fdt, mrs, println, trap};

guests::guest!("psci", main);

fn features(function: u64) -> u32 {
    hvc(psci::FEATURES, [function, 0, 0]).x[0] as u32
}

fn main() {
    let strict = fdt::under_hypervisor();
    let version = hvc(psci::VERSION, [0; 3]);
    check!(version.x[0] >= 0x1_0000 && version.x[0] < 0x2_0000, "PSCI_VERSION {:#x}", version.x[0]);
    check!(version.kept, "PSCI_VERSION changed x4 to x17");
    println!("psci: version {}.{}", version.x[0] >> 16, version.x[0] & 0xffff);
    for function in [psci::VERSION, psci::CPU_OFF, psci::SYSTEM_OFF, psci::SYSTEM_RESET, psci::FEATURES] {
        check_eq!(features(function), 0, "PSCI_FEATURES of {function:#x}");
    }
    for function in [psci::CPU_ON, psci::AFFINITY_INFO, psci::CPU_SUSPEND] {
        check_eq!(features(function) & !3, 0, "PSCI_FEATURES of {function:#x}");
        check_eq!(features(function & !(1 << 30)) & !3, 0, "PSCI_FEATURES of {function:#x}, 32 bits");
    }
    for function in [0x8400_00ff, 0xc400_0000, 0x8600_0000, 0, 0xffff_ffff, 0xc400_0002] {
        check_eq!(features(function), NOT_SUPPORTED, "PSCI_FEATURES of {function:#x}");
    }
    let me = mrs!("mpidr_el1") & 0xff_00ff_ffff;
    let info = |target, level| hvc(psci::AFFINITY_INFO, [target, level, 0]).x[0] as u32;
    check_eq!(info(me, 0), 0, "AFFINITY_INFO of the running CPU");
    check_eq!(info(0x77_0077_7777, 0), psci::INVALID_PARAMETERS, "AFFINITY_INFO of nobody");
    check_eq!(psci::cpu_on(me, 0), psci::ALREADY_ON, "CPU_ON of the running CPU");
    check_eq!(psci::cpu_on(0xff_00ff_ffff, 0), psci::INVALID_PARAMETERS, "CPU_ON of nobody");
    check_eq!(hvc(psci::MIGRATE_INFO_TYPE, [0; 3]).x[0], 2, "MIGRATE_INFO_TYPE");
    for function in
        [0x8400_001f, 0x8400_ffff, 0xc400_001f, 0x8300_0000, 0xc600_1234, 0xbf00_0000, 0x4b00_0000]
    {
        let got = hvc(function, [0; 3]);
        check_eq!(got.x[0] as u32, NOT_SUPPORTED, "unknown function {function:#x}");
        check!(got.kept, "unknown function {function:#x} changed x4 to x17");
    }
    suspend();
    if !strict {
        return println!("psci: without hypervisor: SMC and SMCCC not checked");
    }
    smccc();
    for function in [psci::VERSION, 0x8400_ffff, psci::MIGRATE_INFO_TYPE, 0x8000_0000, 0x4b00_0000] {
        let by_hvc = hvc(function, [0; 3]);
        let mut by_smc = Answer { x: [0; 4], kept: false };
        let fault = trap::attempt(|| by_smc = smc(function, [0; 3]));
        check!(fault.is_none(), "SMC {function:#x} faults: {fault:x?}");
        check_eq!(by_smc.x[0], by_hvc.x[0], "SMC {function:#x}");
        check!(by_smc.kept, "SMC {function:#x} changed x4 to x17");
    }
}

/// CPU_SUSPEND as a standby state comes back when an interrupt is pending.
fn suspend() {
    guests::gic::init();
    guests::gic::enable(1);
    guests::gic::send(1, 1);
    guests::timer::until(1000, || guests::gic::highest_pending() == 1);
    check_eq!(hvc(psci::CPU_SUSPEND, [0, 0, 0]).x[0] as u32, 0, "CPU_SUSPEND");
    guests::gic::ack();
    guests::gic::end(1);
}

fn smccc() {
    check!(hvc(0x8000_0000, [0; 3]).x[0] >= 0x1_0001, "SMCCC_VERSION {:#x}", hvc(0x8000_0000, [0; 3]).x[0]);
    check_eq!(features(0x8000_0000), 0, "PSCI_FEATURES of SMCCC_VERSION");
    let arch = |function| hvc(0x8000_0001, [function, 0, 0]).x[0] as u32;
    check_eq!(arch(0x8000_0000), 0, "SMCCC_ARCH_FEATURES of SMCCC_VERSION");
    check_eq!(arch(0x8000_0001), 0, "SMCCC_ARCH_FEATURES of itself");
    check_eq!(arch(0x8000_1234), NOT_SUPPORTED, "SMCCC_ARCH_FEATURES of nothing");
    for workaround in [0x8000_8000u64, 0x8000_7fff, 0x8000_3fff] {
        let answer = arch(workaround);
        check!(matches!(answer, 0 | 1 | NOT_SUPPORTED), "SMCCC_ARCH_WORKAROUND {workaround:#x}: {answer:#x}");
    }
    let uid = hvc(0x8600_ff01, [0; 3]);
    check!(uid.x[0] as u32 != NOT_SUPPORTED, "no vendor UID");
    println!("psci: vendor UID {:08x} {:08x} {:08x} {:08x}", uid.x[0], uid.x[1], uid.x[2], uid.x[3]);
}
