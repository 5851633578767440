//! JSON that is taken, and JSON that is not.

use super::*;
use crate::testing::mutate;

fn parse(text: &str) -> Result<Value, JsonError> {
    Value::parse(text.as_bytes())
}

fn string(text: &str) -> Value {
    Value::String(Zeroizing::new(text.into()))
}

fn syntax(text: &[u8]) -> String {
    match Value::parse(text) {
        Err(JsonError::Syntax { reason }) => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_type_of_value() {
    let text = r#" {"a":null,"b":true,"c":[0,18446744073709551615],"d":"x","e":{}} "#;
    let expected = [
        ("a", Value::Null),
        ("b", Value::Bool(true)),
        (
            "c",
            Value::Array(vec![Value::Unsigned(0), Value::Unsigned(u64::MAX)]),
        ),
        ("d", string("x")),
        ("e", Value::Object(Vec::new())),
    ];
    let expected = expected
        .map(|(name, value)| (String::from(name), value))
        .into();
    assert_eq!(parse(text), Ok(Value::Object(expected)));
}

#[test]
fn numbers_that_are_no_integers_from_0_on() {
    for text in [
        "-1",
        "0.5",
        "1e3",
        "18446744073709551616",
        "-9223372036854775809",
        "1e300",
        "-0",
    ] {
        let number = text.parse().unwrap();
        assert_eq!(parse(text), Ok(Value::Number(number)), "{text}");
    }
    assert!(syntax(b"1e400").contains("number out of range"));
    assert!(
        syntax(&[b"1".repeat(1000), b"e999".to_vec()].concat()).contains("number out of range")
    );
    assert!(syntax(b"01").contains("invalid number"));
}

#[test]
fn strings_of_any_character() {
    let text =
        "\u{0}\u{1}\u{1b}[31m\r\n\u{7f}\u{85}\u{202e}\u{feff}\u{ffff}\u{10ffff} 日本 العربية 👩‍👩‍👧 é";
    assert_eq!(
        Value::parse(&serde_json::to_vec(text).unwrap()),
        Ok(string(text))
    );
    assert_eq!(parse(r#""\u0000\ud83d\ude00""#), Ok(string("\0😀")));
}

#[test]
fn errors_say_where() {
    assert_eq!(syntax(b""), "EOF while parsing a value at line 1 column 0");
    assert_eq!(syntax(b"{\"a\":1,\n}"), "trailing comma at line 2 column 1");
    assert!(syntax(b"[1] x").contains("trailing characters at line 1 column 5"));
    assert!(syntax(b"\"a\xffb\"").contains("invalid unicode code point"));
    assert!(syntax(br#""\ud800""#).contains("at line 1 column"));
    assert!(syntax(b"\"a\nb\"").contains("control character"));
    assert!(syntax(b"\xef\xbb\xbf{}").contains("expected value at line 1 column 1"));
}

#[test]
fn a_key_stands_for_one_value() {
    assert_eq!(
        parse(r#"{"a":1,"b":2,"a":3}"#),
        Err(JsonError::DuplicateKey { key: "a".into() })
    );
    assert_eq!(
        parse(r#"{"a":1,"\u0061":3}"#),
        Err(JsonError::DuplicateKey { key: "a".into() })
    );
    let key = "k".repeat(1000);
    let twice = format!(r#"{{"{key}":1,"{key}":2}}"#);
    assert_eq!(
        parse(&twice),
        Err(JsonError::DuplicateKey {
            key: "k".repeat(SHOWN_KEY_CHARS)
        })
    );
}

#[test]
fn nesting_has_a_limit() {
    let nested = |depth| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
    assert!(parse(&nested(MAX_DEPTH)).is_ok());
    assert_eq!(
        parse(&nested(MAX_DEPTH + 1)),
        Err(JsonError::TooDeep { limit: MAX_DEPTH })
    );
    assert_eq!(
        parse(&"[".repeat(100_000)),
        Err(JsonError::TooDeep { limit: MAX_DEPTH })
    );
    assert_eq!(
        parse(&r#"{"a":"#.repeat(100_000)),
        Err(JsonError::TooDeep { limit: MAX_DEPTH })
    );
}

#[test]
fn the_number_of_values_has_a_limit() {
    let array = |count: usize| format!("[{}]", vec!["1"; count].join(","));
    assert!(parse(&array(MAX_VALUES - 1)).is_ok());
    assert_eq!(
        parse(&array(MAX_VALUES)),
        Err(JsonError::TooManyValues { limit: MAX_VALUES })
    );
    let object = |count| {
        let members: Vec<_> = (0..count).map(|index| format!(r#""k{index}":0"#)).collect();
        format!("{{{}}}", members.join(","))
    };
    assert!(parse(&object(MAX_MEMBERS)).is_ok());
    assert_eq!(
        parse(&object(MAX_MEMBERS + 1)),
        Err(JsonError::TooManyValues { limit: MAX_MEMBERS })
    );
}

#[test]
fn the_text_has_a_limit() {
    let found_bytes = MAX_TEXT_BYTES + 1;
    let expected = JsonError::TooLarge {
        limit_bytes: MAX_TEXT_BYTES,
        found_bytes,
    };
    assert_eq!(
        Value::parse(&vec![b' '; found_bytes]),
        Err(expected.clone())
    );
    assert_eq!(read::<u8>(&vec![b' '; found_bytes]), Err(expected));
}

#[test]
fn random_alterations_never_panic() {
    mutate(
        br#"{"messages":[{"from":"Ana","text":"a\u00e9\n"}],"style":"bullets","max_tokens":10}"#,
        5000,
        |text| {
            drop(Value::parse(text));
        },
    );
}
