//! A gateway and a client that are nothing but bytes, and a relay between them.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use cloister_client::relay::{Event, KeyDigest, Limits, Relay, Stop};
use cloister_client::{Listener, TlsIdentity};

/// No test waits as long as this unless it fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// An encapsulated request, to a relay that does not look into it.
pub(crate) const POST: &str = "POST /.well-known/ohttp-gateway HTTP/1.1\r\n\
    host: relay.example\r\ncontent-type: message/ohttp-req\r\ncontent-length: 5\r\n\r\nhello";

/// Its answer.
pub(crate) const ANSWER: &str =
    "HTTP/1.1 200 OK\r\ncontent-type: message/ohttp-res\r\ncontent-length: 5\r\n\r\nworld";

/// All clients of a test have one address.
pub(crate) fn generous() -> Limits {
    Limits {
        requests_per_client: 0,
        ..Limits::default()
    }
}

/// What a gateway does once it has read a request.
pub(crate) enum Then {
    /// Writes this and reads the next request.
    Answer(Vec<u8>),
    /// Writes this and closes.
    Close(Vec<u8>),
    /// Does nothing until the other side closes.
    Wait,
}

/// Remembers every byte that it gets.
pub(crate) struct RawGateway {
    pub(crate) address: SocketAddr,
    /// By connection, in the order of their coming.
    received: Arc<Mutex<Vec<Vec<u8>>>>,
    /// Connections that have ended.
    ended: Arc<AtomicUsize>,
}

impl RawGateway {
    /// `answers` is asked with the number of requests before, over all connections, and the request's bytes.
    pub(crate) fn start(answers: impl Fn(usize, &[u8]) -> Then + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let gateway = Self {
            address: listener.local_addr().unwrap(),
            received: Arc::default(),
            ended: Arc::default(),
        };
        let (received, ended) = (Arc::clone(&gateway.received), Arc::clone(&gateway.ended));
        let (answers, count) = (Arc::new(answers), Arc::new(AtomicUsize::new(0)));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let index = {
                    let mut received = received.lock().unwrap();
                    received.push(Vec::new());
                    received.len() - 1
                };
                let received = Arc::clone(&received);
                let (answers, ended, count) =
                    (Arc::clone(&answers), Arc::clone(&ended), Arc::clone(&count));
                thread::spawn(move || {
                    // The relay may end it at any point.
                    let _ = converse(stream, &*answers, &count, |bytes| {
                        received.lock().unwrap()[index].extend_from_slice(bytes);
                    });
                    ended.fetch_add(1, Ordering::SeqCst);
                });
            }
        });
        gateway
    }

    pub(crate) fn answering(answer: &str) -> Self {
        let answer = answer.as_bytes().to_vec();
        Self::start(move |_, _| Then::Answer(answer.clone()))
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What came, by connection.
    pub(crate) fn received(&self) -> Vec<String> {
        let received = self.received.lock().unwrap();
        let text = |bytes: &Vec<u8>| String::from_utf8(bytes.clone()).unwrap();
        received.iter().map(text).collect()
    }

    /// Waits until so many connections have ended.
    pub(crate) fn wait_for_ends(&self, count: usize) {
        wait_until(|| self.ended.load(Ordering::SeqCst) >= count);
    }
}

fn converse(
    mut stream: TcpStream,
    answers: &(dyn Fn(usize, &[u8]) -> Then + Send + Sync),
    count: &AtomicUsize,
    mut record: impl FnMut(&[u8]),
) -> io::Result<()> {
    loop {
        let Some(request) = read_message(&mut stream, &mut record)? else {
            return Ok(());
        };
        match answers(count.fetch_add(1, Ordering::SeqCst), &request) {
            Then::Answer(bytes) => stream.write_all(&bytes)?,
            Then::Close(bytes) => {
                stream.write_all(&bytes)?;
                return stream.shutdown(Shutdown::Both);
            }
            Then::Wait => {
                let mut rest = Vec::new();
                stream.read_to_end(&mut rest)?;
                return Ok(());
            }
        }
    }
}

/// Reads a message byte by byte, so that nothing of the next one is taken. `None` where there is none.
pub(crate) fn read_message(
    stream: &mut impl Read,
    mut record: impl FnMut(&[u8]),
) -> io::Result<Option<Vec<u8>>> {
    let mut message = Vec::new();
    let mut take = |message: &mut Vec<u8>| -> io::Result<bool> {
        let mut byte = [0];
        let is_there = stream.read(&mut byte)? == 1;
        if is_there {
            record(&byte);
            message.push(byte[0]);
        }
        Ok(is_there)
    };
    while !message.ends_with(b"\r\n\r\n") {
        if !take(&mut message)? {
            return match message.is_empty() {
                true => Ok(None),
                false => Err(io::ErrorKind::UnexpectedEof.into()),
            };
        }
    }
    let head = String::from_utf8_lossy(&message).to_ascii_lowercase();
    let is_chunked = head.contains("transfer-encoding: chunked");
    let length = head
        .split("content-length: ")
        .nth(1)
        .and_then(|rest| rest.split('\r').next())
        .map_or(0, |digits| digits.parse::<usize>().unwrap());
    let end = message.len() + length;
    let is_whole = |message: &Vec<u8>| match is_chunked {
        true => message.ends_with(b"\r\n0\r\n\r\n"),
        false => message.len() == end,
    };
    while !is_whole(&message) {
        if !take(&mut message)? {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(Some(message))
}

pub(crate) fn wait_until(mut is_so: impl FnMut() -> bool) {
    let started = std::time::Instant::now();
    while !is_so() {
        assert!(started.elapsed() < PATIENCE, "it never came to that");
        thread::sleep(Duration::from_millis(2));
    }
}

/// A relay in this process.
pub(crate) struct Relaying {
    pub(crate) address: SocketAddr,
    metrics: SocketAddr,
    pub(crate) stop: Stop,
    pub(crate) events: Arc<Mutex<Vec<Event>>>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Relaying {
    pub(crate) fn start(gateway: &str, limits: Limits) -> Self {
        Self::run(Relay::new(gateway.parse().unwrap(), limits), None)
    }

    /// Before a gateway that has to have this key.
    pub(crate) fn pinned(gateway: &str, key: KeyDigest) -> Self {
        let relay = Relay::new(gateway.parse().unwrap(), generous());
        Self::run(relay.with_gateway_key(key), None)
    }

    /// Speaks TLS to its clients.
    pub(crate) fn secured(gateway: &str, limits: Limits, identity: TlsIdentity) -> Self {
        Self::run(Relay::new(gateway.parse().unwrap(), limits), Some(identity))
    }

    fn run(relay: Relay, identity: Option<TlsIdentity>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let scraped = TcpListener::bind("127.0.0.1:0").unwrap();
        let metrics = scraped.local_addr().unwrap();
        let (stop, events) = (Stop::new(), Arc::new(Mutex::new(Vec::new())));
        let (stopped, log) = (stop.clone(), Arc::clone(&events));
        let listener = Listener::new(listener, identity);
        let thread = thread::spawn(move || {
            relay.serve(listener, Some(scraped), &stopped, move |event| {
                log.lock().unwrap().push(event.clone());
            })
        });
        Self {
            address,
            metrics,
            stop,
            events,
            thread: Some(thread),
        }
    }

    pub(crate) fn before(gateway: &RawGateway) -> Self {
        Self::start(&gateway.url(), generous())
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// One request on a connection of its own, and the answer to it.
    pub(crate) fn exchange(&self, request: impl AsRef<[u8]>) -> String {
        let mut stream = self.connect();
        stream.write_all(request.as_ref()).unwrap();
        answer(&mut stream)
    }

    /// The value of a counter, or the sum of those with labels.
    pub(crate) fn counter(&self, name: &str) -> u64 {
        let mut stream = TcpStream::connect(self.metrics).unwrap();
        write!(stream, "GET /metrics HTTP/1.1\r\nhost: h\r\n\r\n").unwrap();
        let text = answer(&mut stream);
        let lines = text
            .lines()
            .filter(|line| line.split(['{', ' ']).next() == Some(name));
        let values: Vec<u64> = lines
            .map(|line| line.rsplit(' ').next().unwrap().parse().unwrap())
            .collect();
        assert!(!values.is_empty(), "{name} is counted: {text}");
        values.iter().sum()
    }

    /// Stops it, and waits until it has.
    pub(crate) fn end(mut self) {
        self.stop.stop();
        let thread = self.thread.take().unwrap();
        thread.join().unwrap().unwrap();
    }
}

impl Drop for Relaying {
    fn drop(&mut self) {
        self.stop.stop();
    }
}

/// The next answer, with the date left out.
pub(crate) fn answer(stream: &mut TcpStream) -> String {
    let message = read_message(stream, |_| ()).expect("a whole answer");
    undated(&message.expect("an answer"))
}

/// The text with `D` for the date.
pub(crate) fn undated(message: &[u8]) -> String {
    let text = String::from_utf8_lossy(message).into_owned();
    let Some(at) = text.find("\r\ndate: ") else {
        return text;
    };
    let (before, rest) = text.split_at(at + "\r\ndate: ".len());
    let (date, after) = rest.split_at(rest.find('\r').unwrap());
    assert!(date.len() == 29 && date.ends_with(" GMT"), "{date}");
    format!("{before}D{after}")
}

/// Status of an answer, and the detail of the problem document in it.
pub(crate) fn refusal(answer: &str) -> (u16, String) {
    let status = answer[9..12].parse().unwrap();
    assert!(
        answer.contains("content-type: application/problem+json\r\n"),
        "{answer}"
    );
    let body = answer.split_once("\r\n\r\n").unwrap().1;
    let problem: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!(problem["status"], status, "{answer}");
    (status, problem["detail"].as_str().unwrap().to_owned())
}
