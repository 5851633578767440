//! Anonymous tokens: a client shows that an issuer let it in, and neither the issuer nor anyone else can tell from the
//! token who it was. Privacy Pass (RFC 9576), token type 2: blind RSA, 2048 bits, publicly verifiable.
//!
//! | module | what | specification |
//! |---|---|---|
//! | [`challenge`] | what a token is for | RFC 9577, section 2.1 |
//! | [`token`] | the token | RFC 9577, section 2.2 |
//! | [`field`] | `WWW-Authenticate` and `Authorization` | RFC 9577, sections 2.1, 2.2 |
//! | [`key`] | the issuer's public key, and the check of a token | RFC 9578, section 6.5 |
//! | [`spent`] | tokens that were spent, in a memory that never grows | |
//! | [`origin`] | who takes tokens, each once | RFC 9577, section 2 |
//! | [`request`] (feature `host`) | asking an issuer for a token | RFC 9578, sections 6.1, 6.3 |
//! | [`issuer`] (feature `host`) | making tokens | RFC 9578, section 6.2 |
//! | [`directory`] (feature `host`) | an issuer's keys | RFC 9578, section 4 |
//! | [`description`] (feature `host`) | the file that names an issuer, for images | |
//!
//! Nothing here opens a file or a socket, or reads a clock; random numbers are handed in. Whatever is decoded has limits
//! and an enum error.

#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

#[cfg(feature = "host")]
mod blind;
pub mod challenge;
#[cfg(feature = "host")]
pub mod description;
#[cfg(feature = "host")]
pub mod directory;
pub mod field;
#[cfg(feature = "host")]
pub mod issuer;
pub mod key;
pub mod origin;
#[cfg(feature = "host")]
pub mod request;
pub mod spent;
pub mod token;

pub use challenge::TokenChallenge;
pub use key::TokenKey;
pub use origin::Origin;
pub use token::Token;

/// Token type of blind RSA with 2048 bits (RFC 9578, section 8.2.2).
pub const TOKEN_TYPE: u16 = 2;

/// Bytes of a nonce, a digest of a challenge, a key's id (all SHA-256).
pub const DIGEST_BYTES: usize = 32;

/// Bytes of a modulus, a signature, a blinded message: 2048 bits.
pub const RSA_BYTES: usize = 256;
