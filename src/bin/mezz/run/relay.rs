//! Bytes between the person and the machine, and the end of both.
//!
//! Three threads turn what happens into [`Event`]s: one reads the machine's output, one the person's input,
//! one the signals. The main thread alone decides, so the terminal is restored on one path.

use std::ffi::OsString;
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::process::{Child, ChildStdin, ChildStdout};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, getpid, kill_process};
use signal_hook::consts::{SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP};
use tempfile::TempPath;

use crate::qemu;
use crate::terminal::Raw;
use crate::transcript::{Verdict, Watcher};

/// Why the run is over.
#[derive(Debug)]
pub(crate) enum Ending {
    /// The machine ended by itself.
    Said(Verdict),
    /// There never was a machine; the child has said why.
    NotStarted,
    /// The person left with Ctrl-A x.
    Left,
    /// `--timeout` is over.
    TimedOut,
    /// This program was told to end, by this signal.
    Signal(i32),
    /// Standard output is gone.
    OutputLost(std::io::Error),
}

enum Event {
    /// QEMU has read all its files, since the machine speaks.
    FirstOutput,
    OutputEnded(Watcher),
    OutputLost(std::io::Error),
    Leave,
    Signal(i32),
}

/// Runs the machine to its end. The second value is what Mezzanine said after a panic.
pub(crate) fn relay(
    line: &[OsString],
    bundle: Option<TempPath>,
    timeout: Option<Duration>,
) -> std::io::Result<(Ending, Vec<u8>)> {
    let (events, inbox) = mpsc::channel();
    watch_signals(events.clone())?;
    // Raw before the machine speaks, so that a key typed in answer to it is the guest's.
    let raw = Raw::enter()?;
    let mut child = qemu::command(line)?.spawn()?;
    if let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) {
        let (keys, screen) = (copy_of(std::io::stdin())?, copy_of(std::io::stdout())?);
        let sender = events.clone();
        thread::spawn(move || forward_output(output, screen, &sender));
        thread::spawn(move || forward_input(keys, input, &events));
    }
    let result = wait(&mut child, &inbox, raw.as_ref(), bundle, timeout);
    drop(raw);
    result
}

/// The stream itself, without the buffer that `std` puts before it.
fn copy_of(stream: impl AsFd) -> std::io::Result<File> {
    Ok(stream.as_fd().try_clone_to_owned()?.into())
}

/// How long QEMU may take to end when asked, and its output to end after it.
const GRACE: Duration = Duration::from_secs(2);

fn wait(
    child: &mut Child,
    inbox: &Receiver<Event>,
    raw: Option<&Raw>,
    mut bundle: Option<TempPath>,
    timeout: Option<Duration>,
) -> std::io::Result<(Ending, Vec<u8>)> {
    let started = Instant::now();
    let mut left = false;
    loop {
        let remaining = match (left, timeout) {
            (true, _) => Some(GRACE),
            (false, timeout) => timeout.map(|timeout| timeout.saturating_sub(started.elapsed())),
        };
        let ending = match receive(inbox, remaining) {
            Some(Event::FirstOutput) => {
                bundle = None; // removes the file early: a killed mezz leaves nothing behind
                continue;
            }
            Some(Event::Leave) => {
                left = true;
                continue;
            }
            Some(Event::Signal(SIGCONT)) => {
                raw.map_or(Ok(()), Raw::again)?;
                continue;
            }
            Some(Event::Signal(SIGTSTP)) => {
                raw.inspect(|raw| raw.suspend());
                kill_process(getpid(), Signal::STOP)?;
                continue;
            }
            Some(Event::OutputEnded(mut watcher)) => {
                let status = child.wait()?;
                let verdict = watcher.verdict();
                let ending = match status.code() {
                    _ if left => Ending::Left,
                    Some(qemu::NOT_STARTED) if verdict == Verdict::Silent => Ending::NotStarted,
                    _ => Ending::Said(verdict),
                };
                return Ok((ending, watcher.panic_report().to_vec()));
            }
            Some(Event::OutputLost(error)) => Ending::OutputLost(error),
            Some(Event::Signal(number)) => Ending::Signal(number),
            None if left => Ending::Left,
            None => Ending::TimedOut,
        };
        drop(bundle);
        end(child, inbox)?;
        return Ok((ending, Vec::new()));
    }
}

/// The next event; None when the time is over first.
fn receive(inbox: &Receiver<Event>, remaining: Option<Duration>) -> Option<Event> {
    match remaining {
        Some(remaining) => inbox.recv_timeout(remaining).ok(),
        None => inbox.recv().ok(),
    }
}

/// Ends the machine: asked first, so that QEMU's plugins and logs are written, then killed.
fn end(child: &mut Child, inbox: &Receiver<Event>) -> std::io::Result<()> {
    // A child that has ended meanwhile is no error.
    let _ = kill_process(Pid::from_child(child), Signal::TERM);
    let deadline = Instant::now() + GRACE;
    while child.try_wait()?.is_none() {
        if Instant::now() >= deadline {
            child.kill()?;
            child.wait()?;
            break;
        }
        thread::sleep(Duration::from_millis(10));
    }
    // What it still said comes out before this program's own last line.
    let deadline = Instant::now() + GRACE;
    loop {
        match inbox.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(Event::OutputEnded(_) | Event::OutputLost(_))
            | Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return Ok(()),
            Ok(_) => {}
        }
    }
}

fn watch_signals(events: Sender<Event>) -> std::io::Result<()> {
    let numbers = [SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGTSTP, SIGCONT];
    let mut signals = signal_hook::iterator::Signals::new(numbers)?;
    thread::spawn(move || {
        for number in signals.forever() {
            if events.send(Event::Signal(number)).is_err() {
                break;
            }
        }
    });
    Ok(())
}

fn forward_output(mut output: ChildStdout, mut screen: File, events: &Sender<Event>) {
    let mut watcher = Watcher::default();
    let mut buffer = [0; 16 << 10];
    let mut first = Some(Event::FirstOutput);
    // A receiver that is gone means that the run is over.
    let tell = |event| {
        let _ = events.send(event);
    };
    loop {
        let bytes = match output.read(&mut buffer) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Ok(0) | Err(_) => break tell(Event::OutputEnded(watcher)),
            Ok(count) => buffer.get(..count).unwrap_or_default(),
        };
        first.take().map(tell);
        watcher.feed(bytes);
        if let Err(error) = screen.write_all(bytes) {
            break tell(Event::OutputLost(error));
        }
    }
}

/// QEMU's escape character.
const CTRL_A: u8 = 1;

/// Copies keys until either side ends. The end of the input does not end the machine: its pipe stays open.
///
/// QEMU itself serves Ctrl-A x, but stops reading when a guest does not take its input; so this program looks
/// for it too.
fn forward_input(mut keys: File, mut input: ChildStdin, events: &Sender<Event>) {
    let mut buffer = [0; 4 << 10];
    let mut escaped = false;
    loop {
        let bytes = match keys.read(&mut buffer) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Ok(0) | Err(_) => break,
            Ok(count) => buffer.get(..count).unwrap_or_default(),
        };
        if leaves(bytes, &mut escaped) && events.send(Event::Leave).is_err() {
            break;
        }
        if input.write_all(bytes).is_err() {
            break;
        }
    }
    std::mem::forget(input);
}

/// Whether Ctrl-A x is complete in `bytes`; `escaped` carries a Ctrl-A from one piece to the next.
fn leaves(bytes: &[u8], escaped: &mut bool) -> bool {
    bytes.iter().any(|byte| {
        let leave = *escaped && *byte == b'x';
        *escaped = !*escaped && *byte == CTRL_A;
        leave
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaving() {
        let typed = |pieces: &[&[u8]]| {
            let mut escaped = false;
            pieces.iter().any(|piece| leaves(piece, &mut escaped))
        };
        assert!(typed(&[b"\x01x"]));
        assert!(typed(&[b"ls\x01", b"x"]));
        assert!(typed(&[b"\x01\x01\x01x"]));
        assert!(!typed(&[b"\x01\x01x"]), "a literal Ctrl-A, then x");
        assert!(!typed(&[b"\x01hx"]));
        assert!(!typed(&[b"x", b"\x03\x1a\x04"]));
    }
}
