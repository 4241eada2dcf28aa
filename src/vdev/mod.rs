//! Devices as guests see them, and the bus that finds them.
//!
//! A device knows offsets, never addresses; it says what is wrong with an access and the [`Bus`] decides
//! what the guest sees. Its interrupt line is sampled after each access.

pub mod pl011;
pub mod pl031;
pub mod registers;
pub mod vgic;

use crate::addr::{GuestPhysAddr, GuestRange};
use crate::exit::Size;
use crate::machine::Ticks;
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use spin::Mutex;

/// One access as a device sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// Bytes from the device's first.
    pub offset: u64,
    /// How wide.
    pub size: Size,
    /// When: the machine's counter.
    pub now: Ticks,
}

/// What a device says of an access that it cannot serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessError {
    /// No register there.
    NoRegister,
    /// A register, but not at this width or alignment.
    BadSize,
}

/// A memory-mapped device.
pub trait MmioDevice: Send {
    /// A load.
    fn read(&mut self, at: Access) -> Result<u64, AccessError>;
    /// A store.
    fn write(&mut self, at: Access, value: u64) -> Result<(), AccessError>;
    /// The level of the interrupt line.
    fn irq(&self) -> bool {
        false
    }
    /// When [`irq`](Self::irq) may change without an access, if it may.
    fn deadline(&self) -> Option<Ticks> {
        None
    }
    /// It is `now`, perhaps past [`deadline`](Self::deadline): brings the interrupt line up to date.
    fn advance(&mut self, _now: Ticks) {}
}

/// A device at its place.
pub struct Region {
    /// What reports call it.
    pub name: &'static str,
    /// Where.
    pub range: GuestRange,
    /// Its shared peripheral interrupt, counted from 32.
    pub spi: Option<u16>,
    /// The device.
    pub device: Arc<Mutex<dyn MmioDevice>>,
}

/// The devices of one VM, apart from its interrupt controller.
pub struct Bus {
    regions: Box<[Region]>,
}

impl Bus {
    /// A bus with these devices; the first of two that overlap is kept and the second handed back.
    pub fn new(regions: Vec<Region>) -> Result<Self, Region> {
        let mut kept: Vec<Region> = Vec::with_capacity(regions.len());
        for region in regions {
            if kept.iter().any(|other| other.range.overlaps(&region.range)) {
                return Err(region);
            }
            kept.push(region);
        }
        Ok(Self { regions: kept.into_boxed_slice() })
    }

    /// The device at `ipa`, and the offset there.
    #[inline]
    pub fn find(&self, ipa: GuestPhysAddr) -> Option<(&Region, u64)> {
        use crate::addr::Address;
        self.regions
            .iter()
            .find(|region| region.range.contains(ipa))
            .map(|region| (region, ipa.raw().wrapping_sub(region.range.start().raw())))
    }

    /// All devices, in the order of the bus.
    pub fn regions(&self) -> &[Region] {
        &self.regions
    }
}
