//! Requests as existing clients send them, and answers as they read them.

use super::*;
use crate::testing::mutate;
use alloc::string::ToString;
use serde_json::{Value as Json, json};

fn read(text: &str) -> Result<Request, RequestError> {
    Request::from_json(text.as_bytes(), &Limits::DEFAULT)
}

/// A request with one message and these members.
fn with(members: &str) -> Result<Request, RequestError> {
    read(&format!(
        r#"{{"model":"m","messages":[{{"role":"user","content":"hi"}}]{members}}}"#
    ))
}

fn message(role: Role, content: &str) -> Message {
    Message {
        role,
        content: Zeroizing::new(content.into()),
    }
}

#[test]
fn what_is_left_out_has_a_default() {
    let request = with("").unwrap();
    assert_eq!(
        request,
        Request {
            messages: vec![message(Role::User, "hi")],
            max_tokens: 512,
            temperature: 0.0,
            top_p: 1.0,
            seed: None,
            stop: vec![],
            stream: false,
            include_usage: false,
        }
    );
    assert!(!format!("{request:?}").contains("hi\""));
}

#[test]
fn everything_that_is_taken() {
    let request = read(
        r#"{"model":"gpt-4o","messages":[
            {"role":"system","content":"Be brief."},
            {"role":"developer","content":[{"type":"text","text":"Be "},{"type":"text","text":"kind."}]},
            {"role":"user","name":"ana","content":"é\n"},
            {"role":"assistant","content":"ok","refusal":null,"tool_calls":[]},
            {"role":"user","content":""}],
        "max_tokens":7,"max_completion_tokens":5,"temperature":1,"top_p":0.5,"seed":-1,"stop":["a","bb"],
        "stream":true,"stream_options":{"include_usage":true},"n":1,"user":"u","metadata":{"a":{"b":[1]}},
        "logprobs":false,"top_logprobs":null,"tools":[],"tool_choice":"auto","response_format":{"type":"text"},
        "modalities":["text"],"presence_penalty":0,"frequency_penalty":0.0,"logit_bias":{},"store":true,
        "parallel_tool_calls":true,"service_tier":"auto","a_new_hint":[1,2,{"x":null}]}"#,
    )
    .unwrap();
    let expected = Request {
        messages: vec![
            message(Role::System, "Be brief."),
            message(Role::System, "Be kind."),
            message(Role::User, "é\n"),
            message(Role::Assistant, "ok"),
            message(Role::User, ""),
        ],
        max_tokens: 5,
        temperature: 1.0,
        top_p: 0.5,
        seed: Some(u64::MAX),
        stop: vec![Zeroizing::new("a".into()), Zeroizing::new("bb".into())],
        stream: true,
        include_usage: true,
    };
    assert_eq!(request, expected);
    assert_eq!(with(r#","stop":"x""#).unwrap().stop.len(), 1);
    assert_eq!(
        with(r#","stop":null,"seed":null"#).unwrap(),
        with("").unwrap()
    );
    assert_eq!(
        with(r#","max_tokens":99999999999"#).unwrap().max_tokens,
        512
    );
    let usage_without_stream = with(r#","stream_options":{"include_usage":true}"#).unwrap();
    assert!(!usage_without_stream.include_usage);
}

#[test]
fn what_this_server_does_not_have_is_refused_by_name() {
    let tool = r#"[{"type":"function","function":{"name":"f","parameters":{"type":"object",
        "properties":{"a":{"type":"array","items":{"type":"object","properties":{"b":{"enum":["x"]}}}}}}}}]"#;
    for (members, field) in [
        (&*format!(r#","tools":{tool}"#), "tools"),
        (r#","tool_choice":"required""#, "tool_choice"),
        (r#","functions":[{"name":"f"}]"#, "functions"),
        (r#","n":2"#, "n"),
        (r#","logprobs":true"#, "logprobs"),
        (r#","top_logprobs":3"#, "top_logprobs"),
        (r#","logit_bias":{"50256":-100}"#, "logit_bias"),
        (r#","presence_penalty":0.5"#, "presence_penalty"),
        (r#","frequency_penalty":-1"#, "frequency_penalty"),
        (
            r#","response_format":{"type":"json_object"}"#,
            "response_format",
        ),
        (r#","modalities":["text","audio"]"#, "modalities"),
        (r#","audio":{"voice":"x"}"#, "audio"),
    ] {
        let error = with(members).unwrap_err();
        assert!(matches!(error, RequestError::Unsupported { .. }), "{error}");
        assert_eq!((error.field(), error.status()), (Some(field), 422));
        assert!(error.to_string().contains("this server"), "{error}");
        let problem = error.problem().with_error();
        let body = problem.error.unwrap();
        assert_eq!(body.kind, "invalid_request_error");
        assert_eq!(
            (body.param.as_deref(), body.code.as_deref()),
            (Some(field), Some("invalid-field"))
        );
        assert_eq!(Some(body.message), problem.detail);
    }
    for (message, field) in [
        (r#"{"role":"tool","content":"x"}"#, "messages[0].role"),
        (
            r#"{"role":"user","content":[{"type":"image_url","image_url":{"url":"x"}}]}"#,
            "messages[0].content[0].type",
        ),
        (
            r#"{"role":"assistant","content":null,"tool_calls":[{"id":"x"}]}"#,
            "messages[0].tool_calls",
        ),
    ] {
        let error = read(&format!(r#"{{"messages":[{message}]}}"#)).unwrap_err();
        assert!(matches!(error, RequestError::Unsupported { .. }), "{error}");
        assert_eq!(error.field(), Some(field));
    }
}

#[test]
fn what_is_wrong_is_named() {
    for (text, expected) in [
        ("{}", "`messages` is missing; expected an array of messages"),
        (r#"{"messages":[]}"#, "`messages` has no text"),
        (
            r#"{"messages":[{"role":"user","content":" "}]}"#,
            "`messages` has no text",
        ),
        (
            r#"{"messages":[{"content":"x"}]}"#,
            "`messages[0].role` is missing; expected system, user or assistant",
        ),
        (
            r#"{"messages":[{"role":"bot","content":"x"}]}"#,
            "`messages[0].role`: expected one of system, user, assistant",
        ),
        (
            r#"{"messages":[{"role":"user"}]}"#,
            "`messages[0].content` is missing; expected a string or an array of parts",
        ),
        (
            r#"{"messages":[{"role":"user","content":5}]}"#,
            "`messages[0].content`: expected a string or an array of parts, found an integer",
        ),
        (
            r#"{"messages":[{"role":"user","content":[{"type":"text"}]}]}"#,
            "`messages[0].content[0].text` is missing; expected a string",
        ),
        (
            r#"{"messages":[{"role":"user","content":["x"]}]}"#,
            "`messages[0].content[0]`: expected an object, found a string",
        ),
    ] {
        assert_eq!(read(text).unwrap_err().to_string(), expected);
    }
    for (members, expected) in [
        (
            r#","max_tokens":0"#,
            "`max_tokens`: expected an integer from 1 on",
        ),
        (
            r#","max_completion_tokens":-1"#,
            "`max_completion_tokens`: expected an integer from 1 on",
        ),
        (
            r#","temperature":2.1"#,
            "`temperature`: expected a number from 0 to 2",
        ),
        (
            r#","temperature":"1""#,
            "`temperature`: expected a number, found a string",
        ),
        (r#","top_p":-0.1"#, "`top_p`: expected a number from 0 to 1"),
        (r#","seed":0.5"#, "`seed`: expected an integer"),
        (
            r#","stop":["a","b","c","d","e"]"#,
            "`stop`: expected a string or at most 4 of them",
        ),
        (r#","stop":"""#, "`stop` has no text"),
        (
            r#","stream":"yes""#,
            "`stream`: expected a boolean, found a string",
        ),
        (
            r#","stream_options":{"include_usage":1}"#,
            "`stream_options.include_usage`: expected a boolean, found an integer",
        ),
    ] {
        assert_eq!(with(members).unwrap_err().to_string(), expected);
    }
    let limits = Limits {
        messages: 1,
        text_bytes: 3,
        output_tokens: 5,
    };
    let refused = |text: &str| {
        let error = Request::from_json(text.as_bytes(), &limits).unwrap_err();
        (error.to_string(), error.status())
    };
    assert_eq!(
        refused(r#"{"messages":[{"role":"user","content":"éé"}]}"#),
        (
            "`messages[0].content` has 4 bytes, and the most is 3".into(),
            413
        )
    );
    assert_eq!(refused(r#"{"messages":[{},{}]}"#).1, 413);
}

fn completion() -> Completion {
    Completion {
        id: "chatcmpl-1".into(),
        created_s: 1_790_000_000,
        model: "small".into(),
    }
}

#[test]
fn a_whole_answer_has_the_shape_that_clients_know() {
    let usage = Usage::new(20, 5);
    let json = completion().to_json("é \"x\"\n", Finish::Length, usage);
    let expected = json!({
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1_790_000_000, "model": "small",
        "choices": [{
            "index": 0,
            "message": {"role": "assistant", "content": "é \"x\"\n"},
            "finish_reason": "length",
        }],
        "usage": {"prompt_tokens": 20, "completion_tokens": 5, "total_tokens": 25},
    });
    assert_eq!(serde_json::from_slice::<Json>(&json).unwrap(), expected);
}

#[test]
fn a_streamed_answer_has_the_shape_that_clients_know() {
    let mut out = Vec::new();
    completion().put_piece(&mut out, "Hel", true);
    completion().put_piece(&mut out, "lo\n", false);
    completion().put_end(&mut out, Finish::Stop, Some(Usage::new(1, 2)));
    let text = String::from_utf8(out).unwrap();
    let events: Vec<&str> = text.split_terminator("\n\n").collect();
    assert_eq!(events.len(), 5);
    assert_eq!(events[4], "data: [DONE]");
    let chunk = |index: usize| -> Json {
        serde_json::from_str(events[index].strip_prefix("data: ").unwrap()).unwrap()
    };
    let expected = json!({
        "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1_790_000_000, "model": "small",
        "choices": [{
            "index": 0,
            "delta": {"role": "assistant", "content": "Hel"},
            "finish_reason": null,
        }],
    });
    assert_eq!(chunk(0), expected);
    assert_eq!(chunk(1)["choices"][0]["delta"], json!({"content": "lo\n"}));
    assert_eq!(chunk(2)["choices"][0]["delta"], json!({}));
    assert_eq!(chunk(2)["choices"][0]["finish_reason"], "stop");
    assert_eq!(chunk(3)["choices"], json!([]));
    assert_eq!(chunk(3)["usage"]["total_tokens"], 3);
    let mut out = Vec::new();
    completion().put_end(&mut out, Finish::Stop, None);
    assert!(!String::from_utf8(out).unwrap().contains("usage"));
    let mut out = Vec::new();
    let problem = crate::api::problem::Problem::from_status(500).with_detail("no memory");
    put_error(&mut out, &problem.error_body());
    let text = String::from_utf8(out).unwrap();
    let error: Json = serde_json::from_str(text.trim().strip_prefix("data: ").unwrap()).unwrap();
    assert_eq!(error["error"]["message"], "no memory");
    assert_eq!(error["error"]["type"], "server_error");
}

#[test]
fn random_alterations_never_panic_and_what_passes_is_within_limits() {
    let valid = br#"{"messages":[{"role":"user","content":[{"type":"text","text":"x"}]}],"stop":["a"],"seed":5,
        "temperature":0.5,"top_p":0.5,"max_tokens":9,"stream":true,"stream_options":{"include_usage":true}}"#;
    mutate(valid, 8_000, |text| {
        if let Ok(request) = Request::from_json(text, &Limits::DEFAULT) {
            assert!((1..=512).contains(&request.max_tokens));
            assert!((0.0..=2.0).contains(&request.temperature));
            assert!((0.0..=1.0).contains(&request.top_p));
            assert!(request.stop.len() <= MAX_STOPS && !request.messages.is_empty());
        }
    });
}
