//! Stage 2 translation tables: which host memory a guest reaches at which address.
//!
//! VMSAv8-64 with a 4 KiB granule (Arm ARM D8). A walk, here for 40 bits of IPA:
//!
//! ```text
//!   IPA    39        30 29        21 20        12 11         0
//!         +------------+------------+------------+------------+
//!         |  index 1   |  index 2   |  index 3   |   offset   |
//!         +-----+------+-----+------+-----+------+------------+
//!               |            |            |
//!   VTTBR_EL2 --+--> root: two tables of level 1 in a row, 1024 entries
//!                    |       |            |
//!                    +- block: 1 GiB      |
//!                    +- table|of level 2, 512 entries
//!                            |            |
//!                            +- block: 2 MiB
//!                            +- table of level 3, 512 entries
//!                                         |
//!                                         +- page: 4 KiB
//! ```
//!
//! Other sizes start one level higher or lower, with 1 to 16 tables in a row ([`Geometry::start`]).
//!
//! Tables have one writer, who holds the lock of the VM; CPUs that run the guest walk them all the while.
//! What the code keeps true:
//!
//! * A table is complete before an entry points to it.
//! * Tables below the root are never empty. So a place where a block fits is either a free entry or occupied.
//! * A valid entry changes only to invalid and back (*break-before-make*, D8), with a [`Flush`] between.
//! * A table's page goes back only after a flush, when no CPU can walk it any more.
//! * Nothing is half done: what can fail, fails before the first change that a guest could see.
//!
//! While a block is split, another CPU's guest may fault on it: whoever handles a translation fault looks
//! again with [`Stage2::translate`] under the lock before believing it.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

#[cfg(test)]
pub(crate) mod fake;
mod geometry;
mod pool;
mod table;
#[cfg(test)]
mod tests;

pub use geometry::Geometry;
pub use pool::{PagePool, PoolPages};

use crate::addr::{Address, GuestPhysAddr, GuestRange, HostPhysAddr, HostRange};
use geometry::Level;
use table::{Chain, ENTRIES, Entry, Table};

/// What must be done, on all CPUs, before a change of Stage 2 holds.
#[must_use = "a change of Stage 2 holds only after its flush"]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flush {
    /// Entries were only added: nothing to invalidate, but `dsb ishst; isb`, so that walks see them
    /// (Arm ARM D8). The TLBs hold no invalid entries.
    Nothing,
    /// Entries went away: `dsb ishst`, then everything of one VM out of all TLBs (`tlbi vmalls12e1is`
    /// under its VTTBR_EL2), `dsb ish; isb`.
    Vm {
        /// VTTBR_EL2 of the VM.
        vttbr: u64,
    },
    /// Entries went away, or VMIDs are to change their owners: `dsb ishst`, then everything of all VMs out of
    /// all TLBs (`tlbi alle1is`), `dsb ish`, and out of the instruction caches, which may be tagged with VMIDs
    /// (`ic ialluis; dsb ish; isb`).
    All,
}

impl Flush {
    /// The same for one VM alone, by whoever knows under which VMID the TLBs may hold entries of it at this
    /// moment ([`vmid::Table::of`](crate::vmid::Table::of)); for all without one.
    pub fn of(self, root: u64, vmid: Option<u16>) -> Self {
        match (self, vmid) {
            (Self::All, Some(vmid)) => Self::Vm { vttbr: vttbr(root, vmid) },
            _ => self,
        }
    }
}

/// VTTBR_EL2: VMID and [root](Stage2::root), CnP clear (Arm ARM, VTTBR_EL2). With 8-bit VMIDs, bits 63:56 are RES0
/// and the VMID is less than 256.
#[inline]
pub const fn vttbr(root: u64, vmid: u16) -> u64 {
    (vmid as u64) << 48 | root
}

/// Where table pages come from and go to; the caller accounts them to the VM.
///
/// # Safety
/// `take` returns RAM that is mapped writable at its own address (at EL2, or in the test process), all
/// zeroes, aligned to `count` rounded up to a power of two, and used by nobody else until it is given back.
#[allow(unsafe_code, reason = "who provides pages promises that they are memory")]
pub unsafe trait TablePages {
    /// `count` (1, or 2..=16 for a concatenated root) contiguous pages of zeroes, aligned to their total size.
    fn take(&mut self, count: usize) -> Option<HostPhysAddr>;
    /// Takes them back.
    fn give(&mut self, pages: HostPhysAddr, count: usize);
}

/// Why a mapping was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapError {
    /// No page for a table.
    NoMemory,
    /// Empty, not page aligned, or outside the address spaces.
    BadRange,
    /// Something is mapped there already.
    Occupied,
}

/// What a guest may do with a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rights {
    /// Read, write and execute: RAM.
    Ram,
    /// Read only, never execute.
    ReadOnly,
    /// Read and execute: a ROM.
    Rom,
    /// Read and write a device's registers (Device-nGnRE), never execute.
    Device,
}

/// The Stage 2 tables of one VM.
///
/// Dropping it leaks its pages: it ends with [`Stage2::destroy`] or [`Stage2::retire`].
#[derive(Debug)]
pub struct Stage2 {
    geometry: Geometry,
    root: Table,
    root_level: Level,
    root_pages: usize,
    pages: usize,
}

/// A mapping on its way into the tables: `to = ipa + offset`, modulo 2^64.
#[derive(Clone, Copy)]
struct Mapping {
    offset: u64,
    rights: Rights,
}

impl Mapping {
    fn host(&self, ipa: GuestPhysAddr) -> HostPhysAddr {
        HostPhysAddr::at(ipa.raw().wrapping_add(self.offset))
    }

    /// Whether one entry of `level` can map the whole of `piece`, which lies within one.
    fn fits(&self, level: Level, piece: GuestRange) -> bool {
        level.has_leaves()
            && piece.size() == level.span()
            && self.host(piece.start()).is_aligned(level.span())
    }
}

impl Stage2 {
    /// Empty tables. `None` if `geometry` is out of bounds, or there is no page for the root.
    pub fn new(geometry: Geometry, pages: &mut dyn TablePages) -> Option<Self> {
        let (root_level, root_pages) = geometry.root()?;
        let page = pages.take(root_pages)?;
        let root = Table::new(page, root_pages);
        Some(Self { geometry, root, root_level, root_pages, pages: root_pages })
    }

    /// VTTBR_EL2.BADDR, which never changes. The VMID joins it when a CPU loads it: see [`vttbr`].
    pub fn root(&self) -> u64 {
        self.root.page().raw()
    }

    /// VTCR_EL2.
    pub fn vtcr(&self) -> u64 {
        // `new` refused any geometry that has none.
        self.geometry.vtcr().unwrap_or(0)
    }

    /// The sizes it was made for.
    pub fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// Pages in its tables, the root's included.
    pub fn pages(&self) -> usize {
        self.pages
    }

    /// Maps all of `to` from `ipa` on, in the largest blocks that fit.
    ///
    /// Takes time by the number of entries it writes: callers map long runs of single pages in parts.
    ///
    /// # Errors
    /// [`MapError::Occupied`] if any page of it is mapped already, to whatever; [`MapError::BadRange`];
    /// [`MapError::NoMemory`]. Nothing has changed then.
    pub fn map(
        &mut self,
        ipa: GuestPhysAddr,
        to: HostRange,
        rights: Rights,
        pages: &mut dyn TablePages,
    ) -> Result<Flush, MapError> {
        let range = GuestRange::new(ipa, to.size()).ok_or(MapError::BadRange)?;
        self.geometry.check_guest(range)?;
        self.geometry.check_host(to)?;
        let mapping = Mapping { offset: to.start().raw().wrapping_sub(ipa.raw()), rights };
        // First count the new tables, then get them all, then write: the writing cannot fail.
        let count = plan(Some(self.root), self.root_level, range, &mapping)?;
        let mut stock = Chain::take(count, pages).ok_or(MapError::NoMemory)?;
        self.pages = self.pages.saturating_add(count);
        fill(self.root, self.root_level, range, &mapping, &mut stock);
        Ok(Flush::Nothing)
    }

    /// Unmaps whatever is mapped in `range`, splitting blocks at its ends.
    ///
    /// `flush` is called between break and make of each split and before pages go back; when `unmap`
    /// returns, nothing is left to flush. It is told to flush all VMs, as these tables know no VMID, and may
    /// narrow that ([`Flush::of`]) by the VMID that this one has at that moment: not before, as a VMID that
    /// was asked for before the break may be another one after it. Takes time by the number of entries in the range.
    ///
    /// # Errors
    /// [`MapError::BadRange`]; [`MapError::NoMemory`] if a block cannot be split for want of a page.
    /// Everything is mapped as before then.
    pub fn unmap(
        &mut self,
        range: GuestRange,
        pages: &mut dyn TablePages,
        flush: &mut dyn FnMut(Flush),
    ) -> Result<(), MapError> {
        self.geometry.check_guest(range)?;
        self.split(range.start(), pages, flush)?;
        self.split(range.end(), pages, flush)?;
        let mut dead = Chain::default();
        if clear(self.root, self.root_level, range, &mut dead) {
            flush(Flush::All);
        }
        let freed = dead.give(pages);
        self.pages = self.pages.saturating_sub(freed);
        Ok(())
    }

    /// Where `ipa` is mapped to, and what the guest may do there.
    pub fn translate(&self, ipa: GuestPhysAddr) -> Option<(HostPhysAddr, Rights)> {
        let (_, level, _, entry) = self.walk(ipa)?;
        let Entry::Leaf(to, rights) = entry else {
            return None;
        };
        let offset = ipa.raw() & level.span().wrapping_sub(1);
        Some((to.checked_add(offset)?, rights))
    }

    /// Gives all pages back at once; [`Stage2::retire`] does so in parts.
    ///
    /// No CPU may have its root in VTTBR_EL2, other than for the flush.
    pub fn destroy(self, pages: &mut dyn TablePages, flush: &mut dyn FnMut(Flush)) {
        let mut teardown = self.retire(flush);
        while !teardown.step(usize::MAX, pages) {}
    }

    /// Flushes what the TLBs know of it and begins to take it apart.
    ///
    /// No CPU may have its root in VTTBR_EL2, other than for the flush, nor load it again. As in
    /// [`unmap`](Stage2::unmap), `flush` may narrow what it is told, by the VMID that the VM had last. No TLB
    /// holds anything of it when this returns.
    pub fn retire(self, flush: &mut dyn FnMut(Flush)) -> Teardown {
        flush(Flush::All);
        Teardown { stage2: self, next: 0 }
    }

    /// The entry that ends a walk for `ipa`: its table, level, index and what it says. `None` beyond the
    /// IPA space.
    fn walk(&self, ipa: GuestPhysAddr) -> Option<(Table, Level, usize, Entry)> {
        if ipa.raw() >= self.geometry.ipa_size() {
            return None;
        }
        let (mut table, mut level) = (self.root, self.root_level);
        loop {
            let index = level.index(ipa);
            let entry = table.get(index, level);
            match (entry, level.next()) {
                (Entry::Table(child), Some(next)) => (table, level) = (Table::child(child), next),
                _ => return Some((table, level, index, entry)),
            }
        }
    }

    /// Splits blocks until one begins at `at`, or nothing is mapped there.
    fn split(
        &mut self,
        at: GuestPhysAddr,
        pages: &mut dyn TablePages,
        flush: &mut dyn FnMut(Flush),
    ) -> Result<(), MapError> {
        while let Some((table, level, index, Entry::Leaf(to, rights))) = self.walk(at)
            && !at.is_aligned(level.span())
            && let Some(below) = level.next()
        {
            let child = Table::new(pages.take(1).ok_or(MapError::NoMemory)?, 1);
            self.pages = self.pages.saturating_add(1);
            // The same translations one level down, complete before anything points there.
            for n in 0..ENTRIES {
                let offset = below.span().wrapping_mul(n as u64);
                let to = HostPhysAddr::at(to.raw().wrapping_add(offset));
                child.set(n, below, Entry::Leaf(to, rights));
            }
            // Break: once flushed, no TLB holds the block.
            table.set(index, level, Entry::Invalid);
            flush(Flush::All);
            // Make.
            table.set(index, level, Entry::Table(child.page()));
            flush(Flush::Nothing);
        }
        Ok(())
    }
}

/// How many new tables `range` needs below `table`, or below an entry that is free now (`None`).
fn plan(table: Option<Table>, level: Level, range: GuestRange, mapping: &Mapping) -> Result<usize, MapError> {
    let mut count: usize = 0;
    for piece in level.pieces(range) {
        let entry = table.map_or(Entry::Invalid, |table| table.get(level.index(piece.start()), level));
        let (child, new) = match entry {
            Entry::Invalid if mapping.fits(level, piece) => continue,
            Entry::Invalid => (None, 1),
            Entry::Table(child) => (Some(Table::child(child)), 0),
            Entry::Leaf(..) => return Err(MapError::Occupied),
        };
        let Some(below) = level.next() else { continue };
        count = count.saturating_add(new).saturating_add(plan(child, below, piece, mapping)?);
    }
    Ok(count)
}

/// Writes what [`plan`] allowed, with tables from `stock`.
fn fill(table: Table, level: Level, range: GuestRange, mapping: &Mapping, stock: &mut Chain) {
    for piece in level.pieces(range) {
        let index = level.index(piece.start());
        let entry = table.get(index, level);
        if entry == Entry::Invalid && mapping.fits(level, piece) {
            table.set(index, level, Entry::Leaf(mapping.host(piece.start()), mapping.rights));
            continue;
        }
        let Some(below) = level.next() else { continue };
        match entry {
            Entry::Table(child) => fill(Table::child(child), below, piece, mapping, stock),
            Entry::Invalid => {
                let Some(child) = stock.pop() else { continue };
                // Filled first, linked then: a walk never sees it half done.
                fill(child, below, piece, mapping, stock);
                table.set(index, level, Entry::Table(child.page()));
            }
            Entry::Leaf(..) => {}
        }
    }
}

/// Makes all entries in `range` invalid and moves tables that are empty then to `dead`. No block may reach
/// across the ends of `range`. Says whether anything was mapped.
fn clear(table: Table, level: Level, range: GuestRange, dead: &mut Chain) -> bool {
    let mut changed = false;
    for piece in level.pieces(range) {
        let index = level.index(piece.start());
        match (table.get(index, level), level.next()) {
            (Entry::Table(child), Some(below)) => {
                let child = Table::child(child);
                changed |= clear(child, below, piece, dead);
                if child.is_empty() {
                    table.set(index, level, Entry::Invalid);
                    dead.push(child);
                }
            }
            (Entry::Leaf(..), _) => {
                table.set(index, level, Entry::Invalid);
                changed = true;
            }
            _ => {}
        }
    }
    changed
}

/// Tables that no CPU walks any more, on their way back to where their pages came from.
#[must_use = "the pages go back by `step`"]
#[derive(Debug)]
pub struct Teardown {
    stage2: Stage2,
    /// The next root entry.
    next: usize,
}

impl Teardown {
    /// Goes on for about `entries` descriptors (but at least 2,048, for a few instructions each). Returns
    /// whether that was the last of it; nothing happens after that.
    pub fn step(&mut self, entries: usize, pages: &mut dyn TablePages) -> bool {
        let mut budget = entries.max(4 * ENTRIES);
        let Stage2 { root, root_level, root_pages, pages: left, .. } = &mut self.stage2;
        while self.next < root_pages.saturating_mul(ENTRIES) {
            let freed = free_below(*root, *root_level, self.next, &mut budget, pages);
            *left = left.saturating_sub(freed);
            if budget == 0 {
                return false;
            }
            self.next = self.next.saturating_add(1);
        }
        if *left > 0 {
            pages.give(root.page(), *root_pages);
            *left = 0;
        }
        true
    }

    /// Pages that have not gone back yet.
    pub fn pages(&self) -> usize {
        self.stage2.pages
    }
}

/// Gives back the table at entry `index` and all below it, unless the budget runs out before: then `budget`
/// is 0 and the entry stays. Returns how many pages went back.
fn free_below(
    table: Table,
    level: Level,
    index: usize,
    budget: &mut usize,
    pages: &mut dyn TablePages,
) -> usize {
    *budget = budget.saturating_sub(1);
    let (Entry::Table(child), Some(below)) = (table.get(index, level), level.next()) else {
        return 0;
    };
    let child = Table::child(child);
    let mut freed: usize = 0;
    // Tables of level 3 have nothing below.
    if below != Level::L3 {
        for n in 0..ENTRIES {
            freed = freed.saturating_add(free_below(child, below, n, budget, pages));
            if *budget == 0 {
                return freed;
            }
        }
    }
    table.set(index, level, Entry::Invalid);
    pages.give(child.page(), 1);
    freed.saturating_add(1)
}
