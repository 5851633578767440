//! What the tests of the command share.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

/// Exit status: the evidence is accepted.
pub(crate) const ACCEPTED: i32 = 0;
/// Exit status: refused by policy.
pub(crate) const REFUSED: i32 = 3;

/// Both streams of a command.
pub(crate) fn text(output: &Output) -> String {
    let both = [&output.stdout[..], &output.stderr].concat();
    String::from_utf8(both).expect("text")
}

/// A file that is removed when dropped.
pub(crate) struct File(PathBuf);

impl File {
    /// Writes it, under a name that no other test has.
    pub(crate) fn new(name: &str, bytes: &[u8]) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::write(&path, bytes).expect("written");
        Self(path)
    }

    /// Its path, as an argument.
    pub(crate) fn path(&self) -> &str {
        self.0.to_str().expect("a plain name")
    }
}

impl Drop for File {
    fn drop(&mut self) {
        // What is left behind is overwritten by the next run.
        let _ = fs::remove_file(&self.0);
    }
}
