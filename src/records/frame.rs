//! One record on its way out, of bounded length.
//!
//! The line takes a few bytes at a time and must not be waited for, so a record is put together whole, here, and
//! sent as there is room; the next one follows when the last byte has gone. What is longer than a record goes in several.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::{BAD_RECORD, LF, RS, Reason, VERSION};
use core::fmt::{self, Write};

/// Bytes of a record on the line, at most, with its first and last.
pub const FRAME: usize = 512;

/// Room that a record keeps for its end, at most `"}}` and [`LF`].
const TAIL: usize = 4;

/// A record that is being sent.
///
/// Each maker needs the one before it gone ([`is_empty`](Self::is_empty)), and else makes nothing.
pub struct Frame {
    bytes: [u8; FRAME],
    len: usize,
    /// Of them, how many have gone.
    went: usize,
}

impl Default for Frame {
    fn default() -> Self {
        Self::new()
    }
}

impl Frame {
    /// Nothing yet.
    pub const fn new() -> Self {
        Self { bytes: [0; FRAME], len: 0, went: 0 }
    }

    /// Whether all of it has gone.
    pub fn is_empty(&self) -> bool {
        self.went == self.len
    }

    /// What has yet to go.
    pub fn waiting(&self) -> &[u8] {
        self.bytes.get(self.went..self.len).unwrap_or_default()
    }

    /// So many bytes of it have gone.
    pub fn sent(&mut self, bytes: usize) {
        self.went = self.went.saturating_add(bytes).min(self.len);
    }

    /// A VM's console said this: how many of the bytes the record has. Each is a character of its own, U+0000 to U+00FF,
    /// so that any byte gets across and a cut between two records means nothing.
    pub fn output(&mut self, vm: u16, bytes: &[u8]) -> usize {
        if bytes.is_empty() || !self.begin(format_args!("{{\"vm\":{vm},\"out\":\"")) {
            return 0;
        }
        let fits = |byte: &&u8| self.escaped(char::from(**byte), **byte < 0x20);
        let taken = bytes.iter().take_while(fits).count();
        self.end("\"}");
        taken
    }

    /// Own lines, with their ends: how many bytes of the text the record has.
    pub fn log(&mut self, text: &str) -> usize {
        self.text(format_args!("{{\"log\":\""), text)
    }

    /// A piece of an answer that takes several records: how many bytes of the text it has. [`done`](Self::done) ends it.
    pub fn part(&mut self, id: u32, text: &str) -> usize {
        self.text(format_args!("{{\"id\":{id},\"part\":\""), text)
    }

    /// The answer was in the parts.
    pub fn done(&mut self, id: u32) -> bool {
        self.short(format_args!("{{\"id\":{id},\"out\":true}}"))
    }

    /// A whole answer, which is JSON on one line; false if it is too long for one record, or something else is going out.
    pub fn answer(&mut self, id: u32, json: &str) -> bool {
        self.short(format_args!("{{\"id\":{id},\"out\":{json}}}"))
    }

    /// Something went wrong, with command `id` or with a record; what is too long of `text` is cut.
    pub fn error(&mut self, id: Option<u32>, code: &str, text: impl fmt::Display) -> bool {
        let begun = match id {
            Some(id) => self.begin(format_args!("{{\"id\":{id},\"error\":{{\"code\":\"{code}\",\"text\":\"")),
            None => self.begin(format_args!("{{\"error\":{{\"code\":\"{code}\",\"text\":\"")),
        };
        if begun {
            let _ = write!(Escaped(self), "{text}");
            self.end("\"}}");
        }
        begun
    }

    /// The error that answers a record which cannot be read.
    pub fn bad(&mut self, id: Option<u32>, reason: Reason) -> bool {
        self.error(id, BAD_RECORD, reason)
    }

    /// Answers a hello. Before it, the line is plain; after it, only records go out.
    pub fn hello(&mut self, nonce: &str, version: &str, vms: usize) -> bool {
        self.short(format_args!(
            "{{\"hello\":\"{nonce}\",\"version\":\"{version}\",\"records\":{VERSION},\"vms\":{vms}}}"
        ))
    }

    /// The last record: what follows is the plain line.
    pub fn bye(&mut self) -> bool {
        self.short(format_args!("{{\"bye\":true}}"))
    }

    /// So many bytes of the last [`Incoming::Input`](super::Incoming::Input) for this VM went to it.
    pub fn took(&mut self, vm: u16, bytes: usize) -> bool {
        self.short(format_args!("{{\"vm\":{vm},\"took\":{bytes}}}"))
    }

    /// So many bytes of this VM's console before what comes next are lost.
    pub fn lost(&mut self, vm: u16, bytes: u64) -> bool {
        self.short(format_args!("{{\"vm\":{vm},\"lost\":{bytes}}}"))
    }

    /// Something became of a VM: the state that it has now, and why if there is more to say, which is cut if it is long.
    pub fn event(&mut self, state: &str, vm: u16, name: &str, why: &str) -> bool {
        if !self.begin(format_args!("{{\"event\":\"{state}\",\"vm\":{vm},\"name\":\"")) {
            return false;
        }
        let _ = Escaped(self).write_str(name);
        if !why.is_empty() && self.push(b"\",\"why\":\"") {
            let _ = Escaped(self).write_str(why);
        }
        self.end("\"}");
        true
    }

    /// Begins a record, if nothing else is going out.
    fn begin(&mut self, head: fmt::Arguments<'_>) -> bool {
        if !self.is_empty() {
            return false;
        }
        (self.len, self.went) = (0, 0);
        let begun = self.push(&[RS]) && Raw(self).write_fmt(head).is_ok();
        if !begun {
            self.len = 0;
        }
        begun
    }

    fn end(&mut self, tail: &str) {
        // There is room: what comes before keeps it.
        for byte in tail.bytes().chain([LF]) {
            if let Some(place) = self.bytes.get_mut(self.len) {
                *place = byte;
                self.len = self.len.wrapping_add(1);
            }
        }
    }

    fn short(&mut self, record: fmt::Arguments<'_>) -> bool {
        let begun = self.begin(record);
        if begun {
            self.end("");
        }
        begun
    }

    fn text(&mut self, head: fmt::Arguments<'_>, text: &str) -> usize {
        if text.is_empty() || !self.begin(head) {
            return 0;
        }
        let rest = text.char_indices().find(|(_, c)| !self.escaped(*c, needs_escape(*c)));
        self.end("\"}");
        rest.map_or(text.len(), |(at, _)| at)
    }

    /// Appends, if there is room for it and for the end.
    fn push(&mut self, bytes: &[u8]) -> bool {
        let end = self.len.saturating_add(bytes.len());
        let room = if end.saturating_add(TAIL) <= FRAME { self.bytes.get_mut(self.len..end) } else { None };
        match room {
            Some(room) => {
                room.copy_from_slice(bytes);
                self.len = end;
                true
            }
            None => false,
        }
    }

    /// Appends a character of a string.
    fn escaped(&mut self, c: char, control: bool) -> bool {
        match c {
            '"' => self.push(b"\\\""),
            '\\' => self.push(b"\\\\"),
            '\n' => self.push(b"\\n"),
            '\r' => self.push(b"\\r"),
            '\t' => self.push(b"\\t"),
            _ if control => {
                let code = u32::from(c) as u8;
                self.push(&[b'\\', b'u', b'0', b'0', hex(code >> 4), hex(code & 0xf)])
            }
            _ => self.push(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}

/// Control characters do nothing to a terminal that shows records as they come.
fn needs_escape(c: char) -> bool {
    matches!(c, '\0'..='\x1f' | '\x7f'..='\u{9f}')
}

fn hex(digit: u8) -> u8 {
    if digit < 10 { b'0'.wrapping_add(digit) } else { b'a'.wrapping_sub(10).wrapping_add(digit) }
}

/// Writes what is JSON already.
struct Raw<'f>(&'f mut Frame);

impl Write for Raw<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.0.push(text.as_bytes()) { Ok(()) } else { Err(fmt::Error) }
    }
}

/// Writes within a string; what does not fit is cut.
struct Escaped<'f>(&'f mut Frame);

impl Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let all = text.chars().all(|c| self.0.escaped(c, needs_escape(c)));
        if all { Ok(()) } else { Err(fmt::Error) }
    }
}
