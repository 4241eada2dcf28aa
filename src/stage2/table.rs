//! One translation table in memory, and what its entries say.
//!
//! The only place that touches table memory. Tables lie in memory that is mapped at its own address, so
//! that the address in a descriptor is also the address at which the table can be read.
#![allow(unsafe_code, reason = "tables are memory that the MMU shares")]

use super::geometry::Level;
use super::{Rights, TablePages};
use crate::addr::{Address, HostPhysAddr, PAGE_SIZE};
use core::sync::atomic::{AtomicU64, Ordering};

/// Entries in a table of one page.
pub(super) const ENTRIES: usize = 512;

// Descriptor fields, Stage 2, VMSAv8-64 (Arm ARM D8.3).
const VALID: u64 = 1;
const TABLE_OR_PAGE: u64 = 1 << 1;
const MEM_ATTR_WB: u64 = 0b1111 << 2; // Normal, write-back inner and outer
const MEM_ATTR_DEVICE: u64 = 0b0001 << 2; // Device-nGnRE
const S2AP_READ: u64 = 0b01 << 6;
const S2AP_WRITE: u64 = 0b10 << 6;
const SH_INNER: u64 = 0b11 << 8;
const AF: u64 = 1 << 10;
const XN: u64 = 0b10 << 53; // never execute, with and without FEAT_XNX
const ADDRESS: u64 = 0x0000_ffff_ffff_f000;

/// What one entry says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// Nothing is mapped.
    Invalid,
    /// The next level's table.
    Table(HostPhysAddr),
    /// A block, or at level 3 a page.
    Leaf(HostPhysAddr, Rights),
}

impl Entry {
    fn encode(self, level: Level) -> u64 {
        match self {
            Entry::Invalid => 0,
            Entry::Table(page) => page.raw() & ADDRESS | TABLE_OR_PAGE | VALID,
            Entry::Leaf(to, rights) => {
                let kind = if level == Level::L3 { TABLE_OR_PAGE | VALID } else { VALID };
                let rights = match rights {
                    Rights::Ram => S2AP_READ | S2AP_WRITE | MEM_ATTR_WB,
                    Rights::ReadOnly => S2AP_READ | XN | MEM_ATTR_WB,
                    Rights::Rom => S2AP_READ | MEM_ATTR_WB,
                    Rights::Device => S2AP_READ | S2AP_WRITE | XN | MEM_ATTR_DEVICE,
                };
                to.raw() & ADDRESS | kind | rights | SH_INNER | AF
            }
        }
    }

    fn decode(raw: u64, level: Level) -> Self {
        let to = HostPhysAddr::at(raw & ADDRESS);
        let is_table_or_page = raw & TABLE_OR_PAGE != 0;
        if raw & VALID == 0 {
            Entry::Invalid
        } else if level != Level::L3 && is_table_or_page {
            Entry::Table(to)
        } else {
            let read_only = if raw & XN != 0 { Rights::ReadOnly } else { Rights::Rom };
            let rights = match (raw & S2AP_WRITE != 0, raw & MEM_ATTR_WB == MEM_ATTR_WB) {
                (true, true) => Rights::Ram,
                (true, false) => Rights::Device,
                (false, _) => read_only,
            };
            Entry::Leaf(to, rights)
        }
    }
}

/// A table, or several in a row at the root.
///
/// Made only of pages that [`TablePages::take`] gave, or of descriptors that [`Table::set`] wrote, and not
/// used once its pages went back: everything below rests on that.
#[derive(Clone, Copy, Debug)]
pub(super) struct Table {
    page: HostPhysAddr,
    /// A power of two.
    entries: usize,
}

impl Table {
    /// A table in `count` (a power of two) pages that were just taken.
    pub(super) fn new(pages: HostPhysAddr, count: usize) -> Self {
        Self { page: pages, entries: ENTRIES.saturating_mul(count) }
    }

    /// The table of one page that a descriptor points to.
    pub(super) fn child(page: HostPhysAddr) -> Self {
        Self { page, entries: ENTRIES }
    }

    /// Where it lies.
    pub(super) fn page(self) -> HostPhysAddr {
        self.page
    }

    fn slot(&self, index: usize) -> &AtomicU64 {
        let first: *mut u64 = core::ptr::with_exposed_provenance_mut(self.page.raw() as usize);
        let slot = first.wrapping_add(index & self.entries.wrapping_sub(1));
        // SAFETY: the mask keeps the slot within the table's pages, which are mapped, page aligned and ours
        // alone by the promise of `TablePages`. Only table walks read them besides, and all of our own
        // accesses are atomic.
        unsafe { AtomicU64::from_ptr(slot) }
    }

    /// Entry `index` of a table of `level`.
    pub(super) fn get(self, index: usize, level: Level) -> Entry {
        // Relaxed: the one writer reads what it wrote itself, under the lock of its VM.
        Entry::decode(self.slot(index).load(Ordering::Relaxed), level)
    }

    /// Sets entry `index` of a table of `level`.
    ///
    /// One 64-bit store, so that a walk sees the old descriptor or the new. Release: whoever sees a table
    /// descriptor also sees the entries that were written to that table before. That walks started *after*
    /// this see it at all takes a DSB, which is the flush's part (see [`Flush`](super::Flush)).
    pub(super) fn set(self, index: usize, level: Level, entry: Entry) {
        self.slot(index).store(entry.encode(level), Ordering::Release);
    }

    /// Whether no entry is valid.
    pub(super) fn is_empty(self) -> bool {
        (0..self.entries).all(|index| self.slot(index).load(Ordering::Relaxed) & VALID == 0)
    }
}

/// Pages that are in no table at present, linked through their own first words: no heap is needed, and a
/// walk that still holds on to such a page reads the link as an invalid descriptor, for a page's address
/// has bit 0 clear.
#[derive(Debug, Default)]
pub(super) struct Chain {
    head: Option<Table>,
}

impl Chain {
    /// Adds an empty table.
    pub(super) fn push(&mut self, table: Table) {
        let next = self.head.map_or(0, |next| next.page.raw());
        table.slot(0).store(next, Ordering::Relaxed);
        self.head = Some(table);
    }

    /// Takes one out, all zeroes.
    pub(super) fn pop(&mut self) -> Option<Table> {
        let table = self.head?;
        let next = table.slot(0).swap(0, Ordering::Relaxed);
        self.head = (next != 0).then(|| Table::child(HostPhysAddr::at(next)));
        Some(table)
    }

    /// `count` new tables, or none.
    pub(super) fn take(count: usize, pages: &mut dyn TablePages) -> Option<Self> {
        let mut chain = Self::default();
        for _ in 0..count {
            let Some(page) = pages.take(1) else {
                chain.give(pages);
                return None;
            };
            chain.push(Table::new(page, 1));
        }
        Some(chain)
    }

    /// Gives them all back, and says how many they were.
    pub(super) fn give(mut self, pages: &mut dyn TablePages) -> usize {
        let mut count: usize = 0;
        while let Some(table) = self.pop() {
            pages.give(table.page, 1);
            count = count.saturating_add(1);
        }
        count
    }
}

/// Zeroes `count` pages.
///
/// # Safety
/// The pages are RAM, mapped writable at their own address, and nobody else uses them.
pub(super) unsafe fn zero_pages(pages: HostPhysAddr, count: usize) {
    let first: *mut u8 = core::ptr::with_exposed_provenance_mut(pages.raw() as usize);
    // SAFETY: the caller's promise.
    unsafe { core::ptr::write_bytes(first, 0, count.saturating_mul(PAGE_SIZE as usize)) }
}
