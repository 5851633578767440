//! The disk does what is asked of it; the simulated one forgets what it should.

use super::simulated::{Crash, Simulated};
use super::*;

#[test]
fn the_disk() {
    let root = tempfile::tempdir().expect("a folder");
    let (folder, path) = (root.path().join("a/b"), root.path().join("a/b/file"));
    assert_eq!(Disk.read(&path, 9), Ok(None));
    assert_eq!(Disk.length(&path), Ok(None));
    assert_eq!(Disk.names(&folder), Ok(vec![]));
    let kind = io::ErrorKind::NotFound;
    assert_eq!(
        Disk.write(&path, b""),
        Err(FileError {
            operation: Operation::Write,
            path: path.clone(),
            kind,
            reason: None,
        })
    );
    create_folders(&Disk, &folder).expect("folders");
    replace(&Disk, &path, b"content").expect("written");
    replace(&Disk, &path, b"contents").expect("written");
    assert_eq!(Disk.read(&path, 8), Ok(Some(b"contents".to_vec())));
    assert_eq!(
        Disk.read(&path, 7).map_err(|error| error.kind),
        Err(io::ErrorKind::FileTooLarge)
    );
    assert_eq!(Disk.length(&path), Ok(Some(8)));
    let mut out = [0; 3];
    Disk.read_at(&path, 5, &mut out).expect("inside");
    assert_eq!(&out, b"nts");
    assert!(Disk.read_at(&path, 6, &mut out).is_err());
    assert_eq!(
        Disk.names(&folder),
        Ok(vec!["file".into()]),
        "no temporary file is left"
    );
    Disk.remove(&path).expect("removed");
    Disk.remove(&path).expect("there is none");
}

#[test]
fn a_lock_ends_when_it_is_dropped() {
    let root = tempfile::tempdir().expect("a folder");
    let path = root.path().join("lock");
    let lock = Disk.lock(&path, false).expect("locked").expect("free");
    assert!(Disk.lock(&path, false).expect("asked").is_none());
    // As a process has it that was just started by another thread.
    let inherited = lock.0.try_clone().expect("the same open file");
    drop(lock);
    assert!(Disk.lock(&path, false).expect("asked").is_some());
    drop(inherited);
}

#[test]
fn the_simulated_disk_keeps_what_was_waited_for() {
    let (old, new) = (Path::new("/r/old"), Path::new("/r/new"));
    let after = |crash: Crash, stops_at: usize| {
        let files = Simulated::new("/r");
        replace(&files, old, b"old").expect("written");
        files.stop_at(stops_at, crash);
        let _ = files
            .write(new, b"1234")
            .and_then(|()| files.sync(new))
            .and_then(|()| files.sync(Path::new("/r")));
        files.restart();
        assert_eq!(files.read(old, 9), Ok(Some(b"old".to_vec())));
        files.read(new, 9).expect("running")
    };
    assert_eq!(after(Crash::Killed, 0), None);
    assert_eq!(after(Crash::Torn, 0), Some(b"12".to_vec()));
    assert_eq!(after(Crash::Killed, 1), Some(b"1234".to_vec()));
    assert_eq!(after(Crash::PowerCut, 1), None);
    assert_eq!(after(Crash::PowerCutAfterNames, 1), Some(vec![]));
    assert_eq!(after(Crash::PowerCut, 2), None);
    assert_eq!(after(Crash::PowerCutAfterNames, 2), Some(b"1234".to_vec()));
}
