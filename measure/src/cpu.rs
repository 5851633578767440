//! CPU models: what a vCPU finds in EDX when it starts, `CPUID Fn0000_0001_EAX`.

use std::fmt;
use std::str::FromStr;

/// A CPU model: a name that QEMU's `-cpu` knows, or a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CpuModel {
    name: Option<&'static str>,
    signature: u32,
}

impl CpuModel {
    /// First generation (Naples).
    pub const EPYC: Self = Self::named("EPYC", 23, 1, 2);
    /// Second generation.
    pub const ROME: Self = Self::named("EPYC-Rome", 23, 49, 0);
    /// Third generation; the first with SEV-SNP.
    pub const MILAN: Self = Self::named("EPYC-Milan", 25, 1, 1);
    /// Fourth generation.
    pub const GENOA: Self = Self::named("EPYC-Genoa", 25, 17, 0);
    /// Fifth generation.
    pub const TURIN: Self = Self::named("EPYC-Turin", 26, 0, 0);

    /// Every named model.
    pub const ALL: [Self; 5] = [
        Self::EPYC,
        Self::ROME,
        Self::MILAN,
        Self::GENOA,
        Self::TURIN,
    ];

    const fn named(name: &'static str, family: u32, model: u32, stepping: u32) -> Self {
        Self {
            name: Some(name),
            signature: signature(family, model, stepping),
        }
    }

    /// The model with this `CPUID Fn0000_0001_EAX`, as `-cpu host` shows the host's.
    pub fn from_signature(signature: u32) -> Self {
        let named = Self::ALL.into_iter().find(|cpu| cpu.signature == signature);
        named.unwrap_or(Self {
            name: None,
            signature,
        })
    }

    /// The model with this family, model and stepping, each as one number.
    pub fn from_family_model_stepping(family: u8, model: u8, stepping: u8) -> Self {
        Self::from_signature(signature(family.into(), model.into(), stepping.into()))
    }

    /// `CPUID Fn0000_0001_EAX`.
    pub fn signature(self) -> u32 {
        self.signature
    }
}

/// `CPUID Fn0000_0001_EAX` (AMD publication 25481): extended family, extended model, base family,
/// base model, stepping.
const fn signature(family: u32, model: u32, stepping: u32) -> u32 {
    let (base, extended) = if family > 15 {
        (15, (family - 15) & 0xff)
    } else {
        (family, 0)
    };
    extended << 20 | (model >> 4 & 15) << 16 | base << 8 | (model & 15) << 4 | stepping & 15
}

impl fmt::Display for CpuModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name {
            Some(name) => f.pad(name),
            None => write!(f, "{:#010x}", self.signature),
        }
    }
}

/// A text that names no CPU model.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseCpuModelError {
    /// `host` is whatever the host has.
    #[error(
        "with `-cpu host` the digest depends on the host's processor; give its \
         CPUID Fn0000_0001_EAX instead, for instance 0x00a10f11"
    )]
    Host,
    /// No known name and no signature.
    #[error(
        "unknown CPU model \"{0}\"; known are EPYC, EPYC-Rome, EPYC-Milan, EPYC-Genoa and \
         EPYC-Turin, each also with a version as in EPYC-Milan-v2, and a \
         CPUID Fn0000_0001_EAX as in 0x00a10f11"
    )]
    Unknown(String),
}

impl FromStr for CpuModel {
    type Err = ParseCpuModelError;

    /// Reads a name, with QEMU's version behind it or not, or a signature `0x...`. Versions of a
    /// model differ in features, not in the signature.
    fn from_str(text: &str) -> Result<Self, ParseCpuModelError> {
        let unknown = || ParseCpuModelError::Unknown(text.to_owned());
        let lower = text.to_ascii_lowercase();
        if lower == "host" {
            return Err(ParseCpuModelError::Host);
        }
        if let Some(digits) = lower.strip_prefix("0x") {
            let hexadecimal = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
            let signature = u32::from_str_radix(digits, 16).ok().filter(|_| hexadecimal);
            return signature.map(Self::from_signature).ok_or_else(unknown);
        }
        let base = match lower.rsplit_once('-') {
            Some((base, version)) if is_version(version) => base,
            _ => lower.as_str(),
        };
        let named = |cpu: &Self| cpu.name.is_some_and(|name| name.eq_ignore_ascii_case(base));
        Self::ALL.into_iter().find(named).ok_or_else(unknown)
    }
}

/// `v` and a number of one or two digits, or QEMU's old variant of the first model.
fn is_version(text: &str) -> bool {
    let numbered = text.strip_prefix('v').is_some_and(|number| {
        (1..=2).contains(&number.len()) && number.bytes().all(|digit| digit.is_ascii_digit())
    });
    numbered || text == "ibpb"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_are_those_of_the_processors() {
        let signatures = CpuModel::ALL.map(CpuModel::signature);
        assert_eq!(
            signatures,
            [0x800f12, 0x830f10, 0xa00f11, 0xa10f10, 0xb00f00]
        );
        // A Genoa B1 and a Turin C1.
        assert_eq!(
            CpuModel::from_family_model_stepping(25, 17, 1).signature(),
            0xa10f11
        );
        assert_eq!(
            CpuModel::from_family_model_stepping(26, 2, 1).signature(),
            0xb00f21
        );
    }

    #[test]
    fn names_versions_and_signatures_are_read() {
        for (text, cpu) in [
            ("EPYC", CpuModel::EPYC),
            ("EPYC-v4", CpuModel::EPYC),
            ("EPYC-IBPB", CpuModel::EPYC),
            ("epyc-rome-v3", CpuModel::ROME),
            ("EPYC-Milan-v2", CpuModel::MILAN),
            ("EPYC-Genoa", CpuModel::GENOA),
            ("EPYC-Turin-v1", CpuModel::TURIN),
            ("0x00A00F11", CpuModel::MILAN),
        ] {
            assert_eq!(text.parse(), Ok(cpu), "{text}");
        }
        let host: CpuModel = "0xa10f11".parse().expect("a signature");
        assert_eq!(host.to_string(), "0x00a10f11");
        assert_eq!(host.to_string().parse(), Ok(host));
    }

    #[test]
    fn other_texts_are_refused() {
        assert_eq!("host".parse::<CpuModel>(), Err(ParseCpuModelError::Host));
        for text in [
            "",
            "EPYC-",
            "EPYC-v",
            "EPYC-v123",
            "Skylake-Server",
            "0x",
            "0x+1",
            "0x123456789",
        ] {
            let error = text.parse::<CpuModel>().expect_err(text);
            assert_eq!(error, ParseCpuModelError::Unknown(text.to_owned()));
        }
    }
}
