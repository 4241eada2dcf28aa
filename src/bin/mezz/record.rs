//! Records as the host reads and writes them: RS, JSON on one line, LF (docs/control.md).

use mezzanine::records::{LF, RS};
use serde_json::Value;

/// Bytes of a record that are read; nobody's are longer.
const LONGEST: usize = 64 << 10;

/// What bytes turn out to be.
#[derive(Debug, PartialEq)]
pub(crate) enum Piece {
    /// A record: an object.
    Record(Value),
    /// Bytes outside of records.
    Text(Vec<u8>),
    /// A record that was cut, too long, or no object.
    Broken,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    #[default]
    Outside,
    Within,
    /// In what is too long.
    Dropped,
}

/// Takes bytes as they come.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    place: Place,
    record: Vec<u8>,
    longest: usize,
}

impl Reader {
    /// One for what Mezzanine sends.
    pub(crate) fn new() -> Self {
        Self::of(LONGEST)
    }

    /// One for records of at most so many bytes.
    pub(crate) fn of(longest: usize) -> Self {
        Self { longest, ..Self::default() }
    }

    /// What these bytes complete, in order.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Vec<Piece> {
        let mut pieces = Vec::new();
        for byte in bytes {
            match (self.place, *byte) {
                (Place::Within, RS) if !self.record.is_empty() => {
                    pieces.push(Piece::Broken);
                    self.record.clear();
                }
                (_, RS) => {
                    self.place = Place::Within;
                    self.record.clear();
                }
                (Place::Within, LF) => {
                    self.place = Place::Outside;
                    if !self.record.is_empty() {
                        pieces.push(parse(&self.record));
                    }
                }
                (Place::Within, ..=0x1f) => {
                    self.place = Place::Outside;
                    pieces.push(Piece::Broken);
                }
                (Place::Within, byte) => {
                    self.record.push(byte);
                    if self.record.len() > self.longest {
                        self.place = Place::Dropped;
                        pieces.push(Piece::Broken);
                    }
                }
                (Place::Dropped, LF) => self.place = Place::Outside,
                (Place::Dropped, _) => {}
                (Place::Outside, byte) => match pieces.last_mut() {
                    Some(Piece::Text(text)) => text.push(byte),
                    _ => pieces.push(Piece::Text(vec![byte])),
                },
            }
        }
        pieces
    }
}

fn parse(record: &[u8]) -> Piece {
    match serde_json::from_slice(record) {
        Ok(value @ Value::Object(_)) => Piece::Record(value),
        _ => Piece::Broken,
    }
}

/// A record as it goes out.
pub(crate) fn framed(value: &Value) -> Vec<u8> {
    format!("\x1e{value}\n").into_bytes()
}

/// Bytes as a record's `in` and `out` say them.
pub(crate) fn text_of(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}

/// The bytes that such a text stands for; what is no byte is a question mark.
pub(crate) fn bytes_of(text: &str) -> Vec<u8> {
    text.chars().map(|c| u8::try_from(u32::from(c)).unwrap_or(b'?')).collect()
}

/// Text for a terminal, from somebody who is not trusted with it: no control characters but line ends and tabs.
pub(crate) fn harmless(text: &str) -> String {
    let text = text.replace("\r\n", "\n");
    text.chars().map(|c| if c.is_control() && !matches!(c, '\n' | '\t') { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn pieces_wherever_they_are_cut() {
        let bytes = b"boot\r\n\x1e{\"a\":1}\n\x1e\x1e{\"b\":\x1e{\"c\":2}\n\x1e[1]\n\x1e{\n\npanic: \x1e{\"d\":\"\x07x";
        let expected = [
            Piece::Text(b"boot\r\n".to_vec()),
            Piece::Record(json!({ "a": 1 })),
            Piece::Broken,
            Piece::Record(json!({ "c": 2 })),
            Piece::Broken,
            Piece::Broken,
            Piece::Text(b"\npanic: ".to_vec()),
            Piece::Broken,
            Piece::Text(b"x".to_vec()),
        ];
        assert_eq!(Reader::new().feed(bytes), expected);
        let mut reader = Reader::new();
        let mut pieces: Vec<Piece> = Vec::new();
        for piece in bytes.iter().flat_map(|byte| reader.feed(&[*byte])) {
            match (piece, pieces.last_mut()) {
                (Piece::Text(more), Some(Piece::Text(text))) => text.extend(more),
                (piece, _) => pieces.push(piece),
            }
        }
        assert_eq!(pieces, expected);
    }

    #[test]
    fn what_is_too_long_is_one_broken_record() {
        let mut reader = Reader::of(10);
        let bytes = [&b"\x1e{\"a\":\""[..], &[b'x'; 10_000], b"\"}\n\x1e{\"a\":1}\n"].concat();
        assert_eq!(reader.feed(&bytes), [Piece::Broken, Piece::Record(json!({ "a": 1 }))]);
    }

    #[test]
    fn bytes_and_text() {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(bytes_of(&text_of(&all)), all);
        assert_eq!(bytes_of("a\u{20ac}"), b"a?");
        assert_eq!(harmless("a\r\nb\t\x1b[2J\u{9b}é"), "a\nb\t\u{fffd}[2J\u{fffd}é");
    }
}
