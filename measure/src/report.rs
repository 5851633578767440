//! The digest that was observed: in a report, a quote, or given as text.

use crate::cpu::CpuModel;
use crate::digest::{LaunchDigest, ParseDigestError, SHA384_BYTES};
use std::fmt;

/// Length of an SNP attestation report.
pub const SNP_REPORT_BYTES: usize = 1184;

/// Length of a TDREPORT.
pub const TDREPORT_BYTES: usize = 1024;

/// Where a digest was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ObservedIn {
    /// A text of 96 hexadecimal digits.
    Text,
    /// An SNP attestation report of this version.
    SnpReport(u32),
    /// A TDREPORT.
    TdReport,
    /// A TDX quote of this version.
    TdQuote(u16),
}

impl fmt::Display for ObservedIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text => write!(f, "text"),
            Self::SnpReport(version) => write!(f, "SNP report, version {version}"),
            Self::TdReport => write!(f, "TDREPORT"),
            Self::TdQuote(version) => write!(f, "TDX quote, version {version}"),
        }
    }
}

/// A launch digest from somewhere else. Nothing about it has been verified: no signature was
/// checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Observed {
    /// Where it was found.
    pub found_in: ObservedIn,
    /// The digest.
    pub digest: LaunchDigest,
    /// The host's processor, which `-cpu host` shows the guest; in SNP reports from version 3 on.
    pub host_cpu: Option<CpuModel>,
}

/// Neither a report nor a digest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ObservedError {
    /// Text, but no digest.
    #[error(transparent)]
    Digest(#[from] ParseDigestError),
    /// Bytes that are none of the known things.
    #[error(
        "{0} bytes that are no SNP report (1184 bytes, version 2 or higher), no TDREPORT (1024 \
         bytes), no TDX quote of version 4 or 5, and no digest of 96 hexadecimal digits"
    )]
    Unknown(usize),
}

impl Observed {
    /// Reads a report, a quote, or the text of a digest with white space around it.
    pub fn parse(bytes: &[u8]) -> Result<Self, ObservedError> {
        if let Some(observed) = snp_report(bytes).or_else(|| tdx(bytes)) {
            return Ok(observed);
        }
        match str::from_utf8(bytes).map(str::trim) {
            Ok(text) if text.bytes().all(|byte| byte.is_ascii_graphic()) => Ok(Self {
                found_in: ObservedIn::Text,
                digest: text.parse()?,
                host_cpu: None,
            }),
            _ => Err(ObservedError::Unknown(bytes.len())),
        }
    }
}

/// AMD publication 56860, table of `ATTESTATION_REPORT`.
fn snp_report(bytes: &[u8]) -> Option<Observed> {
    let report: &[u8; SNP_REPORT_BYTES] = bytes.try_into().ok()?;
    let version = u32::from_le_bytes(*report.first_chunk()?);
    // All that is ever in the upper bytes of a version is zero; text has letters there.
    if !(2..0x100).contains(&version) {
        return None;
    }
    let [family, model, stepping] = [report[0x188], report[0x189], report[0x18a]];
    let host_cpu = (version >= 3 && family != 0)
        .then(|| CpuModel::from_family_model_stepping(family, model, stepping));
    let digest = digest_at(report, 0x90)?;
    Some(Observed {
        found_in: ObservedIn::SnpReport(version),
        digest,
        host_cpu,
    })
}

/// MRTD in a TDREPORT (`TDINFO` at 0x200), or in the body of a quote behind 136 other bytes.
fn tdx(bytes: &[u8]) -> Option<Observed> {
    const TEE_TYPE_TDX: [u8; 4] = [0x81, 0, 0, 0];
    const QUOTE_HEADER_BYTES: usize = 48;
    const MRTD_IN_BODY: usize = 136;
    let (found_in, at) = if bytes.len() == TDREPORT_BYTES && bytes[0] == TEE_TYPE_TDX[0] {
        (ObservedIn::TdReport, 0x210)
    } else if bytes.get(4..8)? == TEE_TYPE_TDX {
        match u16::from_le_bytes(*bytes.first_chunk()?) {
            4 => (ObservedIn::TdQuote(4), QUOTE_HEADER_BYTES + MRTD_IN_BODY),
            // Type and length of the body come before it.
            5 => (
                ObservedIn::TdQuote(5),
                QUOTE_HEADER_BYTES + 6 + MRTD_IN_BODY,
            ),
            _ => return None,
        }
    } else {
        return None;
    };
    Some(Observed {
        found_in,
        digest: digest_at(bytes, at)?,
        host_cpu: None,
    })
}

fn digest_at(bytes: &[u8], at: usize) -> Option<LaunchDigest> {
    bytes
        .get(at..)?
        .first_chunk::<SHA384_BYTES>()
        .copied()
        .map(LaunchDigest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Rng;

    fn report(version: u32) -> Vec<u8> {
        let mut report = vec![0; SNP_REPORT_BYTES];
        report[..4].copy_from_slice(&version.to_le_bytes());
        report[0x90..0xc0].fill(0xab);
        report[0x188..0x18b].copy_from_slice(&[0x19, 0x11, 1]);
        report
    }

    #[test]
    fn snp_reports_have_a_digest_and_from_version_3_on_a_processor() {
        for (version, cpu) in [(2, None), (3, Some(0xa10f11)), (5, Some(0xa10f11))] {
            let observed = Observed::parse(&report(version)).expect("a report");
            assert_eq!(observed.found_in, ObservedIn::SnpReport(version));
            assert_eq!(observed.digest, LaunchDigest([0xab; 48]));
            assert_eq!(observed.host_cpu.map(CpuModel::signature), cpu);
        }
    }

    #[test]
    fn mrtd_is_at_its_place_in_a_tdreport() {
        let mut report = vec![0; TDREPORT_BYTES];
        report[0] = 0x81;
        report[0x210..0x240].fill(0xab);
        let observed = Observed::parse(&report).expect("a TDREPORT");
        assert_eq!(observed.found_in, ObservedIn::TdReport);
        assert_eq!(observed.digest, LaunchDigest([0xab; 48]));
    }

    #[test]
    fn a_digest_may_be_text() {
        let text = format!(" {}\n", "cd".repeat(48));
        let observed = Observed::parse(text.as_bytes()).expect("a digest");
        assert_eq!(observed.found_in, ObservedIn::Text);
        assert_eq!(observed.digest, LaunchDigest([0xcd; 48]));
    }

    #[test]
    fn anything_else_is_refused() {
        assert_eq!(
            Observed::parse(&report(1)),
            Err(ObservedError::Unknown(1184))
        );
        assert_eq!(Observed::parse(&[0xff; 7]), Err(ObservedError::Unknown(7)));
        assert_eq!(
            Observed::parse(&[0; 1024]),
            Err(ObservedError::Unknown(1024))
        );
        let short_quote = [4, 0, 2, 0, 0x81, 0, 0, 0, 0];
        assert_eq!(
            Observed::parse(&short_quote),
            Err(ObservedError::Unknown(9))
        );
        assert_eq!(
            Observed::parse(b""),
            Err(ParseDigestError::Length(0).into())
        );
        assert_eq!(
            Observed::parse(b"abc"),
            Err(ParseDigestError::Length(3).into())
        );
    }

    #[test]
    fn random_bytes_never_panic() {
        let mut rng = Rng(5);
        for length in 0..1_300 {
            let mut bytes = rng.bytes(length);
            let _ = Observed::parse(&bytes);
            let start = rng.pick(&[&[2, 0, 0, 0, 0x81, 0, 0, 0], &[4, 0, 2, 0, 0x81, 0, 0, 0]]);
            let start = &start[..length.min(8)];
            bytes[..start.len()].copy_from_slice(start);
            let parsed = Observed::parse(&bytes);
            assert_eq!(
                parsed.is_ok(),
                length == SNP_REPORT_BYTES || is_quote(start, length)
            );
        }
    }

    /// Whether these bytes are a quote as far as MRTD.
    fn is_quote(start: &[u8], length: usize) -> bool {
        start.first() == Some(&4) && length >= 48 + 136 + 48
    }
}
