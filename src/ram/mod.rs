//! Guest RAM: checked copies in and out, never a reference into it.
//!
//! A guest runs while EL2 reads and writes its memory, so what lies there is no Rust object: it is reached
//! through raw pointers, a byte may change between two reads, and a copy may mix old bytes with new ones.
//! Whoever needs a value to stay put copies it out once and looks at the copy.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod bulk;
mod page;
#[cfg(test)]
mod tests;

pub use page::SharedPage;

use crate::addr::{Address, BLOCK_2M, GuestPhysAddr, GuestRange, HostPhysAddr, HostRange, PAGE_SIZE};
use crate::memory::Memory;
use crate::stage2::{PagePool, PoolPages, TablePages};
use alloc::vec::Vec;

/// Memory that guests and their translation tables may be made of.
///
/// The promise that it is memory at all is made once, here, so that whoever makes VMs need not make any.
#[derive(Debug)]
pub struct FreeRam {
    memory: Memory,
    pages: PagePool,
}

impl FreeRam {
    /// Takes charge of `memory`.
    ///
    /// # Safety
    /// It holds only RAM that is mapped writable at EL2 at its own address, for good, and that nobody else uses.
    #[allow(unsafe_code, reason = "the promise that all safe use of it rests on")]
    pub unsafe fn new(memory: Memory) -> Self {
        // SAFETY: the caller's promise is the one that the pool asks for; `tables` passes it no other memory.
        Self { memory, pages: unsafe { PagePool::new() } }
    }

    /// What is free.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// `size` bytes for a guest, from `start` of its address space on, in as few pieces as there are, each at
    /// a multiple of 2 MiB. What rounding up to that takes more is nobody's. `None` if there is not enough.
    #[allow(unsafe_code, reason = "the memory becomes a guest's here")]
    pub fn guest_ram(&mut self, start: GuestPhysAddr, size: u64) -> Option<GuestRam> {
        let mut pieces = self.memory.take_pieces(size.checked_next_multiple_of(BLOCK_2M)?, BLOCK_2M)?;
        let over = pieces.iter().map(HostRange::size).fold(0, u64::wrapping_add).wrapping_sub(size);
        if let Some(last) = pieces.last_mut() {
            *last = HostRange::new(last.start(), last.size().saturating_sub(over))?;
        }
        // SAFETY: RAM, by the promise of `new`, and nobody else's now, by the books of `Memory`.
        Some(unsafe { GuestRam::new(start, &pieces) })
    }

    /// The same of exactly `pieces`, which were set aside by [`Memory::keep`]. `None` if there are none, or one was
    /// not; then none is taken.
    #[allow(unsafe_code, reason = "the memory becomes a guest's here")]
    pub fn kept_guest_ram(&mut self, start: GuestPhysAddr, pieces: &[HostRange]) -> Option<GuestRam> {
        let mut taken = Vec::new();
        for piece in pieces {
            match self.memory.take_kept(*piece) {
                Some(piece) => taken.push(piece),
                None => {
                    taken.iter().for_each(|piece| self.memory.give_kept(*piece));
                    return None;
                }
            }
        }
        // SAFETY: as in `guest_ram`: what was set aside was free before, and is taken by one only.
        (!taken.is_empty()).then(|| unsafe { GuestRam::new(start, &taken) })
    }

    /// Where translation tables come from.
    pub fn tables(&mut self) -> PoolPages<'_> {
        self.pages.with(&mut self.memory)
    }

    /// A page of zeroes for what EL2 and a guest share, from where tables come from. `None` if there is none.
    #[allow(unsafe_code, reason = "the page becomes shared here")]
    pub fn shared_page(&mut self) -> Option<SharedPage> {
        let page = self.tables().take(1)?;
        // SAFETY: RAM, by the promise of `new`, and nobody else's now, by the books of the pool.
        Some(unsafe { SharedPage::new(page) })
    }

    /// Takes a shared page back. No guest may have it mapped any more, nor a TLB know of it.
    pub fn give_shared_page(&mut self, page: SharedPage) {
        self.tables().give(page.range().start(), 1);
    }

    /// Bytes that translation tables have taken, in use or not.
    pub fn table_bytes(&self) -> u64 {
        self.pages.held().saturating_mul(PAGE_SIZE)
    }
}

/// An access outside of the guest's RAM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfRam;

/// The RAM of one VM: chunks of host memory in the order of the guest's addresses, without holes.
#[derive(Debug)]
pub struct GuestRam {
    range: GuestRange,
    chunks: Vec<Chunk>,
}

#[derive(Clone, Copy, Debug)]
struct Chunk {
    guest: GuestRange,
    host: HostPhysAddr,
}

impl Chunk {
    /// Where the part of the chunk that lies in `range` is.
    fn part(&self, range: GuestRange) -> HostRange {
        let start = self.guest.start().max(range.start());
        let end = self.guest.end().min(range.end());
        let offset = start.raw().wrapping_sub(self.guest.start().raw());
        let host = HostPhysAddr::at(self.host.raw().wrapping_add(offset));
        HostRange::new(host, GuestRange::between(start, end).size()).unwrap_or_default()
    }
}

impl GuestRam {
    /// RAM from `start` on, made of `chunks`, in that order. What does not fit below 2^64 is left out.
    ///
    /// # Safety
    /// The memory is mapped writable at EL2 (or in the test process) at its own address for as long as the
    /// value lives, and besides the guest nobody uses it other than through this value.
    #[allow(unsafe_code, reason = "the one place where memory becomes a guest's")]
    pub unsafe fn new(start: GuestPhysAddr, chunks: &[HostRange]) -> Self {
        let mut ram = Self { range: GuestRange::between(start, start), chunks: Vec::new() };
        for host in chunks.iter().filter(|chunk| !chunk.is_empty()) {
            let Some(guest) = GuestRange::new(ram.range.end(), host.size()) else { break };
            ram.chunks.push(Chunk { guest, host: host.start() });
            ram.range = GuestRange::between(start, guest.end());
        }
        ram
    }

    /// Where it lies in the guest's address space.
    pub fn range(&self) -> GuestRange {
        self.range
    }

    /// The chunks, each with the guest's address of its start.
    pub fn chunks(&self) -> impl Iterator<Item = (GuestPhysAddr, HostRange)> + '_ {
        self.chunks.iter().map(|chunk| (chunk.guest.start(), chunk.part(chunk.guest)))
    }

    /// The host memory behind `range`, in order: for cache maintenance.
    ///
    /// # Errors
    /// [`OutOfRam`] if any byte lies outside.
    pub fn host_ranges(&self, range: GuestRange) -> Result<impl Iterator<Item = HostRange> + '_, OutOfRam> {
        if !self.range.encloses(&range) {
            return Err(OutOfRam);
        }
        let first = self.chunks.partition_point(|chunk| chunk.guest.end() <= range.start());
        let chunks = self.chunks.get(first..).unwrap_or_default().iter();
        Ok(chunks.map(move |chunk| chunk.part(range)).take_while(|part| !part.is_empty()))
    }

    /// Copies `bytes` into the guest.
    ///
    /// # Errors
    /// [`OutOfRam`] if any byte would lie outside; nothing is written then.
    pub fn write(&self, at: GuestPhysAddr, bytes: &[u8]) -> Result<(), OutOfRam> {
        let mut rest = bytes;
        for to in self.host_ranges(range_of(at, bytes)?)? {
            let (part, after) = rest.split_at_checked(to.size() as usize).ok_or(OutOfRam)?;
            bulk::write(to, part);
            rest = after;
        }
        Ok(())
    }

    /// Copies out of the guest.
    ///
    /// # Errors
    /// [`OutOfRam`] if any byte lies outside; `bytes` is as it was then.
    pub fn read(&self, at: GuestPhysAddr, bytes: &mut [u8]) -> Result<(), OutOfRam> {
        let mut rest = &mut *bytes;
        for from in self.host_ranges(range_of(at, rest)?)? {
            let (part, after) = rest.split_at_mut_checked(from.size() as usize).ok_or(OutOfRam)?;
            bulk::read(from, part);
            rest = after;
        }
        Ok(())
    }

    /// Zeroes a part.
    ///
    /// # Errors
    /// [`OutOfRam`] if any byte lies outside; nothing is zeroed then.
    pub fn zero(&self, range: GuestRange) -> Result<(), OutOfRam> {
        self.host_ranges(range)?.for_each(bulk::zero);
        Ok(())
    }

    /// Goes on with zeroing all of it: the next `max` bytes from `progress` (0 at first), which moves on.
    /// Returns whether that was the last of it. Takes about 11 instructions for each 128 bytes.
    pub fn scrub(&self, progress: &mut u64, max: u64) -> bool {
        self.scrub_with(progress, max, &mut bulk::zero)
    }

    /// The same, with `zero` to do the zeroing: a machine knows faster ways (DC ZVA), and may clean the
    /// caches in the same go.
    pub fn scrub_with(&self, progress: &mut u64, max: u64, zero: &mut dyn FnMut(HostRange)) -> bool {
        let left = self.range.size().saturating_sub(*progress);
        let start = self.range.start().raw().wrapping_add(*progress);
        let piece = GuestRange::new(GuestPhysAddr::at(start), left.min(max)).unwrap_or_default();
        if let Ok(parts) = self.host_ranges(piece) {
            parts.for_each(zero);
            *progress = progress.saturating_add(piece.size());
        }
        *progress >= self.range.size()
    }
}

/// The guest's range that `bytes` at `at` take.
fn range_of(at: GuestPhysAddr, bytes: &[u8]) -> Result<GuestRange, OutOfRam> {
    GuestRange::new(at, bytes.len() as u64).ok_or(OutOfRam)
}
