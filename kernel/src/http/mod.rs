//! HTTP/1.1 server (RFC 9110, RFC 9112) as a pure state machine: bytes in, bytes out, time as a parameter.
//!
//! Nothing here touches a device, so all of it is tested on the host. One [`Connection`] is one TCP connection.
//! What it speaks on purpose:
//!
//! - `Content-Length` and `Transfer-Encoding: chunked` bodies; never both, never twice.
//! - Keep-alive and pipelining: one request is answered before the next one is read.
//! - Half-close: a client that shuts its write side after the request is still answered. While it waits, an HTTP/1.1
//!   client is sent a `102 Processing` each second, because that is how a client that has left is told from one that
//!   has only finished sending.
//! - Everything that two parsers could read in two ways (bare LF, folded fields, space before the colon, two lengths)
//!   is refused with 400 and the connection is closed.

mod body;
mod connection;
mod head;
mod response;

pub use body::BodyError;
pub use connection::{Admission, Connection, Request, Wish};
pub use head::{Framing, Head, HeadError, Method, Version};
pub use response::{Response, Status};

/// Bounds of one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Longest request line and fields together, in bytes; more is 431.
    pub header_bytes: usize,
    /// From a request's first byte to its last header byte; longer is 408.
    pub header_ms: u64,
    /// From a request's first byte to its last body byte; longer is 408.
    pub request_ms: u64,
    /// Longest pause between two requests; then the connection is closed.
    pub idle_ms: u64,
    /// From a response's first byte to the moment the network took its last one; longer cuts the connection.
    pub response_ms: u64,
    /// How long what a refused client still sends is read and dropped, so that it gets to see the answer.
    pub linger_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            header_bytes: 8 * 1024,
            header_ms: 10_000,
            request_ms: 30_000,
            idle_ms: 30_000,
            response_ms: 60_000,
            linger_ms: 2_000,
        }
    }
}

#[cfg(test)]
mod tests;
