//! Tab: what could come next, from the table and from what there is.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::commands::{Argument, Entry, Kind};
use super::help::Topic;
use super::parse::{beginning_with, first_words};
use super::words::{Unreadable, Word, Words};
use heapless::String;

/// Bytes that one Tab puts in at most.
const MOST: usize = 64;

/// The names that only whoever owns the machine knows.
pub trait Names {
    /// Calls `each` with the name of each VM, in their order.
    fn vms(&self, each: &mut dyn FnMut(&str));
    /// Calls `each` with the name of each file in the bundle.
    fn files(&self, each: &mut dyn FnMut(&str)) {
        let _ = each;
    }
}

/// What a Tab does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Completion {
    /// What all that could come have in common, behind what is there.
    pub insert: String<MOST>,
    /// How many could come.
    pub matches: usize,
}

/// Completes the line that ends with `before`, the text before the cursor.
pub fn complete(before: &str, names: &dyn Names) -> Completion {
    let mut done = Completion::default();
    let Some(place) = Place::of(before) else { return done };
    let mut cut = false;
    place.candidates(names, &mut |candidate| {
        let rest = candidate.get(place.typed.len()..).unwrap_or_default();
        if done.matches == 0 {
            let fits = rest.floor_char_boundary(MOST);
            cut = fits < rest.len();
            let _ = done.insert.push_str(rest.get(..fits).unwrap_or_default());
        } else {
            let same = done.insert.bytes().zip(rest.bytes()).take_while(|(a, b)| a == b).count();
            let same = done.insert.floor_char_boundary(same);
            done.insert.truncate(same);
        }
        done.matches = done.matches.saturating_add(1);
    });
    if done.matches == 1 && !cut && !done.insert.ends_with('=') {
        // It is whole. A cursor behind a word that needs nothing gets its blank as well.
        if let Some(quote) = place.quote {
            let _ = done.insert.push(quote);
        }
        let _ = done.insert.push(' ');
    }
    done
}

/// Calls `each` with all that could come instead of the word before the cursor.
pub(super) fn candidates(before: &str, names: &dyn Names, each: &mut dyn FnMut(&str)) {
    if let Some(place) = Place::of(before) {
        place.candidates(names, each);
    }
}

/// Where the cursor is.
struct Place<'a> {
    /// What of the word is there.
    typed: &'a str,
    /// The quote before it.
    quote: Option<char>,
    what: What<'a>,
}

/// What comes there.
enum What<'a> {
    First,
    Second(&'a str),
    /// A word of this command, some of whose arguments have been given: a bit each.
    Argument {
        entry: &'static Entry,
        seen: u32,
        json: bool,
        topic: Topic,
    },
    /// The value of a key of this command.
    Value {
        entry: &'static Entry,
        key: &'a str,
    },
}

impl<'a> Place<'a> {
    fn of(before: &'a str) -> Option<Self> {
        let mut words = Words::new(before);
        let mut what = What::First;
        loop {
            match words.next() {
                None => return Some(Self { typed: "", quote: None, what }),
                Some(Ok(word)) if words.is_at_end() => {
                    // Behind a closed quote a blank has to come first.
                    return (!word.quoted).then_some(Self {
                        typed: word.text,
                        quote: None,
                        what: what.value(word)?,
                    });
                }
                Some(Ok(word)) => what = what.behind(word)?,
                Some(Err(Unreadable::Open(word))) => {
                    let quote =
                        before.get(..before.len().saturating_sub(word.text.len()))?.chars().next_back();
                    return Some(Self { typed: word.text, quote, what: what.value(word)? });
                }
                Some(Err(Unreadable::Stray(_))) => return None,
            }
        }
    }

    fn candidates(&self, names: &dyn Names, each: &mut dyn FnMut(&str)) {
        let typed = self.typed;
        let mut word = |word: &str| {
            if self.quote.is_none() && word.starts_with(typed) {
                each(word);
            }
        };
        match self.what {
            What::First => first_words().for_each(word),
            What::Second(first) => {
                beginning_with(first).filter_map(|entry| entry.words.get(1)).for_each(|w| word(w))
            }
            What::Argument { topic: Topic::All, entry, seen, .. }
                if matches!(entry.arguments, [Argument::Topic]) =>
            {
                if seen == 0 {
                    first_words().for_each(word);
                }
            }
            What::Argument { topic: Topic::Group(group), .. } => {
                beginning_with(group).filter_map(|entry| entry.words.get(1)).for_each(|w| word(w));
            }
            What::Argument { entry, seen, json, .. } => {
                let free = |n: u32| seen & 1u32.wrapping_shl(n) == 0;
                let arguments = || (0u32..).zip(entry.arguments).filter(|(n, _)| free(*n)).map(|(_, a)| a);
                // What has to be there comes first.
                let needed = arguments().find(|a| matches!(a, Argument::Vm | Argument::Name));
                for argument in arguments() {
                    match argument {
                        Argument::Vm | Argument::AnyVm => names.vms(&mut self.fit(each)),
                        _ if needed.is_some() => {}
                        Argument::Key(key) => self.option(key.name, "=", each),
                        Argument::Flag(flag, _) => self.option(flag, "", each),
                        Argument::Name | Argument::Topic => {}
                    }
                }
                if needed.is_none() && entry.json && !json {
                    self.option("--json", "", each);
                }
            }
            What::Value { entry, key } => {
                let kind = entry.arguments.iter().find_map(|argument| match argument {
                    Argument::Key(known) if known.name == key => Some(known.kind),
                    _ => None,
                });
                match kind {
                    Some(Kind::Vm) => names.vms(&mut self.fit(each)),
                    Some(Kind::File) => names.files(&mut self.fit(each)),
                    _ => {}
                }
            }
        }
    }

    /// Passes on a name that goes on as what is there, and can stand where it would.
    fn fit<'f>(&'f self, each: &'f mut dyn FnMut(&str)) -> impl FnMut(&str) + 'f {
        move |name| {
            if !name.starts_with(self.typed) {
                return;
            }
            let can_stand = match self.quote {
                Some(quote) => !name.contains(quote),
                None => {
                    let special =
                        |byte: u8| byte.is_ascii_whitespace() || matches!(byte, b'"' | b'\'' | b'=');
                    !name.bytes().any(special) && !name.bytes().all(|byte| byte.is_ascii_digit())
                }
            };
            if can_stand {
                each(name);
            }
        }
    }

    fn option(&self, name: &str, end: &str, each: &mut dyn FnMut(&str)) {
        let mut word = String::<MOST>::new();
        let whole = word.push_str(name).and_then(|()| word.push_str(end)).is_ok();
        if whole && self.quote.is_none() && word.starts_with(self.typed) {
            each(&word);
        }
    }
}

impl<'a> What<'a> {
    /// What the last word is, which may be a key's value.
    fn value(self, word: Word<'a>) -> Option<Self> {
        let Some(key) = word.key else { return Some(self) };
        let Self::Argument { entry, .. } = self else { return None };
        Some(Self::Value { entry, key })
    }

    /// What comes behind a whole word.
    fn behind(self, word: Word<'a>) -> Option<Self> {
        let begin = |entry| Self::Argument { entry, seen: 0, json: false, topic: Topic::All };
        let plain = word.key.is_none() && !word.quoted;
        match self {
            Self::First => {
                let entry = beginning_with(word.text).find(|_| plain)?;
                Some(if entry.words.len() == 1 { begin(entry) } else { Self::Second(word.text) })
            }
            Self::Second(first) => {
                beginning_with(first).find(|entry| plain && entry.words.get(1) == Some(&word.text)).map(begin)
            }
            Self::Argument { entry, json: false, seen, topic } if plain && word.text == "--json" => {
                Some(Self::Argument { entry, seen, json: true, topic })
            }
            Self::Argument { entry, seen, json, topic } => {
                let n = (0u32..).zip(entry.arguments).find_map(|(n, argument)| {
                    let is = match argument {
                        Argument::Key(key) => word.key == Some(key.name),
                        Argument::Flag(flag, _) => plain && word.text == *flag,
                        _ => word.key.is_none() && seen & 1u32.wrapping_shl(n) == 0,
                    };
                    is.then_some(n)
                })?;
                let topic =
                    if entry.arguments.len() == 1 { Topic::of(word.text).unwrap_or(topic) } else { topic };
                Some(Self::Argument { entry, seen: seen | 1u32.wrapping_shl(n), json, topic })
            }
            Self::Value { .. } => None,
        }
    }
}
