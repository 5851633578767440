//! TLS 1.3 (RFC 8446) between the network and HTTP. Transport only: what is secret is sealed to the key that the evidence
//! binds, whether there is TLS or not.
//!
//! | module | what |
//! |---|---|
//! | [`identity`] | the key of this start, its self-signed certificate, the settings for rustls |
//! | `der` | the encoding of the certificate |
//! | `session` | one connection: records in, text out, and back; bounded buffers, no clock |
//! | here | the sessions of all places, as [`Sockets`] over [`Sockets`] |
//!
//! The key is made at the guest's start and lives until its end: a new one in each key epoch would break the connections
//! that are open, and protect nothing, since every connection has ephemeral keys of its own. There are no tickets, no
//! resumption and no early data, so no key outlives its connection. Freed memory is wiped by the heap.

mod der;
pub mod identity;
mod session;

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use rustls::ServerConfig;

pub use identity::{Identity, IdentityError};
use session::Session;

use crate::net::{SocketState, Sockets};

/// How long a connection whose TLS has failed may take to receive the alert.
const PARTING_MS: u64 = 2_000;

/// The TLS of every place of a network.
pub struct Tls {
    config: Arc<ServerConfig>,
    handshake_ms: u64,
    places: Vec<Place>,
    /// Whether a handshake or a connection has ended.
    has_traces: bool,
}

/// What TLS has to do with a place.
enum Place {
    /// Nobody is there.
    Free,
    /// Cut off in this turn: the network has to say so before the place is given to the next client.
    Cut,
    /// A client.
    Client {
        session: Box<Session>,
        since_ms: u64,
    },
    /// A client whose TLS has failed: it is sent the alert, and counts no more.
    Parting {
        session: Box<Session>,
        since_ms: u64,
    },
}

impl Tls {
    /// For a network with so many places. A client that has not shaken hands within `handshake_ms` is cut off.
    #[must_use]
    pub fn new(identity: &Identity, places: usize, handshake_ms: u64) -> Self {
        Self {
            config: Arc::clone(identity.config()),
            handshake_ms,
            places: (0..places).map(|_| Place::Free).collect(),
            has_traces: false,
        }
    }

    /// Whether something has ended since the last call that may have left traces on the stack: to be wiped.
    pub fn take_traces(&mut self) -> bool {
        core::mem::take(&mut self.has_traces)
    }

    /// The text of all connections, for one turn that begins at `now_ms`.
    pub fn over<'a, S: Sockets>(&'a mut self, sockets: &'a mut S, now_ms: u64) -> Clear<'a, S> {
        for place in 0..self.places.len() {
            self.attend(place, sockets, now_ms);
        }
        Clear { tls: self, sockets }
    }

    /// Welcomes who has come, forgets who has left, and moves along what waits.
    fn attend(&mut self, place: usize, sockets: &mut impl Sockets, now_ms: u64) {
        let is_open = matches!(sockets.state(place), SocketState::Open { .. });
        if matches!(self.places[place], Place::Cut) {
            self.places[place] = Place::Free;
        }
        if matches!(self.places[place], Place::Free) && is_open {
            self.welcome(place, sockets, now_ms);
        }
        match &mut self.places[place] {
            Place::Free | Place::Cut => {}
            _ if !is_open => {
                self.places[place] = Place::Free;
                self.has_traces = true;
            }
            Place::Client { session, since_ms } => {
                session.flush(place, sockets);
                let waited_ms = now_ms.saturating_sub(*since_ms);
                if !session.is_established() && waited_ms >= self.handshake_ms {
                    self.cut(place, sockets);
                } else if session.has_failed() {
                    self.part(place, now_ms);
                }
            }
            Place::Parting { session, since_ms } => {
                session.part(place, sockets);
                if now_ms.saturating_sub(*since_ms) >= PARTING_MS {
                    self.cut(place, sockets);
                }
            }
        }
    }

    fn welcome(&mut self, place: usize, sockets: &mut impl Sockets, now_ms: u64) {
        match Session::new(&self.config) {
            Ok(session) => {
                self.places[place] = Place::Client {
                    session: Box::new(session),
                    since_ms: now_ms,
                }
            }
            Err(_) => self.cut(place, sockets),
        }
    }

    fn part(&mut self, place: usize, now_ms: u64) {
        let was = core::mem::replace(&mut self.places[place], Place::Free);
        if let Place::Client { session, .. } = was {
            self.places[place] = Place::Parting {
                session,
                since_ms: now_ms,
            };
        }
    }

    fn cut(&mut self, place: usize, sockets: &mut impl Sockets) {
        self.places[place] = Place::Cut;
        self.has_traces = true;
        sockets.release(place);
    }

    /// Places that TLS holds something for.
    #[cfg(test)]
    pub(crate) fn occupied(&self) -> usize {
        let is_occupied = |place: &&Place| !matches!(place, Place::Free);
        self.places.iter().filter(is_occupied).count()
    }

    fn session(&mut self, place: usize) -> Option<&mut Session> {
        match &mut self.places[place] {
            Place::Client { session, .. } => Some(session),
            Place::Free | Place::Cut | Place::Parting { .. } => None,
        }
    }
}

/// The text of connections, as [`Sockets`].
pub struct Clear<'a, S> {
    tls: &'a mut Tls,
    sockets: &'a mut S,
}

impl<S: Sockets> Sockets for Clear<'_, S> {
    fn count(&self) -> usize {
        self.tls.places.len()
    }

    fn state(&self, place: usize) -> SocketState {
        match (&self.tls.places[place], self.sockets.state(place)) {
            (Place::Cut, _) => SocketState::Free,
            (_, SocketState::Ended) => SocketState::Ended,
            // Whoever serves text has nothing to do with one that has failed.
            (Place::Client { session, .. }, _) if session.has_failed() => SocketState::Free,
            (
                Place::Client { session, .. },
                SocketState::Open {
                    peer_finished,
                    has_unread,
                    all_sent,
                },
            ) => SocketState::Open {
                peer_finished: peer_finished || session.is_peer_closed(),
                has_unread: session.has_text() || (has_unread && !session.is_peer_closed()),
                all_sent: all_sent && !session.has_output(),
            },
            _ => SocketState::Free,
        }
    }

    fn receive(&mut self, place: usize, take: &mut dyn FnMut(&[u8]) -> usize) {
        if let Some(session) = self.tls.session(place) {
            let was_shaking = !session.is_established();
            session.receive(place, self.sockets, take);
            session.flush(place, self.sockets);
            let is_over = session.is_established() || session.has_failed();
            self.tls.has_traces |= was_shaking && is_over;
        }
    }

    fn send(&mut self, place: usize, bytes: &[u8]) -> usize {
        let Some(session) = self.tls.session(place) else {
            return 0;
        };
        let taken = session.send(bytes);
        session.flush(place, self.sockets);
        taken
    }

    fn close_write(&mut self, place: usize) {
        if let Some(session) = self.tls.session(place) {
            session.close();
            session.flush(place, self.sockets);
        }
    }

    fn release(&mut self, place: usize) {
        // What is parting goes on its own.
        if !matches!(self.tls.places[place], Place::Parting { .. }) {
            self.tls.cut(place, self.sockets);
        }
    }
}
