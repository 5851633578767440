//! `cargo xtask bench`.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use cloister_client::{Client, Way, relay};
use cloister_emulator::statistics::Statistics;
use cloister_protocol::api::summarize::Style;
use serde_json::{Value, json};

use super::run::READY_TIMEOUT;
use super::{CommandError, platform};
use crate::attestation;
use crate::cli::{BenchArgs, BenchSubject, Outcome};
use crate::engine_bench;
use crate::example;
use crate::guest_build::Environment;
use crate::image_build::{self, ImageInputs};
use crate::local_issuer::LocalIssuer;
use crate::local_relay::LocalRelay;
use crate::models::ModelChoice;
use crate::pack_bench;
use crate::progress::Phase;
use crate::protocol_bench;
use crate::qemu::{Guest, GuestOptions, Qemu, Times};
use crate::service_bench::{self, Load};
use crate::statistics::median;
use crate::workspace::{Workspace, cargo};

/// How long one summary may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3600);

/// Measures, prints, and keeps the result below `target/cloister/bench`.
pub fn run(workspace: &Workspace, arguments: &BenchArgs) -> Result<Outcome, CommandError> {
    if !arguments.peer.is_empty() && arguments.subject != BenchSubject::Engine {
        return Err(CommandError::Usage(
            "--peer goes with `bench engine` only".to_owned(),
        ));
    }
    let runs_here = matches!(
        arguments.subject,
        BenchSubject::Engine | BenchSubject::Pack | BenchSubject::Protocol
    );
    if runs_here && cfg!(debug_assertions) {
        return in_release(workspace);
    }
    let (name, outcome) = match arguments.subject {
        BenchSubject::Engine => {
            let folder = workspace.bench();
            let keep = |result: &Value| keep(&folder, "engine", result);
            ("engine", engine_bench::run(workspace, arguments, keep)?)
        }
        BenchSubject::Pack => ("pack", pack_bench::run(arguments)?),
        BenchSubject::Protocol => ("protocol", protocol_bench::run(arguments)?),
        BenchSubject::Boot => ("boot", boot(workspace, arguments)?),
        BenchSubject::Guest => ("guest", guest(workspace, arguments)?),
        BenchSubject::Service => ("service", service(workspace, arguments)?),
    };
    keep(&workspace.bench(), name, &outcome.json)?;
    Ok(outcome)
}

/// The same command by a release build of this program: a build with checks would measure the checks.
fn in_release(workspace: &Workspace) -> Result<Outcome, CommandError> {
    eprintln!("Building the release profile, which is what is measured");
    let mut command = cargo();
    command.current_dir(workspace.root()).args([
        "run",
        "--release",
        "--locked",
        "--package",
        "xtask",
    ]);
    command.arg("--").args(std::env::args_os().skip(1));
    // Standard error is inherited: it shows the build and the progress.
    let output = command.stderr(Stdio::inherit()).output();
    let output = output.map_err(|source| CommandError::Io {
        path: "cargo".into(),
        source,
    })?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(Outcome {
        json: serde_json::from_str(&text).unwrap_or_default(),
        text,
        success: output.status.success(),
    })
}

/// The only one of `values`; where there are several, `option` goes with `bench engine` only.
fn one<T: Clone>(values: &[T], option: &str) -> Result<T, CommandError> {
    match values {
        [value] => Ok(value.clone()),
        _ => Err(CommandError::Usage(format!(
            "several of {option} go with `bench engine` only"
        ))),
    }
}

fn keep(folder: &Path, name: &str, result: &Value) -> Result<(), CommandError> {
    let path = folder.join(format!("{name}.json"));
    let written = std::fs::create_dir_all(folder)
        .and_then(|()| std::fs::write(&path, format!("{result:#}\n")));
    written.map_err(|source| CommandError::Io { path, source })
}

/// Boot times without a model and with one.
fn boot(workspace: &Workspace, arguments: &BenchArgs) -> Result<Outcome, CommandError> {
    let chosen = one(&arguments.models(), "--model")?;
    let platform = platform(workspace, arguments.tee)?;
    let accelerator = platform.accelerator();
    let qemu = Qemu::find_or_install()?;
    let mut text = format!(
        "Boot on platform {}, {}, QEMU {}, median of {} runs, from the start of the QEMU process:\n\
         {:12} {:>15} {:>15} {:>15}\n",
        platform.name(),
        accelerator.describe(),
        qemu.version(),
        arguments.runs,
        "model",
        "first byte, ms",
        "kernel, ms",
        "ready, ms"
    );
    let mut results = Vec::new();
    for model in [&ModelChoice::None, &chosen] {
        let folder =
            workspace
                .cloister()
                .join("bench-image")
                .join(if *model == ModelChoice::None {
                    "none"
                } else {
                    "model"
                });
        let image = image_build::build(workspace, model, &folder)?;
        let phase = Phase::start(format!(
            "Boot {} times with model {}",
            arguments.runs,
            model.name()
        ));
        let options = image.guest_options(platform.clone());
        let mut runs = Vec::new();
        let mut statistics = None;
        for _ in 0..arguments.runs {
            let (times, counted) = boot_once(&qemu, &options)?;
            runs.push(times);
            statistics = counted;
        }
        let times = medians(&runs);
        phase.done("");
        let cell = |value: Option<f64>| value.map_or("?".to_owned(), |value| format!("{value:.0}"));
        let [first, kernel, ready] =
            [times.first_byte_ms, times.kernel_ms, times.ready_ms].map(cell);
        text += &format!("{:12} {first:>15} {kernel:>15} {ready:>15}\n", model.name());
        if let Some(counted) = statistics {
            text += &format!("{:12} up to the first report, {counted}\n", "");
        }
        let pack_bytes = image.facts().model.as_ref().map(|model| model.pack.bytes);
        results.push(json!({
            "model": model.name(), "times": times, "pack_bytes": pack_bytes, "rom_bytes": image.facts().rom.bytes,
            "exits": statistics.map(|counted| counted.exits),
            "ghcb_calls": statistics.map(|counted| counted.ghcb_calls),
            "pages_validated": statistics.map(|counted| counted.validations),
        }));
    }
    let json = json!({
        "platform": platform.name(), "accelerator": accelerator.option(), "qemu": qemu.version(), "runs": arguments.runs, "results": results,
    });
    Ok(Outcome {
        text,
        json,
        success: true,
    })
}

fn boot_once(
    qemu: &Qemu,
    options: &GuestOptions,
) -> Result<(Times, Option<Statistics>), CommandError> {
    let mut guest = Guest::start(qemu, options)?;
    guest.wait_ready(READY_TIMEOUT)?;
    Ok((guest.times(), guest.statistics()))
}

fn medians(times: &[Times]) -> Times {
    let median = |read: fn(&Times) -> Option<f64>| median(times.iter().filter_map(read));
    Times {
        first_byte_ms: median(|times| times.first_byte_ms),
        kernel_ms: median(|times| times.kernel_ms),
        ready_ms: median(|times| times.ready_ms),
    }
}

/// Speed of summaries in the guest. Reading and writing are told apart by asking for one token first.
fn guest(workspace: &Workspace, arguments: &BenchArgs) -> Result<Outcome, CommandError> {
    let model = one(&arguments.models(), "--model")?;
    let cpus = one(&arguments.threads, "--threads")?;
    let platform = platform(workspace, arguments.tee)?;
    let accelerator = platform.accelerator();
    let qemu = Qemu::find_or_install()?;
    let image = image_build::build(
        workspace,
        &model,
        &workspace.cloister().join("bench-image/model"),
    )?;
    let mut options = image.guest_options(platform.clone());
    options.cpus = cpus;
    let policy = attestation::policy(&platform, &image, options.cpus, None)?;
    let mut guest = Guest::start(&qemu, &options)?;
    guest.wait_ready(READY_TIMEOUT)?;
    let phase = Phase::start("Ask for one token, then for a summary");
    let mut client = Client::connect(&guest.url(), ANSWER_TIMEOUT, policy)?;
    let short = ask(&mut client, 1)?;
    let long = ask(&mut client, 48)?;
    phase.done("");
    let read_rate = f64::from(short.prompt_tokens) / short.seconds;
    let written = long.output_tokens.saturating_sub(short.output_tokens);
    let write_rate = f64::from(written) / (long.seconds - short.seconds).max(f64::MIN_POSITIVE);
    let text = format!(
        "Guest with {} and {} virtual CPUs on platform {}, {}:\n  \
         reads  {read_rate:.2} tokens/s ({} tokens in {:.1} s)\n  \
         writes {write_rate:.2} tokens/s ({written} tokens in {:.1} s)\n",
        model.name(),
        cpus,
        platform.name(),
        accelerator.describe(),
        short.prompt_tokens,
        short.seconds,
        long.seconds - short.seconds,
    );
    let json = json!({
        "model": model.name(),
        "platform": platform.name(), "accelerator": accelerator.option(),
        "cpus": cpus,
        "prompt_tokens": short.prompt_tokens,
        "read_tokens_per_s": read_rate,
        "written_tokens": written,
        "write_tokens_per_s": write_rate,
    });
    Ok(Outcome {
        text,
        json,
        success: true,
    })
}

/// Many requests to a guest.
fn service(workspace: &Workspace, arguments: &BenchArgs) -> Result<Outcome, CommandError> {
    let cpus = one(&arguments.threads, "--threads")?;
    let platform = platform(workspace, arguments.tee)?;
    let qemu = Qemu::find_or_install()?;
    let folder = workspace.cloister().join("bench-image/service");
    let issuer = arguments
        .tokens
        .then(|| LocalIssuer::start(&workspace.bench().join("issuer"), u32::MAX))
        .transpose()
        .map_err(CommandError::Failed)?;
    let inputs = ImageInputs {
        model: &ModelChoice::Fixture,
        log_policy: None,
        token_issuer: issuer.as_ref().map(|issuer| issuer.named().clone()),
        serving: arguments.serving.into(),
        environment: Environment::of_this_process(),
    };
    let image = image_build::build_from(workspace, &inputs, &folder)?;
    let options = GuestOptions {
        cpus,
        ..image.guest_options(platform.clone())
    };
    let policy = attestation::policy(&platform, &image, cpus, None)?;
    let mut guest = Guest::start(&qemu, &options)?;
    guest.wait_ready(READY_TIMEOUT)?;
    let relay = arguments.relay.then(|| {
        // To the relay, all clients of this program are one.
        let limits = relay::Limits {
            requests_per_client: 0,
            ..relay::Limits::default()
        };
        LocalRelay::start_with(&guest.url(), limits).map_err(CommandError::Failed)
    });
    let relay = relay.transpose()?;
    let way = Way {
        relay: relay.as_ref().map(LocalRelay::url),
        ..Way::direct(&guest.url())
    };
    let load = Load {
        requests: arguments.requests as usize,
        connections: arguments.connections as usize,
        summary_every: arguments.summary_every as usize,
    };
    let mut outcome = service_bench::run(&way, &policy, issuer.as_ref(), load)?;
    let serving = arguments.serving;
    outcome.text = format!(
        "Guest with fixture and {cpus} virtual CPUs on platform {}, {}; {}, key epochs of {} s{}{}:\n{}",
        platform.name(),
        platform.accelerator().describe(),
        if serving.tls { "TLS" } else { "plain HTTP" },
        serving.epoch_s,
        if arguments.relay {
            ", through a relay"
        } else {
            ""
        },
        if arguments.tokens {
            ", a token for each summary"
        } else {
            ""
        },
        outcome.text
    );
    for (name, value) in [
        ("relay", json!(arguments.relay)),
        ("tokens", json!(arguments.tokens)),
        ("tls", json!(serving.tls)),
        ("epoch_s", json!(serving.epoch_s)),
    ] {
        outcome.json[name] = value;
    }
    Ok(outcome)
}

struct Asked {
    prompt_tokens: u32,
    output_tokens: u32,
    seconds: f64,
}

fn ask(client: &mut Client, max_tokens: u32) -> Result<Asked, CommandError> {
    let started = Instant::now();
    let usage = client
        .summarize(&example::request(Style::Paragraph, Some(max_tokens)))?
        .usage;
    let seconds = started.elapsed().as_secs_f64();
    Ok(Asked {
        prompt_tokens: usage.prompt_tokens,
        output_tokens: usage.output_tokens,
        seconds,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_for_the_engine() {
        assert_eq!(one(&[2], "--threads").expect("one"), 2);
        let error = one(&[1, 2], "--threads").unwrap_err();
        assert_eq!(error.status(), 2);
        assert!(error.to_string().contains("--threads"), "{error}");
    }

    #[test]
    fn the_median_leaves_outliers_out() {
        let times = |ms: f64| Times {
            first_byte_ms: Some(ms),
            kernel_ms: None,
            ready_ms: Some(ms * 2.0),
        };
        let median = medians(&[times(3.0), times(900.0), times(1.0)]);
        assert_eq!(
            (median.first_byte_ms, median.kernel_ms, median.ready_ms),
            (Some(3.0), None, Some(6.0))
        );
    }
}
