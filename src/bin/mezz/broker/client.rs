//! A client's connection, from the broker's side: one thread reads, one writes, and neither is ever waited for.

use std::collections::BTreeSet;
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::hub::Hub;
use crate::record::{Piece, Reader, framed};

/// Bytes that a client may leave unread.
const MOST_UNREAD: usize = 1 << 20;
/// Bytes of a client's record.
const LONGEST: usize = 32 << 10;

/// What is on its way to a client.
#[derive(Debug, Default)]
struct Outbox {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    bytes: Vec<u8>,
    /// Nothing more will come.
    closed: bool,
    /// All of it has gone, or never will.
    done: bool,
}

impl Outbox {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a client wants to see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Watch {
    /// Own lines and events.
    Log,
    /// A VM's console.
    Vm(u16),
}

/// A connected client.
#[derive(Debug)]
pub(super) struct Client {
    outbox: Arc<Outbox>,
    stream: UnixStream,
    pub(super) watches: BTreeSet<Watch>,
}

impl Client {
    /// Serves a connection.
    pub(super) fn new(hub: &Arc<Hub>, number: u64, stream: UnixStream) -> std::io::Result<Self> {
        let outbox = Arc::<Outbox>::default();
        let (input, output) = (stream.try_clone()?, stream.try_clone()?);
        let own = Arc::clone(&outbox);
        thread::Builder::new().spawn(move || write(&own, output))?;
        let hub = Arc::clone(hub);
        thread::Builder::new().spawn(move || read(&hub, number, input))?;
        Ok(Self { outbox, stream, watches: BTreeSet::new() })
    }

    /// Sends a record when the client takes it; false if it has left too much unread.
    pub(super) fn send(&self, record: &Value) -> bool {
        let mut waiting = self.outbox.lock();
        if waiting.closed || waiting.done || waiting.bytes.len() > MOST_UNREAD {
            return false;
        }
        waiting.bytes.extend(framed(record));
        self.outbox.changed.notify_all();
        true
    }

    /// Nothing more will be sent.
    pub(super) fn close(&self) {
        self.outbox.lock().closed = true;
        self.outbox.changed.notify_all();
    }

    /// Gives it time to take what was sent.
    pub(super) fn drain(&self, until: Instant) {
        let mut waiting = self.outbox.lock();
        while !waiting.done {
            let left = until.saturating_duration_since(Instant::now());
            if left == Duration::ZERO {
                return;
            }
            waiting = match self.outbox.changed.wait_timeout(waiting, left) {
                Ok((waiting, _)) => waiting,
                Err(error) => error.into_inner().0,
            };
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.close();
        // Wakes a thread that writes to somebody who does not read.
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

fn write(outbox: &Outbox, mut stream: UnixStream) {
    let mut waiting = outbox.lock();
    loop {
        let bytes = std::mem::take(&mut waiting.bytes);
        if !bytes.is_empty() {
            drop(waiting);
            let written = stream.write_all(&bytes);
            waiting = outbox.lock();
            if written.is_err() {
                break;
            }
        } else if waiting.closed {
            break;
        } else {
            waiting = outbox.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }
    waiting.done = true;
    outbox.changed.notify_all();
}

fn read(hub: &Arc<Hub>, number: u64, mut stream: UnixStream) {
    let mut reader = Reader::of(LONGEST);
    let mut buffer = [0; 16 << 10];
    loop {
        let bytes = match stream.read(&mut buffer) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Ok(0) | Err(_) => break,
            Ok(count) => buffer.get(..count).unwrap_or_default(),
        };
        for piece in reader.feed(bytes) {
            match piece {
                Piece::Record(record) => hub.client_said(number, &record),
                Piece::Broken => hub.client_erred(number),
                Piece::Text(_) => {}
            }
        }
    }
    hub.leave(number);
}
