//! Devices as guests see them, and the bus that finds them.
//!
//! A device knows offsets, never addresses; it says what is wrong with an access and the [`Bus`] decides
//! what the guest sees. Its interrupt line is sampled after each access.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

pub mod pl011;
pub mod pl031;
pub mod pl061;
pub mod registers;
pub mod vgic;
pub mod virtio;

use crate::addr::{Address, GuestPhysAddr, GuestRange};
use crate::exit::Size;
use crate::machine::Ticks;
use crate::sync::Mutex;
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};

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
    /// When [`irq`](Self::irq) may change without an access, if it may: [`advance`](Self::advance) is called then.
    fn deadline(&self) -> Option<Ticks> {
        None
    }
    /// It is `now`, perhaps past [`deadline`](Self::deadline): brings the interrupt line up to date.
    fn advance(&mut self, _now: Ticks) {}
}

/// A device's interrupt line, as the interrupt controller last heard of it.
#[derive(Debug)]
pub struct Line {
    /// Its shared peripheral interrupt, counted from 32.
    pub spi: u16,
    level: AtomicBool,
}

impl Line {
    /// A line that is low.
    pub fn new(spi: u16) -> Self {
        Self { spi, level: AtomicBool::new(false) }
    }

    /// Notes the level; whether it is another than before.
    #[inline(always)]
    pub fn changed(&self, level: bool) -> bool {
        self.level.load(Ordering::Relaxed) != level && self.level.swap(level, Ordering::AcqRel) != level
    }
}

/// A device at its place.
pub struct Region {
    /// What reports call it.
    pub name: &'static str,
    /// Where.
    pub range: GuestRange,
    /// Its interrupt, if it has one.
    pub line: Option<Line>,
    /// The device.
    pub device: Arc<Mutex<dyn MmioDevice>>,
    /// Its place on the bus.
    pub index: u16,
    /// It may have a [`deadline`](MmioDevice::deadline).
    pub has_deadline: bool,
}

impl Region {
    /// A device of this name at `range`, with shared peripheral interrupt `spi`.
    pub fn new(
        name: &'static str,
        range: GuestRange,
        spi: Option<u16>,
        device: Arc<Mutex<dyn MmioDevice>>,
    ) -> Self {
        Self { name, range, line: spi.map(Line::new), device, index: 0, has_deadline: false }
    }

    /// Marks it as having deadlines.
    pub fn timed(mut self) -> Self {
        self.has_deadline = true;
        self
    }
}

/// The devices of one VM, apart from its interrupt controller.
pub struct Bus {
    regions: Box<[Region]>,
}

impl Bus {
    /// A bus with these devices; one that overlaps an earlier one is handed back.
    pub fn new(regions: Vec<Region>) -> Result<Self, Box<Region>> {
        let mut kept: Vec<Region> = Vec::with_capacity(regions.len());
        for mut region in regions {
            if kept.iter().any(|other| other.range.overlaps(&region.range)) {
                return Err(Box::new(region));
            }
            region.index = kept.len() as u16;
            kept.push(region);
        }
        Ok(Self { regions: kept.into_boxed_slice() })
    }

    /// The device at `ipa`, and the offset there.
    #[inline]
    pub fn find(&self, ipa: GuestPhysAddr) -> Option<(&Region, u64)> {
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
