//! What the end-to-end tests share: images, guests, and clients that may misbehave.
#![forbid(unsafe_code)]

pub mod guests;
pub mod raw;
pub mod sealed;
