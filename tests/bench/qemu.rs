//! Runs QEMU with the plugin, the same to the instruction each time.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::counts::Counts;

/// With `-icount`, whose idle time is skipped, nothing comes from the host: the random seeds that QEMU puts into its
/// tree follow from `-seed`, too.
const SAME_EACH_TIME: [&str; 4] = ["-rtc", "base=2026-01-01,clock=vm", "-seed", "1"];

/// A run of QEMU.
#[derive(Default)]
pub(crate) struct Run<'a> {
    /// Of its files under target/bench.
    pub(crate) name: &'a str,
    /// As `-cpu` has it.
    pub(crate) cpu: &'a str,
    /// Whether the machine has EL2.
    pub(crate) el2: bool,
    /// Version of the machine's GIC.
    pub(crate) gic: u8,
    /// As `-m` has it.
    pub(crate) memory: &'a str,
    /// CPUs; 0: one.
    pub(crate) cpus: usize,
    /// An instruction takes 2 to the power of this nanoseconds.
    pub(crate) shift: u32,
    /// The run ends once this is printed, where the machine does not power off.
    pub(crate) until: Option<&'a str>,
    /// Everything else.
    pub(crate) args: Vec<String>,
    /// Its last exit is traced; 0: none.
    pub(crate) traced_row: u32,
    /// After so long the run has failed.
    pub(crate) patience: Duration,
}

/// What a run left.
pub(crate) struct Outcome {
    pub(crate) counts: Counts,
    pub(crate) transcript: String,
}

/// Where the bench keeps its files.
pub(crate) fn folder() -> PathBuf {
    target().join("bench")
}

/// The target folder.
pub(crate) fn target() -> PathBuf {
    root().join("target")
}

/// The project's folder.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A path as an argument.
pub(crate) fn text(path: &Path) -> String {
    path.display().to_string()
}

impl<'a> Run<'a> {
    /// Mezzanine with a bundle: what most runs start from, on one CPU with a GICv3, 512 MiB, for two minutes at most.
    pub(crate) fn mezzanine(name: &'a str, cpu: &'a str, bundle: &Path) -> Self {
        let image = text(&target().join("mezzanine.img"));
        Self {
            name,
            cpu,
            el2: true,
            gic: 3,
            memory: "512M",
            args: vec!["-kernel".into(), image, "-initrd".into(), text(bundle)],
            patience: Duration::from_secs(120),
            ..Self::default()
        }
    }

    fn command(&self, counted: &Path) -> Command {
        let mut qemu = Command::new("qemu-system-aarch64");
        let el2 = if self.el2 { "on" } else { "off" };
        qemu.arg("-M").arg(format!("virt,gic-version={},virtualization={el2}", self.gic));
        qemu.args(["-cpu", self.cpu, "-smp", &self.cpus.max(1).to_string(), "-m", self.memory]);
        qemu.arg("-icount").arg(format!("shift={},sleep=off", self.shift)).args(SAME_EACH_TIME);
        qemu.args(["-display", "none", "-monitor", "none", "-serial", "stdio", "-nic", "none", "-no-reboot"]);
        qemu.args(&self.args);
        let plugin = text(&folder().join("libexits.so"));
        qemu.arg("-plugin").arg(format!("{plugin},out={},trace={}", text(counted), self.traced_row));
        qemu
    }

    /// Whether what ends the run has been printed. SIGTERM then has QEMU end as a user would, and the plugin write.
    fn is_over(&self, log: &Path) -> bool {
        self.until.is_some_and(|words| {
            fs::read(log).is_ok_and(|text| String::from_utf8_lossy(&text).contains(words))
        })
    }

    /// Runs to the power off, or to what ends it.
    ///
    /// # Errors
    /// QEMU cannot be started, is killed after `patience`, or fails.
    pub(crate) fn run(&self) -> Result<Outcome, String> {
        let log = folder().join(format!("{}.log", self.name));
        let counted = folder().join(format!("{}.counts.json", self.name));
        let _ = fs::remove_file(&counted);
        let file = |e| format!("{}: {e}", log.display());
        let output = File::create(&log).map_err(file)?;
        let errors = output.try_clone().map_err(file)?;
        let mut child = self
            .command(&counted)
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .spawn()
            .map_err(|e| format!("qemu-system-aarch64 does not start: {e}"))?;
        let start = Instant::now();
        let mut asked = false;
        let status = loop {
            match child.try_wait() {
                Ok(Some(status)) => break Ok(status),
                Ok(None) if start.elapsed() > self.patience => {
                    let _ = child.kill();
                    let _ = child.wait();
                    break Err(format!("no power off in {} s", self.patience.as_secs()));
                }
                Ok(None) => {
                    if !asked && self.is_over(&log) {
                        asked = true;
                        tool(Path::new("kill"), &["-TERM", &child.id().to_string()])?;
                    }
                    sleep(Duration::from_millis(20));
                }
                Err(e) => break Err(e.to_string()),
            }
        };
        let transcript = String::from_utf8_lossy(&fs::read(&log).map_err(file)?).into_owned();
        let failure = |why: String| {
            let tail: Vec<&str> = transcript.lines().rev().take(12).collect();
            let tail: Vec<&str> = tail.into_iter().rev().collect();
            format!("{}: {why}; the transcript {} ends so:\n{}", self.name, log.display(), tail.join("\n"))
        };
        match status {
            Ok(status) if status.success() => {}
            Ok(status) => return Err(failure(format!("QEMU ended with {status}"))),
            Err(why) => return Err(failure(why)),
        }
        let json = fs::read(&counted).map_err(|e| failure(format!("no counts: {e}")))?;
        let counts =
            serde_json::from_slice(&json).map_err(|e| failure(format!("the counts are damaged: {e}")))?;
        Ok(Outcome { counts, transcript })
    }
}

/// Runs a program of ours to its end.
///
/// # Errors
/// It cannot be started, or fails: with what it said.
pub(crate) fn tool(program: &Path, args: &[&str]) -> Result<(), String> {
    let name = program.display();
    let output = Command::new(program).args(args).stdin(Stdio::null()).output();
    let output = output.map_err(|e| format!("{name} does not start: {e} ('make bench' builds it first)"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{name} {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim()))
}
