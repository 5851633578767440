//! From the reset vector to the kernel, and the formats that both sides of that step share.
//!
//! The binary is one call into `start`; everything that needs no hardware (ROM layout, manifest,
//! ELF loading, page tables, hand-over) is here and is tested on the host.

#![cfg_attr(not(test), no_std)]

extern crate alloc;

pub mod address;
pub mod elf;
pub mod handover;
pub mod layout;
pub mod manifest;
pub mod paging;
pub mod rom;
pub mod sev;
pub mod stop;
pub mod symbols;

#[cfg(feature = "guest")]
mod machine;
#[cfg(feature = "guest")]
mod snp;
#[cfg(feature = "guest")]
pub mod start;
