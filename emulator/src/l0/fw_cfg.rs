//! QEMU's fw_cfg: where L0 finds the firmware image, its options, and the number of CPUs.

use crate::cpu;
use crate::log;
use crate::memory;
use cloister_emulator::checks::Options;
use cloister_emulator::hostile::fw_cfg::{DIRECTORY, File};
use core::sync::atomic::{Ordering, fence};

const SELECTOR_PORT: u16 = 0x510;
const DATA_PORT: u16 = 0x511;
const DMA_PORT: u16 = 0x514;
const CPU_COUNT: u16 = 0x05;
/// A directory of more files is cut.
const MAX_FILES: u32 = 256;
const DMA_READ_SELECT: u32 = 2 | 8;
const MAX_OPTION_BYTES: usize = 512;

const FIRMWARE: &str = "opt/cloister/firmware";
const OPTIONS: &str = "opt/cloister/l0";

fn select(item: u16) {
    cpu::out16(SELECTOR_PORT, item);
}

fn read<const N: usize>() -> [u8; N] {
    core::array::from_fn(|_| cpu::in8(DATA_PORT))
}

/// Finds a file.
pub(crate) fn find(name: &str) -> Option<File> {
    select(DIRECTORY);
    let count = u32::from_be_bytes(read()).min(MAX_FILES);
    let mut found = None;
    for index in 0..count {
        let bytes = u32::from_be_bytes(read());
        let item = u16::from_be_bytes(read());
        let _reserved: [u8; 2] = read();
        let file: [u8; 56] = read();
        let end = file
            .iter()
            .position(|byte| *byte == 0)
            .unwrap_or(file.len());
        if &file[..end] == name.as_bytes() {
            found = Some(File { index, item, bytes });
        }
    }
    found
}

/// Reads a small file, or its beginning. Gives the part of the buffer that it fills.
pub(crate) fn read_file(file: File, buffer: &mut [u8]) -> &mut [u8] {
    let bytes = (file.bytes as usize).min(buffer.len());
    select(file.item);
    let part = &mut buffer[..bytes];
    part.fill_with(|| cpu::in8(DATA_PORT));
    part
}

/// The guest's CPUs.
pub(crate) fn cpus() -> u32 {
    select(CPU_COUNT);
    u16::from_le_bytes(read()).into()
}

/// L0's options.
pub(crate) fn options() -> Options {
    let Some(file) = find(OPTIONS) else {
        return Options::default();
    };
    let mut text = [0; MAX_OPTION_BYTES];
    let text = core::str::from_utf8(read_file(file, &mut text)).unwrap_or("not UTF-8");
    let text = text.trim_end_matches('\0');
    Options::parse(text)
        .unwrap_or_else(|word| log::diagnose(format_args!("unknown option {:?}", word.0)))
}

/// Copies the firmware image to its place. Gives its size.
pub(crate) fn load_firmware() -> usize {
    let Some(File { item, bytes, .. }) = find(FIRMWARE) else {
        log::diagnose(format_args!(
            "no firmware: there is no fw_cfg file {FIRMWARE}"
        ))
    };
    if u64::from(bytes) > memory::FIRMWARE_BYTES {
        log::diagnose(format_args!(
            "the firmware image has {bytes} bytes, more than 16 MiB"
        ))
    }
    dma(item, memory::FIRMWARE, bytes);
    bytes as usize
}

/// Has QEMU copy an item to a host-physical address.
fn dma(selector: u16, to: u64, bytes: u32) {
    #[repr(C, align(16))]
    struct Command([u8; 16]);
    let control = u32::from(selector) << 16 | DMA_READ_SELECT;
    let mut command = Command([0; 16]);
    command.0[..4].copy_from_slice(&control.to_be_bytes());
    command.0[4..8].copy_from_slice(&bytes.to_be_bytes());
    command.0[8..].copy_from_slice(&to.to_be_bytes());
    let address = (&raw mut command).expose_provenance() as u64;
    fence(Ordering::SeqCst);
    cpu::out32(DMA_PORT, ((address >> 32) as u32).to_be());
    cpu::out32(DMA_PORT + 4, (address as u32).to_be());
    let status = || memory::read_u64(address) as u32;
    while status() != 0 {
        if u32::from_be(status()) & 1 != 0 {
            log::diagnose(format_args!("fw_cfg item {selector:#x} cannot be read"))
        }
        core::hint::spin_loop();
    }
}
