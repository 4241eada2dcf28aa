//! Guests of several CPUs, and several guests at a time: hotplug, stolen time, and who sees what on the terminal.
//!
//! What is typed is awaited at the prompt, and what is computed in it (`$((1+1))`) tells an answer from its echo. No
//! verdict depends on speed: what is compared with a time is what Mezzanine says that it took from the guest.

use std::fmt::Write as _;
use std::fs;

use libtest_mimic::{Failed, Trial};

use crate::judge;
use crate::run::{PATIENCE, Run, artifact, target_dir};
use crate::session;

/// GIC of the machine and the guest, and CPUs of the machine.
const MACHINES: [(&str, &str); 4] = [("3", "4"), ("3", "1"), ("2", "4"), ("2", "1")];

/// What a shell's prompt ends with, wherever it is.
const PROMPT: &str = "# ";

/// MD5 of `seq 1 20000`.
const SEQ_MD5: &str = "e071f707df7bbeee2a6a1eb48011ddd0";

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials: Vec<Trial> = MACHINES
        .iter()
        .map(|(gic, cpus)| {
            Trial::test(format!("smp::hotplug, GICv{gic}, {cpus} CPU(s)"), || hotplug(gic, cpus))
        })
        .collect();
    trials.push(Trial::test("smp::stolen time", stolen));
    trials.push(Trial::test("smp::two guests and their screens", screens));
    trials
}

/// A configuration of guests with this many vCPUs each; `words` go on each command line.
pub(crate) fn config(
    name: &str,
    guests: &[&str],
    vcpus: u32,
    memory: &str,
    words: &str,
) -> Result<std::path::PathBuf, String> {
    let kernel = artifact("guests/debian-6.1/Image", "guests")?;
    let initrd = artifact("guests/initrd.gz", "guests")?;
    let mut text = String::new();
    for guest in guests {
        write!(
            text,
            "[vm.{guest}]\nkernel = '{}'\ninitrd = '{}'\ncmdline = 'hostname={guest} {words}'\nmemory = '{memory}'\nvcpus = {vcpus}\n\n",
            kernel.display(),
            initrd.display(),
        )
        .map_err(|error| error.to_string())?;
    }
    // Left there for who wants to run it by hand.
    let folder = target_dir().join("guests/boots");
    let file = folder.join(format!("{name}.toml"));
    fs::create_dir_all(&folder)
        .and_then(|()| fs::write(&file, text))
        .map_err(|error| format!("{}: {error}", file.display()))?;
    Ok(file)
}

/// Starts a configuration.
pub(crate) fn start(file: std::path::PathBuf, more: &[&str]) -> Result<Run, String> {
    let mut arguments = vec![file.into_os_string()];
    arguments.extend(["--timeout".into(), PATIENCE.as_secs().to_string().into()]);
    arguments.extend(more.iter().map(Into::into));
    Run::mezz(&arguments)
}

/// Types a line, and waits for what it says and for the prompt behind it.
fn command(run: &mut Run, line: &str, answer: &str) -> Result<(), String> {
    run.type_keys(&format!("{line}\r"))?;
    run.wait_for(answer)?;
    run.wait_for(PROMPT)
}

/// Four CPUs: all there, off and on again and again, each at work.
fn hotplug(gic: &str, cpus: &str) -> Result<(), Failed> {
    let file = config(&format!("hotplug-{gic}-{cpus}"), &["alpha"], 4, "256M", "quiet")?;
    let mut run = start(file, &["--gic", gic, "--cpus", cpus])?;
    run.wait_for("alpha:/# ")?;
    let mut type_in = |line: &str, answer: &str| command(&mut run, line, answer);
    type_in("echo $(nproc) $(grep -c ^processor /proc/cpuinfo) $((40+2))", "\n4 4 42\r\n")?;
    type_in("cd /sys/devices/system/cpu; cat online", "\n0-3\r\n")?;
    type_in(
        "for n in 1 2 3 1 2 3 3 2 1; do echo 0 >cpu$n/online; echo 1 >cpu$n/online; done; cat online",
        "\n0-3\r\n",
    )?;
    type_in("for n in 1 2 3; do echo 0 >cpu$n/online; done; cat online", "\n0\r\n")?;
    type_in("for n in 3 2 1; do echo 1 >cpu$n/online; done; cat online", "\n0-3\r\n")?;
    for n in 0..4 {
        let work = format!(
            "taskset -c {n} sh -c 'echo $(awk \"{{ print \\$39 }}\" /proc/self/stat) $(seq 1 20000 | md5sum)'"
        );
        type_in(&work, &format!("\n{n} {SEQ_MD5} -\r\n"))?;
    }
    // All at once.
    let all = "for n in 0 1 2 3; do taskset -c $n sh -c 'seq 1 20000 | md5sum' >/tmp/$n & done; wait; echo all$((1+1))";
    type_in(all, "\nall2\r\n")?;
    type_in(&format!("cat /tmp/[0-3] | grep -c {SEQ_MD5}"), "\n4\r\n")?;
    type_in("sh /scripts/log", "\nkernel log: end\r\n")?;
    let transcript = session::power_off(run)?;
    judge::no_complaints(&transcript)?;
    let killed = transcript.matches("killed (polled").count();
    // Nine and three in the kernel's log, which is printed once.
    if killed < 12 {
        return Err(format!("only {killed} of 12 times a CPU went off").into());
    }
    Ok(())
}

/// The first line of /proc/stat, in hundredths of a second: busy (user, nice, system, irq, softirq), stolen.
fn stat(line: &str) -> Option<(u64, u64)> {
    let fields: Vec<u64> = line.split_whitespace().skip(1).filter_map(|field| field.parse().ok()).collect();
    let [user, nice, system, _, _, irq, softirq, steal, ..] = fields[..] else { return None };
    Some((user + nice + system + irq + softirq, steal))
}

/// Two guests that spin on one CPU: each sees half of the time stolen.
fn stolen() -> Result<(), Failed> {
    let mut run = start(config("stolen", &["alpha", "beta"], 1, "256M", "quiet")?, &["--cpus", "1"])?;
    run.wait_for("alpha:/# ")?;
    command(&mut run, "dmesg | grep -c 'arm-pv: using stolen time PV'", "\n1\r\n")?;
    run.type_keys("\u{7}2")?;
    run.wait_for("beta:/# ")?;
    command(&mut run, "(while :; do :; done) & echo one$((1+1))", "\none2\r\n")?;
    run.type_keys("\u{7}1")?;
    run.wait_for("screen 1: alpha")?;
    command(&mut run, "(while :; do :; done) & echo two$((1+1))", "\ntwo2\r\n")?;
    command(
        &mut run,
        "sleep 1; for n in 1 2; do head -n 1 /proc/stat; sleep 5; done; echo $((40+2))",
        "\n42\r\n",
    )?;
    run.type_keys("poweroff\r")?;
    run.wait_for("vm alpha: powered off")?;
    run.wait_for("screen 2: beta")?;
    let transcript = session::power_off(run)?;
    judge::no_complaints(&transcript)?;
    let stats: Vec<_> =
        transcript.lines().filter(|line| line.starts_with("cpu  ")).filter_map(stat).collect();
    let [(busy, stolen), (busy_then, stolen_then)] = stats[..] else {
        return Err("two lines of /proc/stat are wanted".into());
    };
    let (busy, stolen) = (busy_then.saturating_sub(busy), stolen_then.saturating_sub(stolen));
    // A tick that comes late counts as one, and what was stolen is taken from it: busy is less than half.
    let percent = stolen * 100 / (busy + stolen).max(1);
    if (45..=75).contains(&percent) && (175..=325).contains(&stolen) {
        return Ok(());
    }
    Err(format!("in five seconds it was busy for {busy} hundredths, and {stolen} were stolen").into())
}

/// Two guests as `make run` starts them: each reaches its shell, and what is seen is the one that was asked for.
fn screens() -> Result<(), Failed> {
    let mut run = start(config("screens", &["debian1", "debian2"], 2, "256M", "")?, &["--cpus", "4"])?;
    run.wait_for("you are at debian1;")?;
    run.wait_for("This is debian1, a guest of Mezzanine")?;
    run.wait_for("debian1:/# ")?;
    command(&mut run, "echo first$((1+1))", "\nfirst2\r\n")?;

    // The other's whole boot is replayed, from its first line.
    run.type_keys("\u{7}2")?;
    run.wait_for("screen 2: debian2")?;
    run.wait_for("Booting Linux on physical CPU")?;
    run.wait_for("This is debian2, a guest of Mezzanine")?;
    run.wait_for("debian2:/# ")?;
    command(&mut run, "echo second$((1+1)); (sleep 2; echo late$((1+1))) &", "\nsecond2\r\n")?;

    // The log, from its first line to its newest; keys go to nobody there.
    run.type_keys("\u{7}0")?;
    run.wait_for("] vm debian2: running")?;
    run.wait_for("screen 0: ")?;
    run.type_keys("echo nobody$((1+1))\r")?;
    run.type_keys("\u{7}1")?;
    run.wait_for("screen 1: debian1")?;
    command(&mut run, "echo third$((1+1)); sleep 4; echo fourth$((1+1))", "\nfourth2\r\n")?;

    // What was said meanwhile.
    run.type_keys("\u{7}2")?;
    run.wait_for("screen 2: debian2")?;
    run.wait_for("late2\r\n")?;
    run.type_keys("\r")?;
    run.wait_for("debian2:/# ")?;
    run.type_keys("poweroff\r")?;
    run.wait_for("vm debian2: powered off")?;
    run.wait_for("screen 1: debian1")?;
    let transcript = session::power_off(run)?;
    judge::no_complaints(&transcript)?;
    if transcript.contains("nobody2") {
        return Err("what was typed at the log's screen reached a guest".into());
    }
    Ok(only_its_own(&transcript)?)
}

/// Whether each line that names a guest was seen while that one was shown.
fn only_its_own(transcript: &str) -> Result<(), String> {
    let mut shown = "debian1";
    for line in transcript.lines() {
        if line.starts_with("[mz ") {
            shown = match line.split_once("] screen ").and_then(|(_, rest)| rest.get(..1)) {
                Some("0") => "",
                Some("1") => "debian1",
                Some("2") => "debian2",
                _ => shown,
            };
        } else if let Some(name) = ["debian1", "debian2"].iter().find(|name| line.contains(*name))
            && *name != shown
        {
            return Err(format!("seen while {shown:?} was shown: {line:?}"));
        }
    }
    Ok(())
}
