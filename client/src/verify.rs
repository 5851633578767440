//! `cloister verify`: what evidence shows, check by check.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use cloister_verifier::carrier::CarrierError;
use cloister_verifier::policy::TcbFloor;
use cloister_verifier::{Appraisal, Context, Evidence, Policy, Product, RootError, Tcb, appraise};
use serde::Deserialize;
use serde_json::json;

/// Largest file that is read, in bytes; reports, certificates and policies are far smaller.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Arguments of `verify`.
#[derive(Debug, clap::Args)]
pub(crate) struct Verify {
    /// Attestation report, 1184 bytes.
    #[arg(long, value_name = "FILE")]
    report: PathBuf,
    /// Certificates and revocation lists: a file, or a folder with nothing else in it. DER, PEM or a GHCB certificate
    /// table, in any order.
    #[arg(long, value_name = "DIR|FILE", required = true)]
    certs: Vec<PathBuf>,
    /// Launch digest that is accepted, 96 hexadecimal digits, as `cargo xtask measure` prints it.
    #[arg(long, value_name = "HEX", value_parser = parse_measurement)]
    measurement: Vec<Measurement>,
    /// Policy: a JSON file; see below.
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Root certificate of an emulated platform. What it signs proves nothing about any machine; for tests.
    #[arg(long, value_name = "FILE")]
    trust_emulated_root: Option<PathBuf>,
    /// Print one JSON document.
    #[arg(long)]
    pub(crate) json: bool,
}

pub(crate) const HELP: &str = "\
Prints one line for each check: PASS, FAIL or NOT CHECKED, what, why.

Policy file, every field optional:
  { \"measurements\": [\"96 hexadecimal digits\"], \"products\": [\"Genoa\", \"Turin\"],
    \"tcb_floors\": { \"Genoa\": { \"snp\": 27, \"microcode\": 86 } }, \"allow_vlek\": true, \"allow_smt\": true,
    \"require_alias_check\": true, \"require_ciphertext_hiding\": false, \"require_crl\": false }

Example:
  cloister verify --report report.bin --certs certs/ --measurement $(cargo xtask measure | tail -1)

Exit status: 0 accepted, 1 failed, 2 wrong usage, 3 refused by policy.";

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

/// Why nothing was appraised.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VerifyError {
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error("{0}: over {MAX_FILE_BYTES} bytes; that is no report, certificate or policy")]
    TooLarge(PathBuf),
    #[error("{path}: {source}")]
    Carrier { path: PathBuf, source: CarrierError },
    #[error("{path}: {source}")]
    Root { path: PathBuf, source: RootError },
    #[error("{path}: not a policy: {reason}")]
    Policy { path: PathBuf, reason: String },
    #[error("cannot write the result: {0}")]
    Output(io::Error),
}

/// Appraises, prints, and says whether the evidence is accepted.
pub(crate) fn run(arguments: &Verify) -> Result<bool, VerifyError> {
    let appraisal = appraise_files(arguments)?;
    let mut out = io::stdout().lock();
    let written = match arguments.json {
        true => writeln!(out, "{}", document(&appraisal)),
        false => write!(out, "{appraisal}"),
    };
    match written {
        // A reader that has had enough (`| head`) is no error.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(VerifyError::Output(error)),
        _ => Ok(appraisal.is_accepted()),
    }
}

fn appraise_files(arguments: &Verify) -> Result<Appraisal, VerifyError> {
    let mut evidence = Evidence {
        report: read(&arguments.report)?,
        ..Evidence::default()
    };
    for path in certificate_files(&arguments.certs)? {
        let added = evidence.carried.add_file(&read(&path)?);
        added.map_err(|source| VerifyError::Carrier { path, source })?;
    }
    let policy = policy(arguments)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let context = Context {
        now_s: now.ok().map(|since| since.as_secs()),
        ..Context::default()
    };
    Ok(appraise(&evidence, &policy, &context))
}

fn policy(arguments: &Verify) -> Result<Policy, VerifyError> {
    let mut policy = match &arguments.policy {
        Some(path) => read_policy(path)?,
        None => Policy::new(),
    };
    // A report on its own says nothing about keys: that line then says NOT CHECKED.
    policy.require_binding = false;
    policy.measurements.extend(&arguments.measurement);
    if let Some(path) = &arguments.trust_emulated_root {
        let trusted = policy.roots.trust_emulated(&read(path)?);
        trusted.map_err(|source| VerifyError::Root {
            path: path.clone(),
            source,
        })?;
    }
    Ok(policy)
}

fn read_policy(path: &Path) -> Result<Policy, VerifyError> {
    let refused = |reason: String| VerifyError::Policy {
        path: path.to_owned(),
        reason,
    };
    let file: PolicyFile =
        serde_json::from_slice(&read(path)?).map_err(|error| refused(error.to_string()))?;
    let mut policy = Policy::new();
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
    Ok(policy)
}

/// The files that were named, and those in the folders that were, in the order of their names.
fn certificate_files(named: &[PathBuf]) -> Result<Vec<PathBuf>, VerifyError> {
    let mut files = Vec::new();
    for path in named {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let io = |source| VerifyError::Io {
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

fn read(path: &Path) -> Result<Vec<u8>, VerifyError> {
    let io = |source| VerifyError::Io {
        path: path.to_owned(),
        source,
    };
    if fs::metadata(path).map_err(io)?.len() > MAX_FILE_BYTES {
        return Err(VerifyError::TooLarge(path.to_owned()));
    }
    fs::read(path).map_err(io)
}

fn document(appraisal: &Appraisal) -> serde_json::Value {
    let checks: Vec<_> = appraisal
        .checks()
        .iter()
        .map(|check| {
            json!({
                "check": check.name.name(),
                "result": check.outcome.status(),
                "detail": check.outcome.to_string(),
            })
        })
        .collect();
    json!({
        "accepted": appraisal.is_accepted(),
        "emulated": appraisal.is_emulated(),
        "verdict": appraisal.verdict(),
        "checks": checks,
        "never_checked": cloister_verifier::NEVER_CHECKED,
    })
}
