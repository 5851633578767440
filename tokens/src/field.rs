//! The HTTP authentication scheme `PrivateToken`: challenges in `WWW-Authenticate`, tokens in `Authorization` (RFC 9577,
//! sections 2.1 and 2.2; RFC 9110, section 11).

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use base64ct::{Base64Url, Encoding};
use core::fmt;

use crate::challenge::TokenChallenge;
use crate::key::TokenKey;
use crate::token::Token;

/// The scheme's name; it is compared without regard to case.
pub const SCHEME: &str = "PrivateToken";

/// The most bytes of a field's value.
pub const MAX_FIELD_BYTES: usize = 8 << 10;
/// The most challenges of this scheme that are read of one field.
pub const MAX_OFFERS: usize = 8;

/// Why a field has nothing of this scheme.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FieldError {
    /// It has more than [`MAX_FIELD_BYTES`].
    TooLong,
    /// It is not what RFC 9110, section 11, describes.
    Syntax,
    /// It has another scheme.
    Scheme,
    /// The parameter is missing, or given twice.
    Parameter(&'static str),
    /// The parameter is not base64url with padding, or not what it should be.
    Value(&'static str),
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong => write!(f, "the field has more than {MAX_FIELD_BYTES} bytes"),
            Self::Syntax => write!(f, "the field is not a list of authentication parameters"),
            Self::Scheme => write!(f, "the field has another scheme than {SCHEME}"),
            Self::Parameter(name) => write!(f, "the parameter {name} is missing, or there twice"),
            Self::Value(name) => write!(
                f,
                "the parameter {name} is not base64url with padding, or not of token type 2"
            ),
        }
    }
}

impl core::error::Error for FieldError {}

/// A challenge, and the key of the issuer whose tokens answer it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// What the token is for.
    pub challenge: TokenChallenge,
    /// Who signs it.
    pub token_key: TokenKey,
    /// Seconds that the challenge stays good, if that is said.
    pub max_age_s: Option<u64>,
}

impl Offer {
    /// The value of `WWW-Authenticate`.
    #[must_use]
    pub fn to_field(&self) -> String {
        let challenge = Base64Url::encode_string(&self.challenge.encode());
        let max_age = match self.max_age_s {
            Some(seconds) => format!(", max-age=\"{seconds}\""),
            None => String::new(),
        };
        let key = self.token_key.to_base64();
        format!("{SCHEME} challenge=\"{challenge}\", token-key=\"{key}\"{max_age}")
    }
}

/// The value of `Authorization` with this token.
#[must_use]
pub fn write_token(token: &Token) -> String {
    format!(
        "{SCHEME} token=\"{}\"",
        Base64Url::encode_string(&token.encode())
    )
}

/// Reads the token of an `Authorization` field.
///
/// # Errors
/// [`FieldError`].
pub fn read_token(value: &[u8]) -> Result<Token, FieldError> {
    let challenges = parse(value)?;
    let [given] = &challenges[..] else {
        return Err(FieldError::Scheme);
    };
    if !given.is_ours() {
        return Err(FieldError::Scheme);
    }
    let token = given.bytes("token")?;
    Token::decode(&token).ok_or(FieldError::Value("token"))
}

/// Reads the challenges of a `WWW-Authenticate` field that are for tokens of type 2; others are passed over. At most
/// [`MAX_OFFERS`] of this scheme are looked at.
///
/// # Errors
/// [`FieldError`], also where one of this scheme is malformed.
pub fn read_offers(value: &[u8]) -> Result<Vec<Offer>, FieldError> {
    let mut offers = Vec::new();
    let challenges = parse(value)?;
    for given in challenges
        .iter()
        .filter(|given| given.is_ours())
        .take(MAX_OFFERS)
    {
        let challenge = given.bytes("challenge")?;
        if challenge.get(..2) != Some(&crate::TOKEN_TYPE.to_be_bytes()) {
            continue;
        }
        let challenge = TokenChallenge::decode(&challenge);
        let token_key = TokenKey::from_spki(&given.bytes("token-key")?);
        offers.push(Offer {
            challenge: challenge.map_err(|_| FieldError::Value("challenge"))?,
            token_key: token_key.map_err(|_| FieldError::Value("token-key"))?,
            max_age_s: match given.parameter("max-age") {
                Ok(seconds) => Some(seconds.parse().map_err(|_| FieldError::Value("max-age"))?),
                Err(_) => None,
            },
        });
    }
    Ok(offers)
}

/// A scheme with its parameters, which borrow from the field.
struct Given<'a> {
    scheme: &'a str,
    parameters: Vec<(&'a str, &'a str)>,
}

impl Given<'_> {
    fn is_ours(&self) -> bool {
        self.scheme.eq_ignore_ascii_case(SCHEME)
    }

    fn parameter(&self, name: &'static str) -> Result<&str, FieldError> {
        let mut found = self
            .parameters
            .iter()
            .filter(|(other, _)| other.eq_ignore_ascii_case(name));
        match (found.next(), found.next()) {
            (Some((_, value)), None) => Ok(value),
            _ => Err(FieldError::Parameter(name)),
        }
    }

    fn bytes(&self, name: &'static str) -> Result<Vec<u8>, FieldError> {
        Base64Url::decode_vec(self.parameter(name)?).map_err(|_| FieldError::Value(name))
    }
}

/// Takes a list of schemes with parameters apart. Quoted values with a backslash are not taken: nothing that is read here
/// has one.
fn parse(value: &[u8]) -> Result<Vec<Given<'_>>, FieldError> {
    if value.len() > MAX_FIELD_BYTES {
        return Err(FieldError::TooLong);
    }
    let mut rest = core::str::from_utf8(value).map_err(|_| FieldError::Syntax)?;
    let mut all: Vec<Given<'_>> = Vec::new();
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        if rest.is_empty() {
            return Ok(all);
        }
        let (name, behind) = split_token(rest)?;
        let after = behind.trim_start_matches([' ', '\t']);
        let Some(value) = after.strip_prefix('=') else {
            all.push(Given {
                scheme: name,
                parameters: Vec::new(),
            });
            // A scheme is followed by a space, the end or the next one.
            rest = match after.len() == behind.len() && !after.is_empty() && !after.starts_with(',')
            {
                true => return Err(FieldError::Syntax),
                false => after,
            };
            continue;
        };
        let (value, behind) = split_value(value)?;
        let given = all.last_mut().ok_or(FieldError::Syntax)?;
        given.parameters.push((name, value));
        rest = behind.trim_start_matches([' ', '\t']);
        if !rest.is_empty() && !rest.starts_with(',') {
            return Err(FieldError::Syntax);
        }
    }
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~/".contains(&byte)
}

/// A token at the front, with `/` as in the credentials of other schemes, and what follows.
fn split_token(text: &str) -> Result<(&str, &str), FieldError> {
    let length = text.bytes().take_while(|byte| is_token(*byte)).count();
    match length {
        0 => Err(FieldError::Syntax),
        _ => Ok(text.split_at(length)),
    }
}

/// A parameter's value, quoted or not, or the rest of the padding of other schemes' credentials.
fn split_value(text: &str) -> Result<(&str, &str), FieldError> {
    let text = text.trim_start_matches([' ', '\t']);
    if let Some(quoted) = text.strip_prefix('"') {
        let (value, behind) = quoted.split_once('"').ok_or(FieldError::Syntax)?;
        return match value.contains('\\') {
            true => Err(FieldError::Syntax),
            false => Ok((value, behind)),
        };
    }
    let length = text
        .bytes()
        .take_while(|byte| is_token(*byte) || *byte == b'=')
        .count();
    Ok(text.split_at(length))
}

#[cfg(test)]
mod tests;
