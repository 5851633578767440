use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};

use super::reply::{self, Content, Reply};
use super::*;

/// Answers with so many bytes, or after the client has left, and counts.
#[derive(Default)]
struct Counting {
    opened: AtomicUsize,
    closed: AtomicUsize,
}

impl Service for Counting {
    type Content = Content;

    async fn answer(self: Arc<Self>, request: Request<Incoming>, _: SocketAddr) -> Reply {
        if request.uri().path() == "/never" {
            std::future::pending::<()>().await;
        }
        let bytes = request.uri().path()[1..].parse().unwrap_or(0);
        reply::whole(200, "text/plain", vec![b'x'; bytes])
    }

    type Connection = Leaving;

    fn opened(self: &Arc<Self>, _: SocketAddr) -> Option<Leaving> {
        self.opened.fetch_add(1, Ordering::SeqCst);
        Some(Leaving(Arc::clone(self)))
    }
}

struct Leaving(Arc<Counting>);

impl Drop for Leaving {
    fn drop(&mut self) {
        self.0.closed.fetch_add(1, Ordering::SeqCst);
    }
}

struct Served {
    address: SocketAddr,
    service: Arc<Counting>,
    stop: Stop,
    thread: JoinHandle<io::Result<()>>,
}

fn served(limits: Limits) -> Served {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (service, stop) = (Arc::new(Counting::default()), Stop::new());
    let (shared, stopped) = (Arc::clone(&service), stop.clone());
    let thread = thread::spawn(move || {
        one_thread()
            .unwrap()
            .block_on(serve(listener.into(), shared, &limits, &stopped))
    });
    Served {
        address,
        service,
        stop,
        thread,
    }
}

impl Served {
    fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).unwrap()
    }

    fn end(self) -> Arc<Counting> {
        self.stop.stop();
        self.thread.join().unwrap().unwrap();
        self.service
    }
}

fn get(stream: &mut TcpStream, path: &str) {
    write!(stream, "GET {path} HTTP/1.1\r\nhost: h\r\n\r\n").unwrap();
}

#[test]
fn a_client_that_takes_nothing_is_cut_off() {
    let server = served(Limits {
        write_timeout: Duration::from_millis(50),
        ..Limits::default()
    });
    let mut client = server.connect();
    // More than the buffers of both sides hold.
    get(&mut client, "/100000000");
    while server.service.closed.load(Ordering::SeqCst) == 0 {
        thread::sleep(Duration::from_millis(5));
    }
    let mut taken = Vec::new();
    let end = client.read_to_end(&mut taken);
    assert!(taken.len() < 100_000_000 && (end.is_err() || !taken.is_empty()));
    server.end();
}

#[test]
fn a_client_that_goes_on_taking_gets_all() {
    let server = served(Limits {
        write_timeout: Duration::from_secs(20),
        ..Limits::default()
    });
    let mut client = server.connect();
    write!(
        client,
        "GET /5000000 HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n"
    )
    .unwrap();
    let mut taken = Vec::new();
    client.read_to_end(&mut taken).unwrap();
    assert!(taken.len() > 5_000_000);
    server.end();
}

#[test]
fn a_client_that_leaves_ends_its_request() {
    let server = served(Limits::default());
    let mut client = server.connect();
    get(&mut client, "/never");
    drop(client);
    while server.service.closed.load(Ordering::SeqCst) == 0 {
        thread::sleep(Duration::from_millis(5));
    }
    let service = server.end();
    assert_eq!(service.opened.load(Ordering::SeqCst), 1);
}

#[test]
fn a_request_that_never_ends_is_cut_off_at_the_end() {
    let server = served(Limits {
        stop_timeout: Duration::from_millis(50),
        ..Limits::default()
    });
    let mut client = server.connect();
    get(&mut client, "/3");
    let mut first = [0; 8];
    client.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"HTTP/1.1");
    let mut stuck = server.connect();
    get(&mut stuck, "/never");
    while server.service.opened.load(Ordering::SeqCst) < 2 {
        thread::sleep(Duration::from_millis(5));
    }
    let service = server.end();
    assert_eq!(service.closed.load(Ordering::SeqCst), 2);
    assert_eq!(stuck.read(&mut first).unwrap_or(0), 0);
}
