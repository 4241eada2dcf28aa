//! SMC calling convention and PSCI (DEN0028, DEN0022).

use core::arch::asm;

/// PSCI_VERSION.
pub const VERSION: u64 = 0x8400_0000;
/// CPU_SUSPEND, 64 bits.
pub const CPU_SUSPEND: u64 = 0xc400_0001;
/// CPU_OFF.
pub const CPU_OFF: u64 = 0x8400_0002;
/// CPU_ON, 64 bits.
pub const CPU_ON: u64 = 0xc400_0003;
/// AFFINITY_INFO, 64 bits.
pub const AFFINITY_INFO: u64 = 0xc400_0004;
/// MIGRATE_INFO_TYPE.
pub const MIGRATE_INFO_TYPE: u64 = 0x8400_0006;
/// SYSTEM_OFF.
pub const SYSTEM_OFF: u64 = 0x8400_0008;
/// SYSTEM_RESET.
pub const SYSTEM_RESET: u64 = 0x8400_0009;
/// PSCI_FEATURES.
pub const FEATURES: u64 = 0x8400_000a;

/// NOT_SUPPORTED as a 32-bit function returns it: judged by its low word.
pub const NOT_SUPPORTED: u32 = -1i32 as u32;
/// INVALID_PARAMETERS.
pub const INVALID_PARAMETERS: u32 = -2i32 as u32;
/// ALREADY_ON.
pub const ALREADY_ON: u32 = -4i32 as u32;
/// ON_PENDING.
pub const ON_PENDING: u32 = -5i32 as u32;
/// INVALID_ADDRESS.
pub const INVALID_ADDRESS: u32 = -9i32 as u32;

/// What a call leaves in x0 to x3, and whether it kept x4 to x17.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Answer {
    /// X0 to X3.
    pub x: [u64; 4],
    /// X4 to X17 have their values from before.
    pub kept: bool,
}

macro_rules! conduit {
    ($name:ident, $instruction:literal) => {
        #[doc = concat!("A call by ", $instruction, ".")]
        pub fn $name(function: u64, a: [u64; 3]) -> Answer {
            let mut x = [function, a[0], a[1], a[2]];
            let different: u64;
            // SAFETY: calls may change x0 to x17 and nothing else of ours.
            unsafe {
                asm!(
                    "mov x4, #0x1104", "mov x5, #0x1105", "mov x6, #0x1106", "mov x7, #0x1107",
                    "mov x8, #0x1108", "mov x9, #0x1109", "mov x10, #0x110a", "mov x11, #0x110b",
                    "mov x12, #0x110c", "mov x13, #0x110d", "mov x14, #0x110e", "mov x15, #0x110f",
                    "mov x16, #0x1110", "mov x17, #0x1111",
                    $instruction,
                    "eor x4, x4, #0x1000", "eor x5, x5, #0x1000", "eor x6, x6, #0x1000",
                    "eor x7, x7, #0x1000", "eor x8, x8, #0x1000", "eor x9, x9, #0x1000",
                    "eor x10, x10, #0x1000", "eor x11, x11, #0x1000", "eor x12, x12, #0x1000",
                    "eor x13, x13, #0x1000", "eor x14, x14, #0x1000", "eor x15, x15, #0x1000",
                    "eor x16, x16, #0x1000", "eor x17, x17, #0x1000",
                    "sub x4, x4, #0x104", "sub x5, x5, #0x105", "sub x6, x6, #0x106",
                    "sub x7, x7, #0x107", "sub x8, x8, #0x108", "sub x9, x9, #0x109",
                    "sub x10, x10, #0x10a", "sub x11, x11, #0x10b", "sub x12, x12, #0x10c",
                    "sub x13, x13, #0x10d", "sub x14, x14, #0x10e", "sub x15, x15, #0x10f",
                    "sub x16, x16, #0x110", "sub x17, x17, #0x111",
                    "orr x4, x4, x5", "orr x4, x4, x6", "orr x4, x4, x7", "orr x4, x4, x8",
                    "orr x4, x4, x9", "orr x4, x4, x10", "orr x4, x4, x11", "orr x4, x4, x12",
                    "orr x4, x4, x13", "orr x4, x4, x14", "orr x4, x4, x15", "orr x4, x4, x16",
                    "orr x4, x4, x17",
                    inout("x0") x[0], inout("x1") x[1], inout("x2") x[2], inout("x3") x[3],
                    out("x4") different, out("x5") _, out("x6") _, out("x7") _, out("x8") _,
                    out("x9") _, out("x10") _, out("x11") _, out("x12") _, out("x13") _,
                    out("x14") _, out("x15") _, out("x16") _, out("x17") _,
                )
            };
            Answer { x, kept: different == 0 }
        }
    };
}
conduit!(hvc, "hvc #0");
conduit!(smc, "smc #0");

/// Powers the machine off.
pub fn off() -> ! {
    hvc(SYSTEM_OFF, [0; 3]);
    crate::println!("{}: FAIL SYSTEM_OFF came back", crate::name());
    loop {
        crate::op!("wfi");
    }
}

/// Where [`cpu_on`] starts CPUs.
pub fn entry() -> u64 {
    let entry: u64;
    // SAFETY: an address.
    unsafe { asm!("adrp {0}, secondary_entry", "add {0}, {0}, :lo12:secondary_entry", out(reg) entry) };
    entry
}

/// Starts another CPU at the library's entry, as number `n`.
pub fn cpu_on(mpidr: u64, n: u64) -> u32 {
    hvc(CPU_ON, [mpidr, entry(), n]).x[0] as u32
}

/// AFFINITY_INFO of one CPU: 0 is on, 1 off, 2 on its way.
pub fn info(mpidr: u64) -> u32 {
    hvc(AFFINITY_INFO, [mpidr, 0, 0]).x[0] as u32
}
