//! What the guests have alike whose exits the bench counts between several vCPUs: `bench-pair` and `bench-share`.
//!
//! How often a row is measured, the SGI that is sent, and a handler that counts interrupts and closes the open row.

use core::sync::atomic::{AtomicU32, Ordering::SeqCst};

use crate::timer::VIRTUAL;
use crate::{args, gic, op, timer, trap};

/// Samples of a row.
pub const TIMES: u32 = 256;
/// Rounds before them, that first uses are not measured.
pub const WARM: u32 = 8;
/// The SGI that is sent.
pub const SGI: u32 = 1;

/// SGIs that were taken, on whichever vCPU.
pub static TAKEN: AtomicU32 = AtomicU32::new(0);
/// Interrupts of virtual timers.
pub static TIMERS: AtomicU32 = AtomicU32::new(0);

/// Closes the open row and counts.
pub fn on_irq(_: &mut trap::Frame) {
    op!("hint #64");
    let acknowledged = gic::ack();
    match gic::id(acknowledged) {
        gic::SPURIOUS => return,
        VIRTUAL => {
            timer::stop();
            TIMERS.fetch_add(1, SeqCst);
        }
        _ => _ = TAKEN.fetch_add(1, SeqCst),
    }
    gic::end(acknowledged);
}

/// Whether this guest measures; else it is told `other`, and is only there.
pub fn measures() -> bool {
    args::word() != "other"
}
