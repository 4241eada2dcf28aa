//! `mezz console` and `mezz attach`: a guest's console, or all screens, in this terminal.
//!
//! The keys are those of the line itself: Ctrl-G and what follows. `console` stays with its VM; `attach` shows any, and
//! Mezzanine's log with a line for commands.

use std::fs::File;
use std::io::{ErrorKind, IsTerminal, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::sync::mpsc::{self, Sender};
use std::thread;

use clap::Args;
use serde_json::{Value, json};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};

use crate::link::{Link, gone};
use crate::record::{bytes_of, framed, harmless, text_of};
use crate::report::{Report, Reports};
use crate::table;
use crate::terminal::Raw;
use crate::verbs::On;

/// Begins a command to this program.
const CTRL_G: u8 = 0x07;

/// Options of `mezz console`.
#[derive(Args)]
pub(crate) struct ConsoleArgs {
    /// The VM's name or number
    #[arg(value_name = "VM")]
    vm: String,
    #[command(flatten)]
    on: On,
}

/// Options of `mezz attach`.
#[derive(Args)]
pub(crate) struct AttachArgs {
    /// The machine, when several run
    #[arg(value_name = "NAME")]
    name: Option<String>,
}

/// What is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shown {
    /// Mezzanine's log, and a line for commands.
    Log,
    /// A VM's console.
    Vm(u16),
}

/// What a key means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Key {
    Typed(u8),
    Begun,
    Leave,
    Show(u8),
    Help,
}

/// How far somebody is with a command.
#[derive(Debug, Default)]
struct Keys {
    commanded: bool,
}

impl Keys {
    fn key(&mut self, byte: u8) -> Key {
        if !std::mem::take(&mut self.commanded) {
            self.commanded = byte == CTRL_G;
            return if self.commanded { Key::Begun } else { Key::Typed(byte) };
        }
        match byte {
            CTRL_G => Key::Typed(CTRL_G),
            b'q' | b'Q' => Key::Leave,
            b'0'..=b'9' => Key::Show(byte - b'0'),
            _ => Key::Help,
        }
    }
}

enum Event {
    Keys(Vec<u8>),
    Record(Value),
    Ended(String),
    Signal(i32),
}

/// A VM that the machine has.
#[derive(Debug)]
struct Vm {
    number: u16,
    name: String,
}

/// `mezz console`.
pub(crate) fn console(args: &ConsoleArgs) -> Result<ExitCode, Reports> {
    let mut link = Link::open(args.on.on.as_deref())?;
    let vms = vms(&mut link)?;
    let Some(vm) = vms.iter().find(|vm| vm.name == args.vm || vm.number.to_string() == args.vm) else {
        let names: Vec<&str> = vms.iter().map(|vm| vm.name.as_str()).collect();
        let report = Report::new("E0535", format!("there is no VM `{}`", harmless(&args.vm)));
        return Err(report
            .help(format!("there is {}", if names.is_empty() { "none".into() } else { names.join(", ") }))
            .into());
    };
    let shown = Shown::Vm(vm.number);
    Screen { link_out: out(&link)?, vms, shown, only: true, command: Vec::new() }.stay(link)
}

/// `mezz attach`.
pub(crate) fn attach(args: &AttachArgs) -> Result<ExitCode, Reports> {
    let mut link = Link::open(args.name.as_deref())?;
    let vms = vms(&mut link)?;
    let shown = vms.first().map_or(Shown::Log, |vm| Shown::Vm(vm.number));
    Screen { link_out: out(&link)?, vms, shown, only: false, command: Vec::new() }.stay(link)
}

fn out(link: &Link) -> Result<UnixStream, Report> {
    link.writer().map_err(|error| Report::new("E0534", format!("the machine cannot be reached: {error}")))
}

/// All VMs, in their order.
fn vms(link: &mut Link) -> Result<Vec<Vm>, Report> {
    let mut list = link.run("vm list --json")?;
    if let Value::String(text) = &list {
        list = serde_json::from_str(text).unwrap_or_default();
    }
    let rows = list.as_array().cloned().unwrap_or_default();
    let vm = |row: &Value| {
        let number = row.get("vm").or_else(|| row.get("id")).and_then(Value::as_u64)?;
        let name = harmless(row.get("name")?.as_str()?);
        Some(Vm { number: u16::try_from(number).ok()?, name })
    };
    Ok(rows.iter().filter_map(vm).collect())
}

struct Screen {
    link_out: UnixStream,
    vms: Vec<Vm>,
    shown: Shown,
    /// The screen stays the one it is.
    only: bool,
    /// The command that is typed at the log's screen.
    command: Vec<u8>,
}

impl Screen {
    fn stay(mut self, link: Link) -> Result<ExitCode, Reports> {
        let failed =
            |error: std::io::Error| Report::new("E0534", format!("the terminal cannot be used: {error}"));
        let (events, inbox) = mpsc::channel();
        watch_signals(&events).map_err(failed)?;
        let raw = Raw::enter().map_err(failed)?;
        self.note(&self.greeting());
        let keys: File = std::io::stdin().as_fd().try_clone_to_owned().map_err(failed)?.into();
        let sender = events.clone();
        thread::spawn(move || forward(keys, &sender));
        thread::spawn(move || listen(link, &events));
        self.show(self.shown);
        let mut keyboard = Keys::default();
        let end = loop {
            match inbox.recv() {
                Ok(Event::Keys(bytes)) => {
                    if self.typed(&mut keyboard, &bytes) {
                        break Ok(ExitCode::SUCCESS);
                    }
                }
                Ok(Event::Record(record)) => {
                    if self.heard(&record).is_err() {
                        break Ok(ExitCode::FAILURE);
                    }
                }
                Ok(Event::Ended(why)) => break Err(gone(&why).into()),
                Ok(Event::Signal(number)) => {
                    break Ok(ExitCode::from(u8::try_from(128 + number).unwrap_or(u8::MAX)));
                }
                Err(_) => break Ok(ExitCode::FAILURE),
            }
        };
        self.note("left");
        drop(raw);
        end
    }

    fn greeting(&self) -> String {
        let name = self.title(self.shown);
        match self.only {
            true => format!("{name}; Ctrl-G q leaves, Ctrl-G Ctrl-G sends a Ctrl-G"),
            false => format!(
                "{name}; Ctrl-G 1 to 9 shows another guest, Ctrl-G 0 the log and a shell, Ctrl-G q leaves"
            ),
        }
    }

    fn title(&self, shown: Shown) -> String {
        match shown {
            Shown::Log => "Mezzanine's log".to_owned(),
            Shown::Vm(number) => {
                let name = self.vms.iter().find(|vm| vm.number == number).map(|vm| vm.name.clone());
                name.unwrap_or_else(|| number.to_string())
            }
        }
    }

    /// What this program itself has to say goes beside what the guest says.
    fn note(&self, text: &str) {
        let (stdin, mut err) = (std::io::stdin(), std::io::stderr());
        let end = if stdin.is_terminal() { "\r\n" } else { "\n" };
        let _ = write!(err, "{end}mezz: {}{end}", harmless(text));
    }

    fn send(&mut self, record: &Value) {
        // Its end is told by the other direction.
        let _ = self.link_out.write_all(&framed(record));
    }

    fn show(&mut self, to: Shown) {
        let watch = |shown| match shown {
            Shown::Log => json!("log"),
            Shown::Vm(number) => json!(number),
        };
        if to != self.shown {
            self.send(&json!({ "unwatch": watch(self.shown) }));
        }
        self.shown = to;
        self.send(&json!({ "watch": watch(to) }));
        self.prompt();
    }

    fn prompt(&self) {
        if self.shown == Shown::Log {
            let _ = std::io::stdout().write_all(b"\rmezz> ").and_then(|()| std::io::stdout().flush());
        }
    }

    /// What was typed; whether somebody leaves.
    fn typed(&mut self, keyboard: &mut Keys, bytes: &[u8]) -> bool {
        let mut text = Vec::new();
        for byte in bytes {
            match keyboard.key(*byte) {
                Key::Typed(byte) => text.push(byte),
                Key::Begun => {}
                Key::Leave => {
                    self.pass(&text);
                    return true;
                }
                Key::Show(digit) if !self.only => {
                    self.pass(&std::mem::take(&mut text));
                    self.choose(digit);
                }
                Key::Show(_) | Key::Help => {
                    let greeting = self.greeting();
                    self.note(&greeting);
                }
            }
        }
        self.pass(&text);
        false
    }

    fn choose(&mut self, digit: u8) {
        let to = match usize::from(digit).checked_sub(1) {
            None => Some(Shown::Log),
            Some(n) => self.vms.get(n).map(|vm| Shown::Vm(vm.number)),
        };
        match to {
            Some(to) => {
                self.note(&self.title(to));
                self.show(to);
            }
            None => self.note(&format!("there is no guest {digit}")),
        }
    }

    fn pass(&mut self, bytes: &[u8]) {
        match self.shown {
            Shown::Vm(vm) => {
                // Each record is of bounded length.
                for piece in bytes.chunks(2048) {
                    self.send(&json!({ "vm": vm, "in": text_of(piece) }));
                }
            }
            Shown::Log => bytes.iter().for_each(|byte| self.edit(*byte)),
        }
    }

    /// A key of the line for commands: as plain as can be.
    fn edit(&mut self, byte: u8) {
        let mut out = std::io::stdout();
        let _ = match byte {
            b'\r' | b'\n' => {
                let line = String::from_utf8_lossy(&std::mem::take(&mut self.command)).into_owned();
                let _ = out.write_all(b"\r\n");
                if line.trim().is_empty() {
                    self.prompt();
                } else {
                    self.send(&json!({ "id": 0, "run": line.trim() }));
                }
                Ok(())
            }
            0x7f | 0x08 => match self.command.pop() {
                Some(_) => out.write_all(b"\x08 \x08"),
                None => Ok(()),
            },
            0x15 => {
                self.command.clear();
                out.write_all(b"\r\x1b[K").map(|()| self.prompt())
            }
            0x20.. => {
                self.command.push(byte);
                out.write_all(&[byte])
            }
            _ => Ok(()),
        };
        let _ = out.flush();
    }

    /// A record came.
    fn heard(&mut self, record: &Value) -> std::io::Result<()> {
        let text = |key: &str| record.get(key).and_then(Value::as_str);
        let vm = record.get("vm").and_then(Value::as_u64);
        let mut out = std::io::stdout();
        if let (Some(vm), Some(said)) = (vm, text("out")) {
            if self.shown == Shown::Vm(u16::try_from(vm).unwrap_or(u16::MAX)) {
                out.write_all(&bytes_of(said))?;
            }
        } else if let Some(log) = text("log") {
            if self.shown == Shown::Log {
                self.say(&harmless(log))?;
            }
        } else if let Some(event) = text("event") {
            let why = text("why").map(|why| format!(": {why}")).unwrap_or_default();
            self.note(&format!("vm {}: {event}{why}", text("name").unwrap_or_default()));
        } else if let Some(lost) = record.get("lost") {
            self.note(&format!("{lost} bytes of its output before this are lost"));
        } else if let Some(error) = record.get("error") {
            let member = |key: &str| error.get(key).and_then(Value::as_str).unwrap_or_default();
            self.note(&format!("{}: {}", member("code"), member("text")));
            self.prompt();
        } else if let Some(answer) = record.get("out") {
            self.say(&table::shown(answer))?;
        }
        out.flush()
    }

    /// Text among what is typed on the log's screen.
    fn say(&self, text: &str) -> std::io::Result<()> {
        let mut out = std::io::stdout();
        out.write_all(b"\r\x1b[K")?;
        out.write_all(text.replace('\n', "\r\n").as_bytes())?;
        if !text.is_empty() && !text.ends_with('\n') {
            out.write_all(b"\r\n")?;
        }
        self.prompt();
        out.write_all(&self.command)
    }
}

fn forward(mut keys: File, events: &Sender<Event>) {
    let mut buffer = [0; 2048];
    loop {
        match keys.read(&mut buffer) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // The end of a pipe ends nothing.
            Ok(0) | Err(_) => break,
            Ok(count) => {
                let bytes = buffer.get(..count).unwrap_or_default().to_vec();
                if events.send(Event::Keys(bytes)).is_err() {
                    break;
                }
            }
        }
    }
}

fn listen(mut link: Link, events: &Sender<Event>) {
    loop {
        let event = match link.hear(None) {
            Ok(Some(record)) => Event::Record(record),
            Ok(None) => continue,
            Err(why) => {
                let _ = events.send(Event::Ended(why));
                break;
            }
        };
        if events.send(event).is_err() {
            break;
        }
    }
}

fn watch_signals(events: &Sender<Event>) -> std::io::Result<()> {
    let mut signals = signal_hook::iterator::Signals::new([SIGTERM, SIGINT, SIGHUP, SIGQUIT])?;
    let events = events.clone();
    thread::spawn(move || {
        for number in signals.forever() {
            if events.send(Event::Signal(number)).is_err() {
                break;
            }
        }
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys() {
        let mut keys = Keys::default();
        let pressed: Vec<Key> = b"a\x07\x07\x07q\x073\x07?\x07".iter().map(|byte| keys.key(*byte)).collect();
        let expected = [
            Key::Typed(b'a'),
            Key::Begun,
            Key::Typed(CTRL_G),
            Key::Begun,
            Key::Leave,
            Key::Begun,
            Key::Show(3),
            Key::Begun,
            Key::Help,
            Key::Begun,
        ];
        assert_eq!(pressed, expected);
    }
}
