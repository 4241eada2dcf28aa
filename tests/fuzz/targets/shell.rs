//! What people type at EL2, and what programs send over the line.

use mezzanine::json::{Reader, Value, Writer};
use mezzanine::shell::{Editor, Event, LINE, Names, complete, parse};

/// Any bytes as a record: every member and item, as deep as it goes, and its strings written again.
pub fn json(data: &[u8]) {
    pull(data, 0);
    let mut text = String::new();
    let mut json = Writer::new(&mut text);
    json.lossy(data);
    assert!(json.finish().is_ok());
    assert!(text.bytes().all(|byte| byte >= 0x20 && byte != 0x7f));
    let object = format!("{{\"v\":{text}}}");
    let value = Reader::object(object.as_bytes()).ok().and_then(|mut reader| reader.member().ok()?);
    let back = value.and_then(|(_, value)| value.str()).expect("what is written is read");
    assert!(back.is(&String::from_utf8_lossy(data)));
}

fn pull(data: &[u8], depth: usize) {
    if let Ok(mut object) = Reader::object(data) {
        while let Ok(Some((key, value))) = object.member() {
            let _ = key.decode(&mut [0; 64]);
            inner(value, depth);
        }
    }
    if let Ok(mut array) = Reader::array(data) {
        while let Ok(Some(value)) = array.item() {
            inner(value, depth);
        }
    }
}

fn inner(value: Value<'_>, depth: usize) {
    match value {
        Value::Object(text) | Value::Array(text) if depth < 40 => pull(text, depth + 1),
        Value::Str(text) => assert!(text.chars().count() <= text.to_string().len()),
        _ => {}
    }
}

struct Machine;

impl Names for Machine {
    fn vms(&self, each: &mut dyn FnMut(&str)) {
        ["alpha", "alpine", "12"].iter().for_each(|name| each(name));
    }

    fn files(&self, each: &mut dyn FnMut(&str)) {
        ["Image", "my initrd"].iter().for_each(|name| each(name));
    }
}

/// Any bytes as what is typed: the lines that come of it are read, or what is wrong with them is said.
pub fn keys(data: &[u8]) {
    let mut editor = Editor::new("mz> ");
    let mut out = String::new();
    for byte in data {
        out.clear();
        if editor.key(*byte, &Machine, &mut out) == Event::Line {
            assert!(editor.line().len() <= LINE);
            line(editor.line());
            editor.prompt(&mut out);
        }
        assert!(out.len() < 4096);
    }
    line(&String::from_utf8_lossy(data));
}

fn line(line: &str) {
    if let Err(mistake) = parse(line) {
        let text = mistake.to_string();
        assert!(text.starts_with("E06") && !text.contains(char::is_control));
    }
    let _ = complete(line, &Machine);
}
