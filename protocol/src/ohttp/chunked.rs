//! Requests and responses in chunks (draft-ietf-ohai-chunked-ohttp-08): each part can be opened when it arrives.
//!
//! On the wire, a header (request: key id, algorithms, encapsulated key; response: nonce), then chunks behind their
//! length, and at last a zero and the final chunk, which reaches to the end of the stream. Order is protected by the
//! nonce of each chunk; the end by the additional data `final` of the last one, so that a cut stream never passes for
//! a whole one.
//!
//! The openers take bytes as they come (`push`) and are told when the stream ended (`finish`). After an error they
//! give that error for ever.

use super::OhttpError;
use super::context::{Receiver, Sender};
use super::response::{ResponseCipher, ResponseSecret};
use crate::reader::{Reader, put_prefixed};
use crate::suite::TAG_BYTES;
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;
use rand_core::CryptoRng;
use zeroize::Zeroizing;

/// The most bytes of content in a chunk: what every receiver must take (section 3), and what we send at most.
pub const MAX_CHUNK_BYTES: usize = 1 << 14;

/// Additional data of all chunks but the last.
const MORE: &[u8] = b"";

/// Additional data of the last chunk.
const FINAL: &[u8] = b"final";

/// The most bytes of a chunk as it is sent, without its length.
const MAX_SEALED_BYTES: usize = MAX_CHUNK_BYTES + TAG_BYTES;

/// The content of one chunk; wiped when it is dropped.
pub type Chunk = Zeroizing<Vec<u8>>;

/// Seals the chunks of a request (section 6.1). Made by [`super::Client::start_chunked`].
pub struct RequestSealer {
    context: Box<dyn Sender>,
    secret: ResponseSecret,
}

impl RequestSealer {
    pub(super) fn new(context: Box<dyn Sender>, secret: ResponseSecret) -> Self {
        Self { context, secret }
    }

    /// A chunk that more will follow, with its length before it.
    ///
    /// # Errors
    /// [`OhttpError::EmptyChunk`], [`OhttpError::ChunkTooLarge`], [`OhttpError::TooManyChunks`].
    pub fn seal(&mut self, content: &[u8]) -> Result<Vec<u8>, OhttpError> {
        frame(content, |content| self.context.seal(MORE, content))
    }

    /// The last chunk, which may be empty, and what opens the response.
    ///
    /// # Errors
    /// [`OhttpError::ChunkTooLarge`], [`OhttpError::TooManyChunks`].
    pub fn finish(mut self, content: &[u8]) -> Result<(Vec<u8>, ResponseOpener), OhttpError> {
        let sealed = frame_final(content, |content| self.context.seal(FINAL, content))?;
        let opener = ResponseOpener {
            head: Some((self.secret, Vec::new())),
            cipher: None,
            frames: Frames::default(),
        };
        Ok((sealed, opener))
    }
}

/// Opens the chunks of a request. Made by [`super::Gateway::start_chunked`].
pub struct RequestOpener {
    context: Box<dyn Receiver>,
    secret: ResponseSecret,
    frames: Frames,
}

impl RequestOpener {
    pub(super) fn new(context: Box<dyn Receiver>, secret: ResponseSecret) -> Self {
        Self {
            context,
            secret,
            frames: Frames::default(),
        }
    }

    /// Takes bytes as they arrive, and gives the chunks that they complete.
    ///
    /// # Errors
    /// [`OhttpError`]; nothing of the stream may be used then.
    pub fn push(&mut self, received: &[u8]) -> Result<Vec<Chunk>, OhttpError> {
        self.frames
            .push(received, |sealed| self.context.open(MORE, sealed))
    }

    /// The stream ended: gives the last chunk, and what seals the response.
    ///
    /// # Errors
    /// [`OhttpError::Truncated`] when the last chunk has not arrived as a whole, [`OhttpError::Unopenable`].
    pub fn finish(mut self) -> Result<(Chunk, ResponseKey), OhttpError> {
        let sealed = self.frames.finish()?;
        let chunk = self.context.open(FINAL, &sealed)?;
        Ok((
            chunk,
            ResponseKey {
                secret: self.secret,
            },
        ))
    }
}

/// What a gateway holds between a chunked request and its response.
pub struct ResponseKey {
    secret: ResponseSecret,
}

impl ResponseKey {
    /// Begins the response: the nonce to send first, and what seals the chunks.
    pub fn start(self, rng: &mut impl CryptoRng) -> (Vec<u8>, ResponseSealer) {
        let mut nonce = alloc::vec![0; self.secret.nonce_bytes()];
        rng.fill_bytes(&mut nonce);
        let cipher = self.secret.cipher(&nonce);
        (nonce, ResponseSealer { cipher })
    }
}

/// Seals the chunks of a response (section 6.2).
pub struct ResponseSealer {
    cipher: ResponseCipher,
}

impl ResponseSealer {
    /// A chunk that more will follow, with its length before it.
    ///
    /// # Errors
    /// [`OhttpError::EmptyChunk`], [`OhttpError::ChunkTooLarge`], [`OhttpError::TooManyChunks`].
    pub fn seal(&mut self, content: &[u8]) -> Result<Vec<u8>, OhttpError> {
        frame(content, |content| self.cipher.seal(MORE, content))
    }

    /// The last chunk, which may be empty.
    ///
    /// # Errors
    /// [`OhttpError::ChunkTooLarge`], [`OhttpError::TooManyChunks`].
    pub fn finish(mut self, content: &[u8]) -> Result<Vec<u8>, OhttpError> {
        frame_final(content, |content| self.cipher.seal(FINAL, content))
    }
}

/// Opens the chunks of a response. Made by [`RequestSealer::finish`].
pub struct ResponseOpener {
    /// The secret, and as much of the nonce as has arrived; `None` once the nonce is complete.
    head: Option<(ResponseSecret, Vec<u8>)>,
    cipher: Option<ResponseCipher>,
    frames: Frames,
}

impl ResponseOpener {
    /// Takes bytes as they arrive, the nonce first, and gives the chunks that they complete.
    ///
    /// # Errors
    /// [`OhttpError`]; nothing of the stream may be used then.
    pub fn push(&mut self, received: &[u8]) -> Result<Vec<Chunk>, OhttpError> {
        let received = self.read_nonce(received);
        let Some(cipher) = &mut self.cipher else {
            return Ok(Vec::new());
        };
        self.frames
            .push(received, |sealed| cipher.open(MORE, sealed))
    }

    /// The stream ended: gives the last chunk.
    ///
    /// # Errors
    /// [`OhttpError::Truncated`] when the last chunk has not arrived as a whole, [`OhttpError::Unopenable`].
    pub fn finish(mut self) -> Result<Chunk, OhttpError> {
        let sealed = self.frames.finish()?;
        self.cipher
            .ok_or(OhttpError::Truncated)?
            .open(FINAL, &sealed)
    }

    /// Takes the nonce from the front of the stream; what remains are chunks.
    fn read_nonce<'a>(&mut self, received: &'a [u8]) -> &'a [u8] {
        let Some((secret, nonce)) = &mut self.head else {
            return received;
        };
        let missing = secret.nonce_bytes() - nonce.len();
        let (head, rest) = received.split_at(missing.min(received.len()));
        nonce.extend_from_slice(head);
        if nonce.len() == secret.nonce_bytes() {
            self.cipher = Some(secret.cipher(nonce));
            self.head = None;
        }
        rest
    }
}

/// Seals a chunk that is not the last, and puts its length before it.
fn frame(
    content: &[u8],
    seal: impl FnOnce(&[u8]) -> Result<Vec<u8>, OhttpError>,
) -> Result<Vec<u8>, OhttpError> {
    match content.len() {
        0 => Err(OhttpError::EmptyChunk),
        1..=MAX_CHUNK_BYTES => {
            let mut framed = Vec::with_capacity(content.len() + TAG_BYTES + 4);
            put_prefixed(&mut framed, &seal(content)?);
            Ok(framed)
        }
        _ => Err(OhttpError::ChunkTooLarge),
    }
}

/// Seals the last chunk, and puts a zero before it.
fn frame_final(
    content: &[u8],
    seal: impl FnOnce(&[u8]) -> Result<Vec<u8>, OhttpError>,
) -> Result<Vec<u8>, OhttpError> {
    if content.len() > MAX_CHUNK_BYTES {
        return Err(OhttpError::ChunkTooLarge);
    }
    let mut framed = alloc::vec![0];
    framed.extend_from_slice(&seal(content)?);
    Ok(framed)
}

/// Cuts a stream into sealed chunks. Holds less than one chunk between calls.
#[derive(Debug, Default)]
struct Frames {
    buffer: Vec<u8>,
    /// The zero before the last chunk has been read: all that follows is that chunk.
    in_final: bool,
    failed: Option<OhttpError>,
}

impl Frames {
    /// Appends `received` and opens each chunk that is complete.
    fn push(
        &mut self,
        received: &[u8],
        open: impl FnMut(&[u8]) -> Result<Chunk, OhttpError>,
    ) -> Result<Vec<Chunk>, OhttpError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        self.buffer.extend_from_slice(received);
        let chunks = self.open_complete(open);
        if let Err(error) = chunks {
            self.failed = Some(error);
            self.buffer = Vec::new();
        }
        chunks
    }

    fn open_complete(
        &mut self,
        mut open: impl FnMut(&[u8]) -> Result<Chunk, OhttpError>,
    ) -> Result<Vec<Chunk>, OhttpError> {
        let mut chunks = Vec::new();
        let mut reader = Reader::new(&self.buffer);
        while !self.in_final {
            let mut ahead = reader;
            let Some(length) = ahead.varint() else { break };
            match usize::try_from(length) {
                Ok(0) => self.in_final = true,
                Ok(length @ ..=MAX_SEALED_BYTES) => {
                    let Some(sealed) = ahead.take(length) else {
                        break;
                    };
                    chunks.push(not_empty(open(sealed)?)?);
                }
                _ => return Err(OhttpError::ChunkTooLarge),
            }
            reader = ahead;
        }
        let rest = reader.rest().len();
        self.buffer.drain(..self.buffer.len() - rest);
        if self.in_final && rest > MAX_SEALED_BYTES {
            Err(OhttpError::ChunkTooLarge)
        } else {
            Ok(chunks)
        }
    }

    /// The last sealed chunk, once the stream has ended.
    fn finish(&mut self) -> Result<Vec<u8>, OhttpError> {
        match self.failed {
            Some(error) => Err(error),
            None if self.in_final => Ok(core::mem::take(&mut self.buffer)),
            None => Err(OhttpError::Truncated),
        }
    }
}

/// A chunk without content, other than the last, counts as a failure to decrypt (section 6).
fn not_empty(chunk: Chunk) -> Result<Chunk, OhttpError> {
    if chunk.is_empty() {
        Err(OhttpError::EmptyChunk)
    } else {
        Ok(chunk)
    }
}

macro_rules! opaque_debug {
    ($($name:ident),*) => {$(
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!("chunked::", stringify!($name)))
            }
        }
    )*};
}
opaque_debug!(
    RequestSealer,
    RequestOpener,
    ResponseKey,
    ResponseSealer,
    ResponseOpener
);

#[cfg(test)]
mod tests;
