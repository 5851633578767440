//! Another engine on the same GGUF file, in the same process: what ours is checked against, and measured beside.
//!
//! A crate of its own, so that `cargo xtask` is built without it.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use candle_core::quantized::gguf_file::Content;
use candle_core::{Device, Result, Tensor};
use candle_transformers::models::{quantized_llama, quantized_qwen2};

/// Candle's own implementations of the two architectures, on the CPU.
///
/// The environment variable `CANDLE_DEQUANTIZE_ALL=1` makes candle compute with 32-bit floats; otherwise it quantizes
/// activations to 8 bits, as our engine does.
pub enum Candle {
    /// `llama`.
    Llama(quantized_llama::ModelWeights),
    /// `qwen2`.
    Qwen2(quantized_qwen2::ModelWeights),
}

impl Candle {
    /// Loads the model in the file.
    ///
    /// # Errors
    /// Candle's own, when the file cannot be read or is of another architecture.
    pub fn open(path: &Path) -> Result<Self> {
        let mut file = BufReader::new(File::open(path)?);
        let content = Content::read(&mut file)?;
        let device = Device::Cpu;
        if content.metadata.contains_key("qwen2.block_count") {
            quantized_qwen2::ModelWeights::from_gguf(content, &mut file, &device).map(Self::Qwen2)
        } else {
            quantized_llama::ModelWeights::from_gguf(content, &mut file, &device).map(Self::Llama)
        }
    }

    /// Feeds `tokens`, the first of them at `position`; the logits behind the last one. Position 0 begins anew.
    ///
    /// # Errors
    /// Candle's own.
    pub fn logits(&mut self, tokens: &[u32], position: usize) -> Result<Vec<f32>> {
        let input = Tensor::new(tokens, &Device::Cpu)?.unsqueeze(0)?;
        let logits = match self {
            Self::Llama(model) => model.forward(&input, position),
            Self::Qwen2(model) => model.forward(&input, position),
        };
        logits?.flatten_all()?.to_vec1()
    }
}

/// CPUs that it uses; set by the environment variable `RAYON_NUM_THREADS`.
pub fn threads() -> usize {
    candle_core::utils::get_num_threads()
}
