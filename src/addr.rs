//! Addresses: guest-physical and host-physical, and ranges of either.
//!
//! The two spaces never convert into each other by accident: there is no `From<u64>`, and only
//! [`crate::ram::GuestRam`] and [`crate::stage2::Stage2`] know how one maps to the other.
//! Intermediate physical address (IPA) is the Arm ARM's name for a [`GuestPhysAddr`].

use core::fmt;

/// Bytes in the smallest page, the translation granule that EL2 uses.
pub const PAGE_SIZE: u64 = 4096;

/// Bytes in a level 2 block.
pub const BLOCK_2M: u64 = 2 << 20;

/// Bytes in a level 1 block.
pub const BLOCK_1G: u64 = 1 << 30;

/// What [`GuestPhysAddr`] and [`HostPhysAddr`] have in common, so that ranges are written once.
pub trait Address: Copy + Ord + fmt::Debug {
    /// The address as a plain number.
    fn raw(self) -> u64;
    /// An address from a plain number.
    fn new(raw: u64) -> Self;

    /// The address `bytes` further on, or `None` past the end of the space.
    fn checked_add(self, bytes: u64) -> Option<Self> {
        self.raw().checked_add(bytes).map(Self::new)
    }

    /// Whether the address is a multiple of `align`, a power of two.
    fn is_aligned(self, align: u64) -> bool {
        self.raw() & align.wrapping_sub(1) == 0
    }

    /// The address rounded down to a multiple of `align`, a power of two.
    fn align_down(self, align: u64) -> Self {
        Self::new(self.raw() & !align.wrapping_sub(1))
    }
}

macro_rules! address {
    ($(#[$doc:meta])* $name:ident, $tag:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        #[repr(transparent)]
        pub struct $name(u64);

        impl $name {
            /// An address from a plain number; `const`, unlike the trait's.
            pub const fn at(raw: u64) -> Self {
                Self(raw)
            }
        }

        impl Address for $name {
            fn raw(self) -> u64 {
                self.0
            }
            fn new(raw: u64) -> Self {
                Self(raw)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($tag, ":{:#x}"), self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:#x}", self.0)
            }
        }
    };
}

address!(
    /// An address as a guest's Stage 1 puts it out: an IPA.
    GuestPhysAddr,
    "gpa"
);
address!(
    /// An address on the machine's bus.
    HostPhysAddr,
    "hpa"
);

/// A range of addresses of one space; never wraps.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct AddrRange<A> {
    start: A,
    size: u64,
}

/// A range of guest-physical addresses.
pub type GuestRange = AddrRange<GuestPhysAddr>;
/// A range of host-physical addresses.
pub type HostRange = AddrRange<HostPhysAddr>;

impl GuestRange {
    /// `size` bytes from `start`, for constants: there, a range that wraps does not compile.
    pub const fn at(start: u64, size: u64) -> Self {
        assert!(start.checked_add(size).is_some(), "range wraps");
        Self { start: GuestPhysAddr(start), size }
    }
}

impl<A: Address> AddrRange<A> {
    /// `size` bytes from `start`, or `None` if the last byte lies past the end of the space.
    pub fn new(start: A, size: u64) -> Option<Self> {
        start.raw().checked_add(size)?;
        Some(Self { start, size })
    }

    /// From `start` up to, not including, `end`; empty if `end` is not above `start`.
    pub fn between(start: A, end: A) -> Self {
        Self { start, size: end.raw().saturating_sub(start.raw()) }
    }

    /// First address.
    pub fn start(&self) -> A {
        self.start
    }

    /// Bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// First address after the range.
    pub fn end(&self) -> A {
        A::new(self.start.raw().wrapping_add(self.size))
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.size == 0
    }

    /// Whether `addr` lies in the range.
    pub fn contains(&self, addr: A) -> bool {
        addr.raw().wrapping_sub(self.start.raw()) < self.size
    }

    /// Whether the whole of `other` lies in the range.
    pub fn encloses(&self, other: &Self) -> bool {
        other.start >= self.start && other.end() <= self.end()
    }

    /// Whether the two ranges share a byte.
    pub fn overlaps(&self, other: &Self) -> bool {
        !self.is_empty() && !other.is_empty() && self.start < other.end() && other.start < self.end()
    }

    /// The smallest range of whole units of `align` (a power of two) around this one.
    pub fn align_out(&self, align: u64) -> Self {
        let start = self.start.align_down(align);
        let end = self
            .end()
            .raw()
            .checked_add(align.wrapping_sub(1))
            .map_or(u64::MAX, |e| e & !align.wrapping_sub(1));
        Self::between(start, A::new(end))
    }

    /// The largest range of whole units of `align` (a power of two) within this one.
    pub fn align_in(&self, align: u64) -> Self {
        let start = self
            .start
            .raw()
            .checked_add(align.wrapping_sub(1))
            .map_or(u64::MAX, |s| s & !align.wrapping_sub(1));
        Self::between(A::new(start), self.end().align_down(align))
    }
}

impl<A: Address> fmt::Debug for AddrRange<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}..{:#x}", self.start, self.end().raw())
    }
}

impl<A: Address> fmt::Display for AddrRange<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}..{:#x}", self.start.raw(), self.end().raw())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: u64, size: u64) -> HostRange {
        HostRange::new(HostPhysAddr::at(start), size).unwrap()
    }

    #[test]
    fn ranges_do_not_wrap() {
        assert!(HostRange::new(HostPhysAddr::at(u64::MAX), 2).is_none());
        assert!(range(0x1000, 0x1000).contains(HostPhysAddr::at(0x1fff)));
        assert!(!range(0x1000, 0x1000).contains(HostPhysAddr::at(0x2000)));
        assert!(!range(0x1000, 0x1000).contains(HostPhysAddr::at(0xfff)));
    }

    #[test]
    fn overlap_needs_a_shared_byte() {
        assert!(!range(0, 0x1000).overlaps(&range(0x1000, 1)));
        assert!(range(0, 0x1001).overlaps(&range(0x1000, 1)));
        assert!(!range(0x10, 0).overlaps(&range(0, 0x100)));
    }

    #[test]
    fn alignment_rounds_outwards_and_inwards() {
        let odd = range(0x1234, 0x2000);
        assert_eq!(odd.align_out(PAGE_SIZE), range(0x1000, 0x3000));
        assert_eq!(odd.align_in(PAGE_SIZE), range(0x2000, 0x1000));
        assert!(range(0x1234, 0x100).align_in(PAGE_SIZE).is_empty());
    }

    #[test]
    fn debug_names_the_space() {
        assert_eq!(format!("{:?}", GuestPhysAddr::at(0x4000)), "gpa:0x4000");
        assert_eq!(format!("{}", range(0x1000, 0x10)), "0x1000..0x1010");
    }
}
