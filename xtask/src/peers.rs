//! Other engines on the same GGUF file: what ours is measured beside.

pub mod llama;
