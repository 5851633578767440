//! The launch digest (SNP firmware ABI, 8.17.2): every page extends a SHA-384 chain.

use crate::page::Page;
use sha2::{Digest, Sha384};

/// Bytes of the digest.
pub const DIGEST_BYTES: usize = 48;
/// Bytes of the `PAGE_INFO` structure that is hashed for each page.
const PAGE_INFO_BYTES: usize = 0x70;

/// How a page takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageKind {
    /// Contents are hashed.
    Normal,
    /// Contents are hashed; the page is a CPU's first state.
    Vmsa,
    /// Only the address is.
    Zero,
    /// Only the address is; the firmware fills the page.
    Secrets,
    /// Only the address is; the firmware checks the page.
    Cpuid,
}

impl PageKind {
    /// Value of the field `PAGE_TYPE`.
    fn code(self) -> u8 {
        match self {
            Self::Normal => 1,
            Self::Vmsa => 2,
            Self::Zero => 3,
            Self::Secrets => 5,
            Self::Cpuid => 6,
        }
    }

    fn is_hashed(self) -> bool {
        matches!(self, Self::Normal | Self::Vmsa)
    }
}

/// A digest in the making.
#[derive(Clone, Debug)]
pub struct LaunchDigest([u8; DIGEST_BYTES]);

impl LaunchDigest {
    /// Before the first page.
    pub const START: Self = Self([0; DIGEST_BYTES]);

    /// Adds a page at a guest-physical address.
    pub fn add(&mut self, kind: PageKind, gpa: u64, contents: &Page) {
        let mut info = [0; PAGE_INFO_BYTES];
        info[..0x30].copy_from_slice(&self.0);
        if kind.is_hashed() {
            info[0x30..0x60].copy_from_slice(&Sha384::digest(contents.bytes()));
        }
        info[0x60..0x62].copy_from_slice(&(PAGE_INFO_BYTES as u16).to_le_bytes());
        info[0x62] = kind.code();
        info[0x68..].copy_from_slice(&gpa.to_le_bytes());
        self.0.copy_from_slice(&Sha384::digest(info));
    }

    /// The digest of all pages so far.
    pub fn value(&self) -> [u8; DIGEST_BYTES] {
        self.0
    }
}
