//! The CPUID page (SNP firmware ABI, 8.17.2.6) and what an SNP guest is told about its processor.

use crate::page::{C_BIT_POSITION, Page};

/// Entries that the page has room for.
pub const MAX_ENTRIES: usize = 64;
/// Offset of the first entry.
pub const FIRST_ENTRY: usize = 0x10;
/// Bytes of an entry.
pub const ENTRY_BYTES: usize = 48;
/// Offset of EAX in an entry; EBX, ECX and EDX follow.
pub const REGISTERS: usize = 0x18;
/// Leaf with the SEV features.
const SEV_LEAF: u32 = 0x8000_001f;
/// SEV, SEV-ES, SEV-SNP.
const SEV_FEATURES: u32 = 1 << 1 | 1 << 3 | 1 << 4;
/// A guest-physical address has so many bits, and so has a virtual one.
const ADDRESS_BITS: u32 = 48 | 48 << 8;
/// Bytes of the x87 and SSE state with the XSAVE header.
const XSAVE_LEGACY_BYTES: u32 = 0x240;

const LEAF1_ECX_TSC_DEADLINE: u32 = 1 << 24;
/// Set while CR4.OSXSAVE is.
pub const LEAF1_ECX_OSXSAVE: u32 = 1 << 27;
const LEAF1_ECX_HYPERVISOR: u32 = 1 << 31;
const LEAF7_EBX_TSC_ADJUST: u32 = 1 << 1;
const LEAF7_ECX_OSPKE: u32 = 1 << 4;
const LEAF7_ECX_LA57: u32 = 1 << 16;
/// SPEC_CTRL, STIBP, L1D_FLUSH, ARCH_CAPABILITIES, CORE_CAPABILITIES, SSBD: QEMU masks them for SNP.
const LEAF7_EDX_MASKED: u32 = 0x3f << 26;
const EXTENDED1_ECX_SVM: u32 = 1 << 2;

/// EAX, EBX, ECX, EDX.
pub type Registers = [u32; 4];

/// What the processor reports: leaf, subleaf to registers.
pub trait Processor {
    /// The instruction CPUID.
    fn cpuid(&self, leaf: u32, subleaf: u32) -> Registers;
}

impl<F: Fn(u32, u32) -> Registers> Processor for F {
    fn cpuid(&self, leaf: u32, subleaf: u32) -> Registers {
        self(leaf, subleaf)
    }
}

/// What the guest is told: the processor's answer, with SNP and without what the guest cannot use.
pub fn for_guest(processor: &impl Processor, leaf: u32, subleaf: u32) -> Registers {
    let [mut eax, mut ebx, mut ecx, mut edx] = processor.cpuid(leaf, subleaf);
    match (leaf, subleaf) {
        (1, _) => {
            ecx &= !(LEAF1_ECX_TSC_DEADLINE | LEAF1_ECX_OSXSAVE);
            ecx |= LEAF1_ECX_HYPERVISOR;
        }
        (7, 0) => {
            ebx &= !LEAF7_EBX_TSC_ADJUST;
            ecx &= !(LEAF7_ECX_LA57 | LEAF7_ECX_OSPKE);
            edx &= !LEAF7_EDX_MASKED;
        }
        (0xd, 0 | 1) => ebx = XSAVE_LEGACY_BYTES,
        (0x8000_0000, _) => eax = eax.max(SEV_LEAF),
        (0x8000_0001, _) => ecx &= !EXTENDED1_ECX_SVM,
        (0x8000_0008, _) => eax = eax & !0xffff | ADDRESS_BITS,
        (0x8000_000a, _) => (eax, ebx, ecx, edx) = (0, 0, 0, 0),
        (SEV_LEAF, _) => {
            (eax, ebx) = (SEV_FEATURES, C_BIT_POSITION | 1 << 6);
            (ecx, edx) = (0, 0);
        }
        _ => (),
    }
    [eax, ebx, ecx, edx]
}

/// Leaf 0xD, EBX: bytes of the XSAVE area with these state components, in the standard format
/// (subleaf 0) or the compacted one (subleaf 1).
pub fn xsave_bytes(processor: &impl Processor, components: u64, compacted: bool) -> u32 {
    let extended = (2..63).filter(|component| components >> component & 1 != 0);
    extended.fold(XSAVE_LEGACY_BYTES, |total, component| {
        let [bytes, offset, ..] = processor.cpuid(0xd, component);
        if compacted {
            total + bytes
        } else {
            total.max(offset + bytes)
        }
    })
}

/// The subleaves of a leaf that the page lists.
fn subleaves(leaf: u32) -> u32 {
    match leaf {
        4 | 0x8000_001d => 4,
        7 | 0xb => 2,
        0xd => 16,
        _ => 1,
    }
}

/// Builds the page. Leaves of zeros are left out, as a reader takes what is missing as zero.
pub fn cpuid_page(processor: &impl Processor) -> Page {
    let mut page = Page::ZERO;
    let mut count = 0;
    let standard = for_guest(processor, 0, 0)[0].min(0x20);
    let extended = for_guest(processor, 0x8000_0000, 0)[0].clamp(0x8000_0000, 0x8000_0030);
    let leaves = (0..=standard)
        .chain(0x4000_0000..=0x4000_0001)
        .chain(0x8000_0000..=extended);
    for leaf in leaves {
        for subleaf in 0..subleaves(leaf) {
            let registers = for_guest(processor, leaf, subleaf);
            let needed = registers != [0; 4] || subleaf == 0 && leaf == 0;
            if needed && count < MAX_ENTRIES {
                write_entry(&mut page, count, leaf, subleaf, registers);
                count += 1;
            }
        }
    }
    page.set_u32(0, count as u32);
    page
}

fn write_entry(page: &mut Page, index: usize, leaf: u32, subleaf: u32, registers: Registers) {
    let at = FIRST_ENTRY + index * ENTRY_BYTES;
    page.set_u32(at, leaf);
    page.set_u32(at + 4, subleaf);
    if leaf == 0xd && subleaf < 2 {
        // The state components that the size in EBX is given for.
        page.set_u64(at + 0x08, 1);
    }
    for (register, value) in registers.into_iter().enumerate() {
        page.set_u32(at + REGISTERS + register * 4, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all_ones(leaf: u32, subleaf: u32) -> Registers {
        match leaf {
            _ if subleaf > 0 => [0; 4],
            0 => [0xd, 1, 2, 3],
            0x8000_0000 => [0x8000_001e, 0, 0, 0],
            _ => [u32::MAX; 4],
        }
    }

    #[test]
    fn an_xsave_area_is_as_long_as_its_components() {
        let processor = |_, subleaf| match subleaf {
            2 => [0x100, 0x240, 0, 0],
            9 => [8, 0xa80, 0, 0],
            _ => [0; 4],
        };
        assert_eq!(xsave_bytes(&processor, 3, false), 0x240);
        assert_eq!(xsave_bytes(&processor, 0x207, false), 0xa88);
        assert_eq!(xsave_bytes(&processor, 0x207, true), 0x348);
    }

    #[test]
    fn the_page_offers_snp_and_hides_what_only_l0_uses() {
        let page = cpuid_page(&all_ones);
        let entries = 0..page.u32(0) as usize;
        let find = |leaf| {
            let at = |index| FIRST_ENTRY + index * ENTRY_BYTES;
            let found = entries.clone().find(|index| page.u32(at(*index)) == leaf);
            found.map(|index| [0, 1, 2, 3].map(|r| page.u32(at(index) + 0x18 + r * 4)))
        };
        assert_eq!(find(0x8000_0000).map(|r| r[0]), Some(SEV_LEAF));
        assert_eq!(find(SEV_LEAF).map(|r| (r[0], r[1])), Some((0x1a, 0x73)));
        assert_eq!(find(7).map(|r| r[2] & LEAF7_ECX_LA57), Some(0));
        assert_eq!(find(0x8000_0008).map(|r| r[0] & 0xffff), Some(0x3030));
        assert!(page.u32(0) <= 64);
    }
}
