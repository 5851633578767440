//! `cargo xtask fuzz`.

use std::path::Path;
use std::process::Command;

use serde_json::json;

use super::CommandError;
use crate::cli::{FuzzArgs, Outcome};
use crate::process::{self, ProcessError};
use crate::progress::Phase;
use crate::workspace::{Workspace, cargo};

/// What to do when the fuzzer is not there.
const ADVICE: &str = "Fuzzing needs a nightly compiler and cargo-fuzz; run: \
                      rustup toolchain install nightly && cargo install --locked cargo-fuzz";

/// Runs one target or all of them.
pub fn run(workspace: &Workspace, arguments: &FuzzArgs) -> Result<Outcome, CommandError> {
    let known = targets(&workspace.root().join("fuzz"))?;
    let chosen = match &arguments.target {
        None => known,
        Some(name) if known.contains(name) => vec![name.clone()],
        Some(name) => {
            let known = known.join(", ");
            return Err(CommandError::Usage(format!(
                "no fuzz target `{name}`; there are: {known}"
            )));
        }
    };
    require_fuzzer()?;
    write_seeds(workspace)?;
    let (mut text, mut results, mut success) = (String::new(), Vec::new(), true);
    for target in &chosen {
        let found = fuzz(workspace, target, arguments.seconds)?;
        success &= found.is_none();
        text += &match &found {
            None => format!(
                "PASS  {target}: {} s without a finding\n",
                arguments.seconds
            ),
            Some(words) => format!("FAIL  {target}:\n{words}\n"),
        };
        results.push(json!({ "target": target, "seconds": arguments.seconds, "finding": found }));
    }
    Ok(Outcome {
        text,
        json: json!({ "targets": results }),
        success,
    })
}

fn require_fuzzer() -> Result<(), CommandError> {
    let mut nightly = Command::new("rustup");
    nightly.args(["run", "nightly", "rustc", "--version"]);
    let has_nightly = process::capture(&mut nightly, "rustup run nightly").is_ok();
    match has_nightly && process::on_path("cargo-fuzz") {
        true => Ok(()),
        false => Err(CommandError::Failed(ADVICE.to_owned())),
    }
}

/// Writes valid inputs of every target where the fuzzer looks for them: it seldom makes a valid one by itself.
fn write_seeds(workspace: &Workspace) -> Result<(), CommandError> {
    let phase = Phase::start("Write the seeds");
    let mut seeds = cargo();
    seeds
        .current_dir(workspace.root())
        .args(["run", "--locked", "--manifest-path", "fuzz/Cargo.toml"])
        .arg("--target-dir")
        .arg(workspace.cloister().join("fuzz"))
        .args(["--example", "seeds"]);
    process::capture(&mut seeds, "the example `seeds` of fuzz/")?;
    phase.done("");
    Ok(())
}

/// Runs a target; what it found, if anything.
fn fuzz(workspace: &Workspace, target: &str, seconds: u64) -> Result<Option<String>, CommandError> {
    let phase = Phase::start(format!("Fuzz {target} for {seconds} s"));
    let mut command = Command::new("rustup");
    command
        .current_dir(workspace.root())
        .args(["run", "nightly", "cargo", "fuzz", "run"]);
    command
        .arg("--target-dir")
        .arg(workspace.cloister().join("fuzz"))
        .args([target, "--"]);
    command.arg(format!("-max_total_time={seconds}"));
    let found = match process::capture(&mut command, "cargo fuzz") {
        Ok(_) => None,
        Err(ProcessError::Failed { tail, .. }) => Some(tail),
        Err(other) => return Err(other.into()),
    };
    phase.done(if found.is_some() {
        "FAILED"
    } else {
        "no finding"
    });
    Ok(found)
}

/// Names of the targets: one file each.
fn targets(folder: &Path) -> Result<Vec<String>, CommandError> {
    let path = folder.join("fuzz_targets");
    let io = |source| CommandError::Io {
        path: path.clone(),
        source,
    };
    let mut names = Vec::new();
    for entry in std::fs::read_dir(&path).map_err(io)? {
        let path = entry.map_err(io)?.path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            names.extend(
                path.file_stem()
                    .map(|stem| stem.to_string_lossy().into_owned()),
            );
        }
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_the_files() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        assert!(targets(folder.path()).is_err());
        let inside = folder.path().join("fuzz_targets");
        std::fs::create_dir(&inside).expect("created");
        for name in ["b.rs", "a.rs", "notes.md"] {
            std::fs::write(inside.join(name), "").expect("written");
        }
        assert_eq!(targets(folder.path()).expect("readable"), ["a", "b"]);
    }
}
