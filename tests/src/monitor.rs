//! QEMU's monitor (QMP): stops a guest and reads its memory.

use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::ops::Range;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

/// How long QEMU may take to answer.
const PATIENCE: Duration = Duration::from_secs(120);

/// A place for the monitor of a guest that is not started yet.
pub struct MonitorSocket {
    folder: TempDir,
}

impl MonitorSocket {
    /// A place of its own.
    pub fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("cloister-").tempdir();
        Self {
            folder: folder.expect("a folder"),
        }
    }

    /// What QEMU's command line needs for it.
    pub fn words(&self) -> Vec<OsString> {
        let mut socket = OsString::from("unix:");
        socket.push(self.path());
        socket.push(",server=on,wait=off");
        vec!["-qmp".into(), socket]
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("qmp")
    }

    /// The monitor of the guest that was started with these words.
    pub fn connect(self) -> Monitor {
        let stream = UnixStream::connect(self.path()).expect("QEMU listens");
        stream
            .set_read_timeout(Some(PATIENCE))
            .expect("a socket takes a timeout");
        let lines = BufReader::new(stream.try_clone().expect("a second handle"));
        let mut monitor = Monitor {
            stream,
            lines,
            folder: self.folder,
        };
        monitor.read();
        monitor.execute("qmp_capabilities", json!({}));
        monitor
    }
}

impl Default for MonitorSocket {
    fn default() -> Self {
        Self::new()
    }
}

/// QEMU's monitor of one guest.
pub struct Monitor {
    stream: UnixStream,
    lines: BufReader<UnixStream>,
    folder: TempDir,
}

impl Monitor {
    /// Executes a command. Panics if QEMU refuses.
    pub fn execute(&mut self, command: &str, arguments: Value) -> Value {
        let line = json!({ "execute": command, "arguments": arguments }).to_string();
        self.stream.write_all(line.as_bytes()).expect("QEMU reads");
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut answer = self.read();
            if let Some(value) = answer.get_mut("return") {
                return value.take();
            }
            // What is neither an answer nor an error is an event.
            assert!(answer.get("error").is_none(), "{command}: {answer}");
            assert!(Instant::now() < deadline, "{command} has no answer");
        }
    }

    fn read(&mut self) -> Value {
        let mut line = String::new();
        self.lines.read_line(&mut line).expect("QEMU answers");
        serde_json::from_str(&line).expect("QEMU speaks JSON")
    }

    /// Physical memory, all of it at one moment, one range behind the other.
    pub fn memory(&mut self, ranges: &[Range<u64>]) -> Vec<u8> {
        self.look(ranges, |memory| memory)
    }

    /// The same; the guest stands still until it has been looked at.
    pub fn look<T>(&mut self, ranges: &[Range<u64>], look: impl FnOnce(Vec<u8>) -> T) -> T {
        self.execute("stop", json!({}));
        let parts = ranges.iter().map(|range| self.save(range));
        let seen = look(parts.collect::<Vec<_>>().concat());
        self.execute("cont", json!({}));
        seen
    }

    fn save(&mut self, range: &Range<u64>) -> Vec<u8> {
        let (path, bytes) = (self.folder.path().join("memory"), range.end - range.start);
        let arguments = json!({ "val": range.start, "size": bytes, "filename": path });
        self.execute("pmemsave", arguments);
        let memory = fs::read(&path).expect("QEMU has written it");
        fs::remove_file(&path).expect("it can be removed");
        assert_eq!(memory.len() as u64, bytes);
        memory
    }
}
