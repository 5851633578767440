//! Summaries that wait, and those at work: first come, first served.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use cloister_engine::session::MAX_SEQUENCES;
use cloister_protocol::api::problem::Problem;
use cloister_protocol::api::summarize::{Request, Response};
use cloister_protocol::ohttp::ResponseSealer;

use super::summarizer::{Progress, Summarizer};

/// Most requests that wait; one more is answered with 429.
pub const MAX_WAITING: usize = 32;
/// Most jobs at work at one time: each has one sequence in the engine's batch.
pub const MAX_RUNNING: usize = MAX_SEQUENCES;

/// One client's connection, never used for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket(pub u64);

/// The queue. Dropping an entry wipes the request in it.
pub struct Jobs<J> {
    waiting: VecDeque<Entry<Request>>,
    /// The oldest first.
    running: Vec<Entry<J>>,
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
            running: Vec::with_capacity(MAX_RUNNING),
        }
    }
}

impl<J> Jobs<J> {
    /// Jobs that wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Jobs at work.
    #[must_use]
    pub fn running(&self) -> usize {
        self.running.len()
    }

    /// Jobs that wait or are at work.
    #[must_use]
    pub fn count(&self) -> usize {
        self.waiting() + self.running()
    }

    /// Whether no more can wait.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.waiting.len() >= MAX_WAITING
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
        if self.is_full() {
            return Err(sealer);
        }
        self.waiting.push_back(Entry {
            ticket,
            sealer,
            work,
        });
        Ok(())
    }

    /// Ends the job of a client that has left; false if it has none.
    pub fn cancel(
        &mut self,
        ticket: Ticket,
        summarizer: Option<&mut impl Summarizer<Job = J>>,
    ) -> bool {
        let before = self.count();
        self.waiting.retain(|entry| entry.ticket != ticket);
        let place = self.running.iter().position(|entry| entry.ticket == ticket);
        if let (Some(place), Some(summarizer)) = (place, summarizer) {
            summarizer.cancel(self.running.remove(place).work);
        }
        self.count() < before
    }

    /// Takes all jobs at work on by a bounded step, and begins one that waits if there is a place. Returns those that
    /// have come to their end.
    pub fn step(&mut self, summarizer: &mut impl Summarizer<Job = J>) -> Vec<Ended> {
        summarizer.step();
        let mut ended = Vec::new();
        // At most one prompt is begun at a time, and none before that of an older job: one that needs much room gets
        // it when those before it have ended.
        let mut may_begin = true;
        let mut index = 0;
        while let Some(entry) = self.running.get_mut(index) {
            let outcome = match summarizer.advance(&mut entry.work, may_begin) {
                Progress::Done(summary) => Ok(summary),
                Progress::Failed(problem) => Err(problem),
                progress => {
                    may_begin &= progress == Progress::Working;
                    index += 1;
                    continue;
                }
            };
            let Entry { ticket, sealer, .. } = self.running.remove(index);
            ended.push(Ended {
                ticket,
                sealer,
                outcome,
            });
        }
        if may_begin && self.running.len() < MAX_RUNNING {
            ended.extend(self.start_next(summarizer));
        }
        ended
    }

    /// Prepares the job that has waited longest; returns it if it ends with that.
    fn start_next(&mut self, summarizer: &mut impl Summarizer<Job = J>) -> Option<Ended> {
        let Entry {
            ticket,
            sealer,
            work,
        } = self.waiting.pop_front()?;
        match summarizer.start(work) {
            Ok(work) => {
                self.running.push(Entry {
                    ticket,
                    sealer,
                    work,
                });
                None
            }
            Err(problem) => Some(Ended {
                ticket,
                sealer,
                outcome: Err(problem),
            }),
        }
    }
}
