//! QEMU's firmware configuration device: named files from the host, none of which is believed.
//!
//! Layout: QEMU `docs/specs/fw_cfg.rst`. The directory and small files come byte by byte through
//! the data port, before there is a shared pool; large files by DMA into shared pages.

use crate::memory::shared::{OutOfBounds, SharedBuffer, SharedPool};
use crate::memory::{PAGE_BYTES, PhysAddr};
use crate::platform::Platform;

const SELECTOR_PORT: u16 = 0x510;
const DATA_PORT: u16 = 0x511;
/// Address of a DMA request, big-endian: the high half here, the low half, which starts it, at +4.
const DMA_PORT: u16 = 0x514;

const ITEM_SIGNATURE: u16 = 0;
const ITEM_INTERFACE: u16 = 1;
/// Processors that run from the start.
const ITEM_CPUS: u16 = 5;
const ITEM_DIRECTORY: u16 = 0x19;
/// First item that a file can have.
const ITEM_FIRST_FILE: u16 = 0x20;
const INTERFACE_DMA: u32 = 1 << 1;

const ENTRY_BYTES: usize = 64;
const NAME_BYTES: usize = 56;
/// Most directory entries that are read.
const FILES_MAX: u32 = 512;

const DMA_ERROR: u32 = 1;
const DMA_READ: u32 = 1 << 1;
const DMA_SELECT: u32 = 1 << 3;
/// Polls for the end of one DMA request; QEMU has finished it when the port write returns.
const DMA_POLLS_MAX: u32 = 10_000_000;
/// Pages of the bounce buffer: one DMA request carries up to 1 MiB.
const BOUNCE_PAGES: usize = 256;

/// The device.
#[derive(Clone, Copy)]
pub struct FwCfg<'p> {
    platform: &'p dyn Platform,
}

/// A file as the directory describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct File {
    item: u16,
    /// Length in bytes, as the host says.
    pub bytes: u32,
}

/// Why the device cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FwCfgError {
    /// No device, or it cannot do DMA.
    NoDevice,
    /// More directory entries than are read: so many.
    TooManyFiles(u32),
    /// The file has an item number that no file can have.
    Item(u16),
    /// The file is longer than the caller can use, in bytes.
    TooLong(u32),
    /// A read beyond the length that the directory gives.
    BeyondEnd,
    /// No room in the shared pool.
    NoBuffer,
    /// The device reported an error.
    Device,
    /// The device never answered.
    Stuck,
}

impl From<OutOfBounds> for FwCfgError {
    fn from(OutOfBounds: OutOfBounds) -> Self {
        Self::BeyondEnd
    }
}

impl<'p> FwCfg<'p> {
    /// Finds the device.
    pub fn new(platform: &'p dyn Platform) -> Result<Self, FwCfgError> {
        let device = Self { platform };
        let mut signature = [0; 4];
        device.select(ITEM_SIGNATURE);
        device.read_port(&mut signature);
        device.select(ITEM_INTERFACE);
        let mut interface = [0; 4];
        device.read_port(&mut interface);
        if signature != *b"QEMU" || u32::from_le_bytes(interface) & INTERFACE_DMA == 0 {
            return Err(FwCfgError::NoDevice);
        }
        Ok(device)
    }

    /// The machine's processors, as the host counts them.
    pub fn cpus(&self) -> u16 {
        let mut count = [0; 2];
        self.select(ITEM_CPUS);
        self.read_port(&mut count);
        u16::from_le_bytes(count)
    }

    /// Looks a file up by its whole name.
    pub fn find(&self, name: &str) -> Result<Option<File>, FwCfgError> {
        let [file] = self.find_all([name])?;
        Ok(file)
    }

    /// Looks several files up by their whole names. The directory is read once, as far as need be: each of its bytes may
    /// be an exit of the guest.
    pub fn find_all<const N: usize>(
        &self,
        names: [&str; N],
    ) -> Result<[Option<File>; N], FwCfgError> {
        self.select(ITEM_DIRECTORY);
        let mut count = [0; 4];
        self.read_port(&mut count);
        let count = u32::from_be_bytes(count);
        if count > FILES_MAX {
            return Err(FwCfgError::TooManyFiles(count));
        }
        let mut files = [None; N];
        for _ in 0..count {
            if files.iter().all(Option::is_some) {
                break;
            }
            let mut entry = [0; ENTRY_BYTES];
            self.read_port(&mut entry);
            let (file, found) = parse_entry(&entry);
            let places = names.iter().zip(&mut files);
            // Of two files with one name the first counts.
            let wanted = places.filter(|(name, place)| place.is_none() && found == name.as_bytes());
            for (_, place) in wanted {
                if file.item < ITEM_FIRST_FILE {
                    return Err(FwCfgError::Item(file.item));
                }
                *place = Some(file);
            }
        }
        Ok(files)
    }

    /// Reads a small file through the data port and returns the part of `buffer` that it fills.
    pub fn read_small<'b>(
        &self,
        file: File,
        buffer: &'b mut [u8],
    ) -> Result<&'b mut [u8], FwCfgError> {
        let length = usize::try_from(file.bytes).map_err(|_| FwCfgError::TooLong(file.bytes))?;
        let part = buffer
            .get_mut(..length)
            .ok_or(FwCfgError::TooLong(file.bytes))?;
        self.select(file.item);
        self.read_port(part);
        Ok(part)
    }

    /// Opens a file for reading from its beginning by DMA.
    pub fn open(self, file: File, pool: &'static SharedPool) -> Result<Reader<'p>, FwCfgError> {
        let bounce = pool.allocate(BOUNCE_PAGES).ok_or(FwCfgError::NoBuffer)?;
        let request = pool.allocate(1).ok_or(FwCfgError::NoBuffer)?;
        Ok(Reader {
            device: self,
            file,
            bounce,
            request,
            left: file.bytes,
            selected: false,
        })
    }

    fn select(&self, item: u16) {
        self.platform.out_u16(SELECTOR_PORT, item);
    }

    fn read_port(&self, bytes: &mut [u8]) {
        bytes.fill_with(|| self.platform.in_u8(DATA_PORT));
    }
}

/// Reads one file from front to back.
pub struct Reader<'p> {
    device: FwCfg<'p>,
    file: File,
    bounce: SharedBuffer,
    request: SharedBuffer,
    left: u32,
    selected: bool,
}

impl Reader<'_> {
    /// Copies the file's next bytes into private memory, all of `target`.
    pub fn read(&mut self, target: &mut [u8]) -> Result<(), FwCfgError> {
        for part in target.chunks_mut(BOUNCE_PAGES * PAGE_BYTES as usize) {
            let length = u32::try_from(part.len()).map_err(|_| FwCfgError::BeyondEnd)?;
            self.left = self.left.checked_sub(length).ok_or(FwCfgError::BeyondEnd)?;
            self.transfer(length)?;
            self.bounce.read(0, part)?;
        }
        Ok(())
    }

    /// One DMA request into the bounce buffer.
    fn transfer(&mut self, length: u32) -> Result<(), FwCfgError> {
        let select = u32::from(self.file.item) << 16 | DMA_SELECT;
        let control = DMA_READ | if self.selected { 0 } else { select };
        self.selected = true;
        let mut request = [0; 16];
        request[..4].copy_from_slice(&control.to_be_bytes());
        request[4..8].copy_from_slice(&length.to_be_bytes());
        request[8..].copy_from_slice(&self.bounce.phys().as_u64().to_be_bytes());
        self.request.write(0, &request)?;
        self.start(self.request.phys());
        for _ in 0..DMA_POLLS_MAX {
            let control = u32::from_be_bytes(self.request.read_array(0)?);
            if control & DMA_ERROR != 0 {
                return Err(FwCfgError::Device);
            }
            if control == 0 {
                return Ok(());
            }
            core::hint::spin_loop();
        }
        Err(FwCfgError::Stuck)
    }

    fn start(&self, request: PhysAddr) {
        let address = request.as_u64();
        let [high, low] = [(address >> 32) as u32, address as u32].map(u32::to_be);
        // What was written to the request must be there before the device looks.
        core::sync::atomic::fence(core::sync::atomic::Ordering::SeqCst);
        self.device.platform.out_u32(DMA_PORT, high);
        self.device.platform.out_u32(DMA_PORT + 4, low);
    }
}

/// A directory entry: size and item big-endian, two unused bytes, name ended by a zero byte.
fn parse_entry(entry: &[u8; ENTRY_BYTES]) -> (File, &[u8]) {
    let bytes = u32::from_be_bytes([entry[0], entry[1], entry[2], entry[3]]);
    let item = u16::from_be_bytes([entry[4], entry[5]]);
    let name = &entry[ENTRY_BYTES - NAME_BYTES..];
    let end = name
        .iter()
        .position(|&byte| byte == 0)
        .unwrap_or(NAME_BYTES);
    (File { item, bytes }, &name[..end])
}

#[cfg(test)]
#[expect(unsafe_code, reason = "a device reaches the guest's memory by address")]
pub(crate) mod fake;
#[cfg(test)]
mod tests;
