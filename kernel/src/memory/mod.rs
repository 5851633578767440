//! Physical memory, page tables, the heap, and the two kinds of memory that the host can reach:
//! device registers and the shared pool. An address becomes a pointer only in here.

#[cfg(test)]
pub(crate) mod counting;
pub mod cpu_areas;
pub mod device;
pub mod frames;
pub mod heap;
pub mod map;
pub mod private;
pub mod shared;
pub mod start_page;

#[cfg(feature = "guest")]
pub mod kernel_image;
#[cfg(feature = "guest")]
pub mod space;

pub use cloister_boot::address::{
    HUGE_PAGE_BYTES, LARGE_PAGE_BYTES, PAGE_BYTES, PhysAddr, PhysRange, VirtAddr,
};
pub use device::{DEVICE_WINDOW, LOCAL_APIC};
