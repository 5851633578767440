//! The policy as people write it: arguments and a JSON file.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use cloister_verifier::carrier::{Carried, CarrierError};
use cloister_verifier::policy::TcbFloor;
use cloister_verifier::{Policy, Product, RootError, Tcb};
use serde::Deserialize;

use crate::log_arguments::{LogArguments, LogEntry, LogToRead};
use crate::log_view::LogViewError;
use crate::tls::Authorities;

/// Largest file that is read, in bytes; reports, certificates and policies are far smaller.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// What evidence must show, and what helps to check it.
#[derive(Debug, clap::Args)]
pub(crate) struct PolicyArguments {
    /// Launch digest that is accepted, 96 hexadecimal digits, as `cargo xtask measure` prints it.
    #[arg(long, value_name = "HEX", value_parser = parse_measurement)]
    measurement: Vec<Measurement>,
    /// Policy: a JSON file; `cloister verify --help` has its fields.
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Certificates and revocation lists beside those in the evidence: a file, or a folder with nothing else in it. DER,
    /// PEM or a GHCB certificate table, in any order.
    #[arg(long, value_name = "DIR|FILE")]
    certs: Vec<PathBuf>,
    /// Trust this root certificate of an emulated platform, and no other. What it signs proves nothing about any
    /// machine; for tests.
    #[arg(long, value_name = "FILE")]
    trust_emulated_root: Option<PathBuf>,
    #[command(flatten)]
    log: LogArguments,
}

pub(crate) const HELP: &str = "\
Policy file, every field optional:
  { \"measurements\": [\"96 hexadecimal digits\"], \"products\": [\"Genoa\", \"Turin\"],
    \"tcb_floors\": { \"Genoa\": { \"snp\": 27, \"microcode\": 86 } }, \"allow_vlek\": true, \"allow_smt\": true,
    \"require_alias_check\": true, \"require_ciphertext_hiding\": false, \"require_crl\": false,
    \"log\": { \"policy\": \"log-policy.txt\", \"release_keys\": [\"NAME+ID+KEY\"], \"max_age_days\": 30, \"test\": false,
              \"location\": \"https://log.example\" } }
The image must be in a log (\"log\", or --log-policy and --release-key), unless --without-log is given. A measurement need
not be named then: those of the release count, and one that is named must be among them. A relative path of the log
policy or of the log's folder begins at the policy file's folder; \"max_age_days\" bounds the age of the witnesses'
cosignatures. With \"location\", or --log, the log itself is read: an image that it has withdrawn is refused, and with
--log-state a log that is not the one that was seen last, gone on. Without it the line \"not withdrawn\" says NOT CHECKED.";

/// A launch digest.
type Measurement = [u8; 48];

fn parse_measurement(text: &str) -> Result<Measurement, String> {
    let digits = text.as_bytes();
    let wanted = || "expected 96 hexadecimal digits (48 bytes, SHA-384)".to_owned();
    if digits.len() != 96 {
        return Err(wanted());
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).ok_or_else(wanted);
    let mut measurement = [0; 48];
    for (byte, pair) in measurement.iter_mut().zip(digits.as_chunks::<2>().0) {
        *byte = (digit(pair[0])? << 4 | digit(pair[1])?) as u8;
    }
    Ok(measurement)
}

/// A policy file. What is not in it stays as the verifier has it by default.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct PolicyFile {
    measurements: Vec<String>,
    products: Option<Vec<String>>,
    /// By product; replaces the built-in floors of that product.
    tcb_floors: BTreeMap<String, FloorEntry>,
    allow_vlek: Option<bool>,
    allow_smt: Option<bool>,
    require_alias_check: Option<bool>,
    require_ciphertext_hiding: Option<bool>,
    require_crl: Option<bool>,
    log: Option<LogEntry>,
}

/// The least levels of a product's TCB; zero asks for nothing.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct FloorEntry {
    fmc: u8,
    boot_loader: u8,
    tee: u8,
    snp: u8,
    microcode: u8,
}

/// Why there is no policy.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PolicyError {
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error("{0}: over {MAX_FILE_BYTES} bytes; that is no report, evidence, certificate or policy")]
    TooLarge(PathBuf),
    #[error("{path}: {source}")]
    Carrier { path: PathBuf, source: CarrierError },
    #[error("{path}: {source}")]
    Root { path: PathBuf, source: RootError },
    #[error("{path}: not a policy: {reason}")]
    Policy { path: PathBuf, reason: String },
    #[error("{path}: not a log policy: {source}")]
    Log {
        path: PathBuf,
        source: cloister_transparency::policy::PolicyError,
    },
    #[error("there is a release key, and no log policy; name one with --log-policy")]
    NoLogPolicy,
    #[error("there is a log policy, and no release key; say who signs releases with --release-key")]
    NoReleaseKey,
    #[error(
        "there is a log to read, and no log policy to judge it by; name one with --log-policy and --release-key"
    )]
    NoPolicyForLog,
    #[error("there is a state to compare a log with, and no log to read; name it with --log")]
    NoLocation,
    #[error("this machine's clock is before 1970, so a log's age cannot be told; set it")]
    Clock,
    #[error(transparent)]
    LogView(#[from] LogViewError),
}

impl PolicyError {
    /// Whether a log was read and is refused.
    pub(crate) fn is_refusal(&self) -> bool {
        matches!(self, Self::LogView(error) if error.is_refusal())
    }
}

impl PolicyArguments {
    /// The policy of a client that accepts nothing without evidence. Reads the log, if one is named: that is why it is made
    /// only once. `authorities` vouch for a log with `https`.
    pub(crate) fn policy(&self, authorities: &Authorities) -> Result<crate::Policy, PolicyError> {
        let certificates = self.certificates()?;
        let (snp, log) = self.verifier_policy()?;
        Ok(crate::Policy {
            accept_unattested: false,
            log_view: log.map(|log| log.read(&snp, authorities)).transpose()?,
            snp,
            certificates,
        })
    }

    /// What evidence must show, and the log that is to be read.
    fn verifier_policy(&self) -> Result<(Policy, Option<LogToRead>), PolicyError> {
        let mut policy = match &self.trust_emulated_root {
            None => Policy::new(),
            Some(path) => Policy::emulated(&read(path)?).map_err(|source| PolicyError::Root {
                path: path.clone(),
                source,
            })?,
        };
        let mut log = None;
        if let Some(path) = &self.policy {
            let entry = apply_file(&mut policy, path)?;
            log = entry.map(|entry| (path.as_path(), entry));
        }
        let log = self.log.apply(&mut policy, log)?;
        policy.measurements.extend(&self.measurement);
        Ok((policy, log))
    }

    /// The certificates.
    fn certificates(&self) -> Result<Carried, PolicyError> {
        let mut carried = Carried::default();
        for path in certificate_files(&self.certs)? {
            let added = carried.add_file(&read(&path)?);
            added.map_err(|source| PolicyError::Carrier { path, source })?;
        }
        Ok(carried)
    }
}

/// Changes what the file names, but for the log, which is handed back.
fn apply_file(policy: &mut Policy, path: &Path) -> Result<Option<LogEntry>, PolicyError> {
    let refused = |reason: String| PolicyError::Policy {
        path: path.to_owned(),
        reason,
    };
    let file: PolicyFile =
        serde_json::from_slice(&read(path)?).map_err(|error| refused(error.to_string()))?;
    for text in &file.measurements {
        let measurement = parse_measurement(text);
        let measurement = measurement.map_err(|wanted| refused(format!("{text:?}: {wanted}")))?;
        policy.measurements.push(measurement);
    }
    let product = |name: &String| {
        Product::from_name(name).ok_or_else(|| {
            let known = Product::ALL.map(Product::name).join(", ");
            refused(format!("no product {name:?}; there are: {known}"))
        })
    };
    if let Some(names) = &file.products {
        policy.products = names.iter().map(product).collect::<Result<_, _>>()?;
    }
    for (name, floor) in &file.tcb_floors {
        let product = product(name)?;
        policy.tcb_floors.retain(|floor| floor.product != product);
        policy.tcb_floors.push(TcbFloor {
            product,
            model: None,
            tcb: Tcb {
                fmc: floor.fmc,
                boot_loader: floor.boot_loader,
                tee: floor.tee,
                snp: floor.snp,
                microcode: floor.microcode,
            },
        });
    }
    let set = |field: &mut bool, value: Option<bool>| *field = value.unwrap_or(*field);
    set(&mut policy.allow_vlek, file.allow_vlek);
    set(&mut policy.allow_smt, file.allow_smt);
    set(&mut policy.require_alias_check, file.require_alias_check);
    set(
        &mut policy.require_ciphertext_hiding,
        file.require_ciphertext_hiding,
    );
    set(&mut policy.require_crl, file.require_crl);
    Ok(file.log)
}

/// The files that were named, and those in the folders that were, in the order of their names.
fn certificate_files(named: &[PathBuf]) -> Result<Vec<PathBuf>, PolicyError> {
    let mut files = Vec::new();
    for path in named {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let io = |source| PolicyError::Io {
            path: path.clone(),
            source,
        };
        let mut inside = Vec::new();
        for entry in fs::read_dir(path).map_err(io)? {
            inside.push(entry.map_err(io)?.path());
        }
        inside.sort();
        files.extend(inside.into_iter().filter(|path| path.is_file()));
    }
    Ok(files)
}

/// Reads a file of a sensible size.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, PolicyError> {
    let io = |source| PolicyError::Io {
        path: path.to_owned(),
        source,
    };
    if fs::metadata(path).map_err(io)?.len() > MAX_FILE_BYTES {
        return Err(PolicyError::TooLarge(path.to_owned()));
    }
    fs::read(path).map_err(io)
}
