//! The system counter, and the hypervisor's own timer: CNTHP.

use super::sys::{read, write};
use crate::machine::Ticks;

/// CNTHP_CTL_EL2.ENABLE.
const ENABLE: u64 = 1;

/// CNTPCT_EL0, not speculated ahead of what came before.
#[inline]
pub(super) fn now() -> Ticks {
    super::isb();
    Ticks(read!("CNTPCT_EL0"))
}

/// CNTFRQ_EL0 in Hz; firmware that left it at 0 gets the slowest clock that boards have.
pub(super) fn frequency() -> u64 {
    (read!("CNTFRQ_EL0") & 0xffff_ffff).max(1_000_000)
}

/// Has CNTHP fire at `deadline`, or not at all.
pub(super) fn arm(deadline: Option<Ticks>) {
    match deadline {
        Some(at) => {
            write!("CNTHP_CVAL_EL2", at.0);
            write!("CNTHP_CTL_EL2", ENABLE);
        }
        None => write!("CNTHP_CTL_EL2", 0),
    }
    super::isb();
}
