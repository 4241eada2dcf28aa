//! The shape of a Stage 2: address sizes, start level, concatenated roots, VTCR_EL2.

use super::MapError;
use super::table::ENTRIES;
use crate::addr::{Address, BLOCK_1G, BLOCK_2M, GuestPhysAddr, GuestRange, HostRange, PAGE_SIZE};

/// Sizes of the two address spaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Bits of a guest-physical address: 32, 36, 40, 42, 44 or 48, and not more than `pa_bits`.
    pub ipa_bits: u8,
    /// Bits of a host-physical address: the least PARange of all CPUs, at most 48; 32, 36, 40, 42, 44 or 48.
    pub pa_bits: u8,
    /// 16-bit VMIDs.
    pub vmid16: bool,
}

/// A level of lookup, 4 KiB granule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    /// An entry spans 512 GiB and can only be a table.
    L0,
    /// 1 GiB.
    L1,
    /// 2 MiB.
    L2,
    /// 4 KiB.
    L3,
}

impl Level {
    /// Bytes that one entry spans.
    pub(super) const fn span(self) -> u64 {
        match self {
            Level::L0 => 512 * BLOCK_1G,
            Level::L1 => BLOCK_1G,
            Level::L2 => BLOCK_2M,
            Level::L3 => PAGE_SIZE,
        }
    }

    /// The level below.
    pub(super) const fn next(self) -> Option<Self> {
        match self {
            Level::L0 => Some(Level::L1),
            Level::L1 => Some(Level::L2),
            Level::L2 => Some(Level::L3),
            Level::L3 => None,
        }
    }

    /// Whether an entry can map memory (Arm ARM D8.3: no level 0 blocks with a 4 KiB granule and 48 bits).
    pub(super) const fn has_leaves(self) -> bool {
        !matches!(self, Level::L0)
    }

    /// The index of `ipa` at this level, counted from the start of the address space: right for the root,
    /// whose tables lie in a row, and for other tables once [`Table`](super::table::Table) masks it.
    pub(super) fn index(self, ipa: GuestPhysAddr) -> usize {
        (ipa.raw() >> self.span().trailing_zeros()) as usize
    }

    /// Cuts `range` where the entries of this level begin.
    pub(super) fn pieces(self, range: GuestRange) -> impl Iterator<Item = GuestRange> {
        let mut start = range.start();
        core::iter::from_fn(move || {
            let next = start.align_down(self.span()).checked_add(self.span())?;
            let piece = GuestRange::between(start, next.min(range.end()));
            start = next;
            (!piece.is_empty()).then_some(piece)
        })
    }
}

impl Geometry {
    /// Where lookups start, and how many tables lie in a row there (Arm ARM D8.2, Stage 2, 4 KiB granule).
    ///
    /// Up to 16 tables can stand in for a level of their own, so the lowest start level is taken that 16
    /// tables cover: the fewest lookups. `None` for sizes that the architecture or this code does not have.
    pub(super) const fn root(&self) -> Option<(Level, usize)> {
        if self.ipa_bits > self.pa_bits || self.ps().is_none() {
            return None; // an IPA size above the PA size is CONSTRAINED UNPREDICTABLE
        }
        match self.ipa_bits {
            32 => Some((Level::L2, 4)),
            36 => Some((Level::L1, 1)),
            40 => Some((Level::L1, 2)),
            42 => Some((Level::L1, 8)),
            44 => Some((Level::L0, 1)),
            48 => Some((Level::L0, 1)),
            _ => None,
        }
    }

    /// The level at which lookups start, 0 to 2, and how many concatenated tables lie there, 1 to 16.
    pub const fn start(&self) -> Option<(u8, usize)> {
        match self.root() {
            Some((level, tables)) => Some((level as u8, tables)),
            None => None,
        }
    }

    /// VTCR_EL2 (Arm ARM, VTCR_EL2), or `None` as for [`Geometry::start`].
    pub const fn vtcr(&self) -> Option<u64> {
        let (Some((level, _)), Some(ps)) = (self.root(), self.ps()) else {
            return None;
        };
        let t0sz = 64_u64.saturating_sub(self.ipa_bits as u64);
        let sl0 = match level {
            Level::L0 => 0b10,
            Level::L1 => 0b01,
            Level::L2 | Level::L3 => 0b00,
        };
        let vs = self.vmid16 as u64;
        const IRGN0_WB: u64 = 0b01 << 8;
        const ORGN0_WB: u64 = 0b01 << 10;
        const SH0_INNER: u64 = 0b11 << 12;
        const TG0_4K: u64 = 0b00 << 14;
        const RES1: u64 = 1 << 31;
        Some(RES1 | vs << 19 | ps << 16 | TG0_4K | SH0_INNER | ORGN0_WB | IRGN0_WB | sl0 << 6 | t0sz)
    }

    /// VTCR_EL2.PS, coded as ID_AA64MMFR0_EL1.PARange.
    const fn ps(&self) -> Option<u64> {
        match self.pa_bits {
            32 => Some(0),
            36 => Some(1),
            40 => Some(2),
            42 => Some(3),
            44 => Some(4),
            48 => Some(5),
            _ => None,
        }
    }

    /// Bits of VTTBR_EL2.VMID that VTCR_EL2.VS allows.
    pub const fn vmid_bits(&self) -> u8 {
        if self.vmid16 { 16 } else { 8 }
    }

    /// Bytes of the guest's address space.
    pub(super) fn ipa_size(&self) -> u64 {
        1_u64.checked_shl(self.ipa_bits.into()).unwrap_or(0)
    }

    /// Refuses guest ranges that are empty, not whole pages, or not within the IPA space.
    ///
    /// Address bits above the IPA size are refused here and never cut off: an alias of a low address would
    /// be a way into memory that nobody meant.
    pub(super) fn check_guest(&self, range: GuestRange) -> Result<(), MapError> {
        let whole = range.start().is_aligned(PAGE_SIZE) && range.end().is_aligned(PAGE_SIZE);
        let inside = range.end().raw() <= self.ipa_size();
        if whole && inside && !range.is_empty() { Ok(()) } else { Err(MapError::BadRange) }
    }

    /// The same for host ranges.
    pub(super) fn check_host(&self, range: HostRange) -> Result<(), MapError> {
        let whole = range.start().is_aligned(PAGE_SIZE) && range.end().is_aligned(PAGE_SIZE);
        let size = 1_u64.checked_shl(self.pa_bits.into()).unwrap_or(0);
        if whole && range.end().raw() <= size && !range.is_empty() { Ok(()) } else { Err(MapError::BadRange) }
    }
}

const _: () = assert!(ENTRIES as u64 * PAGE_SIZE == BLOCK_2M && ENTRIES as u64 * BLOCK_2M == BLOCK_1G);
