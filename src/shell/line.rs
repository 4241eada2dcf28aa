//! The line that is edited: text in a fixed buffer, and a cursor between its characters.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

/// Bytes of a line that is typed.
pub const LINE: usize = 256;

/// Text, and a place in it.
///
/// `..len` is UTF-8, and `cursor` lies between two of its characters.
#[derive(Debug)]
pub(super) struct Line {
    bytes: [u8; LINE],
    len: usize,
    cursor: usize,
}

impl Line {
    pub(super) const fn new() -> Self {
        Self { bytes: [0; LINE], len: 0, cursor: 0 }
    }

    pub(super) fn text(&self) -> &str {
        self.bytes.get(..self.len).and_then(|bytes| core::str::from_utf8(bytes).ok()).unwrap_or_default()
    }

    /// The text before the cursor, and from it on.
    pub(super) fn halves(&self) -> (&str, &str) {
        self.text().split_at_checked(self.cursor).unwrap_or_default()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Puts in a text before the cursor; false, and nothing is changed, if there is no room.
    pub(super) fn insert(&mut self, text: &str) -> bool {
        let len = self.len.saturating_add(text.len());
        let Some(behind) = self.bytes.get_mut(self.cursor..len) else { return false };
        behind.rotate_right(text.len());
        for (place, byte) in behind.iter_mut().zip(text.bytes()) {
            *place = byte;
        }
        self.len = len;
        self.cursor = self.cursor.saturating_add(text.len());
        true
    }

    /// Becomes another text, as far as there is room, with the cursor at its end.
    pub(super) fn set(&mut self, text: &str) {
        self.clear();
        self.insert(text.get(..text.floor_char_boundary(LINE)).unwrap_or_default());
    }

    pub(super) fn clear(&mut self) {
        (self.len, self.cursor) = (0, 0);
    }

    /// Takes out so many bytes from the cursor on.
    fn remove(&mut self, bytes: usize) {
        if let Some(behind) = self.bytes.get_mut(self.cursor..self.len)
            && bytes <= behind.len()
        {
            behind.rotate_left(bytes);
            self.len = self.len.saturating_sub(bytes);
        }
    }

    /// Takes out what is before the cursor from there on.
    fn remove_from(&mut self, start: usize) {
        let bytes = self.cursor.saturating_sub(start);
        self.cursor = start;
        self.remove(bytes);
    }

    fn before(&self) -> usize {
        self.halves().0.chars().next_back().map_or(0, char::len_utf8)
    }

    fn under(&self) -> usize {
        self.halves().1.chars().next().map_or(0, char::len_utf8)
    }

    pub(super) fn left(&mut self) {
        self.cursor = self.cursor.saturating_sub(self.before());
    }

    pub(super) fn right(&mut self) {
        self.cursor = self.cursor.saturating_add(self.under());
    }

    pub(super) fn home(&mut self) {
        self.cursor = 0;
    }

    pub(super) fn end(&mut self) {
        self.cursor = self.len;
    }

    pub(super) fn backspace(&mut self) {
        self.remove_from(self.cursor.saturating_sub(self.before()));
    }

    pub(super) fn delete(&mut self) {
        self.remove(self.under());
    }

    pub(super) fn erase_end(&mut self) {
        self.len = self.cursor;
    }

    pub(super) fn erase_start(&mut self) {
        self.remove_from(0);
    }

    /// The blanks before the cursor, and what stands before them up to another blank.
    pub(super) fn erase_word(&mut self) {
        let before = self.halves().0.trim_end_matches(' ');
        self.remove_from(before.rfind(' ').map_or(0, |blank| blank.saturating_add(1)));
    }
}
