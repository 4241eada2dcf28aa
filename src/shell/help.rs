//! Help from the table, line by line: whoever prints it may stop after each.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::commands::{Argument, COMMANDS, Entry};
use super::parse::beginning_with;
use core::fmt::{self, Display, Formatter, Write};

/// Columns of a line of help at most.
const WIDTH: usize = 78;
/// Columns before what a command does.
const LEFT: usize = 24;

/// What help is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Topic {
    /// All commands, a line each.
    #[default]
    All,
    /// Those that begin with this word.
    Group(&'static str),
    /// One command, with all there is to say.
    One(&'static Entry),
}

/// What one line shows.
enum Line {
    Command(&'static Entry),
    Text(&'static str),
    Usage(&'static Entry),
    Option(&'static Argument),
    Json,
    Example(&'static str),
}

impl Topic {
    /// The topic of this word: a command's only or first word; or its second, where that says enough.
    pub fn of(word: &str) -> Option<Self> {
        if let Some(entry) = beginning_with(word).next() {
            return Some(entry.topic());
        }
        COMMANDS.iter().find(|entry| entry.words.get(1) == Some(&word)).map(Self::One)
    }

    /// Writes line `n`, without a line end; false if there are not so many.
    pub fn line(self, n: usize, out: &mut dyn Write) -> bool {
        let line = match self {
            Self::All => all(n),
            Self::Group(word) => beginning_with(word).nth(n).map(Line::Command),
            Self::One(entry) => one(entry, n),
        };
        // A sink that takes nothing more is asked no further.
        line.is_some_and(|line| write!(out, "{line}").is_ok())
    }
}

/// The whole of it, with a line end after each line.
impl Display for Topic {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut n = 0usize;
        while self.line(n, f) {
            f.write_char('\n')?;
            n = n.saturating_add(1);
        }
        Ok(())
    }
}

impl Entry {
    /// Its group, where it has two words; or itself.
    fn topic(&'static self) -> Topic {
        match self.words {
            [group, _] => Topic::Group(group),
            _ => Topic::One(self),
        }
    }
}

fn all(n: usize) -> Option<Line> {
    const BELOW: &str = "\nhelp and a command says all about it. What has blanks stands in quotes: \"a b\".";
    match COMMANDS.get(n) {
        Some(entry) => Some(Line::Command(entry)),
        None => (n == COMMANDS.len()).then_some(Line::Text(BELOW)),
    }
}

/// Below what does not work yet.
const LATER: &str = "Not in this version yet.";

fn one(entry: &'static Entry, n: usize) -> Option<Line> {
    let options = entry.arguments.iter().filter(|a| matches!(a, Argument::Key(_) | Argument::Flag(..)));
    let head = [Line::Usage(entry), Line::Text(entry.help)];
    let later = entry.is_later().then_some(Line::Text(LATER));
    head.into_iter()
        .chain(later)
        .chain(wrapped(entry.more).map(Line::Text))
        .chain(options.map(Line::Option))
        .chain(entry.json.then_some(Line::Json))
        .chain(entry.examples.iter().map(|example| Line::Example(example)))
        .nth(n)
}

impl Display for Line {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Command(entry) => {
                row(f, format_args!("{}", Short(entry)), entry.help)?;
                f.write_str(if entry.is_later() { " (not yet)" } else { "" })
            }
            Self::Usage(entry) => write!(f, "{}", Usage(entry)),
            Self::Text(text) => f.write_str(text),
            Self::Option(argument) => match argument {
                Argument::Key(key) => row(f, format_args!("  {}={}", key.name, key.kind.value()), key.help),
                Argument::Flag(word, help) => row(f, format_args!("  {word}"), help),
                _ => Ok(()),
            },
            Self::Json => row(f, format_args!("  --json"), "the same for programs, on one line"),
            Self::Example(example) => write!(f, "  > {example}"),
        }
    }
}

/// Something on the left, and what it does beside it.
fn row(f: &mut Formatter<'_>, left: fmt::Arguments<'_>, right: &str) -> fmt::Result {
    let mut counted = Counted { f, columns: 0 };
    counted.write_fmt(left)?;
    let gap = LEFT.saturating_sub(counted.columns).max(1);
    write!(f, "{:gap$}{right}", "")
}

/// Counts what goes through. All texts of the table are ASCII.
struct Counted<'f, 'g> {
    f: &'f mut Formatter<'g>,
    columns: usize,
}

impl Write for Counted<'_, '_> {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        self.columns = self.columns.saturating_add(s.len());
        self.f.write_str(s)
    }
}

/// A command with what it takes: `vm create NAME [from=VM] ... [--json]`.
pub(super) struct Usage(pub(super) &'static Entry);

impl Display for Usage {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        usage(f, self.0, true)
    }
}

/// The same, as far as it fits into a list: `vm create NAME ...`.
struct Short(&'static Entry);

impl Display for Short {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        usage(f, self.0, false)
    }
}

fn usage(f: &mut Formatter<'_>, entry: &'static Entry, whole: bool) -> fmt::Result {
    write!(f, "{entry}")?;
    for argument in entry.arguments {
        match argument {
            Argument::Vm => f.write_str(" VM")?,
            Argument::AnyVm => f.write_str(" [VM]")?,
            Argument::Name => f.write_str(" NAME")?,
            Argument::Topic => f.write_str(" [COMMAND]")?,
            Argument::Key(_) if !whole => return f.write_str(" ..."),
            Argument::Key(key) => write!(f, " [{}={}]", key.name, key.kind.value())?,
            Argument::Flag(word, _) => write!(f, " [{word}]")?,
        }
    }
    if whole && entry.json { f.write_str(" [--json]") } else { Ok(()) }
}

/// A text in lines that are not too wide.
fn wrapped(text: &'static str) -> impl Iterator<Item = &'static str> {
    let mut rest = text;
    core::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let end = if rest.len() <= WIDTH {
            rest.len()
        } else {
            rest.get(..WIDTH).and_then(|line| line.rfind(' ')).unwrap_or(rest.len())
        };
        let (line, tail) = rest.split_at_checked(end)?;
        rest = tail.trim_ascii_start();
        Some(line)
    })
}
