//! The SNP platform in software.
//!
//! This library holds what does not touch hardware: the formats of a launch (firmware metadata,
//! VMSA, CPUID and secrets pages, digest), the RMP and nested-page-table models, and the decoding of
//! what a guest asks for (MSR protocol, GHCB, guest messages). The program `l0` runs a guest with it
//! on QEMU's emulated SVM. Sources are named as in the specifications: GHCB (AMD 56421), the SNP
//! firmware ABI (AMD 56860), and the AMD64 manual's volume 2 (24593).

#![cfg_attr(feature = "l0", no_std)]

pub mod checks;
pub mod cpuid;
pub mod derived_key;
pub mod digest;
pub mod edk2;
pub mod exception;
pub mod exit;
pub mod firmware;
pub mod ghcb;
pub mod guest_message;
pub mod hostile;
pub mod instruction;
pub mod launch;
pub mod memory_map;
pub mod msr_protocol;
pub mod nested;
pub mod page;
pub mod psc;
pub mod report;
pub mod rmp;
pub mod secrets;
pub mod signing;
pub mod statistics;
pub mod vmcb;
pub mod vmsa;
pub mod walk;

#[cfg(all(feature = "host", not(feature = "l0")))]
pub mod hierarchy;
#[cfg(all(feature = "std", not(feature = "l0")))]
pub mod qemu;
