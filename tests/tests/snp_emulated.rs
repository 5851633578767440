//! The image as an SEV-SNP guest on the emulated platform: the very bytes that run on a plain machine boot, prove which
//! image holds their keys, and answer.
//!
//! It shows that the image runs on our emulator, strict, and nothing about hardware: see `emulator/`.

use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use cloister_client::log_view::read_log_view;
use cloister_client::remote_log::LogLocation;
use cloister_client::{Client, ClientError, Policy, Refusal};
use cloister_protocol::api::paths;
use cloister_protocol::api::summarize::{Message, Request, Style};
use cloister_protocol::evidence::{Enclosures, Evidence, Kind, report_data, to_hex};
use cloister_protocol::keyconfig::decode_list;
use cloister_tests::guests::{
    ANSWER_TIMEOUT, accept_unattested, boot, emulated_platform, fixture_image, options,
};
use cloister_tests::raw::get;
use cloister_verifier::{Appraisal, CheckName, LogView, Reason, ReleaseReason};
use tempfile::TempDir;
use xtask::attestation;
use xtask::image_build::{Image, RELEASE_NOTE, RELEASE_PROOF};
use xtask::qemu::{Guest, Platform};
use xtask::release::deployment::Deployment;
use xtask::release::keys::KeyFolder;
use xtask::release::publish::{self, Published, now_s};

/// How long the release is valid.
const VALID_S: u64 = 86_400;
/// The emulated guest's CPUs.
const CPUS: u32 = 1;

/// Fields of an attestation report (AMD 56860, `ATTESTATION_REPORT`).
const VMPL: usize = 0x30;
const REPORT_DATA: std::ops::Range<usize> = 0x50..0x90;
const MEASUREMENT: std::ops::Range<usize> = 0x90..0xc0;

fn platform() -> Platform {
    Platform::SnpEmulated(emulated_platform().clone())
}

/// The guest that every test here asks. Its launcher hands it the release of its image.
fn guest() -> &'static Guest {
    static GUEST: OnceLock<Guest> = OnceLock::new();
    GUEST.get_or_init(|| boot(&release().image.guest_options(platform())))
}

/// The image in a log of its own.
struct Release {
    folder: TempDir,
    deployment: Deployment,
    image: Image,
    published: Published,
}

fn release() -> &'static Release {
    static RELEASE: OnceLock<Release> = OnceLock::new();
    RELEASE.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a folder");
        let of = |name: &str| folder.path().join(name);
        let keys = KeyFolder::new(&of("keys"), None);
        let mut deployment = Deployment::new(&of("log"), &of("state"), keys, None);
        deployment.test = true;
        deployment.create("test.example/log", 2).expect("a log");
        let image = image_in(&of("image"));
        let published = publish::image(&deployment, &image, VALID_S).expect("published");
        Release {
            deployment,
            image,
            published,
            folder,
        }
    })
}

/// The image in a folder where its release can lie beside it: no other test's guest shall be given that.
fn image_in(folder: &Path) -> Image {
    let built = fixture_image();
    fs::create_dir(folder).expect("a folder");
    for entry in fs::read_dir(built.path("")).expect("a folder") {
        let from = entry.expect("readable").path();
        let name = from.file_name().expect("a name");
        let is_release = [RELEASE_NOTE, RELEASE_PROOF].iter().any(|one| name == *one);
        if from.is_file() && !is_release {
            fs::copy(&from, folder.join(name)).expect("copied");
        }
    }
    Image::open(folder).expect("the same image")
}

fn policy() -> Policy {
    attestation::policy(&platform(), fixture_image(), CPUS, None).expect("a row for this launch")
}

/// The log must have the image, and its release alone says which measurements count.
fn logged_policy() -> Policy {
    let log = release().deployment.client_policy().expect("a log policy");
    let policy = attestation::policy(&platform(), fixture_image(), CPUS, Some(log));
    let mut policy = policy.expect("a row for this launch");
    policy.snp.measurements.clear();
    policy
}

fn request() -> Request {
    Request {
        messages: vec![Message::new("Ana", "The launch moves to Thursday.")],
        style: Style::Bullets,
        max_tokens: Some(4),
    }
}

/// Evidence as the guest gives it for a nonce.
fn evidence_bytes(nonce: &[u8; 32]) -> Vec<u8> {
    let (path, name) = (paths::EVIDENCE, paths::NONCE_PARAMETER);
    let answer = get(guest().port(), &format!("{path}?{name}={}", to_hex(nonce)));
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.body
}

fn report(evidence: &Evidence) -> &[u8] {
    match &evidence.kind {
        Kind::SevSnp(report) => &report[..],
        other => panic!("evidence of kind {}", other.name()),
    }
}

#[test]
fn the_report_says_which_image_holds_the_keys() {
    let nonce = [0x3c; 32];
    let evidence = Evidence::decode(&evidence_bytes(&nonce)).expect("evidence");
    let tls = &evidence.tls_public_key;
    let bound = report_data(evidence.epoch, &evidence.key_configs, tls, Some(&nonce));
    let first = report(&evidence);
    assert_eq!(first[REPORT_DATA], bound, "bound to keys, epoch and nonce");
    assert_eq!(first[VMPL..VMPL + 4], [0; 4]);

    let foretold = attestation::emulated_measurement(fixture_image(), CPUS).expect("a row");
    assert_eq!(first[MEASUREMENT], foretold.0, "as `image.json` foretells");
    let log = guest().platform_log();
    assert!(log.contains(&format!("launch digest {foretold}")), "{log}");

    let second = Evidence::decode(&evidence_bytes(&[0x3d; 32])).expect("evidence");
    assert_ne!(
        first[REPORT_DATA],
        report(&second)[REPORT_DATA],
        "a report for each nonce"
    );
}

#[test]
fn a_client_asks_after_every_check_has_passed() {
    let client = Client::connect(&guest().url(), ANSWER_TIMEOUT, policy()).expect("accepted");
    let attestation = client.attestation();
    assert!(!attestation.is_attested(), "no hardware vouches for it");
    assert!(attestation.notice().contains("EMULATED"));
    let appraisal = attestation.appraisal().expect("an appraisal");
    assert!(appraisal.is_emulated());
    for name in [
        CheckName::Chain,
        CheckName::ReportSignature,
        CheckName::CertificateTcb,
        CheckName::Chip,
        CheckName::Vmpl,
        CheckName::Debug,
        CheckName::Measurement,
        CheckName::KeyBinding,
        CheckName::Epoch,
        CheckName::Nonce,
    ] {
        let outcome = appraisal.outcome(name).expect("each check is there");
        assert_eq!(outcome.status(), "PASS", "{appraisal}");
    }
    client.summarize(&request()).expect("an answer");
}

#[test]
fn the_same_bytes_run_on_a_plain_machine() {
    let emulated = fixture_image().guest_options(platform());
    let plain = options(fixture_image());
    assert_eq!(emulated.rom, plain.rom, "one ROM for both");
    let guest = boot(&plain);
    let client = Client::connect(&guest.url(), ANSWER_TIMEOUT, accept_unattested()).expect("plain");
    let on_plain = client.summarize(&request()).expect("an answer");
    let client = Client::connect(&self::guest().url(), ANSWER_TIMEOUT, policy()).expect("accepted");
    let on_emulated = client.summarize(&request()).expect("an answer");
    assert_eq!(on_plain.usage, on_emulated.usage);
}

/// The appraisal of a client that refuses.
fn refused(policy: Policy) -> Appraisal {
    match Client::connect(&guest().url(), ANSWER_TIMEOUT, policy).err() {
        Some(ClientError::Refused(Refusal::Evidence(appraisal))) => *appraisal,
        other => panic!("{other:?}"),
    }
}

fn reasons(appraisal: &Appraisal) -> Vec<&Reason> {
    appraisal.reasons().collect()
}

#[test]
fn nothing_is_asked_of_another_image_or_an_unnamed_root() {
    let mut other_image = policy();
    other_image.snp.measurements = vec![[7; 48]];
    let appraisal = refused(other_image);
    let outcome = appraisal.outcome(CheckName::Measurement).expect("a check");
    assert_eq!(outcome.status(), "FAIL", "{appraisal}");
    assert_eq!(appraisal.reasons().count(), 1, "{appraisal}");

    let mut hardware_only = Policy::default();
    hardware_only.snp.measurements = policy().snp.measurements;
    hardware_only.snp.require_log = false;
    let appraisal = refused(hardware_only);
    let outcome = appraisal.outcome(CheckName::Root).expect("a check");
    assert!(!outcome.is_acceptable(), "{appraisal}");

    let mut logged_only = policy();
    logged_only.snp.require_log = true;
    let appraisal = refused(logged_only);
    let outcome = appraisal.outcome(CheckName::Log).expect("a check");
    assert!(!outcome.is_acceptable(), "{appraisal}");
}

/// The log as a client reads it that has seen it before.
fn view() -> LogView {
    let (release, policy) = (release(), logged_policy());
    let location = LogLocation::Directory(release.deployment.folders.log.clone());
    let state = release.folder.path().join("seen");
    let policy = policy.snp.log.expect("a log policy");
    read_log_view(&location, &policy, Some(&state), now_s()).expect("a log")
}

#[test]
fn a_released_image_is_asked_until_its_release_is_withdrawn() {
    let release = release();
    let with_view = || Policy {
        log_view: Some(view()),
        ..logged_policy()
    };
    let client = Client::connect(&guest().url(), ANSWER_TIMEOUT, with_view()).expect("accepted");
    let attestation = client.attestation();
    let notice = attestation.notice();
    assert!(
        notice.contains("EMULATED") && notice.contains("TEST WITNESSES"),
        "{notice}"
    );
    let appraisal = attestation.appraisal().expect("an appraisal");
    for name in [
        CheckName::Measurement,
        CheckName::Release,
        CheckName::ReleaseDates,
        CheckName::ReleasePolicy,
        CheckName::Log,
        CheckName::Withdrawn,
    ] {
        let outcome = appraisal.outcome(name).expect("each check is there");
        assert_eq!(outcome.status(), "PASS", "{appraisal}");
    }
    client.summarize(&request()).expect("an answer");

    let index = release.published.logged.index;
    publish::withdraw(&release.deployment, index, "a test").expect("withdrawn");
    let appraisal = refused(with_view());
    let withdrawn = ReleaseReason::Withdrawn {
        reason: "a test".into(),
    };
    assert_eq!(reasons(&appraisal), [&withdrawn.into()], "{appraisal}");
    // The guest's proof is older: who does not read the log cannot know.
    Client::connect(&guest().url(), ANSWER_TIMEOUT, logged_policy()).expect("accepted");
}

#[test]
fn a_guest_whose_release_is_another_s_or_missing_is_refused() {
    let mut stranger = logged_policy();
    let log = stranger.snp.log.as_mut().expect("a log policy");
    // A key that signs, but not releases.
    log.release_keys = vec![log.policy.logs()[0].key.clone()];
    let appraisal = refused(stranger);
    let outcome = appraisal.outcome(CheckName::Release).expect("a check");
    assert_eq!(outcome.status(), "FAIL", "{appraisal}");
    assert!(
        reasons(&appraisal)
            .iter()
            .any(|reason| matches!(reason, Reason::Release(ReleaseReason::Note(_)))),
        "{appraisal}"
    );

    let nonce = [0x3e; 32];
    let mut evidence = Evidence::decode(&evidence_bytes(&nonce)).expect("evidence");
    let Enclosures {
        release_note,
        release_proof,
        ..
    } = &evidence.enclosures;
    let published = &release().published;
    assert_eq!(
        release_note,
        published.note.as_bytes(),
        "passed on as it is"
    );
    assert_eq!(release_proof, published.proof.as_bytes());
    let keys = decode_list(&evidence.key_configs).expect("keys");
    let policy = logged_policy();
    policy
        .appraise(&evidence, &keys, &nonce, None)
        .expect("accepted");
    evidence.enclosures.release_note.clear();
    evidence.enclosures.release_proof.clear();
    match policy.appraise(&evidence, &keys, &nonce, None) {
        Err(Refusal::Evidence(appraisal)) => assert!(
            reasons(&appraisal).contains(&&ReleaseReason::Missing.into()),
            "{appraisal}"
        ),
        other => panic!("{other:?}"),
    }
}
