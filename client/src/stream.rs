//! An answer that is read while it is made.

use std::io::{self, Read};

use cloister_protocol::bhttp;
use cloister_protocol::bhttp::stream::ResponseReader;
use cloister_protocol::ohttp::OhttpError;
use cloister_protocol::ohttp::chunked::{Chunk, ResponseOpener};
use cloister_protocol::records;
use zeroize::Zeroizing;

use crate::client::{self, ClientError};
use crate::transport::Streaming;

/// What is read from the network at one time.
const READ_BYTES: usize = 4 << 10;

/// The most content of one answer. It is written at a kilobyte a second, so that this is hours.
const MAX_CONTENT_BYTES: usize = 16 << 20;

/// An answer that is read while it is made: status and fields are there, the content is what [`Read`] gives as soon as
/// it arrives. An error of reading holds a [`ClientError`].
///
/// The end of the content is not the end of what the server sends: records without content follow, so that nobody on the
/// way learns where the answer ended. Whoever hangs up at the end of the content shows it after all; so [`Drop`] has
/// another thread take the rest, and a program that ends calls [`ReplyStream::finish`] before. To drop it before the
/// content has ended cancels the request.
pub struct ReplyStream {
    head: bhttp::Response,
    /// `None` once the stream has ended, as it should or not.
    source: Option<Source>,
    has_ended_well: bool,
    message: ResponseReader,
    ready: Zeroizing<Vec<u8>>,
    taken: usize,
}

/// Where the records come from.
struct Source {
    answer: Streaming,
    opener: ResponseOpener,
    records: records::Decoder,
}

impl ReplyStream {
    /// Waits for status and fields.
    pub(crate) fn begin(answer: Streaming, opener: ResponseOpener) -> Result<Self, ClientError> {
        let limits = bhttp::Limits {
            message_bytes: MAX_CONTENT_BYTES,
            ..bhttp::Limits::DEFAULT
        };
        let mut stream = Self {
            head: bhttp::Response::new(200),
            source: Some(Source {
                answer,
                opener,
                records: records::Decoder::default(),
            }),
            has_ended_well: false,
            message: ResponseReader::new(limits),
            ready: Zeroizing::default(),
            taken: 0,
        };
        loop {
            if let Some(head) = stream.message.head() {
                stream.head = head.clone();
                return Ok(stream);
            }
            stream.receive()?;
        }
    }

    /// Status and fields; its content is empty.
    pub fn head(&self) -> &bhttp::Response {
        &self.head
    }

    /// The status.
    pub fn status(&self) -> u16 {
        self.head.status
    }

    /// Refuses an answer with a status other than 200, with the words of the server.
    ///
    /// # Errors
    /// [`ClientError::Problem`], and those of reading it.
    pub fn expect_ok(mut self) -> Result<Self, ClientError> {
        if self.head.status == 200 {
            return Ok(self);
        }
        let mut content = Zeroizing::new(Vec::new());
        while self.fill()? {
            content.extend_from_slice(self.give(usize::MAX));
        }
        let problem = client::sealed_problem(self.head.status, &content);
        self.finish()?;
        Err(problem)
    }

    /// Takes what is left, and checks that the stream has ended as it should: nobody has cut it. Waits for the server's
    /// last record.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn finish(mut self) -> Result<(), ClientError> {
        while !self.has_ended_well {
            self.receive()?;
            drop(self.message.take_content());
        }
        Ok(())
    }

    /// Sees to it that there is content; false at its end.
    fn fill(&mut self) -> Result<bool, ClientError> {
        while self.taken == self.ready.len() {
            self.ready = self.message.take_content();
            self.taken = 0;
            if self.ready.is_empty() {
                if self.message.is_complete() || self.has_ended_well {
                    return Ok(false);
                }
                self.receive()?;
            }
        }
        Ok(true)
    }

    /// At most so many bytes of the content that is there.
    fn give(&mut self, most: usize) -> &[u8] {
        let start = self.taken;
        self.taken += most.min(self.ready.len() - start);
        &self.ready[start..self.taken]
    }

    /// Waits for the next bytes, and takes the records that they complete. After an error, and after the end, it is cut
    /// off.
    fn receive(&mut self) -> Result<(), ClientError> {
        let mut source = self.source.take().ok_or(OhttpError::Truncated)?;
        let mut buffer = [0; READ_BYTES];
        let count = source.answer.read(&mut buffer)?;
        if count == 0 {
            let last = source.opener.finish()?;
            push(&mut self.message, &mut source.records, &last)?;
            self.message.finish()?;
            self.has_ended_well = true;
            return Ok(());
        }
        for chunk in source.opener.push(&buffer[..count])? {
            push(&mut self.message, &mut source.records, &chunk)?;
        }
        self.source = Some(source);
        Ok(())
    }
}

fn push(
    message: &mut ResponseReader,
    records: &mut records::Decoder,
    chunk: &Chunk,
) -> Result<(), ClientError> {
    Ok(message.push(records.read(chunk)?)?)
}

impl Read for ReplyStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() || !self.fill().map_err(io::Error::other)? {
            return Ok(0);
        }
        let content = self.give(buffer.len());
        buffer[..content.len()].copy_from_slice(content);
        Ok(content.len())
    }
}

impl Drop for ReplyStream {
    fn drop(&mut self) {
        let rest = self.source.take().filter(|_| self.message.is_complete());
        if let Some(mut source) = rest {
            // Nobody is left to be told of an error; and without a thread the connection ends now, which shows where
            // the answer ended.
            let _ = std::thread::Builder::new().spawn(move || {
                let mut buffer = [0; READ_BYTES];
                while matches!(source.answer.read(&mut buffer), Ok(1..)) {}
            });
        }
    }
}
