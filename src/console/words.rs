//! What people read of the console: which screens there are, which is shown, what was lost.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::{Screen, Seat};
use core::fmt::{self, Display, Formatter};

/// `[mz     1.234567]`, before each own line: digit by digit, as the lines of guests that fail are many.
pub fn stamp(f: &mut Formatter<'_>, seconds: u64, micros: u64) -> fmt::Result {
    let mut text = *b"[mz     0.000000]";
    if seconds > 99_999 {
        return write!(f, "[mz {seconds}.{micros:06}]");
    }
    let mut put = |places: core::ops::Range<usize>, mut number: u32, least: u32| {
        for digit in text.get_mut(places).unwrap_or_default().iter_mut().rev() {
            if number < least {
                break;
            }
            *digit = b'0'.wrapping_add((number % 10) as u8);
            number /= 10;
        }
    };
    put(4..9, seconds as u32, 1);
    put(10..16, micros as u32, 0);
    f.write_str(core::str::from_utf8(&text).unwrap_or_default())
}

/// Screens that a digit shows.
const DIGITS: usize = 9;

/// The screen that is shown now, and how to get to another.
pub(super) struct Shown<'a, S> {
    pub(super) seats: &'a [S],
    pub(super) screen: Screen,
}

impl<S: Seat> Display for Shown<'_, S> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let seat = self.screen.vm().and_then(|n| Some((n.saturating_add(1), self.seats.get(n)?)));
        match seat {
            Some((n, seat)) => {
                write!(f, "screen {n}: {}", seat.name())?;
                if !seat.is_running() {
                    f.write_str(" (stopped)")?;
                }
            }
            None => f.write_str("screen 0: Mezzanine's log")?,
        }
        f.write_str("; Ctrl-G ")?;
        keys(f, self.seats)?;
        f.write_str(" switches")
    }
}

/// `0..3`: the digits that show something.
fn keys<S>(f: &mut Formatter<'_>, seats: &[S]) -> fmt::Result {
    write!(f, "0..{}", seats.len().min(DIGITS))?;
    if seats.len() > DIGITS {
        f.write_str(" or n, p")?;
    }
    Ok(())
}

/// All screens; the first nine and the shown one, if there are more.
pub(super) struct List<'a, S> {
    pub(super) seats: &'a [S],
    pub(super) shown: Screen,
}

impl<S: Seat> Display for List<'_, S> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let shown = self.shown.vm();
        let mark = |here: bool| if here { ", shown" } else { "" };
        write!(f, "screens: 0 Mezzanine's log{}", mark(shown.is_none()))?;
        for (n, seat) in self.seats.iter().enumerate() {
            if n < DIGITS || shown == Some(n) {
                let state = match (seat.port().is_some(), seat.is_running()) {
                    (false, _) => "no serial port",
                    (true, true) => "running",
                    (true, false) => "stopped",
                };
                let here = mark(shown == Some(n));
                write!(f, "; {} {} ({state}{here})", n.saturating_add(1), seat.name())?;
            }
        }
        let more = self.seats.len().saturating_sub(DIGITS);
        if more != 0 {
            write!(f, "; {more} more by n and p")?;
        }
        f.write_str(
            ". Type Ctrl-G and a number, n (next), p (previous) or s (shut down); Ctrl-G twice sends it to the guest",
        )
    }
}

/// Why there is no such screen, if there is none.
pub(super) fn no_screen<S: Seat>(seats: &[S], screen: Screen) -> Option<NoScreen<'_>> {
    let n = screen.vm()?;
    let name = match seats.get(n) {
        Some(seat) if seat.port().is_some() => return None,
        seat => seat.map(Seat::name),
    };
    Some(NoScreen { number: n.saturating_add(1), name })
}

/// There is no such screen.
pub(super) struct NoScreen<'a> {
    number: usize,
    name: Option<&'a str>,
}

impl Display for NoScreen<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.name {
            Some(name) => write!(f, "no screen {}: {name} has no serial port", self.number)?,
            None => write!(f, "no screen {}: there are not so many guests", self.number)?,
        }
        f.write_str("; Ctrl-G ? lists them")
    }
}

/// What a hidden guest put out and nobody will see.
pub(super) struct Lost<'a> {
    pub(super) name: &'a str,
    pub(super) bytes: u64,
}

impl Display for Lost<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { name, bytes } = self;
        write!(f, "{bytes} bytes of {name}'s output before this are lost: it put out more than is kept")
    }
}

/// What is left of a guest's output at the end.
pub(super) struct Rest<'a> {
    pub(super) name: &'a str,
    pub(super) bytes: usize,
    pub(super) lost: u64,
}

impl Display for Rest<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { name, bytes, lost } = self;
        write!(f, "vm {name}: {bytes} bytes of its output that were not shown")?;
        if *lost != 0 {
            write!(f, "; {lost} before them are lost")?;
        }
        Ok(())
    }
}

/// How to get from the first screen to the others; nothing if there is no other guest's.
pub(super) fn greeting<S: Seat>(seats: &[S], shown: Screen) -> Option<impl Display> {
    let mut with_screen = seats.iter().enumerate().filter(|(_, seat)| seat.port().is_some());
    let first = with_screen.next()?;
    let second = with_screen.next()?;
    let (other, here) = if shown.vm() == Some(first.0) { (second, first.1) } else { (first, second.1) };
    Some(Greeting { here: here.name(), number: other.0.saturating_add(1), other: other.1.name() })
}

struct Greeting<'a> {
    here: &'a str,
    number: usize,
    other: &'a str,
}

impl Display for Greeting<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { here, number, other } = self;
        write!(
            f,
            "you are at {here}; Ctrl-G {number} shows {other}, Ctrl-G 0 this log, Ctrl-G ? lists all screens"
        )
    }
}
