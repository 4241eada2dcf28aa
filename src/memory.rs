//! Which host memory is free, by ranges: stub to be replaced.
use crate::addr::{HostPhysAddr, HostRange};

/// Free memory as a sorted list of ranges.
#[derive(Debug, Default)]
pub struct Memory {}

#[allow(unused_variables, missing_docs, reason = "stub")]
impl Memory {
    pub const fn new() -> Self {
        Self {}
    }
    /// Makes `range` available.
    pub fn add(&mut self, range: HostRange) {}
    /// Takes `range` away, wherever it overlaps what is free.
    pub fn reserve(&mut self, range: HostRange) {}
    /// `size` bytes aligned to `align`.
    pub fn take(&mut self, size: u64, align: u64) -> Option<HostRange> {
        None
    }
    /// Gives a range back.
    pub fn give(&mut self, range: HostRange) {}
    /// Bytes free.
    pub fn free(&self) -> u64 {
        0
    }
    /// The largest free range once aligned.
    pub fn largest(&self, align: u64) -> Option<HostRange> {
        None
    }
    /// Where something lies.
    pub fn ranges(&self) -> &[HostRange] {
        &[]
    }
}

#[allow(dead_code, reason = "stub")]
fn unused(_: HostPhysAddr) {}
