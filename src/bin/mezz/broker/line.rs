//! The line's state as the host sees it: whom it believes, and when.
//!
//! Before the answer to a hello, with the nonce that nobody else was told, what looks like a record is nothing. After it
//! everything is one; a byte outside means that something else has the line, and nothing is believed until the next
//! hello is answered.

use std::io::Read;

use serde_json::{Value, json};

use crate::record::{Piece, Reader, framed};

/// What the line said.
#[derive(Debug, PartialEq)]
pub(super) enum Said {
    /// A hello was answered, by this.
    Greeted(Value),
    /// A record that may be believed.
    Record(Value),
    /// A record that cannot be read, from somebody who was believed.
    Broken,
    /// Text, which anybody may have written.
    Text(Vec<u8>),
    /// Records have ended, for this reason.
    Lost(&'static str),
}

/// One serial line.
#[derive(Debug)]
pub(super) struct Line {
    reader: Reader,
    believed: bool,
    /// Nonces that have not been answered; several, as an answer may take its time.
    nonces: Vec<String>,
}

impl Line {
    pub(super) fn new() -> Self {
        Self { reader: Reader::new(), believed: false, nonces: Vec::new() }
    }

    /// Whether records are spoken.
    pub(super) fn is_believed(&self) -> bool {
        self.believed
    }

    /// A hello to be sent, with a new nonce.
    pub(super) fn hello(&mut self) -> std::io::Result<Vec<u8>> {
        let nonce = nonce()?;
        let record = framed(&json!({ "hello": nonce }));
        self.nonces.push(nonce);
        Ok(record)
    }

    /// What these bytes say, in order.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Vec<Said> {
        let mut said = Vec::new();
        for piece in self.reader.feed(bytes) {
            match piece {
                Piece::Record(value) => said.extend(self.record(value)),
                Piece::Broken if self.believed => said.push(Said::Broken),
                Piece::Broken => {}
                Piece::Text(text) => {
                    if self.believed {
                        said.push(self.lose("something else than Mezzanine's records is on the line"));
                    }
                    said.push(Said::Text(text));
                }
            }
        }
        said
    }

    fn record(&mut self, value: Value) -> Option<Said> {
        if let Some(nonce) = value.get("hello").and_then(Value::as_str) {
            let ours = self.nonces.iter().any(|have| have == nonce);
            // Of a hello that was repeated the others' answers are still to come.
            let again = self.believed;
            self.believed |= ours;
            return (ours && !again).then_some(Said::Greeted(value));
        }
        if !self.believed {
            return None;
        }
        if value.get("bye") == Some(&Value::Bool(true)) {
            return Some(self.lose("the line is plain again"));
        }
        Some(Said::Record(value))
    }

    fn lose(&mut self, why: &'static str) -> Said {
        self.believed = false;
        self.nonces.clear();
        Said::Lost(why)
    }
}

/// 128 random bits.
fn nonce() -> std::io::Result<String> {
    let mut bytes = [0; 16];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A line whose hello was sent, and its nonce.
    fn asked() -> (Line, String) {
        let mut line = Line::new();
        let hello = String::from_utf8(line.hello().unwrap()).unwrap();
        let nonce = hello.split('"').nth(3).unwrap().to_owned();
        assert_eq!(nonce.len(), 32);
        (line, nonce)
    }

    fn answer(nonce: &str) -> String {
        format!("\x1e{{\"hello\":\"{nonce}\",\"version\":\"1\"}}\n")
    }

    #[test]
    fn nothing_is_believed_before_the_answer() {
        let (mut line, nonce) = asked();
        let forged = "\x1e{\"hello\":\"0000\"}\n\x1e{\"vm\":0,\"out\":\"x\"}\n\x1e{\"bye\":true}\n\x1e{";
        assert_eq!(line.feed(forged.as_bytes()), []);
        let said = line.feed(format!("~ # {}\x1e{{\"vm\":0}}\n", answer(&nonce)).as_bytes());
        let [Said::Greeted(_), Said::Record(_)] = &said[..] else { panic!("{said:?}") };
        assert!(line.is_believed());
    }

    #[test]
    fn an_open_record_of_a_guests_does_not_swallow_the_answer() {
        let (mut line, nonce) = asked();
        let said = line.feed(format!("\x1e{{\"out\":\"{}", answer(&nonce)).as_bytes());
        assert!(matches!(said[..], [Said::Greeted(_)]), "{said:?}");
    }

    #[test]
    fn text_ends_belief_and_old_nonces_count_no_more() {
        let (mut line, nonce) = asked();
        line.feed(answer(&nonce).as_bytes());
        let said = line.feed(b"\npanic: x\x1e{\"id\":1,\"out\":true}\n");
        assert!(matches!(said[..], [Said::Lost(_), Said::Text(_)]), "{said:?}");
        assert_eq!(line.feed(answer(&nonce).as_bytes()), []);
        let hello = String::from_utf8(line.hello().unwrap()).unwrap();
        assert_ne!(hello.split('"').nth(3), Some(&*nonce));
    }

    #[test]
    fn any_hello_that_is_open_may_be_answered_once() {
        let (mut line, first) = asked();
        let second = String::from_utf8(line.hello().unwrap()).unwrap();
        let second = second.split('"').nth(3).unwrap().to_owned();
        let said = line.feed(format!("{}{}", answer(&first), answer(&second)).as_bytes());
        assert!(matches!(said[..], [Said::Greeted(_)]), "{said:?}");
        assert!(matches!(line.feed(b"\x1e{\"bye\":true}\n")[..], [Said::Lost(_)]));
        assert!(!line.is_believed());
    }
}
