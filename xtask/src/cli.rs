//! Arguments, and what becomes of a command's outcome: result on standard output, exit status.

use std::fmt;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use cloister_boot::manifest::{EPOCH_S, Serving};
use cloister_emulator::qemu::MAX_CPUS;
use cloister_measure::{CpuModel, GuestFeatures, VmmKind};
use serde_json::{Value, json};

use crate::commands::{self, CommandError};
use crate::engine_bench::{
    self,
    worker::{self, WorkerArgs},
};
use crate::models::{self, ModelChoice};
use crate::release::arguments::{AuditArgs, LogArgs, PublishArgs};
use crate::workspace::Workspace;

/// Build, boot, test and measure Cloister.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version, about, after_help = MAIN_HELP)]
struct Cli {
    /// Print one JSON document on standard output; everything else goes to standard error.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

const MAIN_HELP: &str = "\
Example:
  cargo xtask demo

Exit status: 0 done, 1 failed (a message says what, where, what to do), 2 wrong usage, 3 refused by policy.";

const AUDIT_HELP: &str = "\
Prints one line for each check: PASS, FAIL or NOT CHECKED, what, why. docs/auditing.md shows the same by hand.

Example:
  cargo xtask audit --log http://log.example.org/cloister --log-policy log-policy.txt --release-key VKEY --html audit.html

Exit status: 0 passed, 1 failed, 2 wrong usage.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Fetch a model, build the image, boot it, check its evidence, ask it for a summary with an anonymous token through a
    /// relay, print the answer.
    #[command(after_help = "Example:\n  cargo xtask demo --model small")]
    Demo(DemoArgs),
    /// Run everything that continuous integration runs.
    #[command(after_help = "Example:\n  cargo xtask test --quick")]
    Test(TestArgs),
    /// Build the image: ROM, model pack and image.json.
    #[command(
        after_help = "Example:\n  cargo xtask image --model small --out target/cloister/image"
    )]
    Image(ImageArgs),
    /// Build the committed code twice, in different places and environments, and compare the images.
    #[command(after_help = "Example:\n  cargo xtask reproduce --model fixture")]
    Reproduce(ReproduceArgs),
    /// Compute what a launch of the image will be measured as; the last line is the digest.
    #[command(after_help = "Example:\n  cargo xtask measure --vcpus 2 --cpu EPYC-Genoa")]
    Measure(MeasureArgs),
    /// Boot an image in QEMU and serve until Ctrl-C.
    #[command(after_help = "Example:\n  cargo xtask run --port 8080")]
    Run(RunArgs),
    /// Count what the guest consists of, against the budget in tcb-budget.json.
    #[command(after_help = "Example:\n  cargo xtask tcb --json")]
    Tcb(TcbArgs),
    /// Measure speed.
    #[command(
        after_help = "Example:\n  cargo xtask bench engine --peer llama.cpp --model all --threads 1,2"
    )]
    Bench(BenchArgs),
    /// One engine of `bench engine`, as a process of its own.
    #[command(
        name = engine_bench::WORKER_COMMAND,
        hide = true,
        after_help = "Example:\n  cargo xtask bench-engine-worker bandwidth --threads 2"
    )]
    BenchEngineWorker(WorkerArgs),
    /// Publish the image in a transparency log: sign what it is, append it, have it witnessed, write the proof.
    #[command(after_help = "Example:\n  cargo xtask publish --days 30")]
    Publish(PublishArgs),
    /// Make, list and watch a transparency log, and withdraw from it.
    #[command(after_help = "Example:\n  cargo xtask log list")]
    Log(LogArgs),
    /// Build a release again and check everything that its log says of it.
    #[command(after_help = AUDIT_HELP)]
    Audit(AuditArgs),
    /// Fuzz one target, or each for a while.
    #[command(after_help = "Example:\n  cargo xtask fuzz ohttp_request --seconds 60")]
    Fuzz(FuzzArgs),
}

/// The kind of machine that a guest runs on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Tee {
    /// An ordinary virtual machine: no memory encryption, no attestation.
    #[default]
    Plain,
    /// SEV-SNP on a platform in software: attested by keys of your own, which proves nothing about a machine.
    SnpEmulated,
    /// SEV-SNP on hardware, for `run` alone. Not yet tried on any.
    Snp,
}

/// How an image serves its port. It is in the ROM, and so in the measurement.
#[derive(Clone, Copy, Debug, Args)]
#[command(next_help_heading = "How the port is served")]
pub struct ServingArgs {
    /// TLS 1.3 on the port, with a key that the evidence binds. Without it, plain HTTP: what is secret is sealed either
    /// way, and relays and monitoring need no certificate that no authority has signed.
    #[arg(long)]
    pub tls: bool,
    /// Length of a key epoch.
    #[arg(long, value_name = "SECONDS", default_value_t = Serving::default().epoch_s, value_parser = epoch_s)]
    pub epoch_s: u32,
}

impl From<ServingArgs> for Serving {
    fn from(arguments: ServingArgs) -> Self {
        let ServingArgs { tls, epoch_s } = arguments;
        Self { tls, epoch_s }
    }
}

fn epoch_s(text: &str) -> Result<u32, String> {
    let seconds = text.parse().map_err(|error| format!("{error}"))?;
    match EPOCH_S.contains(&seconds) {
        true => Ok(seconds),
        false => Err(format!("not within {EPOCH_S:?} seconds")),
    }
}

/// Arguments of `demo`.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Kind of machine.
    #[arg(long, value_enum, default_value_t = Tee::SnpEmulated)]
    pub tee: Tee,
    /// small, standard, tiny or the path of a .gguf file. Default: standard on hardware KVM, small elsewhere.
    #[arg(long, value_name = "MODEL")]
    pub model: Option<ModelChoice>,
    /// The guest's virtual CPUs. Default: the host's, at most 2.
    #[arg(long, value_name = "N", default_value_t = default_cpus(), value_parser = clap::value_parser!(u32).range(1..=64))]
    pub smp: u32,
    /// Show the summary while it is written.
    #[arg(long)]
    pub stream: bool,
    /// How the port is served.
    #[command(flatten)]
    pub serving: ServingArgs,
}

/// As many as the host has, and not more than the emulated SNP platform can be given.
fn default_cpus() -> u32 {
    let host = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    u32::try_from(host).unwrap_or(MAX_CPUS).min(MAX_CPUS)
}

/// Arguments of `test`.
#[derive(Debug, Args)]
pub struct TestArgs {
    /// Only what needs neither a guest nor the network: formatting, lints, unit tests, documentation.
    #[arg(long)]
    pub quick: bool,
}

/// Arguments of `image`.
#[derive(Debug, Args)]
pub struct ImageArgs {
    /// small, standard, tiny, fixture, none or the path of a .gguf file. Default: standard on hardware KVM, small
    /// elsewhere.
    #[arg(long, value_name = "MODEL")]
    pub model: Option<ModelChoice>,
    /// Folder for the result. Default: target/cloister/image.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Under which logs and witnesses the image is to be published (tlog-policy, at most 16 KiB): goes into the ROM.
    #[arg(long, value_name = "FILE")]
    pub log_policy: Option<PathBuf>,
    /// Whose anonymous tokens clients must have: the file FILE.issuer.json of cloister issuer. Goes into the ROM.
    #[arg(long, value_name = "FILE")]
    pub token_issuer: Option<PathBuf>,
    /// How the port is served.
    #[command(flatten)]
    pub serving: ServingArgs,
}

/// Arguments of `reproduce`.
#[derive(Debug, Args)]
pub struct ReproduceArgs {
    /// small, standard, tiny, fixture, none or the path of a .gguf file.
    #[arg(long, value_name = "MODEL", default_value = "none")]
    pub model: ModelChoice,
    /// Keep both images and what they were built in.
    #[arg(long)]
    pub keep: bool,
}

/// The kind of confidential machine whose launch is measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum MeasuredTee {
    /// SEV-SNP: the launch digest.
    #[default]
    Snp,
    /// TDX: MRTD.
    Tdx,
}

impl MeasuredTee {
    /// As on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Snp => "snp",
            Self::Tdx => "tdx",
        }
    }
}

/// Arguments of `measure`.
#[derive(Debug, Args)]
pub struct MeasureArgs {
    /// Folder of an image, a ROM or an IGVM file. Default: target/cloister/image.
    #[arg(long, value_name = "DIR|ROM")]
    pub image: Option<PathBuf>,
    /// Virtual CPUs.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub vcpus: u32,
    /// CPU model as QEMU names it (EPYC-Milan, EPYC-Genoa, EPYC-Turin, ...), or a signature (0xa00f11).
    #[arg(long, value_name = "MODEL", default_value = "EPYC-Milan")]
    pub cpu: CpuModel,
    /// Kind of machine.
    #[arg(long, value_enum, default_value_t)]
    pub tee: MeasuredTee,
    /// The launcher: qemu, ec2 or gce.
    #[arg(long, value_name = "VMM", default_value = "qemu")]
    pub vmm: VmmKind,
    /// SEV_FEATURES of the virtual CPUs, a number.
    #[arg(long, value_name = "HEX", default_value = "0x1", value_parser = parse_features)]
    pub features: GuestFeatures,
    /// Print every measured page: address, type, digest of its contents, digest so far, source.
    #[arg(long)]
    pub trace: bool,
    /// Compare with the digest in a report, a quote or a text file, and say what would explain a difference.
    #[arg(long, value_name = "REPORT")]
    pub diff: Option<PathBuf>,
}

fn parse_features(text: &str) -> Result<GuestFeatures, String> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    u64::from_str_radix(digits, 16)
        .map(GuestFeatures)
        .map_err(|error| format!("not a hexadecimal number: {error}"))
}

/// Arguments of `run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Kind of machine.
    #[arg(long, value_enum, default_value_t)]
    pub tee: Tee,
    /// Folder of the image. Default: target/cloister/image, built if it is not there.
    #[arg(long, value_name = "DIR")]
    pub image: Option<PathBuf>,
    /// Port on 127.0.0.1.
    #[arg(long, value_name = "PORT", default_value_t = 8080, value_parser = clap::value_parser!(u16).range(1..))]
    pub port: u16,
    /// Virtual CPUs. Default: the host's, at most 2.
    #[arg(long, value_name = "N", default_value_t = default_cpus(), value_parser = clap::value_parser!(u32).range(1..=64))]
    pub smp: u32,
    /// RAM in MiB. Default: what the image needs.
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(16..=1_048_576))]
    pub memory: Option<u64>,
    /// What is for `--tee snp` alone.
    #[command(flatten)]
    pub snp: SnpArgs,
}

/// Arguments of `run --tee snp`. See docs/launch.md.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
#[command(next_help_heading = "With --tee snp")]
pub struct SnpArgs {
    /// CPU model: EPYC-Milan, EPYC-Genoa or EPYC-Turin. Default: that of this machine.
    #[arg(long, value_name = "MODEL")]
    pub cpu: Option<CpuModel>,
    /// Certificates of the chip's key for clients: PEM or DER, at most 64 KiB.
    #[arg(long, value_name = "FILE")]
    pub certs: Option<PathBuf>,
    /// The guest's policy. Default: 0x30000; 0x20000 forbids SMT.
    #[arg(long, value_name = "HEX", value_parser = parse_policy)]
    pub policy: Option<u64>,
    /// 32 bytes that reports repeat, in base64.
    #[arg(long, value_name = "BASE64", value_parser = base64_of::<32>)]
    pub host_data: Option<String>,
    /// ID block: 96 bytes in base64.
    #[arg(long, value_name = "BASE64", requires = "id_auth", value_parser = base64_of::<96>)]
    pub id_block: Option<String>,
    /// ID auth: 4096 bytes in base64.
    #[arg(long, value_name = "BASE64", requires = "id_block", value_parser = base64_of::<4096>)]
    pub id_auth: Option<String>,
    /// Print QEMU's command line and do no more.
    #[arg(long)]
    pub print: bool,
}

/// Bit 17 of a policy is always one; bit 19 allows debugging, and then every client refuses.
fn parse_policy(text: &str) -> Result<u64, String> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    let policy = u64::from_str_radix(digits, 16).map_err(|error| error.to_string())?;
    match (policy >> 17 & 1, policy >> 19 & 1) {
        (0, _) => Err("bit 17 must be set, as in 0x30000".to_owned()),
        (_, 1) => Err("bit 19 allows debugging, with which every client refuses".to_owned()),
        _ => Ok(policy),
    }
}

/// Base64, padded, of this number of bytes. It goes into an option of QEMU, where a comma would begin another.
fn base64_of<const BYTES: usize>(text: &str) -> Result<String, String> {
    let padding = (3 - BYTES % 3) % 3;
    let digits = text.len().saturating_sub(padding);
    let (digits, end) = text.as_bytes().split_at(digits);
    let digit = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    let right = text.len() == BYTES.div_ceil(3) * 4
        && digits.iter().all(digit)
        && end.iter().all(|byte| *byte == b'=');
    match right {
        true => Ok(text.to_owned()),
        false => Err(format!("expected base64 of {BYTES} bytes")),
    }
}

/// Arguments of `tcb`.
#[derive(Debug, Args)]
pub struct TcbArgs {
    /// Write a budget that allows what is there now.
    #[arg(long)]
    pub write_budget: bool,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BenchSubject {
    /// The engine as a host process: tokens per second.
    Engine,
    /// The check of a model pack as a host process: GB/s with one thread and with `--threads`, beside reading it.
    Pack,
    /// From QEMU's start to the first serial byte, to the kernel, to "ready", without and with a model.
    Boot,
    /// A summary by the guest: tokens per second.
    Guest,
    /// What the protocol costs for each request, as a host process: microseconds, beside other programs.
    Protocol,
    /// Many requests to a guest with the generated model `fixture`: none lost, none answered twice, memory flat, times.
    Service,
}

/// Another program to compare with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Peer {
    /// llama.cpp, built from the sources in the package llama-cpp-python.
    #[value(name = "llama.cpp")]
    LlamaCpp,
    /// candle.
    Candle,
}

/// One model, or all named ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BenchModels {
    /// `tiny`, `small` and `standard`.
    All,
    /// This one.
    One(ModelChoice),
}

impl std::str::FromStr for BenchModels {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "all" => Ok(Self::All),
            _ => text
                .parse()
                .map(Self::One)
                .map_err(|error| format!("{error}, or all")),
        }
    }
}

/// Arguments of `bench`.
#[derive(Debug, Args)]
pub struct BenchArgs {
    /// What is measured.
    #[arg(value_enum)]
    pub subject: BenchSubject,
    /// Kind of machine (boot, guest and service only).
    #[arg(long, value_enum, default_value_t)]
    pub tee: Tee,
    /// Compare with another program, in the same run on the same file; may be repeated (engine only).
    #[arg(long, value_enum)]
    pub peer: Vec<Peer>,
    /// small, standard, tiny, the path of a .gguf file, or all; may be repeated (engine only).
    #[arg(long, value_name = "MODEL", default_value = "tiny")]
    pub model: Vec<BenchModels>,
    /// Runs; the median counts.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub runs: u32,
    /// Threads of the engine, also several numbers with commas between; or virtual CPUs of the guest.
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "1", value_parser = clap::value_parser!(u32).range(1..=16))]
    pub threads: Vec<u32>,
    /// Requests in all (service only).
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub requests: u32,
    /// Clients that ask at the same time (service only).
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub connections: u32,
    /// Of so many requests one is for a summary, the others list the models (service only).
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub summary_every: u32,
    /// Ask through a relay on this machine (service only).
    #[arg(long)]
    pub relay: bool,
    /// Demand an anonymous token for each summary, of an issuer on this machine (service only).
    #[arg(long)]
    pub tokens: bool,
    /// How the port is served (service only).
    #[command(flatten)]
    pub serving: ServingArgs,
}

impl BenchArgs {
    /// The models, in the order of the arguments.
    pub fn models(&self) -> Vec<ModelChoice> {
        let named = [&models::TINY, &models::SMALL, &models::STANDARD];
        let models = self.model.iter().flat_map(|model| match model {
            BenchModels::All => named.map(ModelChoice::Named).to_vec(),
            BenchModels::One(model) => vec![model.clone()],
        });
        models.collect()
    }
}

/// Arguments of `fuzz`.
#[derive(Debug, Args)]
pub struct FuzzArgs {
    /// The target; all of them, one after the other, if not given.
    pub target: Option<String>,
    /// How long each target runs.
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub seconds: u64,
}

/// What a command hands back when it is done.
#[derive(Debug)]
pub struct Outcome {
    /// For people, on standard output.
    pub text: String,
    /// For programs, on standard output with `--json`.
    pub json: Value,
    /// False when the command did its work and the result is bad.
    pub success: bool,
}

/// Runs the command with this process's arguments.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Command::BenchEngineWorker(arguments) = &cli.command {
        return worker::main(arguments);
    }
    let outcome = Workspace::find()
        .map_err(CommandError::from)
        .and_then(|workspace| run(&workspace, &cli));
    match outcome {
        Ok(outcome) => {
            match cli.json {
                true => print_line(&outcome.json),
                false => print_line(&outcome.text.trim_end()),
            }
            ExitCode::from(u8::from(!outcome.success))
        }
        Err(error) => {
            eprintln!("error: {error}");
            if cli.json {
                print_line(&json!({ "error": error.to_string(), "exit_status": error.status() }));
            }
            ExitCode::from(error.status())
        }
    }
}

/// Prints the result. A reader that has had enough (`| head`) is no error.
fn print_line(line: &dyn fmt::Display) {
    let _ = writeln!(io::stdout(), "{line}");
}

fn run(workspace: &Workspace, cli: &Cli) -> Result<Outcome, CommandError> {
    match &cli.command {
        Command::Demo(arguments) => commands::demo::run(workspace, arguments),
        Command::Test(arguments) => commands::test::run(workspace, arguments),
        Command::Image(arguments) => commands::image::run(workspace, arguments),
        Command::Reproduce(arguments) => commands::reproduce::run(workspace, arguments),
        Command::Measure(arguments) => commands::measure::run(workspace, arguments),
        Command::Run(arguments) => commands::run::run(workspace, arguments, cli.json),
        Command::Tcb(arguments) => commands::tcb::run(workspace, arguments),
        Command::Bench(arguments) => commands::bench::run(workspace, arguments),
        Command::Publish(arguments) => commands::publish::run(workspace, arguments),
        Command::Log(arguments) => commands::log::run(workspace, &arguments.command, cli.json),
        Command::Audit(arguments) => commands::audit::run(workspace, arguments),
        Command::Fuzz(arguments) => commands::fuzz::run(workspace, arguments),
        Command::BenchEngineWorker(_) => unreachable!("`main` has served it"),
    }
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
    fn the_bench_takes_lists() {
        let words = "xtask bench engine --peer llama.cpp --peer candle --model all --model a.gguf --threads 1,2";
        let cli = Cli::try_parse_from(words.split(' ')).expect("well formed");
        let Command::Bench(arguments) = cli.command else {
            panic!("another command");
        };
        assert_eq!(arguments.peer, [Peer::LlamaCpp, Peer::Candle]);
        assert_eq!(arguments.threads, [1, 2]);
        let names: Vec<String> = arguments.models().iter().map(ModelChoice::name).collect();
        assert_eq!(names, ["tiny", "small", "standard", "a.gguf"]);
        assert!(Cli::try_parse_from("xtask bench engine --threads 1,99".split(' ')).is_err());
    }

    #[test]
    fn workers_are_not_in_the_help() {
        let help = Cli::command().render_long_help().to_string();
        assert!(
            help.contains("bench") && !help.contains(engine_bench::WORKER_COMMAND),
            "{help}"
        );
    }

    #[test]
    fn every_command_has_an_example() {
        for command in Cli::command().get_subcommands() {
            let help = command
                .get_after_help()
                .map(ToString::to_string)
                .unwrap_or_default();
            assert!(
                help.contains("Example:\n  cargo xtask"),
                "{}",
                command.get_name()
            );
        }
    }
}
