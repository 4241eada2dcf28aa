//! One CPU in virtual time, for tests: it does what a CPU's loop does, and keeps books of its own.

use super::*;
use crate::machine::Ticks;
use crate::vcpu::CpuId;
use std::collections::BTreeSet;

/// Ticks a second.
pub const HZ: u64 = 62_500_000;
/// Ticks a millisecond.
pub const MS: u64 = HZ / 1000;
/// A vCPU's bound on waiting for each that was runnable, in ticks.
pub const SLICE: u64 = SLICE_MS * MS;

/// A vCPU.
#[derive(Debug)]
pub struct Fake {
    pub id: usize,
    pub account: Account,
    /// Bit n: it may run on CPU n.
    pub cpus: u64,
}

impl Fake {
    pub fn new(id: usize, weight: u16, cap: Option<u8>) -> Self {
        Self { id, account: Account::new(Share { weight, cap }), cpus: !0 }
    }
}

impl Runnable for Fake {
    fn account(&mut self) -> &mut Account {
        &mut self.account
    }

    fn may_run_on(&self, cpu: CpuId) -> bool {
        self.cpus >> cpu.0 & 1 != 0
    }
}

/// Where a vCPU is, as the simulation knows it.
#[derive(Clone, Debug, PartialEq)]
enum State {
    Off,
    Blocked,
    Runs,
    /// Since when, and who was runnable meanwhile.
    Waits(u64, BTreeSet<usize>),
    Throttled(u64),
}

pub struct Simulation {
    pub queue: RunQueue<Fake>,
    pub now: u64,
    pub current: Option<Fake>,
    parked: Vec<Option<Fake>>,
    states: Vec<State>,
    /// How long each ran, and how long each could have but did not.
    pub ran: Vec<u64>,
    pub stolen: Vec<u64>,
    /// The longest that anybody waited, as a part of what is promised.
    pub worst: f64,
    pub switches: u64,
    /// How long a switch takes.
    cost: u64,
    /// What the CPU's timer is set to: read anew only when the queue said so.
    armed: Option<u64>,
}

impl Simulation {
    pub fn new(shares: &[(u16, Option<u8>)], cost: u64) -> Self {
        let vcpus = shares.len();
        let parked =
            shares.iter().enumerate().map(|(n, (weight, cap))| Some(Fake::new(n, *weight, *cap))).collect();
        Self {
            queue: RunQueue::new(CpuId(0), vcpus, HZ),
            now: 77 * HZ,
            current: None,
            parked,
            states: vec![State::Off; vcpus],
            ran: vec![0; vcpus],
            stolen: vec![0; vcpus],
            worst: 0.0,
            switches: 0,
            cost,
            armed: None,
        }
    }

    /// All of them runnable from the start.
    pub fn started(shares: &[(u16, Option<u8>)], cost: u64) -> Self {
        let mut this = Self::new(shares, cost);
        (0..shares.len()).for_each(|n| this.wake(n));
        this
    }

    pub fn runs(&self) -> Option<usize> {
        self.current.as_ref().map(|vcpu| vcpu.id)
    }

    pub fn account(&self, id: usize) -> Option<Account> {
        let parked = self.parked[id].as_ref();
        parked.or(self.current.as_ref().filter(|vcpu| vcpu.id == id)).map(|vcpu| vcpu.account)
    }

    fn runnable(&mut self, id: usize) {
        for state in &mut self.states {
            if let State::Waits(_, others) = state {
                others.insert(id);
            }
        }
    }

    /// Pushes one, and looks if the queue says so.
    fn push(&mut self, vcpu: Fake, arrival: Arrival) -> bool {
        let id = vcpu.id;
        let before = self.queue.waiting();
        let look = self.queue.push(vcpu, arrival, Ticks(self.now));
        if self.queue.waiting() == before {
            self.states[id] = State::Throttled(self.now);
        } else {
            self.waits(id, self.now);
        }
        look
    }

    fn waits(&mut self, id: usize, since: u64) {
        self.runnable(id);
        let runnable = |state: &State| matches!(state, State::Runs | State::Waits(..));
        let mut all: BTreeSet<_> = (0..self.states.len()).filter(|n| runnable(&self.states[*n])).collect();
        all.insert(id);
        self.states[id] = State::Waits(since, all);
    }

    /// A vCPU that is off or blocked has something to do; nothing happens to others.
    pub fn wake(&mut self, id: usize) {
        let Some(vcpu) = self.parked[id].take() else { return };
        let arrival = if self.states[id] == State::Off { Arrival::Started } else { Arrival::Woken };
        if self.push(vcpu, arrival) {
            self.look();
        }
    }

    /// The one that runs blocks.
    pub fn block(&mut self) {
        let Some(mut vcpu) = self.current.take() else { return };
        self.queue.leave(&mut vcpu.account, Ticks(self.now));
        self.states[vcpu.id] = State::Blocked;
        let id = vcpu.id;
        self.parked[id] = Some(vcpu);
        self.next();
    }

    /// The one that blocked last goes on, if that is possible without a queue.
    pub fn resume(&mut self, id: usize) {
        if self.current.is_none()
            && let Some(mut vcpu) = self.parked[id].take()
        {
            if self.queue.resume(&mut vcpu.account, Ticks(self.now)) {
                self.runnable(id);
                self.states[id] = State::Runs;
                self.current = Some(vcpu);
                self.arm();
            } else {
                self.parked[id] = Some(vcpu);
                self.wake(id);
            }
        }
    }

    /// The one that runs lets others go first.
    pub fn give_way(&mut self, arrival: Arrival) {
        let Some(mut vcpu) = self.current.take() else { return };
        self.queue.leave(&mut vcpu.account, Ticks(self.now));
        self.push(vcpu, arrival);
        self.next();
    }

    fn look(&mut self) {
        if self.current.is_none() {
            self.next();
        } else if self.queue.should_preempt(Ticks(self.now)) {
            self.give_way(Arrival::Expired);
        } else {
            self.arm();
        }
    }

    fn next(&mut self) {
        self.now += self.cost;
        let waited = self.queue.waiting();
        self.current = self.queue.pop(Ticks(self.now));
        assert_eq!(self.current.is_some(), waited != 0, "somebody waits, and the CPU is idle");
        if let Some(vcpu) = &self.current {
            self.switches += 1;
            match std::mem::replace(&mut self.states[vcpu.id], State::Runs) {
                State::Waits(since, others) => {
                    let (waited, id) = (self.now - since, vcpu.id);
                    self.stolen[id] += waited;
                    self.waited(waited, others.len());
                }
                state => panic!("vCPU {} runs and was {state:?}", vcpu.id),
            }
        }
        self.arm();
    }

    fn waited(&mut self, ticks: u64, runnable: usize) {
        self.worst = self.worst.max(ticks as f64 / (SLICE * runnable as u64) as f64);
    }

    fn arm(&mut self) {
        let ends = [self.queue.slice_end(), self.queue.next_release()];
        self.armed = ends.into_iter().flatten().map(|at| at.0).min();
    }

    /// Lets time pass.
    pub fn run(&mut self, ticks: u64) {
        let until = self.now + ticks;
        while self.now < until {
            let at = self.armed.unwrap_or(u64::MAX).clamp(self.now, until);
            if let Some(vcpu) = &self.current {
                self.ran[vcpu.id] += at - self.now;
            }
            self.now = at;
            if self.armed.is_some_and(|armed| armed <= at) {
                self.timer();
            }
        }
    }

    fn timer(&mut self) {
        let mut released = false;
        while self.queue.next_release().is_some_and(|at| at.0 <= self.now) {
            released |= self.queue.release(Ticks(self.now));
        }
        if released {
            self.account_for_releases();
        }
        self.look();
    }

    /// The queue does not say whom it let go: whoever could have been may count as runnable from now on.
    fn account_for_releases(&mut self) {
        let throttled: Vec<_> = self.queue.throttled_ones().map(|vcpu| vcpu.id).collect();
        for id in 0..self.states.len() {
            if let State::Throttled(since) = self.states[id]
                && !throttled.contains(&id)
            {
                self.stolen[id] += self.now - since;
                self.waits(id, self.now);
            }
        }
    }

    /// At the end: nobody waits too long even now, and the queue's books are those of the simulation.
    pub fn settle(&mut self) -> Result<(), String> {
        for n in 0..self.states.len() {
            if let State::Waits(since, others) = self.states[n].clone() {
                self.waited(self.now - since, others.len());
            }
            if let Some(account) = self.account(n)
                && account.stolen() != Ticks(self.stolen[n])
            {
                return Err(format!("vCPU {n}: {:?} stolen, not {}", account.stolen(), self.stolen[n]));
            }
        }
        eprintln!("worst {:.3}", self.worst);
        if self.worst > 1.0 { Err(format!("{} times as long as promised", self.worst)) } else { Ok(()) }
    }
}
