//! The guest's service in a thread of this process, on a real socket.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use cloister_kernel::entropy::Drbg;
use cloister_kernel::http;
use cloister_kernel::net::{SocketState, Sockets};
use cloister_kernel::platform::Evidence;
use cloister_kernel::service::engine::Engine;
use cloister_kernel::service::keys::{Attester, Lifetime};
use cloister_kernel::service::server::{OVERFLOW_PLACES, Server, Settings};
use cloister_kernel::tls::{Identity, Tls};
use cloister_protocol::api::summarize;
use cloister_protocol::evidence::Enclosures;
use getrandom::SysRng;
use rand_core::TryRng as _;

const CONNECTIONS: usize = 64;

/// A server that ends when it is dropped.
pub(crate) struct HostGuest {
    pub(crate) port: u16,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl HostGuest {
    /// Serves with a fresh TLS key. `named` is the key that the evidence names, if it is not that one.
    pub(crate) fn start(port: u16, named: Option<Vec<u8>>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).expect("the port is free");
        listener.set_nonblocking(true).expect("a socket");
        let port = listener.local_addr().expect("bound").port();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || serve(listener, named, &stopped));
        Self {
            port,
            stop,
            thread: Some(thread),
        }
    }
}

impl Drop for HostGuest {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the server ends without a panic");
        }
    }
}

fn serve(listener: TcpListener, named: Option<Vec<u8>>, stop: &AtomicBool) {
    let identity = Identity::generate().expect("a key");
    let places = CONNECTIONS + OVERFLOW_PLACES;
    let settings = Settings {
        connections: CONNECTIONS,
        request_bytes: 256 << 10,
        http: http::Limits::default(),
        summarize: summarize::Limits::DEFAULT,
        start_s: 1_800_000_000,
        keys: Lifetime::of_epoch(3600),
        attester: Attester {
            attest: |_| Evidence::None,
            tls_public_key: named.unwrap_or_else(|| identity.public_key().to_vec()),
            enclosures: Enclosures::default(),
        },
        gate: cloister_kernel::service::gate::Gate::default(),
        heap_used: || 0,
    };
    let mut tls = Tls::new(&identity, places, settings.http.header_ms);
    let mut seed = [0; 32];
    SysRng.try_fill_bytes(&mut seed).expect("random bytes");
    let mut server: Server<Engine> = Server::new(settings, None, Drbg::from_seed(seed), places, 0);
    let mut sockets = HostSockets::new(listener, places);
    let begin = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        sockets.accept();
        let now_ms = begin.elapsed().as_millis() as u64;
        server.turn(&mut tls.over(&mut sockets, now_ms), now_ms);
        thread::sleep(Duration::from_micros(200));
    }
}

/// The places of a network, as sockets of this machine.
struct HostSockets {
    listener: TcpListener,
    places: Vec<Option<Connected>>,
}

struct Connected {
    stream: TcpStream,
    unread: Vec<u8>,
    peer_finished: bool,
    write_closed: bool,
    is_broken: bool,
}

impl HostSockets {
    fn new(listener: TcpListener, places: usize) -> Self {
        Self {
            listener,
            places: (0..places).map(|_| None).collect(),
        }
    }

    fn accept(&mut self) {
        for place in self.places.iter_mut().filter(|place| place.is_none()) {
            let Ok((stream, _)) = self.listener.accept() else {
                break;
            };
            stream.set_nonblocking(true).expect("a socket");
            *place = Some(Connected {
                stream,
                unread: Vec::new(),
                peer_finished: false,
                write_closed: false,
                is_broken: false,
            });
        }
        self.places
            .iter_mut()
            .flatten()
            .for_each(Connected::read_ahead);
    }
}

impl Connected {
    fn read_ahead(&mut self) {
        let mut buffer = [0; 8192];
        while self.unread.len() < 16 << 10 && !self.peer_finished && !self.is_broken {
            match self.stream.read(&mut buffer) {
                Ok(0) => self.peer_finished = true,
                Ok(count) => self.unread.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => self.is_broken = true,
            }
        }
    }
}

impl Sockets for HostSockets {
    fn count(&self) -> usize {
        self.places.len()
    }

    fn state(&self, place: usize) -> SocketState {
        match &self.places[place] {
            None => SocketState::Free,
            Some(connected)
                if connected.is_broken || (connected.peer_finished && connected.write_closed) =>
            {
                SocketState::Ended
            }
            Some(connected) => SocketState::Open {
                peer_finished: connected.peer_finished,
                has_unread: !connected.unread.is_empty(),
                all_sent: true,
            },
        }
    }

    fn receive(&mut self, place: usize, take: &mut dyn FnMut(&[u8]) -> usize) {
        if let Some(connected) = &mut self.places[place] {
            while !connected.unread.is_empty() {
                let taken = take(&connected.unread);
                connected.unread.drain(..taken);
                if taken == 0 {
                    break;
                }
            }
        }
    }

    fn send(&mut self, place: usize, bytes: &[u8]) -> usize {
        let Some(connected) = &mut self.places[place] else {
            return 0;
        };
        match connected.stream.write(bytes) {
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            Err(_) => {
                connected.is_broken = true;
                0
            }
        }
    }

    fn close_write(&mut self, place: usize) {
        if let Some(connected) = &mut self.places[place]
            && !std::mem::replace(&mut connected.write_closed, true)
        {
            // A client that has gone already has no write side to be told of.
            let _ = connected.stream.shutdown(Shutdown::Write);
        }
    }

    fn release(&mut self, place: usize) {
        self.places[place] = None;
    }
}
