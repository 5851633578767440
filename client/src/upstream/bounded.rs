//! A body that passes through: its data and nothing else of it, within bounds.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::body::{Body, Bytes, Frame, SizeHint};
use tokio::time::Sleep;

use crate::serving::reply::BodyError;

/// Why a body that passed through ended before its end; nothing while it has not.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ending(Arc<OnceLock<BodyError>>);

impl Ending {
    /// What went wrong.
    pub(crate) fn error(&self) -> Option<BodyError> {
        self.0.get().copied()
    }
}

/// At most so many bytes, within so much time. Trailers are left out. `held` is dropped with it, or at its end handed to
/// `done`.
pub(crate) struct Bounded<B, H> {
    body: B,
    most_bytes: usize,
    passed_bytes: usize,
    longest: Duration,
    deadline: Pin<Box<Sleep>>,
    ending: Ending,
    held: Option<H>,
    done: fn(H),
    is_over: bool,
}

impl<B, H> Bounded<B, H> {
    pub(crate) fn new(body: B, most_bytes: usize, longest: Duration, held: H, done: fn(H)) -> Self {
        Self {
            body,
            most_bytes,
            passed_bytes: 0,
            longest,
            deadline: Box::pin(tokio::time::sleep(longest)),
            ending: Ending::default(),
            held: Some(held),
            done,
            is_over: false,
        }
    }

    /// Tells what went wrong, once it has.
    pub(crate) fn ending(&self) -> Ending {
        self.ending.clone()
    }

    fn finish(&mut self) {
        self.is_over = true;
        if let Some(held) = self.held.take() {
            (self.done)(held);
        }
    }

    fn fail(&mut self, error: BodyError) -> Cut {
        self.is_over = true;
        // What it holds is of no use to anybody else now.
        self.held = None;
        // The first reason is the one.
        let _ = self.ending.0.set(error);
        Cut(error)
    }
}

/// The body ended before its end.
#[derive(Debug)]
pub(crate) struct Cut(BodyError);

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the body was cut: {:?}", self.0)
    }
}

impl std::error::Error for Cut {}

impl<B, H> Body for Bounded<B, H>
where
    B: Body<Data = Bytes> + Unpin,
    H: Unpin,
{
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let this = &mut *self;
        if this.is_over {
            return Poll::Ready(None);
        }
        if this.deadline.as_mut().poll(cx).is_ready() {
            let error = BodyError::TooSlow(this.longest);
            return Poll::Ready(Some(Err(this.fail(error))));
        }
        let frame = match ready!(Pin::new(&mut this.body).poll_frame(cx)) {
            Some(Ok(frame)) => frame.into_data().ok(),
            Some(Err(_)) => return Poll::Ready(Some(Err(this.fail(BodyError::Broken)))),
            None => None,
        };
        let Some(data) = frame else {
            this.finish();
            return Poll::Ready(None);
        };
        this.passed_bytes += data.len();
        if this.passed_bytes > this.most_bytes {
            let error = BodyError::TooLarge(this.most_bytes);
            return Poll::Ready(Some(Err(this.fail(error))));
        }
        // The last byte of a body of known length is its end: nobody asks further.
        if this.body.is_end_stream() {
            this.finish();
        }
        Poll::Ready(Some(Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        self.is_over || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
