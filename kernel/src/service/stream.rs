//! A response in records of one size that leave at ticks of the guest's clock (see [`records`]), whatever there is to
//! say and however busy the engine is.

use alloc::vec::Vec;
use cloister_protocol::ohttp::chunked::{ResponseKey, ResponseSealer};
use cloister_protocol::records::{self, PAYLOAD_BYTES, TICK_MS};
use zeroize::Zeroizing;

use crate::entropy::Drbg;

/// The message that leaves in records, and where it stands. What waits is wiped when it is dropped.
pub struct Stream {
    sealer: ResponseSealer,
    /// What of the message has not left yet.
    waiting: Zeroizing<Vec<u8>>,
    /// Nothing will be added to what waits.
    is_complete: bool,
    /// When the next record is due.
    due_ms: u64,
    /// Records that have left.
    sent: u64,
}

impl Stream {
    /// A stream whose first record is due at once, and what is to be sent before it.
    pub fn begin(key: ResponseKey, rng: &mut Drbg, now_ms: u64) -> (Vec<u8>, Self) {
        let (nonce, sealer) = key.start(rng);
        let stream = Self {
            sealer,
            waiting: Zeroizing::default(),
            is_complete: false,
            due_ms: now_ms,
            sent: 0,
        };
        (nonce, stream)
    }

    /// What of the message waits, to append to it, while less than a record does: so that what is written late is
    /// written together.
    pub fn wanting(&mut self) -> Option<&mut Vec<u8>> {
        (!self.is_complete && self.waiting.len() < PAYLOAD_BYTES).then_some(&mut *self.waiting)
    }

    /// All of the message.
    pub fn say_all(&mut self, message: &[u8]) {
        self.waiting.extend_from_slice(message);
        self.is_complete = true;
    }

    /// The message is complete.
    pub fn complete(&mut self) {
        self.is_complete = true;
    }

    /// Whether a record is due.
    #[must_use]
    pub fn is_due(&self, now_ms: u64) -> bool {
        now_ms >= self.due_ms
    }

    /// The record that is due now, and the stream if more records follow. Ticks that were missed are not made up for, so
    /// that one tick brings one record.
    pub fn next_record(mut self, now_ms: u64) -> (Vec<u8>, Option<Self>) {
        let (record, taken) = records::encode(&self.waiting);
        self.waiting.drain(..taken);
        self.sent += 1;
        let missed = now_ms.saturating_sub(self.due_ms) / TICK_MS;
        self.due_ms += (missed + 1) * TICK_MS;
        let is_done = self.is_complete && self.waiting.is_empty();
        if is_done && records::bucket(self.sent) == self.sent {
            let last = self.sealer.finish(&record[..]);
            return (last.expect("a record is a small chunk"), None);
        }
        let sealed = self.sealer.seal(&record[..]);
        (sealed.expect("a record is a small chunk"), Some(self))
    }
}
