//! The two doors to the host: the exit, and memory that both sides see.

use crate::address::{Gfn, PAGE_BYTES};

/// Passes control to the hypervisor.
///
/// On hardware this is [`HardwareHypervisor`](crate::arch::HardwareHypervisor). A test's implementation answers as it
/// likes, because that is what a host can do.
pub trait Hypervisor {
    /// Writes the GHCB MSR, exits with VMGEXIT, and reads the MSR back.
    ///
    /// Nothing about the answer can be relied on.
    fn exit(&mut self, ghcb_msr: u64) -> u64;

    /// Waits a while before a request is repeated that the hypervisor was too busy for. Hosts limit the rate of guest
    /// messages to about one in a second or two.
    fn pause(&mut self) {
        core::hint::spin_loop();
    }
}

impl<H: Hypervisor + ?Sized> Hypervisor for &mut H {
    fn exit(&mut self, ghcb_msr: u64) -> u64 {
        (**self).exit(ghcb_msr)
    }

    fn pause(&mut self) {
        (**self).pause();
    }
}

/// Whole pages that the host reads and writes too, at any time.
///
/// There is never a Rust reference to such memory: it is read and written one quadword at a time, and what was read is
/// a copy that is then checked. The code of this crate reads no quadword twice between two exits.
pub trait SharedMemory {
    /// The first page.
    fn gfn(&self) -> Gfn;

    /// How many pages there are: at least one.
    fn pages(&self) -> usize;

    /// Reads quadword `index`.
    ///
    /// # Panics
    /// Beyond the last page.
    fn load(&self, index: usize) -> u64;

    /// Writes quadword `index`.
    ///
    /// # Panics
    /// Beyond the last page.
    fn store(&mut self, index: usize, value: u64);
}

/// Copies bytes from quadword `first` on into private memory, reading each quadword once.
///
/// # Panics
/// Beyond the last page.
pub fn copy_from_shared(memory: &impl SharedMemory, first: usize, into: &mut [u8]) {
    for (index, part) in into.chunks_mut(8).enumerate() {
        let quadword = memory.load(first + index).to_le_bytes();
        part.copy_from_slice(&quadword[..part.len()]);
    }
}

/// Copies bytes out to quadword `first` and on; the rest of the last quadword becomes zero.
///
/// # Panics
/// Beyond the last page.
pub fn copy_to_shared(memory: &mut impl SharedMemory, first: usize, bytes: &[u8]) {
    for (index, part) in bytes.chunks(8).enumerate() {
        let mut quadword = [0; 8];
        quadword[..part.len()].copy_from_slice(part);
        memory.store(first + index, u64::from_le_bytes(quadword));
    }
}

/// Fills all pages with zeros.
pub(crate) fn clear_shared(memory: &mut impl SharedMemory) {
    for index in 0..memory.pages() * (PAGE_BYTES / 8) {
        memory.store(index, 0);
    }
}
