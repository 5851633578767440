//! A summary that is shown while it is written.

use std::io;

use cloister_protocol::api::problem::Problem;
use cloister_protocol::api::summarize::{Event, Usage};
use cloister_protocol::ohttp::OhttpError;
use zeroize::Zeroizing;

use crate::client::ClientError;
use crate::events::Events;
use crate::stream::ReplyStream;

/// The pieces of a summary, each in whole characters, as soon as they arrive.
pub struct SummaryStream {
    events: Events<ReplyStream>,
    end: Option<(Usage, String)>,
    /// There are no more pieces, or they cannot be read.
    is_over: bool,
}

impl SummaryStream {
    pub(crate) fn new(reply: ReplyStream) -> Self {
        Self {
            events: Events::new(reply),
            end: None,
            is_over: false,
        }
    }

    /// What the summary took, and the model that wrote it; to be asked when there are no more pieces. Waits for the
    /// server's last record, which may come seconds after the last piece.
    ///
    /// # Errors
    /// [`ClientError`] if pieces are missing.
    pub fn finish(self) -> Result<(Usage, String), ClientError> {
        let is_done = self.events.is_done();
        self.events.into_inner().finish()?;
        self.end
            .filter(|_| is_done)
            .ok_or(OhttpError::Truncated.into())
    }

    fn next_piece(&mut self) -> Result<Option<Zeroizing<String>>, ClientError> {
        for data in self.events.by_ref() {
            let data = data.map_err(of_reading)?;
            let mut event = Event::from_json(data.as_bytes())?;
            if let Some(error) = event.error.take() {
                let problem = Problem::from_status(500).with_detail(error.message);
                return Err(ClientError::Problem {
                    problem,
                    sealed: true,
                });
            }
            if let (Some(usage), Some(model)) = (event.usage, event.model.take()) {
                self.end = Some((usage, model));
            }
            if !event.text.is_empty() {
                return Ok(Some(Zeroizing::new(std::mem::take(&mut event.text))));
            }
        }
        if self.events.is_done() {
            Ok(None)
        } else {
            Err(OhttpError::Truncated.into())
        }
    }
}

impl Iterator for SummaryStream {
    type Item = Result<Zeroizing<String>, ClientError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over {
            return None;
        }
        let piece = self.next_piece().transpose();
        self.is_over = !matches!(piece, Some(Ok(_)));
        piece
    }
}

/// What reading a reply failed with is one of our errors.
fn of_reading(error: io::Error) -> ClientError {
    error
        .downcast::<ClientError>()
        .unwrap_or_else(ClientError::Events)
}
