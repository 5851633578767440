//! Logs of many sizes: what is written is what the recursive tree says, and proofs hold.

use super::*;
use crate::appraise::{Freshness, appraise};
use crate::policy::Policy;

fn disk_folders(root: &Path) -> LogFolders {
    LogFolders {
        log: root.join("www/log"),
        state: root.join("private/state"),
    }
}

#[test]
fn a_log_grows_through_the_sizes_of_tiles() {
    let root = tempfile::tempdir().expect("a folder");
    let folders = disk_folders(root.path());
    drop(TileLog::init(folders.clone(), signer()).expect("an empty folder"));
    let mut size = 0;
    for next in [1, 2, 255, 256, 257, 300, 511, 512, 513, 1000] {
        // Opened anew each time, so that the edge is read from the disk.
        let mut log = TileLog::open(folders.clone(), signer(), Locking::Fail).expect("a log");
        let appended = log.append(&entries(size..next)).expect("room");
        let expected: Vec<u64> = (size..next).collect();
        assert_eq!(
            appended.iter().map(|one| one.index).collect::<Vec<_>>(),
            expected
        );
        let all = entries(0..next);
        assert_eq!(
            log.checkpoint().checkpoint(),
            &Checkpoint::new(ORIGIN, next, root_of(&all))
        );
        let mut reader = LogReader::new(&folders.log);
        let verified = reader
            .verify(key().verifier())
            .expect("a log that agrees with itself");
        assert_eq!(&verified.checkpoint, log.checkpoint());
        check_proofs(&mut reader, &verified.checkpoint, &all);
        size = next;
    }
    check_names(&folders.log);
}

fn check_proofs(reader: &mut LogReader<'_>, signed: &SignedCheckpoint, all: &[Vec<u8>]) {
    let policy = format!("log {}\nquorum none\n", key().verifier());
    let policy = Policy::parse(policy.as_bytes()).expect("a policy");
    let freshness = Freshness {
        now_s: 0,
        max_age_s: None,
        clock_skew_s: 0,
    };
    let leaves: Vec<Hash> = all.iter().map(|entry| Hash::leaf(entry)).collect();
    let size = all.len();
    for index in [0, size / 3, size / 2, size - 1] {
        let proof = reader.prove(index as u64, signed).expect("an entry");
        assert_eq!(proof.hashes, naive::path(index, &leaves));
        let entry = reader.entry(index as u64, size as u64).expect("an entry");
        let accepted = appraise(&entry, proof.to_string().as_bytes(), &policy, &freshness);
        assert_eq!(accepted.map(|entry| entry.index), Ok(index as u64));
        let consistency = reader
            .consistency_proof(index as u64, size as u64)
            .expect("two sizes");
        let expected = if index == 0 {
            Vec::new()
        } else {
            naive::proof(index, &leaves)
        };
        assert_eq!(consistency, expected);
    }
    let beyond = reader.prove(size as u64, signed);
    assert!(matches!(beyond, Err(LogError::Proof(_))));
    assert!(matches!(
        reader.entry(size as u64, size as u64),
        Err(LogError::Proof(_))
    ));
}

/// The tiles of the checkpoints that were published, and no other file.
fn check_names(log: &Path) {
    let mut names = Vec::new();
    let mut folders = vec![log.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                names.push(path.strip_prefix(log).expect("below").display().to_string());
            }
        }
    }
    let sizes = [1_u64, 2, 255, 256, 257, 300, 511, 512, 513, 1000];
    let kinds = [
        TileKind::Entries,
        TileKind::Hashes { level: 0 },
        TileKind::Hashes { level: 1 },
    ];
    let tiles = sizes.iter().flat_map(|size| {
        kinds
            .iter()
            .flat_map(move |kind| (0..4).filter_map(|at| Tile::of_tree(*kind, at, *size)))
    });
    let mut expected: Vec<_> = tiles
        .map(|tile| tile.to_string())
        .chain(["checkpoint".into()])
        .collect();
    expected.sort();
    expected.dedup();
    names.sort();
    assert_eq!(names, expected);
}

#[test]
fn only_one_writes_at_a_time() {
    let root = tempfile::tempdir().expect("a folder");
    let folders = disk_folders(root.path());
    let log = TileLog::init(folders.clone(), signer()).expect("an empty folder");
    let second = TileLog::open(folders.clone(), signer(), Locking::Fail);
    assert_eq!(second.err(), Some(LogError::Locked));
    let waiting = std::thread::scope(|scope| {
        let other = folders.clone();
        let waiting = scope.spawn(move || {
            let mut log = TileLog::open(other, signer(), Locking::Wait).expect("a log");
            log.append(&[b"second"]).expect("room")
        });
        let mut log = log;
        log.append(&[b"first"]).expect("room");
        drop(log);
        waiting.join().expect("no panic")
    });
    assert_eq!(
        waiting,
        [Appended {
            index: 1,
            duplicate: false
        }]
    );
}

/// Four threads, each of which opens the log, appends and closes it, over and over.
#[test]
fn many_writers_lose_nothing() {
    let root = tempfile::tempdir().expect("a folder");
    let folders = disk_folders(root.path());
    drop(TileLog::init(folders.clone(), signer()).expect("an empty folder"));
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let folders = folders.clone();
            scope.spawn(move || {
                for round in 0..5 {
                    let mut log =
                        TileLog::open(folders.clone(), signer(), Locking::Wait).expect("a log");
                    let batch: Vec<_> = (0..7).map(|n| format!("{writer} {round} {n}")).collect();
                    log.append(&batch).expect("room");
                }
            });
        }
    });
    let verified = LogReader::new(&folders.log)
        .verify(key().verifier())
        .expect("consistent");
    assert_eq!(verified.checkpoint.checkpoint().size, 4 * 5 * 7);
}

/// Witnesses cosign before the checkpoint is published.
#[test]
fn a_checkpoint_is_published_with_cosignatures() {
    use crate::witness::{DirectoryStore, Reply, StoreError, Witness, read_reply};
    let root = tempfile::tempdir().expect("a folder");
    let folders = disk_folders(root.path());
    let mut log = TileLog::init(folders.clone(), signer()).expect("an empty folder");
    let cosigner = || named_key("w.example", KeyType::CosignatureV1, 2);
    let store = root.path().join("witness");
    let mut last = 0;
    for size in [1, 300, 301] {
        // Opened anew each time, so that the state is read from the disk.
        let opened = DirectoryStore::open(&store).expect("a folder");
        assert_eq!(DirectoryStore::open(&store).err(), Some(StoreError::Locked));
        let mut witness =
            Witness::new(cosigner(), [key().verifier().clone()], opened).expect("a cosigner");
        log.stage(&entries(last..size)).expect("room");
        assert_eq!(
            log.reader()
                .checkpoint()
                .expect("published")
                .checkpoint()
                .size,
            last
        );
        let request = log.witness_request(last).expect("a proof");
        let answer = witness.add_checkpoint(request.to_string().as_bytes(), 77);
        let reply = read_reply(
            answer.status(),
            answer.body().as_bytes(),
            &request.checkpoint,
            [witness.verifier()],
        );
        let Ok(Reply::Cosigned(lines)) = reply else {
            panic!("{answer:?}");
        };
        log.publish(&lines).expect("room");
        // A later one of the same witness takes its place.
        let again = witness.add_checkpoint(
            log.witness_request(size)
                .expect("a proof")
                .to_string()
                .as_bytes(),
            78,
        );
        let reply = read_reply(
            again.status(),
            again.body().as_bytes(),
            &request.checkpoint,
            [witness.verifier()],
        );
        let Ok(Reply::Cosigned(newer)) = reply else {
            panic!("{again:?}");
        };
        assert_ne!(newer, lines);
        log.publish(&newer).expect("room");
        let published = log.reader().checkpoint().expect("published");
        assert_eq!(
            published
                .note()
                .verify([cosigner().verifier()])
                .map(|by| by.len()),
            Ok(1)
        );
        assert_eq!(&published, log.checkpoint());
        last = size;
    }
    drop(log);
    let log = TileLog::open(folders, signer(), Locking::Fail).expect("a log");
    assert_eq!(log.checkpoint().note().signatures().len(), 2);
}
