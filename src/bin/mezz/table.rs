//! Answers in JSON as people read them: lists as tables, one thing as lines.

use serde_json::{Map, Value};

use crate::record::harmless;

/// A value for people, its last line ended.
pub(crate) fn shown(value: &Value) -> String {
    match value {
        Value::Array(rows) if rows.is_empty() => "none\n".to_owned(),
        Value::Array(rows) => table(rows),
        Value::Object(members) => lines(members),
        Value::Null => String::new(),
        Value::String(text) => ended(harmless(text)),
        other => ended(harmless(&other.to_string())),
    }
}

fn ended(mut text: String) -> String {
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text
}

/// Rows of objects; the columns are all their keys, as they come.
fn table(rows: &[Value]) -> String {
    let mut keys: Vec<&str> = Vec::new();
    for key in rows.iter().filter_map(Value::as_object).flat_map(Map::keys) {
        if !keys.contains(&key.as_str()) {
            keys.push(key);
        }
    }
    if keys.is_empty() {
        return rows.iter().map(shown).collect();
    }
    let heads = keys.iter().map(|key| harmless(head(key))).collect();
    let cells = |row: &Value| {
        let cell = |key: &&str| cell(key, row.get(key).unwrap_or(&Value::Null));
        keys.iter().map(cell).collect::<Vec<_>>()
    };
    let mut lines: Vec<Vec<String>> = vec![heads];
    lines.extend(rows.iter().map(cells));
    let numbers = |key: &&str| {
        rows.iter().all(|row| row.get(key).is_none_or(|value| value.is_number() || value.is_null()))
    };
    let right: Vec<bool> = keys.iter().map(numbers).collect();
    let width = |n: usize| lines.iter().filter_map(|line| line.get(n)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..keys.len()).map(|n| width(n).unwrap_or_default()).collect();
    let mut text = String::new();
    for line in &lines {
        let padded = line.iter().zip(&widths).zip(&right).map(|((cell, width), right)| {
            if *right { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
        });
        text.push_str(padded.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// One thing: a line for each member, lists below.
fn lines(members: &Map<String, Value>) -> String {
    let heads: Vec<String> = members.keys().map(|key| harmless(head(key)) + ":").collect();
    let width = heads.iter().map(|head| head.chars().count()).max().unwrap_or_default();
    let mut text = String::new();
    for ((key, value), head) in members.iter().zip(&heads) {
        match value {
            Value::Array(rows) if rows.iter().any(Value::is_object) => {
                let inner = table(rows).lines().map(|line| format!("  {line}\n")).collect::<String>();
                text.push_str(&format!("{head}\n{inner}"));
            }
            Value::Object(members) => {
                let inner = lines(members).lines().map(|line| format!("  {line}\n")).collect::<String>();
                text.push_str(&format!("{head}\n{inner}"));
            }
            value => text.push_str(&format!("{head:<width$} {}\n", cell(key, value))),
        }
    }
    text
}

/// A key without its unit, which the values have.
fn head(key: &str) -> &str {
    ["_bytes", "_ns", "_us"].iter().find_map(|unit| key.strip_suffix(unit)).unwrap_or(key)
}

/// A value in a table, with the unit that its key names.
fn cell(key: &str, value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::Bool(is) => (if *is { "yes" } else { "no" }).to_owned(),
        Value::Number(number) => match number.as_u64() {
            Some(bytes) if key.ends_with("_bytes") => size(bytes),
            Some(ns) if key.ends_with("_ns") => time(ns / 1000),
            Some(us) if key.ends_with("_us") => time(us),
            _ => number.to_string(),
        },
        Value::String(text) => harmless(text).replace(['\n', '\t'], " "),
        Value::Array(items) => items.iter().map(|item| cell(key, item)).collect::<Vec<_>>().join(","),
        Value::Object(_) => harmless(&value.to_string()),
    }
}

fn size(bytes: u64) -> String {
    match bytes {
        0 => "0".to_owned(),
        _ if bytes.is_multiple_of(1 << 30) => format!("{}G", bytes >> 30),
        _ if bytes.is_multiple_of(1 << 20) => format!("{}M", bytes >> 20),
        _ if bytes.is_multiple_of(1 << 10) => format!("{}K", bytes >> 10),
        _ => bytes.to_string(),
    }
}

fn time(us: u64) -> String {
    match us {
        0..1_000 => format!("{us}us"),
        1_000..1_000_000 => format!("{}.{:03}ms", us / 1000, us % 1000),
        _ => format!("{}.{:03}s", us / 1_000_000, us / 1000 % 1000),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_list_is_a_table() {
        let list = json!([
            { "id": 0, "name": "alpha", "memory_bytes": 268_435_456, "cpu_us": 12_345_678, "why": null },
            { "id": 10, "name": "b\u{1b}[2J", "memory_bytes": 4096, "cpu_us": 12, "extra": true },
        ]);
        assert_eq!(
            shown(&list),
            "id  name     memory      cpu  why  extra\n 0  alpha      256M  12.345s    -  -\n10  b\u{fffd}[2J      4K     12us    -  yes\n"
        );
        assert_eq!(shown(&json!([])), "none\n");
        assert_eq!(shown(&json!(["a", 1])), "a\n1\n");
    }

    #[test]
    fn one_thing_is_lines() {
        let one =
            json!({ "name": "alpha", "free_bytes": 1025, "vcpus": [{ "n": 0 }], "deep": { "a": [1, 2] } });
        assert_eq!(shown(&one), "name:  alpha\nfree:  1025\nvcpus:\n  n\n  0\ndeep:\n  a: 1,2\n");
        assert_eq!(shown(&json!("text\r\nmore")), "text\nmore\n");
        assert_eq!(shown(&Value::Null), "");
    }
}
