//! JSON on one line: a writer, and a reader that pulls member by member.
//!
//! Both work on what the caller has: the writer on any [`core::fmt::Write`], the reader on the bytes of one line. Nothing
//! is allocated and nothing recurses, so a line of any nesting costs no more stack than a flat one, and both serve before
//! there is a heap. What is read comes from the other end of a serial line and may be anything.
//!
//! The grammar is RFC 8259's. Numbers are unsigned and of 64 bits here: others are read as [`Value::Other`].
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod read;
#[cfg(test)]
mod tests;
mod write;

pub use self::read::{Chars, DEPTH, Malformed, Reader, Str, Value};
pub use self::write::{Writer, whole_characters};
