//! The software timers of one CPU: at most one for each purpose.
//!
//! Setting, changing and taking one away costs O(log of those that are set); where a purpose's timer lies is looked
//! up in a table with a word for each purpose there has been.

use super::heap::Heap;
use crate::machine::Ticks;
use crate::vcpu::{VcpuId, VmId};
use alloc::vec;
use alloc::vec::Vec;

/// What a software timer is for. At most one timer per purpose exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Purpose {
    /// A vCPU's own timers: wake it and have it look.
    Vcpu(VmId, VcpuId),
    /// A device of a VM changes its line without an access.
    Device(VmId, u16),
    /// See whether a VM has shown a sign of life.
    Watchdog(VmId),
    /// Own lines have waited long enough for the guest's line to end.
    Console,
}

/// Where a purpose's timer lies if it is not set.
const UNSET: u32 = u32::MAX;

/// The software timers of one CPU.
#[derive(Debug)]
pub struct Timers {
    devices: u16,
    /// Purposes by their deadline.
    heap: Heap<Purpose>,
    places: Places,
}

/// Where purposes lie in the heap.
#[derive(Debug)]
struct Places {
    console: u32,
    devices: usize,
    /// Of each VM: its watchdog, its devices, its vCPUs, as many as ever had a timer or were there from the start.
    rows: Vec<Vec<u32>>,
}

impl Places {
    /// The row of a purpose and its place there; `None` for the console.
    #[inline]
    fn index(&self, purpose: Purpose) -> Option<(usize, usize)> {
        let (vm, column) = match purpose {
            Purpose::Console => return None,
            Purpose::Watchdog(vm) => (vm, 0),
            Purpose::Device(vm, n) => (vm, usize::from(n).wrapping_add(1)),
            Purpose::Vcpu(vm, id) => (vm, self.devices.wrapping_add(1).wrapping_add(usize::from(id.0))),
        };
        Some((usize::from(vm.0), column))
    }

    #[inline]
    fn get(&self, purpose: Purpose) -> u32 {
        match self.index(purpose) {
            None => self.console,
            Some((row, column)) => {
                self.rows.get(row).and_then(|row| row.get(column)).copied().unwrap_or(UNSET)
            }
        }
    }

    #[inline]
    fn set(&mut self, purpose: Purpose, at: u32) {
        let Some((row, column)) = self.index(purpose) else {
            self.console = at;
            return;
        };
        match self.rows.get_mut(row).and_then(|row| row.get_mut(column)) {
            Some(place) => *place = at,
            None => self.grow(row, column, at),
        }
    }

    /// The first timer of a VM, or of a vCPU, that was not there from the start.
    #[cold]
    fn grow(&mut self, row: usize, column: usize, at: u32) {
        if row >= self.rows.len() {
            self.rows.resize_with(row.saturating_add(1), Vec::new);
        }
        let Some(row) = self.rows.get_mut(row) else { return };
        row.resize(row.len().max(column.saturating_add(1)), UNSET);
        if let Some(place) = row.get_mut(column) {
            *place = at;
        }
    }
}

impl Timers {
    /// No timers yet, with room for all that VMs of so many vCPUs, and of `devices` devices each, can want. VMs that
    /// come later make room by their first timer.
    pub fn new(vcpus: impl IntoIterator<Item = usize>, devices: u16) -> Self {
        let own = usize::from(devices).saturating_add(1);
        let rows: Vec<_> = vcpus.into_iter().map(|vcpus| vec![UNSET; own.saturating_add(vcpus)]).collect();
        let total = rows.iter().fold(1usize, |sum, row| sum.saturating_add(row.len()));
        Self {
            devices,
            heap: Heap::new(total),
            places: Places { console: UNSET, devices: devices.into(), rows },
        }
    }

    /// Sets the timer for `purpose`, in place of one that it has; `None` takes it away. A device that there cannot be
    /// has none.
    pub fn set(&mut self, purpose: Purpose, deadline: Option<Ticks>) {
        if matches!(purpose, Purpose::Device(_, n) if n >= self.devices) {
            return;
        }
        let place = self.places.get(purpose);
        if place == UNSET && deadline.is_none() {
            return;
        }
        let known = self.heap.key(place as usize);
        if known == deadline.map(|at| at.0) {
            return;
        }
        let places = &mut self.places;
        let moved = |purpose: &Purpose, at: usize| places.set(*purpose, at as u32);
        match deadline {
            Some(Ticks(at)) if place == UNSET => self.heap.push(at, purpose, moved),
            Some(Ticks(at)) => self.heap.change(place as usize, at, moved),
            None => {
                self.heap.remove(place as usize, moved);
                self.places.set(purpose, UNSET);
            }
        }
    }

    /// When the first is due.
    #[inline]
    pub fn next(&self) -> Option<Ticks> {
        self.heap.first().map(Ticks)
    }

    /// How many are set.
    #[cfg(test)]
    pub fn count(&self) -> usize {
        self.heap.len()
    }

    /// Takes one that is due at `now`, the earliest first.
    #[inline]
    pub fn expired(&mut self, now: Ticks) -> Option<Purpose> {
        if self.heap.first()? > now.0 {
            return None;
        }
        self.take_first()
    }

    fn take_first(&mut self) -> Option<Purpose> {
        let places = &mut self.places;
        let (_, purpose) = self.heap.remove(0, |purpose, at| places.set(*purpose, at as u32))?;
        self.places.set(purpose, UNSET);
        Some(purpose)
    }
}
