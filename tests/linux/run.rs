//! One run of a machine: its console as a growing transcript, typing into it, and its end.
//!
//! Every wait ends: at the text, at the end of the run, or after [`PATIENCE`], which is far beyond what the
//! slowest machine needs, so that no verdict depends on speed.

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long a whole run may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(900);

/// What busybox's shell asks a terminal at each prompt: where its cursor is. A pipe never answers.
const CURSOR_QUERY: &str = "\u{1b}[6n";

/// The folder of the image, the tool and the guests: `MEZZ_TARGET_DIR`, else `target/`.
pub(crate) fn target_dir() -> PathBuf {
    match std::env::var_os("MEZZ_TARGET_DIR") {
        Some(folder) => folder.into(),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("target"),
    }
}

/// A file that `make` leaves in the target folder, or a sentence that says which target makes it.
pub(crate) fn artifact(name: &str, made_by: &str) -> Result<PathBuf, String> {
    let path = target_dir().join(name);
    match path.exists() {
        true => Ok(path),
        false => Err(format!("{} does not exist; `make {made_by}` leaves it there", path.display())),
    }
}

#[derive(Default)]
struct Heard {
    bytes: Vec<u8>,
    open: usize,
}

impl Heard {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).replace(CURSOR_QUERY, "")
    }
}

/// A running machine.
pub(crate) struct Run {
    child: Child,
    keyboard: Option<ChildStdin>,
    heard: Arc<(Mutex<Heard>, Condvar)>,
    ears: Vec<JoinHandle<()>>,
    deadline: Instant,
    /// Up to where the transcript has been waited for.
    seen: usize,
}

impl Run {
    /// Starts `mezz run` with these arguments.
    pub(crate) fn mezz<S: AsRef<OsStr>>(arguments: &[S]) -> Result<Run, String> {
        let image = artifact("mezzanine.img", "image")?;
        let mut command = Command::new(artifact("mezz", "mezz")?);
        command.args([OsStr::new("run"), OsStr::new("--image"), image.as_os_str()]).args(arguments);
        Run::start(command)
    }

    /// Starts a machine.
    pub(crate) fn start(mut command: Command) -> Result<Run, String> {
        let mut child =
            command
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .map_err(|error| format!("{} does not start: {error}", command.get_program().display()))?;
        let heard = Arc::new((Mutex::new(Heard { open: 2, ..Heard::default() }), Condvar::new()));
        let mut ears = Vec::new();
        if let (Some(out), Some(err)) = (child.stdout.take(), child.stderr.take()) {
            ears.push(listen(out, heard.clone()));
            ears.push(listen(err, heard.clone()));
        }
        let keyboard = child.stdin.take();
        Ok(Run { child, keyboard, heard, ears, deadline: Instant::now() + PATIENCE, seen: 0 })
    }

    /// Waits until the transcript, after what was waited for before, has `text`.
    pub(crate) fn wait_for(&mut self, text: &str) -> Result<(), String> {
        let (lock, changed) = &*self.heard;
        let mut heard = lock.lock().map_err(|error| error.to_string())?;
        loop {
            let transcript = heard.text();
            let unseen = transcript.get(self.seen..).unwrap_or_default();
            if let Some(place) = unseen.find(text) {
                self.seen += place + text.len();
                return Ok(());
            }
            let left = self.deadline.saturating_duration_since(Instant::now());
            if heard.open == 0 || left.is_zero() {
                let why = if left.is_zero() { "in time" } else { "before the run ended" };
                return Err(format!(
                    "{text:?} did not come {why}; the transcript ends with\n{}",
                    tail(unseen)
                ));
            }
            heard = changed.wait_timeout(heard, left).map_err(|error| error.to_string())?.0;
        }
    }

    /// Types on the guest's console.
    pub(crate) fn type_keys(&mut self, keys: &str) -> Result<(), String> {
        let keyboard = self.keyboard.as_mut().ok_or("the console is closed")?;
        keyboard.write_all(keys.as_bytes()).map_err(|error| format!("typing failed: {error}"))?;
        keyboard.flush().map_err(|error| format!("typing failed: {error}"))
    }

    /// Waits for the run to end; gives its whole transcript if its exit status is 0.
    pub(crate) fn finish(mut self) -> Result<String, String> {
        let status = loop {
            match self.child.try_wait().map_err(|error| error.to_string())? {
                Some(status) => break status,
                None if Instant::now() > self.deadline => {
                    return Err(format!(
                        "the run did not end; its transcript ends with\n{}",
                        tail(&self.text())
                    ));
                }
                None => std::thread::sleep(Duration::from_millis(20)),
            }
        };
        for ear in self.ears.drain(..) {
            ear.join().map_err(|_| "a reader of the console panicked")?;
        }
        let text = self.text();
        match status.success() {
            true => Ok(text),
            false => {
                Err(format!("the machine ended with {status}; its transcript ends with\n{}", tail(&text)))
            }
        }
    }

    fn text(&self) -> String {
        self.heard.0.lock().map(|heard| heard.text()).unwrap_or_default()
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        // Closing its input and ending it; a run that is over already makes both fail, which is fine.
        self.keyboard = None;
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn listen(mut from: impl Read + Send + 'static, heard: Arc<(Mutex<Heard>, Condvar)>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        loop {
            let count = from.read(&mut buffer).unwrap_or(0);
            if let Ok(mut heard) = heard.0.lock() {
                heard.bytes.extend_from_slice(&buffer[..count]);
                heard.open -= usize::from(count == 0);
            }
            heard.1.notify_all();
            if count == 0 {
                return;
            }
        }
    })
}

/// The last lines of a transcript, indented, for a report.
pub(crate) fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let first = lines.len().saturating_sub(40);
    lines[first..].iter().map(|line| format!("    | {}\n", line.trim_end())).collect()
}
