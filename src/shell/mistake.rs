//! What is wrong with a line: where, what, and what would be right.
//!
//! The same form as a [`Problem`]'s, but made of pieces of the line, so that nothing is allocated before somebody
//! wants to keep it.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::commands::{Argument, COMMANDS, Entry};
use super::near::near as nearest;
use super::parse::{beginning_with, first_words};
use crate::config::MAX_NAME;
use crate::problem;
use crate::problem::{Hint, Problem};
use core::fmt::{self, Display, Formatter, Write};

/// What is wrong with a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mistake<'a> {
    line: &'a str,
    /// Bytes of the line before it.
    at: usize,
    what: What<'a>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What<'a> {
    /// More than so many bytes.
    TooLong(usize),
    OpenQuote,
    StrayQuote,
    /// No command begins with this word.
    NoCommand(&'a str),
    /// None begins with the first word and has this one next.
    NoSecond(&'static str, &'a str),
    /// And here is none at all.
    OneWord(&'static str),
    Missing(&'static Entry, &'static Argument),
    TooMany(&'static Entry, &'a str),
    NoOption(&'static Entry, &'a str),
    Twice(&'a str),
    /// Neither name nor number of a VM.
    NoVm(&'a str),
    /// No VM can be called so.
    NoName(&'a str),
    /// A value that its key cannot have, and what it could.
    Value(&'static str, &'a str, &'static str),
}

impl<'a> Mistake<'a> {
    pub(super) fn new(line: &'a str, at: usize, what: What<'a>) -> Self {
        Self { line, at, what }
    }

    /// A line of more than `most` bytes.
    pub(super) fn too_long(most: usize) -> Self {
        Self::new("", 0, What::TooLong(most))
    }

    /// Stable name: `E0603`.
    pub fn code(&self) -> &'static str {
        match self.what {
            What::TooLong(_) => "E0601",
            What::OpenQuote | What::StrayQuote => "E0602",
            What::NoCommand(_) | What::NoSecond(..) | What::OneWord(_) => "E0603",
            What::Missing(..) => "E0604",
            What::TooMany(..) => "E0605",
            What::NoOption(..) => "E0606",
            What::Twice(_) => "E0607",
            What::NoVm(_) | What::NoName(_) | What::Value(..) => "E0608",
        }
    }

    /// The same as something that can be kept; allocates.
    pub fn problem(&self) -> Problem {
        problem!(self.code(), ("{}", Place(self)); ("{}", Wrong(self.what)); ("{}", Right(self.what)))
    }
}

/// One sentence each, as of a [`Problem`].
impl Display for Mistake<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let question = match self.what {
            What::NoOption(entry, word) => nearest(word, &option_words(entry)).is_some(),
            what => near(what).is_some(),
        };
        let stop = if question { "" } else { "." };
        write!(f, "{} {}: {}. {}{stop}", self.code(), Place(self), Wrong(self.what), Right(self.what))
    }
}

/// The character at which it is, from 1.
struct Place<'m>(&'m Mistake<'m>);

impl Display for Place<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let before = self.0.line.get(..self.0.at).unwrap_or_default();
        write!(f, "character {}", before.chars().count().saturating_add(1))
    }
}

/// Text that somebody wrote, cut where it is long, without what a terminal would obey.
pub(super) struct Quoted<'a>(pub(super) &'a str);

impl Display for Quoted<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        const MOST: usize = 40;
        f.write_char('"')?;
        for c in self.0.chars().take(MOST) {
            f.write_char(if c.is_control() { char::REPLACEMENT_CHARACTER } else { c })?;
        }
        f.write_str(if self.0.chars().nth(MOST).is_some() { "...\"" } else { "\"" })
    }
}

struct Wrong<'a>(What<'a>);

impl Display for Wrong<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.0 {
            What::TooLong(most) => write!(f, "the line has more than {most} bytes"),
            What::OpenQuote => f.write_str("a quote has no partner"),
            What::StrayQuote => f.write_str("a quote in the midst of a word"),
            What::NoCommand(word) => write!(f, "there is no command {}", Quoted(word)),
            What::NoSecond(first, word) => write!(f, "there is no {} behind {first}", Quoted(word)),
            What::OneWord(first) => write!(f, "{first} needs a second word"),
            What::Missing(entry, argument) => {
                let what = match argument {
                    Argument::Vm | Argument::AnyVm => "a VM",
                    Argument::Name => "a name for the VM",
                    Argument::Topic => "a command",
                    Argument::Key(key) => key.name,
                    Argument::Flag(word, _) => word,
                };
                write!(f, "{entry} needs {what}")
            }
            What::TooMany(entry, word) => write!(f, "{} is too many for {entry}", Quoted(word)),
            What::NoOption(entry, word) => write!(f, "{entry} has no option {}", Quoted(word)),
            What::Twice(word) => write!(f, "{} is given twice", Quoted(word)),
            What::NoVm(word) => write!(f, "{} is no VM's name or number", Quoted(word)),
            What::NoName(word) => write!(f, "{} is no name for a VM", Quoted(word)),
            What::Value(key, value, _) => write!(f, "{key} cannot be {}", Quoted(value)),
        }
    }
}

struct Right<'a>(What<'a>);

impl Display for Right<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.0 {
            What::TooLong(_) => f.write_str("Nothing was done; give less of it"),
            What::OpenQuote => f.write_str("Add one like it at the end of its word"),
            What::StrayQuote => f.write_str(
                "Put quotes around the whole word, or the whole value behind =, and other ones inside",
            ),
            What::NoCommand(_) | What::NoSecond(..) => match near(self.0) {
                Some(meant) => write!(f, "Did you mean \"{meant}\"?"),
                None => known(f, self.0),
            },
            What::OneWord(_) => known(f, self.0),
            What::Missing(entry, Argument::Vm) => write!(f, "Name one: {}", super::help::Usage(entry)),
            What::Missing(entry, _) | What::TooMany(entry, _) => {
                write!(f, "It is {}", super::help::Usage(entry))
            }
            What::NoOption(entry, word) => options(f, entry, word),
            What::Twice(_) => f.write_str("Give it once"),
            What::NoVm(_) => f.write_str("vm list has them; a name of digits alone stands in quotes"),
            What::NoName(_) => {
                write!(f, "Use 1 to {MAX_NAME} letters, digits, - and _, and not digits alone")
            }
            What::Value(_, _, right) => write!(f, "Give {right}"),
        }
    }
}

/// All words that could stand where a wrong one does.
fn known(f: &mut Formatter<'_>, what: What<'_>) -> fmt::Result {
    f.write_str("Known are")?;
    let mut colon = ':';
    let mut say = |word: &str| write!(f, "{} {word}", core::mem::replace(&mut colon, ','));
    match what {
        What::NoSecond(first, _) | What::OneWord(first) => {
            beginning_with(first).filter_map(|entry| entry.words.get(1)).try_for_each(|word| say(word))
        }
        _ => first_words().try_for_each(say),
    }
}

/// What was meant: a command, or the first word of several.
enum Meant {
    Command(&'static Entry),
    Word(&'static str),
}

impl Display for Meant {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Command(entry) => write!(f, "{entry}"),
            Self::Word(word) => f.write_str(word),
        }
    }
}

/// The command that was meant by a word that is none: of its group's, or of all.
fn near(what: What<'_>) -> Option<Meant> {
    let (group, word) = match what {
        What::NoCommand(word) => (None, word),
        What::NoSecond(group, word) => (Some(group), word),
        _ => return None,
    };
    // Somebody may have put a group's word before a command that has none.
    if let Some(alone) = first_words().find(|first| group.is_some() && *first == word) {
        return Some(Meant::Word(alone));
    }
    let second = |entry: &&'static Entry| entry.words.get(1).copied();
    let seconds = COMMANDS.iter().filter_map(|entry| second(&entry));
    let firsts = first_words().filter(|_| group.is_none());
    let known: heapless::Vec<&'static str, MOST_WORDS> = seconds.chain(firsts).take(MOST_WORDS).collect();
    let meant = nearest(word, &known)?;
    let entry = COMMANDS.iter().find(|entry| second(entry) == Some(meant));
    Some(entry.map_or(Meant::Word(meant), Meant::Command))
}

/// Room for the words of all commands.
pub(super) const MOST_WORDS: usize = 40;

/// The words by which options are given, `--json` among them.
fn option_words(entry: &'static Entry) -> heapless::Vec<&'static str, MOST_WORDS> {
    let own = entry.arguments.iter().filter_map(|argument| match argument {
        Argument::Key(key) => Some(key.name),
        Argument::Flag(word, _) => Some(*word),
        _ => None,
    });
    own.chain(entry.json.then_some("--json")).take(MOST_WORDS).collect()
}

fn options(f: &mut Formatter<'_>, entry: &'static Entry, word: &str) -> fmt::Result {
    let known = option_words(entry);
    match nearest(word, &known) {
        _ if known.is_empty() => f.write_str("It takes none"),
        Some(meant) => write!(f, "Did you mean \"{meant}\"?"),
        // Nothing is near that word.
        None => Hint { word: "", known: &known }.fmt(f),
    }
}
