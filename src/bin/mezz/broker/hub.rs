//! What the broker knows, and who gets what: clients, commands under way, consoles.
//!
//! One lock, held for as long as a record takes to be passed on. Nothing under it waits: clients have
//! [outboxes](super::client), and the line has a queue that takes what it takes.

use std::collections::{BTreeMap, VecDeque};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Sender, SyncSender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use mezzanine::records::{LONGEST, READY};
use serde_json::{Value, json};

use super::Event;
use super::client::{Client, Watch};
use super::console::{Backlog, Console};
use super::line::{Line, Said};
use crate::record::{bytes_of, framed};
use crate::transcript::{Verdict, Watcher};

/// Clients at a time.
const MOST_CLIENTS: usize = 64;
/// VMs whose consoles are kept.
const MOST_VMS: usize = 1024;
/// Commands under way.
const MOST_COMMANDS: usize = 256;
/// Bytes of an answer in parts.
const LONGEST_ANSWER: usize = 16 << 20;
/// How long a command waits for Mezzanine to speak records.
const GREETING: Duration = Duration::from_secs(10);
/// Hellos that are said before nobody is expected any more, and the first pause between them, which doubles.
const HELLOS: u32 = 5;
const PAUSE: Duration = Duration::from_secs(1);
/// How long after records have ended without a word the line is tried again.
const AGAIN: Duration = Duration::from_secs(3);
/// Bytes of text that are looked at for Mezzanine's words.
const TAIL: usize = 256;

/// A command whose answer is to come.
#[derive(Debug)]
struct Pending {
    client: u64,
    /// The client's number for it.
    id: u64,
    parts: String,
}

/// A command that waits for Mezzanine to speak records.
#[derive(Debug)]
struct Queued {
    client: u64,
    id: u64,
    line: String,
    until: Instant,
}

/// When the next hello is due.
#[derive(Debug)]
struct Hello {
    due: Option<Instant>,
    said: u32,
}

struct State {
    line: Line,
    greeting: Value,
    to_line: SyncSender<Vec<u8>>,
    clients: BTreeMap<u64, Client>,
    next_client: u64,
    next_id: u32,
    pending: BTreeMap<u32, Pending>,
    queued: VecDeque<Queued>,
    consoles: BTreeMap<u16, Console>,
    log: Backlog,
    hello: Hello,
    /// The last of the line's text.
    tail: String,
    watcher: Watcher,
}

/// The broker's middle.
pub(super) struct Hub {
    name: String,
    events: Sender<Event>,
    state: Mutex<State>,
}

impl Hub {
    /// `greet`: whether Mezzanine is there already; else it is waited for.
    pub(super) fn new(
        name: &str,
        to_line: SyncSender<Vec<u8>>,
        events: Sender<Event>,
        greet: bool,
    ) -> Arc<Self> {
        let state = State {
            line: Line::new(),
            greeting: Value::Null,
            to_line,
            clients: BTreeMap::new(),
            next_client: 0,
            next_id: 0,
            pending: BTreeMap::new(),
            queued: VecDeque::new(),
            consoles: BTreeMap::new(),
            log: Backlog::default(),
            hello: Hello { due: greet.then(Instant::now), said: 0 },
            tail: String::new(),
            watcher: Watcher::default(),
        };
        Arc::new(Self { name: name.to_owned(), events, state: Mutex::new(state) })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a client in.
    pub(super) fn connect(self: &Arc<Self>, stream: UnixStream) {
        let mut state = self.lock();
        if state.clients.len() >= MOST_CLIENTS {
            return;
        }
        let number = state.next_client;
        state.next_client += 1;
        if let Ok(client) = Client::new(self, number, stream) {
            state.clients.insert(number, client);
        }
    }

    /// A client has gone.
    pub(super) fn leave(&self, client: u64) {
        // Its end is waited for outside of the lock.
        let gone = self.lock().clients.remove(&client);
        drop(gone);
    }

    /// What a client wants.
    pub(super) fn client_said(&self, client: u64, record: &Value) {
        let mut state = self.lock();
        let vm = |value: &Value| value.as_u64().and_then(|vm| u16::try_from(vm).ok());
        let watch = |value: &Value| if value == "log" { Some(Watch::Log) } else { vm(value).map(Watch::Vm) };
        let run = record.get("id").and_then(Value::as_u64).zip(record.get("run").and_then(Value::as_str));
        let input = record.get("vm").and_then(vm).zip(record.get("in").and_then(Value::as_str));
        if let Some((id, line)) = run {
            state.run(client, id, line);
        } else if let Some((vm, text)) = input {
            state.input(client, vm, text);
        } else if let Some(watch) = record.get("watch").and_then(watch) {
            state.watch(client, watch);
        } else if let Some(watch) = record.get("unwatch").and_then(watch) {
            state.clients.get_mut(&client).map(|client| client.watches.remove(&watch));
        } else if record.get("status").is_some() {
            let records = state.line.is_believed();
            let version = state.greeting.get("version").cloned().unwrap_or_default();
            let status = json!({ "name": self.name, "records": records, "version": version, "pid": std::process::id() });
            state.send(client, &json!({ "status": status }));
        } else if record.get("quit").is_some() {
            let _ = self.events.send(Event::Quit);
        } else {
            drop(state);
            self.client_erred(client);
        }
    }

    /// A client has sent what is no record.
    pub(super) fn client_erred(&self, client: u64) {
        let record = error(None, "E0536", "this is no record that the broker knows");
        self.lock().send(client, &record);
    }

    /// Bytes came from the line.
    pub(super) fn line_said(&self, bytes: &[u8]) {
        let mut state = self.lock();
        for said in state.line.feed(bytes) {
            match said {
                Said::Greeted(greeting) => state.greeted(greeting),
                Said::Record(record) => state.record(&record),
                Said::Broken => state.own_line("a record that cannot be read was dropped"),
                Said::Text(text) => state.text(&text),
                Said::Lost(why) => state.lost(why),
            }
        }
    }

    /// What it all came to.
    pub(super) fn verdict(&self) -> Verdict {
        self.lock().watcher.verdict()
    }

    /// What is due; how long nothing will be.
    pub(super) fn tick(&self) -> Duration {
        self.lock().tick(Instant::now())
    }

    /// The machine is gone: clients are told, and have a moment to hear it.
    pub(super) fn end(&self, why: &str) {
        let mut state = self.lock();
        state.drop_commands(why);
        let clients = std::mem::take(&mut state.clients);
        drop(state);
        let until = Instant::now() + Duration::from_secs(1);
        for client in clients.values() {
            client.send(&json!({ "ended": why }));
            client.close();
        }
        clients.values().for_each(|client| client.drain(until));
    }
}

fn error(id: Option<u64>, code: &str, text: &str) -> Value {
    match id {
        Some(id) => json!({ "id": id, "error": { "code": code, "text": text } }),
        None => json!({ "error": { "code": code, "text": text } }),
    }
}

impl State {
    /// Sends a record to a client, or drops the client.
    fn send(&mut self, client: u64, record: &Value) {
        if self.clients.get(&client).is_some_and(|client| !client.send(record)) {
            self.clients.remove(&client);
        }
    }

    /// Sends a record to all who watch this.
    fn tell(&mut self, watch: Watch, record: &Value) {
        self.clients.retain(|_, client| !client.watches.contains(&watch) || client.send(record));
    }

    fn own_line(&mut self, text: &str) {
        let text = format!("mezz: {text}\n");
        self.log.push(text.as_bytes());
        self.tell(Watch::Log, &json!({ "log": text }));
    }

    fn logged(&mut self, text: &str) {
        self.watcher.feed(text.as_bytes());
        self.log.push(text.as_bytes());
        self.tell(Watch::Log, &json!({ "log": text }));
    }

    fn watch(&mut self, client: u64, watch: Watch) {
        let kept = match watch {
            Watch::Log => json!({ "log": String::from_utf8_lossy(&self.log.bytes()) }),
            Watch::Vm(vm) => {
                let kept = self.consoles.get(&vm).map(|console| console.kept()).unwrap_or_default();
                json!({ "vm": vm, "out": kept })
            }
        };
        if let Some(client) = self.clients.get_mut(&client) {
            client.watches.insert(watch);
        }
        self.send(client, &kept);
    }

    fn run(&mut self, client: u64, id: u64, line: &str) {
        // The largest number stands for any.
        let length = framed(&json!({ "id": u32::MAX, "run": line })).len();
        if length > LONGEST + 2 || line.chars().any(char::is_control) {
            let what =
                if length > LONGEST + 2 { "is too long for a record" } else { "has control characters" };
            return self.send(client, &error(Some(id), "E0533", &format!("the command {what}")));
        }
        if self.queued.len() + self.pending.len() >= MOST_COMMANDS {
            return self.send(client, &error(Some(id), "E0532", "too many commands are under way"));
        }
        if self.line.is_believed() {
            return self.pass(client, id, line);
        }
        let until = Instant::now() + GREETING;
        self.queued.push_back(Queued { client, id, line: line.to_owned(), until });
        if self.hello.due.is_none() {
            self.hello = Hello { due: Some(Instant::now()), said: 0 };
        }
        self.tick(Instant::now());
    }

    /// Sends a command to Mezzanine.
    fn pass(&mut self, client: u64, id: u64, line: &str) {
        let own = self.next_id;
        self.next_id = self.next_id.wrapping_add(1);
        if self.to_line.try_send(framed(&json!({ "id": own, "run": line }))).is_err() {
            return self.send(client, &error(Some(id), "E0532", "Mezzanine does not read its line"));
        }
        self.pending.insert(own, Pending { client, id, parts: String::new() });
    }

    fn input(&mut self, client: u64, vm: u16, text: &str) {
        if !self.line.is_believed() {
            return self.send(
                client,
                &error(None, "E0532", "Mezzanine does not speak records now: nothing was typed"),
            );
        }
        if let Some(console) = self.console(vm) {
            let fits = console.typed(&bytes_of(text));
            self.type_on(vm, Instant::now());
            if !fits {
                let what = "the guest does not read what is typed: it was dropped";
                self.send(client, &error(None, "E0537", what));
            }
        }
    }

    /// Sends what was typed at a console, as far as it may go.
    fn type_on(&mut self, vm: u16, now: Instant) {
        let Some(console) = self.consoles.get_mut(&vm) else { return };
        let Some(text) = console.next_input(now) else { return };
        if self.to_line.try_send(framed(&json!({ "vm": vm, "in": text }))).is_err() {
            console.took(0, now);
        }
    }

    fn console(&mut self, vm: u16) -> Option<&mut Console> {
        let known = self.consoles.contains_key(&vm);
        (known || self.consoles.len() < MOST_VMS).then(|| self.consoles.entry(vm).or_default())
    }

    fn greeted(&mut self, greeting: Value) {
        self.hello = Hello { due: None, said: 0 };
        self.greeting = greeting;
        self.own_line("Mezzanine speaks records");
        for Queued { client, id, line, .. } in std::mem::take(&mut self.queued) {
            self.pass(client, id, &line);
        }
    }

    fn lost(&mut self, why: &str) {
        self.drop_commands(why);
        self.consoles.values_mut().for_each(Console::forget_input);
        self.hello = Hello { due: Some(Instant::now() + AGAIN), said: 0 };
        self.own_line(why);
    }

    fn drop_commands(&mut self, why: &str) {
        for (_, Pending { client, id, .. }) in std::mem::take(&mut self.pending) {
            self.send(client, &error(Some(id), "E0534", why));
        }
        for Queued { client, id, .. } in std::mem::take(&mut self.queued) {
            self.send(client, &error(Some(id), "E0534", why));
        }
    }

    /// Text of anybody's; Mezzanine's words in it say no more than when to try.
    fn text(&mut self, text: &[u8]) {
        let text = String::from_utf8_lossy(text);
        self.tail.push_str(&text);
        if self.tail.contains(READY) {
            self.tail.clear();
            self.hello = Hello { due: Some(Instant::now()), said: 0 };
        } else if self.tail.contains("] Mezzanine ") && self.queued.is_empty() {
            // It starts again: what is sent now may be cut.
            self.hello.due = None;
        }
        let cut = self.tail.floor_char_boundary(self.tail.len().saturating_sub(TAIL));
        self.tail.drain(..cut);
        self.logged(&text);
    }

    fn record(&mut self, record: &Value) {
        let number = |key: &str| record.get(key).and_then(Value::as_u64);
        let text = |key: &str| record.get(key).and_then(Value::as_str);
        let vm = number("vm").and_then(|vm| u16::try_from(vm).ok());
        if let Some(id) = number("id") {
            self.answered(id, record);
        } else if let Some(event) = text("event") {
            if let (Some(vm), "destroyed") = (vm, event) {
                self.consoles.remove(&vm);
            }
            self.tell(Watch::Log, record);
            if let Some(vm) = vm {
                self.clients.retain(|_, client| {
                    let wants =
                        client.watches.contains(&Watch::Vm(vm)) && !client.watches.contains(&Watch::Log);
                    !wants || client.send(record)
                });
            }
        } else if let (Some(vm), Some(out)) = (vm, text("out")) {
            if let Some(console) = self.console(vm) {
                console.said(&bytes_of(out));
            }
            self.tell(Watch::Vm(vm), record);
        } else if let (Some(vm), Some(bytes)) = (vm, number("took")) {
            if let Some(console) = self.consoles.get_mut(&vm) {
                console.took(usize::try_from(bytes).unwrap_or_default(), Instant::now());
            }
            self.type_on(vm, Instant::now());
        } else if let (Some(vm), Some(_)) = (vm, number("lost")) {
            self.tell(Watch::Vm(vm), record);
        } else if let Some(log) = text("log") {
            self.logged(log);
        } else if let Some(error) = record.get("error") {
            self.own_line(&format!("Mezzanine: {error}"));
        }
    }

    /// A command's answer, or a part of it.
    fn answered(&mut self, id: u64, record: &Value) {
        let Ok(id) = u32::try_from(id) else { return };
        let Some(pending) = self.pending.get_mut(&id) else { return };
        if let Some(part) = record.get("part").and_then(Value::as_str) {
            if pending.parts.len() + part.len() <= LONGEST_ANSWER {
                pending.parts.push_str(part);
                return;
            }
            if let Some(Pending { client, id, .. }) = self.pending.remove(&id) {
                self.send(client, &error(Some(id), "E0536", "the answer does not end"));
            }
            return;
        }
        let Some(Pending { client, id, parts }) = self.pending.remove(&id) else { return };
        let answer = match (record.get("error"), record.get("out")) {
            (Some(error), _) => json!({ "id": id, "error": error }),
            (None, Some(Value::Bool(true))) => json!({ "id": id, "out": parts }),
            (None, out) => json!({ "id": id, "out": out }),
        };
        self.send(client, &answer);
    }

    fn tick(&mut self, now: Instant) -> Duration {
        if !self.line.is_believed() && self.hello.due.is_some_and(|due| due <= now) {
            // A queue that is full says it later.
            if let Ok(record) = self.line.hello() {
                let _ = self.to_line.try_send(record);
            }
            self.hello.said += 1;
            let pause = PAUSE.saturating_mul(1 << self.hello.said.min(4));
            self.hello.due = (self.hello.said < HELLOS).then(|| now + pause);
        }
        while self.queued.front().is_some_and(|queued| queued.until <= now) {
            if let Some(Queued { client, id, .. }) = self.queued.pop_front() {
                self.send(client, &error(Some(id), "E0532", "Mezzanine does not answer on this line"));
            }
        }
        let eager: Vec<u16> =
            self.consoles.iter().filter(|(_, console)| console.has_input()).map(|(vm, _)| *vm).collect();
        eager.iter().for_each(|vm| self.type_on(*vm, now));
        Duration::from_millis(if eager.is_empty() { 250 } else { 20 })
    }
}
