//! A guest's general registers, program counter and PSTATE at an exit.
//!
//! The layout is shared with `arch/vectors.s`, which asserts nothing: the assertions are here.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use core::mem::offset_of;

/// PSTATE bits as SPSR_EL2 holds them (Arm ARM C5.2.19).
pub mod pstate {
    /// Execution state at the exit was AArch32.
    pub const NRW: u64 = 1 << 4;
    /// AArch64: the mode field, bits 3 to 0.
    pub const MODE: u64 = 0xf;
    /// EL0 with SP_EL0.
    pub const EL0T: u64 = 0x0;
    /// EL1 with SP_EL0.
    pub const EL1T: u64 = 0x4;
    /// EL1 with SP_EL1.
    pub const EL1H: u64 = 0x5;
    /// FIQ masked.
    pub const F: u64 = 1 << 6;
    /// IRQ masked.
    pub const I: u64 = 1 << 7;
    /// SError masked.
    pub const A: u64 = 1 << 8;
    /// Debug exceptions masked.
    pub const D: u64 = 1 << 9;
    /// All four masks.
    pub const DAIF: u64 = D | A | I | F;
    /// AArch64: branch type of the last indirect branch.
    pub const BTYPE: u64 = 0b11 << 10;
    /// Speculative store bypass safe.
    pub const SSBS: u64 = 1 << 12;
    /// Illegal execution state.
    pub const IL: u64 = 1 << 20;
    /// Software step.
    pub const SS: u64 = 1 << 21;
    /// Privileged access never.
    pub const PAN: u64 = 1 << 22;
    /// User access override.
    pub const UAO: u64 = 1 << 23;
    /// Data independent timing.
    pub const DIT: u64 = 1 << 24;
    /// Tag check override.
    pub const TCO: u64 = 1 << 25;
    /// Condition flags N, Z, C, V.
    pub const NZCV: u64 = 0xf << 28;
}

/// x0 to x30, PC and PSTATE of a guest that is not running.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[repr(C, align(16))]
pub struct GuestRegs {
    x: [u64; 31],
    /// Where the guest goes on: ELR_EL2.
    pub pc: u64,
    /// How it goes on: SPSR_EL2.
    pub pstate: u64,
}

/// Byte offsets of [`GuestRegs`] for the assembly.
pub const OFFSET_PC: usize = offset_of!(GuestRegs, pc);
const _: () = assert!(offset_of!(GuestRegs, x) == 0 && OFFSET_PC == 31 * 8);
const _: () = assert!(offset_of!(GuestRegs, pstate) == 32 * 8);

impl GuestRegs {
    /// Register `n` as a load or store names it: 31 is XZR.
    pub fn x(&self, n: u8) -> u64 {
        self.x.get(usize::from(n)).copied().unwrap_or(0)
    }

    /// Sets register `n`; writes to 31, XZR, are ignored.
    pub fn set_x(&mut self, n: u8, value: u64) {
        if let Some(x) = self.x.get_mut(usize::from(n)) {
            *x = value;
        }
    }

    /// The first registers, as calls pass arguments and results.
    pub fn args(&mut self) -> &mut [u64; 31] {
        &mut self.x
    }

    /// Whether the guest was at AArch32 (EL0: EL1 is AArch64 only).
    pub fn is_aarch32(&self) -> bool {
        self.pstate & pstate::NRW != 0
    }

    /// Goes on after an emulated instruction of `bytes` (4, or 2 for a T32 instruction).
    ///
    /// Clears BTYPE and the software step state as the instruction itself would have, and advances the
    /// IT state of a T32 guest (Arm ARM D1.3.1, G1.2.5).
    #[inline]
    pub fn skip(&mut self, bytes: u64) {
        self.pc = self.pc.wrapping_add(bytes);
        if self.is_aarch32() {
            self.pc &= 0xffff_ffff;
            self.advance_it();
            self.pstate &= !pstate::SS;
        } else {
            self.pstate &= !(pstate::BTYPE | pstate::SS);
        }
    }

    /// Bits 7 to 2 of IT are bits 15 to 10 of PSTATE, and bits 1 and 0 are its bits 26 and 25.
    #[cold]
    fn advance_it(&mut self) {
        let it = (self.pstate >> 8) & 0xfc | (self.pstate >> 25) & 0b11;
        let next = if it & 0b111 == 0 { 0 } else { it & 0xe0 | (it << 1) & 0x1f };
        self.pstate = self.pstate & !(0xfc << 8 | 0b11 << 25) | (next & 0xfc) << 8 | (next & 0b11) << 25;
    }

    /// Whether the condition `cond` of an AArch32 instruction holds (Arm ARM F2.3.1).
    pub fn condition_holds(&self, cond: u8) -> bool {
        let flag = |bit: u32| self.pstate >> bit & 1 != 0;
        let (n, z, c, v) = (flag(31), flag(30), flag(29), flag(28));
        let base = match cond >> 1 {
            0b000 => z,
            0b001 => c,
            0b010 => n,
            0b011 => v,
            0b100 => c && !z,
            0b101 => n == v,
            0b110 => n == v && !z,
            _ => return true,
        };
        base != (cond & 1 != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn register_31_is_zero() {
        let mut regs = GuestRegs::default();
        regs.set_x(31, 7);
        regs.set_x(30, 9);
        assert_eq!((regs.x(31), regs.x(30)), (0, 9));
        assert_eq!(regs.pc, 0);
    }

    #[test]
    fn skip_clears_btype_and_step() {
        let mut regs =
            GuestRegs { pc: 0x1000, pstate: pstate::EL1H | pstate::BTYPE | pstate::SS, ..Default::default() };
        regs.skip(4);
        assert_eq!((regs.pc, regs.pstate), (0x1004, pstate::EL1H));
    }

    #[test]
    fn skip_advances_the_it_block_of_t32() {
        // ITTE EQ: IT = 0b0000_0110; then 0b0000_1100, 0b0001_1000, then done.
        let mut regs =
            GuestRegs { pc: 0x10, pstate: pstate::NRW | 0b10 << 25 | 0b1 << 10, ..Default::default() };
        let it = |r: &GuestRegs| (r.pstate >> 8) & 0xfc | (r.pstate >> 25) & 0b11;
        assert_eq!(it(&regs), 0b0110);
        regs.skip(2);
        assert_eq!((it(&regs), regs.pc), (0b1100, 0x12));
        regs.skip(4);
        assert_eq!((it(&regs), regs.pc), (0b1_1000, 0x16));
        regs.skip(2);
        assert_eq!(it(&regs), 0);
    }

    #[test]
    fn conditions() {
        let regs = GuestRegs { pstate: 1 << 30, ..Default::default() }; // Z
        assert!(regs.condition_holds(0b0000)); // EQ
        assert!(!regs.condition_holds(0b0001)); // NE
        assert!(regs.condition_holds(0b1110)); // AL
        assert!(regs.condition_holds(0b1101)); // LE
    }
}
