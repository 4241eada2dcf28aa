//! Pages for tables, in chunks out of the machine's memory.
//!
//! Guests want whole 2 MiB and 1 GiB blocks. Table pages taken one by one would lie all over them, so they
//! come out of chunks of 64 KiB, and a chunk goes back once all of it is free.
#![allow(unsafe_code, reason = "table pages are zeroed, and promised to be memory")]

use super::TablePages;
use super::table::zero_pages;
use crate::addr::{HostPhysAddr, HostRange, PAGE_SIZE};
use crate::memory::Memory;

/// Bytes in a chunk: room for the largest concatenated root, at its alignment.
const CHUNK: u64 = 16 * PAGE_SIZE;

/// The pages of all tables of all VMs.
#[derive(Debug)]
pub struct PagePool {
    free: Memory,
    held: u64,
}

impl PagePool {
    /// An empty pool.
    ///
    /// # Safety
    /// Every [`Memory`] that is ever passed to [`PagePool::with`] holds only RAM that is mapped writable at
    /// its own address and that nobody uses who has not taken it from there.
    pub const unsafe fn new() -> Self {
        Self { free: Memory::new(), held: 0 }
    }

    /// The pool as a source of pages, which fills up from `memory`.
    pub fn with<'a>(&'a mut self, memory: &'a mut Memory) -> PoolPages<'a> {
        PoolPages { pool: self, memory }
    }

    /// Pages that are in use as tables.
    pub fn in_use(&self) -> u64 {
        self.held.saturating_sub(self.free.free()) / PAGE_SIZE
    }

    /// Pages that the pool has taken from the machine's memory, in use or not.
    pub fn held(&self) -> u64 {
        self.held / PAGE_SIZE
    }
}

/// A [`PagePool`] together with the memory that it fills up from.
#[derive(Debug)]
pub struct PoolPages<'a> {
    pool: &'a mut PagePool,
    memory: &'a mut Memory,
}

// SAFETY: pages come from `memory` by way of the pool: by the promise of `PagePool::new` they are mapped
// RAM, by the books of `Memory` nobody else's, and `take` aligns and zeroes them.
unsafe impl TablePages for PoolPages<'_> {
    fn take(&mut self, count: usize) -> Option<HostPhysAddr> {
        let size = (count as u64).checked_mul(PAGE_SIZE)?;
        let align = size.checked_next_power_of_two()?;
        if size == 0 || align > CHUNK {
            return None;
        }
        let pages = match self.pool.free.take(size, align) {
            Some(pages) => pages,
            None => {
                self.pool.free.add(self.memory.take(CHUNK, CHUNK)?);
                self.pool.held = self.pool.held.saturating_add(CHUNK);
                self.pool.free.take(size, align)?
            }
        };
        // SAFETY: as above; nobody else knows of these pages yet.
        unsafe { zero_pages(pages.start(), count) };
        Some(pages.start())
    }

    fn give(&mut self, pages: HostPhysAddr, count: usize) {
        let size = (count as u64).saturating_mul(PAGE_SIZE);
        let Some(range) = HostRange::new(pages, size) else { return };
        // Pages that are free already stay free once: giving them twice must not lend them twice.
        if self.pool.free.give(range).is_err() {
            return;
        }
        let chunk = range.align_out(CHUNK);
        if self.pool.free.take_at(chunk).is_some() {
            self.pool.held = self.pool.held.saturating_sub(chunk.size());
            // It was taken from there, so it cannot be free there.
            let _ = self.memory.give(chunk);
        }
    }
}
