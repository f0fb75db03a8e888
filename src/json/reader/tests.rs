use super::*;
use proptest::prelude::*;
use serde_json::Value;

/// The text as serde_json has it, read by the reader.
fn value(reader: &mut Reader<'_>) -> Result<Value, String> {
    Ok(match reader.peek()? {
        ValueKind::Null => {
            reader.null()?;
            Value::Null
        }
        ValueKind::Boolean => Value::Bool(reader.boolean()?),
        ValueKind::Number => serde_json::from_str(reader.number()?).map_err(|error| error.to_string())?,
        ValueKind::String => Value::String(reader.string()?.into()),
        ValueKind::Array => {
            let mut elements = Vec::new();
            reader.array(|reader| {
                elements.push(value(reader)?);
                Ok(())
            })?;
            Value::Array(elements)
        }
        ValueKind::Object => {
            let mut object = serde_json::Map::new();
            reader.object(|reader, key| {
                let key = key.to_owned();
                object.insert(key, value(reader)?);
                Ok(())
            })?;
            Value::Object(object)
        }
    })
}

fn whole(text: &str) -> Result<Value, String> {
    let mut reader = Reader::new(text);
    let value = value(&mut reader)?;
    if reader.is_at_end() { Ok(value) } else { Err(reader.error("more")) }
}

fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        prop::num::f64::NORMAL.prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::hash_map(any::<String>(), inner, 0..4).prop_map(|map| map.into_iter().collect()),
        ]
    })
}

proptest! {
    #[test]
    fn reader_reads_any_written_json(value in json()) {
        prop_assert_eq!(whole(&value.to_string()), Ok(value.clone()));
        prop_assert_eq!(whole(&serde_json::to_string_pretty(&value).unwrap()), Ok(value));
    }

    /// JSON with a few characters changed: what serde_json refuses is refused, and the other way round.
    #[test]
    fn reader_rejects_invalid_json_like_serde(value in json(), changes in prop::collection::vec((any::<usize>(), "[\\[\\]{}\",:0-9eE.+\\-tnu\\\\ a]"), 1..4)) {
        let mut characters: Vec<char> = value.to_string().chars().collect();
        for (at, with) in changes {
            let at = at % characters.len();
            characters[at] = with.chars().next().unwrap();
        }
        let text: String = characters.into_iter().collect();
        let expected = serde_json::from_str::<Value>(&text);
        let mut skipped = Reader::new(&text);
        let is_skipped = skipped.skip().is_ok() && skipped.is_at_end();
        // Numbers beyond FP64 are refused by serde_json; here the datatype decides.
        let out_of_range = matches!(&expected, Err(error) if error.to_string().contains("out of range"));
        prop_assert!(out_of_range || expected.is_ok() == is_skipped, "{}: {:?}", text, expected);
    }

    #[test]
    fn reader_terminates_on_any_text(text in any::<String>()) {
        let _ = whole(&text);
    }
}

#[test]
fn string_escapes_decode_or_are_rejected() {
    for (text, expected) in [
        (r#""\"\\\/\b\f\n\r\t""#, "\"\\/\u{8}\u{c}\n\r\t"),
        (r#""a\u00e4b\u0000""#, "aäb\0"),
        (r#""\ud83d\ude00!""#, "😀!"),
    ] {
        assert_eq!(Reader::new(text).string().as_deref(), Ok(expected), "{text}");
    }
    for wrong in
        [r#""\ud83d""#, r#""\ud83dx""#, r#""\ude00""#, r#""\u12""#, r#""\u+123""#, r#""\x""#, "\"a\nb\"", "\"a"]
    {
        assert!(Reader::new(wrong).string().is_err(), "{wrong}");
    }
}

#[test]
fn errors_name_the_token_and_its_position() {
    for (text, expected) in [
        ("", "expected a value, got the end of the text (EOF) at line 1 column 1"),
        ("[1, 2", "expected a comma or the array's end, got the end of the text (EOF) at line 1 column 6"),
        ("[1,\n 2 3]", "expected a comma or the array's end, got 3 at line 2 column 4"),
        ("{\"a\" 1}", "expected a colon behind the key, got 1 at line 1 column 6"),
        ("{a: 1}", "expected a key in quotes, got a at line 1 column 2"),
        ("[1,]", "expected a value, got ']' at line 1 column 4"),
        ("[01]", "expected a comma or the array's end, got 1 at line 1 column 3"),
        ("[nul]", "expected null, got nul at line 1 column 2"),
    ] {
        assert_eq!(Reader::new(text).skip(), Err(expected.to_owned()), "{text}");
    }
    let deep = "[".repeat(MAX_DEPTH + 1);
    let expected = format!("more than 128 arrays and objects inside one another at line 1 column {}", MAX_DEPTH + 1);
    assert_eq!(Reader::new(&deep).skip(), Err(expected));
}
