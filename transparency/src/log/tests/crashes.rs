//! An append is stopped before, and in the middle of, each of its operations. The next one continues, and nothing that
//! was ever signed is contradicted.

use super::*;
use crate::files::simulated::Crash;
use crate::merkle::check_consistency;
use crate::note;

/// Every checkpoint that somebody could have seen so far.
#[derive(Clone, Default)]
struct Seen(Vec<Checkpoint>);

impl Seen {
    /// Takes what is in the log and in its state.
    fn look(&mut self, files: &Simulated) {
        for folder in [folders().log, folders().state] {
            if let Ok(Some(signed)) = read_checkpoint(files, &folder) {
                assert_eq!(signed.verify_log([key().verifier()]), Ok(()));
                self.0.push(signed.checkpoint().clone());
            }
        }
    }

    /// None of them contradicts the log as it is now.
    fn check(&self, files: &Simulated) {
        let mut reader = LogReader::new_in(files, &folders().log);
        let now = reader.checkpoint().expect("published");
        let now = now.checkpoint();
        for old in &self.0 {
            let proof = reader
                .consistency_proof(old.size, now.size)
                .expect("a beginning");
            let holds = check_consistency(old.size, &old.root, now.size, &now.root, &proof);
            assert_eq!(holds, Ok(()), "{} and {}", old.size, now.size);
        }
    }
}

/// Batches that end inside a tile, fill one, and go over two.
const BATCHES: [(u64, u64); 5] = [(0, 1), (3, 5), (250, 256), (250, 520), (255, 257)];

/// Stops `work` at each of its operations in each of these ways, and hands the file system, started again, to `after`.
fn at_every_operation(
    before: &Simulated,
    crashes: &[Crash],
    work: impl Fn(&Simulated),
    after: impl Fn(&Simulated, usize, Crash),
) -> usize {
    let whole = before.copy();
    work(&whole);
    let count = whole.operations() - before.operations();
    for number in 0..count {
        for &crash in crashes {
            let files = before.copy();
            files.stop_at(number, crash);
            work(&files);
            assert!(files.has_stopped());
            files.restart();
            after(&files, number, crash);
        }
    }
    count
}

#[test]
fn an_append_that_stops_anywhere_is_continued() {
    for (size, next) in BATCHES {
        let before = simulated();
        let mut log = init(&before);
        log.append(&entries(0..size)).expect("room");
        drop(log);
        let batch = entries(size..next);
        let append = |files: &Simulated| {
            let _ = open(files).and_then(|mut log| log.append(&batch));
        };
        let count = at_every_operation(&before, &Crash::ALL, append, |files, number, crash| {
            let case = format!("{size} to {next}, operation {number}, {crash:?}");
            // Whoever reads the log now sees the old one or the new one, whole.
            let now = read_all(files);
            assert!(now == entries(0..size) || now == entries(0..next), "{case}");
            let mut seen = Seen::default();
            seen.look(files);
            // Other entries than those that were interrupted.
            let other = files.copy();
            let mut log = open(&other).unwrap_or_else(|error| panic!("{case}: {error}"));
            log.append(&[b"another"]).expect("room");
            drop(log);
            seen.check(&other);
            let all = read_all(&other);
            assert_eq!(
                all.last().map(Vec::as_slice),
                Some(&b"another"[..]),
                "{case}"
            );
            assert!(
                all.len() as u64 == size + 1 || all.len() as u64 == next + 1,
                "{case}"
            );
            // The same entries again: each is there once.
            let mut log = open(files).unwrap_or_else(|error| panic!("{case}: {error}"));
            let appended = log.append(&batch).expect("room");
            let indices: Vec<u64> = appended.iter().map(|one| one.index).collect();
            assert_eq!(indices, (size..next).collect::<Vec<_>>(), "{case}");
            drop(log);
            seen.check(files);
            assert_eq!(read_all(files), entries(0..next), "{case}");
        });
        assert!(count > 20, "{count}");
    }
}

/// The one that continues is stopped as well.
#[test]
fn a_continuation_that_stops_anywhere_is_continued() {
    let before = simulated();
    let mut log = init(&before);
    log.append(&entries(0..2)).expect("room");
    drop(log);
    let append = |range: std::ops::Range<u64>| {
        move |files: &Simulated| {
            let _ = open(files).and_then(|mut log| log.append(&entries(range.clone())));
        }
    };
    at_every_operation(&before, &Crash::ALL, append(2..4), |files, first, crash| {
        let mut seen = Seen::default();
        seen.look(files);
        at_every_operation(
            files,
            &[Crash::Torn, Crash::PowerCut],
            append(300..301),
            |files, second, then| {
                let case = format!("operations {first} ({crash:?}) and {second} ({then:?})");
                let mut seen = seen.clone();
                seen.look(files);
                let mut log = open(files).unwrap_or_else(|error| panic!("{case}: {error}"));
                log.append(&entries(400..402)).expect("room");
                drop(log);
                seen.check(files);
                read_all(files);
            },
        );
    });
}

#[test]
fn making_a_log_stops_anywhere() {
    let make = |files: &Simulated| {
        let _ = TileLog::init_in(files.clone(), folders(), signer());
    };
    at_every_operation(&simulated(), &Crash::ALL, make, |files, number, crash| {
        let case = format!("operation {number}, {crash:?}");
        // Either nothing was signed, and it can be made; or it is there, and can be opened.
        let opened = match open(files) {
            Err(LogError::StateMissing) => TileLog::init_in(files.clone(), folders(), signer()),
            opened => opened,
        };
        let mut log = opened.unwrap_or_else(|error| panic!("{case}: {error}"));
        log.append(&[entry(0)]).expect("room");
        assert_eq!(read_all(files), entries(0..1), "{case}");
    });
}

#[test]
fn publishing_cosignatures_stops_anywhere() {
    let before = simulated();
    let mut log = init(&before);
    log.append(&entries(0..3)).expect("room");
    log.stage(&entries(3..5)).expect("room");
    let witness = named_key("w.example", KeyType::CosignatureV1, 2);
    let line = note::sign(&witness, log.checkpoint().note().text(), 77);
    drop(log);
    let publish = |files: &Simulated| {
        let _ = open(files).and_then(|mut log| log.publish(std::slice::from_ref(&line)));
    };
    at_every_operation(&before, &Crash::ALL, publish, |files, number, crash| {
        let case = format!("operation {number}, {crash:?}");
        let log = open(files).unwrap_or_else(|error| panic!("{case}: {error}"));
        assert_eq!(log.checkpoint().checkpoint().size, 5, "{case}");
        assert_eq!(
            log.reader().checkpoint().as_ref(),
            Ok(log.checkpoint()),
            "{case}"
        );
        assert_eq!(read_all(files), entries(0..5), "{case}");
    });
}

/// A witness's state: whatever it cosigned before it was stopped, it never cosigns another history afterwards.
#[test]
fn a_witness_that_stops_anywhere_forgets_nothing() {
    use crate::witness::{Answer, DirectoryStore, StoreError, Witness};
    let log_files = simulated();
    let mut log = init(&log_files);
    log.append(&entries(0..3)).expect("room");
    let first = log.witness_request(0).expect("a proof").to_string();
    log.append(&entries(3..9)).expect("room");
    let second = log.witness_request(3).expect("a proof").to_string();
    let ask = |files: &Simulated, request: &str| -> Result<Answer<StoreError>, StoreError> {
        let store = DirectoryStore::open_in(files.clone(), Path::new("/root/witness"))?;
        let cosigner = named_key("w.example", KeyType::CosignatureV1, 2);
        let mut witness =
            Witness::new(cosigner, [key().verifier().clone()], store).expect("a cosigner");
        Ok(witness.add_checkpoint(request.as_bytes(), 77))
    };
    let before = simulated();
    at_every_operation(
        &before,
        &Crash::ALL,
        |files| drop(ask(files, &first)),
        |files, number, crash| {
            let status = ask(files, &first).expect("opened").status();
            // Asked again it cosigns, or knows that it has.
            assert!(
                matches!(status, 200 | 409),
                "operation {number}, {crash:?}: {status}"
            );
        },
    );
    assert_eq!(ask(&before, &first).expect("opened").status(), 200);
    at_every_operation(
        &before,
        &Crash::ALL,
        |files| drop(ask(files, &second)),
        |files, number, crash| {
            let case = format!("operation {number}, {crash:?}");
            let answer = ask(files, &second).expect("opened");
            assert!(matches!(answer.status(), 200 | 409), "{case}: {answer:?}");
            let answer = ask(files, &first).expect("opened");
            assert_eq!(answer, Answer::Conflict { size: 9 }, "{case}");
        },
    );
}
