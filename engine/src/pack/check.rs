//! All workers check chunks, while the first one brings the next.

use super::format::CHUNK_BYTES;
use super::{Head, PackError};
use crate::workers::Workers;
use core::sync::atomic::{AtomicUsize, Ordering};
use spin::Mutex;

impl Head {
    /// Checks `bytes`, which are whole chunks from number `first` on (the pack's last chunk may be shorter). All workers
    /// take chunk after chunk; the first one calls `meanwhile` before it takes its first.
    ///
    /// # Errors
    /// [`PackError::Chunk`] with the first chunk whose bytes are not those that were packed. `meanwhile` was called all
    /// the same.
    pub fn check_chunks(
        &self,
        workers: &dyn Workers,
        first: usize,
        bytes: &[u8],
        meanwhile: impl FnOnce() + Send,
    ) -> Result<(), PackError> {
        let chunks = bytes.chunks(CHUNK_BYTES);
        let meanwhile = Mutex::new(Some(meanwhile));
        let next = AtomicUsize::new(0);
        // Counted from the first of `bytes`, so that none of them has this number.
        let altered = AtomicUsize::new(usize::MAX);
        workers.run(&|worker| {
            if worker == 0
                && let Some(meanwhile) = meanwhile.lock().take()
            {
                meanwhile();
            }
            loop {
                let chunk = next.fetch_add(1, Ordering::Relaxed);
                let Some(bytes) = chunks.clone().nth(chunk) else {
                    return;
                };
                if self
                    .check_chunk(first.saturating_add(chunk), bytes)
                    .is_err()
                {
                    altered.fetch_min(chunk, Ordering::Relaxed);
                }
            }
        });
        // The first worker takes chunks until none is left; only one that calls nobody leaves any.
        assert!(
            next.into_inner() > chunks.len(),
            "the workers left chunks unchecked"
        );
        match altered.into_inner() {
            usize::MAX => Ok(()),
            chunk => Err(PackError::Chunk {
                index: first.saturating_add(chunk),
            }),
        }
    }
}
