//! A verb's connection to the broker of its machine.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::broker::home;
use crate::record::{Piece, Reader, framed, harmless};
use crate::report::Report;

/// How long an answer may take: a shutdown waits for its guest.
const PATIENCE: Duration = Duration::from_secs(120);

/// A connection.
#[derive(Debug)]
pub(crate) struct Link {
    stream: UnixStream,
    reader: Reader,
    arrived: VecDeque<Value>,
    next_id: u64,
}

impl Link {
    /// To the machine of this name, or the only one.
    pub(crate) fn open(name: Option<&str>) -> Result<Self, Report> {
        let stream = home::connect(&home::choose(name)?)?;
        // An answer of 16 MiB may be one record.
        Ok(Self { stream, reader: Reader::of(128 << 20), arrived: VecDeque::new(), next_id: 1 })
    }

    /// Another end of the same connection, to write to.
    pub(crate) fn writer(&self) -> std::io::Result<UnixStream> {
        self.stream.try_clone()
    }

    /// Sends a record.
    pub(crate) fn send(&mut self, record: &Value) -> Result<(), Report> {
        self.stream.write_all(&framed(record)).map_err(|error| gone(&error.to_string()))
    }

    /// The next record; None at `until`.
    pub(crate) fn receive(&mut self, until: Option<Instant>) -> Result<Option<Value>, Report> {
        self.hear(until).map_err(|why| gone(&why))
    }

    /// The same; else why there is no machine any more.
    pub(crate) fn hear(&mut self, until: Option<Instant>) -> Result<Option<Value>, String> {
        let mut buffer = [0; 16 << 10];
        loop {
            if let Some(record) = self.arrived.pop_front() {
                if let Some(why) = record.get("ended").and_then(Value::as_str) {
                    return Err(why.to_owned());
                }
                return Ok(Some(record));
            }
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                return Ok(None);
            }
            let read = self.stream.set_read_timeout(left).and_then(|()| self.stream.read(&mut buffer));
            let count = match read {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    return Ok(None);
                }
                Err(error) => return Err(error.to_string()),
                Ok(0) => return Err("its broker closed the connection".to_owned()),
                Ok(count) => count,
            };
            for piece in self.reader.feed(buffer.get(..count).unwrap_or_default()) {
                if let Piece::Record(record) = piece {
                    self.arrived.push_back(record);
                }
            }
        }
    }

    /// Runs a command, and waits for its answer. What comes meanwhile and is no answer is dropped.
    pub(crate) fn run(&mut self, line: &str) -> Result<Value, Report> {
        let id = self.next_id;
        self.next_id += 1;
        self.send(&json!({ "id": id, "run": line }))?;
        let until = Instant::now() + PATIENCE;
        while let Some(record) = self.receive(Some(until))? {
            if record.get("id").and_then(Value::as_u64) == Some(id) {
                return answer(record);
            }
        }
        Err(Report::new("E0532", format!("there is no answer to `{line}`, after {} s", PATIENCE.as_secs()))
            .help("`mezz dmesg` and `mezz attach` may say more"))
    }

    /// Asks the broker itself.
    pub(crate) fn ask(&mut self, record: &Value, key: &str) -> Result<Value, Report> {
        self.send(record)?;
        let until = Instant::now() + PATIENCE;
        while let Some(record) = self.receive(Some(until))? {
            if let Some(value) = record.get(key) {
                return Ok(value.clone());
            }
        }
        Err(gone("its broker does not answer"))
    }
}

/// What is said when there is no machine any more.
pub(crate) fn gone(why: &str) -> Report {
    Report::new("E0534", format!("the machine is gone: {}", harmless(why)))
        .help("`mezz machines` lists those that run")
}

/// What an answer says, or what is wrong.
fn answer(mut record: Value) -> Result<Value, Report> {
    let Some(error) = record.get("error") else {
        return Ok(record.get_mut("out").map(Value::take).unwrap_or_default());
    };
    let text = |key: &str| error.get(key).and_then(Value::as_str).unwrap_or_default();
    let (text, help) = (harmless(text("text")), harmless(text("help")));
    let report = Report::new(known(error.get("code")), text.trim_end());
    Err(if help.is_empty() { report } else { report.help(help) })
}

/// The code of an error that came over the line: one that is no code is that of an answer that nobody understands.
fn known(code: Option<&Value>) -> &'static str {
    let code = code.and_then(Value::as_str).unwrap_or_default();
    let good =
        code.len() == 5 && code.starts_with('E') && code.bytes().skip(1).all(|byte| byte.is_ascii_digit());
    // One for each run of this program.
    if good { Box::leak(code.to_owned().into_boxed_str()) } else { "E0536" }
}
