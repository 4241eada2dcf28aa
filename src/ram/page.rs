//! A page that EL2 writes words to and a guest reads: for what the two share while the guest runs.
#![allow(unsafe_code, reason = "the page is reached through a raw pointer only, as guest memory is")]

use crate::addr::{Address, HostPhysAddr, HostRange, PAGE_SIZE};
use core::sync::atomic::{AtomicU64, Ordering};

/// Words of 64 bits in a page.
const WORDS: usize = PAGE_SIZE as usize / 8;

/// A page of host memory that EL2 alone writes, a word at a time, and that its guest may read meanwhile.
#[derive(Debug)]
pub struct SharedPage {
    host: HostPhysAddr,
}

impl SharedPage {
    /// The page at `host`, which holds zeroes.
    ///
    /// # Safety
    /// It is mapped writable at EL2 (or in the test process) at its own address for as long as the value lives,
    /// aligned to its size, and nobody but a guest, who only reads, uses it other than through this value.
    pub(super) unsafe fn new(host: HostPhysAddr) -> Self {
        Self { host }
    }

    /// A page of the test process, for good.
    #[cfg(test)]
    pub(crate) fn leaked() -> Self {
        let memory = crate::stage2::fake::HostMemory::new(PAGE_SIZE as usize, PAGE_SIZE as usize);
        let host = memory.range().start();
        std::mem::forget(memory);
        // SAFETY: the allocation is never freed, and nobody else knows of it.
        unsafe { Self::new(host) }
    }

    /// Where it is.
    pub fn range(&self) -> HostRange {
        let end = HostPhysAddr::at(self.host.raw().wrapping_add(PAGE_SIZE));
        HostRange::between(self.host, end)
    }

    /// Stores a word, little-endian, at once: single-copy atomic (Arm ARM B2.2.1). What lies beyond the page is
    /// left out.
    #[inline]
    pub fn store(&self, word: usize, value: u64) {
        if let Some(word) = self.word(word) {
            word.store(value.to_le(), Ordering::Relaxed);
        }
    }

    /// Loads a word; 0 beyond the page.
    pub fn load(&self, word: usize) -> u64 {
        self.word(word).map_or(0, |word| u64::from_le(word.load(Ordering::Relaxed)))
    }

    #[inline]
    fn word(&self, word: usize) -> Option<&AtomicU64> {
        if word >= WORDS {
            return None;
        }
        let at = (self.host.raw() as usize).wrapping_add(word.wrapping_mul(8));
        let at: *mut u64 = core::ptr::with_exposed_provenance_mut(at);
        // SAFETY: within the page, which `new` was promised is mapped and aligned while `self` lives; every access
        // to it by EL2 is atomic, and by the guest a load, which is no part of the program.
        Some(unsafe { AtomicU64::from_ptr(at) })
    }
}
