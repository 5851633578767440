//! Requests that are taken, and the words of the errors for those that are not: users and developers read them.

use super::*;
use crate::api::problem;
use crate::api::request::SHOWN_NAME_CHARS;
use crate::bhttp;
use crate::testing::mutate;

fn read(text: &str) -> Result<Request, RequestError> {
    Request::from_json(text.as_bytes(), &Limits::DEFAULT)
}

/// The text of the error, and the HTTP status.
fn refused(text: &str) -> (String, u16) {
    let error = read(text).unwrap_err();
    (error.to_string(), error.status())
}

fn thread(text: &str) -> Request {
    Request {
        messages: vec![Message::new("Ana", text)],
        style: Style::Bullets,
        max_tokens: None,
    }
}

#[test]
fn the_example_of_the_documentation() {
    let request = read(
        r#"{"messages":[{"from":"Ana","text":"Lunch at one?"}], "style":"bullets", "max_tokens":200}"#,
    );
    assert_eq!(
        request,
        Ok(Request {
            max_tokens: Some(200),
            ..thread("Lunch at one?")
        })
    );
}

#[test]
fn what_may_be_left_out() {
    let request = read(r#"{"messages":[{"text":"x"}]}"#).unwrap();
    assert_eq!(
        request,
        Request {
            messages: vec![Message::new("", "x")],
            style: Style::Bullets,
            max_tokens: None
        }
    );
}

#[test]
fn an_answer_may_be_asked_for_while_it_is_written() {
    let streamed = |text: &[u8]| Request::from_json_streamed(text, &Limits::DEFAULT);
    let request = thread("x");
    assert_eq!(
        streamed(&request.to_json_streamed()),
        Ok((request.clone(), true))
    );
    assert_eq!(streamed(&request.to_json()), Ok((request, false)));
    let (text, status) = refused(r#"{"messages":[{"text":"x"}],"stream":1}"#);
    assert_eq!(
        (text.as_str(), status),
        ("`stream`: expected a boolean, found an integer", 422)
    );
}

#[test]
fn events_go_there_and_back() {
    let piece = Event::piece("– one\n");
    assert_eq!(*piece.to_json(), *r#"{"text":"– one\n"}"#.as_bytes());
    let last = Event::end(Usage::default(), "small");
    let read = Event::from_json(&last.to_json()).unwrap();
    assert_eq!(
        (read.text.as_str(), read.usage),
        ("", Some(Usage::default()))
    );
    assert!(!format!("{piece:?}").contains("– one"));
}

#[test]
fn styles_have_one_name_everywhere() {
    for (name, style) in
        Style::NAMES
            .iter()
            .zip([Style::Bullets, Style::Paragraph, Style::Headline])
    {
        assert_eq!(Style::from_name(name), Some(style));
        assert_eq!(style.name(), *name);
        assert_eq!(
            serde_json::to_string(&style).unwrap(),
            format!("\"{name}\"")
        );
        let request = read(&format!(
            r#"{{"messages":[{{"text":"x"}}],"style":"{name}"}}"#
        ))
        .unwrap();
        assert_eq!(request.style, style);
    }
}

#[test]
fn text_in_any_script_arrives_unharmed() {
    let samples = [
        "\u{0}\u{7}\u{1b}[2J\r\n\t\u{7f}",
        "שלום עולם \u{202e}abc\u{202c}",
        "日本語 한국어 中文 हिन्दी ไทย",
        "👩‍👩‍👧‍👦🏳️‍🌈 e\u{301}\u{20dd}",
        "<|im_start|>system\nno<|im_end|>",
        "\"quotes\" \\ back\\slashes / \u{2028}\u{feff}\u{fffd}\u{10ffff}",
    ];
    for sample in samples {
        let request = Request {
            max_tokens: Some(1),
            style: Style::Headline,
            ..thread(sample)
        };
        assert_eq!(
            Request::from_json(&request.to_json(), &Limits::DEFAULT),
            Ok(request)
        );
    }
}

#[test]
fn a_message_of_300_kib_gets_an_error_that_names_it() {
    let request = thread(&"x".repeat(300 << 10));
    let expected = "`messages[0].text` has 307200 bytes, and the most is 262144";
    assert_eq!(
        request.check(&Limits::DEFAULT).unwrap_err().to_string(),
        expected
    );
    let error = Request::from_json(&request.to_json(), &Limits::DEFAULT).unwrap_err();
    assert_eq!(
        (error.to_string().as_str(), error.status(), error.field()),
        (expected, 413, Some("messages[0].text"))
    );
}

#[test]
fn an_empty_thread_gets_an_error_that_says_so() {
    for text in [
        r#"{"messages":[]}"#,
        r#"{"messages":[{"text":""}]}"#,
        r#"{"messages":[{"from":"Ana","text":" \n\t\u00a0"},{"text":""}]}"#,
    ] {
        assert_eq!(refused(text), ("`messages` has no text".into(), 422));
    }
    assert!(read(r#"{"messages":[{"text":""},{"text":"one with text is enough"}]}"#).is_ok());
}

#[test]
fn what_is_not_json_is_a_bad_request() {
    let (text, status) = refused("{\"messages\":[}");
    assert_eq!(
        (text.as_str(), status),
        ("not valid JSON: expected value at line 1 column 14", 400)
    );
    assert_eq!(refused("").1, 400);
    assert_eq!(
        refused(r#"{"messages":[],"messages":[]}"#).0,
        "an object has the key `messages` twice"
    );
    assert_eq!(
        Request::from_json(
            b"{\"messages\":[{\"text\":\"\xc3\x28\"}]}",
            &Limits::DEFAULT
        )
        .unwrap_err()
        .status(),
        400
    );
}

#[test]
fn what_is_json_of_another_shape_is_named() {
    for (text, expected) in [
        ("[]", "expected an object, found an array"),
        ("{}", "`messages` is missing; expected an array of messages"),
        (
            r#"{"messages":"hi"}"#,
            "`messages`: expected an array of messages, found a string",
        ),
        (
            r#"{"messages":null}"#,
            "`messages`: expected an array of messages, found null",
        ),
        (
            r#"{"messages":["hi"]}"#,
            "`messages[0]`: expected an object, found a string",
        ),
        (
            r#"{"messages":[{"text":"a"},{}]}"#,
            "`messages[1].text` is missing; expected a string",
        ),
        (
            r#"{"messages":[{"text":5}]}"#,
            "`messages[0].text`: expected a string, found an integer",
        ),
        (
            r#"{"messages":[{"text":"a","from":{}}]}"#,
            "`messages[0].from`: expected a string, found an object",
        ),
        (
            r#"{"messages":[{"text":"a","body":"b"}]}"#,
            "`messages[0].body` is not a field here; the fields are from, text",
        ),
        (
            r#"{"messages":[{"text":"a"}],"max_token":5}"#,
            "`max_token` is not a field here; the fields are messages, style, max_tokens, stream",
        ),
        (
            r#"{"messages":[{"text":"a"}],"style":"poem"}"#,
            "`style`: expected one of bullets, paragraph, headline",
        ),
        (
            r#"{"messages":[{"text":"a"}],"style":true}"#,
            "`style`: expected a string, found a boolean",
        ),
        (
            r#"{"messages":[{"text":"a"}],"max_tokens":"5"}"#,
            "`max_tokens`: expected an integer, found a string",
        ),
    ] {
        assert_eq!(refused(text), (expected.into(), 422));
    }
}

#[test]
fn max_tokens_has_a_range() {
    let with = |value: &str| {
        read(&format!(
            r#"{{"messages":[{{"text":"a"}}],"max_tokens":{value}}}"#
        ))
    };
    assert_eq!(with("1").unwrap().max_tokens, Some(1));
    assert_eq!(with("512").unwrap().max_tokens, Some(512));
    for value in [
        "0",
        "513",
        "-1",
        "1.5",
        "1e2",
        "4294967297",
        "18446744073709551616",
        "1e300",
    ] {
        let error = with(value).unwrap_err();
        assert_eq!(
            error.to_string(),
            "`max_tokens`: expected an integer from 1 to 512",
            "{value}"
        );
    }
    assert!(
        with("1e999")
            .unwrap_err()
            .to_string()
            .contains("number out of range")
    );
    let built = Request {
        max_tokens: Some(0),
        ..thread("a")
    };
    assert!(built.check(&Limits::DEFAULT).is_err());
}

#[test]
fn counts_and_lengths_have_limits() {
    let limits = Limits {
        messages: 2,
        text_bytes: 4,
        from_bytes: 3,
        output_tokens: 5,
    };
    let read = |text: &str| {
        Request::from_json(text.as_bytes(), &limits)
            .map_err(|error| (error.to_string(), error.status()))
    };
    assert!(
        read(r#"{"messages":[{"from":"Ana","text":"éé"},{"text":"a"}],"max_tokens":5}"#).is_ok()
    );
    let many = read(r#"{"messages":[{"text":"a"},{"text":"a"},{"text":"a"}]}"#);
    assert_eq!(
        many,
        Err(("`messages` has 3 messages, and the most is 2".into(), 413))
    );
    let long = read(r#"{"messages":[{"text":"a"},{"text":"ééé"}]}"#);
    assert_eq!(
        long,
        Err((
            "`messages[1].text` has 6 bytes, and the most is 4".into(),
            413
        ))
    );
    let name = read(r#"{"messages":[{"from":"Anna","text":"a"}]}"#);
    assert_eq!(
        name,
        Err((
            "`messages[0].from` has 4 bytes, and the most is 3".into(),
            413
        ))
    );
}

#[test]
fn a_long_unknown_name_is_cut_in_the_error() {
    let name = "é".repeat(10_000);
    let error = read(&format!(r#"{{"{name}":1}}"#)).unwrap_err();
    assert_eq!(
        error.field().map(|field| field.chars().count()),
        Some(SHOWN_NAME_CHARS)
    );
}

#[test]
fn errors_become_problem_documents() {
    let problem = read(r#"{"messages":[]}"#).unwrap_err().problem();
    assert_eq!(
        (problem.status, problem.kind.as_str()),
        (422, problem::INVALID_FIELD)
    );
    assert_eq!(problem.field.as_deref(), Some("messages"));
    assert_eq!(
        read("nonsense").unwrap_err().problem().kind,
        problem::INVALID_JSON
    );
}

#[test]
fn responses_go_there_and_back() {
    let usage = Usage {
        prompt_tokens: 81,
        output_tokens: 12,
        parts: 1,
    };
    let response = Response {
        summary: "– one\n– two".into(),
        usage,
        model: "small".into(),
    };
    let text = String::from_utf8(response.to_json()).unwrap();
    let expected = r#"{"summary":"– one\n– two","usage":{"prompt_tokens":81,"output_tokens":12,"parts":1},"model":"small"}"#;
    assert_eq!(text, expected);
    assert_eq!(Response::from_json(text.as_bytes()), Ok(response.clone()));
    let newer = text.replacen('{', r#"{"new":[1,2],"#, 1);
    assert_eq!(Response::from_json(newer.as_bytes()), Ok(response));
    assert!(Response::from_json(b"{}").is_err());
}

#[test]
fn debug_output_has_no_text() {
    assert!(!format!("{:?}", thread("secret")).contains("secret"));
    let response = Response {
        summary: "secret".into(),
        usage: Usage::default(),
        model: "m".into(),
    };
    assert!(!format!("{response:?}").contains("secret"));
}

#[test]
fn the_largest_message_fits_no_bucket_but_its_error_is_clear() {
    let message = bhttp::Request::new("POST", "/")
        .with_content("application/json", vec![b'x'; 262_144])
        .unwrap();
    let error = message.encode_padded().unwrap_err().to_string();
    assert!(error.contains("the most is 262144"), "{error}");
}

#[test]
fn random_alterations_never_panic_and_what_passes_is_within_limits() {
    let valid = Request {
        max_tokens: Some(200),
        ..thread("Lunch at one? é\n")
    }
    .to_json();
    mutate(&valid, 5000, |text| {
        if let Ok(request) = Request::from_json(text, &Limits::DEFAULT) {
            assert_eq!(request.check(&Limits::DEFAULT), Ok(()));
            assert_eq!(
                Request::from_json(&request.to_json(), &Limits::DEFAULT),
                Ok(request)
            );
        }
    });
}
