//! The loop's turn: places of the network, connections in them, requests, jobs, answers.

use alloc::vec::Vec;
use cloister_protocol::api::problem::Problem;
use cloister_protocol::api::{media, summarize};
use cloister_protocol::bhttp;
use cloister_protocol::ohttp::ResponseSealer;

use super::inner::{self, Wanted};
use super::jobs::{Ended, Jobs, Ticket};
use super::keys::{Attester, Keys, Lifetime};
use super::metrics::{Gauges, Metrics};
use super::outer::{self, Rules};
use super::summarizer::Summarizer;
use crate::entropy::Drbg;
use crate::http::{self, Connection, Response, Status, Wish};
use crate::net::{SocketState, Sockets};

/// Places beyond the limit of connections, where a client is told that there are too many.
pub const OVERFLOW_PLACES: usize = 8;
/// Seconds after which a client that found no room may try again.
const RETRY_AFTER_S: u32 = 5;

/// What the server is told at its start.
pub struct Settings {
    /// Connections served at one time.
    pub connections: usize,
    /// Largest message inside the encapsulation.
    pub request_bytes: usize,
    /// Bounds of a connection.
    pub http: http::Limits,
    /// Bounds of a request for a summary.
    pub summarize: summarize::Limits,
    /// Unix time of the guest's start in seconds, or 0.
    pub start_s: u64,
    /// How long keys are good.
    pub keys: Lifetime,
    /// What shows which program holds the keys.
    pub attester: Attester,
    /// Bytes of the heap that are in use.
    pub heap_used: fn() -> usize,
}

/// All state of the service.
pub struct Server<S: Summarizer> {
    settings: Settings,
    summarizer: Option<S>,
    rng: Drbg,
    keys: Keys,
    jobs: Jobs<S::Job>,
    metrics: Metrics,
    clients: Vec<Option<Client>>,
    next_ticket: u64,
    /// When the network was last served, in microseconds since the start.
    network_served_us: Option<u64>,
}

struct Client {
    ticket: Ticket,
    connection: Connection,
}

impl<S: Summarizer> Server<S> {
    /// A server with fresh keys, for a network with so many `places`.
    pub fn new(
        settings: Settings,
        summarizer: Option<S>,
        mut rng: Drbg,
        places: usize,
        now_ms: u64,
    ) -> Self {
        let keys = Keys::new(
            &mut rng,
            settings.start_s,
            now_ms,
            settings.keys,
            settings.attester.clone(),
        );
        Self {
            settings,
            summarizer,
            rng,
            keys,
            jobs: Jobs::default(),
            metrics: Metrics::default(),
            clients: (0..places).map(|_| None).collect(),
            next_ticket: 0,
            network_served_us: None,
        }
    }

    /// Counts the time since the network was last served: to be called whenever it is.
    pub fn network_served(&mut self, now_us: u64) {
        if let Some(before_us) = self.network_served_us.replace(now_us) {
            let gap_us = now_us.saturating_sub(before_us);
            self.metrics.poll_gap_us_max = self.metrics.poll_gap_us_max.max(gap_us);
        }
    }

    /// Serves every place once and advances the engine by one step. Returns whether a job is at work.
    pub fn turn(&mut self, sockets: &mut impl Sockets, now_ms: u64) -> bool {
        self.keys.tick(&mut self.rng, now_ms);
        for place in 0..self.clients.len() {
            match sockets.state(place) {
                SocketState::Free => self.forget(place),
                SocketState::Ended => {
                    self.forget(place);
                    sockets.release(place);
                }
                SocketState::Open { .. } => self.serve(place, sockets, now_ms),
            }
        }
        self.advance(now_ms)
    }

    /// Advances the engine by one step. Returns whether a job is at work.
    pub fn advance(&mut self, now_ms: u64) -> bool {
        if let Some(summarizer) = &mut self.summarizer {
            for ended in self.jobs.step(summarizer) {
                self.answer(ended, now_ms);
            }
        }
        self.jobs.count() > 0
    }

    /// Counters since the start.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Drops a client that has left, with its job.
    fn forget(&mut self, place: usize) {
        let Some(client) = self.clients[place].take() else {
            return;
        };
        if self.jobs.cancel(client.ticket, self.summarizer.as_mut()) {
            self.metrics.jobs_cancelled += 1;
        }
    }

    fn serve(&mut self, place: usize, sockets: &mut impl Sockets, now_ms: u64) {
        let mut client = match self.clients[place].take() {
            Some(client) => client,
            None => self.welcome(now_ms),
        };
        let connection = &mut client.connection;
        connection.tick(now_ms);
        let rules = Rules {
            request_bytes: self.settings.request_bytes,
        };
        sockets.receive(place, &mut |bytes| {
            connection.receive(bytes, &rules, now_ms)
        });
        if let Some(request) = connection.take_request()
            && let Some(response) = self.handle(client.ticket, request, now_ms)
        {
            connection.respond(&response, now_ms);
        }
        if let Some(status) = connection.take_answered() {
            self.metrics.count_answer(status);
        }
        let wish = write_out(connection, place, sockets, now_ms);
        self.clients[place] = Some(client);
        match wish {
            Wish::Open => {}
            Wish::CloseWrite => sockets.close_write(place),
            Wish::Cut => {
                self.forget(place);
                sockets.release(place);
            }
        }
    }

    /// A client at a place that was free: served, or told that there is no room.
    fn welcome(&mut self, now_ms: u64) -> Client {
        let mut connection = Connection::new(self.settings.http, now_ms);
        if self.connections() < self.settings.connections {
            self.metrics.connections += 1;
        } else {
            self.metrics.connections_refused += 1;
            let detail = "There are too many connections; try again soon.";
            let response = Response::problem(Status::ServiceUnavailable, detail);
            let retry_after_s = Some(RETRY_AFTER_S);
            connection.refuse(
                Response {
                    retry_after_s,
                    ..response
                },
                now_ms,
            );
        }
        self.next_ticket += 1;
        Client {
            ticket: Ticket(self.next_ticket),
            connection,
        }
    }

    /// Connections that may still bring requests; those that are being parted from need no room.
    fn connections(&self) -> usize {
        let clients = self.clients.iter().flatten();
        clients
            .filter(|client| !client.connection.is_finishing())
            .count()
    }

    /// The answer to a request, unless it has become a job.
    fn handle(&mut self, ticket: Ticket, request: http::Request, now_ms: u64) -> Option<Response> {
        let http::Request { head, body } = request;
        let metrics = || self.metrics_text(now_ms).into_bytes();
        let read = outer::read(&head, &self.keys, now_ms, metrics);
        if read.is_some() {
            return read;
        }
        let (message, sealer) = match self.keys.decapsulate(&body) {
            Ok(opened) => opened,
            Err(error) => return Some(outer::answer_problem(&Problem::from(error))),
        };
        drop(body);
        let model = self.summarizer.as_ref().map(S::model);
        match inner::read(&message, model, &self.settings.summarize) {
            Wanted::Answer(answer) => Some(self.seal(sealer, &answer)),
            Wanted::Summary(request) => self.queue(ticket, sealer, request),
        }
    }

    fn queue(
        &mut self,
        ticket: Ticket,
        sealer: ResponseSealer,
        request: summarize::Request,
    ) -> Option<Response> {
        match self.jobs.push(ticket, sealer, request) {
            Ok(()) => {
                self.metrics.jobs_queued += 1;
                None
            }
            Err(sealer) => {
                self.metrics.jobs_refused += 1;
                let detail = "too many summaries are waiting; try again soon";
                let problem = Problem::from_status(429).with_detail(detail);
                Some(self.seal(sealer, &inner::answer_problem(&problem)))
            }
        }
    }

    /// Seals the outcome of a job and hands it to the client, if that is still there.
    fn answer(&mut self, ended: Ended, now_ms: u64) {
        self.metrics.jobs_finished += 1;
        let answer = match &ended.outcome {
            Ok(summary) => inner::answer_summary(summary),
            Err(problem) => inner::answer_problem(problem),
        };
        let response = self.seal(ended.sealer, &answer);
        let mut clients = self.clients.iter_mut().flatten();
        if let Some(client) = clients.find(|client| client.ticket == ended.ticket) {
            client.connection.respond(&response, now_ms);
        }
    }

    /// Pads and seals an inner answer. One that is too long for any padding becomes a problem inside.
    fn seal(&mut self, sealer: ResponseSealer, answer: &bhttp::Response) -> Response {
        let padded = answer.encode_padded().unwrap_or_else(|_| {
            let problem = Problem::from_status(500).with_detail("the answer is too long");
            inner::answer_problem(&problem)
                .encode_padded()
                .expect("a short answer fits a bucket")
        });
        Response::ok(media::OHTTP_RESPONSE, sealer.seal(&mut self.rng, &padded))
    }

    fn metrics_text(&self, now_ms: u64) -> alloc::string::String {
        // The client that asks is being served, and so is not in the table at this moment.
        let connections = self.connections() + 1;
        let heap_used_bytes = (self.settings.heap_used)();
        self.metrics.to_text(&Gauges {
            uptime_ms: now_ms,
            connections,
            jobs_running: self.jobs.running(),
            jobs_waiting: self.jobs.waiting(),
            heap_used_bytes,
        })
    }
}

/// Hands over what the connection has to say; returns what it wishes then.
fn write_out(
    connection: &mut Connection,
    place: usize,
    sockets: &mut impl Sockets,
    now_ms: u64,
) -> Wish {
    if let SocketState::Open {
        peer_finished: true,
        has_unread,
        ..
    } = sockets.state(place)
    {
        connection.peer_finished(has_unread, now_ms);
    }
    if !connection.output().is_empty() {
        let sent = sockets.send(place, connection.output());
        connection.sent(sent, now_ms);
    }
    if let SocketState::Open { all_sent: true, .. } = sockets.state(place) {
        connection.delivered(now_ms);
    }
    connection.wish()
}
