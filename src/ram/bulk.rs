//! Copies to and from guest memory, in words where both sides allow it.
#![allow(unsafe_code, reason = "guest memory is reached through raw pointers only")]

use crate::addr::{Address, HostRange};

fn pointer(range: HostRange) -> *mut u8 {
    core::ptr::with_exposed_provenance_mut(range.start().raw() as usize)
}

/// Copies `bytes`, as many as the range has at most.
pub(super) fn write(to: HostRange, bytes: &[u8]) {
    let len = bytes.len().min(to.size() as usize);
    // SAFETY: `GuestRam` only passes ranges of its own, which `GuestRam::new` was promised are mapped.
    unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), pointer(to), len) }
}

/// Copies into `bytes`, as many as the range has at most.
pub(super) fn read(from: HostRange, bytes: &mut [u8]) {
    let len = bytes.len().min(from.size() as usize);
    // SAFETY: as in `write`.
    unsafe { core::ptr::copy_nonoverlapping(pointer(from), bytes.as_mut_ptr(), len) }
}

/// Zeroes a range.
pub(super) fn zero(range: HostRange) {
    // SAFETY: as in `write`.
    unsafe { core::ptr::write_bytes(pointer(range), 0, range.size() as usize) }
}
