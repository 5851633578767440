//! The guest's side of AMD SEV-SNP: what firmware, a kernel or a unikernel needs to run in an SNP guest, without `std`
//! and without an allocator.
//!
//! | module | what | specification |
//! |---|---|---|
//! | [`ghcb`] | the GHCB's MSR protocol and page, NAE events, page state changes, AP creation | GHCB (56421) |
//! | [`features`] | what the hypervisor can do | GHCB, "Hypervisor feature bitmap" |
//! | [`termination`] | why the guest ends, as the host is told | GHCB, section 2.3.1 |
//! | [`rmp`] | PVALIDATE and RMPADJUST, for ranges of pages | APM volume 3 |
//! | [`page_state`] | pages between private and shared, in the safe order | both |
//! | [`status`] | SEV_STATUS, and a C-bit that two sources agree on | APM volume 2, section 15.34 |
//! | [`cpuid`] | the CPUID page | SNP firmware ABI (56860), section 8.17.2 |
//! | [`hypervisor`] | the doors to the host: the exit, and shared memory | |
//! | [`arch`] | the same on hardware | APM volume 3 |
//!
//! # The host is the adversary
//!
//! Everything that comes from the hypervisor is copied out of shared memory once, checked, and turned into a type or
//! an error. There is no reference to shared memory, each loop that the host can drive has a bound, and a message that
//! the host has seen is never followed by another one with the same nonce. What cannot be checked is called the
//! hypervisor's word in the documentation.
//!
//! Only [`arch`] has `unsafe` code. Everything else is written against two traits, [`Hypervisor`] and
//! [`SharedMemory`], and a third for PVALIDATE, [`Rmp`](rmp::Rmp), so it runs and is tested anywhere.

#![cfg_attr(not(test), no_std)]
#![deny(unsafe_code)]

#[cfg(not(target_endian = "little"))]
compile_error!("the structures are little-endian, as every SEV-SNP guest is");

pub mod address;
#[cfg(target_arch = "x86_64")]
pub mod arch;
pub mod cpuid;
pub mod features;
pub mod ghcb;
pub mod hypervisor;
pub mod page_state;
pub mod rmp;
pub mod status;
pub mod termination;

pub use hypervisor::{Hypervisor, SharedMemory};

#[cfg(test)]
mod testing;
