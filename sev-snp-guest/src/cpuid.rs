//! The CPUID page: results that the security processor checked at launch against what the processor and the policy
//! allow (SNP firmware ABI, AMD publication 56860, section 8.17.2.6, PAGE_TYPE_CPUID). It is not measured.
//!
//! The page is private memory, but its content was the host's choice within what the firmware allows, so it is parsed
//! as anything else from outside.

use crate::address::PAGE_BYTES;
use core::fmt;
use core::mem::{offset_of, size_of};
use zerocopy::{FromBytes, Immutable, KnownLayout};

/// Entries that the page has room for.
pub const MAX_ENTRIES: usize = 64;

/// The leaf of the XSAVE area.
const XSAVE_LEAF: u32 = 0xd;
/// The legacy region and header, before any extended component.
const XSAVE_BASE_BYTES: u32 = 0x240;
/// EAX of leaf 0xD, subleaf 1: XSAVEC and XSAVES, either of which compacts the area.
const XSAVEC_OR_XSAVES: u32 = 1 << 1 | 1 << 3;

/// The four registers that CPUID fills.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct CpuidResult {
    /// EAX.
    pub eax: u32,
    /// EBX.
    pub ebx: u32,
    /// ECX.
    pub ecx: u32,
    /// EDX.
    pub edx: u32,
}

#[derive(Clone, Copy, FromBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Entry {
    eax_in: u32,
    ecx_in: u32,
    xcr0_in: u64,
    xss_in: u64,
    eax: u32,
    ebx: u32,
    ecx: u32,
    edx: u32,
    reserved: u64,
}

#[derive(FromBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Page {
    count: u32,
    reserved_04: u32,
    reserved_08: u64,
    entries: [Entry; MAX_ENTRIES],
    reserved_c10: [u64; 126],
}

const _: () = {
    assert!(size_of::<Entry>() == 48);
    assert!(offset_of!(Entry, ecx_in) == 0x04);
    assert!(offset_of!(Entry, xcr0_in) == 0x08);
    assert!(offset_of!(Entry, xss_in) == 0x10);
    assert!(offset_of!(Entry, eax) == 0x18);
    assert!(offset_of!(Entry, ebx) == 0x1c);
    assert!(offset_of!(Entry, ecx) == 0x20);
    assert!(offset_of!(Entry, edx) == 0x24);
    assert!(offset_of!(Entry, reserved) == 0x28);
    assert!(size_of::<Page>() == PAGE_BYTES);
    assert!(offset_of!(Page, entries) == 0x10);
    assert!(offset_of!(Page, reserved_c10) == 3088);
};

/// Why a CPUID page, or a question to it, was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CpuidError {
    /// More entries than the page has room for, or none.
    Count(u32),
    /// A reserved field of the header or of this entry is not zero.
    Reserved {
        /// The entry, or `None` for the header.
        entry: Option<usize>,
    },
    /// Two entries are for the same question and differ.
    Contradiction {
        /// The leaf.
        leaf: u32,
        /// The subleaf.
        subleaf: u32,
    },
    /// Leaf 0xD: XCR0 or XSS enable a component that the page does not describe, or the area is compacted by neither
    /// XSAVEC nor XSAVES.
    Xsave,
}

impl fmt::Display for CpuidError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => write!(f, "the CPUID page has {count} entries"),
            Self::Reserved { entry } => {
                write!(
                    f,
                    "a reserved field of the CPUID page is set (entry {entry:?})"
                )
            }
            Self::Contradiction { leaf, subleaf } => {
                write!(
                    f,
                    "the CPUID page contradicts itself in {leaf:#x}.{subleaf:#x}"
                )
            }
            Self::Xsave => f.write_str("the CPUID page does not describe the XSAVE area in use"),
        }
    }
}

impl core::error::Error for CpuidError {}

/// What CPUID depends on beyond leaf and subleaf: state of the processor that asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuState {
    /// XCR0; 1 while CR4.OSXSAVE is clear.
    pub xcr0: u64,
    /// The XSS MSR; 0 if it was never written.
    pub xss: u64,
    /// CR4.OSXSAVE.
    pub os_xsave: bool,
    /// CR4.PKE.
    pub os_pke: bool,
    /// The APIC id. Nothing vouches for it: the hypervisor chooses.
    pub apic_id: u32,
}

impl CpuState {
    /// A processor whose CR4, XCR0 and XSS are as at reset.
    pub const RESET: Self = Self {
        xcr0: 1,
        xss: 0,
        os_xsave: false,
        os_pke: false,
        apic_id: 0,
    };
}

/// A parsed copy of the CPUID page.
pub struct CpuidTable {
    entries: [Entry; MAX_ENTRIES],
    count: usize,
}

impl CpuidTable {
    /// Parses the page.
    ///
    /// # Errors
    /// No entries or too many, reserved fields that are set, entries that contradict each other.
    pub fn parse(page: &[u8; PAGE_BYTES]) -> Result<Self, CpuidError> {
        let page: Page = zerocopy::transmute!(*page);
        let count = page.count as usize;
        if count == 0 || count > MAX_ENTRIES {
            return Err(CpuidError::Count(page.count));
        }
        if page.reserved_04 != 0 || page.reserved_08 != 0 {
            return Err(CpuidError::Reserved { entry: None });
        }
        let table = Self {
            entries: page.entries,
            count,
        };
        table.check()?;
        Ok(table)
    }

    fn entries(&self) -> &[Entry] {
        &self.entries[..self.count]
    }

    fn check(&self) -> Result<(), CpuidError> {
        for (index, entry) in self.entries().iter().enumerate() {
            if entry.reserved != 0 {
                return Err(CpuidError::Reserved { entry: Some(index) });
            }
            let before = &self.entries[..index];
            if before.iter().any(|other| entry.contradicts(other)) {
                return Err(CpuidError::Contradiction {
                    leaf: entry.eax_in,
                    subleaf: entry.ecx_in,
                });
            }
        }
        Ok(())
    }

    /// What the page says of a leaf and subleaf, without what depends on the processor's state; zeros if it says
    /// nothing. The subleaf counts only for leaves that have subleaves.
    pub fn get(&self, leaf: u32, subleaf: u32) -> CpuidResult {
        let entry = self.entries().iter().find(|entry| {
            entry.eax_in == leaf
                && (!has_subleaves(leaf) || entry.ecx_in == subleaf)
                && entry.is_base_of_xsave()
        });
        entry.map_or_else(CpuidResult::default, Entry::result)
    }

    /// CPUID as the processor in `state` would answer it: the page, with the fields that depend on the state filled
    /// in. A leaf that the page does not have is all zeros, within the ranges of leaves and beyond.
    ///
    /// # Errors
    /// The size of the XSAVE area was asked for, and the page does not describe all of its components.
    pub fn cpuid(
        &self,
        leaf: u32,
        subleaf: u32,
        state: &CpuState,
    ) -> Result<CpuidResult, CpuidError> {
        let mut result = self.get(leaf, subleaf);
        if result == CpuidResult::default() {
            return Ok(result);
        }
        match (leaf, subleaf) {
            (1, _) => {
                result.ebx = result.ebx & 0x00ff_ffff | state.apic_id << 24;
                set_bit(&mut result.ecx, 27, state.os_xsave);
            }
            (7, 0) => set_bit(&mut result.ecx, 4, state.os_pke),
            (0xb, _) => result.edx = state.apic_id,
            (XSAVE_LEAF, 0) => result.ebx = self.xsave_bytes(state.xcr0)?,
            (XSAVE_LEAF, 1) => {
                if result.eax & XSAVEC_OR_XSAVES == 0 {
                    return Err(CpuidError::Xsave);
                }
                result.ebx = self.compacted_xsave_bytes(state.xcr0 | state.xss)?;
            }
            (0x8000_001e, _) => result.eax = state.apic_id,
            _ => {}
        }
        Ok(result)
    }

    /// Size of the area that XSAVE writes, standard format: up to the end of the last component.
    fn xsave_bytes(&self, components: u64) -> Result<u32, CpuidError> {
        self.fold_components(components, |size, entry| {
            Some(size.max(entry.eax.checked_add(entry.ebx)?))
        })
    }

    /// Size of the area that XSAVEC and XSAVES write: components one behind another.
    fn compacted_xsave_bytes(&self, components: u64) -> Result<u32, CpuidError> {
        self.fold_components(components, |size, entry| size.checked_add(entry.eax))
    }

    /// Goes through the entries of the extended components (2 to 63) in a set; each must be there.
    fn fold_components(
        &self,
        components: u64,
        step: impl Fn(u32, &Entry) -> Option<u32>,
    ) -> Result<u32, CpuidError> {
        (2..u64::BITS)
            .filter(|component| components & 1 << component != 0)
            .try_fold(XSAVE_BASE_BYTES, |size, component| {
                let entry = self
                    .entries()
                    .iter()
                    .find(|entry| entry.eax_in == XSAVE_LEAF && entry.ecx_in == component)?;
                step(size, entry)
            })
            .ok_or(CpuidError::Xsave)
    }
}

impl Entry {
    fn result(&self) -> CpuidResult {
        CpuidResult {
            eax: self.eax,
            ebx: self.ebx,
            ecx: self.ecx,
            edx: self.edx,
        }
    }

    fn contradicts(&self, other: &Self) -> bool {
        let question = |entry: &Self| (entry.eax_in, entry.ecx_in, entry.xcr0_in, entry.xss_in);
        question(self) == question(other) && self.result() != other.result()
    }

    /// Subleaves 0 and 1 of leaf 0xD may be there for several values of XCR0 and XSS. Only those for the least state
    /// count; the size for any other is computed from the components.
    fn is_base_of_xsave(&self) -> bool {
        let depends_on_state = self.eax_in == XSAVE_LEAF && self.ecx_in <= 1;
        !depends_on_state || matches!(self.xcr0_in, 1 | 3) && self.xss_in == 0
    }
}

/// The leaves whose result depends on ECX.
const fn has_subleaves(leaf: u32) -> bool {
    matches!(
        leaf,
        0x4 | 0x7
            | 0xb
            | 0xd
            | 0xf
            | 0x10
            | 0x12
            | 0x14
            | 0x17
            | 0x18
            | 0x1d
            | 0x1e
            | 0x1f
            | 0x8000_001d
    )
}

fn set_bit(register: &mut u32, bit: u32, value: bool) {
    *register = *register & !(1 << bit) | u32::from(value) << bit;
}

#[cfg(test)]
mod tests;
