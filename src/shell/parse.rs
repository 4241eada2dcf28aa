//! A line becomes a [`Request`], or a [`Mistake`].
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::commands::{Argument, COMMANDS, Entry, Given, Key, Kind, Request, VmRef};
use super::help::Topic;
use super::mistake::{Mistake, What};
use super::words::{Unreadable, Word, Words};
use crate::config::{is_name, parse_size};

/// Bytes of a line that is read. One that is typed has fewer; this is for lines that come by a record.
pub const LONGEST: usize = 1024;

/// Reads a line; nothing if it is blank. Whether a VM or a file exists is not looked at.
///
/// ```
/// use mezzanine::shell::{Change, Command, VmRef, parse};
/// let request = parse("vm start alpha").unwrap().unwrap();
/// assert_eq!(request.command, Command::Change(Change::Start, VmRef::Name("alpha")));
/// let mistake = parse("vm strat alpha").unwrap_err();
/// assert_eq!(
///     mistake.to_string(),
///     "E0603 character 4: there is no \"strat\" behind vm. Did you mean \"vm start\"?"
/// );
/// ```
///
/// # Errors
/// E0601 a line that is too long, E0602 quotes, E0603 no such command, E0604 something missing, E0605 something
/// too many, E0606 no such option, E0607 an option given twice, E0608 a value that cannot be.
pub fn parse(line: &str) -> Result<Option<Request<'_>>, Mistake<'_>> {
    if line.len() > LONGEST {
        return Err(Mistake::too_long(LONGEST));
    }
    let mut reader = Parser { line, words: Words::new(line) };
    let Some(first) = reader.next()? else { return Ok(None) };
    let entry = reader.entry(first)?;
    reader.arguments(entry).map(Some)
}

/// The commands whose first word this is.
pub(super) fn beginning_with(first: &str) -> impl Iterator<Item = &'static Entry> {
    COMMANDS.iter().filter(move |entry| entry.words.first() == Some(&first))
}

/// The first words of all commands, each once.
pub(super) fn first_words() -> impl Iterator<Item = &'static str> {
    let mut before = None;
    let firsts = COMMANDS.iter().filter_map(|entry| entry.words.first().copied());
    firsts.filter(move |word| before.replace(*word) != Some(*word))
}

struct Parser<'a> {
    line: &'a str,
    words: Words<'a>,
}

impl<'a> Parser<'a> {
    fn wrong<T>(&self, at: usize, what: What<'a>) -> Result<T, Mistake<'a>> {
        Err(Mistake::new(self.line, at, what))
    }

    fn next(&mut self) -> Result<Option<Word<'a>>, Mistake<'a>> {
        match self.words.next() {
            None => Ok(None),
            Some(Ok(word)) => Ok(Some(word)),
            Some(Err(Unreadable::Open(word))) => {
                let key = word.key.map_or(0, |key| key.len().saturating_add(1));
                self.wrong(word.at.saturating_add(key), What::OpenQuote)
            }
            Some(Err(Unreadable::Stray(at))) => self.wrong(at, What::StrayQuote),
        }
    }

    /// What a word is to a command that has no use for it.
    fn whole(&self, word: Word<'a>) -> &'a str {
        if word.key.is_none() {
            return word.text;
        }
        let rest = self.line.get(word.at..).unwrap_or_default();
        rest.split_ascii_whitespace().next().unwrap_or_default()
    }

    /// The command of which `first` is the first word; a second one is taken where it has two.
    fn entry(&mut self, first: Word<'a>) -> Result<&'static Entry, Mistake<'a>> {
        let word = self.whole(first);
        let mut entries = beginning_with(word).filter(|_| !first.quoted);
        let Some(entry) = entries.next() else { return self.wrong(first.at, What::NoCommand(word)) };
        let [group, _] = entry.words else { return Ok(entry) };
        let Some(second) = self.next()? else {
            return self.wrong(self.line.trim_ascii_end().len(), What::OneWord(group));
        };
        let word = self.whole(second);
        let mut entries = beginning_with(group).filter(|_| !second.quoted);
        let entry = entries.find(|entry| entry.words.get(1) == Some(&word));
        entry.map_or_else(|| self.wrong(second.at, What::NoSecond(group, word)), Ok)
    }

    /// Everything behind the command's own words.
    fn arguments(&mut self, entry: &'static Entry) -> Result<Request<'a>, Mistake<'a>> {
        let mut given = Given::default();
        let mut json = false;
        // The arguments that have been given, a bit each.
        let mut seen = 0u32;
        while let Some(word) = self.next()? {
            let plain = word.key.is_none() && !word.quoted;
            if plain && word.text == "--json" && entry.json {
                if core::mem::replace(&mut json, true) {
                    return self.wrong(word.at, What::Twice(word.text));
                }
                continue;
            }
            let Some((n, argument)) = self.argument(entry, word, seen)? else { continue };
            seen |= 1u32.wrapping_shl(n);
            self.take(&mut given, argument, word)?;
        }
        let needed = entry.arguments.iter().find(|a| matches!(a, Argument::Vm | Argument::Name));
        match ((entry.make)(&given), needed) {
            (Some(command), _) => Ok(Request { command, json }),
            // What is needed stands first.
            (None, needed) => {
                let argument = needed.unwrap_or(&Argument::Vm);
                self.wrong(self.line.trim_ascii_end().len(), What::Missing(entry, argument))
            }
        }
    }

    /// Which argument a word is, of those that have not been `seen`.
    fn argument(
        &self,
        entry: &'static Entry,
        word: Word<'a>,
        seen: u32,
    ) -> Result<Option<(u32, &'static Argument)>, Mistake<'a>> {
        let free = |n: u32| seen & 1u32.wrapping_shl(n) == 0;
        let mut place = None;
        for (n, argument) in (0u32..).zip(entry.arguments) {
            let named = match argument {
                Argument::Key(key) => word.key == Some(key.name),
                Argument::Flag(flag, _) => word.key.is_none() && !word.quoted && word.text == *flag,
                // A command has two words.
                Argument::Topic => {
                    place = place.or(Some((n, argument)));
                    false
                }
                Argument::Vm | Argument::AnyVm | Argument::Name => {
                    if free(n) {
                        place = place.or(Some((n, argument)));
                    }
                    false
                }
            };
            if named {
                let name = word.key.unwrap_or(word.text);
                return if free(n) {
                    Ok(Some((n, argument)))
                } else {
                    self.wrong(word.at, What::Twice(name))
                };
            }
        }
        if let Some(key) = word.key {
            return self.wrong(word.at, What::NoOption(entry, key));
        }
        if word.text.starts_with('-') && !word.quoted {
            return self.wrong(word.at, What::NoOption(entry, word.text));
        }
        if place.is_none() {
            return self.wrong(word.at, What::TooMany(entry, word.text));
        }
        Ok(place)
    }

    fn take(
        &mut self,
        given: &mut Given<'a>,
        argument: &'static Argument,
        word: Word<'a>,
    ) -> Result<(), Mistake<'a>> {
        match argument {
            Argument::Vm | Argument::AnyVm => given.vm = Some(self.vm(word)?),
            Argument::Name => {
                let digits = word.text.bytes().all(|byte| byte.is_ascii_digit());
                if digits || !is_name(word.text) {
                    return self.wrong(word.at, What::NoName(word.text));
                }
                given.name = Some(word.text);
            }
            Argument::Topic => given.topic = self.topic(given.topic, word)?,
            Argument::Key(key) => self.value(given, key, word)?,
            Argument::Flag("start", _) => given.create.start = true,
            Argument::Flag(..) => given.once = true,
        }
        Ok(())
    }

    fn vm(&self, word: Word<'a>) -> Result<VmRef<'a>, Mistake<'a>> {
        let text = word.text;
        if !word.quoted && !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            return text
                .parse()
                .map_or_else(|_| self.wrong(word.at, What::NoVm(text)), |id| Ok(VmRef::Id(id)));
        }
        if is_name(text) { Ok(VmRef::Name(text)) } else { self.wrong(word.at, What::NoVm(text)) }
    }

    fn value(&self, given: &mut Given<'a>, key: &'static Key, word: Word<'a>) -> Result<(), Mistake<'a>> {
        let text = word.text;
        let bad = |right| self.wrong(word.at, What::Value(key.name, text, right));
        let create = &mut given.create;
        match key.kind {
            Kind::Vm => create.from = Some(self.vm(word)?),
            Kind::Size => {
                let Some(size) = parse_size(text) else { return bad("a size such as 256M or 1G") };
                create.memory = Some(size);
            }
            Kind::Count => {
                let Some(count) = text.parse().ok().filter(|n| *n > 0) else {
                    return bad("a number, such as 2");
                };
                create.vcpus = Some(count);
            }
            Kind::File if text.is_empty() => return bad("the name of a file in the bundle"),
            Kind::File if key.name == "kernel" => create.kernel = Some(text),
            Kind::File => create.initrd = Some(text),
            Kind::Text => create.cmdline = Some(text),
        }
        Ok(())
    }

    /// What help is about when `word` comes after that which it was about before.
    fn topic(&self, before: Topic, word: Word<'a>) -> Result<Topic, Mistake<'a>> {
        let text = word.text;
        match before {
            Topic::All => Topic::of(text).map_or_else(|| self.wrong(word.at, What::NoCommand(text)), Ok),
            Topic::Group(group) => {
                let entry = beginning_with(group).find(|entry| entry.words.get(1) == Some(&text));
                entry.map_or_else(
                    || self.wrong(word.at, What::NoSecond(group, text)),
                    |entry| Ok(Topic::One(entry)),
                )
            }
            Topic::One(entry) => self.wrong(word.at, What::TooMany(entry, text)),
        }
    }
}
