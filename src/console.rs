//! One serial line for everybody: Mezzanine's own lines, the guests' screens, and what is typed.
//!
//! Own lines are written at once while no guest runs. Later they wait in a ring that the run loop gives to
//! the line as it takes bytes, as it does with the guests' output; nothing at EL2 waits for a UART then.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use crate::machine::Machine;
use crate::sync::Mutex;
use crate::vdev::pl011::Pl011;
use crate::vm::Vm;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, Ordering};

/// Own lines that may wait. What does not fit is lost: a guest may cause lines, and must not fill EL2.
pub const LOG_BYTES: usize = 16 << 10;

/// Bytes that one call moves at most, so that EL2 does not stay: the line's interrupt brings it back.
const BURST: usize = 256;

/// Typed bytes that may wait for the guest; beyond that they wait in the UART.
pub const INPUT_BYTES: usize = 4 << 10;

/// A ring of bytes of bounded size.
#[derive(Debug, Default)]
pub struct Ring {
    bytes: VecDeque<u8>,
}

impl Ring {
    /// An empty ring; allocates nothing yet.
    pub const fn new() -> Self {
        Self { bytes: VecDeque::new() }
    }

    /// Appends as much of a line as stays within `limit`.
    pub fn write(&mut self, text: &[u8], limit: usize) {
        let room = limit.saturating_sub(self.bytes.len());
        self.bytes.extend(text.iter().take(room));
    }

    /// What is first in line, in one piece.
    pub fn front(&self) -> &[u8] {
        self.bytes.as_slices().0
    }

    /// Drops `n` bytes from the front.
    pub fn consumed(&mut self, n: usize) {
        self.bytes.drain(..n.min(self.bytes.len()));
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Bytes in it.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Takes the first byte.
    pub fn pop(&mut self) -> Option<u8> {
        self.bytes.pop_front()
    }
}

/// Own lines that wait for the line.
static LOG: Mutex<Ring> = Mutex::new(Ring::new());

/// Whether there are any: what the run loop looks at when a guest writes.
static LOG_WAITS: AtomicBool = AtomicBool::new(false);

/// Leaves an own line for the run loop to put out.
pub fn log_line(line: &[u8]) {
    LOG.lock().write(line, LOG_BYTES);
    LOG_WAITS.store(true, Ordering::Release);
}

/// The line as the run loop drives it.
#[derive(Default)]
pub struct Console {
    /// What was typed and not taken yet.
    input: Ring,
    /// The line is asked to interrupt when it takes bytes again.
    wants_room: bool,
}

/// Moves own lines to the line; whether all of them went.
#[cold]
fn pump_log<M: Machine>(machine: &mut M) -> bool {
    let mut log = LOG.lock();
    let front = log.front().get(..BURST.min(log.front().len())).unwrap_or_default();
    let taken = machine.console_put(front);
    log.consumed(taken);
    if !log.is_empty() {
        return false;
    }
    LOG_WAITS.store(false, Ordering::Relaxed);
    true
}

impl Console {
    /// Moves waiting output to the line: own lines first, then the screen behind `uart`. Never waits.
    #[inline]
    pub fn pump<M: Machine>(&mut self, machine: &mut M, uart: &mut Pl011) {
        let mut flowing = !LOG_WAITS.load(Ordering::Relaxed) || pump_log(machine);
        if flowing {
            let mut left = BURST;
            flowing = uart.drain(|byte| {
                left = left.wrapping_sub(1);
                left != 0 && machine.console_put(&[byte]) == 1
            });
        }
        if self.wants_room == flowing {
            self.wants_room = !flowing;
            machine.console_want_room(!flowing);
        }
    }

    /// Takes what was typed off the line.
    pub fn receive<M: Machine>(&mut self, machine: &mut M) {
        for _ in 0..BURST {
            if self.input.len() >= INPUT_BYTES {
                break;
            }
            let Some(byte) = machine.console_get() else { return };
            self.input.write(&[byte], INPUT_BYTES);
        }
        // Full: what is still in the UART would interrupt for ever.
        if self.input.len() >= INPUT_BYTES {
            machine.console_listen(false);
        }
    }

    /// Types waiting input into the port, as far as it takes it.
    pub fn type_in<M: Machine>(&mut self, machine: &mut M, uart: &mut Pl011) {
        if self.input.is_empty() {
            return;
        }
        while let Some(&byte) = self.input.front().first() {
            if !uart.type_in(byte) {
                break;
            }
            self.input.consumed(1);
        }
        if self.input.len() < INPUT_BYTES {
            machine.console_listen(true);
        }
    }

    /// Whether typed bytes wait for the guest.
    #[inline]
    pub fn has_input(&self) -> bool {
        !self.input.is_empty()
    }
}

/// Puts out all that waits of every VM, and waits for it: only once no guest runs any more.
pub fn flush<M: Machine>(machine: &mut M, vms: &[Arc<Vm>]) {
    let mut all = |front: &[u8]| {
        let mut rest = front;
        while !rest.is_empty() {
            let taken = machine.console_put(rest);
            rest = rest.get(taken..).unwrap_or_default();
        }
    };
    for vm in vms {
        let mut uart = vm.uart.lock();
        while !uart.outgoing().is_empty() {
            let front = uart.outgoing();
            all(front);
            let n = front.len();
            uart.consumed(n);
        }
    }
    let mut log = LOG.lock();
    while !log.is_empty() {
        all(log.front());
        let n = log.front().len();
        log.consumed(n);
    }
}
