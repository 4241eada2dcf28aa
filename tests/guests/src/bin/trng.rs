//! The firmware's random numbers (DEN0098).
#![no_std]
#![no_main]

use guests::psci::{INVALID_PARAMETERS, NOT_SUPPORTED, hvc};
use guests::{check, check_eq, fdt, println};

guests::guest!("trng", main);

const VERSION: u64 = 0x8400_0050;
const FEATURES: u64 = 0x8400_0051;
const UUID: u64 = 0x8400_0052;
const RND32: u64 = 0x8400_0053;
const RND64: u64 = 0xc400_0053;

fn main() {
    let version = hvc(VERSION, [0; 3]).x[0] as u32;
    if version == NOT_SUPPORTED {
        check!(!fdt::under_hypervisor(), "no TRNG");
        return println!("trng: not here");
    }
    check!(version as i32 >= 0x1_0000, "version {version:#x}");
    for function in [VERSION, FEATURES, UUID, RND32, RND64] {
        check!(hvc(FEATURES, [function, 0, 0]).x[0] as i32 >= 0, "FEATURES of {function:#x}");
    }
    check_eq!(hvc(FEATURES, [0x8400_0054, 0, 0]).x[0] as u32, NOT_SUPPORTED, "FEATURES of nothing");
    check!(hvc(UUID, [0; 3]).x[0] as u32 != NOT_SUPPORTED, "no UUID");
    for (function, most) in [(RND32, 96u64), (RND64, 192)] {
        for bits in [0, most + 1, 1 << 32, !0] {
            // The 32-bit call looks at the low word only.
            let bits = if function == RND32 && bits >= 1 << 32 { 0xffff_ffff } else { bits };
            let got = hvc(function, [bits, 0, 0]).x[0] as u32;
            check_eq!(got, INVALID_PARAMETERS, "{bits:#x} bits of {function:#x}");
        }
        let word = most / 3;
        for bits in [1, 7, word, word + 1, 2 * word, most - 1, most] {
            let got = hvc(function, [bits, 0, 0]);
            check_eq!(got.x[0], 0, "{bits} bits of {function:#x}");
            check!(got.kept, "{bits} bits of {function:#x} changed x4 to x17");
            // x3 holds the lowest bits; those above `bits` are zero.
            for (n, value) in [got.x[3], got.x[2], got.x[1]].into_iter().enumerate() {
                let here = bits.saturating_sub(word * n as u64).min(word);
                let mask = if here == 64 { !0 } else { (1 << here) - 1 };
                check_eq!(value & !mask, 0, "bits beyond {bits} of {function:#x}, word {n}");
            }
        }
        let (a, b) = (hvc(function, [most, 0, 0]).x, hvc(function, [most, 0, 0]).x);
        check!(a[1..] != b[1..], "the same numbers twice: {a:x?}");
        check!(a[1] != a[2] && a[2] != a[3], "the same number in all words: {a:x?}");
    }
}
