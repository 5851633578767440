//! An Oblivious HTTP relay (RFC 9458, section 6.2): it knows who asks and not what; its gateway knows what and not who.
//!
//! ```no_run
//! use std::net::TcpListener;
//! use cloister_client::relay::{Limits, Relay, Stop};
//!
//! let relay = Relay::new("http://10.0.0.7:8080".parse()?, Limits::default());
//! let stop = Stop::new();
//! relay.serve(TcpListener::bind("127.0.0.1:8090")?, None, &stop, |event| eprintln!("{event}"))?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//! What it passes on, and what not, is in `docs/relay.md`.

mod answer;
mod command;
mod crowd;
mod metrics;
mod route;
mod serve;

pub use crate::serving::Stop;
pub use crate::upstream::{Origin, OriginError};
pub(crate) use command::{RelayArguments, RelayCommandError, help, run};
pub use serve::{Event, Limits, Relay};
