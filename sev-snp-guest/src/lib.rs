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
//! | [`secrets`] | the secrets page, and the keys in it | SNP firmware ABI, section 8.17.2 |
//! | [`message`] | encrypted messages to the security processor: reports, derived keys | SNP firmware ABI, chapter 7 |
//! | [`report`] | the attestation report's fields | SNP firmware ABI, "Attestation" |
//! | [`certificates`] | the certificates that come along with a report | GHCB, "SNP extended guest request" |
//! | [`vmsa`] | the save area that a processor starts from | APM volume 2, appendix B |
//! | [`vc`] | which instruction caused a #VC exception | APM volume 2, section 15.35 |
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
//!
//! # Example
//!
//! ```no_run
//! use sev_snp_guest::ghcb::{Ghcb, msr};
//! use sev_snp_guest::message::{GuestChannel, GuestLink, KeySelect, ReportRequest};
//! use sev_snp_guest::report::AttestationReport;
//! use sev_snp_guest::rmp::Vmpl;
//! use sev_snp_guest::secrets::Vmpck;
//! use sev_snp_guest::termination::Termination;
//! use sev_snp_guest::{Hypervisor, SharedMemory};
//!
//! /// A report that binds `report_data`, or why there is none. The three pages are shared already.
//! fn attest<H: Hypervisor, M: SharedMemory>(
//!     mut hypervisor: H,
//!     [ghcb_page, mut request, mut response]: [M; 3],
//!     vmpck: Vmpck,
//!     report_data: [u8; 64],
//! ) -> Result<AttestationReport, Termination> {
//!     msr::negotiate(&mut hypervisor)?;
//!     let mut ghcb = Ghcb::register(hypervisor, ghcb_page)?;
//!     let mut link = GuestLink {
//!         ghcb: &mut ghcb,
//!         request: &mut request,
//!         response: &mut response,
//!     };
//!     let request = ReportRequest {
//!         report_data,
//!         vmpl: Vmpl::Vmpl0,
//!         key: KeySelect::VlekOrVcek,
//!     };
//!     Ok(GuestChannel::new(vmpck, 0).report(&mut link, &request)?)
//! }
//! ```

#![cfg_attr(not(test), no_std)]
#![deny(unsafe_code)]

#[cfg(not(target_endian = "little"))]
compile_error!("the structures are little-endian, as every SEV-SNP guest is");

pub mod address;
#[cfg(target_arch = "x86_64")]
pub mod arch;
pub mod certificates;
pub mod cpuid;
pub mod features;
pub mod ghcb;
pub mod hypervisor;
pub mod message;
pub mod page_state;
pub mod report;
pub mod rmp;
pub mod secrets;
pub mod status;
pub mod termination;
pub mod vc;
pub mod vmsa;

pub use hypervisor::{Hypervisor, SharedMemory};

#[cfg(test)]
mod testing;
