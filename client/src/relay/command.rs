//! `cloister relay`.

use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use serde_json::json;

use super::serve::{Event, Limits, Relay};
use crate::serving::Stop;
use crate::upstream::{Origin, OriginError};

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
  cloister relay --listen 0.0.0.0:8090 --gateway http://10.0.0.7:8080 --metrics 127.0.0.1:9090
  cloister ask --server http://10.0.0.7:8080 --relay http://relay.example:8090 --messages thread.json

Clients of the relay speak http: put a TLS terminator before it to hide from their network that they use it, and with it
--requests-per-client 0, as all connections come from one address then.

Exit status: 0 stopped by SIGTERM or ctrl-c, 1 failed, 2 wrong usage."
}

#[derive(Debug, clap::Args)]
pub(crate) struct RelayArguments {
    /// Address to listen at, HOST:PORT; port 0 for any that is free.
    #[arg(long, value_name = "ADDR")]
    listen: SocketAddr,
    /// The gateway's server: http://HOST[:PORT]. With a path, where the gateway itself is.
    #[arg(long, value_name = "URL", value_parser = parse_origin)]
    gateway: Origin,
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
    #[error("cannot listen at {address}: {source}")]
    Listen {
        address: SocketAddr,
        source: io::Error,
    },
    #[error("cannot serve: {0}")]
    Serve(io::Error),
}

/// Serves until it is stopped.
pub(crate) fn run(arguments: &RelayArguments) -> Result<(), RelayCommandError> {
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
    let relay = Relay::new(arguments.gateway.clone(), limits);
    let stop = Stop::new();
    stop.at_signals().map_err(RelayCommandError::Serve)?;
    let metrics_address = metrics.as_ref().map(|(_, address)| *address);
    announce(arguments, address, metrics_address).map_err(RelayCommandError::Serve)?;
    let is_json = arguments.json;
    let report = move |event: &Event| say(is_json, event.name(), &event.to_string());
    let metrics = metrics.map(|(listener, _)| listener);
    let served = relay.serve(listener, metrics, &stop, report);
    served.map_err(RelayCommandError::Serve)?;
    say(is_json, "stopped", "stopped");
    Ok(())
}

fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), RelayCommandError> {
    TcpListener::bind(address)
        .and_then(|listener| listener.local_addr().map(|bound| (listener, bound)))
        .map_err(|source| RelayCommandError::Listen { address, source })
}

fn announce(
    arguments: &RelayArguments,
    address: SocketAddr,
    metrics: Option<SocketAddr>,
) -> io::Result<()> {
    let gateway = arguments.gateway.to_string();
    let metrics = metrics.map(|address| format!("http://{address}/metrics"));
    if !arguments.json {
        eprintln!("cloister relay: http://{address} passes on to {gateway}");
        if let Some(url) = metrics {
            eprintln!("cloister relay: counters at {url}");
        }
        return Ok(());
    }
    let document = json!({
        "url": format!("http://{address}"),
        "gateway": gateway,
        "metrics": metrics,
    });
    let mut out = io::stdout().lock();
    writeln!(out, "{document}")?;
    out.flush()
}

/// Nobody may be reading; that is no reason to stop.
fn say(is_json: bool, event: &str, text: &str) {
    let mut err = io::stderr().lock();
    let _ = match is_json {
        true => writeln!(err, "{}", json!({ "event": event, "message": text })),
        false => writeln!(err, "cloister relay: {text}"),
    };
}
