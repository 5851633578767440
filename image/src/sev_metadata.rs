//! What a launcher of SEV-SNP guests looks for at the end of a firmware image.
//!
//! QEMU (`hw/i386/pc_sysfw_ovmf.c`, `target/i386/sev.c`) walks a table of entries, each named by a GUID, downwards from
//! 48 bytes before the end. Two of them matter here: where other processors begin, and where the list of pages is that
//! the launch measures and validates beside the image itself. Nothing but these pages and the ROM may be used before
//! the guest has validated memory by itself.

use cloister_boot::address::PhysRange;
use cloister_boot::layout::{AP_PARKING, BOOT_RAM, CPUID_PAGE, SECRETS_PAGE};
use cloister_measure::footer_table::{FOOTER, SEV_ES_RESET_BLOCK, SEV_METADATA};
use cloister_measure::guid::Guid;
use cloister_measure::sev_metadata::{SIGNATURE, VERSION};

/// Bytes at the end of the ROM that this module fills: the upper half of the last page, without the reset vector.
pub const SUFFIX_BYTES: usize = 0x800;

/// Distance of the footer's end from the end of the image.
const FOOTER_FROM_END: usize = 0x20;

/// Types of sections (QEMU `include/hw/i386/pc.h`, `ovmf_sev_metadata_desc_type`).
const VALIDATED_RAM: u32 = 1;
const SECRETS: u32 = 2;
const CPUID: u32 = 3;

/// Writes the section list and the table into the last [`SUFFIX_BYTES`] of a ROM; the reset vector stays.
///
/// # Panics
/// When the ROM is shorter than that.
pub fn write(rom: &mut [u8]) {
    let start = rom.len() - SUFFIX_BYTES;
    let list = section_list();
    rom[start..start + list.len()].copy_from_slice(&list);
    let table = table(SUFFIX_BYTES);
    let end = rom.len() - FOOTER_FROM_END;
    rom[end - table.len()..end].copy_from_slice(&table);
}

/// `ASEV`, length, version, number of sections; then for each its address, length and type.
fn section_list() -> Vec<u8> {
    let sections = [
        (plain_ram(), VALIDATED_RAM),
        (SECRETS_PAGE, SECRETS),
        (CPUID_PAGE, CPUID),
    ];
    let length = 16 + 12 * sections.len() as u32;
    let mut list = SIGNATURE.to_vec();
    for word in [length, VERSION, sections.len() as u32] {
        list.extend_from_slice(&word.to_le_bytes());
    }
    for (range, kind) in sections {
        // Boot's RAM lies below 4 GiB.
        for word in [range.start().as_u64() as u32, range.len() as u32, kind] {
            list.extend_from_slice(&word.to_le_bytes());
        }
    }
    list
}

/// Boot's RAM without the two pages that the launcher fills, which are its last ones.
fn plain_ram() -> PhysRange {
    PhysRange::new(BOOT_RAM.start(), SECRETS_PAGE.start()).expect("the pages are inside boot's RAM")
}

/// Entries in ascending order, each `data, u16 length, GUID`; the last one is the footer with the length of all.
fn table(list_from_end: usize) -> Vec<u8> {
    let mut table = Vec::new();
    let mut entry = |data: &[u8], guid: Guid| {
        table.extend_from_slice(data);
        let length = data.len() as u16 + 18;
        table.extend_from_slice(&length.to_le_bytes());
        table.extend_from_slice(&guid.to_bytes());
    };
    entry(&(list_from_end as u32).to_le_bytes(), SEV_METADATA);
    entry(
        &(AP_PARKING.as_u64() as u32).to_le_bytes(),
        SEV_ES_RESET_BLOCK,
    );
    let length = table.len() as u16 + 18;
    table.extend_from_slice(&length.to_le_bytes());
    table.extend_from_slice(&FOOTER.to_bytes());
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use cloister_measure::Rom;
    use cloister_measure::sev_metadata::{Section, SectionKind};

    #[test]
    fn a_launcher_finds_the_sections() {
        let mut bytes = vec![0xaa; 0x1_0000];
        write(&mut bytes);
        assert_eq!(
            bytes[bytes.len() - 16..],
            [0xaa; 16],
            "the reset vector stays"
        );
        let rom = Rom::parse(&bytes).expect("tables that a launcher reads");
        let section = |gpa, bytes, kind| Section { gpa, bytes, kind };
        assert_eq!(
            rom.sections(),
            [
                section(0x20_0000, 0x7_e000, SectionKind::ValidatedMemory),
                section(0x27_e000, 0x1000, SectionKind::Secrets),
                section(0x27_f000, 0x1000, SectionKind::Cpuid),
            ]
        );
    }

    #[test]
    fn other_processors_begin_in_the_rom() {
        let mut bytes = vec![0; 0x1_0000];
        write(&mut bytes);
        let rom = Rom::parse(&bytes).expect("tables that a launcher reads");
        assert_eq!(rom.reset_address().map(u64::from), Ok(AP_PARKING.as_u64()));
        let guids = rom.entries().iter().map(|entry| entry.guid);
        assert!(guids.eq([SEV_ES_RESET_BLOCK, SEV_METADATA]));
    }
}
