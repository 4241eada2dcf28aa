//! Stage 2 translation tables: stub to be replaced.
use crate::addr::{GuestPhysAddr, GuestRange, HostPhysAddr, HostRange};

/// What must be flushed, on all CPUs, before a change of Stage 2 holds.
#[must_use = "a change of Stage 2 holds only after its flush"]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flush {
    /// Nothing: entries were only added.
    Nothing,
    /// Everything of one VM, under its VTTBR_EL2.
    Vm {
        /// VTTBR_EL2 of the VM.
        vttbr: u64,
    },
}

/// Where table pages come from and go to; the caller accounts them to the VM.
pub trait TablePages {
    /// `count` (1, or 2..=16 for a concatenated root) contiguous pages of zeroes, aligned to their total size.
    fn take(&mut self, count: usize) -> Option<HostPhysAddr>;
    /// Takes them back.
    fn give(&mut self, pages: HostPhysAddr, count: usize);
}

/// Sizes of the two address spaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Bits of a guest-physical address: 32, 36, 40, 42, 44 or 48.
    pub ipa_bits: u8,
    /// Bits of a host-physical address: the least PARange of all CPUs, at most 48.
    pub pa_bits: u8,
    /// 16-bit VMIDs.
    pub vmid16: bool,
}

/// Why a mapping was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapError {
    /// No page for a table.
    NoMemory,
    /// Not page aligned, or outside the address spaces.
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
}

/// The Stage 2 tables of one VM.
#[derive(Debug)]
pub struct Stage2 {}

#[allow(unused_variables, missing_docs, reason = "stub")]
impl Stage2 {
    pub fn new(geometry: Geometry, vmid: u16, pages: &mut dyn TablePages) -> Option<Self> {
        None
    }
    pub fn vttbr(&self) -> u64 {
        0
    }
    pub fn vtcr(&self) -> u64 {
        0
    }
    pub fn map(
        &mut self,
        ipa: GuestPhysAddr,
        to: HostRange,
        rights: Rights,
        pages: &mut dyn TablePages,
    ) -> Result<Flush, MapError> {
        Err(MapError::NoMemory)
    }
    pub fn unmap(&mut self, range: GuestRange, pages: &mut dyn TablePages) -> Result<Flush, MapError> {
        Err(MapError::NoMemory)
    }
    pub fn translate(&self, ipa: GuestPhysAddr) -> Option<(HostPhysAddr, Rights)> {
        None
    }
    pub fn destroy(self, pages: &mut dyn TablePages) -> Flush {
        Flush::Nothing
    }
}
