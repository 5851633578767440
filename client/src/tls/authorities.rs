//! The authorities by which servers are judged that are no guests.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use super::{config_builder, finished};
use crate::keys::{self, KeyArgumentError};

/// Who may vouch for a server with `https` that is no guest: a relay, an issuer, a log, a witness. By default the
/// authorities of the operating system.
///
/// A guest is never judged by them, but by its evidence.
#[derive(Clone, Debug, Default, PartialEq, Eq, clap::Args)]
pub struct Authorities {
    /// Trust the authorities in this file too (PEM), beside those of the operating system (or of the variable
    /// SSL_CERT_FILE), for a relay, an issuer and a log with https://. A guest is judged by its evidence alone.
    #[arg(long = "ca-certificate", value_name = "FILE", value_parser = Own::parse)]
    own: Vec<Own>,
}

/// The certificates of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Own(Vec<CertificateDer<'static>>);

/// There is nobody to vouch for a server.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuthoritiesError {
    /// The file cannot be read.
    #[error(transparent)]
    File(#[from] KeyArgumentError),
    /// The file has no certificate, or one that can be no authority's.
    #[error("{path}: {reason}; expected certificates of authorities, PEM")]
    Certificate {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The operating system has none, and no other was named.
    #[error(
        "this system has no certificate authorities that could vouch for an https address{0}; install them (most systems call the package ca-certificates), or name a file with --ca-certificate"
    )]
    None(String),
    /// TLS cannot be had.
    #[error("TLS cannot be had: {0}")]
    Tls(#[from] rustls::Error),
}

impl Authorities {
    /// The same, and those in a file (PEM).
    ///
    /// # Errors
    /// [`AuthoritiesError::File`], [`AuthoritiesError::Certificate`].
    pub fn with_file(mut self, path: &Path) -> Result<Self, AuthoritiesError> {
        self.own.push(Own::read(path)?);
        Ok(self)
    }

    /// TLS 1.3 to servers that one of them vouches for. The operating system's are read now.
    ///
    /// # Errors
    /// [`AuthoritiesError::None`], [`AuthoritiesError::Tls`].
    pub(crate) fn client_config(&self) -> Result<Arc<ClientConfig>, AuthoritiesError> {
        let mut roots = RootCertStore::empty();
        let system = rustls_native_certs::load_native_certs();
        // A system's folder may have things in it that are no authorities of today.
        roots.add_parsable_certificates(system.certs);
        for certificate in self.own.iter().flat_map(|own| &own.0) {
            roots.add(certificate.clone())?;
        }
        if roots.is_empty() {
            let reason = system.errors.first();
            let reason = reason.map_or_else(String::new, |error| format!(" ({error})"));
            return Err(AuthoritiesError::None(reason));
        }
        let builder = config_builder()?.with_root_certificates(roots);
        Ok(Arc::new(finished(builder)))
    }
}

/// The certificates in a text of PEM, at least one; else what is wrong with it.
pub(crate) fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(found) if found.is_empty() => Err("there is no certificate in it".to_owned()),
        Ok(found) => Ok(found),
        Err(error) => Err(error.to_string()),
    }
}

impl Own {
    fn parse(path: &str) -> Result<Self, AuthoritiesError> {
        Self::read(Path::new(path))
    }

    fn read(path: &Path) -> Result<Self, AuthoritiesError> {
        let wrong = |reason: String| AuthoritiesError::Certificate {
            path: path.to_owned(),
            reason,
        };
        let certificates = certificates(&keys::read(path)?).map_err(wrong)?;
        let mut roots = RootCertStore::empty();
        for (at, certificate) in (1..).zip(&certificates) {
            let added = roots.add(certificate.clone());
            added.map_err(|error| wrong(format!("certificate {at} cannot be used: {error}")))?;
        }
        Ok(Self(certificates))
    }
}
