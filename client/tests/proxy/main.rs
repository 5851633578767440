//! `cloister proxy` as a process, before a server in this process that speaks the real protocol.

#![expect(clippy::unwrap_used, reason = "what fails here is a failed test")]

mod behaviour;
mod openai;
mod process;
#[path = "../relay/raw.rs"]
#[expect(dead_code, reason = "the relay's tests need more of it")]
mod raw;
mod server;
