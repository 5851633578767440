//! The attestation report: 1184 bytes, little-endian (AMD 56860, table `ATTESTATION_REPORT`).
//!
//! Version 2 is what Milan and Genoa had first; version 3 adds the processor's family, model and stepping; versions 4
//! and 5 the mitigation vectors. Parsing checks form alone: reserved bytes, the signature's algorithm and padding. It
//! says nothing about who made the report; see [`Report::is_signed_by`].

use crate::signature;
use crate::tcb::RawTcb;
use core::fmt;
use core::ops::Range;
use p384::ecdsa::VerifyingKey;

/// Bytes of a report.
pub const REPORT_BYTES: usize = 0x4a0;

/// Bytes of a report that its signature covers: all in front of the signature.
pub const SIGNED_BYTES: usize = 0x2a0;

/// Bytes of a number of the signature; P-384 uses the lower [`signature::SCALAR_BYTES`] of them.
const NUMBER_BYTES: usize = 72;

/// ECDSA on P-384 with SHA-384.
const ECDSA_P384_SHA384: u32 = 1;

/// The versions that are understood.
pub const VERSIONS: Range<u32> = 2..6;

/// A field of the report: its name and where it stands.
pub type Field = (&'static str, Range<usize>);

/// Every byte of the report, field by field. `reserved` bytes are zero in every version; those of the processor and of
/// the mitigation vectors are in versions that do not have the field.
pub const FIELDS: [Field; 33] = [
    ("version", 0x000..0x004),
    ("guest SVN", 0x004..0x008),
    ("policy", 0x008..0x010),
    ("family id", 0x010..0x020),
    ("image id", 0x020..0x030),
    ("VMPL", 0x030..0x034),
    ("signature algorithm", 0x034..0x038),
    ("current TCB", 0x038..0x040),
    ("platform info", 0x040..0x048),
    ("key info", 0x048..0x04c),
    (RESERVED, 0x04c..0x050),
    ("report data", 0x050..0x090),
    ("measurement", 0x090..0x0c0),
    ("host data", 0x0c0..0x0e0),
    ("id key digest", 0x0e0..0x110),
    ("author key digest", 0x110..0x140),
    ("report id", 0x140..0x160),
    ("migration agent's report id", 0x160..0x180),
    ("reported TCB", 0x180..0x188),
    (CPUID, 0x188..0x18b),
    (RESERVED, 0x18b..0x1a0),
    ("chip id", 0x1a0..0x1e0),
    ("committed TCB", 0x1e0..0x1e8),
    ("current firmware version", 0x1e8..0x1eb),
    (RESERVED, 0x1eb..0x1ec),
    ("committed firmware version", 0x1ec..0x1ef),
    (RESERVED, 0x1ef..0x1f0),
    ("launch TCB", 0x1f0..0x1f8),
    (MITIGATIONS, 0x1f8..0x208),
    (RESERVED, 0x208..0x2a0),
    ("signature r", 0x2a0..0x2e8),
    ("signature s", 0x2e8..0x330),
    (RESERVED, 0x330..0x4a0),
];

const RESERVED: &str = "reserved";
const CPUID: &str = "CPU family, model, stepping";
const MITIGATIONS: &str = "mitigation vectors";

// The table has no gap and no overlap.
const _: () = {
    let (mut index, mut end) = (0, 0);
    while index < FIELDS.len() {
        assert!(FIELDS[index].1.start == end);
        end = FIELDS[index].1.end;
        index += 1;
    }
    assert!(end == REPORT_BYTES);
};

/// Why bytes are not a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReportError {
    /// They are not [`REPORT_BYTES`] long.
    Length {
        /// How many there are.
        found: usize,
    },
    /// The version is not one of [`VERSIONS`].
    Version {
        /// The version.
        found: u32,
    },
    /// A byte that must be zero in this version is not.
    Reserved {
        /// Where it stands.
        offset: usize,
    },
    /// The report is not signed with ECDSA on P-384 with SHA-384.
    SignatureAlgorithm {
        /// The algorithm's number.
        found: u32,
    },
    /// The key that signed is of a kind that is not known, or the key flags have unknown bits.
    KeyInfo {
        /// The field.
        found: u32,
    },
    /// A number of the signature has more than 384 bits.
    SignaturePadding {
        /// Where the byte stands that should be zero.
        offset: usize,
    },
}

impl fmt::Display for ReportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length { found } => {
                write!(f, "{found} bytes, a report has {REPORT_BYTES}")
            }
            Self::Version { found } => write!(
                f,
                "version {found}, known are {} to {}",
                VERSIONS.start,
                VERSIONS.end - 1
            ),
            Self::Reserved { offset } => {
                write!(f, "the reserved byte at offset {offset:#x} is not zero")
            }
            Self::SignatureAlgorithm { found } => write!(
                f,
                "signature algorithm {found}, only {ECDSA_P384_SHA384} (ECDSA P-384 SHA-384) is known"
            ),
            Self::KeyInfo { found } => {
                write!(
                    f,
                    "key info {found:#x} names an unknown key or unknown flags"
                )
            }
            Self::SignaturePadding { offset } => write!(
                f,
                "a number of the signature has more than 384 bits (offset {offset:#x})"
            ),
        }
    }
}

impl core::error::Error for ReportError {}

/// A flag of [`GuestPolicy`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum PolicyBit {
    /// SMT may be on in the machine.
    SmtAllowed = 16,
    /// Must be one.
    ReservedOne = 17,
    /// A migration agent may be associated with the guest.
    MigrationAgent = 18,
    /// The host may read and change the guest's memory.
    Debug = 19,
    /// The guest runs on one socket only.
    SingleSocket = 20,
    /// Compute Express Link may be in use.
    CxlAllowed = 21,
    /// Memory encryption must be AES-256-XTS.
    Aes256Xts = 22,
    /// Running average power limit must be off.
    RaplDisabled = 23,
    /// DRAM ciphertext must be hidden from the host.
    CiphertextHiding = 24,
    /// Guest pages may not be moved or swapped by the firmware's commands.
    PageSwapDisabled = 25,
}

impl PolicyBit {
    /// The flags that permit something; the others forbid or demand something (AMD 56860, "Guest Policy").
    pub const PERMISSIONS: [Self; 4] = [
        Self::SmtAllowed,
        Self::MigrationAgent,
        Self::Debug,
        Self::CxlAllowed,
    ];

    /// The name in output.
    pub const fn name(self) -> &'static str {
        match self {
            Self::SmtAllowed => "SMT allowed",
            Self::ReservedOne => "the reserved bit",
            Self::MigrationAgent => "a migration agent allowed",
            Self::Debug => "DEBUG",
            Self::SingleSocket => "a single socket",
            Self::CxlAllowed => "CXL allowed",
            Self::Aes256Xts => "AES-256-XTS",
            Self::RaplDisabled => "RAPL disabled",
            Self::CiphertextHiding => "ciphertext hiding",
            Self::PageSwapDisabled => "page swap disabled",
        }
    }
}

impl fmt::Display for PolicyBit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What the guest was launched with (AMD 56860, "Guest Policy"). It is not part of the measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuestPolicy(pub u64);

impl GuestPolicy {
    /// Whether a flag is set.
    pub fn has(self, bit: PolicyBit) -> bool {
        self.0 >> (bit as u8) & 1 == 1
    }

    /// Bits that have no meaning known here.
    pub fn unknown_bits(self) -> u64 {
        self.0 >> (PolicyBit::PageSwapDisabled as u8 + 1) << (PolicyBit::PageSwapDisabled as u8 + 1)
    }

    /// The least firmware ABI that the guest runs on: major, minor.
    pub fn abi(self) -> (u8, u8) {
        ((self.0 >> 8) as u8, self.0 as u8)
    }
}

/// State of the machine. Bits without a name occur in the wild and are left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlatformInfo(pub u64);

impl PlatformInfo {
    /// SMT is on.
    pub fn smt(self) -> bool {
        self.0 & 1 << 0 != 0
    }

    /// DRAM ciphertext is hidden from the host.
    pub fn ciphertext_hiding(self) -> bool {
        self.0 & 1 << 4 != 0
    }

    /// Memory was searched for aliases since the last reset and none was found (the answer to BadRAM; version 3 on).
    pub fn alias_check_complete(self) -> bool {
        self.0 & 1 << 5 != 0
    }
}

/// Which key signed a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SigningKey {
    /// The chip's own, derived from its TCB.
    Vcek,
    /// One that AMD gave to a cloud provider.
    Vlek,
    /// None: the report is not signed.
    None,
}

/// The key flags: which key signed, and what it was asked to leave out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyInfo {
    /// The author key's digest is present.
    pub author_key: bool,
    /// The chip id is left out, and the VCEK must not sign.
    pub mask_chip_key: bool,
    /// Which key signed.
    pub signing_key: SigningKey,
}

/// Family (base and extended added up), model and stepping, as CPUID leaf 1 gives them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cpuid {
    /// 0x19 Milan and Genoa, 0x1a Turin.
    pub family: u8,
    /// Base and extended model together.
    pub model: u8,
    /// Stepping.
    pub stepping: u8,
}

impl Cpuid {
    /// From the register itself: EAX of leaf 1. Models above 255 do not exist.
    pub const fn from_signature(eax: u32) -> Self {
        let family = (eax >> 8 & 0xf) + (eax >> 20 & 0xff);
        Self {
            family: if family > 0xff { 0xff } else { family as u8 },
            model: (eax >> 4 & 0xf | eax >> 12 & 0xf0) as u8,
            stepping: (eax & 0xf) as u8,
        }
    }
}

/// A version of the SNP firmware.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FirmwareVersion {
    /// Major.
    pub major: u8,
    /// Minor.
    pub minor: u8,
    /// Build.
    pub build: u8,
}

/// A parsed report. TCB versions stay raw: their layout depends on the product.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// 2 to 5.
    pub version: u32,
    /// The guest's security version, from its ID block.
    pub guest_svn: u32,
    /// What the guest was launched with.
    pub policy: GuestPolicy,
    /// From the guest's ID block.
    pub family_id: [u8; 16],
    /// From the guest's ID block.
    pub image_id: [u8; 16],
    /// The privilege level that asked for the report; `0xffff_ffff` when the host did.
    pub vmpl: u32,
    /// What the machine runs now.
    pub current_tcb: RawTcb,
    /// State of the machine.
    pub platform_info: PlatformInfo,
    /// Which key signed.
    pub key_info: KeyInfo,
    /// What the guest wrote.
    pub report_data: [u8; 64],
    /// The launch digest.
    pub measurement: [u8; 48],
    /// What the host wrote at launch.
    pub host_data: [u8; 32],
    /// SHA-384 of the key that signed the ID block.
    pub id_key_digest: [u8; 48],
    /// SHA-384 of the key that signed that key.
    pub author_key_digest: [u8; 48],
    /// Number of this guest.
    pub report_id: [u8; 32],
    /// Number of its migration agent; ones when there is none.
    pub report_id_ma: [u8; 32],
    /// The TCB that the signing key was derived from.
    pub reported_tcb: RawTcb,
    /// The processor; none in version 2.
    pub cpuid: Option<Cpuid>,
    /// The chip; zeros when it is masked or the key is a VLEK.
    pub chip_id: [u8; 64],
    /// What the machine cannot go back behind.
    pub committed_tcb: RawTcb,
    /// Firmware that runs now.
    pub current_version: FirmwareVersion,
    /// Firmware that the machine cannot go back behind.
    pub committed_version: FirmwareVersion,
    /// What the machine ran when the guest was launched.
    pub launch_tcb: RawTcb,
    /// Mitigations in force at launch and now (version 4 on; observed zero in version 4).
    pub mitigation_vectors: Option<(u64, u64)>,
    /// The signature's r and s, big-endian.
    signature: signature::Scalars,
    signed: [u8; SIGNED_BYTES],
}

impl Report {
    /// Parses a report.
    ///
    /// # Errors
    /// [`ReportError`]; the first that is found, in the order of the enum except that reserved bytes come last.
    pub fn parse(bytes: &[u8]) -> Result<Self, ReportError> {
        let bytes: &[u8; REPORT_BYTES] = bytes
            .try_into()
            .map_err(|_| ReportError::Length { found: bytes.len() })?;
        let version = u32_at(bytes, 0);
        if !VERSIONS.contains(&version) {
            return Err(ReportError::Version { found: version });
        }
        let algorithm = u32_at(bytes, 0x34);
        if algorithm != ECDSA_P384_SHA384 {
            return Err(ReportError::SignatureAlgorithm { found: algorithm });
        }
        let key_info = key_info(u32_at(bytes, 0x48))?;
        check_reserved(bytes, version)?;
        Ok(Self {
            version,
            guest_svn: u32_at(bytes, 0x04),
            policy: GuestPolicy(u64_at(bytes, 0x08)),
            family_id: array_at(bytes, 0x10),
            image_id: array_at(bytes, 0x20),
            vmpl: u32_at(bytes, 0x30),
            current_tcb: RawTcb(array_at(bytes, 0x38)),
            platform_info: PlatformInfo(u64_at(bytes, 0x40)),
            key_info,
            report_data: array_at(bytes, 0x50),
            measurement: array_at(bytes, 0x90),
            host_data: array_at(bytes, 0xc0),
            id_key_digest: array_at(bytes, 0xe0),
            author_key_digest: array_at(bytes, 0x110),
            report_id: array_at(bytes, 0x140),
            report_id_ma: array_at(bytes, 0x160),
            reported_tcb: RawTcb(array_at(bytes, 0x180)),
            cpuid: (version >= 3).then(|| Cpuid {
                family: bytes[0x188],
                model: bytes[0x189],
                stepping: bytes[0x18a],
            }),
            chip_id: array_at(bytes, 0x1a0),
            committed_tcb: RawTcb(array_at(bytes, 0x1e0)),
            current_version: firmware_at(bytes, 0x1e8),
            committed_version: firmware_at(bytes, 0x1ec),
            launch_tcb: RawTcb(array_at(bytes, 0x1f0)),
            mitigation_vectors: (version >= 4)
                .then(|| (u64_at(bytes, 0x1f8), u64_at(bytes, 0x200))),
            signature: signature::Scalars {
                r: number_at(bytes, 0x2a0)?,
                s: number_at(bytes, 0x2e8)?,
            },
            signed: array_at(bytes, 0),
        })
    }

    /// Whether the report's signature is one of this key: ECDSA on P-384 over the SHA-384 of the first
    /// [`SIGNED_BYTES`]. As everywhere with ECDSA, (r, -s) is as good a signature as (r, s).
    pub fn is_signed_by(&self, key: &VerifyingKey) -> bool {
        signature::is_ecdsa(key, &self.signed, &self.signature)
    }
}

fn array_at<const N: usize>(bytes: &[u8; REPORT_BYTES], offset: usize) -> [u8; N] {
    *bytes[offset..]
        .first_chunk()
        .expect("every field lies within the report")
}

fn u32_at(bytes: &[u8; REPORT_BYTES], offset: usize) -> u32 {
    u32::from_le_bytes(array_at(bytes, offset))
}

fn u64_at(bytes: &[u8; REPORT_BYTES], offset: usize) -> u64 {
    u64::from_le_bytes(array_at(bytes, offset))
}

fn firmware_at(bytes: &[u8; REPORT_BYTES], offset: usize) -> FirmwareVersion {
    let [build, minor, major] = array_at(bytes, offset);
    FirmwareVersion {
        major,
        minor,
        build,
    }
}

/// A number of the signature, turned big-endian.
fn number_at(
    bytes: &[u8; REPORT_BYTES],
    offset: usize,
) -> Result<[u8; signature::SCALAR_BYTES], ReportError> {
    let number: [u8; NUMBER_BYTES] = array_at(bytes, offset);
    let (low, padding) = number.split_at(signature::SCALAR_BYTES);
    if let Some(index) = padding.iter().position(|byte| *byte != 0) {
        let offset = offset + signature::SCALAR_BYTES + index;
        return Err(ReportError::SignaturePadding { offset });
    }
    let mut scalar = [0; signature::SCALAR_BYTES];
    scalar.copy_from_slice(low);
    scalar.reverse();
    Ok(scalar)
}

fn key_info(found: u32) -> Result<KeyInfo, ReportError> {
    let signing_key = match found >> 2 {
        0 => SigningKey::Vcek,
        1 => SigningKey::Vlek,
        7 => SigningKey::None,
        _ => return Err(ReportError::KeyInfo { found }),
    };
    Ok(KeyInfo {
        author_key: found & 1 != 0,
        mask_chip_key: found & 2 != 0,
        signing_key,
    })
}

fn check_reserved(bytes: &[u8; REPORT_BYTES], version: u32) -> Result<(), ReportError> {
    for (name, range) in FIELDS {
        let zero = name == RESERVED
            || (name == CPUID && version < 3)
            || (name == MITIGATIONS && version < 4);
        if !zero {
            continue;
        }
        if let Some(index) = bytes[range.clone()].iter().position(|byte| *byte != 0) {
            let offset = range.start + index;
            return Err(ReportError::Reserved { offset });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
