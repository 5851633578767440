//! Transparency: whether an entry is in a public log, as enough witnesses saw it; and the log and the witness themselves.
//!
//! | module | what | specification (C2SP) |
//! |---|---|---|
//! | [`key`] | verifier keys and signing keys | signed-note |
//! | [`signer`] | who signs: a key, or something that asks one | signed-note |
//! | [`note`] | signed notes | signed-note |
//! | [`checkpoint`] | a log's tree at one size | tlog-checkpoint |
//! | [`cosignature`] | what a witness signs | tlog-cosignature |
//! | [`merkle`] | hashes, inclusion and consistency proofs | RFC 6962, section 2.1 |
//! | [`tiles`] | names and contents of tiles, trees out of tiles | tlog-tiles |
//! | [`proof`] | the file that proves an entry | tlog-proof |
//! | [`policy`] | logs and witnesses that are trusted | tlog-policy |
//! | [`appraise`](mod@appraise) | the whole of a client's check | tlog-proof, "Verifying" |
//! | [`release`] | what an entry says: a release, a withdrawal | in-toto Statement v1, RFC 8785 |
//! | [`witness`] | the witness, and asking one | tlog-witness |
//! | `key_file`, `command_signer` (feature `std`) | private keys in files, and behind a command | PKCS #8, RFC 8410 |
//! | `log`, `files` (feature `std`) | a log, and a witness's state, on a directory | tlog-tiles |
//!
//! What a client does:
//! ```
//! use cloister_transparency::{Freshness, Policy, appraise};
//!
//! let log = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k";
//! let policy = Policy::parse(format!("log {log}\nquorum none\n").as_bytes())?;
//! let freshness = Freshness { now_s: 1_795_000_000, max_age_s: Some(7 * 86_400), clock_skew_s: 300 };
//! let (entry, proof) = (b"a release", b"its proof");
//! match appraise(entry, proof, &policy, &freshness) {
//!     Ok(logged) => println!("entry {} of {}", logged.index, logged.checkpoint.origin),
//!     Err(reason) => println!("refused: {reason}"),
//! }
//! # Ok::<(), cloister_transparency::policy::PolicyError>(())
//! ```
//! But for the modules of the feature `std` nothing opens a file, and nothing opens a socket or reads a clock. What is parsed has
//! limits and an enum error; where a format has one canonical form, no other is taken, so that what is read is written
//! again byte for byte.

#![cfg_attr(not(any(test, feature = "std")), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod appraise;
mod base64;
pub mod checkpoint;
#[cfg(feature = "std")]
pub mod command_signer;
pub mod cosignature;
mod decimal;
#[cfg(feature = "std")]
pub mod files;
pub mod key;
#[cfg(feature = "std")]
pub mod key_file;
#[cfg(feature = "std")]
pub mod log;
pub mod merkle;
pub mod note;
pub mod policy;
pub mod proof;
pub mod release;
pub mod signer;
pub mod tiles;
pub mod witness;

pub use appraise::{AppraisalError, Freshness, LoggedEntry, appraise, appraise_checkpoint};
pub use checkpoint::{Checkpoint, SignedCheckpoint};
pub use key::{KeyType, SigningKey, VerifierKey};
pub use merkle::Hash;
pub use note::Note;
pub use policy::Policy;
pub use proof::LogProof;
pub use release::Statement;
pub use signer::{SignError, Signer};
