//! Stolen time: how long a vCPU wanted to run and did not, for its guest to read.
//!
//! Paravirtualized time for Arm (DEN0057): a guest asks by HVC where the record of the vCPU that asks lies, and
//! from then on only reads it; Linux shows it as `st` (top, /proc/stat) and leaves it out of its own scheduler's
//! books. A record has 64 bytes:
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 4 | revision: 0 |
//! | 4 | 4 | attributes: 0 |
//! | 8 | 8 | stolen time in nanoseconds, little-endian, one 64-bit store |
//! | 16 | 48 | reserved: 0 |
//!
//! The records of all vCPUs of a VM lie in one page ([`map::PV_TIME`]) that the guest may read, and neither write
//! nor execute. They count from the VM's creation on, and go on over CPU_OFF and CPU_ON: guests look at what was
//! added.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use crate::addr::{Address, GuestPhysAddr, HostRange, PAGE_SIZE};
use crate::machine::Ticks;
use crate::map;
use crate::ram::SharedPage;
use crate::smccc::NOT_SUPPORTED;
use crate::vcpu::VcpuId;

/// PV_TIME_FEATURES (DEN0057 3.1).
pub const FEATURES: u32 = 0xc500_0020;
/// PV_TIME_ST (DEN0057 3.2).
pub const STOLEN_TIME: u32 = 0xc500_0021;

/// Words of 64 bits in a record.
const RECORD: usize = map::PV_TIME_STRIDE as usize / 8;
/// The word of the stolen time.
const STOLEN: usize = 1;

const _: () = assert!(map::MAX_VCPUS as u64 * map::PV_TIME_STRIDE <= PAGE_SIZE);

/// What PV_TIME_FEATURES says of a function: 0 if it is there.
pub fn features(function: u32) -> u64 {
    match function {
        FEATURES | STOLEN_TIME => 0,
        _ => NOT_SUPPORTED,
    }
}

/// The stolen time records of a VM's vCPUs.
#[derive(Debug)]
pub struct StolenTime {
    page: SharedPage,
    scale: Scale,
}

impl StolenTime {
    /// Records in `page`, which holds zeroes, for ticks at `frequency` Hz.
    pub fn new(page: SharedPage, frequency: u64) -> Self {
        Self { page, scale: Scale::new(frequency) }
    }

    /// The page, to be mapped at the start of [`map::PV_TIME`].
    pub fn host_page(&self) -> HostRange {
        self.page.range()
    }

    /// Gives the page up, to go back to where it came from.
    pub fn into_page(self) -> SharedPage {
        self.page
    }

    /// What PV_TIME_ST says: where the record of `vcpu` lies, or NOT_SUPPORTED where there can be no such vCPU.
    pub fn address(vcpu: VcpuId) -> u64 {
        if vcpu.0 >= map::MAX_VCPUS {
            return NOT_SUPPORTED;
        }
        let offset = u64::from(vcpu.0).wrapping_mul(map::PV_TIME_STRIDE);
        GuestPhysAddr::at(map::PV_TIME.start().raw().wrapping_add(offset)).raw()
    }

    /// `vcpu` has waited so long in all its life, all resets included. One 64-bit store.
    #[inline]
    pub fn set(&self, vcpu: VcpuId, nanoseconds: u64) {
        self.page.store(Self::word(vcpu), nanoseconds);
    }

    /// The same in ticks of the machine's counter: for the run loop, as a vCPU gets on a CPU. No division, no lock.
    #[inline]
    pub fn set_ticks(&self, vcpu: VcpuId, waited: Ticks) {
        self.set(vcpu, self.scale.nanoseconds(waited));
    }

    /// What the record of `vcpu` says, in nanoseconds.
    pub fn get(&self, vcpu: VcpuId) -> u64 {
        self.page.load(Self::word(vcpu))
    }

    #[inline]
    fn word(vcpu: VcpuId) -> usize {
        usize::from(vcpu.0).wrapping_mul(RECORD).wrapping_add(STOLEN)
    }
}

/// Turns ticks into nanoseconds by a multiplication and a shift.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scale {
    /// Nanoseconds a tick, times 2^`shift`, rounded up: with all 64 bits in use where `shift` allows.
    multiplier: u64,
    /// 0 to 63.
    shift: u32,
}

impl Scale {
    /// For a counter of `frequency` Hz, 1 to 2^62.
    ///
    /// With 64 significant bits, a counter of 1 GHz is less than a nanosecond ahead after 290 years.
    pub const fn new(frequency: u64) -> Self {
        const SECOND: u64 = 1_000_000_000;
        let frequency = match frequency {
            0 => 1,
            1..=0x4000_0000_0000_0000 => frequency,
            _ => 1 << 62,
        };
        // Long division, a binary place at a time: a division of 128 bits would be a function of its own.
        let mut multiplier = SECOND.wrapping_div(frequency);
        let mut rest = SECOND.wrapping_rem(frequency);
        let mut shift: u32 = 0;
        while shift < 63 && multiplier >> 63 == 0 {
            rest = rest.wrapping_mul(2);
            let place = (rest >= frequency) as u64;
            rest = rest.wrapping_sub(frequency.wrapping_mul(place));
            multiplier = multiplier << 1 | place;
            shift = shift.wrapping_add(1);
        }
        // Up, so that whole seconds are whole seconds.
        Self { multiplier: multiplier.saturating_add((rest != 0) as u64), shift }
    }

    /// Nanoseconds that `ticks` take, modulo 2^64: 584 years.
    #[inline]
    pub const fn nanoseconds(self, ticks: Ticks) -> u64 {
        let product = (ticks.0 as u128).wrapping_mul(self.multiplier as u128);
        product.wrapping_shr(self.shift) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Frequencies of boards and of QEMU, and some that no board has.
    const FREQUENCIES: [u64; 14] = [
        1,
        32_768,
        1_000_000,
        19_200_000,
        24_000_000,
        25_000_000,
        31_250_000,
        54_000_000,
        62_500_000,
        100_000_000,
        999_999_937,
        1_000_000_000,
        1_000_000_007,
        2_000_000_000,
    ];
    const YEAR: u64 = 31_557_600;

    fn exact(ticks: u64, frequency: u64) -> u128 {
        u128::from(ticks) * 1_000_000_000 / u128::from(frequency)
    }

    #[test]
    fn records_are_where_the_document_says() {
        let stolen = StolenTime::new(SharedPage::leaked(), 62_500_000);
        assert_eq!(StolenTime::address(VcpuId(0)), 0x090a_0000);
        assert_eq!(StolenTime::address(VcpuId(63)), 0x090a_0fc0);
        assert_eq!(StolenTime::address(VcpuId(64)), NOT_SUPPORTED);
        for n in 0..64 {
            stolen.set(VcpuId(n), 0x0123_4567_89ab_cd00 + u64::from(n));
        }
        for n in 0..64_u16 {
            let record: Vec<u64> = (0..8).map(|word| stolen.page.load(usize::from(n) * 8 + word)).collect();
            let time = 0x0123_4567_89ab_cd00 + u64::from(n);
            assert_eq!(record, [0, time, 0, 0, 0, 0, 0, 0]);
            assert_eq!(stolen.get(VcpuId(n)), time);
        }
        // Nobody's record is not in the page.
        stolen.set(VcpuId(64), 1);
        stolen.set(VcpuId(u16::MAX), 1);
        assert_eq!(stolen.get(VcpuId(64)), 0);
    }

    #[test]
    fn ticks_become_nanoseconds() {
        let stolen = StolenTime::new(SharedPage::leaked(), 62_500_000);
        stolen.set_ticks(VcpuId(3), Ticks(1));
        assert_eq!(stolen.get(VcpuId(3)), 16);
        stolen.set_ticks(VcpuId(3), Ticks(62_500_000 * 86_400));
        assert_eq!(stolen.get(VcpuId(3)), 86_400_000_000_000);
        assert_eq!(stolen.get(VcpuId(2)), 0);
    }

    #[test]
    fn whole_seconds_are_whole_over_a_century() {
        for frequency in FREQUENCIES {
            let scale = Scale::new(frequency);
            for seconds in [0, 1, 59, 86_400, YEAR, 10 * YEAR, 100 * YEAR] {
                let ticks = seconds * frequency;
                assert_eq!(scale.nanoseconds(Ticks(ticks)), seconds * 1_000_000_000, "{frequency} Hz");
            }
        }
    }

    #[test]
    fn frequencies_that_make_no_sense_are_no_reason_to_divide_by_0() {
        assert_eq!(Scale::new(0), Scale::new(1));
        assert_eq!(Scale::new(1).nanoseconds(Ticks(3)), 3_000_000_000);
        assert_eq!(Scale::new(u64::MAX), Scale::new(1 << 62));
        assert_eq!(Scale::new(u64::MAX).nanoseconds(Ticks(1 << 62)), 1_000_000_000);
    }

    #[test]
    fn what_features_answers() {
        assert_eq!([FEATURES, STOLEN_TIME].map(features), [0, 0]);
        let others = [0, 0x8500_0020, 0x8500_0021, 0xc500_0022, 0xc500_001f, 0x8400_0000, u32::MAX];
        assert!(others.iter().all(|function| features(*function) == NOT_SUPPORTED));
    }

    proptest! {
        /// Never less than the truth, at most one more over a century, and never backwards.
        #[test]
        fn exact_to_a_nanosecond(
            frequency in prop_oneof![prop::sample::select(&FREQUENCIES[..]), 1..2_900_000_000_u64],
            part in 0.0..1.0_f64,
        ) {
            let scale = Scale::new(frequency);
            let century = frequency.saturating_mul(100 * YEAR);
            let ticks = (century as f64 * part) as u64;
            let got = scale.nanoseconds(Ticks(ticks));
            let exact = exact(ticks, frequency);
            if let Ok(exact) = u64::try_from(exact) {
                prop_assert!(got == exact || got == exact + 1, "{} Hz, {} ticks: {} {}", frequency, ticks, got, exact);
            }
            prop_assert!(scale.nanoseconds(Ticks(ticks.saturating_add(1))) >= got);
        }
    }
}
