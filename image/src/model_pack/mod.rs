//! The model pack: a GGUF file's weights in the engine's tiles, with its tokenizer and a digest for each MiB. The same
//! GGUF gives the same bytes.

mod blocks;
mod body;

#[cfg(test)]
mod tests;

use crate::gguf::{Architecture, Gguf, GgufError};
use crate::tokenizer::{self, TokenizerError};
use body::Body;
use candle_core::quantized::GgmlDType;
use cloister_engine::layout::encode::{self, EncodeError};
use cloister_engine::layout::{Encoding, Kind, TILE_ROWS};
use cloister_engine::pack::write::{Plan, TensorSpec};
use cloister_engine::pack::{Config, Head, PackError, Role};
use cloister_engine::session;
use std::fmt;
use std::path::{Path, PathBuf};

/// Why no model pack could be made.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The GGUF file.
    Gguf(GgufError),
    /// Its tokenizer.
    Tokenizer(TokenizerError),
    /// The model does not fit the pack's limits.
    Pack(PackError),
    /// A tensor's numbers cannot be packed.
    Encode {
        /// The tensor.
        name: String,
        /// Why.
        source: EncodeError,
    },
    /// Tokenizer and embedding do not have the same number of tokens.
    Vocabulary {
        /// Tokens of the tokenizer.
        tokens: usize,
        /// Rows of the embedding.
        rows: usize,
    },
    /// The pack cannot be written.
    Write {
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gguf(error) => error.fmt(f),
            Self::Tokenizer(error) => error.fmt(f),
            Self::Pack(error) => write!(f, "the model does not fit a pack: {error}"),
            Self::Encode { name, source } => {
                write!(f, "tensor `{name}` cannot be packed: {source}")
            }
            Self::Vocabulary { tokens, rows } => {
                write!(
                    f,
                    "the tokenizer has {tokens} tokens, but `token_embd.weight` has {rows} rows"
                )
            }
            Self::Write { path, source } => write!(f, "cannot write {}: {source}", path.display()),
        }
    }
}

impl std::error::Error for Error {}

impl From<GgufError> for Error {
    fn from(error: GgufError) -> Self {
        Self::Gguf(error)
    }
}

impl From<TokenizerError> for Error {
    fn from(error: TokenizerError) -> Self {
        Self::Tokenizer(error)
    }
}

impl From<PackError> for Error {
    fn from(error: PackError) -> Self {
        Self::Pack(error)
    }
}

/// What the manifest needs to know about a pack.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelPackInfo {
    /// Names the head, and through it every byte.
    pub root: [u8; 32],
    /// Bytes of the head.
    pub head_bytes: u32,
    /// Bytes of the whole file.
    pub pack_bytes: u64,
    /// The model's name.
    pub name: String,
    /// Longest sequence in tokens.
    pub context_tokens: u32,
    /// Shape and constants.
    pub config: Config,
}

impl ModelPackInfo {
    /// Bytes of memory that a sequence of so many tokens needs at most, beside the pack.
    pub fn working_bytes(&self, tokens: usize) -> u64 {
        session::working_bytes(&self.config, tokens)
    }
}

/// Makes a pack from a GGUF file. `progress` gets bytes written and bytes in all.
///
/// # Errors
/// [`Error`]; the file at `out` is complete or does not change.
pub fn build(
    gguf: &Path,
    out: &Path,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<ModelPackInfo, Error> {
    let mut gguf = Gguf::open(gguf)?;
    let config = gguf.config()?;
    config.check()?;
    let tokenizer = tokenizer_section(&gguf, &config)?;
    let sources = sources(&gguf, &config)?;
    let specs: Vec<TensorSpec> = sources.iter().map(|source| source.spec).collect();
    let name = pack_name(&gguf.name());
    let plan = Plan::new(config, &name, tokenizer.len(), &specs)?;
    let mut body = Body::create(out, plan.head_bytes(), plan.pack_bytes(), progress)?;
    body.section(&tokenizer)?;
    for entry in plan.entries() {
        let source = sources
            .iter()
            .find(|source| (source.spec.role, source.spec.layer) == (entry.role, entry.layer))
            .ok_or(PackError::Tensor {
                role: entry.role,
                layer: entry.layer,
            })?;
        body.section(&source.pack(&mut gguf, &config)?)?;
    }
    let head = body.finish(&plan)?;
    Ok(ModelPackInfo {
        root: Head::root_of(&head),
        head_bytes: head.len() as u32,
        pack_bytes: plan.pack_bytes(),
        name,
        context_tokens: config.context_tokens as u32,
        config,
    })
}

fn tokenizer_section(gguf: &Gguf, config: &Config) -> Result<Vec<u8>, Error> {
    let source = tokenizer::source(gguf.content())?;
    if source.tokens.len() != config.vocabulary {
        return Err(Error::Vocabulary {
            tokens: source.tokens.len(),
            rows: config.vocabulary,
        });
    }
    Ok(tokenizer::section(gguf.content())?)
}

/// The name without what a pack does not take: control characters, and more than 64 bytes.
fn pack_name(name: &str) -> String {
    let mut short: String = name.trim().chars().filter(|c| !c.is_control()).collect();
    while short.len() > cloister_engine::pack::format::MAX_NAME_BYTES {
        short.pop();
    }
    if short.is_empty() {
        "unnamed".to_owned()
    } else {
        short
    }
}

/// A tensor of the GGUF file and what becomes of it.
struct Source {
    name: String,
    spec: TensorSpec,
}

/// Every tensor that the model has, in no particular order.
fn sources(gguf: &Gguf, config: &Config) -> Result<Vec<Source>, Error> {
    let mut sources = Vec::new();
    for name in gguf.tensor_names() {
        let (role, layer) =
            role_of(name).ok_or_else(|| GgufError::UnknownTensor(name.to_owned()))?;
        let (rows, columns) = shape_of(role, config);
        let dtype = gguf.tensor_type(name)?;
        let shape = [rows, columns];
        gguf.check_shape(name, &shape[usize::from(is_vector(role))..])?;
        let encoding = if is_vector(role) {
            Encoding::F32
        } else {
            tiles(name, dtype)?
        };
        if encoding == Encoding::F32 && dtype != GgmlDType::F32 {
            return Err(GgufError::Type {
                name: name.to_owned(),
                found: format!("{dtype:?}"),
            }
            .into());
        }
        sources.push(Source {
            name: name.to_owned(),
            spec: TensorSpec {
                role,
                layer,
                encoding,
                rows,
                columns,
            },
        });
    }
    require_all(&sources, config)?;
    Ok(sources)
}

fn tiles(name: &str, dtype: GgmlDType) -> Result<Encoding, GgufError> {
    let unsupported = || GgufError::Type {
        name: name.to_owned(),
        found: format!("{dtype:?}"),
    };
    blocks::kind_of(dtype)
        .map(Encoding::Tiles)
        .ok_or_else(unsupported)
}

/// Suffix of a tensor's name in a block, and its role.
const BLOCK_TENSORS: [(&str, Role); 12] = [
    ("attn_norm.weight", Role::AttentionNorm),
    ("attn_q.weight", Role::Query),
    ("attn_q.bias", Role::QueryBias),
    ("attn_k.weight", Role::Key),
    ("attn_k.bias", Role::KeyBias),
    ("attn_v.weight", Role::Value),
    ("attn_v.bias", Role::ValueBias),
    ("attn_output.weight", Role::AttentionOutput),
    ("ffn_norm.weight", Role::FeedForwardNorm),
    ("ffn_gate.weight", Role::Gate),
    ("ffn_up.weight", Role::Up),
    ("ffn_down.weight", Role::Down),
];

/// Names of the tensors outside the blocks.
const OUTER_TENSORS: [(&str, Role); 3] = [
    ("token_embd.weight", Role::TokenEmbedding),
    ("output.weight", Role::Output),
    ("output_norm.weight", Role::OutputNorm),
];

fn role_of(name: &str) -> Option<(Role, usize)> {
    let find = |list: &[(&str, Role)], name: &str| {
        list.iter()
            .find(|(known, _)| *known == name)
            .map(|(_, role)| *role)
    };
    if let Some(rest) = name.strip_prefix("blk.") {
        let (layer, suffix) = rest.split_once('.')?;
        return Some((find(&BLOCK_TENSORS, suffix)?, layer.parse().ok()?));
    }
    Some((find(&OUTER_TENSORS, name)?, 0))
}

fn shape_of(role: Role, config: &Config) -> (usize, usize) {
    let Config {
        dim,
        hidden,
        vocabulary,
        ..
    } = *config;
    let (q_dim, kv_dim) = (
        config.heads * config.head_dim,
        config.kv_heads * config.head_dim,
    );
    match role {
        Role::TokenEmbedding | Role::Output => (vocabulary, dim),
        Role::OutputNorm | Role::AttentionNorm | Role::FeedForwardNorm => (1, dim),
        Role::Query => (q_dim, dim),
        Role::QueryBias => (1, q_dim),
        Role::Key | Role::Value => (kv_dim, dim),
        Role::KeyBias | Role::ValueBias => (1, kv_dim),
        Role::AttentionOutput => (dim, q_dim),
        Role::Gate | Role::Up => (hidden, dim),
        Role::Down => (dim, hidden),
    }
}

fn is_vector(role: Role) -> bool {
    matches!(
        role,
        Role::OutputNorm
            | Role::AttentionNorm
            | Role::FeedForwardNorm
            | Role::QueryBias
            | Role::KeyBias
            | Role::ValueBias
    )
}

/// Names the first tensor that a model must have and this file lacks.
fn require_all(sources: &[Source], config: &Config) -> Result<(), GgufError> {
    let has = |role: Role, layer: usize| {
        sources
            .iter()
            .any(|source| (source.spec.role, source.spec.layer) == (role, layer))
    };
    let optional = [
        Role::Output,
        Role::QueryBias,
        Role::KeyBias,
        Role::ValueBias,
    ];
    let missing = |name: String| Err(GgufError::MissingTensor(name));
    for (name, role) in OUTER_TENSORS {
        if !optional.contains(&role) && !has(role, 0) {
            return missing(name.to_owned());
        }
    }
    for layer in 0..config.layers {
        for (suffix, role) in BLOCK_TENSORS {
            if !optional.contains(&role) && !has(role, layer) {
                return missing(format!("blk.{layer}.{suffix}"));
            }
        }
    }
    Ok(())
}

impl Source {
    /// The tensor's bytes as the pack has them.
    fn pack(&self, gguf: &mut Gguf, config: &Config) -> Result<Vec<u8>, Error> {
        let TensorSpec {
            role,
            encoding,
            rows,
            columns,
            ..
        } = self.spec;
        let reorder = gguf.architecture() == Architecture::Llama
            && matches!(
                role,
                Role::Query | Role::Key | Role::QueryBias | Role::KeyBias
            );
        let row_of = |row: usize| {
            if reorder {
                neighbour_row(row, config.head_dim)
            } else {
                row
            }
        };
        match encoding {
            Encoding::F32 => {
                let bytes = gguf.tensor_bytes(&self.name, &[columns])?;
                let numbers = bytes.as_chunks::<4>().0;
                Ok((0..columns)
                    .flat_map(|column| numbers[row_of(column)])
                    .collect())
            }
            Encoding::Tiles(kind) => {
                let dtype = gguf.tensor_type(&self.name)?;
                let bytes = gguf.tensor_bytes(&self.name, &[rows, columns])?;
                let row_bytes = bytes.len() / rows;
                let row =
                    |row: usize| blocks::row(dtype, &bytes[row_of(row) * row_bytes..][..row_bytes]);
                self.tiles(kind, row)
            }
        }
    }

    fn tiles(
        &self,
        kind: Kind,
        row: impl Fn(usize) -> Vec<encode::RowBlock>,
    ) -> Result<Vec<u8>, Error> {
        let TensorSpec {
            rows,
            columns,
            encoding,
            ..
        } = self.spec;
        let mut packed = Vec::with_capacity(encoding.bytes(rows, columns).unwrap_or(0));
        for first in (0..rows).step_by(TILE_ROWS) {
            let tile: Vec<_> = (first..rows.min(first + TILE_ROWS)).map(&row).collect();
            encode::tile(kind, columns, &tile, &mut packed).map_err(|source| Error::Encode {
                name: self.name.clone(),
                source,
            })?;
        }
        Ok(packed)
    }
}

/// Where row `row` of a matrix with rotary halves lies in one with rotary neighbours: GGUF files of this family store
/// pair `i` of a head as rows `2i` and `2i + 1`, the engine turns rows `i` and `i + head_dim / 2`.
fn neighbour_row(row: usize, head_dim: usize) -> usize {
    let (head, within) = (row / head_dim, row % head_dim);
    let half = head_dim / 2;
    head * head_dim + within % half * 2 + within / half
}
