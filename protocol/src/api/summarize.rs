//! `POST /v1/summarize`: a thread, mail or article in, a summary out.
//!
//! ```json
//! {"messages":[{"from":"Ana","text":"Lunch at one?"}], "style":"bullets", "max_tokens":200}
//! {"summary":"...", "usage":{"prompt_tokens":81,"output_tokens":12,"parts":1}, "model":"..."}
//! ```
//!
//! With `"stream":true` the answer is server-sent events ([`super::events`]) whose data are [`Event`]s: pieces of the
//! summary, then what it took.
//!
//! In a request, `from`, `style`, `max_tokens` and `stream` may be left out; a member that is not in this list is an error, so
//! that a misspelt one is not passed over in silence. In a response, unknown members are passed over, so that newer
//! servers can say more. Text may hold any character; it is taken as it is.

use super::json::{JsonError, Value};
use super::problem::ErrorBody;
pub use super::request::RequestError;
use super::request::{
    Object, check_integer, check_length, missing, read_bool, read_integer, read_string, wrong_type,
};
use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

/// What a request may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Messages in a thread.
    pub messages: usize,
    /// Bytes of one message's text, in UTF-8.
    pub text_bytes: usize,
    /// Bytes of a sender's name, in UTF-8.
    pub from_bytes: usize,
    /// The largest `max_tokens`.
    pub output_tokens: u32,
}

impl Limits {
    /// The limits of an image whose manifest says nothing else.
    pub const DEFAULT: Self = Self {
        messages: 2048,
        text_bytes: 256 << 10,
        from_bytes: 256,
        output_tokens: 512,
    };
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// The form of a summary.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Style {
    /// A list of the main points.
    #[default]
    Bullets,
    /// A few sentences.
    Paragraph,
    /// One line.
    Headline,
}

impl Style {
    /// The names of the styles as they stand in JSON and on the command line.
    pub const NAMES: [&str; 3] = ["bullets", "paragraph", "headline"];

    /// The style of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "bullets" => Some(Self::Bullets),
            "paragraph" => Some(Self::Paragraph),
            "headline" => Some(Self::Headline),
            _ => None,
        }
    }

    /// The name of this style.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bullets => "bullets",
            Self::Paragraph => "paragraph",
            Self::Headline => "headline",
        }
    }
}

/// One message of a thread. An article or a mail is a thread of one. Wiped when it is dropped.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct Message {
    /// Who wrote it; may be empty.
    pub from: String,
    /// What it says.
    pub text: String,
}

impl Message {
    /// A message.
    pub fn new(from: impl Into<String>, text: impl Into<String>) -> Self {
        Self {
            from: from.into(),
            text: text.into(),
        }
    }

    /// Sender and text, moved out.
    pub fn into_parts(mut self) -> (String, String) {
        (
            core::mem::take(&mut self.from),
            core::mem::take(&mut self.text),
        )
    }
}

impl Drop for Message {
    fn drop(&mut self) {
        self.from.zeroize();
        self.text.zeroize();
    }
}

/// Messages are never printed by accident, only measured.
impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Message({} bytes)", self.text.len())
    }
}

/// A request for a summary.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Request {
    /// The thread, oldest message first; at least one, and at least one with text.
    pub messages: Vec<Message>,
    /// The form of the summary.
    pub style: Style,
    /// The most tokens of the summary; the server's limit when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u32>,
}

impl Request {
    /// The JSON text.
    pub fn to_json(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(
            serde_json::to_vec(self).expect("strings and numbers always have a JSON form"),
        )
    }

    /// The JSON text that asks for the answer while it is written.
    pub fn to_json_streamed(&self) -> Zeroizing<Vec<u8>> {
        #[derive(Serialize)]
        struct Streamed<'r> {
            #[serde(flatten)]
            request: &'r Request,
            stream: bool,
        }
        let streamed = Streamed {
            request: self,
            stream: true,
        };
        Zeroizing::new(
            serde_json::to_vec(&streamed).expect("strings and numbers always have a JSON form"),
        )
    }

    /// Reads the JSON text of a request, and checks it.
    ///
    /// # Errors
    /// [`RequestError`], which names the field.
    pub fn from_json(text: &[u8], limits: &Limits) -> Result<Self, RequestError> {
        Self::from_json_streamed(text, limits).map(|(request, _)| request)
    }

    /// The same, and whether the answer is to be sent while it is written.
    ///
    /// # Errors
    /// [`RequestError`], which names the field.
    pub fn from_json_streamed(text: &[u8], limits: &Limits) -> Result<(Self, bool), RequestError> {
        let value = Value::parse(text).map_err(RequestError::Json)?;
        let mut object = Object::new("", value, &["messages", "style", "max_tokens", "stream"])?;
        let messages = object
            .take("messages")
            .ok_or_else(|| missing("messages", "an array of messages"))?;
        let messages = read_messages(messages, limits)?;
        let style = object
            .take("style")
            .map_or(Ok(Style::default()), read_style)?;
        let max_tokens = object
            .take("max_tokens")
            .map(|value| read_integer("max_tokens", &value, limits.output_tokens))
            .transpose()?;
        let is_streamed = object
            .take("stream")
            .map_or(Ok(false), |value| read_bool("stream", &value))?;
        let request = Self {
            messages,
            style,
            max_tokens,
        };
        request.check(limits)?;
        Ok((request, is_streamed))
    }

    /// Checks a request that was put together here; a client does this before it sends one.
    ///
    /// # Errors
    /// [`RequestError`], which names the field.
    pub fn check(&self, limits: &Limits) -> Result<(), RequestError> {
        check_count(self.messages.len(), limits)?;
        for (index, message) in self.messages.iter().enumerate() {
            let field = |name| format!("messages[{index}].{name}");
            check_length(&field("from"), &message.from, limits.from_bytes)?;
            check_length(&field("text"), &message.text, limits.text_bytes)?;
        }
        if self
            .messages
            .iter()
            .all(|message| message.text.trim().is_empty())
        {
            return Err(RequestError::Empty {
                field: "messages".to_owned(),
            });
        }
        self.max_tokens.map_or(Ok(()), |tokens| {
            check_integer("max_tokens", tokens.into(), limits.output_tokens).map(drop)
        })
    }
}

/// A summary.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Response {
    /// The summary.
    pub summary: String,
    /// What it took.
    pub usage: Usage,
    /// The model that wrote it.
    pub model: String,
}

impl Response {
    /// The JSON text.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("strings and numbers always have a JSON form")
    }

    /// Reads the JSON text of a response.
    ///
    /// # Errors
    /// [`JsonError`].
    pub fn from_json(text: &[u8]) -> Result<Self, JsonError> {
        super::json::read(text)
    }
}

impl Drop for Response {
    fn drop(&mut self) {
        self.summary.zeroize();
    }
}

/// Summaries are never printed by accident, only measured.
impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Response({} bytes, {:?}, {})",
            self.summary.len(),
            self.usage,
            self.model
        )
    }
}

/// What a summary took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens read, prompts of all parts together.
    pub prompt_tokens: u32,
    /// Tokens written, all parts together.
    pub output_tokens: u32,
    /// Parts that the input was summarized in; 1 when it fitted the context.
    pub parts: u32,
}

/// One event of a streamed summary. What is left out has not changed.
#[derive(Clone, Serialize, Deserialize)]
pub struct Event {
    /// The next piece of the summary, in whole characters.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub text: String,
    /// What it took; in the last event but the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// The model that wrote it; with the usage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Why it cannot be finished; the last event then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorBody>,
}

impl Event {
    /// The next piece of the summary.
    pub fn piece(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            usage: None,
            model: None,
            error: None,
        }
    }

    /// What the summary took.
    pub fn end(usage: Usage, model: impl Into<String>) -> Self {
        Self {
            text: String::new(),
            usage: Some(usage),
            model: Some(model.into()),
            error: None,
        }
    }

    /// The JSON text.
    pub fn to_json(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(
            serde_json::to_vec(self).expect("strings and numbers always have a JSON form"),
        )
    }

    /// Reads the JSON text of an event.
    ///
    /// # Errors
    /// [`JsonError`].
    pub fn from_json(text: &[u8]) -> Result<Self, JsonError> {
        super::json::read(text)
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        self.text.zeroize();
    }
}

/// Events are never printed by accident, only measured.
impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Event({} bytes, {:?})", self.text.len(), self.usage)
    }
}

fn read_messages(value: Value, limits: &Limits) -> Result<Vec<Message>, RequestError> {
    let Value::Array(values) = value else {
        return Err(wrong_type("messages", "an array of messages", &value));
    };
    check_count(values.len(), limits)?;
    values
        .into_iter()
        .enumerate()
        .map(|(index, value)| read_message(index, value))
        .collect()
}

fn read_message(index: usize, value: Value) -> Result<Message, RequestError> {
    let path = format!("messages[{index}].");
    let mut object = Object::new(&path, value, &["from", "text"])?;
    let text = object
        .take("text")
        .ok_or_else(|| missing(format!("{path}text"), "a string"))?;
    let text = read_string(&path, "text", text)?;
    let from = object
        .take("from")
        .map_or(Ok(String::new()), |from| read_string(&path, "from", from))?;
    Ok(Message { from, text })
}

fn read_style(value: Value) -> Result<Style, RequestError> {
    let name = read_string("", "style", value)?;
    Style::from_name(&name).ok_or(RequestError::NotOneOf {
        field: "style".to_owned(),
        allowed: &Style::NAMES,
    })
}

fn check_count(found: usize, limits: &Limits) -> Result<(), RequestError> {
    let field = || "messages".to_owned();
    match found {
        0 => Err(RequestError::Empty { field: field() }),
        _ if found > limits.messages => Err(RequestError::TooMany {
            field: field(),
            limit: limits.messages,
            found,
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
