//! JSON as received from strangers (RFC 8259): limits on depth and number of values, no duplicate keys, and errors
//! that say where.
//!
//! The text is read into [`Value`]s first and looked at field by field then, because an error should name the field
//! (`messages[3].text`), which a derived deserializer cannot.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::fmt;
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor,
};
use zeroize::Zeroizing;

/// The most bytes of a JSON text. More than a padded message can hold, so that a field that is too long gets the
/// error that names it.
pub(crate) const MAX_TEXT_BYTES: usize = 1 << 20;

/// The deepest nesting of arrays and objects.
pub(crate) const MAX_DEPTH: usize = 16;

/// The most values: objects, arrays, strings, numbers, ...
pub(crate) const MAX_VALUES: usize = 1 << 14;

/// The most members of one object: keeps the search for duplicate keys short.
const MAX_MEMBERS: usize = 64;

/// The most characters of a key that an error repeats.
const SHOWN_KEY_CHARS: usize = 64;

/// Why a text is not JSON that we take.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum JsonError {
    /// It has too many bytes.
    TooLarge {
        /// The most bytes.
        limit_bytes: usize,
        /// Its bytes.
        found_bytes: usize,
    },
    /// It is not JSON, or not UTF-8.
    Syntax {
        /// What is wrong, and at which line and column.
        reason: String,
    },
    /// Arrays and objects are nested too deeply.
    TooDeep {
        /// The deepest nesting.
        limit: usize,
    },
    /// There are too many values.
    TooManyValues {
        /// The most values.
        limit: usize,
    },
    /// An object has the same key twice.
    DuplicateKey {
        /// The beginning of the key.
        key: String,
    },
}

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge {
                limit_bytes,
                found_bytes,
            } => {
                write!(
                    f,
                    "the JSON text has {found_bytes} bytes, and the most is {limit_bytes}"
                )
            }
            Self::Syntax { reason } => write!(f, "not valid JSON: {reason}"),
            Self::TooDeep { limit } => {
                write!(f, "arrays and objects are nested more than {limit} deep")
            }
            Self::TooManyValues { limit } => write!(f, "there are more than {limit} values"),
            Self::DuplicateKey { key } => write!(f, "an object has the key `{key}` twice"),
        }
    }
}

impl core::error::Error for JsonError {}

/// A JSON value. Strings are wiped when they are dropped.
#[derive(Debug, PartialEq)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    /// An integer from 0 to 2^64 - 1.
    Unsigned(u64),
    /// Any other number.
    Number(f64),
    String(Zeroizing<String>),
    Array(Vec<Value>),
    /// In the order of the text; keys are distinct.
    Object(Vec<(String, Value)>),
}

impl Value {
    /// The type's name as an error gives it.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Unsigned(_) => "an integer",
            Self::Number(_) => "a number that is not an integer from 0 on",
            Self::String(_) => "a string",
            Self::Array(_) => "an array",
            Self::Object(_) => "an object",
        }
    }

    /// Reads one JSON text, which must be all of `text` but white space.
    pub(crate) fn parse(text: &[u8]) -> Result<Self, JsonError> {
        if text.len() > MAX_TEXT_BYTES {
            return Err(JsonError::TooLarge {
                limit_bytes: MAX_TEXT_BYTES,
                found_bytes: text.len(),
            });
        }
        let state = State::default();
        let mut deserializer = serde_json::Deserializer::from_slice(text);
        let value = Seed {
            state: &state,
            depth: 0,
        }
        .deserialize(&mut deserializer);
        let value = value.and_then(|value| deserializer.end().map(|()| value));
        value.map_err(|error| {
            state.error.take().unwrap_or(JsonError::Syntax {
                reason: error.to_string(),
            })
        })
    }
}

/// Reads a JSON text into a type of ours whose unknown members are passed over: what a server answered.
pub(crate) fn read<T: DeserializeOwned>(text: &[u8]) -> Result<T, JsonError> {
    if text.len() > MAX_TEXT_BYTES {
        return Err(JsonError::TooLarge {
            limit_bytes: MAX_TEXT_BYTES,
            found_bytes: text.len(),
        });
    }
    serde_json::from_slice(text).map_err(|error| JsonError::Syntax {
        reason: error.to_string(),
    })
}

/// What is counted over the whole text, and the error that `serde` cannot carry.
#[derive(Default)]
struct State {
    values: Cell<usize>,
    error: RefCell<Option<JsonError>>,
}

impl State {
    fn refuse<E: Error>(&self, error: JsonError) -> E {
        self.error.replace(Some(error));
        E::custom("over a limit")
    }
}

#[derive(Clone, Copy)]
struct Seed<'s> {
    state: &'s State,
    depth: usize,
}

impl Seed<'_> {
    /// The seed of what is inside an array or object.
    fn inner<E: Error>(self) -> Result<Self, E> {
        if self.depth == MAX_DEPTH {
            return Err(self.state.refuse(JsonError::TooDeep { limit: MAX_DEPTH }));
        }
        Ok(Self {
            depth: self.depth + 1,
            ..self
        })
    }

    fn count<E: Error>(self) -> Result<(), E> {
        let values = self.state.values.get() + 1;
        self.state.values.set(values);
        if values > MAX_VALUES {
            return Err(self
                .state
                .refuse(JsonError::TooManyValues { limit: MAX_VALUES }));
        }
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.count()?;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Unsigned(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value as f64))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Number(value))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(Zeroizing::new(value.into())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let inner = self.inner()?;
        let mut values = Vec::new();
        while let Some(value) = access.next_element_seed(inner)? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let inner = self.inner()?;
        let mut members: Vec<(String, Value)> = Vec::new();
        while let Some(key) = access.next_key::<String>()? {
            if members.len() == MAX_MEMBERS {
                return Err(self
                    .state
                    .refuse(JsonError::TooManyValues { limit: MAX_MEMBERS }));
            }
            if members.iter().any(|(other, _)| *other == key) {
                let key = key.chars().take(SHOWN_KEY_CHARS).collect();
                return Err(self.state.refuse(JsonError::DuplicateKey { key }));
            }
            members.push((key, access.next_value_seed(inner)?));
        }
        Ok(Value::Object(members))
    }
}

#[cfg(test)]
mod tests;
