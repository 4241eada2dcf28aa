//! A line's words, with blanks between them and quotes around what has blanks.
//!
//! A quote stands at the beginning of a word or behind the `=` of `key=`, and its partner ends the word. Nothing is
//! special between `"` and `"`, or `'` and `'`: so a word is always a piece of the line, and none is copied.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

/// A word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Word<'a> {
    /// `key` of `key=value`.
    pub(super) key: Option<&'a str>,
    /// The word, or the value behind its key; without quotes.
    pub(super) text: &'a str,
    /// It stood in quotes: it is no command's word, no option and no number.
    pub(super) quoted: bool,
    /// Bytes of the line before it.
    pub(super) at: usize,
}

/// What cannot be taken for words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unreadable<'a> {
    /// A quote has no partner; with all that comes behind it, and the key before.
    Open(Word<'a>),
    /// A quote stands in the midst of a word, at this byte.
    Stray(usize),
}

/// The words of a line, in order; at most one [`Unreadable`], as the last.
#[derive(Clone, Debug)]
pub(super) struct Words<'a> {
    line: &'a str,
    at: usize,
}

impl<'a> Words<'a> {
    pub(super) fn new(line: &'a str) -> Self {
        Self { line, at: 0 }
    }

    fn rest(&self) -> &'a str {
        self.line.get(self.at..).unwrap_or_default()
    }

    /// Whether the last word ended with the line, and not before a blank.
    pub(super) fn is_at_end(&self) -> bool {
        self.rest().is_empty()
    }

    /// Goes on by so many bytes, which it returns.
    fn take(&mut self, bytes: usize) -> &'a str {
        let taken = self.rest().get(..bytes).unwrap_or_default();
        self.at = self.at.saturating_add(bytes);
        taken
    }

    fn unreadable(&mut self, why: Unreadable<'a>) -> Option<Result<Word<'a>, Unreadable<'a>>> {
        self.at = self.line.len();
        Some(Err(why))
    }
}

fn is_quote(c: char) -> bool {
    matches!(c, '"' | '\'')
}

impl<'a> Iterator for Words<'a> {
    type Item = Result<Word<'a>, Unreadable<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.rest();
        let blanks = rest.len().saturating_sub(rest.trim_ascii_start().len());
        self.take(blanks);
        let at = self.at;
        let rest = self.rest();
        if rest.is_empty() {
            return None;
        }
        let end = rest.find(|c: char| c.is_ascii_whitespace() || is_quote(c)).unwrap_or(rest.len());
        let plain = self.take(end);
        let (key, text) = match plain.split_once('=') {
            Some((key, text)) => (Some(key), text),
            None => (None, plain),
        };
        let Some(quote) = self.rest().chars().next().filter(|c| is_quote(*c)) else {
            return Some(Ok(Word { key, text, quoted: false, at }));
        };
        if !text.is_empty() {
            return self.unreadable(Unreadable::Stray(self.at));
        }
        self.take(1);
        let rest = self.rest();
        let Some(end) = rest.find(quote) else {
            return self.unreadable(Unreadable::Open(Word { key, text: rest, quoted: true, at }));
        };
        let text = self.take(end);
        self.take(1);
        if !self.rest().is_empty() && !self.rest().starts_with(|c: char| c.is_ascii_whitespace()) {
            return self.unreadable(Unreadable::Stray(self.at));
        }
        Some(Ok(Word { key, text, quoted: true, at }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Words with bars between them, `key=` and quotes marked.
    fn split(line: &str) -> String {
        let word = |word: Result<Word<'_>, Unreadable<'_>>| match word {
            Ok(Word { key, text, quoted, at }) => {
                let key = key.map(|key| format!("{key}=")).unwrap_or_default();
                format!("{at}:{key}{}", if quoted { format!("<{text}>") } else { text.to_string() })
            }
            Err(why) => format!("{why:?}"),
        };
        Words::new(line).map(word).collect::<Vec<_>>().join("|")
    }

    #[test]
    fn blanks_separate_and_quotes_hold_together() {
        assert_eq!(split(""), "");
        assert_eq!(split(" \t "), "");
        assert_eq!(split("vm  list\t--json "), "0:vm|4:list|9:--json");
        assert_eq!(
            split("a=b= \"a b\" c=\"d 'e'\" f='' 'g\"'"),
            "0:a=b=|5:<a b>|11:c=<d 'e'>|21:f=<>|26:<g\">"
        );
        assert_eq!(split("é ü"), "0:é|3:ü");
    }

    #[test]
    fn quotes_have_partners_at_the_ends_of_words() {
        assert_eq!(split("a=b\"c\""), "Stray(3)");
        assert_eq!(split("x it's"), "0:x|Stray(4)");
        assert_eq!(split("\"a\"b"), "Stray(3)");
        assert_eq!(split("\"a\"'b'"), "Stray(3)");
        let open = |key, text, at| format!("{:?}", Unreadable::Open(Word { key, text, quoted: true, at }));
        assert_eq!(split("'a b"), open(None, "a b", 0));
        assert_eq!(split("x k=\"a b"), format!("0:x|{}", open(Some("k"), "a b", 2)));
    }
}
