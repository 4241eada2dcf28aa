//! A binary heap, the least key first, that tells where its entries lie.
//!
//! Whoever wants to take an entry out of the middle keeps its position: every change of one is told to a function
//! that the caller gives. Entries of equal keys come out in no particular order.

use alloc::vec::Vec;
use core::mem;

/// Entries by a key. Never allocates while it holds no more than the capacity that it was made with.
#[derive(Debug)]
pub struct Heap<T> {
    entries: Vec<(u64, T)>,
}

impl<T> Heap<T> {
    /// An empty heap with room for `capacity` entries.
    pub fn new(capacity: usize) -> Self {
        Self { entries: Vec::with_capacity(capacity) }
    }

    /// How many entries there are.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// The least key.
    #[inline]
    pub fn first(&self) -> Option<u64> {
        self.entries.first().map(|(key, _)| *key)
    }

    /// The key of the entry at a position.
    #[inline]
    pub fn key(&self, at: usize) -> Option<u64> {
        self.entries.get(at).map(|(key, _)| *key)
    }

    /// Puts an entry in.
    pub fn push(&mut self, key: u64, value: T, moved: impl FnMut(&T, usize)) {
        let at = self.entries.len();
        self.entries.push((key, value));
        self.rise(at, moved);
    }

    /// Takes the entry at a position out; nobody is told about that one.
    pub fn remove(&mut self, at: usize, mut moved: impl FnMut(&T, usize)) -> Option<(u64, T)> {
        let last = self.entries.pop()?;
        let Some(place) = self.entries.get_mut(at) else { return Some(last) };
        let taken = mem::replace(place, last);
        self.settle(at, &mut moved);
        Some(taken)
    }

    /// Changes the key of the entry at a position.
    pub fn change(&mut self, at: usize, key: u64, moved: impl FnMut(&T, usize)) {
        if let Some(entry) = self.entries.get_mut(at) {
            entry.0 = key;
            self.settle(at, moved);
        }
    }

    /// Brings the entry at a position, whose key is new, to where it belongs.
    fn settle(&mut self, at: usize, mut moved: impl FnMut(&T, usize)) {
        let at = self.sink(at, &mut moved);
        self.rise(at, moved);
    }

    #[cfg(test)]
    pub fn values(&self) -> impl Iterator<Item = &T> {
        self.entries.iter().map(|(_, value)| value)
    }

    fn rise(&mut self, mut at: usize, mut moved: impl FnMut(&T, usize)) {
        while at != 0 {
            let above = at.wrapping_sub(1) / 2;
            let Ok([parent, entry]) = self.entries.get_disjoint_mut([above, at]) else { break };
            if parent.0 <= entry.0 {
                break;
            }
            mem::swap(parent, entry);
            moved(&entry.1, at);
            at = above;
        }
        if let Some((_, value)) = self.entries.get(at) {
            moved(value, at);
        }
    }

    fn sink(&mut self, mut at: usize, mut moved: impl FnMut(&T, usize)) -> usize {
        loop {
            let left = at.wrapping_mul(2).wrapping_add(1);
            let right = left.wrapping_add(1);
            let Some(key) = self.key(left) else { return at };
            let below = if self.key(right).is_some_and(|other| other < key) { right } else { left };
            let Ok([entry, child]) = self.entries.get_disjoint_mut([at, below]) else { return at };
            if entry.0 <= child.0 {
                return at;
            }
            mem::swap(entry, child);
            moved(&entry.1, at);
            at = below;
        }
    }
}
