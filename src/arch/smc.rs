//! Calls to the firmware: PSCI by the conduit that the device tree names.

use crate::fdt::Conduit;
use core::arch::asm;

/// PSCI CPU_ON with 64-bit arguments (DEN0022 5.1.4).
const CPU_ON: u64 = 0xc400_0003;
/// PSCI SYSTEM_OFF (DEN0022 5.1.9).
const SYSTEM_OFF: u64 = 0x8400_0008;

/// Calls the firmware; x4 to x17 may change, as SMCCC 1.0 allowed.
fn call(conduit: Conduit, function: u64, args: [u64; 3]) -> i64 {
    let mut x0 = function;
    macro_rules! call {
        ($instruction:literal) => {
            // SAFETY: a firmware call; PSCI changes no memory of ours, and the registers are declared.
            unsafe {
                asm!($instruction, inout("x0") x0, inout("x1") args[0] => _, inout("x2") args[1] => _,
                    inout("x3") args[2] => _, out("x4") _, out("x5") _, out("x6") _, out("x7") _, out("x8") _,
                    out("x9") _, out("x10") _, out("x11") _, out("x12") _, out("x13") _, out("x14") _,
                    out("x15") _, out("x16") _, out("x17") _, options(nostack))
            }
        };
    }
    match conduit {
        Conduit::Smc => call!("smc #0"),
        Conduit::Hvc => call!("hvc #0"),
    }
    x0 as i64
}

/// Turns the machine off; comes back only where the firmware cannot.
pub(super) fn off(conduit: Option<Conduit>) {
    if let Some(conduit) = conduit {
        call(conduit, SYSTEM_OFF, [0; 3]);
    }
}

/// Starts the CPU with this affinity at `entry`.
///
/// # Errors
/// PSCI's error code, for [`psci_error`](crate::cpus::psci_error).
pub(super) fn cpu_on(conduit: Conduit, affinity: u64, entry: u64) -> Result<(), i64> {
    match call(conduit, CPU_ON, [affinity, entry, 0]) {
        0 => Ok(()),
        error => Err(error),
    }
}
