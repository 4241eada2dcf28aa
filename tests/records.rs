//! Records: any bytes into the decoder, and what goes out through a JSON parser that is not ours.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test says what it expects")]

use mezzanine::records::{Decoder, FRAME, Frame, Incoming, LF, LONGEST, RS, Reason};
use proptest::prelude::*;
use serde_json::{Value, json};

/// An [`Incoming`] that outlives its decoder's next byte.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Got {
    Typed(Vec<u8>),
    Hello(String),
    Run(u32, String),
    Input(u16, Vec<u8>),
    Bye,
    Bad(Reason, Option<u32>),
}

impl From<Incoming<'_>> for Got {
    fn from(incoming: Incoming<'_>) -> Self {
        match incoming {
            Incoming::Typed(bytes) => Self::Typed(bytes.to_vec()),
            Incoming::Hello { nonce } => Self::Hello(nonce.to_owned()),
            Incoming::Run { id, line } => Self::Run(id, line.to_owned()),
            Incoming::Input { vm, bytes } => Self::Input(vm, bytes.to_vec()),
            Incoming::Bye => Self::Bye,
            Incoming::Bad { reason, id } => Self::Bad(reason, id),
        }
    }
}

/// What bytes make of a decoder; typing that belongs together in one.
fn fed(decoder: &mut Decoder, bytes: &[u8]) -> Vec<Got> {
    let mut all: Vec<Got> = Vec::new();
    for byte in bytes {
        match (decoder.feed(*byte).map(Got::from), all.last_mut()) {
            (Some(Got::Typed(more)), Some(Got::Typed(text))) => text.extend(more),
            (Some(got), _) => all.push(got),
            (None, _) => {}
        }
    }
    all
}

/// A decoder that a host tool talks to.
fn greeted() -> Decoder {
    let mut decoder = Decoder::new();
    assert_eq!(fed(&mut decoder, b"\x1e{\"hello\":\"n-1_A\"}\n"), [Got::Hello("n-1_A".into())]);
    assert!(!decoder.is_plain());
    decoder
}

fn record(value: &Value) -> Vec<u8> {
    format!("\x1e{value}\n").into_bytes()
}

/// Bytes as a record says them.
fn as_text(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}

#[test]
fn a_conversation() {
    let mut decoder = Decoder::new();
    let got = fed(
        &mut decoder,
        b"ls\r\x1e{\"hello\":\"77\"}\n\x1e {\"id\" : 3, \"more\":[1], \"run\":\"vm list \\u0022a\\\"\"}\n\n\
          \x1e{\"vm\":2,\"in\":\"l\\u001bs\\r\\u00ff\xc3\xbf\"}\n\x1e{\"bye\":true}\nexit\r",
    );
    let expected = [
        Got::Typed(b"ls\r".to_vec()),
        Got::Hello("77".into()),
        Got::Run(3, "vm list \"a\"".into()),
        Got::Input(2, b"l\x1bs\r\xff\xff".to_vec()),
        Got::Bye,
        Got::Typed(b"exit\r".to_vec()),
    ];
    assert_eq!(got, expected);
}

#[test]
fn what_is_wrong_is_told_once_and_does_nothing() {
    for (record, reason, id) in [
        (&b"\x1e{\"id\":1\n"[..], Reason::NotJson, None),
        (b"\x1e[1]\n", Reason::NotJson, None),
        (b"\x1e{\"id\":1,\"run\":\"\xff\"}\n", Reason::NotJson, None),
        (b"\x1e{}\n", Reason::Unknown, None),
        (b"\x1e{\"run\":\"vm list\"}\n", Reason::Unknown, None),
        (b"\x1e{\"id\":7,\"run\":1}\n", Reason::Unknown, Some(7)),
        (b"\x1e{\"id\":4294967296,\"run\":\"a\"}\n", Reason::Unknown, None),
        (b"\x1e{\"id\":-1,\"run\":\"a\"}\n", Reason::Unknown, None),
        (b"\x1e{\"id\":7,\"run\":\"a\",\"bye\":true}\n", Reason::Unknown, Some(7)),
        (b"\x1e{\"bye\":false}\n", Reason::Unknown, None),
        (b"\x1e{\"vm\":65536,\"in\":\"a\"}\n", Reason::Unknown, None),
        (b"\x1e{\"vm\":1,\"in\":\"\xe2\x82\xac\"}\n", Reason::NotBytes, None),
        (b"\x1e{\"hello\":\"\"}\n", Reason::Unknown, None),
        (b"\x1e{\"hello\":\"a\\\"b\"}\n", Reason::Unknown, None),
        (b"\x1e{\"id\":1,\"run\"\x1e", Reason::Cut, None),
        (b"\x1e{\"id\":1,\t\"run\":\"a\"}\n", Reason::Cut, None),
        (b"noise\nnoise", Reason::Noise, None),
    ] {
        let mut decoder = greeted();
        let got = fed(&mut decoder, record);
        assert_eq!(got[0], Got::Bad(reason, id), "{}", record.escape_ascii());
        assert!(got[1..].iter().all(|more| *more == got[0]), "{got:?}");
        // It goes on as if nothing had been.
        let next = fed(&mut decoder, b"\x1e{\"id\":9,\"run\":\"mem\"}\n");
        assert_eq!(next.last(), Some(&Got::Run(9, "mem".into())));
    }
}

#[test]
fn long_records_are_dropped_whole() {
    let long = |len: usize| record(&json!({ "id": 1, "run": "x".repeat(len - 17) }));
    let mut decoder = greeted();
    assert_eq!(long(LONGEST).len(), LONGEST + 2);
    assert!(matches!(fed(&mut decoder, &long(LONGEST))[..], [Got::Run(1, _)]));
    assert_eq!(fed(&mut decoder, &long(LONGEST + 1)), [Got::Bad(Reason::TooLong, None)]);
    assert_eq!(fed(&mut decoder, &long(10_000)), [Got::Bad(Reason::TooLong, None)]);
    assert!(matches!(fed(&mut decoder, &long(20))[..], [Got::Run(1, _)]));
}

#[test]
fn a_plain_line_takes_hellos_only() {
    let mut decoder = Decoder::new();
    for record in ["\x1e{\"id\":1,\"run\":\"vm stop a\"}\n", "\x1e{\"vm\":1,\"in\":\"secret\"}\n"] {
        let got = fed(&mut decoder, record.as_bytes());
        assert!(matches!(got[..], [Got::Bad(Reason::NoHello, _)]), "nothing of it is typed: {got:?}");
    }
    assert_eq!(fed(&mut decoder, b"\x1e{\"bye\":true}\n"), []);
    assert!(decoder.is_plain());
}

#[test]
fn people_may_type_anything() {
    let mut decoder = Decoder::new();
    // An editor's Ctrl-^, twice Ctrl-^, and the worst that it can meet.
    assert_eq!(fed(&mut decoder, b"\x1e\x1ejk\x1e\r"), [Got::Typed(b"\x1e\x1ejk\x1e\r".to_vec())]);
    let got = fed(&mut decoder, b"\x1e{d}\rls\r");
    assert_eq!(got, [Got::Bad(Reason::Cut, None), Got::Typed(b"ls\r".to_vec())]);
    let typed = [b"\x1e{".to_vec(), vec![b'x'; 600], b"\rls\r".to_vec()].concat();
    assert_eq!(fed(&mut decoder, &typed), [Got::Bad(Reason::TooLong, None), Got::Typed(b"ls\r".to_vec())]);
}

#[test]
fn a_person_gets_the_line_back() {
    for before in [&b""[..], b"hello?\r", b"\x1e{\"id\":1}\nhm"] {
        let mut decoder = greeted();
        let _ = fed(&mut decoder, before);
        assert_eq!(fed(&mut decoder, b"\x07ls"), [Got::Bye, Got::Typed(b"ls".to_vec())]);
    }
}

#[test]
fn what_goes_out() {
    let mut frame = Frame::new();
    let mut text = |make: &dyn Fn(&mut Frame) -> bool| {
        assert!(make(&mut frame));
        assert!(!make(&mut frame), "one after the other");
        let bytes = frame.waiting().to_vec();
        frame.sent(bytes.len() - 1);
        assert_eq!(frame.waiting(), b"\n");
        frame.sent(9);
        assert!(frame.is_empty());
        String::from_utf8(bytes).unwrap()
    };
    for (make, expected) in [
        (
            &(|f: &mut Frame| f.hello("n", "0.2.0", 3)) as &dyn Fn(&mut Frame) -> bool,
            "{\"hello\":\"n\",\"version\":\"0.2.0\",\"records\":1,\"vms\":3}",
        ),
        (&|f| f.bye(), "{\"bye\":true}"),
        (&|f| f.took(1, 12), "{\"vm\":1,\"took\":12}"),
        (&|f| f.lost(1, 12), "{\"vm\":1,\"lost\":12}"),
        (&|f| f.done(4), "{\"id\":4,\"out\":true}"),
        (&|f| f.answer(4, "[1]"), "{\"id\":4,\"out\":[1]}"),
        (
            &|f| f.bad(None, Reason::NoHello),
            "{\"error\":{\"code\":\"E0640\",\"text\":\"a record was dropped: this line is plain until a hello\"}}",
        ),
        (
            &|f| f.error(Some(4), "E0601", "no VM \"x\""),
            "{\"id\":4,\"error\":{\"code\":\"E0601\",\"text\":\"no VM \\\"x\\\"\"}}",
        ),
        (&|f| f.event("stopped", 1, "a", ""), "{\"event\":\"stopped\",\"vm\":1,\"name\":\"a\"}"),
        (
            &|f| f.event("stopped", 1, "a", "off\u{9b}"),
            "{\"event\":\"stopped\",\"vm\":1,\"name\":\"a\",\"why\":\"off\\u009b\"}",
        ),
        (
            &|f| f.output(1, b"a\"\\\r\n\x1b\xe9\x7f") == 8,
            "{\"vm\":1,\"out\":\"a\\\"\\\\\\r\\n\\u001bé\x7f\"}",
        ),
        (&|f| f.log("one\n") == 4, "{\"log\":\"one\\n\"}"),
        (&|f| f.part(4, "one") == 3, "{\"id\":4,\"part\":\"one\"}"),
    ] {
        assert_eq!(text(make), format!("\x1e{expected}\n"));
    }
}

/// The one record that waits, by a parser that is not ours.
#[track_caller]
fn parsed(frame: &mut Frame) -> Value {
    let bytes = frame.waiting().to_vec();
    frame.sent(bytes.len());
    assert!(bytes.len() <= FRAME);
    let inner = bytes.strip_prefix(b"\x1e").unwrap().strip_suffix(b"\n").unwrap();
    assert!(inner.iter().all(|byte| *byte >= 0x20), "no control character in a record");
    serde_json::from_slice(inner).unwrap()
}

#[test]
fn what_is_too_long_is_cut_or_refused() {
    let mut frame = Frame::new();
    assert!(frame.error(None, "E0640", "\x1b\u{20ac}".repeat(400)));
    let value = parsed(&mut frame);
    assert!("\x1b\u{20ac}".repeat(400).starts_with(value["error"]["text"].as_str().unwrap()));
    assert!(frame.event("stopped", 1, &"n".repeat(600), "why"));
    assert_eq!(parsed(&mut frame)["vm"], 1);
    assert!(!frame.answer(1, &format!("\"{}\"", "x".repeat(FRAME))));
    assert!(frame.is_empty() && frame.waiting().is_empty());
    assert!(frame.done(1), "nothing is left of it");
}

proptest! {
    #[test]
    fn typing_comes_through(bytes in proptest::collection::vec(prop_oneof![8 => any::<u8>(), 1 => Just(RS)], 0..400)) {
        let mut bytes: Vec<u8> = bytes;
        // Ctrl-^ and "{" is the one thing that is no typing.
        for n in 1..bytes.len() {
            if bytes[n - 1] == RS && bytes[n] == b'{' {
                bytes[n] = b'(';
            }
        }
        bytes.push(b'.');
        let got = fed(&mut Decoder::new(), &bytes);
        prop_assert_eq!(got, [Got::Typed(bytes)]);
    }

    #[test]
    fn after_anything_a_record_is_read(
        garbage in proptest::collection::vec(
            prop_oneof![4 => any::<u8>(), 1 => Just(RS), 1 => Just(LF), 2 => prop::sample::select(&b"{}\"helo:run,id0"[..])],
            0..1500),
        talking in any::<bool>(),
    ) {
        let mut decoder = if talking { greeted() } else { Decoder::new() };
        let _ = fed(&mut decoder, &garbage);
        let got = fed(&mut decoder, b"\n\x1e{\"hello\":\"x\"}\n\x1e{\"id\":1,\"run\":\"mem\"}\n");
        prop_assert!(got.ends_with(&[Got::Hello("x".into()), Got::Run(1, "mem".into())]), "{:?}", got);
    }

    #[test]
    fn what_is_typed_at_a_console_arrives(vm in any::<u16>(), bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
        let got = fed(&mut greeted(), &record(&json!({ "vm": vm, "in": as_text(&bytes) })));
        prop_assert_eq!(got, [Got::Input(vm, bytes)]);
    }

    #[test]
    fn a_command_arrives(id in any::<u32>(), line in "\\PC{0,80}") {
        prop_assume!(record(&json!({ "id": id, "run": line })).len() <= LONGEST + 2);
        let got = fed(&mut greeted(), &record(&json!({ "id": id, "run": line })));
        prop_assert_eq!(got, [Got::Run(id, line)]);
    }

    #[test]
    fn a_cut_record_is_one_error(cut in 1usize..20, line in "[a-z ]{0,40}") {
        let whole = record(&json!({ "id": 1, "run": line }));
        let cut = cut.min(whole.len() - 2);
        let mut decoder = greeted();
        let mut sent = whole[..whole.len() - 1 - cut].to_vec();
        sent.extend(&whole);
        let mut expected = vec![Got::Bad(Reason::Cut, None), Got::Run(1, line)];
        if whole.len() - 1 - cut == 1 {
            // Nothing but its first byte: an empty record.
            expected.remove(0);
        }
        prop_assert_eq!(fed(&mut decoder, &sent), expected);
    }

    #[test]
    fn a_console_arrives_byte_for_byte(
        vm in any::<u16>(),
        bytes in proptest::collection::vec(prop_oneof![any::<u8>(), 0x20u8..0x7f, Just(0x1b)], 1..700),
        piece in 1usize..300,
    ) {
        let mut frame = Frame::new();
        let mut arrived = Vec::new();
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let taken = frame.output(vm, &rest[..piece.min(rest.len())]);
            prop_assert!(taken >= 1, "it goes on");
            rest = &rest[taken..];
            let value = parsed(&mut frame);
            prop_assert_eq!(&value["vm"], &json!(vm));
            let out = value["out"].as_str().unwrap();
            arrived.extend(out.chars().map(|c| u8::try_from(u32::from(c)).unwrap()));
        }
        prop_assert_eq!(arrived, bytes);
    }

    #[test]
    fn texts_arrive(text in any::<String>(), id in any::<u32>()) {
        let text = text.repeat(3);
        let mut frame = Frame::new();
        let mut arrived = String::new();
        while arrived.len() < text.len() {
            let taken = frame.part(id, &text[arrived.len()..]);
            prop_assert!(taken >= 1);
            let value = parsed(&mut frame);
            let part = value["part"].as_str().unwrap();
            prop_assert_eq!(part.len(), taken);
            arrived.push_str(part);
        }
        prop_assert_eq!(arrived, text);
    }
}
