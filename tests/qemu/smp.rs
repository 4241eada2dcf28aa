//! Guests with several vCPUs, on machines with one CPU and more, and many guests at once.

use crate::backends::{BACKENDS, Backend};
use crate::guest::{PLAIN, Setting, trial};
use crate::run::{self, Outcome, Scratch};
use crate::setup;
use libtest_mimic::{Failed, Trial};
use std::fmt::Write as _;

/// CPUs of the machine: what the settings say to the tool, and how trials call it.
const MACHINES: [(&[&str], &str); 3] =
    [(&["--cpus", "1"], "one CPU"), (&["--cpus", "2"], "two CPUs"), (&["--cpus", "4"], "four CPUs")];

/// As many CPUs as a GICv2 has.
const EIGHT: (&[&str], &str) = (&["--cpus", "8"], "8 vCPUs on 8 CPUs");
/// As many as share a value of Aff1.
const SIXTEEN: (&[&str], &str) = (&["--cpus", "16"], "16 vCPUs on 16 CPUs");

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials: Vec<Trial> = Backend::ready().flat_map(on).chain(special()).map(trial).collect();
    trials.push(setup::trial("smp::two VMs of 8 vCPUs on 8 CPUs".into(), || pinned(8, "rounds=10 strict")));
    trials.push(setup::trial("smp::64 VMs on four CPUs, a little of each".into(), || {
        scale("smpstress", 64, 1, 4)
    }));
    if setup::long() {
        trials.push(setup::trial("smp::two VMs of 16 vCPUs on 16 CPUs, 50 rounds".into(), || {
            pinned(16, "rounds=50 strict")
        }));
        trials.push(setup::trial("smp::64 VMs of two vCPUs on four CPUs".into(), || {
            scale("smpstress", 64, 2, 4)
        }));
        for cpus in [1, 4] {
            let name = format!("smp::300 VMs with 8-bit VMIDs on {cpus} CPUs");
            trials.push(setup::trial(name, move || vmids(300, cpus)));
        }
    }
    trials
}

/// On each backend: the stress with as many vCPUs as CPUs, fewer and more; as many of both as a GICv2 has; bad CPU_ON.
fn on(backend: &'static Backend) -> Vec<Setting> {
    let mut settings = Vec::new();
    for (more, label) in MACHINES {
        let on = |guest, vcpus| Setting { guest, vcpus, backend, more, label, ..PLAIN };
        settings.push(on("smpstress", 4));
        settings.push(on("many", 8));
        settings.push(on("cpuon-bad", 3));
    }
    let (more, label) = EIGHT;
    settings.push(Setting { guest: "smpstress", vcpus: 8, backend, more, label, ..PLAIN });
    settings
}

/// More vCPUs than a GICv2 has, one alone, other CPU models.
fn special() -> Vec<Setting> {
    let on = |guest, vcpus, label, more| Setting { guest, vcpus, label, more, ..PLAIN };
    let mut settings = vec![
        on("smpstress", 1, "one vCPU", MACHINES[0].0),
        on("smpstress", 16, "16 vCPUs on two CPUs", MACHINES[1].0),
        on("many", 64, "64 vCPUs on one CPU", MACHINES[0].0),
        on("cpuon-bad", 1, "one vCPU", MACHINES[0].0),
        Setting { cpu: "max", ..on("smpstress", 4, "max, two CPUs", MACHINES[1].0) },
        on("smpstress", 16, SIXTEEN.1, SIXTEEN.0),
        on("many", 64, "64 vCPUs on 16 CPUs", SIXTEEN.0),
        on("spin", 4, "four vCPUs on two CPUs", MACHINES[1].0),
    ];
    if setup::long() {
        settings.push(on("many", 64, "64 vCPUs on four CPUs", MACHINES[2].0));
        settings.push(on("smpstress", 64, "64 vCPUs on four CPUs", MACHINES[2].0));
        for backend in [&BACKENDS[0], &BACKENDS[3]] {
            let more = &["--cpus", "4", "--cmdline", "rounds=100"];
            settings.push(Setting { backend, ..on("smpstress", 8, "100 rounds, four CPUs", more) });
            let more = &["--cpus", "8", "--cmdline", "rounds=200"];
            settings.push(Setting { backend, ..on("smpstress", 8, "200 rounds, 8 CPUs", more) });
        }
        let more = &["--cpus", "16", "--cmdline", "rounds=100"];
        settings.push(on("smpstress", 16, "100 rounds, 16 CPUs", more));
        settings.push(on("smpstress", 32, "32 vCPUs on 16 CPUs", SIXTEEN.0));
        settings.push(on("smpstress", 64, "64 vCPUs on 64 CPUs", &["--cpus", "64", "--cmdline", "rounds=5"]));
    }
    settings
}

/// Starts guests of this description and waits until all have powered off.
fn all_end(what: &str, guests: &str, vms: usize, arguments: &[&str]) -> Result<Outcome, Failed> {
    let file = Scratch::new(&format!("{what}.toml"), guests.as_bytes())?;
    let timeout = run::limit().as_secs().saturating_sub(10).to_string();
    let text = file.text();
    let mut line = vec![text.as_str(), "--timeout", &timeout];
    line.extend(arguments);
    let outcome = run::mezz(&line)?.finish();
    outcome.no_panic()?;
    if let Some(line) = outcome.line("FAIL") {
        return outcome.failed(&format!("a guest says {line:?}"));
    }
    outcome.says("] halt: ok")?;
    let off = outcome.text.lines().filter(|line| line.ends_with(": powered off")).count();
    if off != vms {
        return outcome.failed(&format!("{off} of {vms} VMs powered off"));
    }
    Ok(outcome)
}

/// `vms` guests under stress at once. Theirs are the screens of which one is seen: who fails, crashes.
fn scale(guest: &'static str, vms: usize, vcpus: u32, cpus: u32) -> Result<(), Failed> {
    let kernel = setup::guest(guest)?;
    let mut toml = String::new();
    for n in 0..vms {
        writeln!(toml, "[vm.v{n}]\nkernel = {kernel:?}\nmemory = \"8M\"\nvcpus = {vcpus}")?;
        writeln!(toml, "cmdline = \"rounds=3 strict\"")?;
    }
    all_end(&format!("scale-{vms}-{vcpus}"), &toml, vms, &["--cpus", &cpus.to_string()]).map(|_| ())
}

/// Two VMs with a vCPU for each CPU. Those of one stay each on its own, so that every CPU has to work; the other's go
/// wherever there is room.
fn pinned(cpus: u32, cmdline: &str) -> Result<(), Failed> {
    let kernel = setup::guest("smpstress")?;
    let each: Vec<String> = (0..cpus).map(|cpu| cpu.to_string()).collect();
    let mut toml = String::new();
    for (name, affinity) in [("pinned", format!("{each:?}")), ("free", "\"all\"".into())] {
        writeln!(toml, "[vm.{name}]\nkernel = {kernel:?}\nmemory = \"32M\"\nvcpus = {cpus}")?;
        writeln!(toml, "affinity = {affinity}\ncmdline = {cmdline:?}")?;
    }
    all_end(&format!("pinned-{cpus}"), &toml, 2, &["--cpus", &cpus.to_string()]).map(|_| ())
}

/// More VMs than 8-bit VMIDs, alive at once, each with memory that it knows again.
fn vmids(vms: usize, cpus: u32) -> Result<(), Failed> {
    let kernel = setup::guest("tiny")?;
    let mut toml = String::new();
    for n in 0..vms {
        writeln!(toml, "[vm.t{n}]\nkernel = {kernel:?}\nmemory = \"4M\"")?;
        writeln!(toml, "cmdline = \"tag={n} naps=6 period=200 strict\"")?;
    }
    let arguments = ["--cpus", &cpus.to_string(), "--cpu", "cortex-a53"];
    all_end(&format!("vmids-{vms}-{cpus}"), &toml, vms, &arguments).map(|_| ())
}
