//! The image manifest: what this image trusts and how much it allows. It lies in the ROM, so that
//! the launch measurement covers it; nothing in the guest is configured at run time.
//!
//! CBOR, every item a definite-length array: `[version, model or null, limits, log policy or null, token issuer or null,
//! serving]`.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use minicbor::{Decoder, Encoder, decode, encode};

/// Version of the encoding.
pub const VERSION: u32 = 3;
/// Longest model name in bytes.
pub const NAME_MAX_BYTES: usize = 64;
/// Longest log policy in bytes.
pub const LOG_POLICY_MAX_BYTES: usize = 16 << 10;
/// Longest name of a token issuer, and longest origin info, in bytes.
pub const ISSUER_MAX_BYTES: usize = 255;
/// Longest token key in bytes; one of 2048 bits has 342.
pub const TOKEN_KEY_MAX_BYTES: usize = 512;

/// Shortest and longest key epoch in seconds. In less than the shortest a client on a slow way would hardly get to use
/// the keys that it has fetched.
pub const EPOCH_S: core::ops::RangeInclusive<u32> = 10..=86_400;

/// RAM in bytes that TLS takes for each connection: one record each way, its text, and the state.
const TLS_CONNECTION_BYTES: u64 = 64 << 10;

/// RAM in bytes for everything but the model and the requests: boot, kernel, shared pool, network,
/// cryptography, other processors' stacks.
pub const BASE_BYTES: u64 = 59 << 20;

/// RAM in bytes for the tokens that were spent, where tokens are demanded.
pub const SPENT_TOKENS_BYTES: u64 = 4 << 20;

/// Everything that an image fixes besides its code.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Manifest {
    /// The model, or none: then summaries answer 503.
    pub model: Option<ModelRef>,
    /// How much is accepted.
    pub limits: Limits,
    /// Under which logs and witnesses this image is to be published (C2SP tlog-policy), at most 16 KiB. The guest only
    /// carries it: that it is measured is what it is for.
    pub log_policy: Option<String>,
    /// Whose anonymous tokens clients must have, or none: then everybody is served.
    pub token_issuer: Option<TokenIssuer>,
    /// How the port is served.
    pub serving: Serving,
}

/// An issuer of anonymous tokens (RFC 9577, RFC 9578), and what its tokens must be for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenIssuer {
    /// The issuer's name: printable ASCII.
    pub name: String,
    /// Its token key, a SubjectPublicKeyInfo. The kernel reads it.
    pub token_key: Vec<u8>,
    /// The names that tokens call this service: printable ASCII, separated by commas, or nothing.
    pub origin_info: String,
}

/// How the port is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Serving {
    /// TLS on the port; otherwise plain HTTP.
    pub tls: bool,
    /// Length of a key epoch in seconds, within [`EPOCH_S`].
    pub epoch_s: u32,
}

impl Default for Serving {
    fn default() -> Self {
        Self {
            tls: false,
            epoch_s: 3600,
        }
    }
}

/// A model pack by its digest, and what it takes to run it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelRef {
    /// Name shown to clients: letters, digits, `.`, `_`, `-`, at most 64 bytes.
    pub name: String,
    /// Digest of the pack's head, which holds the digests of its chunks.
    pub root: [u8; 32],
    /// Length of the head.
    pub head_bytes: u32,
    /// Length of the whole pack.
    pub pack_bytes: u64,
    /// RAM that the engine needs beside the pack at the full context.
    pub working_bytes: u64,
    /// Tokens that the model can attend to.
    pub context_tokens: u32,
}

/// Bounds on what clients may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Largest request body.
    pub request_bytes: u32,
    /// Longest prompt.
    pub prompt_tokens: u32,
    /// Longest answer.
    pub output_tokens: u32,
    /// Connections at one time.
    pub connections: u32,
    /// Largest HTTP header section.
    pub header_bytes: u32,
    /// How long a connection may stay silent.
    pub idle_ms: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            request_bytes: 256 << 10,
            prompt_tokens: 8192,
            output_tokens: 512,
            connections: 64,
            header_bytes: 8 << 10,
            idle_ms: 30_000,
        }
    }
}

/// Largest value of each limit: beyond it a manifest is refused as a mistake.
const LIMITS_MAX: Limits = Limits {
    request_bytes: 16 << 20,
    prompt_tokens: 1 << 20,
    output_tokens: 1 << 20,
    connections: 1024,
    header_bytes: 64 << 10,
    idle_ms: 600_000,
};
/// Largest head, in bytes.
const HEAD_MAX_BYTES: u32 = 16 << 20;
/// Largest pack and working memory, in bytes.
const MODEL_MAX_BYTES: u64 = 1 << 40;

/// Why a manifest is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ManifestError {
    /// Not the CBOR items of a manifest, or bytes behind its end.
    Encoding,
    /// Another version.
    Version(u32),
    /// The named field is outside its bounds.
    Field(&'static str),
}

impl From<decode::Error> for ManifestError {
    fn from(_: decode::Error) -> Self {
        Self::Encoding
    }
}

impl Manifest {
    /// Reads a manifest that must fill `bytes` exactly.
    pub fn decode(bytes: &[u8]) -> Result<Self, ManifestError> {
        let mut cbor = Decoder::new(bytes);
        // The version first: another one may have another number of items.
        let items = cbor.array()?;
        let version = cbor.u32()?;
        if version != VERSION {
            return Err(ManifestError::Version(version));
        }
        if items != Some(6) {
            return Err(ManifestError::Encoding);
        }
        let model = match cbor.datatype()? {
            minicbor::data::Type::Null => {
                cbor.null()?;
                None
            }
            _ => Some(ModelRef::decode(&mut cbor)?),
        };
        let limits = Limits::decode(&mut cbor)?;
        let log_policy = decode_log_policy(&mut cbor)?;
        let token_issuer = match cbor.datatype()? {
            minicbor::data::Type::Null => {
                cbor.null()?;
                None
            }
            _ => Some(TokenIssuer::decode(&mut cbor)?),
        };
        array(&mut cbor, 2)?;
        let serving = Serving {
            tls: cbor.bool()?,
            epoch_s: cbor.u32()?,
        };
        if cbor.position() != bytes.len() {
            return Err(ManifestError::Encoding);
        }
        let manifest = Self {
            model,
            limits,
            log_policy,
            token_issuer,
            serving,
        };
        manifest.check()?;
        Ok(manifest)
    }

    /// The manifest's bytes, the same for the same manifest; an error if a field is out of bounds.
    pub fn encode(&self) -> Result<alloc::vec::Vec<u8>, ManifestError> {
        self.check()?;
        let mut cbor = Encoder::new(alloc::vec::Vec::new());
        self.write(&mut cbor).map_err(|_| ManifestError::Encoding)?;
        Ok(cbor.into_writer())
    }

    /// RAM in bytes that a machine must have for this image: the model, two request bodies (the
    /// encrypted one and the clear one) for each connection, what TLS takes for it, [`SPENT_TOKENS_BYTES`]
    /// where tokens are demanded, and [`BASE_BYTES`] for everything else.
    pub fn memory_bytes(&self) -> u64 {
        let model = self
            .model
            .as_ref()
            .map_or(0, |model| model.pack_bytes + model.working_bytes);
        let bodies = 2 * u64::from(self.limits.connections) * u64::from(self.limits.request_bytes);
        let tokens = self.token_issuer.as_ref().map_or(0, |_| SPENT_TOKENS_BYTES);
        let tls = match self.serving.tls {
            true => TLS_CONNECTION_BYTES * u64::from(self.limits.connections),
            false => 0,
        };
        BASE_BYTES + bodies + tls + model + tokens
    }

    fn write(
        &self,
        cbor: &mut Encoder<alloc::vec::Vec<u8>>,
    ) -> Result<(), encode::Error<core::convert::Infallible>> {
        cbor.array(6)?.u32(VERSION)?;
        match &self.model {
            None => cbor.null()?,
            Some(model) => cbor
                .array(6)?
                .str(&model.name)?
                .bytes(&model.root)?
                .u32(model.head_bytes)?
                .u64(model.pack_bytes)?
                .u64(model.working_bytes)?
                .u32(model.context_tokens)?,
        };
        cbor.array(6)?;
        for limit in self.limits.fields() {
            cbor.u32(limit.1)?;
        }
        match &self.log_policy {
            None => cbor.null()?,
            Some(policy) => cbor.str(policy)?,
        };
        match &self.token_issuer {
            None => cbor.null()?,
            Some(issuer) => cbor
                .array(3)?
                .str(&issuer.name)?
                .bytes(&issuer.token_key)?
                .str(&issuer.origin_info)?,
        };
        let Serving { tls, epoch_s } = self.serving;
        cbor.array(2)?.bool(tls)?.u32(epoch_s)?;
        Ok(())
    }

    fn check(&self) -> Result<(), ManifestError> {
        if let Some(model) = &self.model {
            model.check()?;
        }
        let policy = self.log_policy.as_ref().map_or(1, String::len);
        if !(1..=LOG_POLICY_MAX_BYTES).contains(&policy) {
            return Err(ManifestError::Field("log_policy"));
        }
        if let Some(issuer) = &self.token_issuer {
            issuer.check()?;
        }
        if !EPOCH_S.contains(&self.serving.epoch_s) {
            return Err(ManifestError::Field("epoch_s"));
        }
        self.limits.check()
    }
}

impl TokenIssuer {
    /// The lengths are checked before anything is copied.
    fn decode(cbor: &mut Decoder<'_>) -> Result<Self, ManifestError> {
        array(cbor, 3)?;
        let (name, token_key, origin_info) = (cbor.str()?, cbor.bytes()?, cbor.str()?);
        check_issuer(name, token_key, origin_info)?;
        Ok(Self {
            name: name.to_string(),
            token_key: token_key.to_vec(),
            origin_info: origin_info.to_string(),
        })
    }

    fn check(&self) -> Result<(), ManifestError> {
        check_issuer(&self.name, &self.token_key, &self.origin_info)
    }
}

fn check_issuer(name: &str, token_key: &[u8], origin_info: &str) -> Result<(), ManifestError> {
    let is_text = |text: &str| {
        text.len() <= ISSUER_MAX_BYTES && text.bytes().all(|byte| matches!(byte, b' '..=b'~'))
    };
    for (good, field) in [
        (is_text(name) && !name.is_empty(), "token_issuer"),
        (
            (1..=TOKEN_KEY_MAX_BYTES).contains(&token_key.len()),
            "token_key",
        ),
        (is_text(origin_info), "origin_info"),
    ] {
        if !good {
            return Err(ManifestError::Field(field));
        }
    }
    Ok(())
}

impl ModelRef {
    fn decode(cbor: &mut Decoder<'_>) -> Result<Self, ManifestError> {
        array(cbor, 6)?;
        let name = cbor.str()?;
        if name.len() > NAME_MAX_BYTES {
            return Err(ManifestError::Field("name"));
        }
        Ok(Self {
            name: name.to_string(),
            root: cbor
                .bytes()?
                .try_into()
                .map_err(|_| ManifestError::Field("root"))?,
            head_bytes: cbor.u32()?,
            pack_bytes: cbor.u64()?,
            working_bytes: cbor.u64()?,
            context_tokens: cbor.u32()?,
        })
    }

    fn check(&self) -> Result<(), ManifestError> {
        let plain = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'_' | b'-');
        let good_name = !self.name.is_empty()
            && self.name.len() <= NAME_MAX_BYTES
            && self.name.bytes().all(plain);
        let head = u64::from(self.head_bytes);
        for (good, field) in [
            (good_name, "name"),
            (
                (1..=HEAD_MAX_BYTES).contains(&self.head_bytes),
                "head_bytes",
            ),
            (
                (head..=MODEL_MAX_BYTES).contains(&self.pack_bytes),
                "pack_bytes",
            ),
            (self.working_bytes <= MODEL_MAX_BYTES, "working_bytes"),
            (self.context_tokens > 0, "context_tokens"),
        ] {
            if !good {
                return Err(ManifestError::Field(field));
            }
        }
        Ok(())
    }
}

impl Limits {
    fn decode(cbor: &mut Decoder<'_>) -> Result<Self, ManifestError> {
        array(cbor, 6)?;
        Ok(Self {
            request_bytes: cbor.u32()?,
            prompt_tokens: cbor.u32()?,
            output_tokens: cbor.u32()?,
            connections: cbor.u32()?,
            header_bytes: cbor.u32()?,
            idle_ms: cbor.u32()?,
        })
    }

    /// Names and values, in the order of the encoding.
    fn fields(&self) -> [(&'static str, u32); 6] {
        [
            ("request_bytes", self.request_bytes),
            ("prompt_tokens", self.prompt_tokens),
            ("output_tokens", self.output_tokens),
            ("connections", self.connections),
            ("header_bytes", self.header_bytes),
            ("idle_ms", self.idle_ms),
        ]
    }

    fn check(&self) -> Result<(), ManifestError> {
        for ((name, value), (_, most)) in self.fields().into_iter().zip(LIMITS_MAX.fields()) {
            if value == 0 || value > most {
                return Err(ManifestError::Field(name));
            }
        }
        Ok(())
    }
}

/// The length is checked before anything is copied.
fn decode_log_policy(cbor: &mut Decoder<'_>) -> Result<Option<String>, ManifestError> {
    if cbor.datatype()? == minicbor::data::Type::Null {
        cbor.null()?;
        return Ok(None);
    }
    let policy = cbor.str()?;
    match policy.len() <= LOG_POLICY_MAX_BYTES {
        true => Ok(Some(policy.to_string())),
        false => Err(ManifestError::Field("log_policy")),
    }
}

fn array(cbor: &mut Decoder<'_>, items: u64) -> Result<(), ManifestError> {
    if cbor.array()? == Some(items) {
        Ok(())
    } else {
        Err(ManifestError::Encoding)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> Manifest {
        Manifest {
            model: Some(ModelRef {
                name: "tiny".into(),
                root: [7; 32],
                head_bytes: 8192,
                pack_bytes: 1 << 27,
                working_bytes: 1 << 25,
                context_tokens: 2048,
            }),
            limits: Limits::default(),
            log_policy: Some("# none yet\nquorum none\n".into()),
            token_issuer: Some(TokenIssuer {
                name: "issuer.example".into(),
                token_key: alloc::vec![7; 342],
                origin_info: "cloister.example".into(),
            }),
            serving: Serving {
                tls: true,
                epoch_s: 20,
            },
        }
    }

    #[test]
    fn what_is_written_is_read() {
        for manifest in [full(), Manifest::default()] {
            assert_eq!(Manifest::decode(&manifest.encode().unwrap()), Ok(manifest));
        }
    }

    #[test]
    fn memory_grows_with_the_model_and_the_limits() {
        assert_eq!(Manifest::default().memory_bytes(), 91 << 20);
        let more = full().memory_bytes() - Manifest::default().memory_bytes();
        let tls = 64 * (64 << 10);
        assert_eq!(more, (1 << 27) + (1 << 25) + tls + SPENT_TOKENS_BYTES);
    }

    #[test]
    fn bounds_hold_in_both_directions() {
        let mut wrong = full();
        wrong.model.as_mut().unwrap().name = "two words".into();
        assert_eq!(wrong.encode(), Err(ManifestError::Field("name")));
        let mut wrong = full();
        wrong.limits.connections = 0;
        assert_eq!(wrong.encode(), Err(ManifestError::Field("connections")));
        let mut wrong = full();
        wrong.model.as_mut().unwrap().pack_bytes = 5;
        assert_eq!(wrong.encode(), Err(ManifestError::Field("pack_bytes")));
        for (epoch_s, good) in [(9, false), (10, true), (86_400, true), (86_401, false)] {
            let mut manifest = full();
            manifest.serving.epoch_s = epoch_s;
            assert_eq!(manifest.encode().is_ok(), good, "{epoch_s}");
        }
    }

    #[test]
    fn a_log_policy_is_measured_and_bounded() {
        let with = |policy: &str| Manifest {
            log_policy: Some(policy.into()),
            ..full()
        };
        assert_ne!(with("quorum none\n").encode(), full().encode());
        let longest = with(&"#".repeat(LOG_POLICY_MAX_BYTES));
        let bytes = longest.encode().unwrap();
        assert!(bytes.len() <= crate::rom::MANIFEST_MAX_BYTES);
        assert_eq!(Manifest::decode(&bytes), Ok(longest));
        let refused = Err(ManifestError::Field("log_policy"));
        assert_eq!(with("").encode(), refused);
        let too_long = with(&"#".repeat(LOG_POLICY_MAX_BYTES + 1));
        assert_eq!(too_long.encode(), refused);
        let mut cbor = Encoder::new(alloc::vec::Vec::new());
        too_long.write(&mut cbor).unwrap();
        let decoded = Manifest::decode(&cbor.into_writer());
        assert_eq!(decoded, Err(ManifestError::Field("log_policy")));
    }

    #[test]
    fn a_token_issuer_is_measured_and_bounded() {
        let with = |change: &dyn Fn(&mut TokenIssuer)| {
            let mut manifest = full();
            change(manifest.token_issuer.as_mut().unwrap());
            manifest
        };
        let other_key = with(&|issuer| issuer.token_key[5] = 8);
        assert_ne!(other_key.encode(), full().encode());
        assert_eq!(with(&|issuer| issuer.origin_info.clear()).check(), Ok(()));
        let wrong = [
            (with(&|issuer| issuer.name.clear()), "token_issuer"),
            (
                with(&|issuer| issuer.name = "i".repeat(256)),
                "token_issuer",
            ),
            (with(&|issuer| issuer.token_key.clear()), "token_key"),
            (
                with(&|issuer| issuer.token_key = alloc::vec![1; 513]),
                "token_key",
            ),
            (
                with(&|issuer| issuer.origin_info = "a\n".into()),
                "origin_info",
            ),
        ];
        for (manifest, field) in wrong {
            assert_eq!(manifest.encode(), Err(ManifestError::Field(field)));
            let mut cbor = Encoder::new(alloc::vec::Vec::new());
            manifest.write(&mut cbor).unwrap();
            let decoded = Manifest::decode(&cbor.into_writer());
            assert_eq!(decoded, Err(ManifestError::Field(field)));
        }
    }

    #[test]
    fn how_the_port_is_served_is_measured() {
        let with = |tls, epoch_s| {
            let serving = Serving { tls, epoch_s };
            Manifest { serving, ..full() }.encode().unwrap()
        };
        assert_ne!(with(true, 3600), with(false, 3600));
        assert_ne!(with(true, 3600), with(true, 3599));
    }

    #[test]
    fn the_encodings_of_other_versions_are_refused() {
        // Version 2 had neither issuer nor `serving`, version 1 no log policy either.
        for (version, items, gone) in [(2, 4, 6), (1, 3, 7)] {
            let mut bytes = Manifest::default().encode().unwrap();
            bytes.truncate(bytes.len() - gone);
            bytes[..2].copy_from_slice(&[0x80 | items, version]);
            let refused = ManifestError::Version(version.into());
            assert_eq!(Manifest::decode(&bytes), Err(refused));
        }
        let mut bytes = Manifest::default().encode().unwrap();
        bytes[0] = 0x84;
        assert_eq!(Manifest::decode(&bytes), Err(ManifestError::Encoding));
    }

    #[test]
    fn cut_extended_and_altered_bytes_are_refused_or_sound() {
        let good = full().encode().unwrap();
        for length in 0..good.len() {
            assert!(Manifest::decode(&good[..length]).is_err());
        }
        let longer: alloc::vec::Vec<u8> = good.iter().copied().chain([0]).collect();
        assert_eq!(Manifest::decode(&longer), Err(ManifestError::Encoding));
        for at in 0..good.len() {
            for bit in 0..8 {
                let mut bytes = good.clone();
                bytes[at] ^= 1 << bit;
                if let Ok(manifest) = Manifest::decode(&bytes) {
                    assert_eq!(manifest.check(), Ok(()));
                }
            }
        }
    }
}
