//! Who runs next on a CPU, and until when. Pure: time is an argument.
//!
//! Today this is a round robin with a slice that ends only when somebody else waits. Weights, caps,
//! affinity and stealing between CPUs take this module's place, not the run loop's.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use crate::machine::Ticks;
use crate::vcpu::{VcpuId, VmId};
use alloc::collections::VecDeque;
use alloc::vec::Vec;

/// How long a vCPU runs before another that waits gets its turn, in milliseconds.
pub const SLICE_MS: u64 = 10;

/// The runnable vCPUs of one CPU, longest waiting first.
#[derive(Debug)]
pub struct RunQueue<T> {
    ready: VecDeque<T>,
}

impl<T> RunQueue<T> {
    /// An empty queue with room for `capacity`, so that it never allocates while guests run.
    pub fn new(capacity: usize) -> Self {
        Self { ready: VecDeque::with_capacity(capacity) }
    }

    /// Somebody became runnable, or used up a slice.
    #[inline]
    pub fn push(&mut self, vcpu: T) {
        self.ready.push_back(vcpu);
    }

    /// Who runs next.
    #[inline]
    pub fn pop(&mut self) -> Option<T> {
        self.ready.pop_front()
    }

    /// Whether anybody waits.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.ready.is_empty()
    }
}

/// What a software timer is for. At most one timer per purpose exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Purpose {
    /// A vCPU's own timers: wake it and have it look.
    Vcpu(VmId, VcpuId),
    /// A device of a VM changes its line without an access.
    Device(VmId, u16),
    /// See whether a VM has shown a sign of life.
    Watchdog(VmId),
}

/// The software timers of one CPU.
///
/// A sorted list: it holds one entry for each vCPU and device here that waits for a time, a handful, and the
/// guest that blocks sets one each time.
#[derive(Debug, Default)]
pub struct Timers {
    /// The next one last.
    list: Vec<(Ticks, Purpose)>,
}

impl Timers {
    /// Sets the timer for `purpose`, in place of one that it has; `None` takes it away.
    pub fn set(&mut self, purpose: Purpose, deadline: Option<Ticks>) {
        if let Some(n) = self.list.iter().position(|(_, known)| *known == purpose) {
            if self.list.get(n).map(|(at, _)| *at) == deadline {
                return;
            }
            self.list.remove(n);
        }
        if let Some(at) = deadline {
            let later = self.list.iter().take_while(|timer| **timer > (at, purpose)).count();
            self.list.insert(later, (at, purpose));
        }
    }

    /// When the first is due.
    #[inline]
    pub fn next(&self) -> Option<Ticks> {
        self.list.last().map(|(at, _)| *at)
    }

    /// Takes one that is due at `now`.
    #[inline]
    pub fn expired(&mut self, now: Ticks) -> Option<Purpose> {
        let (_, purpose) = self.list.pop_if(|(at, _)| *at <= now)?;
        Some(purpose)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn everybody_gets_a_turn() {
        let mut queue = RunQueue::new(3);
        (0..3).for_each(|n| queue.push(n));
        for turn in 0..9 {
            let next = queue.pop().unwrap();
            assert_eq!(next, turn % 3);
            queue.push(next);
        }
    }

    #[test]
    fn a_purpose_has_one_timer() {
        let mut timers = Timers::default();
        let wake = Purpose::Vcpu(VmId(0), VcpuId(0));
        timers.set(wake, Some(Ticks(50)));
        timers.set(wake, Some(Ticks(30)));
        timers.set(Purpose::Watchdog(VmId(0)), Some(Ticks(40)));
        assert_eq!(timers.next(), Some(Ticks(30)));
        assert_eq!(timers.expired(Ticks(29)), None);
        assert_eq!(timers.expired(Ticks(60)), Some(wake));
        assert_eq!(timers.expired(Ticks(60)), Some(Purpose::Watchdog(VmId(0))));
        assert_eq!(timers.expired(Ticks(60)), None);
        timers.set(wake, Some(Ticks(1)));
        timers.set(wake, None);
        assert_eq!(timers.next(), None);
    }

    proptest! {
        /// Against a plain list: timers come out in order of time, each once, the latest setting only.
        #[test]
        fn timers_fire_in_order(ops in prop::collection::vec((0u16..5, prop::option::of(0u64..100)), 0..60)) {
            let mut timers = Timers::default();
            let mut model = [None; 5];
            for (n, deadline) in ops {
                timers.set(Purpose::Vcpu(VmId(0), VcpuId(n)), deadline.map(Ticks));
                model[usize::from(n)] = deadline;
            }
            let mut left: Vec<_> =
                model.iter().enumerate().filter_map(|(n, at)| at.map(|at| (at, n as u16))).collect();
            left.sort_unstable();
            for (at, n) in left {
                prop_assert_eq!(timers.next(), Some(Ticks(at)));
                prop_assert_eq!(timers.expired(Ticks(at)), Some(Purpose::Vcpu(VmId(0), VcpuId(n))));
            }
            prop_assert_eq!(timers.next(), None);
        }
    }
}
