//! `cloister rewrite`: other wordings of a text.

use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

use cloister_protocol::api::rewrite::{MAX_COUNT, Request, Response, Tone};
use serde_json::json;
use zeroize::Zeroizing;

use crate::Client;
use crate::command::{CommandError, attestation_document, safe_for_terminal, waiting_spinner};
use crate::server_arguments::ServerArguments;

/// More than a server takes; it is not read further.
const MAX_TEXT_BYTES: u64 = 1 << 20;

/// What stands below the arguments.
pub(crate) const HELP: &str = "\
Example:
  cloister rewrite --server http://127.0.0.1:8080 --tone friendly \"send me the file asap\" \\
    --log-policy log-policy.txt --release-key NAME+ID+KEY --log https://log.example --log-state seen

Nothing is sent before the server's evidence is accepted, and a server may ask for an anonymous token; see cloister ask
--help.

Exit status: 0 done, 1 failed, 2 wrong usage, 3 refused by policy (nothing was sent).";

/// Arguments of `rewrite`.
#[derive(Debug, clap::Args)]
pub(crate) struct Rewrite {
    #[command(flatten)]
    server: ServerArguments,
    /// What becomes of the text: friendly, formal, shorter or fix (mistakes only).
    #[arg(long, value_name = "TONE", default_value = "friendly", value_parser = parse_tone)]
    tone: Tone,
    /// How many suggestions at most.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_COUNT)))]
    count: u32,
    /// The text, - for standard input. Other programs on this machine can see what stands on a command line.
    #[arg(value_name = "TEXT", default_value = "-")]
    text: String,
    /// Seconds until an answer is given up. Emulated guests are slow.
    #[arg(long, value_name = "SECONDS", default_value_t = 3600, value_parser = clap::value_parser!(u64).range(1..=604_800))]
    timeout: u64,
    /// Print one JSON document.
    #[arg(long)]
    pub(crate) json: bool,
}

fn parse_tone(name: &str) -> Result<Tone, String> {
    Tone::from_name(name).ok_or_else(|| format!("expected one of {}", Tone::NAMES.join(", ")))
}

/// Asks, and prints the suggestions.
pub(crate) fn run(arguments: &Rewrite) -> Result<(), CommandError> {
    let request = Request {
        text: read_text(&arguments.text)?,
        tone: arguments.tone,
        count: arguments.count,
    };
    if request.text.trim().is_empty() {
        return Err(CommandError::NoText);
    }
    let timeout = Duration::from_secs(arguments.timeout);
    let client = arguments.server.client(timeout)?;
    let started = Instant::now();
    let spinner = waiting_spinner();
    let response = client.rewrite(&request);
    if let Some(spinner) = spinner {
        spinner.finish_and_clear();
    }
    print(arguments, &client, &response?, started.elapsed())?;
    Ok(())
}

fn read_text(argument: &str) -> io::Result<String> {
    if argument != "-" {
        return Ok(argument.to_owned());
    }
    let mut bytes = Zeroizing::new(Vec::new());
    io::stdin()
        .lock()
        .take(MAX_TEXT_BYTES)
        .read_to_end(&mut bytes)?;
    let text = std::str::from_utf8(&bytes)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    Ok(text.to_owned())
}

fn print(
    arguments: &Rewrite,
    client: &Client,
    response: &Response,
    took: Duration,
) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let attestation = client.attestation();
    if arguments.json {
        let document = json!({
            "suggestions": response.suggestions,
            "tone": arguments.tone.name(),
            "machine_made": true,
            "model": response.model,
            "usage": response.usage,
            "seconds": took.as_secs_f64(),
            "attestation": attestation_document(&attestation),
        });
        return writeln!(out, "{document}");
    }
    for suggestion in &response.suggestions {
        writeln!(out, "{}\n", safe_for_terminal(suggestion.trim()))?;
    }
    writeln!(
        out,
        "Written by a machine; it can be wrong. Model {}, {} tokens read, {} written, {:.1} s.",
        safe_for_terminal(&response.model),
        response.usage.prompt_tokens,
        response.usage.output_tokens,
        took.as_secs_f64()
    )?;
    writeln!(out, "{}.", attestation.notice())
}
