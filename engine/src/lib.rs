//! Model pack, tokenizer, transformer, SIMD kernels, and what is asked of the model: summaries, other wordings, answers.
//! The same crate on the host and in
//! the guest.

#![cfg_attr(not(test), no_std)]
#![deny(unsafe_code)]

extern crate alloc;
#[cfg(any(test, feature = "std"))]
extern crate std;

pub mod answer;
pub mod generate;
mod language;
pub mod layout;
pub mod model;
mod ops;
pub mod pack;
pub mod rewrite;
pub mod sample;
pub mod session;
pub mod simd;
pub mod summary;
pub mod tokenizer;
mod wiped;
#[expect(
    unsafe_code,
    reason = "workers fill parts of one matrix, and work on what their caller has borrowed"
)]
pub mod workers;

pub use model::Model;
pub use session::{Batch, BatchLimits, BatchStep, SequenceId, Session, Step};
