//! Other engines on the same GGUF file: what ours is checked against and measured beside.

#[cfg(feature = "peers")]
mod candle;
pub mod llama;

#[cfg(feature = "peers")]
pub use candle::{Candle, candle_threads};
