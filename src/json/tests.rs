//! The writer and the reader against each other and against anything; tests/json.rs has serde judge both.
#![allow(clippy::arithmetic_side_effects, clippy::indexing_slicing, reason = "tests may panic")]

use super::{DEPTH, Reader, Str, Value, Writer, whole_characters};
use proptest::prelude::*;
use std::fmt::{self, Write};

fn written(write: impl Fn(&mut Writer<'_>)) -> String {
    let mut text = String::new();
    let mut json = Writer::new(&mut text);
    write(&mut json);
    json.finish().unwrap();
    text
}

#[test]
fn commas_stand_between_values_and_nowhere_else() {
    let text = written(|json| {
        json.array().object().key("a").array().end_array().key("b").null().end_object();
        json.number(0).boolean(true).boolean(false).number(u64::MAX).end_array();
    });
    assert_eq!(text, r#"[{"a":[],"b":null},0,true,false,18446744073709551615]"#);
}

#[test]
fn a_list_goes_on_where_it_stopped() {
    let mut text = String::new();
    let mut has_written = false;
    for (n, last) in [(1, false), (2, false), (3, true)] {
        let mut json = Writer::resume(&mut text, has_written);
        if n == 1 {
            json.array();
        }
        json.object().key("n").number(n).end_object();
        if last {
            json.end_array();
        }
        has_written = json.has_written();
        json.finish().unwrap();
    }
    assert_eq!(text, r#"[{"n":1},{"n":2},{"n":3}]"#);
}

#[test]
fn strings_are_escaped() {
    let text = written(|json| {
        json.array().string("q\" b\\ \n\r\t\0\x1b\x1e\x7f\u{9b}é").lossy(b"a\xffb\xe2\x82").hex(0xab);
        json.text(format_args!("{}\"{}", 1, '\n')).end_array();
    });
    let expected = r#"["q\" b\\ \n\r\t\u0000\u001b\u001e\u007f\u009bé","a�b�","0xab","1\"\n"]"#;
    assert_eq!(text, expected);
}

#[test]
fn a_full_sink_is_told_of_once() {
    struct Room(usize);
    impl Write for Room {
        fn write_str(&mut self, s: &str) -> fmt::Result {
            self.0 = self.0.checked_sub(s.len()).ok_or(fmt::Error)?;
            Ok(())
        }
    }
    let mut room = Room(10);
    let mut json = Writer::new(&mut room);
    json.object().key("a").text(format_args!("{:>40}", 1)).key("b").number(1).end_object();
    assert!(json.finish().is_err());
}

/// What a reader says of an object, in words.
fn read(text: impl AsRef<[u8]>) -> Result<Vec<String>, String> {
    let words = |error: super::Malformed| error.to_string();
    let mut reader = Reader::object(text.as_ref()).map_err(words)?;
    let mut members = Vec::new();
    while let Some((key, value)) = reader.member().map_err(words)? {
        members.push(format!("{key}={value:?}"));
    }
    assert_eq!(reader.member(), Ok(None), "the end is the end");
    Ok(members)
}

#[test]
fn members_are_pulled_one_by_one() {
    let text = r#" { "id" : 12 , "run":"vm list" ,"yes":true,"no":false,"nothing":null,"deep":{"a":[1,{}],"b":"}"},"list":[ ] } "#;
    let expected =
        ["id=Number(12)", "run=Str(\"vm list\")", "yes=Bool(true)", "no=Bool(false)", "nothing=Other"];
    let members = read(text).unwrap();
    assert_eq!(members[..5], expected);
    let mut reader = Reader::object(text.as_bytes()).unwrap();
    let deep = std::iter::from_fn(|| reader.member().unwrap()).find(|(key, _)| key.is("deep")).unwrap().1;
    assert_eq!(deep, Value::Object(br#"{"a":[1,{}],"b":"}"}"#));
    assert_eq!(read("{}").unwrap(), [""; 0]);
}

#[test]
fn numbers_are_unsigned_and_of_64_bits_or_something_else() {
    let numbers = read(
        r#"{"a":0,"b":18446744073709551615,"c":18446744073709551616,"d":-1,"e":1.5,"f":1e3,"g":-0.1E-7}"#,
    );
    let expected = [
        "a=Number(0)",
        "b=Number(18446744073709551615)",
        "c=Other",
        "d=Other",
        "e=Other",
        "f=Other",
        "g=Other",
    ];
    assert_eq!(numbers.unwrap(), expected);
}

#[test]
fn arrays_are_pulled_too() {
    let mut reader = Reader::array(b"[1,\"a\",[2],{\"b\":3}]").unwrap();
    let items: Vec<Value<'_>> = std::iter::from_fn(|| reader.item().unwrap()).collect();
    assert_eq!(
        (items[0], items[2], items[3]),
        (Value::Number(1), Value::Array(b"[2]"), Value::Object(b"{\"b\":3}"))
    );
    assert!(items[1].str().unwrap().is("a"));
}

#[test]
fn what_is_malformed_is_refused_where_it_is() {
    for (text, error) in [
        ("", "at byte 0: an object begins with \"{\""),
        ("[1]", "at byte 0: an object begins with \"{\""),
        ("{", "at byte 1: a key in quotes is missing"),
        ("{\"a\"", "at byte 4: a colon is missing after a key"),
        ("{\"a\":", "at byte 5: a value is missing"),
        ("{\"a\":1", "at byte 6: a comma or the end is missing"),
        ("{\"a\":1,}", "at byte 7: a key in quotes is missing"),
        ("{\"a\":1}x", "at byte 7: something stands after the end"),
        ("{\"a\":01}", "at byte 7: a number begins with a zero"),
        ("{\"a\":-}", "at byte 6: a digit is missing"),
        ("{\"a\":1.}", "at byte 7: a digit is missing"),
        ("{\"a\":tru}", "at byte 5: a value is missing"),
        ("{\"a\":truest}", "at byte 9: a comma or the end is missing"),
        ("{\"a\":\"x}", "at byte 8: a string does not end"),
        ("{\"a\":\"\\x\"}", "at byte 7: nothing is escaped like this"),
        ("{\"a\":\"\\u12g4\"}", "at byte 10: four hexadecimal digits belong after \\u"),
        ("{\"a\":\"\t\"}", "at byte 6: a control character in a string is not escaped"),
        ("{\"a\":[1}}", "at byte 7: a comma or the end is missing"),
        ("{\"a\":[}", "at byte 6: a comma or the end is missing"),
        ("{\"a\":[1,]}", "at byte 8: a value is missing"),
        ("{\"a\":{1:2}}", "at byte 6: a key in quotes is missing"),
        ("{\"a\":{\"b\":1,}}", "at byte 12: a key in quotes is missing"),
        ("{\"a\" 1}", "at byte 5: a colon is missing after a key"),
    ] {
        assert_eq!(read(text), Err(error.to_string()), "{text}");
    }
    assert_eq!(read(b"{\"a\":\"b\xff\"}"), Err("at byte 7: a string is not UTF-8".to_string()));
}

#[test]
fn nesting_has_a_limit() {
    let nested = |deep: usize| format!("{{\"a\":{}{}}}", "[".repeat(deep), "]".repeat(deep));
    let most = DEPTH as usize - 1;
    read(nested(most)).unwrap();
    let error = read(nested(most + 1)).unwrap_err();
    assert_eq!(error, "at byte 36: too many objects and arrays lie in each other");
    assert!(read("{\"a\":".repeat(100_000)).is_err());
}

fn str_of(text: &str) -> String {
    let mut reader = Reader::object(text.as_bytes()).unwrap();
    let text = reader.member().unwrap().unwrap().1.str().unwrap();
    text.to_string()
}

#[test]
fn escapes_become_characters() {
    assert_eq!(str_of(r#"{"a":"\"\\\/\b\f\n\r\t\u0041\u00e9\ud83d\ude00"}"#), "\"\\/\x08\x0c\n\r\tAé😀");
    // Halves of pairs, alone or in the wrong order.
    assert_eq!(str_of(r#"{"a":"\ud83d"}"#), "\u{fffd}");
    assert_eq!(str_of(r#"{"a":"\ude00\ud83dx"}"#), "\u{fffd}\u{fffd}x");
    assert_eq!(str_of(r#"{"a":"\ud83d\u0041"}"#), "\u{fffd}A");
    assert_eq!(str_of(r#"{"a":"\ud83d\ud83d\ude00"}"#), "\u{fffd}😀");
}

#[test]
fn strings_are_decoded_into_what_room_there_is() {
    let mut reader = Reader::object(br#"{"caf\u00e9":"ab"}"#).unwrap();
    let (key, value): (Str<'_>, _) = reader.member().unwrap().unwrap();
    assert!(key.is("café") && !key.is("caf") && !key.is("cafés"));
    assert_eq!(key.plain(), None);
    assert_eq!(value.str().unwrap().plain(), Some("ab"));
    assert_eq!(key.decode(&mut [0; 5]), Some("café"));
    assert_eq!(key.decode(&mut [0; 4]), None);
    assert_eq!(key.decode(&mut []), None);
}

#[test]
fn a_stream_is_cut_between_characters() {
    for (bytes, whole) in [
        (&b""[..], 0),
        (b"ab", 2),
        (b"a\xc3", 1),
        ("aé".as_bytes(), 3),
        (b"\xe2\x82", 0),
        ("€".as_bytes(), 3),
        (b"a\xf0\x9f\x98", 1),
        ("😀".as_bytes(), 4),
        // What no further byte can mend is not waited for.
        (b"a\xff", 2),
        (b"\xc3a", 2),
        (b"\xe2\xff", 2),
        (b"\x80\x80\x80", 3),
    ] {
        assert_eq!(whole_characters(bytes), whole, "{bytes:x?}");
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read(text: String, bytes: Vec<u8>, number: u64) {
        let line = written(|json| {
            json.object().key(&text).lossy(&bytes).key("n").number(number).end_object();
        });
        prop_assert!(line.bytes().all(|byte| byte >= 0x20 && byte != 0x7f));
        let mut reader = Reader::object(line.as_bytes()).unwrap();
        let (key, value) = reader.member().unwrap().unwrap();
        prop_assert!(key.is(&text) && value.str().unwrap().is(&String::from_utf8_lossy(&bytes)));
        prop_assert_eq!(reader.member().unwrap().unwrap().1.number(), Some(number));
        prop_assert_eq!(reader.member(), Ok(None));
    }

    #[test]
    fn no_bytes_panic(bytes: Vec<u8>) {
        let _ = read(&bytes);
        let _ = Reader::array(&bytes).map(|mut reader| while let Ok(Some(_)) = reader.item() {});
        prop_assert!(whole_characters(&bytes) <= bytes.len());
    }
}
