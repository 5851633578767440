//! The VMSA: a CPU's private state (AMD64 manual, volume 2, table B-4).

use crate::page::Page;

/// A segment register's offset and its parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Selector.
    pub selector: u16,
    /// Attributes: descriptor bits 40..48 and 52..56.
    pub attributes: u16,
    /// Limit in bytes.
    pub limit: u32,
    /// Base address.
    pub base: u64,
}

impl Segment {
    /// Reads one at an offset of a VMSA, or of a VMCB's save area.
    pub fn read(page: &Page, offset: usize) -> Self {
        Self {
            selector: page.u16(offset),
            attributes: page.u16(offset + 2),
            limit: page.u32(offset + 4),
            base: page.u64(offset + 8),
        }
    }

    /// Writes one.
    pub fn write(self, page: &mut Page, offset: usize) {
        page.set_u16(offset, self.selector);
        page.set_u16(offset + 2, self.attributes);
        page.set_u32(offset + 4, self.limit);
        page.set_u64(offset + 8, self.base);
    }
}

/// Field offsets; those below 0x298 are also those of a VMCB's save area.
pub mod field {
    #![expect(missing_docs, reason = "named as the manual names the registers")]
    pub const ES: usize = 0x000;
    pub const CS: usize = 0x010;
    pub const SS: usize = 0x020;
    pub const DS: usize = 0x030;
    pub const FS: usize = 0x040;
    pub const GS: usize = 0x050;
    pub const GDTR: usize = 0x060;
    pub const LDTR: usize = 0x070;
    pub const IDTR: usize = 0x080;
    pub const TR: usize = 0x090;
    pub const VMPL: usize = 0x0ca;
    pub const CPL: usize = 0x0cb;
    pub const EFER: usize = 0x0d0;
    pub const CR4: usize = 0x148;
    pub const CR3: usize = 0x150;
    pub const CR0: usize = 0x158;
    pub const DR7: usize = 0x160;
    pub const DR6: usize = 0x168;
    pub const RFLAGS: usize = 0x170;
    pub const RIP: usize = 0x178;
    pub const RSP: usize = 0x1d8;
    pub const RAX: usize = 0x1f8;
    pub const CR2: usize = 0x240;
    pub const G_PAT: usize = 0x268;
    /// RAX's neighbours are not in a VMCB: RCX here, RDX, RBX, then RBP, RSI, RDI, R8 to R15.
    pub const RCX: usize = 0x308;
    pub const RDX: usize = 0x310;
    pub const RBX: usize = 0x318;
    pub const RBP: usize = 0x328;
    pub const RSI: usize = 0x330;
    pub const RDI: usize = 0x338;
    pub const R8: usize = 0x340;
    pub const SEV_FEATURES: usize = 0x3b0;
    pub const VIRTUAL_TOM: usize = 0x3c8;
    pub const XCR0: usize = 0x3e8;
    pub const MXCSR: usize = 0x408;
    pub const X87_FTW: usize = 0x40c;
    pub const X87_FSW: usize = 0x40e;
    pub const X87_FCW: usize = 0x410;
}

/// Guest-physical address under which KVM measures every VMSA.
pub const MEASURED_GPA: u64 = 0x0000_ffff_ffff_f000;
/// `SEV_FEATURES`: SNP is active.
pub const SNP_ACTIVE: u64 = 1;

/// The first CPU's reset vector: CS base 0xffff0000, IP 0xfff0.
pub const RESET_VECTOR: u32 = 0xffff_fff0;

/// The state that QEMU and KVM (Linux 6.10 and newer) give a CPU that begins at `reset_address`.
pub fn reset_vmsa(reset_address: u32, cpu_signature: u32) -> Page {
    let mut page = Page::ZERO;
    let segment = |attributes: u16, selector: u16, base: u64| Segment {
        selector,
        attributes,
        limit: 0xffff,
        base,
    };
    for offset in [field::ES, field::SS, field::DS, field::FS, field::GS] {
        segment(0x93, 0, 0).write(&mut page, offset);
    }
    let code_base = u64::from(reset_address & 0xffff_0000);
    segment(0x9b, 0xf000, code_base).write(&mut page, field::CS);
    segment(0, 0, 0).write(&mut page, field::GDTR);
    segment(0x82, 0, 0).write(&mut page, field::LDTR);
    segment(0, 0, 0).write(&mut page, field::IDTR);
    segment(0x8b, 0, 0).write(&mut page, field::TR);
    page.set_u64(field::EFER, 0x1000);
    page.set_u64(field::CR4, 0x40);
    page.set_u64(field::CR0, 0x10);
    page.set_u64(field::DR7, 0x400);
    page.set_u64(field::DR6, 0xffff_0ff0);
    page.set_u64(field::RFLAGS, 2);
    page.set_u64(field::RIP, u64::from(reset_address & 0xffff));
    page.set_u64(field::G_PAT, 0x0007_0406_0007_0406);
    page.set_u64(field::RDX, cpu_signature.into());
    page.set_u64(field::SEV_FEATURES, SNP_ACTIVE);
    page.set_u64(field::XCR0, 1);
    page.set_u32(field::MXCSR, 0x1f80);
    page.set_u16(field::X87_FCW, 0x37f);
    page
}

#[cfg(test)]
mod tests {
    use super::*;
    use sha2::{Digest, Sha384};

    fn hash(page: &Page) -> String {
        let digest = Sha384::digest(page.bytes());
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Digests of what `sev-snp-measure --dump-vmsa` writes for EPYC-Milan and guest features 1.
    #[test]
    fn reset_states_are_those_of_sev_snp_measure() {
        assert_eq!(
            hash(&reset_vmsa(RESET_VECTOR, 0x00a0_0f11)),
            "728af287318db5f3fc4d2357a969483c4225956dc555b514a78d64ee372112d13b3dca8afd02cdbd1c55697d8ce087f5"
        );
        assert_eq!(
            hash(&reset_vmsa(0x0080_b004, 0x00a0_0f11)),
            "24d6d6fe1cc2fd76d9504a2e411e2a1e229a6723c94521c373c21dd97514c44895fc07fea07e04b4186d90160c8dad0b"
        );
    }
}
