//! Responses piece by piece: written in the indeterminate-length form (RFC 9292, section 3.2), read in either form as
//! their bytes arrive.

use super::decode::{Head, INDETERMINATE_RESPONSE};
use super::encode::put_status;
use super::{BhttpError, Limit, Limits, Response};
use crate::reader::{Reader, put_prefixed, put_varint};
use alloc::vec::Vec;
use zeroize::Zeroizing;

/// The end of a section of fields, or of the content.
const TERMINATOR: u8 = 0;

/// Appends the head of a response whose content is still to come: [`put_content`] and [`put_end`] follow. Content and
/// trailer of `response` are not looked at.
///
/// # Errors
/// [`BhttpError::Status`] when the status code is not one of a final response.
pub fn put_head(out: &mut Vec<u8>, response: &Response) -> Result<(), BhttpError> {
    put_varint(out, INDETERMINATE_RESPONSE);
    put_status(out, response.status, 200..600)?;
    for field in &response.header {
        put_prefixed(out, field.name.as_bytes());
        put_prefixed(out, &field.value);
    }
    out.push(TERMINATOR);
    Ok(())
}

/// Appends a piece of content; nothing if it is empty.
pub fn put_content(out: &mut Vec<u8>, content: &[u8]) {
    if !content.is_empty() {
        put_prefixed(out, content);
    }
}

/// Appends the end of the content, and a trailer section without fields.
pub fn put_end(out: &mut Vec<u8>) {
    out.extend_from_slice(&[TERMINATOR, TERMINATOR]);
}

/// Reads a response as its bytes arrive. Holds less than a head, or what has arrived and was not taken; all of it is
/// wiped when it is dropped.
#[derive(Debug)]
pub struct ResponseReader {
    limits: Limits,
    state: State,
    head: Option<Response>,
    /// What could not be read yet.
    buffer: Zeroizing<Vec<u8>>,
    /// Content that nobody has taken.
    content: Zeroizing<Vec<u8>>,
    content_bytes: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Head,
    /// Before the length of the content, or of its next piece.
    Length {
        indeterminate: bool,
    },
    /// So many bytes of the content, or of its piece, are to come.
    Content {
        indeterminate: bool,
        left: usize,
    },
    Trailer {
        indeterminate: bool,
    },
    /// What follows must be zeros.
    Padding,
}

impl ResponseReader {
    /// A reader at the start. `limits.message_bytes` bounds the content, and the rest by itself.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            state: State::Head,
            head: None,
            buffer: Zeroizing::default(),
            content: Zeroizing::default(),
            content_bytes: 0,
        }
    }

    /// Takes bytes as they arrive.
    ///
    /// # Errors
    /// [`BhttpError`]; nothing more of the message may be used then.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), BhttpError> {
        if self.buffer.len() + bytes.len() > self.limits.message_bytes {
            return Err(BhttpError::Over(Limit::MessageBytes));
        }
        self.buffer.extend_from_slice(bytes);
        while let Some(used) = self.advance()? {
            self.buffer.drain(..used);
        }
        Ok(())
    }

    /// Status and header section, once they are there. Its content stays empty.
    #[must_use]
    pub fn head(&self) -> Option<&Response> {
        self.head.as_ref()
    }

    /// The content that has arrived since the last call.
    #[must_use]
    pub fn take_content(&mut self) -> Zeroizing<Vec<u8>> {
        core::mem::take(&mut self.content)
    }

    /// Whether the message is complete; what follows is padding.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.state == State::Padding
    }

    /// The bytes have ended. A message may leave out what is empty at its end (section 3.8).
    ///
    /// # Errors
    /// [`BhttpError::Truncated`] when it ended elsewhere.
    pub fn finish(&self) -> Result<(), BhttpError> {
        let may_end = match self.state {
            State::Padding => true,
            State::Length { .. } => self.content_bytes == 0 && self.buffer.is_empty(),
            State::Trailer { .. } => self.buffer.is_empty(),
            State::Head | State::Content { .. } => false,
        };
        may_end.then_some(()).ok_or(BhttpError::Truncated)
    }

    /// Reads the next part, if it is there as a whole; returns how many bytes it had. `None`: more must arrive.
    fn advance(&mut self) -> Result<Option<usize>, BhttpError> {
        match self.state {
            State::Head => self.read_head(),
            State::Length { indeterminate } => self.read_length(indeterminate),
            State::Content {
                indeterminate,
                left,
            } => self.read_content(indeterminate, left),
            State::Trailer { indeterminate } => self.read_trailer(indeterminate),
            State::Padding => match self.buffer.iter().fold(0, |any, byte| any | byte) {
                0 => Ok(Some(self.buffer.len()).filter(|&length| length > 0)),
                _ => Err(BhttpError::Padding),
            },
        }
    }

    fn read_head(&mut self) -> Result<Option<usize>, BhttpError> {
        let Some(head) = arrived(Head::read(&self.buffer, &self.limits))? else {
            return Ok(None);
        };
        let indeterminate = head.indeterminate;
        self.state = State::Length { indeterminate };
        self.head = Some(head.response);
        Ok(Some(head.bytes))
    }

    fn read_length(&mut self, indeterminate: bool) -> Result<Option<usize>, BhttpError> {
        let mut reader = Reader::new(&self.buffer);
        let Some(length) = reader.varint() else {
            return Ok(None);
        };
        let left = usize::try_from(length).unwrap_or(usize::MAX);
        if left > self.limits.message_bytes - self.content_bytes {
            return Err(BhttpError::Over(Limit::MessageBytes));
        }
        self.content_bytes += left;
        self.state = match left {
            0 => State::Trailer { indeterminate },
            _ => State::Content {
                indeterminate,
                left,
            },
        };
        Ok(Some(self.buffer.len() - reader.rest().len()))
    }

    fn read_content(
        &mut self,
        indeterminate: bool,
        left: usize,
    ) -> Result<Option<usize>, BhttpError> {
        let used = left.min(self.buffer.len());
        if used == 0 {
            return Ok(None);
        }
        self.content.extend_from_slice(&self.buffer[..used]);
        self.state = match (left - used, indeterminate) {
            (0, true) => State::Length { indeterminate },
            (0, false) => State::Trailer { indeterminate },
            (left, _) => State::Content {
                indeterminate,
                left,
            },
        };
        Ok(Some(used))
    }

    /// Trailer fields are checked, and no reader of ours has a use for them.
    fn read_trailer(&mut self, indeterminate: bool) -> Result<Option<usize>, BhttpError> {
        let used = Head::skip_trailer(&self.buffer, indeterminate, &self.limits);
        let Some(used) = arrived(used)? else {
            return Ok(None);
        };
        self.state = State::Padding;
        Ok(Some(used))
    }
}

/// What ends too early is not there yet.
fn arrived<T>(outcome: Result<T, BhttpError>) -> Result<Option<T>, BhttpError> {
    match outcome {
        Ok(part) => Ok(Some(part)),
        Err(BhttpError::Truncated) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::mutate;

    fn response() -> Response {
        Response::new(200)
            .with_header("content-type", "text/event-stream")
            .unwrap()
    }

    fn streamed(pieces: &[&[u8]]) -> Vec<u8> {
        let mut out = Vec::new();
        put_head(&mut out, &response()).unwrap();
        pieces.iter().for_each(|piece| put_content(&mut out, piece));
        put_end(&mut out);
        out
    }

    /// Reads a message that arrives in steps of so many bytes.
    fn read(message: &[u8], step: usize) -> Result<(Response, Vec<u8>, bool), BhttpError> {
        let mut reader = ResponseReader::new(Limits::DEFAULT);
        let mut content = Vec::new();
        for part in message.chunks(step) {
            reader.push(part)?;
            content.extend_from_slice(&reader.take_content());
        }
        reader.finish()?;
        let complete = reader.is_complete();
        Ok((
            reader.head.take().ok_or(BhttpError::Truncated)?,
            content,
            complete,
        ))
    }

    #[test]
    fn what_is_written_in_pieces_is_what_the_whole_decoder_reads() {
        let message = streamed(&[b"one ", b"", b"two ", &[b'x'; 300]]);
        let whole = Response::decode(&message, &Limits::DEFAULT).unwrap();
        assert_eq!(
            whole.content[..],
            [b"one two ".as_slice(), &[b'x'; 300]].concat()
        );
        assert_eq!(whole.header, response().header);
    }

    #[test]
    fn both_framings_are_read_in_steps_of_any_size_and_with_padding() {
        let known = response()
            .with_content("x/y", b"one two three".to_vec())
            .unwrap();
        let mut with_trailer = known.clone();
        with_trailer.trailer = response().header;
        for message in [
            streamed(&[b"one ", b"two ", b"three"]),
            known.encode().unwrap().to_vec(),
            known.encode_padded().unwrap().to_vec(),
            with_trailer.encode().unwrap().to_vec(),
        ] {
            for step in 1..=message.len() {
                let (head, content, complete) = read(&message, step).unwrap();
                assert_eq!((head.status, &content[..]), (200, &b"one two three"[..]));
                assert_eq!(head.field("content-type"), Some(&b"text/event-stream"[..]));
                assert!(complete && head.content.is_empty());
            }
        }
    }

    #[test]
    fn content_can_be_taken_before_the_end() {
        let message = streamed(&[b"early", b"late"]);
        let mut reader = ResponseReader::new(Limits::DEFAULT);
        let at = message
            .windows(5)
            .position(|window| window == b"early")
            .unwrap();
        reader.push(&message[..at + 3]).unwrap();
        assert_eq!(reader.take_content()[..], *b"ear");
        assert!(reader.head().is_some() && !reader.is_complete());
        assert_eq!(reader.finish(), Err(BhttpError::Truncated));
    }

    #[test]
    fn a_message_that_is_cut_is_never_a_whole_one() {
        let message = streamed(&[b"one ", b"two"]);
        for length in 1..message.len() - 1 {
            let read = read(&message[..length], 7);
            // Where everything that follows is empty, it may be left out.
            assert!(
                read.is_err() || read.is_ok_and(|(_, content, _)| content.is_empty()),
                "{length}"
            );
        }
    }

    #[test]
    fn limits_and_alterations() {
        let tight = Limits {
            message_bytes: 100,
            ..Limits::DEFAULT
        };
        let mut reader = ResponseReader::new(tight);
        let long = streamed(&[&[1; 60], &[2; 60]]);
        let outcome = long.chunks(20).try_for_each(|part| reader.push(part));
        assert_eq!(outcome, Err(BhttpError::Over(Limit::MessageBytes)));
        let mut after = streamed(&[b"x"]);
        after.extend_from_slice(&[0, 0, 1]);
        assert_eq!(read(&after, 4).map(drop), Err(BhttpError::Padding));
        mutate(&streamed(&[b"one", b"two"]), 5_000, |bytes| {
            let stepwise = read(bytes, 3).map(|(head, content, _)| (head.status, content));
            // What both take they read alike.
            if let (Ok(stepwise), Ok(whole)) = (stepwise, Response::decode(bytes, &Limits::DEFAULT))
            {
                assert_eq!(stepwise, (whole.status, whole.content.to_vec()));
            }
        });
    }
}
