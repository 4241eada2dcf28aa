//! The SMC calling convention: which service a guest's HVC or SMC is for.
//!
//! Guests get SMCCC 1.1: PSCI, TRNG, PV_TIME, and the architecture's and the hypervisor's own questions, all by
//! `HVC #0` and `SMC #0` alike. Nothing that a guest calls is UNDEFINED: what does not exist, an immediate
//! other than zero included, is answered NOT_SUPPORTED. Registers that hold no result are left as they were,
//! which SMCCC 1.1 asks for from x4 on. Source: DEN0028 (SMCCC) 1.4.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use crate::psci;
use crate::pvtime;
use crate::regs::GuestRegs;
use crate::trng;

/// SMCCC_VERSION: 1.1.
pub const VERSION: u64 = 1 << 16 | 1;

/// The result of every call that does not exist, sign extended to 64 bits as KVM does it,
/// also for 32-bit calls: their callers look at W0.
pub const NOT_SUPPORTED: u64 = (-1_i64) as u64;

/// Who the hypervisor is, f5a9d2b3-0b24-4e0c-a6f7-5d3e7c8a1946, as the four words of a UID call: bytes 0 to 3
/// of the UUID are the first word's, least significant first.
pub const UID: [u64; 4] = [0xb3d2_a9f5, 0x0c4e_240b, 0x3e5d_f7a6, 0x4619_8a7c];

/// Vendor features, a bit for each vendor specific function number: there is this question alone.
pub const FEATURES: [u64; 4] = [1, 0, 0, 0];

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// The result, for x0.
    Value(u64),
    /// The results, for x0 to x3.
    Values([u64; 4]),
    /// The run loop's turn; the result goes to x0.
    Power(psci::Request),
    /// What the random number generator says, if there is one.
    Random(trng::Decoded),
    /// Where the record of the caller's stolen time lies, for x0.
    StolenTime,
}

/// Decodes the call in x0 to x3, made with this immediate.
///
/// Bit 31: fast call; bit 30: 64-bit; bits 29:24: whose service; bits 23:16: zero (SMCCC 1.3 has a hint in
/// bit 16, which 1.1 does not); bits 15:0: which function.
#[inline]
pub fn decode(regs: &GuestRegs, immediate: u16) -> Call {
    let id = regs.x(0) as u32;
    // The two that measure how long a call takes: one that is nobody's, and PSCI_VERSION.
    if id & FAST == 0 {
        return Call::Value(NOT_SUPPORTED);
    }
    if id == PSCI_VERSION && immediate == 0 {
        return Call::Value(psci::VERSION);
    }
    fast_call(regs, immediate)
}

const FAST: u32 = 1 << 31;
const WIDE: u32 = 1 << 30;
const PSCI_VERSION: u32 = 0x8400_0000;

#[inline(never)]
fn fast_call(regs: &GuestRegs, immediate: u16) -> Call {
    let id = regs.x(0) as u32;
    if immediate != 0 {
        return Call::Value(NOT_SUPPORTED);
    }
    match id {
        0x8000_0000 => Call::Value(VERSION),
        0x8000_0001 => Call::Value(arch_features(regs.x(1) as u32)),
        0x8600_0000 => Call::Values(FEATURES),
        0x8600_ff01 => Call::Values(UID),
        pvtime::FEATURES => Call::Value(pvtime::features(regs.x(1) as u32)),
        pvtime::STOLEN_TIME => Call::StolenTime,
        _ if id & !WIDE & 0xffff_0000 == 0x8400_0000 => standard(regs, id as u16, id & WIDE != 0),
        _ => Call::Value(NOT_SUPPORTED),
    }
}

/// PSCI and TRNG, the standard secure services.
fn standard(regs: &GuestRegs, number: u16, wide: bool) -> Call {
    let cut = if wide { u64::MAX } else { 0xffff_ffff };
    let args = [regs.x(1) & cut, regs.x(2) & cut, regs.x(3) & cut];
    if number & 0xfff0 == 0x50 {
        return match trng::decode(number, wide, args[0]) {
            trng::Decoded::Value(NOT_SUPPORTED) => Call::Value(NOT_SUPPORTED),
            decoded => Call::Random(decoded),
        };
    }
    match psci::decode(number, wide, args) {
        psci::Decoded::Value(value) => Call::Value(value),
        psci::Decoded::Request(request) => Call::Power(request),
    }
}

/// SMCCC_ARCH_FEATURES.
///
/// SMCCC_ARCH_WORKAROUND_1, 2 and 3 are said not to exist, not to be unnecessary: EL2 cannot know that a CPU is
/// unaffected, and the firmware's own answer is not passed on yet. A kernel decides by ID_AA64PFR0_EL1.CSV2,
/// CSV3 and SSBS, which are the CPU's, and by MIDR_EL1, and reports what is left as vulnerable.
fn arch_features(function: u32) -> u64 {
    match function {
        // Whether there is PV_TIME is asked here first, and then there what of it (DEN0057 3).
        0x8000_0000 | 0x8000_0001 | pvtime::FEATURES => 0,
        _ => NOT_SUPPORTED,
    }
}

/// One result: x1 and on keep what the caller had.
#[inline]
pub fn answer(regs: &mut GuestRegs, value: u64) {
    regs.set_x(0, value);
}

/// Four results.
pub fn answer_all(regs: &mut GuestRegs, [x0, x1, x2, x3]: [u64; 4]) {
    regs.set_x(0, x0);
    regs.set_x(1, x1);
    regs.set_x(2, x2);
    regs.set_x(3, x3);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn call(x: &[u64]) -> Call {
        decode(&regs(x), 0)
    }

    fn regs(x: &[u64]) -> GuestRegs {
        let mut regs = GuestRegs::default();
        (0..).zip(x).for_each(|(n, value)| regs.set_x(n, *value));
        regs
    }

    /// Function identifiers that are not answered NOT_SUPPORTED.
    const KNOWN: [u32; 27] = [
        0x8000_0000,
        0x8000_0001,
        0x8400_0000,
        0x8400_0001,
        0x8400_0002,
        0x8400_0003,
        0x8400_0004,
        0x8400_0006,
        0x8400_0008,
        0x8400_0009,
        0x8400_000e,
        0x8400_0012,
        0x8400_0050,
        0x8400_0052,
        0x8400_0053,
        0x8600_0000,
        0x8600_ff01,
        0xc400_0001,
        0xc400_0003,
        0xc400_0004,
        0xc400_000e,
        0xc400_0012,
        0xc400_0053,
        0xc500_0021,
        // These for some arguments alone.
        0x8400_000a,
        0x8400_0051,
        0xc500_0020,
    ];

    fn is_known(id: u32) -> bool {
        KNOWN.contains(&id)
    }

    #[test]
    fn the_null_hypercall() {
        assert_eq!(call(&[0x4b00_0000]), Call::Value(u64::MAX));
    }

    #[test]
    fn every_function_of_every_service() {
        let mut regs = GuestRegs::default();
        // All numbers of the services that exist, of both widths and as yielding calls; some of all others.
        for top in 0..=0xff_u32 {
            let whole = matches!(top, 0x04 | 0x80 | 0x84..=0x86 | 0xc0 | 0xc4..=0xc6);
            for number in (0..=0xffff).filter(|n| whole || n & 0xff00 == 0 || n & 0xff00 == 0xff00) {
                let id = top << 24 | number;
                // What the questions about features ask for.
                let about = [0, 0x8000_0000, 0x8400_0000, 0x8400_0050, 0xc500_0021];
                regs.set_x(0, id.into());
                let any = about.iter().any(|x1| {
                    regs.set_x(1, *x1);
                    decode(&regs, 0) != Call::Value(NOT_SUPPORTED)
                });
                assert_eq!(any, is_known(id), "{id:#x}");
            }
        }
    }

    #[test]
    fn calls_of_the_generator_wait_for_whether_there_is_one() {
        for (x, expected) in [
            ([0x8400_0050, 0], trng::Decoded::Value(trng::VERSION)),
            ([0x8400_0051, 0x8400_0050], trng::Decoded::Value(0)),
            ([0x8400_0052, 0], trng::Decoded::Values(trng::UUID)),
            ([0xc400_0053, 64], trng::Decoded::Request(trng::Request { bits: 64, wide: true })),
            ([0xc400_0053, 0], trng::Decoded::Value(trng::status::INVALID_PARAMETERS)),
        ] {
            assert_eq!(call(&x), Call::Random(expected), "{x:x?}");
        }
    }

    #[test]
    fn reserved_bits_of_the_identifier_are_not_ignored() {
        for bit in 16..24 {
            for id in KNOWN {
                assert_eq!(call(&[u64::from(id | 1 << bit), 0]), Call::Value(NOT_SUPPORTED));
            }
        }
    }

    #[test]
    fn upper_half_of_x0_is_ignored() {
        assert_eq!(call(&[0xdead_beef_8400_0000]), Call::Value(psci::VERSION));
    }

    #[test]
    fn another_immediate_is_nobodys() {
        for immediate in [1, 0x4a48, 0xea1, 0xffff] {
            assert_eq!(decode(&regs(&[0x8400_0000]), immediate), Call::Value(NOT_SUPPORTED));
            assert_eq!(decode(&regs(&[0x8000_0000]), immediate), Call::Value(NOT_SUPPORTED));
        }
    }

    #[test]
    fn calls_of_32_bits_see_the_lower_halves() {
        let high = 0xffff_ffff_0000_0000;
        let expected = psci::Request::CpuOn { target: 1, entry: psci::Entry { point: 0x4000, context: 7 } };
        assert_eq!(call(&[0x8400_0003, high | 1, high | 0x4000, high | 7]), Call::Power(expected));
        assert_eq!(call(&[0xc400_0003, high | 1, 0, 0]), Call::Value(psci::status::INVALID_PARAMETERS));
    }

    #[test]
    fn arch_questions() {
        assert_eq!(call(&[0x8000_0000]), Call::Value(0x1_0001));
        for (function, expected) in [
            (0x8000_0000, 0),
            (0x8000_0001, 0),
            (0x8000_0002, NOT_SUPPORTED),
            (0x8000_8000, NOT_SUPPORTED),
            (0x8000_7fff, NOT_SUPPORTED),
            (0x8000_3fff, NOT_SUPPORTED),
            (0xc500_0020, 0),
            (0xc500_0021, NOT_SUPPORTED),
            (0x8500_0020, NOT_SUPPORTED),
        ] {
            assert_eq!(call(&[0x8000_0001, function]), Call::Value(expected), "{function:#x}");
        }
    }

    #[test]
    fn stolen_time() {
        for (x, expected) in [
            ([0xc500_0020, 0xc500_0020], Call::Value(0)),
            ([0xc500_0020, 0xc500_0021], Call::Value(0)),
            // A function identifier has 32 bits.
            ([0xc500_0020, 0xffff_ffff_c500_0021], Call::Value(0)),
            ([0xc500_0020, 0x8000_0000], Call::Value(NOT_SUPPORTED)),
            ([0xc500_0020, 0xc500_0022], Call::Value(NOT_SUPPORTED)),
            ([0xc500_0021, 0], Call::StolenTime),
            ([0xc500_0022, 0], Call::Value(NOT_SUPPORTED)),
            // There is no form of 32 bits.
            ([0x8500_0020, 0xc500_0021], Call::Value(NOT_SUPPORTED)),
            ([0x8500_0021, 0], Call::Value(NOT_SUPPORTED)),
        ] {
            assert_eq!(call(&x), expected, "{x:x?}");
        }
    }

    #[test]
    fn uuids_are_the_ones_in_the_comments() {
        let words = |text: &str| -> [u64; 4] {
            let digits: String = text.chars().filter(|c| *c != '-').collect();
            let word = |n: usize| u32::from_str_radix(&digits[8 * n..8 * n + 8], 16).unwrap().swap_bytes();
            [word(0), word(1), word(2), word(3)].map(u64::from)
        };
        assert_eq!(words("f5a9d2b3-0b24-4e0c-a6f7-5d3e7c8a1946"), UID);
        assert_eq!(words("7fdc6a41-8ac2-4a44-9d9b-c3a1f74eb1b9"), trng::UUID);
        // A guest takes an x0 of -1 for "no such call".
        assert!(UID[0] != 0xffff_ffff && trng::UUID[0] != 0xffff_ffff);
    }

    #[test]
    fn answers_leave_other_registers_alone() {
        let before: Vec<u64> = (100..131).collect();
        let mut one = regs(&before);
        answer(&mut one, 5);
        let mut four = regs(&before);
        answer_all(&mut four, [5, 6, 7, 8]);
        assert!((1..31).all(|n| one.x(n) == u64::from(n) + 100) && one.x(0) == 5);
        assert!((4..31).all(|n| four.x(n) == u64::from(n) + 100));
        assert_eq!([0, 1, 2, 3].map(|n| four.x(n)), [5, 6, 7, 8]);
    }

    proptest! {
        #[test]
        fn any_registers_are_answered(x in prop::array::uniform4(any::<u64>()), id in any::<u32>(), immediate: u16) {
            let mut x = x;
            for id in [u64::from(id), u64::from(id & 0xc7ff_00ff), 0xc500_0020 | x[1] & 1, x[0]] {
                x[0] = id;
                let known = is_known(id as u32) && immediate == 0;
                let result = decode(&regs(&x), immediate);
                prop_assert!(known || result == Call::Value(NOT_SUPPORTED));
                if let Call::Power(psci::Request::CpuOn { target, entry }) = result {
                    prop_assert!(target & !psci::AFFINITY == 0 && entry.point & 3 == 0);
                }
            }
        }
    }
}
