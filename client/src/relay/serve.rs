//! The relay's way of a request: judge, read or pass on, judge the answer, give it back.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use cloister_protocol::api::paths;
use cloister_protocol::ohttp::MAX_ENCAPSULATED_REQUEST_BYTES;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use hyper::{Method, Request, Response};

use super::answer::{Head, Unfit};
use super::crowd::{Crowd, Member};
use super::event::Event;
use super::metrics::Metrics;
use super::route::{Kind, Route};
use crate::serving::reply::{
    BodyError, Content, Reply, not_allowed, problem, read_body, try_again, whole,
};
use crate::serving::{self, Listener, Service, Stop};
use crate::tls::KeyDigest;
use crate::upstream::{Bounded, Lease, Origin, Pool, PoolLimits, UpstreamError};

/// The most bytes of a gateway's answer that is an error.
const MAX_ERROR_BYTES: usize = 64 << 10;
/// Connections of one client for each request that it may have under way: more are closed at once.
const CONNECTIONS_A_REQUEST: usize = 2;
/// Seconds after which a client whose request was turned away should try again.
const RETRY_AFTER_S: u32 = 2;
/// What Prometheus reads.
const METRICS_TYPE: &str = "text/plain; version=0.0.4";

/// What a relay puts up with. Sizes in bytes.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections of clients at once; others wait to be accepted.
    pub connections: usize,
    /// Requests of one client's address at once, others are answered 429; 0 for any number.
    pub requests_per_client: usize,
    /// Requests to the gateway at once, which is also the most connections to it. Others wait for `queue_timeout`.
    pub gateway_requests: usize,
    /// An encapsulated request, in either form.
    pub request_bytes: usize,
    /// An answer that is passed on as a whole: an encapsulated response, key configurations, evidence.
    pub answer_bytes: usize,
    /// An answer in chunks, all together.
    pub chunked_answer_bytes: usize,
    /// A TLS handshake, a request's head, and how long a connection may be idle.
    pub head_timeout: Duration,
    /// A request's content, from its head to its last byte.
    pub body_timeout: Duration,
    /// How long a client may take nothing of its answer.
    pub write_timeout: Duration,
    /// The wait for one of the `gateway_requests`; then the answer is 503.
    pub queue_timeout: Duration,
    /// A connection to the gateway, with its TLS handshake; then the answer is 504.
    pub connect_timeout: Duration,
    /// The gateway's answer: from the request to the answer's head, and from there to its last byte.
    pub answer_timeout: Duration,
    /// How long a connection to the gateway is kept for the next request. The guest keeps one for 30 s.
    pub gateway_idle_timeout: Duration,
    /// How long requests that have begun may take once the relay is asked to stop.
    pub stop_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 512,
            requests_per_client: 16,
            gateway_requests: 32,
            // The same content in chunks has a few bytes more for each.
            request_bytes: MAX_ENCAPSULATED_REQUEST_BYTES + (16 << 10),
            answer_bytes: 2 << 20,
            chunked_answer_bytes: 16 << 20,
            head_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(20),
            queue_timeout: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(10),
            answer_timeout: Duration::from_secs(900),
            gateway_idle_timeout: Duration::from_secs(20),
            stop_timeout: Duration::from_secs(30),
        }
    }
}

/// A relay for one gateway.
#[derive(Clone, Debug)]
pub struct Relay {
    gateway: Origin,
    gateway_key: Option<KeyDigest>,
    limits: Limits,
}

impl Relay {
    /// `gateway` is the address of the gateway's server, or of the gateway itself where its path is not the well-known one
    /// (RFC 9540).
    ///
    /// Where it speaks TLS, any key will do: what is secret is sealed by the client.
    pub fn new(gateway: Origin, limits: Limits) -> Self {
        Self {
            gateway,
            gateway_key: None,
            limits,
        }
    }

    /// The same for a gateway that has this TLS key: with another one it gets no requests, and clients are answered 502.
    #[must_use]
    pub fn with_gateway_key(self, key: KeyDigest) -> Self {
        Self {
            gateway_key: Some(key),
            ..self
        }
    }

    /// Serves until it is asked to stop; `metrics` serves what it counts, on a listener of its own, without TLS. `report`
    /// hears when the gateway fails, and when it no longer does.
    ///
    /// # Errors
    /// Where a listener cannot be used.
    pub fn serve(
        &self,
        listener: impl Into<Listener>,
        metrics: Option<TcpListener>,
        stop: &Stop,
        report: impl Fn(&Event) + Send + Sync + 'static,
    ) -> io::Result<()> {
        let counted = Arc::new(Metrics::default());
        let shared = Arc::new(self.shared(Arc::clone(&counted), Box::new(report)));
        let limits = self.serving_limits();
        let runtime = serving::threads()?;
        let outcome = runtime.block_on(async {
            if let Some(listener) = metrics {
                let stop = stop.clone();
                let limits = serving::Limits::default();
                tokio::spawn(async move {
                    serving::serve(listener.into(), Arc::new(Scraped(counted)), &limits, &stop)
                        .await
                });
            }
            serving::serve(listener.into(), shared, &limits, stop).await
        });
        // Whatever is left has had its time.
        runtime.shutdown_background();
        outcome
    }

    fn shared(&self, metrics: Arc<Metrics>, report: Report) -> Shared {
        let limits = self.limits.clone();
        let pool = PoolLimits {
            requests: limits.gateway_requests,
            queue_timeout: limits.queue_timeout,
            connect_timeout: limits.connect_timeout,
            answer_timeout: limits.answer_timeout,
            idle_timeout: limits.gateway_idle_timeout,
        };
        let most = limits.requests_per_client;
        Shared {
            pool: Pool::new(self.gateway.clone(), pool),
            gateway_key: self.gateway_key,
            connections: Crowd::new(most.saturating_mul(CONNECTIONS_A_REQUEST)),
            requests: Crowd::new(most),
            metrics,
            standing: Mutex::new(Standing::Answers),
            report,
            limits,
        }
    }

    fn serving_limits(&self) -> serving::Limits {
        serving::Limits {
            connections: self.limits.connections,
            head_timeout: self.limits.head_timeout,
            write_timeout: self.limits.write_timeout,
            stop_timeout: self.limits.stop_timeout,
            ..serving::Limits::default()
        }
    }
}

type Report = Box<dyn Fn(&Event) + Send + Sync>;

/// What every connection shares.
struct Shared {
    pool: Pool,
    gateway_key: Option<KeyDigest>,
    limits: Limits,
    connections: Arc<Crowd>,
    requests: Arc<Crowd>,
    metrics: Arc<Metrics>,
    standing: Mutex<Standing>,
    report: Report,
}

/// What is known of the gateway.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    Answers,
    Fails,
    OtherKey,
}

/// A client's connection, counted.
struct Connected {
    metrics: Arc<Metrics>,
    _member: Member,
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.metrics.connection_closed();
    }
}

impl Service for Shared {
    type Content = Content;
    type Connection = Connected;

    fn opened(self: &Arc<Self>, client: SocketAddr) -> Option<Connected> {
        let Some(member) = self.connections.enter(client) else {
            self.metrics.turned_away();
            return None;
        };
        self.metrics.connection_opened();
        Some(Connected {
            metrics: Arc::clone(&self.metrics),
            _member: member,
        })
    }

    async fn answer(self: Arc<Self>, request: Request<Incoming>, client: SocketAddr) -> Reply {
        let open = self.metrics.request();
        let reply = match self.requests.enter(client) {
            Some(member) => self.relay(request).await.map(|reply| (reply, member)),
            None => Err(try_again(
                problem(429, "this client has too many requests under way"),
                RETRY_AFTER_S,
            )),
        };
        match reply {
            Ok((reply, member)) => {
                self.metrics.passed(reply.status().as_u16());
                // Under way until the last byte of the answer.
                reply.map(|content| {
                    let held = Held {
                        content,
                        _held: (open, member),
                    };
                    held.boxed_unsync()
                })
            }
            Err(reply) => {
                self.metrics.own(reply.status().as_u16());
                reply
            }
        }
    }
}

/// The content of an answer, and what is held as long as it is there.
struct Held<H> {
    content: Content,
    _held: H,
}

impl<H: Unpin> Body for Held<H> {
    type Data = Bytes;
    type Error = <Content as Body>::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Pin::new(&mut self.content).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.content.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.content.size_hint()
    }
}

impl Shared {
    /// The gateway's answer, or the relay's own.
    async fn relay(&self, request: Request<Incoming>) -> Result<Reply, Reply> {
        let gateway = self.pool.origin();
        let route = Route::of(&request, gateway).map_err(|reply| *reply)?;
        let limits = &self.limits;
        let (content, ending) = match route.kind {
            Kind::Keys | Kind::Evidence => (empty(), None),
            Kind::Whole => {
                // The gateway is not kept busy with a client that is slow.
                let body = request.into_body();
                let body = read_body(body, limits.request_bytes, limits.body_timeout).await;
                let body = body.map_err(BodyError::reply)?;
                (boxed(Full::new(body)), None)
            }
            Kind::Chunked => {
                let body = request.into_body();
                if body.size_hint().lower() > limits.request_bytes as u64 {
                    return Err(BodyError::TooLarge(limits.request_bytes).reply());
                }
                let (most, longest) = (limits.request_bytes, limits.body_timeout);
                let body = Bounded::new(body, most, longest, (), drop);
                let ending = body.ending();
                (boxed(body), Some(ending))
            }
        };
        let sent = self
            .pool
            .send(
                route.request(gateway, content),
                self.gateway_key,
                &*self.metrics,
            )
            .await;
        match sent {
            Ok((response, lease)) => {
                let reply = self.pass_back(route.kind, response, lease).await;
                match &reply {
                    Ok(_) => self.judged(Standing::Answers, || Event::GatewayAnswers),
                    Err(unfit) => self.judged(Standing::Fails, || Event::failure(unfit)),
                }
                reply.map_err(|unfit| unfit.reply())
            }
            Err(error) => Err(match ending.and_then(|ending| ending.error()) {
                Some(body) => body.reply(),
                None => {
                    if !matches!(error, UpstreamError::Busy(_)) {
                        self.failed(&error);
                    }
                    no_answer(&error)
                }
            }),
        }
    }

    async fn pass_back(
        &self,
        kind: Kind,
        response: Response<Incoming>,
        lease: Lease,
    ) -> Result<Reply, Unfit> {
        let head = Head::of(&response, kind)?;
        let body = response.into_body();
        let longest = self.limits.answer_timeout;
        let most = match (head.is_error(), kind) {
            (true, _) => MAX_ERROR_BYTES,
            (false, Kind::Chunked) => self.limits.chunked_answer_bytes,
            (false, _) => self.limits.answer_bytes,
        };
        if body.size_hint().lower() > most as u64 {
            return Err(Unfit::TooLarge(most));
        }
        if kind == Kind::Chunked && !head.is_error() {
            let content = Bounded::new(body, most, longest, lease, Lease::give_back);
            return Ok(head.with(boxed(content)));
        }
        let content = read_body(body, most, longest).await?;
        lease.give_back();
        Ok(head.with(boxed(Full::new(content))))
    }

    /// Tells when the gateway begins to fail, shows another key, or no longer does.
    fn judged(&self, standing: Standing, event: impl FnOnce() -> Event) {
        let mut known = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *known, standing);
        drop(known);
        if before != standing {
            (self.report)(&event());
        }
    }

    fn failed(&self, error: &UpstreamError) {
        match error.other_key() {
            Some(shown) => self.judged(Standing::OtherKey, || Event::GatewayKey { shown }),
            None => self.judged(Standing::Fails, || Event::failure(error)),
        }
    }
}

impl From<BodyError> for Unfit {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::TooLarge(most) => Self::TooLarge(most),
            BodyError::Broken => Self::Cut,
            BodyError::TooSlow(longest) => Self::TooSlow(longest.as_secs()),
        }
    }
}

impl Unfit {
    fn reply(&self) -> Reply {
        let status = match self {
            Self::TooSlow(_) => 504,
            _ => 502,
        };
        problem(status, format!("the gateway cannot be used: {self}"))
    }
}

fn no_answer(error: &UpstreamError) -> Reply {
    let (status, retry) = match error {
        UpstreamError::Busy(_) => (503, true),
        UpstreamError::Dial(_) | UpstreamError::Broken(_) => (502, false),
        UpstreamError::ConnectTimeout(_) | UpstreamError::AnswerTimeout(_) => (504, false),
    };
    let reply = problem(status, format!("the gateway gave no answer: {error}"));
    match retry {
        true => try_again(reply, RETRY_AFTER_S),
        false => reply,
    }
}

fn boxed<B>(body: B) -> Content
where
    B: Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + 'static,
{
    body.map_err(Into::into).boxed_unsync()
}

fn empty() -> Content {
    boxed(Empty::new())
}

/// `GET /metrics`, on a listener of its own.
struct Scraped(Arc<Metrics>);

impl Service for Scraped {
    type Content = Content;
    type Connection = ();

    fn opened(self: &Arc<Self>, _: SocketAddr) -> Option<()> {
        Some(())
    }

    async fn answer(self: Arc<Self>, request: Request<Incoming>, _: SocketAddr) -> Reply {
        match (request.uri().path(), request.method()) {
            (paths::METRICS, &Method::GET) => whole(200, METRICS_TYPE, self.0.text()),
            (paths::HEALTH, &Method::GET) => whole(200, "text/plain; charset=utf-8", "ok\n"),
            (paths::METRICS | paths::HEALTH, _) => not_allowed("GET"),
            _ => problem(404, "there is /metrics and /healthz"),
        }
    }
}
