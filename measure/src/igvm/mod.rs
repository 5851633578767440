//! IGVM files: their launch digests, and the file that launches an image.
//!
//! The launcher carries out the file's directives in their order. For SEV-SNP pages of data, of
//! parameters and vCPU contexts are links of the digest's chain; for TDX they are parts of MRTD.
//!
//! QEMU measures a VMSA for each of `-smp`'s vCPUs; those beyond the contexts in the file are not in
//! the digest computed here. Cloud Hypervisor adds pages by ascending address: its digest is the
//! file's only if the directives are in that order.

mod builder;
mod file;
mod launch;

pub use builder::{IgvmBuilder, with_checksum};
pub use launch::igvm_of_rom;

use crate::digest::{LaunchDigest, sha384};
use crate::page::{Measurement, Page, PageSource, PageType, TooManyPages};
use crate::tdx::{Mrtd, TdxMeasurement};
use crate::{MAX_PAGES, PAGE_BYTES};
use file::{DataKind, Directive, DirectiveKind, IgvmFile, PageData};
use std::collections::{HashMap, HashSet};

/// Platforms whose digest of a file this crate computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum IgvmPlatform {
    /// AMD SEV-SNP.
    Snp = 2,
    /// Intel TDX.
    Tdx = 3,
}

impl std::fmt::Display for IgvmPlatform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Snp => "SEV-SNP",
            Self::Tdx => "TDX",
        })
    }
}

/// A file that no launcher can be relied on to launch.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IgvmError {
    /// Too short, or it does not begin with "IGVM".
    #[error("not an IGVM file: it does not begin with \"IGVM\" and 20 more bytes")]
    NotIgvm,
    /// Another version of the format.
    #[error("IGVM format {0}; only format 1 is known")]
    Format(u32),
    /// The fixed header says another length than the file has.
    #[error("the IGVM file has {found} bytes, its header says {said}; is it cut off?")]
    FileLength {
        /// Length of the file.
        found: usize,
        /// Length in the header.
        said: u32,
    },
    /// The variable headers do not lie behind the fixed one and inside the file.
    #[error(
        "the IGVM file's variable headers ({offset:#x}, {bytes:#x} bytes) are not 8-byte aligned, \
         behind the fixed header and inside the file"
    )]
    HeadersPlace {
        /// Offset of the variable headers.
        offset: u32,
        /// Their length.
        bytes: u32,
    },
    /// The checksum of the headers is wrong.
    #[error("the IGVM file's headers have the CRC-32 {found:#010x}, not {said:#010x} as they say")]
    Checksum {
        /// CRC-32 of the headers.
        found: u32,
        /// CRC-32 in the header.
        said: u32,
    },
    /// A variable header does not fit behind the last, or has another length than its type.
    #[error("variable header {index} (type {kind:#x}) cannot have a length of {bytes} bytes")]
    HeaderLength {
        /// Index of the header.
        index: usize,
        /// Its type.
        kind: u32,
        /// Its length.
        bytes: u32,
    },
    /// A type that is not optional and not known.
    #[error("variable header {index} has the unknown type {kind:#x}, which is not optional")]
    UnknownHeader {
        /// Index of the header.
        index: usize,
        /// Its type.
        kind: u32,
    },
    /// Platforms come first, then initialization, then directives.
    #[error("variable header {index} (type {kind:#x}) comes behind headers that it must precede")]
    HeaderOrder {
        /// Index of the header.
        index: usize,
        /// Its type.
        kind: u32,
    },
    /// The file is not for this platform.
    #[error("the IGVM file does not support {0}: it has no such platform header")]
    Platform(IgvmPlatform),
    /// An address that is not that of a page, of 2 MiB where the flags say so.
    #[error("variable header {index}: address {gpa:#x} is not that of a page")]
    Address {
        /// Index of the header.
        index: usize,
        /// The address.
        gpa: u64,
    },
    /// Flags or a type of data that are not known.
    #[error("variable header {index}: unknown flags {flags:#x} or type of data {kind}")]
    PageData {
        /// Index of the header.
        index: usize,
        /// Flags.
        flags: u32,
        /// Type of data.
        kind: u16,
    },
    /// Data that is not behind the headers and inside the file.
    #[error("variable header {index}: no {bytes:#x} bytes of data at file offset {offset:#x}")]
    Data {
        /// Index of the header.
        index: usize,
        /// Offset in the file.
        offset: u32,
        /// Length in bytes.
        bytes: usize,
    },
    /// A parameter area of no whole pages, given twice, inserted twice or not given.
    #[error(
        "variable header {index}: parameter area {area} must have whole pages, and be given once \
         and inserted once"
    )]
    ParameterArea {
        /// Index of the header.
        index: usize,
        /// Index of the area.
        area: u32,
    },
    /// A page is added twice.
    #[error("variable header {index}: page {gpa:#x} has been added already; KVM refuses that")]
    PageTwice {
        /// Index of the header.
        index: usize,
        /// The page's address.
        gpa: u64,
    },
    /// More pages than any image has.
    #[error(transparent)]
    TooManyPages(#[from] TooManyPages),
}

/// Computes the launch digest of an IGVM file with SEV-SNP.
pub fn measure_igvm(file: &[u8]) -> Result<Measurement, IgvmError> {
    let mut measurement = Measurement::starting_at(LaunchDigest::ZERO);
    let zeros = sha384(&[0; PAGE_BYTES]);
    for added in added_pages(file, IgvmPlatform::Snp)? {
        let AddedPage { index, gpa, kind } = added?;
        let (page_type, contents) = match kind {
            AddedKind::Secrets => (PageType::Secrets, [0; 48]),
            AddedKind::Cpuid => (PageType::Cpuid, [0; 48]),
            AddedKind::Unmeasured => (PageType::Unmeasured, [0; 48]),
            // The format calls for a normal page of zeros, not for one of type "zero".
            AddedKind::Data(None) => (PageType::Normal, zeros),
            AddedKind::Data(Some(contents)) => (PageType::Normal, sha384(contents)),
            AddedKind::VpContext(contents) => (PageType::Vmsa, sha384(contents)),
        };
        let source = PageSource::Directive { index };
        measurement.add(Page {
            page_type,
            gpa,
            contents,
            source,
        })?;
    }
    Ok(measurement)
}

/// Computes MRTD of an IGVM file with TDX.
pub fn measure_igvm_tdx(file: &[u8]) -> Result<TdxMeasurement, IgvmError> {
    let mut mrtd = Mrtd::default();
    for added in added_pages(file, IgvmPlatform::Tdx)? {
        let AddedPage { index, gpa, kind } = added?;
        let contents = match kind {
            AddedKind::VpContext(_) => continue,
            AddedKind::Data(contents) => Some(contents.unwrap_or(&[0; PAGE_BYTES])),
            AddedKind::Unmeasured | AddedKind::Secrets | AddedKind::Cpuid => None,
        };
        mrtd.add(gpa, contents, index, None);
    }
    Ok(mrtd.finish())
}

/// A page that a directive makes the launcher add.
struct AddedPage<'a> {
    index: usize,
    gpa: u64,
    kind: AddedKind<'a>,
}

/// What such a page is.
#[derive(Clone, Copy)]
enum AddedKind<'a> {
    Data(Option<&'a [u8; PAGE_BYTES]>),
    Secrets,
    Cpuid,
    Unmeasured,
    VpContext(&'a [u8; PAGE_BYTES]),
}

/// The pages that the file's directives add, in their order, none twice. What is found wrong
/// on the way ends them.
fn added_pages(
    file: &[u8],
    platform: IgvmPlatform,
) -> Result<impl Iterator<Item = Result<AddedPage<'_>, IgvmError>>, IgvmError> {
    let file = IgvmFile::parse(file, platform)?;
    let mut seen = HashSet::new();
    let pages = expand(file.directives, platform)?;
    Ok(pages.into_iter().flat_map(PageRun::pages).map(move |page| {
        // Every vCPU's context has the same address.
        let context = matches!(page.kind, AddedKind::VpContext(_));
        if !context && !seen.insert(page.gpa) {
            return Err(IgvmError::PageTwice {
                index: page.index,
                gpa: page.gpa,
            });
        }
        Ok(page)
    }))
}

/// Pages of one directive, one behind the other.
struct PageRun<'a> {
    index: usize,
    gpa: u64,
    pages: u64,
    kind: RunKind<'a>,
}

enum RunKind<'a> {
    /// Pages of the file's data.
    Data(&'a [u8]),
    /// Pages that are all alike.
    Same(AddedKind<'a>),
}

impl<'a> PageRun<'a> {
    fn pages(self) -> impl Iterator<Item = AddedPage<'a>> {
        let Self {
            index,
            gpa,
            pages,
            kind,
        } = self;
        (0..pages).map(move |number| {
            let kind = match kind {
                RunKind::Same(kind) => kind,
                RunKind::Data(data) => {
                    let (contents, _) = data.as_chunks::<PAGE_BYTES>();
                    AddedKind::Data(contents.get(number as usize))
                }
            };
            AddedPage {
                index,
                gpa: gpa + number * PAGE_BYTES as u64,
                kind,
            }
        })
    }
}

/// Resolves parameter areas and leaves out what adds no pages.
fn expand(
    directives: Vec<Directive<'_>>,
    platform: IgvmPlatform,
) -> Result<Vec<PageRun<'_>>, IgvmError> {
    let mut areas: HashMap<u32, Option<u64>> = HashMap::new();
    let mut runs = vec![];
    let mut total = 0_u64;
    for Directive { index, kind } in directives {
        let run = match kind {
            DirectiveKind::PageData(page) => page_data(index, page, platform),
            DirectiveKind::VpContext { gpa, contents } => {
                let kind = RunKind::Same(AddedKind::VpContext(contents));
                Some(PageRun {
                    index,
                    gpa,
                    pages: 1,
                    kind,
                })
            }
            DirectiveKind::ParameterArea { area, bytes } => {
                let whole = bytes > 0 && bytes.is_multiple_of(PAGE_BYTES as u64);
                if !whole || areas.insert(area, Some(bytes)).is_some() {
                    return Err(IgvmError::ParameterArea { index, area });
                }
                None
            }
            DirectiveKind::ParameterInsert { gpa, area } => {
                let bytes = areas.get_mut(&area).and_then(Option::take);
                let bytes = bytes.ok_or(IgvmError::ParameterArea { index, area })?;
                gpa.checked_add(bytes)
                    .ok_or(IgvmError::Address { index, gpa })?;
                let kind = RunKind::Same(AddedKind::Unmeasured);
                Some(PageRun {
                    index,
                    gpa,
                    pages: bytes / PAGE_BYTES as u64,
                    kind,
                })
            }
        };
        total = total.saturating_add(run.as_ref().map_or(0, |run| run.pages));
        if total > MAX_PAGES as u64 {
            return Err(TooManyPages.into());
        }
        runs.extend(run);
    }
    Ok(runs)
}

fn page_data(index: usize, page: PageData<'_>, platform: IgvmPlatform) -> Option<PageRun<'_>> {
    let PageData {
        gpa,
        pages,
        kind,
        unmeasured,
        shared,
        contents,
    } = page;
    if shared {
        return None;
    }
    // TDX knows neither a secrets page nor a CPUID page: to it their contents are data.
    let kind = match (kind, platform) {
        (DataKind::Secrets, IgvmPlatform::Snp) => RunKind::Same(AddedKind::Secrets),
        (DataKind::Cpuid, IgvmPlatform::Snp) => RunKind::Same(AddedKind::Cpuid),
        _ if unmeasured => RunKind::Same(AddedKind::Unmeasured),
        _ => RunKind::Data(contents),
    };
    Some(PageRun {
        index,
        gpa,
        pages,
        kind,
    })
}

#[cfg(test)]
mod tests;
