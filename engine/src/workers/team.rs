//! Workers that are processors of their own, whatever starts them and however they wait.
//!
//! No locks: one atomic word tells which task it is, whether it is open, and how many members are inside. A member that
//! finds an open task counts itself in, works, and counts itself out. When the first worker has done what it could, it
//! shuts the task, so that nobody comes in any more, and waits for those inside. It never waits for a member that has
//! not come: one whose processor was taken away by the host costs its share of the work and no more.

use super::{MAX_WORKERS, Workers};
use core::cell::UnsafeCell;
use core::fmt;
use core::mem;
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// How the processors of a team wait for each other.
pub trait Wait: Sync {
    /// Member `member` waits until there is a task.
    fn for_task(&self, member: usize, is_there: &dyn Fn() -> bool);

    /// There is a task now: wakes those who do not look by themselves.
    fn wake(&self);

    /// The first worker waits until no member is inside the task. May end the program instead of returning.
    fn for_members(&self, are_out: &dyn Fn() -> bool);
}

type Task = *const (dyn Fn(usize) + Sync);

/// On a cache line of its own: members look at one while others write to another.
#[repr(align(64))]
struct Line<T>(T);

/// Members inside the task, in the low bits of [`Team::state`].
const INSIDE: u64 = OPEN - 1;
/// Members may come in.
const OPEN: u64 = 1 << 8;
/// One task in the number above the other bits. 55 bits never overflow.
const TASK: u64 = 1 << 9;
const _: () = assert!((MAX_WORKERS as u64) < INSIDE, "all members can be counted");

/// The processor that gives out work, and its members, which serve.
pub struct Team<W> {
    wait: W,
    members: usize,
    joined: AtomicUsize,
    is_running: AtomicBool,
    is_closed: AtomicBool,
    has_failed: AtomicBool,
    /// The number of the latest task, whether it is open, and how many members are inside.
    state: Line<AtomicU64>,
    /// Written while the task is shut and nobody inside, read by those inside.
    task: UnsafeCell<Option<Task>>,
}

// SAFETY: the task is `Sync`. The cell is written only by the one caller that `is_running` lets through, while the task
// before is shut and nobody inside; a member reads it only while it is counted in, and it counts itself in only while
// the task is open.
unsafe impl<W: Sync> Sync for Team<W> {}
// SAFETY: as above; a task is only there while `run` borrows the team.
unsafe impl<W: Send> Send for Team<W> {}

impl<W> fmt::Debug for Team<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Team of 1 + {}", self.members)
    }
}

impl<W: Wait> Team<W> {
    /// A team with places for so many members beside the worker that calls [`Workers::run`]. Tasks are done without
    /// those that have not joined.
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
            state: Line(AtomicU64::new(0)),
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

    /// Counts a member in if there is an open task other than number `seen`.
    fn enter(&self, seen: u64) -> Option<Part<'_, W>> {
        let entered = self
            .state
            .0
            .try_update(Ordering::Acquire, Ordering::Relaxed, |state| {
                is_open(state, seen).then_some(state + 1)
            });
        entered.ok().map(|state| Part {
            team: self,
            number: state / TASK,
            is_done: false,
        })
    }
}

/// Whether a member that did task number `seen` last may come in.
fn is_open(state: u64, seen: u64) -> bool {
    state & OPEN != 0 && state / TASK != seen
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
        // SAFETY: only the lifetime changes. A member uses the task only while it is counted in, and `Finish` lets nobody
        // in any more and waits for all who are inside before this function is left, even by a panic.
        let erased: Task = unsafe { mem::transmute(task) };
        // SAFETY: this is the only caller. The task before is shut and nobody inside, so no member reads the cell before
        // the state says that there is a new one.
        unsafe { *self.task.get() = Some(erased) };
        let number = self.state.0.load(Ordering::Relaxed) / TASK + 1;
        // Nobody else writes now: members do only while the task is open or they are inside.
        self.state
            .0
            .store((number * TASK) | OPEN, Ordering::Release);
        let finish = Finish(self);
        self.wait.wake();
        // SAFETY: the reference that came in is still borrowed.
        unsafe { (*task)(0) };
        drop(finish);
        assert!(
            !self.has_failed.load(Ordering::Relaxed),
            "a worker has failed"
        );
    }
}

/// Ends a task when dropped: shuts it and waits for the members inside.
struct Finish<'t, W: Wait>(&'t Team<W>);

impl<W: Wait> Drop for Finish<'_, W> {
    fn drop(&mut self) {
        let state = &self.0.state.0;
        state.fetch_and(!OPEN, Ordering::Relaxed);
        // Whoever counted itself out did so with Release: what it wrote is seen from here on.
        let are_out = || state.load(Ordering::Acquire) & INSIDE == 0;
        while !are_out() {
            self.0.wait.for_members(&are_out);
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

    /// Takes part in every task that is open when it looks, until the team is closed.
    pub fn serve(self) {
        let team = self.team;
        let mut seen = 0;
        loop {
            let Some(mut part) = team.enter(seen) else {
                if team.is_closed.load(Ordering::Acquire) {
                    return;
                }
                let wanted = || {
                    is_open(team.state.0.load(Ordering::Relaxed), seen)
                        || team.is_closed.load(Ordering::Relaxed)
                };
                team.wait.for_task(self.number, &wanted);
                continue;
            };
            seen = part.number;
            // SAFETY: this member is counted in, with Acquire on what `run` stored with Release after it had written the
            // cell. Until `part` is dropped, which counts it out, `run` neither returns nor writes the cell again.
            if let Some(task) = unsafe { *team.task.get() } {
                // SAFETY: as above: `run` still borrows the task.
                unsafe { (*task)(self.number) };
            }
            part.is_done = true;
        }
    }
}

/// A member inside a task; when dropped, even by a panic, the member has counted itself out.
struct Part<'t, W> {
    team: &'t Team<W>,
    /// The task's.
    number: u64,
    is_done: bool,
}

impl<W> Drop for Part<'_, W> {
    fn drop(&mut self) {
        if !self.is_done {
            self.team.has_failed.store(true, Ordering::Relaxed);
        }
        self.team.state.0.fetch_sub(1, Ordering::Release);
    }
}
