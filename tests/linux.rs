//! Boots stock Debian kernels through `mezz run` and judges what their shells print.
//!
//! Needs what `make image mezz guests` leaves in `target/` (or in `MEZZ_TARGET_DIR`). Each run is a machine
//! of its own, judged by exact lines. `MEZZ_LONG=1` adds more CPU models, memory sizes and repeats.

#[path = "linux/judge.rs"]
mod judge;
#[path = "linux/run.rs"]
mod run;

use std::ffi::OsString;

use libtest_mimic::{Arguments, Failed, Trial};
use run::{Run, artifact};

/// CPU models with the part number that their guests read, `MIDR_EL1.PartNum`.
const MODELS: [(&str, &str); 4] =
    [("cortex-a57", "0xd07"), ("cortex-a72", "0xd08"), ("neoverse-n1", "0xd0c"), ("max", "0x051")];

/// Further models for the long run.
const MORE_MODELS: [(&str, &str); 6] = [
    ("cortex-a53", "0xd03"),
    ("cortex-a55", "0xd05"),
    ("cortex-a76", "0xd0b"),
    ("cortex-a710", "0xd47"),
    ("neoverse-v1", "0xd40"),
    ("neoverse-n2", "0xd49"),
];

/// A guest to boot: everything else is `mezz run`'s default.
#[derive(Clone)]
struct Guest {
    cpu: &'static str,
    kernel: &'static str,
    memory: &'static str,
    more: &'static [&'static str],
}

const GUEST: Guest = Guest { cpu: "cortex-a72", kernel: "debian-6.1/Image", memory: "256M", more: &[] };

impl Guest {
    /// `mezz run`'s arguments for this guest with these words on the kernel's command line.
    fn arguments(&self, cmdline: &str) -> Result<Vec<OsString>, String> {
        let kernel = artifact(&format!("guests/{}", self.kernel), "guests")?;
        let initrd = artifact("guests/initrd.gz", "guests")?;
        let mut arguments: Vec<OsString> = vec!["--kernel".into(), kernel.into()];
        arguments.extend(["--initrd".into(), initrd.into()]);
        arguments.extend(["--cmdline".into(), format!("hostname=alpha {cmdline}").into()]);
        let patience = run::PATIENCE.as_secs().to_string();
        let options = ["--cpu", self.cpu, "--memory", self.memory, "--timeout", &patience];
        arguments.extend(options.iter().chain(self.more).map(OsString::from));
        Ok(arguments)
    }

    /// Boots, runs the script `tour` of the initrd, and powers off.
    fn tour(&self, part: &str) -> Result<(), Failed> {
        let run = Run::start(&self.arguments("mezzanine.script=tour")?)?;
        judge::tour(&run.finish()?, part, 1)?;
        Ok(())
    }

    /// Boots to a prompt and types: a sum, Ctrl-C, Ctrl-Z, three kilobytes at once, `poweroff`.
    fn session(&self) -> Result<(), Failed> {
        let mut run = Run::start(&self.arguments("quiet")?)?;
        run.wait_for("This is alpha, a guest of Mezzanine")?;
        run.wait_for(PROMPT)?;
        run.type_keys("echo $((6*7))\r")?;
        run.wait_for("\n42\r\n")?;
        run.wait_for(PROMPT)?;

        run.type_keys("sh -c 'echo a; echo b; exec sleep 1000'\r")?;
        run.wait_for("\na\r\nb\r\n")?;
        run.type_keys("\u{3}")?;
        run.wait_for(PROMPT)?;
        run.type_keys("echo status $?\r")?;
        run.wait_for("\nstatus 130\r\n")?;
        run.wait_for(PROMPT)?;

        run.type_keys("sh -c 'echo c; echo d; exec sleep 1000'\r")?;
        run.wait_for("\nc\r\nd\r\n")?;
        run.type_keys("\u{1a}")?;
        run.wait_for("Stopped")?;
        run.wait_for(PROMPT)?;
        run.type_keys("kill %1; wait; echo gone\r")?;
        run.wait_for("\ngone\r\n")?;
        run.wait_for(PROMPT)?;

        run.type_keys("stty -echo; echo ready; md5sum; stty echo\r")?;
        run.wait_for("\nready\r\n")?;
        let text: String = (0..50).map(|line| format!("{line:04} {}\n", "x".repeat(54))).collect();
        run.type_keys(&text)?;
        run.type_keys("\u{4}")?;
        run.wait_for(&format!("{PASTE_MD5}  -\r\n"))?;
        run.wait_for(PROMPT)?;

        run.type_keys("poweroff\r")?;
        judge::no_complaints(&run.finish()?)?;
        Ok(())
    }
}

/// The shell's prompt, with the host name that the command line gave.
const PROMPT: &str = "alpha:/# ";

/// MD5 of what the session pastes.
const PASTE_MD5: &str = "ba496aeb64e24e096938981260cb66d7";

fn trial(name: impl Into<String>, test: impl FnOnce() -> Result<(), Failed> + Send + 'static) -> Trial {
    Trial::test(name, test)
}

fn trials(long: bool) -> Vec<Trial> {
    let mut trials = vec![trial("judge_notices", || Ok(judge::judge_itself()?))];
    let more: &[_] = if long { &MORE_MODELS } else { &[] };
    for &(cpu, part) in MODELS.iter().chain(more) {
        trials.push(trial(format!("debian_6_1::{cpu}"), move || Guest { cpu, ..GUEST }.tour(part)));
    }
    trials.push(trial("session", || GUEST.session()));
    trials.push(trial("gzip_kernel", || Guest { kernel: "debian-6.1/Image.gz", ..GUEST }.tour("0xd08")));
    trials.push(trial("modules", || Guest { more: &["--modules"], ..GUEST }.tour("0xd08")));
    if long {
        for memory in ["128M", "1G", "3G"] {
            trials.push(trial(format!("memory::{memory}"), move || Guest { memory, ..GUEST }.tour("0xd08")));
        }
        for round in 1..=50 {
            trials.push(trial(format!("session::round_{round:02}"), || GUEST.session()));
        }
    }
    trials
}

fn main() {
    let mut arguments = Arguments::from_args();
    // A machine is two busy threads at times; more at once than CPUs only makes each slower.
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    arguments.test_threads = arguments.test_threads.or(Some(cpus.min(4)));
    let long = std::env::var_os("MEZZ_LONG").is_some();
    libtest_mimic::run(&arguments, trials(long)).exit();
}
