//! A command of `cloister` that serves, as a process.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};

use serde_json::Value;

/// It is killed when this is dropped.
pub(crate) struct Running {
    pub(crate) child: Child,
    out: BufReader<ChildStdout>,
    /// What it says of itself before it begins.
    pub(crate) document: Value,
}

impl Running {
    /// Starts it, with `--json` among its arguments.
    pub(crate) fn start(command: &mut Command) -> Self {
        let piped = command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = piped.spawn().expect("it is built");
        let mut out = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut line = String::new();
        out.read_line(&mut line).expect("a line");
        if line.is_empty() {
            let mut errors = String::new();
            let pipe = child.stderr.as_mut().expect("a pipe");
            pipe.read_to_string(&mut errors).expect("text");
            panic!("it did not start: {errors}");
        }
        let document = serde_json::from_str(&line).expect("one JSON document");
        Self {
            child,
            out,
            document,
        }
    }

    /// A text of its document.
    pub(crate) fn said(&self, what: &str) -> &str {
        self.document[what].as_str().expect("it is there")
    }

    /// Asks it to stop; gives its status and what it wrote to standard error.
    pub(crate) fn terminate(mut self) -> (ExitStatus, String) {
        let id = self.child.id().to_string();
        let sent = Command::new("kill").args(["-TERM", &id]).status();
        assert!(sent.expect("kill is there").success());
        let (mut out, mut errors) = (String::new(), String::new());
        self.out.read_to_string(&mut out).expect("text");
        assert_eq!(out, "", "one document only");
        let pipe = self.child.stderr.as_mut().expect("a pipe");
        pipe.read_to_string(&mut errors).expect("text");
        (self.child.wait().expect("it ends"), errors)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended, or a test has failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
