//! What client and guest say to each other.
//!
//! | module | what | specification |
//! |---|---|---|
//! | [`suite`] | HPKE algorithms and their sizes | RFC 9180, draft-ietf-hpke-pq |
//! | [`keyconfig`] | key config list | RFC 9458, section 3 |
//! | [`ohttp`] | encapsulated requests and responses, whole and in chunks | RFC 9458, section 4; draft-ietf-ohai-chunked-ohttp |
//! | [`bhttp`] | binary HTTP messages | RFC 9292 |
//! | [`padding`] | sizes that a message is padded to | |
//! | [`records`] | pieces of one size that a streamed response leaves in | |
//! | [`api`] | paths, media types, JSON bodies, problem documents | RFC 8259, RFC 9457 |
//! | [`evidence`] | what the guest shows of itself | RFC 9999 |
//!
//! Nothing here touches a socket or a clock; random numbers are handed in. Whatever is decoded has limits and an enum
//! error. Decrypted bytes are wiped when they are dropped.

#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod api;
pub mod bhttp;
pub mod evidence;
pub mod keyconfig;
pub mod ohttp;
pub mod padding;
mod reader;
pub mod records;
pub mod suite;
#[cfg(any(test, feature = "testing"))]
pub mod test_rng;

#[cfg(test)]
mod testing;
