//! An image with TLS and short key epochs, as an SEV-SNP guest on the emulated platform: the key that the connection
//! shows is the one that the report binds, and keys change while requests come.

use std::process::Command;
use std::time::{Duration, Instant};

use cloister_client::{Attestation, Client};
use cloister_protocol::api::summarize::{Message, Request, Style};
use cloister_tests::guests::{ANSWER_TIMEOUT, boot, emulated_platform, tls_image};
use cloister_verifier::{CheckName, Outcome};
use xtask::attestation;
use xtask::qemu::Platform;

const CPUS: u32 = 1;

fn request() -> Request {
    Request {
        messages: vec![Message::new("Ana", "The launch moves to Thursday.")],
        style: Style::Bullets,
        max_tokens: Some(4),
    }
}

fn passed(attestation: &Attestation, name: CheckName) -> bool {
    let appraisal = attestation.appraisal().expect("there was a report");
    matches!(appraisal.outcome(name), Some(Outcome::Pass(_)))
}

#[test]
fn attested_tls_with_keys_that_change() {
    let image = tls_image();
    let platform = Platform::SnpEmulated(emulated_platform().clone());
    let guest = boot(&image.guest_options(platform.clone()));
    let policy = attestation::policy(&platform, image, CPUS, None).expect("a row for this launch");
    assert!(guest.url().starts_with("https://"));
    let client = Client::connect(&guest.url(), ANSWER_TIMEOUT, policy).expect("accepted");
    for name in [CheckName::TlsKey, CheckName::KeyBinding] {
        assert!(passed(&client.attestation(), name), "{name}");
    }
    let first = format!("{:?}", client.attestation());

    // Three epochs: the keys at the start are gone by then, and every request is answered.
    let epoch_s = u64::from(image.facts().serving.epoch_s);
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(3 * epoch_s) {
        client.summarize(&request()).expect("answered");
    }
    assert_ne!(
        format!("{:?}", client.attestation()),
        first,
        "appraised anew"
    );
    assert!(passed(&client.attestation(), CheckName::TlsKey));

    let health = format!("{}/healthz", guest.url());
    let words = ["-sk", "--max-time", "60", &health];
    match Command::new("curl").args(words).output() {
        Ok(output) => assert_eq!(output.stdout, b"ready\n", "{output:?}"),
        Err(error) => eprintln!("NOT RUN: curl: {error}"),
    }
    let words = ["-sk", "--max-time", "60", "--tls-max", "1.2", &health];
    if let Ok(output) = Command::new("curl").args(words).output() {
        assert!(!output.status.success(), "TLS 1.2 is refused: {output:?}");
    }
}
