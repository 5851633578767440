//! From an image to an entry that clients accept, and back.

use std::fs;

use cloister_transparency::log::LogReader;
use cloister_transparency::{Freshness, LogProof, Statement, appraise};

use super::publish::{self, PublishError, now_s};
use super::testing::{Setup, VALID_S};
use crate::digest;
use crate::image_build::{IMAGE_JSON, Image, RELEASE_NOTE, RELEASE_PROOF};

fn entries(setup: &Setup) -> u64 {
    let checkpoint = LogReader::new(&setup.deployment.folders.log).checkpoint();
    checkpoint.expect("published").checkpoint().size
}

#[test]
fn a_client_accepts_what_was_published() {
    let setup = Setup::new();
    let image = setup.image(b"rom");
    let published = publish::image(&setup.deployment, &image, VALID_S).expect("published");
    assert_eq!((published.logged.index, published.duplicate), (0, false));
    let read = |name: &str| fs::read(image.path(name)).expect("written");
    let (note, proof) = (read(RELEASE_NOTE), read(RELEASE_PROOF));
    let policy = setup.deployment.client_policy().expect("a policy");
    let freshness = Freshness {
        now_s: now_s(),
        max_age_s: Some(60),
        clock_skew_s: 60,
    };
    let logged = appraise(&note, &proof, &policy.policy, &freshness).expect("accepted");
    assert_eq!(logged.witnesses.len(), 2);
    let Ok(Statement::Image(release)) = Statement::verify(&note, &policy.release_keys) else {
        panic!("no image by the release key");
    };
    let names: Vec<&str> = release.subjects.iter().map(|s| s.name.as_str()).collect();
    let expected = [
        "boot.elf",
        "cloister.igvm",
        "image.json",
        "kernel.elf",
        "rom.bin",
        "sbom.cdx.json",
    ];
    assert_eq!(names, expected);
    let launches: Vec<_> = release
        .snp
        .iter()
        .map(|one| (one.vmm.as_str(), one.minimum_tcb.snp))
        .collect();
    assert_eq!(launches, [("qemu", 0x1b), ("igvm", 0)]);
}

#[test]
fn what_was_interrupted_goes_on_with_the_same_entry() {
    let setup = Setup::new();
    let image = setup.image(b"rom");
    let first = publish::image(&setup.deployment, &image, VALID_S).expect("published");
    // As after a stop between the note and the proof.
    fs::remove_file(image.path(RELEASE_PROOF)).expect("it is there");
    let second = publish::image(&setup.deployment, &image, VALID_S).expect("published");
    assert_eq!((second.logged.index, second.duplicate), (0, true));
    assert_eq!((second.note, entries(&setup)), (first.note, 1));
    let proof = LogProof::parse(second.proof.as_bytes()).expect("a proof");
    let lines = proof.checkpoint.note().signatures().len();
    assert_eq!(lines, 3, "one of the log, one of each witness");
    // Another image is another entry.
    let other = publish::image(&setup.deployment, &setup.image(b"other"), VALID_S);
    assert_eq!(other.expect("published").logged.index, 1);
}

#[test]
fn what_a_rebuild_needs_is_in_the_statement() {
    use cloister_tokens::TokenKey;
    let setup = Setup::new();
    let image = setup.image(b"rom");
    let path = image.path(IMAGE_JSON);
    let plain = fs::read_to_string(&path).expect("written");
    let key = TokenKey::from_modulus(&[0xff; 256]).expect("odd, 2048 bits");
    let with_key = |text: &str| {
        let json = plain.replace(
            r#""serving":{"tls":false,"epoch_s":3600}"#,
            &format!(
                r#""serving":{{"tls":true,"epoch_s":20}},"token_issuer":{{"name":"issuer.example",
                "origin":"cloister.example","token_key":"{text}","token_key_id":"{}"}}"#,
                "00".repeat(32)
            ),
        );
        fs::write(&path, json).expect("written");
        let image = Image::open(&setup.path("image")).expect("an image");
        publish::image(&setup.deployment, &image, VALID_S)
    };
    let published = with_key(&digest::hex(key.spki())).expect("published");
    let release_key = setup.deployment.release_key().expect("a key");
    let Ok(Statement::Image(said)) = Statement::verify(published.note.as_bytes(), [&release_key])
    else {
        panic!("{}", published.note);
    };
    let serving = said.serving.expect("it says so");
    assert_eq!((serving.tls, serving.epoch_s), (true, 20));
    let issuer = said.token_issuer.expect("it names one");
    assert_eq!(issuer.token_key, key.spki());
    assert_eq!(
        (issuer.name.as_str(), issuer.origin.as_str()),
        ("issuer.example", "cloister.example")
    );
    let error = with_key("5a").expect_err("no key").to_string();
    assert!(error.contains("token_issuer.token_key"), "{error}");
}

#[test]
fn a_file_that_was_altered_is_not_published() {
    let setup = Setup::new();
    let image = setup.image(b"rom");
    fs::write(image.path("rom.bin"), b"altered").expect("written");
    let error = publish::image(&setup.deployment, &image, VALID_S).expect_err("altered");
    let text = error.to_string();
    assert!(
        text.contains("rom.bin") && text.contains("cargo xtask image"),
        "{text}"
    );
    assert_eq!(entries(&setup), 0);
}

#[test]
fn a_witness_that_cannot_be_reached_leaves_the_entry_for_later() {
    let setup = Setup::new();
    let (image, policy) = (setup.image(b"rom"), &setup.deployment.policy);
    let text = fs::read_to_string(policy).expect("a policy");
    let third = cloister_transparency::SigningKey::from_seed(
        "example.org/third",
        cloister_transparency::KeyType::CosignatureV1,
        &[3; 32].into(),
    );
    let third = third.expect("a key");
    let more = text
        .replace(
            "group ",
            &format!("witness third {}\ngroup ", third.verifier()),
        )
        .replace("all witness-1", "all third witness-1");
    fs::write(policy, more).expect("written");
    let error = publish::image(&setup.deployment, &image, VALID_S).expect_err("no quorum");
    let PublishError::NotProved { witnesses, .. } = &error else {
        panic!("{error}");
    };
    assert_eq!(witnesses[0].witness, "third");
    assert!(
        error
            .to_string()
            .contains("third: the policy has no address"),
        "{error}"
    );
    assert!(!image.path(RELEASE_PROOF).exists());
    fs::write(policy, text).expect("written");
    let published = publish::image(&setup.deployment, &image, VALID_S).expect("published");
    assert_eq!((published.logged.index, entries(&setup)), (0, 1));
}

#[test]
fn an_entry_is_withdrawn_once_it_is_there() {
    let setup = Setup::new();
    let image = setup.image(b"rom");
    let refused = |index| {
        let error = publish::withdraw(&setup.deployment, index, "why").expect_err("refused");
        assert!(matches!(error, PublishError::Withdraw { .. }), "{error}");
    };
    refused(0);
    let published = publish::image(&setup.deployment, &image, VALID_S).expect("published");
    let withdrawal = publish::withdraw(&setup.deployment, 0, "a \"defect\"\nin two lines");
    let withdrawal = withdrawal.expect("published");
    let key = setup.deployment.release_key().expect("a key");
    let Ok(Statement::Withdraw(said)) = Statement::verify(withdrawal.note.as_bytes(), [&key])
    else {
        panic!("{}", withdrawal.note);
    };
    assert_eq!(said.withdraws, published.logged.leaf);
    assert_eq!(said.reason, "a \"defect\"\nin two lines");
    refused(1);
    refused(2);
}
