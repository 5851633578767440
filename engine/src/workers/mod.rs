//! Processors that share the engine's work.
//!
//! Every number of the engine is computed by one worker, with the same operations in the same order however many there
//! are: results are the same bit for bit. Who computes which number is decided as the work goes on, so that a worker
//! that is held up does not hold up the others' share.

mod columns;
mod team;
#[cfg(any(test, feature = "std"))]
mod threads;

#[cfg(test)]
mod tests;

pub use columns::Columns;
pub(crate) use columns::{split_columns, split_parts};
pub use team::{Member, Team, Wait};
#[cfg(any(test, feature = "std"))]
pub use threads::Threads;

use core::fmt::Debug;

/// Most workers of one engine: working memory is bounded for so many.
pub const MAX_WORKERS: usize = 16;

/// A number of workers, of which the caller is the first.
pub trait Workers: Debug + Sync {
    /// How many there are: 1 to [`MAX_WORKERS`].
    fn count(&self) -> usize;

    /// Calls `task` with 0 on the caller and, while that call runs, with other numbers below [`Workers::count`], each at
    /// most once and on a worker of its own. Returns when all calls have.
    ///
    /// A worker that is busy elsewhere is not waited for, so the work must not be dealt out by number: whoever comes takes
    /// pieces until none is left, as the first worker does in any case.
    fn run(&self, task: &(dyn Fn(usize) + Sync));
}

/// Nobody but the caller.
#[derive(Clone, Copy, Debug)]
pub struct Alone;

impl Workers for Alone {
    fn count(&self) -> usize {
        1
    }

    fn run(&self, task: &(dyn Fn(usize) + Sync)) {
        task(0);
    }
}
