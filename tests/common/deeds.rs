//! What a guest can do that others might notice: the modes of tests/guests/src/bin/hostile.rs.
//!
//! The trials (tests/qemu/contain.rs) judge what another guest notices of each, and the bench (tests/bench/beside.rs) has the
//! figures.

/// All of them.
pub(crate) const DEEDS: [&str; 13] = [
    "nowhere",
    "faults",
    "console",
    "interrupts",
    "masked",
    "power",
    "setway",
    "wfe",
    "calls",
    "gic",
    "tlb",
    "registers",
    "resets",
];
