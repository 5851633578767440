use super::*;
use cloister_boot::elf::ElfError;

/// A program of one segment with `code` at `address`, entered at `entry`.
fn program(address: u64, entry: u64, flags: u32, code: &[u8]) -> Vec<u8> {
    let mut elf = vec![0; 0x1000];
    elf[..7].copy_from_slice(&[0x7f, b'E', b'L', b'F', 2, 1, 1]);
    for (at, value) in [(16, 2_u16), (18, 62), (52, 64), (54, 56), (56, 1), (58, 64)] {
        elf[at..at + 2].copy_from_slice(&value.to_le_bytes());
    }
    elf[20..24].copy_from_slice(&1_u32.to_le_bytes());
    elf[24..32].copy_from_slice(&entry.to_le_bytes());
    elf[32..40].copy_from_slice(&64_u64.to_le_bytes());
    elf[64..68].copy_from_slice(&1_u32.to_le_bytes());
    elf[68..72].copy_from_slice(&flags.to_le_bytes());
    let length = code.len() as u64;
    for (word, value) in [0x1000, address, address, length, length, 0x1000]
        .into_iter()
        .enumerate()
    {
        elf[72 + 8 * word..80 + 8 * word].copy_from_slice(&value.to_le_bytes());
    }
    elf.extend_from_slice(code);
    elf
}

fn boot() -> Vec<u8> {
    let mut code = vec![0x90; BOOT_WINDOW_BYTES];
    code[BOOT_WINDOW_BYTES - 16] = 0xe9;
    program(ROM_END - BOOT_WINDOW_BYTES as u64, RESET_VECTOR, 5, &code)
}

fn kernel(bytes: usize) -> Vec<u8> {
    program(
        KERNEL_WINDOW.start().as_u64(),
        KERNEL_WINDOW.start().as_u64(),
        5,
        &vec![0xc3; bytes],
    )
}

fn pack_with(boot_elf: &[u8], kernel_elf: &[u8]) -> Result<Vec<u8>, RomError> {
    pack(&RomInputs {
        boot_elf,
        kernel_elf,
        manifest: &Manifest::default(),
    })
}

#[test]
fn the_boot_program_finds_what_was_packed() {
    let rom = pack_with(&boot(), &kernel(100_000)).unwrap();
    assert!(rom.len().is_multiple_of(ROM_ALIGN_BYTES));
    assert_eq!(rom[rom.len() - 16], 0xe9);
    let table = Table::parse(&rom[rom.len() - TABLE_FROM_END..]).unwrap();
    assert_eq!(table.rom_bytes, rom.len());
    let loaded = Program::parse(&rom[table.kernel.clone()], KERNEL_WINDOW).unwrap();
    assert_eq!(loaded.segments()[0].file.len(), 100_000);
    assert_eq!(
        Manifest::decode(&rom[table.manifest]),
        Ok(Manifest::default())
    );
}

#[test]
fn packing_is_deterministic() {
    assert_eq!(
        pack_with(&boot(), &kernel(5000)),
        pack_with(&boot(), &kernel(5000))
    );
}

#[test]
fn what_lies_behind_the_last_segment_does_not_matter() {
    let mut with_symbols = kernel(5000);
    with_symbols.extend_from_slice(&[0xaa; 70_000]);
    assert_eq!(
        pack_with(&boot(), &with_symbols),
        pack_with(&boot(), &kernel(5000))
    );
}

#[test]
fn a_kernel_that_does_not_fit_is_refused() {
    let outcome = pack_with(&boot(), &kernel(16 << 20));
    assert!(
        matches!(outcome, Err(RomError::Layout(TableError::Size(_)))),
        "{outcome:?}"
    );
}

#[test]
fn unfit_programs_are_refused() {
    let writable_code = program(
        KERNEL_WINDOW.start().as_u64(),
        KERNEL_WINDOW.start().as_u64(),
        7,
        &[0; 16],
    );
    let outcome = pack_with(&boot(), &writable_code);
    assert_eq!(
        outcome,
        Err(RomError::Kernel(ElfCheckError::Headers(
            ElfError::Permissions
        )))
    );
    let outcome = pack_with(&kernel(100), &kernel(100));
    assert_eq!(
        outcome,
        Err(RomError::Boot(ElfCheckError::Headers(ElfError::Placement)))
    );
    let mut elsewhere = boot();
    elsewhere[24..32].copy_from_slice(&(RESET_VECTOR - 16).to_le_bytes());
    assert!(matches!(
        pack_with(&elsewhere, &kernel(100)),
        Err(RomError::ResetVector(_))
    ));
    assert!(matches!(
        pack_with(b"", &kernel(100)),
        Err(RomError::Boot(_))
    ));
}
