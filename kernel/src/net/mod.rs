//! The network: IPv4 and TCP by smoltcp over the network card, an address by DHCP.
//!
//! [`Sockets`] is what the service needs of it, so that the service can be tested without a network.

mod card;
mod stack;

pub use stack::{NetworkError, Stack};

/// The TCP port that is served.
pub const PORT: u16 = 8080;

/// A fixed number of places for TCP connections, numbered from 0.
///
/// A place is free (it waits for a client), or it has a client until [`Sockets::release`].
pub trait Sockets {
    /// Number of places.
    fn count(&self) -> usize;

    /// State of a place.
    fn state(&self, place: usize) -> SocketState;

    /// Offers what has arrived to `take`, which returns how much of it was taken; repeats while something is taken.
    fn receive(&mut self, place: usize, take: &mut dyn FnMut(&[u8]) -> usize);

    /// Hands over bytes to send; returns how many were taken.
    fn send(&mut self, place: usize, bytes: &[u8]) -> usize;

    /// Ends the sending side once everything is sent; receiving goes on.
    fn close_write(&mut self, place: usize);

    /// Makes the place free. A client that is still there is cut off.
    fn release(&mut self, place: usize);
}

/// What is going on in one place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SocketState {
    /// No client.
    Free,
    /// A client is connected.
    Open {
        /// It has shut its write side.
        peer_finished: bool,
        /// Bytes have arrived that nobody has taken.
        has_unread: bool,
        /// Everything handed over was received by the client.
        all_sent: bool,
    },
    /// The connection has ended, by agreement, by the client or by time; the place is to be released.
    Ended,
}

#[cfg(test)]
pub(crate) mod lan;
#[cfg(test)]
mod tests;
