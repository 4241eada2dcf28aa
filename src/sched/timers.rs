//! The software timers of one CPU: at most one for each purpose.
//!
//! Setting, changing and taking one away costs O(log of those that are set); where a purpose's timer lies is looked
//! up in a table with a word for each purpose there can be.

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
    /// Of each VM, the first number of its purposes, in order: its watchdog, its devices, its vCPUs. At the end, the
    /// number of the last purpose there is, the console.
    first: Vec<u32>,
    devices: u16,
    /// Numbers of purposes by their deadline.
    heap: Heap<u32>,
    /// Of each purpose by its number, where it lies in the heap.
    places: Vec<u32>,
}

impl Timers {
    /// No timers yet, with room for all that VMs of so many vCPUs, and of `devices` devices each, can want.
    pub fn new(vcpus: impl IntoIterator<Item = usize>, devices: u16) -> Self {
        let mut first = Vec::new();
        let mut total = 0u32;
        for vcpus in vcpus {
            first.push(total);
            let vcpus = u32::try_from(vcpus).unwrap_or(0);
            total = total.saturating_add(1).saturating_add(u32::from(devices)).saturating_add(vcpus);
        }
        first.push(total);
        let total = (total as usize).saturating_add(1);
        Self { first, devices, heap: Heap::new(total), places: vec![UNSET; total] }
    }

    /// The number of a purpose; `None` if there is no such VM, device or vCPU.
    #[inline]
    fn number(&self, purpose: Purpose) -> Option<u32> {
        let (vm, offset) = match purpose {
            Purpose::Console => return self.first.last().copied(),
            Purpose::Watchdog(vm) => (vm, 0),
            Purpose::Device(vm, n) if n < self.devices => (vm, u32::from(n).wrapping_add(1)),
            Purpose::Device(..) => return None,
            Purpose::Vcpu(vm, id) => {
                (vm, u32::from(self.devices).wrapping_add(1).wrapping_add(u32::from(id.0)))
            }
        };
        let vm = usize::from(vm.0);
        let number = self.first.get(vm)?.wrapping_add(offset);
        (number < *self.first.get(vm.wrapping_add(1))?).then_some(number)
    }

    /// What has a number.
    fn purpose(&self, number: u32) -> Option<Purpose> {
        if self.first.last() == Some(&number) {
            return Some(Purpose::Console);
        }
        let vm = self.first.partition_point(|first| *first <= number).checked_sub(1)?;
        let offset = number.wrapping_sub(*self.first.get(vm)?);
        let vm = VmId(u16::try_from(vm).ok()?);
        let Some(offset) = offset.checked_sub(1) else { return Some(Purpose::Watchdog(vm)) };
        Some(match offset.checked_sub(u32::from(self.devices)) {
            None => Purpose::Device(vm, u16::try_from(offset).ok()?),
            Some(n) => Purpose::Vcpu(vm, VcpuId(u16::try_from(n).ok()?)),
        })
    }

    /// Sets the timer for `purpose`, in place of one that it has; `None` takes it away. A purpose that there cannot be
    /// has none.
    pub fn set(&mut self, purpose: Purpose, deadline: Option<Ticks>) {
        let Some(number) = self.number(purpose) else { return };
        let Some(place) = self.places.get(number as usize).copied() else { return };
        if place == UNSET && deadline.is_none() {
            return;
        }
        let known = self.heap.key(place as usize);
        if known == deadline.map(|at| at.0) {
            return;
        }
        let places = &mut self.places;
        let moved = |number: &u32, at: usize| {
            if let Some(place) = places.get_mut(*number as usize) {
                *place = at as u32;
            }
        };
        match deadline {
            Some(Ticks(at)) if place == UNSET => self.heap.push(at, number, moved),
            Some(Ticks(at)) => self.heap.change(place as usize, at, moved),
            None => {
                self.heap.remove(place as usize, moved);
                self.forget(number);
            }
        }
    }

    fn forget(&mut self, number: u32) {
        if let Some(place) = self.places.get_mut(number as usize) {
            *place = UNSET;
        }
    }

    /// When the first is due.
    #[inline]
    pub fn next(&self) -> Option<Ticks> {
        self.heap.first().map(Ticks)
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
        let (_, number) = self.heap.remove(0, |number, at| {
            if let Some(place) = places.get_mut(*number as usize) {
                *place = at as u32;
            }
        })?;
        self.forget(number);
        self.purpose(number)
    }
}
