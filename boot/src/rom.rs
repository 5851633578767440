//! Layout of the ROM, which the packer writes and boot reads.
//!
//! The ROM ends at 4 GiB. From its first byte: kernel ELF, manifest, zeros, one page with the
//! [`Table`], and in the last 64 KiB the boot program with the reset vector.

use core::ops::Range;

/// Where the ROM ends in physical memory.
pub const ROM_END: u64 = 1 << 32;
/// Granularity of its size, in bytes; QEMU's `-bios` accepts nothing else.
pub const ROM_ALIGN_BYTES: usize = 64 << 10;
/// Largest ROM, in bytes: a larger one reaches the local APIC's page.
pub const ROM_MAX_BYTES: usize = 16 << 20;
/// Size of the boot program's window at the end of the ROM, in bytes.
pub const BOOT_WINDOW_BYTES: usize = 64 << 10;
/// Distance of the table's first byte from the end of the ROM.
pub const TABLE_FROM_END: usize = BOOT_WINDOW_BYTES + 4096;
/// Alignment of the kernel ELF and the manifest inside the ROM, in bytes.
pub const PART_ALIGN_BYTES: usize = 4096;
/// Largest manifest, in bytes.
pub const MANIFEST_MAX_BYTES: usize = 64 << 10;

const MAGIC: [u8; 8] = *b"CLSTROM1";
const TABLE_BYTES: usize = 32;

/// Sizes and places of the ROM's parts, as offsets from the ROM's first byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Size of the whole ROM in bytes.
    pub rom_bytes: usize,
    /// The kernel ELF.
    pub kernel: Range<usize>,
    /// The encoded manifest.
    pub manifest: Range<usize>,
}

/// Why a table is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RomError {
    /// Shorter than a table, or the magic is missing.
    NoTable,
    /// The size is 0, no multiple of 64 KiB, or above 16 MiB.
    Size(usize),
    /// The kernel or the manifest is empty, misaligned, too long, overlapping, or outside.
    Part(&'static str),
}

impl Table {
    /// Reads the table from its own bytes (32 of them: magic, then six little-endian `u32`: ROM
    /// size, kernel offset and length, manifest offset and length, zero).
    pub fn parse(bytes: &[u8]) -> Result<Self, RomError> {
        let bytes: &[u8; TABLE_BYTES] = bytes.first_chunk().ok_or(RomError::NoTable)?;
        if bytes[..8] != MAGIC || bytes[28..] != [0; 4] {
            return Err(RomError::NoTable);
        }
        let field = |index: usize| {
            let at = 8 + 4 * index;
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]) as usize
        };
        let part = |index: usize, name| {
            let start = field(index);
            let end = start
                .checked_add(field(index + 1))
                .ok_or(RomError::Part(name))?;
            Ok(start..end)
        };
        let table = Self {
            rom_bytes: field(0),
            kernel: part(1, "kernel")?,
            manifest: part(3, "manifest")?,
        };
        table.check()?;
        Ok(table)
    }

    /// The table's bytes, or why this table describes no ROM.
    pub fn encode(&self) -> Result<[u8; TABLE_BYTES], RomError> {
        self.check()?;
        let mut bytes = [0; TABLE_BYTES];
        bytes[..8].copy_from_slice(&MAGIC);
        let fields = [
            self.rom_bytes,
            self.kernel.start,
            self.kernel.len(),
            self.manifest.start,
            self.manifest.len(),
        ];
        for (index, field) in fields.into_iter().enumerate() {
            let field = u32::try_from(field).map_err(|_| RomError::Size(field))?;
            bytes[8 + 4 * index..12 + 4 * index].copy_from_slice(&field.to_le_bytes());
        }
        Ok(bytes)
    }

    fn check(&self) -> Result<(), RomError> {
        let size = self.rom_bytes;
        if size == 0 || !size.is_multiple_of(ROM_ALIGN_BYTES) || size > ROM_MAX_BYTES {
            return Err(RomError::Size(size));
        }
        let parts_end = size
            .checked_sub(TABLE_FROM_END)
            .ok_or(RomError::Size(size))?;
        for (name, part) in [("kernel", &self.kernel), ("manifest", &self.manifest)] {
            if part.is_empty()
                || !part.start.is_multiple_of(PART_ALIGN_BYTES)
                || part.end > parts_end
            {
                return Err(RomError::Part(name));
            }
        }
        if self.manifest.start < self.kernel.end || self.manifest.len() > MANIFEST_MAX_BYTES {
            return Err(RomError::Part("manifest"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        Table {
            rom_bytes: 1 << 20,
            kernel: 0..0x5432,
            manifest: 0x6000..0x6100,
        }
    }

    #[test]
    fn what_is_written_is_read() {
        assert_eq!(Table::parse(&table().encode().unwrap()), Ok(table()));
    }

    #[test]
    fn contradictions_are_refused() {
        let bad = [
            Table {
                rom_bytes: 0,
                ..table()
            },
            Table {
                rom_bytes: 1000,
                ..table()
            },
            Table {
                rom_bytes: 32 << 20,
                ..table()
            },
            Table {
                rom_bytes: ROM_ALIGN_BYTES,
                ..table()
            },
            Table {
                kernel: 0..0,
                ..table()
            },
            Table {
                kernel: 1..0x5432,
                ..table()
            },
            Table {
                kernel: 0..0x6001,
                ..table()
            },
            Table {
                manifest: 0xf_0000..0xf_1000,
                ..table()
            },
            Table {
                manifest: 0x6000..0x6000 + MANIFEST_MAX_BYTES + 1,
                ..table()
            },
        ];
        for table in bad {
            assert!(table.encode().is_err(), "{table:?}");
        }
    }

    #[test]
    fn altered_bytes_are_refused_or_read_within_bounds() {
        let good = table().encode().unwrap();
        for length in 0..good.len() {
            assert_eq!(Table::parse(&good[..length]), Err(RomError::NoTable));
        }
        for at in 0..good.len() {
            for bit in 0..8 {
                let mut bytes = good;
                bytes[at] ^= 1 << bit;
                if let Ok(table) = Table::parse(&bytes) {
                    assert!(table.kernel.end <= table.manifest.start);
                    assert!(table.manifest.end <= table.rom_bytes);
                }
            }
        }
    }
}
