//! Oblivious HTTP: encapsulated requests and responses (RFC 9458, section 4), whole or in chunks
//! (draft-ietf-ohai-chunked-ohttp).
//!
//! ```
//! # use cloister_protocol::{keyconfig, ohttp::{Client, Gateway}};
//! # fn exchange(rng: &mut impl rand_core::CryptoRng) -> Result<(), Box<dyn std::error::Error>> {
//! let gateway = Gateway::generate(rng);
//! let keys = keyconfig::decode_list(&gateway.key_configs())?;
//!
//! let client = Client::new(keys.preferred());
//! let (sealed_request, opener) = client.encapsulate(rng, b"a binary HTTP request")?;
//!
//! let (request, sealer) = gateway.decapsulate(&sealed_request)?;
//! assert_eq!(&request[..], b"a binary HTTP request");
//! let sealed_response = sealer.seal(rng, b"a binary HTTP response");
//!
//! assert_eq!(&opener.open(&sealed_response)?[..], b"a binary HTTP response");
//! # Ok(())
//! # }
//! ```

pub mod chunked;
mod client;
pub(crate) mod context;
mod gateway;
mod header;
mod response;

pub use client::{Client, ResponseOpener};
pub use gateway::{Gateway, ResponseSealer};

use crate::padding::MAX_MESSAGE_BYTES;
use crate::suite::{Kem, TAG_BYTES};
use core::fmt;

/// The most bytes that encapsulation adds to a request: header, encapsulated X-Wing key, tag.
pub const MAX_REQUEST_OVERHEAD_BYTES: usize =
    header::HEADER_BYTES + Kem::XWing.encapsulated_key_bytes() + TAG_BYTES;

/// The most bytes that encapsulation adds to a response: nonce and tag.
pub const MAX_RESPONSE_OVERHEAD_BYTES: usize = 32 + TAG_BYTES;

/// The largest encapsulated request of a message that fits the largest bucket of [`crate::padding`].
pub const MAX_ENCAPSULATED_REQUEST_BYTES: usize = MAX_MESSAGE_BYTES + MAX_REQUEST_OVERHEAD_BYTES;

/// The most bytes that encapsulation in chunks adds to a request that fits the largest bucket of [`crate::padding`], with
/// chunks of [`chunked::MAX_CHUNK_BYTES`]: header, encapsulated X-Wing key, and for each chunk its length and tag.
pub const MAX_CHUNKED_REQUEST_OVERHEAD_BYTES: usize = MAX_REQUEST_OVERHEAD_BYTES
    + (MAX_MESSAGE_BYTES / chunked::MAX_CHUNK_BYTES + 1) * (TAG_BYTES + 4);

/// The largest encapsulated response of a message that fits the largest bucket of [`crate::padding`].
pub const MAX_ENCAPSULATED_RESPONSE_BYTES: usize = MAX_MESSAGE_BYTES + MAX_RESPONSE_OVERHEAD_BYTES;

/// Why an encapsulated message could not be made or opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OhttpError {
    /// The message is shorter than its fixed parts, or ends in the middle of a chunk.
    Truncated,
    /// The gateway has no key of this id: the key config is outdated or from elsewhere.
    UnknownKey {
        /// The id that the request names.
        key_id: u8,
    },
    /// The key of this id is for another KEM, or the symmetric suite is not one that was offered with it.
    UnsupportedSuite {
        /// The id that the request names.
        key_id: u8,
    },
    /// A public or encapsulated key is invalid (RFC 9180, section 7.1.4).
    InvalidKey,
    /// The bytes were altered, reordered, cut off at a chunk, or sealed for another key.
    Unopenable,
    /// A chunk is larger than [`chunked::MAX_CHUNK_BYTES`] of content.
    ChunkTooLarge,
    /// A chunk that is not the final one has no content.
    EmptyChunk,
    /// More chunks than one context may seal.
    TooManyChunks,
}

impl fmt::Display for OhttpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => write!(f, "the encapsulated message is cut short"),
            Self::UnknownKey { key_id } => write!(f, "there is no key with id {key_id}"),
            Self::UnsupportedSuite { key_id } => {
                write!(f, "key {key_id} was not offered with these algorithms")
            }
            Self::InvalidKey => write!(f, "a public or encapsulated key is invalid"),
            Self::Unopenable => write!(
                f,
                "the encapsulated message cannot be opened: altered, or for another key"
            ),
            Self::ChunkTooLarge => write!(f, "a chunk has over {} bytes", chunked::MAX_CHUNK_BYTES),
            Self::EmptyChunk => write!(f, "a chunk before the final one is empty"),
            Self::TooManyChunks => write!(f, "there are more chunks than one key may protect"),
        }
    }
}

impl core::error::Error for OhttpError {}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod vectors;
