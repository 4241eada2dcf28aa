//! Who runs next on a CPU, and until when. Pure: time is an argument.
//!
//! | file | what |
//! |---|---|
//! | `account.rs` | a vCPU's share, and its books |
//! | `queue.rs` | the runnable vCPUs of a CPU: rounds by weight, caps, stealing |
//! | `timers.rs` | the software timers of a CPU |
//! | `heap.rs` | what has to be found by time |
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod account;
mod heap;
mod queue;
mod timers;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod timer_tests;

pub use self::account::{Account, Runnable, Share};
pub use self::queue::{Arrival, GRANULARITY_US, LEAST_US, PERIOD_MS, RunQueue, TURN_US};
pub use self::timers::{Purpose, Timers};

/// What is promised: no vCPU that could run waits longer than this for each that could meanwhile on its CPU, itself
/// included. In milliseconds.
pub const SLICE_MS: u64 = 10;
