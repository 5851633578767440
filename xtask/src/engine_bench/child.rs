//! The parent's end of a child.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde::de::DeserializeOwned;

use super::protocol::{Failure, Ready, Request};
use crate::commands::CommandError;

/// A child that has loaded its model. It ends when this is dropped.
pub(super) struct Worker {
    name: String,
    process: Child,
    /// `None` only while it is being dropped.
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    ready: Ready,
}

impl Worker {
    /// Starts `command` and waits until it is ready.
    pub(super) fn start(name: &str, mut command: Command) -> Result<Self, CommandError> {
        let spawned = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut process = spawned.map_err(|source| CommandError::Io {
            path: command.get_program().into(),
            source,
        })?;
        let (input, output) = (process.stdin.take(), process.stdout.take());
        let output = output.expect("standard output is a pipe");
        let mut worker = Self {
            name: name.to_owned(),
            process,
            input,
            output: BufReader::new(output),
            ready: Ready {
                ready: false,
                load_s: 0.0,
                vocabulary: 0,
                features: String::new(),
                weight_bytes_per_token: None,
            },
        };
        worker.ready = worker.receive()?;
        Ok(worker)
    }

    /// What the child said of itself.
    pub(super) fn ready(&self) -> &Ready {
        &self.ready
    }

    /// Asks, and waits for the answer.
    pub(super) fn ask<R: DeserializeOwned>(&mut self, request: Request) -> Result<R, CommandError> {
        let input = self.input.as_mut().expect("it is not being dropped");
        // A child that has ended has said why: that is found when its output is read.
        let _ = writeln!(input, "{request}").and_then(|()| input.flush());
        self.receive()
    }

    fn receive<R: DeserializeOwned>(&mut self) -> Result<R, CommandError> {
        let mut line = String::new();
        let read = self.output.read_line(&mut line);
        let what = match read {
            Ok(0) => {
                let status = self.process.wait();
                let status = status.map_or_else(|error| error.to_string(), |s| s.to_string());
                format!("it ended unexpectedly ({status})")
            }
            Ok(_) => match serde_json::from_str(&line) {
                Ok(reply) => return Ok(reply),
                Err(unknown) => match serde_json::from_str::<Failure>(&line) {
                    Ok(Failure { error }) => error,
                    Err(_) => format!("it said `{}`: {unknown}", line.trim_end()),
                },
            },
            Err(error) => error.to_string(),
        };
        Err(CommandError::Failed(format!("{}: {what}", self.name)))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // The end of its standard input ends it; one that is busy is ended.
        drop(self.input.take());
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine_bench::protocol::Memory;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_child_is_asked_line_by_line() {
        let script = r#"echo '{"ready": true, "vocabulary": 7}'
            while read line; do test "$line" = memory && echo '{"peak_bytes": 2, "resident_bytes": 1}'; done"#;
        let mut worker = Worker::start("a child", shell(script)).expect("it starts");
        assert_eq!(worker.ready().vocabulary, 7);
        for _ in 0..2 {
            let memory: Memory = worker.ask(Request::Memory).expect("it answers");
            assert_eq!((memory.peak_bytes, memory.resident_bytes), (2, 1));
        }
    }

    #[test]
    fn what_a_child_complains_about_is_the_error() {
        let complain = shell(r#"echo '{"error": "no such model"}'; exit 1"#);
        let error = Worker::start("a child", complain).err().expect("an error");
        assert_eq!(error.to_string(), "a child: no such model");
        let error = Worker::start("a child", shell("exit 3"))
            .err()
            .expect("an error");
        assert!(error.to_string().contains("ended unexpectedly"), "{error}");
    }
}
