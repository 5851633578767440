//! HTTP to the server. Nothing secret travels here unsealed, so plain HTTP is enough.

use std::io::Read;
use std::time::Duration;

use ureq::Agent;
use ureq::http::{Response, Uri};

/// More than any answer of the protocol has.
const MAX_BODY_BYTES: u64 = 2 << 20;
/// A server that is there accepts within this time, however slowly it computes.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// The server cannot be reached, or does not speak the protocol.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// The address is not usable.
    #[error("`{url}` is not a server address: {reason}; expected http://HOST:PORT")]
    Url {
        /// What was given.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
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
}

/// Status, media type and body of an answer.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) media_type: String,
    pub(crate) body: Vec<u8>,
}

impl Transport {
    /// `timeout` bounds each exchange from its start to the last byte of the answer.
    pub(crate) fn new(url: &str, timeout: Duration) -> Result<Self, TransportError> {
        let wrong = |reason: &str| TransportError::Url {
            url: url.to_owned(),
            reason: reason.to_owned(),
        };
        let uri: Uri = url.parse().map_err(|error| wrong(&format!("{error}")))?;
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") => {
                return Err(wrong(
                    "this client speaks http only (requests are sealed by HPKE, so TLS would add no secrecy to them)",
                ));
            }
            _ => return Err(wrong("the scheme is missing")),
        }
        if uri.host().is_none_or(str::is_empty) {
            return Err(wrong("the host is missing"));
        }
        if uri.query().is_some() {
            return Err(wrong("it has a query"));
        }
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(None)
            .timeout_global(Some(timeout))
            .timeout_connect(Some(CONNECT_TIMEOUT.min(timeout)))
            .user_agent(concat!("cloister/", env!("CARGO_PKG_VERSION")))
            .build();
        Ok(Self {
            base: url.trim_end_matches('/').to_owned(),
            agent: config.into(),
        })
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
        let url = format!("{}{path}", self.base);
        let outcome = self.agent.get(&url).call();
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
        let url = format!("{}{path}", self.base);
        let mut request = self.agent.post(&url).content_type(media_type);
        if let Some(authorization) = authorization {
            request = request.header("authorization", authorization);
        }
        let outcome = request.send(body);
        outcome
            .and_then(|response| read(response, MAX_BODY_BYTES))
            .map_err(|error| exchange_error("POST", url, &error))
    }
}

fn read(response: Response<ureq::Body>, most_bytes: u64) -> Result<Answer, ureq::Error> {
    let (head, body) = response.into_parts();
    let media_type = head
        .headers
        .get("content-type")
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let media_type = media_type
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    let mut bytes = Vec::new();
    body.into_with_config()
        .limit(most_bytes)
        .reader()
        .read_to_end(&mut bytes)?;
    Ok(Answer {
        status: head.status.as_u16(),
        media_type,
        body: bytes,
    })
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
        let check =
            |url: &str| Transport::new(url, Duration::from_secs(1)).map(|transport| transport.base);
        assert_eq!(
            check("http://127.0.0.1:8080/").expect("an address"),
            "http://127.0.0.1:8080"
        );
        for (url, word) in [
            ("127.0.0.1:8080", "scheme"),
            ("localhost", "scheme"),
            ("https://x", "http only"),
            ("http://h/?q", "query"),
            ("not an address", "invalid"),
        ] {
            let text = check(url).unwrap_err().to_string();
            assert!(text.contains(word), "{url}: {text}");
        }
    }

    #[test]
    fn a_server_that_is_not_there_is_named() {
        let closed =
            std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let url = format!("http://{}", closed.expect("a port"));
        let transport = Transport::new(&url, Duration::from_secs(5)).expect("an address");
        let text = transport
            .get("/healthz")
            .err()
            .expect("nobody listens")
            .to_string();
        assert!(text.contains(&url) && text.contains("refused"), "{text}");
    }
}
