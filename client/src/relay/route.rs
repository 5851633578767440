//! What a relay takes: which requests, and what of them goes on to the gateway.

use cloister_protocol::api::{media, paths};
use cloister_protocol::evidence::parse_nonce;
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, HOST, HeaderMap, HeaderValue};
use hyper::{Method, Request, Uri};

use crate::serving::reply::{Content, Reply, not_allowed, problem};
use crate::upstream::Origin;

/// The kinds of request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// An encapsulated request, whole.
    Whole,
    /// An encapsulated request in chunks: passed on as it comes, both ways.
    Chunked,
    /// The key configuration list.
    Keys,
    /// Evidence.
    Evidence,
}

impl Kind {
    /// The media type of an answer that is no error.
    pub(super) fn answer_type(self) -> &'static str {
        match self {
            Self::Whole => media::OHTTP_RESPONSE,
            Self::Chunked => media::OHTTP_CHUNKED_RESPONSE,
            Self::Keys => media::OHTTP_KEYS,
            Self::Evidence => media::CMW_CBOR,
        }
    }

    fn request_type(self) -> Option<&'static str> {
        match self {
            Self::Whole => Some(media::OHTTP_REQUEST),
            Self::Chunked => Some(media::OHTTP_CHUNKED_REQUEST),
            Self::Keys | Self::Evidence => None,
        }
    }
}

/// A request that is passed on.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) kind: Kind,
    /// The target at the gateway, in origin form.
    target: String,
}

impl Route {
    /// Judges a request by its head.
    ///
    /// # Errors
    /// The answer that says what is wrong.
    pub(super) fn of<B>(request: &Request<B>, gateway: &Origin) -> Result<Self, Box<Reply>> {
        let query = request.uri().query();
        match request.uri().path() {
            paths::OHTTP_GATEWAY => {
                let kind = match *request.method() {
                    Method::POST => posted(request.headers())?,
                    Method::GET => Kind::Keys,
                    _ => return Err(not_allowed("GET, POST").into()),
                };
                if query.is_some() {
                    return Err(problem(400, "this takes no query").into());
                }
                let target = gateway.path().unwrap_or(paths::OHTTP_GATEWAY).to_owned();
                Ok(Self { kind, target })
            }
            paths::EVIDENCE => {
                if request.method() != Method::GET {
                    return Err(not_allowed("GET").into());
                }
                let target = evidence_target(query)?;
                let kind = Kind::Evidence;
                Ok(Self { kind, target })
            }
            _ => Err(problem(
                404,
                format!(
                    "this relay has {} and {} and nothing else",
                    paths::OHTTP_GATEWAY,
                    paths::EVIDENCE
                ),
            )
            .into()),
        }
    }

    /// What goes to the gateway: nothing of the client's request but its content.
    pub(super) fn request(&self, gateway: &Origin, content: Content) -> Request<Content> {
        let mut request = Request::new(content);
        *request.method_mut() = match self.kind {
            Kind::Whole | Kind::Chunked => Method::POST,
            Kind::Keys | Kind::Evidence => Method::GET,
        };
        // Made of a checked address and digits.
        *request.uri_mut() = Uri::try_from(&self.target).unwrap_or_default();
        request.headers_mut().insert(HOST, gateway.authority());
        if let Some(media_type) = self.kind.request_type() {
            let media_type = HeaderValue::from_static(media_type);
            request.headers_mut().insert(CONTENT_TYPE, media_type);
        }
        request
    }
}

fn posted(headers: &HeaderMap) -> Result<Kind, Box<Reply>> {
    if headers.contains_key(CONTENT_ENCODING) {
        return Err(problem(415, "the content must not be encoded").into());
    }
    let mut types = headers.get_all(CONTENT_TYPE).iter();
    let kind = types.next().and_then(|found| {
        [Kind::Whole, Kind::Chunked].into_iter().find(|kind| {
            kind.request_type()
                .is_some_and(|wanted| media::is(found.as_bytes(), wanted))
        })
    });
    match (kind, types.next()) {
        (Some(kind), None) => Ok(kind),
        _ => Err(problem(
            415,
            format!(
                "the content must be {} or {}",
                media::OHTTP_REQUEST,
                media::OHTTP_CHUNKED_REQUEST
            ),
        )
        .into()),
    }
}

/// A nonce and nothing else: what a client could write into a query otherwise could tell who it is.
fn evidence_target(query: Option<&str>) -> Result<String, Box<Reply>> {
    let Some(query) = query else {
        return Ok(paths::EVIDENCE.to_owned());
    };
    let nonce = query
        .strip_prefix(paths::NONCE_PARAMETER)
        .and_then(|rest| rest.strip_prefix('='))
        .and_then(parse_nonce);
    let nonce = nonce.ok_or_else(|| {
        Box::new(problem(
            400,
            format!(
                "the only query here is {}=, 64 hexadecimal digits",
                paths::NONCE_PARAMETER
            ),
        ))
    })?;
    Ok(format!(
        "{}?{}={}",
        paths::EVIDENCE,
        paths::NONCE_PARAMETER,
        cloister_protocol::evidence::to_hex(&nonce)
    ))
}
