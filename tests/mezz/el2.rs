//! What passes for Mezzanine at the other end of a serial line: the library's own half of the protocol, and a script.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::Child;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use mezzanine::records::{Decoder, Frame, Incoming};

use super::*;

/// How long anything here may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// What has happened at the other end.
#[derive(Debug, Default)]
pub(super) struct Heard {
    pub(super) lines: Vec<String>,
    pub(super) typed: Vec<(u16, Vec<u8>)>,
    pub(super) hellos: usize,
    pub(super) bad: usize,
}

/// What the script wants otherwise than usual.
#[derive(Clone, Debug, Default)]
pub(super) struct Script {
    /// On the line before any hello is answered.
    pub(super) before: Vec<u8>,
    /// Hellos are not answered.
    pub(super) deaf: bool,
    /// Bytes that a VM takes of what is typed in a record.
    pub(super) room: Option<usize>,
}

/// The other end, and `mezz serve` at this one.
pub(super) struct El2 {
    pub(super) bench: Bench,
    line: Arc<Mutex<UnixStream>>,
    heard: Arc<Mutex<Heard>>,
    broker: Child,
}

impl El2 {
    pub(super) fn new(script: Script) -> Self {
        let bench = Bench::new();
        let path = bench.path("serial");
        let listener = UnixListener::bind(&path).unwrap();
        let mut command = bench.command(&["serve", "--serial", path.to_str().unwrap()]);
        let broker = command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let (stream, _) = listener.accept().unwrap();
        let line = Arc::new(Mutex::new(stream.try_clone().unwrap()));
        let heard = Arc::<Mutex<Heard>>::default();
        let (own, ears) = (Arc::clone(&line), Arc::clone(&heard));
        thread::spawn(move || serve(stream, &own, &ears, &script));
        let socket = bench.path("mezzanine/machine.sock");
        until("the broker's socket", || socket.exists());
        Self { bench, line, heard, broker }
    }

    /// What anybody puts on the line.
    pub(super) fn put(&self, bytes: &[u8]) {
        self.line.lock().unwrap().write_all(bytes).unwrap();
    }

    /// A guest says something.
    pub(super) fn says(&self, vm: u16, bytes: &[u8]) {
        let mut line = self.line.lock().unwrap();
        says(&mut line, vm, bytes);
    }

    /// The machine goes away.
    pub(super) fn end(&self) {
        self.line.lock().unwrap().shutdown(std::net::Shutdown::Both).unwrap();
    }

    pub(super) fn heard<T>(&self, what: impl FnOnce(&Heard) -> T) -> T {
        what(&self.heard.lock().unwrap())
    }

    /// A verb, to its end.
    pub(super) fn mezz(&self, args: &[&str]) -> Done {
        let mut command = self.bench.command(args);
        finish(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
    }

    /// Somebody at a console.
    pub(super) fn seat(&self, args: &[&str]) -> Seat {
        let mut command = self.bench.command(args);
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let mut child = child.unwrap();
        let seen = Arc::<Mutex<Vec<u8>>>::default();
        let (own, mut output) = (Arc::clone(&seen), child.stdout.take().unwrap());
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = output.read(&mut buffer) {
                own.lock().unwrap().extend(&buffer[..count]);
            }
        });
        Seat { child, seen }
    }
}

impl Drop for El2 {
    fn drop(&mut self) {
        let _ = self.broker.kill();
        let _ = self.broker.wait();
    }
}

/// Somebody at a console.
pub(super) struct Seat {
    child: Child,
    seen: Arc<Mutex<Vec<u8>>>,
}

impl Seat {
    pub(super) fn types(&mut self, bytes: &[u8]) {
        self.child.stdin.as_mut().unwrap().write_all(bytes).unwrap();
    }

    pub(super) fn seen(&self) -> Vec<u8> {
        self.seen.lock().unwrap().clone()
    }

    #[track_caller]
    pub(super) fn sees(&self, bytes: &[u8]) {
        let found = || self.seen().windows(bytes.len()).any(|window| window == bytes);
        until(&format!("{} on the screen", bytes.escape_ascii()), found);
    }

    pub(super) fn status(mut self) -> Option<i32> {
        let status = ended(&mut self.child).code();
        let _ = self.child.stdin.take();
        status
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits for a process, and for what it has said.
#[track_caller]
pub(super) fn finish(mut child: Child) -> Done {
    // It says little: no pipe fills up.
    ended(&mut child);
    Done::of(child.wait_with_output().unwrap())
}

#[track_caller]
fn ended(child: &mut Child) -> std::process::ExitStatus {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if Instant::now() > deadline {
            let _ = child.kill();
            panic!("it does not end");
        }
        thread::sleep(Duration::from_millis(5));
    }
}

#[track_caller]
pub(super) fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "never: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

fn send(line: &mut UnixStream, frame: &mut Frame) {
    let _ = line.write_all(frame.waiting());
    frame.sent(frame.waiting().len());
}

fn says(line: &mut UnixStream, vm: u16, mut bytes: &[u8]) {
    let mut frame = Frame::new();
    while !bytes.is_empty() {
        let taken = frame.output(vm, bytes);
        bytes = &bytes[taken..];
        send(line, &mut frame);
    }
}

const LIST: &str = "[{\"id\":0,\"name\":\"alpha\",\"state\":\"running\",\"memory_bytes\":268435456},\
     {\"id\":1,\"name\":\"beta\",\"state\":\"paused\",\"memory_bytes\":67108864}]";

/// Mezzanine's end of the line.
fn serve(mut stream: UnixStream, line: &Mutex<UnixStream>, heard: &Mutex<Heard>, script: &Script) {
    let mut decoder = Decoder::new();
    let mut buffer = [0; 4096];
    let mut frame = Frame::new();
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        for byte in &buffer[..count] {
            let Some(incoming) = decoder.feed(*byte) else { continue };
            let mut line = line.lock().unwrap();
            let mut heard = heard.lock().unwrap();
            match incoming {
                Incoming::Hello { nonce } => {
                    heard.hellos += 1;
                    if script.deaf {
                        continue;
                    }
                    let _ = line.write_all(&script.before);
                    frame.hello(nonce, "0.1.0", 2);
                }
                Incoming::Run { id, line: command } => {
                    heard.lines.push(command.to_owned());
                    answer(&mut frame, &mut line, id, command);
                }
                Incoming::Input { vm, bytes } => {
                    let bytes = bytes[..script.room.unwrap_or(bytes.len()).min(bytes.len())].to_vec();
                    frame.took(vm, bytes.len());
                    send(&mut line, &mut frame);
                    says(&mut line, vm, &bytes);
                    heard.typed.push((vm, bytes));
                }
                Incoming::Bye => {
                    let _ = frame.bye();
                }
                Incoming::Bad { reason, id } => {
                    heard.bad += 1;
                    frame.bad(id, reason);
                }
                Incoming::Typed(_) => {}
            }
            send(&mut line, &mut frame);
        }
    }
}

fn answer(frame: &mut Frame, line: &mut UnixStream, id: u32, command: &str) {
    match command {
        "vm list --json" => {
            let _ = frame.answer(id, LIST);
        }
        "irq --json" => {
            // An answer of many records, with a console's between them.
            let rows: Vec<String> =
                (0..500).map(|n| format!("{{\"irq\":{n},\"name\":\"\u{fc}ber {n}\"}}")).collect();
            let text = format!("[{}]", rows.join(","));
            let mut rest = &text[..];
            while !rest.is_empty() {
                rest = &rest[frame.part(id, rest)..];
                send(line, frame);
                says(line, 0, b".");
            }
            frame.done(id);
        }
        "mem --json" => {
            let _ = frame.answer(id, "\"{not json\"");
        }
        "dmesg" => {
            let _ = frame.answer(id, "\"one\\n\\u001b[2Jtwo\\n\"");
        }
        "version" => {}
        _ if command.starts_with("vm start alpha") => {
            let _ = frame.error(Some(id), "E0612", "vm \"alpha\": running already");
        }
        _ => {
            let _ = frame.answer(id, "null");
        }
    }
}
