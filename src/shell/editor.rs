//! Keys change the line, and the terminal shows it.
//!
//! The line is shown in one row, in a window that follows the cursor: nothing here knows how a terminal wraps, or how
//! wide it is beyond [`COLUMNS`]. A character at the end is put out as it is; everything else draws the row anew.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::complete::{Names, candidates, complete};
use super::history::History;
use super::keys::{Key, Keys};
use super::line::{LINE, Line};
use super::mistake::Mistake;
use super::width::{columns, is_visible, width};
use core::fmt::{self, Write};

/// Columns that a terminal has at least.
pub(super) const COLUMNS: usize = 80;
/// Columns by which the window moves on.
const JUMP: usize = 20;
/// Words that a Tab lists at most.
const LISTED: usize = 32;

/// What a key came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Nothing for anybody else.
    None,
    /// A line was entered, which [`Editor::line`] has; the cursor is in the row below. Call [`Editor::prompt`] when it is done with.
    Line,
    /// Ctrl-C: the line is gone, and the next one has begun.
    Cancel,
    /// Ctrl-D in an empty line: somebody wants to leave.
    Leave,
}

/// Reads lines from a terminal in raw mode: 5 KiB, of which most is history.
pub struct Editor {
    prompt: &'static str,
    keys: Keys,
    line: Line,
    history: History,
    /// How many lines back the one is that is shown; 0 is the one that is new.
    back: usize,
    /// The new one, while an old one is shown.
    draft: Line,
    /// Bytes of the line before the window.
    first: usize,
    /// Something was left out, since there was no room.
    refused: bool,
    /// Tab came last, and was no use.
    tabbed: bool,
}

impl Editor {
    /// An editor that shows this before each line: ASCII, with a blank at its end.
    pub const fn new(prompt: &'static str) -> Self {
        Self {
            prompt,
            keys: Keys::new(),
            line: Line::new(),
            history: History::new(),
            back: 0,
            draft: Line::new(),
            first: 0,
            refused: false,
            tabbed: false,
        }
    }

    /// The line as it is, without its prompt.
    pub fn line(&self) -> &str {
        self.line.text()
    }

    /// Begins a line, in the row where the cursor is.
    pub fn prompt(&mut self, out: &mut dyn Write) {
        self.forget();
        self.show(out);
    }

    /// Takes the row off the screen, so that something else can be put there.
    pub fn hide(&self, out: &mut dyn Write) {
        put(out, "\r\x1b[K");
    }

    /// Puts it back, in the row where the cursor is by now.
    pub fn show(&mut self, out: &mut dyn Write) {
        self.scroll();
        self.draw(out);
    }

    /// Takes a byte that was typed. What is to be seen of it goes to `out`, at most about 500 bytes but for the list of a Tab.
    pub fn key(&mut self, byte: u8, names: &dyn Names, out: &mut dyn Write) -> Event {
        let Some(key) = self.keys.take(byte) else { return Event::None };
        let tabbed = core::mem::take(&mut self.tabbed);
        match key {
            Key::Char(c) => self.type_character(c, out),
            Key::Tab => self.tab(names, tabbed, out),
            Key::Enter => return self.enter(out),
            Key::Cancel => {
                let fits = columns(self.line.text()).saturating_add(2) <= self.room();
                put(out, if fits { "^C\r\n" } else { "\r\n" });
                self.prompt(out);
                return Event::Cancel;
            }
            Key::Leave if self.line.is_empty() => return Event::Leave,
            Key::Clear => {
                put(out, "\x1b[H\x1b[2J");
                self.draw(out);
            }
            key => {
                self.edit(key);
                self.show(out);
            }
        }
        Event::None
    }

    /// What moves the cursor or takes away.
    fn edit(&mut self, key: Key) {
        match key {
            Key::Left => return self.line.left(),
            Key::Right => return self.line.right(),
            Key::Home => return self.line.home(),
            Key::End => return self.line.end(),
            Key::Up => return self.browse(self.back.saturating_add(1)),
            Key::Down => return self.browse(self.back.saturating_sub(1)),
            Key::Backspace => self.line.backspace(),
            Key::Delete | Key::Leave => self.line.delete(),
            Key::EraseEnd => self.line.erase_end(),
            Key::EraseStart => self.line.erase_start(),
            Key::EraseWord => self.line.erase_word(),
            Key::Char(_) | Key::Enter | Key::Tab | Key::Clear | Key::Cancel => {}
        }
        // Whoever mends the line has seen what is left of it.
        self.refused = false;
    }

    fn type_character(&mut self, c: char, out: &mut dyn Write) {
        if !is_visible(c) {
            return;
        }
        let (_, behind) = self.line.halves();
        let at_end = behind.is_empty();
        if !self.insert(c.encode_utf8(&mut [0; 4]), out) {
            return;
        }
        if self.scroll() || !at_end {
            self.draw(out);
        } else {
            put(out, c.encode_utf8(&mut [0; 4]));
        }
    }

    /// Puts in a text; rings once if there is no room, and what comes behind it is not taken either.
    fn insert(&mut self, text: &str, out: &mut dyn Write) -> bool {
        if self.refused {
            return false;
        }
        self.refused = !self.line.insert(text);
        if self.refused {
            put(out, "\x07");
        }
        !self.refused
    }

    fn enter(&mut self, out: &mut dyn Write) -> Event {
        put(out, "\r\n");
        if self.refused {
            let _ = write!(out, "{}\r\n", Mistake::too_long(LINE));
            self.prompt(out);
            return Event::None;
        }
        if self.line.text().trim_ascii().is_empty() {
            self.prompt(out);
            return Event::None;
        }
        self.history.push(self.line.text());
        Event::Line
    }

    fn forget(&mut self) {
        self.line.clear();
        self.draft.clear();
        (self.back, self.first, self.refused, self.tabbed) = (0, 0, false, false);
    }

    /// Shows the line that was entered so many lines ago.
    fn browse(&mut self, back: usize) {
        if self.back == 0 && self.history.get(back).is_some() {
            self.draft.set(self.line.text());
        }
        let text = match self.history.get(back) {
            Some(text) => text,
            None if back == 0 && self.back != 0 => self.draft.text(),
            None => return,
        };
        self.line.set(text);
        self.back = back;
        self.refused = false;
    }

    fn tab(&mut self, names: &dyn Names, again: bool, out: &mut dyn Write) {
        let (before, _) = self.line.halves();
        let done = complete(before, names);
        if !done.insert.is_empty() {
            if self.insert(&done.insert, out) {
                self.show(out);
            }
        } else if done.matches > 1 && again {
            self.list(names, out);
        } else {
            put(out, "\x07");
            self.tabbed = done.matches > 1;
        }
    }

    /// Lists what could come, and begins the row anew below.
    fn list(&mut self, names: &dyn Names, out: &mut dyn Write) {
        let (before, _) = self.line.halves();
        let mut row = 0usize;
        let mut count = 0usize;
        put(out, "\r\n");
        candidates(before, names, &mut |word| {
            count = count.saturating_add(1);
            if count > LISTED {
                return;
            }
            // Names, words and most files are ASCII.
            let wide = if word.is_ascii() { word.len() } else { columns(word) }.saturating_add(2);
            if row != 0 && row.saturating_add(wide) >= COLUMNS {
                put(out, "\r\n");
                row = 0;
            }
            put(out, word);
            put(out, "  ");
            row = row.saturating_add(wide);
        });
        if count > LISTED {
            let _ = write!(out, "... {} more", count.saturating_sub(LISTED));
        }
        put(out, "\r\n");
        self.draw(out);
    }

    /// Columns that the window has. The last one of the row stays free, so that no terminal wraps.
    fn room(&self) -> usize {
        COLUMNS.saturating_sub(1).saturating_sub(self.prompt.len())
    }

    /// Moves the window to where the cursor is; whether it moved.
    fn scroll(&mut self) -> bool {
        let (before, _) = self.line.halves();
        let room = self.room();
        let old = self.first;
        let fits = columns(self.line.text()) <= room;
        let inside = before.get(old..).is_some_and(|shown| columns(shown) <= room);
        if fits {
            self.first = 0;
        } else if !inside {
            // Some columns are left free on the side to which the cursor goes.
            let left = if old < before.len() { room.saturating_sub(JUMP) } else { JUMP };
            self.first = before.len().saturating_sub(tail(before, left));
        }
        self.first != old
    }

    /// Draws the row anew.
    fn draw(&self, out: &mut dyn Write) {
        let (before, behind) = self.line.halves();
        let before = before.get(self.first..).unwrap_or_default();
        let used = columns(before);
        put(out, "\r");
        put(out, self.prompt);
        put(out, before);
        let behind = behind.get(..head(behind, self.room().saturating_sub(used))).unwrap_or_default();
        put(out, behind);
        put(out, "\x1b[K");
        if !behind.is_empty() {
            let column = self.prompt.len().saturating_add(used);
            let _ = if column == 0 { out.write_str("\r") } else { write!(out, "\r\x1b[{column}C") };
        }
    }
}

impl fmt::Debug for Editor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Editor({:?})", self.line.halves())
    }
}

/// What a terminal does not take is gone: there is nobody to tell.
fn put(out: &mut dyn Write, text: &str) {
    let _ = out.write_str(text);
}

/// Bytes of the first characters that fit into so many columns.
fn head(text: &str, room: usize) -> usize {
    fit(text.chars(), room)
}

/// Bytes of the last ones.
fn tail(text: &str, room: usize) -> usize {
    fit(text.chars().rev(), room)
}

fn fit(characters: impl Iterator<Item = char>, room: usize) -> usize {
    let mut used = 0usize;
    let fits = |c: &char| {
        used = used.saturating_add(width(*c));
        used <= room
    };
    characters.take_while(fits).fold(0, |bytes, c| bytes.saturating_add(c.len_utf8()))
}
