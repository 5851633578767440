//! Many requests through a booted guest: none lost, none answered twice or with another's answer, and the memory is what
//! it was. Prints how long they took.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use cloister_client::tokens::PurseError;
use cloister_client::{Client, ClientError, Policy, Way};
use cloister_protocol::api::summarize::{Message, Request, Style};
use serde_json::json;

use crate::cli::Outcome;
use crate::commands::CommandError;
use crate::engine_bench::worker::memory;
use crate::local_issuer::LocalIssuer;
use crate::progress::Phase;
use crate::statistics::quantile;

/// Different texts, each with its own answer.
const TEXTS: usize = 16;
/// Most tokens of an answer.
const ANSWER_TOKENS: u32 = 8;
/// How long one request may take.
const TIMEOUT: Duration = Duration::from_secs(600);
/// The heap may be cut up a little differently from moment to moment.
const TOLERANCE_BYTES: u64 = 64 << 10;
/// By so much this program, with its clients and its relay, may grow in the second half of a run.
const OWN_TOLERANCE_BYTES: u64 = 4 << 20;
/// Tokens that a client gets from the issuer at one time.
const TOKEN_BATCH: usize = 10;
/// How long the guest may take to come to rest.
const REST: Duration = Duration::from_secs(60);

/// What is asked, and how.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Requests in all.
    pub requests: usize,
    /// Clients that ask at the same time, one request after the other.
    pub connections: usize,
    /// Every so many requests one is for a summary; the others list the models. All are sealed and opened.
    pub summary_every: usize,
}

/// What a request was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Models,
    Summary,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Models => "models",
            Self::Summary => "summary",
        }
    }
}

/// Where clients ask, and what they accept.
struct Service<'a> {
    way: &'a Way,
    policy: &'a Policy,
    issuer: Option<&'a LocalIssuer>,
}

impl Service<'_> {
    /// A client that can ask. What more it needs to be let in, it gets here.
    fn client(&self) -> Result<Client, ClientError> {
        let client = Client::connect_by(self.way, TIMEOUT, self.policy.clone())?;
        match self.issuer {
            Some(issuer) => {
                let purse = issuer.purse(TOKEN_BATCH).map_err(PurseError::from)?;
                Ok(client.with_tokens(purse))
            }
            None => Ok(client),
        }
    }

    /// That nobody is served without a token, where the image names an issuer.
    fn check_gate(&self) -> Result<(), CommandError> {
        if self.issuer.is_none() {
            return Ok(());
        }
        let client = Client::connect_by(self.way, TIMEOUT, self.policy.clone())?;
        match summarize(&client, 0) {
            Err(ClientError::Tokens(PurseError::None { .. })) => Ok(()),
            Err(error) => Err(error.into()),
            Ok(_) => Err(CommandError::Failed(
                "the guest serves a client that has no token".to_owned(),
            )),
        }
    }

    /// Tokens that were issued so far, where there are any.
    fn issued(&self) -> Option<usize> {
        self.issuer.map(LocalIssuer::issued)
    }

    /// A client for what relays do not pass on.
    fn direct_client(&self) -> Result<Client, ClientError> {
        Client::connect(&self.way.server, TIMEOUT, self.policy.clone())
    }
}

/// Asks a guest, with tokens of this issuer if it is given.
///
/// # Errors
/// [`CommandError`] when a request is not answered, or with another's answer.
pub fn run(
    way: &Way,
    policy: &Policy,
    issuer: Option<&LocalIssuer>,
    load: Load,
) -> Result<Outcome, CommandError> {
    let service = &Service {
        way,
        policy,
        issuer,
    };
    service.check_gate()?;
    let expected = learn_answers(service)?;
    let before = Figures::at_rest(service)?;
    let issued_before = service.issued();
    let phase = Phase::start(format!(
        "{} requests, {} at a time",
        load.requests, load.connections
    ));
    let started = Instant::now();
    let (next, tally, failures) = (
        AtomicUsize::new(0),
        Mutex::default(),
        Mutex::new(Vec::new()),
    );
    thread::scope(|scope| {
        for _ in 0..load.connections {
            scope.spawn(|| {
                let asker = Asker {
                    load,
                    expected: &expected,
                    next: &next,
                    tally: &tally,
                };
                if let Err(error) = asker.ask(service) {
                    lock(&failures).push(error);
                }
            });
        }
    });
    let seconds = started.elapsed().as_secs_f64();
    lock(&tally).own_bytes_at_end = own_bytes();
    lock(&tally).issued = service
        .issued()
        .zip(issued_before)
        .map(|(now, before)| now - before);
    phase.done("");
    if let Some(failure) = lock(&failures).pop() {
        return Err(CommandError::Failed(failure));
    }
    let after = Figures::at_rest(service)?;
    Ok(report(load, &lock(&tally), seconds, &before, &after))
}

/// What the clients count together.
#[derive(Debug, Default)]
struct Tally {
    /// Milliseconds of each request.
    times: BTreeMap<Kind, Vec<f64>>,
    /// How often a client fetched new keys, and judged the evidence for them, since its own were gone.
    renewals: usize,
    /// Tokens that were issued for the requests; nothing where none are needed.
    issued: Option<usize>,
    /// Memory of this program after half of the requests and at the end; nothing if the system does not tell.
    own_bytes_at_half: Option<u64>,
    own_bytes_at_end: Option<u64>,
}

/// Memory that this program has resident.
fn own_bytes() -> Option<u64> {
    memory().ok().map(|memory| memory.resident_bytes)
}

/// One client among others.
struct Asker<'a> {
    load: Load,
    expected: &'a [String],
    next: &'a AtomicUsize,
    tally: &'a Mutex<Tally>,
}

impl Asker<'_> {
    fn ask(&self, service: &Service<'_>) -> Result<(), String> {
        let client = service.client().map_err(|error| error.to_string())?;
        let mut keys = client.attestation();
        loop {
            let index = self.next.fetch_add(1, Ordering::Relaxed);
            if index >= self.load.requests {
                return Ok(());
            }
            let started = Instant::now();
            let outcome = self.one(&client, index);
            let kind = outcome.map_err(|error| format!("request {index}: {error}"))?;
            let ms = started.elapsed().as_secs_f64() * 1000.0;
            let keys_now = client.attestation();
            let mut tally = lock(self.tally);
            tally.times.entry(kind).or_default().push(ms);
            tally.renewals += usize::from(!Arc::ptr_eq(&keys, &keys_now));
            if index == self.load.requests / 2 {
                tally.own_bytes_at_half = own_bytes();
            }
            keys = keys_now;
        }
    }

    fn one(&self, client: &Client, index: usize) -> Result<Kind, String> {
        if !index.is_multiple_of(self.load.summary_every) {
            return client
                .models()
                .map(|_| Kind::Models)
                .map_err(|error| error.to_string());
        }
        let text = index / self.load.summary_every % TEXTS;
        let answer = summarize(client, text).map_err(|error| error.to_string())?;
        match answer == self.expected[text] {
            true => Ok(Kind::Summary),
            false => Err(format!("the answer is another's: {answer}")),
        }
    }
}

fn summarize(client: &Client, text: usize) -> Result<String, ClientError> {
    let text = format!("Message {text}: {}", "the launch moves. ".repeat(text));
    let request = Request {
        messages: vec![Message::new("Ana", text)],
        style: Style::Headline,
        max_tokens: Some(ANSWER_TOKENS),
    };
    client
        .summarize(&request)
        .map(|response| response.summary.clone())
}

/// Each answer, asked for alone.
fn learn_answers(service: &Service<'_>) -> Result<Vec<String>, CommandError> {
    let client = service.client()?;
    let answers = (0..TEXTS).map(|text| summarize(&client, text));
    Ok(answers.collect::<Result<_, _>>()?)
}

/// What the guest counts.
#[derive(Debug)]
struct Figures {
    finished: u64,
    cancelled: u64,
    heap_bytes: u64,
    gap_ms: u64,
    tokens_refused: u64,
}

impl Figures {
    /// When no other connection is open and no job is left.
    fn at_rest(service: &Service<'_>) -> Result<Self, CommandError> {
        let client = service.direct_client()?;
        let started = Instant::now();
        loop {
            let text = client.metrics()?;
            let figure = |name: &str| {
                let line = text
                    .lines()
                    .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
                line.and_then(|value| value.parse().ok())
                    .unwrap_or_default()
            };
            let is_at_rest = figure("cloister_connections") == 1 && figure("cloister_jobs") == 0;
            if is_at_rest || started.elapsed() > REST {
                return Ok(Self {
                    finished: figure("cloister_jobs_finished_total"),
                    cancelled: figure("cloister_jobs_cancelled_total"),
                    heap_bytes: figure("cloister_heap_used_bytes"),
                    gap_ms: figure("cloister_poll_gap_ms_max"),
                    tokens_refused: figure("cloister_tokens_refused_total"),
                });
            }
            thread::sleep(Duration::from_millis(100));
        }
    }
}

fn report(load: Load, tally: &Tally, seconds: f64, before: &Figures, after: &Figures) -> Outcome {
    let times = &tally.times;
    let answered: usize = times.values().map(Vec::len).sum();
    let summaries = times.get(&Kind::Summary).map_or(0, Vec::len) as u64;
    let finished = after.finished - before.finished;
    let is_flat = after.heap_bytes.abs_diff(before.heap_bytes) <= TOLERANCE_BYTES;
    let refused = after.tokens_refused - before.tokens_refused;
    let paid = tally
        .issued
        .is_none_or(|issued| are_paid(summaries, issued as u64, refused));
    let success = answered == load.requests
        && finished == summaries
        && after.cancelled == before.cancelled
        && is_flat
        && paid
        && own_is_flat(tally);
    let mut text = format!(
        "{answered} of {} requests answered in {seconds:.1} s, {} at a time, {:.1} a second\n\
         {finished} jobs ended for {summaries} summaries, each with the answer that its text has alone\n\
         {} times a client had keys that were gone, and got new ones\n",
        load.requests,
        load.connections,
        answered as f64 / seconds,
        tally.renewals,
    );
    if let Some(issued) = tally.issued {
        text += &format!(
            "{issued} tokens issued, for {summaries} summaries; {refused} requests had none yet, and every token was taken \
             once ({})\n",
            if paid { "right" } else { "WRONG" },
        );
    }
    let mut kinds = Vec::new();
    for (kind, times) in times {
        let of = |part| quantile(times, part).unwrap_or_default();
        let (p50, p99, most) = (of(0.5), of(0.99), of(1.0));
        text += &format!(
            "  {:8} {:6} requests: p50 {p50:.1} ms, p99 {p99:.1} ms, longest {most:.1} ms\n",
            kind.name(),
            times.len(),
        );
        kinds.push(json!({ "kind": kind.name(), "requests": times.len(), "p50_ms": p50, "p99_ms": p99, "max_ms": most }));
    }
    text += &format!(
        "heap: {} bytes before, {} after ({}); the network was served every {} ms at least\n",
        before.heap_bytes,
        after.heap_bytes,
        if is_flat { "flat" } else { "NOT FLAT" },
        after.gap_ms,
    );
    if let (Some(half), Some(end)) = (tally.own_bytes_at_half, tally.own_bytes_at_end) {
        text += &format!(
            "this program with its clients, and its relay if there is one: {} KiB after half of the requests, {} at the \
             end ({})\n",
            half >> 10,
            end >> 10,
            if own_is_flat(tally) {
                "flat"
            } else {
                "NOT FLAT"
            },
        );
    }
    let json = json!({
        "tokens_issued": tally.issued, "tokens_refused": refused,
        "renewals": tally.renewals, "own_bytes_at_half": tally.own_bytes_at_half, "own_bytes_at_end": tally.own_bytes_at_end,
        "requests": load.requests, "connections": load.connections, "answered": answered, "seconds": seconds,
        "kinds": kinds, "jobs_finished": finished, "heap_before_bytes": before.heap_bytes,
        "heap_after_bytes": after.heap_bytes, "poll_gap_ms_max": after.gap_ms,
    });
    Outcome {
        text,
        json,
        success,
    }
}

/// Whether each summary has cost a token, and none was refused: requests are refused only when they have none, and then a
/// batch is issued.
fn are_paid(summaries: u64, issued: u64, refused: u64) -> bool {
    issued >= summaries && refused * TOKEN_BATCH as u64 == issued
}

fn own_is_flat(tally: &Tally) -> bool {
    match (tally.own_bytes_at_half, tally.own_bytes_at_end) {
        (Some(half), Some(end)) => end <= half + OWN_TOLERANCE_BYTES,
        _ => true,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(finished: u64, heap_bytes: u64) -> Figures {
        Figures {
            finished,
            cancelled: 3,
            heap_bytes,
            gap_ms: 7,
            tokens_refused: finished,
        }
    }

    #[test]
    fn a_run_fails_when_something_is_lost_or_done_twice_or_grows() {
        let load = Load {
            requests: 4,
            connections: 2,
            summary_every: 2,
        };
        let tally = |summaries, own_bytes_at_end| Tally {
            times: BTreeMap::from([
                (Kind::Models, vec![1.0, 2.0]),
                (Kind::Summary, vec![5.0; summaries]),
            ]),
            renewals: 9,
            issued: None,
            own_bytes_at_half: Some(50 << 20),
            own_bytes_at_end: Some(own_bytes_at_end),
        };
        let of = |tally: &Tally, finished, heap| {
            let (before, after) = (figures(1, 1 << 20), figures(finished, heap));
            report(load, tally, 2.0, &before, &after)
        };
        let run =
            |summaries, finished, heap| of(&tally(summaries, 51 << 20), finished, heap).success;
        assert!(run(2, 3, 1 << 20));
        assert!(!run(1, 2, 1 << 20), "one is lost");
        assert!(!run(2, 4, 1 << 20), "one is answered twice");
        assert!(!run(2, 3, 2 << 20), "the heap has grown");
        let grown = of(&tally(2, 60 << 20), 3, 1 << 20);
        assert!(!grown.success, "this program has grown");
        assert!(
            grown.text.contains("61440 at the end (NOT FLAT)"),
            "{}",
            grown.text
        );
        let paid = of(
            &Tally {
                issued: Some(20),
                ..tally(2, 51 << 20)
            },
            3,
            1 << 20,
        );
        assert!(paid.success, "{}", paid.text);
        assert!(!are_paid(2, 0, 0), "a summary was made without a token");
        assert!(!are_paid(11, 10, 1), "one was spent twice");
        assert!(!are_paid(2, 10, 2), "a token was refused");
        let text = of(&tally(2, 51 << 20), 3, 1 << 20).text;
        assert!(text.contains("9 times a client had keys"), "{text}");
        assert!(
            text.contains("p50 5.0 ms, p99 5.0 ms") && text.contains("2.0 a second"),
            "{text}"
        );
    }
}
