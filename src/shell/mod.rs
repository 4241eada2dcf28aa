//! The shell's language and its line: what people type at EL2.
//!
//! Pure, and without allocation: keys and lines come in, text and [`Command`]s go out. Who owns the machine carries the
//! commands out. There is one language, and one table of it
//! ([`COMMANDS`]), and `help`, Tab, the parser and docs/shell.md are all made of that.
//!
//! | file | what |
//! |---|---|
//! | `commands.rs` | the table: every command, its arguments, its help |
//! | `words.rs` | a line's words, with quotes |
//! | `parse.rs` | a line becomes a [`Request`] |
//! | `mistake.rs` | what is wrong with a line, in words |
//! | `near.rs` | what was meant |
//! | `help.rs` | help, line by line |
//! | `complete.rs` | Tab |
//! | `keys.rs` | bytes become keys |
//! | `line.rs` | the line that is edited |
//! | `history.rs` | lines before it |
//! | `editor.rs` | keys change the line, and the terminal shows it |
//! | `width.rs` | columns that a character takes |
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod commands;
mod complete;
mod editor;
mod help;
mod history;
mod keys;
mod line;
mod mistake;
mod near;
mod parse;
#[cfg(test)]
mod tests;
mod width;
mod words;

pub use self::commands::{Argument, COMMANDS, Change, Command, Create, Entry, Key, Kind, Request, VmRef};
pub use self::complete::{Completion, Names, complete};
pub use self::editor::{Editor, Event};
pub use self::help::Topic;
pub use self::line::LINE;
pub use self::mistake::Mistake;
pub use self::parse::{LONGEST, parse};
