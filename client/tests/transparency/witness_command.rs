//! `cloister witness` as a process.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use cloister_client::Authorities;
use cloister_client::witness::{AskError, ask_vouched_witness};
use cloister_transparency::note::Signature;
use cloister_transparency::{KeyType, VerifierKey, key_file};

use super::fixture::{Log, filling, log_key};
use super::running::Running;

/// The process, and how it is asked.
pub(crate) struct Process(Running);

impl Process {
    pub(crate) fn start(folder: &Path, more: &[&str]) -> Self {
        Self(Running::start(&mut command(folder, more)))
    }

    fn key(&self) -> VerifierKey {
        let text = self.0.said("verifier_key");
        VerifierKey::parse(text).expect("a key")
    }

    pub(crate) fn url(&self) -> &str {
        self.0.said("url")
    }

    fn ask(&self, log: &Log, known_size: u64) -> Vec<Signature> {
        let asked = self.ask_as(&Authorities::default(), log, known_size);
        asked.expect("cosigned")
    }

    /// The same, where these authorities have to vouch for it if it has https.
    pub(crate) fn ask_as(
        &self,
        authorities: &Authorities,
        log: &Log,
        known_size: u64,
    ) -> Result<Vec<Signature>, AskError> {
        let (key, timeout) = (self.key(), Duration::from_secs(60));
        let mut request = |size| log.log.witness_request(size);
        ask_vouched_witness(
            authorities,
            self.url(),
            &key,
            timeout,
            known_size,
            &mut request,
        )
    }
}

fn command(folder: &Path, more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cloister"));
    command
        .args(["witness", "--listen", "127.0.0.1:0", "--json", "--key"])
        .arg(folder.join("key"))
        .arg("--state")
        .arg(folder.join("witnessed"))
        .args(["--log", &log_key().verifier().to_string()])
        .args(more);
    command
}

#[test]
fn a_key_is_made_once_and_the_state_outlives_the_process() {
    let root = tempfile::tempdir().expect("a folder");
    let generate = ["--generate", "--name", "witness.example"];
    let mut log = Log::new();
    log.append(&filling(0..3));
    let first = Process::start(root.path(), &generate);
    let key = first.key();
    assert_eq!(
        key,
        key_file::load_verifier(&root.path().join("key")).expect("made")
    );
    assert_eq!(
        (key.name(), key.key_type()),
        ("witness.example", KeyType::CosignatureV1)
    );
    first.ask(&log, 0);
    let (status, errors) = first.0.terminate();
    assert_eq!(status.code(), Some(0), "{errors}");
    assert!(
        errors.contains("200 cosigned: log.example/releases, size 3"),
        "{errors}"
    );
    assert!(errors.contains("stopped"), "{errors}");
    log.append(&filling(3..8));
    let second = Process::start(root.path(), &generate);
    assert_eq!(second.key(), key);
    second.ask(&log, 0);
    let (_, errors) = second.0.terminate();
    assert!(errors.contains("409 the last size is 3"), "{errors}");
    assert!(errors.contains("size 8"), "{errors}");
}

/// OpenSSL signs, and the witness never reads the private key.
#[test]
fn a_signing_command_signs() {
    let root = tempfile::tempdir().expect("a folder");
    let (key, elsewhere) = (root.path().join("key"), root.path().join("elsewhere"));
    key_file::generate(&key, "witness.example", KeyType::CosignatureV1, None).expect("a new file");
    std::fs::rename(&key, &elsewhere).expect("ours");
    let sign = format!(
        "openssl pkeyutl -sign -rawin -inkey '{}' -in /dev/stdin",
        elsewhere.display()
    );
    let process = Process::start(root.path(), &["--key-command", &sign]);
    let mut log = Log::new();
    log.append(&filling(0..3));
    assert_eq!(process.ask(&log, 0).len(), 1);
    assert_eq!(process.0.terminate().0.code(), Some(0));
}

#[test]
fn what_cannot_be_served_is_said() {
    let root = tempfile::tempdir().expect("a folder");
    let run = |more: &[&str]| {
        let output = command(root.path(), more).output().expect("it is built");
        let errors = String::from_utf8(output.stderr).expect("text");
        (output.status.code(), errors)
    };
    let (status, errors) = run(&[]);
    assert_eq!(status, Some(1));
    assert!(errors.contains("there is no key"), "{errors}");
    // A log's key is no witness's.
    let key = root.path().join("key");
    key_file::generate(&key, "log.example", KeyType::Ed25519, Some("secret")).expect("a new file");
    let (status, errors) = run(&[]);
    assert_eq!(status, Some(1));
    assert!(errors.contains("passphrase is needed"), "{errors}");
    let passphrase = root.path().join("passphrase");
    std::fs::write(&passphrase, "secret\n").expect("writable");
    let (status, errors) = run(&["--passphrase-file", passphrase.to_str().expect("text")]);
    assert_eq!(status, Some(1));
    assert!(errors.contains("type 0x04"), "{errors}");
    assert_eq!(run(&["--generate"]).0, Some(2));
    assert_eq!(run(&["--log", "no key"]).0, Some(2));
}
