//! What a guest does that means harm, and what its neighbour notices of it: judged in virtual time.
//!
//! One CPU has both: `latency`, the victim, and `hostile`, the attacker, whose vCPUs are four. The victim's timer
//! is never late by more than a slice, and each line that it says arrives, at the terminal or, while another's screen
//! is shown there, in its own.

use crate::deeds::DEEDS;
use crate::run::{Machine, Outcome};
use crate::sched::{ICOUNT, SLICE, number, start, vm};
use crate::setup;
use libtest_mimic::{Failed, Trial};

/// Those that are tried with the attacker on the screen, too.
const SHOWN: [&str; 3] = ["console", "nowhere", "masked"];

/// Lines of the victim's.
const LINES: usize = 100;

/// What it says when all went well.
const OFF: &str = "vm victim: powered off";

pub(crate) fn trials() -> Vec<Trial> {
    let shown = DEEDS.map(|deed| {
        setup::trial(format!("contain::beside a guest that does {deed}"), move || beside_hidden(deed))
    });
    let hidden = SHOWN.map(|deed| {
        setup::trial(format!("contain::behind a guest that does {deed}"), move || behind_shown(deed))
    });
    shown.into_iter().chain(hidden).collect()
}

/// Both VMs; the first one is shown.
///
/// The victim prints a line for each interrupt: the period is such that it takes less than its share of the CPU, which
/// beside four others is a fifth. Who takes more has to wait for the next round.
fn machine(what: &str, deed: &str, victim_first: bool) -> Result<Machine, Failed> {
    let lines = format!("lines={LINES} period=5000 limit={SLICE}");
    let victim = vm("victim", "latency", &lines, "")?;
    let attacker = vm("attacker", "hostile", &format!("{deed} ms=0"), "vcpus = 4")?;
    let toml = if victim_first { victim + &attacker } else { attacker + &victim };
    start(&format!("{what}-{deed}"), &toml, &ICOUNT)
}

/// The victim is on the screen.
fn beside_hidden(deed: &str) -> Result<(), Failed> {
    let machine = machine("beside", deed, true)?;
    machine.wait_for(OFF, 1);
    let outcome = machine.stop();
    let Some((_, seen)) = outcome.text.split_once("] you are at victim;") else {
        return outcome.failed("the victim is not shown");
    };
    let seen = seen.split_once(OFF).map_or(seen, |(seen, _)| seen);
    judge(&outcome, seen)
}

/// The attacker is on the screen, and then the victim, once it is over.
fn behind_shown(deed: &str) -> Result<(), Failed> {
    let mut machine = machine("behind", deed, false)?;
    machine.wait_for(OFF, 1);
    machine.send(b"\x072")?;
    machine.wait_for("latency: ok", 1);
    let outcome = machine.stop();
    let Some((before, seen)) = outcome.text.split_once("] screen 2: victim") else {
        return outcome.failed("the victim's screen does not come");
    };
    if before.contains("latency: ") {
        return outcome.failed("the victim is seen on the attacker's screen");
    }
    judge(&outcome, seen)
}

/// Judges what was `seen` of the victim: all of it, and nobody else's.
fn judge(outcome: &Outcome, seen: &str) -> Result<(), Failed> {
    outcome.no_panic()?;
    outcome.says(OFF)?;
    // Where an own line had to go before the end of a victim's line, that end makes a line of its own.
    let mut lines = seen.lines().skip(1).filter(|line| !line.starts_with("[mz ") && !line.is_empty());
    for wanted in 1..=LINES as u64 {
        let line = lines.next().unwrap_or_default();
        if number(line, "latency: line ", " of ") != Some(wanted) || !line.ends_with(" us") {
            return outcome.failed(&format!("line {wanted} of the victim's is {line:?}"));
        }
    }
    let verdict = lines.next().unwrap_or_default();
    if number(verdict, "over the limit ", ",") != Some(0) {
        return outcome.failed(&format!("too late: {verdict:?}"));
    }
    match lines.next() {
        Some("latency: ok") => Ok(()),
        line => outcome.failed(&format!("the victim's last line is {line:?}")),
    }
}
