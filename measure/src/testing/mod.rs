//! Firmware images for tests, and random numbers that repeat.

use crate::footer_table::{self, SEV_ES_RESET_BLOCK, SEV_HASH_TABLE, SEV_METADATA, TDX_METADATA};
use crate::guid::Guid;
use crate::{sev_metadata, tdvf};

/// Distance from the end of the file to the end of the GUID table.
const TABLE_END_FROM_END: usize = 32;

/// Builds an image with a GUID table, SEV metadata and TDX metadata.
#[derive(Clone, Debug)]
pub struct RomBuilder {
    bytes: Vec<u8>,
    entries: Vec<(Guid, Vec<u8>)>,
    sections: Vec<[u32; 3]>,
    td_sections: Vec<tdvf::TdSection>,
}

impl RomBuilder {
    /// An image of `bytes` zeros, a multiple of 4096.
    pub fn new(bytes: usize) -> Self {
        Self {
            bytes: vec![0; bytes],
            entries: vec![],
            sections: vec![],
            td_sections: vec![],
        }
    }

    /// Sets what the image contains where no metadata is.
    pub fn contents(mut self, fill: impl FnMut(&mut u8)) -> Self {
        self.bytes.iter_mut().for_each(fill);
        self
    }

    /// Adds an entry below those already there.
    pub fn entry(mut self, guid: Guid, data: &[u8]) -> Self {
        self.entries.push((guid, data.to_vec()));
        self
    }

    /// Adds the SEV-ES reset block.
    pub fn reset(self, address: u32) -> Self {
        self.entry(SEV_ES_RESET_BLOCK, &address.to_le_bytes())
    }

    /// Adds the place for kernel hashes.
    pub fn hash_table(self, base: u32, bytes: u32) -> Self {
        let data = [base.to_le_bytes(), bytes.to_le_bytes()].concat();
        self.entry(SEV_HASH_TABLE, &data)
    }

    /// Adds a section of SEV metadata: address, length, type.
    pub fn section(mut self, gpa: u32, bytes: u32, kind: u32) -> Self {
        self.sections.push([gpa, bytes, kind]);
        self
    }

    /// Adds a section of TDX metadata.
    pub fn td_section(mut self, section: tdvf::TdSection) -> Self {
        self.td_sections.push(section);
        self
    }

    /// The image. The metadata lies below the GUID table, TDX's lowest.
    ///
    /// # Panics
    /// If the image is too small for its metadata.
    pub fn build(mut self) -> Vec<u8> {
        let sev = self.sev_metadata();
        let tdx = self.tdx_metadata();
        let pointer = [0; 4];
        if !sev.is_empty() {
            self.entries.push((SEV_METADATA, pointer.to_vec()));
        }
        if !tdx.is_empty() {
            self.entries.push((TDX_METADATA, pointer.to_vec()));
        }
        let table_bytes: usize = self.entries.iter().map(|(_, data)| data.len() + 18).sum();
        let below_table = TABLE_END_FROM_END + 18 + table_bytes;
        let sev_from_end = (below_table + sev.len()).next_multiple_of(16);
        let tdx_from_end = (sev_from_end + tdx.len()).next_multiple_of(16);
        for (guid, data) in &mut self.entries {
            match *guid {
                SEV_METADATA if data.as_slice() == pointer => set(data, sev_from_end),
                TDX_METADATA if data.as_slice() == pointer => set(data, tdx_from_end),
                _ => {}
            }
        }
        let rom_bytes = self.bytes.len();
        self.put(rom_bytes - sev_from_end, &sev);
        self.put(rom_bytes - tdx_from_end, &tdx);
        self.put_table(table_bytes);
        self.bytes
    }

    fn put_table(&mut self, table_bytes: usize) {
        let mut at = self.bytes.len() - TABLE_END_FROM_END - 18;
        self.put(at, &entry_tail(table_bytes + 18, footer_table::FOOTER));
        for (guid, data) in std::mem::take(&mut self.entries) {
            let entry = [data.as_slice(), &entry_tail(data.len() + 18, guid)].concat();
            at -= entry.len();
            self.put(at, &entry);
        }
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn sev_metadata(&self) -> Vec<u8> {
        if self.sections.is_empty() {
            return vec![];
        }
        let bytes = sev_metadata::HEADER_BYTES + sev_metadata::ENTRY_BYTES * self.sections.len();
        let header = [bytes, 1, self.sections.len()].map(|value| value as u32);
        let fields = header.iter().chain(self.sections.iter().flatten());
        let fields = fields.flat_map(|value| value.to_le_bytes());
        sev_metadata::SIGNATURE.into_iter().chain(fields).collect()
    }

    fn tdx_metadata(&self) -> Vec<u8> {
        if self.td_sections.is_empty() {
            return vec![];
        }
        let bytes = tdvf::DESCRIPTOR_BYTES + tdvf::SECTION_BYTES * self.td_sections.len();
        let header = [bytes, 1, self.td_sections.len()].map(|value| value as u32);
        let header = header.into_iter().flat_map(|value| value.to_le_bytes());
        let sections = self.td_sections.iter().flat_map(tdvf::TdSection::to_bytes);
        tdvf::SIGNATURE
            .into_iter()
            .chain(header)
            .chain(sections)
            .collect()
    }
}

fn entry_tail(bytes: usize, guid: Guid) -> Vec<u8> {
    let length = u16::try_from(bytes).expect("a table of a test is short");
    [length.to_le_bytes().as_slice(), &guid.to_bytes()].concat()
}

fn set(pointer: &mut Vec<u8>, from_end: usize) {
    *pointer = (from_end as u32).to_le_bytes().to_vec();
}

/// A generator with a seed (SplitMix64): the same numbers on each run.
#[derive(Clone, Debug)]
pub struct Rng(pub u64);

impl Rng {
    /// A 64-bit number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which must not be 0.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.number() % bound as u64) as usize
    }

    /// One of `values`.
    pub fn pick<T: Copy>(&mut self, values: &[T]) -> T {
        values[self.below(values.len())]
    }

    /// Random bytes.
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.number() as u8).collect()
    }

    /// Alters `bytes`, of which there are some, in one place of `range`, or cuts or extends them.
    pub fn alter(&mut self, bytes: &mut Vec<u8>, range: std::ops::Range<usize>) {
        let at = range.start + self.below(range.len());
        match self.below(8) {
            0..3 => bytes[at] ^= 1 << self.below(8),
            3..6 => bytes[at] = self.pick(&[0, 1, 17, 18, 0x7f, 0x80, 0xf0, 0xff]),
            6 => bytes.truncate(at),
            _ => bytes.extend_from_within(at..),
        }
    }
}

/// A small image as Cloister's own: every kind of section, room for kernel hashes.
pub fn sample_rom() -> RomBuilder {
    let mut rng = Rng(7);
    RomBuilder::new(3 * 4096)
        .contents(|byte| *byte = rng.number() as u8)
        .reset(0x0080_b004)
        .hash_table(0x81_0c00, 0x400)
        .section(0x80_0000, 0x9000, 1)
        .section(0x80_d000, 0x1000, 2)
        .section(0x80_e000, 0x1000, 3)
        .section(0x80_f000, 0x1000, 4)
        .section(0x81_0000, 0x1000, 0x10)
        .section(0x81_1000, 0x2000, 1)
}
