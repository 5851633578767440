//! The tokenizer section of a model pack, made from the metadata of a GGUF file.

use std::{collections::HashMap, fmt};

use candle_core::quantized::gguf_file::{Content, Value};
use cloister_engine::tokenizer::{
    ChatTemplate, PreTokenizer,
    data::{self, DataError, Source, SourceMerge, SourceToken, TokenKind},
};

/// Special tokens that end an answer, besides the one that the file names.
const STOP_NAMES: [&str; 2] = ["<|im_end|>", "<|endoftext|>"];

/// Why the tokenizer of a GGUF file cannot be used.
#[derive(Debug)]
#[non_exhaustive]
pub enum TokenizerError {
    /// A metadata key is missing or has another type.
    Metadata(&'static str),
    /// The file asks for something that the engine does not do.
    Unsupported {
        /// The metadata key.
        key: &'static str,
        /// What it holds.
        value: String,
    },
    /// A token has a character that stands for no byte.
    Token(u32),
    /// A merge does not name two tokens that together are a third.
    Merge(String),
    /// The section is refused by the engine.
    Section(DataError),
}

impl fmt::Display for TokenizerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Metadata(key) => write!(f, "GGUF metadata `{key}` is missing or of another type"),
            Self::Unsupported { key, value } => {
                write!(f, "GGUF metadata `{key}`: `{value}` is not supported")
            }
            Self::Token(id) => write!(f, "token {id} is not spelt in the byte alphabet"),
            Self::Merge(merge) => write!(f, "merge `{merge}` does not join two tokens to a third"),
            Self::Section(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for TokenizerError {}

impl From<DataError> for TokenizerError {
    fn from(error: DataError) -> Self {
        Self::Section(error)
    }
}

/// Writes the tokenizer section for a GGUF file; the same file gives the same bytes.
///
/// # Errors
/// The metadata is incomplete, or asks for what the engine does not do.
pub fn section(content: &Content) -> Result<Vec<u8>, TokenizerError> {
    Ok(data::encode(&source(content)?)?)
}

/// Reads the tokenizer of a GGUF file.
///
/// # Errors
/// The metadata is incomplete, or asks for what the engine does not do.
pub fn source(content: &Content) -> Result<Source, TokenizerError> {
    const MODEL: &str = "tokenizer.ggml.model";
    let model = text(content, MODEL)?;
    if model != "gpt2" {
        return Err(TokenizerError::Unsupported {
            key: MODEL,
            value: model.to_owned(),
        });
    }
    refuse_flag(content, "tokenizer.ggml.add_bos_token")?;
    refuse_flag(content, "tokenizer.ggml.add_eos_token")?;
    let names = strings(content, "tokenizer.ggml.tokens")?;
    let tokens = tokens(content, &names)?;
    Ok(Source {
        pre_tokenizer: pre_tokenizer(content)?,
        chat_template: chat_template(content)?,
        merges: merges(content, &names)?,
        stops: stops(content, &names)?,
        tokens,
    })
}

fn pre_tokenizer(content: &Content) -> Result<PreTokenizer, TokenizerError> {
    const KEY: &str = "tokenizer.ggml.pre";
    match text(content, KEY)? {
        "qwen2" => Ok(PreTokenizer::Qwen2),
        "smollm" => Ok(PreTokenizer::SmolLm),
        other => Err(TokenizerError::Unsupported {
            key: KEY,
            value: other.to_owned(),
        }),
    }
}

/// The template is a program (Jinja); what it prints is told by the marks that it uses.
fn chat_template(content: &Content) -> Result<ChatTemplate, TokenizerError> {
    const KEY: &str = "tokenizer.chat_template";
    let template = text(content, KEY)?;
    if template.contains("<|im_start|>") && template.contains("<|im_end|>") {
        Ok(ChatTemplate::ChatMl)
    } else {
        Err(TokenizerError::Unsupported {
            key: KEY,
            value: template.chars().take(80).collect(),
        })
    }
}

fn tokens(content: &Content, names: &[&str]) -> Result<Vec<SourceToken>, TokenizerError> {
    const KEY: &str = "tokenizer.ggml.token_type";
    let kinds = array(content, KEY)?;
    if kinds.len() != names.len() {
        return Err(TokenizerError::Metadata(KEY));
    }
    let alphabet = byte_alphabet();
    let token = |(id, (kind, name)): (u32, (&Value, &&str))| {
        let kind = match integer(kind) {
            Some(1) => TokenKind::Normal,
            Some(3) => TokenKind::Control,
            Some(4) => TokenKind::UserDefined,
            Some(2 | 5) => TokenKind::Unused,
            _ => return Err(TokenizerError::Metadata(KEY)),
        };
        let bytes = match kind {
            TokenKind::Normal => {
                let bytes: Option<Vec<u8>> =
                    name.chars().map(|c| alphabet.get(&c).copied()).collect();
                bytes.ok_or(TokenizerError::Token(id))?
            }
            _ => name.as_bytes().to_vec(),
        };
        Ok(SourceToken { bytes, kind })
    };
    (0..).zip(kinds.iter().zip(names)).map(token).collect()
}

/// The characters in which a byte-level vocabulary spells bytes: printable ones stand for themselves,
/// the others are numbered from U+0100 (GPT-2's `bytes_to_unicode`).
fn byte_alphabet() -> HashMap<char, u8> {
    let printable = |byte: u8| matches!(byte, 0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF);
    let mut next = 0x100..;
    let spell = |byte: u8| match printable(byte) {
        true => (char::from(byte), byte),
        false => (
            next.next()
                .and_then(char::from_u32)
                .expect("at most 256 from U+0100"),
            byte,
        ),
    };
    (0..=u8::MAX).map(spell).collect()
}

fn merges(content: &Content, names: &[&str]) -> Result<Vec<SourceMerge>, TokenizerError> {
    let ids: HashMap<&str, u32> = names.iter().copied().zip(0..).collect();
    let merge = |text: &str| {
        let (left, right) = text.split_once(' ')?;
        let id = |name: &str| ids.get(name).copied();
        Some(SourceMerge {
            left: id(left)?,
            right: id(right)?,
            result: id(&[left, right].concat())?,
        })
    };
    strings(content, "tokenizer.ggml.merges")?
        .into_iter()
        .map(|text| merge(text).ok_or_else(|| TokenizerError::Merge(text.to_owned())))
        .collect()
}

fn stops(content: &Content, names: &[&str]) -> Result<Vec<u32>, TokenizerError> {
    const KEY: &str = "tokenizer.ggml.eos_token_id";
    let eos = content
        .metadata
        .get(KEY)
        .and_then(integer)
        .ok_or(TokenizerError::Metadata(KEY))?;
    let named = STOP_NAMES
        .iter()
        .filter_map(|stop| names.iter().position(|name| name == stop));
    let mut stops: Vec<u32> = named.map(|id| id as u32).chain([eos]).collect();
    stops.sort_unstable();
    stops.dedup();
    Ok(stops)
}

fn refuse_flag(content: &Content, key: &'static str) -> Result<(), TokenizerError> {
    match content.metadata.get(key) {
        None | Some(Value::Bool(false)) => Ok(()),
        Some(other) => Err(TokenizerError::Unsupported {
            key,
            value: format!("{other:?}"),
        }),
    }
}

fn text<'c>(content: &'c Content, key: &'static str) -> Result<&'c str, TokenizerError> {
    match content.metadata.get(key) {
        Some(Value::String(text)) => Ok(text),
        _ => Err(TokenizerError::Metadata(key)),
    }
}

fn array<'c>(content: &'c Content, key: &'static str) -> Result<&'c [Value], TokenizerError> {
    match content.metadata.get(key) {
        Some(Value::Array(values)) => Ok(values),
        _ => Err(TokenizerError::Metadata(key)),
    }
}

fn strings<'c>(content: &'c Content, key: &'static str) -> Result<Vec<&'c str>, TokenizerError> {
    let string = |value: &'c Value| match value {
        Value::String(text) => Ok(text.as_str()),
        _ => Err(TokenizerError::Metadata(key)),
    };
    array(content, key)?.iter().map(string).collect()
}

fn integer(value: &Value) -> Option<u32> {
    match *value {
        Value::U8(value) => Some(value.into()),
        Value::U16(value) => Some(value.into()),
        Value::U32(value) => Some(value),
        Value::I32(value) => u32::try_from(value).ok(),
        Value::U64(value) => u32::try_from(value).ok(),
        _ => None,
    }
}
