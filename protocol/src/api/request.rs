//! Requests as JSON: why one is refused, in words that name the field, and what their readers share.

use super::json::{JsonError, Value};
use super::problem::{self, Problem};
use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

/// Why a request was refused.
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
    /// There is nothing in it, or no text.
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
    /// A value of the right type is not one that is taken.
    Invalid {
        /// The field.
        field: String,
        /// What it should hold.
        expected: &'static str,
    },
    /// It asks for something that this server does not have.
    Unsupported {
        /// The field.
        field: String,
        /// What is missing.
        reason: &'static str,
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
            | Self::Invalid { field, .. }
            | Self::Unsupported { field, .. }
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
            Self::Empty { field } => write!(f, "`{field}` has no text"),
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
            Self::Invalid { field, expected } => write!(f, "`{field}`: expected {expected}"),
            Self::Unsupported { field, reason } => write!(f, "`{field}`: {reason}"),
            Self::OutOfRange { field, min, max } => {
                write!(f, "`{field}`: expected an integer from {min} to {max}")
            }
        }
    }
}

impl core::error::Error for RequestError {}

/// An object whose members are taken one after the other.
pub(crate) struct Object {
    members: Vec<(String, Value)>,
}

impl Object {
    /// An object with members of these names only. `path` goes before the names in errors: empty, or as in
    /// `messages[3].`.
    pub(crate) fn new(
        path: &str,
        value: Value,
        known: &'static [&'static str],
    ) -> Result<Self, RequestError> {
        let object = Self::open(path, value)?;
        match object
            .members
            .iter()
            .find(|(name, _)| !known.contains(&name.as_str()))
        {
            Some((name, _)) => Err(RequestError::Unknown {
                field: format!("{path}{}", beginning(name)),
                known,
            }),
            None => Ok(object),
        }
    }

    /// An object that may have members of any name.
    pub(crate) fn open(path: &str, value: Value) -> Result<Self, RequestError> {
        match value {
            Value::Object(members) => Ok(Self { members }),
            other => {
                let field = path.trim_end_matches('.').to_owned();
                Err(wrong_type(field, "an object", &other))
            }
        }
    }

    /// The member of this name, unless it is null.
    pub(crate) fn take_set(&mut self, name: &str) -> Option<Value> {
        self.take(name).filter(|value| *value != Value::Null)
    }

    pub(crate) fn take(&mut self, name: &str) -> Option<Value> {
        let index = self.members.iter().position(|(other, _)| other == name)?;
        Some(self.members.swap_remove(index).1)
    }
}

/// The most characters of an unknown name that an error repeats.
pub(crate) const SHOWN_NAME_CHARS: usize = 64;

fn beginning(name: &str) -> String {
    name.chars().take(SHOWN_NAME_CHARS).collect()
}

pub(crate) fn missing(field: impl Into<String>, expected: &'static str) -> RequestError {
    RequestError::Missing {
        field: field.into(),
        expected,
    }
}

pub(crate) fn wrong_type(
    field: impl Into<String>,
    expected: &'static str,
    found: &Value,
) -> RequestError {
    RequestError::WrongType {
        field: field.into(),
        expected,
        found: found.kind(),
    }
}

pub(crate) fn read_string(path: &str, name: &str, value: Value) -> Result<String, RequestError> {
    match value {
        Value::String(mut text) => Ok(core::mem::take(&mut *text)),
        other => Err(wrong_type(format!("{path}{name}"), "a string", &other)),
    }
}

/// A text that may not be longer than `limit_bytes`.
pub(crate) fn check_length(
    field: &str,
    text: &str,
    limit_bytes: usize,
) -> Result<(), RequestError> {
    if text.len() <= limit_bytes {
        return Ok(());
    }
    Err(RequestError::TooLong {
        field: field.to_owned(),
        limit_bytes,
        found_bytes: text.len(),
    })
}

/// An integer from 1 to `max`.
pub(crate) fn read_integer(field: &str, value: &Value, max: u32) -> Result<u32, RequestError> {
    match value {
        Value::Unsigned(number) => check_integer(field, *number, max),
        // Of a number, the range says more than the type.
        Value::Number(_) => check_integer(field, 0, max),
        other => Err(wrong_type(field, "an integer", other)),
    }
}

/// Whether a number is from 1 to `max`.
pub(crate) fn check_integer(field: &str, number: u64, max: u32) -> Result<u32, RequestError> {
    let in_range = u32::try_from(number)
        .ok()
        .filter(|number| (1..=max).contains(number));
    in_range.ok_or_else(|| RequestError::OutOfRange {
        field: field.to_owned(),
        min: 1,
        max: max.into(),
    })
}

/// True or false.
pub(crate) fn read_bool(field: &str, value: &Value) -> Result<bool, RequestError> {
    match value {
        Value::Bool(value) => Ok(*value),
        other => Err(wrong_type(field, "a boolean", other)),
    }
}
