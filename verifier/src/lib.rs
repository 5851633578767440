//! Appraises the evidence of a guest on AMD SEV-SNP, and says of every check what came of it.
//!
//! | module | what | specification |
//! |---|---|---|
//! | [`report`] | attestation report, versions 2 to 5 | AMD 56860, `ATTESTATION_REPORT` |
//! | [`product`], [`tcb`] | processor families and their TCB versions | AMD 56860, `TCB_VERSION`; AMD 57230 |
//! | [`certificate`] | ARK, ASK, ASVK, VCEK and VLEK | AMD 57230; RFC 5280 |
//! | [`crl`] | what AMD has revoked | RFC 5280, section 5 |
//! | [`carrier`] | certificates out of files and out of the GHCB's table | AMD 56421, extended guest request |
//! | [`policy`] | what the one who asks accepts: roots, products, floors, measurements | |
//! | [`release`] | the log that a release must be in, why a release does not count | C2SP tlog-proof |
//! | [`appraisal`] | the checks, their results, the reasons | |
//!
//! ```
//! use cloister_verifier::{Context, Evidence, Policy, appraise};
//!
//! # let (report, files): (&[u8], [&[u8]; 0]) = (&[0; 1184], []);
//! let evidence = Evidence::from_files(report, files)?;
//! let policy = Policy { require_binding: false, require_log: false, ..Policy::new() };
//! let appraisal = appraise(&evidence, &policy, &Context { now_s: Some(1_795_000_000), ..Context::default() });
//! print!("{appraisal}");
//! assert!(!appraisal.is_accepted());
//! # Ok::<(), cloister_verifier::carrier::CarrierError>(())
//! ```
//! Nothing here opens a file or a socket or reads a clock: the certificates come with the evidence, the time from the
//! caller, the roots are built in. Reference values come from the [`Policy`] only, never from evidence: a release that
//! comes with evidence counts for as much as the keys that signed it, which the policy names. Everything that is parsed
//! has limits and an enum error.

#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod appraisal;
mod appraise;
mod asn1;
pub mod carrier;
pub mod certificate;
mod chain;
pub mod crl;
pub mod policy;
pub mod product;
mod reason;
pub mod release;
pub mod report;
mod signature;
pub mod tcb;
mod text;

pub use appraisal::{Appraisal, Check, CheckName, NEVER_CHECKED, Outcome};
pub use appraise::{Claims, Context, Evidence, appraise};
pub use certificate::Certificate;
pub use policy::{Policy, RootError};
pub use product::Product;
pub use reason::{Reason, WhichTcb};
pub use release::{LogPolicy, LogView, Release, ReleaseReason};
pub use report::{Report, ReportError};
pub use tcb::Tcb;
