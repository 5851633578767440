//! The memory that the device sees: rings and bounce buffers, all from the shared pool.

use core::ptr::NonNull;
use virtio_drivers::{BufferDirection, Hal, PAGE_SIZE, PhysAddr as DeviceAddr};

use crate::memory::PhysAddr;
use crate::memory::shared::{self, SharedBuffer};
use crate::stop::{self, Reason};

/// The crate's door to memory.
pub(super) struct PoolHal;

// SAFETY: 1. Pages come from the shared pool: page-aligned, zeroed, owned by nobody else until they are given back.
// 2. A buffer is shared by copying it into pages of its own, so the device never sees the buffer itself.
unsafe impl Hal for PoolHal {
    fn dma_alloc(pages: usize, _direction: BufferDirection) -> (DeviceAddr, NonNull<u8>) {
        match shared::pool().allocate(pages) {
            Some(buffer) => {
                let pointer = buffer.as_ptr();
                (buffer.leak().as_u64(), pointer)
            }
            // The crate takes address 0 as "no memory".
            None => (0, NonNull::dangling()),
        }
    }

    unsafe fn dma_dealloc(paddr: DeviceAddr, _vaddr: NonNull<u8>, pages: usize) -> i32 {
        match shared::pool().reclaim(PhysAddr::new(paddr), pages) {
            Some(_) => 0,
            None => -1,
        }
    }

    unsafe fn mmio_phys_to_virt(_paddr: DeviceAddr, _size: usize) -> NonNull<u8> {
        unreachable!("only the crate's own PCI transport asks for this")
    }

    unsafe fn share(buffer: NonNull<[u8]>, direction: BufferDirection) -> DeviceAddr {
        let Some(bounce) = shared::pool().allocate(pages_of(buffer)) else {
            stop::stop(
                Reason::OutOfMemory,
                format_args!("no shared memory for a packet"),
            );
        };
        if direction != BufferDirection::DeviceToDriver {
            // SAFETY: the caller passes a valid buffer that nothing else uses during this call.
            let bytes = unsafe { buffer.as_ref() };
            copied(bounce.write(0, bytes));
        }
        bounce.leak().as_u64()
    }

    unsafe fn unshare(paddr: DeviceAddr, mut buffer: NonNull<[u8]>, direction: BufferDirection) {
        let Some(bounce) = reclaimed(paddr, pages_of(buffer)) else {
            stop::stop(
                Reason::Panic,
                format_args!("a packet buffer that was never shared"),
            );
        };
        if direction != BufferDirection::DriverToDevice {
            // SAFETY: the caller passes a valid buffer that nothing else uses during this call.
            let bytes = unsafe { buffer.as_mut() };
            copied(bounce.read(0, bytes));
        }
    }
}

fn reclaimed(paddr: DeviceAddr, pages: usize) -> Option<SharedBuffer> {
    shared::pool().reclaim(PhysAddr::new(paddr), pages)
}

fn pages_of(buffer: NonNull<[u8]>) -> usize {
    buffer.len().div_ceil(PAGE_SIZE)
}

fn copied(result: Result<(), shared::OutOfBounds>) {
    result.expect("the pages were counted from the buffer's length");
}
