//! The system counter, and the hypervisor's own timer: CNTHP.

use super::sys::write;
use crate::machine::Ticks;
use aarch64_cpu::registers::{CNTFRQ_EL0, CNTHP_CTL_EL2, CNTPCT_EL0, Readable, Writeable};

/// CNTPCT_EL0, not speculated ahead of what came before.
#[inline]
pub(super) fn now() -> Ticks {
    super::isb();
    Ticks(CNTPCT_EL0.get())
}

/// CNTFRQ_EL0 in Hz; firmware that left it at 0 gets the slowest clock that boards have.
pub(super) fn frequency() -> u64 {
    u64::from(CNTFRQ_EL0.get() as u32).max(1_000_000)
}

/// Has CNTHP fire at `deadline`, or not at all.
pub(super) fn arm(deadline: Option<Ticks>) {
    match deadline {
        Some(at) => {
            write!("CNTHP_CVAL_EL2", at.0);
            CNTHP_CTL_EL2.write(CNTHP_CTL_EL2::ENABLE::SET);
        }
        None => CNTHP_CTL_EL2.set(0),
    }
    super::isb();
}
