//! The unikernel: memory, processor, platform, devices, network and the summary service.
//!
//! The binary is one call into this library. What touches no hardware is tested on the host.

#![cfg_attr(not(test), no_std)]
#![deny(unsafe_code)]

extern crate alloc;

#[expect(unsafe_code, reason = "processor instructions")]
pub mod arch;
pub mod device;
pub mod entropy;
pub mod http;
pub mod load;
#[expect(
    unsafe_code,
    reason = "page tables, shared memory and device registers"
)]
pub mod memory;
pub mod net;
pub mod platform;
#[cfg(feature = "selftest")]
#[expect(unsafe_code, reason = "it does on purpose what the kernel must catch")]
pub mod selftest;
pub mod service;
pub mod smp;
#[cfg(feature = "guest")]
#[expect(
    unsafe_code,
    reason = "the address space is made and entered once, here"
)]
pub mod start;
pub mod stop;
pub mod time;
pub mod tls;
