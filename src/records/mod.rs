//! Records: how a host tool and EL2 talk on the serial line that guests and people use too.
//!
//! A record is one RFC 7464 sequence: [`RS`], a JSON object on one line, [`LF`]. JSON has every control character escaped,
//! so neither byte can be inside one, whatever a guest prints or a person types. docs/control.md has the protocol, and
//! why it is this one.
//!
//! | file | what |
//! |---|---|
//! | `decoder.rs` | what the line receives, byte by byte: typing and records |
//! | `frame.rs` | one record on its way out, of bounded length, sent as the line takes it |
//!
//! tests/records.rs tries both. Neither allocates. Both ends are untrusted: a record that is wrong is one [`Incoming::Bad`], and no state changes.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod decoder;
mod frame;

pub use self::decoder::{Decoder, ESCAPE, Incoming, LONGEST, LONGEST_NONCE, Reason};
pub use self::frame::{FRAME, Frame};

/// Begins a record: the ASCII record separator.
pub const RS: u8 = 0x1e;

/// Ends a record.
pub const LF: u8 = b'\n';

/// The version of the protocol that EL2's hello names.
pub const VERSION: u32 = 1;

/// The code of the error that answers a record which cannot be read.
pub const BAD_RECORD: &str = "E0640";

/// The own line by which Mezzanine says that it listens. A host that starts the machine waits for it with its hello: what
/// comes before the line is set up may lose its beginning, and the rest, a nonce in it, would be a guest's.
pub const READY: &str = "serial line: ready for people and for mezz";
