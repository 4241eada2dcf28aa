//! Copies to and from guest memory, many words at a time.
//!
//! The compiler's own `memcpy` for a target without SIMD moves a word in four instructions, and one that
//! lies askew in more than twenty; and files in a cpio archive, such as kernels of tens of megabytes, are
//! aligned to 4 bytes only. So long copies go in lines of 128 bytes that are held in registers in between:
//! 20 instructions a line, or 40 if the two sides differ by 4 modulo 8.
//!
//! # Racing with the guest
//!
//! The guest may write what is read here, and read what is written, at any time. It is no part of the
//! program but of its surroundings, like a device with DMA. Two CPUs at EL2 may also meet in one place, when
//! a guest has them do so. That is harmless for the same reasons: this memory is no Rust object and nothing
//! keeps a reference into it; nothing here reads a byte twice or decides anything by what it reads; all bit
//! patterns are valid, so old and new bytes may mix. The compiler sees plain loads and stores of addresses
//! that it knows nothing about, and can neither invent nor merge them across a call.
#![allow(unsafe_code, reason = "guest memory is reached through raw pointers only")]

use crate::addr::{Address, HostRange};

/// Words in a line.
const WORDS: usize = 16;
/// Bytes in a line.
const LINE: usize = WORDS * 8;

fn pointer(range: HostRange) -> *mut u8 {
    core::ptr::with_exposed_provenance_mut(range.start().raw() as usize)
}

/// Copies `bytes`, as many as the range has at most.
pub(super) fn write(to: HostRange, bytes: &[u8]) {
    let len = bytes.len().min(to.size() as usize);
    // SAFETY: `GuestRam` only passes ranges of its own, which `GuestRam::new` was promised are mapped
    // and no Rust object lies in; so they do not overlap `bytes` either.
    unsafe { copy(bytes.as_ptr(), pointer(to), len) }
}

/// Copies into `bytes`, as many as the range has at most.
pub(super) fn read(from: HostRange, bytes: &mut [u8]) {
    let len = bytes.len().min(from.size() as usize);
    // SAFETY: as in `write`.
    unsafe { copy(pointer(from), bytes.as_mut_ptr(), len) }
}

/// Zeroes a range.
pub(super) fn zero(range: HostRange) {
    let (head, lines, tail) = cut(range.start().raw(), range.size() as usize);
    let to = pointer(range);
    // SAFETY: as in `write`; head, lines and tail make up the range.
    unsafe {
        to.write_bytes(0, head);
        zero_lines(to.add(head).cast(), lines);
        to.add(head.wrapping_add(lines.wrapping_mul(LINE))).write_bytes(0, tail);
    }
}

/// Cuts `len` bytes at `start` into bytes up to a multiple of 8, whole lines, and bytes after them.
fn cut(start: u64, len: usize) -> (usize, usize, usize) {
    let head = (start.wrapping_neg() as usize & 7).min(len);
    let rest = len.wrapping_sub(head);
    (head, rest / LINE, rest % LINE)
}

/// Copies `len` bytes.
///
/// # Safety
/// Both sides are mapped, and do not overlap.
unsafe fn copy(from: *const u8, to: *mut u8, len: usize) {
    let (head, lines, tail) = cut(to.addr() as u64, len);
    let body = lines.wrapping_mul(LINE);
    let skew = (from.addr() ^ to.addr()) & 7;
    if lines == 0 || skew & 3 != 0 {
        // SAFETY: the caller's promise.
        unsafe { core::ptr::copy_nonoverlapping(from, to, len) };
        return;
    }
    // SAFETY: head, body and tail make up `len`. After the head `to` is aligned to 8, and `from` to 8 if
    // there is no skew, else, as the skew is 4, to 4.
    unsafe {
        core::ptr::copy_nonoverlapping(from, to, head);
        let (from, to) = (from.add(head), to.add(head));
        if skew == 0 {
            copy_lines::<u64>(from.cast(), to.cast(), lines);
        } else {
            // Half lines: their words fill the registers as well.
            copy_lines::<u32>(from.cast(), to.cast(), lines.wrapping_mul(2));
        }
        core::ptr::copy_nonoverlapping(from.add(body), to.add(body), tail);
    }
}

/// Copies `lines` times 16 words.
///
/// # Safety
/// Both sides are mapped and aligned to a `T`, and do not overlap.
unsafe fn copy_lines<T: Copy>(mut from: *const T, mut to: *mut T, lines: usize) {
    debug_assert!(from.is_aligned() && to.is_aligned());
    // Each word has a name of its own: an array would have an address, and become a call to `memcpy`. All
    // loads come before all stores, for the compiler pairs neighbours only and moves no load over a store.
    macro_rules! line {
        ($($word:ident $n:literal)*) => {{
            $(let $word = from.add($n).read();)*
            $(to.add($n).write($word);)*
        }};
    }
    for _ in 0..lines {
        // SAFETY: `lines` lines of 16 words lie before both pointers.
        unsafe {
            line!(a 0 b 1 c 2 d 3 e 4 f 5 g 6 h 7 i 8 j 9 k 10 l 11 m 12 n 13 o 14 p 15);
            from = from.add(WORDS);
            to = to.add(WORDS);
        }
    }
}

/// Zeroes `lines` lines.
///
/// # Safety
/// They are mapped and aligned to 8 bytes.
unsafe fn zero_lines(mut to: *mut u64, lines: usize) {
    // The compiler knows no value for it, and so does not take the loop for a `memset`.
    let zero = core::hint::black_box(0_u64);
    for _ in 0..lines {
        // SAFETY: `lines` lines lie before the pointer.
        unsafe {
            for n in 0..WORDS {
                to.add(n).write(zero);
            }
            to = to.add(WORDS);
        }
    }
}
