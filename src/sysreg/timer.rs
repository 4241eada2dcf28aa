//! The EL1 physical timer, CNTP, of a guest: its registers as functions of the guest's time.
//!
//! TVAL is a view of CVAL: the signed 32-bit distance from now (Arm ARM D11.2.4).

use crate::vcpu::{Timer, timer_ctl};

/// One of the three registers of a timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimerReg {
    /// CNTx_CTL_EL0.
    Ctl,
    /// CNTx_CVAL_EL0.
    Cval,
    /// CNTx_TVAL_EL0.
    Tval,
}

/// What an MRS gives at `now`, the guest's time.
///
/// CTL.ISTATUS says whether the condition is met, masked or not; it is UNKNOWN while the timer is off, and
/// zero here. TVAL of a timer that is off is UNKNOWN too, and computed all the same.
#[inline]
pub fn read(timer: &Timer, reg: TimerReg, now: u64) -> u64 {
    match reg {
        TimerReg::Ctl => {
            let met = timer.ctl & timer_ctl::ENABLE != 0 && now >= timer.cval;
            timer.ctl & (timer_ctl::ENABLE | timer_ctl::IMASK) | if met { timer_ctl::ISTATUS } else { 0 }
        }
        TimerReg::Cval => timer.cval,
        TimerReg::Tval => timer.cval.wrapping_sub(now) & 0xffff_ffff,
    }
}

/// What an MSR does at `now`, the guest's time.
#[inline]
pub fn write(timer: &mut Timer, reg: TimerReg, value: u64, now: u64) {
    match reg {
        TimerReg::Ctl => timer.ctl = value & (timer_ctl::ENABLE | timer_ctl::IMASK),
        TimerReg::Cval => timer.cval = value,
        TimerReg::Tval => timer.cval = now.wrapping_add(i64::from(value as i32) as u64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ON: u64 = timer_ctl::ENABLE;
    const MASKED: u64 = timer_ctl::ENABLE | timer_ctl::IMASK;

    #[test]
    fn control() {
        let mut timer = Timer { ctl: 0, cval: 100 };
        write(&mut timer, TimerReg::Ctl, u64::MAX, 0);
        assert_eq!(timer.ctl, MASKED);
        assert_eq!(read(&timer, TimerReg::Ctl, 99), MASKED);
        assert_eq!(read(&timer, TimerReg::Ctl, 100), MASKED | timer_ctl::ISTATUS, "masked or not");
        write(&mut timer, TimerReg::Ctl, 0, 0);
        assert_eq!(read(&timer, TimerReg::Ctl, 100), 0, "off");
    }

    #[test]
    fn tval_is_a_signed_distance() {
        let mut timer = Timer::default();
        write(&mut timer, TimerReg::Tval, 5, 1 << 40);
        assert_eq!(timer.cval, (1 << 40) + 5);
        write(&mut timer, TimerReg::Tval, 0xffff_ffff, 1 << 40);
        assert_eq!(timer.cval, (1 << 40) - 1, "minus one: due already");
        write(&mut timer, TimerReg::Tval, 0xdead_beef_7fff_ffff, 0);
        assert_eq!(timer.cval, 0x7fff_ffff, "the upper half is ignored");
        assert_eq!(read(&timer, TimerReg::Tval, 0x8000_0000), 0xffff_ffff);
    }

    proptest! {
        #[test]
        fn tval_reads_back_as_written_and_runs_down(value: u32, now: u64, later in 0..1_u64 << 40) {
            let mut timer = Timer { ctl: ON, cval: 0 };
            write(&mut timer, TimerReg::Tval, value.into(), now);
            prop_assert_eq!(read(&timer, TimerReg::Tval, now), u64::from(value));
            let then = now.wrapping_add(later);
            prop_assert_eq!(read(&timer, TimerReg::Tval, then), u64::from(value.wrapping_sub(later as u32)));
        }

        /// ISTATUS and the line that `vcpu` computes never disagree.
        #[test]
        fn status_and_line_agree(ctl in 0..4_u64, cval: u64, now: u64) {
            let timer = Timer { ctl, cval };
            let status = read(&timer, TimerReg::Ctl, now) & timer_ctl::ISTATUS != 0;
            prop_assert_eq!(timer.fires(now), status && ctl & timer_ctl::IMASK == 0);
        }
    }
}
