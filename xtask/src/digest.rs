//! SHA-256 of files and trees, as lower-case hex.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// SHA-256 of `bytes`.
pub fn of_bytes(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// SHA-256 of a file's content.
pub fn of_file(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex(&hasher.finalize())),
            read => hasher.update(&buffer[..read]),
        }
    }
}

/// SHA-256 over names and contents of every file below `folders`, in sorted order.
pub fn of_trees(folders: &[PathBuf]) -> io::Result<String> {
    let mut files = Vec::new();
    for folder in folders {
        collect_files(folder, &mut files)?;
    }
    files.sort();
    let mut hasher = Sha256::new();
    for path in files {
        hasher.update(path.to_string_lossy().as_bytes());
        hasher.update([0]);
        hasher.update(of_file(&path)?.as_bytes());
    }
    Ok(hex(&hasher.finalize()))
}

/// Every file below `folder`, in no particular order.
pub fn collect_files(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        match entry.file_type()?.is_dir() {
            true => collect_files(&entry.path(), files)?,
            false => files.push(entry.path()),
        }
    }
    Ok(())
}

/// Lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}

/// The bytes of lower-case hex of just so many bytes.
pub fn from_hex<const BYTES: usize>(text: &str) -> Option<[u8; BYTES]> {
    let mut bytes = [0; BYTES];
    let digits = text.as_bytes();
    let digit = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    if digits.len() != BYTES * 2 {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.as_chunks::<2>().0) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_digest() {
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(of_bytes(b"abc"), expected);
    }

    #[test]
    fn hex_is_read_again() {
        let digest = of_bytes(b"abc");
        let bytes: [u8; 32] = from_hex(&digest).expect("hex");
        assert_eq!(hex(&bytes), digest);
        assert_eq!(from_hex::<31>(&digest), None);
        assert_eq!(from_hex::<32>(&digest.to_uppercase()), None);
    }

    #[test]
    fn a_tree_digest_changes_with_names_and_contents() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let tree = || of_trees(&[folder.path().to_owned()]).expect("the folder can be read");
        let empty = tree();
        std::fs::write(folder.path().join("a"), "1").expect("written");
        let one = tree();
        std::fs::write(folder.path().join("a"), "2").expect("written");
        assert!(empty != one && one != tree());
    }
}
