//! What the end-to-end tests share: images, guests, and clients that may misbehave.
#![forbid(unsafe_code)]

pub mod guests;
pub mod known_exchange;
pub mod known_tls;
pub mod monitor;
pub mod private_keys;
pub mod raw;
pub mod sealed;
pub mod secrets;
