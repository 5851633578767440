//! What the files of an image consist of.

use std::ops::Range;

use cloister_boot::rom::{BOOT_WINDOW_BYTES, TABLE_FROM_END, Table};
use cloister_engine::pack::Pack;
use cloister_engine::pack::format::CHUNK_BYTES;
use cloister_image::sev_metadata;
use object::read::elf::ElfFile64;
use object::{Object, ObjectSection, ObjectSymbol};

/// A kind of file with parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A guest program.
    Elf,
    /// The ROM.
    Rom,
    /// The IGVM file.
    Igvm,
    /// The model pack.
    Pack,
}

/// A named range of a file, inside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) name: String,
    pub(super) range: Range<usize>,
}

impl Part {
    pub(super) fn new(name: impl Into<String>, range: Range<usize>) -> Self {
        let name = name.into();
        Self { name, range }
    }

    /// Its bytes in the file that it was found in.
    pub(super) fn bytes<'a>(&self, file: &'a [u8]) -> &'a [u8] {
        file.get(self.range.clone()).unwrap_or_default()
    }
}

impl Kind {
    /// The parts of a file, with different names. None if it is not of this kind.
    pub(super) fn parts(self, file: &[u8]) -> Vec<Part> {
        let parts = match self {
            Self::Elf => elf(file),
            Self::Rom => rom(file),
            Self::Igvm => igvm(file),
            Self::Pack => pack(file),
        };
        let inside = |part: &Part| {
            file.get(part.range.clone())
                .is_some_and(|it| !it.is_empty())
        };
        parts
            .unwrap_or_default()
            .into_iter()
            .filter(inside)
            .collect()
    }

    /// More about the byte `at` of a part.
    pub(super) fn detail(self, file: &[u8], part: &Part, at: usize) -> Option<String> {
        match self {
            Self::Elf => symbol(file, part, at),
            Self::Pack => {
                let head = pack_head(&Pack::open(file).ok()?, file)?;
                let body = (part.range.start + at).checked_sub(head)?;
                Some(format!(", chunk {}", body / CHUNK_BYTES))
            }
            Self::Rom | Self::Igvm => None,
        }
    }
}

/// `Elf64_Ehdr`: sizes, and where the offsets and counts of the two tables of headers are.
const ELF_HEADER_BYTES: usize = 64;
const PROGRAM_HEADERS: (usize, usize, usize) = (32, 56, 56);
const SECTION_HEADERS: (usize, usize, usize) = (40, 60, 64);

fn elf(file: &[u8]) -> Option<Vec<Part>> {
    let program = ElfFile64::<object::Endianness>::parse(file).ok()?;
    let table = |(offset, count, entry): (usize, usize, usize)| {
        let start = usize::try_from(number(file, offset, 8)?).ok()?;
        let length = usize::try_from(number(file, count, 2)?).ok()? * entry;
        Some(start..start.checked_add(length)?)
    };
    let mut parts = vec![
        Part::new("ELF header", 0..ELF_HEADER_BYTES),
        Part::new("program headers", table(PROGRAM_HEADERS)?),
        Part::new("section headers", table(SECTION_HEADERS)?),
    ];
    for section in program.sections() {
        let name = section.name().unwrap_or("(unreadable name)");
        let Some((offset, length)) = section.file_range() else {
            continue;
        };
        let (start, length) = (usize::try_from(offset).ok()?, usize::try_from(length).ok()?);
        let range = start..start.checked_add(length)?;
        parts.push(Part::new(format!("section {name}"), range));
    }
    Some(parts)
}

/// The symbol that holds the byte, or the last one before it in the section.
fn symbol(file: &[u8], part: &Part, at: usize) -> Option<String> {
    let program = ElfFile64::<object::Endianness>::parse(file).ok()?;
    let wanted = part.name.strip_prefix("section ")?;
    let section = program.section_by_name(wanted)?;
    let address = section.address().checked_add(at as u64)?;
    let before = program.symbols().filter(|symbol| {
        let named = symbol.name().is_ok_and(|name| !name.is_empty());
        named && symbol.section_index() == Some(section.index()) && symbol.address() <= address
    });
    let nearest = before.max_by_key(|symbol| (symbol.address(), symbol.size()))?;
    Some(format!(", symbol {}", nearest.name().ok()?))
}

fn rom(file: &[u8]) -> Option<Vec<Part>> {
    let from_end = |bytes: usize| file.len().checked_sub(bytes);
    let (table, boot) = (from_end(TABLE_FROM_END)?, from_end(BOOT_WINDOW_BYTES)?);
    let (metadata, vector) = (from_end(sev_metadata::SUFFIX_BYTES)?, from_end(16)?);
    let mut parts = vec![
        Part::new("table", table..boot),
        Part::new("boot program", boot..metadata),
        Part::new("SEV metadata", metadata..vector),
        Part::new("reset vector", vector..file.len()),
    ];
    if let Ok(found) = Table::parse(&file[table..]) {
        parts.push(Part::new("kernel", found.kernel));
        parts.push(Part::new("manifest", found.manifest));
    }
    Some(parts)
}

/// `"IGVM" | u32 format | u32 offset and u32 length of variable headers | ...`.
const IGVM_FIXED_BYTES: usize = 24;

fn igvm(file: &[u8]) -> Option<Vec<Part>> {
    let start = usize::try_from(number(file, 8, 4)?).ok()?;
    let end = start.checked_add(usize::try_from(number(file, 12, 4)?).ok()?)?;
    Some(vec![
        Part::new("fixed header", 0..IGVM_FIXED_BYTES),
        Part::new("variable headers", start..end),
        Part::new("page contents", end..file.len()),
    ])
}

fn pack(file: &[u8]) -> Option<Vec<Part>> {
    let pack = Pack::open(file).ok()?;
    let mut parts = vec![
        Part::new("head", 0..pack_head(&pack, file)?),
        Part::new("tokenizer", tokenizer(&pack, file)?),
    ];
    for tensor in pack.entries() {
        let start = usize::try_from(tensor.offset).ok()?;
        let end = start.checked_add(usize::try_from(tensor.bytes).ok()?)?;
        let name = format!("tensor {:?} of layer {}", tensor.role, tensor.layer);
        parts.push(Part::new(name, start..end));
    }
    Some(parts)
}

/// Length of the head: it ends where the first section begins.
fn pack_head(pack: &Pack<'_>, file: &[u8]) -> Option<usize> {
    let tensors = pack.entries().map(|tensor| tensor.offset as usize);
    tensors.chain([tokenizer(pack, file)?.start]).min()
}

fn tokenizer(pack: &Pack<'_>, file: &[u8]) -> Option<Range<usize>> {
    let section = pack.tokenizer_section().as_ptr_range();
    let start = (section.start as usize).checked_sub(file.as_ptr() as usize)?;
    Some(start..start + pack.tokenizer_section().len())
}

/// A little-endian number of `bytes` bytes.
fn number(file: &[u8], at: usize, bytes: usize) -> Option<u64> {
    let mut word = [0; 8];
    word[..bytes].copy_from_slice(file.get(at..at + bytes)?);
    Some(u64::from_le_bytes(word))
}
