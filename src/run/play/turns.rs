//! Whose turn it is.

use super::board::{BEGIN, Board, State};
use super::{Play, Played};
use std::ops::Range;
use std::string::String;
use std::sync::{Condvar, MutexGuard};
use std::vec::Vec;

/// How turns are chosen.
#[derive(Clone)]
pub(crate) enum Order {
    /// By chance, from this seed.
    Seeded(u64),
    /// By these choices, and where they end the first there is; at most so many changes of turn that nobody needs, all of
    /// them between two times.
    Listed { choices: Vec<u8>, changes: u32, within: Range<u64> },
}

/// What has been chosen, and how.
pub(super) struct Turns {
    order: Order,
    /// Whose turn it is.
    now: usize,
    /// Each choice, and among how many.
    pub(super) made: Vec<(u8, u8)>,
    /// One in so many times a CPU may pass its turn on, it does.
    rarity: u64,
}

impl Turns {
    pub(super) fn new(order: Order) -> Self {
        let rarity = if let Order::Seeded(seed) = order { [2, 5, 20, 100][(seed % 4) as usize] } else { 1 };
        Self { order, now: 0, made: Vec::new(), rarity }
    }

    fn choose(&mut self, among: usize, now: u64) -> usize {
        if among <= 1 {
            return 0;
        }
        match &mut self.order {
            Order::Seeded(seed) => (next(seed) % among as u64) as usize,
            Order::Listed { within, .. } if !within.contains(&now.saturating_sub(BEGIN)) => 0,
            Order::Listed { choices, .. } => {
                let chosen = choices.get(self.made.len()).copied().unwrap_or(0);
                self.made.push((chosen, among as u8));
                usize::from(chosen)
            }
        }
    }

    /// Whether to pass the turn on where nobody has to.
    fn passes(&mut self, now: u64) -> bool {
        match &mut self.order {
            Order::Seeded(seed) => next(seed).is_multiple_of(self.rarity),
            Order::Listed { changes: 0, .. } => false,
            Order::Listed { .. } => self.choose(2, now) == 1,
        }
    }

    fn passed(&mut self) {
        if let Order::Listed { changes, .. } = &mut self.order {
            *changes -= 1;
        }
    }
}

/// Marsaglia's xorshift, spread first so that near seeds lead elsewhere.
fn next(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut x = *seed;
    x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ x >> 31
}

impl Board {
    /// A CPU's loop begins when it is its turn.
    pub(super) fn begin(&self, cpu: usize) {
        let state = self.state();
        drop(self.until_turn(state, cpu));
    }

    /// `cpu` may pass its turn on.
    pub(super) fn point(&self, cpu: usize) {
        if std::thread::panicking() {
            return;
        }
        let mut state = self.state();
        self.check(&state);
        let others: Vec<usize> = (0..self.wake.len()).filter(|n| *n != cpu && state.is_ready(*n)).collect();
        let now = state.now;
        if others.is_empty() || !state.turns.passes(now) {
            return;
        }
        state.turns.passed();
        let chosen = others[state.turns.choose(others.len(), now)];
        self.hand(state, cpu, chosen);
    }

    /// `cpu` cannot go on until others have.
    pub(super) fn give_up(&self, cpu: usize) {
        let state = self.state();
        let count = self.wake.len();
        let next = (1..count).map(|n| (cpu + n) % count).find(|n| state.is_ready(*n));
        let next = next.unwrap_or_else(|| panic!("CPU {cpu} waits for a lock that nobody will give back"));
        self.hand(state, cpu, next);
    }

    /// `cpu` waits for an interrupt, or until `until`.
    pub(super) fn wait(&self, cpu: usize, until: u64) {
        let mut state = self.state();
        self.check(&state);
        state.cpus[cpu].waits = Some(until);
        let next = self.next(&mut state);
        if let Some(next) = next {
            state = self.hand_over(state, cpu, next);
        }
        self.check(&state);
        state.cpus[cpu].waits = None;
    }

    /// Who is next, once time has passed if it has to.
    fn next(&self, state: &mut State) -> Option<usize> {
        loop {
            let ready: Vec<usize> = (0..self.wake.len()).filter(|n| state.is_ready(*n)).collect();
            if !ready.is_empty() {
                let now = state.now;
                return Some(ready[state.turns.choose(ready.len(), now)]);
            }
            if let Some(what) = self.is_idle_for_nothing(state) {
                self.fail(state, what);
                return None;
            }
            if state.cpus.iter().all(|cpu| cpu.ended) {
                return None;
            }
            let Some(at) = state.next_event() else {
                self.fail(state, "everybody waits, and nothing will come".into());
                return None;
            };
            state.now = at;
        }
    }

    /// A CPU's loop has ended, or panicked.
    pub(super) fn end(&self, cpu: usize, panicked: Option<String>) {
        let mut state = self.state();
        state.cpus[cpu].ended = true;
        if let Some(what) = panicked {
            self.fail(&mut state, format!("CPU {cpu}: {what}"));
        }
        if state.failed.is_none()
            && let Some(next) = self.next(&mut state)
        {
            state.turns.now = next;
            self.wake[next].notify_one();
        }
    }

    pub(super) fn fail(&self, state: &mut State, what: String) {
        state.failed.get_or_insert(what);
        self.wake.iter().for_each(Condvar::notify_one);
    }

    fn check(&self, state: &State) {
        assert!(state.failed.is_none(), "it is over");
    }

    fn hand(&self, state: MutexGuard<'_, State>, cpu: usize, next: usize) {
        let state = self.hand_over(state, cpu, next);
        let failed = state.failed.is_some();
        drop(state);
        assert!(!failed || std::thread::panicking(), "it is over");
    }

    fn hand_over<'s>(
        &'s self,
        mut state: MutexGuard<'s, State>,
        cpu: usize,
        next: usize,
    ) -> MutexGuard<'s, State> {
        state.turns.now = next;
        if next != cpu {
            self.wake[next].notify_one();
        }
        self.until_turn(state, cpu)
    }

    fn until_turn<'s>(&'s self, mut state: MutexGuard<'s, State>, cpu: usize) -> MutexGuard<'s, State> {
        while state.turns.now != cpu && state.failed.is_none() {
            state = self.wake[cpu].wait(state).unwrap_or_else(std::sync::PoisonError::into_inner);
        }
        state
    }
}

/// Plays it in every order that has at most `changes` changes of turn where nobody has to, all of them
/// [`within`](Play::within) what the play says, or the first `most` of them. How many there were.
pub(crate) fn every_order(
    changes: u32,
    most: usize,
    play: impl Fn() -> Play,
    check: impl Fn(&Played),
) -> usize {
    let mut choices = Vec::new();
    for run in 1..=most {
        let mut play = play();
        play.order = Order::Listed { choices: choices.clone(), changes, within: play.within.clone() };
        let played = play.run();
        if let Some(failure) = played.failure() {
            panic!("order {run}: {failure}\n{}", played.story());
        }
        check(&played);
        // The last choice that could have been another one.
        let made = played.choices();
        let Some(at) = made.iter().rposition(|(chosen, among)| chosen + 1 < *among) else { return run };
        choices = made[..at].iter().map(|(chosen, _)| *chosen).collect();
        choices.push(made[at].0 + 1);
    }
    most
}
