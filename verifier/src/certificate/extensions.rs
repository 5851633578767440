//! The extensions of AMD's certificates (AMD 57230, section "VCEK Certificate"), and the three of RFC 5280 that decide
//! who may sign.

use super::{CertificateError, Kind, extension};
use crate::asn1::{Elements, single};
use crate::tcb::{Component, RawTcb, TcbLayout};
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use der::Tag;
use der::asn1::{Ia5StringRef, ObjectIdentifier};

/// The most extensions of a certificate; AMD's have up to 11.
const MAX_EXTENSIONS: usize = 24;

/// The most bytes of a hwID.
const MAX_HWID_BYTES: usize = 64;

/// The most bytes of a product's or a provider's name.
const MAX_NAME_BYTES: usize = 256;

const KEY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.15");
const BASIC_CONSTRAINTS: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.19");

/// Bit `keyCertSign` of the first byte of a key usage.
const KEY_CERT_SIGN: u8 = 0x80 >> 5;

/// An extension under 1.3.6.1.4.1.3704.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AmdExtension {
    /// `.1`: version of the structure.
    StructVersion,
    /// `.2`: name of the product.
    ProductName,
    /// `.3.1`: SPL of the boot loader.
    BootLoader,
    /// `.3.2`: SPL of the TEE.
    Tee,
    /// `.3.3`: SPL of the SNP firmware.
    Snp,
    /// `.3.4` to `.3.7`: SPL without a meaning.
    Spl4,
    /// `.3.5`.
    Spl5,
    /// `.3.6`.
    Spl6,
    /// `.3.7`.
    Spl7,
    /// `.3.8`: SPL of the microcode.
    Microcode,
    /// `.3.9`: SPL of the FMC.
    Fmc,
    /// `.4`: the chip.
    HwId,
    /// `.5`: the cloud provider.
    CspId,
}

impl AmdExtension {
    /// Every extension.
    pub const ALL: [Self; 13] = [
        Self::StructVersion,
        Self::ProductName,
        Self::BootLoader,
        Self::Tee,
        Self::Snp,
        Self::Spl4,
        Self::Spl5,
        Self::Spl6,
        Self::Spl7,
        Self::Microcode,
        Self::Fmc,
        Self::HwId,
        Self::CspId,
    ];

    /// The identifier and AMD's name for it.
    pub const fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::StructVersion => ("1.3.6.1.4.1.3704.1.1", "structVersion"),
            Self::ProductName => ("1.3.6.1.4.1.3704.1.2", "productName"),
            Self::BootLoader => ("1.3.6.1.4.1.3704.1.3.1", "blSPL"),
            Self::Tee => ("1.3.6.1.4.1.3704.1.3.2", "teeSPL"),
            Self::Snp => ("1.3.6.1.4.1.3704.1.3.3", "snpSPL"),
            Self::Spl4 => ("1.3.6.1.4.1.3704.1.3.4", "spl4"),
            Self::Spl5 => ("1.3.6.1.4.1.3704.1.3.5", "spl5"),
            Self::Spl6 => ("1.3.6.1.4.1.3704.1.3.6", "spl6"),
            Self::Spl7 => ("1.3.6.1.4.1.3704.1.3.7", "spl7"),
            Self::Microcode => ("1.3.6.1.4.1.3704.1.3.8", "ucodeSPL"),
            Self::Fmc => ("1.3.6.1.4.1.3704.1.3.9", "fmcSPL"),
            Self::HwId => ("1.3.6.1.4.1.3704.1.4", "hwID"),
            Self::CspId => ("1.3.6.1.4.1.3704.1.5", "cspID"),
        }
    }

    fn from_oid(oid: ObjectIdentifier) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|extension| ObjectIdentifier::new(extension.names().0) == Ok(oid))
    }

    /// The extension that has a component's level.
    pub const fn of_component(component: Component) -> Self {
        match component {
            Component::Fmc => Self::Fmc,
            Component::BootLoader => Self::BootLoader,
            Component::Tee => Self::Tee,
            Component::Snp => Self::Snp,
            Component::Microcode => Self::Microcode,
        }
    }
}

impl fmt::Display for AmdExtension {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (oid, name) = self.names();
        write!(f, "{name} ({oid})")
    }
}

/// AMD's extensions, each as the certificate has it or has it not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AmdExtensions {
    /// Name of the product, with or without a stepping.
    pub product_name: Option<String>,
    /// The chip: 64 bytes on Milan and Genoa, 8 on Turin.
    pub hwid: Option<Vec<u8>>,
    /// The cloud provider.
    pub csp_id: Option<String>,
    /// The integers: version of the structure and SPLs, by [`AmdExtension`] number.
    integers: [Option<u8>; AmdExtension::ALL.len()],
}

impl AmdExtensions {
    /// One of the extensions that are small integers.
    pub fn integer(&self, extension: AmdExtension) -> Option<u8> {
        self.integers[extension as usize]
    }

    /// The TCB version that the key was derived from, as a report of a product with this layout writes it. The levels
    /// without a meaning stand where the report has zeros.
    ///
    /// # Errors
    /// The first extension that is missing.
    pub fn tcb(&self, layout: TcbLayout) -> Result<RawTcb, AmdExtension> {
        let level = |extension| self.integer(extension).ok_or(extension);
        let unused = |extension| self.integer(extension).unwrap_or(0);
        let boot_loader = level(AmdExtension::BootLoader)?;
        let tee = level(AmdExtension::Tee)?;
        let snp = level(AmdExtension::Snp)?;
        let microcode = level(AmdExtension::Microcode)?;
        let spl4 = unused(AmdExtension::Spl4);
        let [spl5, spl6, spl7] =
            [AmdExtension::Spl5, AmdExtension::Spl6, AmdExtension::Spl7].map(unused);
        Ok(RawTcb(match layout {
            TcbLayout::Milan => [boot_loader, tee, spl4, spl5, spl6, spl7, snp, microcode],
            TcbLayout::Turin => {
                let fmc = level(AmdExtension::Fmc)?;
                [fmc, boot_loader, tee, snp, spl5, spl6, spl7, microcode]
            }
        }))
    }

    fn set(&mut self, extension: AmdExtension, value: &[u8]) -> Result<(), CertificateError> {
        let malformed = CertificateError::AmdExtension { extension };
        match extension {
            AmdExtension::ProductName => self.product_name = Some(name(value).ok_or(malformed)?),
            AmdExtension::CspId => self.csp_id = Some(name(value).ok_or(malformed)?),
            // Raw bytes: the one extension whose content is not DER.
            AmdExtension::HwId if value.len() > MAX_HWID_BYTES => return Err(malformed),
            AmdExtension::HwId => self.hwid = Some(value.to_vec()),
            integer => {
                let number = single(value).and_then(|element| element.decode::<u8>());
                self.integers[integer as usize] = Some(number.map_err(|_| malformed)?);
            }
        }
        Ok(())
    }
}

fn name(value: &[u8]) -> Option<String> {
    let text: Ia5StringRef<'_> = single(value).ok()?.decode().ok()?;
    (text.as_str().len() <= MAX_NAME_BYTES).then(|| text.as_str().into())
}

/// Reads all extensions and checks that the right to sign certificates agrees with the kind.
pub(super) fn parse(
    mut elements: Elements<'_>,
    kind: Kind,
) -> Result<AmdExtensions, CertificateError> {
    let mut amd = AmdExtensions::default();
    let (mut is_authority, mut may_sign) = (None, None);
    let mut seen: Vec<ObjectIdentifier> = Vec::new();
    while !elements.is_empty() {
        if seen.len() == MAX_EXTENSIONS {
            return Err(CertificateError::Extension);
        }
        let (oid, critical, value) =
            extension(&mut elements).map_err(|_| CertificateError::Extension)?;
        if seen.contains(&oid) {
            return Err(CertificateError::ExtensionTwice);
        }
        seen.push(oid);
        match (oid, AmdExtension::from_oid(oid)) {
            (KEY_USAGE, _) => may_sign = Some(key_usage(value)?),
            (BASIC_CONSTRAINTS, _) => is_authority = Some(basic_constraints(value)?),
            (_, Some(extension)) => amd.set(extension, value)?,
            _ if critical => return Err(CertificateError::CriticalExtension),
            _ => {}
        }
    }
    let agrees = match kind.is_authority() {
        true => (is_authority, may_sign) == (Some(true), Some(true)),
        false => is_authority != Some(true) && may_sign != Some(true),
    };
    if agrees {
        Ok(amd)
    } else {
        Err(CertificateError::Authority)
    }
}

/// Whether a key usage (RFC 5280, section 4.2.1.3) has `keyCertSign`.
fn key_usage(value: &[u8]) -> Result<bool, CertificateError> {
    // The last byte has unused bits, so the content is taken as it is: their number, then the bytes.
    let element = single(value).map_err(|_| CertificateError::Extension)?;
    match element.expect(Tag::BitString) {
        Ok([_, first, ..]) => Ok(first & KEY_CERT_SIGN != 0),
        _ => Err(CertificateError::Extension),
    }
}

/// Whether basic constraints (RFC 5280, section 4.2.1.9) name an authority. The length of the path is not looked at:
/// chains have exactly three certificates here, and the kinds say which signs which.
fn basic_constraints(value: &[u8]) -> Result<bool, CertificateError> {
    let read = || {
        let mut fields = single(value)?.enter(Tag::Sequence)?;
        let flag = fields.next_if(Tag::Boolean)?;
        fields.next_if(Tag::Integer)?;
        fields.finish()?;
        Ok(flag.is_some_and(|flag| flag.value == [0xff]))
    };
    read().map_err(|_: crate::asn1::NotDer| CertificateError::Extension)
}
