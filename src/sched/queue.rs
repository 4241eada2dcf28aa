//! The runnable vCPUs of one CPU, and which of them runs next.
//!
//! # Rounds
//!
//! Time goes in rounds. When one begins, everybody who waits is its *member*, and its length is [`TURN_US`] for each.
//! It is dealt out by weight: a member's turn is `TURN x members x weight / sum of weights`. Whoever has used its turn
//! up waits for the next round; a round is over when nobody waits who has something left of a turn. So in each round
//! all who are always runnable get what their weights say, exactly.
//!
//! Whoever wakes in the middle of a round has a turn in it too, as long as its weight says but no longer than one
//! TURN; if it has been here in this round before, it goes on with what it has left. It runs before the others (and
//! takes the CPU from the one that runs, once that has had it for [`GRANULARITY_US`]): its order is better, its share
//! is not.
//!
//! **Nobody waits long**: all turns of a round together are at most a TURN for each that took part. In the worst case
//! somebody has had its turn first and gets the next one last: nearly two rounds. With what a turn may be longer (the
//! least one, [`LEAST_US`], and what is carried over) that is under half of [`SLICE_MS`](super::SLICE_MS) for each vCPU
//! that was runnable here meanwhile, whatever they do and whatever their weights. The other half is for whoever wakes
//! with its turn used up, beside a VM of several vCPUs on one CPU: a turn costs a switch, which is a thousandth of it. A virtual time for each vCPU gives the same
//! shares without rounds, but no such bound: whoever ran ahead of a heavy newcomer waits until that has caught up, 64
//! times as long if its weight is 64 times as large.
//!
//! A push or a pop is one step of a ring, whatever the number of vCPUs.
//!
//! # Caps
//!
//! A vCPU with a cap earns that part of real time and pays for what it runs. Out of means, it lies apart, by the time
//! when it is let go, until it can run for its part of a period of [`PERIOD_MS`]; it counts neither as waiting nor as
//! a member. It may save what it earns in two periods, for the time that it has to wait for others.

use super::account::{Account, Runnable};
use super::heap::Heap;
use crate::machine::Ticks;
use crate::vcpu::CpuId;
use alloc::collections::VecDeque;
use core::mem;

/// What each member adds to the length of a round, in microseconds.
pub const TURN_US: u64 = 2_000;
/// The shortest turn, in microseconds: weights are kept exactly as long as none is under a 90th of the average.
pub const LEAST_US: u64 = 50;
/// How long a vCPU has the CPU before one that wakes takes it, in microseconds.
pub const GRANULARITY_US: u64 = 500;
/// How often a vCPU that wants to run all the time runs into its cap, in milliseconds.
pub const PERIOD_MS: u64 = 40;
/// Among how many waiting ones another CPU looks for one that it may run.
const LOOKED_AT: usize = 16;
/// How many throttled ones are let go at once, so that none of the CPU's stays in the hypervisor is long.
const RELEASED_AT_ONCE: usize = 16;

/// How a vCPU comes to a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// It was blocked.
    Woken,
    /// It ran here and lets others go first.
    Yielded,
    /// It ran here and was to stop: its slice was over, or somebody who woke is to run.
    Expired,
    /// It was waiting for another CPU.
    Moved,
    /// It was off.
    Started,
}

/// The runnable vCPUs of one CPU but the one that runs. See the [module](self) for the order in which they run.
///
/// Every function takes the time it is called at. Where several CPUs call, their clocks may differ by a little.
#[derive(Debug)]
pub struct RunQueue<T> {
    /// Those who woke and have something left of a turn, in the order they came. They run first.
    fresh: VecDeque<T>,
    /// The others who have something left of a turn.
    active: VecDeque<T>,
    /// Those who wait for the next round, and the sum of their weights.
    spent: VecDeque<T>,
    spent_weight: u64,
    /// Those whose caps are used up, by the time when they are let go.
    throttled: Heap<T>,

    /// The number of this round; the upper part is this CPU's.
    round: u64,
    /// Its length when it began, in ticks, and the weights of its members.
    length: u64,
    weight: u64,

    /// Whether one runs: it was popped and did not leave.
    running: bool,
    /// Since when it runs, and until when its turn and its cap let it. Ticks.
    since: u64,
    turn_ends: u64,
    cap_ends: u64,
    /// When the last one left.
    left: u64,

    turn: u64,
    least: i64,
    granularity: u64,
    period: u64,
}

impl<T: Runnable> RunQueue<T> {
    /// An empty queue of `cpu`, with room for `capacity` vCPUs so that it never allocates while guests run, where
    /// [`Ticks`] go at `frequency` Hz.
    pub fn new(cpu: CpuId, capacity: usize, frequency: u64) -> Self {
        let micros = |n: u64| frequency.saturating_mul(n) / 1_000_000;
        let room = || VecDeque::with_capacity(capacity);
        Self {
            fresh: room(),
            active: room(),
            spent: room(),
            spent_weight: 0,
            throttled: Heap::new(capacity),
            round: (u64::from(cpu.0).wrapping_add(1)) << 40,
            length: 0,
            weight: 0,
            running: false,
            since: 0,
            turn_ends: 0,
            cap_ends: u64::MAX,
            left: 0,
            turn: micros(TURN_US).max(1),
            least: i64::try_from(micros(LEAST_US)).unwrap_or(i64::MAX).max(1),
            granularity: micros(GRANULARITY_US),
            period: micros(PERIOD_MS.saturating_mul(1000)).max(1),
        }
    }

    /// How many wait for the CPU, besides the one that runs and those that are throttled.
    #[inline]
    pub fn waiting(&self) -> usize {
        self.fresh.len().wrapping_add(self.active.len()).wrapping_add(self.spent.len())
    }

    /// Whether one runs: it was popped, or went on, and has not left.
    #[inline]
    pub fn is_running(&self) -> bool {
        self.running
    }

    /// Whether anybody waits.
    #[inline(always)]
    fn somebody_waits(&self) -> bool {
        !(self.active.is_empty() && self.spent.is_empty() && self.fresh.is_empty())
    }

    /// Takes a vCPU in. One that ran here has [left](Self::leave) before.
    ///
    /// True if the CPU should look: nobody runs there, the one that runs had no slice end until now or may have to
    /// stop earlier, or the time of the [next release](Self::next_release) is nearer. Whoever pushes for another CPU
    /// kicks it then.
    #[inline(always)]
    pub fn push(&mut self, mut vcpu: T, arrival: Arrival, now: Ticks) -> bool {
        let account = vcpu.account();
        match arrival {
            Arrival::Moved => account.waited(now),
            _ => account.waits_since = now.0,
        }
        if account.cap != 0
            && let Some(release) = self.throttles(vcpu.account(), arrival, now)
        {
            let sooner = self.throttled.first().is_none_or(|first| release < first);
            self.throttled.push(release, vcpu, |_, _| {});
            return sooner;
        }
        self.admit(vcpu, arrival)
    }

    /// Puts one that its cap lets run where it belongs.
    #[inline(always)]
    fn admit(&mut self, mut vcpu: T, arrival: Arrival) -> bool {
        let look = !self.running || !self.somebody_waits();
        let account = vcpu.account();
        if account.round != self.round {
            // Its first turn in this round, which began without it.
            let most = self.turn;
            self.grant(account, most);
        }
        if account.budget < self.least {
            self.spend(vcpu);
            return look;
        }
        match arrival {
            Arrival::Woken => {
                let first = self.fresh.is_empty();
                self.fresh.push_back(vcpu);
                return look || first;
            }
            Arrival::Started | Arrival::Moved => self.active.push_back(vcpu),
            Arrival::Expired => self.active.push_front(vcpu),
            Arrival::Yielded => match self.active.pop_front() {
                Some(first) => {
                    self.active.push_front(vcpu);
                    self.active.push_front(first);
                }
                None if self.fresh.is_empty() => self.spend(vcpu),
                None => self.active.push_front(vcpu),
            },
        }
        look
    }

    /// Has one wait for the next round.
    #[inline(always)]
    fn spend(&mut self, mut vcpu: T) {
        self.spent_weight = self.spent_weight.wrapping_add(u64::from(vcpu.account().weight));
        self.spent.push_back(vcpu);
    }

    /// Gives a vCPU its turn in this round, in ticks; what it did not use of the last one, or ran longer, is carried
    /// over if it is little.
    #[inline(always)]
    fn grant(&self, account: &mut Account, most: u64) {
        let share = self.length.saturating_mul(u64::from(account.weight)).checked_div(self.weight);
        let turn = share.map_or(most, |share| share.min(most));
        let turn = i64::try_from(turn).unwrap_or(i64::MAX);
        let carried = account.budget.clamp(self.least.wrapping_neg(), self.least);
        account.budget = turn.saturating_add(carried).max(self.least);
        account.round = self.round;
    }

    /// The one that runs next, which runs from now on; `None` if nobody waits. The one before has
    /// [left](Self::leave).
    #[inline(always)]
    pub fn pop(&mut self, now: Ticks) -> Option<T> {
        let mut vcpu = match self.fresh.pop_front() {
            Some(vcpu) => vcpu,
            None => match self.active.pop_front() {
                Some(vcpu) => vcpu,
                None => {
                    let first = self.spent.pop_front()?;
                    self.next_round();
                    first
                }
            },
        };
        let account = vcpu.account();
        if account.round != self.round {
            self.grant(account, u64::MAX);
        }
        // Who comes on pays for the switch, as long as that is no longer than expected: or two that yield to each
        // other could make a round last.
        let reach = self.least.unsigned_abs() / 2;
        let since = self.left.max(account.waits_since).max(now.0.saturating_sub(reach)).min(now.0);
        account.waited(now);
        self.begin(account, since);
        Some(vcpu)
    }

    /// The next round begins; its first member is popped already.
    #[inline(always)]
    fn next_round(&mut self) {
        let members = (self.spent.len() as u64).wrapping_add(1);
        mem::swap(&mut self.active, &mut self.spent);
        self.round = self.round.wrapping_add(1);
        self.length = self.turn.saturating_mul(members);
        self.weight = self.spent_weight;
        self.spent_weight = 0;
    }

    /// A vCPU runs from here on.
    #[inline(always)]
    fn begin(&mut self, account: &Account, since: u64) {
        self.running = true;
        self.since = since;
        self.turn_ends = since.saturating_add_signed(account.budget);
        self.cap_ends = if account.cap == 0 { u64::MAX } else { cap_ends(account, since) };
    }

    /// The one that blocked here last has something to do again, and was not taken out of its CPU. False if it has to
    /// be [pushed](Self::push) like any other: somebody else waits, or its cap is used up.
    #[inline]
    pub fn resume(&mut self, account: &mut Account, now: Ticks) -> bool {
        if self.somebody_waits() {
            return false;
        }
        if account.cap != 0 && self.throttles(account, Arrival::Woken, now).is_some() {
            return false;
        }
        if account.round != self.round || account.budget < self.least {
            self.spent_weight = u64::from(account.weight);
            self.next_round();
            self.grant(account, u64::MAX);
        }
        account.waits_since = now.0;
        self.begin(account, now.0);
        true
    }

    /// The one that runs stops, whatever for: it is charged for what it ran.
    #[inline(always)]
    pub fn leave(&mut self, account: &mut Account, now: Ticks) {
        account.charge(now.0.saturating_sub(self.since));
        self.running = false;
        self.left = now.0;
    }

    /// When the one that runs has to stop and look whether it [goes on](Self::should_preempt). `None` if it need not:
    /// nobody waits, and it has no cap.
    #[inline(always)]
    pub fn slice_end(&self) -> Option<Ticks> {
        let mut end = self.cap_ends;
        if self.somebody_waits() {
            end = end.min(self.turn_ends);
            if !self.fresh.is_empty() {
                end = end.min(self.since.saturating_add(self.granularity));
            }
        }
        (self.running && end != u64::MAX).then_some(Ticks(end))
    }

    /// Whether the one that runs is to [leave](Self::leave), be [pushed](Self::push) as [`Arrival::Expired`] and let
    /// the next one run.
    #[inline]
    pub fn should_preempt(&self, now: Ticks) -> bool {
        self.slice_end().is_some_and(|end| end <= now)
    }

    /// When the first throttled one is to be [let go](Self::release).
    #[inline]
    pub fn next_release(&self) -> Option<Ticks> {
        self.throttled.first().map(Ticks)
    }

    /// Lets those go whose caps allow them to run again; true if there were any. At most a handful at once: there may
    /// be more whose time has come.
    pub fn release(&mut self, now: Ticks) -> bool {
        let mut any = false;
        for _ in 0..RELEASED_AT_ONCE {
            if self.throttled.first().is_none_or(|at| at > now.0) {
                break;
            }
            let Some((_, mut vcpu)) = self.throttled.remove(0, |_, _| {}) else { break };
            let account = vcpu.account();
            account.waited(now);
            account.fill(now, savings(self.period, account.cap));
            self.admit(vcpu, Arrival::Woken);
            any = true;
        }
        any
    }

    /// Takes the first that may run on another CPU away, for that CPU's queue: it is to be pushed there as
    /// [`Arrival::Moved`]. Looks at a few only.
    pub fn steal(&mut self, cpu: CpuId) -> Option<T> {
        let waiting = self.fresh.iter().chain(&self.active).chain(&self.spent);
        let at = waiting.take(LOOKED_AT).position(|vcpu| vcpu.may_run_on(cpu))?;
        let Some(at) = at.checked_sub(self.fresh.len()) else { return self.fresh.remove(at) };
        let Some(at) = at.checked_sub(self.active.len()) else { return self.active.remove(at) };
        let mut vcpu = self.spent.remove(at)?;
        self.spent_weight = self.spent_weight.saturating_sub(u64::from(vcpu.account().weight));
        Some(vcpu)
    }

    /// When a vCPU with a cap may run again, if it may not now.
    fn throttles(&self, account: &mut Account, arrival: Arrival, now: Ticks) -> Option<u64> {
        let cap = i64::from(account.cap);
        let period = i64::try_from(self.period).unwrap_or(i64::MAX);
        let rest = 100i64.wrapping_sub(cap);
        // With so much it runs for its part of a period, as it goes on earning meanwhile.
        let enough = period.saturating_mul(cap.wrapping_mul(rest)) / 100;
        // Once in all its lives: or a guest would get around its cap by CPU_OFF and CPU_ON.
        if arrival == Arrival::Started && account.is_new() {
            account.start_cap(now, enough);
        } else {
            account.fill(now, savings(self.period, account.cap));
        }
        if account.tokens >= self.least.saturating_mul(rest) {
            return None;
        }
        let missing = enough.saturating_sub(account.tokens);
        let wait = missing.saturating_add(cap).checked_div(cap).unwrap_or(0);
        Some(now.0.saturating_add_signed(wait))
    }
}

/// The most that a vCPU of this cap may have, in hundredths of ticks.
fn savings(period: u64, cap: u8) -> i64 {
    i64::try_from(period.saturating_mul(2).saturating_mul(u64::from(cap))).unwrap_or(i64::MAX)
}

/// When a vCPU that runs since `since` runs into its cap. It earns while it runs.
fn cap_ends(account: &Account, since: u64) -> u64 {
    let cost = 100i64.wrapping_sub(i64::from(account.cap));
    since.saturating_add_signed(account.tokens.checked_div(cost).unwrap_or(i64::MAX))
}

#[cfg(test)]
impl<T: Runnable> RunQueue<T> {
    pub(super) fn throttled_ones(&self) -> impl Iterator<Item = &T> {
        self.throttled.values()
    }

    pub(super) fn turn_ends(&self) -> u64 {
        self.turn_ends
    }

    pub(super) fn waiting_ones(&self) -> impl Iterator<Item = &T> {
        self.fresh.iter().chain(&self.active).chain(&self.spent)
    }

    /// Whether the sum of weights is that of those who are summed up.
    pub(super) fn is_sound(&mut self) -> bool {
        self.spent.iter_mut().map(|vcpu| u64::from(vcpu.account().weight)).sum::<u64>() == self.spent_weight
    }
}
