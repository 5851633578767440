//! GGUF files: constants and raw tensors of the architectures that the engine runs.

use candle_core::quantized::GgmlDType;
use candle_core::quantized::gguf_file::{Content, Value};
use cloister_engine::pack::Config;
use std::fmt;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// Quantization types that can be packed, for messages.
pub const SUPPORTED_TYPES: &str = "F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q8_0, Q4_K, Q6_K";
/// Architectures that can be packed, for messages.
pub const SUPPORTED_ARCHITECTURES: &str = "qwen2, llama";

/// Why a GGUF file cannot be used.
#[derive(Debug)]
#[non_exhaustive]
pub enum GgufError {
    /// The file cannot be opened or read.
    Read {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// It is not a GGUF file, or a damaged one.
    Format {
        /// Which file.
        path: PathBuf,
        /// What the reader said.
        reason: String,
    },
    /// An architecture that the engine does not have.
    Architecture(String),
    /// A metadata key is missing or has another type.
    Key(String),
    /// A metadata key holds something that the engine does not do.
    Value {
        /// The key.
        key: String,
        /// What it holds.
        value: String,
        /// What it may hold.
        supported: String,
    },
    /// A tensor is missing.
    MissingTensor(String),
    /// A tensor that the engine does not know: it would change what the model computes.
    UnknownTensor(String),
    /// A tensor has another shape than the constants ask for.
    Shape {
        /// The tensor.
        name: String,
        /// `[rows, columns]` in the file.
        found: Vec<usize>,
        /// `[rows, columns]` by the constants.
        expected: Vec<usize>,
    },
    /// A tensor is stored in a type that cannot be packed.
    Type {
        /// The tensor.
        name: String,
        /// Its type.
        found: String,
    },
}

impl fmt::Display for GgufError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read { path, source } => write!(f, "cannot read {}: {source}", path.display()),
            Self::Format { path, reason } => {
                write!(f, "{} is not a usable GGUF file: {reason}", path.display())
            }
            Self::Architecture(name) => write!(
                f,
                "architecture `{name}` is not supported; supported: {SUPPORTED_ARCHITECTURES}"
            ),
            Self::Key(key) => write!(f, "GGUF metadata `{key}` is missing or of another type"),
            Self::Value {
                key,
                value,
                supported,
            } => {
                write!(
                    f,
                    "GGUF metadata `{key}` is `{value}`; supported: {supported}"
                )
            }
            Self::MissingTensor(name) => write!(f, "tensor `{name}` is missing"),
            Self::UnknownTensor(name) => write!(f, "tensor `{name}` is not supported"),
            Self::Shape {
                name,
                found,
                expected,
            } => {
                write!(
                    f,
                    "tensor `{name}` has shape {found:?}, expected {expected:?}"
                )
            }
            Self::Type { name, found } => {
                write!(
                    f,
                    "tensor `{name}` is stored as {found}; supported: {SUPPORTED_TYPES}"
                )
            }
        }
    }
}

impl std::error::Error for GgufError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Read { source, .. } => Some(source),
            _ => None,
        }
    }
}

/// Architectures, which differ in how rotary pairs lie in a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Architecture {
    /// Pairs are halves of a head apart, as the engine has them.
    Qwen2,
    /// Pairs are neighbours: rows of queries and keys are reordered when packed.
    Llama,
}

/// An open GGUF file.
#[derive(Debug)]
pub struct Gguf {
    content: Content,
    file: BufReader<File>,
    path: PathBuf,
    architecture: Architecture,
}

impl Gguf {
    /// Opens a file and reads its tables.
    ///
    /// # Errors
    /// [`GgufError`] when it cannot be read, is damaged or of another architecture.
    pub fn open(path: &Path) -> Result<Self, GgufError> {
        let read = |source| GgufError::Read {
            path: path.to_owned(),
            source,
        };
        let mut file = BufReader::new(File::open(path).map_err(read)?);
        let content = Content::read(&mut file).map_err(|error| GgufError::Format {
            path: path.to_owned(),
            reason: error.to_string(),
        })?;
        let architecture = match text(&content, "general.architecture")? {
            "qwen2" => Architecture::Qwen2,
            "llama" => Architecture::Llama,
            other => return Err(GgufError::Architecture(other.to_owned())),
        };
        Ok(Self {
            content,
            file,
            path: path.to_owned(),
            architecture,
        })
    }

    /// Metadata and tensor table as candle reads them.
    pub fn content(&self) -> &Content {
        &self.content
    }

    /// The architecture.
    pub fn architecture(&self) -> Architecture {
        self.architecture
    }

    /// The model's own name, else the file's.
    pub fn name(&self) -> String {
        let from_path = || {
            self.path
                .file_stem()
                .map_or_else(String::new, |stem| stem.to_string_lossy().into_owned())
        };
        text(&self.content, "general.name").map_or_else(|_| from_path(), str::to_owned)
    }

    /// Shape and constants of the model.
    ///
    /// # Errors
    /// [`GgufError`] when a key is missing or asks for something that the engine does not do.
    pub fn config(&self) -> Result<Config, GgufError> {
        let dim = self.number("embedding_length")?;
        let heads = self.number("attention.head_count")?;
        let kv_heads = self
            .optional_number("attention.head_count_kv")?
            .unwrap_or(heads);
        if heads == 0 || kv_heads == 0 {
            return Err(GgufError::Key(self.key("attention.head_count")));
        }
        let head_dim = self
            .optional_number("attention.key_length")?
            .unwrap_or(dim / heads);
        self.require("attention.value_length", head_dim)?;
        self.require("rope.dimension_count", head_dim)?;
        self.require("expert_count", 0)?;
        self.refuse_rope_scaling()?;
        let embedding = self.shape("token_embd.weight")?;
        Ok(Config {
            dim,
            hidden: self.number("feed_forward_length")?,
            layers: self.number("block_count")?,
            heads,
            kv_heads,
            head_dim,
            vocabulary: embedding.first().copied().unwrap_or(0),
            context_tokens: self.number("context_length")?,
            rope_base: self.float("rope.freq_base").unwrap_or(10_000.0),
            norm_epsilon: self
                .float("attention.layer_norm_rms_epsilon")
                .ok_or_else(|| GgufError::Key(self.key("attention.layer_norm_rms_epsilon")))?,
        })
    }

    /// Names of all tensors, sorted.
    pub fn tensor_names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self
            .content
            .tensor_infos
            .keys()
            .map(String::as_str)
            .collect();
        names.sort_unstable();
        names
    }

    /// True if the file has a tensor of this name.
    pub fn has(&self, name: &str) -> bool {
        self.content.tensor_infos.contains_key(name)
    }

    /// Type of a tensor.
    ///
    /// # Errors
    /// [`GgufError::MissingTensor`].
    pub fn tensor_type(&self, name: &str) -> Result<GgmlDType, GgufError> {
        let info = self.content.tensor_infos.get(name);
        info.map(|info| info.ggml_dtype)
            .ok_or_else(|| GgufError::MissingTensor(name.to_owned()))
    }

    /// Shape of a tensor, rows first.
    ///
    /// # Errors
    /// [`GgufError::MissingTensor`].
    pub fn shape(&self, name: &str) -> Result<Vec<usize>, GgufError> {
        let info = self.content.tensor_infos.get(name);
        info.map(|info| info.shape.dims().to_vec())
            .ok_or_else(|| GgufError::MissingTensor(name.to_owned()))
    }

    /// Checks a tensor's shape, rows first.
    ///
    /// # Errors
    /// [`GgufError`] when it is missing or has another shape.
    pub fn check_shape(&self, name: &str, expected: &[usize]) -> Result<(), GgufError> {
        let found = self.shape(name)?;
        if found == expected {
            return Ok(());
        }
        Err(GgufError::Shape {
            name: name.to_owned(),
            found,
            expected: expected.to_vec(),
        })
    }

    /// The bytes of a tensor of the given shape as they lie in the file.
    ///
    /// # Errors
    /// [`GgufError`] when it is missing, has another shape, or the file ends before it does.
    pub fn tensor_bytes(&mut self, name: &str, expected: &[usize]) -> Result<Vec<u8>, GgufError> {
        self.check_shape(name, expected)?;
        let info = &self.content.tensor_infos[name];
        let damaged = |reason: &str| GgufError::Format {
            path: self.path.clone(),
            reason: format!("tensor `{name}` {reason}"),
        };
        let block = info.ggml_dtype.block_size();
        if expected
            .last()
            .is_none_or(|columns| !columns.is_multiple_of(block))
        {
            return Err(damaged("has rows that are not whole blocks"));
        }
        // Expected shapes come from a checked configuration: no overflow.
        let bytes = expected.iter().product::<usize>() / block * info.ggml_dtype.type_size();
        let start = self.content.tensor_data_offset.checked_add(info.offset);
        let start = start.ok_or_else(|| damaged("lies outside the file"))?;
        let read = |source| GgufError::Read {
            path: self.path.clone(),
            source,
        };
        let file_bytes = self.file.get_ref().metadata().map_err(read)?.len();
        if start
            .checked_add(bytes as u64)
            .is_none_or(|end| end > file_bytes)
        {
            return Err(damaged("lies outside the file"));
        }
        let mut data = vec![0; bytes];
        self.file.seek(SeekFrom::Start(start)).map_err(read)?;
        self.file.read_exact(&mut data).map_err(read)?;
        Ok(data)
    }

    fn key(&self, suffix: &str) -> String {
        let architecture = match self.architecture {
            Architecture::Qwen2 => "qwen2",
            Architecture::Llama => "llama",
        };
        format!("{architecture}.{suffix}")
    }

    fn optional_number(&self, suffix: &str) -> Result<Option<usize>, GgufError> {
        let key = self.key(suffix);
        let Some(value) = self.content.metadata.get(&key) else {
            return Ok(None);
        };
        let number = value.to_u64().ok().or_else(|| match value {
            Value::I32(number) => u64::try_from(*number).ok(),
            Value::I64(number) => u64::try_from(*number).ok(),
            _ => None,
        });
        // Larger numbers are refused by the pack's limits anyway.
        number
            .and_then(|number| u32::try_from(number).ok())
            .map(|number| Some(number as usize))
            .ok_or(GgufError::Key(key))
    }

    fn number(&self, suffix: &str) -> Result<usize, GgufError> {
        self.optional_number(suffix)?
            .ok_or_else(|| GgufError::Key(self.key(suffix)))
    }

    fn require(&self, suffix: &str, only: usize) -> Result<(), GgufError> {
        match self.optional_number(suffix)? {
            Some(number) if number != only => Err(GgufError::Value {
                key: self.key(suffix),
                value: number.to_string(),
                supported: only.to_string(),
            }),
            _ => Ok(()),
        }
    }

    fn float(&self, suffix: &str) -> Option<f32> {
        match self.content.metadata.get(&self.key(suffix))? {
            Value::F32(value) => Some(*value),
            Value::F64(value) => Some(*value as f32),
            _ => None,
        }
    }

    fn refuse_rope_scaling(&self) -> Result<(), GgufError> {
        let key = self.key("rope.scaling.type");
        match self.content.metadata.get(&key) {
            None => Ok(()),
            Some(Value::String(kind)) if kind == "none" => Ok(()),
            Some(other) => Err(GgufError::Value {
                key,
                value: format!("{other:?}"),
                supported: "none".to_owned(),
            }),
        }
    }
}

fn text<'c>(content: &'c Content, key: &str) -> Result<&'c str, GgufError> {
    match content.metadata.get(key) {
        Some(Value::String(text)) => Ok(text),
        _ => Err(GgufError::Key(key.to_owned())),
    }
}
