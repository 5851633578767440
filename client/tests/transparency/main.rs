//! The transparency log from outside: followed, witnessed and monitored over real sockets and files.

#[expect(clippy::unwrap_used, reason = "what fails here is a failed test")]
#[expect(dead_code, reason = "the proxy's tests need more of it")]
#[path = "../common/certificates.rs"]
mod certificates;
mod fixture;
mod follow;
mod https;
mod monitor;
#[path = "../common/running.rs"]
mod running;
mod site;
#[expect(clippy::unwrap_used, reason = "what fails here is a failed test")]
#[expect(dead_code, reason = "the proxy's tests need more of it")]
#[path = "../common/tls_front.rs"]
mod tls_front;
mod witness;
mod witness_command;
