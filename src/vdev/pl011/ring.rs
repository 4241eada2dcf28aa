//! What a guest has sent and the hypervisor has not passed on yet.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use alloc::boxed::Box;

/// Bytes that the ring holds; a power of two, so that positions wrap by a mask.
pub const RING: usize = 64 << 10;

/// A queue of bytes of fixed size.
#[derive(Default)]
pub(super) struct Ring {
    bytes: Box<[u8]>,
    /// Bytes ever sent and ever drained, modulo 2^32: their difference is what the ring holds.
    sent: u32,
    drained: u32,
}

impl Ring {
    pub(super) fn new() -> Self {
        Self { bytes: alloc::vec![0; RING].into_boxed_slice(), sent: 0, drained: 0 }
    }

    #[inline]
    pub(super) fn waiting(&self) -> u32 {
        self.sent.wrapping_sub(self.drained)
    }

    #[inline]
    pub(super) fn free(&self) -> u32 {
        (RING as u32).wrapping_sub(self.waiting())
    }

    /// Adds a byte, which is lost if nothing is free.
    #[inline]
    pub(super) fn push(&mut self, byte: u8) {
        if self.free() != 0
            && let Some(slot) = self.bytes.get_mut(self.sent as usize & (RING - 1))
        {
            *slot = byte;
            self.sent = self.sent.wrapping_add(1);
        }
    }

    /// The oldest bytes, as far as they lie in one piece.
    pub(super) fn front(&self) -> &[u8] {
        let first = self.drained as usize & (RING - 1);
        let end = first.saturating_add(self.waiting() as usize).min(RING);
        self.bytes.get(first..end).unwrap_or(&[])
    }

    /// The oldest byte.
    #[inline]
    pub(super) fn oldest(&self) -> Option<u8> {
        let byte = self.bytes.get(self.drained as usize & (RING - 1));
        byte.copied().filter(|_| self.waiting() != 0)
    }

    /// Forgets the oldest byte, of which there is one.
    #[inline]
    pub(super) fn consume_one(&mut self) {
        self.drained = self.drained.wrapping_add(1);
    }

    /// Forgets the oldest bytes; at most as many as there are.
    pub(super) fn consume(&mut self, bytes: usize) {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX).min(self.waiting());
        self.drained = self.drained.wrapping_add(bytes);
    }
}
