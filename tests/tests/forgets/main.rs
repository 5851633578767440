//! The guest forgets, and lets nothing out: its whole memory and everything that leaves it is searched for what was in
//! requests, after requests of every fate. The same searches find it where it has to be.

mod canary;
mod epochs;
mod fates;
mod memory;
mod reference;
mod streams;
mod tls;
mod wire;

use std::ops::Range;
use std::sync::{Condvar, Mutex, PoisonError};

use cloister_emulator::memory_map::BACKING;
use cloister_tests::guests::{emulated_platform, fixture_image, options};
use xtask::image_build::Image;
use xtask::qemu::{GuestOptions, Platform};

/// Guests at a time: each keeps a processor busy, and while its memory is searched another one can use it.
const GUESTS: usize = 2;

static FREE: Mutex<usize> = Mutex::new(GUESTS);
static CHANGED: Condvar = Condvar::new();

/// The right to run a guest, as long as it lives.
struct Turn(());

impl Turn {
    /// Waits until a guest may run.
    fn wait() -> Self {
        let free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
        let free = CHANGED.wait_while(free, |free| *free == 0);
        *free.unwrap_or_else(PoisonError::into_inner) -= 1;
        Self(())
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *FREE.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        CHANGED.notify_one();
    }
}

/// A plain guest, and where its memory is.
fn plain() -> (GuestOptions, Vec<Range<u64>>) {
    plain_with(fixture_image())
}

fn plain_with(image: &Image) -> (GuestOptions, Vec<Range<u64>>) {
    let options = options(image);
    let all = 0..options.memory_mib << 20;
    (options, Vec::from([all]))
}

/// A guest on the emulated SNP platform. Pages that it shares lie where QEMU's devices find them, private ones in the
/// hypervisor's memory.
fn emulated() -> (GuestOptions, Vec<Range<u64>>) {
    emulated_with(fixture_image())
}

fn emulated_with(image: &Image) -> (GuestOptions, Vec<Range<u64>>) {
    let platform = Platform::SnpEmulated(emulated_platform().clone());
    let options = image.guest_options(platform);
    let bytes = options.memory_mib.next_multiple_of(2) << 20;
    (options, vec![0..bytes, BACKING..BACKING + bytes])
}
