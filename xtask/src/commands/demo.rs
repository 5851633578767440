//! `cargo xtask demo`: from nothing to a summary, with what each step took.

use std::io::Write;
use std::time::{Duration, Instant};

use cloister_client::log_view::read_log_view;
use cloister_client::remote_log::LogLocation;
use cloister_client::tokens::PurseError;
use cloister_client::{Attestation, Client, ClientError, Policy, Way};
use cloister_protocol::api::summarize::{Request, Response, Style};
use cloister_transparency::release::MAX_VALIDITY_S;
use serde_json::json;

use super::publish::TEST_WITNESSES;
use super::run::READY_TIMEOUT;
use super::{CommandError, model_or_default, platform};
use crate::attestation;
use crate::cli::{DemoArgs, Outcome};
use crate::example;
use crate::guest_build::Environment;
use crate::image_build::{self, Image, ImageInputs};
use crate::local_issuer::LocalIssuer;
use crate::local_relay::LocalRelay;
use crate::models::ModelChoice;
use crate::progress::Phase;
use crate::qemu::{Accelerator, Guest, Platform, Qemu, Times};
use crate::release::arguments::DeploymentArgs;
use crate::release::deployment::Deployment;
use crate::release::publish::{self, PublishError, Published, now_s};
use crate::workspace::Workspace;

/// How long the guest may take for the summary under emulation.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2400);
/// Enough for the example, and short enough for an emulated CPU.
const MAX_TOKENS: u32 = 120;
/// Anonymous tokens that the demonstration may have in a day.
const TOKENS_A_DAY: u32 = 10_000;

/// What the demonstration has to show.
struct Shown {
    model: String,
    platform: Platform,
    image: Image,
    times: Times,
    response: Response,
    attestation: Attestation,
    published: Published,
    /// How many tokens the issuer has issued.
    tokens_issued: usize,
    build_took: Duration,
    answer_took: Duration,
}

/// Runs the demonstration.
pub fn run(workspace: &Workspace, arguments: &DemoArgs) -> Result<Outcome, CommandError> {
    if let Some(ModelChoice::None | ModelChoice::Fixture) = arguments.model {
        return Err(CommandError::Usage(
            "the demonstration needs a real model".to_owned(),
        ));
    }
    let build_started = Instant::now();
    let platform = platform(workspace, arguments.tee)?;
    let model = model_or_default(arguments.model.as_ref(), platform.accelerator());
    introduce(&platform, &model, arguments);
    let log = DeploymentArgs::default().open(workspace)?;
    let issuer = start_issuer(workspace)?;
    let inputs = ImageInputs {
        model: &model,
        log_policy: Some(log.policy_text().map_err(PublishError::from)?),
        token_issuer: Some(issuer.named().clone()),
        serving: arguments.serving.into(),
        environment: Environment::of_this_process(),
    };
    let image = image_build::build_from(workspace, &inputs, &workspace.image())?;
    let qemu = Qemu::find_or_install()?;
    let build_took = build_started.elapsed();
    let published = publish(&log, &image)?;

    let mut options = image.guest_options(platform.clone());
    options.cpus = arguments.smp;
    let policy = policy(&platform, &image, options.cpus, &log)?;
    let phase = Phase::start(format!(
        "Boot in QEMU {} with {} MiB of RAM",
        qemu.version(),
        options.memory_mib
    ));
    let mut guest = Guest::start(&qemu, &options)?;
    guest.wait_ready(READY_TIMEOUT)?;
    phase.done("the guest checked the model and serves");

    let phase =
        Phase::start("Start a relay: the client speaks to it alone, the guest sees it alone");
    let relay = LocalRelay::start(&guest.url()).map_err(CommandError::Failed)?;
    phase.done(&relay.url());
    let way = Way {
        relay: Some(relay.url()),
        ..Way::direct(&guest.url())
    };
    let phase = Phase::start("Fetch the guest's evidence for a fresh nonce and check it");
    let client = Client::connect_by(&way, ANSWER_TIMEOUT, policy)?;
    phase.done(client.attestation().kind());
    let client = client.with_tokens(
        issuer
            .purse(1)
            .map_err(|error| ClientError::from(PurseError::from(error)))?,
    );
    if let Some(appraisal) = client.attestation().appraisal() {
        eprintln!("{appraisal}");
    }
    let request = example::request(Style::Paragraph, Some(MAX_TOKENS));
    let answer_started = Instant::now();
    let response = if arguments.stream {
        ask_streamed(&client, &request)?
    } else {
        let phase = Phase::start(
            "Ask for a summary of the example thread, with an anonymous token, sealed with HPKE",
        );
        let response = client.summarize(&request)?;
        phase.done("opened the sealed answer");
        response
    };
    let answer_took = answer_started.elapsed();
    let (times, attestation) = (guest.times(), client.attestation().as_ref().clone());
    let tokens_issued = issuer.issued();
    drop((client, relay, guest, issuer));
    eprintln!("The guest is shut down.\n");
    Ok(outcome(&Shown {
        model: model.name(),
        platform,
        image,
        times,
        response,
        attestation,
        published,
        tokens_issued,
        build_took,
        answer_took,
    }))
}

/// The issuer of anonymous tokens that the image names.
fn start_issuer(workspace: &Workspace) -> Result<LocalIssuer, CommandError> {
    let phase = Phase::start(
        "Start an issuer of anonymous tokens: it knows the client, and not what it signs",
    );
    let issuer = LocalIssuer::start(&workspace.issuer(), TOKENS_A_DAY);
    let issuer = issuer.map_err(CommandError::Failed)?;
    phase.done(&issuer.url());
    Ok(issuer)
}

/// Shows a summary while it arrives, on standard error.
fn ask_streamed(client: &Client, request: &Request) -> Result<Response, CommandError> {
    eprintln!(
        "Ask for a summary of the example thread, with an anonymous token, sealed with HPKE, in records of one size ..."
    );
    let mut stream = client.summarize_streamed(request)?;
    let mut summary = String::new();
    for piece in &mut stream {
        let piece = piece?;
        // What it cannot be shown on is no reason to stop.
        let _ = write!(std::io::stderr(), "{}", printable(&piece));
        summary += &piece;
    }
    eprintln!();
    let (usage, model) = stream.finish()?;
    Ok(Response {
        summary,
        usage,
        model,
    })
}

/// Text without characters that a terminal would obey.
fn printable(text: &str) -> String {
    let shown = |c: char| match c {
        c if c.is_control() && c != '\n' => '\u{fffd}',
        c => c,
    };
    text.chars().map(shown).collect()
}

/// What the client asks for: the measurement that was foretold, in a release that is in the log and not withdrawn there.
fn policy(
    platform: &Platform,
    image: &Image,
    cpus: u32,
    log: &Deployment,
) -> Result<Policy, CommandError> {
    let log_policy = log.client_policy().map_err(PublishError::from)?;
    let location = LogLocation::Directory(log.folders.log.clone());
    let view = read_log_view(&location, &log_policy, None, now_s())
        .map_err(|error| CommandError::Failed(error.to_string()))?;
    let policy = attestation::policy(platform, image, cpus, Some(log_policy))?;
    Ok(Policy {
        log_view: Some(view),
        ..policy
    })
}

/// Publishes the image in the demonstration's log.
fn publish(log: &Deployment, image: &Image) -> Result<Published, CommandError> {
    let phase =
        Phase::start("Publish the image in a log of this machine, seen by two TEST WITNESSES");
    let published = publish::image(log, image, MAX_VALIDITY_S)?;
    let logged = &published.logged;
    phase.done(&format!(
        "entry {} of {}, {} cosignatures",
        logged.index,
        logged.checkpoint.size,
        logged.witnesses.len()
    ));
    Ok(published)
}

fn introduce(platform: &Platform, model: &ModelChoice, arguments: &DemoArgs) {
    let accelerator = platform.accelerator();
    eprintln!(
        "Platform {} on {}.",
        platform.name(),
        accelerator.describe()
    );
    if accelerator == Accelerator::Tcg && arguments.model.is_none() {
        eprintln!(
            "Because the CPU is emulated, the model is `small`; `--model standard` writes better and is slower."
        );
    }
    eprintln!("Model: {}.\n", model.name());
}

fn outcome(shown: &Shown) -> Outcome {
    let written = shown.response.summary.trim();
    let success = !written.is_empty() && shown.tokens_issued > 0;
    let mut text = "The thread:\n".to_owned();
    for message in example::messages() {
        text += &format!("  {}: {}\n", message.from, message.text);
    }
    text += &format!(
        "\nThe summary, written by a machine ({}); it can be wrong:\n",
        shown.model
    );
    printable(written)
        .lines()
        .for_each(|line| text += &format!("  {line}\n"));
    text += &format!("\n{}", timings(shown));
    text += &match success {
        true => format!(
            "\nIt works: the firmware image booted from the reset vector without an operating system, checked the model \
             against the digest in its ROM, {}and answered one sealed request.\n\
             The request came through a relay, which knows who asks and not what, and paid with an anonymous token, which \
             its issuer has signed without seeing it; before it had one, the guest refused it.\n{}.\n{TEST_WITNESSES}\n\
             Check the image by building it again: cargo xtask audit --html audit.html\n",
            match shown.attestation.appraisal() {
                Some(_) =>
                    "proved by a signed report which image holds its keys and by a log which image that is, ",
                None => "",
            },
            shown.attestation.notice(),
        ),
        false if written.is_empty() => {
            "\nFAILED: the guest answered with an empty summary.\n".to_owned()
        }
        false => "\nFAILED: the guest answered without a token.\n".to_owned(),
    };
    Outcome {
        text,
        json: document(shown),
        success,
    }
}

fn timings(shown: &Shown) -> String {
    let usage = shown.response.usage;
    let seconds = shown.answer_took.as_secs_f64();
    let ms = |value: Option<f64>| value.map_or("?".to_owned(), |value| format!("{value:.0} ms"));
    let rom = &shown.image.facts().rom;
    format!(
        "Times, on {}:\n\
         \x20 fetch and build         {:.1} s (ROM of {} KiB)\n\
         \x20 first byte from reset   {}\n\
         \x20 kernel's first line     {}\n\
         \x20 ready, model checked    {}\n\
         \x20 the answer              {seconds:.1} s: {} tokens read, {} written, {:.2} tokens/s over all\n",
        shown.platform.accelerator().describe(),
        shown.build_took.as_secs_f64(),
        rom.bytes >> 10,
        ms(shown.times.first_byte_ms),
        ms(shown.times.kernel_ms),
        ms(shown.times.ready_ms),
        usage.prompt_tokens,
        usage.output_tokens,
        f64::from(usage.prompt_tokens + usage.output_tokens) / seconds,
    )
}

fn document(shown: &Shown) -> serde_json::Value {
    json!({
        "summary": shown.response.summary,
        "machine_made": true,
        "model": shown.model,
        "platform": shown.platform.name(),
        "accelerator": shown.platform.accelerator().option(),
        "usage": shown.response.usage,
        "times": shown.times,
        "build_s": shown.build_took.as_secs_f64(),
        "answer_s": shown.answer_took.as_secs_f64(),
        "log": {
            "origin": shown.published.logged.checkpoint.origin,
            "index": shown.published.logged.index,
            "tree_size": shown.published.logged.checkpoint.size,
            "test_witnesses": true,
        },
        "tokens": { "issuer": shown.image.facts().token_issuer, "issued": shown.tokens_issued },
        "rom_bytes": shown.image.facts().rom.bytes,
        "attestation": {
            "kind": shown.attestation.kind(),
            "attested": shown.attestation.is_attested(),
            "notice": shown.attestation.notice(),
        },
    })
}
