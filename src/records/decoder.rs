//! What the line receives: a person's typing, or a host tool's records.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::{LF, RS};
use crate::json::{Reader, Str, Value};
use core::fmt::{self, Display, Formatter};

/// Bytes between a record's [`RS`] and its [`LF`], at most.
pub const LONGEST: usize = 512;

/// Characters of a nonce, at most.
pub const LONGEST_NONCE: usize = 64;

/// Typed by a person where records are expected, it brings back the plain line: Ctrl-G.
pub const ESCAPE: u8 = 0x07;

/// What has arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Incoming<'d> {
    /// Typed by a person; two bytes when the first is Ctrl-^ ([`RS`]), which began no record. Only on the plain line.
    Typed(&'d [u8]),
    /// A host tool is there: answer with [`Frame::hello`](super::Frame::hello). From now on only records go out.
    Hello {
        /// What the answer repeats: letters, digits, `-` and `_`.
        nonce: &'d str,
    },
    /// A command, to be answered under this number.
    Run {
        /// The host's own number for it.
        id: u32,
        /// The command's words.
        line: &'d str,
    },
    /// Typed at a VM's console; [`Frame::took`](super::Frame::took) says how much of it went there.
    Input {
        /// The VM's number.
        vm: u16,
        /// What was typed.
        bytes: &'d [u8],
    },
    /// The line is plain again: answer with [`Frame::bye`](super::Frame::bye), then only plain bytes go out.
    Bye,
    /// Something that is no record: answer with [`Frame::error`](super::Frame::error), or on the plain line with an own
    /// line; nothing else happens.
    Bad {
        /// What is wrong.
        reason: Reason,
        /// The command that it would have been.
        id: Option<u32>,
    },
}

/// Why something is no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Longer than [`LONGEST`].
    TooLong,
    /// A control character, or the next record, before its end.
    Cut,
    /// No JSON object.
    NotJson,
    /// JSON that says nothing, or with a value of the wrong kind.
    Unknown,
    /// A character that is no byte.
    NotBytes,
    /// Not a hello, on a line that is plain.
    NoHello,
    /// Bytes between records.
    Noise,
}

impl Display for Reason {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLong => "a record of more than 512 bytes was dropped",
            Self::Cut => "a record was cut in the middle and dropped",
            Self::NotJson => "a record that is no JSON object was dropped",
            Self::Unknown => {
                "a record without a known meaning was dropped: it needs hello, id and run, vm and in, or bye"
            }
            Self::NotBytes => {
                "a record was dropped: \"in\" has characters above U+00FF, and each stands for a byte"
            }
            Self::NoHello => "a record was dropped: this line is plain until a hello",
            Self::Noise => "bytes outside of records were dropped; Ctrl-G brings back the plain line",
        })
    }
}

/// Where the next byte belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Between records.
    Outside,
    /// In one.
    Record,
    /// In what is dropped.
    Dropped,
}

/// Takes the line's bytes one by one.
pub struct Decoder {
    /// A person has the line, not a host tool.
    plain: bool,
    place: Place,
    /// The record so far.
    record: [u8; LONGEST],
    len: usize,
    /// Its string without escapes, which is never longer.
    text: [u8; LONGEST],
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new()
    }
}

impl Decoder {
    /// One for a plain line.
    pub const fn new() -> Self {
        Self { plain: true, place: Place::Outside, record: [0; LONGEST], len: 0, text: [0; LONGEST] }
    }

    /// Whether a person has the line. A hello and a bye change it before they are told.
    pub fn is_plain(&self) -> bool {
        self.plain
    }

    /// Makes the line plain without being asked, for instance when the machine restarts.
    pub fn reset(&mut self) {
        (self.plain, self.place) = (true, Place::Outside);
    }

    /// The next byte of the line, and what it completes.
    pub fn feed(&mut self, byte: u8) -> Option<Incoming<'_>> {
        match self.place {
            Place::Outside => self.outside(byte),
            Place::Record => self.within(byte),
            Place::Dropped => self.dropped(byte),
        }
    }

    fn outside(&mut self, byte: u8) -> Option<Incoming<'_>> {
        match byte {
            RS => self.begin(),
            _ if self.plain => self.typed(&[byte]),
            ESCAPE => self.bye(),
            LF | b'\r' => None,
            _ => {
                self.place = Place::Dropped;
                bad(Reason::Noise)
            }
        }
    }

    fn within(&mut self, byte: u8) -> Option<Incoming<'_>> {
        if self.len == 0 {
            match byte {
                // Ctrl-^ twice, or an empty record, which RFC 7464 (section 2.3) has readers skip.
                RS if self.plain => return self.typed(&[RS]),
                RS => return None,
                // Nobody's record begins like this: it is the editor's Ctrl-^ and the next key.
                _ if self.plain && byte != b'{' => {
                    self.place = Place::Outside;
                    return self.typed(&[RS, byte]);
                }
                _ => {}
            }
        }
        match byte {
            LF => {
                self.place = Place::Outside;
                self.complete()
            }
            RS => {
                self.len = 0;
                bad(Reason::Cut)
            }
            ..=0x1f => {
                // On a plain line it may be a person after all, whose Return must not be swallowed for ever.
                self.place = if self.plain { Place::Outside } else { Place::Dropped };
                bad(Reason::Cut)
            }
            _ => match self.record.get_mut(self.len) {
                Some(place) => {
                    *place = byte;
                    self.len = self.len.wrapping_add(1);
                    None
                }
                None => {
                    self.place = Place::Dropped;
                    bad(Reason::TooLong)
                }
            },
        }
    }

    fn dropped(&mut self, byte: u8) -> Option<Incoming<'_>> {
        match byte {
            RS => self.begin(),
            ESCAPE if !self.plain => self.bye(),
            LF => self.end_dropped(),
            ..=0x1f if self.plain => self.end_dropped(),
            _ => None,
        }
    }

    fn begin(&mut self) -> Option<Incoming<'_>> {
        (self.place, self.len) = (Place::Record, 0);
        None
    }

    fn end_dropped(&mut self) -> Option<Incoming<'_>> {
        self.place = Place::Outside;
        None
    }

    fn bye(&mut self) -> Option<Incoming<'_>> {
        self.reset();
        Some(Incoming::Bye)
    }

    fn typed(&mut self, bytes: &[u8]) -> Option<Incoming<'_>> {
        let text = self.text.get_mut(..bytes.len())?;
        text.copy_from_slice(bytes);
        Some(Incoming::Typed(text))
    }

    /// A whole record is there.
    fn complete(&mut self) -> Option<Incoming<'_>> {
        let Self { plain, record, len, text, .. } = self;
        let members = match Members::read(record.get(..*len).unwrap_or_default()) {
            Ok(members) => members,
            Err(reason) => return bad(reason),
        };
        let id = members.id;
        let incoming = match members.meaning(text) {
            Ok(Incoming::Bye) if *plain => return None,
            Ok(Incoming::Run { .. } | Incoming::Input { .. }) if *plain => Err(Reason::NoHello),
            other => other,
        };
        match incoming {
            Ok(Incoming::Hello { .. }) => *plain = false,
            Ok(Incoming::Bye) => *plain = true,
            _ => {}
        }
        Some(incoming.unwrap_or_else(|reason| Incoming::Bad { reason, id }))
    }
}

fn bad<'d>(reason: Reason) -> Option<Incoming<'d>> {
    Some(Incoming::Bad { reason, id: None })
}

/// What a record has of what there may be; of two with one name, the last.
#[derive(Clone, Copy, Default)]
struct Members<'t> {
    hello: Option<Str<'t>>,
    id: Option<u32>,
    run: Option<Str<'t>>,
    vm: Option<u16>,
    input: Option<Str<'t>>,
    bye: bool,
}

impl<'t> Members<'t> {
    /// Others than those known are passed over, so that a newer host may say more.
    fn read(record: &'t [u8]) -> Result<Self, Reason> {
        let mut reader = Reader::object(record).map_err(|_| Reason::NotJson)?;
        let mut members = Self::default();
        while let Some((key, value)) = reader.member().map_err(|_| Reason::NotJson)? {
            match value {
                Value::Str(text) if key.is("hello") => members.hello = Some(text),
                Value::Str(text) if key.is("run") => members.run = Some(text),
                Value::Str(text) if key.is("in") => members.input = Some(text),
                Value::Number(number) if key.is("id") => members.id = u32::try_from(number).ok(),
                Value::Number(number) if key.is("vm") => members.vm = u16::try_from(number).ok(),
                Value::Bool(true) if key.is("bye") => members.bye = true,
                _ => {}
            }
        }
        Ok(members)
    }

    /// The one thing that it says; `room` takes its text.
    fn meaning<'d>(&self, room: &'d mut [u8; LONGEST]) -> Result<Incoming<'d>, Reason> {
        match *self {
            Self { hello: Some(nonce), run: None, input: None, bye: false, .. } => {
                let nonce = nonce.decode(room).filter(|nonce| is_nonce(nonce)).ok_or(Reason::Unknown)?;
                Ok(Incoming::Hello { nonce })
            }
            Self { run: Some(line), id: Some(id), hello: None, input: None, bye: false, .. } => {
                let line = line.decode(room).ok_or(Reason::TooLong)?;
                Ok(Incoming::Run { id, line })
            }
            Self { input: Some(input), vm: Some(vm), hello: None, run: None, bye: false, .. } => {
                Ok(Incoming::Input { vm, bytes: bytes(input, room)? })
            }
            Self { bye: true, hello: None, run: None, input: None, .. } => Ok(Incoming::Bye),
            _ => Err(Reason::Unknown),
        }
    }
}

fn is_nonce(text: &str) -> bool {
    (1..=LONGEST_NONCE).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

/// Each character is a byte.
fn bytes<'d>(text: Str<'_>, room: &'d mut [u8; LONGEST]) -> Result<&'d [u8], Reason> {
    let mut len = 0_usize;
    for (c, place) in text.chars().zip(room.iter_mut()) {
        *place = u8::try_from(u32::from(c)).map_err(|_| Reason::NotBytes)?;
        len = len.wrapping_add(1);
    }
    Ok(room.get(..len).unwrap_or_default())
}
