//! Who gets how much of a CPU, and when, beside whom: judged in virtual time.
//!
//! With `-icount` a guest's time is counted in instructions, so that the figures are the same on every host. Guests
//! measure themselves (`spin`, `latency`); what is judged is what they print.

use crate::run::{self, Machine, Outcome, Scratch};
use crate::setup;
use libtest_mimic::{Failed, Trial};

/// 8 ns an instruction: a CPU of 125 MHz, so that seconds of virtual time are over soon.
const ICOUNT: [&str; 4] = ["--qemu-arg", "-icount", "--qemu-arg", "shift=3,sleep=off"];

/// What is promised: nobody waits longer than this for each runnable vCPU of its CPU, in us.
const SLICE: u64 = 10_000;

/// What hostile.rs knows that others could notice.
const DEEDS: [&str; 12] = [
    "nowhere",
    "faults",
    "console",
    "interrupts",
    "masked",
    "power",
    "setway",
    "wfe",
    "calls",
    "gic",
    "tlb",
    "registers",
];

/// Lines of the one that is watched.
const LINES: usize = 100;

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = vec![
        setup::trial("sched::weights 256 and 512".into(), weights),
        setup::trial("sched::the same weights, three of them".into(), equal),
        setup::trial("sched::a cap of 25 percent".into(), cap),
        setup::trial("sched::a cap of 25 percent beside another".into(), cap_beside),
        setup::trial("sched::a dedicated vCPU that sleeps".into(), dedicated_idle),
        setup::trial("sched::a dedicated vCPU that spins".into(), dedicated_busy),
    ];
    for deed in DEEDS {
        trials.push(setup::trial(format!("sched::beside a guest that does {deed}"), move || beside(deed)));
    }
    trials
}

/// A VM of a configuration.
fn vm(name: &str, guest: &str, cmdline: &str, more: &str) -> Result<String, Failed> {
    let kernel = setup::guest(guest)?;
    Ok(format!("[vm.{name}]\nkernel = {kernel:?}\nmemory = \"16M\"\ncmdline = \"{cmdline}\"\n{more}\n"))
}

fn start(what: &str, toml: &str, arguments: &[&str]) -> Result<Machine, Failed> {
    let file = Scratch::new(&format!("{what}.toml"), toml.as_bytes())?;
    let timeout = run::limit().as_secs().saturating_sub(10).to_string();
    let text = file.text();
    let mut line = vec![text.as_str(), "--timeout", &timeout];
    line.extend(arguments);
    let machine = run::mezz(&line)?;
    // The bundle is made of it by the time that Mezzanine speaks.
    machine.wait_for("] Mezzanine", 1);
    Ok(machine)
}

/// Runs VMs to their ends in virtual time on one CPU.
fn finish(what: &str, toml: &str) -> Result<Outcome, Failed> {
    let outcome = start(what, toml, &ICOUNT)?.finish();
    outcome.no_panic()?;
    if let Some(line) = outcome.line("FAIL") {
        return outcome.failed(&format!("a guest says {line:?}"));
    }
    outcome.says("] halt: ok")?;
    Ok(outcome)
}

/// What `spin` said last of its vCPU 0.
struct Spun {
    ms: u64,
    loops: u64,
    longest: u64,
    sum: u64,
}

/// The number before or after words of a line.
fn number(line: &str, before: &str, after: &str) -> Option<u64> {
    let rest = line.split_once(before)?.1;
    rest.split_once(after)?.0.trim().parse().ok()
}

fn spun(outcome: &Outcome, tag: &str) -> Result<Spun, Failed> {
    let start = format!("spin {tag}: vcpu 0 at ");
    let line = outcome.text.lines().rfind(|line| line.starts_with(&start)).unwrap_or_default();
    let parse = || {
        Some(Spun {
            ms: number(line, " at ", " ms:")?,
            loops: number(line, " ms: ", " loops")?,
            longest: number(line, "longest ", " us")?,
            sum: number(line, "sum ", " us")?,
        })
    };
    parse().map_or_else(|| outcome.failed(&format!("no line {start:?}")), Ok)
}

impl Spun {
    /// The part of the time in which it ran, in hundredths of a percent.
    fn ran(&self) -> u64 {
        let total = self.ms * 1000;
        total.saturating_sub(self.sum) * 10_000 / total.max(1)
    }
}

/// Fails unless `got` is within two percent of `want`.
fn within(outcome: &Outcome, what: &str, got: u64, want: u64) -> Result<(), Failed> {
    if got.abs_diff(want) * 50 <= want {
        return Ok(());
    }
    outcome.failed(&format!("{what}: {got}, not {want} within 2 percent"))
}

fn waits_at_most(outcome: &Outcome, tag: &str, spun: &Spun, runnable: u64) -> Result<(), Failed> {
    if spun.longest <= SLICE * runnable {
        return Ok(());
    }
    outcome.failed(&format!("{tag} waited {} us, more than {runnable} slices", spun.longest))
}

const SPIN: &str = "ms=3000 every=100000";

fn weights() -> Result<(), Failed> {
    let toml = vm("light", "spin", &format!("{SPIN} tag=light"), "weight = 256")?
        + &vm("heavy", "spin", &format!("{SPIN} tag=heavy"), "weight = 512")?;
    let outcome = finish("weights", &toml)?;
    let (light, heavy) = (spun(&outcome, "light")?, spun(&outcome, "heavy")?);
    within(&outcome, "loops of the heavy one", heavy.loops, 2 * light.loops)?;
    waits_at_most(&outcome, "light", &light, 2)?;
    waits_at_most(&outcome, "heavy", &heavy, 2)
}

fn equal() -> Result<(), Failed> {
    let tags = ["a", "b", "c"];
    let vms: Result<Vec<_>, _> =
        tags.map(|tag| vm(tag, "spin", &format!("{SPIN} tag={tag}"), "")).into_iter().collect();
    let outcome = finish("equal", &vms?.concat())?;
    let first = spun(&outcome, tags[0])?;
    for tag in tags {
        let spun = spun(&outcome, tag)?;
        within(&outcome, &format!("loops of {tag}"), spun.loops, first.loops)?;
        waits_at_most(&outcome, tag, &spun, 3)?;
    }
    Ok(())
}

fn cap() -> Result<(), Failed> {
    let outcome = finish("cap", &vm("capped", "spin", &format!("{SPIN} tag=capped"), "cap = 25")?)?;
    within(&outcome, "hundredths of a percent", spun(&outcome, "capped")?.ran(), 2500)
}

/// The other gets what the cap leaves: by what both got done, since where the last gap falls moves a sum of gaps.
fn cap_beside() -> Result<(), Failed> {
    let toml = vm("capped", "spin", &format!("{SPIN} tag=capped"), "cap = 25\nweight = 1024")?
        + &vm("free", "spin", &format!("{SPIN} tag=free"), "")?;
    let outcome = finish("cap-beside", &toml)?;
    let (capped, free) = (spun(&outcome, "capped")?, spun(&outcome, "free")?);
    let part = capped.loops * 10_000 / (capped.loops + free.loops).max(1);
    within(&outcome, "the capped one's part of all loops, in hundredths of a percent", part, 2500)
}

/// Exits of the VM at the top of the table that `trace-exits` prints, in all and for one reason.
fn exits(outcome: &Outcome, vm: &str, reason: &str) -> Result<(u64, u64), Failed> {
    let head = format!("vm {vm}: ");
    let mut lines = outcome.text.lines().map(|line| line.split_once("] ").map_or(line, |(_, text)| text));
    let total = lines
        .find_map(|line| line.strip_prefix(&head)?.strip_suffix(" exits")?.parse().ok())
        .map_or_else(|| outcome.failed(&format!("no exits of {vm}")), Ok)?;
    let rows =
        lines.map_while(|line| line.trim_start().split_once(' ').filter(|(n, _)| n.parse::<u64>().is_ok()));
    let row = rows.filter(|(_, name)| *name == reason).find_map(|(n, _)| n.parse().ok());
    Ok((total, row.unwrap_or(0)))
}

/// A dedicated VM's run beside another that keeps the other CPU busy.
fn dedicated(guest: &str, cmdline: &str) -> Result<Outcome, Failed> {
    let toml =
        vm("quiet", guest, cmdline, "dedicated = true")? + &vm("busy", "spin", "ms=1500 every=100000", "")?;
    let outcome = start("dedicated", &toml, &["--cpus", "2", "--trace-exits"])?.finish();
    outcome.no_panic()?;
    outcome.says(&format!("{guest}: ok"))?;
    outcome.says("] halt: ok")?;
    Ok(outcome)
}

/// Sleeping costs no exit: what thirty naps more cost is their timers' interrupts.
fn dedicated_idle() -> Result<(), Failed> {
    let (few, many) =
        (dedicated("dedicated", "naps=10 period=20")?, dedicated("dedicated", "naps=40 period=20")?);
    for outcome in [&few, &many] {
        let (_, waits) = exits(outcome, "quiet", "WFI")?;
        if waits != 0 {
            return outcome.failed(&format!("{waits} exits for WFI"));
        }
    }
    let ((few, _), (more, _)) = (exits(&few, "quiet", "")?, exits(&many, "quiet", "")?);
    if more > few + 30 { many.failed(&format!("{few} exits with 10 naps, {more} with 40")) } else { Ok(()) }
}

/// Nothing interrupts it, however long it runs.
fn dedicated_busy() -> Result<(), Failed> {
    let (short, long) =
        (dedicated("spin", "ms=0300 every=100000")?, dedicated("spin", "ms=1200 every=100000")?);
    let ((_, few), (_, many)) = (exits(&short, "quiet", "IRQ")?, exits(&long, "quiet", "IRQ")?);
    // The other's beginning and end may ask something of every CPU.
    if many > few + 2 {
        long.failed(&format!("{few} interrupts in 300 ms, {many} in 1200 ms"))
    } else {
        Ok(())
    }
}

/// The timer of one guest stays within a slice, and its output complete, whatever its neighbour does.
///
/// The guest prints a line for each interrupt: the period is such that it takes less than its share of the CPU, which
/// beside four others is a fifth. Who takes more has to wait for the next round.
fn beside(deed: &'static str) -> Result<(), Failed> {
    let lines = format!("lines={LINES} period=5000 limit={SLICE}");
    let toml = vm("victim", "latency", &lines, "")?
        + &vm("attacker", "hostile", &format!("{deed} ms=0"), "vcpus = 4")?;
    let machine = start(&format!("beside-{deed}"), &toml, &ICOUNT)?;
    machine.wait_for("vm victim: powered off", 1);
    let outcome = machine.stop();
    outcome.no_panic()?;
    outcome.says("latency: ok")?;
    outcome.says("vm victim: powered off")?;
    let seen = outcome.text.lines().filter_map(|line| number(line, "latency: line ", " of "));
    if !seen.eq(1..=LINES as u64) {
        return outcome.failed("lines of its output are missing, twice there, or out of order");
    }
    let verdict = outcome.line("late max ").unwrap_or_default();
    if number(verdict, "over the limit ", ",") == Some(0) {
        return Ok(());
    }
    outcome.failed(&format!("too late: {verdict:?}"))
}
