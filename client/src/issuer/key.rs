//! An issuer's private key in a file (PKCS #8 in PEM, mode 0600), and beside it the file that names the issuer.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};

use cloister_tokens::issuer::IssuerKey;
use cloister_tokens::origin;
use cloister_transparency::key_file::{self, KeyFileError};
use getrandom::SysRng;
use rand_core::UnwrapErr;

/// `FILE.issuer.json`: who the issuer is, for `cargo xtask image --token-issuer`.
#[must_use]
pub fn description_path(path: &Path) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(".issuer.json");
    name.into()
}

/// Makes a key and its two files. A key is never overwritten.
///
/// # Errors
/// [`KeyFileError`].
pub fn generate_key(
    path: &Path,
    issuer_name: &str,
    origin_info: &str,
    passphrase: Option<&str>,
) -> Result<IssuerKey, KeyFileError> {
    let wrong = |reason: String| KeyFileError::Format {
        path: path.into(),
        reason,
    };
    let key = IssuerKey::generate(&mut UnwrapErr(SysRng));
    let key = key.map_err(|error| wrong(error.to_string()))?;
    let issuer = origin::Issuer {
        name: issuer_name.into(),
        token_key: key.public().clone(),
        origin_info: origin_info.into(),
    };
    let text = issuer.to_json();
    // Names that no challenge can have are found out before anything is written.
    origin::Issuer::from_json(text.as_bytes()).map_err(|error| wrong(error.to_string()))?;
    let der = key.to_pkcs8().map_err(|error| wrong(error.to_string()))?;
    key_file::create_pkcs8(path, &der, passphrase)?;
    let description = description_path(path);
    let write = || {
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create_new(true).open(&description)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    };
    write().map_err(|source| KeyFileError::Io {
        path: description.clone(),
        source,
    })?;
    Ok(key)
}

/// Reads a key. A passphrase that is not needed is not looked at.
///
/// # Errors
/// [`KeyFileError`].
pub fn load_key(path: &Path, passphrase: Option<&str>) -> Result<IssuerKey, KeyFileError> {
    let der = key_file::load_pkcs8(path, passphrase)?;
    IssuerKey::from_pkcs8(&der).map_err(|error| KeyFileError::Format {
        path: path.into(),
        reason: error.to_string(),
    })
}
