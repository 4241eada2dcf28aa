//! Instructions made at run time, for encodings that an assembler does not know.

use crate::op;
use core::arch::asm;

#[repr(C, align(64))]
struct Buffer([u32; 16]);

static mut BUFFER: Buffer = Buffer([0; 16]);

/// RET.
pub const RET: u32 = 0xd65f_03c0;
/// MRS X0, register.
pub const MRS: u32 = 0xd530_0000;
/// MSR register, X0.
pub const MSR: u32 = 0xd510_0000;

/// A register as the fields of MRS and MSR: bits 20 to 5 (op0 is 2 or 3).
pub const fn field(op0: u32, op1: u32, crn: u32, crm: u32, op2: u32) -> u32 {
    (op0 & 1) << 19 | op1 << 16 | crn << 12 | crm << 8 | op2 << 5
}

/// Writes `words` and makes them visible to instruction fetches; where they are.
pub fn place(words: &[u32]) -> usize {
    let buffer = (&raw mut BUFFER).cast::<u32>();
    for (n, word) in words.iter().take(16).enumerate() {
        // SAFETY: within the buffer.
        unsafe { buffer.add(n).write_volatile(*word) };
    }
    // SAFETY: maintenance by address of our own memory; 64 bytes are at most 4 lines.
    unsafe {
        for line in 0..4usize {
            asm!("dc cvau, {}", in(reg) buffer as usize + 16 * line);
        }
        asm!("dsb ish");
        for line in 0..4usize {
            asm!("ic ivau, {}", in(reg) buffer as usize + 16 * line);
        }
        asm!("dsb ish", "isb");
    }
    buffer as usize
}

/// Runs `words` followed by RET at EL1 with `x0`; x0 afterwards. They may change x0 to x17 only.
pub fn run(words: &[u32], x0: u64) -> u64 {
    let mut all = [RET; 16];
    for (slot, word) in all.iter_mut().zip(words) {
        *slot = *word;
    }
    let at = place(&all);
    let mut value = x0;
    // SAFETY: the caller's instructions keep to the registers named above.
    unsafe { asm!("blr {}", in(reg) at, inout("x0") value, clobber_abi("C")) };
    op!("isb");
    value
}
