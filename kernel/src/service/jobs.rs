//! Summaries that wait, and the one at work: first come, first served.

use alloc::collections::VecDeque;
use cloister_protocol::api::problem::Problem;
use cloister_protocol::api::summarize::{Request, Response};
use cloister_protocol::ohttp::ResponseSealer;

use super::summarizer::{Progress, Summarizer};

/// Most requests that wait; one more is answered with 429.
pub const MAX_WAITING: usize = 32;

/// One client's connection, never used for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket(pub u64);

/// The queue. Dropping an entry wipes the request in it, and the job's memory if it is at work.
pub struct Jobs<J> {
    waiting: VecDeque<Entry<Request>>,
    working: Option<Entry<J>>,
}

struct Entry<T> {
    ticket: Ticket,
    sealer: ResponseSealer,
    work: T,
}

/// A job that has come to its end.
pub struct Ended {
    /// Whose it was.
    pub ticket: Ticket,
    /// Seals the answer to it.
    pub sealer: ResponseSealer,
    /// What came out.
    pub outcome: Result<Response, Problem>,
}

impl<J> Default for Jobs<J> {
    fn default() -> Self {
        Self {
            waiting: VecDeque::with_capacity(MAX_WAITING),
            working: None,
        }
    }
}

impl<J> Jobs<J> {
    /// Jobs that wait or are at work.
    #[must_use]
    pub fn count(&self) -> usize {
        self.waiting.len() + usize::from(self.working.is_some())
    }

    /// Queues a request.
    ///
    /// # Errors
    /// Its sealer, if the queue is full.
    pub fn push(
        &mut self,
        ticket: Ticket,
        sealer: ResponseSealer,
        work: Request,
    ) -> Result<(), ResponseSealer> {
        if self.waiting.len() >= MAX_WAITING {
            return Err(sealer);
        }
        self.waiting.push_back(Entry {
            ticket,
            sealer,
            work,
        });
        Ok(())
    }

    /// Drops the job of a client that has left; false if it has none.
    pub fn cancel(&mut self, ticket: Ticket) -> bool {
        let before = self.count();
        self.waiting.retain(|entry| entry.ticket != ticket);
        self.working.take_if(|entry| entry.ticket == ticket);
        self.count() < before
    }

    /// Begins the next job or advances the one at work by a step.
    pub fn step(&mut self, summarizer: &impl Summarizer<Job = J>) -> Option<Ended> {
        if self.working.is_none() {
            let Entry {
                ticket,
                sealer,
                work,
            } = self.waiting.pop_front()?;
            match summarizer.start(work) {
                Ok(job) => {
                    self.working = Some(Entry {
                        ticket,
                        sealer,
                        work: job,
                    })
                }
                Err(problem) => {
                    return Some(Ended {
                        ticket,
                        sealer,
                        outcome: Err(problem),
                    });
                }
            }
        }
        let outcome = match summarizer.step(&mut self.working.as_mut()?.work) {
            Progress::Working => return None,
            Progress::Done(summary) => Ok(summary),
            Progress::Failed(problem) => Err(problem),
        };
        let Entry { ticket, sealer, .. } = self.working.take()?;
        Some(Ended {
            ticket,
            sealer,
            outcome,
        })
    }
}
