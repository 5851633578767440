//! An answer in records that is opened as it arrives: chunks of Oblivious HTTP, a record in each, and in all of them
//! together one binary HTTP response.

use cloister_protocol::bhttp::stream::ResponseReader;
use cloister_protocol::bhttp::{self, BhttpError};
use cloister_protocol::ohttp::OhttpError;
use cloister_protocol::ohttp::chunked::{Chunk, ResponseOpener};
use cloister_protocol::records::{Decoder, RecordError};

/// The most content of one answer. It is written at a kilobyte a second, so that this is hours.
const MAX_CONTENT_BYTES: usize = 16 << 20;

/// What came cannot be opened or read: it was altered or cut, or is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpeningError {
    #[error(transparent)]
    Chunks(#[from] OhttpError),
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error(transparent)]
    Message(#[from] BhttpError),
}

/// The answer so far.
pub(crate) struct Opening {
    /// `None` once it has ended.
    opener: Option<ResponseOpener>,
    records: Decoder,
    /// What the records say.
    pub(crate) message: ResponseReader,
}

impl Opening {
    pub(crate) fn new(opener: ResponseOpener) -> Self {
        let limits = bhttp::Limits {
            message_bytes: MAX_CONTENT_BYTES,
            ..bhttp::Limits::DEFAULT
        };
        Self {
            opener: Some(opener),
            records: Decoder::default(),
            message: ResponseReader::new(limits),
        }
    }

    /// Takes bytes as they arrive.
    ///
    /// # Errors
    /// [`OpeningError`].
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<(), OpeningError> {
        let opener = self.opener.as_mut().ok_or(OhttpError::Truncated)?;
        for chunk in opener.push(bytes)? {
            self.take(&chunk)?;
        }
        Ok(())
    }

    /// No more bytes come.
    ///
    /// # Errors
    /// [`OpeningError`] if it was cut.
    pub(crate) fn end(&mut self) -> Result<(), OpeningError> {
        let opener = self.opener.take().ok_or(OhttpError::Truncated)?;
        self.take(&opener.finish()?)?;
        Ok(self.message.finish()?)
    }

    /// Whether its bytes have ended, as they should or not.
    pub(crate) fn is_over(&self) -> bool {
        self.opener.is_none()
    }

    fn take(&mut self, record: &Chunk) -> Result<(), OpeningError> {
        Ok(self.message.push(self.records.read(record)?)?)
    }
}
