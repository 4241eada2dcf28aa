//! Writes JSON to a `core::fmt::Write`, without blanks or line ends.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use core::fmt::{self, Write};

/// Writes values one after the other and sets the commas between them.
///
/// The caller opens and closes what it writes: [`object`](Self::object) and [`end_object`](Self::end_object),
/// [`array`](Self::array) and [`end_array`](Self::end_array). In an object each value follows a [`key`](Self::key).
/// The first failure of the sink is kept, everything after it goes nowhere, and [`finish`](Self::finish) tells of it.
///
/// ```
/// let mut text = String::new();
/// let mut json = mezzanine::json::Writer::new(&mut text);
/// json.object().key("id").number(3).key("name").string("alpha").key("pc").hex(0x4020_0000).end_object();
/// json.finish().unwrap();
/// assert_eq!(text, r#"{"id":3,"name":"alpha","pc":"0x40200000"}"#);
/// ```
pub struct Writer<'w> {
    sink: &'w mut dyn Write,
    /// A value stands before what comes next, in the same object or array.
    comma: bool,
    result: fmt::Result,
}

impl<'w> Writer<'w> {
    /// Begins a text.
    pub fn new(sink: &'w mut dyn Write) -> Self {
        Self::resume(sink, false)
    }

    /// Goes on where another writer stopped that had [`has_written`](Self::has_written): lists that are written in pieces.
    pub fn resume(sink: &'w mut dyn Write, has_written: bool) -> Self {
        Self { sink, comma: has_written, result: Ok(()) }
    }

    /// Whether the present object or array has a member already.
    pub fn has_written(&self) -> bool {
        self.comma
    }

    /// Whether the sink took everything.
    ///
    /// # Errors
    /// The sink's first.
    pub fn finish(self) -> fmt::Result {
        self.result
    }

    /// `{`
    pub fn object(&mut self) -> &mut Self {
        self.open("{")
    }

    /// `}`
    pub fn end_object(&mut self) -> &mut Self {
        self.close("}")
    }

    /// `[`
    pub fn array(&mut self) -> &mut Self {
        self.open("[")
    }

    /// `]`
    pub fn end_array(&mut self) -> &mut Self {
        self.close("]")
    }

    /// The key of the value that comes next.
    pub fn key(&mut self, key: &str) -> &mut Self {
        self.string(key).put(":");
        self.comma = false;
        self
    }

    /// A string.
    pub fn string(&mut self, text: &str) -> &mut Self {
        self.value("\"").escaped(text).put("\"")
    }

    /// A string of bytes that should be UTF-8; what is not becomes U+FFFD.
    pub fn lossy(&mut self, bytes: &[u8]) -> &mut Self {
        self.value("\"");
        for chunk in bytes.utf8_chunks() {
            self.escaped(chunk.valid());
            if !chunk.invalid().is_empty() {
                self.put("\u{fffd}");
            }
        }
        self.put("\"")
    }

    /// A string of what is formatted: `json.text(format_args!("{} of {}", 1, 2))`.
    pub fn text(&mut self, text: fmt::Arguments<'_>) -> &mut Self {
        self.value("\"");
        // Its failures are kept already.
        let _ = Escape(self).write_fmt(text);
        self.put("\"")
    }

    /// An unsigned number.
    pub fn number(&mut self, number: u64) -> &mut Self {
        let mut digits = [0; 20];
        self.value(decimal(number, &mut digits))
    }

    /// A number as a string of hexadecimal digits after `0x`: JSON's own numbers lose bits beyond 53 in many readers.
    pub fn hex(&mut self, number: u64) -> &mut Self {
        self.text(format_args!("{number:#x}"))
    }

    /// `true` or `false`.
    pub fn boolean(&mut self, is: bool) -> &mut Self {
        self.value(if is { "true" } else { "false" })
    }

    /// `null`
    pub fn null(&mut self) -> &mut Self {
        self.value("null")
    }

    fn open(&mut self, bracket: &str) -> &mut Self {
        self.value(bracket);
        self.comma = false;
        self
    }

    fn close(&mut self, bracket: &str) -> &mut Self {
        self.comma = true;
        self.put(bracket)
    }

    /// A value begins, with `text`.
    fn value(&mut self, text: &str) -> &mut Self {
        if core::mem::replace(&mut self.comma, true) {
            self.put(",");
        }
        self.put(text)
    }

    fn put(&mut self, text: &str) -> &mut Self {
        if self.result.is_ok() {
            self.result = self.sink.write_str(text);
        }
        self
    }

    fn escaped(&mut self, text: &str) -> &mut Self {
        let mut rest = text;
        while let Some(at) = rest.find(needs_escape) {
            let (plain, from) = rest.split_at_checked(at).unwrap_or_default();
            self.put(plain);
            let mut chars = from.chars();
            if let Some(c) = chars.next() {
                self.escape(c);
            }
            rest = chars.as_str();
        }
        self.put(rest)
    }

    fn escape(&mut self, c: char) {
        let short = match c {
            '"' => "\\\"",
            '\\' => "\\\\",
            '\n' => "\\n",
            '\r' => "\\r",
            '\t' => "\\t",
            _ => "",
        };
        self.put(short);
        if short.is_empty() {
            let digit = |n: u32| char::from_digit(n & 0xf, 16).unwrap_or('0') as u8;
            let code = u32::from(c);
            let text = [b'\\', b'u', b'0', b'0', digit(code >> 4), digit(code)];
            self.put(core::str::from_utf8(&text).unwrap_or_default());
        }
    }
}

/// What JSON demands, and the other control characters (DEL and C1): a terminal may obey them.
fn needs_escape(c: char) -> bool {
    matches!(c, '"' | '\\') || c.is_control()
}

fn decimal(mut number: u64, digits: &mut [u8; 20]) -> &str {
    let mut from = digits.len();
    for digit in digits.iter_mut().rev() {
        *digit = b'0'.wrapping_add((number % 10) as u8);
        number /= 10;
        from = from.wrapping_sub(1);
        if number == 0 {
            break;
        }
    }
    digits.get(from..).and_then(|digits| core::str::from_utf8(digits).ok()).unwrap_or_default()
}

/// Escapes what is formatted.
struct Escape<'e, 'w>(&'e mut Writer<'w>);

impl Write for Escape<'_, '_> {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        self.0.escaped(s).result
    }
}

/// How many bytes of these, from the first, do not end in the midst of a character of UTF-8: what remains, at most three,
/// is kept until more of it comes, when a stream is written string by string.
pub fn whole_characters(bytes: &[u8]) -> usize {
    let whole = bytes.len();
    // The last character begins in the last three bytes, or it has all of its four.
    let lead =
        (whole.saturating_sub(3)..whole).rev().find(|at| bytes.get(*at).is_some_and(|byte| *byte >= 0xc0));
    let last = lead.and_then(|at| bytes.get(at..)).unwrap_or_default();
    // What more bytes can complete has an error without a length.
    let open = core::str::from_utf8(last)
        .is_err_and(|error| error.valid_up_to() == 0 && error.error_len().is_none());
    if open { whole.saturating_sub(last.len()) } else { whole }
}
