//! One machine: started, talked to, ended, and what came of it.

use crate::setup;
use libtest_mimic::Failed;
use std::ffi::OsString;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// How long a machine may take before it counts as hanging, in seconds.
const LIMIT: u64 = 120;

/// The limit, times MEZZ_TEST_PATIENCE.
pub(crate) fn limit() -> Duration {
    let patience = std::env::var("MEZZ_TEST_PATIENCE").ok().and_then(|n| n.parse().ok()).unwrap_or(1);
    Duration::from_secs(LIMIT * u64::max(patience, 1))
}

/// What came of a machine.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// What it printed, without carriage returns.
    pub(crate) text: String,
    /// The exit status; `None` if it was ended for taking too long.
    pub(crate) status: Option<i32>,
}

type Output = Arc<(Mutex<Shared>, Condvar)>;

#[derive(Default)]
struct Shared {
    bytes: Vec<u8>,
    closed: usize,
}

/// A running machine.
pub(crate) struct Machine {
    child: Child,
    output: Output,
    stdin: Option<std::process::ChildStdin>,
}

fn reader(mut from: impl Read + Send + 'static, output: Output) {
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        let (shared, changed) = &*output;
        while let Ok(n @ 1..) = from.read(&mut buffer) {
            let Ok(mut shared) = shared.lock() else { return };
            shared.bytes.extend_from_slice(&buffer[..n]);
            changed.notify_all();
        }
        if let Ok(mut shared) = shared.lock() {
            shared.closed += 1;
            changed.notify_all();
        }
    });
}

impl Machine {
    /// Starts a program; its input is a pipe.
    pub(crate) fn start(program: OsString, arguments: Vec<OsString>) -> Result<Self, Failed> {
        let mut child = Command::new(&program)
            .args(arguments)
            .current_dir(setup::root())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{} does not start: {error}", program.to_string_lossy()))?;
        let output = Output::default();
        if let Some(stdout) = child.stdout.take() {
            reader(stdout, output.clone());
        }
        if let Some(stderr) = child.stderr.take() {
            reader(stderr, output.clone());
        }
        let stdin = child.stdin.take();
        Ok(Self { child, output, stdin })
    }

    /// Types.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> Result<(), Failed> {
        let stdin = self.stdin.as_mut().ok_or("no input")?;
        stdin.write_all(bytes).and_then(|()| stdin.flush()).map_err(|error| format!("input: {error}"))?;
        Ok(())
    }

    /// Waits until the transcript has `text` for the `count`th time; whether it came.
    pub(crate) fn wait_for(&self, text: &str, count: usize) -> bool {
        self.wait_for_within(text, count, limit())
    }

    /// The same, with a limit of one's own.
    pub(crate) fn wait_for_within(&self, text: &str, count: usize, limit: Duration) -> bool {
        // Of a line that is still being written, only its end is certain to be missing.
        let enough = |seen: &str, closed: bool| {
            let whole = if closed { seen } else { seen.rsplit_once('\n').map_or("", |(lines, _)| lines) };
            whole.matches(text).count() >= count
        };
        self.wait_until(limit, |seen, closed| closed || enough(seen, false))
            .is_some_and(|seen| enough(&seen, true))
    }

    fn wait_until(&self, limit: Duration, done: impl Fn(&str, bool) -> bool) -> Option<String> {
        let deadline = Instant::now() + limit;
        let (shared, changed) = &*self.output;
        let mut shared = shared.lock().ok()?;
        loop {
            let seen = String::from_utf8_lossy(&shared.bytes).into_owned();
            if done(&seen, shared.closed == 2) {
                return Some(seen);
            }
            let left = deadline.checked_duration_since(Instant::now())?;
            shared = changed.wait_timeout(shared, left).ok()?.0;
        }
    }

    /// Waits for the machine's end, and ends it after the limit.
    pub(crate) fn finish(self) -> Outcome {
        let ended = self.wait_until(limit(), |_, closed| closed).is_some();
        self.end(ended)
    }

    /// Ends it now.
    pub(crate) fn stop(self) -> Outcome {
        self.end(false)
    }

    fn end(mut self, by_itself: bool) -> Outcome {
        if !by_itself {
            // Nothing to be done if it is gone already.
            let _ = self.child.kill();
        }
        let status = self.child.wait().ok().and_then(|status| status.code());
        let bytes = self.output.0.lock().map(|shared| shared.bytes.clone()).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes).replace('\r', "");
        Outcome { text, status: if by_itself { status } else { None } }
    }
}

/// `mezz run` with these arguments.
pub(crate) fn mezz(arguments: &[&str]) -> Result<Machine, Failed> {
    let program = setup::built("mezz")?;
    setup::image()?;
    let mut line: Vec<OsString> = vec!["run".into()];
    line.extend(arguments.iter().map(OsString::from));
    Machine::start(program.into(), line)
}

/// QEMU's `virt` with Mezzanine's usual settings, and these arguments.
pub(crate) fn qemu(arguments: Vec<OsString>) -> Result<Machine, Failed> {
    let mut line: Vec<OsString> = ["-nographic", "-nic", "none", "-no-reboot"].map(OsString::from).to_vec();
    line.extend(arguments);
    Machine::start(setup::program(), line)
}

impl Outcome {
    /// The end of the transcript, for a report.
    pub(crate) fn tail(&self) -> String {
        let lines: Vec<&str> = self.text.lines().filter(|line| !line.starts_with("flood:")).collect();
        let from = lines.len().saturating_sub(40);
        let status = self.status.map_or("ended by the test".to_owned(), |n| format!("status {n}"));
        format!("{status}; the transcript's end:\n{}", lines[from..].join("\n"))
    }

    /// A failure with the transcript's end.
    pub(crate) fn failed<T>(&self, why: &str) -> Result<T, Failed> {
        Err(format!("{why}; {}", self.tail()).into())
    }

    /// The first line with `text`.
    pub(crate) fn line(&self, text: &str) -> Option<&str> {
        self.text.lines().find(|line| line.contains(text))
    }

    /// Fails unless the transcript has `text`.
    pub(crate) fn says(&self, text: &str) -> Result<(), Failed> {
        if self.text.contains(text) { Ok(()) } else { self.failed(&format!("it does not say {text:?}")) }
    }

    /// Fails if Mezzanine panicked: no guest and no input may bring that about.
    pub(crate) fn no_panic(&self) -> Result<(), Failed> {
        if self.text.contains("] panic: ") { self.failed("Mezzanine panicked") } else { Ok(()) }
    }
}

/// A file of a trial's own that goes away with it.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    /// Writes `bytes` under a name made of `name`.
    pub(crate) fn new(name: &str, bytes: &[u8]) -> Result<Self, Failed> {
        let name: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        let path = std::env::temp_dir().join(format!("mezz-test-{}-{name}", std::process::id()));
        std::fs::write(&path, bytes).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Self(path))
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &std::path::Path {
        &self.0
    }

    /// As text, for options.
    pub(crate) fn text(&self) -> String {
        self.0.display().to_string()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}
