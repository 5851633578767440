//! The JSON of a statement. Fields stand in the order of their names, which is the order of RFC 8785.

use super::{
    Build, EPOCH_S, ImageRelease, MAX_ISSUER_BYTES, MAX_LAUNCHES, MAX_SUBJECTS,
    MAX_TOKEN_KEY_BYTES, MAX_VALIDITY_S, MinimumTcb, Model, ModelRelease, PREDICATE_TYPE, Period,
    ReleaseError, STATEMENT_TYPE, Serving, SnpLaunch, Source, Statement, Subject, TokenIssuer,
    Withdrawal,
};
use crate::merkle::Hash;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::time::Duration;
use der::DateTime;
use serde::{Deserialize, Serialize};

/// JSON's numbers are exact up to here (RFC 8785, section 3.2.2.3).
const MAX_INTEGER: u64 = (1 << 53) - 1;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StatementJson {
    #[serde(rename = "_type")]
    statement_type: String,
    predicate: PredicateJson,
    #[serde(rename = "predicateType")]
    predicate_type: String,
    subject: Vec<SubjectJson>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SubjectJson {
    digest: DigestJson,
    name: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct DigestJson {
    sha256: String,
}

/// The fields of every kind; [`read`] says which of them a kind has.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
struct PredicateJson {
    #[serde(skip_serializing_if = "Option::is_none")]
    build: Option<BuildJson>,
    kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    log_policy: Option<DigestJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<ModelJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    not_after: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    not_before: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sbom: Option<DigestJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    serving: Option<ServingJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    snp: Option<Vec<SnpJson>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<SourceJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token_issuer: Option<TokenIssuerJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    withdraws: Option<DigestJson>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct BuildJson {
    flags: Vec<String>,
    profile: String,
    rustc: String,
    target: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ModelJson {
    gguf: DigestJson,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    licence: Option<String>,
    name: String,
    root: DigestJson,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct ServingJson {
    epoch_seconds: u32,
    tls: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct TokenIssuerJson {
    name: String,
    origin: String,
    token_key: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct SnpJson {
    cpu: String,
    cpu_signature: u32,
    guest_features: u64,
    measurement: String,
    minimum_tcb: TcbJson,
    policy: u64,
    vcpus: u32,
    vmm: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct TcbJson {
    boot_loader: u8,
    fmc: u8,
    microcode: u8,
    snp: u8,
    tee: u8,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct SourceJson {
    cargo_lock: DigestJson,
    commit: String,
    #[serde(skip_serializing_if = "is_false", default)]
    modified: bool,
    repository: String,
    tree: String,
}

fn is_false(value: &bool) -> bool {
    !value
}

/// Reads a text; whether it is canonical is for the caller to see.
pub(super) fn read(text: &str) -> Result<Statement, ReleaseError> {
    let json: StatementJson = serde_json::from_str(text).map_err(|error| ReleaseError::Json {
        reason: error.to_string(),
    })?;
    for (found, expected) in [
        (&json.statement_type, STATEMENT_TYPE),
        (&json.predicate_type, PREDICATE_TYPE),
    ] {
        if found != expected {
            let found = found.clone();
            return Err(ReleaseError::Type { found });
        }
    }
    let subjects = read_subjects(json.subject)?;
    // What a kind takes is taken out, and nothing may be left.
    let mut rest = json.predicate;
    let statement = match rest.kind.as_str() {
        "image" => Statement::Image(read_image(subjects, &mut rest)?),
        "model" => Statement::Model(read_model(subjects, &mut rest)?),
        "withdraw" => Statement::Withdraw(read_withdrawal(subjects, &mut rest)?),
        _ => return Err(ReleaseError::Field("kind")),
    };
    rest.check_empty()?;
    Ok(statement)
}

impl PredicateJson {
    fn check_empty(&self) -> Result<(), ReleaseError> {
        let left = [
            ("build", self.build.is_some()),
            ("logPolicy", self.log_policy.is_some()),
            ("model", self.model.is_some()),
            ("notAfter", self.not_after.is_some()),
            ("notBefore", self.not_before.is_some()),
            ("reason", self.reason.is_some()),
            ("sbom", self.sbom.is_some()),
            ("serving", self.serving.is_some()),
            ("snp", self.snp.is_some()),
            ("source", self.source.is_some()),
            ("tokenIssuer", self.token_issuer.is_some()),
            ("version", self.version.is_some()),
            ("withdraws", self.withdraws.is_some()),
        ];
        match left.into_iter().find(|(_, is_left)| *is_left) {
            Some((name, _)) => Err(ReleaseError::Field(name)),
            None => Ok(()),
        }
    }

    fn take_period(&mut self) -> Result<Period, ReleaseError> {
        let not_before_s = read_time(self.not_before.take(), "notBefore")?;
        let not_after_s = read_time(self.not_after.take(), "notAfter")?;
        let valid_s = not_after_s.checked_sub(not_before_s);
        match valid_s {
            Some(1..=MAX_VALIDITY_S) => Ok(Period {
                not_before_s,
                not_after_s,
            }),
            _ => Err(ReleaseError::Field("notAfter")),
        }
    }
}

fn read_image(
    subjects: Vec<Subject>,
    json: &mut PredicateJson,
) -> Result<ImageRelease, ReleaseError> {
    let launches = taken(json.snp.take(), "snp")?;
    if launches.len() > MAX_LAUNCHES {
        return Err(ReleaseError::Field("snp"));
    }
    let build = taken(json.build.take(), "build")?;
    let source = taken(json.source.take(), "source")?;
    Ok(ImageRelease {
        subjects,
        version: taken(json.version.take(), "version")?,
        period: json.take_period()?,
        snp: launches
            .into_iter()
            .map(read_launch)
            .collect::<Result<_, _>>()?,
        model: json.model.take().map(model_of).transpose()?,
        log_policy: json
            .log_policy
            .take()
            .map(|digest| sha256(&digest, "logPolicy"))
            .transpose()?,
        serving: json.serving.take().map(serving_of).transpose()?,
        token_issuer: json.token_issuer.take().map(token_issuer_of).transpose()?,
        source: Source {
            cargo_lock: sha256(&source.cargo_lock, "source.cargoLock")?,
            commit: git_id(source.commit, source.modified, "source.commit")?,
            modified: source.modified,
            repository: source.repository,
            tree: git_id(source.tree, source.modified, "source.tree")?,
        },
        build: Build {
            flags: build.flags,
            profile: build.profile,
            rustc: build.rustc,
            target: build.target,
        },
        sbom: sha256(&taken(json.sbom.take(), "sbom")?, "sbom")?,
    })
}

fn read_model(
    subjects: Vec<Subject>,
    json: &mut PredicateJson,
) -> Result<ModelRelease, ReleaseError> {
    Ok(ModelRelease {
        subjects,
        version: taken(json.version.take(), "version")?,
        period: json.take_period()?,
        model: model_of(taken(json.model.take(), "model")?)?,
    })
}

fn read_withdrawal(
    subjects: Vec<Subject>,
    json: &mut PredicateJson,
) -> Result<Withdrawal, ReleaseError> {
    let leaf = taken(json.withdraws.take(), "withdraws")?;
    Ok(Withdrawal {
        subjects,
        not_before_s: read_time(json.not_before.take(), "notBefore")?,
        reason: taken(json.reason.take(), "reason")?,
        withdraws: Hash(sha256(&leaf, "withdraws")?),
    })
}

fn read_subjects(subjects: Vec<SubjectJson>) -> Result<Vec<Subject>, ReleaseError> {
    if subjects.is_empty() || subjects.len() > MAX_SUBJECTS {
        return Err(ReleaseError::Field("subject"));
    }
    let read = |subject: SubjectJson| {
        Ok(Subject {
            name: subject.name,
            sha256: sha256(&subject.digest, "subject.digest")?,
        })
    };
    let read: Vec<Subject> = subjects.into_iter().map(read).collect::<Result<_, _>>()?;
    // Two digests for one name would leave it open which is meant.
    match read.is_sorted_by(|a, b| a.name < b.name) {
        true => Ok(read),
        false => Err(ReleaseError::Field("subject")),
    }
}

fn read_launch(json: SnpJson) -> Result<SnpLaunch, ReleaseError> {
    let exact = |number: u64, name| match number {
        0..=MAX_INTEGER => Ok(number),
        _ => Err(ReleaseError::Field(name)),
    };
    Ok(SnpLaunch {
        cpu: json.cpu,
        cpu_signature: json.cpu_signature,
        guest_features: exact(json.guest_features, "snp.guestFeatures")?,
        measurement: hex(&json.measurement).ok_or(ReleaseError::Field("snp.measurement"))?,
        minimum_tcb: MinimumTcb {
            boot_loader: json.minimum_tcb.boot_loader,
            fmc: json.minimum_tcb.fmc,
            microcode: json.minimum_tcb.microcode,
            snp: json.minimum_tcb.snp,
            tee: json.minimum_tcb.tee,
        },
        policy: exact(json.policy, "snp.policy")?,
        vcpus: json.vcpus,
        vmm: json.vmm,
    })
}

fn model_of(json: ModelJson) -> Result<Model, ReleaseError> {
    Ok(Model {
        name: json.name,
        root: sha256(&json.root, "model.root")?,
        gguf: sha256(&json.gguf, "model.gguf")?,
        licence: json.licence,
    })
}

fn serving_of(json: ServingJson) -> Result<Serving, ReleaseError> {
    let ServingJson { epoch_seconds, tls } = json;
    match EPOCH_S.contains(&epoch_seconds) {
        true => Ok(Serving {
            epoch_s: epoch_seconds,
            tls,
        }),
        false => Err(ReleaseError::Field("serving.epochSeconds")),
    }
}

fn token_issuer_of(json: TokenIssuerJson) -> Result<TokenIssuer, ReleaseError> {
    let is_text = |text: &str| {
        text.len() <= MAX_ISSUER_BYTES && text.bytes().all(|byte| matches!(byte, b' '..=b'~'))
    };
    if json.name.is_empty() || !is_text(&json.name) {
        return Err(ReleaseError::Field("tokenIssuer.name"));
    }
    if !is_text(&json.origin) {
        return Err(ReleaseError::Field("tokenIssuer.origin"));
    }
    let digits = json.token_key.as_bytes();
    let is_length = (2..=2 * MAX_TOKEN_KEY_BYTES).contains(&digits.len());
    let token_key = is_length
        .then(|| base16ct::lower::decode_vec(digits).ok())
        .flatten();
    Ok(TokenIssuer {
        name: json.name,
        origin: json.origin,
        token_key: token_key.ok_or(ReleaseError::Field("tokenIssuer.tokenKey"))?,
    })
}

fn taken<T>(field: Option<T>, name: &'static str) -> Result<T, ReleaseError> {
    field.ok_or(ReleaseError::Field(name))
}

fn git_id(id: String, can_be_empty: bool, name: &'static str) -> Result<String, ReleaseError> {
    let is_hex = id
        .bytes()
        .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    match id.len() {
        40 | 64 if is_hex => Ok(id),
        0 if can_be_empty => Ok(id),
        _ => Err(ReleaseError::Field(name)),
    }
}

fn sha256(digest: &DigestJson, name: &'static str) -> Result<[u8; 32], ReleaseError> {
    hex(&digest.sha256).ok_or(ReleaseError::Field(name))
}

fn hex<const BYTES: usize>(text: &str) -> Option<[u8; BYTES]> {
    let mut bytes = [0; BYTES];
    base16ct::lower::decode(text, &mut bytes)
        .ok()
        .filter(|decoded| decoded.len() == BYTES)?;
    Some(bytes)
}

/// Seconds since 1970 of a time like `2026-11-27T00:00:00Z`.
fn read_time(text: Option<String>, name: &'static str) -> Result<u64, ReleaseError> {
    let time: DateTime = taken(text, name)?
        .parse()
        .map_err(|_| ReleaseError::Field(name))?;
    Ok(time.unix_duration().as_secs())
}

pub(super) fn time(seconds: u64) -> String {
    let time = DateTime::from_unix_duration(Duration::from_secs(seconds));
    time.unwrap_or(DateTime::INFINITY).to_string()
}

/// A statement's text.
pub(super) fn write(statement: &Statement) -> String {
    let json = StatementJson {
        statement_type: STATEMENT_TYPE.into(),
        predicate: PredicateJson {
            kind: statement.kind().into(),
            ..predicate(statement)
        },
        predicate_type: PREDICATE_TYPE.into(),
        subject: statement.subjects().iter().map(subject_json).collect(),
    };
    let text = serde_json::to_string(&json).expect("structures of strings and integers are JSON");
    format!("{text}\n")
}

fn predicate(statement: &Statement) -> PredicateJson {
    match statement {
        Statement::Image(image) => PredicateJson {
            build: Some(BuildJson {
                flags: image.build.flags.clone(),
                profile: image.build.profile.clone(),
                rustc: image.build.rustc.clone(),
                target: image.build.target.clone(),
            }),
            log_policy: image.log_policy.as_ref().map(digest_json),
            model: image.model.as_ref().map(model_json),
            not_after: Some(time(image.period.not_after_s)),
            not_before: Some(time(image.period.not_before_s)),
            sbom: Some(digest_json(&image.sbom)),
            serving: image.serving.map(|serving| ServingJson {
                epoch_seconds: serving.epoch_s,
                tls: serving.tls,
            }),
            snp: Some(image.snp.iter().map(launch_json).collect()),
            source: Some(SourceJson {
                cargo_lock: digest_json(&image.source.cargo_lock),
                commit: image.source.commit.clone(),
                modified: image.source.modified,
                repository: image.source.repository.clone(),
                tree: image.source.tree.clone(),
            }),
            token_issuer: image.token_issuer.as_ref().map(token_issuer_json),
            version: Some(image.version.clone()),
            ..PredicateJson::default()
        },
        Statement::Model(model) => PredicateJson {
            model: Some(model_json(&model.model)),
            not_after: Some(time(model.period.not_after_s)),
            not_before: Some(time(model.period.not_before_s)),
            version: Some(model.version.clone()),
            ..PredicateJson::default()
        },
        Statement::Withdraw(withdrawal) => PredicateJson {
            not_before: Some(time(withdrawal.not_before_s)),
            reason: Some(withdrawal.reason.clone()),
            withdraws: Some(digest_json(&withdrawal.withdraws.0)),
            ..PredicateJson::default()
        },
    }
}

fn subject_json(subject: &Subject) -> SubjectJson {
    SubjectJson {
        digest: digest_json(&subject.sha256),
        name: subject.name.clone(),
    }
}

fn launch_json(launch: &SnpLaunch) -> SnpJson {
    SnpJson {
        cpu: launch.cpu.clone(),
        cpu_signature: launch.cpu_signature,
        guest_features: launch.guest_features,
        measurement: base16ct::lower::encode_string(&launch.measurement),
        minimum_tcb: TcbJson {
            boot_loader: launch.minimum_tcb.boot_loader,
            fmc: launch.minimum_tcb.fmc,
            microcode: launch.minimum_tcb.microcode,
            snp: launch.minimum_tcb.snp,
            tee: launch.minimum_tcb.tee,
        },
        policy: launch.policy,
        vcpus: launch.vcpus,
        vmm: launch.vmm.clone(),
    }
}

fn model_json(model: &Model) -> ModelJson {
    ModelJson {
        gguf: digest_json(&model.gguf),
        licence: model.licence.clone(),
        name: model.name.clone(),
        root: digest_json(&model.root),
    }
}

fn token_issuer_json(issuer: &TokenIssuer) -> TokenIssuerJson {
    TokenIssuerJson {
        name: issuer.name.clone(),
        origin: issuer.origin.clone(),
        token_key: base16ct::lower::encode_string(&issuer.token_key),
    }
}

fn digest_json(digest: &[u8; 32]) -> DigestJson {
    DigestJson {
        sha256: base16ct::lower::encode_string(digest),
    }
}
