//! Packs boot program, kernel and manifest into the ROM that `cloister_boot::rom` describes. The
//! same inputs give the same bytes.

use crate::elf_check::{self, ElfCheckError};
use crate::sev_metadata;
use cloister_boot::address::{PhysAddr, PhysRange};
use cloister_boot::elf::Program;
use cloister_boot::layout::KERNEL_WINDOW;
use cloister_boot::manifest::{Manifest, ManifestError};
use cloister_boot::rom::{
    BOOT_WINDOW_BYTES, PART_ALIGN_BYTES, ROM_ALIGN_BYTES, ROM_END, RomError as TableError,
    TABLE_FROM_END, Table,
};
use std::fmt;

/// What goes into a ROM.
#[derive(Clone, Copy, Debug)]
pub struct RomInputs<'a> {
    /// The boot program, an ELF file.
    pub boot_elf: &'a [u8],
    /// The kernel, an ELF file.
    pub kernel_elf: &'a [u8],
    /// The manifest.
    pub manifest: &'a Manifest,
}

/// Why no ROM was made.
#[derive(Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RomError {
    /// The boot program is unfit.
    Boot(ElfCheckError),
    /// The boot program does not begin at the reset vector.
    ResetVector(PhysAddr),
    /// The kernel is unfit.
    Kernel(ElfCheckError),
    /// The manifest is out of bounds.
    Manifest(ManifestError),
    /// The parts do not fit into a ROM.
    Layout(TableError),
}

impl fmt::Display for RomError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Boot(error) => write!(f, "boot program: {error}"),
            Self::ResetVector(entry) => {
                write!(
                    f,
                    "boot program: it begins at {entry}, not at the reset vector"
                )
            }
            Self::Kernel(error) => write!(f, "kernel: {error}"),
            Self::Manifest(error) => write!(f, "manifest: {error:?}"),
            Self::Layout(TableError::Size(bytes)) => {
                write!(
                    f,
                    "the ROM would have {bytes} bytes; 16 MiB is the most that fits"
                )
            }
            Self::Layout(error) => write!(f, "ROM layout: {error:?}"),
        }
    }
}

impl std::error::Error for RomError {}

/// Address of the first instruction after reset.
const RESET_VECTOR: u64 = ROM_END - 16;

/// Packs a ROM.
pub fn pack(inputs: &RomInputs<'_>) -> Result<Vec<u8>, RomError> {
    let boot = elf_check::check(inputs.boot_elf, boot_window()).map_err(RomError::Boot)?;
    if boot.entry().as_u64() != RESET_VECTOR {
        return Err(RomError::ResetVector(boot.entry()));
    }
    let kernel = elf_check::check(inputs.kernel_elf, KERNEL_WINDOW).map_err(RomError::Kernel)?;
    let kernel = loaded_part(inputs.kernel_elf, &kernel);
    let manifest = inputs.manifest.encode().map_err(RomError::Manifest)?;
    let manifest_start = kernel.len().next_multiple_of(PART_ALIGN_BYTES);
    let parts_end = manifest_start + manifest.len().next_multiple_of(PART_ALIGN_BYTES);
    let rom_bytes = (parts_end + TABLE_FROM_END).next_multiple_of(ROM_ALIGN_BYTES);
    let table = Table {
        rom_bytes,
        kernel: 0..kernel.len(),
        manifest: manifest_start..manifest_start + manifest.len(),
    };
    let encoded = table.encode().map_err(RomError::Layout)?;
    let mut rom = vec![0; rom_bytes];
    rom[table.kernel].copy_from_slice(&kernel);
    rom[table.manifest].copy_from_slice(&manifest);
    let table_start = rom_bytes - TABLE_FROM_END;
    rom[table_start..table_start + encoded.len()].copy_from_slice(&encoded);
    for segment in boot.segments() {
        let from_end = ROM_END - segment.memory.start().as_u64();
        let start = rom_bytes - usize::try_from(from_end).expect("the window is 64 KiB");
        let bytes = &inputs.boot_elf[segment.file.clone()];
        rom[start..start + bytes.len()].copy_from_slice(bytes);
    }
    sev_metadata::write(&mut rom);
    Ok(rom)
}

fn boot_window() -> PhysRange {
    PhysRange::new(
        PhysAddr::new(ROM_END - BOOT_WINDOW_BYTES as u64),
        PhysAddr::new(ROM_END),
    )
    .expect("the window does not wrap")
}

/// The file up to the end of its last segment, without the section headers behind it: symbols are
/// for debuggers, not for the ROM.
fn loaded_part(elf: &[u8], program: &Program) -> Vec<u8> {
    /// Fields of `Elf64_Ehdr`: `e_shoff`, then `e_shentsize`, `e_shnum`, `e_shstrndx`.
    const SECTION_TABLE: std::ops::Range<usize> = 40..48;
    const SECTION_COUNTS: std::ops::Range<usize> = 58..64;
    let end = program
        .segments()
        .iter()
        .map(|s| s.file.end)
        .max()
        .unwrap_or(0);
    let mut part = elf[..end].to_vec();
    part[SECTION_TABLE].fill(0);
    part[SECTION_COUNTS].fill(0);
    part
}

#[cfg(test)]
mod tests;
