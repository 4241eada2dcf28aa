//! Boots stock Debian kernels through `mezz run` and judges what their shells and their logs say.
//!
//! Needs what `make image mezz guests kernels` leaves in `target/` (or in `MEZZ_TARGET_DIR`). Each run is a
//! machine of its own, judged by exact lines. `MEZZ_LONG=1` adds every kernel on every CPU model, memory sizes
//! and repeats.

#[path = "linux/firmware.rs"]
mod firmware;
#[path = "linux/judge.rs"]
mod judge;
#[path = "linux/log.rs"]
mod log;
#[path = "linux/matrix.rs"]
mod matrix;
#[path = "linux/native.rs"]
mod native;
#[path = "linux/power.rs"]
mod power;
#[path = "linux/run.rs"]
mod run;
#[path = "linux/scale.rs"]
mod scale;
#[path = "linux/session.rs"]
mod session;
#[path = "linux/smp.rs"]
mod smp;

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;

use libtest_mimic::{Arguments, Completion, Failed, Trial};
use matrix::Boot;
use run::{Run, artifact, target_dir};

/// A guest to boot: everything else is `mezz run`'s default.
#[derive(Clone)]
struct Guest {
    cpu: &'static str,
    kernel: &'static str,
    memory: &'static str,
    more: &'static [&'static str],
}

const GUEST: Guest = Guest { cpu: "cortex-a72", kernel: "debian-6.1/Image", memory: "256M", more: &[] };

/// MIDR_EL1.PartNum of that CPU model.
const PART: &str = "0xd08";

impl Guest {
    /// Kernel and initrd.
    fn files(&self) -> Result<(PathBuf, PathBuf), String> {
        let made_by = if self.kernel.starts_with("debian-6.1/") { "guests" } else { "kernels" };
        let kernel = artifact(&format!("guests/{}", self.kernel), made_by)?;
        // The further kernels have one each, with their own modules.
        let own = kernel.with_file_name("initrd.gz");
        Ok((kernel, if own.exists() { own } else { artifact("guests/initrd.gz", "guests")? }))
    }

    /// `mezz run`'s arguments for this guest with this command line for its kernel.
    fn arguments(&self, cmdline: &str) -> Result<Vec<OsString>, String> {
        let (kernel, initrd) = self.files()?;
        let mut arguments: Vec<OsString> = vec!["--kernel".into(), kernel.into()];
        arguments.extend(["--initrd".into(), initrd.into(), "--cmdline".into(), cmdline.into()]);
        let patience = run::PATIENCE.as_secs().to_string();
        let options = ["--cpu", self.cpu, "--memory", self.memory, "--timeout", &patience];
        arguments.extend(options.iter().chain(self.more).map(OsString::from));
        Ok(arguments)
    }

    /// Boots, runs the script `tour` of the initrd, and powers off.
    fn tour(&self) -> Result<(), Failed> {
        let run = Run::mezz(&self.arguments("hostname=alpha mezzanine.script=tour")?)?;
        judge::tour(&run.finish()?, PART, 1)?;
        Ok(())
    }

    /// Boots to a prompt and types.
    fn session(&self) -> Result<(), Failed> {
        let mut run = Run::mezz(&self.arguments(session::CMDLINE)?)?;
        session::typing(&mut run)?;
        Ok(judge::no_complaints(&session::power_off(run)?)?)
    }
}

impl Boot {
    /// Why this kernel is not on this machine, if set-up could not bring it.
    fn absent(&self) -> Option<String> {
        let folder = target_dir().join("guests").join(self.kernel.folder());
        if folder.join("Image").exists() {
            return None;
        }
        let why = fs::read_to_string(folder.join("absent")).ok()?;
        Some(why.trim().to_owned())
    }

    /// Boots, types, runs the script, and compares the kernel's warnings with those that it has without Mezzanine.
    fn run(&self) -> Result<Completion, Failed> {
        if let Some(why) = self.absent() {
            return Ok(Completion::ignored_with(why));
        }
        let guest = Guest { cpu: self.model.cpu, kernel: self.kernel.image, ..GUEST };
        let (known, file) = native::log(self, &guest)?;
        let transcript = session::whole(Run::mezz(&self.arguments(&guest)?)?)?;
        let new = log::new_warnings(&log::of_transcript(&transcript)?, &known)?;
        if !new.is_empty() {
            let lines: String = new.iter().map(|line| format!("    | {line}\n")).collect();
            let known = file.display();
            return Err(format!("warnings that {known} has not, without Mezzanine:\n{lines}").into());
        }
        judge::tour(&transcript, self.model.part, 1)?;
        Ok(Completion::Completed)
    }

    /// `mezz run`'s arguments: a configuration, which can say what GIC the guest sees.
    fn arguments(&self, guest: &Guest) -> Result<Vec<OsString>, String> {
        let (kernel, initrd) = guest.files()?;
        let text = format!(
            "[machine]\ncpu = '{}'\n\n[vm.alpha]\nkernel = '{}'\ninitrd = '{}'\ncmdline = '{}'\nmemory = '{}'\ngic = {}\n",
            self.model.cpu,
            kernel.display(),
            initrd.display(),
            session::CMDLINE,
            guest.memory,
            self.gics.guest,
        );
        // Left there for who wants to run it by hand.
        let folder = target_dir().join("guests/boots");
        let config = folder.join(format!("{}.toml", self.name().replace(", ", "-").replace(' ', "-")));
        fs::create_dir_all(&folder)
            .and_then(|()| fs::write(&config, text))
            .map_err(|error| format!("{}: {error}", config.display()))?;
        let mut arguments: Vec<OsString> = vec![config.into()];
        arguments.extend(["--timeout".into(), run::PATIENCE.as_secs().to_string().into()]);
        arguments.extend(["--gic".into(), self.gics.host.to_string().into()]);
        if self.gics.emulated {
            arguments.extend(["--options".into(), "mezzanine.vgic=emulated".into()]);
        }
        Ok(arguments)
    }
}

fn trial(name: impl Into<String>, test: impl FnOnce() -> Result<(), Failed> + Send + 'static) -> Trial {
    Trial::test(name, test)
}

fn trials(long: bool) -> Vec<Trial> {
    let mut trials = vec![
        trial("judge_notices", || Ok(judge::judge_itself()?)),
        trial("log_notices", || Ok(log::check()?)),
        trial("matrix_covers", || Ok(matrix::check()?)),
    ];
    let boots = if long { matrix::many() } else { matrix::few(matrix::GICS) };
    for boot in boots {
        trials.push(Trial::ignorable_test(format!("linux::{}", boot.name()), move || boot.run()));
    }
    trials.push(trial("gzip_kernel", || Guest { kernel: "debian-6.1/Image.gz", ..GUEST }.tour()));
    trials.push(trial("modules", || Guest { more: &["--modules"], ..GUEST }.tour()));
    trials.extend(firmware::trials());
    trials.extend(power::trials());
    trials.extend(smp::trials());
    if long {
        trials.extend(scale::trials());
        for memory in ["128M", "1G", "3G"] {
            trials.push(trial(format!("memory::{memory}"), move || Guest { memory, ..GUEST }.tour()));
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
    arguments.test_threads = arguments.test_threads.or(Some(cpus.min(2)));
    let long = std::env::var_os("MEZZ_LONG").is_some();
    libtest_mimic::run(&arguments, trials(long)).exit();
}
