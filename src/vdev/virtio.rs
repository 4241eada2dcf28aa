//! The virtio-mmio slots of the `virt` machine, all empty so far.
//!
//! An empty slot is there and says so: DeviceID 0 (virtio 1.2 section 4.2.2).

use super::{Access, AccessError, MmioDevice};
use crate::exit::Size;

/// Bytes of one slot.
const SLOT: u64 = 0x200;

/// All slots, none with a device in it.
#[derive(Debug)]
pub struct EmptySlots;

impl MmioDevice for EmptySlots {
    fn read(&mut self, at: Access) -> Result<u64, AccessError> {
        if at.size != Size::Word || at.offset & 3 != 0 {
            return Err(AccessError::BadSize);
        }
        Ok(match at.offset & (SLOT - 1) {
            0x000 => 0x7472_6976, // MagicValue: "virt"
            0x004 => 2,           // Version
            _ => 0,               // DeviceID 0: nothing here; the rest is ignored then
        })
    }

    fn write(&mut self, at: Access, _: u64) -> Result<(), AccessError> {
        if at.size == Size::Word && at.offset & 3 == 0 { Ok(()) } else { Err(AccessError::BadSize) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Ticks;

    #[test]
    fn each_slot_says_that_it_is_empty() {
        let read = |offset| EmptySlots.read(Access { offset, size: Size::Word, now: Ticks(0) });
        for slot in 0..32 {
            assert_eq!(read(slot * SLOT), Ok(0x7472_6976));
            assert_eq!(read(slot * SLOT + 4), Ok(2));
            assert_eq!(read(slot * SLOT + 8), Ok(0));
        }
        assert_eq!(read(2), Err(AccessError::BadSize));
    }
}
