//! When a log does not sign, and what its reader finds.

use super::*;
use crate::note::NoteError;
use crate::signer::SignError;

fn log_path(name: &str) -> PathBuf {
    folders().log.join(name)
}

fn state_path(name: &str) -> PathBuf {
    folders().state.join(name)
}

/// A log of 300 entries, after one of 10.
fn grown() -> (Simulated, Simulated) {
    let files = simulated();
    let mut log = init(&files);
    log.append(&entries(0..10)).expect("room");
    let before = files.copy();
    log.append(&entries(10..300)).expect("room");
    (before, files)
}

fn transfer(from: &Simulated, to: &Simulated, path: &Path) {
    let bytes = from.read(path, 1 << 20).expect("readable").expect("there");
    to.write(path, &bytes).expect("written");
}

fn write(files: &Simulated, path: &Path, bytes: &[u8]) {
    files.write(path, bytes).expect("written");
}

#[test]
fn a_log_that_does_not_know_what_it_signed_signs_nothing() {
    let (_, files) = grown();
    files.remove(&state_path("checkpoint")).expect("removed");
    assert_eq!(open(&files).err(), Some(LogError::StateMissing));
    let again = TileLog::init_in(files, folders(), signer());
    assert!(
        matches!(again.err(), Some(LogError::Exists { path }) if path == log_path("checkpoint"))
    );
}

#[test]
fn a_folder_with_tiles_or_state_is_not_made_a_new_log() {
    let (_, files) = grown();
    files.remove(&state_path("checkpoint")).expect("removed");
    files.remove(&log_path("checkpoint")).expect("removed");
    let again = TileLog::init_in(files.clone(), folders(), signer());
    assert!(matches!(again.err(), Some(LogError::Exists { path }) if path == log_path("tile")));
    let (_, files) = grown();
    files.remove(&log_path("checkpoint")).expect("removed");
    let elsewhere = LogFolders {
        log: "/root/other".into(),
        ..folders()
    };
    let again = TileLog::init_in(files, elsewhere, signer());
    assert!(
        matches!(again.err(), Some(LogError::Exists { path }) if path == state_path("checkpoint"))
    );
}

/// The log was set back, with a state that was not: its tiles are missing.
#[test]
fn a_log_that_was_set_back_is_refused() {
    let (before, files) = grown();
    transfer(&files, &before, &state_path("checkpoint"));
    let tile = Tile {
        kind: TileKind::Hashes { level: 0 },
        index: 1,
        width: 44,
    };
    assert!(
        matches!(open(&before).err(), Some(LogError::Tile(missing)) if missing == tile.full() || missing == tile)
    );
}

/// The state was set back: the log has published what it does not know of. Nothing is removed.
#[test]
fn a_state_that_was_set_back_is_refused() {
    let (before, files) = grown();
    transfer(&before, &files, &state_path("checkpoint"));
    write(&files, &state_path("intent"), b"300\n");
    let refused = LogError::NotAncestor {
        published: 300,
        signed: 10,
    };
    assert_eq!(open(&files).err(), Some(refused));
    assert_eq!(read_all(&files), entries(0..300));
}

#[test]
fn a_log_with_another_history_is_refused() {
    let (_, files) = grown();
    let other = simulated();
    let mut log = init(&other);
    log.append(&entries(1000..1010)).expect("room");
    transfer(&other, &files, &log_path("checkpoint"));
    assert_eq!(
        open(&files).err(),
        Some(LogError::NotAncestor {
            published: 10,
            signed: 300
        })
    );
    // The same size, another root.
    log.append(&entries(2000..2290)).expect("room");
    transfer(&other, &files, &log_path("checkpoint"));
    assert_eq!(
        open(&files).err(),
        Some(LogError::NotAncestor {
            published: 300,
            signed: 300
        })
    );
}

#[test]
fn tiles_that_were_altered_are_refused() {
    let (_, files) = grown();
    for tile in ["tile/0/001.p/44", "tile/1/000.p/1"] {
        let files = files.copy();
        let path = log_path(tile);
        let mut bytes = files
            .read(&path, 1 << 20)
            .expect("readable")
            .expect("there");
        bytes[5] ^= 1;
        write(&files, &path, &bytes);
        assert!(
            matches!(
                open(&files).err(),
                Some(LogError::TilesMismatch { size: 300, .. })
            ),
            "{tile}"
        );
        write(&files, &path, &bytes[1..]);
        assert!(
            matches!(open(&files).err(), Some(LogError::Tile(_))),
            "{tile}"
        );
    }
    let mut reader = LogReader::new_in(&files, &folders().log);
    assert!(reader.verify(key().verifier()).is_ok());
    for tile in [
        "tile/0/000",
        "tile/0/001.p/44",
        "tile/1/000.p/1",
        "tile/entries/000",
        "tile/entries/001.p/44",
    ] {
        let files = files.copy();
        let path = log_path(tile);
        let mut bytes = files
            .read(&path, 1 << 20)
            .expect("readable")
            .expect("there");
        *bytes.last_mut().expect("not empty") ^= 1;
        write(&files, &path, &bytes);
        let mut reader = LogReader::new_in(&files, &folders().log);
        let found = reader.verify(key().verifier());
        assert!(
            matches!(
                found,
                Err(LogError::TileMismatch(_) | LogError::TilesMismatch { .. })
            ),
            "{tile}: {found:?}"
        );
        files.remove(&path).expect("removed");
        let found = LogReader::new_in(&files, &folders().log).verify(key().verifier());
        assert!(matches!(found, Err(LogError::Tile(_))), "{tile}: {found:?}");
    }
}

#[test]
fn checkpoints_of_another_key_are_refused() {
    let (_, files) = grown();
    let other = || Box::new(named_key(ORIGIN, KeyType::Ed25519, 9));
    let opened = TileLog::open_in(files.clone(), folders(), other(), Locking::Fail);
    let untrusted = CheckpointError::Note(NoteError::NoTrustedSignature);
    assert_eq!(opened.err(), Some(LogError::State(untrusted.clone())));
    let mut reader = LogReader::new_in(&files, &folders().log);
    let other = named_key(ORIGIN, KeyType::Ed25519, 9);
    assert_eq!(
        reader.verify(other.verifier()),
        Err(LogError::Published(untrusted.clone()))
    );
    write(&files, &log_path("checkpoint"), b"log.example\n");
    assert!(matches!(open(&files).err(), Some(LogError::Published(_))));
    assert!(matches!(
        LogReader::new_in(&files, &folders().log).checkpoint(),
        Err(LogError::Published(_))
    ));
    let cosigner = Box::new(named_key(ORIGIN, KeyType::CosignatureV1, 1));
    let opened = TileLog::open_in(files, folders(), cosigner, Locking::Fail);
    assert_eq!(opened.err(), Some(LogError::NotALogKey));
}

#[test]
fn a_state_that_would_be_served_is_refused() {
    let inside = LogFolders {
        state: "/root/log/state".into(),
        ..folders()
    };
    assert_eq!(
        TileLog::init_in(simulated(), inside, signer()).err(),
        Some(LogError::StateInsideLog)
    );
}

#[test]
fn entries_of_64_kib_are_refused_and_change_nothing() {
    let files = simulated();
    let mut log = init(&files);
    let largest = vec![7; 0xffff];
    log.append(std::slice::from_ref(&largest))
        .expect("the largest");
    let operations = files.operations();
    let refused = log.append(&[entry(1), vec![7; 0x1_0000]]);
    assert_eq!(
        refused,
        Err(LogError::EntryTooLarge {
            entry: 1,
            bytes: 0x1_0000
        })
    );
    assert_eq!(files.operations(), operations);
    log.append(&[b""]).expect("an empty entry is one too");
    assert_eq!(read_all(&files), [largest, vec![]]);
}

/// A signer that signs nothing, or another text, or with another key.
#[derive(Debug)]
struct Wrong(SigningKey, u8);

impl LogSigner for Wrong {
    fn verifier(&self) -> &VerifierKey {
        self.0.verifier()
    }

    fn sign_message(&self, message: &[u8]) -> Result<[u8; 64], SignError> {
        let first = message.split(|byte| *byte == b'\n').nth(1) == Some(b"0");
        match self.1 {
            _ if first => self.0.sign_message(message),
            0 => Err(away()),
            1 => self.0.sign_message(b"another text\n"),
            _ => named_key(ORIGIN, KeyType::Ed25519, 9).sign_message(message),
        }
    }
}

fn away() -> SignError {
    SignError::Unavailable {
        reason: "away".into(),
    }
}

#[test]
fn a_signature_that_does_not_hold_is_not_published() {
    for how in 0..3 {
        let files = simulated();
        let mut log = TileLog::init_in(files.clone(), folders(), Box::new(Wrong(key(), how)))
            .expect("size 0");
        let why = if how == 0 { away() } else { SignError::Invalid };
        assert_eq!(log.append(&[entry(0)]), Err(LogError::NotSigned(why)));
        assert_eq!(log.append(&[entry(0)]), Err(LogError::NeedsReopening));
        assert_eq!(log.publish(&[]), Err(LogError::NeedsReopening));
        drop(log);
        assert_eq!(read_all(&files), entries(0..0));
        let mut log = open(&files).expect("a log");
        assert_eq!(
            files.read(&log_path("tile/0/000.p/1"), 99),
            Ok(None),
            "taken back"
        );
        log.append(&[entry(5)]).expect("room");
        assert_eq!(read_all(&files), [entry(5)]);
    }
}

#[test]
fn an_intent_that_cannot_be_read_is_an_error() {
    let (_, files) = grown();
    for text in [&b""[..], b"300", b"x\n", b"0300\n"] {
        write(&files, &state_path("intent"), text);
        assert_eq!(open(&files).err(), Some(LogError::Intent));
    }
    // One that was fulfilled takes nothing back.
    write(&files, &state_path("intent"), b"10\n");
    assert!(open(&files).is_ok());
    assert!(
        files
            .read(&log_path("tile/0/000.p/10"), 1000)
            .expect("readable")
            .is_some()
    );
}
