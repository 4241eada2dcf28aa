//! Micro guests under Mezzanine, each with the settings that matter to it.

use crate::backends::{BACKENDS, Backend};
use crate::run::{self, Outcome};
use crate::setup;
use libtest_mimic::{Failed, Trial};

/// The CPU models: one that Debian's kernels know best, a later one, one with VHE and 16-bit VMIDs, and one with
/// every feature that there is.
pub(crate) const CPUS: [&str; 4] = ["cortex-a57", "cortex-a72", "neoverse-n1", "max"];

/// A guest and what it runs with.
pub(crate) struct Setting {
    pub(crate) guest: &'static str,
    pub(crate) cpu: &'static str,
    pub(crate) vcpus: u32,
    pub(crate) memory: &'static str,
    /// The guest's interrupt controller, and what serves it.
    pub(crate) backend: &'static Backend,
    /// More for `mezz run`.
    pub(crate) more: &'static [&'static str],
    /// What its name adds to the guest's, beside the backend.
    pub(crate) label: &'static str,
    pub(crate) judge: fn(&Outcome) -> Result<(), Failed>,
}

pub(crate) const PLAIN: Setting = Setting {
    guest: "hello",
    cpu: CPUS[0],
    vcpus: 1,
    memory: "64M",
    backend: &BACKENDS[0],
    more: &[],
    label: "",
    judge: |_| Ok(()),
};

/// All that need nothing special; those for the interrupt controller are in gic.rs.
const GUESTS: [&str; 15] = [
    "hello",
    "registers",
    "fp",
    "trng",
    "hypercalls",
    "idregs",
    "sysregs",
    "setway",
    "debug",
    "faults",
    "accesses",
    "undefined",
    "el0",
    "aarch32",
    "pvtime",
];

/// Those whose outcome depends on what the CPU has.
const BY_CPU: [&str; 11] = [
    "registers",
    "fp",
    "idregs",
    "sysregs",
    "setway",
    "debug",
    "faults",
    "accesses",
    "undefined",
    "el0",
    "aarch32",
];

pub(crate) fn trials() -> Vec<Trial> {
    let mut settings: Vec<Setting> = GUESTS.iter().map(|guest| Setting { guest, ..PLAIN }).collect();
    for cpu in &CPUS[1..] {
        let guests: &[&str] = if setup::long() { &GUESTS } else { &BY_CPU };
        settings.extend(guests.iter().map(|guest| Setting { guest, cpu, label: cpu, ..PLAIN }));
    }
    settings.extend([
        Setting { guest: "tree", more: &["--cmdline", "one two=\"3 4\""], judge: bootargs, ..PLAIN },
        Setting { guest: "uart", judge: flood, ..PLAIN },
        Setting { guest: "rtc", label: "time of day", judge: time_of_day, ..PLAIN },
        Setting { guest: "memory", ..PLAIN },
        Setting { guest: "memory", memory: "1G", label: "1 GiB", more: &["--ram", "2G"], ..PLAIN },
        Setting { guest: "memory", memory: "51M", label: "an odd size", ..PLAIN },
        Setting { guest: "registers", memory: "1G", label: "1 GiB", more: &["--ram", "2G"], ..PLAIN },
        Setting { guest: "fp", vcpus: 2, label: "two vCPUs on one CPU", ..PLAIN },
        Setting { guest: "fp", vcpus: 2, label: "two vCPUs on two CPUs", more: &["--cpus", "2"], ..PLAIN },
        Setting { guest: "tree", vcpus: 4, label: "four vCPUs", ..PLAIN },
        Setting { guest: "pvtime", vcpus: 3, label: "three vCPUs on one CPU", judge: stolen, ..PLAIN },
        Setting { guest: "hello", label: "one of four CPUs", more: &["--cpus", "4"], ..PLAIN },
        Setting { guest: "hello", label: "as a module", more: &["--modules"], ..PLAIN },
    ]);
    let mut trials: Vec<Trial> = settings.into_iter().map(trial).collect();
    trials.push(setup::trial("guest::echo".into(), echo));
    trials.push(setup::trial("guest::reset".into(), reset));
    for (backend, more) in
        [(&BACKENDS[0], &[] as &[_]), (&BACKENDS[2], &[]), (&BACKENDS[3], &["--cpus", "2"])]
    {
        let name = format!("guest::power (somebody presses the key, {})", backend.label);
        trials.push(setup::trial(name, move || power(backend, more)));
    }
    trials.push(setup::trial("guest::mute is asked for".into(), mute));
    trials.push(setup::trial("guest::two take turns at the console".into(), two));
    for guest in ["doom", "lost"] {
        trials.push(setup::trial(format!("guest::{guest} is stopped with a report"), move || stopped(guest)));
    }
    trials
}

pub(crate) fn trial(setting: Setting) -> Trial {
    let mut name = format!("guest::{}", setting.guest);
    // The usual backend goes without saying.
    let backend = if setting.backend == PLAIN.backend { "" } else { setting.backend.label };
    let labels: Vec<&str> = [backend, setting.label].into_iter().filter(|label| !label.is_empty()).collect();
    if !labels.is_empty() {
        name.push_str(&format!(" ({})", labels.join(", ")));
    }
    setup::trial(name, move || {
        let outcome = start(&setting)?.finish();
        good(&outcome, setting.guest)?;
        (setting.judge)(&outcome)
    })
}

fn start(setting: &Setting) -> Result<run::Machine, Failed> {
    let kernel = setup::guest(setting.guest)?;
    let timeout = run::limit().as_secs().saturating_sub(10).to_string();
    let vcpus = setting.vcpus.to_string();
    let kernel = kernel.to_string_lossy();
    let mut line = vec!["--kernel", &kernel, "--name", "alpha", "--memory", setting.memory];
    line.extend(["--vcpus", &vcpus, "--cpu", setting.cpu, "--timeout", &timeout]);
    line.extend(setting.backend.arguments());
    line.extend(setting.more);
    run::mezz(&line)
}

/// The guest says ok, nothing failed, Mezzanine says ok, and so does the exit status.
pub(crate) fn good(outcome: &Outcome, guest: &str) -> Result<(), Failed> {
    outcome.no_panic()?;
    if let Some(line) = outcome.line(&format!("{guest}: FAIL")) {
        return outcome.failed(&format!("the guest says {line:?}"));
    }
    let ok = format!("{guest}: ok");
    if !outcome.text.lines().any(|line| line == ok) {
        return outcome.failed(&format!("no line {ok:?}"));
    }
    outcome.says("] halt: ok")?;
    if outcome.status != Some(0) {
        return outcome.failed("it did not end with status 0");
    }
    Ok(())
}

/// The first vCPU spins while the others start and end: on one CPU that takes time from it.
fn stolen(outcome: &Outcome) -> Result<(), Failed> {
    match outcome.line(" ns stolen, 3 vCPU(s)") {
        Some(line) if !line.starts_with("pvtime: 0 ns") => Ok(()),
        line => outcome.failed(&format!("no time was stolen: {line:?}")),
    }
}

fn bootargs(outcome: &Outcome) -> Result<(), Failed> {
    outcome.says("bootargs \"one two=\"3 4\"\"")
}

fn fnv(bytes: impl IntoIterator<Item = u8>) -> u64 {
    bytes
        .into_iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

/// Every byte of the guest's 100 KiB came through, in order.
fn flood(outcome: &Outcome) -> Result<(), Failed> {
    let lines: Vec<&str> = outcome.text.lines().filter_map(|line| line.strip_prefix("flood:")).collect();
    if lines.len() != 1600 {
        return outcome.failed(&format!("{} lines of 1600", lines.len()));
    }
    let hash = fnv(lines.iter().flat_map(|line| line.bytes()));
    outcome.says(&format!("flood hash {hash:016x}"))
}

/// The guest's clock is the host's, to a day: machines in tests may be slow, not out of date.
fn time_of_day(outcome: &Outcome) -> Result<(), Failed> {
    let line = outcome.line("rtc: seconds ").unwrap_or_default();
    let guest: u64 = line.rsplit(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0);
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let host = since.map_or(0, |since| since.as_secs());
    if guest.abs_diff(host) > 86_400 {
        return outcome.failed(&format!("the guest's clock says {guest}, the host's {host}"));
    }
    Ok(())
}

/// 20,000 bytes typed as fast as the pipe takes them all arrive, while the guest waits in WFI.
fn echo() -> Result<(), Failed> {
    let mut machine = start(&Setting { guest: "echo", ..PLAIN })?;
    if !machine.wait_for("echo: ready", 1) {
        return machine.stop().failed("it does not get ready");
    }
    // Printable: Ctrl-A is the tool's own.
    let text: Vec<u8> =
        (0..20_000u32).map(|n| b' ' + (n.wrapping_mul(2_654_435_761) >> 24) as u8 % 95).collect();
    machine.send(format!("{}\n", text.len()).as_bytes())?;
    for piece in text.chunks(3000) {
        machine.send(piece)?;
    }
    let outcome = machine.finish();
    good(&outcome, "echo")?;
    outcome.says(&format!("echo: {} bytes hash {:016x}", text.len(), fnv(text.iter().copied())))
}

/// Ctrl-G s is a pulse on the power key's line, of which the guest sees both edges.
fn power(backend: &'static Backend, more: &'static [&'static str]) -> Result<(), Failed> {
    let mut line = vec!["--cmdline", "press"];
    line.extend(more);
    let more = line.leak();
    let mut machine = start(&Setting { guest: "power", backend, more, ..PLAIN })?;
    if !machine.wait_for("power: press", 1) {
        return machine.stop().failed("it does not get ready");
    }
    machine.send(b"\x07s")?;
    let outcome = machine.finish();
    good(&outcome, "power")?;
    outcome.says("vm alpha: power key pressed, to shut it down")
}

/// SYSTEM_RESET starts the VM again with its memory as at first, or ends the run as a reset; nothing else.
fn reset() -> Result<(), Failed> {
    let mut machine = start(&Setting { guest: "reset", ..PLAIN })?;
    if !machine.wait_for("reset: alive", 1) {
        return machine.stop().failed("it does not start");
    }
    machine.send(b"r")?;
    if machine.wait_for("reset: alive", 2) {
        machine.send(b"q")?;
        return good(&machine.finish(), "reset");
    }
    let outcome = machine.finish();
    outcome.no_panic()?;
    outcome.says("reset: going down")?;
    outcome.says("] halt: ")
}

/// A guest that spins without a word for ten seconds of its time is told of, with where it is.
fn mute() -> Result<(), Failed> {
    let machine = start(&Setting { guest: "mute", ..PLAIN })?;
    let told = machine.wait_for("nothing on its console", 1);
    let outcome = machine.stop();
    outcome.no_panic()?;
    if !told {
        return outcome.failed("nobody says that the guest is silent");
    }
    outcome.says("vm alpha: nothing on its console for 10 s; vCPU 0 at pc 0x")
}

/// Two VMs: when the one that is shown ends, the other's screen comes by itself, takes what is typed, and
/// its end is told too.
fn two() -> Result<(), Failed> {
    let (first, second) = (setup::guest("rtc")?, setup::guest("echo")?);
    let toml = format!(
        "[vm.first]\nkernel = {:?}\nmemory = \"32M\"\n[vm.second]\nkernel = {:?}\nmemory = \"32M\"\n",
        first, second
    );
    let file = run::Scratch::new("two.toml", toml.as_bytes())?;
    let timeout = run::limit().as_secs().saturating_sub(10).to_string();
    let mut machine = run::mezz(&[&file.text(), "--timeout", &timeout])?;
    if !machine.wait_for("vm first: powered off", 1) || !machine.wait_for("echo: ready", 1) {
        return machine.stop().failed("the second's screen does not come when the first has ended");
    }
    machine.send(b"3\nabc")?;
    let outcome = machine.finish();
    good(&outcome, "rtc")?;
    good(&outcome, "echo")?;
    outcome.says("vm second: powered off")
}

/// A guest that can only fault is stopped, and the report says which, where and why.
fn stopped(guest: &'static str) -> Result<(), Failed> {
    let outcome = start(&Setting { guest, ..PLAIN })?.finish();
    outcome.no_panic()?;
    outcome.says("] halt: failed")?;
    if outcome.status != Some(1) {
        return outcome.failed("it did not end with status 1");
    }
    let report: Vec<String> =
        outcome.text.lines().filter(|line| line.starts_with("[mz ")).map(str::to_lowercase).collect();
    let report = report.join("\n");
    for word in ["alpha", "vcpu 0", "pc 0x", "0xb000"] {
        if !report.contains(word) {
            return outcome.failed(&format!("the report does not name {word:?}"));
        }
    }
    Ok(())
}
