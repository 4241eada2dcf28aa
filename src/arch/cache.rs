//! Cache maintenance by address, and the barriers that go with it.

use super::sys::{op, read};
use crate::addr::{Address, HostRange};
use core::arch::asm;

/// Bytes of the smallest data cache line: CTR_EL0.DminLine.
pub(super) fn line() -> u64 {
    4 << (read!("CTR_EL0") >> 16 & 0xf)
}

/// Cleans and invalidates a range to the point of coherency; no barrier.
fn clean_invalidate(range: HostRange, line: u64) {
    let mut at = range.start().align_down(line).raw();
    while at < range.end().raw() {
        // SAFETY: DC CIVAC changes nothing that this CPU reads; the range is RAM that EL2 maps.
        unsafe { asm!("dc civac, {}", in(reg) at, options(nostack, preserves_flags)) };
        at = at.wrapping_add(line);
    }
}

/// Makes what EL2 wrote visible to a guest with its caches off (Arm ARM B2.7, booting.rst).
pub(super) fn publish(range: HostRange) {
    clean_invalidate(range, line());
    op!("dsb ish");
    op!("ic ialluis");
    op!("dsb ish");
    super::isb();
}

/// Writes zeroes over a range and publishes them, block by block by DC ZVA.
///
/// # Safety
/// The range is guest RAM or free memory that EL2 maps as normal memory and nobody else uses.
pub(super) unsafe fn zero(range: HostRange) {
    let dczid = read!("DCZID_EL0");
    let block = 4 << (dczid & 0xf);
    let (start, end) = (range.start().raw(), range.end().raw());
    if dczid & 1 << 4 == 0 && start % block == 0 && end % block == 0 {
        let mut at = start;
        while at < end {
            // SAFETY: a whole block inside the range, which the caller gave us.
            unsafe { asm!("dc zva, {}", in(reg) at, options(nostack, preserves_flags)) };
            at = at.wrapping_add(block);
        }
    } else {
        // SAFETY: the caller gave us the range, mapped at its own address.
        unsafe { core::ptr::write_bytes(start as *mut u8, 0, range.size() as usize) };
    }
    clean_invalidate(range, line());
    op!("dsb ish");
}

/// Brings memory and caches together: what was written by a CPU with its caches on is there for one with them off, and
/// what was written with them off is not shadowed by lines from before (none of them dirty). Clean and invalidate in
/// both cases: a loader may have left its own lines next to ours, and DC CVAC alone is not enough on every A53 (errata
/// 819472, 824069 and 827319).
pub(super) fn invalidate(range: HostRange) {
    clean_invalidate(range, line());
    op!("dsb sy");
}
