//! What goes to the line next: a line end that is owed, own lines between a guest's lines, the guest's output.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::state::{LOG, NEW, ROOM};
use super::{BURST, Console, Front, Patience, Screen, Seat, next_running, words};
use crate::vdev::pl011::Pl011;
use core::sync::atomic::Ordering;

/// Bytes of one line of a guest that own lines wait for.
const LONG_LINE: usize = 1024;

/// What has begun on the line.
#[derive(Default)]
pub(super) struct Flow {
    /// Bytes of CR LF that have to come before anything else.
    pub(super) owed: u8,
    /// The last byte was an own line's, and not its end.
    pub(super) own: bool,
    /// The shown VM has stopped: once its output is out, and what is said of it, another one is shown.
    pub(super) leaving: Leaving,
    /// The line that says whose screen this is waits among own lines.
    pub(super) introducing: bool,
    /// The log's screen is shown, and what is kept of it has yet to come once more.
    pub(super) replay: bool,
    /// Bytes of the guest's that went before own lines which wait.
    held: usize,
    /// A line that was not finished was left for own lines.
    broke: bool,
}

/// Whether the shown VM leaves the line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Leaving {
    #[default]
    No,
    /// It has stopped; more will be said of that.
    Soon,
    /// It may go as soon as nothing waits.
    Now,
}

/// What came of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pumped {
    /// As much as goes has gone.
    Here,
    /// Another screen is shown: whoever can, goes on with that one.
    Elsewhere,
}

/// What a piece of the way came to.
enum Went {
    /// There is more to look at.
    On,
    /// The line takes no more, or this call has moved enough.
    Full,
    /// Nothing waits, or nothing that may go.
    Idle,
}

impl Console {
    /// Moves what waits; the caller has the right to write, by the lock of `screen`, and `port` is its port.
    pub(super) fn pump<S: Seat>(
        &self,
        front: &mut impl Front<S>,
        seats: &[S],
        screen: Screen,
        mut port: Option<&mut Pl011>,
        flow: &mut Flow,
        patience: Patience,
    ) -> Pumped {
        if self.state().has(NEW) {
            self.begin(front, seats, screen, port.as_deref_mut(), flow);
        }
        let mut left = BURST;
        let full = loop {
            match self.step(front, port.as_deref_mut(), flow, patience, &mut left) {
                Went::On => {}
                Went::Full => break true,
                Went::Idle => break false,
            }
        };
        if core::mem::take(&mut flow.broke) && screen == Screen::LOG {
            self.broken.store(true, Ordering::Relaxed);
        }
        if flow.leaving == Leaving::Now
            && !full
            && let Some(next) = next_running(seats, screen.vm())
        {
            self.hand_over(front, seats, flow, port, screen, next);
            return Pumped::Elsewhere;
        }
        self.want_room(front, flow, full);
        Pumped::Here
    }

    /// A screen is looked at for the first time since it is shown.
    #[cold]
    fn begin<S: Seat>(
        &self,
        front: &mut impl Front<S>,
        seats: &[S],
        screen: Screen,
        port: Option<&mut Pl011>,
        flow: &mut Flow,
    ) {
        self.state().clear(NEW);
        let lost = port.map_or(0, Pl011::show);
        if lost != 0
            && let Some(seat) = screen.vm().and_then(|n| seats.get(n))
        {
            flow.introducing = true;
            front.say(format_args!("{}", words::Lost { name: seat.name(), bytes: lost }));
        }
    }

    fn step<S>(
        &self,
        front: &mut impl Front<S>,
        port: Option<&mut Pl011>,
        flow: &mut Flow,
        patience: Patience,
        left: &mut usize,
    ) -> Went {
        if *left == 0 {
            return Went::Full;
        }
        if flow.owed != 0 {
            let end: &[u8] = if flow.owed == 1 { b"\n" } else { b"\r\n" };
            let went = self.put(front, end, left);
            flow.owed = flow.owed.wrapping_sub(went as u8);
            return if went == end.len() { Went::On } else { Went::Full };
        }
        let output = port.as_ref().is_some_and(|port| port.has_output());
        // What a VM said last comes before the word that it has stopped.
        let last_words = flow.leaving != Leaving::No && output && !flow.own && !flow.introducing;
        let own = self.state().has(LOG) && !last_words;
        if own {
            let open = self.line_is_open() && !flow.own;
            let pause = patience == Patience::Pause && !output;
            if !open {
                return self.put_own(front, flow, left);
            }
            if pause || flow.held >= LONG_LINE || port.is_none() {
                flow.broke = true;
                flow.owed = 2;
                return Went::On;
            }
        }
        match port.filter(|_| output) {
            Some(port) => self.put_output(front, port, flow, own, left),
            None => Went::Idle,
        }
    }

    fn put_own<S>(&self, front: &mut impl Front<S>, flow: &mut Flow, left: &mut usize) -> Went {
        if self.log.take_torn() && flow.own {
            flow.own = false;
            flow.owed = 2;
            return Went::On;
        }
        if flow.replay && !flow.own {
            // Between lines only.
            flow.replay = false;
            self.log.rewind();
        }
        flow.held = 0;
        // A replay comes after the line that has begun, and has everything that follows.
        let (one, mut ended) = (flow.replay, false);
        let (went, all) = self.log.drain(*left, |piece| {
            let end = piece.iter().position(|byte| *byte == b'\n').filter(|_| one);
            let end = end.map_or(piece.len(), |end| end.saturating_add(1));
            let piece = piece.get(..end).filter(|_| !ended).unwrap_or_default();
            let went = self.put(front, piece, &mut piece.len().max(1));
            ended = one && !self.line_is_open();
            went
        });
        *left = left.saturating_sub(went);
        flow.own = self.line_is_open();
        flow.introducing &= !all;
        if all || ended { Went::On } else { Went::Full }
    }

    fn put_output<S>(
        &self,
        front: &mut impl Front<S>,
        port: &mut Pl011,
        flow: &mut Flow,
        own: bool,
        left: &mut usize,
    ) -> Went {
        let piece = port.outgoing();
        let mut most = piece.len().min(*left);
        if own {
            // Up to the end of the line: own lines come then.
            let end = piece.iter().take(most).position(|byte| *byte == b'\n');
            most = end.map_or(most, |end| end.saturating_add(1));
        }
        let went = self.put(front, piece.get(..most).unwrap_or_default(), left);
        port.consumed(went);
        flow.held = if own { flow.held.saturating_add(went) } else { 0 };
        if went == most { Went::On } else { Went::Full }
    }

    fn put<S>(&self, front: &mut impl Front<S>, bytes: &[u8], left: &mut usize) -> usize {
        let bytes = bytes.get(..bytes.len().min(*left)).unwrap_or_default();
        let went = front.put(bytes).min(bytes.len());
        if let Some(last) = bytes.get(..went).and_then(<[u8]>::last) {
            self.last.store(*last, Ordering::Relaxed);
        }
        *left = left.saturating_sub(went);
        went
    }

    /// Asks the line to interrupt when it takes bytes, or no longer; `flow` keeps others from doing so too.
    pub(super) fn want_room<S>(&self, front: &mut impl Front<S>, _flow: &mut Flow, on: bool) {
        if self.state().has(ROOM) != on {
            if on {
                self.state().set(ROOM)
            } else {
                self.state().clear(ROOM)
            }
            front.want_room(on);
        }
    }

    /// Puts out all that waits of everybody, and waits for it: only once no guest runs any more.
    pub fn flush<S: Seat>(&self, front: &mut impl Front<S>, seats: &[S]) {
        let shown = self.screen().vm();
        let flow = &mut *self.flow.lock();
        if let Some(port) = shown.and_then(|n| seats.get(n)?.port()) {
            let mut port = port.lock();
            self.begin(front, seats, self.screen(), Some(&mut port), flow);
            flow.leaving = Leaving::Now;
            self.finish(front, Some(&mut port), flow);
            flow.leaving = Leaving::No;
        }
        for (_, seat) in seats.iter().enumerate().filter(|(n, _)| Some(*n) != shown) {
            let Some(port) = seat.port() else { continue };
            let mut port = port.lock();
            self.finish(front, None, flow);
            let lost = port.show();
            if port.has_output() {
                front.say(format_args!("{}", words::Rest { name: seat.name(), bytes: port.waiting(), lost }));
                self.finish(front, Some(&mut port), flow);
            }
        }
        self.finish(front, None, flow);
    }

    /// Puts out a port's rest and own lines, and ends the line.
    fn finish<S>(&self, front: &mut impl Front<S>, mut port: Option<&mut Pl011>, flow: &mut Flow) {
        loop {
            let mut left = BURST;
            let went = self.step(front, port.as_deref_mut(), flow, Patience::Pause, &mut left);
            if matches!(went, Went::Idle) {
                if !self.line_is_open() {
                    break;
                }
                flow.owed = 2;
            }
        }
    }
}
