//! A guest's serial port in the hands of any guest, and of whoever types.

use super::input::Input;
use mezzanine::exit::Size;
use mezzanine::machine::Ticks;
use mezzanine::vdev::pl011::Pl011;
use mezzanine::vdev::{Access, MmioDevice};

/// Any stream of accesses, typed bytes and output.
pub fn run(data: &[u8]) {
    let mut input = Input(data);
    let mut port = Pl011::new(64 << 10);
    while !input.is_empty() {
        let kind = input.byte();
        match kind & 7 {
            0..=4 => {
                let size = Size::from_log2(u64::from(kind >> 3 & 3));
                let at = Access { offset: u64::from(input.half() & 0xfff), size, now: Ticks(0) };
                if kind & 1 != 0 {
                    let _ = port.write(at, input.double() & size.mask());
                } else if let Ok(value) = port.read(at) {
                    assert_eq!(value & !size.mask(), 0, "more bits than were asked for");
                }
            }
            5 => {
                let room = port.has_room();
                assert!(port.type_in(input.byte()) || !room, "a byte was lost though there was room");
            }
            6 => {
                let ready = port.outgoing().len().min(usize::from(input.byte()));
                port.consumed(ready);
            }
            _ => port.reset(),
        }
        let _ = (port.irq(), port.is_full());
    }
}
