//! What an entry of the log says: a release, or that one is withdrawn.
//!
//! An entry is a signed note by the release key. Its text is one line: an in-toto Statement v1 in canonical JSON (RFC
//! 8785), with a predicate of our own, [`PREDICATE_TYPE`]. There is one text for one statement: what is not written as
//! [`Statement::to_text`] writes it is refused.
//!
//! | kind | fields of the predicate |
//! |---|---|
//! | `image` | `build`, `logPolicy`, `model`, `notAfter`, `notBefore`, `sbom`, `serving`, `snp`, `source`, `tokenIssuer`, `version` |
//! | `model` | `model`, `notAfter`, `notBefore`, `version` |
//! | `withdraw` | `notBefore`, `reason`, `withdraws` |
//!
//! Whoever builds an image again needs `serving` (TLS or not, length of a key epoch) and, where the image names one,
//! `tokenIssuer`; statements from before there were such fields have neither.
//!
//! Digests and the token key are lower-case hexadecimal digits, times RFC 3339 in UTC and whole seconds, numbers integers below 2^53.

mod wire;

#[cfg(test)]
mod tests;

use crate::appraise::MAX_ENTRY_BYTES;
use crate::key::VerifierKey;
use crate::merkle::Hash;
use crate::note::{Note, NoteError};
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// What kind of predicate a statement has.
pub const PREDICATE_TYPE: &str = "urn:cloister:measured-release:v1";

/// The in-toto Statement's type.
pub const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";

/// The longest time that a release is valid for, in seconds: 90 days.
pub const MAX_VALIDITY_S: u64 = 90 * 86_400;

/// The most launches that a release names.
pub const MAX_LAUNCHES: usize = 256;

/// The most files that a statement names.
pub const MAX_SUBJECTS: usize = 16;

/// The shortest and the longest key epoch of an image, in seconds.
pub const EPOCH_S: core::ops::RangeInclusive<u32> = 10..=86_400;

/// The longest name of a token issuer, and the longest list of its origins, in bytes.
pub const MAX_ISSUER_BYTES: usize = 255;

/// The longest token key, in bytes.
pub const MAX_TOKEN_KEY_BYTES: usize = 512;

/// A file by its name and digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// Its name in the image's folder.
    pub name: String,
    /// SHA-256.
    pub sha256: [u8; 32],
}

/// When a release is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Period {
    /// From this second on, since 1970.
    pub not_before_s: u64,
    /// Up to this second.
    pub not_after_s: u64,
}

/// Where the source is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// URL of the repository, empty where it is not public.
    pub repository: String,
    /// Git commit, 40 or 64 lower-case hexadecimal digits; empty where `modified` and there is none.
    pub commit: String,
    /// Git tree of that commit.
    pub tree: String,
    /// Whether something was built that is in no commit; then nobody can build it again.
    pub modified: bool,
    /// SHA-256 of `Cargo.lock`.
    pub cargo_lock: [u8; 32],
}

/// What compiled it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Build {
    /// `rustc --version`.
    pub rustc: String,
    /// Target triple.
    pub target: String,
    /// Cargo profile.
    pub profile: String,
    /// Compiler flags without folder names.
    pub flags: Vec<String>,
}

/// The model of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Model {
    /// Name that clients see.
    pub name: String,
    /// Digest of the pack's head, which the image's manifest holds.
    pub root: [u8; 32],
    /// SHA-256 of the GGUF file that the pack was made from.
    pub gguf: [u8; 32],
    /// Licence of the weights, where it is known.
    pub licence: Option<String>,
}

/// The least TCB version of the machine, by AMD's components (AMD 56860, `TCB_VERSION`); zero asks for nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MinimumTcb {
    /// Boot loader.
    pub boot_loader: u8,
    /// Firmware of the memory controller; Turin only.
    pub fmc: u8,
    /// Microcode.
    pub microcode: u8,
    /// SNP firmware.
    pub snp: u8,
    /// The security processor's operating system.
    pub tee: u8,
}

/// One launch of the image with SEV-SNP and its measurement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnpLaunch {
    /// CPU model as the launcher names it.
    pub cpu: String,
    /// `CPUID` Fn0000_0001 EAX: family, model, stepping.
    pub cpu_signature: u32,
    /// VMSA `SEV_FEATURES`.
    pub guest_features: u64,
    /// Launch digest.
    pub measurement: [u8; 48],
    /// What the machine must have at least.
    pub minimum_tcb: MinimumTcb,
    /// Guest policy: permissions that are not in it must not be given at launch.
    pub policy: u64,
    /// Number of virtual CPUs.
    pub vcpus: u32,
    /// The launcher that adds pages of its own: `qemu`, `igvm`, ...
    pub vmm: String,
}

/// How an image serves its port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Serving {
    /// Length of a key epoch in seconds, within [`EPOCH_S`].
    pub epoch_s: u32,
    /// TLS on the port; otherwise plain HTTP.
    pub tls: bool,
}

/// Whose anonymous tokens an image demands (RFC 9577, RFC 9578).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenIssuer {
    /// The issuer's name: printable ASCII.
    pub name: String,
    /// The origins that its tokens must be for, separated by commas, or nothing: printable ASCII.
    pub origin: String,
    /// Its token key, a SubjectPublicKeyInfo. It is not looked into here.
    pub token_key: Vec<u8>,
}

/// A released image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageRelease {
    /// `rom.bin`, `kernel.elf`, `model.pack`, ...
    pub subjects: Vec<Subject>,
    /// Version of Cloister.
    pub version: String,
    /// When it is valid.
    pub period: Period,
    /// Its launches with SEV-SNP.
    pub snp: Vec<SnpLaunch>,
    /// Its model, if it has one.
    pub model: Option<Model>,
    /// SHA-256 of the log policy in the image's manifest, if it has one.
    pub log_policy: Option<[u8; 32]>,
    /// How it serves its port; statements from before there was a choice do not say.
    pub serving: Option<Serving>,
    /// The token issuer in its manifest, if it names one.
    pub token_issuer: Option<TokenIssuer>,
    /// Where its source is.
    pub source: Source,
    /// How it was built.
    pub build: Build,
    /// SHA-256 of its bill of materials.
    pub sbom: [u8; 32],
}

/// A released model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelRelease {
    /// `model.pack`.
    pub subjects: Vec<Subject>,
    /// Version of Cloister that made the pack.
    pub version: String,
    /// When it is valid.
    pub period: Period,
    /// The model.
    pub model: Model,
}

/// That an entry does not count any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Withdrawal {
    /// The files of the entry that is withdrawn.
    pub subjects: Vec<Subject>,
    /// From this second on, since 1970.
    pub not_before_s: u64,
    /// Why, for people.
    pub reason: String,
    /// The leaf hash of the entry that is withdrawn.
    pub withdraws: Hash,
}

/// What an entry says.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    clippy::large_enum_variant,
    reason = "an entry is read at a time, and an image is what it nearly always is"
)]
#[non_exhaustive]
pub enum Statement {
    /// An image.
    Image(ImageRelease),
    /// A model.
    Model(ModelRelease),
    /// A withdrawal.
    Withdraw(Withdrawal),
}

/// Why an entry is no statement of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReleaseError {
    /// It is longer than any that a log can hold.
    TooLarge {
        /// Bytes of the entry.
        bytes: usize,
    },
    /// It is not a signed note, or not one by a release key that is trusted.
    Note(NoteError),
    /// The text is not one line of JSON with the fields of a statement.
    Json {
        /// What the parser says.
        reason: String,
    },
    /// It is another statement or predicate than ours.
    Type {
        /// The type that it names.
        found: String,
    },
    /// A field is missing, is of another kind of predicate, or has a value that it cannot have.
    Field(&'static str),
    /// It is not written in canonical form (RFC 8785).
    NotCanonical,
}

impl fmt::Display for ReleaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge { bytes } => {
                write!(f, "an entry of {bytes} bytes is over {MAX_ENTRY_BYTES}")
            }
            Self::Note(error) => write!(f, "the release note: {error}"),
            Self::Json { reason } => write!(f, "the release note holds no statement: {reason}"),
            Self::Type { found } => write!(
                f,
                "the release note holds a statement of another type, {found:?}"
            ),
            Self::Field(name) => write!(f, "the release's field {name} is missing or wrong"),
            Self::NotCanonical => write!(f, "the release is not in canonical JSON (RFC 8785)"),
        }
    }
}

impl core::error::Error for ReleaseError {}

/// A time as statements have it, like `2026-11-27T00:00:00Z`; after the year 9999 the last second that there is a text
/// for.
pub fn time_text(seconds: u64) -> String {
    wire::time(seconds)
}

impl Statement {
    /// Reads the text of a note: one line and its newline.
    ///
    /// # Errors
    /// [`ReleaseError`].
    pub fn parse(text: &str) -> Result<Self, ReleaseError> {
        let statement = wire::read(text)?;
        match statement.to_text() == text {
            true => Ok(statement),
            false => Err(ReleaseError::NotCanonical),
        }
    }

    /// Reads an entry and checks that one of `keys` signed it.
    ///
    /// # Errors
    /// [`ReleaseError`].
    pub fn verify<'k>(
        entry: &[u8],
        keys: impl IntoIterator<Item = &'k VerifierKey>,
    ) -> Result<Self, ReleaseError> {
        if entry.len() > MAX_ENTRY_BYTES {
            return Err(ReleaseError::TooLarge { bytes: entry.len() });
        }
        let note = Note::parse(entry).map_err(ReleaseError::Note)?;
        note.verify(keys).map_err(ReleaseError::Note)?;
        Self::parse(note.text())
    }

    /// The text of the note: canonical JSON and a newline.
    pub fn to_text(&self) -> String {
        wire::write(self)
    }

    /// Checks what [`Self::parse`] checks, of a statement that was made here.
    ///
    /// # Errors
    /// [`ReleaseError`].
    pub fn check(&self) -> Result<(), ReleaseError> {
        Self::parse(&self.to_text()).map(|_| ())
    }

    /// The files that it is about.
    pub fn subjects(&self) -> &[Subject] {
        match self {
            Self::Image(image) => &image.subjects,
            Self::Model(model) => &model.subjects,
            Self::Withdraw(withdrawal) => &withdrawal.subjects,
        }
    }

    /// `image`, `model` or `withdraw`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Image(_) => "image",
            Self::Model(_) => "model",
            Self::Withdraw(_) => "withdraw",
        }
    }
}
