//! What the console's fast path looks at: one word that says which screen is shown, and what else is going on.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use core::sync::atomic::{AtomicU32, Ordering};

/// A screen: a VM's, by its place, or the log's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Screen(pub u16);

impl Screen {
    /// The hypervisor's own log.
    pub const LOG: Self = Self(0xffff);

    /// The VM's place, unless it is the log.
    pub fn vm(self) -> Option<usize> {
        (self != Self::LOG).then_some(usize::from(self.0))
    }
}

/// Own lines wait.
pub(super) const LOG: u32 = 1 << 16;
/// Bytes wait for the line, which is asked to interrupt when it takes some.
pub(super) const ROOM: u32 = 1 << 17;
/// Typed bytes stay in the line: the guest has more than it reads.
pub(super) const DEAF: u32 = 1 << 18;
/// The screen has just changed, and nothing of it has been looked at.
pub(super) const NEW: u32 = 1 << 19;

const SCREEN: u32 = 0xffff;

/// Screen in bits 15:0, the flags above.
pub(super) struct State(AtomicU32);

impl State {
    /// Nothing is going on. All zeroes: the log that this is part of is no part of the image's file.
    pub(super) const fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    /// Which screen is shown. It stays so for whoever holds that screen's lock.
    pub(super) fn screen(&self) -> Screen {
        Screen((self.0.load(Ordering::Acquire) & SCREEN) as u16)
    }

    /// Whether `screen` is shown and nothing else is going on.
    #[inline(always)]
    pub(super) fn is_quiet(&self, screen: Screen) -> bool {
        self.0.load(Ordering::Acquire) == u32::from(screen.0)
    }

    #[inline(always)]
    pub(super) fn has(&self, flag: u32) -> bool {
        self.0.load(Ordering::Acquire) & flag != 0
    }

    pub(super) fn set(&self, flag: u32) {
        self.0.fetch_or(flag, Ordering::AcqRel);
    }

    pub(super) fn clear(&self, flag: u32) {
        self.0.fetch_and(!flag, Ordering::AcqRel);
    }

    /// Shows another screen; for whoever holds the lock of `from`, which is shown.
    pub(super) fn change(&self, from: Screen, to: Screen) {
        self.set(NEW);
        self.0.fetch_xor(u32::from(from.0 ^ to.0), Ordering::AcqRel);
    }
}
