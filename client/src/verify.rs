//! `cloister verify`: what evidence shows, check by check.

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use cloister_protocol::evidence::{Evidence, EvidenceError, Kind, NONCE_BYTES};
use cloister_verifier::{Appraisal, Context, Release, appraise};
use serde_json::json;

use crate::client::{self, ClientError};
use crate::clock;
use crate::policy::{Policy, Refusal};
use crate::policy_arguments::{self, PolicyArguments, PolicyError};
use crate::tls::Authorities;
use crate::way::Way;

/// How long a server may take for its evidence. Emulated ones are slow.
const EVIDENCE_TIMEOUT: Duration = Duration::from_secs(120);

/// Arguments of `verify`.
#[derive(Debug, clap::Args)]
pub(crate) struct Verify {
    #[command(flatten)]
    source: Source,
    /// Fetch the server's evidence through this relay, https://HOST[:PORT] of a `cloister relay` (http:// too): the server
    /// then does not learn who looks.
    #[arg(long, value_name = "URL", requires = "server")]
    relay: Option<String>,
    #[command(flatten)]
    authorities: Authorities,
    /// The entry of the report's image in a log, a signed note.
    #[arg(long, value_name = "FILE", requires_all = ["report", "release_proof"])]
    release_note: Option<PathBuf>,
    /// The proof that the log has it.
    #[arg(long, value_name = "FILE", requires_all = ["report", "release_note"])]
    release_proof: Option<PathBuf>,
    #[command(flatten)]
    policy: PolicyArguments,
    /// Print one JSON document.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Where the evidence comes from.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct Source {
    /// A server, which is asked for fresh evidence: http://HOST:PORT or https://HOST:PORT. The key of a TLS connection has to
    /// be the one that the evidence binds.
    #[arg(long, value_name = "URL")]
    server: Option<String>,
    /// Evidence that a server gave, from /.well-known/cloister/evidence.
    #[arg(long, value_name = "FILE")]
    evidence: Option<PathBuf>,
    /// An attestation report on its own, 1184 bytes; its certificates come with --certs.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

/// What stands below the arguments.
pub(crate) fn help() -> String {
    format!(
        "\
Prints one line for each check: PASS, FAIL or NOT CHECKED, what, why.

{}

Examples:
  cloister verify --server http://127.0.0.1:8080 --log-policy log-policy.txt --release-key NAME+ID+KEY \\
    --log https://log.example --log-state seen
  cloister verify --report report.bin --certs certs/ --release-note release.note --release-proof release.tlog-proof \\
    --policy policy.json
  cloister verify --server http://127.0.0.1:8080 --without-log --measurement $(cargo xtask measure | tail -1)

Exit status: 0 accepted, 1 failed, 2 wrong usage, 3 refused by policy.",
        policy_arguments::HELP
    )
}

/// Why nothing was appraised.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VerifyError {
    #[error(transparent)]
    Policy(#[from] PolicyError),
    #[error("{path}: {source}")]
    Evidence {
        path: PathBuf,
        source: EvidenceError,
    },
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("cannot write the result: {0}")]
    Output(io::Error),
}

impl VerifyError {
    /// Whether the evidence, or the log, is such that nothing is left to check.
    pub(crate) fn is_refusal(&self) -> bool {
        match self {
            Self::Client(ClientError::Refused(_)) => true,
            Self::Policy(error) => error.is_refusal(),
            _ => false,
        }
    }
}

impl From<Refusal> for VerifyError {
    fn from(refusal: Refusal) -> Self {
        Self::Client(refusal.into())
    }
}

/// Appraises, prints, and says whether the evidence is accepted.
pub(crate) fn run(arguments: &Verify) -> Result<bool, VerifyError> {
    let appraisal = appraise_source(arguments)?;
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

fn appraise_source(arguments: &Verify) -> Result<Appraisal, VerifyError> {
    let policy = arguments.policy.policy(&arguments.authorities)?;
    let source = &arguments.source;
    if let Some(url) = &source.server {
        let way = Way {
            relay: arguments.relay.clone(),
            authorities: arguments.authorities.clone(),
            ..Way::direct(url)
        };
        let transport = way.transport(EVIDENCE_TIMEOUT);
        let transport = transport.map_err(ClientError::from)?;
        let (evidence, nonce) = client::fetch_evidence(&transport)?;
        let tls_public_key = transport.tls_public_key();
        return appraise_evidence(&policy, &evidence, Some(&nonce), tls_public_key.as_deref());
    }
    if let Some(path) = &source.evidence {
        let evidence = Evidence::decode(&policy_arguments::read(path)?);
        let path = path.clone();
        let evidence = evidence.map_err(|source| VerifyError::Evidence { path, source })?;
        return appraise_evidence(&policy, &evidence, None, None);
    }
    let report = source.report.as_ref();
    appraise_report(
        policy,
        report.expect("one of the group is given"),
        arguments.release()?,
    )
}

fn appraise_evidence(
    policy: &Policy,
    evidence: &Evidence,
    nonce: Option<&[u8; NONCE_BYTES]>,
    tls_public_key: Option<&[u8]>,
) -> Result<Appraisal, VerifyError> {
    match &evidence.kind {
        Kind::None => Err(Refusal::Unattested.into()),
        Kind::SevSnp(report) => {
            Ok(policy.appraise_snp(evidence, &report[..], nonce, tls_public_key)?)
        }
        other => Err(Refusal::UnknownKind(other.name()).into()),
    }
}

impl Verify {
    /// The release that the arguments name; either both files are given or none.
    fn release(&self) -> Result<Option<Release>, PolicyError> {
        let (Some(note), Some(proof)) = (&self.release_note, &self.release_proof) else {
            return Ok(None);
        };
        Ok(Some(Release {
            note: policy_arguments::read(note)?,
            proof: policy_arguments::read(proof)?,
        }))
    }
}

fn appraise_report(
    policy: Policy,
    path: &std::path::Path,
    release: Option<Release>,
) -> Result<Appraisal, VerifyError> {
    let evidence = cloister_verifier::Evidence {
        report: policy_arguments::read(path)?,
        carried: policy.certificates,
        claims: None,
        release,
    };
    // A report on its own says nothing about keys: that line then says NOT CHECKED.
    let snp = cloister_verifier::Policy {
        require_binding: false,
        ..policy.snp
    };
    let context = Context {
        now_s: clock::known_s(),
        log_view: policy.log_view.as_ref(),
        ..Context::default()
    };
    Ok(appraise(&evidence, &snp, &context))
}

/// The appraisal for programs.
pub(crate) fn document(appraisal: &Appraisal) -> serde_json::Value {
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
        "logged": appraisal.is_logged(),
        "test_witnesses": appraisal.has_test_witnesses(),
        "notices": appraisal.notices().collect::<Vec<_>>(),
        "verdict": appraisal.verdict(),
        "checks": checks,
        "never_checked": cloister_verifier::NEVER_CHECKED,
    })
}
