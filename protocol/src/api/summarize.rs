//! `POST /v1/summarize`: a thread, mail or article in, a summary out.
//!
//! ```json
//! {"messages":[{"from":"Ana","text":"Lunch at one?"}], "style":"bullets", "max_tokens":200}
//! {"summary":"...", "usage":{"prompt_tokens":81,"output_tokens":12,"parts":1}, "model":"..."}
//! ```
//!
//! In a request, `from`, `style` and `max_tokens` may be left out; a member that is not in this list is an error, so
//! that a misspelt one is not passed over in silence. In a response, unknown members are passed over, so that newer
//! servers can say more. Text may hold any character; it is taken as it is.

use super::json::{JsonError, Value};
use super::problem::{self, Problem};
use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::{String, ToString};
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

    /// Reads the JSON text of a request, and checks it.
    ///
    /// # Errors
    /// [`RequestError`], which names the field.
    pub fn from_json(text: &[u8], limits: &Limits) -> Result<Self, RequestError> {
        let value = Value::parse(text).map_err(RequestError::Json)?;
        let mut object = Object::new("", value, &["messages", "style", "max_tokens"])?;
        let messages = object
            .take("messages")
            .ok_or_else(|| missing("messages", "an array of messages"))?;
        let messages = read_messages(messages, limits)?;
        let style = object
            .take("style")
            .map_or(Ok(Style::default()), read_style)?;
        let max_tokens = object
            .take("max_tokens")
            .map(|value| read_max_tokens(&value, limits))
            .transpose()?;
        let request = Self {
            messages,
            style,
            max_tokens,
        };
        request.check(limits)?;
        Ok(request)
    }

    /// Checks a request that was put together here; a client does this before it sends one.
    ///
    /// # Errors
    /// [`RequestError`], which names the field.
    pub fn check(&self, limits: &Limits) -> Result<(), RequestError> {
        check_count(self.messages.len(), limits)?;
        for (index, message) in self.messages.iter().enumerate() {
            check_length(index, "from", &message.from, limits.from_bytes)?;
            check_length(index, "text", &message.text, limits.text_bytes)?;
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
            check_max_tokens(tokens.into(), limits).map(drop)
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

/// Why a request for a summary was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RequestError {
    /// The content is not JSON that we take.
    Json(JsonError),
    /// A field that must be there is not.
    Missing {
        /// The field, as in `messages[3].text`.
        field: String,
        /// What it should hold.
        expected: &'static str,
    },
    /// A field holds a value of another type.
    WrongType {
        /// The field; empty for the whole.
        field: String,
        /// What it should hold.
        expected: &'static str,
        /// What it holds.
        found: &'static str,
    },
    /// A field that is not part of a request.
    Unknown {
        /// The beginning of its name.
        field: String,
        /// The fields that are.
        known: &'static [&'static str],
    },
    /// There are no messages, or none has text.
    Empty {
        /// The field.
        field: String,
    },
    /// There are too many messages.
    TooMany {
        /// The field.
        field: String,
        /// The most.
        limit: usize,
        /// How many there are.
        found: usize,
    },
    /// A string is too long.
    TooLong {
        /// The field.
        field: String,
        /// The most bytes, in UTF-8.
        limit_bytes: usize,
        /// Its bytes.
        found_bytes: usize,
    },
    /// A string is not one of the words allowed.
    NotOneOf {
        /// The field.
        field: String,
        /// The words.
        allowed: &'static [&'static str],
    },
    /// A number is outside its range.
    OutOfRange {
        /// The field.
        field: String,
        /// The smallest value.
        min: u64,
        /// The largest value.
        max: u64,
    },
}

impl RequestError {
    /// The field that is wrong, if it is one.
    pub fn field(&self) -> Option<&str> {
        match self {
            Self::Json(_) => None,
            Self::Missing { field, .. }
            | Self::WrongType { field, .. }
            | Self::Unknown { field, .. }
            | Self::Empty { field }
            | Self::TooMany { field, .. }
            | Self::TooLong { field, .. }
            | Self::NotOneOf { field, .. }
            | Self::OutOfRange { field, .. } => Some(field)
                .filter(|field| !field.is_empty())
                .map(String::as_str),
        }
    }

    /// The HTTP status of the answer: 400 for what is not JSON, 413 for what is too large, 422 for the rest.
    pub fn status(&self) -> u16 {
        match self {
            Self::Json(JsonError::TooLarge { .. })
            | Self::TooLong { .. }
            | Self::TooMany { .. } => 413,
            Self::Json(_) => 400,
            _ => 422,
        }
    }

    /// The problem document of the answer.
    pub fn problem(&self) -> Problem {
        let kind = if matches!(self, Self::Json(_)) {
            problem::INVALID_JSON
        } else {
            problem::INVALID_FIELD
        };
        let mut problem = Problem::new(self.status(), kind, self.to_string());
        problem.field = self.field().map(ToOwned::to_owned);
        problem
    }
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Json(error) => error.fmt(f),
            Self::Missing { field, expected } => {
                write!(f, "`{field}` is missing; expected {expected}")
            }
            Self::WrongType {
                field,
                expected,
                found,
            } if field.is_empty() => {
                write!(f, "expected {expected}, found {found}")
            }
            Self::WrongType {
                field,
                expected,
                found,
            } => write!(f, "`{field}`: expected {expected}, found {found}"),
            Self::Unknown { field, known } => {
                write!(
                    f,
                    "`{field}` is not a field here; the fields are {}",
                    known.join(", ")
                )
            }
            Self::Empty { field } => write!(f, "`{field}` has no text to summarize"),
            Self::TooMany {
                field,
                limit,
                found,
            } => write!(f, "`{field}` has {found} messages, and the most is {limit}"),
            Self::TooLong {
                field,
                limit_bytes,
                found_bytes,
            } => {
                write!(
                    f,
                    "`{field}` has {found_bytes} bytes, and the most is {limit_bytes}"
                )
            }
            Self::NotOneOf { field, allowed } => {
                write!(f, "`{field}`: expected one of {}", allowed.join(", "))
            }
            Self::OutOfRange { field, min, max } => {
                write!(f, "`{field}`: expected an integer from {min} to {max}")
            }
        }
    }
}

impl core::error::Error for RequestError {}

/// An object whose members are taken one after the other; all of them were found to be known.
struct Object {
    members: Vec<(String, Value)>,
}

impl Object {
    /// `path` goes before the names of members in errors: empty, or as in `messages[3].`.
    fn new(path: &str, value: Value, known: &'static [&'static str]) -> Result<Self, RequestError> {
        let Value::Object(members) = value else {
            return Err(wrong_type(
                path.trim_end_matches('.').to_owned(),
                "an object",
                &value,
            ));
        };
        match members
            .iter()
            .find(|(name, _)| !known.contains(&name.as_str()))
        {
            Some((name, _)) => Err(RequestError::Unknown {
                field: format!("{path}{}", beginning(name)),
                known,
            }),
            None => Ok(Self { members }),
        }
    }

    fn take(&mut self, name: &str) -> Option<Value> {
        let index = self.members.iter().position(|(other, _)| other == name)?;
        Some(self.members.swap_remove(index).1)
    }
}

/// The most characters of an unknown name that an error repeats.
const SHOWN_NAME_CHARS: usize = 64;

fn beginning(name: &str) -> String {
    name.chars().take(SHOWN_NAME_CHARS).collect()
}

fn missing(field: impl Into<String>, expected: &'static str) -> RequestError {
    RequestError::Missing {
        field: field.into(),
        expected,
    }
}

fn wrong_type(field: impl Into<String>, expected: &'static str, found: &Value) -> RequestError {
    RequestError::WrongType {
        field: field.into(),
        expected,
        found: found.kind(),
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

fn read_string(path: &str, name: &str, value: Value) -> Result<String, RequestError> {
    match value {
        Value::String(mut text) => Ok(core::mem::take(&mut *text)),
        other => Err(wrong_type(format!("{path}{name}"), "a string", &other)),
    }
}

fn read_style(value: Value) -> Result<Style, RequestError> {
    let name = read_string("", "style", value)?;
    Style::from_name(&name).ok_or(RequestError::NotOneOf {
        field: "style".to_owned(),
        allowed: &Style::NAMES,
    })
}

fn read_max_tokens(value: &Value, limits: &Limits) -> Result<u32, RequestError> {
    match value {
        Value::Unsigned(tokens) => check_max_tokens(*tokens, limits),
        // Of a number, the range says more than the type.
        Value::Number => check_max_tokens(0, limits),
        other => Err(wrong_type("max_tokens", "an integer", other)),
    }
}

fn check_max_tokens(tokens: u64, limits: &Limits) -> Result<u32, RequestError> {
    let max = limits.output_tokens;
    let in_range = u32::try_from(tokens)
        .ok()
        .filter(|tokens| (1..=max).contains(tokens));
    in_range.ok_or(RequestError::OutOfRange {
        field: "max_tokens".to_owned(),
        min: 1,
        max: max.into(),
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

fn check_length(
    index: usize,
    name: &str,
    text: &str,
    limit_bytes: usize,
) -> Result<(), RequestError> {
    if text.len() <= limit_bytes {
        return Ok(());
    }
    Err(RequestError::TooLong {
        field: format!("messages[{index}].{name}"),
        limit_bytes,
        found_bytes: text.len(),
    })
}

#[cfg(test)]
mod tests;
