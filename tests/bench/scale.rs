//! What CPUs and VMs cost each other, and that more of them cost no more.
//!
//! Two guests measure: `bench-pair` with two vCPUs on a CPU each, `bench-share` with everybody on one CPU. Each runs
//! beside 1, 15 and 63 VMs more, and as one of 2, 16 and 64 vCPUs of its VM; the rest sleep, or keep the one CPU busy.

use std::fmt::Write as _;

use crate::bundle;
use crate::counts::{Counts, Histogram, Summary};
use crate::figure::Bound;
use crate::qemu::{Outcome, Run, target, text};

/// How a row's figure is taken from what happened between its opening and closing.
#[derive(Clone, Copy)]
enum Take {
    /// The cost of the exits with that reason.
    Exit(&'static str),
    /// The medians of two reasons together.
    Both(&'static str, &'static str),
    /// All instructions at EL2 of that CPU.
    Everything,
}

/// Which guest measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Guest {
    Pair,
    Share,
}

/// One row: what the guests do (tests/guests/src/bin/bench-pair.rs and bench-share.rs have the same numbers).
pub(crate) struct Row {
    guest: Guest,
    pub(crate) number: u32,
    pub(crate) name: &'static str,
    take: Take,
    /// The least number of samples that makes it count.
    samples: u64,
    pub(crate) bound: Option<u64>,
}

const fn row(guest: Guest, number: u32, name: &'static str, take: Take, bound: Option<u64>) -> Row {
    Row { guest, number, name, take, samples: 256, bound }
}

const fn switch(number: u32, name: &'static str, take: Take, bound: u64) -> Row {
    Row { samples: 150, ..row(Guest::Share, number, name, take, Some(bound)) }
}

const SWITCHED: &str = "IRQ, to another vCPU";
const OFF_WOKE: &str = "HVC #0 0x84000002, after EL2 woke";

/// All rows, in the order of the table.
pub(crate) static ROWS: [Row; 11] = {
    use Guest::{Pair, Share};
    [
        row(Pair, 17, "SGI to a vCPU that runs on another CPU: sender", Take::Everything, Some(350)),
        row(Pair, 18, "the same, its receiver, until its handler", Take::Everything, Some(500)),
        row(Pair, 19, "SGI to a blocked vCPU, its CPU idle: sender", Take::Everything, None),
        row(Pair, 20, "the same, its receiver, from EL2's WFI on", Take::Exit("WFI, after EL2 woke"), None),
        row(Share, 25, "SGI to a blocked vCPU of the same CPU, until its handler", Take::Everything, None),
        row(Pair, 21, "CPU_ON: caller", Take::Everything, None),
        row(Pair, 22, "CPU_ON: new vCPU, until its first instruction", Take::Exit(OFF_WOKE), None),
        row(Pair, 23, "block and wake by timer, alone, until the handler", Take::Everything, Some(1200)),
        row(Share, 26, "block and wake by timer while others run", Take::Everything, None),
        switch(27, "vCPU switch at a slice's end", Take::Exit(SWITCHED), 900),
        switch(28, "the same, all use FP in each slice, with its trap", Take::Both(SWITCHED, "FP"), 1100),
    ]
};

/// How much of what there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Setting {
    pub(crate) label: &'static str,
    vms: usize,
    vcpus: usize,
}

/// The usual one first.
pub(crate) const SETTINGS: [Setting; 5] = [
    Setting { label: "2 VMs, 2 vCPUs", vms: 2, vcpus: 2 },
    Setting { label: "16 VMs", vms: 16, vcpus: 2 },
    Setting { label: "64 VMs", vms: 64, vcpus: 2 },
    Setting { label: "16 vCPUs", vms: 2, vcpus: 16 },
    Setting { label: "64 vCPUs", vms: 2, vcpus: 64 },
];

/// A row with its figure in one setting.
pub(crate) struct Figure {
    pub(crate) row: &'static Row,
    pub(crate) summary: Summary,
}

/// All rows in one setting.
pub(crate) struct Scaled {
    pub(crate) setting: &'static Setting,
    pub(crate) figures: Vec<Figure>,
    /// Of both guests.
    pub(crate) counts: [Counts; 2],
}

impl Scaled {
    /// The figures that have a bound.
    pub(crate) fn bounds(&self) -> impl Iterator<Item = Bound> {
        self.figures.iter().filter_map(|figure| {
            let name = format!("{}: {}", self.setting.label, figure.row.name);
            Some(Bound::new(&name, figure.summary.median as f64, figure.row.bound? as f64))
        })
    }

    /// A row's figure.
    pub(crate) fn of(&self, row: &Row) -> Option<Summary> {
        self.figures.iter().find(|figure| std::ptr::eq(figure.row, row)).map(|figure| figure.summary)
    }
}

impl Guest {
    fn name(self) -> &'static str {
        match self {
            Self::Pair => "bench-pair",
            Self::Share => "bench-share",
        }
    }

    fn cpus(self) -> usize {
        if self == Self::Pair { 2 } else { 1 }
    }
}

/// One VM that measures, and others with one vCPU each.
fn configuration(guest: Guest, setting: &Setting) -> String {
    let kernel = target().join(format!("guests/micro/{}.img", guest.name()));
    let vm = |name: &str| format!("[vm.{name}]\nkernel = {:?}\nmemory = \"8M\"\n", text(&kernel));
    let mut toml = vm("bench") + &format!("vcpus = {}\n", setting.vcpus);
    if guest == Guest::Pair {
        let anywhere = vec!["\"all\""; setting.vcpus.saturating_sub(2)];
        let affinity = [&["\"0\"", "\"1\""][..], &anywhere].concat();
        let _ = writeln!(toml, "affinity = [{}]", affinity.join(", "));
    }
    for n in 1..setting.vms {
        toml += &vm(&format!("other{n}"));
        toml += "cmdline = \"other strict\"\n";
    }
    toml
}

/// As one of the runs of [`run`] in the usual setting, with the last exit of a row traced: counts and transcript;
/// `None` if the row is none of these.
pub(crate) fn traced(cpu: &str, number: u32) -> Option<Result<(Counts, String), String>> {
    let row = ROWS.iter().find(|row| row.number == number)?;
    Some(measure(cpu, row.guest, SETTINGS.first()?, number))
}

fn measure(cpu: &str, guest: Guest, setting: &Setting, traced_row: u32) -> Result<(Counts, String), String> {
    let name = format!("{}-{}-{}", guest.name(), setting.vms, setting.vcpus);
    let bundle = bundle::pack_toml(&name, &configuration(guest, setting))?;
    let run = Run {
        memory: "1G",
        cpus: guest.cpus(),
        // Slices are milliseconds: of sixteen times fewer instructions.
        shift: if guest == Guest::Share { 4 } else { 0 },
        traced_row,
        ..Run::mezzanine(&name, cpu, &bundle)
    };
    let Outcome { counts, transcript } = run.run()?;
    let ok = format!("{}: ok", guest.name());
    let off = transcript.lines().filter(|line| line.ends_with(": powered off")).count();
    if !transcript.contains(&ok) || transcript.contains(": FAIL") || off != setting.vms {
        let said = transcript.lines().filter(|line| line.contains(": FAIL")).collect::<Vec<_>>().join("\n");
        return Err(format!("{name}: {off} of {} guests powered off; {said}", setting.vms));
    }
    if counts.overflow {
        return Err(format!("{name}: the plugin's table of reasons was too small"));
    }
    Ok((counts, transcript))
}

fn exactly(counts: &Counts, row: u32, reason: &str) -> Histogram {
    let found = counts.exits.iter().find(|e| e.row == row && e.reason == reason);
    found.map(|e| e.cost.clone()).unwrap_or_default()
}

/// A row's figure, of as many samples as the rarer of its parts has.
fn take(counts: &Counts, row: &Row) -> Option<Summary> {
    match row.take {
        Take::Exit(reason) => exactly(counts, row.number, reason).summary(),
        Take::Everything => counts.rows.iter().find(|r| r.row == row.number)?.cost.summary(),
        Take::Both(one, two) => {
            let part = |reason| exactly(counts, row.number, reason).summary();
            let (a, b) = (part(one)?, part(two)?);
            Some(a.and(&b))
        }
    }
}

/// Runs both guests in one setting.
///
/// # Errors
/// A run fails, or a row has too few samples.
pub(crate) fn run(cpu: &str, setting: &'static Setting) -> Result<Scaled, String> {
    let of = |guest| Ok::<_, String>(measure(cpu, guest, setting, 0)?.0);
    let counts = [of(Guest::Pair)?, of(Guest::Share)?];
    let figure = |row: &'static Row| {
        let summary = take(&counts[row.guest as usize], row).filter(|s| s.n >= row.samples);
        let why = || format!("{}: {}: fewer than {} samples", setting.label, row.name, row.samples);
        Ok::<_, String>(Figure { row, summary: summary.ok_or_else(why)? })
    };
    let figures = ROWS.iter().map(figure).collect::<Result<_, _>>()?;
    Ok(Scaled { setting, figures, counts })
}
