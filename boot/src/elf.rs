//! Reads the program headers of a guest program (ELF64, x86-64, statically linked).
//!
//! Strict on purpose: the packer and the boot program accept the same few shapes and nothing else.
//! Layout: System V ABI, "Object Files", tables for `Elf64_Ehdr` and `Elf64_Phdr`.

use crate::address::{PAGE_BYTES, PhysAddr, PhysRange};
use crate::paging::Access;
use core::ops::Range;

/// Most segments that a program may have.
pub const SEGMENTS_MAX: usize = 16;
/// Most program headers that are read.
const HEADERS_MAX: u16 = 32;

const HEADER_BYTES: usize = 64;
const PROGRAM_HEADER_BYTES: usize = 56;
/// Magic, 64 bits, little-endian, version 1.
const IDENT: [u8; 7] = [0x7f, b'E', b'L', b'F', 2, 1, 1];
const ET_EXEC: u16 = 2;
const EM_X86_64: u16 = 62;
const PT_LOAD: u32 = 1;
const PT_DYNAMIC: u32 = 2;
const PT_INTERP: u32 = 3;
const PT_TLS: u32 = 7;
const PF_X: u32 = 1;
const PF_W: u32 = 2;
const PF_R: u32 = 4;

/// A program that can be loaded.
#[derive(Debug, PartialEq, Eq)]
pub struct Program {
    entry: PhysAddr,
    segments: [Segment; SEGMENTS_MAX],
    count: usize,
}

/// One loadable segment; whole pages from `memory.start()` on are its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Bytes of the file that fill the segment's beginning.
    pub file: Range<usize>,
    /// Where it goes; what `file` does not fill is zero.
    pub memory: PhysRange,
    /// What its pages may be used for.
    pub access: Access,
}

/// Why a file is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ElfError {
    /// Shorter than its headers say.
    Truncated,
    /// Not a statically linked x86-64 program.
    Kind,
    /// It asks for an interpreter, dynamic linking or thread-local storage.
    Dynamic,
    /// More than [`SEGMENTS_MAX`] segments, or none.
    SegmentCount,
    /// A segment that is both writable and executable, or not readable.
    Permissions,
    /// A segment that is empty, not page-aligned, outside the window, or longer in the file than in
    /// memory.
    Placement,
    /// Two segments on one page.
    Overlap,
    /// The entry point is not inside the code.
    Entry,
}

impl Program {
    /// Reads a program whose segments must all lie inside `window`.
    pub fn parse(bytes: &[u8], window: PhysRange) -> Result<Self, ElfError> {
        let header: &[u8; HEADER_BYTES] = bytes.first_chunk().ok_or(ElfError::Truncated)?;
        let kind = (u16_at(header, 16), u16_at(header, 18));
        if header[..7] != IDENT || kind != (ET_EXEC, EM_X86_64) {
            return Err(ElfError::Kind);
        }
        if usize::from(u16_at(header, 54)) != PROGRAM_HEADER_BYTES {
            return Err(ElfError::Kind);
        }
        let count = u16_at(header, 56);
        if count > HEADERS_MAX {
            return Err(ElfError::SegmentCount);
        }
        let table = usize::try_from(u64_at(header, 32)).map_err(|_| ElfError::Truncated)?;
        let entry = PhysAddr::new(u64_at(header, 24));
        let mut program = Self {
            entry,
            segments: [const { Segment::NONE }; SEGMENTS_MAX],
            count: 0,
        };
        for index in 0..usize::from(count) {
            let header = table
                .checked_add(index * PROGRAM_HEADER_BYTES)
                .and_then(|start| bytes.get(start..))
                .and_then(|rest| rest.first_chunk())
                .ok_or(ElfError::Truncated)?;
            program.add(header, bytes.len(), window)?;
        }
        program.check()?;
        Ok(program)
    }

    /// Address of the first instruction.
    pub fn entry(&self) -> PhysAddr {
        self.entry
    }

    /// The segments, in the order of the file.
    pub fn segments(&self) -> &[Segment] {
        &self.segments[..self.count]
    }

    /// The smallest range of whole pages around all segments.
    pub fn span(&self) -> PhysRange {
        let start = self
            .segments()
            .iter()
            .map(|s| s.memory.start())
            .min()
            .unwrap_or_default();
        let end = self
            .segments()
            .iter()
            .map(|s| s.memory.end())
            .max()
            .unwrap_or_default();
        PhysRange::new(start, end)
            .and_then(|span| span.outward(PAGE_BYTES))
            .unwrap_or_default()
    }

    fn add(
        &mut self,
        header: &[u8; PROGRAM_HEADER_BYTES],
        file_bytes: usize,
        window: PhysRange,
    ) -> Result<(), ElfError> {
        match u32_at(header, 0) {
            PT_LOAD => {}
            PT_DYNAMIC | PT_INTERP | PT_TLS => return Err(ElfError::Dynamic),
            _ => return Ok(()),
        }
        let segment = Segment::parse(header, file_bytes, window)?;
        *self
            .segments
            .get_mut(self.count)
            .ok_or(ElfError::SegmentCount)? = segment;
        self.count += 1;
        Ok(())
    }

    fn check(&self) -> Result<(), ElfError> {
        let segments = self.segments();
        if segments.is_empty() {
            return Err(ElfError::SegmentCount);
        }
        for (index, a) in segments.iter().enumerate() {
            if segments[index + 1..]
                .iter()
                .any(|b| a.pages().overlaps(b.pages()))
            {
                return Err(ElfError::Overlap);
            }
        }
        let in_code = |s: &Segment| {
            let code = PhysRange::from_len(s.memory.start(), s.file.len() as u64);
            let first = PhysRange::from_len(self.entry, 1);
            s.access == Access::Execute
                && code
                    .zip(first)
                    .is_some_and(|(code, first)| code.contains(first))
        };
        if segments.iter().any(in_code) {
            Ok(())
        } else {
            Err(ElfError::Entry)
        }
    }
}

impl Segment {
    const NONE: Self = Self {
        file: 0..0,
        memory: match PhysRange::new(PhysAddr::new(0), PhysAddr::new(0)) {
            Some(range) => range,
            None => panic!("an empty range"),
        },
        access: Access::Read,
    };

    /// The whole pages that hold the segment.
    pub fn pages(&self) -> PhysRange {
        self.memory.outward(PAGE_BYTES).unwrap_or(self.memory)
    }

    fn parse(
        header: &[u8; PROGRAM_HEADER_BYTES],
        file_bytes: usize,
        window: PhysRange,
    ) -> Result<Self, ElfError> {
        let access = match u32_at(header, 4) {
            flags if flags == PF_R => Access::Read,
            flags if flags == PF_R | PF_W => Access::ReadWrite,
            flags if flags == PF_R | PF_X => Access::Execute,
            _ => return Err(ElfError::Permissions),
        };
        let in_file = u64_at(header, 32);
        let in_memory = u64_at(header, 40);
        let address = PhysAddr::new(u64_at(header, 16));
        let memory = PhysRange::from_len(address, in_memory).ok_or(ElfError::Placement)?;
        let aligned = address.is_aligned(PAGE_BYTES) && u64_at(header, 24) == address.as_u64();
        if memory.is_empty() || !aligned || !window.contains(memory) || in_file > in_memory {
            return Err(ElfError::Placement);
        }
        let start = usize::try_from(u64_at(header, 8)).map_err(|_| ElfError::Truncated)?;
        let length = usize::try_from(in_file).map_err(|_| ElfError::Truncated)?;
        let end = start.checked_add(length).ok_or(ElfError::Truncated)?;
        if end > file_bytes {
            return Err(ElfError::Truncated);
        }
        Ok(Self {
            file: start..end,
            memory,
            access,
        })
    }
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

#[cfg(test)]
mod tests;
