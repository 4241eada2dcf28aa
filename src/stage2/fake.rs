//! Table pages from the test process' heap, with books that catch leaks and double frees.
#![allow(unsafe_code, reason = "memory for tables, and a walker that reads it as hardware would")]
#![allow(clippy::arithmetic_side_effects, reason = "a test may panic")]

use super::TablePages;
use crate::addr::{HostPhysAddr, HostRange, PAGE_SIZE};
use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::collections::BTreeMap;

/// Aligned host memory that its owner may use as it likes.
pub(crate) struct HostMemory {
    start: *mut u8,
    layout: Layout,
}

impl HostMemory {
    /// `size` bytes of zeroes.
    pub(crate) fn new(size: usize, align: usize) -> Self {
        let layout = Layout::from_size_align(size, align).unwrap();
        assert_ne!(size, 0);
        // SAFETY: the size is not 0.
        let start = unsafe { alloc_zeroed(layout) };
        assert!(!start.is_null());
        Self { start, layout }
    }

    /// Where it lies.
    pub(crate) fn range(&self) -> HostRange {
        let start = HostPhysAddr::at(self.start.expose_provenance() as u64);
        HostRange::new(start, self.layout.size() as u64).unwrap()
    }

    /// A copy of `len` bytes at `offset`.
    pub(crate) fn bytes(&self, offset: usize, len: usize) -> Vec<u8> {
        assert!(offset + len <= self.layout.size());
        // SAFETY: within the allocation, which tests use from one thread.
        unsafe { std::slice::from_raw_parts(self.start.add(offset), len).to_vec() }
    }

    /// Fills it.
    pub(crate) fn fill(&self, byte: u8) {
        // SAFETY: the whole of the allocation.
        unsafe { self.start.write_bytes(byte, self.layout.size()) }
    }
}

impl Drop for HostMemory {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this layout.
        unsafe { dealloc(self.start, self.layout) }
    }
}

/// Table pages from the heap, up to a limit. Panics on a double free or a wrong size.
pub(crate) struct HeapPages {
    out: BTreeMap<HostPhysAddr, HostMemory>,
    /// Pages that may be out at once.
    pub(crate) limit: usize,
}

impl HeapPages {
    pub(crate) fn new() -> Self {
        Self { out: BTreeMap::new(), limit: usize::MAX }
    }

    /// Pages that are out.
    pub(crate) fn out(&self) -> usize {
        self.out.values().map(|m| m.layout.size() / PAGE_SIZE as usize).sum()
    }
}

// SAFETY: each page is an allocation of its own, zeroed and aligned; on hosts every address is mapped at itself.
unsafe impl TablePages for HeapPages {
    fn take(&mut self, count: usize) -> Option<HostPhysAddr> {
        if self.out() + count > self.limit {
            return None;
        }
        let size = count * PAGE_SIZE as usize;
        let memory = HostMemory::new(size, size.next_power_of_two());
        let start = memory.range().start();
        self.out.insert(start, memory);
        Some(start)
    }

    fn give(&mut self, pages: HostPhysAddr, count: usize) {
        let memory = self.out.remove(&pages).expect("a page that is out");
        assert_eq!(memory.layout.size(), count * PAGE_SIZE as usize);
        // So that whoever still walks it sees a valid descriptor to nowhere, not zeroes.
        memory.fill(0xff);
    }
}

/// A leaf as the hardware finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HardwareLeaf {
    pub(crate) level: u8,
    pub(crate) to: u64,
    /// The descriptor without its address.
    pub(crate) attributes: u64,
}

/// Walks as a CPU does, by nothing but VTTBR_EL2 and VTCR_EL2.
pub(crate) fn walk(vttbr: u64, vtcr: u64, ipa: u64) -> Option<HardwareLeaf> {
    const ADDRESS: u64 = 0xffff_ffff_f000;
    let ipa_bits = 64 - (vtcr & 0x3f);
    if ipa >> ipa_bits != 0 {
        return None;
    }
    let mut level = 2 - (vtcr >> 6 & 3) as u8;
    let mut table = vttbr & 0xffff_ffff_fffe;
    let mut index_bits = ipa_bits as u32 - (39 - 9 * u32::from(level));
    loop {
        let shift = 39 - 9 * u32::from(level);
        let index = ipa >> shift & ((1 << index_bits) - 1);
        let slot: *const u64 = std::ptr::with_exposed_provenance((table + 8 * index) as usize);
        // SAFETY: the tests only walk tables that are live.
        let descriptor = unsafe { slot.read_volatile() };
        match (descriptor & 3, level) {
            (3, 0..=2) => {
                (table, level, index_bits) = (descriptor & ADDRESS, level + 1, 9);
            }
            (1, 1 | 2) | (3, 3) => {
                let offset = ipa & ((1 << shift) - 1);
                let to = (descriptor & ADDRESS) + offset;
                return Some(HardwareLeaf { level, to, attributes: descriptor & !ADDRESS });
            }
            (0 | 2, _) => return None,
            other => panic!("a descriptor that no hardware takes: {other:?}"),
        }
    }
}
