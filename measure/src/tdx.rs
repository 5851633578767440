//! MRTD, the launch digest of TDX.
//!
//! One SHA-384 over the pages in the order in which the launcher adds them; QEMU takes the sections
//! in the order of the TDX metadata. For each page it covers a block of 128 bytes
//! `"MEM.PAGE.ADD" | address`, and for each of the 16 chunks of 256 bytes of a measured page
//! `"MR.EXTEND" | address` and the chunk. The vCPUs are not part of it.

use crate::PAGE_BYTES;
use crate::digest::LaunchDigest;
use crate::rom::{Rom, RomError};
use crate::tdvf::{self, TdSection, TdSectionKind, TdvfError};
use serde::ser::{Serialize, SerializeStruct as _, Serializer};
use sha2::{Digest, Sha384};
use std::fmt;

/// What `TDH.MR.EXTEND` takes at a time.
const CHUNK_BYTES: usize = 256;

/// Why there is no MRTD.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TdxError {
    /// The image is unfit.
    #[error(transparent)]
    Rom(#[from] RomError),
    /// The TDX metadata is damaged.
    #[error(transparent)]
    Tdvf(#[from] TdvfError),
    /// No TDX metadata.
    #[error(
        "the image has no TDX metadata ({} in its GUID table); it does not start with TDX",
        crate::footer_table::TDX_METADATA
    )]
    NoMetadata,
}

/// A page of a TD and the digest of everything up to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TdPage {
    /// Guest-physical address.
    pub gpa: u64,
    /// Whether its contents are measured.
    pub measured: bool,
    /// Index of its section, or of its header in an IGVM file.
    pub source: usize,
    /// What its section is for; `None` in an IGVM file.
    pub kind: Option<TdSectionKind>,
    /// What MRTD would be if this page were the last.
    pub digest: LaunchDigest,
}

impl TdPage {
    fn source_text(&self) -> String {
        match self.kind {
            Some(kind) => format!("section {}: {kind}", self.source),
            None => format!("header {}", self.source),
        }
    }
}

/// One line of a trace.
impl fmt::Display for TdPage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            gpa,
            measured,
            digest,
            ..
        } = self;
        let contents = if *measured { "measured" } else { "unmeasured" };
        write!(
            f,
            "{gpa:#014x} {contents:<10} {digest} {}",
            self.source_text()
        )
    }
}

/// The fields of that line by name.
impl Serialize for TdPage {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("TdPage", 4)?;
        fields.serialize_field("gpa", &format!("{:#x}", self.gpa))?;
        fields.serialize_field("measured", &self.measured)?;
        fields.serialize_field("digest", &self.digest)?;
        fields.serialize_field("source", &self.source_text())?;
        fields.end()
    }
}

/// MRTD and how it came about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TdxMeasurement {
    /// MRTD.
    pub digest: LaunchDigest,
    /// The pages in the order in which the launcher adds them.
    pub pages: Vec<TdPage>,
}

/// Computes MRTD of the image `rom`, launched by QEMU.
pub fn measure_tdx(rom: &[u8]) -> Result<TdxMeasurement, TdxError> {
    let rom = Rom::parse(rom)?;
    let from_end = rom.tdx_metadata()?.ok_or(TdxError::NoMetadata)?;
    let sections = tdvf::parse(rom.bytes(), from_end)?;
    let mut mrtd = Mrtd::default();
    for (index, section) in sections.iter().enumerate() {
        add_section(
            &mut mrtd,
            index,
            section,
            &rom.bytes()[section.contents.clone()],
        );
    }
    Ok(mrtd.finish())
}

fn add_section(mrtd: &mut Mrtd, index: usize, section: &TdSection, contents: &[u8]) {
    let mut chunks = contents.chunks(PAGE_BYTES);
    for offset in (0..section.bytes).step_by(PAGE_BYTES) {
        let mut page = [0; PAGE_BYTES];
        if let Some(chunk) = chunks.next() {
            page[..chunk.len()].copy_from_slice(chunk);
        }
        let contents = section.measured.then_some(&page);
        mrtd.add(section.gpa + offset, contents, index, Some(section.kind));
    }
}

/// MRTD while pages are added.
#[derive(Clone, Debug, Default)]
pub(crate) struct Mrtd {
    hash: Sha384,
    pages: Vec<TdPage>,
}

impl Mrtd {
    /// Adds a page and, if `contents` are given, measures them.
    pub(crate) fn add(
        &mut self,
        gpa: u64,
        contents: Option<&[u8; PAGE_BYTES]>,
        source: usize,
        kind: Option<TdSectionKind>,
    ) {
        self.hash.update(operation(b"MEM.PAGE.ADD", gpa));
        for (number, chunk) in contents
            .into_iter()
            .flat_map(|page| page.chunks(CHUNK_BYTES))
            .enumerate()
        {
            self.hash
                .update(operation(b"MR.EXTEND", gpa + (number * CHUNK_BYTES) as u64));
            self.hash.update(chunk);
        }
        let measured = contents.is_some();
        let digest = LaunchDigest(self.hash.clone().finalize().into());
        self.pages.push(TdPage {
            gpa,
            measured,
            source,
            kind,
            digest,
        });
    }

    pub(crate) fn finish(self) -> TdxMeasurement {
        TdxMeasurement {
            digest: LaunchDigest(self.hash.finalize().into()),
            pages: self.pages,
        }
    }
}

/// The block of an operation: its name, padded to 16 bytes, and an address.
fn operation(name: &[u8], gpa: u64) -> [u8; 128] {
    let mut block = [0; 128];
    block[..name.len()].copy_from_slice(name);
    block[16..24].copy_from_slice(&gpa.to_le_bytes());
    block
}

#[cfg(test)]
#[path = "tdx_tests.rs"]
mod tests;
