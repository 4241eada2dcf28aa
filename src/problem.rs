//! What is wrong with a configuration: a code, where, what, and what would be right.
//!
//! One type for the host tool and for EL2, which reads the tree of the machine before there is a heap: its allocator
//! has room for a few problems by then. Codes: E01xx the machine's tree, E02xx the bundle or the modules, E03xx a VM,
//! E04xx a kernel or initrd, E05xx the tool's own input.

use alloc::boxed::Box;
use core::fmt;
use core::ops::Deref;
use heapless::string::StringView;

/// Text of bounded length; what does not fit is cut.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Text<const N: usize>(heapless::String<N>);

impl<const N: usize> Text<N> {
    /// Formats into it.
    pub fn from_args(args: fmt::Arguments<'_>) -> Self {
        let mut text = Self::default();
        // Writing never fails: `write_str` below cuts instead.
        let _ = fmt::Write::write_fmt(&mut text, args);
        text
    }

    /// What it says.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<const N: usize> fmt::Write for Text<N> {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        append(&mut self.0, s);
        Ok(())
    }
}

/// Appends as many characters as there is room for; once for texts of all lengths.
#[inline(never)]
fn append(text: &mut StringView, s: &str) {
    let room = text.capacity().saturating_sub(text.len());
    let fits = s.floor_char_boundary(room);
    let _ = text.push_str(s.get(..fits).unwrap_or_default());
}

impl<const N: usize> fmt::Display for Text<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<const N: usize> fmt::Debug for Text<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.0.as_str(), f)
    }
}

/// Something that a person has to put right.
///
/// A pointer to its [`Parts`]: most of what is read or checked at EL2 can fail with one, and by value the half KiB would
/// be moved about in as many places.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem(Box<Parts>);

/// What there is to say of a [`Problem`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    /// Stable name: `E0301`.
    pub code: &'static str,
    /// Where: a node and property, a file, a VM.
    pub place: Text<96>,
    /// What is wrong, with the value.
    pub what: Text<224>,
    /// What would be right.
    pub fix: Text<224>,
}

impl Deref for Problem {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

impl Problem {
    /// What [`problem!`](crate::problem!) expands to: place, what and fix with NUL between them. Out of line, since
    /// each condition has one and none is ever in a hurry.
    #[cold]
    #[inline(never)]
    pub fn new(code: &'static str, parts: fmt::Arguments<'_>) -> Self {
        let mut own = Box::new(Parts { code, ..Parts::default() });
        let _ = fmt::Write::write_fmt(&mut Split { parts: &mut own, part: 0 }, parts);
        Self(own)
    }
}

/// Writes each part where it belongs.
struct Split<'p> {
    parts: &'p mut Parts,
    /// NULs seen; from the second on they are text.
    part: usize,
}

impl fmt::Write for Split<'_> {
    fn write_str(&mut self, mut s: &str) -> fmt::Result {
        while self.part < 2
            && let Some((head, tail)) = s.split_once('\0')
        {
            append(self.text(), head);
            self.part += 1;
            s = tail;
        }
        append(self.text(), s);
        Ok(())
    }
}

impl Split<'_> {
    fn text(&mut self) -> &mut StringView {
        match self.part {
            0 => &mut self.parts.place.0,
            1 => &mut self.parts.what.0,
            _ => &mut self.parts.fix.0,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stop = if self.fix.as_str().ends_with('?') { "" } else { "." };
        write!(f, "{} {}: {}. {}{stop}", self.code, self.place, self.what, self.fix)
    }
}

impl core::error::Error for Problem {}

/// `problem!("E0301", "vm.alpha memory"; "0 bytes"; "Use at least 16M")`: each part takes format arguments
/// in parentheses of its own: `problem!("E0301", ("vm.{name} memory"); ("{n} bytes"); ("Use at least 16M"))`.
#[macro_export]
macro_rules! problem {
    ($code:expr, ($($place:tt)*); ($($what:tt)*); ($($fix:tt)*)) => {
        // The compiler makes one text of the four, with one list of arguments.
        $crate::problem::Problem::new(
            $code,
            format_args!("{}\0{}\0{}", format_args!($($place)*), format_args!($($what)*), format_args!($($fix)*)),
        )
    };
}

/// The word of `known` that somebody who wrote `word` most likely meant, if one is near.
pub fn nearest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    let most = word.len().min(9) / 3 + 1;
    known
        .iter()
        .map(|&k| (distance(word.as_bytes(), k.as_bytes()), k))
        .filter(|(d, _)| *d <= most)
        .min_by_key(|(d, _)| *d)
        .map(|(_, k)| k)
}

/// Insertions, deletions, replacements and swaps of neighbours that turn one word into the other.
fn distance(a: &[u8], b: &[u8]) -> usize {
    const LONGEST: usize = 40;
    if a.len() >= LONGEST || b.len() >= LONGEST {
        return usize::MAX;
    }
    // Three rows of the table: two above, one above, this one.
    let mut rows = [[0usize; LONGEST]; 3];
    for (j, cell) in rows[1].iter_mut().enumerate() {
        *cell = j;
    }
    for (i, &x) in a.iter().enumerate() {
        rows[2][0] = i + 1;
        for (j, &y) in b.iter().enumerate() {
            let swap = i > 0 && j > 0 && a.get(i - 1) == Some(&y) && b.get(j - 1) == Some(&x);
            let mut best = rows[1][j] + usize::from(x != y);
            best = best.min(rows[1][j + 1] + 1).min(rows[2][j] + 1);
            if swap {
                best = best.min(rows[0][j - 1] + 1);
            }
            rows[2][j + 1] = best;
        }
        rows.rotate_left(1);
    }
    rows[1][b.len()]
}

/// What to say of a word that nothing knows: "Did you mean X?", or all that is known.
pub struct Hint<'k> {
    /// What was written.
    pub word: &'k str,
    /// What would have been understood.
    pub known: &'k [&'k str],
}

impl fmt::Display for Hint<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(near) = nearest(self.word, self.known) {
            return write!(f, "Did you mean \"{near}\"?");
        }
        f.write_str("Known are")?;
        for (i, word) in self.known.iter().enumerate() {
            write!(f, "{} {word}", if i == 0 { ":" } else { "," })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Hint, distance, nearest};

    #[test]
    fn suggests_what_was_meant() {
        let known = ["loglevel", "memory", "vcpus"];
        assert_eq!(nearest("loglvl", &known), Some("loglevel"));
        assert_eq!(nearest("vcups", &known), Some("vcpus"));
        assert_eq!(nearest("zebra", &known), None);
        assert_eq!(nearest(&"m".repeat(200), &known), None);
        assert_eq!(Hint { word: "memroy", known: &known }.to_string(), "Did you mean \"memory\"?");
        assert_eq!(Hint { word: "x", known: &known }.to_string(), "Known are: loglevel, memory, vcpus");
    }

    #[test]
    fn distance_counts_edits() {
        assert_eq!(distance(b"", b"abc"), 3);
        assert_eq!(distance(b"kitten", b"sitting"), 3);
        assert_eq!(distance(b"ab", b"ba"), 1);
        assert_eq!(distance(b"same", b"same"), 0);
    }

    #[test]
    fn reads_as_one_sentence_each() {
        let name = "beta";
        let p = problem!("E0301", ("vm.{name} memory"); ("{} MiB do not fit", 512); ("Use at most 128M"));
        assert_eq!(p.to_string(), "E0301 vm.beta memory: 512 MiB do not fit. Use at most 128M.");
    }

    #[test]
    fn parts_are_told_apart_whatever_is_in_them() {
        let (empty, fix) = ("", "0: \0, 1: \0");
        let p = problem!("E0301", ("{empty}"); ("{empty}{}", "{}"); ("{fix}"));
        assert_eq!((p.place.as_str(), p.what.as_str(), p.fix.as_str()), ("", "{}", fix));
    }

    #[test]
    fn long_text_is_cut_not_refused() {
        let p = problem!("E0301", ("x"); ("{}", "y".repeat(5000)); ("z"));
        assert_eq!(p.what.as_str().len(), 224);
    }
}
