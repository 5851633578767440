//! `cargo xtask test`: everything that continuous integration runs, in the order in which mistakes are cheapest.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;

use super::{CommandError, tcb};
use crate::cli::{Outcome, TcbArgs, TestArgs};
use crate::guest_build;
use crate::install;
use crate::models;
use crate::openai_clients;
use crate::process;
use crate::progress::Phase;
use crate::qemu::{Accelerator, Qemu};
use crate::workspace::{Workspace, cargo};

/// Tells the tests which GGUF the engine is compared on; read by `tests/`.
pub const ORACLE_MODEL: &str = "CLOISTER_ORACLE_MODEL";

/// The feature with the tests that need a guest or a model.
const SLOW_TESTS: &str = "cloister-tests/slow";
/// The same, and what no test runs: candle in the engine's benchmark.
const EVERYTHING: &str = "cloister-tests/slow,xtask/peers";

/// Debian's build of OVMF, which is another SNP guest than ours.
const OVMF: &str = "/usr/share/ovmf/OVMF.fd";

/// How one step ended.
enum Verdict {
    Passed {
        tests: u64,
    },
    Failed {
        tests: u64,
        failures: u64,
        log: PathBuf,
    },
    NotRun(String),
}

struct Report {
    name: &'static str,
    verdict: Verdict,
    took: Duration,
}

/// Runs every step, also after one has failed.
pub fn run(workspace: &Workspace, arguments: &TestArgs) -> Result<Outcome, CommandError> {
    let mut reports = Vec::new();
    let mut step = |name: &'static str, work: &dyn Fn() -> Result<Verdict, CommandError>| {
        let phase = Phase::start(name);
        let started = Instant::now();
        let verdict = work().unwrap_or_else(|error| failed_to_run(workspace, name, &error));
        phase.done(&describe(&verdict));
        reports.push(Report {
            name,
            verdict,
            took: started.elapsed(),
        });
    };
    step("formatting", &|| {
        command(
            workspace,
            "formatting",
            cargo().args(["fmt", "--all", "--check"]),
        )
    });
    step("lints", &|| {
        command(
            workspace,
            "lints",
            &mut lints(&["--workspace", "--all-targets", "--features", EVERYTHING]),
        )
    });
    step("lints of the guest programs", &|| {
        // The profile that they are built in: they cannot unwind.
        let guest = ["--profile", guest_build::PROFILE, "--lib", "--bins"];
        let packages = ["-p", "cloister-boot", "-p", "cloister-kernel"];
        let words = [&guest[..], &packages, &["--features", "guest"]].concat();
        let verdict = command(workspace, "guest-lints", &mut lints(&words))?;
        if !matches!(verdict, Verdict::Passed { .. }) {
            return Ok(verdict);
        }
        let emulator = ["-p", "cloister-emulator", "--features", "l0"];
        let words = [&guest[..], &emulator].concat();
        command(workspace, "emulator-lints", &mut lints(&words))
    });
    step("unit tests", &|| {
        command(workspace, "unit-tests", &mut tests(&[]))
    });
    step("documentation", &|| {
        let mut doc = cargo();
        doc.args(["doc", "--locked", "--workspace", "--no-deps"])
            .env("RUSTDOCFLAGS", "-D warnings");
        command(workspace, "documentation", &mut doc)
    });
    step("fuzz targets on their seeds", &|| {
        let mut tests = cargo();
        // Without the binaries, which are one call each.
        tests.args(["test", "--locked", "--lib"]);
        tests.args(["--manifest-path", "fuzz/Cargo.toml"]);
        tests
            .arg("--target-dir")
            .arg(workspace.cloister().join("fuzz"));
        command(workspace, "fuzz-seeds", &mut tests)
    });
    step("licences, sources and duplicates", &|| {
        dependencies(workspace)
    });
    if !arguments.quick {
        step("unsafe code of the engine under Miri", &|| miri(workspace));
        step("size of the trusted code", &|| budget(workspace));
        step("the same image from two builds, and its audit", &|| {
            command(
                workspace,
                "reproducible",
                &mut slow_tests(&["reproducible", "audited"]),
            )
        });
        step("tokenizer and logits against the reference", &|| {
            oracle(workspace)
        });
        step("openai of PyPI through the proxy", &|| {
            openai(workspace, openai_clients::Client::Python)
        });
        step("openai of npm through the proxy", &|| {
            openai(workspace, openai_clients::Client::Node)
        });
        step("end to end in QEMU", &|| end_to_end(workspace));
        step("emulated SNP platform", &|| emulated(workspace));
    }
    Ok(conclude(&reports))
}

fn lints(words: &[&str]) -> Command {
    let mut clippy = cargo();
    clippy
        .args(["clippy", "--locked"])
        .args(words)
        .args(["--", "-D", "warnings"]);
    clippy
}

/// Runs a command and counts the tests that it reports; one that reports none counts as one test.
fn command(
    workspace: &Workspace,
    log_name: &str,
    command: &mut Command,
) -> Result<Verdict, CommandError> {
    command
        .current_dir(workspace.root())
        .env("CARGO_TERM_COLOR", "never");
    let (status, output) = process::run_with(command, log_name, |_| {})?;
    let log = write_log(workspace, log_name, &output)?;
    let counts = count_tests(&output);
    let tests = counts.passed.max(1);
    if status.success() {
        return Ok(Verdict::Passed { tests });
    }
    eprintln!("{}", interesting(&output));
    Ok(Verdict::Failed {
        tests: counts.passed,
        failures: counts.failed.max(1),
        log,
    })
}

fn write_log(workspace: &Workspace, name: &str, output: &str) -> Result<PathBuf, CommandError> {
    let folder = workspace.cloister().join("test");
    let path = folder.join(format!("{name}.log"));
    let written = std::fs::create_dir_all(&folder).and_then(|()| std::fs::write(&path, output));
    written.map_err(|source| CommandError::Io {
        path: path.clone(),
        source,
    })?;
    Ok(path)
}

fn failed_to_run(workspace: &Workspace, name: &str, error: &CommandError) -> Verdict {
    eprintln!("{error}");
    let log = write_log(workspace, &name.replace(' ', "-"), &error.to_string()).unwrap_or_default();
    Verdict::Failed {
        tests: 0,
        failures: 1,
        log,
    }
}

/// Passed and failed tests.
#[derive(Debug, Default, PartialEq, Eq)]
struct Counts {
    passed: u64,
    failed: u64,
}

/// Adds up the lines `test result: ok. 14 passed; 0 failed; ...`.
fn count_tests(output: &str) -> Counts {
    let mut counts = Counts::default();
    for line in output
        .lines()
        .filter(|line| line.trim_start().starts_with("test result: "))
    {
        let figure = |word: &str| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let place = words
                .iter()
                .position(|found| found.trim_end_matches(';') == word)?;
            words.get(place.checked_sub(1)?)?.parse::<u64>().ok()
        };
        counts.passed += figure("passed").unwrap_or(0);
        counts.failed += figure("failed").unwrap_or(0);
    }
    counts
}

/// Lines of a long log that a person wants to see first.
const SHOWN_LINES: usize = 120;

/// Of a failed test run the part from the first `failures:` on, else the end of the output.
fn interesting(output: &str) -> String {
    let from = output
        .find("\nfailures:\n")
        .map_or(output, |place| &output[place..]);
    let lines: Vec<&str> = from.trim().lines().collect();
    match from.len() == output.len() {
        true => lines[lines.len().saturating_sub(SHOWN_LINES)..].join("\n"),
        false => lines[..lines.len().min(SHOWN_LINES)].join("\n"),
    }
}

/// Pinned, so that a new release cannot change what is tested.
const CARGO_DENY_VERSION: &str = "0.20.2";

fn dependencies(workspace: &Workspace) -> Result<Verdict, CommandError> {
    let deny = match cargo_deny(workspace) {
        Ok(program) => program,
        Err(error) => {
            return Ok(Verdict::NotRun(format!(
                "cargo-deny could not be installed: {error}"
            )));
        }
    };
    let mut check = Command::new(deny);
    check.args([
        "--locked",
        "--offline",
        "check",
        "licenses",
        "bans",
        "sources",
    ]);
    command(workspace, "dependencies", &mut check)
}

/// cargo-deny as it is installed, else built once below the target directory.
fn cargo_deny(workspace: &Workspace) -> Result<PathBuf, CommandError> {
    if process::on_path("cargo-deny") {
        return Ok("cargo-deny".into());
    }
    let root = workspace.cloister().join("tools");
    let program = root.join("bin/cargo-deny");
    if !program.is_file() {
        let phase = Phase::start("Install cargo-deny");
        let mut install = cargo();
        install.args([
            "install",
            "--locked",
            "--debug",
            "--quiet",
            "cargo-deny",
            "--version",
            CARGO_DENY_VERSION,
        ]);
        install
            .arg("--root")
            .arg(&root)
            .arg("--target-dir")
            .arg(root.join("build"))
            // It is to run, not to be debugged.
            .env("CARGO_PROFILE_DEV_DEBUG", "false");
        process::capture(&mut install, "cargo install cargo-deny")?;
        phase.done("");
    }
    Ok(program)
}

/// What a nightly compiler needs for [`miri`].
const MIRI_ADVICE: &str = "no nightly compiler with Miri; run: rustup toolchain install nightly \
                           --component miri,rust-src";

/// The tests of what workers share, by an interpreter that notices races and undefined behaviour.
fn miri(workspace: &Workspace) -> Result<Verdict, CommandError> {
    if !(has_miri() || add_miri() && has_miri()) {
        return Ok(Verdict::NotRun(MIRI_ADVICE.to_owned()));
    }
    let mut tests = cargo_miri();
    tests.args(["test", "--locked", "--package", "cloister-engine"]);
    // The square root is an instruction otherwise, which Miri does not know.
    tests.args(["--features", "libm/force-soft-floats"]);
    tests
        .arg("--target-dir")
        .arg(workspace.cloister().join("miri"));
    tests.args(["--lib", "--", "workers::"]);
    command(workspace, "miri", &mut tests)
}

fn cargo_miri() -> Command {
    let mut miri = Command::new("rustup");
    miri.args(["run", "nightly", "cargo", "miri"]);
    miri
}

fn has_miri() -> bool {
    process::capture(cargo_miri().arg("--version"), "cargo miri").is_ok()
}

/// Adds it to a nightly compiler that is there. A compiler is nothing that a test should install: the product needs none
/// of them.
fn add_miri() -> bool {
    let mut add = Command::new("rustup");
    add.args([
        "component",
        "add",
        "--toolchain",
        "nightly",
        "miri",
        "rust-src",
    ]);
    process::capture(&mut add, "rustup component add").is_ok()
}

fn budget(workspace: &Workspace) -> Result<Verdict, CommandError> {
    let outcome = tcb::run(
        workspace,
        &TcbArgs {
            write_budget: false,
        },
    )?;
    let log = write_log(workspace, "tcb", &outcome.text)?;
    match outcome.success {
        true => Ok(Verdict::Passed { tests: 1 }),
        false => {
            eprintln!("{}", outcome.text);
            Ok(Verdict::Failed {
                tests: 0,
                failures: 1,
                log,
            })
        }
    }
}

fn oracle(workspace: &Workspace) -> Result<Verdict, CommandError> {
    let model = models::fetch(&models::TINY, &workspace.models())?;
    let mut tests = slow_tests(&["oracle_*"]);
    tests
        .env(ORACLE_MODEL, &model.path)
        .env("CANDLE_DEQUANTIZE_ALL", "1");
    command(workspace, "oracle", &mut tests)
}

/// A client that knows nothing of us, against `cloister proxy`.
fn openai(workspace: &Workspace, client: openai_clients::Client) -> Result<Verdict, CommandError> {
    let place = match client.find_or_install(workspace) {
        Ok(place) => place,
        Err(error) => return Ok(Verdict::NotRun(error.to_string())),
    };
    let (test, variable) = client.test();
    let words = ["--features", SLOW_TESTS, "--test", "proxy"];
    let mut tests = tests(&words);
    tests
        .args(["--", "--include-ignored", "--exact", test])
        .env(variable, place);
    command(workspace, variable, &mut tests)
}

fn end_to_end(workspace: &Workspace) -> Result<Verdict, CommandError> {
    let qemu = Qemu::find_or_install()?;
    eprintln!("QEMU {}, {}", qemu.version(), Accelerator::Tcg.describe());
    let mut tests = slow_tests(&["end_to_end", "forgets", "guest_faults", "smp"]);
    command(workspace, "end-to-end", &mut tests)
}

/// The emulated SNP platform: its own tests, an independent guest, and the image.
fn emulated(workspace: &Workspace) -> Result<Verdict, CommandError> {
    Qemu::find_or_install()?;
    if !Path::new(OVMF).is_file() {
        install::install(&install::OVMF)?;
    }
    let mut tests = slow_tests(&["snp_emulated", "snp_hostile", "tls_guest", "in_qemu"]);
    command(workspace, "snp-emulated", &mut tests)
}

/// Tests of the whole workspace: whatever part of them is run, dependencies have the same features and are built once.
fn tests(words: &[&str]) -> Command {
    let mut tests = cargo();
    tests
        .args(["test", "--locked", "--no-fail-fast", "--workspace"])
        .args(words);
    tests
}

/// Tests by the names of their programs, also those that are ignored otherwise.
fn slow_tests(names: &[&str]) -> Command {
    let mut words = vec!["--features", SLOW_TESTS];
    words.extend(names.iter().flat_map(|name| ["--test", name]));
    words.extend(["--", "--include-ignored"]);
    tests(&words)
}

fn describe(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Passed { tests: 1 } => "passed".to_owned(),
        Verdict::Passed { tests } => format!("{tests} passed"),
        Verdict::Failed {
            tests, failures, ..
        } => format!("FAILED: {tests} passed, {failures} failed"),
        Verdict::NotRun(why) => format!("NOT RUN: {why}"),
    }
}

fn conclude(reports: &[Report]) -> Outcome {
    let (mut passed, mut failed, mut not_run) = (0, 0, 0);
    let mut text = String::from("\nResult:\n");
    for report in reports {
        let word = match &report.verdict {
            Verdict::Passed { tests } => {
                passed += tests;
                "PASS"
            }
            Verdict::Failed {
                tests, failures, ..
            } => {
                passed += tests;
                failed += failures;
                "FAIL"
            }
            Verdict::NotRun(_) => {
                not_run += 1;
                "NOT RUN"
            }
        };
        let seconds = report.took.as_secs_f64();
        text += &format!(
            "  {word:8} {:36} {:>7.1} s  {}\n",
            report.name,
            seconds,
            describe(&report.verdict)
        );
        if let Verdict::Failed { log, .. } = &report.verdict {
            text += &format!("           whole output: {}\n", log.display());
        }
    }
    text += match (failed, not_run) {
        (0, 0) => "Everything passed.\n",
        (0, _) => "What was run passed. NOT EVERYTHING WAS RUN: see above.\n",
        _ => "Something FAILED: see above.\n",
    };
    text += &format!("{passed} passed, {failed} failed\n");
    let steps: Vec<_> = reports
        .iter()
        .map(|report| json!({ "step": report.name, "result": describe(&report.verdict), "seconds": report.took.as_secs_f64() }))
        .collect();
    let json =
        json!({ "passed": passed, "failed": failed, "steps_not_run": not_run, "steps": steps });
    Outcome {
        text,
        json,
        success: failed == 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(verdict: Verdict) -> Report {
        Report {
            name: "a step",
            verdict,
            took: Duration::from_secs(1),
        }
    }

    #[test]
    fn results_of_several_binaries_are_added_up() {
        let output = "test result: ok. 14 passed; 0 failed; 1 ignored\nx\n\
                      test result: FAILED. 2 passed; 3 failed; 0 ignored; finished in 0.1s\n";
        assert_eq!(
            count_tests(output),
            Counts {
                passed: 16,
                failed: 3
            }
        );
        assert_eq!(count_tests("nothing"), Counts::default());
    }

    #[test]
    fn one_failure_fails_the_whole() {
        let passed = || report(Verdict::Passed { tests: 5 });
        let failed = report(Verdict::Failed {
            tests: 2,
            failures: 1,
            log: PathBuf::new(),
        });
        let bad = conclude(&[passed(), failed]);
        assert!(
            !bad.success && bad.text.ends_with("7 passed, 1 failed\n"),
            "{}",
            bad.text
        );
        let good = conclude(&[passed()]);
        assert!(
            good.success && good.text.contains("Everything passed."),
            "{}",
            good.text
        );
    }

    #[test]
    fn what_was_not_run_is_said_aloud() {
        let outcome = conclude(&[report(Verdict::NotRun("no tool".to_owned()))]);
        assert!(
            outcome.success && outcome.text.contains("NOT EVERYTHING WAS RUN"),
            "{}",
            outcome.text
        );
    }

    #[test]
    fn of_a_failed_run_the_failures_are_shown() {
        let output = format!("{}\nfailures:\n---- a ----\nboom\n", "line\n".repeat(500));
        assert_eq!(interesting(&output), "failures:\n---- a ----\nboom");
        assert_eq!(
            interesting(&"line\n".repeat(500)).lines().count(),
            SHOWN_LINES
        );
    }
}
