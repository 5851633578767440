//! `cloister witness`.

use std::fs;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use cloister_transparency::command_signer::CommandSigner;
use cloister_transparency::key_file::{self, KeyFileError};
use cloister_transparency::policy::PolicyError;
use cloister_transparency::witness::{DirectoryStore, StoreError, Witness, WitnessError};
use cloister_transparency::{KeyType, Policy, Signer, VerifierKey};
use serde_json::json;

use super::serve::{Exchange, serve};
use crate::keys::{self, KeyArgumentError};
use crate::serving::{ListenError, Listener, Stop, listen};
use crate::tls_arguments::{TlsArgumentError, TlsArguments};

/// What `cloister witness --help` ends with.
pub(crate) fn help() -> &'static str {
    "\
A witness cosigns what a log signs, if it follows from the last checkpoint that the witness cosigned of that log. It says
nothing about the entries.

Example, a key that is made at the first start included:
  cloister witness --listen 127.0.0.1:7000 --key witness.key --generate --name witness.example \\
    --state witness-state --log 'log.example/releases+1a2b3c4d+AbCd...'

Its verifier key is in witness.key.vkey, for the policies of others. GET /SHA-256-OF-THE-ORIGIN/checkpoint shows what was
cosigned last. With --key-command the private key is elsewhere: the command reads a file of bytes from its standard input
and writes an Ed25519 signature, 64 bytes or base 64 of them, to its standard output, as does
  openssl pkeyutl -sign -rawin -inkey KEY -in /dev/stdin

Exit status: 0 stopped by SIGTERM or ctrl-c, 1 failed, 2 wrong usage."
}

#[derive(Debug, clap::Args)]
pub(crate) struct WitnessArguments {
    /// Address to listen at, HOST:PORT; port 0 for any that is free.
    #[arg(long, value_name = "ADDR")]
    listen: SocketAddr,
    #[command(flatten)]
    tls: TlsArguments,
    /// The witness's private key, PKCS #8 in PEM, with FILE.vkey beside it.
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Signs instead of the private key's file, of which only FILE.vkey is needed then.
    #[arg(long, value_name = "COMMAND", conflicts_with_all = ["generate", "passphrase_file"])]
    key_command: Option<String>,
    /// File whose first line is the key's passphrase.
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
    /// Make the key if there is none.
    #[arg(long, requires = "name")]
    generate: bool,
    /// Name of the key that is made.
    #[arg(long, value_name = "NAME", requires = "generate")]
    name: Option<String>,
    /// Folder that remembers what was cosigned. A witness that forgets it is none.
    #[arg(long, value_name = "DIR")]
    state: PathBuf,
    /// Verifier key of a log to witness: NAME+ID+KEY, or a file whose name ends in .vkey.
    #[arg(long, value_name = "VKEY", value_parser = keys::parse, required_unless_present = "policy")]
    log: Vec<VerifierKey>,
    /// Witness the logs of this policy (C2SP tlog-policy).
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Print one JSON document about itself before it begins.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Why there is no witness.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WitnessCommandError {
    #[error(transparent)]
    Key(#[from] KeyFileError),
    #[error(transparent)]
    Argument(#[from] KeyArgumentError),
    #[error("{path}: {error}")]
    Policy { path: PathBuf, error: PolicyError },
    #[error("{path}: {error}")]
    State { path: PathBuf, error: StoreError },
    #[error("{path}: {error}")]
    Kind { path: PathBuf, error: WitnessError },
    #[error("no log to witness: the policy names none")]
    NoLogs,
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error(transparent)]
    Tls(#[from] TlsArgumentError),
    #[error("cannot serve: {0}")]
    Serve(io::Error),
}

/// Serves until it is stopped.
pub(crate) fn run(arguments: &WitnessArguments) -> Result<(), WitnessCommandError> {
    let logs = logs(arguments)?;
    let signer = signer(arguments)?;
    let verifier = signer.verifier().clone();
    let store = DirectoryStore::open(&arguments.state);
    let store = store.map_err(|error| WitnessCommandError::State {
        path: arguments.state.clone(),
        error,
    })?;
    let witness = Witness::new(signer, logs.clone(), store);
    let witness = witness.map_err(|error| WitnessCommandError::Kind {
        path: arguments.key.clone(),
        error,
    })?;
    let identity = arguments.tls.identity("witness", false)?;
    let (listener, address) = listen(arguments.listen)?;
    let stop = Stop::new();
    stop.at_signals().map_err(WitnessCommandError::Serve)?;
    announce(arguments, address, &verifier, &logs).map_err(WitnessCommandError::Serve)?;
    // Nobody may be reading; that is no reason to stop.
    let report = |exchange: &Exchange| {
        let _ = writeln!(io::stderr(), "cloister witness: {exchange}");
    };
    let listener = Listener::new(listener, identity);
    serve(listener, witness, &stop, report).map_err(WitnessCommandError::Serve)?;
    eprintln!("cloister witness: stopped");
    Ok(())
}

fn announce(
    arguments: &WitnessArguments,
    address: SocketAddr,
    verifier: &VerifierKey,
    logs: &[VerifierKey],
) -> io::Result<()> {
    let url = format!("{}://{address}", arguments.tls.scheme());
    eprintln!("cloister witness: {url} cosigns as {verifier}");
    for log in logs {
        eprintln!("cloister witness: witnesses {log}");
    }
    if !arguments.json {
        return Ok(());
    }
    let logs: Vec<String> = logs.iter().map(ToString::to_string).collect();
    let document = json!({ "url": url, "verifier_key": verifier.to_string(), "logs": logs });
    let mut out = io::stdout().lock();
    writeln!(out, "{document}")?;
    out.flush()
}

fn signer(arguments: &WitnessArguments) -> Result<Box<dyn Signer>, WitnessCommandError> {
    let path = &arguments.key;
    if let Some(command) = &arguments.key_command {
        let verifier = key_file::load_verifier(path)?;
        return Ok(Box::new(CommandSigner::new(verifier, command)));
    }
    let passphrase = keys::read_passphrase(arguments.passphrase_file.as_deref())?;
    let passphrase = passphrase.as_ref().map(|text| text.as_str());
    if let Some(name) = arguments.name.as_ref().filter(|_| !exists(path)) {
        let verifier = key_file::generate(path, name, KeyType::CosignatureV1, passphrase)?;
        eprintln!(
            "cloister witness: made the key {}: {verifier}",
            path.display()
        );
    }
    Ok(Box::new(key_file::load(path, passphrase)?))
}

/// Also where it cannot be seen: then nothing is to be made.
fn exists(path: &Path) -> bool {
    fs::symlink_metadata(path)
        .map_or_else(|error| error.kind() != io::ErrorKind::NotFound, |_| true)
}

fn logs(arguments: &WitnessArguments) -> Result<Vec<VerifierKey>, WitnessCommandError> {
    let mut logs = arguments.log.clone();
    if let Some(path) = &arguments.policy {
        let bytes = keys::read(path)?;
        let policy = Policy::parse(&bytes);
        let policy = policy.map_err(|error| WitnessCommandError::Policy {
            path: path.clone(),
            error,
        })?;
        logs.extend(policy.logs().iter().map(|log| log.key.clone()));
    }
    if logs.is_empty() {
        return Err(WitnessCommandError::NoLogs);
    }
    Ok(logs)
}
