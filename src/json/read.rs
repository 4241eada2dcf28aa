//! Reads one object, member by member, from bytes that may be anything.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use core::fmt::{self, Display, Formatter};

/// How deep objects and arrays lie in each other at most, the outermost counted.
pub const DEPTH: u32 = 32;

/// Where a text ceases to be JSON, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// Bytes before it.
    pub at: usize,
    /// What is wrong, as the rest of "at byte 12: ".
    pub what: &'static str,
}

impl Display for Malformed {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "at byte {}: {}", self.at, self.what)
    }
}

/// A value as far as anybody here asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'t> {
    /// A string.
    Str(Str<'t>),
    /// An unsigned number of at most 64 bits, without fraction or exponent.
    Number(u64),
    /// `true` or `false`.
    Bool(bool),
    /// An object, as it is written: [`Reader::object`] reads it.
    Object(&'t [u8]),
    /// An array, as it is written: [`Reader::array`] reads it.
    Array(&'t [u8]),
    /// `null`, or a number of another kind.
    Other,
}

impl<'t> Value<'t> {
    /// The string, if it is one.
    pub fn str(self) -> Option<Str<'t>> {
        if let Self::Str(text) = self { Some(text) } else { None }
    }

    /// The number, if it is one.
    pub fn number(self) -> Option<u64> {
        if let Self::Number(number) = self { Some(number) } else { None }
    }

    /// Yes or no, if it is that.
    pub fn bool(self) -> Option<bool> {
        if let Self::Bool(is) = self { Some(is) } else { None }
    }
}

/// A string as it stands between its quotes: well-formed, with its escapes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Str<'t>(&'t str);

impl<'t> Str<'t> {
    /// Its characters; half a surrogate pair is U+FFFD.
    pub fn chars(self) -> Chars<'t> {
        Chars { rest: self.0 }
    }

    /// Whether it says this.
    pub fn is(self, text: &str) -> bool {
        self.chars().eq(text.chars())
    }

    /// The text as it was written, if it has no escapes.
    pub fn plain(self) -> Option<&'t str> {
        (!self.0.contains('\\')).then_some(self.0)
    }

    /// Writes its characters to `room`, without the escapes; nothing if there are more bytes of them.
    pub fn decode(self, room: &mut [u8]) -> Option<&str> {
        let mut used = 0usize;
        for c in self.chars() {
            let end = used.checked_add(c.len_utf8())?;
            c.encode_utf8(room.get_mut(used..end)?);
            used = end;
        }
        core::str::from_utf8(room.get(..used)?).ok()
    }
}

impl fmt::Debug for Str<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0)
    }
}

impl Display for Str<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.chars().try_for_each(|c| fmt::Write::write_char(f, c))
    }
}

/// The characters of a [`Str`].
#[derive(Clone, Debug)]
pub struct Chars<'t> {
    rest: &'t str,
}

impl Iterator for Chars<'_> {
    type Item = char;

    fn next(&mut self) -> Option<char> {
        let mut chars = self.rest.chars();
        let first = chars.next()?;
        self.rest = chars.as_str();
        if first != '\\' {
            return Some(first);
        }
        let escape = chars.next()?;
        self.rest = chars.as_str();
        Some(match escape {
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'b' => '\x08',
            'f' => '\x0c',
            'u' => self.unit(),
            c => c,
        })
    }
}

impl Chars<'_> {
    /// The character of `\u`, whose digits come next; the other half of a pair is taken with it.
    fn unit(&mut self) -> char {
        let Some((code, rest)) = hex4(self.rest) else { return char::REPLACEMENT_CHARACTER };
        self.rest = rest;
        if (0xd800..0xdc00).contains(&code)
            && let Some((low, rest)) = rest.strip_prefix("\\u").and_then(hex4)
            && (0xdc00..0xe000).contains(&low)
        {
            self.rest = rest;
            let (high, low) = (code & 0x3ff, low & 0x3ff);
            return char::from_u32((high << 10 | low).wrapping_add(0x1_0000))
                .unwrap_or(char::REPLACEMENT_CHARACTER);
        }
        char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER)
    }
}

/// Four hexadecimal digits, and what follows.
fn hex4(text: &str) -> Option<(u32, &str)> {
    let (digits, rest) = text.split_at_checked(4)?;
    // `from_str_radix` takes a sign as well.
    let all = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    Some((u32::from_str_radix(digits, 16).ok().filter(|_| all)?, rest))
}

/// Pulls the members of an object or the values of an array.
///
/// ```
/// use mezzanine::json::{Reader, Value};
/// let mut reader = Reader::object(br#"{"id": 7, "run": "vm list", "tags": [1, {"a": 2}]}"#).unwrap();
/// while let Some((key, value)) = reader.member().unwrap() {
///     match value {
///         Value::Number(id) if key.is("id") => assert_eq!(id, 7),
///         Value::Str(line) if key.is("run") => assert!(line.is("vm list")),
///         _ => assert!(key.is("tags")),
///     }
/// }
/// ```
#[derive(Clone, Debug)]
pub struct Reader<'t> {
    text: &'t [u8],
    at: usize,
    /// Nothing has been pulled.
    fresh: bool,
    /// Its end has been seen.
    ended: bool,
    close: u8,
}

impl<'t> Reader<'t> {
    /// Begins to read an object; blanks around it do not matter.
    ///
    /// # Errors
    /// There is none.
    pub fn object(text: &'t [u8]) -> Result<Self, Malformed> {
        Self::begin(text, b'{', b'}', "an object begins with \"{\"")
    }

    /// Begins to read an array.
    ///
    /// # Errors
    /// There is none.
    pub fn array(text: &'t [u8]) -> Result<Self, Malformed> {
        Self::begin(text, b'[', b']', "an array begins with \"[\"")
    }

    fn begin(text: &'t [u8], open: u8, close: u8, what: &'static str) -> Result<Self, Malformed> {
        let mut reader = Self { text, at: 0, fresh: true, ended: false, close };
        reader.blanks();
        reader.expect(open, what)?;
        Ok(reader)
    }

    /// The next key and its value; nothing at the object's end. Of keys that occur twice, both are told.
    ///
    /// # Errors
    /// What comes next is not JSON, or something stands after the object. Call no further: nothing else will come.
    pub fn member(&mut self) -> Result<Option<(Str<'t>, Value<'t>)>, Malformed> {
        if !self.comes_another()? {
            return Ok(None);
        }
        let key = self.key()?;
        Ok(Some((key, self.value()?)))
    }

    /// The next value of an array; nothing at its end.
    ///
    /// # Errors
    /// As with [`member`](Self::member).
    pub fn item(&mut self) -> Result<Option<Value<'t>>, Malformed> {
        if !self.comes_another()? {
            return Ok(None);
        }
        Ok(Some(self.value()?))
    }

    fn comes_another(&mut self) -> Result<bool, Malformed> {
        if self.ended {
            return Ok(false);
        }
        self.blanks();
        if self.take(self.close) {
            self.ended = true;
            self.blanks();
            return if self.peek().is_none() {
                Ok(false)
            } else {
                self.wrong("something stands after the end")
            };
        }
        if !core::mem::take(&mut self.fresh) {
            self.expect(b',', "a comma or the end is missing")?;
            self.blanks();
        }
        Ok(true)
    }

    fn key(&mut self) -> Result<Str<'t>, Malformed> {
        self.expect(b'"', "a key in quotes is missing")?;
        let key = self.rest_of_string()?;
        self.blanks();
        self.expect(b':', "a colon is missing after a key")?;
        self.blanks();
        Ok(key)
    }

    fn value(&mut self) -> Result<Value<'t>, Malformed> {
        let Some(bracket @ (b'{' | b'[')) = self.peek() else { return self.scalar() };
        let from = self.at;
        self.skip(DEPTH.wrapping_sub(1))?;
        let text = self.text.get(from..self.at).unwrap_or_default();
        Ok(if bracket == b'{' { Value::Object(text) } else { Value::Array(text) })
    }

    /// A value in which no others lie.
    fn scalar(&mut self) -> Result<Value<'t>, Malformed> {
        match self.peek() {
            Some(b'"') => {
                self.step();
                self.rest_of_string().map(Value::Str)
            }
            Some(b'0'..=b'9' | b'-') => self.number(),
            _ => self.word(),
        }
    }

    fn word(&mut self) -> Result<Value<'t>, Malformed> {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let words: [(&[u8], Value<'t>); 3] =
            [(b"true", Value::Bool(true)), (b"false", Value::Bool(false)), (b"null", Value::Other)];
        for (word, value) in words {
            if rest.starts_with(word) {
                self.at = self.at.saturating_add(word.len());
                return Ok(value);
            }
        }
        self.wrong("a value is missing")
    }

    fn number(&mut self) -> Result<Value<'t>, Malformed> {
        let mut whole = !self.take(b'-');
        let from = self.at;
        self.digits()?;
        let digits = self.text.get(from..self.at).unwrap_or_default();
        if digits.len() > 1 && digits.starts_with(b"0") {
            return self.wrong("a number begins with a zero");
        }
        if self.take(b'.') {
            self.digits()?;
            whole = false;
        }
        if self.take(b'e') || self.take(b'E') {
            let _ = self.take(b'+') || self.take(b'-');
            self.digits()?;
            whole = false;
        }
        let mut number = 0u64;
        for digit in digits {
            let next =
                number.checked_mul(10).and_then(|n| n.checked_add(u64::from(digit.wrapping_sub(b'0'))));
            let Some(next) = next.filter(|_| whole) else { return Ok(Value::Other) };
            number = next;
        }
        Ok(Value::Number(number))
    }

    fn digits(&mut self) -> Result<(), Malformed> {
        let from = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.step();
        }
        if self.at == from { self.wrong("a digit is missing") } else { Ok(()) }
    }

    /// A string whose first quote has been read.
    fn rest_of_string(&mut self) -> Result<Str<'t>, Malformed> {
        let from = self.at;
        loop {
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => {
                    self.step();
                    self.escape()?;
                }
                Some(0..=0x1f) => return self.wrong("a control character in a string is not escaped"),
                Some(_) => self.step(),
                None => return self.wrong("a string does not end"),
            }
        }
        let text = self.text.get(from..self.at).unwrap_or_default();
        match core::str::from_utf8(text) {
            Ok(text) => {
                self.step();
                Ok(Str(text))
            }
            Err(error) => {
                self.at = from.saturating_add(error.valid_up_to());
                self.wrong("a string is not UTF-8")
            }
        }
    }

    /// What follows a backslash.
    fn escape(&mut self) -> Result<(), Malformed> {
        match self.peek() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.step(),
            Some(b'u') => {
                self.step();
                for _ in 0..4 {
                    if !self.peek().is_some_and(|byte| byte.is_ascii_hexdigit()) {
                        return self.wrong("four hexadecimal digits belong after \\u");
                    }
                    self.step();
                }
            }
            _ => return self.wrong("nothing is escaped like this"),
        }
        Ok(())
    }

    /// Goes past an object or array, whose bracket comes next, without recursion.
    fn skip(&mut self, depth: u32) -> Result<(), Malformed> {
        // Whether each one that is open is an object, the innermost in bit 0.
        const { assert!(DEPTH <= u64::BITS) };
        let (mut objects, mut open) = (0u64, 0u32);
        loop {
            // A value comes next.
            if let Some(bracket @ (b'{' | b'[')) = self.peek() {
                if open >= depth {
                    return self.wrong("too many objects and arrays lie in each other");
                }
                self.step();
                self.blanks();
                objects = objects << 1 | u64::from(bracket == b'{');
                open = open.wrapping_add(1);
                if !matches!(self.peek(), Some(b'}' | b']')) {
                    self.key_if(objects)?;
                    continue;
                }
            } else {
                self.scalar()?;
            }
            // It is over, and so may those be that it lies in.
            loop {
                self.blanks();
                let close = if objects & 1 == 1 { b'}' } else { b']' };
                if self.take(close) {
                    (objects, open) = (objects >> 1, open.wrapping_sub(1));
                    if open == 0 {
                        return Ok(());
                    }
                } else {
                    self.expect(b',', "a comma or the end is missing")?;
                    self.blanks();
                    self.key_if(objects)?;
                    break;
                }
            }
        }
    }

    fn key_if(&mut self, objects: u64) -> Result<(), Malformed> {
        if objects & 1 == 1 { self.key().map(|_| ()) } else { Ok(()) }
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn step(&mut self) {
        self.at = self.at.saturating_add(1);
    }

    fn take(&mut self, byte: u8) -> bool {
        let here = self.peek() == Some(byte);
        if here {
            self.step();
        }
        here
    }

    fn expect(&mut self, byte: u8, what: &'static str) -> Result<(), Malformed> {
        if self.take(byte) { Ok(()) } else { self.wrong(what) }
    }

    fn blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.step();
        }
    }

    fn wrong<T>(&mut self, what: &'static str) -> Result<T, Malformed> {
        self.ended = true;
        Err(Malformed { at: self.at, what })
    }
}
