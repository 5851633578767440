//! Builds what boots: the ROM, the model pack and the manifest.

#![forbid(unsafe_code)]

pub mod elf_check;
pub mod fixture;
pub mod gguf;
pub mod image_json;
pub mod model_pack;
pub mod rom;
pub mod sev_metadata;
pub mod tokenizer;
