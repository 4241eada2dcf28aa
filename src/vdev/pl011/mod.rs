//! The PL011 serial port, as guests see it: revision r1p5.
//!
//! What a guest sends lands in a ring that the hypervisor drains at the pace of the real UART, so a store to
//! UARTDR never waits. To the guest a byte in the ring is a byte on the wire: UARTFR.BUSY is never set, and
//! the transmit FIFO of the manual is the last 32 places of the ring, which fill when the UART is slower
//! than the guest for 64 KiB. No byte is lost on either side as long as the guest looks at UARTFR.TXFF or
//! waits for its interrupt. What is typed faster than the guest reads waits in [`Pl011::type_ahead`]'s queue.
//!
//! A port that nobody watches is *hidden*: its ring keeps what came last, the oldest bytes are lost and counted,
//! and the guest always finds a FIFO's room. So it never waits for a screen that nobody looks at.
//!
//! Where the manual leaves room, or software made for QEMU's `virt` leans on it:
//!
//! * Transmission works whatever UARTCR.UARTEN says: early consoles write without switching the port on.
//!   UARTCR.TXE holds bytes back in hardware; here they leave at once.
//! * Reception needs UARTCR.RXE, which is set after reset, and not UARTEN.
//! * UARTTXINTR is raised when the transmit FIFO is at or below its trigger after a store or a drain, and
//!   lowered by a store that takes it above, or by UARTICR. Before the first store it is low (DDI 0183 2.8).
//! * The receive timeout is over at once: UARTRTINTR is raised with every byte that arrives, and lowered when
//!   the FIFO is empty, or by UARTICR if the guest has read anything of the port since: on hardware a byte that comes
//!   between a guest's last look and its store to UARTICR has its timeout later, so that its interrupt is not lost.
//! * The port is a connected terminal: CTS, DSR and DCD are asserted.
//! * Switching UARTLCR_H.FEN keeps the bytes that have arrived.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod fifo;
mod registers;
mod ring;
#[cfg(test)]
mod tests;

use super::{Access, AccessError, MmioDevice};
use crate::exit::Size;
use alloc::collections::VecDeque;
use fifo::RxFifo;
pub use registers::Register;
use registers::{DR_OE, LCR_FEN, RSR_OE, cr, fr, int};
use ring::Ring;

/// Depth of each FIFO of revision r1p5.
pub const FIFO: u32 = 32;

/// Typed bytes that may wait for a guest to read; beyond that they wait in the machine's UART.
pub const TYPE_AHEAD: usize = 4 << 10;

/// A guest's serial port.
pub struct Pl011 {
    ring: Ring,
    rx: RxFifo,
    /// What was typed and does not fit into `rx` yet.
    ahead: VecDeque<u8>,
    /// Nobody watches: what does not fit is lost, oldest first.
    hidden: bool,
    /// Bytes that were lost so since [`show`](Self::show).
    lost: u64,
    /// Depth of both FIFOs: [`FIFO`], or 1 while they are off.
    depth: u32,
    /// UARTTXINTR is raised while at least so many places of the ring are free.
    tx_trigger: u32,
    /// UARTRXINTR is raised by the byte that makes it so many.
    rx_trigger: u32,
    /// The modem's lines as UARTFR has them: they change with UARTCR alone.
    modem: u32,
    /// Raw interrupt status, UARTRIS.
    ris: u32,
    /// A byte has arrived since the guest last looked: it has not been told of it for good.
    unseen: bool,
    imsc: u32,
    cr: u32,
    rsr: u32,
    ilpr: u32,
    ibrd: u32,
    fbrd: u32,
    lcr_h: u32,
    ifls: u32,
    dmacr: u32,
}

impl Pl011 {
    /// A port as after reset, with an empty ring of `bytes` (or the next power of two).
    pub fn new(bytes: usize) -> Self {
        Self::with_ring(Ring::new(bytes))
    }

    /// Registers as after reset; what the guest sent before is still there to be drained, and whoever typed for it
    /// has typed for what comes now.
    pub fn reset(&mut self) {
        let (hidden, lost) = (self.hidden, self.lost);
        let ahead = core::mem::take(&mut self.ahead);
        *self = Self::with_ring(core::mem::take(&mut self.ring));
        (self.hidden, self.lost, self.ahead) = (hidden, lost, ahead);
        self.refill();
    }

    /// Nobody watches from here on. A guest that waited for room has some.
    pub fn hide(&mut self) {
        self.hidden = true;
        self.make_room();
        if self.ring.free() >= self.tx_trigger && self.ring.waiting() != 0 {
            self.ris |= int::TX;
        }
    }

    /// Somebody watches again; how many bytes were lost, before the oldest that is there, since the last time.
    pub fn show(&mut self) -> u64 {
        if self.hidden {
            // What the guest was told would fit still does.
            self.make_room();
            self.hidden = false;
        }
        core::mem::take(&mut self.lost)
    }

    /// Whether nobody watches.
    #[inline]
    pub fn is_hidden(&self) -> bool {
        self.hidden
    }

    /// Bytes that were lost and not told of yet.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// Bytes that wait to be drained.
    pub fn waiting(&self) -> usize {
        self.ring.waiting() as usize
    }

    /// Keeps a FIFO's room free, for guests that send as much without looking.
    #[cold]
    fn make_room(&mut self) {
        self.lost = self.lost.wrapping_add(self.ring.make_room(FIFO).into());
    }

    fn with_ring(ring: Ring) -> Self {
        Self {
            ring,
            rx: RxFifo::default(),
            ahead: VecDeque::new(),
            hidden: false,
            lost: 0,
            depth: 1,
            tx_trigger: 1,
            rx_trigger: 1,
            modem: fr::CTS | fr::DSR | fr::DCD,
            ris: 0,
            unseen: false,
            imsc: 0,
            cr: cr::TXE | cr::RXE,
            rsr: 0,
            ilpr: 0,
            ibrd: 0,
            fbrd: 0,
            lcr_h: 0,
            ifls: 0x12,
            dmacr: 0,
        }
    }

    /// Whether anything waits to be drained.
    #[inline]
    pub fn has_output(&self) -> bool {
        self.ring.waiting() != 0
    }

    /// Whether a store to UARTDR would be lost: what the guest waits for is a drain.
    pub fn is_full(&self) -> bool {
        self.ring.free() == 0
    }

    /// The oldest bytes that the guest sent and nobody has drained, as far as they lie in one piece.
    ///
    /// After [`consumed`](Self::consumed) of all of them there may be more.
    pub fn outgoing(&self) -> &[u8] {
        self.ring.front()
    }

    /// The first `bytes` of [`outgoing`](Self::outgoing) are on their way; at most as many as wait.
    pub fn consumed(&mut self, bytes: usize) {
        let was_low = self.ring.free() >= self.tx_trigger;
        self.ring.consume(bytes);
        if !was_low && self.ring.free() >= self.tx_trigger {
            self.ris |= int::TX;
        }
    }

    /// Sends a byte through `put`, past the ring, where nothing waits in it: the shown guest's way while the line
    /// keeps pace. False, with nothing done, if it has to go through the ring.
    #[inline(always)]
    pub fn pass(&mut self, byte: u8, put: impl FnOnce(u8) -> bool) -> bool {
        if self.cr & cr::LBE != 0 || self.ring.waiting() != 0 || !put(byte) {
            return false;
        }
        self.ris |= int::TX;
        true
    }

    /// Moves the oldest bytes into `buffer` and returns how many.
    pub fn take(&mut self, buffer: &mut [u8]) -> usize {
        let mut taken = 0_usize;
        // The ring's content lies in one piece or two.
        for _ in 0..2 {
            let rest = buffer.get_mut(taken..).unwrap_or_default();
            let front = self.outgoing();
            let bytes = front.len().min(rest.len());
            rest.iter_mut().zip(front).for_each(|(to, from)| *to = *from);
            self.consumed(bytes);
            taken = taken.saturating_add(bytes);
        }
        taken
    }

    /// Whether [`type_in`](Self::type_in) would take a byte.
    #[inline]
    pub fn has_room(&self) -> bool {
        self.cr & cr::RXE != 0 && self.rx.len < self.depth
    }

    /// A byte arrives for the guest. False if it does not fit or the receiver is off: the caller keeps it
    /// and tries again once the guest has read something.
    #[must_use]
    pub fn type_in(&mut self, byte: u8) -> bool {
        let room = self.has_room();
        if room {
            self.receive(byte);
        }
        room
    }

    /// A byte was typed: it waits if it does not fit. False, and not taken, if [`TYPE_AHEAD`] bytes wait already.
    #[must_use]
    pub fn type_ahead(&mut self, byte: u8) -> bool {
        if self.ahead.is_empty() && self.type_in(byte) {
            return true;
        }
        let room = self.takes_typing();
        if room {
            self.ahead.push_back(byte);
            // The line goes on, with bytes in the FIFO that nobody reads.
            self.ris |= int::RT;
        }
        room
    }

    /// Whether [`type_ahead`](Self::type_ahead) would take a byte.
    #[inline]
    pub fn takes_typing(&self) -> bool {
        self.ahead.len() < TYPE_AHEAD
    }

    /// Moves what was typed ahead into the FIFO, as far as it fits.
    #[cold]
    fn refill(&mut self) {
        while self.has_room()
            && let Some(byte) = self.ahead.pop_front()
        {
            self.receive(byte);
        }
    }

    fn receive(&mut self, byte: u8) {
        self.rx.push(byte);
        self.rx.overrun = false;
        self.unseen = true;
        self.ris |= int::RT;
        if self.rx.len >= self.rx_trigger {
            self.ris |= int::RX;
        }
    }

    /// Sends a text for who has no registers: the shell. Line ends become CR LF; what does not fit is lost.
    pub fn print(&mut self, text: &str) {
        let mut before = 0;
        for byte in text.bytes() {
            let end = byte == b'\n' && before != b'\r';
            before = byte;
            for byte in end.then_some(b'\r').into_iter().chain([byte]) {
                if self.ring.free() != 0 {
                    self.ring.push(byte);
                }
            }
        }
    }

    /// A store to UARTDR.
    #[inline]
    fn send(&mut self, byte: u8) {
        if self.cr & cr::LBE != 0 {
            return self.loop_back(byte);
        }
        if self.hidden && self.ring.free() <= FIFO {
            self.lost = self.lost.wrapping_add(self.ring.make_room(FIFO + 1).into());
        }
        self.ring.push(byte);
        // The interrupt's bit follows the level, so that the common case is one compare.
        let low = self.ring.free() >= self.tx_trigger;
        self.ris = self.ris & !int::TX | if low { int::TX } else { 0 };
    }

    /// Loopback: the guest's own bytes come back, and here alone a FIFO can overrun.
    #[cold]
    fn loop_back(&mut self, byte: u8) {
        self.ris |= int::TX;
        if self.has_room() {
            self.receive(byte);
        } else if self.cr & cr::RXE != 0 {
            self.rx.overrun = true;
            self.rsr |= RSR_OE;
            self.ris |= int::OE;
        }
    }

    /// A load of UARTDR; an empty FIFO reads as zero.
    fn next_received(&mut self) -> u32 {
        let overrun = if self.rx.overrun { DR_OE } else { 0 };
        let byte = self.rx.pop().unwrap_or(0);
        if self.rx.len < self.rx_trigger {
            self.ris &= !int::RX;
        }
        if self.rx.len == 0 {
            self.ris &= !int::RT;
        }
        if !self.ahead.is_empty() {
            self.refill();
        }
        u32::from(byte) | overrun
    }

    /// UARTFR. Polled before every byte: a handful of instructions.
    #[inline]
    fn flags(&self) -> u32 {
        let free = self.ring.free();
        let mut flags = self.modem;
        if free >= self.depth {
            flags |= fr::TXFE;
        }
        if free == 0 {
            flags |= fr::TXFF;
        }
        if self.rx.len == 0 {
            flags |= fr::RXFE;
        }
        if self.rx.len >= self.depth {
            flags |= fr::RXFF;
        }
        flags
    }

    /// A store to UARTCR. In loopback the modem's inputs are the port's own outputs (DDI 0183 3.3.8, LBE).
    fn control(&mut self, value: u32) {
        self.cr = value & 0xff87;
        let line = |output: u32, input: u32| if value & output != 0 { input } else { 0 };
        self.modem = if value & cr::LBE == 0 {
            fr::CTS | fr::DSR | fr::DCD
        } else {
            line(cr::RTS, fr::CTS) | line(cr::DTR, fr::DSR) | line(cr::OUT1, fr::DCD) | line(cr::OUT2, fr::RI)
        };
    }

    /// After a change of UARTIFLS or UARTLCR_H: at which levels the interrupts rise.
    fn set_triggers(&mut self) {
        // Eighths of the FIFO; the reserved values act as the highest.
        let eighths = |select: u32| match select & 7 {
            0 => 1,
            1 => 2,
            2 => 4,
            3 => 6,
            _ => 7,
        };
        let level = |select: u32| FIFO.wrapping_mul(eighths(select)) >> 3;
        (self.depth, self.tx_trigger, self.rx_trigger) = if self.lcr_h & LCR_FEN != 0 {
            (FIFO, FIFO.wrapping_sub(level(self.ifls)), level(self.ifls >> 3))
        } else {
            (1, 1, 1)
        };
        if self.rx.len >= self.rx_trigger {
            self.ris |= int::RX;
        }
        self.refill();
    }

    #[inline(never)]
    fn read_other(&mut self, at: Access) -> Result<u64, AccessError> {
        let register = register(at)?;
        Ok(u64::from(self.load(register)) & at.size.mask())
    }

    #[inline(never)]
    fn write_other(&mut self, at: Access, value: u64) -> Result<(), AccessError> {
        self.store(register(at)?, (value & at.size.mask()) as u32);
        Ok(())
    }

    fn load(&mut self, register: Register) -> u32 {
        match register {
            Register::Dr => {
                self.unseen = false;
                self.next_received()
            }
            Register::Rsr => self.rsr,
            Register::Fr => self.flags(),
            Register::Ilpr => self.ilpr,
            Register::Ibrd => self.ibrd,
            Register::Fbrd => self.fbrd,
            Register::LcrH => self.lcr_h,
            Register::Cr => self.cr,
            Register::Ifls => self.ifls,
            Register::Imsc => self.imsc,
            Register::Ris | Register::Mis => {
                self.unseen = false;
                self.ris & if register == Register::Ris { int::ALL } else { self.imsc }
            }
            Register::Icr => 0,
            Register::Dmacr => self.dmacr,
            // Part 0x011, designer 0x41 (Arm), revision 3 (r1p5), then the PrimeCell's identification.
            Register::PeriphId0 => 0x11,
            Register::PeriphId1 => 0x10,
            Register::PeriphId2 => 0x34,
            Register::PeriphId3 => 0x00,
            Register::PCellId0 => 0x0d,
            Register::PCellId1 => 0xf0,
            Register::PCellId2 => 0x05,
            Register::PCellId3 => 0xb1,
        }
    }

    fn store(&mut self, register: Register, value: u32) {
        match register {
            Register::Dr => self.send(value as u8),
            Register::Rsr => self.rsr = 0,
            Register::Ilpr => self.ilpr = value & 0xff,
            Register::Ibrd => self.ibrd = value & 0xffff,
            Register::Fbrd => self.fbrd = value & 0x3f,
            Register::LcrH => {
                self.lcr_h = value & 0xff;
                self.set_triggers();
            }
            Register::Cr => {
                self.control(value);
                self.refill();
            }
            Register::Ifls => {
                self.ifls = value & 0x3f;
                self.set_triggers();
            }
            Register::Imsc => self.imsc = value & int::ALL,
            Register::Icr => {
                self.ris &= !value;
                if self.unseen {
                    self.ris |= int::RT;
                }
            }
            Register::Dmacr => self.dmacr = value & 0x7,
            Register::Fr
            | Register::Ris
            | Register::Mis
            | Register::PeriphId0
            | Register::PeriphId1
            | Register::PeriphId2
            | Register::PeriphId3
            | Register::PCellId0
            | Register::PCellId1
            | Register::PCellId2
            | Register::PCellId3 => {}
        }
    }
}

/// The register of an access of 8, 16 or 32 bits that starts where a register does.
fn register(at: Access) -> Result<Register, AccessError> {
    if at.size == Size::Double || at.offset & 3 != 0 {
        return Err(AccessError::BadSize);
    }
    Register::at(at.offset).ok_or(AccessError::NoRegister)
}

impl MmioDevice for Pl011 {
    #[inline]
    fn read(&mut self, at: Access) -> Result<u64, AccessError> {
        // The register that is polled before every byte; the rest is out of this function's way.
        if at.offset == Register::Fr.offset() && at.size != Size::Double {
            self.unseen = false;
            return Ok(u64::from(self.flags()) & at.size.mask());
        }
        self.read_other(at)
    }

    #[inline]
    fn write(&mut self, at: Access, value: u64) -> Result<(), AccessError> {
        if at.offset == Register::Dr.offset() && at.size != Size::Double {
            self.send(value as u8);
            return Ok(());
        }
        self.write_other(at, value)
    }

    #[inline]
    fn irq(&self) -> bool {
        self.ris & self.imsc != 0
    }
}
