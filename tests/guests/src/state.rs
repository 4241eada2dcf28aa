//! Registers with values that one can tell from any other CPU's.

use crate::{mrs, msr};
use core::arch::asm;

/// Fills V0 to V31, FPCR and FPSR with values made from `seed`. The FP unit is enabled.
pub fn fill_fp(seed: u64) {
    macro_rules! v {
        ($($n:literal)*) => {$(
            // SAFETY: no compiled code uses vector registers.
            unsafe {
                asm!(".arch_extension simd", concat!("mov v", $n, ".d[0], {0}"),
                    concat!("mov v", $n, ".d[1], {1}"), in(reg) seed.wrapping_mul($n + 1),
                    in(reg) !seed.wrapping_mul($n + 7))
            };
        )*};
    }
    v!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31);
    msr!("s3_3_c4_c4_0", (seed & 3) << 22);
    msr!("s3_3_c4_c4_1", seed & 0x1f);
}

/// How many registers differ from what [`fill_fp`] put there.
pub fn differ_fp(seed: u64) -> u32 {
    let mut wrong = 0;
    macro_rules! v {
        ($($n:literal)*) => {$(
            let (low, high): (u64, u64);
            // SAFETY: reads a vector register.
            unsafe {
                asm!(".arch_extension simd", concat!("umov {0}, v", $n, ".d[0]"),
                    concat!("umov {1}, v", $n, ".d[1]"), out(reg) low, out(reg) high)
            };
            wrong += u32::from(low != seed.wrapping_mul($n + 1) || high != !seed.wrapping_mul($n + 7));
        )*};
    }
    v!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31);
    wrong += u32::from(mrs!("s3_3_c4_c4_0") != (seed & 3) << 22);
    wrong += u32::from(mrs!("s3_3_c4_c4_1") & 0x1f != seed & 0x1f);
    wrong
}

macro_rules! registers {
    ($($name:literal, $mask:expr;)*) => {
        /// Fills registers of EL1 and EL0 that guests of this library leave alone, with values made from `seed`.
        pub fn fill_el1(seed: u64) {
            $(msr!($name, seed.rotate_left($name.len() as u32) & $mask);)*
        }

        /// The first register, and its value, that is not as [`fill_el1`] left it.
        pub fn differ_el1(seed: u64) -> Option<(&'static str, u64)> {
            $(
                let value = mrs!($name);
                if value & $mask != seed.rotate_left($name.len() as u32) & $mask {
                    return Some(($name, value));
                }
            )*
            None
        }
    };
}
registers! {
    "tpidr_el0", u64::MAX;
    "tpidrro_el0", u64::MAX;
    "sp_el0", u64::MAX;
    "contextidr_el1", 0xffff_ffff;
    "ttbr1_el1", 0xffff_f000;
    "csselr_el1", 2;
    "par_el1", 0xffff_ffff_f000;
}
