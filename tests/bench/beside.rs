//! Beside a guest that does harm: how late another one's timer is, in virtual time, and whether its output is complete.
//!
//! On one CPU, with equal weights: `latency` as the victim, with a timer of 2 ms, and `hostile` with four vCPUs and one
//! of its modes. The trials (tests/qemu/contain.rs) judge the same guests; here are the figures.

use crate::bundle;
use crate::counts::Counts;
use crate::figure::Bound;
use crate::qemu::{Outcome, Run, target, text};

/// Lines that the victim prints, one for each timer.
const LINES: u64 = 100;
/// What is promised: within a slice, in microseconds.
const SLICE: u64 = 10_000;

/// What the victim noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Noticed {
    /// Microseconds.
    pub(crate) max: u64,
    pub(crate) mean: u64,
    /// Lines that arrived, each once and in order.
    pub(crate) lines: u64,
}

/// What came of one mode.
pub(crate) struct Beside {
    pub(crate) deed: &'static str,
    pub(crate) noticed: Noticed,
    pub(crate) counts: Counts,
}

impl Beside {
    /// Both that the victim's timer is not late and that its output is complete.
    pub(crate) fn bounds(&self) -> [Bound; 2] {
        let deed = self.deed;
        [
            Bound::new(&format!("beside {deed}: latest timer, us"), self.noticed.max as f64, SLICE as f64),
            Bound::new(
                &format!("beside {deed}: lines of output missing"),
                LINES.saturating_sub(self.noticed.lines) as f64,
                0.0,
            ),
        ]
    }
}

fn number(line: &str, before: &str, after: &str) -> Option<u64> {
    let (_, rest) = line.split_once(before)?;
    rest.split_once(after)?.0.trim().parse().ok()
}

/// What the victim wrote, without the hypervisor's own lines, which may come in the middle of one: without any line ends.
fn written(transcript: &str) -> String {
    transcript.lines().filter(|line| !line.starts_with("[mz ")).collect()
}

/// What the victim's lines say; `None` without its last one.
pub(crate) fn noticed(transcript: &str) -> Option<Noticed> {
    let written = written(transcript);
    let (_, last) = written.split_once(" timers, late max")?;
    let mut lines = 0;
    for line in written.split("latency: line ").skip(1) {
        let n = line.split_once(" of ").and_then(|(n, _)| n.parse::<u64>().ok());
        lines += u64::from(n == Some(lines + 1));
    }
    Some(Noticed { max: number(last, " ", " us")?, mean: number(last, "mean ", " us")?, lines })
}

/// Runs both.
///
/// # Errors
/// The run fails, or the victim does not come to its end.
pub(crate) fn run(cpu: &str, deed: &'static str) -> Result<Beside, String> {
    let vm = |name: &str, guest: &str, more: &str| {
        let kernel = target().join(format!("guests/micro/{guest}.img"));
        format!("[vm.{name}]\nkernel = {:?}\nmemory = \"16M\"\n{more}\n", text(&kernel))
    };
    let victim = format!("cmdline = \"lines={LINES} period=2000 limit={SLICE}\"");
    // It harms for longer than the victim lives.
    let attacker = format!("cmdline = \"{deed} ms=2000\"\nvcpus = 4");
    let name = format!("beside-{deed}");
    let toml = vm("victim", "latency", &victim) + &vm("attacker", "hostile", &attacker);
    let bundle = bundle::pack_toml(&name, &toml)?;
    let until = Some("vm victim: powered off");
    let run = Run { shift: 4, until, ..Run::mezzanine(&name, cpu, &bundle) };
    let Outcome { counts, transcript } = run.run()?;
    let noticed = noticed(&transcript).ok_or_else(|| format!("{name}: the victim does not end"))?;
    Ok(Beside { deed, noticed, counts })
}
