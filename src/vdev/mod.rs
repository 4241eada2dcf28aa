//! Devices as guests see them, and the bus that finds them.
//!
//! A device knows offsets, never addresses; it says what is wrong with an access and the [`Bus`] decides
//! what the guest sees. Its interrupt line is sampled after each access.

pub mod pl011;
pub mod pl031;
pub mod registers;
pub mod vgic;
pub mod virtio;

use crate::addr::{Address, GuestPhysAddr, GuestRange};
use crate::exit::Size;
use crate::machine::Ticks;
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};
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
    /// When [`irq`](Self::irq) may change without an access, if it may: [`advance`](Self::advance) is called then.
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
    /// Its place on the bus.
    pub index: u16,
    /// It is the serial port that the console shows.
    pub is_console: bool,
    /// It may have a [`deadline`](MmioDevice::deadline).
    pub has_deadline: bool,
    level: AtomicBool,
}

impl Region {
    /// A device of this name at `base`.
    pub fn new(
        name: &'static str,
        range: GuestRange,
        spi: Option<u16>,
        device: Arc<Mutex<dyn MmioDevice>>,
    ) -> Self {
        let level = AtomicBool::new(false);
        Self { name, range, spi, device, index: 0, is_console: false, has_deadline: false, level }
    }

    /// Marks it as the serial port.
    pub fn console(mut self) -> Self {
        self.is_console = true;
        self
    }

    /// Marks it as having deadlines.
    pub fn timed(mut self) -> Self {
        self.has_deadline = true;
        self
    }

    /// Notes the level of the interrupt line; whether it is another than before.
    #[inline]
    pub fn level_changed(&self, level: bool) -> bool {
        self.level.load(Ordering::Relaxed) != level && self.level.swap(level, Ordering::AcqRel) != level
    }
}

/// The devices of one VM, apart from its interrupt controller.
pub struct Bus {
    regions: Box<[Region]>,
    console: Option<usize>,
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
        let console = kept.iter().position(|region| region.is_console);
        Ok(Self { regions: kept.into_boxed_slice(), console })
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

    /// The serial port that the console shows.
    pub fn console(&self) -> Option<&Region> {
        self.regions.get(self.console?)
    }
}
