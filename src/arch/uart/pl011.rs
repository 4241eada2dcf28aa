//! PL011 as the machine's console. Source: PL011 r1p5 TRM (DDI 0183G) chapter 3.
//!
//! The firmware has set the line up (baud rate, format): it knows the clock and we do not.

use tock_registers::interfaces::{ReadWriteable, Readable, Writeable};
use tock_registers::registers::{ReadOnly, ReadWrite, WriteOnly};
use tock_registers::{register_bitfields, register_structs};

register_bitfields! { u32,
    FR [ TXFF OFFSET(5) NUMBITS(1) [], RXFE OFFSET(4) NUMBITS(1) [], BUSY OFFSET(3) NUMBITS(1) [] ],
    CR [ RXE OFFSET(9) NUMBITS(1) [], TXE OFFSET(8) NUMBITS(1) [], UARTEN OFFSET(0) NUMBITS(1) [] ],
    LCR_H [ WLEN OFFSET(5) NUMBITS(2) [ Eight = 3 ], FEN OFFSET(4) NUMBITS(1) [] ],
    INT [ RT OFFSET(6) NUMBITS(1) [], TX OFFSET(5) NUMBITS(1) [], RX OFFSET(4) NUMBITS(1) [] ],
}

register_structs! {
    Registers {
        (0x000 => dr: ReadWrite<u32>),
        (0x004 => _0),
        (0x018 => fr: ReadOnly<u32, FR::Register>),
        (0x01c => _1),
        (0x02c => lcr_h: ReadWrite<u32, LCR_H::Register>),
        (0x030 => cr: ReadWrite<u32, CR::Register>),
        (0x034 => _2),
        (0x038 => imsc: ReadWrite<u32, INT::Register>),
        (0x03c => _3),
        (0x044 => icr: WriteOnly<u32, INT::Register>),
        (0x048 => @END),
    }
}

/// A port; no state but its registers.
pub(super) struct Port(&'static Registers);

impl Port {
    /// # Safety
    /// `base` is a PL011's, readable and writable as device memory (or with the MMU off) from now on.
    pub(super) unsafe fn new(base: usize) -> Self {
        // SAFETY: the caller says so.
        Self(unsafe { &*(base as *const Registers) })
    }

    /// Puts a byte, unless the FIFO is full.
    pub(super) fn put(&self, byte: u8) -> bool {
        let room = !self.0.fr.is_set(FR::TXFF);
        if room {
            self.0.dr.set(u32::from(byte));
        }
        room
    }

    pub(super) fn get(&self) -> Option<u8> {
        (!self.0.fr.is_set(FR::RXFE)).then(|| self.0.dr.get() as u8)
    }

    pub(super) fn busy(&self) -> bool {
        self.0.fr.is_set(FR::BUSY)
    }

    /// FIFOs and receiver on, interrupts when something arrives.
    pub(super) fn start(&self) {
        self.0.lcr_h.modify(LCR_H::WLEN::Eight + LCR_H::FEN::SET);
        self.0.cr.modify(CR::UARTEN::SET + CR::TXE::SET + CR::RXE::SET);
        self.0.icr.write(INT::RX::SET + INT::RT::SET + INT::TX::SET);
        self.0.imsc.write(INT::RX::SET + INT::RT::SET);
    }

    pub(super) fn listen(&self, on: bool) {
        let arrivals = if on { INT::RX::SET + INT::RT::SET } else { INT::RX::CLEAR + INT::RT::CLEAR };
        self.0.imsc.modify(arrivals);
    }

    pub(super) fn want_room(&self, on: bool) {
        if on {
            self.0.imsc.modify(INT::TX::SET);
        } else {
            self.0.imsc.modify(INT::TX::CLEAR);
            self.0.icr.write(INT::TX::SET);
        }
    }
}
