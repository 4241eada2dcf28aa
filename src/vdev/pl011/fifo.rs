//! What has arrived at a guest's port and has not been read.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::FIFO;

/// The receive FIFO.
#[derive(Default)]
pub(super) struct RxFifo {
    bytes: [u8; FIFO as usize],
    /// Position of the oldest byte.
    first: u32,
    pub(super) len: u32,
    /// A byte was lost since the last one that went in.
    pub(super) overrun: bool,
}

impl RxFifo {
    pub(super) fn push(&mut self, byte: u8) {
        let place = self.first.wrapping_add(self.len) & (FIFO - 1);
        if let Some(slot) = self.bytes.get_mut(place as usize) {
            *slot = byte;
            self.len = self.len.wrapping_add(1);
        }
    }

    pub(super) fn pop(&mut self) -> Option<u8> {
        self.len = self.len.checked_sub(1)?;
        let byte = self.bytes.get(self.first as usize).copied();
        self.first = self.first.wrapping_add(1) & (FIFO - 1);
        byte
    }
}
