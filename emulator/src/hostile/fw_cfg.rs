//! Lies of QEMU's fw_cfg device (QEMU `docs/specs/fw_cfg.rst`): its directory, its files, its transfers.

/// The directory's item.
pub const DIRECTORY: u16 = 0x19;
/// The item with the number of processors.
const CPU_COUNT: u16 = 0x05;
/// Bytes of an entry of the directory; before the first one is their number.
pub const ENTRY_BYTES: u32 = 64;
const COUNT_BYTES: u32 = 4;
/// The most bytes of a file that is forged.
pub const MAX_FILE_BYTES: usize = 256;
/// The most bytes of the true memory map, so that an entry more still fits.
pub const MAX_MAP_BYTES: usize = MAX_FILE_BYTES - E820_BYTES;
/// Bytes of an entry of `etc/e820`: base, length, type.
const E820_BYTES: usize = 20;

/// A lie in the directory, or in the file `etc/e820`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FilesLie {
    /// The directory is said to have 4 G entries.
    Count,
    /// The memory map is said to have 4 GiB.
    MapSize,
    /// The memory map is said to be an item that no file can be.
    MapItem,
    /// Two entries of the memory map overlap.
    MapOverlap,
    /// An entry of the memory map ends beyond the last address.
    MapWrap,
    /// The memory map puts RAM where devices are.
    MapOverDevices,
    /// The memory map has no RAM where the image runs.
    MapWithoutImage,
    /// The memory map has more RAM than there is.
    MapTooLarge,
    /// The machine is said to have 65,535 processors.
    Processors,
    /// The model is said to be one byte longer.
    ModelLonger,
    /// The model is said to be one byte shorter.
    ModelShorter,
}

/// A file as the directory has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct File {
    /// Its place in the directory, from 0.
    pub index: u32,
    /// Its item.
    pub item: u16,
    /// Its length in bytes.
    pub bytes: u32,
}

/// What the device truly offers.
#[derive(Clone, Copy, Debug)]
pub struct Files<'a> {
    /// `etc/e820`.
    pub map: File,
    /// Its contents, at most [`MAX_MAP_BYTES`].
    pub map_bytes: &'a [u8],
    /// The model.
    pub model: Option<File>,
}

/// Bytes that stand in for those of an item.
#[derive(Clone, Copy, Debug)]
struct Patch {
    item: u16,
    offset: u32,
    bytes: [u8; MAX_FILE_BYTES],
    count: u32,
}

impl Patch {
    fn new(item: u16, offset: u32, bytes: &[u8]) -> Self {
        let mut patch = Self {
            item,
            offset,
            bytes: [0; MAX_FILE_BYTES],
            count: bytes.len() as u32,
        };
        patch.bytes[..bytes.len()].copy_from_slice(bytes);
        patch
    }
}

/// What the guest reads in place of the truth.
#[derive(Clone, Copy, Debug)]
pub struct Forgery {
    patches: [Option<Patch>; 2],
}

impl Forgery {
    /// The byte that is told at an offset of an item, if it is not the true one.
    pub fn byte(&self, item: u16, offset: u32) -> Option<u8> {
        let mut patches = self.patches.iter().flatten();
        patches.find_map(|patch| {
            let at = offset.checked_sub(patch.offset)?;
            (patch.item == item && at < patch.count).then(|| patch.bytes[at as usize])
        })
    }
}

impl FilesLie {
    /// The forgery; `None` if there is no such file.
    pub fn forge(self, files: &Files<'_>) -> Option<Forgery> {
        const HUGE: u32 = u32::MAX;
        let size = |file: File, bytes: u32| {
            let place = COUNT_BYTES + file.index * ENTRY_BYTES;
            Patch::new(DIRECTORY, place, &bytes.to_be_bytes())
        };
        let patches = match self {
            Self::Processors => [Some(Patch::new(CPU_COUNT, 0, &[0xff; 2])), None],
            Self::Count => [Some(Patch::new(DIRECTORY, 0, &HUGE.to_be_bytes())), None],
            Self::MapSize => [Some(size(files.map, HUGE)), None],
            Self::MapItem => {
                let place = COUNT_BYTES + files.map.index * ENTRY_BYTES + 4;
                let item = CPU_COUNT.to_be_bytes();
                [Some(Patch::new(DIRECTORY, place, &item)), None]
            }
            Self::ModelLonger => [Some(size(files.model?, files.model?.bytes + 1)), None],
            Self::ModelShorter => [Some(size(files.model?, files.model?.bytes - 1)), None],
            _ => {
                let (bytes, count) = self.map(files.map_bytes);
                let content = Patch::new(files.map.item, 0, &bytes[..count]);
                [Some(content), Some(size(files.map, count as u32))]
            }
        };
        Some(Forgery { patches })
    }

    /// The forged memory map and its length.
    fn map(self, truth: &[u8]) -> ([u8; MAX_FILE_BYTES], usize) {
        const MIB: u64 = 1 << 20;
        const RAM: u32 = 1;
        let mut map = [0; MAX_FILE_BYTES];
        let count = truth.len().min(MAX_MAP_BYTES);
        map[..count].copy_from_slice(&truth[..count]);
        let (entries, _) = truth[..count].as_chunks::<E820_BYTES>();
        let is_ram = |entry: &[u8; E820_BYTES]| entry[16..] == RAM.to_le_bytes();
        let ram = entries.iter().position(is_ram).unwrap_or(0);
        let ram_bytes = entries[ram][8..16].try_into().map_or(0, u64::from_le_bytes);
        let ram = ram * E820_BYTES;
        let mut put = |at: usize, base: u64, bytes: u64| {
            map[at..at + 8].copy_from_slice(&base.to_le_bytes());
            map[at + 8..at + 16].copy_from_slice(&bytes.to_le_bytes());
            map[at + 16..at + E820_BYTES].copy_from_slice(&RAM.to_le_bytes());
        };
        match self {
            Self::MapWithoutImage => put(ram, 64 * MIB, ram_bytes.saturating_sub(64 * MIB)),
            Self::MapTooLarge => put(ram, 0, ram_bytes + 256 * MIB),
            Self::MapOverDevices => put(count, 0xfee0_0000, 0x1000),
            Self::MapWrap => put(count, u64::MAX - 0xfff, 0x2000),
            _ => put(count, 4 * MIB, 2 * MIB),
        }
        let added = !matches!(self, Self::MapWithoutImage | Self::MapTooLarge);
        (map, count + if added { E820_BYTES } else { 0 })
    }
}

/// Where the guest reads byte by byte.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reading {
    item: u16,
    offset: u32,
}

impl Reading {
    /// The guest selects an item.
    pub fn select(&mut self, item: u16) {
        *self = Self { item, offset: 0 };
    }

    /// The item and offset of the byte that comes next.
    pub fn advance(&mut self) -> (u16, u32) {
        let place = (self.item, self.offset);
        self.offset = self.offset.wrapping_add(1);
        place
    }
}

/// A lie about transfers by DMA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransferLie {
    /// One bit of the first transfer, the model's head, is flipped.
    Head,
    /// One bit of the second transfer is flipped.
    Bit,
    /// The second transfer begins at the file's beginning again.
    FromTheBeginning,
    /// Every transfer's bytes are changed after the guest has read them.
    Afterwards,
    /// The transfer is said to have failed.
    Error,
    /// The transfer never ends.
    Never,
}

/// A request of the guest for a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// What to do: bit 0 error, 1 read, 3 select; the item in the high half.
    pub control: u32,
    /// How many bytes.
    pub bytes: u32,
    /// Where to.
    pub address: u64,
}

impl Transfer {
    /// Bytes of a request.
    pub const BYTES: usize = 16;
    /// Control word of a request that failed.
    pub const FAILED: u32 = 1;
    const SELECT: u32 = 1 << 3;

    /// Reads a request.
    pub fn parse(request: &[u8; Self::BYTES]) -> Self {
        let word = |at: usize| {
            let bytes = [
                request[at],
                request[at + 1],
                request[at + 2],
                request[at + 3],
            ];
            u32::from_be_bytes(bytes)
        };
        Self {
            control: word(0),
            bytes: word(4),
            address: u64::from(word(8)) << 32 | u64::from(word(12)),
        }
    }

    /// The item, if the request selects one.
    pub fn item(&self) -> Option<u16> {
        (self.control & Self::SELECT != 0).then_some((self.control >> 16) as u16)
    }

    /// The control word that selects an item before it reads.
    pub fn selecting(&self, item: u16) -> u32 {
        self.control | Self::SELECT | u32::from(item) << 16
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAP: File = File {
        index: 2,
        item: 0x22,
        bytes: 40,
    };

    /// What a guest reads of an item under a lie, where the truth is zeros but for the memory map.
    fn read(lie: FilesLie, item: u16, bytes: usize) -> Vec<u8> {
        // A reserved entry, then RAM.
        let mut map_bytes = vec![0; 40];
        map_bytes[16] = 2;
        map_bytes[28..36].copy_from_slice(&(512u64 << 20).to_le_bytes());
        map_bytes[36] = 1;
        let model = File {
            index: 5,
            item: 0x30,
            bytes: 1000,
        };
        let files = Files {
            map: MAP,
            map_bytes: &map_bytes,
            model: Some(model),
        };
        let forgery = lie.forge(&files).expect("both files are there");
        let mut reading = Reading::default();
        reading.select(item);
        let byte = |_| {
            let (item, offset) = reading.advance();
            forgery.byte(item, offset).unwrap_or(0)
        };
        (0..bytes).map(byte).collect()
    }

    #[test]
    fn the_directory_lies_where_it_should() {
        assert_eq!(
            read(FilesLie::Count, DIRECTORY, 6),
            [255, 255, 255, 255, 0, 0]
        );
        let map = read(FilesLie::MapSize, DIRECTORY, 4 + 3 * 64);
        assert_eq!(map[4 + 128..4 + 134], [255, 255, 255, 255, 0, 0]);
        assert!(map[..4 + 128].iter().all(|byte| *byte == 0));
        let item = read(FilesLie::MapItem, DIRECTORY, 4 + 3 * 64);
        assert_eq!(item[4 + 128..4 + 134], [0, 0, 0, 0, 0, 5]);
        assert_eq!(read(FilesLie::Processors, 5, 3), [255, 255, 0]);
        let longer = read(FilesLie::ModelLonger, DIRECTORY, 4 + 6 * 64);
        assert_eq!(longer[4 + 320..4 + 324], 1001u32.to_be_bytes());
    }

    #[test]
    fn a_forged_memory_map_has_its_length_in_the_directory() {
        let lies = [
            (FilesLie::MapOverlap, 60),
            (FilesLie::MapWrap, 60),
            (FilesLie::MapOverDevices, 60),
            (FilesLie::MapWithoutImage, 40),
            (FilesLie::MapTooLarge, 40),
        ];
        for (lie, bytes) in lies {
            let directory = read(lie, DIRECTORY, 4 + 3 * 64);
            assert_eq!(
                directory[4 + 128..4 + 132],
                u32::to_be_bytes(bytes),
                "{lie:?}"
            );
            let map = read(lie, MAP.item, bytes as usize);
            let last = map.last_chunk::<20>().expect("an entry");
            assert_eq!(last[16..], [1, 0, 0, 0], "{lie:?}");
        }
        let large = read(FilesLie::MapTooLarge, MAP.item, 40);
        assert_eq!(large[28..36], (768u64 << 20).to_le_bytes());
        assert_eq!(large[..20], read(FilesLie::MapWrap, MAP.item, 20));
    }

    #[test]
    fn a_transfer_is_read_as_the_device_reads_it() {
        let mut request = [0; 16];
        request[..4].copy_from_slice(&(0x30 << 16 | 0xau32).to_be_bytes());
        request[4..8].copy_from_slice(&0x1000u32.to_be_bytes());
        request[8..].copy_from_slice(&0x1_2345_6000u64.to_be_bytes());
        let transfer = Transfer::parse(&request);
        assert_eq!((transfer.bytes, transfer.address), (0x1000, 0x1_2345_6000));
        assert_eq!(transfer.item(), Some(0x30));
        let next = Transfer {
            control: 2,
            ..transfer
        };
        assert_eq!((next.item(), next.selecting(0x30)), (None, 0x30_000a));
    }
}
