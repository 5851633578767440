//! Workers that are threads of a host process.

use super::{Team, Wait, Workers};
use core::sync::atomic::{AtomicUsize, Ordering, fence};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::vec::Vec;

/// Looks before a thread sleeps: about the time between two tasks of one step. Under Miri each takes far longer.
const SPINS: u32 = if cfg!(miri) { 50 } else { 4_000 };

/// A thread that calls, and others that help it.
#[derive(Debug)]
pub struct Threads {
    team: Arc<Team<SpinThenSleep>>,
    handles: Vec<JoinHandle<()>>,
}

impl Threads {
    /// So many threads, the caller's among them.
    ///
    /// # Panics
    /// When `count` is 0 or above [`MAX_WORKERS`](super::MAX_WORKERS), or the system gives no more threads.
    pub fn new(count: usize) -> Self {
        let members = count.checked_sub(1).expect("one thread at least");
        let team = Arc::new(Team::new(members, SpinThenSleep::default()));
        let handles = (0..members).map(|_| {
            let team = Arc::clone(&team);
            thread::spawn(move || {
                if let Some(member) = team.join() {
                    member.serve();
                }
            })
        });
        let handles = handles.collect();
        Self { team, handles }
    }
}

impl Workers for Threads {
    fn count(&self) -> usize {
        self.team.count()
    }

    fn run(&self, task: &(dyn Fn(usize) + Sync)) {
        self.team.run(task);
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.team.close();
        for handle in self.handles.drain(..) {
            // One that has panicked has said so.
            let _ = handle.join();
        }
    }
}

/// Waits actively for a while, then gives the processor away.
#[derive(Debug, Default)]
struct SpinThenSleep {
    sleepers: AtomicUsize,
    lock: Mutex<()>,
    task: Condvar,
}

impl Wait for SpinThenSleep {
    fn for_task(&self, _: usize, is_there: &dyn Fn() -> bool) {
        if spin(is_there) {
            return;
        }
        let mut guard = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        self.sleepers.fetch_add(1, Ordering::Relaxed);
        // Either this thread sees the task, or `wake` sees the sleeper.
        fence(Ordering::SeqCst);
        while !is_there() {
            guard = self
                .task
                .wait(guard)
                .unwrap_or_else(PoisonError::into_inner);
        }
        self.sleepers.fetch_sub(1, Ordering::Relaxed);
    }

    fn wake(&self) {
        fence(Ordering::SeqCst);
        if self.sleepers.load(Ordering::Relaxed) > 0 {
            // Whoever has counted itself holds the lock until it waits.
            drop(self.lock.lock().unwrap_or_else(PoisonError::into_inner));
            self.task.notify_all();
        }
    }

    fn for_members(&self, are_out: &dyn Fn() -> bool) {
        if !spin(are_out) {
            thread::yield_now();
        }
    }
}

fn spin(is_over: &dyn Fn() -> bool) -> bool {
    (0..SPINS).any(|_| {
        core::hint::spin_loop();
        is_over()
    })
}
