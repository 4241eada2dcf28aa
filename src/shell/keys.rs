//! Bytes become keys: UTF-8, control characters, and what terminals send for keys without one.
//!
//! Escape sequences are those of ECMA-48 (CSI, 5.4) and of VT100s (SS3). Any of them is taken as a whole, known or not, and
//! so are the strings with which terminals answer questions (OSC, DCS and their like); a control character cuts
//! off whatever has begun, and counts.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

/// What was typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    /// Text.
    Char(char),
    Enter,
    Tab,
    /// Erases to the left of the cursor; and under it.
    Backspace,
    Delete,
    Left,
    Right,
    Home,
    End,
    Up,
    Down,
    /// Erases from the cursor to the end; to the beginning; to the beginning of the word.
    EraseEnd,
    EraseStart,
    EraseWord,
    /// Ctrl-L.
    Clear,
    /// Ctrl-C.
    Cancel,
    /// Ctrl-D.
    Leave,
}

/// What has begun.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Ground,
    /// ESC, and intermediate bytes perhaps.
    Escape,
    /// ESC `[` or ESC `O`.
    Sequence(Parameters),
    /// One byte belongs to it still: Linux's own console sends ESC `[[A`.
    One,
    /// A string, up to BEL or ESC `\`.
    Text,
    /// ESC in a string.
    TextEscape,
}

/// What a sequence has before its last byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Parameters {
    None,
    /// The first one.
    First(u16),
    /// And others, which say which keys are held with it: they do not matter.
    More(u16),
    /// What no key sends that is known here.
    Unknown,
}

/// How far the bytes of a key have come.
#[derive(Debug, Default)]
pub(super) struct Keys {
    state: State,
    /// The first bytes of a character.
    begun: [u8; 4],
    have: usize,
    /// CR came last: LF is no second Enter.
    cr: bool,
}

impl Keys {
    pub(super) const fn new() -> Self {
        Self { state: State::Ground, begun: [0; 4], have: 0, cr: false }
    }

    /// Takes a byte; a key, if it ends one that means something.
    pub(super) fn take(&mut self, byte: u8) -> Option<Key> {
        let after_cr = core::mem::replace(&mut self.cr, byte == b'\r');
        if byte < 0x20 || byte == 0x7f {
            self.have = 0;
            if byte == b'\n' && after_cr {
                return None;
            }
            return self.control(byte);
        }
        match self.state {
            State::Ground => self.text(byte),
            State::Escape => {
                self.escape(byte);
                None
            }
            State::Sequence(before) => self.sequence(byte, before),
            State::One => {
                self.state = State::Ground;
                None
            }
            State::Text => None,
            State::TextEscape => {
                self.state = State::Ground;
                if byte != b'\\' {
                    self.escape(byte);
                }
                None
            }
        }
    }

    /// A control character, which ends whatever has begun.
    fn control(&mut self, byte: u8) -> Option<Key> {
        let before = core::mem::take(&mut self.state);
        Some(match byte {
            0x1b => {
                let text = matches!(before, State::Text | State::TextEscape);
                self.state = if text { State::TextEscape } else { State::Escape };
                return None;
            }
            b'\r' | b'\n' => Key::Enter,
            b'\t' => Key::Tab,
            0x08 | 0x7f => Key::Backspace,
            0x01 => Key::Home,
            0x02 => Key::Left,
            0x03 => Key::Cancel,
            0x04 => Key::Leave,
            0x05 => Key::End,
            0x06 => Key::Right,
            0x0b => Key::EraseEnd,
            0x0c => Key::Clear,
            0x0e => Key::Down,
            0x10 => Key::Up,
            0x15 => Key::EraseStart,
            0x17 => Key::EraseWord,
            _ => return None,
        })
    }

    /// A byte behind ESC.
    fn escape(&mut self, byte: u8) {
        self.state = match byte {
            b'[' | b'O' => State::Sequence(Parameters::None),
            b'P' | b'X' | b']' | b'^' | b'_' => State::Text,
            b' '..=b'/' => State::Escape,
            _ => State::Ground,
        };
    }

    /// A byte of a sequence.
    fn sequence(&mut self, byte: u8, before: Parameters) -> Option<Key> {
        use Parameters::{First, More, None as Nothing, Unknown};
        let go_on = |parameters| State::Sequence(parameters);
        self.state = match (byte, before) {
            (b'0'..=b'9', Nothing | First(_)) => {
                let digit = u16::from(byte.wrapping_sub(b'0'));
                let so_far = if let First(number) = before { number } else { 0 };
                go_on(First(so_far.saturating_mul(10).saturating_add(digit)))
            }
            (b'0'..=b'9' | b';', More(number)) | (b';', First(number)) => go_on(More(number)),
            (b' '..=b'?', _) => go_on(Unknown),
            (b'[', Nothing) => State::One,
            _ => State::Ground,
        };
        if self.state != State::Ground {
            return None;
        }
        match (byte, before) {
            (0x80.., _) => self.text(byte),
            (b'A', Nothing | More(1)) => Some(Key::Up),
            (b'B', Nothing | More(1)) => Some(Key::Down),
            (b'C', Nothing | More(1)) => Some(Key::Right),
            (b'D', Nothing | More(1)) => Some(Key::Left),
            (b'H', Nothing | More(1)) | (b'~', First(1 | 7) | More(1 | 7)) => Some(Key::Home),
            (b'F', Nothing | More(1)) | (b'~', First(4 | 8) | More(4 | 8)) => Some(Key::End),
            (b'~', First(3) | More(3)) => Some(Key::Delete),
            _ => None,
        }
    }

    /// A byte of text.
    fn text(&mut self, byte: u8) -> Option<Key> {
        // What this byte does not continue is dropped; then it may be the first one of something.
        for _ in 0..2 {
            let end = self.have.saturating_add(1);
            if let Some(place) = self.begun.get_mut(self.have) {
                *place = byte;
            }
            match core::str::from_utf8(self.begun.get(..end).unwrap_or_default()) {
                Ok(text) => {
                    self.have = 0;
                    return text.chars().next().map(Key::Char);
                }
                Err(error) if error.error_len().is_none() => {
                    self.have = end;
                    return None;
                }
                Err(_) if self.have == 0 => return None,
                Err(_) => self.have = 0,
            }
        }
        None
    }
}
