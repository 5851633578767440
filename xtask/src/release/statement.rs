//! The statement of a release, out of an image's folder.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use cloister_boot::manifest;
use cloister_image::image_json::{FileEntry, ImageJson, MeasurementEntry, TokenIssuerEntry};
use cloister_measure::{CpuModel, GuestFeatures};
use cloister_tokens::key::SPKI_BYTES;
use cloister_transparency::release::{
    self, Build, ImageRelease, MinimumTcb, Model, Period, Serving, SnpLaunch, Source, Statement,
    Subject, TokenIssuer,
};
use cloister_verifier::Product;

use crate::digest;
use crate::image_build::{IMAGE_JSON, Image};
use crate::qemu::DEFAULT_POLICY;

/// The launcher whose pages the measurement table counts in.
const VMM: &str = "qemu";
/// The launcher that takes the IGVM file as it is.
const IGVM_VMM: &str = "igvm";

// A statement can say of an image whatever its manifest can.
const _: () = {
    let (said, can_be) = (release::EPOCH_S, manifest::EPOCH_S);
    assert!(*said.start() == *can_be.start() && *said.end() == *can_be.end());
    assert!(release::MAX_ISSUER_BYTES == manifest::ISSUER_MAX_BYTES);
    assert!(release::MAX_TOKEN_KEY_BYTES == manifest::TOKEN_KEY_MAX_BYTES);
};

/// Why an image cannot be released.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StatementError {
    /// A file of the image is not what `image.json` says.
    #[error(
        "{path} has SHA-256 {found}, image.json says {expected}; build the image again with: cargo xtask image"
    )]
    Digest {
        /// The file.
        path: PathBuf,
        /// Its digest.
        found: String,
        /// What it should be.
        expected: String,
    },
    /// `image.json` has something that a release cannot say.
    #[error("image.json: {field} is {found:?}; build the image again with: cargo xtask image")]
    Field {
        /// Which field.
        field: &'static str,
        /// Its value.
        found: String,
    },
    /// A file cannot be read.
    #[error("{path}: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// What a release of `image` says. The digests of the files are taken from the files, not from `image.json`.
///
/// # Errors
/// [`StatementError`].
pub fn of_image(image: &Image, period: Period) -> Result<Statement, StatementError> {
    let facts = image.facts();
    Ok(Statement::Image(ImageRelease {
        subjects: subjects(image)?,
        version: facts.version.clone(),
        period,
        snp: launches(facts)?,
        model: model(facts)?,
        log_policy: facts
            .log_policy
            .as_ref()
            .map(|policy| sha256("log_policy.sha256", &policy.sha256))
            .transpose()?,
        serving: Some(Serving {
            epoch_s: facts.serving.epoch_s,
            tls: facts.serving.tls,
        }),
        token_issuer: facts.token_issuer.as_ref().map(token_issuer).transpose()?,
        source: Source {
            repository: facts.source.repository.clone(),
            commit: facts.source.commit.clone(),
            tree: facts.source.tree.clone(),
            modified: facts.source.modified,
            cargo_lock: sha256("source.cargo_lock_sha256", &facts.source.cargo_lock_sha256)?,
        },
        build: Build {
            rustc: facts.build.rustc.version.clone(),
            target: facts.build.target.clone(),
            profile: facts.build.profile.clone(),
            flags: facts.build.flags.clone(),
        },
        sbom: sha256("sbom.sha256", &facts.sbom.sha256)?,
    }))
}

/// Every file of the image by its digest, in the order of the names.
pub fn subjects(image: &Image) -> Result<Vec<Subject>, StatementError> {
    let facts = image.facts();
    let mut subjects = vec![subject(&image.path(IMAGE_JSON))?];
    for entry in files(facts) {
        let path = image.path(&entry.file);
        let subject = subject(&path)?;
        let found = digest::hex(&subject.sha256);
        if found != entry.sha256 {
            let expected = entry.sha256.clone();
            return Err(StatementError::Digest {
                path,
                found,
                expected,
            });
        }
        subjects.push(subject);
    }
    subjects.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(subjects)
}

/// The files that `image.json` names.
fn files(facts: &ImageJson) -> impl Iterator<Item = &FileEntry> {
    let always = [
        &facts.rom,
        &facts.igvm.file,
        &facts.boot_elf,
        &facts.kernel_elf,
        &facts.sbom,
    ];
    always
        .into_iter()
        .chain(facts.model.as_ref().map(|model| &model.pack))
}

fn subject(path: &Path) -> Result<Subject, StatementError> {
    let io = |source| StatementError::Io {
        path: path.to_owned(),
        source,
    };
    // A link to a file elsewhere is that file's name, and files are named by their own.
    fs::metadata(path).map_err(io)?;
    let name = path.file_name().expect("files of an image have names");
    let found = digest::of_file(path).map_err(io)?;
    Ok(Subject {
        name: name.to_string_lossy().into_owned(),
        sha256: sha256("a file's digest", &found)?,
    })
}

/// The launches of the measurement table, then that of the IGVM file, which is measured for one virtual CPU of any model.
pub fn launches(facts: &ImageJson) -> Result<Vec<SnpLaunch>, StatementError> {
    let mut launches: Vec<SnpLaunch> = facts
        .measurements
        .iter()
        .map(launch)
        .collect::<Result<_, _>>()?;
    launches.push(SnpLaunch {
        cpu: "any".to_owned(),
        cpu_signature: 0,
        guest_features: GuestFeatures::SNP.0,
        measurement: measurement(&facts.igvm.digest)?,
        minimum_tcb: MinimumTcb::default(),
        policy: DEFAULT_POLICY,
        vcpus: 1,
        vmm: IGVM_VMM.to_owned(),
    });
    Ok(launches)
}

fn launch(row: &MeasurementEntry) -> Result<SnpLaunch, StatementError> {
    let cpu: CpuModel = row.cpu.parse().map_err(|_| StatementError::Field {
        field: "measurements.cpu",
        found: row.cpu.clone(),
    })?;
    Ok(SnpLaunch {
        cpu: row.cpu.clone(),
        cpu_signature: cpu.signature(),
        guest_features: GuestFeatures::SNP.0,
        measurement: measurement(&row.digest)?,
        minimum_tcb: minimum_tcb(cpu),
        policy: DEFAULT_POLICY,
        vcpus: row.vcpus,
        vmm: VMM.to_owned(),
    })
}

/// The floor of the product. Floors of single models are the client's: what a virtual CPU is called says nothing of the
/// stepping that it runs on.
fn minimum_tcb(cpu: CpuModel) -> MinimumTcb {
    let product = match cpu {
        CpuModel::MILAN => Product::Milan,
        CpuModel::GENOA => Product::Genoa,
        CpuModel::TURIN => Product::Turin,
        _ => return MinimumTcb::default(),
    };
    let floors = cloister_verifier::Policy::new().tcb_floors;
    let floor = floors
        .iter()
        .find(|floor| floor.product == product && floor.model.is_none());
    floor.map_or_else(MinimumTcb::default, |floor| MinimumTcb {
        boot_loader: floor.tcb.boot_loader,
        fmc: floor.tcb.fmc,
        microcode: floor.tcb.microcode,
        snp: floor.tcb.snp,
        tee: floor.tcb.tee,
    })
}

fn model(facts: &ImageJson) -> Result<Option<Model>, StatementError> {
    let Some(model) = &facts.model else {
        return Ok(None);
    };
    Ok(Some(Model {
        name: model.name.clone(),
        root: sha256("model.root", &model.root)?,
        gguf: sha256("model.gguf_sha256", &model.gguf_sha256)?,
        licence: model.licence.clone(),
    }))
}

fn token_issuer(issuer: &TokenIssuerEntry) -> Result<TokenIssuer, StatementError> {
    let token_key: Option<[u8; SPKI_BYTES]> = digest::from_hex(&issuer.token_key);
    let token_key = token_key.ok_or_else(|| StatementError::Field {
        field: "token_issuer.token_key",
        found: issuer.token_key.clone(),
    })?;
    Ok(TokenIssuer {
        name: issuer.name.clone(),
        origin: issuer.origin.clone(),
        token_key: token_key.to_vec(),
    })
}

fn sha256(field: &'static str, text: &str) -> Result<[u8; 32], StatementError> {
    digest::from_hex(text).ok_or_else(|| StatementError::Field {
        field,
        found: text.to_owned(),
    })
}

fn measurement(text: &str) -> Result<[u8; 48], StatementError> {
    digest::from_hex(text).ok_or_else(|| StatementError::Field {
        field: "measurements.digest",
        found: text.to_owned(),
    })
}
