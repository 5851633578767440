//! `cloister issuer`.

use std::fs;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use cloister_tokens::issuer::IssuerKey;
use cloister_transparency::key_file::KeyFileError;
use serde_json::json;

use super::clients::{Clients, ClientsError, new_credential};
use super::key::{description_path, generate_key, load_key};
use super::serve::{Issuer, Outcome, REQUEST_PATH, serve};
use crate::clock::now_s;
use crate::keys::{self, KeyArgumentError};
use crate::serving::{ListenError, Listener, Stop, listen};
use crate::tls_arguments::{TlsArgumentError, TlsArguments};

/// What `cloister issuer --help` ends with.
pub(crate) fn help() -> &'static str {
    "\
The issuer of a deployment's anonymous tokens (Privacy Pass, RFC 9578, token type 2). It decides who may use the service,
and how often; the service takes a token from each request, and neither can tell whose it was.

Example, a client and a key that is made at the first start included:
  cloister issuer --clients clients --add-client ana --quota 200 --credential ana.credential
  cloister issuer --listen 0.0.0.0:443 --tls-certificate fullchain.pem --tls-key privkey.pem --clients clients \\
    --key issuer.key --generate --name issuer.example --origin cloister.example
  cargo xtask image --token-issuer issuer.key.issuer.json

What it knows of a client: its credential's name, when it asks and how many tokens it gets, and the address that the
request comes from, which it does not keep. It prints a line for each request, and keeps the counts of the day in
CLIENTS.today. What it signs it cannot recognize later. Credentials come over plain HTTP unless --tls-certificate and
--tls-key are given: without them, put TLS or a tunnel in front of it wherever others can listen.

With several --key, of which the first is preferred, images with an earlier key are served until they are gone.

Exit status: 0 stopped by SIGTERM or ctrl-c, 1 failed, 2 wrong usage."
}

#[derive(Debug, clap::Args)]
pub(crate) struct IssuerArguments {
    /// Address to listen at, HOST:PORT; port 0 for any that is free.
    #[arg(long, value_name = "ADDR", required_unless_present = "add_client")]
    listen: Option<SocketAddr>,
    #[command(flatten)]
    tls: TlsArguments,
    /// The issuer's private key, PKCS #8 in PEM, mode 0600.
    #[arg(long, value_name = "FILE", required_unless_present = "add_client")]
    key: Vec<PathBuf>,
    /// File whose first line is the keys' passphrase.
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
    /// Make the first key if there is none, with FILE.issuer.json, which images are built with.
    #[arg(long, requires = "name", requires = "key")]
    generate: bool,
    /// The issuer's name in challenges, for the key that is made.
    #[arg(long, value_name = "NAME", requires = "generate")]
    name: Option<String>,
    /// What its tokens are for, for the key that is made: names separated by commas, or nothing.
    #[arg(long, value_name = "NAMES", requires = "generate", default_value = "")]
    origin: String,
    /// File of the clients: lines of NAME, SHA-256 of the credential, tokens a day.
    #[arg(long, value_name = "FILE")]
    clients: PathBuf,
    /// Add a client to that file, write its credential, and end.
    #[arg(long, value_name = "NAME", requires = "quota", requires = "credential", conflicts_with_all = ["listen", "key"])]
    add_client: Option<String>,
    /// Tokens a day of the client that is added.
    #[arg(long, value_name = "N", requires = "add_client")]
    quota: Option<u32>,
    /// File to write the credential of the client that is added to.
    #[arg(long, value_name = "FILE", requires = "add_client")]
    credential: Option<PathBuf>,
    /// Print one JSON document about itself before it begins.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Why there is no issuer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IssuerCommandError {
    #[error(transparent)]
    Key(#[from] KeyFileError),
    #[error(transparent)]
    Argument(#[from] KeyArgumentError),
    #[error(transparent)]
    Clients(#[from] ClientsError),
    #[error(
        "two keys have ids that end in the same byte, so that requests cannot tell them apart; make another key"
    )]
    SameId,
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error(transparent)]
    Tls(#[from] TlsArgumentError),
    #[error("cannot serve: {0}")]
    Serve(io::Error),
}

/// Adds a client, or serves until it is stopped.
pub(crate) fn run(arguments: &IssuerArguments) -> Result<(), IssuerCommandError> {
    if let (Some(name), Some(quota), Some(credential)) = (
        &arguments.add_client,
        arguments.quota,
        &arguments.credential,
    ) {
        new_credential(&arguments.clients, name, quota, credential)?;
        let credential = credential.display();
        eprintln!(
            "cloister issuer: {name} may have {quota} tokens a day with the credential in {credential}"
        );
        if arguments.json {
            println!(
                "{}",
                json!({ "client": name, "quota": quota, "credential": credential.to_string() })
            );
        }
        return Ok(());
    }
    let keys = open_keys(arguments)?;
    let clients = Clients::open(&arguments.clients, now_s())?;
    let identity = arguments.tls.identity("issuer", false)?;
    // clap demands it.
    let address = arguments
        .listen
        .unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 0)));
    let (listener, address) = listen(address)?;
    let stop = Stop::new();
    stop.at_signals().map_err(IssuerCommandError::Serve)?;
    announce(arguments, address, &keys, clients.count()).map_err(IssuerCommandError::Serve)?;
    // Nobody may be reading; that is no reason to stop.
    let report = |outcome: &Outcome| {
        let _ = writeln!(io::stderr(), "cloister issuer: {outcome}");
    };
    let issuer = Issuer {
        keys,
        admission: clients,
    };
    let listener = Listener::new(listener, identity);
    serve(listener, issuer, &stop, report).map_err(IssuerCommandError::Serve)?;
    eprintln!("cloister issuer: stopped");
    Ok(())
}

fn open_keys(arguments: &IssuerArguments) -> Result<Vec<IssuerKey>, IssuerCommandError> {
    let passphrase = keys::read_passphrase(arguments.passphrase_file.as_deref())?;
    let passphrase = passphrase.as_ref().map(|text| text.as_str());
    if let (Some(name), Some(path)) = (&arguments.name, arguments.key.first())
        && !exists(path)
    {
        generate_key(path, name, &arguments.origin, passphrase)?;
        let (path, description) = (path.display(), description_path(path));
        eprintln!(
            "cloister issuer: made the key {path} and {}",
            description.display()
        );
    }
    let keys: Result<Vec<_>, _> = arguments
        .key
        .iter()
        .map(|path| load_key(path, passphrase))
        .collect();
    let keys = keys?;
    let mut ids: Vec<u8> = keys.iter().map(|key| key.public().truncated_id()).collect();
    ids.sort_unstable();
    ids.dedup();
    match ids.len() == keys.len() {
        true => Ok(keys),
        false => Err(IssuerCommandError::SameId),
    }
}

/// Also where it cannot be seen: then nothing is to be made.
fn exists(path: &Path) -> bool {
    fs::symlink_metadata(path)
        .map_or_else(|error| error.kind() != io::ErrorKind::NotFound, |_| true)
}

fn announce(
    arguments: &IssuerArguments,
    address: SocketAddr,
    keys: &[IssuerKey],
    clients: usize,
) -> io::Result<()> {
    let url = format!("{}://{address}", arguments.tls.scheme());
    eprintln!("cloister issuer: {url}{REQUEST_PATH}, {clients} clients");
    let ids: Vec<String> = keys
        .iter()
        .map(|key| format!("{:?}", key.public()))
        .collect();
    for id in &ids {
        eprintln!("cloister issuer: {id}");
    }
    if !arguments.json {
        return Ok(());
    }
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "{}",
        json!({ "url": url, "keys": ids, "clients": clients })
    )?;
    out.flush()
}
