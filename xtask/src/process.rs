//! Other programs: run one, keep the end of what it said for the error message.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};

/// Lines of output that an error message repeats.
const TAIL_LINES: usize = 30;

/// A program could not be run, or failed.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// The program is not installed.
    #[error("{what}: the program `{program}` is not installed")]
    Missing {
        /// What was being done.
        what: String,
        /// Name of the program.
        program: String,
    },
    /// The operating system refused to start it, or the pipe to it broke.
    #[error("{what}: {source}")]
    Start {
        /// What was being done.
        what: String,
        /// Why not.
        source: std::io::Error,
    },
    /// It ended with another status than 0.
    #[error("{what} failed ({status}):\n{tail}")]
    Failed {
        /// What was being done.
        what: String,
        /// How it ended.
        status: ExitStatus,
        /// The end of its output.
        tail: String,
    },
}

/// Runs `command` and returns what it printed on standard output.
pub fn capture(command: &mut Command, what: &str) -> Result<String, ProcessError> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|source| start_error(command, what, source))?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(stdout);
    }
    let all = format!("{stdout}{}", String::from_utf8_lossy(&output.stderr));
    Err(ProcessError::Failed {
        what: what.to_owned(),
        status: output.status,
        tail: last_lines(&all),
    })
}

/// Runs `command` with all its output on our standard error (standard output is for results).
pub fn run(command: &mut Command, what: &str) -> Result<(), ProcessError> {
    let (status, output) = run_with(command, what, |line| eprintln!("{line}"))?;
    match status.success() {
        true => Ok(()),
        false => Err(ProcessError::Failed {
            what: what.to_owned(),
            status,
            tail: last_lines(&output),
        }),
    }
}

/// Runs `command`, hands each line of standard output and standard error to `each`, and returns how it ended and the
/// whole text. A failing status is not an error here.
pub fn run_with(
    command: &mut Command,
    what: &str,
    mut each: impl FnMut(&str),
) -> Result<(ExitStatus, String), ProcessError> {
    let io = |source| ProcessError::Start {
        what: what.to_owned(),
        source,
    };
    let (reader, writer) = std::io::pipe().map_err(io)?;
    command
        .stdin(Stdio::null())
        .stdout(writer.try_clone().map_err(io)?)
        .stderr(writer);
    let child = command.spawn();
    // The command holds the pipe's writing ends; the loop below ends only when every one of them is closed.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = child.map_err(|source| start_error(command, what, source))?;
    let text = read_lines(reader, &mut each).map_err(io)?;
    let status = wait(&mut child, what)?;
    Ok((status, text))
}

fn read_lines(reader: impl Read, each: &mut impl FnMut(&str)) -> std::io::Result<String> {
    let mut reader = BufReader::new(reader);
    let (mut text, mut line) = (String::new(), Vec::new());
    while reader.read_until(b'\n', &mut line)? > 0 {
        let shown = String::from_utf8_lossy(&line);
        each(shown.trim_end_matches(['\n', '\r']));
        text.push_str(&shown);
        line.clear();
    }
    Ok(text)
}

fn wait(child: &mut Child, what: &str) -> Result<ExitStatus, ProcessError> {
    child.wait().map_err(|source| ProcessError::Start {
        what: what.to_owned(),
        source,
    })
}

fn start_error(command: &Command, what: &str, source: std::io::Error) -> ProcessError {
    let what = what.to_owned();
    match source.kind() {
        std::io::ErrorKind::NotFound => ProcessError::Missing {
            what,
            program: command.get_program().to_string_lossy().into_owned(),
        },
        _ => ProcessError::Start { what, source },
    }
}

/// The last lines of `text`, for an error message.
pub fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.trim_end().lines().collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
}

/// Whether a program of that name is on the path.
pub fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn captures_output_and_names_what_failed() {
        assert_eq!(
            capture(Command::new("echo").arg("one"), "echo").expect("echo runs"),
            "one\n"
        );
        let failure = capture(
            Command::new("sh").args(["-c", "echo broken >&2; exit 3"]),
            "a step",
        )
        .unwrap_err();
        let text = failure.to_string();
        assert!(
            text.contains("a step failed") && text.contains("broken") && text.contains('3'),
            "{text}"
        );
    }

    #[test]
    fn a_missing_program_is_named() {
        let failure = capture(&mut Command::new("no-such-program-here"), "a step").unwrap_err();
        assert!(
            matches!(failure, ProcessError::Missing { program, .. } if program == "no-such-program-here")
        );
    }

    #[test]
    fn both_streams_arrive_line_by_line() {
        let mut lines = Vec::new();
        let mut command = Command::new("sh");
        command.args(["-c", "echo out; echo err >&2; exit 1"]);
        let (status, text) =
            run_with(&mut command, "sh", |line| lines.push(line.to_owned())).expect("sh runs");
        assert!(!status.success());
        assert_eq!(lines, ["out", "err"]);
        assert_eq!(text, "out\nerr\n");
    }
}
