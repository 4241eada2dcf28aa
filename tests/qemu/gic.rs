//! The interrupt controller's rules, guest by guest, on each controller and each backend.

use crate::backends::Backend;
use crate::guest::{CPUS, PLAIN, Setting, trial};
use crate::run::{self, Outcome};
use crate::setup;
use libtest_mimic::{Failed, Trial};

/// Guests for one vCPU: one for each group of rules, and those whose interrupts are devices'.
const RULES: [&str; 16] = [
    "gic",
    "gic-active",
    "gic-crowd",
    "gic-eoimode",
    "gic-groups",
    "gic-level",
    "gic-priority",
    "gic-registers",
    "gic-sgi",
    "gicfuzz",
    "idle",
    "lostwake",
    "power",
    "psci",
    "rtc",
    "timer",
];

/// Guests for several vCPUs, and how many.
const SEVERAL: [(&str, u32); 8] = [
    ("gic-registers", 2),
    ("gic-route", 2),
    ("gic-sgi", 2),
    ("gic-sgi", 4),
    ("gic-switch", 2),
    ("gic-switch", 4),
    ("gicfuzz", 2),
    ("smp", 2),
];

/// The same with a CPU for each vCPU.
const SPREAD: [(&str, u32); 4] = [("gic-route", 2), ("gic-sgi", 2), ("gic-switch", 2), ("smp", 2)];

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials: Vec<Trial> = Backend::ready().flat_map(on).collect();
    if setup::long() {
        let usual = |cpu| RULES.into_iter().map(move |guest| Setting { guest, cpu, label: cpu, ..PLAIN });
        trials.extend(CPUS[1..].iter().flat_map(|cpu| usual(cpu)).map(trial));
        trials.extend([2, 3].into_iter().flat_map(natively));
    }
    trials
}

fn on(backend: &'static Backend) -> Vec<Trial> {
    let one = |guest| Setting { guest, backend, ..PLAIN };
    let mut settings: Vec<Setting> = RULES.into_iter().map(one).collect();
    for (guest, vcpus) in SEVERAL {
        let label = if vcpus == 2 { "two vCPUs on one CPU" } else { "four vCPUs on one CPU" };
        settings.push(Setting { vcpus, label, ..one(guest) });
    }
    for (guest, vcpus) in SPREAD {
        let (label, more): (_, &[&str]) = ("two vCPUs on two CPUs", &["--cpus", "2"]);
        settings.push(Setting { vcpus, label, more, ..one(guest) });
    }
    settings.into_iter().map(trial).collect()
}

/// Without Mezzanine, at EL1: QEMU's own controllers are what the guests are written against.
fn natively(version: u8) -> Vec<Trial> {
    let one = RULES.iter().map(|guest| (*guest, 1));
    one.chain(SEVERAL)
        .map(|(guest, cpus)| {
            let name = format!("gic::{guest} (GICv{version}, {cpus} CPUs, without Mezzanine)");
            setup::trial(name, move || native(guest, version, cpus))
        })
        .collect()
}

fn native(guest: &'static str, version: u8, cpus: u32) -> Result<(), Failed> {
    let kernel = setup::guest(guest)?;
    let machine = format!("virt,gic-version={version}");
    let cpus = cpus.to_string();
    let words = ["-M", &machine, "-cpu", PLAIN.cpu, "-smp", &cpus, "-m", PLAIN.memory, "-kernel"];
    let mut line: Vec<_> = words.map(Into::into).to_vec();
    line.push(kernel.into());
    let outcome: Outcome = run::qemu(line)?.finish();
    if let Some(line) = outcome.line(&format!("{guest}: FAIL")) {
        return outcome.failed(&format!("the guest says {line:?}"));
    }
    outcome.says(&format!("{guest}: ok"))
}
