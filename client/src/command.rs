//! The `cloister` command: arguments, output, exit status.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::{Parser, Subcommand};
use cloister_protocol::api::summarize::{Message, Request, Style, Usage};
use indicatif::ProgressBar;
use serde_json::json;

use crate::issuer::{self, IssuerArguments, IssuerCommandError};
use crate::messages::{self, Format, MessagesError};
use crate::monitor::{self, MonitorArguments, MonitorCommandError};
use crate::policy_arguments::PolicyError;
use crate::proxy::{self, ProxyArguments, ProxyCommandError};
use crate::relay::{self, RelayArguments, RelayCommandError};
use crate::rewriting::{self, Rewrite};
use crate::server_arguments::ServerArguments;
use crate::token_arguments::TokenArgumentError;
use crate::verify::{self, Verify, VerifyError};
use crate::witness::{self, WitnessArguments, WitnessCommandError};
use crate::{Attestation, Client, ClientError};

/// Exit status: it failed, and a message said what and where.
const FAILED: u8 = 1;
/// Exit status: wrong usage, which the parser of arguments gives too.
const WRONG_USAGE: u8 = 2;
/// Exit status: the server's evidence, or the log, is not acceptable, and nothing was sent.
const REFUSED: u8 = 3;

/// Ask a Cloister server, and check what it is.
#[derive(Debug, Parser)]
#[command(
    name = "cloister",
    version,
    about,
    after_help = "Exit status: 0 done, 1 failed, 2 wrong usage, 3 refused by policy (nothing was sent)."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Ask for a summary of a chat thread, a mail or an article.
    #[command(after_help = ASK_HELP)]
    Ask(Ask),
    /// Ask for other wordings of a text: friendlier, more formal, shorter, or without mistakes.
    #[command(after_help = rewriting::HELP)]
    Rewrite(Rewrite),
    /// Appraise a server's evidence or an attestation report, check by check.
    #[command(after_help = verify::help())]
    Verify(Verify),
    /// Witness logs: cosign what only grows.
    #[command(after_help = witness::help())]
    Witness(WitnessArguments),
    /// Issue anonymous tokens to clients, for servers that ask for them.
    #[command(after_help = issuer::help())]
    Issuer(IssuerArguments),
    /// Follow a log: print what is new, raise what is unexpected.
    #[command(after_help = monitor::help())]
    Monitor(MonitorArguments),
    /// Relay encapsulated requests to a gateway that does not learn who asks (Oblivious HTTP).
    #[command(after_help = relay::help())]
    Relay(RelayArguments),
    /// Serve OpenAI's interface on this machine, for programs that know nothing of attestation.
    #[command(after_help = proxy::help())]
    Proxy(Box<ProxyArguments>),
}

const ASK_HELP: &str = "\
Messages file:
  JSON         [{\"from\": \"Ana\", \"text\": \"The launch moves to Thursday.\"}, ...]
               or an object with that list as its field \"messages\"; \"from\" may be left out.
  plain text   each paragraph is one message without a sender (blank lines separate paragraphs).
  Read as JSON if the name ends in .json or the text begins with [ or {; --format decides otherwise.

Example:
  cloister ask --server http://127.0.0.1:8080 --messages thread.json --style bullets --stream \\
    --log-policy log-policy.txt --release-key NAME+ID+KEY --log https://log.example --log-state seen

Nothing is sent before the server's evidence is accepted, and with it the proof that its image is in a log; an image that
is in none needs --without-log and --measurement. With --log the log is read too, and an image that it has withdrawn since
is refused. On platform plain there is no evidence (--insecure-no-attestation), on
the emulated SNP platform it is that of your own keys (--trust-emulated-root).
With --relay everything goes to an Oblivious HTTP relay, evidence too, so that the server does not learn who asks. What is
checked is the same: the relay cannot read, answer or change anything, but it chooses which server it passes requests to.
A server with https:// is known by the key that its evidence binds. For a relay, an issuer or a log with https:// one of the
operating system's certificate authorities has to vouch, or of your own (--ca-certificate).

A server may ask for an anonymous token with each request; it is sent sealed, and only the server sees it:
  cloister ask --server http://127.0.0.1:8080 --messages thread.json ... \\
    --tokens tokens --issuer https://issuer.example --credential ana.credential

Exit status: 0 done, 1 failed, 2 wrong usage, 3 refused by policy (nothing was sent).";

#[derive(Debug, clap::Args)]
struct Ask {
    #[command(flatten)]
    server: ServerArguments,
    /// File with the messages, - for standard input.
    #[arg(long, value_name = "FILE", default_value = "-")]
    messages: PathBuf,
    /// How the file is read.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Form of the summary.
    #[arg(long, value_name = "STYLE", default_value = "bullets", value_parser = parse_style)]
    style: Style,
    /// The most tokens of the summary; the server's limit if not given.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    max_tokens: Option<u32>,
    /// Seconds until an answer is given up. Emulated guests are slow.
    #[arg(long, value_name = "SECONDS", default_value_t = 3600, value_parser = clap::value_parser!(u64).range(1..=604_800))]
    timeout: u64,
    /// Show the summary while it is written. It arrives in pieces of one size at fixed times, so that the network learns
    /// neither its length nor when its words were written; the command ends with the last piece.
    #[arg(long, conflicts_with = "json")]
    stream: bool,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
}

fn parse_style(name: &str) -> Result<Style, String> {
    Style::from_name(name).ok_or_else(|| format!("expected one of {}", Style::NAMES.join(", ")))
}

/// Anything that ends the command before it has an answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CommandError {
    #[error(transparent)]
    Messages(#[from] MessagesError),
    #[error("{0}: there is no text to summarize")]
    Empty(PathBuf),
    #[error("there is no text to rewrite")]
    NoText,
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Policy(#[from] PolicyError),
    #[error(transparent)]
    Verify(#[from] VerifyError),
    #[error(transparent)]
    Witness(#[from] WitnessCommandError),
    #[error(transparent)]
    Monitor(#[from] MonitorCommandError),
    #[error(transparent)]
    Relay(#[from] RelayCommandError),
    #[error(transparent)]
    Proxy(#[from] ProxyCommandError),
    #[error(transparent)]
    Issuer(#[from] IssuerCommandError),
    #[error(transparent)]
    Tokens(#[from] TokenArgumentError),
    #[error("standard input or output: {0}")]
    Output(#[from] std::io::Error),
}

impl CommandError {
    fn status(&self) -> u8 {
        match self {
            Self::Client(ClientError::Refused(_)) => REFUSED,
            Self::Policy(error) if error.is_refusal() => REFUSED,
            Self::Verify(error) if error.is_refusal() => REFUSED,
            Self::Proxy(error) if error.is_refusal() => REFUSED,
            Self::Relay(error) if error.is_usage() => WRONG_USAGE,
            _ => FAILED,
        }
    }
}

/// Runs the command with this process's arguments.
pub fn main() -> ExitCode {
    let (json, outcome) = match Cli::parse().command {
        Command::Ask(arguments) => (arguments.json, ask(&arguments).map(|()| true)),
        Command::Rewrite(arguments) => (arguments.json, rewriting::run(&arguments).map(|()| true)),
        Command::Verify(arguments) => (
            arguments.json,
            verify::run(&arguments).map_err(CommandError::from),
        ),
        Command::Witness(arguments) => (
            arguments.json,
            witness::run(&arguments)
                .map(|()| true)
                .map_err(CommandError::from),
        ),
        Command::Proxy(arguments) => (
            arguments.json,
            proxy::run(&Arc::from(arguments))
                .map(|()| true)
                .map_err(CommandError::from),
        ),
        Command::Issuer(arguments) => (
            arguments.json,
            issuer::run(&arguments)
                .map(|()| true)
                .map_err(CommandError::from),
        ),
        Command::Relay(arguments) => (
            arguments.json,
            relay::run(&arguments)
                .map(|()| true)
                .map_err(CommandError::from),
        ),
        Command::Monitor(arguments) => match monitor::run(&arguments) {
            // The alarms were raised as they came.
            Ok(false) => return ExitCode::from(FAILED),
            outcome => (arguments.json, outcome.map_err(CommandError::from)),
        },
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(REFUSED),
        Err(error) => {
            eprintln!("cloister: {error}");
            if json {
                println!(
                    "{}",
                    json!({ "error": error.to_string(), "exit_status": error.status() })
                );
            }
            ExitCode::from(error.status())
        }
    }
}

fn ask(ask: &Ask) -> Result<(), CommandError> {
    let request = read_request(ask)?;
    let client = ask.server.client(Duration::from_secs(ask.timeout))?;
    let started = Instant::now();
    if ask.stream {
        let (usage, model) = show(&client, &request)?;
        print_footer(&client, usage, &model, started.elapsed())?;
        return Ok(());
    }
    let spinner = waiting_spinner();
    let response = client.summarize(&request);
    if let Some(spinner) = spinner {
        spinner.finish_and_clear();
    }
    let (response, took) = (response?, started.elapsed());
    if ask.json {
        let document = json!({
            "summary": response.summary,
            "style": ask.style.name(),
            "machine_made": true,
            "model": response.model,
            "usage": response.usage,
            "seconds": took.as_secs_f64(),
            "attestation": attestation_document(&client.attestation()),
        });
        writeln!(std::io::stdout(), "{document}")?;
        return Ok(());
    }
    let summary = safe_for_terminal(response.summary.trim());
    writeln!(std::io::stdout(), "{summary}\n")?;
    print_footer(&client, response.usage, &response.model, took)?;
    Ok(())
}

/// Shows a summary while it is written; what it took, and the model.
fn show(client: &Client, request: &Request) -> Result<(Usage, String), CommandError> {
    let mut out = std::io::stdout();
    let mut pieces = client.summarize_streamed(request)?;
    for piece in pieces.by_ref() {
        write!(out, "{}", safe_for_terminal(&piece?))?;
        out.flush()?;
    }
    writeln!(out, "\n")?;
    out.flush()?;
    Ok(pieces.finish()?)
}

fn read_request(ask: &Ask) -> Result<Request, CommandError> {
    let messages = messages::read(&ask.messages, ask.format)?;
    if messages
        .iter()
        .all(|message| message.text.trim().is_empty())
    {
        return Err(CommandError::Empty(ask.messages.clone()));
    }
    let messages = messages
        .into_iter()
        .map(|message| Message::new(message.from, message.text))
        .collect();
    Ok(Request {
        messages,
        style: ask.style,
        max_tokens: ask.max_tokens,
    })
}

pub(crate) fn waiting_spinner() -> Option<ProgressBar> {
    let spinner = std::io::stderr()
        .is_terminal()
        .then(ProgressBar::new_spinner)?;
    spinner.set_message("sealed and sent; waiting for the answer");
    spinner.enable_steady_tick(Duration::from_millis(120));
    Some(spinner)
}

/// What is known of the server, for programs.
pub(crate) fn attestation_document(attestation: &Attestation) -> serde_json::Value {
    json!({
        "kind": attestation.kind(),
        "attested": attestation.is_attested(),
        "notice": attestation.notice(),
        "appraisal": attestation.appraisal().map(verify::document),
    })
}

fn print_footer(client: &Client, usage: Usage, model: &str, took: Duration) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    let parts = if usage.parts > 1 {
        format!(" in {} parts", usage.parts)
    } else {
        String::new()
    };
    let (read, written, seconds) = (usage.prompt_tokens, usage.output_tokens, took.as_secs_f64());
    let model = safe_for_terminal(model);
    writeln!(
        out,
        "Written by a machine; it can be wrong. Model {model}, {read} tokens read{parts}, {written} written, {seconds:.1} s."
    )?;
    writeln!(out, "{}.", client.attestation().notice())
}

/// A model may write anything, terminal control sequences too: only line breaks and tabs are left of them.
pub(crate) fn safe_for_terminal(text: &str) -> String {
    let allowed = |c: char| !c.is_control() || matches!(c, '\n' | '\t');
    text.chars()
        .map(|c| if allowed(c) { c } else { '\u{fffd}' })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn wrong_values_are_explained() {
        let text = |words: &[&str]| {
            let words = [&["cloister", "ask", "--server", "http://h"], words].concat();
            Cli::try_parse_from(words)
                .map(drop)
                .unwrap_err()
                .to_string()
        };
        assert!(text(&["--style", "poem"]).contains("bullets, paragraph, headline"));
        assert!(text(&["--max-tokens", "0"]).contains("max-tokens"));
        assert!(text(&["--timeout", "0"]).contains("timeout"));
        assert!(text(&["--stream", "--json"]).contains("cannot be used with"));
        let words = [
            "cloister", "rewrite", "--server", "http://h", "--tone", "rude",
        ];
        let error = Cli::try_parse_from(words).map(drop).unwrap_err();
        assert!(error.to_string().contains("friendly, formal, shorter, fix"));
    }

    #[test]
    fn a_summary_cannot_control_the_terminal() {
        assert_eq!(
            safe_for_terminal(" a\u{1b}[2J\nb\tc\u{7} "),
            " a\u{fffd}[2J\nb\tc\u{fffd} "
        );
    }

    #[test]
    fn the_statuses_of_errors() {
        let refused = CommandError::Client(ClientError::Refused(crate::Refusal::Unattested));
        assert_eq!(refused.status(), REFUSED);
        assert_eq!(CommandError::Empty("-".into()).status(), FAILED);
    }
}
