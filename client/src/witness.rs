//! The witness as a server, and asking one (C2SP tlog-witness).
//!
//! ```no_run
//! use std::net::TcpListener;
//! use std::path::Path;
//! use cloister_client::witness::{Stop, serve};
//! use cloister_transparency::witness::{DirectoryStore, Witness};
//! use cloister_transparency::{VerifierKey, key_file};
//!
//! let key = key_file::load(Path::new("witness.key"), None)?;
//! let log = VerifierKey::parse("example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k")?;
//! let witness = Witness::new(key, [log], DirectoryStore::open(Path::new("state"))?)?;
//! let stop = Stop::new();
//! serve(TcpListener::bind("127.0.0.1:7000")?, witness, &stop, |exchange| eprintln!("{exchange}"))?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod ask;
mod command;
mod serve;

pub use crate::serving::Stop;
pub use ask::{AskError, ask_vouched_witness, ask_witness};
pub(crate) use command::{WitnessArguments, WitnessCommandError, help, run};
pub use serve::{Exchange, serve};
