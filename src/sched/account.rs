//! What one vCPU may have of a CPU, and what it had.

use crate::machine::Ticks;
use crate::vcpu::CpuId;

/// How much of a CPU each vCPU of a VM is to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// Its part, in proportion to others' on the same CPU; at least 1.
    pub weight: u16,
    /// At most so many percent of a CPU, 1 to 100, even if nobody else wants it.
    pub cap: Option<u8>,
}

impl Share {
    /// The weight that everybody has who asked for none.
    pub const DEFAULT_WEIGHT: u16 = 256;
}

impl Default for Share {
    fn default() -> Self {
        Self { weight: Self::DEFAULT_WEIGHT, cap: None }
    }
}

/// One vCPU's books: what is left of its turn and of its cap, and how long it had to wait.
///
/// Plain data that travels with the vCPU. Only a [`RunQueue`](super::RunQueue) changes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Account {
    /// At least 1.
    pub(super) weight: u16,
    /// Percent of a CPU, 1 to 99; 0 without a cap.
    pub(super) cap: u8,
    /// The round that `budget` was given in: a number that no two queues share, 0 for none.
    pub(super) round: u64,
    /// What is left of its turn in that round, in ticks; negative if it ran longer.
    pub(super) budget: i64,
    /// What its cap lets it run, in hundredths of ticks.
    pub(super) tokens: i64,
    /// Up to when `tokens` were given.
    filled: u64,
    /// Since when it waits, if it does; what it waited before then is in `stolen`.
    pub(super) waits_since: u64,
    stolen: u64,
    ran: u64,
}

impl Account {
    /// A new vCPU's.
    pub fn new(share: Share) -> Self {
        let cap = share.cap.filter(|cap| *cap < 100).map_or(0, |cap| cap.max(1));
        Self {
            weight: share.weight.max(1),
            cap,
            round: 0,
            budget: 0,
            tokens: 0,
            filled: 0,
            waits_since: 0,
            stolen: 0,
            ran: 0,
        }
    }

    /// How long it could have run but did not, in ticks, until it last began to: others ran, or its cap was used up.
    /// What a guest reads as stolen time (PV_TIME, DEN0057).
    #[inline]
    pub fn stolen(&self) -> Ticks {
        Ticks(self.stolen)
    }

    /// How long it ran, in ticks, until it last stopped.
    #[inline]
    pub fn ran(&self) -> Ticks {
        Ticks(self.ran)
    }

    /// Counts what it waited until now as stolen; it goes on waiting from here.
    #[inline]
    pub(super) fn waited(&mut self, now: Ticks) {
        self.stolen = self.stolen.wrapping_add(now.0.saturating_sub(self.waits_since));
        self.waits_since = now.0;
    }

    /// Charges it for running so many ticks.
    #[inline]
    pub(super) fn charge(&mut self, ticks: u64) {
        self.ran = self.ran.wrapping_add(ticks);
        let ticks = i64::try_from(ticks).unwrap_or(i64::MAX);
        self.budget = self.budget.saturating_sub(ticks);
        if self.cap != 0 {
            self.tokens = self.tokens.saturating_sub(ticks.saturating_mul(100));
        }
    }

    /// Gives what its cap allows for the time since it was last given something, up to what it may save.
    pub(super) fn fill(&mut self, now: Ticks, most: i64) {
        let elapsed = i64::try_from(now.0.saturating_sub(self.filled)).unwrap_or(i64::MAX);
        let given = elapsed.saturating_mul(i64::from(self.cap));
        self.tokens = self.tokens.saturating_add(given).min(most);
        self.filled = self.filled.max(now.0);
    }

    /// Whether its cap has never been started.
    pub(super) fn is_new(&self) -> bool {
        self.filled == 0
    }

    /// Starts its cap with so much.
    pub(super) fn start_cap(&mut self, now: Ticks, tokens: i64) {
        self.tokens = tokens;
        self.filled = now.0;
    }
}

/// What a [`RunQueue`](super::RunQueue) schedules.
pub trait Runnable {
    /// Its books.
    fn account(&mut self) -> &mut Account;

    /// Whether its affinity lets it run on this CPU.
    fn may_run_on(&self, cpu: CpuId) -> bool;
}
