//! Building an image: guest programs, model pack, manifest, ROM, `image.json`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use cloister_boot::manifest::{Limits, Manifest, ModelRef, Serving, TokenIssuer};
use cloister_image::image_json::{
    BuildEntry, FORMAT, FileEntry, IgvmEntry, ImageJson, ImageJsonError, LogPolicyEntry,
    MeasurementEntry, ModelEntry, RustcEntry, ServingEntry, SourceEntry, TokenIssuerEntry,
};
use cloister_image::rom::{self, RomInputs};
use cloister_measure::table::TABLE_CPUS;
use cloister_measure::{
    IgvmError, LaunchDigest, MeasureError, MeasurementRow, MeasurementTable, igvm_of_rom,
    measure_igvm,
};
use cloister_tokens::origin::Issuer;

use crate::digest;
use crate::guest_build::{self, BuildError, Environment, PROFILE, SETTINGS, TARGET, Toolchain};
use crate::models::{self, FetchError, ModelChoice};
use crate::packs::{self, PackError, PackFile};
use crate::process::{self, ProcessError};
use crate::qemu::{GuestOptions, Platform};
use crate::sbom::{self, SbomError};
use crate::tcb::ImageSizes;
use crate::workspace::Workspace;

/// Name of the file that describes an image.
pub const IMAGE_JSON: &str = "image.json";
/// Name of the ROM.
pub const ROM_BIN: &str = "rom.bin";
/// Name of the IGVM file.
pub const IGVM: &str = "cloister.igvm";
/// Name of the boot program.
pub const BOOT_ELF: &str = "boot.elf";
/// Name of the kernel.
pub const KERNEL_ELF: &str = "kernel.elf";
/// Name of the model pack.
pub const MODEL_PACK: &str = "model.pack";
/// Name of the list of what is in the guest.
pub const SBOM: &str = "sbom.cdx.json";
/// Name of the image's entry in a transparency log, once it is published.
pub const RELEASE_NOTE: &str = "release.note";
/// Name of the proof that the log has it.
pub const RELEASE_PROOF: &str = "release.tlog-proof";

/// The measurement table goes up to so many virtual CPUs.
const MEASURED_VCPUS: u32 = 16;
/// RAM that a machine has and does not offer as such: below 1 MiB.
const HIDDEN_MEMORY_BYTES: u64 = 1 << 20;
/// RAM sizes are multiples of this.
const MEMORY_STEP_MIB: u64 = 32;

/// An image could not be built or opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// A program failed.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// The guest programs were not built.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The list of what is in the guest could not be written.
    #[error(transparent)]
    Sbom(#[from] SbomError),
    /// `Cargo.toml` cannot be read.
    #[error("{path}: {reason}")]
    CargoToml {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The model could not be fetched.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The model pack could not be made.
    #[error(transparent)]
    Pack(#[from] PackError),
    /// The ROM could not be packed.
    #[error("packing the ROM: {0}")]
    Rom(#[from] rom::RomError),
    /// The ROM that was just packed could not be measured.
    #[error("measuring the ROM: {0}")]
    Measure(#[from] MeasureError),
    /// The IGVM file that was just made could not be measured.
    #[error("measuring the IGVM file: {0}")]
    Igvm(#[from] IgvmError),
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The folder holds no image that this program understands.
    #[error("{path}: {source}; build an image with: cargo xtask image")]
    NotAnImage {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        source: ImageJsonError,
    },
}

/// A folder with an image.
#[derive(Clone, Debug)]
pub struct Image {
    folder: PathBuf,
    facts: ImageJson,
}

impl Image {
    /// Opens an image that was built before.
    pub fn open(folder: &Path) -> Result<Self, ImageError> {
        let path = folder.join(IMAGE_JSON);
        let text = fs::read_to_string(&path).map_err(at(&path))?;
        let facts =
            ImageJson::parse(&text).map_err(|source| ImageError::NotAnImage { path, source })?;
        Ok(Self {
            folder: folder.to_owned(),
            facts,
        })
    }

    /// What `image.json` says.
    pub fn facts(&self) -> &ImageJson {
        &self.facts
    }

    /// A file in the image's folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The ROM.
    pub fn rom(&self) -> PathBuf {
        self.folder.join(ROM_BIN)
    }

    /// The image as an IGVM file.
    pub fn igvm(&self) -> PathBuf {
        self.folder.join(&self.facts.igvm.file.file)
    }

    /// The boot program and the kernel.
    pub fn elf_files(&self) -> [PathBuf; 2] {
        [BOOT_ELF, KERNEL_ELF].map(|name| self.folder.join(name))
    }

    /// The model pack, if the image names one.
    pub fn model_pack(&self) -> Option<PathBuf> {
        self.facts
            .model
            .as_ref()
            .map(|model| self.folder.join(&model.pack.file))
    }

    /// A file about the image's release, if it has been published.
    fn release_file(&self, name: &str) -> Option<PathBuf> {
        let path = self.folder.join(name);
        path.is_file().then_some(path)
    }

    /// Sizes of what runs in the guest.
    pub fn sizes(&self) -> ImageSizes {
        ImageSizes {
            boot_elf_bytes: self.facts.boot_elf.bytes,
            kernel_elf_bytes: self.facts.kernel_elf.bytes,
            rom_bytes: self.facts.rom.bytes,
        }
    }

    /// The launch digest that `image.json` foretells for this processor and number of CPUs, launched by QEMU.
    pub fn measurement(&self, cpu: &str, vcpus: u32) -> Option<LaunchDigest> {
        let rows = &self.facts.measurements;
        let row = rows
            .iter()
            .find(|row| row.cpu == cpu && row.vcpus == vcpus)?;
        row.digest.parse().ok()
    }

    /// How to boot it: with the RAM that it needs, one CPU, any free port.
    pub fn guest_options(&self, platform: Platform) -> GuestOptions {
        GuestOptions {
            rom: self.rom(),
            model_pack: self.model_pack(),
            memory_mib: self.facts.memory_mib,
            cpus: 1,
            port: None,
            platform,
            certificates: None,
            release_note: self.release_file(RELEASE_NOTE),
            release_proof: self.release_file(RELEASE_PROOF),
            tls: self.facts.serving.tls,
            echo: false,
            cpu: None,
            network: true,
            extra: Vec::new(),
        }
    }
}

/// What goes into an image besides the code.
#[derive(Clone, Debug)]
pub struct ImageInputs<'a> {
    /// The model.
    pub model: &'a ModelChoice,
    /// Under which logs and witnesses the image is to be published: the text of a tlog-policy, checked by the caller.
    pub log_policy: Option<String>,
    /// Whose anonymous tokens the guest demands.
    pub token_issuer: Option<Issuer>,
    /// How the port is served.
    pub serving: Serving,
    /// The environment in which the guest programs are built.
    pub environment: Environment,
}

/// Builds an image with `model`, without a log policy, without a token issuer and served as by default, into `folder`.
pub fn build(
    workspace: &Workspace,
    model: &ModelChoice,
    folder: &Path,
) -> Result<Image, ImageError> {
    let inputs = ImageInputs {
        model,
        log_policy: None,
        token_issuer: None,
        serving: Serving::default(),
        environment: Environment::of_this_process(),
    };
    build_from(workspace, &inputs, folder)
}

/// Builds an image into `folder`.
pub fn build_from(
    workspace: &Workspace,
    inputs: &ImageInputs<'_>,
    folder: &Path,
) -> Result<Image, ImageError> {
    let pack = obtain_pack(workspace, inputs.model)?;
    let programs = guest_build::build(workspace, &inputs.environment)?;
    let read = |path: &Path| fs::read(path).map_err(at(path));
    let (boot_elf, kernel_elf) = (read(&programs.boot)?, read(&programs.kernel)?);
    let manifest = Manifest {
        model: pack.as_ref().map(|pack| pack.reference.clone()),
        limits: Limits::default(),
        log_policy: inputs.log_policy.clone(),
        token_issuer: inputs.token_issuer.as_ref().map(|issuer| TokenIssuer {
            name: issuer.name.clone(),
            token_key: issuer.token_key.spki().to_vec(),
            origin_info: issuer.origin_info.clone(),
        }),
        serving: inputs.serving,
    };
    let rom = rom::pack(&RomInputs {
        boot_elf: &boot_elf,
        kernel_elf: &kernel_elf,
        manifest: &manifest,
    })?;

    fs::create_dir_all(folder).map_err(at(folder))?;
    let write = |name: &str, bytes: &[u8]| write_file(folder, name, bytes);
    let model = pack.map(|pack| place_pack(pack, folder)).transpose()?;
    let version = env!("CARGO_PKG_VERSION").to_owned();
    let rom_file = write(ROM_BIN, &rom)?;
    let (source, build) = (source_entry(workspace)?, build_entry(&programs.toolchain));
    let sbom = sbom::text(&sbom::Subject {
        version: &version,
        rom_sha256: &rom_file.sha256,
        packages: &programs.packages,
        model: model.as_ref(),
        source: &source,
        build: &build,
    })?;
    let facts = ImageJson {
        format: FORMAT,
        version,
        rom: rom_file,
        igvm: write_igvm(folder, &rom)?,
        boot_elf: write(BOOT_ELF, &boot_elf)?,
        kernel_elf: write(KERNEL_ELF, &kernel_elf)?,
        memory_mib: memory_mib(&manifest),
        model,
        log_policy: manifest.log_policy.as_deref().map(log_policy_entry),
        token_issuer: inputs.token_issuer.as_ref().map(token_issuer_entry),
        serving: ServingEntry {
            tls: manifest.serving.tls,
            epoch_s: manifest.serving.epoch_s,
        },
        sbom: write(SBOM, sbom.as_bytes())?,
        source,
        build,
        measurements: measurements(&rom)?,
    };
    forget_other_release(folder, &facts.to_text())?;
    write(IMAGE_JSON, facts.to_text().as_bytes())?;
    Ok(Image {
        folder: folder.to_owned(),
        facts,
    })
}

/// Removes the release of another image that was in this folder before: no client would accept it.
fn forget_other_release(folder: &Path, facts: &str) -> Result<(), ImageError> {
    if fs::read_to_string(folder.join(IMAGE_JSON)).is_ok_and(|before| before == facts) {
        return Ok(());
    }
    for path in [RELEASE_NOTE, RELEASE_PROOF].map(|name| folder.join(name)) {
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at(&path)(error)),
            _ => {}
        }
    }
    Ok(())
}

fn log_policy_entry(text: &str) -> LogPolicyEntry {
    LogPolicyEntry {
        bytes: text.len() as u64,
        sha256: digest::of_bytes(text.as_bytes()),
    }
}

/// What `image.json` says of a token issuer.
pub(crate) fn token_issuer_entry(issuer: &Issuer) -> TokenIssuerEntry {
    TokenIssuerEntry {
        name: issuer.name.clone(),
        origin: issuer.origin_info.clone(),
        token_key: digest::hex(issuer.token_key.spki()),
        token_key_id: digest::of_bytes(issuer.token_key.spki()),
    }
}

fn obtain_pack(workspace: &Workspace, model: &ModelChoice) -> Result<Option<PackFile>, ImageError> {
    match model {
        ModelChoice::None => Ok(None),
        ModelChoice::Fixture => Ok(Some(packs::of_fixture(workspace)?)),
        ModelChoice::Named(_) | ModelChoice::File(_) => {
            let gguf =
                models::obtain(model, &workspace.models())?.expect("these choices have a file");
            let licence = match model {
                ModelChoice::Named(named) => Some(named.licence),
                _ => None,
            };
            Ok(Some(packs::of_gguf(workspace, model, &gguf, licence)?))
        }
    }
}

/// Puts the pack beside the ROM. A link costs no space; where links do not work it is copied.
fn place_pack(pack: PackFile, folder: &Path) -> Result<ModelEntry, ImageError> {
    let path = folder.join(MODEL_PACK);
    if path.exists() {
        fs::remove_file(&path).map_err(at(&path))?;
    }
    if fs::hard_link(&pack.path, &path).is_err() {
        fs::copy(&pack.path, &path).map_err(at(&path))?;
    }
    let ModelRef {
        name,
        root,
        pack_bytes,
        working_bytes,
        context_tokens,
        ..
    } = pack.reference;
    Ok(ModelEntry {
        name,
        pack: FileEntry {
            file: MODEL_PACK.to_owned(),
            bytes: pack_bytes,
            sha256: pack.sha256,
        },
        root: digest::hex(&root),
        context_tokens,
        working_bytes,
        gguf_sha256: pack.gguf_sha256,
        licence: pack.licence,
    })
}

fn write_file(folder: &Path, name: &str, bytes: &[u8]) -> Result<FileEntry, ImageError> {
    let path = folder.join(name);
    fs::write(&path, bytes).map_err(at(&path))?;
    Ok(FileEntry {
        file: name.to_owned(),
        bytes: bytes.len() as u64,
        sha256: digest::of_bytes(bytes),
    })
}

/// Writes the IGVM file that launches the same pages as the ROM.
fn write_igvm(folder: &Path, rom: &[u8]) -> Result<IgvmEntry, ImageError> {
    let igvm = igvm_of_rom(rom).map_err(MeasureError::from)?;
    Ok(IgvmEntry {
        file: write_file(folder, IGVM, &igvm)?,
        digest: measure_igvm(&igvm)?.digest().to_string(),
    })
}

/// Launch digests with SEV-SNP, by CPU model and number of virtual CPUs, launched by QEMU.
fn measurements(rom: &[u8]) -> Result<Vec<MeasurementEntry>, ImageError> {
    let table = MeasurementTable::new(rom, MEASURED_VCPUS, &TABLE_CPUS)?;
    let entry = |row: MeasurementRow| MeasurementEntry {
        cpu: row.cpu,
        vcpus: row.vcpus,
        digest: row.digest.to_string(),
    };
    Ok(table.rows.into_iter().map(entry).collect())
}

/// RAM in MiB to give to a machine with this image.
fn memory_mib(manifest: &Manifest) -> u64 {
    let bytes = manifest.memory_bytes() + HIDDEN_MEMORY_BYTES;
    bytes.div_ceil(1 << 20).next_multiple_of(MEMORY_STEP_MIB)
}

/// The commit that is checked out; empty outside a checkout.
pub fn commit(workspace: &Workspace) -> String {
    git(workspace, &["rev-parse", "HEAD"])
}

/// What Git prints; nothing where it fails, as in a source archive, which has no history.
fn git(workspace: &Workspace, words: &[&str]) -> String {
    let mut command = Command::new("git");
    command.current_dir(workspace.root()).args(words);
    let printed = process::capture(&mut command, "git").unwrap_or_default();
    printed.trim().to_owned()
}

fn source_entry(workspace: &Workspace) -> Result<SourceEntry, ImageError> {
    let lock = workspace.root().join("Cargo.lock");
    Ok(SourceEntry {
        repository: repository(workspace)?,
        commit: commit(workspace),
        tree: git(workspace, &["rev-parse", "HEAD^{tree}"]),
        modified: !git(
            workspace,
            &["status", "--porcelain", "--untracked-files=no"],
        )
        .is_empty(),
        cargo_lock_sha256: digest::of_file(&lock).map_err(at(&lock))?,
    })
}

/// The address in the workspace's `Cargo.toml`, or nothing.
fn repository(workspace: &Workspace) -> Result<String, ImageError> {
    let path = workspace.root().join("Cargo.toml");
    let text = fs::read_to_string(&path).map_err(at(&path))?;
    let table: toml::Table = text.parse().map_err(|error| ImageError::CargoToml {
        path,
        reason: format!("{error}"),
    })?;
    let package = table
        .get("workspace")
        .and_then(|found| found.get("package"));
    let address = package.and_then(|found| found.get("repository")?.as_str());
    Ok(address.unwrap_or_default().to_owned())
}

fn build_entry(toolchain: &Toolchain) -> BuildEntry {
    BuildEntry {
        rustc: RustcEntry {
            version: toolchain.rustc.clone(),
            commit: toolchain.commit.clone(),
            llvm: toolchain.llvm.clone(),
        },
        cargo: toolchain.cargo.clone(),
        linker: toolchain.linker.clone(),
        target: TARGET.to_owned(),
        profile: PROFILE.to_owned(),
        settings: SETTINGS.map(str::to_owned).to_vec(),
        flags: guest_build::public_flags(toolchain),
    }
}

fn at(path: &Path) -> impl Fn(std::io::Error) -> ImageError {
    let path = path.to_owned();
    move |source| ImageError::Io {
        path: path.clone(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_follows_the_model() {
        let mut manifest = Manifest::default();
        let without = memory_mib(&manifest);
        assert!((without << 20) > manifest.memory_bytes());
        manifest.model = Some(ModelRef {
            name: "m".to_owned(),
            root: [0; 32],
            head_bytes: 4096,
            pack_bytes: 100 << 20,
            working_bytes: (30 << 20) + 1,
            context_tokens: 2048,
        });
        let with = memory_mib(&manifest);
        assert!((with << 20) > manifest.memory_bytes() && with >= without + 128);
        assert!(with.is_multiple_of(MEMORY_STEP_MIB));
    }

    #[test]
    fn a_folder_without_an_image_is_named() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        assert!(
            Image::open(folder.path())
                .unwrap_err()
                .to_string()
                .contains(IMAGE_JSON)
        );
        fs::write(folder.path().join(IMAGE_JSON), "{}").expect("written");
        let text = Image::open(folder.path()).unwrap_err().to_string();
        assert!(text.contains("cargo xtask image"), "{text}");
    }
}
