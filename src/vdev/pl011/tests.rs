//! The serial port against the manual, and as Linux's driver uses it.

use super::*;
use crate::machine::Ticks;
use crate::vdev::registers::Permission;
use proptest::prelude::*;
use std::collections::VecDeque;

fn at(offset: u64, size: Size) -> Access {
    Access { offset, size, now: Ticks(0) }
}

fn word(register: Register) -> Access {
    at(register.offset(), Size::Word)
}

/// Bytes of the ring: as many as a VM has that asked for none.
const RING: usize = 64 << 10;

struct Port(Pl011);

impl Port {
    fn new() -> Self {
        Self(Pl011::new(RING))
    }
    /// FIFOs on, port enabled, as a driver leaves it.
    fn started() -> Self {
        let mut port = Self::new();
        port.set(Register::LcrH, 0x70);
        port.set(Register::Cr, 0x301);
        port
    }
    fn get(&mut self, register: Register) -> u32 {
        self.0.read(word(register)).unwrap() as u32
    }
    fn set(&mut self, register: Register, value: u32) {
        self.0.write(word(register), u64::from(value)).unwrap();
    }
    fn fill(&mut self) {
        while self.get(Register::Fr) & fr::TXFF == 0 {
            self.set(Register::Dr, b'x'.into());
        }
    }
}

#[test]
fn reset_values() {
    let mut port = Port::new();
    let expected = [
        (Register::Rsr, 0),
        (Register::Fr, 0x97),
        (Register::Cr, 0x300),
        (Register::Ifls, 0x12),
        (Register::Imsc, 0),
        (Register::Ris, 0),
        (Register::Mis, 0),
        (Register::LcrH, 0),
    ];
    for (register, value) in expected {
        assert_eq!(port.get(register), value, "{}", register.name());
    }
    let id: Vec<u32> = Register::ALL[14..].iter().map(|r| port.get(*r)).collect();
    assert_eq!(id, [0x11, 0x10, 0x34, 0x00, 0x0d, 0xf0, 0x05, 0xb1]);
}

#[test]
fn rows_and_decoder_agree() {
    for (register, next) in Register::ALL.iter().zip(&Register::ALL[1..]) {
        assert!(register.offset() < next.offset());
        assert_eq!(Register::at(register.offset()), Some(*register));
    }
    assert_eq!(Register::at(0x008), None);
}

#[test]
fn read_only_registers_ignore_writes_and_write_only_ones_read_zero() {
    for register in Register::ALL {
        let mut port = Port::new();
        let before = port.get(*register);
        port.set(*register, u32::MAX);
        match register.permission() {
            Permission::Ro => assert_eq!(port.get(*register), before, "{}", register.name()),
            Permission::Wo => assert_eq!(port.get(*register), 0, "{}", register.name()),
            Permission::Rw => {}
        }
    }
}

#[test]
fn register_widths() {
    let widths = [
        (Register::Ilpr, 0xff),
        (Register::Ibrd, 0xffff),
        (Register::Fbrd, 0x3f),
        (Register::LcrH, 0xff),
        (Register::Cr, 0xff87),
        (Register::Ifls, 0x3f),
        (Register::Imsc, 0x7ff),
        (Register::Dmacr, 0x7),
    ];
    for (register, mask) in widths {
        let mut port = Port::new();
        port.set(register, u32::MAX);
        assert_eq!(port.get(register), mask, "{}", register.name());
        port.set(register, 0);
        assert_eq!(port.get(register), 0, "{}", register.name());
    }
}

#[test]
fn every_offset_and_size_has_an_answer() {
    let mut uart = Pl011::new(RING);
    for offset in 0..0x1000 {
        for size in [Size::Byte, Size::Half, Size::Word, Size::Double] {
            let expected = match (size, offset & 3, Register::at(offset)) {
                (Size::Double, ..) | (_, 1..=3, _) => Some(AccessError::BadSize),
                (_, _, None) => Some(AccessError::NoRegister),
                _ => None,
            };
            assert_eq!(uart.read(at(offset, size)).err(), expected);
            assert_eq!(uart.write(at(offset, size), u64::MAX).err(), expected);
        }
    }
}

#[test]
fn narrow_accesses_see_the_low_bits() {
    let mut port = Port::new();
    port.0.write(at(0x024, Size::Half), 0xffff_1234).unwrap();
    assert_eq!(port.0.read(at(0x024, Size::Byte)), Ok(0x34));
    port.0.write(at(0x000, Size::Byte), u64::from(b'A') | 0xff00).unwrap();
    assert_eq!(port.0.outgoing(), b"A");
}

#[test]
fn bytes_leave_in_order_across_the_end_of_the_ring() {
    let mut port = Port::started();
    let mut drained = Vec::new();
    let mut buffer = [0; 1000];
    for n in 0..200_000_u32 {
        port.set(Register::Dr, n % 251);
        if n % 700 == 0 {
            let bytes = port.0.take(&mut buffer);
            drained.extend_from_slice(&buffer[..bytes]);
        }
    }
    while port.0.has_output() {
        let front = port.0.outgoing().to_vec();
        drained.extend_from_slice(&front);
        port.0.consumed(front.len());
    }
    assert_eq!(drained.len(), 200_000);
    assert!(drained.iter().zip(0_u32..).all(|(byte, n)| u32::from(*byte) == n % 251));
}

#[test]
fn a_full_ring_says_so_and_takes_nothing() {
    let mut port = Port::started();
    port.fill();
    assert_eq!(port.0.outgoing().len(), RING);
    assert!(port.0.is_full());
    assert_eq!(port.get(Register::Fr) & (fr::TXFF | fr::TXFE), fr::TXFF);
    port.set(Register::Dr, b'!'.into());
    assert_eq!(port.0.outgoing().len(), RING);
    assert!(!port.0.outgoing().contains(&b'!'));
    port.0.consumed(1);
    assert_eq!(port.get(Register::Fr) & fr::TXFF, 0);
    port.0.consumed(usize::MAX);
    assert!(!port.0.has_output());
    assert_eq!(port.get(Register::Fr) & fr::TXFE, fr::TXFE);
}

#[test]
fn transmit_interrupt_rises_when_the_fifo_falls_to_its_trigger() {
    for (select, level) in [(0, 4), (1, 8), (2, 16), (3, 24), (4, 28)] {
        let mut port = Port::started();
        port.set(Register::Ifls, select);
        port.set(Register::Imsc, int::TX);
        port.fill();
        assert!(!port.0.irq());
        port.0.consumed(31 - level);
        assert!(!port.0.irq(), "level {level}");
        port.0.consumed(1);
        assert!(port.0.irq(), "level {level}");
        port.set(Register::Dr, 0);
        assert!(!port.0.irq(), "a store above the trigger lowers it");
    }
}

#[test]
fn transmit_interrupt_is_cleared_and_comes_back_with_the_next_byte() {
    let mut port = Port::started();
    port.set(Register::Imsc, int::TX);
    assert!(!port.0.irq());
    port.set(Register::Dr, 1);
    assert!(port.0.irq());
    assert_eq!(port.get(Register::Mis), int::TX);
    port.set(Register::Icr, int::TX);
    assert!(!port.0.irq());
    port.0.consumed(1);
    assert!(!port.0.irq(), "a drain that crosses no trigger raises nothing");
    port.set(Register::Dr, 1);
    assert!(port.0.irq());
}

/// Linux fills until TXFF, then writes half a FIFO at each interrupt without looking (amba-pl011.c).
#[test]
fn linux_transmits_a_lot_without_a_lost_byte() {
    const TOTAL: u32 = 3 * RING as u32;
    let mut port = Port::started();
    let mut next = 0_u32;
    let mut drained = Vec::new();
    while next < TOTAL && port.get(Register::Fr) & fr::TXFF == 0 {
        port.set(Register::Dr, next % 253);
        next += 1;
    }
    port.set(Register::Imsc, int::TX);
    while next < TOTAL {
        let mut buffer = [0; 16];
        let bytes = port.0.take(&mut buffer);
        drained.extend_from_slice(&buffer[..bytes]);
        while port.0.irq() && next < TOTAL {
            for _ in 0..16.min(TOTAL - next) {
                port.set(Register::Dr, next % 253);
                next += 1;
            }
        }
        assert!(bytes != 0, "stuck at {next}");
    }
    let mut rest = vec![0; RING];
    let bytes = port.0.take(&mut rest);
    drained.extend_from_slice(&rest[..bytes]);
    assert_eq!(drained.len(), TOTAL as usize);
    assert!(drained.iter().zip(0_u32..).all(|(byte, n)| u32::from(*byte) == n % 253));
}

#[test]
fn receive_interrupts() {
    for (select, level) in [(0, 4), (1, 8), (2, 16), (3, 24), (4, 28)] {
        let mut port = Port::started();
        port.set(Register::Ifls, select << 3);
        for n in 0..level {
            assert_eq!(port.get(Register::Ris) & int::RX, 0);
            assert!(port.0.type_in(n as u8));
            assert_eq!(port.get(Register::Ris) & int::RT, int::RT);
        }
        assert_eq!(port.get(Register::Ris) & int::RX, int::RX);
        assert_eq!(port.get(Register::Dr), 0);
        assert_eq!(port.get(Register::Ris), int::RT, "one below the trigger");
        for n in 1..level {
            assert_eq!(port.get(Register::Dr), n);
        }
        assert_eq!(port.get(Register::Ris), 0);
        assert_eq!(port.get(Register::Dr), 0, "empty");
    }
}

/// A driver that reads until the FIFO is empty and then clears, with bytes that come in between, must hear of them.
#[test]
fn what_comes_after_the_last_look_is_not_cleared_away() {
    for more in [1, FIFO, FIFO + 8] {
        let mut port = Port::started();
        port.set(Register::Imsc, int::RX | int::RT);
        assert!(port.0.type_ahead(b'a'));
        assert_eq!(port.get(Register::Dr), b'a'.into());
        assert_ne!(port.get(Register::Fr) & fr::RXFE, 0);
        (0..more).for_each(|_| assert!(port.0.type_ahead(b'b')));
        port.set(Register::Icr, int::RX | int::RT);
        assert!(port.0.irq(), "{more} bytes that nobody has looked at");
        // Once it has looked, a clear is a clear, and what is typed further is told of even if there is no room.
        assert_ne!(port.get(Register::Mis), 0);
        port.set(Register::Icr, int::RX | int::RT);
        assert!(!port.0.irq());
        assert!(port.0.type_ahead(b'c'));
        assert!(port.0.irq());
        let read = (0..=more).map(|_| port.get(Register::Dr) as u8).collect::<Vec<_>>();
        assert_eq!(read.iter().filter(|byte| **byte == b'b').count() as u32, more);
        assert_eq!(read.last(), Some(&b'c'));
        assert!(!port.0.irq());
    }
}

#[test]
fn one_byte_raises_the_timeout_interrupt() {
    let mut port = Port::started();
    port.set(Register::Imsc, int::RX | int::RT);
    assert!(!port.0.irq());
    assert!(port.0.type_in(b'a'));
    assert!(port.0.irq());
    assert_eq!(port.get(Register::Mis), int::RT);
    port.set(Register::Icr, int::RT);
    assert!(!port.0.irq());
    assert!(port.0.type_in(b'b'));
    assert!(port.0.irq());
}

#[test]
fn a_full_fifo_refuses_and_loses_nothing() {
    let mut port = Port::started();
    let taken = (0..100).filter(|n| port.0.type_in(*n)).count();
    assert_eq!(taken, FIFO as usize);
    assert!(!port.0.has_room());
    assert_eq!(port.get(Register::Fr) & (fr::RXFF | fr::RXFE), fr::RXFF);
    assert_eq!(port.get(Register::Ris) & int::OE, 0);
    let read: Vec<u32> = (0..FIFO).map(|_| port.get(Register::Dr)).collect();
    assert_eq!(read, (0..FIFO).collect::<Vec<_>>());
    assert_eq!(port.get(Register::Fr) & fr::RXFE, fr::RXFE);
}

#[test]
fn without_fifos_one_byte_fits() {
    let mut port = Port::new();
    assert!(port.0.type_in(1));
    assert_eq!(port.get(Register::Ris) & int::RX, int::RX);
    assert_eq!(port.get(Register::Fr) & fr::RXFF, fr::RXFF);
    assert!(!port.0.type_in(2));
    assert_eq!(port.get(Register::Dr), 1);
    assert!(port.0.type_in(2));
}

#[test]
fn switching_the_fifos_off_keeps_what_arrived() {
    let mut port = Port::started();
    assert!((0..5).all(|n| port.0.type_in(n)));
    port.set(Register::LcrH, 0x60);
    assert_eq!(port.get(Register::Fr) & fr::RXFF, fr::RXFF);
    assert!(!port.0.type_in(9));
    assert!((0..5).all(|n| port.get(Register::Dr) == n));
}

#[test]
fn a_receiver_that_is_off_refuses() {
    let mut port = Port::started();
    port.set(Register::Cr, cr::TXE | 1);
    assert!(!port.0.type_in(1));
    port.set(Register::Cr, cr::TXE | cr::RXE | 1);
    assert!(port.0.type_in(1));
}

#[test]
fn loopback_returns_bytes_and_modem_lines_and_can_overrun() {
    let mut port = Port::started();
    port.set(Register::Cr, 0x301 | cr::LBE | cr::RTS | cr::OUT2);
    for n in 0..=FIFO {
        port.set(Register::Dr, n);
    }
    assert!(!port.0.has_output());
    assert_eq!(port.get(Register::Fr) & 0x107, fr::CTS | fr::RI);
    assert_eq!(port.get(Register::Ris) & int::OE, int::OE);
    assert_eq!(port.get(Register::Rsr), RSR_OE);
    assert_eq!(port.get(Register::Dr) & 0xff, 0);
    port.set(Register::Rsr, 0);
    port.set(Register::Icr, int::ALL);
    assert_eq!((port.get(Register::Rsr), port.get(Register::Ris)), (0, 0));
}

#[test]
fn reset_forgets_the_registers_and_keeps_what_was_sent() {
    let mut port = Port::started();
    port.set(Register::Dr, b'a'.into());
    port.set(Register::Imsc, int::ALL);
    assert!(port.0.type_in(b'z'));
    port.0.reset();
    assert_eq!((port.get(Register::Imsc), port.get(Register::LcrH), port.get(Register::Cr)), (0, 0, 0x300));
    assert_eq!(port.get(Register::Fr) & fr::RXFE, fr::RXFE);
    assert!(!port.0.irq());
    assert_eq!(port.0.outgoing(), b"a");
}

#[derive(Clone, Debug)]
enum Step {
    Store(u64, Size, u64),
    Load(u64, Size),
    TypeIn(u8),
    Take(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let size = prop_oneof![Just(Size::Byte), Just(Size::Half), Just(Size::Word), Just(Size::Double)];
    let offset = prop_oneof![4 => 0_u64..0x50, 1 => 0xfe0_u64..0x1004];
    prop_oneof![
        3 => (offset.clone(), size.clone(), any::<u64>()).prop_map(|(o, s, v)| Step::Store(o & !3, s, v)),
        2 => (offset, size).prop_map(|(o, s)| Step::Load(o, s)),
        2 => any::<u8>().prop_map(Step::TypeIn),
        1 => (0..40_usize).prop_map(Step::Take),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever a guest does: no byte is lost or made up on either side, and the line follows UARTMIS.
    #[test]
    fn no_byte_is_lost(steps in prop::collection::vec(step(), 0..400)) {
        let mut uart = Pl011::new(RING);
        let mut sent = VecDeque::new();
        let mut typed = VecDeque::new();
        for step in steps {
            let loopback = uart.cr & cr::LBE != 0;
            match step {
                Step::Store(offset, size, value) => {
                    if uart.write(at(offset, size), value).is_ok() && offset == 0 {
                        if !loopback {
                            sent.push_back(value as u8);
                        } else if uart.rx.len as usize > typed.len() {
                            typed.push_back(value as u8);
                        }
                    }
                }
                Step::Load(offset, size) => {
                    if let Ok(value) = uart.read(at(offset, size)) && offset == 0 {
                        prop_assert_eq!(value as u8, typed.pop_front().unwrap_or(0));
                    }
                }
                Step::TypeIn(byte) => {
                    if uart.type_in(byte) {
                        typed.push_back(byte);
                    }
                }
                Step::Take(bytes) => {
                    let mut buffer = vec![0; bytes];
                    let taken = uart.take(&mut buffer);
                    prop_assert_eq!(taken, bytes.min(sent.len()));
                    prop_assert!(buffer[..taken].iter().all(|byte| sent.pop_front() == Some(*byte)));
                }
            }
            prop_assert_eq!(uart.rx.len as usize, typed.len());
            prop_assert_eq!(uart.has_output(), !sent.is_empty());
            prop_assert_eq!(uart.irq(), uart.read(word(Register::Mis)) != Ok(0));
        }
    }
}
