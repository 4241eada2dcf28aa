//! A VM's own time: what its vCPUs read from CNTVCT_EL0 and CNTPCT_EL0.
//!
//! The machine's counter less an offset, CNTVOFF_EL2 (Arm ARM D11.2.3), which all vCPUs of the VM share. It is zero
//! until the VM's first vCPU starts, goes on from there, and stands while the VM is paused: a guest that goes on finds
//! its timers as far ahead as they were.
//!
//! # Why it never goes back, and all vCPUs agree
//!
//! The offset changes in [`Clock::go`] alone, and whoever calls that has no vCPU of the VM on a CPU: each takes the
//! offset along when it gets on one. What a vCPU read before a pause, it read before it left its CPU. So [`Clock::stop`]
//! belongs after the last of them has left; where each tells its own leaving, the latest counts. From the same moment
//! the clock goes on.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use crate::machine::Ticks;
use crate::sync::Mutex;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// A VM's clock. Its lock is held for a few instructions, with no other taken meanwhile.
#[derive(Debug)]
pub struct Clock {
    /// CNTVOFF_EL2 of all its vCPUs, for those who look without the lock.
    offset: AtomicU64,
    /// It stands, for the same.
    stands: AtomicBool,
    state: Mutex<State>,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// No vCPU has started.
    New,
    Runs,
    Stands {
        /// The machine's time at which it stopped.
        since: Ticks,
    },
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock {
    /// A clock that stands at zero.
    pub const fn new() -> Self {
        Self { offset: AtomicU64::new(0), stands: AtomicBool::new(true), state: Mutex::new(State::New) }
    }

    /// Goes on from where it stands, from `now` on. Does nothing while it runs.
    ///
    /// The caller has no vCPU of the VM on a CPU, and lets none get on one before this returns.
    pub fn go(&self, now: Ticks) {
        let mut state = self.state.lock();
        let behind = match *state {
            State::Runs => return,
            State::New => now.0,
            State::Stands { since } => {
                self.offset.load(Ordering::Relaxed).saturating_add(now.0.saturating_sub(since.0))
            }
        };
        *state = State::Runs;
        self.offset.store(behind, Ordering::Relaxed);
        // Who sees it run sees the offset that it runs with.
        self.stands.store(false, Ordering::Release);
    }

    /// Stops it at `now`, when the last vCPU has left its CPU. Of several calls the latest time counts, so that each
    /// vCPU may tell its own leaving. A clock that has never run stays at zero.
    pub fn stop(&self, now: Ticks) {
        let mut state = self.state.lock();
        let since = match *state {
            State::New => return,
            State::Runs => now,
            State::Stands { since } => since.max(now),
        };
        *state = State::Stands { since };
        self.stands.store(true, Ordering::Relaxed);
    }

    /// CNTVOFF_EL2 for a vCPU that gets on a CPU, or whose timers are looked at: one load.
    #[inline(always)]
    pub fn offset(&self) -> u64 {
        self.offset.load(Ordering::Relaxed)
    }

    /// The offset while it runs; `None` while it stands, when nothing is due.
    #[inline]
    pub fn running_offset(&self) -> Option<u64> {
        (!self.stands.load(Ordering::Acquire)).then(|| self.offset())
    }

    /// Whether it stands.
    pub fn is_stopped(&self) -> bool {
        self.stands.load(Ordering::Relaxed)
    }

    /// The VM's own time, in ticks, when the machine's is `now`: for lists and reports.
    pub fn time(&self, now: Ticks) -> Ticks {
        let state = self.state.lock();
        let at = match *state {
            State::New => return Ticks(0),
            State::Runs => now,
            State::Stands { since } => since,
        };
        Ticks(at.0.saturating_sub(self.offset.load(Ordering::Relaxed)))
    }
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, clippy::indexing_slicing, reason = "a test may fail")]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    #[test]
    fn it_begins_at_zero_when_the_vm_does() {
        let clock = Clock::new();
        assert!(clock.is_stopped());
        assert_eq!((clock.offset(), clock.time(Ticks(500)), clock.running_offset()), (0, Ticks(0), None));
        clock.stop(Ticks(600));
        clock.go(Ticks(1000));
        assert!(!clock.is_stopped());
        assert_eq!(clock.running_offset(), Some(1000));
        assert_eq!((clock.time(Ticks(1000)), clock.time(Ticks(1007))), (Ticks(0), Ticks(7)));
        clock.go(Ticks(2000));
        assert_eq!(clock.offset(), 1000, "it runs already");
    }

    #[test]
    fn no_time_passes_while_it_stands() {
        let clock = Clock::new();
        clock.go(Ticks(1000));
        clock.stop(Ticks(1500));
        assert_eq!((clock.running_offset(), clock.time(Ticks(9000))), (None, Ticks(500)));
        clock.go(Ticks(10_000));
        assert_eq!((clock.offset(), clock.time(Ticks(10_001))), (9500, Ticks(501)));
    }

    #[test]
    fn the_last_to_leave_stops_it() {
        let clock = Clock::new();
        clock.go(Ticks(0));
        for at in [100, 130, 120] {
            clock.stop(Ticks(at));
        }
        clock.go(Ticks(1000));
        assert_eq!(clock.time(Ticks(1000)), Ticks(130));
    }

    #[test]
    fn the_end_of_time_is_no_overflow() {
        let clock = Clock::new();
        clock.go(Ticks(u64::MAX));
        clock.stop(Ticks(u64::MAX));
        clock.go(Ticks(3));
        assert_eq!(clock.time(Ticks(0)), Ticks(0));
    }

    #[derive(Clone, Debug)]
    enum Step {
        /// Machine time passes.
        Pass(u64),
        /// A vCPU gets on a CPU, unless the VM is paused, or leaves it.
        Move(usize),
        /// Somebody pauses the VM: its vCPUs leave from here on.
        Pause,
        /// Somebody has it go on.
        Resume,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0..1_000_000_u64).prop_map(Step::Pass),
            4 => (0..4_usize).prop_map(Step::Move),
            1 => Just(Step::Pause),
            1 => Just(Step::Resume),
        ]
    }

    proptest! {
        /// A VM of four vCPUs that come and go while others pause and resume it. Whatever any of them reads is the time
        /// that has passed while the VM was not paused, counted by itself.
        #[test]
        fn all_agree_and_none_sees_it_stand(
            boot in 0..1_u64 << 40,
            each_tells: bool,
            steps in proptest::collection::vec(step(), 1..200),
        ) {
            let clock = Clock::new();
            let mut now = boot;
            clock.go(Ticks(now));
            // CNTVOFF of those that are on a CPU; the pause as others know it; time as it should be.
            let mut on: [Option<u64>; 4] = [None; 4];
            let mut paused = false;
            let (mut own, mut last) = (0_u64, 0_u64);
            for step in steps {
                match step {
                    Step::Pass(ticks) => {
                        now += ticks;
                        // It passes for a VM that was paused as long as one of its vCPUs has not left.
                        if !paused || on.iter().any(Option::is_some) {
                            own += ticks;
                        }
                    }
                    Step::Move(n) => {
                        let left = on[n].take().is_some();
                        if left && paused && (each_tells || on.iter().all(Option::is_none)) {
                            clock.stop(Ticks(now));
                        }
                        if !left && !paused {
                            on[n] = Some(clock.offset());
                        }
                    }
                    Step::Pause if !paused => {
                        paused = true;
                        if each_tells || on.iter().all(Option::is_none) {
                            clock.stop(Ticks(now));
                        }
                    }
                    Step::Resume if on.iter().all(Option::is_none) => {
                        paused = false;
                        clock.go(Ticks(now));
                    }
                    Step::Pause | Step::Resume => {}
                }
                let read: Vec<u64> = on.iter().flatten().map(|offset| now - offset).collect();
                prop_assert!(read.iter().all(|time| *time == own), "{read:?}, not {own}");
                prop_assert!(own >= last);
                last = own;
                if paused && on.iter().all(Option::is_none) {
                    prop_assert_eq!(clock.time(Ticks(now)), Ticks(own));
                    prop_assert_eq!(clock.running_offset(), None);
                }
            }
        }
    }
}
