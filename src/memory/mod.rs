//! Which host memory is free: a sorted list of ranges, not of powers of two.
//!
//! Banks of real boards have odd ends and holes, and a guest asks for 1.5 GiB, not for an order. What
//! counts is that blocks of 1 GiB and 2 MiB stay whole for as long as possible, since guests are mapped in
//! them: [`Memory::take`] cuts where the fewest of them break.
//!
//! Plain arithmetic: nothing here touches the memory that it speaks of.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

#[cfg(test)]
mod tests;

use crate::addr::{Address, BLOCK_1G, BLOCK_2M, HostPhysAddr, HostRange};
use alloc::vec::Vec;

/// A range was given back of which a part is free already: somebody's books are wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AlreadyFree(pub HostRange);

/// Free memory as a sorted list of ranges.
#[derive(Debug, Default)]
pub struct Memory {
    /// In order of address; none empty, no two overlap or touch.
    free: Vec<HostRange>,
    /// What was set aside for somebody who comes later.
    kept: Vec<HostRange>,
}

impl Memory {
    /// No memory at all.
    pub const fn new() -> Self {
        Self { free: Vec::new(), kept: Vec::new() }
    }

    /// Makes `range` available. Parts that are free already stay so: banks of a device tree may overlap.
    pub fn add(&mut self, range: HostRange) {
        if range.is_empty() {
            return;
        }
        // Everything that overlaps or touches the range becomes one with it.
        let first = self.free.partition_point(|r| r.end() < range.start());
        let last = self.free.partition_point(|r| r.start() <= range.end());
        let touched = self.free.get(first..last).unwrap_or_default();
        let start = touched.first().map_or(range.start(), |r| r.start().min(range.start()));
        let end = touched.last().map_or(range.end(), |r| r.end().max(range.end()));
        self.free.splice(first..last, [HostRange::between(start, end)]);
    }

    /// Takes `range` away, wherever it overlaps what is free.
    pub fn reserve(&mut self, range: HostRange) {
        if range.is_empty() {
            return;
        }
        let first = self.free.partition_point(|r| r.end() <= range.start());
        let last = self.free.partition_point(|r| r.start() < range.end());
        let touched = self.free.get(first..last).unwrap_or_default();
        let (Some(low), Some(high)) = (touched.first(), touched.last()) else { return };
        let left = HostRange::between(low.start(), range.start());
        let right = HostRange::between(range.end(), high.end());
        self.free.splice(first..last, [left, right].into_iter().filter(|r| !r.is_empty()));
    }

    /// `size` bytes aligned to `align`, a power of two. `None` if there is no such range, or for a size of 0.
    pub fn take(&mut self, size: u64, align: u64) -> Option<HostRange> {
        self.take_below(size, align, HostPhysAddr::at(u64::MAX))
    }

    /// The same, all of it below `limit`: for devices that cannot reach every address.
    pub fn take_below(&mut self, size: u64, align: u64, limit: HostPhysAddr) -> Option<HostRange> {
        if size == 0 || !align.is_power_of_two() {
            return None;
        }
        let fits = self.free.iter().flat_map(|&free| {
            let window = HostRange::between(free.start(), free.end().min(limit));
            let ends = [lowest(window, size, align), highest(window, size, align)];
            ends.into_iter().flatten().map(move |cut| (cost(free, cut), cut))
        });
        let (_, best) = fits.min_by_key(|(cost, cut)| (*cost, cut.start()))?;
        self.reserve(best);
        Some(best)
    }

    /// Exactly `range`, if all of it is free.
    pub fn take_at(&mut self, range: HostRange) -> Option<HostRange> {
        if range.is_empty() || !self.free.iter().any(|free| free.encloses(&range)) {
            return None;
        }
        self.reserve(range);
        Some(range)
    }

    /// Sets exactly `range` aside for [`Memory::take_kept`], if all of it is free; whether it was.
    pub fn keep(&mut self, range: HostRange) -> bool {
        let taken = self.take_at(range);
        self.kept.extend(taken);
        taken.is_some()
    }

    /// Exactly `range`, which was set aside.
    pub fn take_kept(&mut self, range: HostRange) -> Option<HostRange> {
        let n = self.kept.iter().position(|kept| *kept == range)?;
        Some(self.kept.swap_remove(n))
    }

    /// Gives back what [`Memory::take_kept`] took, to be taken again.
    pub fn give_kept(&mut self, range: HostRange) {
        self.kept.push(range);
    }

    /// `size` bytes in as few ranges as it takes, the largest first, each a multiple of `align` (a power of
    /// two, of which `size` is a multiple too). What has room for a 1 GiB block is aligned to one if possible.
    pub fn take_pieces(&mut self, size: u64, align: u64) -> Option<Vec<HostRange>> {
        if size == 0 || !align.is_power_of_two() || size & align.wrapping_sub(1) != 0 {
            return None;
        }
        let mut pieces = Vec::new();
        let mut left = size;
        while left > 0 {
            let piece = (left >= BLOCK_1G)
                .then(|| self.take(left, align.max(BLOCK_1G)))
                .flatten()
                .or_else(|| self.take(left, align))
                .or_else(|| self.largest(align).and_then(|all| self.take_at(all)));
            let Some(piece) = piece else {
                pieces.into_iter().for_each(|piece| self.add(piece));
                return None;
            };
            left = left.saturating_sub(piece.size());
            pieces.push(piece);
        }
        Some(pieces)
    }

    /// Gives a range back.
    ///
    /// # Errors
    /// [`AlreadyFree`] if a part of it is free: a bug of the caller's. Nothing changes then.
    pub fn give(&mut self, range: HostRange) -> Result<(), AlreadyFree> {
        if self.free.iter().any(|free| free.overlaps(&range)) {
            return Err(AlreadyFree(range));
        }
        self.add(range);
        Ok(())
    }

    /// Bytes free.
    pub fn free(&self) -> u64 {
        self.free.iter().fold(0, |sum, r| sum.saturating_add(r.size()))
    }

    /// The largest free range once its ends are cut to multiples of `align`, a power of two.
    pub fn largest(&self, align: u64) -> Option<HostRange> {
        let cut = self.free.iter().map(|r| r.align_in(align));
        cut.filter(|r| !r.is_empty()).max_by_key(|r| (r.size(), core::cmp::Reverse(r.start())))
    }

    /// The free ranges, in order of address.
    pub fn ranges(&self) -> &[HostRange] {
        &self.free
    }
}

/// The lowest place for `size` bytes in `free`.
fn lowest(free: HostRange, size: u64, align: u64) -> Option<HostRange> {
    let start = free.start().checked_add(align.wrapping_sub(1))?.align_down(align);
    HostRange::new(start, size).filter(|cut| free.encloses(cut))
}

/// The highest.
fn highest(free: HostRange, size: u64, align: u64) -> Option<HostRange> {
    let start = HostPhysAddr::at(free.end().raw().checked_sub(size)?).align_down(align);
    HostRange::new(start, size).filter(|cut| free.encloses(cut))
}

/// What it costs to take `cut` out of `free`, the worst first: whole 1 GiB blocks, whole 2 MiB blocks, and
/// the size of a range that is no longer whole (best fit).
fn cost(free: HostRange, cut: HostRange) -> (u64, u64, u64) {
    let left = HostRange::between(free.start(), cut.start());
    let right = HostRange::between(cut.end(), free.end());
    let lost = |block| {
        let whole = |range: HostRange| range.align_in(block).size();
        whole(free).saturating_sub(whole(left)).saturating_sub(whole(right))
    };
    (lost(BLOCK_1G), lost(BLOCK_2M), free.size())
}
