//! The image as an SEV-SNP guest on the emulated platform: the very bytes that run on a plain machine boot, prove which
//! image holds their keys, and answer.
//!
//! It shows that the image runs on our emulator, strict, and nothing about hardware: see `emulator/`.

use std::sync::OnceLock;

use cloister_client::{Client, ClientError, Policy, Refusal};
use cloister_protocol::api::paths;
use cloister_protocol::api::summarize::{Message, Request, Style};
use cloister_protocol::evidence::{Evidence, Kind, report_data, to_hex};
use cloister_tests::guests::{
    ANSWER_TIMEOUT, accept_unattested, boot, emulated_platform, fixture_image, options,
};
use cloister_tests::raw::get;
use cloister_verifier::CheckName;
use xtask::attestation;
use xtask::qemu::{Guest, Platform};

/// The emulated guest's CPUs.
const CPUS: u32 = 1;

/// Fields of an attestation report (AMD 56860, `ATTESTATION_REPORT`).
const VMPL: usize = 0x30;
const REPORT_DATA: std::ops::Range<usize> = 0x50..0x90;
const MEASUREMENT: std::ops::Range<usize> = 0x90..0xc0;

fn platform() -> Platform {
    Platform::SnpEmulated(emulated_platform().clone())
}

/// The guest that every test here asks.
fn guest() -> &'static Guest {
    static GUEST: OnceLock<Guest> = OnceLock::new();
    GUEST.get_or_init(|| boot(&fixture_image().guest_options(platform())))
}

fn policy() -> Policy {
    attestation::policy(&platform(), fixture_image(), CPUS).expect("a row for this launch")
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
    let bound = report_data(evidence.epoch, &evidence.key_configs, b"", Some(&nonce));
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
    let mut client = Client::connect(&guest().url(), ANSWER_TIMEOUT, policy()).expect("accepted");
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
    let mut client =
        Client::connect(&guest.url(), ANSWER_TIMEOUT, accept_unattested()).expect("plain");
    let on_plain = client.summarize(&request()).expect("an answer");
    let mut client =
        Client::connect(&self::guest().url(), ANSWER_TIMEOUT, policy()).expect("accepted");
    let on_emulated = client.summarize(&request()).expect("an answer");
    assert_eq!(on_plain.usage, on_emulated.usage);
}

#[test]
fn nothing_is_asked_of_another_image_or_an_unnamed_root() {
    let refused =
        |policy: Policy| match Client::connect(&guest().url(), ANSWER_TIMEOUT, policy).err() {
            Some(ClientError::Refused(Refusal::Evidence(appraisal))) => *appraisal,
            other => panic!("{other:?}"),
        };
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
