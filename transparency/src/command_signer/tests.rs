//! OpenSSL as the signer, and commands that are none. OpenSSL's command has to be installed.

use super::*;
use crate::key::{KeyType, SigningKey};
use crate::key_file;
use crate::log::{Locking, LogFolders, LogReader, TileLog};
use crate::note::Note;
use crate::signer;
use std::path::Path;

const NAME: &str = "log.example/releases";

/// What OpenSSL signs with, for both kinds of key, holds; and a log whose key is in OpenSSL's hands only.
#[test]
fn openssl_signs() {
    let root = tempfile::tempdir().expect("a folder");
    for (key_type, passphrase) in [
        (KeyType::Ed25519, Some("secret")),
        (KeyType::CosignatureV1, None),
    ] {
        let path = root.path().join(format!("key {}", key_type.byte()));
        let verifier = key_file::generate(&path, NAME, key_type, passphrase).expect("a new file");
        let sign = format!(
            "openssl pkeyutl -sign -rawin -inkey '{}' -passin pass:secret -in /dev/stdin",
            path.display()
        );
        for command in [sign.clone(), format!("{sign} | base64")] {
            let by_command = CommandSigner::new(verifier.clone(), &command);
            let line = signer::sign(&by_command, "a text\n", 1_795_000_000);
            let line = line.expect("this test needs the command openssl (apt-get install openssl)");
            let key = key_file::load(&path, passphrase).expect("a key");
            // Ed25519 has one signature for one message.
            assert_eq!(line, crate::note::sign(&key, "a text\n", 1_795_000_000));
            let mut note = Note::new("a text\n").expect("a text");
            note.add(line).expect("room");
            assert!(note.verify([&verifier]).is_ok());
        }
        if key_type == KeyType::Ed25519 {
            log_of(CommandSigner::new(verifier, &sign), root.path());
        }
    }
}

fn log_of(signer: CommandSigner, root: &Path) {
    let folders = LogFolders {
        log: root.join("log"),
        state: root.join("state"),
    };
    let verifier = signer.verifier().clone();
    let boxed = || Box::new(signer.clone());
    drop(TileLog::init(folders.clone(), boxed()).expect("an empty folder"));
    let mut log = TileLog::open(folders.clone(), boxed(), Locking::Fail).expect("a log");
    log.append(&[b"entry"]).expect("room");
    let verified = LogReader::new(&folders.log).verify(&verifier);
    assert_eq!(verified.expect("a log").checkpoint.checkpoint().size, 1);
}

#[test]
fn a_command_that_does_not_sign_is_named_with_the_reason() {
    let key = SigningKey::from_seed(NAME, KeyType::Ed25519, &[1; 32].into()).expect("a name");
    let signer = |command: &str| CommandSigner::new(key.verifier().clone(), command);
    let reason = |command: &str| match signer(command).sign_message(b"message") {
        Err(SignError::Unavailable { reason }) => reason,
        other => panic!("{command}: {other:?}"),
    };
    for (command, words) in [
        ("exit 7", "exit status: 7"),
        ("head -c 64 /dev/zero; exit 1", "exit status: 1"),
        ("true", "64 bytes"),
        ("head -c 63 /dev/zero", "64 bytes"),
        ("head -c 65 /dev/zero", "64 bytes"),
        ("head -c 63 /dev/zero | base64", "64 bytes"),
        ("cat /dev/zero", "64 bytes"),
    ] {
        let reason = reason(command);
        assert!(
            reason.contains(words) && reason.contains(command),
            "{command}: {reason}"
        );
    }
    assert_eq!(
        signer("head -c 64 /dev/zero").sign_message(b"message"),
        Err(SignError::Invalid)
    );
}

#[test]
fn a_command_that_does_not_end_is_stopped() {
    let key = SigningKey::from_seed(NAME, KeyType::Ed25519, &[1; 32].into()).expect("a name");
    let root = tempfile::tempdir().expect("a folder");
    let id = root.path().join("id");
    let child = format!("sleep 1000 & echo $! > '{}'; wait", id.display());
    for command in ["sleep 1000", "exec >&-; sleep 1000", &child] {
        let signer = CommandSigner::new(key.verifier().clone(), command);
        let signer = signer.with_time_limit(Duration::from_millis(200));
        let signed = signer.sign_message(b"message");
        assert!(
            matches!(&signed, Err(SignError::Unavailable { reason }) if reason.contains("within 0.2 s")),
            "{signed:?}"
        );
    }
    // A child of the shell is stopped too, soon; until somebody has waited for it, its state is Z.
    let id = std::fs::read_to_string(id).expect("written");
    let is_there = || {
        let status = std::fs::read_to_string(format!("/proc/{}/stat", id.trim()));
        status.is_ok_and(|status| status.contains("(sleep)") && !status.contains(") Z "))
    };
    let mut looks = 0;
    while is_there() {
        looks += 1;
        assert!(looks < 1000, "it goes on");
        std::thread::sleep(Duration::from_millis(10));
    }
}
