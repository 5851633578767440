//! The client: asks a Cloister server, after it has judged what the server shows of itself.
//!
//! ```no_run
//! use std::time::Duration;
//! use cloister_client::{Client, Policy};
//! use cloister_protocol::api::summarize::{Message, Request, Style};
//!
//! let policy = Policy { accept_unattested: true, ..Policy::default() };
//! let client = Client::connect("http://127.0.0.1:8080", Duration::from_secs(600), policy)?;
//! let messages = vec![Message::new("Ana", "The launch moves to Thursday.")];
//! let response = client.summarize(&Request { messages, style: Style::Headline, max_tokens: None })?;
//! println!("{}", response.summary);
//! # Ok::<(), cloister_client::ClientError>(())
//! ```
//! Any other inner request goes through [`Client::send`], which waits for the whole answer, or [`Client::stream`], which
//! gives it as it arrives.
//!
//! An SEV-SNP server must show that its image is in a log which the policy names
//! ([`cloister_verifier::Policy::log`], [`cloister_verifier::Policy::require_log`]). That the log has not withdrawn it since
//! only shows who reads the log ([`log_view::read_log_view`], [`Policy::log_view`]).
#![forbid(unsafe_code)]

mod client;
mod clock;
pub mod command;
pub mod events;
pub mod follow;
pub mod issuer;
mod keys;
mod log_arguments;
pub mod log_view;
pub mod messages;
pub mod monitor;
mod opening;
mod policy;
mod policy_arguments;
mod proxy;
pub mod relay;
pub mod remote_log;
mod rewriting;
mod server_arguments;
mod serving;
mod stream;
mod summary_stream;
mod tls;
mod tls_arguments;
mod token_arguments;
pub mod tokens;
mod transport;
mod upstream;
mod verify;
mod way;
pub mod witness;

pub use client::{Client, ClientError};
pub use keys::KeyArgumentError;
pub use policy::{Attestation, Policy, Refusal};
pub use serving::{Listener, TlsIdentity, TlsIdentityError};
pub use stream::ReplyStream;
pub use summary_stream::SummaryStream;
pub use tls::{Authorities, AuthoritiesError};
pub use transport::TransportError;
pub use way::Way;
