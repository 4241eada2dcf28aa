//! The broker: the one process that has a machine's serial line, for as many clients as there are.
//!
//! It has QEMU's serial port, as `mezz run --detach` starts it, or a board's, as `mezz serve` opens it; clients come on a
//! Unix socket. docs/control.md has what is said on either side.
//!
//! | file | what |
//! |---|---|
//! | `mod.rs` | its process: how it starts and ends |
//! | `home.rs` | names, and where sockets are |
//! | `hub.rs` | who gets what |
//! | `client.rs` | a client's threads |
//! | `console.rs` | what is kept of a guest's console |
//! | `line.rs` | whom to believe on the line |
//! | `port.rs` | a board's port, opened |

use std::ffi::OsString;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, setsid};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use tempfile::TempPath;

use crate::qemu;
use crate::report::{Report, Reports};
use crate::transcript::Verdict;

mod client;
mod console;
pub(crate) mod home;
mod hub;
mod line;
mod port;

use home::Socket;
use hub::Hub;
pub(crate) use port::{ServeArgs, serve};

/// What ends a broker, and what it waits for.
#[derive(Debug)]
pub(crate) enum Event {
    /// The machine has said something.
    FirstOutput,
    /// There is no line any more, for this reason.
    LineEnded(String),
    /// A client has asked for the end.
    Quit,
    /// This program was told to end.
    Signal(i32),
}

/// First word of the command line with which this program becomes a broker.
const EXEC: &str = "exec-broker";
/// What a broker says to its parent once the machine runs.
const STARTED: &str = "started";
/// Stands for what is not there.
const NONE: &str = "-";
/// How long a machine may be silent at first, and how long QEMU may take to end when asked.
const SILENCE: Duration = Duration::from_secs(3);
const GRACE: Duration = Duration::from_secs(2);
/// Pieces that may wait for the line.
const LINE_QUEUE: usize = 64;

/// Starts a broker that starts QEMU, and leaves both behind.
pub(crate) fn detach(
    name: &str,
    line: &[OsString],
    bundle: Option<TempPath>,
    timeout: Option<u64>,
) -> Result<(), Reports> {
    let socket = home::socket(name)?;
    // Here for its message; the broker takes the name.
    drop(Socket::bind(name)?);
    let log = socket.with_extension("log");
    let failed = |error: std::io::Error| {
        Report::new("E0512", format!("the machine cannot be started: {error}")).help("see the message")
    };
    let words = (|| {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(EXEC).arg(name).arg(timeout.map_or(NONE.to_owned(), |seconds| seconds.to_string()));
        command.arg(bundle.as_deref().map_or(NONE.as_ref(), std::path::Path::as_os_str)).args(line);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(std::fs::File::create(&log)?);
        let mut child = command.spawn()?;
        let mut words = String::new();
        if let Some(output) = child.stdout.take() {
            BufReader::new(output).read_line(&mut words)?;
        }
        Ok(words)
    })()
    .map_err(failed)?;
    if words.trim_end() == STARTED {
        // The broker removes it.
        let _ = bundle.map(TempPath::keep);
        return Ok(());
    }
    let said = std::fs::read_to_string(&log).unwrap_or_default();
    let said = said.trim_end();
    let why = if said.is_empty() { "it ended at once" } else { said };
    Err(Report::new("E0512", format!("the machine did not start:\n{why}"))
        .help(format!("what it says is in {}", log.display()))
        .into())
}

/// In such a child: is the broker until the machine ends.
pub(crate) fn exec_when_asked() -> Option<ExitCode> {
    let mut words = std::env::args_os().skip(1);
    if words.next()? != EXEC {
        return None;
    }
    let name = words.next()?.into_string().ok()?;
    let timeout = words.next()?.to_str()?.parse().ok().map(Duration::from_secs);
    let bundle = words.next().filter(|path| path != NONE);
    let line: Vec<OsString> = words.collect();
    Some(match with_qemu(&name, timeout, bundle, &line) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reports) => {
            reports.show();
            ExitCode::from(crate::USAGE)
        }
    })
}

fn with_qemu(
    name: &str,
    timeout: Option<Duration>,
    bundle: Option<OsString>,
    line: &[OsString],
) -> Result<(), Reports> {
    let failed =
        |error: std::io::Error| Report::new("E0512", format!("the machine cannot be started: {error}"));
    // Of no terminal, whose end would end it.
    let _ = setsid();
    let socket = Socket::bind(name)?;
    let (events, inbox) = mpsc::channel();
    watch_signals(&events).map_err(failed)?;
    // By the main thread, with whom it dies.
    let mut child = qemu::command(line).and_then(|mut command| command.spawn()).map_err(failed)?;
    let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else { return Ok(()) };
    let hub = begin(name, input, output, &events, false).map_err(failed)?;
    // QEMU has read its files by the time that the machine speaks.
    let first = inbox.recv_timeout(SILENCE);
    if let Ok(Event::LineEnded(_)) = first {
        let _ = end(&mut child);
        return Ok(());
    }
    let bundle = bundle.filter(|path| first.is_err() || std::fs::remove_file(path).is_err());
    println!("{STARTED}");
    accept(&hub, socket.listener.try_clone().map_err(failed)?);
    let deadline = timeout.map(|timeout| Instant::now() + timeout);
    let why = wait(&hub, &inbox, deadline, bundle);
    let _ = end(&mut child);
    drop(socket);
    hub.end(&why);
    Ok(())
}

/// Starts the threads of a line.
fn begin(
    name: &str,
    mut input: impl Write + Send + 'static,
    mut output: impl Read + Send + 'static,
    events: &Sender<Event>,
    greet: bool,
) -> std::io::Result<Arc<Hub>> {
    let (to_line, from_hub) = mpsc::sync_channel::<Vec<u8>>(LINE_QUEUE);
    let hub = Hub::new(name, to_line, events.clone(), greet);
    let writer = events.clone();
    thread::Builder::new().spawn(move || {
        for bytes in from_hub {
            if let Err(error) = input.write_all(&bytes).and_then(|()| input.flush()) {
                let _ = writer.send(Event::LineEnded(format!("nobody takes what is sent: {error}")));
                break;
            }
        }
    })?;
    let (reader, own) = (events.clone(), Arc::clone(&hub));
    thread::Builder::new().spawn(move || {
        let mut buffer = [0; 16 << 10];
        let mut first = Some(Event::FirstOutput);
        loop {
            let bytes = match output.read(&mut buffer) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Ok(0) => break drop(reader.send(Event::LineEnded("the line ended".to_owned()))),
                Err(error) => break drop(reader.send(Event::LineEnded(error.to_string()))),
                Ok(count) => buffer.get(..count).unwrap_or_default(),
            };
            own.line_said(bytes);
            first.take().map(|first| reader.send(first));
        }
    })?;
    Ok(hub)
}

/// Takes clients in.
fn accept(hub: &Arc<Hub>, listener: std::os::unix::net::UnixListener) {
    let hub = Arc::clone(hub);
    thread::spawn(move || {
        loop {
            match listener.accept() {
                Ok((stream, _)) => hub.connect(stream),
                // Too many files are open, for instance; a client may go.
                Err(_) => thread::sleep(Duration::from_millis(100)),
            }
        }
    });
}

/// Waits for the end; why it is one.
fn wait(
    hub: &Hub,
    inbox: &Receiver<Event>,
    deadline: Option<Instant>,
    mut bundle: Option<OsString>,
) -> String {
    let mut next = None;
    let remove = |bundle: &mut Option<OsString>| bundle.take().map(std::fs::remove_file);
    let why = loop {
        match next.take() {
            Some(Event::FirstOutput) => drop(remove(&mut bundle)),
            Some(Event::LineEnded(why)) => break ended(hub, &why),
            Some(Event::Quit) => break "somebody asked for its end".to_owned(),
            Some(Event::Signal(number)) => break format!("its broker was ended by signal {number}"),
            None => {}
        }
        if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            break "its time (--timeout) was over".to_owned();
        }
        let pause =
            deadline.map_or(Duration::MAX, |deadline| deadline.saturating_duration_since(Instant::now()));
        next = match inbox.recv_timeout(hub.tick().min(pause)) {
            Ok(event) => Some(event),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => break "its broker has a bug".to_owned(),
        };
    };
    drop(remove(&mut bundle));
    why
}

/// Why a line ended, by what Mezzanine said last.
fn ended(hub: &Hub, why: &str) -> String {
    match hub.verdict() {
        Verdict::Ok => "all guests powered off".to_owned(),
        Verdict::Failed(reason) => format!("the run failed: {reason}"),
        Verdict::Panic(reason) => format!("Mezzanine panicked: {reason}"),
        Verdict::Silent => why.to_owned(),
    }
}

/// Ends QEMU: asked first, then killed.
fn end(child: &mut Child) -> std::io::Result<()> {
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
    Ok(())
}

fn watch_signals(events: &Sender<Event>) -> std::io::Result<()> {
    let mut signals = signal_hook::iterator::Signals::new([SIGTERM, SIGINT, SIGHUP])?;
    let events = events.clone();
    thread::Builder::new().spawn(move || {
        for number in signals.forever() {
            if events.send(Event::Signal(number)).is_err() {
                break;
            }
        }
    })?;
    Ok(())
}
