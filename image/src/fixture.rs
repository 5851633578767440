//! A small model of random weights, for tests that need many fast requests: every quantization type that packs take,
//! both scales and minima, a tokenizer with all bytes, and nothing worth reading in its answers.

use candle_core::quantized::gguf_file::{self, Value};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Tensor};
use std::fmt;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

/// The fixture's `general.name`.
pub const NAME: &str = "cloister fixture";

const DIM: usize = 128;
const HIDDEN: usize = 256;
const LAYERS: usize = 2;
const HEADS: usize = 4;
const KV_HEADS: usize = 2;
const HEAD_DIM: usize = DIM / HEADS;
const CONTEXT: u32 = 16_384;

const SPECIALS: [&str; 3] = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"];
/// `Ġ` is how byte-level vocabularies spell a space.
const MERGES: [&str; 40] = [
    "Ġ t", "Ġ a", "h e", "i n", "r e", "o n", "Ġt he", "e r", "Ġ s", "a t", "Ġ w", "Ġ o", "e n",
    "Ġ c", "i t", "i s", "a n", "o r", "e s", "Ġ b", "e d", "Ġ f", "in g", "Ġ p", "o u", "Ġa n",
    "a l", "a r", "Ġt o", "Ġ m", "Ġo f", "Ġ in", "Ġ d", "Ġ h", "Ġan d", "i c", "l e", "Ġt h",
    "o m", "l l",
];

/// Why no fixture could be written.
#[derive(Debug)]
#[non_exhaustive]
pub enum FixtureError {
    /// The file cannot be written.
    Write {
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Candle could not make or write a tensor.
    Candle(candle_core::Error),
}

impl fmt::Display for FixtureError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Write { path, source } => write!(f, "cannot write {}: {source}", path.display()),
            Self::Candle(error) => write!(f, "cannot make the fixture's tensors: {error}"),
        }
    }
}

impl std::error::Error for FixtureError {}

impl From<candle_core::Error> for FixtureError {
    fn from(error: candle_core::Error) -> Self {
        Self::Candle(error)
    }
}

/// Writes the model as a GGUF file of less than 1 MiB; always the same bytes.
///
/// # Errors
/// [`FixtureError`].
pub fn write(path: &Path) -> Result<(), FixtureError> {
    let tokens = tokens();
    let metadata = metadata(&tokens);
    let tensors = tensors(tokens.len())?;
    let metadata: Vec<(&str, &Value)> = metadata.iter().map(|(key, value)| (*key, value)).collect();
    let tensors: Vec<(&str, &QTensor)> = tensors
        .iter()
        .map(|(name, tensor)| (name.as_str(), tensor))
        .collect();
    let failed = |source| FixtureError::Write {
        path: path.to_owned(),
        source,
    };
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    let mut file = BufWriter::new(File::create(path).map_err(failed)?);
    gguf_file::write(&mut file, &metadata, &tensors)?;
    file.flush().map_err(failed)
}

/// Special tokens, all bytes in their byte-level spelling, and what the merges make.
fn tokens() -> Vec<String> {
    let mut moved = (0x100..).filter_map(char::from_u32);
    let bytes = (0..=u8::MAX).map(|byte| match byte {
        0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff => char::from(byte),
        _ => moved.next().expect("U+0100 to U+0143 are characters"),
    });
    let merged = MERGES.iter().map(|merge| merge.replace(' ', ""));
    SPECIALS
        .iter()
        .map(|special| (*special).to_owned())
        .chain(bytes.map(String::from))
        .chain(merged)
        .collect()
}

fn metadata(tokens: &[String]) -> Vec<(&'static str, Value)> {
    let text = |text: &str| Value::String(text.to_owned());
    let texts = |texts: Vec<&str>| Value::Array(texts.into_iter().map(text).collect());
    let number = |number: usize| Value::U32(number as u32);
    let kinds = (0..tokens.len())
        .map(|id| Value::I32(if id < SPECIALS.len() { 3 } else { 1 }))
        .collect();
    vec![
        ("general.architecture", text("llama")),
        ("general.name", text(NAME)),
        ("llama.block_count", number(LAYERS)),
        ("llama.context_length", Value::U32(CONTEXT)),
        ("llama.embedding_length", number(DIM)),
        ("llama.feed_forward_length", number(HIDDEN)),
        ("llama.attention.head_count", number(HEADS)),
        ("llama.attention.head_count_kv", number(KV_HEADS)),
        ("llama.attention.layer_norm_rms_epsilon", Value::F32(1e-5)),
        ("llama.rope.freq_base", Value::F32(10_000.0)),
        ("llama.rope.dimension_count", number(HEAD_DIM)),
        ("tokenizer.ggml.model", text("gpt2")),
        ("tokenizer.ggml.pre", text("smollm")),
        (
            "tokenizer.ggml.tokens",
            texts(tokens.iter().map(String::as_str).collect()),
        ),
        ("tokenizer.ggml.token_type", Value::Array(kinds)),
        ("tokenizer.ggml.merges", texts(MERGES.to_vec())),
        ("tokenizer.ggml.bos_token_id", Value::U32(1)),
        ("tokenizer.ggml.eos_token_id", Value::U32(2)),
        (
            "tokenizer.chat_template",
            text("{% for message in messages %}<|im_start|>...<|im_end|>{% endfor %}"),
        ),
    ]
}

/// Every tensor, with types chosen so that each one occurs.
fn tensors(vocabulary: usize) -> Result<Vec<(String, QTensor)>, FixtureError> {
    let (q_dim, kv_dim) = (HEADS * HEAD_DIM, KV_HEADS * HEAD_DIM);
    let mut random = Random(0x00c1_0157_e4f1);
    let mut tensors = vec![
        (
            "token_embd.weight".to_owned(),
            random.matrix(vocabulary, DIM, GgmlDType::Q8_0)?,
        ),
        ("output_norm.weight".to_owned(), random.norm()?),
        (
            "output.weight".to_owned(),
            random.matrix(vocabulary, DIM, GgmlDType::F16)?,
        ),
    ];
    for layer in 0..LAYERS {
        let (even, odd) = match layer % 2 {
            0 => (GgmlDType::Q4_0, GgmlDType::Q6K),
            _ => (GgmlDType::Q4_1, GgmlDType::Q4K),
        };
        let mut add =
            |suffix: &str, tensor| tensors.push((format!("blk.{layer}.{suffix}"), tensor));
        add("attn_norm.weight", random.norm()?);
        add("attn_q.weight", random.matrix(q_dim, DIM, even)?);
        add(
            "attn_k.weight",
            random.matrix(kv_dim, DIM, GgmlDType::Q5_0)?,
        );
        add(
            "attn_v.weight",
            random.matrix(kv_dim, DIM, GgmlDType::Q8_0)?,
        );
        add(
            "attn_output.weight",
            random.matrix(DIM, q_dim, GgmlDType::BF16)?,
        );
        add("ffn_norm.weight", random.norm()?);
        add("ffn_gate.weight", random.matrix(HIDDEN, DIM, even)?);
        add("ffn_up.weight", random.matrix(HIDDEN, DIM, GgmlDType::F32)?);
        add("ffn_down.weight", random.matrix(DIM, HIDDEN, odd)?);
    }
    Ok(tensors)
}

/// SplitMix64: the same numbers everywhere.
struct Random(u64);

impl Random {
    /// A number in -1..1.
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    /// Weights that keep the size of what they multiply: variance `1 / columns`.
    fn matrix(
        &mut self,
        rows: usize,
        columns: usize,
        dtype: GgmlDType,
    ) -> candle_core::Result<QTensor> {
        let size = (3.0 / columns as f32).sqrt();
        let weights: Vec<f32> = (0..rows * columns).map(|_| self.next() * size).collect();
        QTensor::quantize(
            &Tensor::from_vec(weights, (rows, columns), &Device::Cpu)?,
            dtype,
        )
    }

    /// Weights of a norm, near 1.
    fn norm(&mut self) -> candle_core::Result<QTensor> {
        let weights: Vec<f32> = (0..DIM).map(|_| 1.0 + self.next() / 4.0).collect();
        QTensor::quantize(
            &Tensor::from_vec(weights, DIM, &Device::Cpu)?,
            GgmlDType::F32,
        )
    }
}
