//! The hypervisor's own lines: those that wait for the terminal, and those that went before.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::state::{self, State};
use crate::sync::Mutex;
use core::fmt;

/// Bytes of an own line, with its end: the longest that there is, all screens with the longest names, fits.
const LINE_BYTES: usize = 768;

/// An own line as it is put together, without the heap; what does not fit is cut.
#[derive(Default)]
pub struct Line(heapless::String<LINE_BYTES>);

impl Line {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// The line with its end, which has its room.
    pub fn ended(&mut self) -> &str {
        let _ = self.0.push_str(LINE_END);
        &self.0
    }
}

impl fmt::Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = LINE_BYTES.saturating_sub(LINE_END.len()).saturating_sub(self.0.len());
        let text = if text.len() <= room {
            text
        } else {
            text.get(..text.floor_char_boundary(room)).unwrap_or_default()
        };
        let _ = self.0.push_str(text);
        Ok(())
    }
}

const LINE_END: &str = "\r\n";

/// Bytes of own lines that are kept, waiting ones and history together; a power of two.
pub const LOG_BYTES: usize = 16 << 10;

/// What stands where lines are missing, around their number.
const LOST: &[u8] = b"[mz] ";
const LOSS: &[u8] = b" lines are missing here: they came faster than the terminal took them\r\n";
const DIGITS: usize = 6;

/// The log: whoever runs may add a line, on any CPU and with any lock held.
pub struct Log {
    book: Mutex<Book>,
    /// The console's, here because a new line changes it.
    pub(super) state: State,
}

struct Book {
    bytes: [u8; LOG_BYTES],
    /// Positions, modulo 2^32: of the next line, of the next byte for the terminal, and of the first that it has
    /// never had.
    written: u32,
    put: u32,
    fresh: u32,
    /// Bytes before `written` that are there: all, once the book has been filled.
    kept: u32,
    /// Lines that did not fit since one that did.
    lost: u32,
    /// The line at `put` has lost its beginning.
    torn: bool,
}

impl Default for Log {
    fn default() -> Self {
        Self::new()
    }
}

impl Log {
    /// An empty log; all zeroes.
    pub const fn new() -> Self {
        let bytes = [0; LOG_BYTES];
        let book = Book { bytes, written: 0, put: 0, fresh: 0, kept: 0, lost: 0, torn: false };
        Self { book: Mutex::new(book), state: State::new() }
    }

    /// Leaves a whole line, with its line end, for the terminal.
    pub fn line(&self, text: &[u8]) {
        let mut book = self.book.lock();
        if book.add(text) {
            self.state.set(state::LOG);
        }
    }

    /// Keeps a line that the terminal has had already.
    pub fn past(&self, text: &[u8]) {
        let mut book = self.book.lock();
        // What waits is to stay in order: nothing does while lines go to the terminal directly.
        if book.add(text) {
            (book.put, book.fresh) = (book.written, book.written);
        }
    }

    /// Whether lines wait for the terminal: one load.
    #[inline]
    pub fn waits(&self) -> bool {
        self.state.has(state::LOG)
    }

    /// Gives what waits to `put`, at most `most` bytes, until it takes no more; how many went, and whether all did.
    pub(super) fn drain(&self, most: usize, put: impl FnMut(&[u8]) -> usize) -> (usize, bool) {
        let mut book = self.book.lock();
        let (went, all) = book.drain(most, put);
        if all {
            // With the lock held, so that no line is added in between.
            self.state.clear(state::LOG);
        }
        (went, all)
    }

    /// Whether a line lost its beginning while the terminal had a part of it; it is told once.
    pub(super) fn take_torn(&self) -> bool {
        core::mem::take(&mut self.book.lock().torn)
    }

    /// Has the terminal get everything that is kept, once more.
    pub(super) fn rewind(&self) {
        let mut book = self.book.lock();
        let first = book.first_line();
        if first != book.written {
            book.put = first;
            self.state.set(state::LOG);
        }
    }
}

impl Book {
    fn add(&mut self, text: &[u8]) -> bool {
        let waiting = self.written.wrapping_sub(self.fresh);
        // Whole lines only. A guest may cause lines, and must not fill EL2.
        let room = LOG_BYTES.saturating_sub(waiting as usize);
        let told =
            if self.lost == 0 { 0 } else { LOST.len().saturating_add(LOSS.len()).saturating_add(DIGITS) };
        if text.len().saturating_add(told) > room {
            self.lost = self.lost.saturating_add(1);
            return false;
        }
        if self.lost != 0 {
            self.tell_loss();
        }
        self.append(text);
        // A replay that is overtaken goes on with the first whole line.
        if self.written.wrapping_sub(self.put) as usize > LOG_BYTES {
            self.put = self.first_line();
            self.torn = true;
        }
        true
    }

    fn append(&mut self, text: &[u8]) {
        // In one piece, or in two around the end.
        let place = self.written as usize & (LOG_BYTES - 1);
        let (first, rest) = text.split_at(text.len().min(LOG_BYTES.saturating_sub(place)));
        for (place, piece) in [(place, first), (0, rest)] {
            if let Some(bytes) = self.bytes.get_mut(place..place.saturating_add(piece.len())) {
                bytes.copy_from_slice(piece);
            }
        }
        self.written = self.written.wrapping_add(text.len() as u32);
        self.kept = self.kept.saturating_add(text.len() as u32).min(LOG_BYTES as u32);
    }

    /// Says how many lines are missing here.
    #[cold]
    fn tell_loss(&mut self) {
        let mut rest = core::mem::take(&mut self.lost).min(999_999);
        let mut digits = [b' '; DIGITS];
        for digit in digits.iter_mut().rev() {
            *digit = (rest % 10) as u8 | b'0';
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        self.append(LOST);
        self.append(&digits);
        self.append(LOSS);
    }

    /// The position of the first whole line.
    fn first_line(&self) -> u32 {
        let first = self.written.wrapping_sub(self.kept);
        if (self.kept as usize) < LOG_BYTES {
            return first;
        }
        let at = |n: u32| self.bytes.get(first.wrapping_add(n) as usize & (LOG_BYTES - 1));
        let end = (0..self.kept).find(|n| at(*n) == Some(&b'\n')).unwrap_or(self.kept);
        first.wrapping_add(end.saturating_add(1).min(self.kept))
    }

    fn drain(&mut self, most: usize, mut put: impl FnMut(&[u8]) -> usize) -> (usize, bool) {
        let mut went = 0_usize;
        // What waits lies in one piece or two.
        for _ in 0..2 {
            let first = self.put as usize & (LOG_BYTES - 1);
            let waiting = self.written.wrapping_sub(self.put) as usize;
            let bytes = waiting.min(LOG_BYTES.saturating_sub(first)).min(most.saturating_sub(went));
            let piece = self.bytes.get(first..first.saturating_add(bytes)).unwrap_or_default();
            let taken = put(piece).min(bytes);
            went = went.saturating_add(taken);
            let ahead = self.put.wrapping_sub(self.fresh);
            self.put = self.put.wrapping_add(taken as u32);
            // What the terminal has in a replay it has had before.
            if ahead == 0 || ahead > u32::MAX / 2 && self.put.wrapping_sub(self.fresh) <= u32::MAX / 2 {
                self.fresh = self.put;
            }
            if taken < bytes {
                break;
            }
        }
        (went, self.put == self.written)
    }

    #[cfg(test)]
    fn waiting(&self) -> usize {
        self.written.wrapping_sub(self.put) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn all(log: &Log) -> Vec<u8> {
        let mut out = Vec::new();
        while !log
            .drain(100, |piece| {
                out.extend_from_slice(piece);
                piece.len()
            })
            .1
        {}
        out
    }

    #[test]
    fn lines_wait_whole_and_are_kept() {
        let log = Log::new();
        for n in 0..2000 {
            log.line(std::format!("line {n:04}\r\n").as_bytes());
        }
        assert!(log.waits());
        let first = all(&log);
        assert!(!log.waits());
        assert_eq!(first.len(), LOG_BYTES / 11 * 11, "what did not fit is lost whole");
        assert!(first.starts_with(b"line 0000\r\nline 0001\r\n"));
        log.rewind();
        assert!(log.waits());
        assert_eq!(all(&log), first);
        log.line(b"more\r\n");
        let text = std::string::String::from_utf8(all(&log)).unwrap();
        let missing = 2000 - LOG_BYTES / 11;
        assert!(text.starts_with(&std::format!("[mz] {missing:6} lines are missing here")), "{text}");
        assert!(text.ends_with("\r\nmore\r\n"));
    }

    #[test]
    fn a_line_is_cut_and_still_ends() {
        use core::fmt::Write;
        let mut line = Line::new();
        write!(line, "[mz 1.0] {}", "\u{e4}".repeat(500)).unwrap();
        write!(line, "more").unwrap();
        // 757 bytes are left for characters of two; one byte for what follows.
        assert_eq!(line.ended(), std::format!("[mz 1.0] {}m\r\n", "\u{e4}".repeat(378)));
        let mut line = Line::new();
        write!(line, "as it is").unwrap();
        assert_eq!(line.ended(), "as it is\r\n");
    }

    #[test]
    fn a_replay_loses_no_new_line() {
        let log = Log::new();
        for n in 0..3000 {
            log.line(std::format!("line {n:04}\r\n").as_bytes());
            all(&log);
        }
        log.rewind();
        let mut part = Vec::new();
        log.drain(5, |piece| {
            part.extend_from_slice(piece);
            piece.len()
        });
        assert!(part.starts_with(b"line "), "whole lines: {part:?}");
        for n in 0..1000 {
            log.line(std::format!("news {n:04}\r\n").as_bytes());
        }
        assert!(log.take_torn() && !log.take_torn());
        assert_eq!(log.book.lock().waiting() / 11, LOG_BYTES / 11);
        let out = all(&log);
        let news = out.windows(11).position(|line| line == b"news 0000\r\n").unwrap();
        assert_eq!((out.len() - news) / 11, 1000);
        assert!(out.starts_with(b"line "));
        log.past(b"told\r\n");
        assert!(!log.waits());
        log.rewind();
        assert!(all(&log).ends_with(b"news 0999\r\ntold\r\n"));
    }
}
