//! The PL031 real time clock, as guests see it.
//!
//! Seconds since 1970 as the machine's counter tells them: nothing ticks at EL2. The count is computed when
//! it is read, and the match interrupt has a [`deadline`](MmioDevice::deadline). As on QEMU's `virt`, firmware
//! has started the clock: RTCCR reads as one and cannot be cleared (PL031 TRM, DDI 0224C, chapter 3).
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::{Access, AccessError, MmioDevice};
use crate::exit::Size;
use crate::machine::Ticks;

crate::device_registers! {
    // offset  access  register
    0x000,     Ro,     Dr        = "RTCDR";
    0x004,     Rw,     Mr        = "RTCMR";
    0x008,     Rw,     Lr        = "RTCLR";
    0x00c,     Rw,     Cr        = "RTCCR";
    0x010,     Rw,     Imsc      = "RTCIMSC";
    0x014,     Ro,     Ris       = "RTCRIS";
    0x018,     Ro,     Mis       = "RTCMIS";
    0x01c,     Wo,     Icr       = "RTCICR";
    0xfe0,     Ro,     PeriphId0 = "RTCPeriphID0";
    0xfe4,     Ro,     PeriphId1 = "RTCPeriphID1";
    0xfe8,     Ro,     PeriphId2 = "RTCPeriphID2";
    0xfec,     Ro,     PeriphId3 = "RTCPeriphID3";
    0xff0,     Ro,     PCellId0  = "RTCPCellID0";
    0xff4,     Ro,     PCellId1  = "RTCPCellID1";
    0xff8,     Ro,     PCellId2  = "RTCPCellID2";
    0xffc,     Ro,     PCellId3  = "RTCPCellID3";
}

/// A guest's clock.
#[derive(Debug)]
pub struct Pl031 {
    /// Ticks a second; never zero.
    frequency: u64,
    /// What RTCDR reads when the machine's counter is zero, modulo 2^32.
    base: u32,
    /// RTCLR: the value loaded last.
    loaded: u32,
    /// RTCMR.
    target: u32,
    /// The second of the machine's counter in which RTCDR next becomes RTCMR.
    due: u64,
    /// RTCRIS and RTCIMSC.
    raised: bool,
    enabled: bool,
}

impl Pl031 {
    /// A clock that reads `epoch`, in seconds since 1970, at `now`; `frequency` is the counter's, in Hz.
    pub fn new(frequency: u64, epoch: u64, now: Ticks) -> Self {
        let frequency = frequency.max(1);
        let base = (epoch as u32).wrapping_sub(seconds(now, frequency) as u32);
        let mut clock = Self { frequency, base, loaded: 0, target: 0, due: 0, raised: false, enabled: false };
        clock.aim(now);
        clock
    }

    /// Registers as after reset; the time goes on.
    pub fn reset(&mut self, now: Ticks) {
        *self = Self::new(self.frequency, u64::from(self.count(now)), now);
    }

    fn count(&self, now: Ticks) -> u32 {
        self.base.wrapping_add(seconds(now, self.frequency) as u32)
    }

    /// After a change of RTCMR or RTCLR: when the two are equal next.
    fn aim(&mut self, now: Ticks) {
        let wait = self.target.wrapping_sub(self.count(now));
        self.due = seconds(now, self.frequency).saturating_add(u64::from(wait));
    }

    fn load(&self, register: Register, now: Ticks) -> u32 {
        match register {
            Register::Dr => self.count(now),
            Register::Mr => self.target,
            Register::Lr => self.loaded,
            Register::Cr => 1,
            Register::Imsc => u32::from(self.enabled),
            Register::Ris => u32::from(self.raised),
            Register::Mis => u32::from(self.raised && self.enabled),
            Register::Icr => 0,
            // Part 0x031, designer 0x41 (Arm), revision 1, then the PrimeCell's identification.
            Register::PeriphId0 => 0x31,
            Register::PeriphId1 => 0x10,
            Register::PeriphId2 => 0x14,
            Register::PeriphId3 => 0x00,
            Register::PCellId0 => 0x0d,
            Register::PCellId1 => 0xf0,
            Register::PCellId2 => 0x05,
            Register::PCellId3 => 0xb1,
        }
    }

    fn store(&mut self, register: Register, value: u32, now: Ticks) {
        match register {
            Register::Mr => {
                self.target = value;
                self.aim(now);
            }
            Register::Lr => {
                self.loaded = value;
                self.base = value.wrapping_sub(seconds(now, self.frequency) as u32);
                self.aim(now);
            }
            Register::Imsc => self.enabled = value & 1 != 0,
            Register::Icr if value & 1 != 0 => self.raised = false,
            _ => {}
        }
        self.advance(now);
    }
}

fn seconds(now: Ticks, frequency: u64) -> u64 {
    now.0.checked_div(frequency).unwrap_or(0)
}

/// The register of a word access; the manual knows no narrower one, and a narrower one does no harm.
fn register(at: Access) -> Result<Register, AccessError> {
    if at.size == Size::Double || at.offset & 3 != 0 {
        return Err(AccessError::BadSize);
    }
    Register::at(at.offset).ok_or(AccessError::NoRegister)
}

impl MmioDevice for Pl031 {
    fn read(&mut self, at: Access) -> Result<u64, AccessError> {
        let register = register(at)?;
        self.advance(at.now);
        Ok(u64::from(self.load(register, at.now)) & at.size.mask())
    }

    fn write(&mut self, at: Access, value: u64) -> Result<(), AccessError> {
        let register = register(at)?;
        self.advance(at.now);
        self.store(register, (value & at.size.mask()) as u32, at.now);
        Ok(())
    }

    fn irq(&self) -> bool {
        self.raised && self.enabled
    }

    fn deadline(&self) -> Option<Ticks> {
        if self.raised || !self.enabled {
            return None;
        }
        self.due.checked_mul(self.frequency).map(Ticks)
    }

    fn advance(&mut self, now: Ticks) {
        if seconds(now, self.frequency) >= self.due {
            self.raised = true;
            // Equal again when the count has gone all the way round.
            self.due = self.due.saturating_add(1 << 32);
        }
    }
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "an overflow fails the test")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HZ: u64 = 62_500_000;
    const EPOCH: u64 = 1_767_225_600;

    fn get(clock: &mut Pl031, register: Register, now: u64) -> u32 {
        let at = Access { offset: register.offset(), size: Size::Word, now: Ticks(now) };
        clock.read(at).unwrap() as u32
    }

    fn set(clock: &mut Pl031, register: Register, value: u32, now: u64) {
        let at = Access { offset: register.offset(), size: Size::Word, now: Ticks(now) };
        clock.write(at, value.into()).unwrap();
    }

    #[test]
    fn counts_seconds_from_the_epoch() {
        let mut clock = Pl031::new(HZ, EPOCH, Ticks(5 * HZ + 7));
        assert_eq!(get(&mut clock, Register::Dr, 5 * HZ + 8), EPOCH as u32);
        assert_eq!(get(&mut clock, Register::Dr, 6 * HZ - 1), EPOCH as u32);
        assert_eq!(get(&mut clock, Register::Dr, 6 * HZ), EPOCH as u32 + 1);
        assert_eq!(get(&mut clock, Register::Cr, 0), 1);
        assert_eq!(get(&mut clock, Register::Lr, 0), 0);
    }

    #[test]
    fn is_found_by_its_identification() {
        let mut clock = Pl031::new(HZ, EPOCH, Ticks(0));
        let id: Vec<u32> = Register::ALL[8..].iter().map(|r| get(&mut clock, *r, 0)).collect();
        assert_eq!(id, [0x31, 0x10, 0x14, 0x00, 0x0d, 0xf0, 0x05, 0xb1]);
    }

    #[test]
    fn loading_sets_the_time_and_keeps_the_beat() {
        let mut clock = Pl031::new(HZ, EPOCH, Ticks(0));
        set(&mut clock, Register::Lr, 1000, HZ + HZ / 2);
        assert_eq!(get(&mut clock, Register::Lr, HZ * 9), 1000);
        assert_eq!(get(&mut clock, Register::Dr, 2 * HZ - 1), 1000);
        assert_eq!(get(&mut clock, Register::Dr, 2 * HZ), 1001);
    }

    #[test]
    fn match_interrupt_at_its_deadline() {
        let mut clock = Pl031::new(HZ, EPOCH, Ticks(0));
        set(&mut clock, Register::Mr, EPOCH as u32 + 3, 10);
        assert_eq!(clock.deadline(), None, "masked");
        set(&mut clock, Register::Imsc, 1, 10);
        assert_eq!(clock.deadline(), Some(Ticks(3 * HZ)));
        clock.advance(Ticks(3 * HZ - 1));
        assert!(!clock.irq());
        clock.advance(Ticks(3 * HZ));
        assert!(clock.irq());
        assert_eq!(clock.deadline(), None);
        assert_eq!((get(&mut clock, Register::Ris, 3 * HZ), get(&mut clock, Register::Mis, 3 * HZ)), (1, 1));
        set(&mut clock, Register::Imsc, 0, 3 * HZ);
        assert_eq!((get(&mut clock, Register::Ris, 3 * HZ), get(&mut clock, Register::Mis, 3 * HZ)), (1, 0));
        set(&mut clock, Register::Icr, 1, 4 * HZ);
        assert_eq!(get(&mut clock, Register::Ris, 4 * HZ), 0);
        set(&mut clock, Register::Imsc, 1, 4 * HZ);
        assert_eq!(clock.deadline(), Some(Ticks((3 + (1 << 32)) * HZ)));
    }

    #[test]
    fn a_match_with_the_present_is_at_once() {
        let mut clock = Pl031::new(HZ, EPOCH, Ticks(0));
        set(&mut clock, Register::Imsc, 1, 0);
        set(&mut clock, Register::Mr, EPOCH as u32, 5);
        assert!(clock.irq());
    }

    #[test]
    fn a_match_passed_while_masked_stays_raised() {
        let mut clock = Pl031::new(HZ, EPOCH, Ticks(0));
        set(&mut clock, Register::Mr, EPOCH as u32 + 1, 0);
        set(&mut clock, Register::Imsc, 1, 5 * HZ);
        assert!(clock.irq());
    }

    #[test]
    fn reset_keeps_the_time() {
        let mut clock = Pl031::new(HZ, EPOCH, Ticks(0));
        set(&mut clock, Register::Imsc, 1, 0);
        set(&mut clock, Register::Mr, EPOCH as u32, 0);
        clock.reset(Ticks(10 * HZ));
        assert!(!clock.irq());
        assert_eq!(get(&mut clock, Register::Imsc, 10 * HZ), 0);
        assert_eq!(get(&mut clock, Register::Dr, 10 * HZ), EPOCH as u32 + 10);
    }

    #[test]
    fn every_offset_and_size_has_an_answer() {
        let mut clock = Pl031::new(0, u64::MAX, Ticks(u64::MAX));
        for offset in 0..0x1008 {
            for size in [Size::Byte, Size::Half, Size::Word, Size::Double] {
                let at = Access { offset, size, now: Ticks(u64::MAX) };
                let known = size != Size::Double && offset & 3 == 0 && Register::at(offset).is_some();
                assert_eq!(clock.read(at).is_ok(), known);
                assert_eq!(clock.write(at, u64::MAX).is_ok(), known);
            }
        }
    }

    proptest! {
        /// The interrupt comes exactly with the second that was asked for, from wherever it is asked.
        #[test]
        fn the_deadline_is_the_first_tick_of_the_matching_second(
            frequency in 1..2_000_000_000_u64, epoch: u32, target: u32, boot in 0..1_u64 << 40, later in 0..1_u64 << 40,
        ) {
            let mut clock = Pl031::new(frequency, epoch.into(), Ticks(boot));
            let now = boot + later;
            set(&mut clock, Register::Imsc, 1, now);
            set(&mut clock, Register::Icr, 1, now);
            set(&mut clock, Register::Mr, target, now);
            match clock.deadline() {
                None => prop_assert!(clock.irq() && get(&mut clock, Register::Dr, now) == target),
                Some(Ticks(at)) => {
                    prop_assert!(at > now);
                    prop_assert_eq!(get(&mut clock, Register::Dr, at - 1), target.wrapping_sub(1));
                    prop_assert!(!clock.irq());
                    clock.advance(Ticks(at));
                    prop_assert!(clock.irq());
                    prop_assert_eq!(get(&mut clock, Register::Dr, at), target);
                }
            }
        }
    }
}
