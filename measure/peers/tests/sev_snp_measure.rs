//! Digests and ID blocks against `sev-snp-measure` 0.0.13, a Python program.

use base64ct::{Base64, Encoding as _};
use cloister_measure::testing::Rng;
use cloister_measure::{IdAuth, IdBlock, IdKey, LaunchDigest, VmmKind, measure_rom, sev};
use cloister_measure_peers::Case;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Once;

const PEER: &str = "sev-snp-measure==0.0.13";
const CASES: usize = 400;
const KEYS: usize = 20;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

/// Where the peer is installed, on first use with pip.
fn packages() -> PathBuf {
    static INSTALLED: Once = Once::new();
    let packages = folder("python");
    INSTALLED.call_once(|| {
        if packages.join("sev_snp_measure-0.0.13.dist-info").exists() {
            return;
        }
        let status = Command::new("python3")
            .args([
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
                "--target",
            ])
            .arg(&packages)
            .arg(PEER)
            .env("PIP_ROOT_USER_ACTION", "ignore")
            .status();
        assert!(
            status.is_ok_and(|status| status.success()),
            "cannot install the peer; install Python 3 with pip, then try\n  \
             python3 -m pip install --target {} {PEER}",
            packages.display()
        );
    });
    packages
}

/// Runs the script on these cases.
fn peer(cases: Vec<Value>) -> Vec<Value> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sev_snp_measure.py");
    let mut child = Command::new("python3")
        .arg(script)
        .env("PYTHONPATH", packages())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3 runs");
    let mut stdin = child.stdin.take().expect("standard input is a pipe");
    let input = Value::Array(cases).to_string();
    stdin
        .write_all(input.as_bytes())
        .expect("the script reads all of it first");
    drop(stdin);
    let output = child.wait_with_output().expect("the script ends");
    assert!(output.status.success(), "the script failed");
    serde_json::from_slice(&output.stdout).expect("a list of results")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes everything");
        text
    })
}

fn digest_in_mode(case: &Case, mode: &str) -> String {
    let config = &case.config;
    match mode {
        "SEV" => hex(&sev::sev_digest(&case.rom, config.kernel.as_ref()).expect("a good image")),
        "SEV_ES" => hex(&sev::sev_es_digest(&case.rom, config).expect("a good image")),
        _ => measure_rom(&case.rom, config)
            .expect("a good image")
            .digest()
            .to_string(),
    }
}

fn compare_digests(mode: &str, seed: u64) {
    let mut rng = Rng(seed);
    let (mut asked, mut ours) = (vec![], vec![]);
    for number in 0..CASES {
        let mut case = Case::random(&mut rng, &VmmKind::ALL);
        if rng.below(4) == 0 {
            // As `-cpu host` on some host.
            case.config.cpu = cloister_measure::CpuModel::from_signature(rng.number() as u32);
        }
        let files = case.write(&folder("cases").join(format!("{mode}-{number}")));
        asked.push(json!({
            "task": "digest",
            "mode": mode,
            "vcpus": case.config.vcpus,
            "signature": case.config.cpu.signature(),
            "features": case.config.features.0,
            "vmm": case.config.vmm.to_string(),
            "rom": files.rom,
            "kernel": files.kernel,
            "initrd": files.initrd,
            "append": case.kernel.as_ref().and_then(|kernel| kernel.append.clone()),
        }));
        ours.push(digest_in_mode(&case, mode));
    }
    let theirs = peer(asked.clone());
    assert_eq!(theirs.len(), CASES);
    for ((ours, theirs), asked) in ours.iter().zip(theirs).zip(asked) {
        assert_eq!(theirs.as_str(), Some(ours.as_str()), "{asked}");
    }
}

#[test]
fn digests_of_sev_snp_are_those_of_sev_snp_measure() {
    compare_digests("SEV_SNP", 11);
}

#[test]
fn digests_of_sev_es_are_those_of_sev_snp_measure() {
    compare_digests("SEV_ES", 12);
}

#[test]
fn digests_of_sev_are_those_of_sev_snp_measure() {
    compare_digests("SEV", 13);
}

/// Keys are made by Python; each side verifies what the other has signed.
#[test]
fn id_blocks_are_those_of_sev_snp_measure() {
    let keys = folder("keys");
    fs::create_dir_all(&keys).expect("the folder can be made");
    let path = |kind: &str, number| keys.join(format!("{kind}-{number}.pem"));
    let mut rng = Rng(14);
    let digests: Vec<LaunchDigest> = (0..KEYS)
        .map(|_| LaunchDigest(rng.bytes(48).try_into().expect("48 bytes")))
        .collect();
    let asked = digests.iter().enumerate().map(|(number, digest)| {
        json!({
            "task": "signed",
            "digest": digest.to_string(),
            "sec1": number % 2 == 1,
            "id_key": path("id", number),
            "author_key": path("author", number),
        })
    });
    let theirs = peer(asked.collect());
    let mut to_verify = vec![];
    for (number, (digest, theirs)) in digests.into_iter().zip(&theirs).enumerate() {
        let key = |kind| {
            let pem = fs::read_to_string(path(kind, number)).expect("the script has written it");
            IdKey::from_pem(&pem).expect("a key of P-384")
        };
        let (id_key, author_key) = (key("id"), key("author"));
        let block = IdBlock::new(digest);
        assert_eq!(theirs["id_block"], block.to_base64());
        assert_eq!(theirs["id_key"], Base64::encode_string(&id_key.digest()));
        assert_eq!(
            theirs["author_key"],
            Base64::encode_string(&author_key.digest())
        );
        let their_auth = Base64::decode_vec(theirs["id_auth"].as_str().expect("a text"));
        let their_auth = IdAuth::from_bytes(&their_auth.expect("base64")).expect("4096 bytes");
        assert_eq!(their_auth.verify(&block), Ok(()));
        let auth = IdAuth::new(&block, &id_key, Some(&author_key));
        to_verify.push(json!({
            "task": "verify",
            "id_block": block.to_base64(),
            "id_auth": auth.to_base64(),
        }));
    }
    assert_eq!(peer(to_verify), vec![json!("verified"); KEYS]);
}
