//! The fixed place of one vCPU in its VM: where it is, and what others want of it.
//!
//! A vCPU is owned by one place at a time. While it is off or waits, its slot holds it; while it can run, a run queue
//! or a CPU's loop does, and the slot says which CPU to kick. What others want of it is left beside the slot: as
//! events (its mailbox, [`Slot::post`]), or as a flag of somebody else's with data behind it, as the vGIC's attention.
//! Both are called *flags* here.
//!
//! # Why no wake-up is lost
//!
//! * **Who wants something** sets the flag first and calls [`Slot::call`] second.
//! * **Who owns the vCPU** says first where it is from now on and looks at the flags second: [`Slot::board`], then
//!   look, then enter. When it parks, both happen under the slot's lock: [`Slot::block`] looks before it lets go.
//!
//! All of `call`, `board`, `queue` and `block` take the slot's lock, so one of two comes first.
//!
//! | first | then |
//! |---|---|
//! | `call` | The flag was set before the lock was released, so whoever takes it next sees the flag: `block` does not park; after `board`, the look before entry finds it. |
//! | `board` | `call` finds `On` and its caller kicks that CPU: out of `enter`, or at once from the next one. |
//! | `block` | `call` finds `Blocked` and takes the vCPU out. |
//! | `queue` | `call` finds `Queued` and has nothing to do: a `board` is still to come. |
//!
//! A kick may come too late, when the vCPU has moved on: then the flag was set before `queue` or `block` took the lock,
//! and the row above holds for its next owner. The CPU that was kicked looks, finds nothing, and goes on.
//!
//! The order comes from the lock. So the look itself may be relaxed, one load on every entry; it only may not be done
//! before `board`. (Without the lock this would be two CPUs that each store and then load the other's word, which
//! neither acquire nor release puts in order.)
//!
//! **Not everybody has to call.** Who finds the flag set already leaves it at that: [`Slot::post`] is false, the swap
//! of an attention flag gives true. Whoever set it has called or is about to, and the owner takes the flag down before
//! it reads what is behind it, never after. As both exchange the same word, the owner that takes it down sees what
//! everybody who found it up had written before.
//!
//! # Why nobody is owned twice
//!
//! Only what the slot holds can be taken from it, and the place becomes `Queued` in the same turn of the lock: of two
//! that call, or start, or of a call and a timer, one gets the vCPU and the other finds it queued. Whoever gets it owns
//! it and must put it into a run queue, on a CPU, or back. [`Slot::start`] takes those that are off and no others,
//! [`Slot::call`] those that wait and no others.
//!
//! # The end of a VM
//!
//! The VM is marked as stopping first; then STOP is posted to all slots and each is called. A vCPU that waits is woken,
//! one in a queue comes to a CPU, one on a CPU is kicked; each finds STOP, and its owner parks it by [`Slot::off`]. One
//! gap is not closed by the slot: a vCPU that took its STOP and is off can be started by somebody who had asked before
//! whether the VM is stopping. So who starts one asks *after* [`Slot::start`] and puts it back if so. The mark
//! is older than STOP, STOP than the `off`, and the `off` than the `start`, so then it is seen.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use crate::sync::modelled::{AtomicU32, Mutex};
use crate::vcpu::CpuId;
use core::mem;
use core::sync::atomic::Ordering;

/// Where a vCPU is.
#[derive(Debug)]
enum Place<V> {
    /// Here, and off.
    Off(V),
    /// Here, until something comes.
    Blocked {
        vcpu: V,
        /// The CPU that it ran on, which has its timers.
        home: CpuId,
    },
    /// In a run queue, or on its way into one or out of it: it will be on a CPU without anybody's doing.
    Queued,
    /// With the loop of this CPU.
    On(CpuId),
}

/// The same without the vCPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Where {
    /// It is off.
    Off,
    /// It waits for something, and that CPU has its timers.
    Blocked(CpuId),
    /// It is in a run queue.
    Queued,
    /// It is with the loop of that CPU.
    On(CpuId),
}

/// What comes of a call, and what the caller has to do.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "somebody has to be queued or kicked"]
pub enum Called<V> {
    /// It was blocked and is the caller's now, who puts it into a run queue.
    Woken {
        /// The vCPU; its place is `Queued`.
        vcpu: V,
        /// The CPU where it was parked.
        home: CpuId,
    },
    /// It is on that CPU: kick it.
    On(CpuId),
    /// It is off, or queued and looks before it enters.
    Nothing,
}

/// The fixed place of one vCPU. A cache line each: a neighbour's calls do not slow down this one's entries.
#[derive(Debug)]
#[repr(align(64))]
pub struct Slot<V> {
    place: Mutex<Place<V>>,
    events: AtomicU32,
}

impl<V> Slot<V> {
    /// The place of a vCPU that is off.
    pub fn new(vcpu: V) -> Self {
        Self { place: Mutex::new(Place::Off(vcpu)), events: AtomicU32::new(0) }
    }

    /// Leaves a message; true if there was none, and then the sender calls.
    #[inline]
    pub fn post(&self, events: u32) -> bool {
        self.events.fetch_or(events, Ordering::Release) == 0
    }

    /// Takes all messages: for the owner, who then acts on them.
    #[inline]
    pub fn take(&self) -> u32 {
        self.events.swap(0, Ordering::Acquire)
    }

    /// Whether there are messages: one load.
    #[inline]
    pub fn has_mail(&self) -> bool {
        self.events.load(Ordering::Relaxed) != 0
    }

    /// Has the vCPU look at the flags that the caller has set before.
    #[inline]
    pub fn call(&self) -> Called<V> {
        self.call_if(|_, _| true)
    }

    /// Like [`Slot::call`], but one that is blocked is woken only if `wanted` says so of it and its home.
    ///
    /// For timers, which may have been set for an earlier wait. `wanted` runs under the slot's lock: no other locks.
    #[inline]
    pub fn call_if(&self, wanted: impl FnOnce(&V, CpuId) -> bool) -> Called<V> {
        let mut place = self.place.lock();
        match &*place {
            Place::On(cpu) => Called::On(*cpu),
            Place::Blocked { vcpu, home } if wanted(vcpu, *home) => {
                match mem::replace(&mut *place, Place::Queued) {
                    Place::Blocked { vcpu, home } => Called::Woken { vcpu, home },
                    // Not reached: it was blocked a line ago, under the same lock.
                    Place::Off(_) | Place::Queued | Place::On(_) => Called::Nothing,
                }
            }
            Place::Off(_) | Place::Queued | Place::Blocked { .. } => Called::Nothing,
        }
    }

    /// Takes a vCPU that is off, to run it; `None` if it is not off. From here on it is queued.
    ///
    /// `prepare` runs without the lock, when the vCPU is the caller's already: it may lock what comes before
    /// slots. The caller then asks whether the VM is stopping, and puts it into a run queue or back by [`Slot::off`].
    #[inline]
    pub fn start(&self, prepare: impl FnOnce(&mut V)) -> Option<V> {
        let mut vcpu = self.take_off()?;
        prepare(&mut vcpu);
        Some(vcpu)
    }

    fn take_off(&self) -> Option<V> {
        let mut place = self.place.lock();
        match mem::replace(&mut *place, Place::Queued) {
            Place::Off(vcpu) => Some(vcpu),
            other => {
                *place = other;
                None
            }
        }
    }

    /// Its new owner, a CPU's loop, has it from here on, and looks at the flags after this.
    #[inline]
    pub fn board(&self, cpu: CpuId) {
        self.set(Place::On(cpu));
    }

    /// Its owner is about to put it into a run queue.
    #[inline]
    pub fn queue(&self) {
        self.set(Place::Queued);
    }

    /// Parks it until it is called, unless there are events or `due` says that something came: then it comes back.
    ///
    /// `due` runs under the slot's lock: it loads flags, and takes no locks.
    #[inline]
    pub fn block(&self, vcpu: V, home: CpuId, due: impl FnOnce() -> bool) -> Result<(), V> {
        let mut place = self.place.lock();
        if self.has_mail() || due() {
            return Err(vcpu);
        }
        debug_assert!(!place.is_parked(), "its owner has it");
        *place = Place::Blocked { vcpu, home };
        Ok(())
    }

    /// Parks it as off.
    #[inline]
    pub fn off(&self, vcpu: V) {
        self.set(Place::Off(vcpu));
    }

    /// Where it is, for people: by the time that they read it, it may be elsewhere.
    pub fn whereabouts(&self) -> Where {
        match &*self.place.lock() {
            Place::Off(_) => Where::Off,
            Place::Blocked { home, .. } => Where::Blocked(*home),
            Place::Queued => Where::Queued,
            Place::On(cpu) => Where::On(*cpu),
        }
    }

    /// Whether it is off.
    #[inline]
    pub fn is_off(&self) -> bool {
        matches!(*self.place.lock(), Place::Off(_))
    }

    /// Shows the vCPU to `f` if it is here, off or blocked, for reports. `f` runs under the slot's lock.
    pub fn peek<R>(&self, f: impl FnOnce(&V) -> R) -> Option<R> {
        match &*self.place.lock() {
            Place::Off(vcpu) | Place::Blocked { vcpu, .. } => Some(f(vcpu)),
            Place::Queued | Place::On(_) => None,
        }
    }

    #[inline]
    fn set(&self, to: Place<V>) {
        let mut place = self.place.lock();
        debug_assert!(!place.is_parked(), "its owner has it");
        *place = to;
    }
}

impl<V> Place<V> {
    fn is_parked(&self) -> bool {
        matches!(self, Self::Off(_) | Self::Blocked { .. })
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests;

#[cfg(test)]
#[cfg(loom)]
mod models;
