//! Two builds of one source must give the same bytes. [`compare`] says where two images differ, [`twice()`] builds two.

mod fields;
mod parts;
mod twice;

#[cfg(test)]
mod tests;

use std::fmt;
use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

pub use twice::{Reproduction, twice};

use crate::guest_build::BuildError;
use crate::image_build::{
    BOOT_ELF, IGVM, IMAGE_JSON, ImageError, KERNEL_ELF, MODEL_PACK, ROM_BIN, SBOM,
};
use crate::models::FetchError;
use crate::process::ProcessError;
use parts::{Kind, Part};

/// Every file of an image; the pack is missing from both or from none.
const FILES: [(&str, Option<Kind>); 7] = [
    (BOOT_ELF, Some(Kind::Elf)),
    (KERNEL_ELF, Some(Kind::Elf)),
    (ROM_BIN, Some(Kind::Rom)),
    (IGVM, Some(Kind::Igvm)),
    (MODEL_PACK, Some(Kind::Pack)),
    (SBOM, None),
    (IMAGE_JSON, None),
];
/// So many differences of one file are told.
const MAX_DIFFERENCES: usize = 20;
/// So many bytes of each side are shown.
const SHOWN_BYTES: usize = 8;

/// Images could not be built or compared.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReproduceError {
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The checkout could not be cloned.
    #[error("{0}; only what is committed can be built twice")]
    Clone(ProcessError),
    /// The tools are not the pinned ones.
    #[error(transparent)]
    Tools(#[from] BuildError),
    /// The model could not be fetched.
    #[error(transparent)]
    Model(#[from] FetchError),
    /// One of the two images could not be built.
    #[error("the {which} build: {source}")]
    Build {
        /// `first` or `second`.
        which: &'static str,
        /// Why not.
        source: Box<ImageError>,
    },
}

/// One difference between two images.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The file's name.
    pub file: String,
    /// Which part of it: section and symbol, part of the ROM, tensor and chunk, or field.
    pub part: String,
    /// Where it begins in the first image's file, and how many bytes lie between the first and the last that differ.
    /// Fields of JSON files have none.
    pub place: Option<(u64, u64)>,
    /// The beginning of what the first image has there: bytes in hex, or JSON.
    pub first: String,
    /// The same of the second image.
    pub second: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", self.file, self.part)?;
        if let Some((offset, length)) = self.place {
            write!(out, ", {length} bytes from offset {offset:#x}")?;
        }
        write!(out, ": {} | {}", self.first, self.second)
    }
}

/// Compares two folders with images, file by file. No difference: the images are the same bit for bit.
pub fn compare(a: &Path, b: &Path) -> Result<Vec<Difference>, ReproduceError> {
    let mut differences = Vec::new();
    for (name, kind) in FILES {
        let (first, second) = (a.join(name), b.join(name));
        match (first.exists(), second.exists()) {
            (false, false) if name == MODEL_PACK => {}
            (true, true) if same(&first, &second)? => {}
            (true, true) => {
                let read = |path: &Path| fs::read(path).map_err(at(path));
                let (first, second) = (read(&first)?, read(&second)?);
                let found = match kind {
                    Some(kind) => bytes(name, kind, &first, &second),
                    None => fields::compare(name, &first, &second),
                };
                differences.extend(cut(name, found));
            }
            (here, there) => {
                let word = |there| if there { "there" } else { "missing" }.to_owned();
                differences.push(Difference {
                    file: name.to_owned(),
                    part: "the whole file".to_owned(),
                    place: None,
                    first: word(here),
                    second: word(there),
                });
            }
        }
    }
    Ok(differences)
}

/// Whether two files have the same content. Packs are large: they are not read as a whole for this.
fn same(first: &Path, second: &Path) -> Result<bool, ReproduceError> {
    let open = |path: &Path| File::open(path).map(BufReader::new).map_err(at(path));
    let (mut a, mut b) = (open(first)?, open(second)?);
    let (mut left, mut right) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    loop {
        let length = fill(&mut a, &mut left).map_err(at(first))?;
        let other = fill(&mut b, &mut right).map_err(at(second))?;
        if left[..length] != right[..other] {
            return Ok(false);
        }
        if length == 0 {
            return Ok(true);
        }
    }
}

/// Reads until the buffer is full or the file ends.
fn fill(file: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..])? {
            0 => break,
            more => filled += more,
        }
    }
    Ok(filled)
}

/// Differences of two files with parts: those of parts with the same name, and parts that only one has.
fn bytes(file: &str, kind: Kind, first: &[u8], second: &[u8]) -> Vec<Difference> {
    let (ours, theirs) = (kind.parts(first), kind.parts(second));
    let mut found = Vec::new();
    for part in &ours {
        let twin = theirs.iter().find(|twin| twin.name == part.name);
        let (name, there) = match twin {
            Some(twin) => (part.name.clone(), twin.bytes(second)),
            None => (format!("{}, only in the first", part.name), &[][..]),
        };
        let here = part.bytes(first);
        if let Some(at) = first_difference(here, there) {
            let detail = kind.detail(first, part, at).unwrap_or_default();
            found.push(difference(file, name + &detail, part, at, here, there));
        }
    }
    let new = theirs
        .iter()
        .filter(|twin| ours.iter().all(|part| part.name != twin.name));
    for part in new {
        let name = format!("{}, only in the second", part.name);
        found.push(difference(file, name, part, 0, &[], part.bytes(second)));
    }
    if found.is_empty() {
        // Something that belongs to no part, or a file that is none of its kind.
        let whole = Part::new("outside of all parts", 0..first.len());
        let at = first_difference(first, second).unwrap_or_default();
        found.push(difference(
            file,
            whole.name.clone(),
            &whole,
            at,
            first,
            second,
        ));
    }
    found
}

fn first_difference(first: &[u8], second: &[u8]) -> Option<usize> {
    let both = first.iter().zip(second);
    match both.enumerate().find(|(_, (a, b))| a != b) {
        Some((at, _)) => Some(at),
        None if first.len() != second.len() => Some(first.len().min(second.len())),
        None => None,
    }
}

/// What differs in a part from its byte `at` on.
fn difference(
    file: &str,
    mut name: String,
    part: &Part,
    at: usize,
    first: &[u8],
    second: &[u8],
) -> Difference {
    let length = match first.len() == second.len() {
        true => {
            let mut both = first.iter().zip(second);
            both.rposition(|(a, b)| a != b)
                .map_or(0, |last| last + 1 - at)
        }
        false => {
            name += &format!(", {} and {} bytes long", first.len(), second.len());
            first.len().max(second.len()) - at
        }
    };
    Difference {
        file: file.to_owned(),
        part: name,
        place: Some(((part.range.start + at) as u64, length as u64)),
        first: shown(first, at),
        second: shown(second, at),
    }
}

fn shown(bytes: &[u8], at: usize) -> String {
    let bytes = bytes.get(at..).unwrap_or_default();
    let hex = bytes.iter().take(SHOWN_BYTES);
    match bytes.is_empty() {
        true => "nothing".to_owned(),
        false => hex
            .map(|byte| format!("{byte:02x}"))
            .collect::<Vec<_>>()
            .join(" "),
    }
}

/// The first differences, and how many there are besides.
fn cut(file: &str, mut found: Vec<Difference>) -> Vec<Difference> {
    let more = found.len().saturating_sub(MAX_DIFFERENCES);
    found.truncate(MAX_DIFFERENCES);
    if more > 0 {
        found.push(Difference {
            file: file.to_owned(),
            part: format!("{more} more parts"),
            place: None,
            first: "...".to_owned(),
            second: "...".to_owned(),
        });
    }
    found
}

fn at(path: &Path) -> impl Fn(io::Error) -> ReproduceError + use<> {
    let path = path.to_owned();
    move |source| ReproduceError::Io {
        path: path.clone(),
        source,
    }
}
