//! The image as the launcher sees it: where it lies, what its tables say.

use crate::footer_table::{self, TableEntry, TableError};
use crate::guid::Guid;
use crate::sev_metadata::{self, Section, SevMetadataError};
use crate::{PAGE_BYTES, footer_table::SEV_ES_RESET_BLOCK};

/// Where every image ends in the guest.
pub const ROM_END: u64 = 1 << 32;

/// More does not fit below 4 GiB: local APICs and KVM's own pages lie there.
pub const MAX_ROM_BYTES: usize = 16 << 20;

/// An image whose tables are sound.
#[derive(Clone, Debug)]
pub struct Rom<'a> {
    bytes: &'a [u8],
    entries: Vec<TableEntry<'a>>,
    sections: Vec<Section>,
}

/// The place in the guest for the hashes of kernel, initrd and command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashTablePlace {
    /// Guest-physical address.
    pub gpa: u64,
    /// Length in bytes.
    pub bytes: u64,
}

/// An image that cannot be launched, or that launchers read differently.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RomError {
    /// The length is not possible.
    #[error(
        "the image has {0} bytes; it needs a multiple of 4096 bytes, at least 4096 and at most \
         16 MiB"
    )]
    Size(usize),
    /// The GUID table is damaged.
    #[error(transparent)]
    Table(#[from] TableError),
    /// The SEV metadata is damaged.
    #[error(transparent)]
    SevMetadata(#[from] SevMetadataError),
    /// An entry of the GUID table has too little data.
    #[error("entry {guid} of the GUID table has {bytes} bytes of data, {needed} are needed")]
    ShortEntry {
        /// The entry.
        guid: Guid,
        /// Length of its data.
        bytes: usize,
        /// Bytes that it needs.
        needed: usize,
    },
    /// No address where all vCPUs but the first begin.
    #[error(
        "the image has no SEV-ES reset block ({SEV_ES_RESET_BLOCK}) in a GUID table; no launcher \
         starts it with SEV-ES or SEV-SNP: is this a firmware image, and complete?"
    )]
    NoResetBlock,
    /// The address is 0.
    #[error("the SEV-ES reset block has the address 0, which QEMU refuses")]
    ResetAddressZero,
}

impl<'a> Rom<'a> {
    /// Reads the image's tables. An image without a GUID table or without SEV metadata is sound.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, RomError> {
        let possible = (PAGE_BYTES..=MAX_ROM_BYTES).contains(&bytes.len());
        if !possible || !bytes.len().is_multiple_of(PAGE_BYTES) {
            return Err(RomError::Size(bytes.len()));
        }
        let mut rom = Self {
            bytes,
            entries: footer_table::parse(bytes)?,
            sections: vec![],
        };
        if let Some([from_end]) = rom.fields(footer_table::SEV_METADATA)? {
            rom.sections = sev_metadata::parse(bytes, from_end)?;
            sev_metadata::check_layout(&rom.sections, rom.gpa())?;
        }
        Ok(rom)
    }

    /// The whole image.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Guest-physical address of its first byte.
    pub fn gpa(&self) -> u64 {
        ROM_END - self.bytes.len() as u64
    }

    /// The GUID table's entries, from high to low addresses.
    pub fn entries(&self) -> &[TableEntry<'a>] {
        &self.entries
    }

    /// The sections of the SEV metadata, in the order of the table.
    pub fn sections(&self) -> &[Section] {
        &self.sections
    }

    /// Address where all vCPUs but the first begin.
    pub fn reset_address(&self) -> Result<u32, RomError> {
        match self.fields(SEV_ES_RESET_BLOCK)? {
            None => Err(RomError::NoResetBlock),
            Some([0]) => Err(RomError::ResetAddressZero),
            Some([address]) => Ok(address),
        }
    }

    /// The place for kernel hashes; `None` if the image takes none (no entry, or address 0).
    pub fn hash_table(&self) -> Result<Option<HashTablePlace>, RomError> {
        let fields = self.fields(footer_table::SEV_HASH_TABLE)?;
        let place = fields.map(|[gpa, bytes]| HashTablePlace {
            gpa: gpa.into(),
            bytes: bytes.into(),
        });
        Ok(place.filter(|place| place.gpa != 0))
    }

    /// Distance from the image's end to the TDX metadata, in bytes.
    pub fn tdx_metadata(&self) -> Result<Option<u32>, RomError> {
        let fields = self.fields(footer_table::TDX_METADATA)?;
        Ok(fields.map(|[from_end]| from_end))
    }

    /// The first `u32` fields of an entry's data.
    fn fields<const N: usize>(&self, guid: Guid) -> Result<Option<[u32; N]>, RomError> {
        let Some(entry) = self.entries.iter().find(|entry| entry.guid == guid) else {
            return Ok(None);
        };
        let (fields, _) = entry.data.as_chunks::<4>();
        let fields = fields.first_chunk::<N>().ok_or(RomError::ShortEntry {
            guid,
            bytes: entry.data.len(),
            needed: 4 * N,
        })?;
        Ok(Some(fields.map(u32::from_le_bytes)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{RomBuilder, sample_rom};

    #[test]
    fn a_good_image_is_read() {
        let bytes = sample_rom().build();
        let rom = Rom::parse(&bytes).expect("a good image");
        assert_eq!(rom.gpa(), 0xffff_d000);
        assert_eq!(rom.reset_address(), Ok(0x0080_b004));
        assert_eq!(
            rom.hash_table(),
            Ok(Some(HashTablePlace {
                gpa: 0x81_0c00,
                bytes: 0x400
            }))
        );
        assert_eq!(rom.sections().len(), 6);
        assert_eq!(rom.tdx_metadata(), Ok(None));
    }

    #[test]
    fn impossible_lengths_are_refused() {
        for bytes in [0, 1, 4095, 4097, MAX_ROM_BYTES + 4096] {
            let error = Rom::parse(&vec![0; bytes]).expect_err("refused");
            assert_eq!(error, RomError::Size(bytes));
        }
    }

    #[test]
    fn an_image_without_a_table_is_sound_but_does_not_start() {
        let rom = Rom::parse(&[0; 4096]).expect("a sound image");
        assert_eq!(rom.reset_address(), Err(RomError::NoResetBlock));
        assert_eq!(rom.hash_table(), Ok(None));
    }

    #[test]
    fn entries_without_their_data_are_refused() {
        let bytes = RomBuilder::new(4096)
            .entry(SEV_ES_RESET_BLOCK, &[1, 2, 3])
            .build();
        let rom = Rom::parse(&bytes).expect("read when asked for");
        assert!(matches!(
            rom.reset_address(),
            Err(RomError::ShortEntry {
                bytes: 3,
                needed: 4,
                ..
            })
        ));
        let bytes = RomBuilder::new(4096)
            .entry(footer_table::SEV_METADATA, &[1])
            .build();
        assert!(matches!(
            Rom::parse(&bytes),
            Err(RomError::ShortEntry { bytes: 1, .. })
        ));
    }

    #[test]
    fn the_reset_address_must_not_be_zero() {
        let bytes = RomBuilder::new(4096).reset(0).build();
        let rom = Rom::parse(&bytes).expect("a sound image");
        assert_eq!(rom.reset_address(), Err(RomError::ResetAddressZero));
    }
}
