//! A guest's console as the broker keeps it: what it said last, and what is typed for it.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::record::text_of;

/// Bytes that are kept of what was said.
const KEPT: usize = 64 << 10;
/// Bytes that may wait to be typed.
const MOST_TYPED: usize = 64 << 10;
/// Bytes of a record to Mezzanine: with six characters for each it still fits.
const PIECE: usize = 64;
/// How long a guest that has no room is left alone: at first, and at most.
const PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// After this a piece that was never acknowledged is taken for lost.
const PATIENCE: Duration = Duration::from_secs(10);

/// The last bytes of something.
#[derive(Debug, Default)]
pub(super) struct Backlog(VecDeque<u8>);

impl Backlog {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.0.extend(bytes);
        let over = self.0.len().saturating_sub(KEPT);
        self.0.drain(..over);
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        self.0.iter().copied().collect()
    }
}

/// One VM's.
#[derive(Debug, Default)]
pub(super) struct Console {
    said: Backlog,
    typed: VecDeque<u8>,
    /// Of what was typed, so many bytes are on their way since then.
    under_way: Option<(usize, Instant)>,
    /// Nothing is sent before this, and how long the next pause is.
    pause: Option<(Instant, Duration)>,
}

impl Console {
    pub(super) fn said(&mut self, bytes: &[u8]) {
        self.said.push(bytes);
    }

    /// What is kept, as a record says it.
    pub(super) fn kept(&self) -> String {
        text_of(&self.said.bytes())
    }

    /// Somebody typed; false if there is no room, and then none of it is taken.
    pub(super) fn typed(&mut self, bytes: &[u8]) -> bool {
        let fits = self.typed.len() + bytes.len() <= MOST_TYPED;
        if fits {
            self.typed.extend(bytes);
        }
        fits
    }

    pub(super) fn has_input(&self) -> bool {
        !self.typed.is_empty()
    }

    /// What was typed for a Mezzanine that is no longer there.
    pub(super) fn forget_input(&mut self) {
        self.typed.clear();
        (self.under_way, self.pause) = (None, None);
    }

    /// The next piece to be sent, if one may be.
    pub(super) fn next_input(&mut self, now: Instant) -> Option<String> {
        if let Some((bytes, since)) = self.under_way {
            if now.duration_since(since) < PATIENCE {
                return None;
            }
            self.typed.drain(..bytes.min(self.typed.len()));
            self.under_way = None;
        }
        if self.typed.is_empty() || self.pause.is_some_and(|(until, _)| now < until) {
            return None;
        }
        let piece: Vec<u8> = self.typed.iter().copied().take(PIECE).collect();
        self.under_way = Some((piece.len(), now));
        Some(text_of(&piece))
    }

    /// So many bytes of the last piece have arrived.
    pub(super) fn took(&mut self, bytes: usize, now: Instant) {
        let Some((sent, _)) = self.under_way.take() else { return };
        self.typed.drain(..bytes.min(sent).min(self.typed.len()));
        self.pause = if bytes >= sent {
            None
        } else {
            let pause = self.pause.filter(|_| bytes == 0).map_or(PAUSE, |(_, pause)| pause);
            Some((now + pause, (pause * 2).min(LONGEST_PAUSE)))
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_is_kept() {
        let mut console = Console::default();
        console.said(&vec![b'a'; KEPT]);
        console.said(b"\xffend");
        let kept = console.kept();
        assert_eq!(kept.chars().count(), KEPT);
        assert!(kept.ends_with("aÿend"));
    }

    #[test]
    fn typing_goes_in_pieces_as_there_is_room() {
        let mut console = Console::default();
        let start = Instant::now();
        assert_eq!(console.next_input(start), None);
        assert!(console.typed(&[b'x'; PIECE + 10]));
        assert_eq!(console.next_input(start).unwrap().len(), PIECE);
        assert_eq!(console.next_input(start), None, "one is under way");
        console.took(PIECE - 1, start);
        assert_eq!(console.next_input(start), None, "a pause");
        let later = start + PAUSE;
        assert_eq!(console.next_input(later).unwrap().len(), 11);
        console.took(0, later);
        console.took(99, later);
        assert_eq!(console.next_input(later + PAUSE), None, "the pause doubles");
        assert_eq!(console.next_input(later + PAUSE * 2).unwrap().len(), 11);
        console.took(11, later);
        assert!(!console.has_input());
        assert!(console.typed(b"y"));
        assert_eq!(console.next_input(later).as_deref(), Some("y"), "no pause is left");
    }

    #[test]
    fn what_was_lost_is_not_typed_twice() {
        let mut console = Console::default();
        let start = Instant::now();
        assert!(console.typed(b"a"));
        assert!(console.next_input(start).is_some());
        assert!(console.typed(b"b"));
        assert_eq!(console.next_input(start + PATIENCE).as_deref(), Some("b"));
        assert!(!console.typed(&vec![0; MOST_TYPED]), "too much, and none of it");
        console.forget_input();
        assert!(!console.has_input());
    }
}
