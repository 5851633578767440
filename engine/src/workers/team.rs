//! Workers that are processors of their own, whatever starts them and however they wait.
//!
//! No locks: the first worker publishes a task by counting a generation up, the others count themselves done.

use super::{MAX_WORKERS, Workers};
use core::cell::UnsafeCell;
use core::fmt;
use core::mem;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// How the processors of a team wait for each other.
pub trait Wait: Sync {
    /// Member `member` waits until there is a task.
    fn for_task(&self, member: usize, is_there: &dyn Fn() -> bool);

    /// There is a task now: wakes those who do not look by themselves.
    fn wake(&self);

    /// The first worker waits until all members have done their part. May end the program instead of returning.
    fn for_members(&self, are_done: &dyn Fn() -> bool);
}

type Task = *const (dyn Fn(usize) + Sync);

/// On a cache line of its own: members look at one while others write to another.
#[repr(align(64))]
struct Line<T>(T);

/// The processor that gives out work, and its members, which serve.
pub struct Team<W> {
    wait: W,
    members: usize,
    joined: AtomicUsize,
    is_running: AtomicBool,
    is_closed: AtomicBool,
    has_failed: AtomicBool,
    /// Counts tasks.
    generation: Line<AtomicUsize>,
    /// Members that have done the current task.
    done: Line<AtomicUsize>,
    /// Written between tasks, read during one.
    task: UnsafeCell<Option<Task>>,
}

// SAFETY: the task is `Sync`. The cell is written only by the one caller that `is_running` lets through, while all
// members have counted themselves done and not seen the next generation; they read it only in between.
unsafe impl<W: Sync> Sync for Team<W> {}
// SAFETY: as above; a task is only there while `run` borrows the team.
unsafe impl<W: Send> Send for Team<W> {}

impl<W> fmt::Debug for Team<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Team of 1 + {}", self.members)
    }
}

impl<W: Wait> Team<W> {
    /// A team that needs so many members beside the worker that calls [`Workers::run`]. No task ends before all have
    /// joined and serve.
    ///
    /// # Panics
    /// When the workers are more than [`MAX_WORKERS`].
    pub const fn new(members: usize, wait: W) -> Self {
        assert!(members < MAX_WORKERS, "too many workers");
        Self {
            wait,
            members,
            joined: AtomicUsize::new(0),
            is_running: AtomicBool::new(false),
            is_closed: AtomicBool::new(false),
            has_failed: AtomicBool::new(false),
            generation: Line(AtomicUsize::new(0)),
            done: Line(AtomicUsize::new(0)),
            task: UnsafeCell::new(None),
        }
    }

    /// The place of the next member; `None` when the team is complete.
    pub fn join(&self) -> Option<Member<'_, W>> {
        let joined = self
            .joined
            .try_update(Ordering::Relaxed, Ordering::Relaxed, |joined| {
                (joined < self.members).then_some(joined + 1)
            });
        joined.ok().map(|joined| Member {
            team: self,
            number: joined + 1,
        })
    }

    /// How its processors wait.
    pub fn wait(&self) -> &W {
        &self.wait
    }

    /// Lets all members return from [`Member::serve`].
    pub fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
        self.wait.wake();
    }
}

impl<W: Wait> Workers for Team<W> {
    fn count(&self) -> usize {
        self.members + 1
    }

    fn run(&self, task: &(dyn Fn(usize) + Sync)) {
        let other = self.is_running.swap(true, Ordering::Acquire);
        assert!(!other, "a team has one task at a time");
        assert!(
            !self.has_failed.load(Ordering::Relaxed),
            "a worker has failed"
        );
        let task: *const (dyn Fn(usize) + Sync + '_) = task;
        // SAFETY: only the lifetime changes. No member uses the task after it has counted itself done, and `Finish`
        // waits for all of them before this function is left, even by a panic.
        let erased: Task = unsafe { mem::transmute(task) };
        // SAFETY: this is the only caller, and no member reads the cell before the generation changes.
        unsafe { *self.task.get() = Some(erased) };
        self.done.0.store(0, Ordering::Relaxed);
        self.generation.0.fetch_add(1, Ordering::Release);
        self.wait.wake();
        let finish = Finish(self);
        // SAFETY: the reference that came in is still borrowed.
        unsafe { (*task)(0) };
        drop(finish);
        assert!(
            !self.has_failed.load(Ordering::Relaxed),
            "a worker has failed"
        );
    }
}

/// Ends a task when dropped: waits for the members.
struct Finish<'t, W: Wait>(&'t Team<W>);

impl<W: Wait> Drop for Finish<'_, W> {
    fn drop(&mut self) {
        let Team { done, members, .. } = self.0;
        let are_done = || done.0.load(Ordering::Acquire) == *members;
        while !are_done() {
            self.0.wait.for_members(&are_done);
        }
        self.0.is_running.store(false, Ordering::Release);
    }
}

/// The place of one processor in a team.
#[derive(Debug)]
pub struct Member<'t, W> {
    team: &'t Team<W>,
    number: usize,
}

impl<W: Wait> Member<'_, W> {
    /// Its number as a worker, from 1 on.
    pub fn number(&self) -> usize {
        self.number
    }

    /// Does its part of every task until the team is closed.
    pub fn serve(self) {
        let team = self.team;
        let mut seen = 0;
        loop {
            let has_task = || team.generation.0.load(Ordering::Acquire) != seen;
            let is_closed = || team.is_closed.load(Ordering::Acquire);
            while !has_task() {
                if is_closed() {
                    return;
                }
                let wanted = || has_task() || is_closed();
                team.wait.for_task(self.number, &wanted);
            }
            // No task is published before this one is done here: generations come one by one.
            seen = seen.wrapping_add(1);
            let mut part = Part {
                team,
                is_done: false,
            };
            // SAFETY: the generation changed, so `run` has written the cell and waits for this member. Until it has
            // counted itself done, which dropping `part` does, the cell stays and the task is borrowed.
            if let Some(task) = unsafe { *team.task.get() } {
                // SAFETY: as above.
                unsafe { (*task)(self.number) };
            }
            part.is_done = true;
        }
    }
}

/// A member's part of one task; when dropped, even by a panic, the member has counted itself done.
struct Part<'t, W> {
    team: &'t Team<W>,
    is_done: bool,
}

impl<W> Drop for Part<'_, W> {
    fn drop(&mut self) {
        if !self.is_done {
            self.team.has_failed.store(true, Ordering::Relaxed);
        }
        self.team.done.0.fetch_add(1, Ordering::Release);
    }
}
