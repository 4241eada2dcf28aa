//! The PL061 GPIO, as guests see it, with the power key on line 3.
//!
//! Eight lines, of which one is connected: QEMU's `virt` has its power key there (hw/gpio/gpio_key.c), and a kernel's
//! gpio-keys driver makes KEY_POWER of it. Pressed, the line is high for [`HOLD_MS`] and falls by itself, which is the
//! device's own [`deadline`](MmioDevice::deadline). Nothing drives the other lines: as inputs they read as zero.
//!
//! Written from the PL061 TRM, DDI 0190B, chapter 3. Where it leaves room:
//!
//! * Interrupts are those of lines that are inputs, as on `virt`. A level is not latched: GPIORIS shows it as long as it
//!   lasts and GPIOIC ends edges only. `virt` keeps levels until GPIOIC, which no driver can tell from a level that
//!   lasted.
//! * An edge is latched whether or not GPIOIE has its line, so that none is lost between two stores of a driver.
//! * Nothing is behind GPIOAFSEL: it holds its value, and lines go on as if it were zero.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::{Access, AccessError, MmioDevice};
use crate::exit::Size;
use crate::machine::Ticks;

crate::device_registers! {
    // offset  access  register
    0x000,     Rw,     Data      = "GPIODATA";
    0x400,     Rw,     Dir       = "GPIODIR";
    0x404,     Rw,     Is        = "GPIOIS";
    0x408,     Rw,     Ibe       = "GPIOIBE";
    0x40c,     Rw,     Iev       = "GPIOIEV";
    0x410,     Rw,     Ie        = "GPIOIE";
    0x414,     Ro,     Ris       = "GPIORIS";
    0x418,     Ro,     Mis       = "GPIOMIS";
    0x41c,     Wo,     Ic        = "GPIOIC";
    0x420,     Rw,     Afsel     = "GPIOAFSEL";
    0xfe0,     Ro,     PeriphId0 = "GPIOPeriphID0";
    0xfe4,     Ro,     PeriphId1 = "GPIOPeriphID1";
    0xfe8,     Ro,     PeriphId2 = "GPIOPeriphID2";
    0xfec,     Ro,     PeriphId3 = "GPIOPeriphID3";
    0xff0,     Ro,     PCellId0  = "GPIOPCellID0";
    0xff4,     Ro,     PCellId1  = "GPIOPCellID1";
    0xff8,     Ro,     PCellId2  = "GPIOPCellID2";
    0xffc,     Ro,     PCellId3  = "GPIOPCellID3";
}

/// The line of the power key.
pub const POWER_KEY: u8 = 3;

/// How long the power key is down, in milliseconds.
pub const HOLD_MS: u64 = 100;

const KEY: u8 = 1 << POWER_KEY;

/// A guest's GPIO controller. In each field, a bit for each line.
#[derive(Debug, Default)]
pub struct Pl061 {
    /// Ticks that the key is down.
    hold: u64,
    /// When the key comes up, while it is down.
    release: Option<Ticks>,
    /// What the lines are driven to by whoever is outside.
    outside: u8,
    /// What the guest stored into GPIODATA: its outputs.
    out: u8,
    /// Edges that were seen and not cleared.
    edges: u8,
    dir: u8,
    is: u8,
    ibe: u8,
    iev: u8,
    ie: u8,
    afsel: u8,
}

impl Pl061 {
    /// A controller as after reset, with the key up; `frequency` is the counter's, in Hz.
    pub fn new(frequency: u64) -> Self {
        let hold = frequency.saturating_mul(HOLD_MS).checked_div(1000).unwrap_or(0);
        Self { hold: hold.max(1), ..Self::default() }
    }

    /// Presses the power key: it is down for [`HOLD_MS`] from `now`. Pressed again while it is down, it stays down for
    /// as long once more.
    ///
    /// The interrupt line and the deadline may have changed by it.
    pub fn press(&mut self, now: Ticks) {
        self.advance(now);
        self.drive(self.outside | KEY);
        self.release = Some(Ticks(now.0.saturating_add(self.hold)));
    }

    /// Whether the power key is down.
    pub fn is_pressed(&self) -> bool {
        self.release.is_some()
    }

    /// Lines as the guest reads them.
    fn lines(&self) -> u8 {
        self.out & self.dir | self.outside & !self.dir
    }

    /// Another level on the lines from outside.
    fn drive(&mut self, outside: u8) {
        let inputs = !self.dir;
        let (rise, fall) = (outside & !self.outside & inputs, self.outside & !outside & inputs);
        self.edges |= (rise & (self.iev | self.ibe) | fall & (!self.iev | self.ibe)) & !self.is;
        self.outside = outside;
    }

    /// GPIORIS: levels where GPIOIS says so, else edges.
    fn raw(&self) -> u8 {
        let levels = !(self.outside ^ self.iev) & !self.dir;
        levels & self.is | self.edges & !self.is
    }

    fn load(&self, register: Register) -> u8 {
        match register {
            Register::Data => self.lines(),
            Register::Dir => self.dir,
            Register::Is => self.is,
            Register::Ibe => self.ibe,
            Register::Iev => self.iev,
            Register::Ie => self.ie,
            Register::Ris => self.raw(),
            Register::Mis => self.raw() & self.ie,
            Register::Ic => 0,
            Register::Afsel => self.afsel,
            // Part 0x061, designer 0x41 (Arm), revision 0, then the PrimeCell's identification.
            Register::PeriphId0 => 0x61,
            Register::PeriphId1 => 0x10,
            Register::PeriphId2 => 0x04,
            Register::PeriphId3 => 0x00,
            Register::PCellId0 => 0x0d,
            Register::PCellId1 => 0xf0,
            Register::PCellId2 => 0x05,
            Register::PCellId3 => 0xb1,
        }
    }

    fn store(&mut self, register: Register, value: u8) {
        match register {
            Register::Dir => self.dir = value,
            Register::Is => self.is = value,
            Register::Ibe => self.ibe = value,
            Register::Iev => self.iev = value,
            Register::Ie => self.ie = value,
            Register::Ic => self.edges &= !value,
            Register::Afsel => self.afsel = value,
            _ => {}
        }
    }
}

/// The register of a word access, and the lines that it concerns: of GPIODATA those that address bits 9:2 name, so that
/// it is 256 words long. Narrower accesses do no harm.
fn register(at: Access) -> Result<(Register, u8), AccessError> {
    if at.size == Size::Double || at.offset & 3 != 0 {
        return Err(AccessError::BadSize);
    }
    if at.offset < Register::Dir.offset() {
        return Ok((Register::Data, (at.offset >> 2) as u8));
    }
    Register::at(at.offset).map(|register| (register, 0xff)).ok_or(AccessError::NoRegister)
}

impl MmioDevice for Pl061 {
    fn read(&mut self, at: Access) -> Result<u64, AccessError> {
        let (register, lines) = register(at)?;
        self.advance(at.now);
        Ok((self.load(register) & lines).into())
    }

    fn write(&mut self, at: Access, value: u64) -> Result<(), AccessError> {
        let (register, lines) = register(at)?;
        self.advance(at.now);
        match register {
            Register::Data => self.out = self.out & !lines | value as u8 & lines,
            register => self.store(register, value as u8),
        }
        Ok(())
    }

    fn irq(&self) -> bool {
        self.raw() & self.ie != 0
    }

    fn deadline(&self) -> Option<Ticks> {
        self.release
    }

    fn advance(&mut self, now: Ticks) {
        if self.release.take_if(|at| now >= *at).is_some() {
            self.drive(self.outside & !KEY);
        }
    }
}

#[cfg(test)]
mod tests;
