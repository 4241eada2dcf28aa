//! What the usual interrupt handler saw.

use super::{SPURIOUS, ack, end, id, source};
use crate::{msr, timer};

/// Interrupts in order, with the counter's value and the CPU that sent them.
struct Log {
    len: usize,
    ids: [u32; LOG],
    sources: [u32; LOG],
    times: [u64; LOG],
}

const LOG: usize = 128;
static mut SEEN: Log = Log { len: 0, ids: [0; LOG], sources: [0; LOG], times: [0; LOG] };

fn seen() -> *mut Log {
    &raw mut SEEN
}

/// An interrupt handler that notes each interrupt, turns off the timer or UART that raised it, and ends it.
pub fn record(_: &mut crate::trap::Frame) {
    let acknowledged = ack();
    if id(acknowledged) == SPURIOUS {
        return;
    }
    note(acknowledged);
    match id(acknowledged) {
        timer::VIRTUAL => msr!("cntv_ctl_el0", 0),
        timer::PHYSICAL => msr!("cntp_ctl_el0", 0),
        crate::uart::INTID => crate::uart::write(crate::uart::reg::IMSC, 0),
        _ => {}
    }
    end(acknowledged);
}

/// Notes an interrupt, as acknowledged.
pub fn note(acknowledged: u32) {
    // SAFETY: volatile, and only the first CPU takes part.
    unsafe {
        let log = seen();
        let n = (&raw const (*log).len).read_volatile();
        if n < LOG {
            (&raw mut (*log).ids[n]).write_volatile(id(acknowledged));
            (&raw mut (*log).sources[n]).write_volatile(source(acknowledged));
            (&raw mut (*log).times[n]).write_volatile(timer::now());
            (&raw mut (*log).len).write_volatile(n + 1);
        }
    }
}

/// Empties the log.
pub fn forget() {
    // SAFETY: as in `note`.
    unsafe { (&raw mut (*seen()).len).write_volatile(0) };
}

/// How many interrupts the log has.
pub fn count() -> usize {
    // SAFETY: as in `note`.
    unsafe { (&raw const (*seen()).len).read_volatile() }
}

/// Interrupt `n` of the log and its time.
pub fn entry(n: usize) -> (u32, u64) {
    // SAFETY: as in `note`; n is checked.
    unsafe {
        let n = n.min(LOG - 1);
        ((&raw const (*seen()).ids[n]).read_volatile(), (&raw const (*seen()).times[n]).read_volatile())
    }
}

/// The CPU that sent interrupt `n` of the log, with GICv2.
pub fn source_of(n: usize) -> u32 {
    // SAFETY: as in `note`; n is checked.
    unsafe { (&raw const (*seen()).sources[n.min(LOG - 1)]).read_volatile() }
}

/// Waits for these interrupts and no others, in this order, as [`record`] and [`note`] log them; then forgets them.
///
/// Interrupts are on, or come on during it. That nothing more comes is seen for a tenth of a millisecond.
pub fn taken(what: &str, want: &[u32]) {
    timer::until(2000, || count() >= want.len());
    timer::wait(timer::micros(100));
    crate::check_eq!(count(), want.len(), "{what}: interrupts taken");
    for (n, want) in want.iter().enumerate().take(count()) {
        crate::check_eq!(entry(n).0, *want, "{what}: number {n}");
    }
    forget();
}
