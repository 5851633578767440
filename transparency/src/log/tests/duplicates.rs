//! Entries that are there already, and the index that finds them.

use super::*;
use std::ffi::OsString;

fn runs(files: &Simulated) -> Vec<OsString> {
    files
        .names(&folders().state.join("index"))
        .expect("a folder")
}

#[test]
fn an_entry_that_is_there_gives_its_index() {
    let files = simulated();
    let mut log = init(&files);
    log.append(&entries(0..300)).expect("room");
    let before = log.checkpoint().clone();
    let again = log
        .append(&[entry(0), entry(255), entry(256), entry(299)])
        .expect("known");
    let known = |index| Appended {
        index,
        duplicate: true,
    };
    assert_eq!(again, [0, 255, 256, 299].map(known));
    assert_eq!(log.checkpoint(), &before, "nothing was signed");
    assert_eq!(read_all(&files), entries(0..300));
}

#[test]
fn new_and_known_entries_in_one_batch() {
    let files = simulated();
    let mut log = init(&files);
    log.append(&entries(0..10)).expect("room");
    let batch = [entry(3), entry(10), entry(10), entry(3), entry(11)];
    let appended = log.append(&batch).expect("room");
    let expected = [(3, true), (10, false), (10, true), (3, true), (11, false)];
    assert_eq!(
        appended,
        expected.map(|(index, duplicate)| Appended { index, duplicate })
    );
    drop(log);
    let mut log = open(&files).expect("a log");
    assert_eq!(
        log.append(&[entry(11)]).expect("known"),
        [Appended {
            index: 11,
            duplicate: true
        }]
    );
    assert_eq!(read_all(&files), entries(0..12));
}

/// Batches of one search the runs, large ones read them.
#[test]
fn every_entry_is_found_whatever_the_batches_were() {
    let files = simulated();
    let mut log = init(&files);
    let mut size = 0;
    for batch in (1..60).chain([700, 1, 1, 2]) {
        log.append(&entries(size..size + batch)).expect("room");
        size += batch;
        assert!(runs(&files).len() <= 12, "{:?}", runs(&files));
    }
    for number in (0..size).step_by(97) {
        let known = Appended {
            index: number,
            duplicate: true,
        };
        assert_eq!(log.append(&[entry(number)]).expect("known"), [known]);
    }
    let known = log.append(&entries(0..size)).expect("known");
    assert!(known.iter().zip(0..).all(|(one, index)| *one
        == Appended {
            index,
            duplicate: true
        }));
}

/// Opens the log and appends what it has, the first 850 entries.
fn assert_all_known(files: &Simulated) {
    let mut log = open(files).expect("a log");
    let again = log.append(&entries(0..850)).expect("known");
    assert!(again.iter().all(|one| one.duplicate));
}

#[test]
fn an_index_that_is_lost_is_made_again() {
    let files = simulated();
    let mut log = init(&files);
    for start in [0, 250, 500, 600] {
        log.append(&entries(start..start + 250)).expect("room");
    }
    drop(log);
    let folder = folders().state.join("index");
    for (name, content) in [
        ("0-3", &b"short"[..]),
        ("x", b""),
        ("7-2", b""),
        ("900-1000", b""),
    ] {
        files.write(&folder.join(name), content).expect("written");
    }
    assert_all_known(&files);
    for name in runs(&files) {
        files.remove(&folder.join(name)).expect("removed");
    }
    assert_all_known(&files);
}

/// A record that points elsewhere would make an append lie about where an entry is.
#[test]
fn an_index_that_lies_is_found_out() {
    let files = simulated();
    let mut log = init(&files);
    log.append(&entries(0..3)).expect("room");
    drop(log);
    let path = folders().state.join("index/0-3");
    let mut records = files.read(&path, 1000).expect("readable").expect("there");
    for record in records.chunks_mut(40) {
        record[39] = (record[39] + 1) % 3;
    }
    files.write(&path, &records).expect("written");
    let mut log = open(&files).expect("a log");
    assert_eq!(log.append(&[entry(1)]), Err(LogError::IndexDamaged));
}
