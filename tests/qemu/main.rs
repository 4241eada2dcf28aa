//! Tests that start whole machines in QEMU and judge their transcripts.
//!
//! Two kinds of trials: `guest` starts a micro guest (tests/guests) with `mezz run`, as a person would, those for the
//! interrupt controller on every backend (common/backends.rs);
//! `image` starts QEMU itself, for what the tool would never do: no bundle, a damaged one, a damaged tree, odd
//! load addresses. What they need is built by `make image mezz guests`; what is not built is a failure.
//!
//! No trial depends on how fast the machine is: the time limits only end what hangs, and MEZZ_TEST_PATIENCE
//! multiplies them.
#![allow(missing_docs)]

#[path = "../common/backends.rs"]
mod backends;
#[path = "../common/deeds.rs"]
mod deeds;
mod bundle;
mod contain;
mod cpus;
mod damage;
mod dom0less;
mod formats;
mod gic;
mod guest;
mod image;
mod run;
mod sched;
mod setup;
mod shell;
mod smp;

use libtest_mimic::Arguments;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let mut trials = guest::trials();
    trials.extend(gic::trials());
    trials.extend(image::trials());
    trials.extend(cpus::trials());
    trials.extend(damage::trials());
    trials.extend(dom0less::trials());
    trials.extend(formats::trials());
    trials.extend(smp::trials());
    trials.extend(sched::trials());
    trials.extend(contain::trials());
    trials.extend(shell::trials());
    libtest_mimic::run(&arguments, trials).exit_code()
}
