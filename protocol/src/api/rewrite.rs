//! `POST /v1/rewrite`: a text in, other wordings of it out.
//!
//! ```json
//! {"text":"send me the file asap", "tone":"friendly", "count":2}
//! {"suggestions":["Could you please send me the file soon?","..."], "usage":{"prompt_tokens":60,"output_tokens":21},
//!  "model":"..."}
//! ```
//!
//! `count` may be left out: it is how many suggestions are wanted at most, 1 to [`MAX_COUNT`], 1 if not given. Two that
//! are the same are given once. Another member is an error.

use super::json::{self, JsonError, Value};
use super::request::{Object, RequestError, check_length, missing, read_integer, read_string};
use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

/// The most suggestions of one answer.
pub const MAX_COUNT: u32 = 3;

/// What becomes of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Tone {
    /// Warmer.
    Friendly,
    /// As in a letter to somebody whom one does not know.
    Formal,
    /// The same in fewer words.
    Shorter,
    /// The same words without mistakes.
    Fix,
}

impl Tone {
    /// The names of the tones as they stand in JSON and on the command line.
    pub const NAMES: [&str; 4] = ["friendly", "formal", "shorter", "fix"];

    /// The tone of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "friendly" => Some(Self::Friendly),
            "formal" => Some(Self::Formal),
            "shorter" => Some(Self::Shorter),
            "fix" => Some(Self::Fix),
            _ => None,
        }
    }

    /// The name of this tone.
    pub fn name(self) -> &'static str {
        match self {
            Self::Friendly => "friendly",
            Self::Formal => "formal",
            Self::Shorter => "shorter",
            Self::Fix => "fix",
        }
    }
}

/// A request for other wordings.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct Request {
    /// The text. Wiped when it is dropped.
    pub text: String,
    /// What is to become of it.
    pub tone: Tone,
    /// How many suggestions are wanted at most.
    pub count: u32,
}

impl Request {
    /// The JSON text.
    pub fn to_json(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(
            serde_json::to_vec(self).expect("strings and numbers always have a JSON form"),
        )
    }

    /// Reads the JSON text of a request, whose text may have so many bytes, and checks it.
    ///
    /// # Errors
    /// [`RequestError`], which names the field.
    pub fn from_json(text: &[u8], limit_bytes: usize) -> Result<Self, RequestError> {
        let value = Value::parse(text).map_err(RequestError::Json)?;
        let mut object = Object::new("", value, &["text", "tone", "count"])?;
        let text = object
            .take("text")
            .ok_or_else(|| missing("text", "a string"))?;
        let mut request = Self {
            text: read_string("", "text", text)?,
            tone: Tone::Fix,
            count: 1,
        };
        let tone = object
            .take("tone")
            .ok_or_else(|| missing("tone", "friendly, formal, shorter or fix"))?;
        let tone = read_string("", "tone", tone)?;
        request.tone = Tone::from_name(&tone).ok_or(RequestError::NotOneOf {
            field: "tone".to_owned(),
            allowed: &Tone::NAMES,
        })?;
        if let Some(count) = object.take("count") {
            request.count = read_integer("count", &count, MAX_COUNT)?;
        }
        request.check(limit_bytes).map(|()| request)
    }

    /// Checks a request that was put together here; a client does this before it sends one.
    ///
    /// # Errors
    /// [`RequestError`], which names the field.
    pub fn check(&self, limit_bytes: usize) -> Result<(), RequestError> {
        check_length("text", &self.text, limit_bytes)?;
        if self.text.trim().is_empty() {
            let field = "text".to_owned();
            return Err(RequestError::Empty { field });
        }
        super::request::check_integer("count", self.count.into(), MAX_COUNT).map(drop)
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        self.text.zeroize();
    }
}

/// Texts are never printed by accident, only measured.
impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Request({} bytes, {:?})", self.text.len(), self.tone)
    }
}

/// Other wordings.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Response {
    /// The wordings, the likeliest first; at least one, no two the same.
    pub suggestions: Vec<String>,
    /// What they took.
    pub usage: Usage,
    /// The model that wrote them.
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
        json::read(text)
    }
}

impl Drop for Response {
    fn drop(&mut self) {
        self.suggestions.zeroize();
    }
}

/// Texts are never printed by accident, only measured.
impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.suggestions.len();
        write!(f, "Response({count} suggestions, {:?})", self.usage)
    }
}

/// What suggestions took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens read, once for each suggestion.
    pub prompt_tokens: u32,
    /// Tokens written, all suggestions together.
    pub output_tokens: u32,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::mutate;
    use alloc::string::ToString;

    const LIMIT: usize = 1000;

    fn read(text: &str) -> Result<Request, RequestError> {
        Request::from_json(text.as_bytes(), LIMIT)
    }

    #[test]
    fn requests_go_there_and_back() {
        for name in Tone::NAMES {
            let tone = Tone::from_name(name).unwrap();
            assert_eq!(tone.name(), name);
            let request = Request {
                text: "é \"ok\"\n\u{0}".into(),
                tone,
                count: 2,
            };
            assert_eq!(Request::from_json(&request.to_json(), LIMIT), Ok(request));
        }
        let least = read(r#"{"text":"x","tone":"fix"}"#).unwrap();
        assert_eq!((least.tone, least.count), (Tone::Fix, 1));
        assert_eq!(format!("{least:?}"), "Request(1 bytes, Fix)");
    }

    #[test]
    fn errors_name_the_field() {
        let long = format!(r#"{{"text":"{}","tone":"fix"}}"#, "x".repeat(LIMIT + 1));
        for (text, expected, status) in [
            ("{}", "`text` is missing; expected a string", 422),
            (
                r#"{"text":"x"}"#,
                "`tone` is missing; expected friendly, formal, shorter or fix",
                422,
            ),
            (
                r#"{"text":"x","tone":"rude"}"#,
                "`tone`: expected one of friendly, formal, shorter, fix",
                422,
            ),
            (r#"{"text":" \n","tone":"fix"}"#, "`text` has no text", 422),
            (
                r#"{"text":"x","tone":"fix","count":4}"#,
                "`count`: expected an integer from 1 to 3",
                422,
            ),
            (
                r#"{"text":"x","tone":"fix","n":1}"#,
                "`n` is not a field here; the fields are text, tone, count",
                422,
            ),
            (&long, "`text` has 1001 bytes, and the most is 1000", 413),
            (
                "[",
                "not valid JSON: EOF while parsing a list at line 1 column 1",
                400,
            ),
        ] {
            let error = read(text).unwrap_err();
            assert_eq!(
                (error.to_string().as_str(), error.status()),
                (expected, status)
            );
        }
        mutate(br#"{"text":"x","tone":"fix","count":2}"#, 3_000, |text| {
            if let Ok(request) = Request::from_json(text, LIMIT) {
                assert_eq!(request.check(LIMIT), Ok(()));
            }
        });
    }

    #[test]
    fn responses_go_there_and_back() {
        let response = Response {
            suggestions: vec!["one".into(), "two".into()],
            usage: Usage::default(),
            model: "small".into(),
        };
        assert_eq!(
            Response::from_json(&response.to_json()),
            Ok(response.clone())
        );
        assert!(!format!("{response:?}").contains("one"));
    }
}
