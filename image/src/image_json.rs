//! `image.json`: what an image consists of and what it was built from. Nothing in it depends on when, where or by whom
//! the image was built, so that two honest builds give the same file.

use serde::{Deserialize, Serialize};

/// Version of this file's format.
pub const FORMAT: u32 = 3;

/// The whole file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageJson {
    /// Version of the format: [`FORMAT`].
    pub format: u32,
    /// Version of Cloister.
    pub version: String,
    /// The ROM.
    pub rom: FileEntry,
    /// The same image as an IGVM file.
    pub igvm: IgvmEntry,
    /// The boot program's ELF file.
    pub boot_elf: FileEntry,
    /// The kernel's ELF file.
    pub kernel_elf: FileEntry,
    /// The model, if the image has one.
    pub model: Option<ModelEntry>,
    /// Under which logs and witnesses the image is to be published, if its manifest says so.
    pub log_policy: Option<LogPolicyEntry>,
    /// Whose anonymous tokens the guest demands, if its manifest names an issuer.
    #[serde(default)]
    pub token_issuer: Option<TokenIssuerEntry>,
    /// How the image serves its port, as its manifest says.
    pub serving: ServingEntry,
    /// What is in the guest, as a CycloneDX document.
    pub sbom: FileEntry,
    /// RAM that the image needs, in MiB.
    pub memory_mib: u64,
    /// What it was built from.
    pub source: SourceEntry,
    /// How it was built.
    pub build: BuildEntry,
    /// Launch digests of the ROM with SEV-SNP by CPU model and vCPU count.
    pub measurements: Vec<MeasurementEntry>,
}

/// A file beside this one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Its name.
    pub file: String,
    /// Its length.
    pub bytes: u64,
    /// SHA-256, lower-case hex.
    pub sha256: String,
}

/// The image as an IGVM file for SEV-SNP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IgvmEntry {
    /// The file.
    #[serde(flatten)]
    pub file: FileEntry,
    /// Its launch digest with one vCPU of any model, lower-case hex.
    pub digest: String,
}

/// The model of the image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelEntry {
    /// Name that clients see.
    pub name: String,
    /// The pack.
    pub pack: FileEntry,
    /// Digest of the pack's head that the ROM's manifest holds, lower-case hex.
    pub root: String,
    /// Tokens that the model attends to.
    pub context_tokens: u32,
    /// RAM that the engine needs beside the pack.
    pub working_bytes: u64,
    /// SHA-256 of the GGUF file that the pack was made from, lower-case hex.
    pub gguf_sha256: String,
    /// Licence of the weights, where it is known.
    pub licence: Option<String>,
}

/// The log policy in the ROM's manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogPolicyEntry {
    /// Its length.
    pub bytes: u64,
    /// SHA-256 of its text, lower-case hex.
    pub sha256: String,
}

/// The token issuer in the ROM's manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenIssuerEntry {
    /// The issuer's name.
    pub name: String,
    /// What its tokens must be for.
    pub origin: String,
    /// Its token key, a SubjectPublicKeyInfo, lower-case hex.
    pub token_key: String,
    /// SHA-256 of that key, which tokens name it by, lower-case hex.
    pub token_key_id: String,
}

/// How the port is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServingEntry {
    /// TLS on the port; otherwise plain HTTP.
    pub tls: bool,
    /// Length of a key epoch in seconds.
    pub epoch_s: u32,
}

/// Where the code came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceEntry {
    /// The repository's address as the workspace's `Cargo.toml` names it, or empty.
    pub repository: String,
    /// Git commit, or empty outside a checkout.
    pub commit: String,
    /// Git tree of that commit: the files alone, without history. Empty outside a checkout.
    pub tree: String,
    /// Whether the checkout had changes that are in no commit.
    pub modified: bool,
    /// SHA-256 of `Cargo.lock`, lower-case hex.
    pub cargo_lock_sha256: String,
}

/// What compiled it, and how.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildEntry {
    /// The compiler.
    pub rustc: RustcEntry,
    /// `cargo --version`.
    pub cargo: String,
    /// The linker, which comes with the compiler: what `rust-lld --version` says.
    pub linker: String,
    /// Target triple.
    pub target: String,
    /// Cargo profile.
    pub profile: String,
    /// The profile's settings as they are given to Cargo, so that no configuration file changes them.
    pub settings: Vec<String>,
    /// Compiler flags, with folder names left out, and the C compiler and assembler with theirs.
    pub flags: Vec<String>,
}

/// The compiler.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RustcEntry {
    /// `rustc --version`.
    pub version: String,
    /// Commit that the compiler was built from.
    pub commit: String,
    /// Version of its LLVM.
    pub llvm: String,
}

/// One launch measurement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MeasurementEntry {
    /// CPU model as the launcher names it.
    pub cpu: String,
    /// Number of virtual CPUs.
    pub vcpus: u32,
    /// The measurement, lower-case hex.
    pub digest: String,
}

/// An `image.json` that cannot be used.
#[derive(Debug)]
#[non_exhaustive]
pub enum ImageJsonError {
    /// Not the JSON of such a file.
    Json(serde_json::Error),
    /// Another version of the format.
    Format(u32),
}

impl std::fmt::Display for ImageJsonError {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Json(error) => write!(out, "not an image.json: {error}"),
            Self::Format(found) => write!(out, "image.json has format {found}, expected {FORMAT}"),
        }
    }
}

impl std::error::Error for ImageJsonError {}

impl ImageJson {
    /// The file's text.
    pub fn to_text(&self) -> String {
        let mut text = serde_json::to_string_pretty(self)
            .expect("plain structures of strings and numbers are JSON");
        text.push('\n');
        text
    }

    /// Reads the file's text.
    pub fn parse(text: &str) -> Result<Self, ImageJsonError> {
        /// Read first, since another format may have other fields.
        #[derive(Deserialize)]
        struct Version {
            format: u32,
        }
        let Version { format } = serde_json::from_str(text).map_err(ImageJsonError::Json)?;
        match format {
            FORMAT => serde_json::from_str(text).map_err(ImageJsonError::Json),
            other => Err(ImageJsonError::Format(other)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image() -> ImageJson {
        let file = |name: &str| FileEntry {
            file: name.to_owned(),
            bytes: 3,
            sha256: "00".repeat(32),
        };
        ImageJson {
            format: FORMAT,
            version: "0.1.0".to_owned(),
            rom: file("rom.bin"),
            igvm: IgvmEntry {
                file: file("cloister.igvm"),
                digest: "22".repeat(48),
            },
            boot_elf: file("boot.elf"),
            kernel_elf: file("kernel.elf"),
            model: None,
            log_policy: Some(LogPolicyEntry {
                bytes: 7,
                sha256: "33".repeat(32),
            }),
            token_issuer: Some(TokenIssuerEntry {
                name: "issuer.example".to_owned(),
                origin: "cloister.example".to_owned(),
                token_key: "55".repeat(342),
                token_key_id: "44".repeat(32),
            }),
            serving: ServingEntry {
                tls: true,
                epoch_s: 3600,
            },
            sbom: file("sbom.cdx.json"),
            memory_mib: 128,
            source: SourceEntry {
                repository: String::new(),
                commit: String::new(),
                tree: String::new(),
                modified: true,
                cargo_lock_sha256: "11".repeat(32),
            },
            build: BuildEntry {
                rustc: RustcEntry {
                    version: "rustc 1.95.0".to_owned(),
                    commit: "5980".to_owned(),
                    llvm: "22.1.2".to_owned(),
                },
                cargo: "cargo 1.95.0".to_owned(),
                linker: "LLD 22.1.2".to_owned(),
                target: "x86_64-unknown-linux-gnu".to_owned(),
                profile: "guest".to_owned(),
                settings: vec!["codegen-units=1".to_owned()],
                flags: vec![],
            },
            measurements: vec![],
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let text = image().to_text();
        assert_eq!(ImageJson::parse(&text).expect("our own text"), image());
        assert!(text.ends_with("}\n"));
    }

    #[test]
    fn another_format_is_refused() {
        let text = ImageJson {
            format: 2,
            ..image()
        }
        .to_text();
        assert!(matches!(
            ImageJson::parse(&text),
            Err(ImageJsonError::Format(2))
        ));
        // Whatever else an older file has.
        assert!(matches!(
            ImageJson::parse(r#"{"format": 1, "rom": "another shape"}"#),
            Err(ImageJsonError::Format(1))
        ));
        assert!(matches!(
            ImageJson::parse("{}"),
            Err(ImageJsonError::Json(_))
        ));
    }
}
