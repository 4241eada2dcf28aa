//! One serial line for everybody: Mezzanine's own lines, the guests' screens, and what is typed.
//!
//! One screen is shown: a VM's, or the log's. **Whoever holds the lock of the shown VM's port has the right to write
//! to the line**; with the log's screen, that is whoever holds `flow`. Which screen is shown changes under that
//! lock alone, so what a holder reads of it stays true. Locks, from the outermost: `keys`, a port's, `flow`, the
//! log's. The guests' interrupt controllers come after a port's, and never with `flow` held.
//!
//! A guest whose screen is shown and who finds nothing else going on (one word says both, [`State`]) puts its byte
//! straight on the line. Everything else goes through [`Console::pump`], which moves at most [`BURST`] bytes a call; the line's
//! interrupt brings it back. Nothing at EL2 waits for a UART while guests run.
//!
//! | file | what |
//! |---|---|
//! | `mod.rs` | who has the line; changing the screen |
//! | `keys.rs` | what is typed: for the guest, or Ctrl-G and what follows |
//! | `pump.rs` | what goes to the line next |
//! | `book.rs` | own lines, waiting and past |
//! | `state.rs` | the word of the fast path |
//! | `words.rs` | what people read |
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod book;
mod keys;
mod pump;
mod state;
#[cfg(test)]
mod tests;
mod words;

pub use self::book::{LOG_BYTES, Line, Log};
pub use self::keys::KEYS;
pub use self::state::Screen;
pub use self::words::stamp;
use crate::sync::Mutex;
use crate::vdev::MmioDevice;
use crate::vdev::pl011::Pl011;
use crate::vm::Vm;
use alloc::sync::Arc;
use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use keys::Keys;
use pump::{Flow, Leaving, Pumped};
use state::{DEAF, NEW, State};

/// Bytes that one call moves at most, so that EL2 does not stay: the line's interrupt brings it back.
pub const BURST: usize = 256;

/// How often a call looks anew after the screen changed under it: whoever changed it goes on with the new one.
const ROUNDS: usize = 4;

/// Own lines of the machine that this is.
static LOG: Log = Log::new();

/// The log that own lines go to.
pub fn log() -> &'static Log {
    #[cfg(not(test))]
    return &LOG;
    // Tests run side by side.
    #[cfg(test)]
    return std::boxed::Box::leak(std::boxed::Box::default());
}

/// Leaves an own line for the terminal.
pub fn log_line(line: &str) {
    LOG.line(line.as_bytes());
}

/// Keeps an own line that has gone to the terminal already, for the log's screen.
pub fn log_past(line: &str) {
    LOG.past(line.as_bytes());
}

/// A VM as the console sees it.
pub trait Seat {
    /// Its name.
    fn name(&self) -> &str;
    /// Its serial port, if it has one.
    fn port(&self) -> Option<&Mutex<Pl011>>;
    /// Whether it has not stopped.
    fn is_running(&self) -> bool;
}

impl Seat for Option<Arc<Vm>> {
    fn name(&self) -> &str {
        self.as_ref().map_or("", |vm| &vm.name)
    }
    fn port(&self) -> Option<&Mutex<Pl011>> {
        self.as_ref().filter(|vm| !vm.without_uart).map(|vm| &*vm.uart)
    }
    fn is_running(&self) -> bool {
        self.as_ref().is_some_and(|vm| !vm.is_stopping())
    }
}

/// What a CPU does for the console: it reaches the line, and the guests' interrupt controllers.
pub trait Front<S> {
    /// Puts as many bytes on the line as it takes without waiting; how many.
    fn put(&mut self, bytes: &[u8]) -> usize;
    /// A byte that was typed.
    fn get(&mut self) -> Option<u8>;
    /// Whether the line interrupts when it takes bytes again.
    fn want_room(&mut self, on: bool);
    /// Whether the line interrupts when somebody types.
    fn listen(&mut self, on: bool);
    /// The interrupt line of this VM's serial port has this level; called with the port's lock held, so that
    /// levels arrive in the order in which they came about.
    fn level(&mut self, seat: &S, high: bool);
    /// Somebody wants this VM to shut down.
    fn press_power_key(&mut self, seat: &S);
    /// Whether the shell takes a key.
    fn takes_typing(&mut self) -> bool {
        true
    }
    /// Somebody typed to the shell.
    fn typed(&mut self, _: u8) {}
    /// The log's screen, and the shell's, is shown now, in place of that one.
    fn shell_shown(&mut self, _: Screen) {}
    /// Says something to whoever sits at the terminal, as an own line, whatever the log's level is.
    fn say(&mut self, text: fmt::Arguments<'_>) {
        let line = log::Record::builder().args(text).level(log::Level::Info).build();
        log::logger().log(&line);
    }
}

/// When own lines go out that wait while a guest's line is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// With the guest's next line end.
    LineEnd,
    /// Once nothing of the guest waits.
    Pause,
}

/// The line as all CPUs share it.
pub struct Console {
    log: &'static Log,
    /// What was typed last; whoever holds it is the only one that reads the line.
    keys: Mutex<Keys>,
    /// What has begun on the line, and the switches of its interrupt.
    flow: Mutex<Flow>,
    /// The last byte on the line, whoever's it is; written with the right to write there.
    last: AtomicU8,
    /// What the shell says, on the log's screen: a port like a guest's, whose guest is the shell.
    shell: Mutex<Pl011>,
    /// Own lines have come in the middle of the shell's.
    broken: AtomicBool,
}

/// Bytes of the shell's output that wait at most.
const SHELL_RING: usize = 8 << 10;

impl Console {
    /// A console that shows the first screen there is; the others' ports are hidden.
    pub fn new<S: Seat>(log: &'static Log, seats: &[S]) -> Self {
        let console = Self {
            log,
            keys: Mutex::default(),
            flow: Mutex::default(),
            last: AtomicU8::new(b'\n'),
            shell: Mutex::new(Pl011::new(SHELL_RING)),
            broken: AtomicBool::new(false),
        };
        let first = next_running(seats, None).unwrap_or(Screen::LOG);
        if first != Screen::LOG {
            console.shell.lock().hide();
        }
        for (n, seat) in seats.iter().enumerate() {
            if let Some(port) = seat.port().filter(|_| first.vm() != Some(n)) {
                port.lock().hide();
            }
        }
        let shown = log.state.screen();
        log.state.change(shown, first);
        log.state.clear(NEW);
        console
    }

    /// The port behind a screen: its VM's, or the shell's.
    fn port_of<'s, S: Seat>(&'s self, seats: &'s [S], screen: Screen) -> Option<&'s Mutex<Pl011>> {
        match screen.vm() {
            Some(n) => seats.get(n)?.port(),
            None => Some(&self.shell),
        }
    }

    /// The shell says something, on the log's screen.
    pub fn tell<S: Seat>(&self, front: &mut impl Front<S>, seats: &[S], text: &str) {
        let mut port = self.shell.lock();
        port.print(text);
        self.accessed(front, seats, Screen::LOG, &mut port);
    }

    /// Has the log come once more, on its screen.
    pub fn replay(&self) {
        self.log.rewind();
    }

    /// The shell has read some of what was typed.
    pub fn shell_read<S: Seat>(&self, front: &mut impl Front<S>) {
        if self.is_deaf() {
            let mut flow = self.flow.lock();
            if self.screen() == Screen::LOG {
                self.hear(front, &mut flow);
            }
        }
    }

    /// Bytes that the shell may say without losing any.
    pub fn shell_room(&self) -> usize {
        SHELL_RING.saturating_sub(self.shell.lock().waiting())
    }

    /// Whether own lines have come in the middle of what the shell said, since the last time.
    pub fn take_broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed) && self.broken.swap(false, Ordering::Relaxed)
    }

    fn state(&self) -> &State {
        &self.log.state
    }

    /// Which screen is shown. Without its lock, it may be another one by now.
    pub fn screen(&self) -> Screen {
        self.state().screen()
    }

    /// Whether this screen is shown and nothing else is going on: its guest's byte may go straight to the line, by
    /// [`Pl011::pass`], if the caller holds its lock.
    #[inline(always)]
    pub fn is_quiet(&self, screen: Screen) -> bool {
        self.state().is_quiet(screen)
    }

    /// Notes a byte that went straight to the line.
    #[inline(always)]
    pub fn passed(&self, byte: u8) {
        self.last.store(byte, Ordering::Relaxed);
    }

    /// Whether somebody has to [`refresh`](Self::refresh): own lines wait. One load.
    #[inline]
    pub fn log_waits(&self) -> bool {
        self.log.waits()
    }

    /// Whether typed bytes stay in the line until the shown guest has read some.
    #[inline(always)]
    pub fn is_deaf(&self) -> bool {
        self.state().has(DEAF)
    }

    /// The guest behind `port`, whose lock the caller holds, has read or written something.
    pub fn accessed<S: Seat>(
        &self,
        front: &mut impl Front<S>,
        seats: &[S],
        screen: Screen,
        port: &mut Pl011,
    ) {
        if self.screen() != screen {
            return;
        }
        if self.is_deaf() && port.takes_typing() {
            self.hear(front, &mut self.flow.lock());
        }
        // Where the screen changes (its VM has stopped), the line's interrupt goes on with the next one.
        let _ = self.pump(front, seats, screen, Some(port), &mut self.flow.lock(), Patience::LineEnd);
    }

    /// Moves what waits for the line: own lines, and what the shown guest has put out.
    pub fn refresh<S: Seat>(&self, front: &mut impl Front<S>, seats: &[S], patience: Patience) {
        for _ in 0..ROUNDS {
            let screen = self.screen();
            let pumped = match self.port_of(seats, screen) {
                Some(port) => {
                    let mut port = port.lock();
                    let mut flow = self.flow.lock();
                    if self.screen() != screen {
                        continue;
                    }
                    let pumped = self.pump(front, seats, screen, Some(&mut port), &mut flow, patience);
                    drop(flow);
                    level(front, seats, screen, &port);
                    pumped
                }
                None => {
                    let mut flow = self.flow.lock();
                    if self.screen() != screen {
                        continue;
                    }
                    self.pump(front, seats, screen, None, &mut flow, patience)
                }
            };
            if pumped == Pumped::Here {
                break;
            }
        }
    }

    /// The line interrupted: somebody typed, or it takes bytes again. On any CPU.
    pub fn interrupt<S: Seat>(&self, front: &mut impl Front<S>, seats: &[S]) {
        self.receive(front, seats);
        self.refresh(front, seats, Patience::Pause);
    }

    /// VM `n` has stopped, and there is more to say of that: if it is shown, what it said last goes out before, and it
    /// stays until it [`stopped`](Self::stopped).
    pub fn stopping<S: Seat>(&self, seats: &[S], n: usize) {
        self.leave(seats, n, Leaving::Soon);
    }

    /// Whether VM `n` is shown, and so leaves the line.
    fn leave<S: Seat>(&self, seats: &[S], n: usize, leaving: Leaving) -> bool {
        let Some(port) = seats.get(n).and_then(Seat::port) else { return false };
        let _port = port.lock();
        let shown = self.screen().vm() == Some(n);
        if shown {
            self.flow.lock().leaving = leaving;
        }
        shown
    }

    /// VM `n` has stopped: what it said last goes out if it is shown, then the next running VM's screen is. If it is
    /// not, what was said of it waits for the end of the shown guest's line.
    pub fn stopped<S: Seat>(&self, front: &mut impl Front<S>, seats: &[S], n: usize) {
        let shown = self.leave(seats, n, Leaving::Now);
        let patience = if shown { Patience::Pause } else { Patience::LineEnd };
        self.refresh(front, seats, patience);
    }

    /// Shows a screen that there is, and says so.
    pub fn show<S: Seat>(&self, front: &mut impl Front<S>, seats: &[S], to: Screen) {
        for _ in 0..ROUNDS {
            let from = self.screen();
            if let Some(port) = self.port_of(seats, from) {
                let mut port = port.lock();
                let mut flow = self.flow.lock();
                if self.screen() != from {
                    continue;
                }
                self.hand_over(front, seats, &mut flow, Some(&mut port), from, to);
                drop(flow);
                level(front, seats, from, &port);
            } else {
                let mut flow = self.flow.lock();
                if self.screen() != from {
                    continue;
                }
                self.hand_over(front, seats, &mut flow, None, from, to);
            }
            break;
        }
        self.refresh(front, seats, Patience::Pause);
    }

    /// Gives the line from one screen to another; the caller holds the lock of `from`, which is shown.
    fn hand_over<S: Seat>(
        &self,
        front: &mut impl Front<S>,
        seats: &[S],
        flow: &mut Flow,
        port: Option<&mut Pl011>,
        from: Screen,
        to: Screen,
    ) {
        flow.leaving = Leaving::No;
        flow.introducing = true;
        // What comes next is not of this line. An own line that has begun ends by itself.
        if self.line_is_open() && !flow.own && flow.owed == 0 {
            flow.owed = 2;
        }
        front.say(format_args!("{}", words::Shown { seats, screen: to }));
        if to == Screen::LOG {
            front.shell_shown(from);
        }
        if from == to {
            return;
        }
        if let Some(port) = port {
            port.hide();
        }
        flow.replay = to == Screen::LOG;
        if self.is_deaf() {
            self.hear(front, flow);
        }
        self.want_room(front, flow, true);
        self.state().change(from, to);
    }

    fn line_is_open(&self) -> bool {
        self.last.load(Ordering::Relaxed) != b'\n'
    }

    /// Typed bytes are taken again.
    #[cold]
    fn hear<S>(&self, front: &mut impl Front<S>, _flow: &mut Flow) {
        self.state().clear(DEAF);
        front.listen(true);
    }

    /// What people read once all guests have been started; nothing if there is nothing to switch to.
    pub fn greeting<S: Seat>(&self, seats: &[S]) -> Option<impl fmt::Display> {
        words::greeting(seats, self.screen())
    }
}

/// The line of a VM's port has a level, with the port's lock held.
fn level<S: Seat>(front: &mut impl Front<S>, seats: &[S], screen: Screen, port: &Pl011) {
    if let Some(seat) = screen.vm().and_then(|n| seats.get(n)) {
        front.level(seat, port.irq());
    }
}

/// The first screen after `from`, in turn, whose VM runs.
fn next_running<S: Seat>(seats: &[S], from: Option<usize>) -> Option<Screen> {
    let first = from.map_or(0, |n| n.saturating_add(1));
    let turn = (first..seats.len()).chain(0..first);
    let has = |n: &usize| seats.get(*n).is_some_and(|seat| seat.port().is_some() && seat.is_running());
    turn.into_iter().find(has).map(|n| Screen(n as u16))
}
