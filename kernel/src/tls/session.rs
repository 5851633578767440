//! One TLS connection: a state machine between the bytes of the wire and their text.

use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncryptError, InsufficientSizeError, UnbufferedStatus,
    WriteTraffic,
};
use rustls::{Error, ServerConfig};

use crate::net::Sockets;

/// The most bytes of the wire that wait to be understood: a record (RFC 8446, section 5.2) is shorter, and so is any
/// message of a handshake that means well.
const INCOMING_MAX: usize = 18 * 1024;
/// While more waits to be sent, nothing is read: whoever makes the guest answer has to take the answers.
const OUTGOING_MAX: usize = 20 * 1024;
/// Text in one record. With its frame it fits the network's buffer.
const RECORD_TEXT_BYTES: usize = 16_000;
/// The room that a message of the handshake is first given.
const MESSAGE_ROOM_BYTES: usize = 2048;

/// One connection.
pub(super) struct Session {
    connection: UnbufferedServerConnection,
    incoming: Vec<u8>,
    /// Text of a record that nobody has taken yet, and how much of it was.
    text: Vec<u8>,
    text_taken: usize,
    outgoing: Vec<u8>,
    phase: Phase,
    is_peer_closed: bool,
    closing: Closing,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Handshake,
    Established,
    Failed,
}

/// How far our side is with ending.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Closing {
    No,
    /// The last text was given; the alert for it follows.
    Wanted,
    /// The alert is on its way, and then the connection's end.
    Notified,
}

impl Session {
    /// A connection that has just been opened.
    pub(super) fn new(config: &Arc<ServerConfig>) -> Result<Self, Error> {
        Ok(Self {
            connection: UnbufferedServerConnection::new(Arc::clone(config))?,
            incoming: Vec::new(),
            text: Vec::new(),
            text_taken: 0,
            outgoing: Vec::new(),
            phase: Phase::Handshake,
            is_peer_closed: false,
            closing: Closing::No,
        })
    }

    pub(super) fn is_established(&self) -> bool {
        self.phase == Phase::Established
    }

    pub(super) fn has_failed(&self) -> bool {
        self.phase == Phase::Failed
    }

    /// Whether the client has said that it will send no more.
    pub(super) fn is_peer_closed(&self) -> bool {
        self.is_peer_closed
    }

    /// Whether there is text that nobody has taken.
    pub(super) fn has_text(&self) -> bool {
        self.text_taken < self.text.len()
    }

    /// Whether something waits to be sent.
    pub(super) fn has_output(&self) -> bool {
        !self.outgoing.is_empty() || self.closing == Closing::Wanted
    }

    /// Takes what has come, and offers its text; repeats while some of it is taken.
    pub(super) fn receive(
        &mut self,
        place: usize,
        sockets: &mut impl Sockets,
        take: &mut dyn FnMut(&[u8]) -> usize,
    ) {
        loop {
            self.offer(take);
            if self.is_peer_closed {
                // Behind the end of the text nothing counts.
                return sockets.receive(place, &mut |bytes| bytes.len());
            }
            let may_read = !self.has_text() && self.outgoing.len() <= OUTGOING_MAX;
            if !may_read || self.has_failed() {
                return;
            }
            let mut taken = 0;
            sockets.receive(place, &mut |bytes| {
                let count = bytes.len().min(INCOMING_MAX - self.incoming.len());
                self.incoming.extend_from_slice(&bytes[..count]);
                taken += count;
                count
            });
            let before = (self.incoming.len(), self.outgoing.len());
            self.process();
            if taken == 0 && before == (self.incoming.len(), self.outgoing.len()) {
                // A full buffer with nothing whole in it: no client that means well sends that.
                if before.0 >= INCOMING_MAX {
                    self.fail();
                }
                return;
            }
        }
    }

    fn offer(&mut self, take: &mut dyn FnMut(&[u8]) -> usize) {
        while self.has_text() {
            match take(&self.text[self.text_taken..]) {
                0 => return,
                taken => self.text_taken += taken,
            }
        }
        self.text = Vec::new();
        self.text_taken = 0;
    }

    /// Lets rustls go as far as it can: to text, to the end of what has come, or to a failure.
    fn process(&mut self) {
        let may_go_on = |this: &Self| !this.has_text() && this.outgoing.len() <= OUTGOING_MAX;
        while may_go_on(self) && self.step(None) == Step::Moved {}
        if self.has_failed() {
            self.fail();
        } else if self.incoming.is_empty() {
            self.incoming = Vec::new();
        }
    }

    /// One step of rustls. Where text could be sent, `write` is.
    fn step(&mut self, write: Option<Write<'_>>) -> Step {
        let UnbufferedStatus { mut discard, state } =
            self.connection.process_tls_records(&mut self.incoming);
        let step = match state {
            Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                while let Some(Ok(record)) = traffic.next_record() {
                    self.text.extend_from_slice(record.payload);
                    discard += record.discard;
                }
                Step::Moved
            }
            Ok(ConnectionState::EncodeTlsData(mut data)) => {
                let is_written = append(&mut self.outgoing, MESSAGE_ROOM_BYTES, |room| {
                    data.encode(room).map_err(|error| match error {
                        EncodeError::InsufficientSize(size) => Some(size),
                        EncodeError::AlreadyEncoded => None,
                    })
                });
                Step::moved_or_failed(is_written)
            }
            Ok(ConnectionState::TransmitTlsData(data)) => {
                data.done();
                Step::Moved
            }
            Ok(ConnectionState::PeerClosed) => {
                self.is_peer_closed = true;
                Step::Moved
            }
            Ok(ConnectionState::WriteTraffic(traffic)) => {
                self.phase = Phase::Established;
                match write.map(|write| write.encrypt(traffic, &mut self.outgoing)) {
                    None => Step::Waits,
                    Some(is_written) => Step::written_or_failed(is_written),
                }
            }
            Ok(ConnectionState::BlockedHandshake | ConnectionState::Closed) => Step::Waits,
            Ok(_) | Err(_) => Step::Failed,
        };
        self.incoming.drain(..discard.min(self.incoming.len()));
        if step == Step::Failed {
            self.phase = Phase::Failed;
        }
        step
    }

    /// The end of a connection whose client broke the rules: what rustls has to say to that, an alert at the end. It is
    /// asked no more often than it has something: it would read the same bytes again.
    fn fail(&mut self) {
        self.phase = Phase::Failed;
        while self.connection.wants_write() {
            let status = self.connection.process_tls_records(&mut self.incoming);
            let Ok(ConnectionState::EncodeTlsData(mut data)) = status.state else {
                break;
            };
            append(&mut self.outgoing, MESSAGE_ROOM_BYTES, |room| {
                data.encode(room).map_err(|_| None)
            });
        }
        self.incoming = Vec::new();
        self.text = Vec::new();
        self.text_taken = 0;
    }

    /// Takes text to send, at most what fits a record and what there is room for; returns how much.
    pub(super) fn send(&mut self, text: &[u8]) -> usize {
        let may_send = self.is_established() && self.closing == Closing::No;
        if !may_send || !self.outgoing.is_empty() {
            return 0;
        }
        let text = &text[..text.len().min(RECORD_TEXT_BYTES)];
        match self.write(Write::Text(text)) {
            true => text.len(),
            false => 0,
        }
    }

    /// Encrypts; whether that could be done. What has come before goes first, which the buffer for it bounds.
    fn write(&mut self, write: Write<'_>) -> bool {
        loop {
            match self.step(Some(write)) {
                Step::Moved => {}
                Step::Written => return true,
                Step::Waits => return false,
                Step::Failed => {
                    self.fail();
                    return false;
                }
            }
        }
    }

    /// No more text will follow.
    pub(super) fn close(&mut self) {
        if self.closing == Closing::No {
            self.closing = Closing::Wanted;
        }
    }

    /// Hands over what waits, then the end if it was asked for.
    pub(super) fn flush(&mut self, place: usize, sockets: &mut impl Sockets) {
        if self.closing == Closing::Wanted {
            // Nobody to tell during a handshake.
            if self.is_established() {
                self.write(Write::End);
            }
            self.closing = Closing::Notified;
        }
        if !self.outgoing.is_empty() {
            let sent = sockets.send(place, &self.outgoing);
            self.outgoing.drain(..sent);
        }
        if self.outgoing.is_empty() {
            self.outgoing = Vec::new();
            if self.closing == Closing::Notified {
                sockets.close_write(place);
            }
        }
    }

    /// [`Session::flush`] of one that has failed, with the end behind the alert; what still comes is dropped.
    pub(super) fn part(&mut self, place: usize, sockets: &mut impl Sockets) {
        self.closing = Closing::Notified;
        sockets.receive(place, &mut |bytes| bytes.len());
        self.flush(place, sockets);
    }
}

/// What became of a step.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    /// There may be another one.
    Moved,
    /// What was to be written is.
    Written,
    /// Nothing to do until something comes.
    Waits,
    /// The connection is of no more use.
    Failed,
}

impl Step {
    fn moved_or_failed(has_moved: bool) -> Self {
        if has_moved { Self::Moved } else { Self::Failed }
    }

    fn written_or_failed(is_written: bool) -> Self {
        if is_written {
            Self::Written
        } else {
            Self::Failed
        }
    }
}

/// What is to be encrypted.
#[derive(Clone, Copy)]
enum Write<'a> {
    /// Text for one record.
    Text(&'a [u8]),
    /// The alert that no more text follows (RFC 8446, section 6.1).
    End,
}

impl Write<'_> {
    fn encrypt(
        self,
        mut traffic: WriteTraffic<'_, ServerConnectionData>,
        outgoing: &mut Vec<u8>,
    ) -> bool {
        let text_bytes = match self {
            Self::Text(text) => text.len(),
            Self::End => 0,
        };
        append(outgoing, text_bytes + MESSAGE_ROOM_BYTES, |room| {
            let written = match self {
                Self::Text(text) => traffic.encrypt(text, room),
                Self::End => traffic.queue_close_notify(room),
            };
            written.map_err(|error| match error {
                EncryptError::InsufficientSize(size) => Some(size),
                EncryptError::EncryptExhausted => None,
            })
        })
    }
}

/// Appends what `write` puts into the room that it is given; if it asks for more room it gets it once. Whether something
/// was written.
fn append(
    out: &mut Vec<u8>,
    room_bytes: usize,
    mut write: impl FnMut(&mut [u8]) -> Result<usize, Option<InsufficientSizeError>>,
) -> bool {
    let mut room = vec![0; room_bytes];
    let mut written = write(&mut room);
    if let Err(Some(InsufficientSizeError { required_size })) = written {
        room = vec![0; required_size.min(OUTGOING_MAX)];
        written = write(&mut room);
    }
    let length = written.unwrap_or(0);
    out.extend_from_slice(&room[..length]);
    length > 0
}
