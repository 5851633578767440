//! The loop's turn: places of the network, connections in them, requests, jobs, answers.

use alloc::vec::Vec;
use cloister_protocol::api::problem::Problem;
use cloister_protocol::api::{media, summarize};
use cloister_protocol::bhttp;
use cloister_protocol::ohttp::ResponseSealer;
use rand_core::TryRng;

use super::gate::{Admitted, Gate};
use super::generator::{Generator, Task};
use super::inner::{self, Wanted};
use super::jobs::{Event, Jobs, News, Ticket};
use super::keys::{Attester, Keys, Lifetime};
use super::metrics::{Gauges, Metrics};
use super::outer::{self, Rules};
use super::reply::Reply;
use super::stream::Stream;
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
    /// Bounds of a request for a text; the other kinds have the same where they have such fields.
    pub summarize: summarize::Limits,
    /// Unix time of the guest's start in seconds, or 0.
    pub start_s: u64,
    /// How long keys are good.
    pub keys: Lifetime,
    /// What shows which program holds the keys.
    pub attester: Attester,
    /// Who is let in.
    pub gate: Gate,
    /// Bytes of the heap that are in use.
    pub heap_used: fn() -> usize,
}

/// All state of the service.
pub struct Server<G: Generator> {
    settings: Settings,
    generator: Option<G>,
    rng: Drbg,
    keys: Keys,
    jobs: Jobs<G::Job>,
    metrics: Metrics,
    clients: Vec<Option<Client>>,
    next_ticket: u64,
    /// When the network was last served, in microseconds since the start.
    network_served_us: Option<u64>,
    /// Whether a request, a job, a connection or an epoch has ended.
    has_traces: bool,
    /// Bytes of the heap in use when no job was there last. What jobs take tells how long their texts are.
    heap_at_rest: usize,
}

struct Client {
    ticket: Ticket,
    connection: Connection,
    /// The answer that is being made, and how it will leave.
    pending: Option<Pending>,
}

/// An answer that is not complete.
enum Pending {
    /// It leaves as a whole.
    Whole(ResponseSealer, Reply),
    /// It leaves in records. Without a reply, all of it waits in the stream.
    Records(Stream, Option<Reply>),
}

impl<G: Generator> Server<G> {
    /// A server with fresh keys, for a network with so many `places`.
    pub fn new(
        settings: Settings,
        generator: Option<G>,
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
            generator,
            rng,
            keys,
            jobs: Jobs::default(),
            metrics: Metrics::default(),
            clients: (0..places).map(|_| None).collect(),
            next_ticket: 0,
            network_served_us: None,
            has_traces: true,
            heap_at_rest: 0,
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
        self.has_traces |= self.keys.tick(&mut self.rng, now_ms);
        if self.jobs.count() == 0 {
            self.heap_at_rest = (self.settings.heap_used)();
        }
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
        if let Some(generator) = &mut self.generator {
            for news in self.jobs.step(generator) {
                self.tell(news, now_ms);
            }
        }
        self.jobs.count() > 0
    }

    /// Whether something has ended since the last call that may have left traces on the stack: to be wiped.
    pub fn take_traces(&mut self) -> bool {
        core::mem::take(&mut self.has_traces)
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
        self.has_traces = true;
        if self.jobs.cancel(client.ticket, self.generator.as_mut()) {
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
        if let Some(request) = connection.take_request() {
            self.handle(&mut client, request, now_ms);
        }
        self.has_traces |= pump(&mut client, now_ms);
        let connection = &mut client.connection;
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
            pending: None,
        }
    }

    /// Connections that may still bring requests; those that are being parted from need no room.
    fn connections(&self) -> usize {
        let clients = self.clients.iter().flatten();
        clients
            .filter(|client| !client.connection.is_finishing())
            .count()
    }

    /// Answers a request, or makes it a job.
    fn handle(&mut self, client: &mut Client, request: http::Request, now_ms: u64) {
        let http::Request { head, body } = request;
        let metrics = || self.metrics_text(now_ms).into_bytes();
        if let Some(response) = outer::read(&head, &self.keys, now_ms, metrics) {
            return client.connection.respond(&response, now_ms);
        }
        self.has_traces = true;
        let outcome = if head.content_type.as_deref() == Some(media::OHTTP_CHUNKED_REQUEST) {
            let opened = self.keys.decapsulate_chunked(&body);
            opened.map(|(message, key)| {
                let (nonce, stream) = Stream::begin(key, &mut self.rng, now_ms);
                let media_type = media::OHTTP_CHUNKED_RESPONSE;
                client.connection.respond_in_pieces(media_type, now_ms);
                client.connection.push_piece(&nonce);
                (message, Way::Records(stream))
            })
        } else {
            let opened = self.keys.decapsulate(&body);
            opened.map(|(message, sealer)| (message, Way::Whole(sealer)))
        };
        drop(body);
        let (message, way) = match outcome {
            Ok(opened) => opened,
            Err(error) => {
                let response = outer::answer_problem(&Problem::from(error));
                return client.connection.respond(&response, now_ms);
            }
        };
        let model = self.generator.as_ref().map(G::model);
        let Settings {
            summarize, gate, ..
        } = &mut self.settings;
        gate.tick(&mut self.rng, now_ms);
        match inner::read(&message, model, summarize, gate) {
            Wanted::Answer(answer) => {
                self.metrics.tokens_refused += u64::from(answer.status == 401);
                self.respond(client, way, &answer, now_ms);
            }
            Wanted::Task(task, admitted) => self.queue(client, way, task, admitted, now_ms),
        }
    }

    fn queue(
        &mut self,
        client: &mut Client,
        way: Way,
        mut task: Task,
        admitted: Admitted,
        now_ms: u64,
    ) {
        // A request that finds no place costs nothing.
        if !self.jobs.is_full()
            && let Err(refusal) = self.settings.gate.spend(admitted)
        {
            self.metrics.tokens_refused += 1;
            return self.respond(client, way, &refusal, now_ms);
        }
        if let Task::Chat(request) = &mut task {
            let seed = self.random();
            request.seed.get_or_insert(seed);
        }
        let number = self.random();
        let model = self.generator.as_ref().map(G::model);
        let model = model.map_or("", |model| model.name);
        let created_s = self.settings.start_s + now_ms / 1000;
        let reply = Reply::new(&task, model, number, created_s);
        if self.jobs.push(client.ticket, task) {
            self.metrics.jobs_queued += 1;
            client.pending = Some(match way {
                Way::Whole(sealer) => Pending::Whole(sealer, reply),
                Way::Records(stream) => Pending::Records(stream, Some(reply)),
            });
            return;
        }
        self.metrics.jobs_refused += 1;
        let detail = "too many requests are waiting; try again soon";
        let problem = Problem::from_status(429).with_detail(detail).with_error();
        self.respond(client, way, &inner::answer_problem(&problem), now_ms);
    }

    fn random(&mut self) -> u64 {
        let Ok(number) = self.rng.try_next_u64();
        number
    }

    /// Gives an answer that is complete.
    fn respond(&mut self, client: &mut Client, way: Way, answer: &bhttp::Response, now_ms: u64) {
        match way {
            Way::Whole(sealer) => {
                let response = seal(sealer, answer, &mut self.rng);
                client.connection.respond(&response, now_ms);
            }
            Way::Records(mut stream) => {
                let message = answer.encode().expect("our status codes are ones");
                stream.say_all(&message);
                client.pending = Some(Pending::Records(stream, None));
            }
        }
    }

    /// Hands what has come of a job to its client, if that is still there.
    fn tell(&mut self, news: News, now_ms: u64) {
        let is_end = matches!(news.event, Event::Ended(_));
        self.metrics.jobs_finished += u64::from(is_end);
        self.has_traces |= is_end;
        let mut clients = self.clients.iter_mut().flatten();
        let Some(client) = clients.find(|client| client.ticket == news.ticket) else {
            return;
        };
        let (Some(Pending::Whole(_, reply)) | Some(Pending::Records(_, Some(reply)))) =
            &mut client.pending
        else {
            return;
        };
        match news.event {
            Event::Text(piece) => reply.say(&piece),
            Event::Ended(outcome) => reply.end(outcome),
        }
        // What leaves in records leaves at its time.
        if is_end
            && let Some(Pending::Whole(sealer, reply)) = client
                .pending
                .take_if(|pending| matches!(pending, Pending::Whole(..)))
        {
            let sealed = seal(sealer, &reply.into_response(), &mut self.rng);
            client.connection.respond(&sealed, now_ms);
        }
    }

    fn metrics_text(&self, now_ms: u64) -> alloc::string::String {
        // The client that asks is being served, and so is not in the table at this moment.
        let connections = self.connections() + 1;
        self.metrics.to_text(&Gauges {
            uptime_ms: now_ms,
            connections,
            jobs_running: self.jobs.running(),
            jobs_waiting: self.jobs.waiting(),
            heap_used_bytes: self.heap_at_rest,
        })
    }
}

/// How an answer leaves.
enum Way {
    Whole(ResponseSealer),
    Records(Stream),
}

/// Pads and seals an inner answer. One that is too long for any padding becomes a problem inside.
fn seal(sealer: ResponseSealer, answer: &bhttp::Response, rng: &mut Drbg) -> Response {
    let padded = answer.encode_padded().unwrap_or_else(|_| {
        let problem = Problem::from_status(500).with_detail("the answer is too long");
        inner::answer_problem(&problem)
            .encode_padded()
            .expect("a short answer fits a bucket")
    });
    Response::ok(media::OHTTP_RESPONSE, sealer.seal(rng, &padded))
}

/// Sends the record that is due, if one is. Returns whether it was the last one.
fn pump(client: &mut Client, now_ms: u64) -> bool {
    let is_due = |pending: &mut Pending| matches!(pending, Pending::Records(stream, _) if stream.is_due(now_ms));
    let Some(Pending::Records(mut stream, mut reply)) = client.pending.take_if(is_due) else {
        return false;
    };
    if let (Some(writer), Some(waiting)) = (&mut reply, stream.wanting())
        && writer.write(waiting)
    {
        stream.complete();
    }
    let (record, goes_on) = stream.next_record(now_ms);
    client.connection.push_piece(&record);
    let is_last = goes_on.is_none();
    match goes_on {
        Some(stream) => client.pending = Some(Pending::Records(stream, reply)),
        None => client.connection.end_pieces(now_ms),
    }
    is_last
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
