//! Mezzanine's JSON against serde's: each reads what the other writes, and refuses what it refuses.

#![allow(clippy::unwrap_used, reason = "a test ends where something goes wrong")]

use mezzanine::json::{Malformed, Reader, Value, Writer};
use proptest::prelude::*;

/// Pulls a whole object.
fn read(text: &[u8]) -> Result<(), Malformed> {
    let mut reader = Reader::object(text)?;
    while reader.member()?.is_some() {}
    Ok(())
}

/// What serde makes of a text, as far as the reader tells.
fn same(value: &serde_json::Value, ours: Value<'_>) -> bool {
    match (value, ours) {
        (serde_json::Value::String(text), Value::Str(ours)) => ours.is(text),
        (serde_json::Value::Bool(is), Value::Bool(ours)) => *is == ours,
        (serde_json::Value::Number(number), Value::Number(ours)) => number.as_u64() == Some(ours),
        (serde_json::Value::Number(number), Value::Other) => number.as_u64().is_none(),
        (serde_json::Value::Null, Value::Other) => true,
        (serde_json::Value::Array(values), Value::Array(text)) => {
            let mut reader = Reader::array(text).unwrap();
            values.iter().all(|value| same(value, reader.item().unwrap().unwrap()))
                && reader.item() == Ok(None)
        }
        (serde_json::Value::Object(_), Value::Object(text)) => {
            let mut reader = Reader::object(text).unwrap();
            while let Some((key, ours)) = reader.member().unwrap() {
                // Of two alike, serde keeps the last.
                let theirs = value.get(key.to_string());
                if !theirs.is_some_and(|theirs| same(theirs, ours)) {
                    return false;
                }
            }
            true
        }
        _ => false,
    }
}

fn any_json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<u64>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<String>().prop_map(Into::into),
    ];
    leaf.prop_recursive(6, 40, 6, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
            proptest::collection::btree_map(any::<String>(), inner, 0..6)
                .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn what_serde_writes_is_read(value in any_json(), pretty in any::<bool>()) {
        let object = serde_json::json!({ "v": value });
        let text = if pretty { serde_json::to_string_pretty(&object) } else { serde_json::to_string(&object) };
        let text = text.unwrap();
        let ours = Reader::object(text.as_bytes()).unwrap().member().unwrap().unwrap().1;
        prop_assert!(same(&value, ours));
    }

    #[test]
    fn what_is_written_is_read_by_serde(text: String, bytes: Vec<u8>, number: u64) {
        let mut line = String::new();
        let mut json = Writer::new(&mut line);
        json.object().key("lossy").lossy(&bytes).key(&text).string(&text).key("n").number(number);
        json.key("list").array().boolean(true).hex(number).null().end_array().end_object();
        json.finish().unwrap();
        prop_assume!(text != "n" && text != "lossy" && text != "list");
        let theirs: serde_json::Value = serde_json::from_str(&line).unwrap();
        prop_assert_eq!(theirs["lossy"].as_str(), Some(&*String::from_utf8_lossy(&bytes)));
        prop_assert_eq!(theirs[&text].as_str(), Some(&*text));
        prop_assert_eq!(theirs["n"].as_u64(), Some(number));
        prop_assert_eq!(&theirs["list"], &serde_json::json!([true, format!("{number:#x}"), null]));
    }

    /// Any bytes of the kinds that the grammar knows: refused or accepted as serde does, and always at an end.
    #[test]
    fn anything_is_refused_or_read_as_serde_does(text in r#"[\[\]{}:,"\\ua0-9.eE+ tfn-]{0,24}"#) {
        let text = format!("{{\"v\":{text}}}");
        let ours = read(text.as_bytes());
        let theirs: Result<serde_json::Value, _> = serde_json::from_str(&text);
        // Serde refuses halves of surrogate pairs, and numbers beyond its range.
        match theirs {
            Ok(_) => prop_assert!(ours.is_ok(), "{} {:?}", text, ours),
            Err(error) => prop_assert!(
                ours.is_err() || error.to_string().contains("surrogate") || error.to_string().contains("range")
                    || error.to_string().contains("hex escape"),
                "{} {:?} {}", text, ours, error
            ),
        }
    }
}
