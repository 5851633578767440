//! Processor families that have SEV-SNP.

use crate::report::Cpuid;
use crate::tcb::TcbLayout;
use core::fmt;

/// A family of processors with one chain of certificates. AMD names it after the first of them: Bergamo and Siena are
/// Genoa here, Milan-X is Milan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Product {
    /// EPYC 7003.
    Milan,
    /// EPYC 9004, 8004, 97x4.
    Genoa,
    /// EPYC 9005.
    Turin,
}

impl Product {
    /// Every product.
    pub const ALL: [Self; 3] = [Self::Milan, Self::Genoa, Self::Turin];

    /// The name in certificates and in output.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Milan => "Milan",
            Self::Genoa => "Genoa",
            Self::Turin => "Turin",
        }
    }

    /// From a name, with or without a stepping behind it: `Milan`, `Milan-B0`.
    pub fn from_name(name: &str) -> Option<Self> {
        let name = name.split_once('-').map_or(name, |(name, _)| name);
        Self::ALL.into_iter().find(|product| product.name() == name)
    }

    /// From what a report says of the processor.
    pub fn from_cpuid(cpuid: Cpuid) -> Option<Self> {
        match (cpuid.family, cpuid.model) {
            (0x19, 0x00..=0x0f) => Some(Self::Milan),
            (0x19, 0x10..=0x1f | 0xa0..=0xaf) => Some(Self::Genoa),
            (0x1a, 0x00..=0x11) => Some(Self::Turin),
            _ => None,
        }
    }

    /// How its TCB versions are laid out.
    pub const fn tcb_layout(self) -> TcbLayout {
        match self {
            Self::Milan | Self::Genoa => TcbLayout::Milan,
            Self::Turin => TcbLayout::Turin,
        }
    }

    /// Bytes of the chip id, and of the hwID in a VCEK.
    pub const fn chip_id_bytes(self) -> usize {
        match self {
            Self::Milan | Self::Genoa => 64,
            Self::Turin => 8,
        }
    }
}

impl fmt::Display for Product {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
