//! `cloister verify` as people run it: output and exit status, on real reports.

mod common;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use common::{ACCEPTED, File, REFUSED, text};

const FAILED: i32 = 1;
const WRONG_USAGE: i32 = 2;

/// A report of a Genoa machine with an SNP firmware that has known holes by now.
const REPORT: &str = "reports/v3-genoa-vcek-227a641d.bin";
const VCEK: &str = "reports/v3-genoa-vcek-227a641d.vcek.der";
const MEASUREMENT: &str = "f57dc09a507c6ecd82369bffb600f0003792f4d99bc26e985ec0c266fc34faf3706faf814c9e61065768a6ff\
                           917c89ae";
/// Lets that firmware pass.
const LOW_FLOOR: &str = r#"{ "tcb_floors": { "Genoa": { "snp": 23 } } }"#;

fn vector(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../verifier/tests/vectors")
        .join(name)
}

fn verify(words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cloister"));
    command.arg("verify").arg("--report").arg(vector(REPORT));
    command.arg("--certs").arg(vector(VCEK));
    command.arg("--certs").arg(vector("chains"));
    command.arg("--without-log");
    command.args(words).output().expect("the program runs")
}

#[test]
fn a_report_with_known_holes_is_refused_for_that_alone() {
    let output = verify(&["--measurement", MEASUREMENT]);
    let text = text(&output);
    assert_eq!(output.status.code(), Some(REFUSED), "{text}");
    let failed: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with("FAIL"))
        .collect();
    assert!(
        matches!(failed[..], [line] if line.contains("TCB floor")),
        "{text}"
    );
    assert!(text.contains("NOT CHECKED"), "{text}");
}

#[test]
fn a_policy_decides_what_is_accepted() {
    let policy = File::new("low-floor.json", LOW_FLOOR.as_bytes());
    let words = ["--policy", policy.path()];
    let output = verify(&[&words[..], &["--measurement", MEASUREMENT]].concat());
    assert_eq!(output.status.code(), Some(ACCEPTED), "{}", text(&output));
    let output = verify(&[&words[..], &["--measurement", &"00".repeat(48)]].concat());
    assert_eq!(output.status.code(), Some(REFUSED), "{}", text(&output));
    let output = verify(&words);
    assert_eq!(
        output.status.code(),
        Some(REFUSED),
        "without a reference value nothing is accepted"
    );
}

#[test]
fn programs_get_one_document() {
    let output = verify(&["--json", "--measurement", MEASUREMENT]);
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(document["accepted"], false);
    let checks = document["checks"].as_array().expect("a list");
    let result = |name: &str| {
        let check = checks.iter().find(|check| check["check"] == name);
        check.expect("the check is there")["result"].clone()
    };
    assert_eq!(result("report signature"), "PASS");
    assert_eq!(result("TCB floor"), "FAIL");
    assert_eq!(result("key binding"), "NOT CHECKED");
}

#[test]
fn mistakes_are_named() {
    let output = verify(&["--measurement", "abc"]);
    assert_eq!(output.status.code(), Some(WRONG_USAGE));
    assert!(text(&output).contains("96 hexadecimal digits"));
    for (content, wanted) in [
        ("{", "not a policy"),
        (r#"{ "measurement": [] }"#, "unknown field `measurement`"),
        (r#"{ "products": ["Rome"] }"#, "Milan, Genoa, Turin"),
        (r#"{ "measurements": ["12"] }"#, "96 hexadecimal digits"),
    ] {
        let policy = File::new("wrong.json", content.as_bytes());
        let output = verify(&["--policy", policy.path()]);
        assert_eq!(output.status.code(), Some(FAILED), "{content}");
        let text = text(&output);
        assert!(
            text.contains("wrong.json") && text.contains(wanted),
            "{text}"
        );
    }
    let output = verify(&["--certs", "/nowhere"]);
    assert_eq!(output.status.code(), Some(FAILED));
    assert!(text(&output).contains("/nowhere"), "{}", text(&output));
    let root = vector("chains/genoa-ark.der");
    let output = verify(&["--trust-emulated-root", root.to_str().expect("plain")]);
    assert_eq!(output.status.code(), Some(FAILED));
    assert!(text(&output).contains("emulated"), "{}", text(&output));
}
