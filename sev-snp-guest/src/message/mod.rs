//! Guest messages: encrypted requests to the security processor, which the hypervisor carries
//! (SNP firmware ABI, AMD publication 56860, chapter 7 and SNP_GUEST_REQUEST; GHCB specification,
//! "SNP guest request").
//!
//! A [`GuestChannel`] has a key and a message count. The count is the nonce, so a message that the host has seen is
//! either sent again byte for byte or never followed by another: whatever goes wrong, the key is wiped and the channel
//! is at its end.

mod channel;
mod error;
mod header;
mod key;
mod report;

pub use channel::{
    Certificates, GuestChannel, GuestLink, MAX_BUSY_ANSWERS, MAX_CERTIFICATE_PAGES, MAX_COUNT,
};
pub use error::MessageError;
pub use header::MAX_PAYLOAD_BYTES;
pub use key::{DERIVED_KEY_BYTES, GuestFields, KeyRequest, RootKey};
pub use report::{KeySelect, ReportRequest};

#[cfg(test)]
mod tests;
