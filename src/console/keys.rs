//! What is typed: it is the shown guest's, but for Ctrl-G and the key after it.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::state::DEAF;
use super::{Console, Front, ROUNDS, Screen, Seat, words};
use crate::vdev::MmioDevice;

/// Begins a command to the console; twice, it is sent to the guest.
pub const CTRL_G: u8 = 0x07;

/// Keys that one call takes at most.
pub const KEYS: usize = 64;

/// How far somebody is with a command.
#[derive(Default)]
pub(super) struct Keys {
    /// Ctrl-G was typed.
    commanded: bool,
}

/// What a key means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Key {
    /// For the guest.
    Typed(u8),
    /// The beginning of a command.
    Begun,
    /// Show a screen.
    Show(Screen),
    /// Show the next one, or the one before.
    Next,
    Previous,
    /// Press the shown guest's power key.
    ShutDown,
    /// Say what there is.
    List,
}

impl Keys {
    fn key(&mut self, byte: u8) -> Key {
        if !self.commanded {
            self.commanded = byte == CTRL_G;
            return if self.commanded { Key::Begun } else { Key::Typed(byte) };
        }
        self.commanded = false;
        match byte {
            CTRL_G => Key::Typed(byte),
            b'0' => Key::Show(Screen::LOG),
            b'1'..=b'9' => Key::Show(Screen(u16::from(byte.wrapping_sub(b'1')))),
            b'n' | b'N' => Key::Next,
            b'p' | b'P' => Key::Previous,
            b's' | b'S' => Key::ShutDown,
            _ => Key::List,
        }
    }
}

/// What came of looking for a key.
enum Read {
    Key(Key),
    /// The screen changed meanwhile: look again.
    Again,
    /// There is none, or none is taken.
    Nothing,
}

impl Console {
    /// Takes what was typed off the line. One CPU at a time, so that it stays in order.
    pub(super) fn receive<S: Seat>(&self, front: &mut impl Front<S>, seats: &[S]) {
        let mut keys = self.keys.lock();
        let mut rounds = ROUNDS;
        for _ in 0..KEYS {
            match self.read_key(front, seats, &mut keys) {
                Read::Nothing => return,
                Read::Again => {
                    rounds = rounds.wrapping_sub(1);
                    if rounds == 0 {
                        // The key is still in the line, whose interrupt comes again.
                        return;
                    }
                }
                Read::Key(Key::Typed(_) | Key::Begun) => {}
                // One command at a time. What was typed after it is still in the line, whose interrupt stays up.
                Read::Key(key) => return self.obey(front, seats, key),
            }
        }
    }

    /// The next key; what is the guest's has gone there.
    fn read_key<S: Seat>(&self, front: &mut impl Front<S>, seats: &[S], keys: &mut Keys) -> Read {
        let screen = self.screen();
        let seat = screen.vm().and_then(|n| seats.get(n)).filter(|seat| seat.is_running());
        let Some((seat, port)) = seat.and_then(|seat| Some((seat, seat.port()?))) else {
            if screen == Screen::LOG && !front.takes_typing() {
                return self.turn_deaf(front);
            }
            let Some(byte) = front.get() else { return Read::Nothing };
            let key = keys.key(byte);
            // Where a guest has stopped nobody is there to read: it goes nowhere.
            if let (Key::Typed(byte), Screen::LOG) = (key, screen) {
                front.typed(byte);
            }
            return Read::Key(key);
        };
        let mut port = port.lock();
        if self.screen() != screen {
            return Read::Again;
        }
        if !port.takes_typing() {
            return self.turn_deaf(front);
        }
        let Some(byte) = front.get() else { return Read::Nothing };
        let key = keys.key(byte);
        if let Key::Typed(byte) = key {
            // There is room: nobody else types.
            let _ = port.type_ahead(byte);
            front.level(seat, port.irq());
        }
        Read::Key(key)
    }

    /// What is still in the line would interrupt for ever. Whoever reads next makes room.
    #[cold]
    fn turn_deaf<S>(&self, front: &mut impl Front<S>) -> Read {
        let _flow = self.flow.lock();
        self.state().set(DEAF);
        front.listen(false);
        Read::Nothing
    }

    fn obey<S: Seat>(&self, front: &mut impl Front<S>, seats: &[S], key: Key) {
        let shown = self.screen();
        match key {
            Key::Typed(_) | Key::Begun => {}
            Key::Show(to) => match words::no_screen(seats, to) {
                Some(why) => front.say(format_args!("{why}")),
                None => self.show(front, seats, to),
            },
            Key::Next => self.show(front, seats, beside(seats, shown, true)),
            Key::Previous => self.show(front, seats, beside(seats, shown, false)),
            Key::ShutDown => shut_down(front, seats, shown),
            Key::List => front.say(format_args!("{}", words::List { seats, shown })),
        }
    }
}

/// Presses the power key of the guest that is shown.
fn shut_down<S: Seat>(front: &mut impl Front<S>, seats: &[S], shown: Screen) {
    let seat = shown.vm().and_then(|n| seats.get(n));
    match seat.filter(|seat| seat.is_running()) {
        Some(seat) => {
            front.press_power_key(seat);
            front.say(format_args!("vm {}: power key pressed, to shut it down", seat.name()));
        }
        None => front.say(format_args!("no guest runs here that could shut down; Ctrl-G ? lists them")),
    }
}

/// The screen after `shown`, or before it; the log's comes after the last VM's and before the first.
fn beside<S: Seat>(seats: &[S], shown: Screen, forward: bool) -> Screen {
    let has = |n: &usize| seats.get(*n).is_some_and(|seat| seat.port().is_some());
    let next = if forward {
        (shown.vm().map_or(0, |n| n.saturating_add(1))..seats.len()).find(has)
    } else {
        (0..shown.vm().unwrap_or(seats.len())).rev().find(has)
    };
    next.map_or(Screen::LOG, |n| Screen(n as u16))
}
