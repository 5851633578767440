//! `cloister proxy` as a process, before a server in this process that speaks the real protocol.

#![expect(clippy::unwrap_used, reason = "what fails here is a failed test")]

mod behaviour;
#[path = "../common/certificates.rs"]
mod certificates;
mod https;
#[path = "../common/issuing.rs"]
#[expect(dead_code, reason = "the issuer's tests need more of it")]
mod issuing;
mod openai;
mod process;
#[path = "../relay/raw.rs"]
#[expect(dead_code, reason = "the relay's tests need more of it")]
mod raw;
#[path = "../common/running.rs"]
mod running;
mod server;
mod tls;
#[path = "../common/tls_front.rs"]
#[expect(dead_code, reason = "the relay's tests need more of it")]
mod tls_front;
mod tokens;
