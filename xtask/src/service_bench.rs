//! Many requests through a booted guest: none lost, none answered twice or with another's answer, and the memory is what
//! it was. Prints how long they took.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use cloister_client::{Client, ClientError, Policy};
use cloister_protocol::api::paths;
use cloister_protocol::api::summarize::{Message, Request, Style};
use serde_json::json;

use crate::cli::Outcome;
use crate::commands::CommandError;
use crate::progress::Phase;
use crate::qemu::Guest;
use crate::statistics::quantile;

/// Different texts, each with its own answer.
const TEXTS: usize = 16;
/// Most tokens of an answer.
const ANSWER_TOKENS: u32 = 8;
/// How long one request may take.
const TIMEOUT: Duration = Duration::from_secs(600);
/// The heap may be cut up a little differently from moment to moment.
const TOLERANCE_BYTES: u64 = 64 << 10;
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

/// Asks a guest.
///
/// # Errors
/// [`CommandError`] when a request is not answered, or with another's answer.
pub fn run(guest: &Guest, policy: &Policy, load: Load) -> Result<Outcome, CommandError> {
    let url = &guest.url();
    let expected = learn_answers(url, policy)?;
    let before = Figures::at_rest(guest.port())?;
    let phase = Phase::start(format!(
        "{} requests, {} at a time",
        load.requests, load.connections
    ));
    let started = Instant::now();
    let (next, times, failures) = (
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
                    times: &times,
                };
                if let Err(error) = asker.ask(url, policy) {
                    lock(&failures).push(error);
                }
            });
        }
    });
    let seconds = started.elapsed().as_secs_f64();
    phase.done("");
    if let Some(failure) = lock(&failures).pop() {
        return Err(CommandError::Failed(failure));
    }
    let after = Figures::at_rest(guest.port())?;
    Ok(report(load, &lock(&times), seconds, &before, &after))
}

type Times = BTreeMap<Kind, Vec<f64>>;

/// One client among others.
struct Asker<'a> {
    load: Load,
    expected: &'a [String],
    next: &'a AtomicUsize,
    times: &'a Mutex<Times>,
}

impl Asker<'_> {
    fn ask(&self, url: &str, policy: &Policy) -> Result<(), String> {
        let connected = Client::connect(url, TIMEOUT, policy.clone());
        let mut client = connected.map_err(|error| error.to_string())?;
        loop {
            let index = self.next.fetch_add(1, Ordering::Relaxed);
            if index >= self.load.requests {
                return Ok(());
            }
            let started = Instant::now();
            let outcome = self.one(&mut client, index);
            let kind = outcome.map_err(|error| format!("request {index}: {error}"))?;
            let ms = started.elapsed().as_secs_f64() * 1000.0;
            lock(self.times).entry(kind).or_default().push(ms);
        }
    }

    fn one(&self, client: &mut Client, index: usize) -> Result<Kind, String> {
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

fn summarize(client: &mut Client, text: usize) -> Result<String, ClientError> {
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
fn learn_answers(url: &str, policy: &Policy) -> Result<Vec<String>, CommandError> {
    let mut client = Client::connect(url, TIMEOUT, policy.clone())?;
    let answers = (0..TEXTS).map(|text| summarize(&mut client, text));
    Ok(answers.collect::<Result<_, _>>()?)
}

/// What the guest counts.
#[derive(Debug)]
struct Figures {
    finished: u64,
    cancelled: u64,
    heap_bytes: u64,
    gap_ms: u64,
}

impl Figures {
    /// When no other connection is open and no job is left.
    fn at_rest(port: u16) -> Result<Self, CommandError> {
        let started = Instant::now();
        loop {
            let text = read_metrics(port).map_err(|error| {
                CommandError::Failed(format!("cannot read the guest's /metrics: {error}"))
            })?;
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
                });
            }
            thread::sleep(Duration::from_millis(100));
        }
    }
}

fn read_metrics(port: u16) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    let path = paths::METRICS;
    let request = format!("GET {path} HTTP/1.1\r\nHost: guest\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

fn report(load: Load, times: &Times, seconds: f64, before: &Figures, after: &Figures) -> Outcome {
    let answered: usize = times.values().map(Vec::len).sum();
    let summaries = times.get(&Kind::Summary).map_or(0, Vec::len) as u64;
    let finished = after.finished - before.finished;
    let is_flat = after.heap_bytes.abs_diff(before.heap_bytes) <= TOLERANCE_BYTES;
    let success = answered == load.requests
        && finished == summaries
        && after.cancelled == before.cancelled
        && is_flat;
    let mut text = format!(
        "{answered} of {} requests answered in {seconds:.1} s, {} at a time, {:.1} a second\n\
         {finished} jobs ended for {summaries} summaries, each with the answer that its text has alone\n",
        load.requests,
        load.connections,
        answered as f64 / seconds,
    );
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
    let json = json!({
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
        }
    }

    #[test]
    fn a_run_fails_when_something_is_lost_or_done_twice_or_grows() {
        let load = Load {
            requests: 4,
            connections: 2,
            summary_every: 2,
        };
        let times = |summaries| {
            BTreeMap::from([
                (Kind::Models, vec![1.0, 2.0]),
                (Kind::Summary, vec![5.0; summaries]),
            ])
        };
        let run = |summaries, finished, heap| {
            report(
                load,
                &times(summaries),
                2.0,
                &figures(1, 1 << 20),
                &figures(finished, heap),
            )
            .success
        };
        assert!(run(2, 3, 1 << 20));
        assert!(!run(1, 2, 1 << 20), "one is lost");
        assert!(!run(2, 4, 1 << 20), "one is answered twice");
        assert!(!run(2, 3, 2 << 20), "the heap has grown");
        let text = report(load, &times(2), 2.0, &figures(1, 0), &figures(3, 0)).text;
        assert!(
            text.contains("p50 5.0 ms, p99 5.0 ms") && text.contains("2.0 a second"),
            "{text}"
        );
    }
}
