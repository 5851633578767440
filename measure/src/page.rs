//! The launch digest of SEV-SNP: a chain of SHA-384 with one link for each page that is added.
//!
//! Each link hashes a `PAGE_INFO` structure of 0x70 bytes (AMD publication 56860, `SNP_LAUNCH_UPDATE`):
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0x00 | 48 | digest so far; zeros before the first page |
//! | 0x30 | 48 | SHA-384 of the page, or zeros for pages that are not measured by contents |
//! | 0x60 | 2 | length of the structure |
//! | 0x62 | 1 | page type |
//! | 0x63 | 1 | bit 0: page of an initial migration image; 0 |
//! | 0x64 | 4 | permissions of VMPL 1 to 3; 0 in all known launchers |
//! | 0x68 | 8 | guest-physical address |

use crate::digest::{LaunchDigest, SHA384_BYTES, sha384};
use crate::sev_metadata::SectionKind;
use crate::{MAX_PAGES, PAGE_BYTES};
use serde::ser::{Serialize, SerializeStruct as _, Serializer};
use std::fmt;

/// Length of `PAGE_INFO`.
pub const PAGE_INFO_BYTES: usize = 0x70;

const _: () = assert!(PAGE_INFO_BYTES == 2 * SHA384_BYTES + 2 + 1 + 1 + 4 + 8);

/// Page types of `SNP_LAUNCH_UPDATE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum PageType {
    /// Contents from the launcher, measured.
    Normal = 1,
    /// State of a vCPU, measured.
    Vmsa = 2,
    /// Zeros by the firmware of the processor.
    Zero = 3,
    /// Contents from the launcher, of which only address and type are measured.
    Unmeasured = 4,
    /// The secrets page.
    Secrets = 5,
    /// The CPUID page.
    Cpuid = 6,
}

impl fmt::Display for PageType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Normal => "normal",
            Self::Vmsa => "vmsa",
            Self::Zero => "zero",
            Self::Unmeasured => "unmeasured",
            Self::Secrets => "secrets",
            Self::Cpuid => "cpuid",
        })
    }
}

/// What made the launcher add a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PageSource {
    /// The image, at this offset in the file.
    Image {
        /// Offset in bytes.
        offset: usize,
    },
    /// A section of the SEV metadata.
    Section {
        /// Index in the table.
        index: usize,
        /// What it is for.
        kind: SectionKind,
    },
    /// The state of a vCPU.
    Vcpu {
        /// Index of the vCPU.
        index: u32,
    },
    /// A directive of an IGVM file.
    Directive {
        /// Index among the file's variable headers.
        index: usize,
    },
}

impl fmt::Display for PageSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Image { offset } => write!(f, "image at offset {offset:#x}"),
            Self::Section { index, kind } => write!(f, "section {index}: {kind}"),
            Self::Vcpu { index } => write!(f, "vCPU {index}"),
            Self::Directive { index } => write!(f, "header {index}"),
        }
    }
}

/// A page as the firmware measures it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// Its type.
    pub page_type: PageType,
    /// Its guest-physical address.
    pub gpa: u64,
    /// SHA-384 of its contents, or zeros where contents are not measured.
    pub contents: [u8; SHA384_BYTES],
    /// What made the launcher add it.
    pub source: PageSource,
}

impl Page {
    /// The digest after this page, if it was `digest` before.
    pub fn extend(&self, digest: LaunchDigest) -> LaunchDigest {
        let mut info = [0; PAGE_INFO_BYTES];
        info[0x00..0x30].copy_from_slice(&digest.0);
        info[0x30..0x60].copy_from_slice(&self.contents);
        info[0x60..0x62].copy_from_slice(&(PAGE_INFO_BYTES as u16).to_le_bytes());
        info[0x62] = self.page_type as u8;
        info[0x68..0x70].copy_from_slice(&self.gpa.to_le_bytes());
        LaunchDigest(sha384(&info))
    }
}

/// A page and the digest after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MeasuredPage {
    /// The page.
    pub page: Page,
    /// The launch digest after it.
    pub digest: LaunchDigest,
}

/// One line of a trace: address, type, contents, digest, source.
impl fmt::Display for MeasuredPage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Page {
            page_type,
            gpa,
            contents,
            source,
        } = self.page;
        let contents = LaunchDigest(contents);
        write!(
            f,
            "{gpa:#014x} {page_type:<10} {contents} {} {source}",
            self.digest
        )
    }
}

/// The fields of that line by name, all of them texts.
impl Serialize for MeasuredPage {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Page {
            page_type,
            gpa,
            contents,
            source,
        } = self.page;
        let mut fields = serializer.serialize_struct("MeasuredPage", 5)?;
        fields.serialize_field("gpa", &format!("{gpa:#x}"))?;
        fields.serialize_field("type", &page_type.to_string())?;
        fields.serialize_field("contents", &LaunchDigest(contents))?;
        fields.serialize_field("digest", &self.digest)?;
        fields.serialize_field("source", &source.to_string())?;
        fields.end()
    }
}

/// More pages than any image has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the image makes the launcher add more than {MAX_PAGES} pages; is it damaged?")]
pub struct TooManyPages;

/// A launch digest and how it came about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Measurement {
    digest: LaunchDigest,
    pages: Vec<MeasuredPage>,
}

impl Measurement {
    /// A launch that has come to `digest`, with no page to show for it.
    pub(crate) fn starting_at(digest: LaunchDigest) -> Self {
        Self {
            digest,
            pages: vec![],
        }
    }

    /// The launch digest.
    pub fn digest(&self) -> LaunchDigest {
        self.digest
    }

    /// The pages in the order in which the launcher adds them.
    pub fn pages(&self) -> &[MeasuredPage] {
        &self.pages
    }

    /// Adds a page.
    pub(crate) fn add(&mut self, page: Page) -> Result<(), TooManyPages> {
        if self.pages.len() == MAX_PAGES {
            return Err(TooManyPages);
        }
        self.digest = page.extend(self.digest);
        self.pages.push(MeasuredPage {
            page,
            digest: self.digest,
        });
        Ok(())
    }

    /// Adds pages with these contents, whole pages, from address `gpa` on.
    pub(crate) fn add_contents(
        &mut self,
        gpa: u64,
        contents: &[u8],
        source: impl Fn(usize) -> PageSource,
    ) -> Result<(), TooManyPages> {
        for (number, contents) in contents.chunks(PAGE_BYTES).enumerate() {
            let offset = number * PAGE_BYTES;
            self.add(Page {
                page_type: PageType::Normal,
                gpa: gpa + offset as u64,
                contents: sha384(contents),
                source: source(offset),
            })?;
        }
        Ok(())
    }

    /// Adds the pages from `gpa` to `gpa + bytes` without contents.
    pub(crate) fn add_range(
        &mut self,
        page_type: PageType,
        gpa: u64,
        bytes: u64,
        source: PageSource,
    ) -> Result<(), TooManyPages> {
        for offset in (0..bytes).step_by(PAGE_BYTES) {
            let contents = [0; SHA384_BYTES];
            self.add(Page {
                page_type,
                gpa: gpa + offset,
                contents,
                source,
            })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_hashed_with_its_address_and_type() {
        let page = Page {
            page_type: PageType::Secrets,
            gpa: 0x1000,
            contents: [0; SHA384_BYTES],
            source: PageSource::Vcpu { index: 0 },
        };
        let mut info = vec![0; 96];
        info.extend([0x70, 0, 5, 0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 0, 0]);
        assert_eq!(page.extend(LaunchDigest::ZERO).0, sha384(&info));
    }

    #[test]
    fn a_trace_ends_with_the_digest() {
        let mut measurement = Measurement::starting_at(LaunchDigest::ZERO);
        let source = |offset| PageSource::Image { offset };
        measurement
            .add_contents(0xffff_e000, &[7; 0x2000], source)
            .expect("two pages");
        let last = measurement.pages()[1];
        assert_eq!(last.digest, measurement.digest());
        assert_eq!(last.page.gpa, 0xffff_f000);
        assert_eq!(last.page.source, source(0x1000));
        let json = serde_json::to_value(last).expect("plain texts");
        assert_eq!(json["gpa"], "0xfffff000");
        assert_eq!(json["type"], "normal");
        assert_eq!(json["digest"], last.digest.to_string());
        assert_eq!(json["source"], "image at offset 0x1000");
    }
}
