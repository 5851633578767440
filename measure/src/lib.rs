//! Launch digests of an image: what a confidential VM's attestation report says of it, computed
//! beforehand, page by page.
//!
//! | module | what |
//! |---|---|
//! | [`snp`] | the launch digest of a ROM with SEV-SNP: [`measure_rom`] |
//! | [`igvm`] | the launch digests of an IGVM file: [`measure_igvm`]; the file that launches a ROM: [`igvm_of_rom`] |
//! | [`tdx`] | MRTD of a ROM with TDX: [`measure_tdx`] |
//! | [`sev`] | the launch digests of plain SEV and of SEV-ES |
//! | [`mod@explain`] | which inputs would explain another digest: [`explain()`] |
//! | [`compare`] | which pages differ between two measurements |
//! | [`id_block`] | ID block and ID auth, with which the processor refuses another digest |
//! | [`table`] | the measurement table of `image.json` |
//! | [`config`], [`cpu`], [`vmsa`], [`kernel_hashes`] | what a digest depends on beside the image |
//! | [`rom`], [`footer_table`], [`sev_metadata`], [`tdvf`] | the image's own tables |
//! | [`page`], [`digest`], [`guid`] | the links of the digest's chain |
//! | [`report`] | the digest that a report holds |
//!
//! Images, IGVM files and reports may be damaged or hostile: each reader has bounds and an enum
//! error that says where and what.
//!
//! `cargo test` in the folder `peers` compares random launches with `sev-snp-measure` and with the
//! crates `sev` and `igvm`.
//!
//! ```
//! use cloister_measure::{CpuModel, LaunchConfig, VmmKind, measure_rom};
//!
//! let rom = include_bytes!("../tests/vectors/ovmf_AmdSev_suffix.bin");
//! let config = LaunchConfig::new(VmmKind::Qemu, 1, CpuModel::MILAN);
//! let measurement = measure_rom(rom, &config)?;
//! for page in measurement.pages() {
//!     println!("{page}");
//! }
//! assert!(measurement.digest().to_string().starts_with("93f767a2bff8fc05"));
//! # Ok::<(), cloister_measure::MeasureError>(())
//! ```

#![forbid(unsafe_code)]

pub mod compare;
pub mod config;
pub mod cpu;
pub mod digest;
pub mod explain;
mod fields;
pub mod footer_table;
pub mod guid;
pub mod id_block;
pub mod igvm;
pub mod kernel_hashes;
pub mod page;
pub mod report;
pub mod rom;
pub mod sev;
pub mod sev_metadata;
pub mod snp;
pub mod table;
pub mod tdvf;
pub mod tdx;
pub mod vmsa;

#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use compare::{PageDifference, compare_pages};
pub use config::{ConfigError, FpuState, GuestFeatures, LaunchConfig, ResetState, VmmKind};
pub use cpu::CpuModel;
pub use digest::LaunchDigest;
pub use explain::{Explanation, Search, SearchSpace, explain};
pub use id_block::{IdAuth, IdBlock, IdKey};
pub use igvm::{IgvmError, IgvmPlatform, igvm_of_rom, measure_igvm, measure_igvm_tdx};
pub use kernel_hashes::KernelHashes;
pub use page::{MeasuredPage, Measurement};
pub use report::Observed;
pub use rom::{Rom, RomError};
pub use snp::{MeasureError, measure_rom};
pub use table::{MeasurementRow, MeasurementTable};
pub use tdx::{TdxError, TdxMeasurement, measure_tdx};

/// Bytes of a page, everywhere in this crate.
pub const PAGE_BYTES: usize = 4096;

/// The most pages that are measured: 1 GiB. A damaged file cannot ask for more.
pub const MAX_PAGES: usize = 1 << 18;
