//! Signed notes (C2SP signed-note): a text, an empty line, signature lines.

use crate::base64;
use crate::cosignature;
use crate::key::{KeyId, KeyType, SigningKey, VerifierKey, is_name};
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

#[cfg(test)]
mod tests;

/// The most bytes of a note, signatures included.
pub const MAX_NOTE_BYTES: usize = 256 << 10;

/// The most signatures of a note; the specification asks for 16 at least.
pub const MAX_SIGNATURES: usize = 64;

/// The most bytes of one signature without its key id; the largest that there is a type for has 2,428.
pub const MAX_SIGNATURE_BYTES: usize = 8 << 10;

/// What a signature line begins with: an em dash and a space.
const LINE_PREFIX: &str = "\u{2014} ";

/// Why a note was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NoteError {
    /// It has more bytes than the limit.
    TooLarge {
        /// Bytes of the note.
        bytes: usize,
    },
    /// It is not UTF-8.
    NotUtf8,
    /// It has a control character other than newline.
    ControlCharacter {
        /// Where, in bytes from the start.
        at: usize,
    },
    /// There is no empty line between a text and signatures, or the text or the last line has no newline.
    Format,
    /// There is no signature.
    Unsigned,
    /// There are more signatures than the limit.
    TooManySignatures,
    /// A signature line is malformed: dash, name, or canonical base 64 of a key id and a signature.
    SignatureLine {
        /// Which, from 0.
        line: usize,
    },
    /// No signature is by a key that is trusted.
    NoTrustedSignature,
    /// A signature names a key that is trusted, and is not by that key.
    InvalidSignature {
        /// The key's name.
        name: String,
        /// The key's id.
        key_id: KeyId,
    },
}

impl fmt::Display for NoteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge { bytes } => {
                write!(f, "a note of {bytes} bytes is over {MAX_NOTE_BYTES}")
            }
            Self::NotUtf8 => write!(f, "the note is not UTF-8"),
            Self::ControlCharacter { at } => {
                write!(f, "the note has a control character at byte {at}")
            }
            Self::Format => write!(
                f,
                "the note is not a text, an empty line and signature lines"
            ),
            Self::Unsigned => write!(f, "the note has no signature"),
            Self::TooManySignatures => {
                write!(f, "the note has more than {MAX_SIGNATURES} signatures")
            }
            Self::SignatureLine { line } => write!(f, "signature line {line} is malformed"),
            Self::NoTrustedSignature => write!(f, "no signature is by a trusted key"),
            Self::InvalidSignature { name, key_id } => {
                write!(
                    f,
                    "a signature that names the key {name}+{key_id} is not by it"
                )
            }
        }
    }
}

impl core::error::Error for NoteError {}

/// A signature line; whether it holds is not known yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// The name of the key.
    pub name: String,
    /// The id of the key.
    pub key_id: KeyId,
    /// The signature, in the form of the key's type.
    pub bytes: Vec<u8>,
}

impl Signature {
    /// Reads a line without its newline.
    pub(crate) fn parse_line(line: &str) -> Option<Self> {
        let (name, text) = line.strip_prefix(LINE_PREFIX)?.split_once(' ')?;
        if !is_name(name) || base64::decoded_bytes(text.len()) > MAX_SIGNATURE_BYTES + 8 {
            return None;
        }
        let decoded = base64::decode(text)?;
        let (key_id, bytes) = decoded.split_first_chunk::<4>()?;
        let fits = !bytes.is_empty() && bytes.len() <= MAX_SIGNATURE_BYTES;
        fits.then(|| Self {
            name: name.into(),
            key_id: KeyId(*key_id),
            bytes: bytes.into(),
        })
    }
}

/// The line with its newline.
impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let encoded = base64::encode(&[&self.key_id.0[..], &self.bytes].concat());
        writeln!(f, "{LINE_PREFIX}{} {encoded}", self.name)
    }
}

/// A signature that holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Which of the trusted keys made it: its place in the list.
    pub key: usize,
    /// When, in seconds since 1970; only cosignatures say.
    pub time_s: Option<u64>,
}

/// A text with signatures. The text may only be used once a signature is verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    text: String,
    signatures: Vec<Signature>,
}

impl Note {
    /// A note without signatures yet. `text` ends in a newline and has no other control character.
    ///
    /// # Errors
    /// [`NoteError`].
    pub fn new(text: &str) -> Result<Self, NoteError> {
        check_characters(text)?;
        if !text.ends_with('\n') {
            return Err(NoteError::Format);
        }
        Ok(Self {
            text: text.into(),
            signatures: Vec::new(),
        })
    }

    /// Reads a note. What is read is written by `to_string` byte for byte.
    ///
    /// # Errors
    /// [`NoteError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, NoteError> {
        // Before it is looked at: the check of UTF-8 is work too.
        if bytes.len() > MAX_NOTE_BYTES {
            return Err(NoteError::TooLarge { bytes: bytes.len() });
        }
        let note = core::str::from_utf8(bytes).map_err(|_| NoteError::NotUtf8)?;
        check_characters(note)?;
        let at = note.rfind("\n\n").ok_or(NoteError::Format)?;
        let (text, lines) = (&note[..=at], &note[at + 2..]);
        Ok(Self {
            text: text.into(),
            signatures: parse_signatures(lines)?,
        })
    }

    /// The text, with its last newline.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The signatures as they came; those of keys and types that nobody here knows are among them.
    pub fn signatures(&self) -> &[Signature] {
        &self.signatures
    }

    /// The same text with other signatures.
    pub(crate) fn with_signatures(&self, mut signatures: Vec<Signature>) -> Self {
        signatures.truncate(MAX_SIGNATURES);
        Self {
            text: self.text.clone(),
            signatures,
        }
    }

    /// Adds the signature of `key`; of a cosigner's key with the time `now_s`, in seconds since 1970.
    ///
    /// # Errors
    /// [`NoteError::TooManySignatures`].
    pub fn sign(&mut self, key: &SigningKey, now_s: u64) -> Result<(), NoteError> {
        self.add(sign(key, &self.text, now_s))
    }

    /// Adds a signature line. One that is there already is not added again.
    ///
    /// # Errors
    /// [`NoteError::TooManySignatures`].
    pub fn add(&mut self, signature: Signature) -> Result<(), NoteError> {
        if self.signatures.contains(&signature) {
            return Ok(());
        }
        if self.signatures.len() == MAX_SIGNATURES {
            return Err(NoteError::TooManySignatures);
        }
        self.signatures.push(signature);
        Ok(())
    }

    /// The signatures by `keys`, one for each key that signed at most; of several by one cosigner, the newest.
    /// Signatures of other keys are ignored.
    ///
    /// # Errors
    /// [`NoteError::InvalidSignature`] where a line names one of the keys and is not by it,
    /// [`NoteError::NoTrustedSignature`] where none of the keys signed.
    pub fn verify<'k>(
        &self,
        keys: impl IntoIterator<Item = &'k VerifierKey>,
    ) -> Result<Vec<Verified>, NoteError> {
        let mut verified = Vec::new();
        for (at, key) in keys.into_iter().enumerate() {
            let named = self.signatures.iter().filter(|line| key.is_named_by(line));
            let times: Result<Vec<_>, _> = named.map(|line| check(key, &self.text, line)).collect();
            if let Some(time_s) = times?.into_iter().max() {
                verified.push(Verified { key: at, time_s });
            }
        }
        if verified.is_empty() {
            Err(NoteError::NoTrustedSignature)
        } else {
            Ok(verified)
        }
    }
}

/// The note as it is stored and sent.
impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.text)?;
        self.signatures
            .iter()
            .try_for_each(|line| write!(f, "{line}"))
    }
}

/// The signature of `key` on a text; of a cosigner's key with the time `now_s`.
pub fn sign(key: &SigningKey, text: &str, now_s: u64) -> Signature {
    let bytes = match key.verifier().key_type() {
        KeyType::Ed25519 => key.sign_ed25519(text.as_bytes()).to_vec(),
        KeyType::CosignatureV1 => cosignature::sign_with_key(key, text, now_s),
    };
    Signature {
        name: key.verifier().name().into(),
        key_id: key.verifier().id(),
        bytes,
    }
}

/// Checks one line that names `key`, and gives the time that it says.
pub(crate) fn check(
    key: &VerifierKey,
    text: &str,
    line: &Signature,
) -> Result<Option<u64>, NoteError> {
    let invalid = || NoteError::InvalidSignature {
        name: line.name.clone(),
        key_id: line.key_id,
    };
    match key.key_type() {
        KeyType::Ed25519 => {
            let bytes = line.bytes.as_slice().try_into().map_err(|_| invalid())?;
            let holds = key.verify_ed25519(text.as_bytes(), bytes);
            holds.then_some(None).ok_or_else(invalid)
        }
        KeyType::CosignatureV1 => {
            let time_s = cosignature::check(key, text, &line.bytes);
            time_s.map(Some).ok_or_else(invalid)
        }
    }
}

/// Reads signature lines, each with its newline; there is at least one.
pub(crate) fn parse_signatures(lines: &str) -> Result<Vec<Signature>, NoteError> {
    if lines.is_empty() {
        return Err(NoteError::Unsigned);
    }
    let lines = lines.strip_suffix('\n').ok_or(NoteError::Format)?;
    if lines.split('\n').take(MAX_SIGNATURES + 1).count() > MAX_SIGNATURES {
        return Err(NoteError::TooManySignatures);
    }
    let numbered = lines.split('\n').enumerate();
    numbered
        .map(|(line, text)| Signature::parse_line(text).ok_or(NoteError::SignatureLine { line }))
        .collect()
}

fn check_characters(text: &str) -> Result<(), NoteError> {
    if text.len() > MAX_NOTE_BYTES {
        return Err(NoteError::TooLarge { bytes: text.len() });
    }
    match text.bytes().position(|byte| byte < b' ' && byte != b'\n') {
        Some(at) => Err(NoteError::ControlCharacter { at }),
        None => Ok(()),
    }
}
