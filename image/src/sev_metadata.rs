//! What a launcher of SEV-SNP guests looks for at the end of a firmware image.
//!
//! QEMU (`hw/i386/pc_sysfw_ovmf.c`, `target/i386/sev.c`) walks a table of entries, each named by a GUID, downwards from
//! 48 bytes before the end. Two of them matter here: where other processors begin, and where the list of pages is that
//! the launch measures and validates beside the image itself. Nothing but these pages and the ROM may be used before
//! the guest has validated memory by itself.

use cloister_boot::address::PhysRange;
use cloister_boot::layout::{AP_PARKING, BOOT_RAM, CPUID_PAGE, SECRETS_PAGE};

/// Bytes at the end of the ROM that this module fills: the upper half of the last page, without the reset vector.
pub const SUFFIX_BYTES: usize = 0x800;

/// 96b582de-1fb2-45f7-baea-a366c55a082d, as stored: the first three fields are little-endian.
const FOOTER: Guid = guid(0x96b5_82de, 0x1fb2, 0x45f7, 0xbaea_a366_c55a_082d);
/// 00f771de-1a7e-4fcb-890e-68c77e2fb44e: the address where processors but the first begin.
const RESET_BLOCK: Guid = guid(0x00f7_71de, 0x1a7e, 0x4fcb, 0x890e_68c7_7e2f_b44e);
/// dc886566-984a-4798-a75e-5585a7bf67cc: how far before the end of the image the section list begins.
const SECTION_LIST: Guid = guid(0xdc88_6566, 0x984a, 0x4798, 0xa75e_5585_a7bf_67cc);

/// Distance of the footer's end from the end of the image.
const FOOTER_FROM_END: usize = 0x20;
/// Version of the section list.
const VERSION: u32 = 1;

/// Types of sections (QEMU `include/hw/i386/pc.h`, `ovmf_sev_metadata_desc_type`).
const VALIDATED_RAM: u32 = 1;
const SECRETS: u32 = 2;
const CPUID: u32 = 3;

type Guid = [u8; 16];

const fn guid(a: u32, b: u16, c: u16, d: u64) -> Guid {
    let (a, b, c, d) = (
        a.to_le_bytes(),
        b.to_le_bytes(),
        c.to_le_bytes(),
        d.to_be_bytes(),
    );
    [
        a[0], a[1], a[2], a[3], b[0], b[1], c[0], c[1], d[0], d[1], d[2], d[3], d[4], d[5], d[6],
        d[7],
    ]
}

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
    let mut list = b"ASEV".to_vec();
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
        table.extend_from_slice(&guid);
    };
    entry(&(list_from_end as u32).to_le_bytes(), SECTION_LIST);
    entry(&(AP_PARKING.as_u64() as u32).to_le_bytes(), RESET_BLOCK);
    let length = table.len() as u16 + 18;
    table.extend_from_slice(&length.to_le_bytes());
    table.extend_from_slice(&FOOTER);
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The data of an entry, found as QEMU finds it.
    fn find(rom: &[u8], wanted: Guid) -> Option<Vec<u8>> {
        let footer = rom.len() - 0x30;
        assert_eq!(rom[footer..footer + 16], FOOTER);
        let u16_at = |at: usize| usize::from(u16::from_le_bytes([rom[at], rom[at + 1]]));
        let start = footer + 16 - u16_at(footer - 2);
        let mut end = footer - 2;
        while end > start {
            let length = u16_at(end - 18);
            assert!(length >= 18 && length <= end - start);
            if rom[end - 16..end] == wanted {
                return Some(rom[end - length..end - 18].to_vec());
            }
            end -= length;
        }
        None
    }

    fn u32_at(bytes: &[u8], at: usize) -> u32 {
        u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
    }

    #[test]
    fn a_launcher_finds_the_sections() {
        let mut rom = vec![0xaa; 0x1_0000];
        write(&mut rom);
        assert_eq!(rom[rom.len() - 16..], [0xaa; 16], "the reset vector stays");
        let from_end = u32_at(&find(&rom, SECTION_LIST).unwrap(), 0) as usize;
        let list = &rom[rom.len() - from_end..];
        assert_eq!(&list[..4], b"ASEV");
        assert_eq!(
            (u32_at(list, 4), u32_at(list, 8), u32_at(list, 12)),
            (52, 1, 3)
        );
        let section = |index: usize| {
            let at = 16 + 12 * index;
            (u32_at(list, at), u32_at(list, at + 4), u32_at(list, at + 8))
        };
        assert_eq!(section(0), (0x20_0000, 0x7_e000, 1));
        assert_eq!(section(1), (0x27_e000, 0x1000, 2));
        assert_eq!(section(2), (0x27_f000, 0x1000, 3));
    }

    #[test]
    fn other_processors_begin_in_the_rom() {
        let mut rom = vec![0; 0x1_0000];
        write(&mut rom);
        let address = u32_at(&find(&rom, RESET_BLOCK).unwrap(), 0);
        assert_eq!(u64::from(address), AP_PARKING.as_u64());
        assert!(find(&rom, [7; 16]).is_none());
    }

    #[test]
    fn guids_are_stored_as_uefi_stores_them() {
        let stored = [
            0xde, 0x82, 0xb5, 0x96, 0xb2, 0x1f, 0xf7, 0x45, 0xba, 0xea, 0xa3, 0x66, 0xc5, 0x5a,
            0x08, 0x2d,
        ];
        assert_eq!(FOOTER, stored);
    }
}
