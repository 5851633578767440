//! Private keys in files: PKCS #8 in PEM (RFC 5958, RFC 7468, RFC 8410), which `openssl pkey -in FILE` reads.
//!
//! | file | what |
//! |---|---|
//! | `FILE` | `PRIVATE KEY`, or with a passphrase `ENCRYPTED PRIVATE KEY`: PBES2 with scrypt and AES-256-CBC; mode 0600 |
//! | `FILE.vkey` | the verifier key, which has the key's name and type |
//!
//! Files that `openssl genpkey -algorithm ed25519` made are read too, once there is a `FILE.vkey` beside them.
//!
//! Keys of other kinds are kept in such files by [`create_pkcs8`] and [`load_pkcs8`], which look no further than PKCS #8.

use crate::key::{KeyError, KeyType, MAX_KEY_TEXT_BYTES, SEED_BYTES, SigningKey, VerifierKey};
use pkcs8::der::asn1::OctetStringRef;
use pkcs8::der::pem::{LineEnding, PemLabel};
use pkcs8::der::{Decode, SecretDocument};
use pkcs8::pkcs5::EncryptionScheme;
use pkcs8::pkcs5::pbes2::Kdf;
use pkcs8::spki::AlgorithmIdentifierRef;
use pkcs8::{EncryptedPrivateKeyInfoRef, ObjectIdentifier, PrivateKeyInfoRef};
use std::ffi::OsString;
use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

#[cfg(test)]
mod tests;

/// The most bytes of a key's file; one of ours has about 400.
const MAX_FILE_BYTES: usize = 8 << 10;

/// The most bytes of memory that a file may have scrypt use: ours uses 16 MiB.
const MAX_SCRYPT_BYTES: u64 = 256 << 20;

/// The most rounds that a file may have PBKDF2 or scrypt make.
const MAX_KDF_ROUNDS: u64 = 10_000_000;

/// id-Ed25519 (RFC 8410, section 3).
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");

/// Why a key could not be made or read.
#[derive(Debug)]
#[non_exhaustive]
pub enum KeyFileError {
    /// A file could not be read or written.
    Io {
        /// Which.
        path: PathBuf,
        /// What happened.
        source: io::Error,
    },
    /// There is a file already. Keys are never overwritten.
    Exists {
        /// Which.
        path: PathBuf,
    },
    /// There is no such key.
    Missing {
        /// Its file.
        path: PathBuf,
    },
    /// The verifier key's file is missing.
    VerifierMissing {
        /// Where it should be.
        path: PathBuf,
    },
    /// Others than its owner can read or write the private key.
    Permissions {
        /// The key's file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// It is not a regular file, or has more bytes than a key has.
    NotAKeyFile {
        /// Which.
        path: PathBuf,
    },
    /// A passphrase is needed.
    PassphraseNeeded {
        /// The key's file.
        path: PathBuf,
    },
    /// The passphrase is another one.
    WrongPassphrase {
        /// The key's file.
        path: PathBuf,
    },
    /// A passphrase without characters protects nothing.
    EmptyPassphrase,
    /// The file is not a key in PKCS #8 of the kind that is needed, or asks for too much work.
    Format {
        /// The key's file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The verifier key is malformed, or the name for a new one is none.
    Verifier {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        error: KeyError,
    },
    /// The verifier key is that of another private key.
    Mismatch {
        /// The private key's file.
        path: PathBuf,
        /// The verifier key's.
        verifier: PathBuf,
    },
    /// The system has no random numbers.
    Random,
}

impl fmt::Display for KeyFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { path, source } => write!(f, "{}: {source}", path.display()),
            Self::Exists { path } => write!(
                f,
                "{} is there already, and keys are never overwritten; choose another name",
                path.display()
            ),
            Self::Missing { path } => write!(f, "there is no key {}", path.display()),
            Self::VerifierMissing { path } => write!(
                f,
                "there is no {}: write the verifier key, NAME+ID+KEY, into it",
                path.display()
            ),
            Self::Permissions { path, mode } => write!(
                f,
                "{} has mode {:04o}, so that others can read or write the private key; chmod 600 it, and make a new key if others have been there",
                path.display(),
                mode & 0o7777
            ),
            Self::NotAKeyFile { path } => write!(
                f,
                "{} is not a regular file of at most {MAX_FILE_BYTES} bytes",
                path.display()
            ),
            Self::PassphraseNeeded { path } => {
                write!(f, "{} is encrypted: a passphrase is needed", path.display())
            }
            Self::WrongPassphrase { path } => {
                write!(f, "{}: the passphrase is wrong", path.display())
            }
            Self::EmptyPassphrase => write!(f, "the passphrase is empty"),
            Self::Format { path, reason } => {
                write!(
                    f,
                    "{} is not a key in PKCS #8 of the kind that is needed: {reason}",
                    path.display()
                )
            }
            Self::Verifier { path, error } => write!(f, "{}: {error}", path.display()),
            Self::Mismatch { path, verifier } => write!(
                f,
                "{} is the verifier key of another private key than {}",
                verifier.display(),
                path.display()
            ),
            Self::Random => write!(f, "the system has no random numbers"),
        }
    }
}

impl std::error::Error for KeyFileError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            Self::Verifier { error, .. } => Some(error),
            _ => None,
        }
    }
}

/// Makes a key with this name, and its two files, in a folder that is made with mode 0700 where it is not there. With a
/// passphrase the private key is encrypted.
///
/// # Errors
/// [`KeyFileError`]; no file is left then.
pub fn generate(
    path: &Path,
    name: &str,
    key_type: KeyType,
    passphrase: Option<&str>,
) -> Result<VerifierKey, KeyFileError> {
    let verifier_path = verifier_path(path);
    let mut seed = Zeroizing::new([0; SEED_BYTES]);
    getrandom::fill(&mut *seed).map_err(|_| KeyFileError::Random)?;
    let key = SigningKey::from_seed(name, key_type, &seed);
    let key = key.map_err(|error| KeyFileError::Verifier {
        path: verifier_path.clone(),
        error,
    })?;
    let pem = to_pem(path, &seed, passphrase)?;
    create_folder(path)?;
    create(path, 0o600, pem.as_bytes())?;
    let verifier = key.verifier().clone();
    let written = create(&verifier_path, 0o644, format!("{verifier}\n").as_bytes());
    let written = written.and_then(|()| sync_folder(path));
    if let Err(error) = written {
        // The key was made above, and nobody knows of it.
        let _ = fs::remove_file(path);
        return Err(error);
    }
    Ok(verifier)
}

/// Reads a private key and its verifier key. A passphrase that is not needed is not looked at.
///
/// # Errors
/// [`KeyFileError`].
pub fn load(path: &Path, passphrase: Option<&str>) -> Result<SigningKey, KeyFileError> {
    let pem = read_private(path)?;
    let document = from_pem(path, &pem, passphrase)?;
    let seed = from_der(path, document.as_bytes())?;
    let verifier = load_verifier(path)?;
    let key = SigningKey::from_seed(verifier.name(), verifier.key_type(), &seed);
    match key {
        Ok(key) if *key.verifier() == verifier => Ok(key),
        _ => Err(KeyFileError::Mismatch {
            path: path.into(),
            verifier: verifier_path(path),
        }),
    }
}

/// Writes a private key of any kind, PKCS #8 in DER, into a new file of mode 0600, in a folder that is made with mode 0700
/// where it is not there. With a passphrase it is encrypted.
///
/// # Errors
/// [`KeyFileError`]; no file is left then.
pub fn create_pkcs8(path: &Path, der: &[u8], passphrase: Option<&str>) -> Result<(), KeyFileError> {
    let info = PrivateKeyInfoRef::from_der(der).map_err(|error| format_error(path, &error))?;
    let pem = info_to_pem(path, &info, passphrase)?;
    create_folder(path)?;
    create(path, 0o600, pem.as_bytes())?;
    sync_folder(path)
}

/// Reads a private key of any kind: PKCS #8 in DER. A passphrase that is not needed is not looked at.
///
/// # Errors
/// [`KeyFileError`].
pub fn load_pkcs8(
    path: &Path,
    passphrase: Option<&str>,
) -> Result<Zeroizing<Vec<u8>>, KeyFileError> {
    let pem = read_private(path)?;
    let document = from_pem(path, &pem, passphrase)?;
    Ok(Zeroizing::new(document.as_bytes().to_vec()))
}

/// Reads the verifier key beside a private key, or the one in a file of its own whose name ends in `.vkey`. The private
/// key need not be there.
///
/// # Errors
/// [`KeyFileError`].
pub fn load_verifier(path: &Path) -> Result<VerifierKey, KeyFileError> {
    let path = match path.extension() {
        Some(extension) if extension == "vkey" => path.into(),
        _ => verifier_path(path),
    };
    let file = open(&path)?.ok_or_else(|| KeyFileError::VerifierMissing { path: path.clone() })?;
    let text = read_text(&path, file)?;
    let key = VerifierKey::parse(text.trim_end_matches('\n'));
    key.map_err(|error| KeyFileError::Verifier { path, error })
}

/// `FILE.vkey`.
pub fn verifier_path(path: &Path) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(".vkey");
    name.into()
}

fn to_pem(
    path: &Path,
    seed: &[u8; SEED_BYTES],
    passphrase: Option<&str>,
) -> Result<Zeroizing<String>, KeyFileError> {
    let failed = |error: pkcs8::Error| format_error(path, &error);
    let mut octets = Zeroizing::new([0; SEED_BYTES + 2]);
    // CurvePrivateKey ::= OCTET STRING (RFC 8410, section 7).
    octets[..2].copy_from_slice(&[0x04, SEED_BYTES as u8]);
    octets[2..].copy_from_slice(seed);
    let octets = OctetStringRef::new(&*octets).map_err(|error| failed(error.into()))?;
    let algorithm = AlgorithmIdentifierRef {
        oid: ED25519,
        parameters: None,
    };
    // Version 1, without the public key: OpenSSL 3.0 reads no other.
    info_to_pem(path, &PrivateKeyInfoRef::new(algorithm, octets), passphrase)
}

fn info_to_pem(
    path: &Path,
    info: &PrivateKeyInfoRef<'_>,
    passphrase: Option<&str>,
) -> Result<Zeroizing<String>, KeyFileError> {
    let failed = |error: pkcs8::Error| format_error(path, &error);
    let (document, label) = match passphrase {
        Some("") => return Err(KeyFileError::EmptyPassphrase),
        Some(passphrase) => (
            info.encrypt(passphrase).map_err(failed)?,
            EncryptedPrivateKeyInfoRef::PEM_LABEL,
        ),
        None => (
            SecretDocument::encode_msg(info).map_err(|error| failed(error.into()))?,
            PrivateKeyInfoRef::PEM_LABEL,
        ),
    };
    document
        .to_pem(label, LineEnding::LF)
        .map_err(|error| failed(error.into()))
}

/// The PKCS #8, decrypted.
fn from_pem(
    path: &Path,
    pem: &str,
    passphrase: Option<&str>,
) -> Result<SecretDocument, KeyFileError> {
    let (label, document) =
        SecretDocument::from_pem(pem).map_err(|error| format_error(path, &error))?;
    if label == PrivateKeyInfoRef::PEM_LABEL {
        return Ok(document);
    }
    if label != EncryptedPrivateKeyInfoRef::PEM_LABEL {
        return Err(format_error(path, &format_args!("it is a {label}")));
    }
    let encrypted = EncryptedPrivateKeyInfoRef::from_der(document.as_bytes())
        .map_err(|error| format_error(path, &error))?;
    check_work(path, &encrypted.encryption_algorithm)?;
    let passphrase =
        passphrase.ok_or_else(|| KeyFileError::PassphraseNeeded { path: path.into() })?;
    // A wrong passphrase is found out by the padding, and where that is right by chance by what it holds.
    let wrong = || KeyFileError::WrongPassphrase { path: path.into() };
    let document = encrypted.decrypt(passphrase).map_err(|_| wrong())?;
    PrivateKeyInfoRef::from_der(document.as_bytes()).map_err(|_| wrong())?;
    Ok(document)
}

fn from_der(path: &Path, der: &[u8]) -> Result<Zeroizing<[u8; SEED_BYTES]>, KeyFileError> {
    let info = PrivateKeyInfoRef::from_der(der).map_err(|error| format_error(path, &error))?;
    if info.algorithm.oid != ED25519 || info.algorithm.parameters.is_some() {
        let oid = info.algorithm.oid;
        return Err(format_error(
            path,
            &format_args!("it is of the algorithm {oid}"),
        ));
    }
    let inner = <&OctetStringRef>::from_der(info.private_key.as_bytes());
    let inner = inner.map_err(|error| format_error(path, &error))?;
    let mut seed = Zeroizing::new([0; SEED_BYTES]);
    if inner.as_bytes().len() != SEED_BYTES {
        return Err(format_error(path, &"the key has not 32 bytes"));
    }
    seed.copy_from_slice(inner.as_bytes());
    Ok(seed)
}

/// Refuses a file that would keep the machine busy for minutes.
fn check_work(path: &Path, scheme: &EncryptionScheme) -> Result<(), KeyFileError> {
    let fits = match scheme.pbes2().map(|parameters| &parameters.kdf) {
        Some(Kdf::Pbkdf2(parameters)) => u64::from(parameters.iteration_count) <= MAX_KDF_ROUNDS,
        Some(Kdf::Scrypt(parameters)) => {
            let block = 128 * u64::from(parameters.block_size);
            let cost = parameters.cost_parameter;
            let rounds = cost.saturating_mul(parameters.parallelization.into());
            cost.saturating_mul(block) <= MAX_SCRYPT_BYTES && rounds <= MAX_KDF_ROUNDS
        }
        _ => false,
    };
    if fits {
        Ok(())
    } else {
        let reason = "its encryption is not PBES2 with scrypt or PBKDF2 of sensible parameters";
        Err(format_error(path, &reason))
    }
}

fn format_error(path: &Path, reason: &dyn fmt::Display) -> KeyFileError {
    KeyFileError::Format {
        path: path.into(),
        reason: reason.to_string(),
    }
}

fn io_error(path: &Path) -> impl Fn(io::Error) -> KeyFileError {
    move |source| KeyFileError::Io {
        path: path.into(),
        source,
    }
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn create_folder(path: &Path) -> Result<(), KeyFileError> {
    let folder = parent(path);
    let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(io_error(folder))
}

/// Writes a new file, and nothing where it cannot be written whole.
fn create(path: &Path, mode: u32, bytes: &[u8]) -> Result<(), KeyFileError> {
    let mut options = OpenOptions::new();
    let mut file = match options.write(true).create_new(true).mode(mode).open(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return Err(KeyFileError::Exists { path: path.into() });
        }
        file => file.map_err(io_error(path))?,
    };
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    written.map_err(|error| {
        let _ = fs::remove_file(path);
        io_error(path)(error)
    })
}

fn sync_folder(path: &Path) -> Result<(), KeyFileError> {
    let folder = parent(path);
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    synced.map_err(io_error(folder))
}

fn open(path: &Path) -> Result<Option<File>, KeyFileError> {
    match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        file => Ok(Some(file.map_err(io_error(path))?)),
    }
}

fn read_private(path: &Path) -> Result<Zeroizing<String>, KeyFileError> {
    let file = open(path)?.ok_or_else(|| KeyFileError::Missing { path: path.into() })?;
    // Of the file that was opened, not of its name, which could be another one's by now.
    let mode = file.metadata().map_err(io_error(path))?.mode();
    if mode & 0o077 != 0 {
        return Err(KeyFileError::Permissions {
            path: path.into(),
            mode,
        });
    }
    read_text(path, file)
}

fn read_text(path: &Path, file: File) -> Result<Zeroizing<String>, KeyFileError> {
    let not_a_key = || KeyFileError::NotAKeyFile { path: path.into() };
    let about = file.metadata().map_err(io_error(path))?;
    if !about.is_file() || about.len() > MAX_FILE_BYTES as u64 {
        return Err(not_a_key());
    }
    // One allocation: a string that grows would leave copies behind.
    let mut text = Zeroizing::new(String::with_capacity(MAX_FILE_BYTES + MAX_KEY_TEXT_BYTES));
    match file.take(MAX_FILE_BYTES as u64).read_to_string(&mut text) {
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Err(not_a_key()),
        read => read.map(|_| text).map_err(io_error(path)),
    }
}
