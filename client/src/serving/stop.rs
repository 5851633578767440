//! Asking a server, or anything else that goes on for ever, to stop.

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Whether to stop. Clones are the same one.
#[derive(Clone, Debug)]
pub struct Stop(Arc<watch::Sender<bool>>);

impl Default for Stop {
    fn default() -> Self {
        Self::new()
    }
}

impl Stop {
    /// Not yet.
    pub fn new() -> Self {
        Self(Arc::new(watch::Sender::new(false)))
    }

    /// Now.
    pub fn stop(&self) {
        self.0.send_replace(true);
    }

    /// Whether it is time.
    pub fn is_stopped(&self) -> bool {
        *self.0.borrow()
    }

    /// Returns when it is time.
    pub(crate) async fn stopped(&self) {
        let mut receiver = self.0.subscribe();
        // It cannot fail: the sender is in here.
        let _ = receiver.wait_for(|stopped| *stopped).await;
    }

    /// Stops at SIGTERM and at SIGINT, which ctrl-c sends. A second signal of them ends the process at once.
    ///
    /// # Errors
    /// Where signals cannot be waited for.
    pub fn at_signals(&self) -> io::Result<()> {
        let runtime = one_thread()?;
        let (mut terminate, mut interrupt) = {
            let _entered = runtime.enter();
            (
                signal(SignalKind::terminate())?,
                signal(SignalKind::interrupt())?,
            )
        };
        let stop = self.clone();
        thread::Builder::new()
            .name("signals".into())
            .spawn(move || {
                let mut next = || {
                    runtime.block_on(async {
                        tokio::select! {
                            _ = terminate.recv() => 143,
                            _ = interrupt.recv() => 130,
                        }
                    })
                };
                next();
                stop.stop();
                std::process::exit(next());
            })?;
        Ok(())
    }

    /// Waits for so long, or until it is time; gives whether it is.
    ///
    /// # Errors
    /// Where the system has no timers.
    pub fn wait(&self, duration: Duration) -> io::Result<bool> {
        one_thread()?.block_on(async {
            let _ = tokio::time::timeout(duration, self.stopped()).await;
        });
        Ok(self.is_stopped())
    }
}

/// For a few connections, or none: everything in one thread.
pub(crate) fn one_thread() -> io::Result<runtime::Runtime> {
    runtime::Builder::new_current_thread().enable_all().build()
}

/// For many connections: a thread for each processor.
pub(crate) fn threads() -> io::Result<runtime::Runtime> {
    runtime::Builder::new_multi_thread().enable_all().build()
}
