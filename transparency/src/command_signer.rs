//! Signatures by a command: `openssl`, or the tool of a hardware security module, so that the private key is never in here.
//!
//! The command is run by `sh -c`. Its standard input is a file of the bytes to sign, its standard output 64 bytes of
//! Ed25519, or base 64 of them; what it writes to standard error is shown. It cannot ask questions at the terminal. OpenSSL 3.0 has to be told where the file is:
//! `openssl pkeyutl -sign -rawin -inkey KEY -in /dev/stdin`.

use crate::base64;
use crate::key::VerifierKey;
use crate::signer::{SignError, Signer};
use rustix::process::{Pid, Signal, kill_process_group};
use std::io::{self, Read, Seek, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

#[cfg(test)]
mod tests;

/// How long a command may take: somebody may have to touch a device or to enter a number.
pub const TIME_LIMIT: Duration = Duration::from_secs(120);

/// The most bytes that a command may write: base 64 with some white space.
const MAX_OUTPUT_BYTES: usize = 256;

/// Between two looks at whether a command has ended that has closed its output.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// A signer that runs a command.
#[derive(Clone, Debug)]
pub struct CommandSigner {
    verifier: VerifierKey,
    command: String,
    time_limit: Duration,
}

impl CommandSigner {
    /// Signatures by `command`, which have to hold under `verifier`.
    pub fn new(verifier: VerifierKey, command: &str) -> Self {
        Self {
            verifier,
            command: command.into(),
            time_limit: TIME_LIMIT,
        }
    }

    /// The same with another time limit than [`TIME_LIMIT`].
    #[must_use]
    pub fn with_time_limit(self, time_limit: Duration) -> Self {
        Self { time_limit, ..self }
    }

    fn start(&self, message: &[u8]) -> io::Result<Child> {
        // Not a pipe: OpenSSL wants to know the length, and nothing has to be written while the command runs.
        let mut input = tempfile::tempfile()?;
        input.write_all(message)?;
        input.rewind()?;
        Command::new("sh")
            .args(["-c", &self.command])
            .stdin(input)
            .stdout(Stdio::piped())
            // So that all of it can be stopped, and not the shell only.
            .process_group(0)
            .spawn()
    }

    /// What the command writes, once it has ended well.
    fn run(&self, message: &[u8]) -> Result<Vec<u8>, String> {
        let deadline = Instant::now() + self.time_limit;
        let cannot = |error: io::Error| format!("cannot be run: {error}");
        let mut child = self.start(message).map_err(cannot)?;
        let outcome = match output(&mut child, deadline) {
            Ok(output) => wait(&mut child, deadline).map(|status| (status, output)),
            Err(error) => Err(error),
        };
        if outcome.is_err() {
            stop(&mut child);
        }
        match outcome {
            Ok((status, output)) if status.success() => Ok(output),
            Ok((status, _)) => Err(format!("failed: {status}")),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => Err(format!(
                "gave no signature within {} s",
                self.time_limit.as_secs_f32()
            )),
            Err(error) if error.kind() == io::ErrorKind::FileTooLarge => Err(not_a_signature()),
            Err(error) => Err(cannot(error)),
        }
    }
}

impl Signer for CommandSigner {
    fn verifier(&self) -> &VerifierKey {
        &self.verifier
    }

    fn sign_message(&self, message: &[u8]) -> Result<[u8; 64], SignError> {
        let output = self.run(message);
        let signature = output.and_then(|bytes| read_signature(&bytes).ok_or_else(not_a_signature));
        let signature = signature.map_err(|what| SignError::Unavailable {
            reason: format!("the signing command `{}` {what}", self.command),
        })?;
        if self.verifier.verify_ed25519(message, &signature) {
            Ok(signature)
        } else {
            Err(SignError::Invalid)
        }
    }
}

/// Ends the command and all that it has started.
fn stop(child: &mut Child) {
    // It may have ended by itself since; then there is nothing to stop.
    let _ = kill_process_group(Pid::from_child(child), Signal::KILL);
    let _ = child.wait();
}

fn not_a_signature() -> String {
    "wrote something else than 64 bytes, or base 64 of them, to its standard output".into()
}

/// Reads standard output to its end. A thread does, which a command that does not end keeps waiting.
fn output(child: &mut Child, deadline: Instant) -> io::Result<Vec<u8>> {
    let pipe = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
    let (sender, receiver) = mpsc::channel();
    thread::Builder::new().spawn(move || {
        let mut output = Vec::new();
        let read = pipe
            .take(MAX_OUTPUT_BYTES as u64 + 1)
            .read_to_end(&mut output);
        // Nobody is there any more when the time was over.
        let _ = sender.send(read.map(|_| output));
    })?;
    let left = deadline.saturating_duration_since(Instant::now());
    let output = receiver.recv_timeout(left);
    let output = output.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    if output.len() > MAX_OUTPUT_BYTES {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(output)
}

fn wait(child: &mut Child, deadline: Instant) -> io::Result<ExitStatus> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if Instant::now() >= deadline {
            return Err(io::ErrorKind::TimedOut.into());
        }
        thread::sleep(POLL_INTERVAL);
    }
}

/// 64 bytes, or base 64 of them with white space around.
fn read_signature(output: &[u8]) -> Option<[u8; 64]> {
    if let Ok(raw) = output.try_into() {
        return Some(raw);
    }
    let text = core::str::from_utf8(output).ok()?;
    let joined: String = text.split_ascii_whitespace().collect();
    base64::decode(&joined)?.try_into().ok()
}
