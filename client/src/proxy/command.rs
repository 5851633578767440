//! `cloister proxy`.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cloister_protocol::api::paths;
use hyper::Uri;
use serde_json::json;

use super::failure::Failure;
use super::guard::Guard;
use super::serve::Proxy;
use super::session::Sessions;
use super::tokens::Tokens;
use super::upstream::Upstream;
use crate::client::{self, ClientError};
use crate::policy::Policy;
use crate::policy_arguments::{self, PolicyError};
use crate::server_arguments::ServerArguments;
use crate::serving::{self, ListenError, Stop, say};
use crate::token_arguments::{Lasting, TokenArgumentError};
use crate::transport::TransportError;
use crate::upstream::{Origin, OriginError, Pool, PoolLimits};
use crate::way::Way;

/// Its name in what it says.
const NAME: &str = "proxy";
/// Requests to the server at once; others wait.
const REQUESTS: usize = 16;
/// How long they wait before they are answered 429.
const QUEUE_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// How long one is kept for the next request: less than the guest and a relay keep it.
const IDLE_TIMEOUT: Duration = Duration::from_secs(8);
/// How long a server may take for its evidence. Emulated ones are slow.
const EVIDENCE_TIMEOUT: Duration = Duration::from_secs(120);
/// How long a program may take nothing of its answer.
const WRITE_TIMEOUT: Duration = Duration::from_secs(120);
/// How often a server that cannot be reached is asked for evidence again.
const RETRY_EVERY: Duration = Duration::from_secs(30);

/// What `cloister proxy --help` ends with.
pub(crate) fn help() -> String {
    format!(
        "\
Programs on this machine use it as they use OpenAI's interface: POST /v1/chat/completions (\"stream\" too) and GET
/v1/models; beside them POST /v1/summarize and /v1/rewrite, and GET /cloister/attestation, which shows what was checked.
Nothing is sent to the server before its evidence is accepted. Keys are kept, and renewed before their epoch ends: the
policy is read again then, the log too. A server that is refused later gets nothing more; programs get status 502 and the
check that failed. A server with https:// has to show the TLS key that its evidence binds, on every connection; for a
relay, an issuer or a log with https:// a certificate authority has to vouch (--ca-certificate for one of your own).

A server may ask for an anonymous token with each request: with --issuer and --credential tokens are fetched a batch at a
time, the next ones before the last are used, and kept in memory, or in --tokens for the next start too.

{}

Examples:
  cloister proxy --server http://10.0.0.7:8080 --relay https://relay.example \\
    --log-policy log-policy.txt --release-key NAME+ID+KEY --log https://log.example --log-state seen
  OPENAI_BASE_URL=http://127.0.0.1:8000/v1 OPENAI_API_KEY=none python3 your_program.py
  curl http://127.0.0.1:8000/v1/chat/completions -H 'content-type: application/json' \\
    -d '{{\"model\":\"any\",\"messages\":[{{\"role\":\"user\",\"content\":\"Hello\"}}]}}'

Exit status: 0 stopped by SIGTERM or ctrl-c, 1 failed, 2 wrong usage, 3 refused by policy at the start.",
        policy_arguments::HELP
    )
}

#[derive(Debug, clap::Args)]
pub(crate) struct ProxyArguments {
    #[command(flatten)]
    server: ServerArguments,
    /// Address to listen at, HOST:PORT; port 0 for any that is free.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8000")]
    listen: SocketAddr,
    /// Listen at an address that other machines reach. They can ask, and what they send travels in the clear.
    #[arg(long)]
    allow_remote: bool,
    /// Another name of this machine that requests may have as their host; localhost and loopback addresses always do.
    #[arg(long, value_name = "NAME")]
    host: Vec<String>,
    /// The key that programs must send (`Authorization: Bearer KEY`). Other users of this machine may see it in the list of
    /// processes; see --api-key-file.
    #[arg(long, value_name = "KEY", conflicts_with = "api_key_file")]
    api_key: Option<String>,
    /// File whose first line is that key.
    #[arg(long, value_name = "FILE")]
    api_key_file: Option<PathBuf>,
    /// Seconds until an answer is given up. Emulated guests are slow.
    #[arg(long, value_name = "SECONDS", default_value_t = 3600, value_parser = clap::value_parser!(u64).range(1..=604_800))]
    timeout: u64,
    /// Print one JSON document about itself before it begins, and what it says later as JSON lines on standard error.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Why there is no proxy.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProxyCommandError {
    #[error(
        "{0} is reached from other machines, and what they send would travel in the clear; add --allow-remote if that is meant"
    )]
    Remote(SocketAddr),
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error("{path}: {reason}")]
    ApiKey { path: PathBuf, reason: String },
    #[error(transparent)]
    Policy(#[from] PolicyError),
    #[error(transparent)]
    Tokens(#[from] TokenArgumentError),
    #[error(transparent)]
    Transport(#[from] TransportError),
    #[error(transparent)]
    Origin(#[from] OriginError),
    #[error("{0}")]
    Refused(String),
    #[error("cannot serve: {0}")]
    Serve(io::Error),
}

impl ProxyCommandError {
    /// Whether the evidence, or the log, was refused.
    pub(crate) fn is_refusal(&self) -> bool {
        match self {
            Self::Refused(_) => true,
            Self::Policy(error) => error.is_refusal(),
            _ => false,
        }
    }
}

/// Serves until it is stopped.
pub(crate) fn run(arguments: &Arc<ProxyArguments>) -> Result<(), ProxyCommandError> {
    if !arguments.listen.ip().is_loopback() && !arguments.allow_remote {
        return Err(ProxyCommandError::Remote(arguments.listen));
    }
    // What is wrong with the policy's files is said now.
    let proxy = Arc::new(proxy(arguments, arguments.server.policy()?)?);
    let (listener, address) = serving::listen(arguments.listen)?;
    let stop = Stop::new();
    stop.at_signals().map_err(ProxyCommandError::Serve)?;
    let limits = serving::Limits {
        write_timeout: WRITE_TIMEOUT,
        ..serving::Limits::default()
    };
    let runtime = serving::threads().map_err(ProxyCommandError::Serve)?;
    let outcome = runtime.block_on(async {
        let is_json = arguments.json;
        let notice = match proxy.upstream.sessions.get().await {
            Ok(session) => session.attestation.notice(),
            Err(failure) if failure.is_refusal() => {
                return Err(ProxyCommandError::Refused(failure.message().to_owned()));
            }
            // A server that is started later is asked then.
            Err(failure) => format!("NOT CHECKED YET: {}", failure.message()),
        };
        announce(arguments, address, &notice).map_err(ProxyCommandError::Serve)?;
        tokio::spawn(keep_fresh(Arc::clone(&proxy), is_json));
        let served = serving::serve(listener.into(), Arc::clone(&proxy), &limits, &stop).await;
        if let Err(failure) = proxy.upstream.tokens.close().await {
            say(NAME, is_json, "tokens-lost", failure.message());
        }
        served.map_err(ProxyCommandError::Serve)
    });
    // A look at evidence that is under way has had its time.
    runtime.shutdown_background();
    outcome?;
    say(NAME, arguments.json, "stopped", "stopped");
    Ok(())
}

/// Renews the keys in time, so that no request waits for it, and says what came of it.
async fn keep_fresh(proxy: Arc<Proxy>, is_json: bool) {
    let sessions = &proxy.upstream.sessions;
    loop {
        let session = sessions.current();
        let wait = session
            .as_ref()
            .map_or(RETRY_EVERY, |session| session.left());
        tokio::time::sleep(wait).await;
        let is_same = match (&session, &sessions.current()) {
            (Some(old), Some(new)) => Arc::ptr_eq(old, new),
            (None, None) => true,
            _ => false,
        };
        if !is_same {
            continue;
        }
        if let Err(failure) = sessions.renew(session.as_ref()).await {
            let event = match failure.is_refusal() {
                true => "refused",
                false => "not-renewed",
            };
            say(NAME, is_json, event, failure.message());
            tokio::time::sleep(RETRY_EVERY).await;
        }
    }
}

/// `policy` is for the first look at the evidence; the next ones read it again.
fn proxy(arguments: &Arc<ProxyArguments>, policy: Policy) -> Result<Proxy, ProxyCommandError> {
    let timeout = Duration::from_secs(arguments.timeout);
    let way = &arguments.server.way;
    let transport = way.transport(EVIDENCE_TIMEOUT)?;
    let (origin, resource) = resource(way)?;
    let given = Arc::clone(arguments);
    let first = Mutex::new(Some(policy));
    let attest = move || {
        let first = first.lock().unwrap_or_else(PoisonError::into_inner).take();
        let policy = first.map_or_else(|| given.server.policy(), Ok)?;
        // A server that was started anew may have another TLS key: whether that is the right one, its evidence says.
        let transport = transport.anew().map_err(ClientError::from)?;
        Ok::<_, Failure>(client::accepted_keys(&transport, &policy)?)
    };
    let limits = PoolLimits {
        requests: REQUESTS,
        queue_timeout: QUEUE_TIMEOUT,
        connect_timeout: CONNECT_TIMEOUT,
        answer_timeout: timeout,
        idle_timeout: IDLE_TIMEOUT,
    };
    let sessions = Sessions::new(Arc::new(attest));
    let mut pool = Pool::new(origin, limits);
    if way.relay.is_some() {
        let vouched = pool.vouched_by(&way.authorities);
        pool = vouched.map_err(TransportError::from)?;
    }
    let tokens = Arc::new(tokens(arguments)?);
    let mut hosts = arguments.host.clone();
    let ip = arguments.listen.ip();
    if !ip.is_unspecified() {
        hosts.push(ip.to_string());
    }
    Ok(Proxy {
        upstream: Upstream::new(sessions, tokens, pool, resource, timeout),
        guard: Guard {
            hosts,
            api_key: api_key(arguments)?,
        },
    })
}

fn tokens(arguments: &ProxyArguments) -> Result<Tokens, TokenArgumentError> {
    let purse = arguments.server.purse(Lasting::ManyRequests)?;
    let is_json = arguments.json;
    let report = move |failure: &Failure| say(NAME, is_json, "no-more-tokens", failure.message());
    let server = &arguments.server.way.server;
    Ok(Tokens::new(server, purse, Box::new(report)))
}

/// Where encapsulated requests go: the server or the relay, and the target there.
fn resource(way: &Way) -> Result<(Origin, Uri), OriginError> {
    let origin: Origin = way.relay.as_ref().unwrap_or(&way.server).parse()?;
    let path = match &way.relay {
        Some(_) => origin.path().unwrap_or(paths::OHTTP_GATEWAY),
        None => paths::OHTTP_GATEWAY,
    };
    let target = Uri::try_from(path).unwrap_or(Uri::from_static(paths::OHTTP_GATEWAY));
    Ok((origin, target))
}

fn api_key(arguments: &ProxyArguments) -> Result<Option<String>, ProxyCommandError> {
    let Some(path) = &arguments.api_key_file else {
        return Ok(arguments.api_key.clone());
    };
    let wrong = |reason: &str| ProxyCommandError::ApiKey {
        path: path.clone(),
        reason: reason.to_owned(),
    };
    let text = std::fs::read_to_string(path).map_err(|error| wrong(&error.to_string()))?;
    let key = text.lines().next().unwrap_or_default().trim();
    match key {
        "" => Err(wrong("its first line is empty")),
        key => Ok(Some(key.to_owned())),
    }
}

fn announce(arguments: &ProxyArguments, address: SocketAddr, notice: &str) -> io::Result<()> {
    let base = format!("http://{address}/v1");
    if !arguments.json {
        eprintln!("cloister proxy: {base} asks {}", arguments.server.way);
        eprintln!("cloister proxy: {notice}.");
        return Ok(());
    }
    let document = json!({
        "url": format!("http://{address}"),
        "base_url": base,
        "notice": notice,
    });
    let mut out = io::stdout().lock();
    writeln!(out, "{document}")?;
    out.flush()
}
