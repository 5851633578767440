//! The table of GUIDs at the end of a firmware image.
//!
//! The footer's GUID lies 48 bytes before the end of the file, its entries below it, walked from
//! high to low addresses. An entry is `data | u16 length of data + 18 | GUID`. The convention is
//! OVMF's; QEMU's parser is `pc_system_parse_ovmf_flash()`.

use crate::guid::Guid;

/// GUID of the footer.
pub const FOOTER: Guid = Guid::from_text(0x96b582de_1fb2_45f7_baea_a366c55a082d);

/// SEV-ES reset block: `u32` address where all vCPUs but the first begin.
pub const SEV_ES_RESET_BLOCK: Guid = Guid::from_text(0x00f771de_1a7e_4fcb_890e_68c77e2fb44e);

/// Kernel hash table: `u32` address, `u32` length of the place for it.
pub const SEV_HASH_TABLE: Guid = Guid::from_text(0x7255371f_3a3b_4b04_927b_1da6efa8d454);

/// SEV metadata: `u32` distance from the end of the file back to its header.
pub const SEV_METADATA: Guid = Guid::from_text(0xdc886566_984a_4798_a75e_5585a7bf67cc);

/// TDX metadata: `u32` distance from the end of the file back to its descriptor.
pub const TDX_METADATA: Guid = Guid::from_text(0xe47a6535_984a_4798_865e_4685a7bf8ec2);

/// From the end of the file to the end of the footer: the reset vector and what is before it.
const FOOTER_END_FROM_END: usize = 32;

/// The `u16` length and the GUID that end an entry.
const ENTRY_TAIL_BYTES: usize = 2 + Guid::BYTES;

/// One entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableEntry<'a> {
    /// What it is.
    pub guid: Guid,
    /// Its data.
    pub data: &'a [u8],
}

/// A table that no launcher can be relied on to read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TableError {
    /// The length in the footer is impossible.
    #[error(
        "the footer of the GUID table gives the table {bytes} bytes; it has at least 18 and at \
         most the {available} bytes that the file has up to there"
    )]
    TableLength {
        /// The length found.
        bytes: usize,
        /// The bytes of the file up to the footer's end.
        available: usize,
    },
    /// The length of an entry is impossible.
    #[error(
        "the GUID table's entry that ends at file offset {end:#x} gives its length as {bytes}; it \
         has at least 18 bytes and at most the {remaining} that are left of the table"
    )]
    EntryLength {
        /// Where the entry ends in the file.
        end: usize,
        /// The length found.
        bytes: usize,
        /// The bytes left of the table.
        remaining: usize,
    },
    /// A GUID is there twice, and launchers do not agree on which of the two they take.
    #[error("the GUID table has two entries {0}; leave one out")]
    Duplicate(Guid),
}

/// The entries of the table at the end of `rom`, from high to low addresses; none without a footer.
pub fn parse(rom: &[u8]) -> Result<Vec<TableEntry<'_>>, TableError> {
    let Some(footer_end) = rom.len().checked_sub(FOOTER_END_FROM_END) else {
        return Ok(vec![]);
    };
    let Some((bytes, guid)) = entry_tail(&rom[..footer_end]) else {
        return Ok(vec![]);
    };
    if guid != FOOTER {
        return Ok(vec![]);
    }
    if bytes < ENTRY_TAIL_BYTES || bytes > footer_end {
        return Err(TableError::TableLength {
            bytes,
            available: footer_end,
        });
    }
    let start = footer_end - bytes;
    let mut end = footer_end - ENTRY_TAIL_BYTES;
    let mut entries: Vec<TableEntry<'_>> = vec![];
    while end > start {
        let (entry, entry_start) = entry_before(rom, start, end)?;
        if entries.iter().any(|other| other.guid == entry.guid) {
            return Err(TableError::Duplicate(entry.guid));
        }
        entries.push(entry);
        end = entry_start;
    }
    Ok(entries)
}

/// The entry that ends at `end`, and where it starts, not before `start`.
fn entry_before(
    rom: &[u8],
    start: usize,
    end: usize,
) -> Result<(TableEntry<'_>, usize), TableError> {
    let remaining = end - start;
    let short = TableError::EntryLength {
        end,
        bytes: remaining,
        remaining,
    };
    let (bytes, guid) = entry_tail(&rom[start..end]).ok_or(short)?;
    if bytes < ENTRY_TAIL_BYTES || bytes > remaining {
        return Err(TableError::EntryLength {
            end,
            bytes,
            remaining,
        });
    }
    let data = &rom[end - bytes..end - ENTRY_TAIL_BYTES];
    Ok((TableEntry { guid, data }, end - bytes))
}

/// Length and GUID at the end of `bytes`.
fn entry_tail(bytes: &[u8]) -> Option<(usize, Guid)> {
    let (rest, guid) = bytes.split_last_chunk::<{ Guid::BYTES }>()?;
    let (_, length) = rest.split_last_chunk::<2>()?;
    Some((
        usize::from(u16::from_le_bytes(*length)),
        Guid::from_bytes(*guid),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::RomBuilder;

    #[test]
    fn entries_come_from_high_to_low_addresses() {
        let rom = RomBuilder::new(4096)
            .entry(SEV_HASH_TABLE, &[1, 2, 3, 4, 5, 6, 7, 8])
            .entry(SEV_ES_RESET_BLOCK, &[9, 8, 7, 6])
            .build();
        let entries = parse(&rom).expect("a good table");
        let guids: Vec<_> = entries.iter().map(|entry| entry.guid).collect();
        assert_eq!(guids, [SEV_HASH_TABLE, SEV_ES_RESET_BLOCK]);
        assert_eq!(entries[1].data, [9, 8, 7, 6]);
    }

    #[test]
    fn without_a_footer_there_are_no_entries() {
        assert_eq!(parse(&[]), Ok(vec![]));
        assert_eq!(parse(&[0; 40]), Ok(vec![]));
        assert_eq!(parse(&[0; 4096]), Ok(vec![]));
    }

    #[test]
    fn impossible_lengths_are_refused() {
        let good = RomBuilder::new(4096).entry(SEV_HASH_TABLE, &[0; 8]).build();
        let footer_length = 4096 - 32 - 18;
        let entry_length = footer_length - 18;
        let with = |at: usize, length: u16| {
            let mut rom = good.clone();
            rom[at..at + 2].copy_from_slice(&length.to_le_bytes());
            rom
        };
        for length in [0, 17, 4065, u16::MAX] {
            let error = parse(&with(footer_length, length)).expect_err("refused");
            assert!(
                matches!(error, TableError::TableLength { .. }),
                "{length}: {error}"
            );
        }
        for length in [0, 17, 27, u16::MAX] {
            let error = parse(&with(entry_length, length)).expect_err("refused");
            assert!(
                matches!(error, TableError::EntryLength { .. }),
                "{length}: {error}"
            );
        }
    }

    #[test]
    fn the_same_guid_twice_is_refused() {
        let rom = RomBuilder::new(4096)
            .entry(SEV_HASH_TABLE, &[0; 8])
            .entry(SEV_HASH_TABLE, &[1; 8])
            .build();
        assert_eq!(parse(&rom), Err(TableError::Duplicate(SEV_HASH_TABLE)));
    }
}
