//! Who gets how much of a CPU, and when, beside whom: judged in virtual time.
//!
//! With `-icount` a guest's time is counted in instructions, so that the figures are the same on every host. Guests
//! measure themselves (`spin`); what is judged is what they print, and the exits that Mezzanine counts.

use crate::run::{self, Machine, Outcome, Scratch};
use crate::setup;
use libtest_mimic::{Failed, Trial};

/// 8 ns an instruction: a CPU of 125 MHz, so that seconds of virtual time are over soon.
pub(crate) const ICOUNT: [&str; 4] = ["--qemu-arg", "-icount", "--qemu-arg", "shift=3,sleep=off"];

/// What is promised: nobody waits longer than this for each runnable vCPU of its CPU, in us.
pub(crate) const SLICE: u64 = 10_000;

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = vec![
        setup::trial("sched::weights 256 and 512".into(), weights),
        setup::trial("sched::the same weights, three of them".into(), equal),
        setup::trial("sched::a cap of 25 percent".into(), cap),
        setup::trial("sched::a cap of 25 percent beside another".into(), cap_beside),
        setup::trial("sched::a dedicated vCPU that naps".into(), dedicated_naps),
        setup::trial("sched::a dedicated vCPU that sleeps".into(), dedicated_sleeps),
        setup::trial("sched::a dedicated vCPU that spins".into(), dedicated_spins),
    ];
    for count in [2, 4, 8] {
        let name = format!("sched::waits of {count} vCPUs of all weights");
        trials.push(setup::trial(name, move || waits(count)));
    }
    trials
}

/// A VM of a configuration.
pub(crate) fn vm(name: &str, guest: &str, cmdline: &str, more: &str) -> Result<String, Failed> {
    let kernel = setup::guest(guest)?;
    Ok(format!("[vm.{name}]\nkernel = {kernel:?}\nmemory = \"16M\"\ncmdline = \"{cmdline}\"\n{more}\n"))
}

pub(crate) fn start(what: &str, toml: &str, arguments: &[&str]) -> Result<Machine, Failed> {
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
pub(crate) fn number(line: &str, before: &str, after: &str) -> Option<u64> {
    let rest = line.split_once(before)?.1;
    rest.split_once(after)?.0.trim().parse().ok()
}

fn spun(outcome: &Outcome, tag: &str) -> Result<Spun, Failed> {
    let start = format!("spin {tag}: vcpu 0 at ");
    // Where another VM's end is told in the middle of a line, the line goes on behind it.
    let said: String = outcome.text.lines().filter(|line| !line.starts_with("[mz ")).collect();
    let line = said.rfind(&start).and_then(|at| said.get(at..)).unwrap_or_default();
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

/// So long that a turn more or less is far below the two percent, and so is a cap's period.
const SPIN: &str = "ms=6000 every=100000";

/// Weights of those that wait for each other: the lightest come late and little, the heaviest often and long.
const WEIGHTS: [u32; 8] = [256, 512, 1, 65535, 100, 2000, 1024, 16];

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

/// The other gets what the cap leaves.
fn cap_beside() -> Result<(), Failed> {
    let toml = vm("capped", "spin", &format!("{SPIN} tag=capped"), "cap = 25\nweight = 1024")?
        + &vm("free", "spin", &format!("{SPIN} tag=free"), "")?;
    let outcome = finish("cap-beside", &toml)?;
    within(&outcome, "hundredths of a percent, capped", spun(&outcome, "capped")?.ran(), 2500)?;
    within(&outcome, "hundredths of a percent, the other", spun(&outcome, "free")?.ran(), 7500)
}

/// Nobody waits longer than a slice for each of them, whatever the weights.
fn waits(count: usize) -> Result<(), Failed> {
    let weights = WEIGHTS.iter().take(count).enumerate();
    let vms: Result<Vec<_>, _> = weights
        .map(|(n, weight)| {
            vm(
                &format!("v{n}"),
                "spin",
                &format!("ms=2000 every=100000 tag=v{n}"),
                &format!("weight = {weight}"),
            )
        })
        .collect();
    let outcome = finish(&format!("waits-{count}"), &vms?.concat())?;
    for n in 0..count {
        let tag = format!("v{n}");
        waits_at_most(&outcome, &tag, &spun(&outcome, &tag)?, count as u64)?;
    }
    Ok(())
}

/// Exits of a VM by reason, from the table that `trace-exits` prints.
struct Exits<'a>(Vec<(&'a str, u64)>);

impl<'a> Exits<'a> {
    fn of(outcome: &'a Outcome, vm: &str) -> Result<Self, Failed> {
        let head = format!("vm {vm}: ");
        let mut lines = outcome.text.lines().map(|line| line.split_once("] ").map_or(line, |(_, text)| text));
        if !lines.any(|line| line.strip_prefix(&head).is_some_and(|rest| rest.ends_with(" exits"))) {
            return outcome.failed(&format!("no exits of {vm}"));
        }
        let row = |line: &'a str| {
            let (count, reason) = line.trim_start().split_once(' ')?;
            Some((reason, count.parse().ok()?))
        };
        Ok(Self(lines.map_while(row).collect()))
    }

    fn of_reason(&self, reason: &str) -> u64 {
        self.0.iter().find(|row| row.0 == reason).map_or(0, |row| row.1)
    }

    /// All but those of its output: how often it has to look for room there is no matter.
    fn others(&self) -> u64 {
        self.0.iter().filter(|row| row.0 != "pl011").map(|row| row.1).sum()
    }
}

/// A dedicated VM's run beside another that keeps the other CPU busy.
fn dedicated(guest: &str, cmdline: &str) -> Result<Outcome, Failed> {
    let toml =
        vm("quiet", guest, cmdline, "dedicated = true")? + &vm("busy", "spin", "ms=1500 every=100000", "")?;
    let mut arguments = vec!["--cpus", "2", "--trace-exits"];
    arguments.extend(ICOUNT);
    let outcome = start("dedicated", &toml, &arguments)?.finish();
    outcome.no_panic()?;
    outcome.says(&format!("{guest}: ok"))?;
    outcome.says("] halt: ok")?;
    let exits = Exits::of(&outcome, "quiet")?;
    match (exits.of_reason("pl011"), exits.of_reason("WFI")) {
        (0, _) => outcome.failed("its exits are not counted, not even those of its output"),
        (_, 0) => Ok(outcome),
        (_, waits) => outcome.failed(&format!("{waits} exits for WFI")),
    }
}

/// Thirty naps more cost thirty interrupts, those of the timer that ends them, and nothing else.
fn dedicated_naps() -> Result<(), Failed> {
    let few = dedicated("dedicated", "naps=10 period=20")?;
    let many = dedicated("dedicated", "naps=40 period=20")?;
    let (few, more) = (Exits::of(&few, "quiet")?.others(), Exits::of(&many, "quiet")?.others());
    if more <= few + 30 {
        return Ok(());
    }
    many.failed(&format!("{few} exits with 10 naps, {more} with 40"))
}

/// Sleep costs nothing, however long it is: no exit, and no tick of the hypervisor's.
fn dedicated_sleeps() -> Result<(), Failed> {
    let short = dedicated("dedicated", "naps=02 period=0020")?;
    let long = dedicated("dedicated", "naps=02 period=0700")?;
    let (before, after) = (Exits::of(&short, "quiet")?.others(), Exits::of(&long, "quiet")?.others());
    if before == after {
        return Ok(());
    }
    long.failed(&format!("{before} exits in two naps of 20 ms, {after} in two of 700 ms"))
}

/// Nothing interrupts it, however long it runs, and nobody has its CPU meanwhile.
///
/// Not judged by the gaps that it sees: with `-icount`, QEMU runs its CPUs in turns.
fn dedicated_spins() -> Result<(), Failed> {
    let short = dedicated("spin", "ms=0300 every=100000")?;
    let long = dedicated("spin", "ms=1200 every=100000")?;
    let (few, many) =
        (Exits::of(&short, "quiet")?.of_reason("IRQ"), Exits::of(&long, "quiet")?.of_reason("IRQ"));
    if many > few {
        return long.failed(&format!("{few} interrupts in 300 ms, {many} in 1200 ms"));
    }
    let stolen = |outcome: &Outcome| outcome.text.lines().find_map(|line| number(line, " stolen ", " us"));
    match (stolen(&short), stolen(&long)) {
        (Some(before), Some(after)) if after == before => Ok(()),
        (before, after) => long.failed(&format!("stolen in 300 ms: {before:?} us, in 1200 ms: {after:?} us")),
    }
}
