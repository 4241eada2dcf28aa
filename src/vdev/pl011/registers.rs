//! The registers of the PL011 r1p5 and their bits (PL011 TRM, DDI 0183G, chapter 3).

crate::device_registers! {
    // offset  access  register
    0x000,     Rw,     Dr        = "UARTDR";
    0x004,     Rw,     Rsr       = "UARTRSR/UARTECR";
    0x018,     Ro,     Fr        = "UARTFR";
    0x020,     Rw,     Ilpr      = "UARTILPR";
    0x024,     Rw,     Ibrd      = "UARTIBRD";
    0x028,     Rw,     Fbrd      = "UARTFBRD";
    0x02c,     Rw,     LcrH      = "UARTLCR_H";
    0x030,     Rw,     Cr        = "UARTCR";
    0x034,     Rw,     Ifls      = "UARTIFLS";
    0x038,     Rw,     Imsc      = "UARTIMSC";
    0x03c,     Ro,     Ris       = "UARTRIS";
    0x040,     Ro,     Mis       = "UARTMIS";
    0x044,     Wo,     Icr       = "UARTICR";
    0x048,     Rw,     Dmacr     = "UARTDMACR";
    0xfe0,     Ro,     PeriphId0 = "UARTPeriphID0";
    0xfe4,     Ro,     PeriphId1 = "UARTPeriphID1";
    0xfe8,     Ro,     PeriphId2 = "UARTPeriphID2";
    0xfec,     Ro,     PeriphId3 = "UARTPeriphID3";
    0xff0,     Ro,     PCellId0  = "UARTPCellID0";
    0xff4,     Ro,     PCellId1  = "UARTPCellID1";
    0xff8,     Ro,     PCellId2  = "UARTPCellID2";
    0xffc,     Ro,     PCellId3  = "UARTPCellID3";
}

/// UARTDR.OE: an overrun happened before this byte. UARTRSR has it in bit 3.
pub(super) const DR_OE: u32 = 1 << 11;
/// UARTRSR.OE.
pub(super) const RSR_OE: u32 = 1 << 3;

/// UARTFR.
pub(super) mod fr {
    pub(in super::super) const CTS: u32 = 1 << 0;
    pub(in super::super) const DSR: u32 = 1 << 1;
    pub(in super::super) const DCD: u32 = 1 << 2;
    pub(in super::super) const RXFE: u32 = 1 << 4;
    pub(in super::super) const TXFF: u32 = 1 << 5;
    pub(in super::super) const RXFF: u32 = 1 << 6;
    pub(in super::super) const TXFE: u32 = 1 << 7;
    pub(in super::super) const RI: u32 = 1 << 8;
}

/// UARTLCR_H.FEN: the FIFOs are on.
pub(super) const LCR_FEN: u32 = 1 << 4;

/// UARTCR.
pub(super) mod cr {
    pub(in super::super) const LBE: u32 = 1 << 7;
    pub(in super::super) const TXE: u32 = 1 << 8;
    pub(in super::super) const RXE: u32 = 1 << 9;
    pub(in super::super) const DTR: u32 = 1 << 10;
    pub(in super::super) const RTS: u32 = 1 << 11;
    pub(in super::super) const OUT1: u32 = 1 << 12;
    pub(in super::super) const OUT2: u32 = 1 << 13;
}

/// The interrupts, in the order of UARTIMSC, UARTRIS, UARTMIS and UARTICR.
pub(super) mod int {
    pub(in super::super) const RX: u32 = 1 << 4;
    pub(in super::super) const TX: u32 = 1 << 5;
    pub(in super::super) const RT: u32 = 1 << 6;
    pub(in super::super) const OE: u32 = 1 << 10;
    pub(in super::super) const ALL: u32 = 0x7ff;
}
