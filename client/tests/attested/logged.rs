//! Evidence with a release: what `verify` and `ask` make of the log that must have it.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use cloister_client::{Policy, Refusal};
use cloister_protocol::api::paths;
use cloister_protocol::evidence::{Evidence, Kind};
use cloister_protocol::keyconfig::decode_list;
use cloister_transparency::checkpoint::SignedCheckpoint;
use cloister_transparency::note::Note;
use cloister_transparency::release::{
    Build, ImageRelease, MinimumTcb, Period, SnpLaunch, Source, Subject,
};
use cloister_transparency::{
    Checkpoint, Hash, KeyType, LogProof, Policy as TlogPolicy, SigningKey, Statement,
};
use cloister_verifier::{LogPolicy, Policy as SnpPolicy};

use crate::common::{ACCEPTED, File, REFUSED, text};
use crate::{MEASUREMENT, evidence, platform, run, serve, trust};

pub(crate) const FAILED: i32 = 1;
pub(crate) const WRONG_USAGE: i32 = 2;
const ORIGIN: &str = "log.example/releases";
pub(crate) const DAY_S: u64 = 86_400;

pub(crate) fn key(name: &str, key_type: KeyType, byte: u8) -> SigningKey {
    SigningKey::from_seed(name, key_type, &[byte; 32].into()).expect("a name")
}

pub(crate) fn release_key() -> SigningKey {
    key("example.org/release", KeyType::Ed25519, 21)
}

pub(crate) fn log_key() -> SigningKey {
    key(ORIGIN, KeyType::Ed25519, 1)
}

pub(crate) fn witness() -> SigningKey {
    key("w1.example", KeyType::CosignatureV1, 11)
}

fn log_policy() -> String {
    format!(
        "log {}\nwitness w1 {}\nquorum w1\n",
        log_key().verifier(),
        witness().verifier()
    )
}

pub(crate) fn now_s() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.expect("a clock").as_secs()
}

/// The image of the evidence, released `ago_s` seconds ago for a month.
pub(crate) fn image(ago_s: u64) -> ImageRelease {
    let not_before_s = now_s() - ago_s;
    ImageRelease {
        subjects: vec![Subject {
            name: "rom.bin".into(),
            sha256: [2; 32],
        }],
        version: "0.1.0".into(),
        period: Period {
            not_before_s,
            not_after_s: not_before_s + 30 * DAY_S,
        },
        snp: vec![SnpLaunch {
            cpu: "EPYC-Milan".into(),
            cpu_signature: 0x00a0_0f11,
            guest_features: 1,
            measurement: MEASUREMENT,
            // More than the emulated platform has.
            minimum_tcb: MinimumTcb {
                snp: 24,
                ..MinimumTcb::default()
            },
            policy: 0x3_0000,
            vcpus: 1,
            vmm: "qemu".into(),
        }],
        model: None,
        log_policy: None,
        serving: None,
        token_issuer: None,
        source: Source {
            repository: String::new(),
            commit: "a".repeat(40),
            tree: "b".repeat(40),
            modified: false,
            cargo_lock: [3; 32],
        },
        build: Build {
            rustc: "rustc 1.95.0".into(),
            target: "x86_64-unknown-none".into(),
            profile: "guest".into(),
            flags: vec![],
        },
        sbom: [4; 32],
    }
}

/// Note and proof: the second entry of a log that the witness saw just now.
fn published(image: ImageRelease) -> [Vec<u8>; 2] {
    let mut note = Note::new(&Statement::Image(image).to_text()).expect("a text");
    note.sign(&release_key(), 0).expect("room");
    let note = note.to_string().into_bytes();
    let before = Hash::leaf(b"another entry");
    let root = Hash::node(&before, &Hash::leaf(&note));
    let checkpoint = Checkpoint::new(ORIGIN, 2, root);
    let mut checkpoint = SignedCheckpoint::unsigned(&checkpoint).expect("a checkpoint");
    for key in [log_key(), witness()] {
        checkpoint.note_mut().sign(&key, now_s()).expect("room");
    }
    let proof = LogProof {
        extra: None,
        index: 1,
        hashes: vec![before],
        checkpoint,
    };
    [note, proof.to_string().into_bytes()]
}

pub(crate) fn enclose(evidence: &mut Evidence, [note, proof]: [Vec<u8>; 2]) {
    (
        evidence.enclosures.release_note,
        evidence.enclosures.release_proof,
    ) = (note, proof);
}

/// What is done to evidence before it is shown.
type Change = fn(&mut Evidence);

fn enclose_good(evidence: &mut Evidence) {
    enclose(evidence, published(image(DAY_S)));
}

/// Arguments: the emulated root, and what `more` says.
pub(crate) fn root_and(more: &[&str]) -> Vec<String> {
    let more = more.iter().map(|word| (*word).to_owned());
    trust()[..2].iter().cloned().chain(more).collect()
}

/// Arguments: the emulated root, the log's policy in `file`, the release key.
pub(crate) fn log_arguments(file: &File) -> Vec<String> {
    let vkey = release_key().verifier().to_string();
    root_and(&["--log-policy", file.path(), "--release-key", &vkey])
}

pub(crate) fn policy_file(name: &str) -> File {
    File::new(name, log_policy().as_bytes())
}

#[test]
fn a_release_that_is_in_the_log_is_a_reference_value() {
    let policy = policy_file("good.log-policy");
    let mut shown = evidence(None);
    enclose_good(&mut shown);
    let file = File::new("logged.cbor", &shown.encode());
    let verify = ["verify", "--evidence", file.path()];
    let output = run(&verify, &log_arguments(&policy));
    let said = text(&output);
    assert_eq!(output.status.code(), Some(ACCEPTED), "{said}");
    assert!(
        said.contains("PASS         measurement in log   entry 1 of 2 in log.example/releases"),
        "{said}"
    );
    assert!(!said.contains("TEST WITNESSES"), "{said}");
    let marked = [&log_arguments(&policy)[..], &["--test-witnesses".into()]].concat();
    let said = text(&run(&verify, &marked));
    assert!(said.contains("TEST WITNESSES: entry 1 of 2"), "{said}");
    // A measurement that is named as well must be the release's.
    let other = "00".repeat(48);
    let both = [
        &log_arguments(&policy)[..],
        &["--measurement".into(), other],
    ]
    .concat();
    assert_eq!(run(&verify, &both).status.code(), Some(REFUSED));
}

#[test]
fn a_policy_file_names_the_log() {
    let _log = policy_file("named.log-policy");
    let vkey = release_key().verifier().to_string();
    let policy = serde_json::json!({ "log": {
        "policy": "named.log-policy", "release_keys": [vkey], "max_age_days": 7, "test": true,
    }});
    let policy = File::new("log.json", policy.to_string().as_bytes());
    let mut shown = evidence(None);
    enclose_good(&mut shown);
    let file = File::new("by-file.cbor", &shown.encode());
    let verify = ["verify", "--json", "--evidence", file.path()];
    let output = run(&verify, &root_and(&["--policy", policy.path()]));
    assert_eq!(output.status.code(), Some(ACCEPTED), "{}", text(&output));
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    for field in ["accepted", "logged", "test_witnesses"] {
        assert_eq!(document[field], true, "{field}");
    }
    let notices = document["notices"].to_string();
    assert!(
        notices.contains("TEST WITNESSES") && notices.contains("EMULATED"),
        "{notices}"
    );
    // The opt-out is stronger than the file, and is named.
    let out = [&trust()[..], &["--policy".into(), policy.path().into()]].concat();
    let output = run(&[&verify[..], &["--without-log"]].concat(), &out);
    assert_eq!(output.status.code(), Some(ACCEPTED), "{}", text(&output));
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(
        (&document["logged"], &document["test_witnesses"]),
        (&false.into(), &false.into())
    );
    assert!(
        document["notices"]
            .to_string()
            .contains("NOT IN A LOG (--without-log)")
    );
}

#[test]
fn evidence_that_is_not_shown_to_be_in_the_log_is_refused() {
    let policy = policy_file("refuse.log-policy");
    let logged = log_arguments(&policy);
    let cases: [(&str, Change, &[String], &str); 6] = [
        (
            "no-log-policy",
            enclose_good,
            &trust(),
            "no log policy is given; name one with --log-policy",
        ),
        (
            "no-release",
            |_| {},
            &logged,
            "there is no release note; the server must send it",
        ),
        (
            "no-proof",
            |shown| {
                enclose_good(shown);
                shown.enclosures.release_proof.clear();
            },
            &logged,
            "there is no proof with the release note",
        ),
        (
            "expired",
            |shown| enclose(shown, published(image(31 * DAY_S))),
            &logged,
            "the release expired at",
        ),
        (
            "other-image",
            |shown| {
                let mut other = image(DAY_S);
                other.snp[0].measurement = [1; 48];
                enclose(shown, published(other));
            },
            &logged,
            "which is no launch of the release",
        ),
        (
            "other-proof",
            |shown| {
                let [note, _] = published(image(DAY_S));
                let [_, proof] = published(image(2 * DAY_S));
                enclose(shown, [note, proof]);
            },
            &logged,
            "not shown to be in a log of the policy",
        ),
    ];
    for (name, change, arguments, why) in cases {
        let mut shown = evidence(None);
        change(&mut shown);
        let file = File::new(&format!("{name}.cbor"), &shown.encode());
        let output = run(&["verify", "--evidence", file.path()], arguments);
        let said = text(&output);
        assert_eq!(output.status.code(), Some(REFUSED), "{name}: {said}");
        assert!(said.contains(why), "{name}: {said}");
    }
}

#[test]
fn messages_leave_only_for_an_image_that_is_in_the_log() {
    let policy = policy_file("ask.log-policy");
    let logged = log_arguments(&policy);
    let thread = File::new(
        "logged.json",
        br#"[{"from":"Ana","text":"The launch moves."}]"#,
    );
    let ask = |change: Change, more: &[String]| {
        let server = serve(change);
        let words = ["ask", "--server", &server.url, "--messages", thread.path()];
        let output = run(&words, more);
        let seen = server.seen.lock().expect("no panic").clone();
        (output.status.code(), text(&output), seen)
    };
    let (status, said, seen) = ask(enclose_good, &logged);
    assert_eq!(seen, [paths::EVIDENCE, paths::OHTTP_GATEWAY], "{said}");
    assert_eq!(status, Some(FAILED), "this server has no answers: {said}");
    let no_proof: Change = |shown| {
        enclose_good(shown);
        shown.enclosures.release_proof.clear();
    };
    for (change, arguments, why) in [
        (enclose_good as Change, &trust()[..], "--without-log"),
        (|_: &mut Evidence| {}, &logged, "there is no release note"),
        (no_proof, &logged, "there is no proof with the release note"),
    ] {
        let (status, said, seen) = ask(change, arguments);
        assert_eq!(status, Some(REFUSED), "{said}");
        assert!(
            said.contains(why) && said.contains("nothing was sent"),
            "{said}"
        );
        assert_eq!(seen, [paths::EVIDENCE], "{said}");
    }
}

#[test]
fn a_report_alone_takes_its_release_from_files() {
    let policy = policy_file("report.log-policy");
    let Kind::SevSnp(report) = evidence(None).kind else {
        panic!("a report");
    };
    let [note, proof] = published(image(DAY_S));
    let report = File::new("logged.report", &report[..]);
    let (note, proof) = (
        File::new("release.note", &note),
        File::new("release.tlog-proof", &proof),
    );
    let chain = platform().chain();
    let chain = chain.to_str().expect("a plain name");
    let verify = ["verify", "--report", report.path(), "--certs", chain];
    let files = [
        "--release-note",
        note.path(),
        "--release-proof",
        proof.path(),
    ];
    let output = run(&[&verify[..], &files].concat(), &log_arguments(&policy));
    assert_eq!(output.status.code(), Some(ACCEPTED), "{}", text(&output));
    let output = run(&verify, &log_arguments(&policy));
    assert_eq!(output.status.code(), Some(REFUSED));
    assert!(text(&output).contains("--release-note name it"));
    let output = run(
        &[&verify[..], &files[..2]].concat(),
        &log_arguments(&policy),
    );
    assert_eq!(output.status.code(), Some(WRONG_USAGE), "{}", text(&output));
}

#[test]
fn mistakes_about_logs_are_named() {
    let policy = policy_file("mistakes.log-policy");
    let file = File::new("mistakes.cbor", &evidence(None).encode());
    let vkey = release_key().verifier().to_string();
    let cosigner = witness().verifier().to_string();
    let broken = File::new("broken.log-policy", b"log\nquorum none\n");
    let verify = |more: &[&str]| {
        let output = run(&["verify", "--evidence", file.path()], &root_and(more));
        (output.status.code().expect("it ends"), text(&output))
    };
    for (more, status, why) in [
        (
            &["--log-policy", policy.path()][..],
            FAILED,
            "--release-key",
        ),
        (&["--release-key", &vkey], FAILED, "--log-policy"),
        (
            &["--release-key", &vkey, "--log-policy", broken.path()],
            FAILED,
            "line 1",
        ),
        (
            &["--release-key", &vkey, "--log-policy", "/nowhere"],
            FAILED,
            "/nowhere",
        ),
        (&["--release-key", "key"], WRONG_USAGE, "NAME+ID+KEY"),
        (
            &["--release-key", &cosigner],
            WRONG_USAGE,
            "a witness's key",
        ),
        (
            &["--without-log", "--release-key", &vkey],
            WRONG_USAGE,
            "cannot be used with",
        ),
    ] {
        let (found, said) = verify(more);
        assert_eq!(found, status, "{more:?}: {said}");
        assert!(said.contains(why), "{more:?}: {said}");
    }
    let wrong = File::new("wrong-log.json", br#"{ "log": { "release_keys": ["x"] } }"#);
    let (status, said) = verify(&["--policy", wrong.path()]);
    assert_eq!(status, FAILED, "{said}");
    assert!(
        said.contains("wrong-log.json") && said.contains("\"x\""),
        "{said}"
    );
}

/// What `ask` prints below an answer.
#[test]
fn an_accepted_server_s_notice_says_what_was_not_asked() {
    let nonce = [7; 32];
    let mut shown = evidence(Some(nonce));
    enclose_good(&mut shown);
    let keys = decode_list(&shown.key_configs).expect("keys");
    let root = fs::read(platform().root()).expect("the root");
    let mut log = LogPolicy::new(
        TlogPolicy::parse(log_policy().as_bytes()).expect("well-formed"),
        vec![release_key().verifier().clone()],
    );
    log.test = true;
    let mut policy = Policy {
        snp: SnpPolicy {
            log: Some(log),
            ..SnpPolicy::emulated(&root).expect("a marked root")
        },
        ..Policy::default()
    };
    let notice = |policy: &Policy| {
        let attestation = policy.appraise(&shown, &keys, &nonce, None)?;
        Ok::<_, Refusal>(attestation.notice())
    };
    let said = notice(&policy).expect("accepted");
    assert!(
        said.contains("EMULATED") && said.contains("TEST WITNESSES"),
        "{said}"
    );
    policy.snp.log = None;
    policy.snp.measurements = vec![MEASUREMENT];
    assert!(matches!(notice(&policy), Err(Refusal::Evidence(_))));
    policy.snp.require_log = false;
    let said = notice(&policy).expect("accepted");
    assert!(said.contains("NOT IN A LOG (--without-log)"), "{said}");
}
