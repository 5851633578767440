//! Writes IGVM files, of which [`super::measure_igvm`] is the reader.

use super::IgvmPlatform;
use super::file::{CHECKSUM_OFFSET, FIXED_HEADER_BYTES};
use crate::PAGE_BYTES;
use std::iter;

/// Builds an IGVM file. Nothing is checked: tests build damaged files with it too.
#[derive(Clone, Debug, Default)]
pub struct IgvmBuilder {
    headers: Vec<u8>,
    data: Vec<u8>,
    /// Places in `headers` with offsets from the beginning of the data.
    offsets: Vec<usize>,
}

impl IgvmBuilder {
    /// Type of page data: contents from the file.
    pub const NORMAL: u16 = 0;
    /// Type of page data: the secrets page of SEV-SNP.
    pub const SECRETS: u16 = 1;
    /// Type of page data: the CPUID page of SEV-SNP.
    pub const CPUID: u16 = 2;

    /// A file for one platform, which headers name by `mask`, one bit.
    pub fn new(mask: u32, platform: IgvmPlatform) -> Self {
        Self::default().platform(mask, platform)
    }

    /// Adds a platform.
    pub fn platform(self, mask: u32, platform: IgvmPlatform) -> Self {
        let mut body = mask.to_le_bytes().to_vec();
        body.extend([0, platform as u8, 1, 0]);
        body.extend([0; 8]);
        self.header(0x001, &body)
    }

    /// Adds a variable header.
    pub fn header(mut self, kind: u32, body: &[u8]) -> Self {
        self.headers.extend(kind.to_le_bytes());
        self.headers.extend((body.len() as u32).to_le_bytes());
        self.headers.extend(body);
        self.headers
            .resize(self.headers.len().next_multiple_of(8), 0);
        self
    }

    /// Adds the guest policy.
    pub fn policy(self, mask: u32, policy: u64) -> Self {
        let body = [policy.to_le_bytes(), u64::from(mask).to_le_bytes()].concat();
        self.header(0x101, &body)
    }

    /// Adds page data; without `contents` a page of zeros, which some launchers measure by another type.
    pub fn page(self, mask: u32, gpa: u64, contents: &[u8], flags: u32, kind: u16) -> Self {
        self.pages(mask, iter::once(gpa), contents, flags, kind)
    }

    /// Adds page data with the same contents at each of some addresses. They are in the file once.
    pub fn pages(
        mut self,
        mask: u32,
        gpas: impl Iterator<Item = u64>,
        contents: &[u8],
        flags: u32,
        kind: u16,
    ) -> Self {
        let offset = self.data_offset(contents);
        for gpa in gpas {
            if !contents.is_empty() {
                self.offsets.push(self.headers.len() + 8 + 12);
            }
            let fields = [mask, offset, flags, u32::from(kind)];
            let fields = fields.into_iter().flat_map(u32::to_le_bytes);
            let body: Vec<u8> = gpa.to_le_bytes().into_iter().chain(fields).collect();
            self = self.header(0x302, &body);
        }
        self
    }

    /// Adds a parameter area without initial data.
    pub fn parameter_area(self, area: u32, bytes: u64) -> Self {
        let body = [bytes.to_le_bytes(), u64::from(area).to_le_bytes()].concat();
        self.header(0x301, &body)
    }

    /// Inserts a parameter area.
    pub fn parameter_insert(self, mask: u32, gpa: u64, area: u32) -> Self {
        let rest = u64::from(area) << 32 | u64::from(mask);
        self.header(0x303, &[gpa.to_le_bytes(), rest.to_le_bytes()].concat())
    }

    /// Adds the context of a vCPU.
    pub fn vp_context(mut self, mask: u32, gpa: u64, contents: &[u8; PAGE_BYTES], vp: u16) -> Self {
        let offset = self.data_offset(contents);
        self.offsets.push(self.headers.len() + 8 + 12);
        let mut body = gpa.to_le_bytes().to_vec();
        body.extend(
            [mask, offset, u32::from(vp)]
                .into_iter()
                .flat_map(u32::to_le_bytes),
        );
        self.header(0x304, &body)
    }

    /// Where contents begin in the data; 0 for none, which a header says by offset 0.
    fn data_offset(&mut self, contents: &[u8]) -> u32 {
        if contents.is_empty() {
            return 0;
        }
        let offset = self.data.len() as u32;
        self.data.extend(contents);
        offset
    }

    /// The file.
    pub fn build(mut self) -> Vec<u8> {
        let data_start = 24 + self.headers.len() as u32;
        for at in self.offsets {
            let place = self.headers[at..]
                .first_chunk_mut::<4>()
                .expect("a field was put there");
            *place = (u32::from_le_bytes(*place) + data_start).to_le_bytes();
        }
        let file_bytes = data_start + self.data.len() as u32;
        let fields = [1, 24, self.headers.len() as u32, file_bytes, 0];
        let mut file = b"IGVM".to_vec();
        file.extend(fields.into_iter().flat_map(u32::to_le_bytes));
        file.extend(self.headers);
        let mut file = with_checksum(file, data_start as usize);
        file.extend(self.data);
        file
    }
}

/// Sets the CRC-32 of a file's first `headers_bytes` bytes, as someone who alters a file would.
pub fn with_checksum(mut file: Vec<u8>, headers_bytes: usize) -> Vec<u8> {
    let headers_bytes = headers_bytes.min(file.len());
    if headers_bytes >= FIXED_HEADER_BYTES {
        file[CHECKSUM_OFFSET..FIXED_HEADER_BYTES].fill(0);
        let crc = crc32fast::hash(&file[..headers_bytes]);
        file[CHECKSUM_OFFSET..FIXED_HEADER_BYTES].copy_from_slice(&crc.to_le_bytes());
    }
    file
}
