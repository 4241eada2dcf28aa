//! The editor at a small terminal, beside a model that is too simple to be wrong.

use super::language::Have;
use crate::shell::editor::COLUMNS;
use crate::shell::width::{columns, is_visible, width};
use crate::shell::{Editor, Event, LINE};
use proptest::prelude::*;

const PROMPT: &str = "mz> ";
const HAVE: Have = Have(&["alpha", "alpine", "beta"], &[]);

/// Rows of cells, and what the editor may send; anything else is trash on the screen.
#[derive(Default)]
struct Terminal {
    rows: Vec<Vec<char>>,
    column: usize,
    bells: usize,
}

impl Terminal {
    fn row(&mut self) -> &mut Vec<char> {
        if self.rows.is_empty() {
            self.rows.push(Vec::new());
        }
        self.rows.last_mut().unwrap()
    }

    fn take(&mut self, text: &str) {
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            rest = &rest[c.len_utf8()..];
            match c {
                '\r' => self.column = 0,
                '\n' => self.rows.push(Vec::new()),
                '\x07' => self.bells += 1,
                '\x1b' => {
                    let end = rest.find(|c: char| c.is_ascii_alphabetic()).unwrap();
                    let (sequence, tail) = rest.split_at(end + 1);
                    rest = tail;
                    match sequence {
                        "[K" => {
                            let column = self.column;
                            self.row().truncate(column);
                        }
                        "[H" => self.column = 0,
                        "[2J" => self.rows = vec![Vec::new()],
                        _ => {
                            let count = sequence.strip_prefix('[').and_then(|s| s.strip_suffix('C')).unwrap();
                            self.column += count.parse::<usize>().unwrap();
                        }
                    }
                }
                c => {
                    assert!(!c.is_control(), "{text:?}");
                    self.show(c);
                }
            }
        }
    }

    fn show(&mut self, c: char) {
        let (at, wide) = (self.column, width(c));
        let row = self.row();
        let edited = row.starts_with(&PROMPT.chars().collect::<Vec<_>>());
        assert!(!edited || at + wide < COLUMNS, "the last column stays free");
        // A cell holds its character; what is drawn over one is in no cell, and the second half of a wide one is NUL.
        for n in 0..wide {
            if row.len() <= at + n {
                row.resize(at + n + 1, ' ');
            }
            row[at + n] = if n == 0 { c } else { '\0' };
        }
        self.column += wide;
    }

    fn text(&mut self) -> String {
        self.row().iter().filter(|c| **c != '\0').collect()
    }
}

/// An editor, and a terminal that shows it.
struct Bench {
    editor: Editor,
    terminal: Terminal,
}

impl Bench {
    fn new() -> Self {
        let mut bench = Self { editor: Editor::new(PROMPT), terminal: Terminal::default() };
        let mut out = String::new();
        bench.editor.prompt(&mut out);
        bench.terminal.take(&out);
        bench
    }

    fn key(&mut self, byte: u8) -> Event {
        let mut out = String::new();
        let event = self.editor.key(byte, &HAVE, &mut out);
        self.terminal.take(&out);
        event
    }

    /// Types; the lines that were entered.
    fn keys(&mut self, keys: impl AsRef<[u8]>) -> Vec<String> {
        let mut lines = Vec::new();
        for byte in keys.as_ref() {
            if self.key(*byte) == Event::Line {
                lines.push(self.editor.line().to_string());
                let mut out = String::new();
                self.editor.prompt(&mut out);
                self.terminal.take(&out);
            }
        }
        lines
    }

    /// The row that is edited, a bar where the cursor is.
    fn shown(&mut self) -> String {
        let column = self.terminal.column;
        let row = self.terminal.row();
        let mut text: String = row.iter().take(column).filter(|c| **c != '\0').collect();
        text.push('|');
        text.extend(row.iter().skip(column).filter(|c| **c != '\0'));
        text
    }
}

#[test]
fn keys_edit_the_line() {
    for (keys, shown) in [
        ("", "mz> |"),
        ("abc", "mz> abc|"),
        ("abc\x7f\x08", "mz> a|"),
        ("abc\x1b[D\x1b[D", "mz> a|bc"),
        ("abc\x1bOD\x02X", "mz> aX|bc"),
        ("abc\x01\x1b[3~", "mz> |bc"),
        ("abc\x1b[H\x04", "mz> |bc"),
        ("abc\x1b[1~\x1b[C\x1b[C\x06\x06", "mz> abc|"),
        ("abc\x1b[7~\x05d", "mz> abcd|"),
        ("abc\x1b[D\x0b", "mz> ab|"),
        ("abc\x1b[D\x15", "mz> |c"),
        ("vm info  alpha  \x17", "mz> vm info  |"),
        ("vm info  alpha  \x17\x17", "mz> vm |"),
        ("ab\x1b[1;5Dc\x1b[1;2F!", "mz> acb!|"),
        ("h\u{e9}\u{4e16}\u{1f600}", "mz> h\u{e9}\u{4e16}\u{1f600}|"),
        ("h\u{e9}\u{4e16}\u{1f600}\x7f\x7f", "mz> h\u{e9}|"),
        ("h\u{e9}\u{4e16}x\x1b[D\x1b[D\x7f", "mz> h|\u{4e16}x"),
        ("abc\x0c", "mz> abc|"),
        ("ab\x1b[Dc\x0c", "mz> ac|b"),
    ] {
        let mut bench = Bench::new();
        assert_eq!(bench.keys(keys), [""; 0], "{keys:?}");
        assert_eq!(bench.shown(), shown, "{keys:?}");
        assert_eq!(bench.terminal.bells, 0);
    }
}

#[test]
fn what_is_no_key_leaves_nothing() {
    for trash in [
        &b"\x1b[200~"[..],
        b"\x1b[99;99;99~",
        b"\x1b[?1;2c",
        b"\x1b[[A",
        b"\x1bOP",
        b"\x1bx",
        b"\x1b(B",
        b"\x1b]11;rgb:0/0/0\x07",
        b"\x1b]0;x\x1b\\",
        b"\x1bP1$r\x1b\\",
        b"\x1b[<0;1;1M",
        b"\xff\xfe",
        b"\xc3",
        b"\x80",
        b"\xe2\x82",
        b"\xf0\x9f\x98",
        b"\xed\xa0\x80",
        b"\xf4\x90\x80\x80",
        "\u{9b}".as_bytes(),
        "\u{202e}\u{200b}\u{feff}".as_bytes(),
        b"\x00\x1c\x1d\x1e\x1f\x12\x13\x11",
        b"\x1b\x1b[5~",
        b"\x1b[99999999999999~",
    ] {
        let mut bench = Bench::new();
        bench.keys("ab\x1b[D");
        bench.keys(trash);
        // A control character ends what has begun.
        assert_eq!(bench.keys("\rx"), ["ab"], "{trash:x?}");
        assert_eq!(bench.shown(), "mz> x|", "{trash:x?}");
    }
    // The byte that cuts a character off is not lost.
    let mut bench = Bench::new();
    bench.keys(b"\xc3a\xe2\x82b\xf0\xc3\xa9");
    assert_eq!(bench.shown(), "mz> ab\u{e9}|");
}

#[test]
fn lines_are_entered_once_and_blank_ones_not_at_all() {
    let mut bench = Bench::new();
    assert_eq!(bench.keys("a\r\nb\rc\n\n\r\n  \rd\r"), ["a", "b", "c", "d"]);
    assert_eq!(bench.key(4), Event::Leave);
    bench.keys("x");
    assert_eq!(bench.key(4), Event::None);
    assert_eq!(bench.key(3), Event::Cancel);
    assert_eq!(bench.shown(), "mz> |");
}

#[test]
fn old_lines_come_back() {
    let (up, down) = ("\x1b[A", "\x1b[B");
    let mut bench = Bench::new();
    bench.keys(up);
    assert_eq!(bench.shown(), "mz> |");
    bench.keys("one\rtwo\rtwo\rthr");
    bench.keys(up);
    assert_eq!(bench.shown(), "mz> two|");
    bench.keys(format!("{up}{up}{up}"));
    assert_eq!(bench.shown(), "mz> one|");
    bench.keys(format!("{down}{down}"));
    assert_eq!(bench.shown(), "mz> thr|", "what was begun");
    bench.keys(down);
    assert_eq!(bench.shown(), "mz> thr|");
    assert_eq!(bench.keys("\x10\x10x\r\x10"), ["onex"]);
    assert_eq!(bench.shown(), "mz> onex|");
    // Sixteen are kept.
    bench.keys("\x03");
    let many: String = (0..20).map(|n| format!("line {n}\r")).collect();
    bench.keys(many);
    bench.keys("\x10".repeat(30));
    assert_eq!(bench.shown(), "mz> line 4|");
}

#[test]
fn a_line_without_room_is_refused_as_a_whole() {
    let mut bench = Bench::new();
    assert_eq!(bench.keys("x".repeat(LINE) + "\r"), ["x".repeat(LINE)]);
    let mut bench = Bench::new();
    assert_eq!(bench.keys("vm destroy alpha ".to_string() + &"x".repeat(10_000)), [""; 0]);
    assert_eq!(bench.terminal.bells, 1, "one is enough");
    assert_eq!(bench.keys("\r"), [""; 0]);
    let text = "E0601 character 1: the line has more than 256 bytes. Nothing was done; give less of it.";
    let said: Vec<String> = bench.terminal.rows.iter().map(|row| row.iter().collect()).collect();
    assert_eq!(said[said.len() - 2], text);
    assert_eq!(bench.keys("ok\r"), ["ok"]);
    // Whoever takes something away has seen it.
    bench.keys("y".repeat(300));
    assert_eq!(bench.keys("\x7fz\r"), ["y".repeat(LINE - 1) + "z"]);
}

#[test]
fn tab_completes_and_lists() {
    let mut bench = Bench::new();
    bench.keys("vm inf\ta\t");
    assert_eq!(bench.shown(), "mz> vm info alp|");
    bench.keys("\t");
    assert_eq!((bench.terminal.bells, bench.terminal.rows.len()), (1, 1));
    bench.keys("\t");
    let rows: Vec<String> = bench.terminal.rows.iter().map(|row| row.iter().collect()).collect();
    assert_eq!(rows, ["mz> vm info alp", "alpha  alpine  ", "mz> vm info alp"]);
    bench.keys("h\t");
    assert_eq!(bench.shown(), "mz> vm info alpha |");
    // In the midst of a line, what is behind the cursor stays.
    bench.keys("\x03vm sta beta\x01\x06\x06\x06\x06\x06\x06\t");
    assert_eq!(bench.shown(), "mz> vm start | beta");
    bench.keys("\x03zebra\t");
    assert_eq!(bench.terminal.bells, 2);
    bench.keys("\t");
    assert_eq!(bench.terminal.bells, 3, "there is nothing to list");
}

#[test]
fn a_row_that_is_taken_off_comes_back() {
    let mut bench = Bench::new();
    bench.keys("abc\x1b[D");
    let mut out = String::new();
    bench.editor.hide(&mut out);
    out.push_str("something else\r\n");
    bench.editor.show(&mut out);
    bench.terminal.take(&out);
    assert_eq!(bench.terminal.rows[0].iter().collect::<String>(), "something else");
    assert_eq!(bench.shown(), "mz> ab|c");
}

/// A key, and what it does to a line and a cursor.
#[derive(Clone, Debug)]
enum Press {
    Char(char),
    Left,
    Right,
    Home,
    End,
    Backspace,
    Delete,
    EraseEnd,
    EraseStart,
    EraseWord,
}

#[derive(Default)]
struct Model {
    text: Vec<char>,
    cursor: usize,
    refused: bool,
}

impl Model {
    fn press(&mut self, press: &Press) {
        let (cursor, len) = (self.cursor, self.text.len());
        let mends = !matches!(press, Press::Char(_) | Press::Left | Press::Right | Press::Home | Press::End);
        match press {
            Press::Char(c) if is_visible(*c) => {
                let bytes: usize = self.text.iter().map(|c| c.len_utf8()).sum();
                self.refused |= bytes + c.len_utf8() > LINE;
                if !self.refused {
                    self.text.insert(cursor, *c);
                    self.cursor += 1;
                }
            }
            Press::Char(_) => {}
            Press::Left => self.cursor = cursor.saturating_sub(1),
            Press::Right => self.cursor = (cursor + 1).min(len),
            Press::Home => self.cursor = 0,
            Press::End => self.cursor = len,
            Press::Backspace if cursor > 0 => {
                self.text.remove(cursor - 1);
                self.cursor -= 1;
            }
            Press::Delete if cursor < len => {
                self.text.remove(cursor);
            }
            Press::Backspace | Press::Delete => {}
            Press::EraseEnd => self.text.truncate(cursor),
            Press::EraseStart => {
                self.text.drain(..cursor);
                self.cursor = 0;
            }
            Press::EraseWord => {
                while self.cursor > 0 && self.text[self.cursor - 1] == ' ' {
                    self.cursor -= 1;
                }
                while self.cursor > 0 && self.text[self.cursor - 1] != ' ' {
                    self.cursor -= 1;
                }
                self.text.drain(self.cursor..cursor);
            }
        }
        self.refused &= !mends;
    }
}

impl Press {
    fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Char(c) => c.to_string().into_bytes(),
            Self::Left => b"\x1b[D".to_vec(),
            Self::Right => b"\x1bOC".to_vec(),
            Self::Home => b"\x01".to_vec(),
            Self::End => b"\x1b[4~".to_vec(),
            Self::Backspace => b"\x7f".to_vec(),
            Self::Delete => b"\x1b[3~".to_vec(),
            Self::EraseEnd => b"\x0b".to_vec(),
            Self::EraseStart => b"\x15".to_vec(),
            Self::EraseWord => b"\x17".to_vec(),
        }
    }
}

fn any_press() -> impl Strategy<Value = Press> {
    let character = prop_oneof![
        8 => prop::char::range('a', 'z'),
        3 => Just(' '),
        2 => prop::sample::select(vec!['\u{e9}', '\u{4e16}', '\u{1f600}', '\u{301}', '\u{202e}', '\u{85}']),
        1 => any::<char>().prop_filter("a key", |c| !c.is_ascii_control()),
    ];
    prop_oneof![
        30 => character.prop_map(Press::Char),
        3 => Just(Press::Left),
        3 => Just(Press::Right),
        1 => Just(Press::Home),
        1 => Just(Press::End),
        2 => Just(Press::Backspace),
        2 => Just(Press::Delete),
        1 => prop_oneof![Just(Press::EraseEnd), Just(Press::EraseStart), Just(Press::EraseWord)],
    ]
}

/// The row shows the part of the line that the cursor is in, and the cursor is where it should be.
fn matches(bench: &mut Bench, model: &Model) -> Result<(), TestCaseError> {
    let text: String = model.text.iter().collect();
    prop_assert_eq!(bench.editor.line(), &text);
    let shown = bench.shown();
    let shown = shown.strip_prefix(PROMPT).unwrap();
    // Cells hold no characters of width 0.
    let cells = |text: &[char]| text.iter().filter(|c| width(**c) > 0).collect::<String>();
    let (before, behind) = (cells(&model.text[..model.cursor]), cells(&model.text[model.cursor..]));
    let (left, right) = shown.split_once('|').unwrap();
    if columns(&text) < COLUMNS - PROMPT.len() {
        prop_assert_eq!((left, right), (&*before, &*behind));
    } else {
        prop_assert!(before.ends_with(left) && behind.starts_with(right), "{} {}", shown, text);
        prop_assert!(!left.is_empty() || before.is_empty(), "what is before the cursor is seen");
        prop_assert!(columns(shown) > JUST_ENOUGH, "the window is used: {}", shown);
    }
    Ok(())
}

/// Columns of the window that are used at least once the line is longer than it.
const JUST_ENOUGH: usize = 20;

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn the_row_shows_what_a_model_has(presses in prop::collection::vec(any_press(), 0..500)) {
        // A bar in the text would be taken for the cursor.
        let mut bench = Bench::new();
        let mut model = Model::default();
        for press in presses.iter().filter(|press| !matches!(press, Press::Char('|'))) {
            for byte in press.bytes() {
                prop_assert_eq!(bench.key(byte), Event::None);
            }
            model.press(press);
            matches(&mut bench, &model)?;
        }
    }

    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(prop_oneof![any::<u8>(), Just(0x1b), Just(b'['), Just(b'\t'), Just(0x10)], 0..1000)) {
        // The terminal judges what comes out.
        let mut bench = Bench::new();
        for line in bench.keys(&bytes) {
            prop_assert!(line.len() <= LINE && !line.trim_ascii().is_empty());
            prop_assert!(line.chars().all(is_visible));
        }
        prop_assert!(bench.terminal.text().starts_with(PROMPT));
    }

    /// The last lines come back, newest first, whatever they are.
    #[test]
    fn history_is_what_was_entered(lines in prop::collection::vec("[a-c]{1,3}", 0..40)) {
        let mut bench = Bench::new();
        let mut entered: Vec<&str> = Vec::new();
        for line in &lines {
            prop_assert_eq!(bench.keys(format!("{line}\r")), [line.clone()]);
            if entered.last() != Some(&line.as_str()) {
                entered.push(line);
            }
        }
        for line in entered.iter().rev().take(16) {
            bench.keys("\x10");
            prop_assert_eq!(bench.editor.line(), *line);
        }
    }
}
