//! Jobs that wait, and those at work: first come, first served.

use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;
use cloister_engine::session::MAX_SEQUENCES;
use cloister_protocol::api::problem::Problem;
use zeroize::Zeroizing;

use super::generator::{Answer, Generator, Progress, Task};

/// Most requests that wait; one more is answered with 429.
pub const MAX_WAITING: usize = 32;
/// Most jobs at work at one time: each has one sequence in the engine's batch.
pub const MAX_RUNNING: usize = MAX_SEQUENCES;

/// One client's connection, never used for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket(pub u64);

/// The queue. Dropping an entry wipes the request in it.
pub struct Jobs<J> {
    waiting: VecDeque<Entry<Task>>,
    /// The oldest first.
    running: Vec<Entry<J>>,
}

struct Entry<T> {
    ticket: Ticket,
    work: T,
}

/// What has come of a job.
#[derive(Debug)]
pub struct News {
    /// Whose it is.
    pub ticket: Ticket,
    /// What it is.
    pub event: Event,
}

/// A piece of a job's text, or its end.
#[derive(Debug)]
pub enum Event {
    /// The next piece.
    Text(Zeroizing<String>),
    /// The job is over.
    Ended(Result<Answer, Problem>),
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

    /// Queues a task; false if the queue is full.
    #[must_use]
    pub fn push(&mut self, ticket: Ticket, work: Task) -> bool {
        let has_room = !self.is_full();
        if has_room {
            self.waiting.push_back(Entry { ticket, work });
        }
        has_room
    }

    /// Ends the job of a client that has left; false if it has none.
    pub fn cancel(
        &mut self,
        ticket: Ticket,
        generator: Option<&mut impl Generator<Job = J>>,
    ) -> bool {
        let before = self.count();
        self.waiting.retain(|entry| entry.ticket != ticket);
        let place = self.running.iter().position(|entry| entry.ticket == ticket);
        if let (Some(place), Some(generator)) = (place, generator) {
            generator.cancel(self.running.remove(place).work);
        }
        self.count() < before
    }

    /// Takes all jobs at work on by a bounded step, and begins one that waits if there is a place. Returns what has come
    /// of it.
    pub fn step(&mut self, generator: &mut impl Generator<Job = J>) -> Vec<News> {
        generator.step();
        let mut news = Vec::new();
        // At most one prompt is begun at a time, and none before that of an older job: one that needs much room gets
        // it when those before it have ended.
        let mut may_begin = true;
        let mut index = 0;
        while let Some(entry) = self.running.get_mut(index) {
            let ticket = entry.ticket;
            let event = match generator.advance(&mut entry.work, may_begin) {
                Progress::Done(answer) => Event::Ended(Ok(answer)),
                Progress::Failed(problem) => Event::Ended(Err(problem)),
                Progress::Text(text) => Event::Text(text),
                progress => {
                    may_begin &= progress == Progress::Working;
                    index += 1;
                    continue;
                }
            };
            match event {
                Event::Text(_) => index += 1,
                Event::Ended(_) => drop(self.running.remove(index)),
            }
            news.push(News { ticket, event });
        }
        if may_begin && self.running.len() < MAX_RUNNING {
            news.extend(self.start_next(generator));
        }
        news
    }

    /// Prepares the job that has waited longest; returns its end if that comes with it.
    fn start_next(&mut self, generator: &mut impl Generator<Job = J>) -> Option<News> {
        let Entry { ticket, work } = self.waiting.pop_front()?;
        match generator.start(work) {
            Ok(work) => {
                self.running.push(Entry { ticket, work });
                None
            }
            Err(problem) => Some(News {
                ticket,
                event: Event::Ended(Err(problem)),
            }),
        }
    }
}
