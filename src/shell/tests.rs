//! The table holds together; the parser, Tab and the editor against it and against anything.

mod editor;
mod language;
