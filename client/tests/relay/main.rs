//! `cloister relay` over real sockets: what it passes on byte by byte, what it refuses, what it does with those who are
//! slow, broken or lie.

#![expect(clippy::unwrap_used, reason = "what fails here is a failed test")]

#[path = "../common/certificates.rs"]
#[expect(dead_code, reason = "the proxy's tests need more of it")]
mod certificates;
mod command;
mod endurance;
mod forwarding;
mod gateways;
mod https;
mod interop;
mod limits;
mod raw;
mod refusals;
#[path = "../common/running.rs"]
mod running;
mod stopping;
mod tls;
#[path = "../common/tls_front.rs"]
#[expect(dead_code, reason = "the proxy's tests need more of it")]
mod tls_front;
