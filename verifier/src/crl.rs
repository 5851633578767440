//! Certificate revocation lists (RFC 5280, section 5). AMD's are signed by the ARK and say which ASK or ASVK is revoked.

use crate::asn1::{Elements, NotDer, explicit, single};
use crate::certificate::{self, Certificate};
use crate::signature;
use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;
use der::Tag;

/// The most bytes of a list.
pub const MAX_CRL_BYTES: usize = 64 << 10;

/// The most certificates that a list revokes.
pub const MAX_REVOKED: usize = 1024;

/// Why bytes are not a revocation list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CrlError {
    /// It has more bytes or entries than the limits allow.
    TooLarge,
    /// It is not DER, is cut off, or has bytes behind it.
    Der,
    /// It is not signed with RSASSA-PSS, SHA-384 and a salt of 48 bytes.
    SignatureAlgorithm,
    /// It has a critical extension, and so may not be the whole list.
    CriticalExtension,
}

impl fmt::Display for CrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge => write!(f, "over {MAX_CRL_BYTES} bytes or {MAX_REVOKED} entries"),
            Self::Der => write!(f, "not a DER revocation list"),
            Self::SignatureAlgorithm => {
                write!(f, "not signed with RSASSA-PSS, SHA-384, salt of 48 bytes")
            }
            Self::CriticalExtension => write!(f, "it has an unknown critical extension"),
        }
    }
}

impl core::error::Error for CrlError {}

impl From<NotDer> for CrlError {
    fn from(_: NotDer) -> Self {
        Self::Der
    }
}

/// A parsed list. Parsing says nothing about who signed it.
#[derive(Clone, Debug)]
pub struct Crl {
    der: Vec<u8>,
    signed: Range<usize>,
    signature: Vec<u8>,
    issuer: Vec<u8>,
    this_update_s: u64,
    next_update_s: Option<u64>,
    revoked: Vec<Vec<u8>>,
}

/// Number and key identifier are not critical; a delta list or one with a narrower scope says so critically.
fn check_extensions(mut elements: Elements<'_>) -> Result<(), CrlError> {
    while !elements.is_empty() {
        let (_, critical, _) = certificate::extension(&mut elements)?;
        if critical {
            return Err(CrlError::CriticalExtension);
        }
    }
    Ok(())
}

impl Crl {
    /// Parses a list from DER.
    ///
    /// # Errors
    /// [`CrlError`].
    pub fn parse(der: &[u8]) -> Result<Self, CrlError> {
        if der.len() > MAX_CRL_BYTES {
            return Err(CrlError::TooLarge);
        }
        let mut outer = single(der)?.enter(Tag::Sequence)?;
        let (signed, algorithm, bits) = (outer.next()?, outer.next()?, outer.next()?);
        outer.finish()?;
        let mut fields = signed.enter(Tag::Sequence)?;
        fields.next_if(Tag::Integer)?;
        let inner_algorithm = fields.next()?;
        if !signature::is_pss_sha384(algorithm.whole) || inner_algorithm.whole != algorithm.whole {
            return Err(CrlError::SignatureAlgorithm);
        }
        let issuer = fields.next()?.whole.to_vec();
        let this_update_s = fields.next()?.time()?;
        let mut next_update_s = None;
        for tag in [Tag::UtcTime, Tag::GeneralizedTime] {
            if let Some(time) = fields.next_if(tag)? {
                next_update_s = Some(time.time()?);
            }
        }
        let mut revoked = Vec::new();
        if let Some(list) = fields.next_if(Tag::Sequence)? {
            let mut entries = list.enter(Tag::Sequence)?;
            while !entries.is_empty() {
                if revoked.len() == MAX_REVOKED {
                    return Err(CrlError::TooLarge);
                }
                let mut entry = entries.next()?.enter(Tag::Sequence)?;
                revoked.push(entry.next()?.unsigned()?.to_vec());
            }
        }
        if let Some(extensions) = fields.next_if(explicit(0))? {
            check_extensions(single(extensions.value)?.enter(Tag::Sequence)?)?;
        }
        fields.finish()?;
        let start = der.len() - (signed.whole.len() + algorithm.whole.len() + bits.whole.len());
        Ok(Self {
            der: der.to_vec(),
            signed: start..start + signed.whole.len(),
            signature: bits.bits()?.to_vec(),
            issuer,
            this_update_s,
            next_update_s,
            revoked,
        })
    }

    /// Whether it is named as this certificate's.
    pub fn names_as_issuer(&self, issuer: &Certificate) -> bool {
        self.issuer == issuer.subject_der()
    }

    /// Whether this certificate's key signed it.
    pub fn is_signed_by(&self, issuer: &Certificate) -> bool {
        issuer.has_signed(&self.der[self.signed.clone()], &self.signature)
    }

    /// Whether it is in force at this second since 1970, UTC.
    pub fn is_current(&self, now_s: u64) -> bool {
        let until_s = self.next_update_s.unwrap_or(u64::MAX);
        (self.this_update_s..=until_s).contains(&now_s)
    }

    /// Whether it revokes a certificate of its issuer.
    pub fn revokes(&self, certificate: &Certificate) -> bool {
        self.revoked
            .iter()
            .any(|serial| serial == certificate.serial())
    }
}
