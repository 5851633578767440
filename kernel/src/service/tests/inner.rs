//! The inner interface: conversations, other wordings, and what existing clients read.

use std::string::{String, ToString};
use std::vec::Vec;

use cloister_protocol::api::{media, paths, rewrite};
use cloister_protocol::bhttp;
use serde_json::{Value, json};

use crate::service::testing::{World, chat, open, post_json, problem};

fn document(response: &bhttp::Response) -> Value {
    let text = String::from_utf8_lossy(&response.content);
    assert_eq!(response.status, 200, "{text}");
    serde_json::from_slice(&response.content).unwrap()
}

#[test]
fn a_conversation_is_answered_in_the_shape_that_clients_know() {
    let mut world = World::new();
    let answer = world.ask(&chat("Hel|~5|lo, 你|好", false));
    assert_eq!(answer.field("content-type"), Some(media::JSON.as_bytes()));
    let document = document(&answer);
    let id = document["id"].as_str().unwrap();
    assert!(id.starts_with("chatcmpl-") && id.len() == 25, "{id}");
    let created = document["created"].as_u64().unwrap();
    assert!(
        (1_800_000_000..1_800_000_100).contains(&created),
        "{created}"
    );
    let choices = json!([{
        "index": 0,
        "message": {"role": "assistant", "content": "Hello, 你好"},
        "finish_reason": "stop",
    }]);
    assert_eq!(document["choices"], choices);
    assert_eq!(document["model"], "parrot");
    assert_eq!(
        document["usage"],
        json!({"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12})
    );
    let other = world.ask(&chat("x", false));
    assert_ne!(self::document(&other)["id"], id);
    assert_eq!(
        (world.live.get(), world.server.metrics().jobs_finished),
        (0, 2)
    );
}

#[test]
fn other_wordings() {
    let mut world = World::new();
    for tone in rewrite::Tone::NAMES {
        let json = json!({"text": "one|two", "tone": tone});
        let answer = world.ask(&post_json(paths::REWRITE, &json));
        let response = rewrite::Response::from_json(&answer.content).unwrap();
        assert_eq!(response.suggestions, ["one", "two"]);
        assert_eq!(response.model, "parrot");
        assert_eq!(
            (response.usage.prompt_tokens, response.usage.output_tokens),
            (7, 5)
        );
    }
}

#[test]
fn the_list_of_models_is_one_that_existing_clients_read() {
    let mut world = World::new();
    let document = document(&world.ask(&bhttp::Request::new("GET", paths::MODELS)));
    assert_eq!(document["object"], "list");
    let model = &document["data"][0];
    assert_eq!(
        (&model["id"], &model["object"]),
        (&json!("parrot"), &json!("model"))
    );
    assert!(model["created"].is_u64() && model["owned_by"].is_string());
    assert_eq!(model["digest"], "aa".repeat(32));
}

#[test]
fn problems_name_the_field_and_clients_can_show_them() {
    let mut world = World::new();
    let mut refused = |path: &str, json: Value| {
        let answer = world.ask(&post_json(path, &json));
        let document: Value = serde_json::from_slice(&answer.content).unwrap();
        (answer.status, problem(&answer).1, document)
    };
    let message = json!([{"role": "user", "content": "hi"}]);
    let json = json!({"messages": message, "tools": [{"type": "function"}]});
    let (status, problem, document) = refused(paths::CHAT_COMPLETIONS, json);
    assert_eq!((status, problem.field.as_deref()), (422, Some("tools")));
    assert_eq!(
        document["error"]["message"],
        "`tools`: this server calls no tools"
    );
    assert_eq!(document["error"]["type"], "invalid_request_error");
    assert_eq!(document["error"]["param"], "tools");
    let json = json!({"messages": message, "n": 3});
    assert_eq!(refused(paths::CHAT_COMPLETIONS, json).0, 422);
    let json = json!({"text": "x", "tone": "rude"});
    let (status, problem, document) = refused(paths::REWRITE, json);
    assert_eq!((status, problem.field.as_deref()), (422, Some("tone")));
    assert_eq!(document["error"], Value::Null);
    // What is found only when the job begins, and when it fails.
    for (script, expected) in [("refuse", 422), ("a|fail", 500)] {
        let json = json!({"messages": [{"role": "user", "content": script}]});
        let (status, _, document) = refused(paths::CHAT_COMPLETIONS, json);
        assert_eq!(status, expected);
        assert!(document["error"]["message"].is_string());
    }
    assert_eq!(world.live.get(), 0);
}

#[test]
fn methods_and_types_of_the_new_paths() {
    let mut world = World::new();
    for path in [paths::CHAT_COMPLETIONS, paths::REWRITE] {
        assert_eq!(world.ask(&bhttp::Request::new("GET", path)).status, 405);
        let text = bhttp::Request::new("POST", path).with_content("text/plain", b"{}".to_vec());
        assert_eq!(world.ask(&text.unwrap()).status, 415);
        let mut world = World::with_model(false);
        let json =
            json!({"text": "x", "tone": "fix", "messages": [{"role": "user", "content": "x"}]});
        let status = world.ask(&post_json(path, &json)).status;
        assert_eq!(status, if path == paths::REWRITE { 422 } else { 503 });
    }
}

#[test]
fn events_can_come_as_a_whole_too() {
    let mut world = World::new();
    let answer = world.ask(&chat("Hel|lo", true));
    assert_eq!(
        answer.field("content-type"),
        Some(media::EVENT_STREAM.as_bytes())
    );
    let text = String::from_utf8(answer.content.to_vec()).unwrap();
    let events: Vec<&str> = text.split_terminator("\n\n").collect();
    assert_eq!(events.len(), 3, "{text}");
    assert!(events[0].contains(r#""content":"Hello""#), "{text}");
    assert_eq!(events[2], "data: [DONE]");
}

#[test]
fn a_client_that_leaves_ends_each_kind_of_job_wherever_it_stands() {
    let mut world = World::new();
    let keys = world.keys();
    let rewriting = json!({"text": "x", "tone": "fix"});
    let requests = [
        chat("a|~100000|b", false),
        post_json(paths::REWRITE, &rewriting),
    ];
    for (index, request) in requests.iter().enumerate() {
        for room in [0, 1] {
            world.room.set(room);
            if (index, room) == (1, 1) {
                // Other wordings by the parrot are there at once.
                continue;
            }
            let before = world.server.metrics().jobs_cancelled;
            let (sealed, _) = world.encapsulate(&keys, request);
            let client = world.connect();
            world.send(client, &sealed);
            world.turns(20);
            assert_eq!(world.live.get(), 1);
            world.lan.socket(client).abort();
            world.turns(5);
            assert_eq!(world.live.get(), 0);
            assert_eq!(world.server.metrics().jobs_cancelled, before + 1);
        }
    }
    world.room.set(1);
    let (sealed, opener) = world.encapsulate(&keys, &chat("still here", false));
    let answer = open(world.exchange(&sealed), opener);
    assert!(document(&answer).to_string().contains("still here"));
}
