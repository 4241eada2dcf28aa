//! The table holds together; the parser, Tab and the editor against it and against anything.
#![allow(clippy::arithmetic_side_effects, clippy::indexing_slicing, reason = "tests may panic")]

mod editor;
mod language;
