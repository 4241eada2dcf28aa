//! A flat binary: code from its first byte on, with nothing in it that says so.
//!
//! It lies at [`OFFSET`] in RAM, as Raspberry Pi firmware and QEMU have it, and is entered there with x0 = tree.
//! Since nothing names it, whatever has another name is refused first ([`image`]), and what is left has at
//! least to begin with an instruction: vector tables of microcontrollers, SVE and zeroes do not.

use super::image;
use crate::problem;
use crate::problem::Problem;

/// Bytes from the start of RAM to the binary.
pub const OFFSET: u64 = 0x8_0000;
/// Bytes that are kept behind it, where there is room: its .bss and stack are nowhere stated.
pub const BSS: u64 = 16 << 20;

/// Refuses a file that cannot be code; `place` names the file for messages.
///
/// # Errors
/// E0421.
pub fn check(file: &[u8], place: &str) -> Result<(), Problem> {
    match file.first_chunk::<4>().map(|bytes| u32::from_le_bytes(*bytes)) {
        Some(word) if is_instruction(word) => Ok(()),
        word => Err(problem!("E0421", ("{place}");
            ("{}, and its first word, {:#010x}, is no AArch64 instruction", image::looks_like(file), word.unwrap_or(0));
            ("A flat binary starts with the instruction that is to run first"))),
    }
}

/// Whether a program may begin with this word: one of the groups of the Arm ARM's top-level table (C4.1) that
/// are neither reserved, nor unallocated, SME or SVE (op0, bits 28:25, is 00xx), nor floating point (x111),
/// which traps at reset.
fn is_instruction(word: u32) -> bool {
    let op0 = word >> 25 & 0b1111;
    op0 >> 2 != 0 && op0 & 0b0111 != 0b0111
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_is_told_from_what_is_none() {
        // b, adr, mrs x0 mpidr_el1, ldr x0 =, stp, msr daifset, orr (mov x20, x0), nop, cbz
        for word in [
            0x1400_0010u32,
            0x1000_0001,
            0xd538_00a0,
            0x5800_00c0,
            0xa9bf_7bfd,
            0xd503_4fdf,
            0xaa00_03f4,
            0xd503_201f,
            0xb400_0040,
        ] {
            assert_eq!(check(&word.to_le_bytes(), "vm kernel"), Ok(()), "{word:#x}");
        }
        // zeroes, udf, a microcontroller's stack pointer, ldr pc of 32-bit Arm, erased flash, SVE, fmov d0
        for word in [0u32, 0x1234, 0x2000_8000, 0xe59f_f018, u32::MAX, 0x0420_bc00, 0x1e60_1000] {
            assert_eq!(check(&word.to_le_bytes(), "vm kernel").unwrap_err().code, "E0421", "{word:#x}");
        }
        let text = check(b"\x91\x92", "vm.a kernel").unwrap_err().to_string();
        assert!(
            text.starts_with("E0421 vm.a kernel: nothing that Mezzanine knows, and its first word"),
            "{text}"
        );
    }
}
