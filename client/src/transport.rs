//! HTTP to the server, its relay, an issuer, a log. Nothing secret travels to a guest unsealed, so plain HTTP is enough;
//! with TLS a guest's key is noted, for the evidence to be compared with, and authorities vouch for everybody else.

use std::io::Read;
use std::time::Duration;

use cloister_protocol::api::paths;
use ureq::Agent;
use ureq::config::Config;
use ureq::http::{Response, Uri};
use ureq::unversioned::resolver::DefaultResolver;
use ureq::unversioned::transport::{Connector, TcpConnector};

use crate::tls::{Authorities, AuthoritiesError, ShownKey, TlsConnector};

/// More than any answer of the protocol has.
const MAX_BODY_BYTES: u64 = 2 << 20;
/// A server that is there accepts within this time, however slowly it computes.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// The server cannot be reached, or does not speak the protocol.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// The address is not usable.
    #[error(
        "`{url}` is not a server address: {reason}; expected http://HOST:PORT or https://HOST:PORT"
    )]
    Url {
        /// What was given.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The address is one with `https`, and nobody could vouch for the server there.
    #[error(transparent)]
    Authorities(#[from] AuthoritiesError),
    /// No answer.
    #[error("{method} {url}: {reason}")]
    Exchange {
        /// HTTP method.
        method: &'static str,
        /// Where.
        url: String,
        /// What happened.
        reason: String,
    },
    /// An answer of another type.
    #[error(
        "{method} {url}: the answer's media type is `{found}`, expected `{expected}`; is this a Cloister server?"
    )]
    MediaType {
        /// HTTP method.
        method: &'static str,
        /// Where.
        url: String,
        /// What came.
        found: String,
        /// What should have come.
        expected: &'static str,
    },
}

/// A server's address and the connections to it.
pub(crate) struct Transport {
    base: String,
    agent: Agent,
    /// The key that connections to `base` have shown, if a guest is there and not a relay.
    guest: Option<ShownKey>,
    /// Where encapsulated requests go, and how, if not to the gateway below `base`.
    relay: Option<(String, Agent)>,
}

/// Status, media type and body of an answer.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) media_type: String,
    pub(crate) body: Vec<u8>,
}

/// An answer whose body is still to be read.
pub(crate) struct Streaming {
    pub(crate) status: u16,
    pub(crate) media_type: String,
    url: String,
    body: ureq::BodyReader<'static>,
}

impl Streaming {
    /// Reads what has arrived, or waits for it; 0 is the end.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> Result<usize, TransportError> {
        let outcome = self.body.read(buffer);
        outcome.map_err(|error| exchange_error("POST", self.url.clone(), &error.into()))
    }

    /// All of it, where it is no stream after all.
    pub(crate) fn whole(mut self) -> Result<Answer, TransportError> {
        let mut body = Vec::new();
        let outcome = (&mut self.body).take(MAX_BODY_BYTES).read_to_end(&mut body);
        match outcome {
            Ok(_) => Ok(Answer {
                status: self.status,
                media_type: self.media_type,
                body,
            }),
            Err(error) => Err(exchange_error("POST", self.url, &error.into())),
        }
    }
}

impl Transport {
    /// To a server that is no guest; with TLS, `authorities` have to vouch for it. `timeout` bounds each exchange from its
    /// start to the last byte of the answer.
    pub(crate) fn new(
        url: &str,
        timeout: Duration,
        authorities: &Authorities,
    ) -> Result<Self, TransportError> {
        let (is_tls, config, tcp) = (
            check(url)?,
            config(timeout),
            ().chain(TcpConnector::default()),
        );
        let agent = match is_tls {
            true => {
                let tls = TlsConnector::to_host(authorities.client_config()?);
                agent(config, tcp.chain(tls))
            }
            false => agent(config, tcp),
        };
        Ok(Self {
            base: url.trim_end_matches('/').to_owned(),
            agent,
            guest: None,
            relay: None,
        })
    }

    /// To a guest; with TLS, its key is noted.
    pub(crate) fn to_guest(url: &str, timeout: Duration) -> Result<Self, TransportError> {
        check(url)?;
        let shown = ShownKey::default();
        Ok(Self {
            base: url.trim_end_matches('/').to_owned(),
            agent: guest_agent(url, config(timeout), &shown)?,
            guest: Some(shown),
            relay: None,
        })
    }

    /// Sends encapsulated requests to `relay`: to its path, or to that of a gateway where it has none. Everything else goes
    /// to the relay's server too, unless `is_direct`; then it goes to `server`. Each of them is judged in its own way.
    pub(crate) fn through(
        server: &str,
        relay: &str,
        is_direct: bool,
        timeout: Duration,
        authorities: &Authorities,
    ) -> Result<Self, TransportError> {
        let direct = Self::to_guest(server, timeout)?;
        let relayed = Self::new(relay, timeout, authorities)?;
        // Where there is a scheme, there is an authority: it is checked now.
        let host = relay.find("://").map_or(0, |at| at + 3);
        let path = relay[host..].find('/').map_or(relay.len(), |at| host + at);
        let resource = match relay[path..].trim_end_matches('/') {
            "" => format!("{}{}", relayed.base, paths::OHTTP_GATEWAY),
            _ => relay.to_owned(),
        };
        let resource = Some((resource, relayed.agent.clone()));
        let way = match is_direct {
            true => direct,
            false => Self {
                base: relay[..path].to_owned(),
                ..relayed
            },
        };
        Ok(Self {
            relay: resource,
            ..way
        })
    }

    /// The same way without connections to the guest, and without a key that they have shown.
    pub(crate) fn anew(&self) -> Result<Self, TransportError> {
        let guest = self.guest.as_ref().map(|_| ShownKey::default());
        Ok(Self {
            base: self.base.clone(),
            agent: match &guest {
                Some(shown) => guest_agent(&self.base, self.agent.config().clone(), shown)?,
                None => self.agent.clone(),
            },
            guest,
            relay: self.relay.clone(),
        })
    }

    /// The public key that the connections to a guest have shown (SubjectPublicKeyInfo, DER); none without TLS, and none of
    /// a relay.
    pub(crate) fn tls_public_key(&self) -> Option<Vec<u8>> {
        self.guest.as_ref().and_then(ShownKey::first)
    }

    /// Whether the guest could not be asked since it has another TLS key than before, as after a restart.
    pub(crate) fn has_other_key(&self) -> bool {
        self.guest.as_ref().is_some_and(ShownKey::has_changed)
    }

    /// Where what is below this path is, and the connections to it.
    fn target(&self, path: &str) -> (String, &Agent) {
        match &self.relay {
            Some((relay, agent)) if path == paths::OHTTP_GATEWAY => (relay.clone(), agent),
            _ => (format!("{}{path}", self.base), &self.agent),
        }
    }

    /// The server's address.
    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    pub(crate) fn get(&self, path: &str) -> Result<Answer, TransportError> {
        self.get_within(path, MAX_BODY_BYTES)
    }

    /// The same with another limit on the answer's body.
    pub(crate) fn get_within(&self, path: &str, most_bytes: u64) -> Result<Answer, TransportError> {
        let (url, agent) = self.target(path);
        let outcome = agent.get(&url).call();
        outcome
            .and_then(|response| read(response, most_bytes))
            .map_err(|error| exchange_error("GET", url, &error))
    }

    pub(crate) fn post(
        &self,
        path: &str,
        media_type: &str,
        body: &[u8],
    ) -> Result<Answer, TransportError> {
        self.post_as(path, media_type, body, None)
    }

    /// The same with an `Authorization` field.
    pub(crate) fn post_as(
        &self,
        path: &str,
        media_type: &str,
        body: &[u8],
        authorization: Option<&str>,
    ) -> Result<Answer, TransportError> {
        let (url, agent) = self.target(path);
        let mut request = agent.post(&url).content_type(media_type);
        if let Some(authorization) = authorization {
            request = request.header("authorization", authorization);
        }
        let outcome = request.send(body);
        outcome
            .and_then(|response| read(response, MAX_BODY_BYTES))
            .map_err(|error| exchange_error("POST", url, &error))
    }

    /// The same for an answer that is read as it arrives.
    pub(crate) fn post_streaming(
        &self,
        path: &str,
        media_type: &str,
        body: &[u8],
    ) -> Result<Streaming, TransportError> {
        let (url, agent) = self.target(path);
        match agent.post(&url).content_type(media_type).send(body) {
            Ok(response) => Ok(Streaming {
                status: response.status().as_u16(),
                media_type: media_type_of(&response),
                url,
                body: response.into_body().into_reader(),
            }),
            Err(error) => Err(exchange_error("POST", url, &error)),
        }
    }
}

/// Whether TLS is spoken at this address.
///
/// # Errors
/// [`TransportError::Url`]: it is none.
pub(crate) fn check(url: &str) -> Result<bool, TransportError> {
    let wrong = |reason: &str| wrong(url, reason);
    let uri: Uri = url.parse().map_err(|error| wrong(&format!("{error}")))?;
    let is_tls = match uri.scheme_str() {
        Some("http") => false,
        Some("https") => true,
        _ => return Err(wrong("the scheme is missing")),
    };
    if uri.host().is_none_or(str::is_empty) {
        return Err(wrong("the host is missing"));
    }
    if uri.query().is_some() {
        return Err(wrong("it has a query"));
    }
    Ok(is_tls)
}

fn wrong(url: &str, reason: &str) -> TransportError {
    TransportError::Url {
        url: url.to_owned(),
        reason: reason.to_owned(),
    }
}

fn config(timeout: Duration) -> Config {
    Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .proxy(None)
        .timeout_global(Some(timeout))
        .timeout_connect(Some(CONNECT_TIMEOUT.min(timeout)))
        .user_agent(concat!("cloister/", env!("CARGO_PKG_VERSION")))
        .build()
}

/// Agents begin without connections.
fn agent(config: Config, connector: impl Connector) -> Agent {
    Agent::with_parts(config, connector, DefaultResolver::default())
}

fn guest_agent(url: &str, config: Config, shown: &ShownKey) -> Result<Agent, TransportError> {
    let tls = TlsConnector::to_guest(shown.clone());
    let tls = tls.map_err(|error| wrong(url, &error.to_string()))?;
    Ok(agent(config, ().chain(TcpConnector::default()).chain(tls)))
}

fn read(response: Response<ureq::Body>, most_bytes: u64) -> Result<Answer, ureq::Error> {
    let status = response.status().as_u16();
    let media_type = media_type_of(&response);
    let mut body = Vec::new();
    response
        .into_body()
        .into_with_config()
        .limit(most_bytes)
        .reader()
        .read_to_end(&mut body)?;
    Ok(Answer {
        status,
        media_type,
        body,
    })
}

/// In lower case, without parameters; empty if there is none.
fn media_type_of(response: &Response<ureq::Body>) -> String {
    let media_type = response
        .headers()
        .get("content-type")
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    media_type
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase()
}

fn exchange_error(method: &'static str, url: String, error: &ureq::Error) -> TransportError {
    let reason = match error {
        ureq::Error::Timeout(ureq::Timeout::Connect) => {
            "no connection within the time limit".to_owned()
        }
        ureq::Error::Timeout(_) => {
            "no whole answer within the time limit; see --timeout".to_owned()
        }
        ureq::Error::Io(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
            "connection refused; is the server running?".to_owned()
        }
        // A handshake that failed; see the connector.
        ureq::Error::Other(error) => error.to_string(),
        other => other.to_string(),
    };
    TransportError::Exchange {
        method,
        url,
        reason,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_checked() {
        let new = |url: &str| Transport::new(url, Duration::from_secs(1), &Authorities::default());
        let check = |url: &str| new(url).map(|transport| transport.base);
        assert_eq!(
            check("http://127.0.0.1:8080/").expect("an address"),
            "http://127.0.0.1:8080"
        );
        for (url, word) in [
            ("127.0.0.1:8080", "scheme"),
            ("localhost", "scheme"),
            ("http://h/?q", "query"),
            ("not an address", "invalid"),
        ] {
            let text = check(url).unwrap_err().to_string();
            assert!(text.contains(word), "{url}: {text}");
        }
    }

    #[test]
    fn a_relay_gets_everything_or_requests_only() {
        let urls = |relay: &str, is_direct| {
            let timeout = Duration::from_secs(1);
            let authorities = Authorities::default();
            let transport =
                Transport::through("http://s:1", relay, is_direct, timeout, &authorities);
            let transport = transport.expect("addresses");
            let url = |path| transport.target(path).0;
            (url(paths::OHTTP_GATEWAY), url("/e"))
        };
        let at_relay = "http://r/.well-known/ohttp-gateway".to_owned();
        for relay in ["http://r", "http://r/"] {
            assert_eq!(
                urls(relay, false),
                (at_relay.clone(), "http://r/e".to_owned())
            );
            assert_eq!(
                urls(relay, true),
                (at_relay.clone(), "http://s:1/e".to_owned())
            );
        }
        let resource = "http://r:80/to/s".to_owned();
        assert_eq!(
            urls(&resource, false),
            (resource.clone(), "http://r:80/e".to_owned())
        );
        assert_eq!(
            urls(&resource, true),
            (resource.clone(), "http://s:1/e".to_owned())
        );
        let (timeout, authorities) = (Duration::from_secs(1), Authorities::default());
        let wrong = Transport::through("http://s", "r:80", false, timeout, &authorities);
        let text = wrong.err().expect("no scheme").to_string();
        assert!(text.contains("`r:80`"), "{text}");
    }

    #[test]
    fn a_guest_may_speak_tls() {
        let transport = Transport::to_guest("https://127.0.0.1:8443", Duration::from_secs(1));
        let transport = transport.expect("an address");
        assert_eq!(transport.base(), "https://127.0.0.1:8443");
        assert_eq!(transport.tls_public_key(), None);
    }

    #[test]
    fn a_server_that_is_not_there_is_named() {
        let closed =
            std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let url = format!("http://{}", closed.expect("a port"));
        let transport = Transport::new(&url, Duration::from_secs(5), &Authorities::default());
        let transport = transport.expect("an address");
        let text = transport
            .get("/healthz")
            .err()
            .expect("nobody listens")
            .to_string();
        assert!(text.contains(&url) && text.contains("refused"), "{text}");
    }
}
