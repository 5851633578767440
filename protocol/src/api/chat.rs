//! `POST /v1/chat/completions`: the shape that many clients speak (OpenAI's "Create chat completion"), so that they work
//! through a proxy unchanged.
//!
//! ```json
//! {"model":"any", "messages":[{"role":"user","content":"Hello"}], "max_tokens":200, "temperature":0.7, "stream":false}
//! {"id":"chatcmpl-...", "object":"chat.completion", "created":1790000000, "model":"...",
//!  "choices":[{"index":0, "message":{"role":"assistant","content":"..."}, "finish_reason":"stop"}],
//!  "usage":{"prompt_tokens":20,"completion_tokens":5,"total_tokens":25}}
//! ```
//!
//! | member | what becomes of it |
//! |---|---|
//! | `messages` | roles `system` (or `developer`), `user`, `assistant`; content a string or an array of parts of type `text` |
//! | `max_completion_tokens`, `max_tokens` | at most so many tokens; more than the server's limit is as the limit |
//! | `temperature`, `top_p`, `seed`, `stop` | as there; without `temperature` the likeliest words are taken |
//! | `stream`, `stream_options.include_usage` | server-sent events of `chat.completion.chunk`s, then `[DONE]` |
//! | `model` | any name: the image has one model, whose name the answer says |
//! | `tools`, `logprobs`, `n` above 1, images, audio, JSON schemas, penalties, ... | refused, unless they ask for nothing (`null`, `false`, `0`, `[]`) |
//! | anything else | ignored, as are `user`, `metadata`, `store`, ... |

mod completion;

pub use completion::{Completion, Finish, Usage, put_error};

use super::json::Value;
use super::request::{Object, RequestError, check_length, missing, read_bool, wrong_type};
use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use zeroize::Zeroizing;

/// What a request may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Messages of a conversation.
    pub messages: usize,
    /// Bytes of one message's content, in UTF-8.
    pub text_bytes: usize,
    /// Tokens of an answer.
    pub output_tokens: u32,
}

impl Limits {
    /// The limits of an image whose manifest says nothing else.
    pub const DEFAULT: Self = Self {
        messages: 2048,
        text_bytes: 256 << 10,
        output_tokens: 512,
    };
}

/// The most strings that end an answer.
pub const MAX_STOPS: usize = 4;
/// The most bytes of one of them.
pub const MAX_STOP_BYTES: usize = 256;

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Instructions.
    System,
    /// The person.
    User,
    /// The model.
    Assistant,
}

/// One message of a conversation. Wiped when it is dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said.
    pub content: Zeroizing<String>,
}

/// Messages are never printed by accident, only measured.
impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}({} bytes)", self.role, self.content.len())
    }
}

/// A request for the next message of a conversation.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// The conversation, the oldest message first; at least one.
    pub messages: Vec<Message>,
    /// The most tokens of the answer.
    pub max_tokens: u32,
    /// 0 takes the likeliest words, more makes the others likelier; 0 to 2.
    pub temperature: f32,
    /// Only the likeliest words are drawn from that have this share of the odds together; above 0, 1 is all.
    pub top_p: f32,
    /// Where the random numbers begin; the server chooses if there is none.
    pub seed: Option<u64>,
    /// The answer ends before the first of these.
    pub stop: Vec<Zeroizing<String>>,
    /// Whether the answer is to be sent while it is written.
    pub stream: bool,
    /// Whether a streamed answer says at its end what it took.
    pub include_usage: bool,
}

/// Members that ask for what this server does not have, unless they say nothing.
const UNSUPPORTED: [(&str, &str); 12] = [
    ("tools", "this server calls no tools"),
    ("functions", "this server calls no functions"),
    ("function_call", "this server calls no functions"),
    ("logprobs", "this server gives no probabilities"),
    ("top_logprobs", "this server gives no probabilities"),
    ("logit_bias", "this server takes no bias"),
    ("presence_penalty", "this server has no penalties to set"),
    ("frequency_penalty", "this server has no penalties to set"),
    ("audio", "this server has text only"),
    ("prediction", "this server takes no predicted output"),
    ("web_search_options", "this server searches nothing"),
    ("grammar", "this server takes no grammar"),
];

/// The same for members of a message.
const UNSUPPORTED_IN_MESSAGE: [(&str, &str); 3] = [
    ("tool_calls", "this server calls no tools"),
    ("function_call", "this server calls no functions"),
    ("audio", "this server has text only"),
];

impl Request {
    /// Reads the JSON text of a request, and checks it.
    ///
    /// # Errors
    /// [`RequestError`], which names the field.
    pub fn from_json(text: &[u8], limits: &Limits) -> Result<Self, RequestError> {
        let value = Value::parse(text).map_err(RequestError::Json)?;
        let mut object = Object::open("", value)?;
        refuse_unsupported("", &mut object, &UNSUPPORTED)?;
        refuse_other_choices(&mut object)?;
        let messages = object
            .take("messages")
            .ok_or_else(|| missing("messages", "an array of messages"))?;
        let stream = flag(&mut object, "", "stream")?;
        Ok(Self {
            messages: read_messages(messages, limits)?,
            max_tokens: read_max_tokens(&mut object, limits)?,
            temperature: number(&mut object, "temperature", 0.0, 2.0)?.unwrap_or(0.0),
            top_p: read_top_p(&mut object)?,
            seed: object.take_set("seed").map(read_seed).transpose()?,
            stop: object.take_set("stop").map_or(Ok(Vec::new()), read_stop)?,
            stream,
            include_usage: read_include_usage(&mut object)? && stream,
        })
    }
}

/// Whether a value asks for nothing.
fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) | Value::Unsigned(0) => true,
        Value::Number(number) => *number == 0.0,
        Value::String(text) => text.is_empty(),
        Value::Array(values) => values.is_empty(),
        Value::Object(members) => members.is_empty(),
        Value::Bool(true) | Value::Unsigned(_) => false,
    }
}

fn refuse_unsupported(
    path: &str,
    object: &mut Object,
    names: &[(&str, &'static str)],
) -> Result<(), RequestError> {
    let asked = names.iter().find(|(name, _)| {
        let value = object.take(name);
        value.is_some_and(|value| !is_nothing(&value))
    });
    match asked {
        Some((name, reason)) => Err(unsupported(format!("{path}{name}"), reason)),
        None => Ok(()),
    }
}

fn unsupported(field: impl Into<String>, reason: &'static str) -> RequestError {
    RequestError::Unsupported {
        field: field.into(),
        reason,
    }
}

/// Members of which only one value is what this server does anyway.
fn refuse_other_choices(object: &mut Object) -> Result<(), RequestError> {
    let is_word = |value: &Value, words: &[&str]| match value {
        Value::String(word) => words.contains(&word.as_str()),
        _ => false,
    };
    let is_text_format = |value: Value| match value {
        Value::Object(members) => members
            .iter()
            .any(|(name, value)| name == "type" && is_word(value, &["text"])),
        _ => false,
    };
    if object
        .take_set("n")
        .is_some_and(|value| value != Value::Unsigned(1))
    {
        return Err(unsupported("n", "this server gives one answer, so 1"));
    }
    if object
        .take_set("tool_choice")
        .is_some_and(|value| !is_word(&value, &["none", "auto"]))
    {
        return Err(unsupported("tool_choice", "this server calls no tools"));
    }
    if object
        .take_set("response_format")
        .is_some_and(|value| !is_text_format(value))
    {
        let reason = "this server answers in plain text only, type `text`";
        return Err(unsupported("response_format", reason));
    }
    let modalities = object.take_set("modalities");
    if modalities.is_some_and(|value| match value {
        Value::Array(values) => !values.iter().all(|value| is_word(value, &["text"])),
        _ => true,
    }) {
        return Err(unsupported("modalities", "this server has text only"));
    }
    Ok(())
}

fn read_messages(value: Value, limits: &Limits) -> Result<Vec<Message>, RequestError> {
    let field = || "messages".to_owned();
    let Value::Array(values) = value else {
        return Err(wrong_type(field(), "an array of messages", &value));
    };
    if values.len() > limits.messages {
        return Err(RequestError::TooMany {
            field: field(),
            limit: limits.messages,
            found: values.len(),
        });
    }
    let messages = values
        .into_iter()
        .enumerate()
        .map(|(index, value)| read_message(&format!("messages[{index}]."), value, limits));
    let messages: Vec<Message> = messages.collect::<Result<_, _>>()?;
    if messages
        .iter()
        .all(|message| message.content.trim().is_empty())
    {
        return Err(RequestError::Empty { field: field() });
    }
    Ok(messages)
}

fn read_message(path: &str, value: Value, limits: &Limits) -> Result<Message, RequestError> {
    let mut object = Object::open(path, value)?;
    let field = |name: &str| format!("{path}{name}");
    let role = match object.take_set("role") {
        Some(Value::String(role)) => read_role(field("role"), &role)?,
        Some(other) => return Err(wrong_type(field("role"), "a string", &other)),
        None => return Err(missing(field("role"), "system, user or assistant")),
    };
    refuse_unsupported(path, &mut object, &UNSUPPORTED_IN_MESSAGE)?;
    let name = field("content");
    let content = match object.take_set("content") {
        Some(Value::String(text)) => text,
        Some(Value::Array(parts)) => read_parts(&name, parts)?,
        Some(other) => return Err(wrong_type(name, "a string or an array of parts", &other)),
        None => return Err(missing(name, "a string or an array of parts")),
    };
    check_length(&name, &content, limits.text_bytes)?;
    Ok(Message { role, content })
}

fn read_role(field: String, role: &str) -> Result<Role, RequestError> {
    match role {
        "system" | "developer" => Ok(Role::System),
        "user" => Ok(Role::User),
        "assistant" => Ok(Role::Assistant),
        "tool" | "function" => Err(unsupported(field, "this server calls no tools")),
        _ => Err(RequestError::NotOneOf {
            field,
            allowed: &["system", "user", "assistant"],
        }),
    }
}

/// The text of all parts, one behind the other.
fn read_parts(field: &str, parts: Vec<Value>) -> Result<Zeroizing<String>, RequestError> {
    let mut texts: Vec<Zeroizing<String>> = Vec::with_capacity(parts.len());
    for (index, part) in parts.into_iter().enumerate() {
        let path = format!("{field}[{index}].");
        let mut object = Object::open(&path, part)?;
        match object.take("type") {
            Some(Value::String(kind)) if *kind == "text" => {}
            Some(Value::String(_)) => {
                let reason = "this server has text only, so parts of type `text`";
                return Err(unsupported(format!("{path}type"), reason));
            }
            Some(other) => return Err(wrong_type(format!("{path}type"), "a string", &other)),
            None => return Err(missing(format!("{path}type"), "`text`")),
        }
        match object.take("text") {
            Some(Value::String(text)) => texts.push(text),
            Some(other) => return Err(wrong_type(format!("{path}text"), "a string", &other)),
            None => return Err(missing(format!("{path}text"), "a string")),
        }
    }
    // One allocation: what grows would leave copies behind.
    let bytes = texts.iter().map(|text| text.len()).sum();
    let mut all = Zeroizing::new(String::with_capacity(bytes));
    texts.iter().for_each(|text| all.push_str(text));
    Ok(all)
}

/// The newer name wins; more than the server's limit is as the limit, since it says "at most".
fn read_max_tokens(object: &mut Object, limits: &Limits) -> Result<u32, RequestError> {
    let older = object.take_set("max_tokens");
    let newer = object.take_set("max_completion_tokens");
    let (name, value) = match (newer, older) {
        (Some(value), _) => ("max_completion_tokens", value),
        (None, Some(value)) => ("max_tokens", value),
        (None, None) => return Ok(limits.output_tokens),
    };
    match value {
        Value::Unsigned(tokens @ 1..) => Ok(u32::try_from(tokens)
            .map_or(limits.output_tokens, |tokens| {
                tokens.min(limits.output_tokens)
            })),
        Value::Unsigned(_) | Value::Number(_) => Err(RequestError::Invalid {
            field: name.to_owned(),
            expected: "an integer from 1 on",
        }),
        other => Err(wrong_type(name, "an integer", &other)),
    }
}

/// A number in a range, if there is one.
fn number(
    object: &mut Object,
    name: &'static str,
    min: f64,
    max: f64,
) -> Result<Option<f32>, RequestError> {
    let number = match object.take_set(name) {
        None => return Ok(None),
        Some(Value::Unsigned(number)) => number as f64,
        Some(Value::Number(number)) => number,
        Some(other) => return Err(wrong_type(name, "a number", &other)),
    };
    match (min..=max).contains(&number) {
        true => Ok(Some(number as f32)),
        false => Err(RequestError::Invalid {
            field: name.to_owned(),
            expected: if max == 2.0 {
                "a number from 0 to 2"
            } else {
                "a number from 0 to 1"
            },
        }),
    }
}

fn read_top_p(object: &mut Object) -> Result<f32, RequestError> {
    Ok(number(object, "top_p", 0.0, 1.0)?.unwrap_or(1.0))
}

/// Any integer; what it is does not matter, only that it is the same.
fn read_seed(value: Value) -> Result<u64, RequestError> {
    match value {
        Value::Unsigned(seed) => Ok(seed),
        Value::Number(seed) if (seed as i64) as f64 == seed => Ok((seed as i64) as u64),
        Value::Number(_) => Err(RequestError::Invalid {
            field: "seed".to_owned(),
            expected: "an integer",
        }),
        other => Err(wrong_type("seed", "an integer", &other)),
    }
}

fn read_stop(value: Value) -> Result<Vec<Zeroizing<String>>, RequestError> {
    let values = match value {
        Value::Array(values) => values,
        one => alloc::vec![one],
    };
    if values.len() > MAX_STOPS {
        return Err(RequestError::Invalid {
            field: "stop".to_owned(),
            expected: "a string or at most 4 of them",
        });
    }
    let read = |value| match value {
        Value::String(text) if text.is_empty() => Err(RequestError::Empty {
            field: "stop".to_owned(),
        }),
        Value::String(text) => {
            check_length("stop", &text, MAX_STOP_BYTES)?;
            Ok(text)
        }
        other => Err(wrong_type("stop", "a string or at most 4 of them", &other)),
    };
    values.into_iter().map(read).collect()
}

fn flag(object: &mut Object, path: &str, name: &str) -> Result<bool, RequestError> {
    object.take_set(name).map_or(Ok(false), |value| {
        read_bool(&format!("{path}{name}"), &value)
    })
}

fn read_include_usage(object: &mut Object) -> Result<bool, RequestError> {
    let Some(options) = object.take_set("stream_options") else {
        return Ok(false);
    };
    let path = "stream_options.";
    flag(&mut Object::open(path, options)?, path, "include_usage")
}

#[cfg(test)]
mod tests;
