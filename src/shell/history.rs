//! Lines that were entered before, the last sixteen.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::line::LINE;

/// Lines that are kept.
pub(super) const KEPT: usize = 16;

/// A line that was entered.
#[derive(Clone, Copy, Debug)]
struct Old {
    bytes: [u8; LINE],
    len: usize,
}

/// The last lines, in a ring.
#[derive(Debug)]
pub(super) struct History {
    lines: [Old; KEPT],
    /// Where the next one goes.
    next: usize,
    count: usize,
}

impl History {
    pub(super) const fn new() -> Self {
        Self { lines: [Old { bytes: [0; LINE], len: 0 }; KEPT], next: 0, count: 0 }
    }

    /// The line that was entered as the n-th before now, from 1.
    pub(super) fn get(&self, n: usize) -> Option<&str> {
        if n == 0 || n > self.count {
            return None;
        }
        let place = self.next.wrapping_add(KEPT).wrapping_sub(n) % KEPT;
        let line = self.lines.get(place)?;
        core::str::from_utf8(line.bytes.get(..line.len)?).ok()
    }

    /// Keeps a line, unless it is the same as the one before.
    pub(super) fn push(&mut self, text: &str) {
        if self.get(1) == Some(text) {
            return;
        }
        if let Some(line) = self.lines.get_mut(self.next)
            && let Some(room) = line.bytes.get_mut(..text.len())
        {
            room.copy_from_slice(text.as_bytes());
            line.len = text.len();
            self.next = self.next.wrapping_add(1) % KEPT;
            self.count = self.count.saturating_add(1).min(KEPT);
        }
    }
}
