//! An answer that is read while it is made.

use std::io::{self, Read};

use cloister_protocol::bhttp;
use cloister_protocol::ohttp::OhttpError;
use cloister_protocol::ohttp::chunked::ResponseOpener;
use zeroize::Zeroizing;

use crate::client::{self, ClientError};
use crate::opening::Opening;
use crate::transport::Streaming;

/// What is read from the network at one time.
const READ_BYTES: usize = 4 << 10;

/// An answer that is read while it is made: status and fields are there, the content is what [`Read`] gives as soon as
/// it arrives. An error of reading holds a [`ClientError`].
///
/// The end of the content is not the end of what the server sends: records without content follow, so that nobody on the
/// way learns where the answer ended. Whoever hangs up at the end of the content shows it after all; so [`Drop`] has
/// another thread take the rest, and a program that ends calls [`ReplyStream::finish`] before. To drop it before the
/// content has ended cancels the request.
pub struct ReplyStream {
    head: bhttp::Response,
    /// Where its bytes come from; `None` once they have ended, as they should or not.
    source: Option<Streaming>,
    has_ended_well: bool,
    opening: Opening,
    ready: Zeroizing<Vec<u8>>,
    taken: usize,
}

impl ReplyStream {
    /// Waits for status and fields.
    pub(crate) fn begin(answer: Streaming, opener: ResponseOpener) -> Result<Self, ClientError> {
        let mut stream = Self {
            head: bhttp::Response::new(200),
            source: Some(answer),
            has_ended_well: false,
            opening: Opening::new(opener),
            ready: Zeroizing::default(),
            taken: 0,
        };
        loop {
            if let Some(head) = stream.opening.message.head() {
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
        let problem = client::sealed_problem(self.head.status, &self.take_content()?);
        self.finish()?;
        Err(problem)
    }

    /// The whole answer, for one that is no success and so is short. Its content can be read after that as before.
    pub(crate) fn whole(&mut self) -> Result<bhttp::Response, ClientError> {
        let content = self.take_content()?;
        self.ready.clone_from(&content);
        self.taken = 0;
        Ok(bhttp::Response {
            content,
            ..self.head.clone()
        })
    }

    /// Waits for all content.
    fn take_content(&mut self) -> Result<Zeroizing<Vec<u8>>, ClientError> {
        let mut content = Zeroizing::new(Vec::new());
        while self.fill()? {
            content.extend_from_slice(self.give(usize::MAX));
        }
        Ok(content)
    }

    /// Takes what is left, and checks that the stream has ended as it should: nobody has cut it. Waits for the server's
    /// last record.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn finish(mut self) -> Result<(), ClientError> {
        while !self.has_ended_well {
            self.receive()?;
            drop(self.opening.message.take_content());
        }
        Ok(())
    }

    /// Sees to it that there is content; false at its end.
    fn fill(&mut self) -> Result<bool, ClientError> {
        while self.taken == self.ready.len() {
            self.ready = self.opening.message.take_content();
            self.taken = 0;
            if self.ready.is_empty() {
                if self.opening.message.is_complete() || self.has_ended_well {
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
        let count = source.read(&mut buffer)?;
        if count == 0 {
            self.opening.end()?;
            self.has_ended_well = true;
            return Ok(());
        }
        self.opening.push(&buffer[..count])?;
        self.source = Some(source);
        Ok(())
    }
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
        let is_complete = self.opening.message.is_complete();
        let rest = self.source.take().filter(|_| is_complete);
        if let Some(mut source) = rest {
            // Nobody is left to be told of an error; and without a thread the connection ends now, which shows where
            // the answer ended.
            let _ = std::thread::Builder::new().spawn(move || {
                let mut buffer = [0; READ_BYTES];
                while matches!(source.read(&mut buffer), Ok(1..)) {}
            });
        }
    }
}
