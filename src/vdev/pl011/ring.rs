//! What a guest has sent and the hypervisor has not passed on yet.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use alloc::boxed::Box;

/// Fewer would leave a hidden port nothing beside the room that it keeps free for its guest.
const SMALLEST: usize = 128;
/// Positions are 32 bits wide.
const LARGEST: usize = 1 << 30;

/// A queue of bytes of fixed size.
#[derive(Default)]
pub(super) struct Ring {
    /// A power of two, so that positions wrap by a mask.
    bytes: Box<[u8]>,
    /// Bytes ever sent and ever drained, modulo 2^32: their difference is what the ring holds.
    sent: u32,
    drained: u32,
}

impl Ring {
    /// An empty ring of `bytes`, or of the next power of two.
    pub(super) fn new(bytes: usize) -> Self {
        let bytes = bytes.clamp(SMALLEST, LARGEST).next_power_of_two();
        Self { bytes: alloc::vec![0; bytes].into_boxed_slice(), sent: 0, drained: 0 }
    }

    /// The place of a position.
    #[inline]
    fn place(&self, position: u32) -> usize {
        position as usize & self.bytes.len().wrapping_sub(1)
    }

    #[inline]
    pub(super) fn waiting(&self) -> u32 {
        self.sent.wrapping_sub(self.drained)
    }

    #[inline]
    pub(super) fn free(&self) -> u32 {
        (self.bytes.len() as u32).wrapping_sub(self.waiting())
    }

    /// Adds a byte, which is lost if nothing is free.
    #[inline]
    pub(super) fn push(&mut self, byte: u8) {
        let place = self.place(self.sent);
        if self.free() != 0
            && let Some(slot) = self.bytes.get_mut(place)
        {
            *slot = byte;
            self.sent = self.sent.wrapping_add(1);
        }
    }

    /// The oldest bytes, as far as they lie in one piece.
    pub(super) fn front(&self) -> &[u8] {
        let first = self.place(self.drained);
        let end = first.saturating_add(self.waiting() as usize).min(self.bytes.len());
        self.bytes.get(first..end).unwrap_or(&[])
    }

    /// Forgets the oldest bytes until `free` are free; how many that were.
    pub(super) fn make_room(&mut self, free: u32) -> u32 {
        let bytes = free.saturating_sub(self.free()).min(self.waiting());
        self.drained = self.drained.wrapping_add(bytes);
        bytes
    }

    /// Forgets the oldest bytes; at most as many as there are.
    pub(super) fn consume(&mut self, bytes: usize) {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX).min(self.waiting());
        self.drained = self.drained.wrapping_add(bytes);
    }
}
