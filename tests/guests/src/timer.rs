//! The architected timers of EL1.

use crate::{mrs, msr};

/// The virtual timer's interrupt: PPI 11.
pub const VIRTUAL: u32 = 27;
/// The physical timer's interrupt: PPI 14.
pub const PHYSICAL: u32 = 30;

/// Counts of the virtual counter.
pub fn now() -> u64 {
    crate::op!("isb");
    mrs!("cntvct_el0")
}

/// CNTFRQ_EL0.
pub fn frequency() -> u64 {
    mrs!("cntfrq_el0")
}

/// So many microseconds, in counts.
pub fn micros(n: u64) -> u64 {
    frequency() * n / 1_000_000
}

/// Spins.
pub fn wait(counts: u64) {
    let start = now();
    while now().wrapping_sub(start) < counts {}
}

/// Waits until `done`, at most `ms` milliseconds; whether it came true.
///
/// The time alone decides nothing: a machine that stood still meanwhile gets its turns.
pub fn until(ms: u64, mut done: impl FnMut() -> bool) -> bool {
    const TURNS: u32 = 5000;
    let start = now();
    let limit = micros(ms * 1000);
    let mut turns = 0u32;
    while !done() {
        turns = turns.saturating_add(1);
        if turns > TURNS && now().wrapping_sub(start) > limit {
            return done();
        }
    }
    true
}

/// Has the virtual timer fire at `cval`.
pub fn arm(cval: u64) {
    msr!("cntv_cval_el0", cval);
    msr!("cntv_ctl_el0", 1);
}

/// Turns the virtual timer off.
pub fn stop() {
    msr!("cntv_ctl_el0", 0);
}
