//! `cloister relay`.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::json;

use super::event::Event;
use super::serve::{Limits, Relay};
use crate::serving::{ListenError, Listener, Stop, listen, say};
use crate::tls::KeyDigest;
use crate::tls_arguments::{TlsArgumentError, TlsArguments};
use crate::upstream::{Origin, OriginError};

/// Its name in what it says.
const NAME: &str = "relay";

/// What `cloister relay --help` ends with.
pub(crate) fn help() -> &'static str {
    "\
Passes on encapsulated requests (message/ohttp-req, message/ohttp-chunked-req) to one gateway, and to clients its answers,
its key configurations and its evidence, at the same paths:
  POST /.well-known/ohttp-gateway      GET /.well-known/ohttp-gateway      GET /.well-known/cloister/evidence[?nonce=HEX]
Of a request the gateway gets method, path, media type, length and content; nothing that says who sent it. Of an answer the
client gets status, media type, retry-after and content. A relay is of use only where who runs it has nothing to do with
who runs the gateway. It writes down nothing of its clients.

Examples:
  cloister relay --listen 0.0.0.0:443 --tls-certificate fullchain.pem --tls-key privkey.pem \\
    --gateway http://10.0.0.7:8080 --metrics 127.0.0.1:9090
  cloister ask --server http://10.0.0.7:8080 --relay https://relay.example --messages thread.json
  cloister relay --listen 0.0.0.0:8090 --gateway https://10.0.0.7:8443 --gateway-key HEX

A gateway with https:// is spoken to in TLS 1.3. Any key of it is taken unless --gateway-key names one: what is secret is
sealed by the client, to a key that the guest's evidence binds, and TLS hides from the network on the way which paths are
asked for and when keys are fetched. The certificate is not judged, and the name asked for in the handshake is always
`cloister`. A guest makes a new key at each start; `cloister verify --server https://...` shows its SHA-256 once it has
accepted the guest's evidence.

With --tls-certificate and --tls-key clients speak https to the relay, which hides from their network what they ask it
for; their client judges the certificate by the authorities that it trusts. Where a terminator before the relay speaks TLS
for it, give --requests-per-client 0, as all connections come from one address then.

Exit status: 0 stopped by SIGTERM or ctrl-c, 1 failed, 2 wrong usage."
}

#[derive(Debug, clap::Args)]
pub(crate) struct RelayArguments {
    /// Address to listen at, HOST:PORT; port 0 for any that is free.
    #[arg(long, value_name = "ADDR")]
    listen: SocketAddr,
    #[command(flatten)]
    tls: TlsArguments,
    /// The gateway's server: http://HOST[:PORT], or https://HOST[:PORT] where it speaks TLS. With a path, where the gateway
    /// itself is.
    #[arg(long, value_name = "URL", value_parser = parse_origin)]
    gateway: Origin,
    /// The only TLS key that the gateway may have: SHA-256 of its SubjectPublicKeyInfo, 64 hexadecimal digits. With another
    /// one it gets no requests; they are answered 502, and a line says so.
    #[arg(long, value_name = "HEX")]
    gateway_key: Option<KeyDigest>,
    /// Serve GET /metrics at this address, HOST:PORT. Who reads them often sees when requests pass.
    #[arg(long, value_name = "ADDR")]
    metrics: Option<SocketAddr>,
    /// The most connections of clients at once; others wait.
    #[arg(long, value_name = "N", default_value_t = Limits::default().connections, value_parser = at_least_one)]
    connections: usize,
    /// The most requests at once from one address (IPv6: one /64), 0 for any number; more are answered 429.
    #[arg(long, value_name = "N", default_value_t = Limits::default().requests_per_client)]
    requests_per_client: usize,
    /// The most requests to the gateway at once; others wait up to 5 s, then are answered 503. A guest takes 64 connections.
    #[arg(long, value_name = "N", default_value_t = Limits::default().gateway_requests, value_parser = at_least_one)]
    gateway_requests: usize,
    /// Seconds until the gateway's answer must begin, and from there until it must have ended.
    #[arg(long, value_name = "SECONDS", default_value_t = Limits::default().answer_timeout.as_secs(), value_parser = seconds())]
    answer_timeout: u64,
    /// Seconds that requests may take which have begun when the relay is asked to stop.
    #[arg(long, value_name = "SECONDS", default_value_t = Limits::default().stop_timeout.as_secs(), value_parser = seconds())]
    stop_timeout: u64,
    /// Print one JSON document about itself before it begins, and what it says later as JSON lines on standard error.
    #[arg(long)]
    pub(crate) json: bool,
}

fn parse_origin(text: &str) -> Result<Origin, OriginError> {
    text.parse()
}

fn at_least_one(text: &str) -> Result<usize, String> {
    // Beyond this a semaphore counts no further; no machine has as many.
    match text.parse() {
        Ok(number @ 1..=1_000_000) => Ok(number),
        _ => Err("expected a number from 1 to 1000000".to_owned()),
    }
}

fn seconds() -> clap::builder::RangedU64ValueParser {
    clap::value_parser!(u64).range(1..=604_800)
}

/// Why there is no relay.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RelayCommandError {
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error(transparent)]
    Tls(#[from] TlsArgumentError),
    #[error("cannot serve: {0}")]
    Serve(io::Error),
    #[error("--gateway-key is for a gateway with https://, and {0} has no TLS")]
    KeyWithoutTls(Origin),
}

impl RelayCommandError {
    /// Whether the arguments contradict each other.
    pub(crate) fn is_usage(&self) -> bool {
        matches!(self, Self::KeyWithoutTls(_))
    }
}

/// Serves until it is stopped.
pub(crate) fn run(arguments: &RelayArguments) -> Result<(), RelayCommandError> {
    if arguments.gateway_key.is_some() && !arguments.gateway.is_tls() {
        let gateway = arguments.gateway.clone();
        return Err(RelayCommandError::KeyWithoutTls(gateway));
    }
    let identity = arguments.tls.identity(NAME, arguments.json)?;
    let (listener, address) = listen(arguments.listen)?;
    let metrics = arguments.metrics.map(listen).transpose()?;
    let limits = Limits {
        connections: arguments.connections,
        requests_per_client: arguments.requests_per_client,
        gateway_requests: arguments.gateway_requests,
        answer_timeout: Duration::from_secs(arguments.answer_timeout),
        stop_timeout: Duration::from_secs(arguments.stop_timeout),
        ..Limits::default()
    };
    let mut relay = Relay::new(arguments.gateway.clone(), limits);
    if let Some(key) = arguments.gateway_key {
        relay = relay.with_gateway_key(key);
    }
    let stop = Stop::new();
    stop.at_signals().map_err(RelayCommandError::Serve)?;
    let metrics_address = metrics.as_ref().map(|(_, address)| *address);
    announce(arguments, address, metrics_address).map_err(RelayCommandError::Serve)?;
    let is_json = arguments.json;
    let report = move |event: &Event| say(NAME, is_json, event.name(), &event.to_string());
    let metrics = metrics.map(|(listener, _)| listener);
    let listener = Listener::new(listener, identity);
    let served = relay.serve(listener, metrics, &stop, report);
    served.map_err(RelayCommandError::Serve)?;
    say(NAME, is_json, "stopped", "stopped");
    Ok(())
}

fn announce(
    arguments: &RelayArguments,
    address: SocketAddr,
    metrics: Option<SocketAddr>,
) -> io::Result<()> {
    let gateway = arguments.gateway.to_string();
    let url = format!("{}://{address}", arguments.tls.scheme());
    let metrics = metrics.map(|address| format!("http://{address}/metrics"));
    if !arguments.json {
        eprintln!("cloister relay: {url} passes on to {gateway}");
        if let Some(metrics) = metrics {
            eprintln!("cloister relay: counters at {metrics}");
        }
        return Ok(());
    }
    let document = json!({
        "url": url,
        "gateway": gateway,
        "gateway_key": arguments.gateway_key.map(|key| key.to_string()),
        "metrics": metrics,
    });
    let mut out = io::stdout().lock();
    writeln!(out, "{document}")?;
    out.flush()
}
