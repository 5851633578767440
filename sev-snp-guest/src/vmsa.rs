//! The save area that a processor starts from (AMD64 APM volume 2, table B-4).

use crate::address::PAGE_BYTES;
use crate::rmp::Vmpl;
use crate::status::SevStatus;
use core::mem::{offset_of, size_of};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

/// A segment register.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
pub struct Segment {
    /// The selector.
    pub selector: u16,
    /// Bits 55:52 and 47:40 of a descriptor, as bits 11:8 and 7:0.
    pub attributes: u16,
    /// The limit in bytes.
    pub limit: u32,
    /// The base address.
    pub base: u64,
}

impl Segment {
    /// A segment register.
    pub const fn new(selector: u16, attributes: u16, limit: u32, base: u64) -> Self {
        Self {
            selector,
            attributes,
            limit,
            base,
        }
    }
}

/// The save area of a processor: one page. Register fields have the names of the registers.
#[derive(Clone, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
#[expect(missing_docs, reason = "fields are registers, and have their names")]
pub struct Vmsa {
    pub es: Segment,
    pub cs: Segment,
    pub ss: Segment,
    pub ds: Segment,
    pub fs: Segment,
    pub gs: Segment,
    pub gdtr: Segment,
    pub ldtr: Segment,
    pub idtr: Segment,
    pub tr: Segment,
    pub pl0_ssp: u64,
    pub pl1_ssp: u64,
    pub pl2_ssp: u64,
    pub pl3_ssp: u64,
    pub u_cet: u64,
    reserved_0c8: [u8; 2],
    pub vmpl: u8,
    pub cpl: u8,
    reserved_0cc: [u8; 4],
    pub efer: u64,
    reserved_0d8: [u8; 0x68],
    pub xss: u64,
    pub cr4: u64,
    pub cr3: u64,
    pub cr0: u64,
    pub dr7: u64,
    pub dr6: u64,
    pub rflags: u64,
    pub rip: u64,
    pub dr0: u64,
    pub dr1: u64,
    pub dr2: u64,
    pub dr3: u64,
    pub dr0_address_mask: u64,
    pub dr1_address_mask: u64,
    pub dr2_address_mask: u64,
    pub dr3_address_mask: u64,
    reserved_1c0: [u8; 0x18],
    pub rsp: u64,
    pub s_cet: u64,
    pub ssp: u64,
    pub interrupt_ssp_table: u64,
    pub rax: u64,
    pub star: u64,
    pub lstar: u64,
    pub cstar: u64,
    pub sfmask: u64,
    pub kernel_gs_base: u64,
    pub sysenter_cs: u64,
    pub sysenter_esp: u64,
    pub sysenter_eip: u64,
    pub cr2: u64,
    reserved_248: [u8; 0x20],
    pub g_pat: u64,
    pub dbgctl: u64,
    pub branch_from: u64,
    pub branch_to: u64,
    pub last_exception_from: u64,
    pub last_exception_to: u64,
    reserved_298: [u8; 0x50],
    pub pkru: u32,
    pub tsc_aux: u32,
    pub guest_tsc_scale: u64,
    pub guest_tsc_offset: u64,
    pub register_protection_nonce: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rbx: u64,
    reserved_320: u64,
    pub rbp: u64,
    pub rsi: u64,
    pub rdi: u64,
    pub r8: u64,
    pub r9: u64,
    pub r10: u64,
    pub r11: u64,
    pub r12: u64,
    pub r13: u64,
    pub r14: u64,
    pub r15: u64,
    reserved_380: [u8; 0x10],
    pub guest_exit_info_1: u64,
    pub guest_exit_info_2: u64,
    pub guest_exit_interrupt_info: u64,
    pub guest_next_rip: u64,
    pub sev_features: u64,
    pub vintr_control: u64,
    pub guest_exit_code: u64,
    pub virtual_tom: u64,
    pub tlb_id: u64,
    pub pcpu_id: u64,
    pub event_injection: u64,
    pub xcr0: u64,
    reserved_3f0: [u8; 0x10],
    pub x87_dp: u64,
    pub mxcsr: u32,
    pub x87_ftw: u16,
    pub x87_fsw: u16,
    pub x87_fcw: u16,
    pub x87_fop: u16,
    pub x87_ds: u16,
    pub x87_cs: u16,
    pub x87_rip: u64,
    pub x87_registers: [u8; 80],
    pub xmm_registers: [u8; 256],
    pub ymm_high_registers: [u8; 256],
    reserved_670: [u8; 0x990],
}

const _: () = {
    assert!(size_of::<Segment>() == 16);
    assert!(size_of::<Vmsa>() == PAGE_BYTES);
    assert!(offset_of!(Vmsa, cs) == 0x010);
    assert!(offset_of!(Vmsa, gdtr) == 0x060);
    assert!(offset_of!(Vmsa, ldtr) == 0x070);
    assert!(offset_of!(Vmsa, idtr) == 0x080);
    assert!(offset_of!(Vmsa, tr) == 0x090);
    assert!(offset_of!(Vmsa, vmpl) == 0x0ca);
    assert!(offset_of!(Vmsa, cpl) == 0x0cb);
    assert!(offset_of!(Vmsa, efer) == 0x0d0);
    assert!(offset_of!(Vmsa, xss) == 0x140);
    assert!(offset_of!(Vmsa, cr4) == 0x148);
    assert!(offset_of!(Vmsa, cr3) == 0x150);
    assert!(offset_of!(Vmsa, cr0) == 0x158);
    assert!(offset_of!(Vmsa, dr7) == 0x160);
    assert!(offset_of!(Vmsa, dr6) == 0x168);
    assert!(offset_of!(Vmsa, rflags) == 0x170);
    assert!(offset_of!(Vmsa, rip) == 0x178);
    assert!(offset_of!(Vmsa, reserved_1c0) == 0x1c0);
    assert!(offset_of!(Vmsa, rsp) == 0x1d8);
    assert!(offset_of!(Vmsa, rax) == 0x1f8);
    assert!(offset_of!(Vmsa, cr2) == 0x240);
    assert!(offset_of!(Vmsa, g_pat) == 0x268);
    assert!(offset_of!(Vmsa, reserved_298) == 0x298);
    assert!(offset_of!(Vmsa, pkru) == 0x2e8);
    assert!(offset_of!(Vmsa, tsc_aux) == 0x2ec);
    assert!(offset_of!(Vmsa, guest_tsc_scale) == 0x2f0);
    assert!(offset_of!(Vmsa, rcx) == 0x308);
    assert!(offset_of!(Vmsa, rdx) == 0x310);
    assert!(offset_of!(Vmsa, rbx) == 0x318);
    assert!(offset_of!(Vmsa, rbp) == 0x328);
    assert!(offset_of!(Vmsa, r8) == 0x340);
    assert!(offset_of!(Vmsa, r15) == 0x378);
    assert!(offset_of!(Vmsa, guest_exit_info_1) == 0x390);
    assert!(offset_of!(Vmsa, sev_features) == 0x3b0);
    assert!(offset_of!(Vmsa, vintr_control) == 0x3b8);
    assert!(offset_of!(Vmsa, virtual_tom) == 0x3c8);
    assert!(offset_of!(Vmsa, xcr0) == 0x3e8);
    assert!(offset_of!(Vmsa, x87_dp) == 0x400);
    assert!(offset_of!(Vmsa, mxcsr) == 0x408);
    assert!(offset_of!(Vmsa, x87_ftw) == 0x40c);
    assert!(offset_of!(Vmsa, x87_fsw) == 0x40e);
    assert!(offset_of!(Vmsa, x87_fcw) == 0x410);
    assert!(offset_of!(Vmsa, reserved_670) == 0x670);
};

/// CR0: protection, MP, ET, NE, write protection, paging.
const CR0_LONG_MODE: u64 = 1 | 1 << 1 | 1 << 4 | 1 << 5 | 1 << 16 | 1 << 31;
/// CR4: PAE, OSFXSR, OSXMMEXCPT.
const CR4_LONG_MODE: u64 = 1 << 5 | 1 << 9 | 1 << 10;
/// CR4.MCE, which the host may insist on.
const CR4_MCE: u64 = 1 << 6;
/// EFER: LME, LMA, NXE, and SVME, without which the processor does not start.
const EFER_LONG_MODE: u64 = 1 << 8 | 1 << 10 | 1 << 11 | 1 << 12;

const DR6_RESET: u64 = 0xffff_0ff0;
const DR7_RESET: u64 = 0x400;
const RFLAGS_RESET: u64 = 2;
const PAT_RESET: u64 = 0x0007_0406_0007_0406;
const MXCSR_RESET: u32 = 0x1f80;
const FCW_RESET: u16 = 0x37f;

/// 64-bit code: present, code, readable, accessed, L, G.
const CODE_64: u16 = 0xa9b;
/// Data: present, writable, accessed, B, G.
const DATA: u16 = 0xc93;
/// An empty LDT.
const LDT: u16 = 0x082;
/// A busy 64-bit TSS.
const TSS_BUSY: u16 = 0x08b;

/// A processor that starts in 64-bit mode, at CPL 0 with interrupts off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LongModeStart {
    /// Where it starts.
    pub rip: u64,
    /// Its stack.
    pub rsp: u64,
    /// What it finds in RDI.
    pub rdi: u64,
    /// The physical address of the page tables, with the C-bit.
    pub cr3: u64,
    /// The selector of the 64-bit code segment.
    pub code_selector: u16,
    /// The selector of the data segments.
    pub data_selector: u16,
    /// Base and limit of the GDT.
    pub gdt: (u64, u16),
    /// Base and limit of the IDT.
    pub idt: (u64, u16),
    /// The processor's VMPL.
    pub vmpl: Vmpl,
    /// SEV_STATUS of the processor that starts it: the features are the guest's.
    pub status: SevStatus,
}

impl Vmsa {
    /// A save area of zeros.
    pub fn zeroed() -> Self {
        Self::new_zeroed()
    }

    /// A processor that starts in 64-bit mode. XCR0 is 1 and CR4.OSXSAVE clear: the processor enables AVX itself.
    pub fn long_mode(start: &LongModeStart) -> Self {
        let data = Segment::new(start.data_selector, DATA, u32::MAX, 0);
        let table = |(base, limit): (u64, u16)| Segment::new(0, 0, u32::from(limit), base);
        Self {
            es: data,
            cs: Segment::new(start.code_selector, CODE_64, u32::MAX, 0),
            ss: data,
            ds: data,
            fs: data,
            gs: data,
            gdtr: table(start.gdt),
            ldtr: Segment::new(0, LDT, 0xffff, 0),
            idtr: table(start.idt),
            tr: Segment::new(0, TSS_BUSY, 0xffff, 0),
            vmpl: start.vmpl as u8,
            efer: EFER_LONG_MODE,
            cr4: CR4_LONG_MODE | CR4_MCE,
            cr3: start.cr3,
            cr0: CR0_LONG_MODE,
            dr7: DR7_RESET,
            dr6: DR6_RESET,
            rflags: RFLAGS_RESET,
            rip: start.rip,
            rsp: start.rsp,
            rdi: start.rdi,
            g_pat: PAT_RESET,
            sev_features: start.status.vmsa_sev_features(),
            xcr0: 1,
            mxcsr: MXCSR_RESET,
            x87_fcw: FCW_RESET,
            ..Self::zeroed()
        }
    }

    /// The page.
    pub fn as_page(&self) -> &[u8; PAGE_BYTES] {
        zerocopy::transmute_ref!(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::SevFeatures;
    use sha2::{Digest, Sha384};
    use std::string::String;

    fn digest(vmsa: &Vmsa) -> String {
        let digest = Sha384::digest(vmsa.as_page());
        digest
            .iter()
            .map(|byte| std::format!("{byte:02x}"))
            .collect()
    }

    /// What KVM makes of QEMU's reset state for an EPYC-Milan, and sev-snp-measure computes.
    fn reset(code_base: u64, rip: u64) -> Vmsa {
        let data = Segment::new(0, 0x93, 0xffff, 0);
        let table = Segment::new(0, 0, 0xffff, 0);
        Vmsa {
            es: data,
            cs: Segment::new(0xf000, 0x9b, 0xffff, code_base),
            ss: data,
            ds: data,
            fs: data,
            gs: data,
            gdtr: table,
            ldtr: Segment::new(0, LDT, 0xffff, 0),
            idtr: table,
            tr: Segment::new(0, TSS_BUSY, 0xffff, 0),
            efer: 0x1000,
            cr4: 0x40,
            cr0: 0x10,
            dr7: DR7_RESET,
            dr6: DR6_RESET,
            rflags: RFLAGS_RESET,
            rip,
            g_pat: PAT_RESET,
            rdx: 0x00a0_0f11,
            sev_features: 1,
            xcr0: 1,
            mxcsr: MXCSR_RESET,
            x87_fcw: FCW_RESET,
            ..Vmsa::zeroed()
        }
    }

    #[test]
    fn the_layout_gives_the_digests_of_sev_snp_measure() {
        assert_eq!(
            digest(&reset(0xffff_0000, 0xfff0)),
            "728af287318db5f3fc4d2357a969483c4225956dc555b514a78d64ee372112d13b3dca8afd02cdbd1c55697d8ce087f5"
        );
        assert_eq!(
            digest(&reset(0x0080_0000, 0xb004)),
            "24d6d6fe1cc2fd76d9504a2e411e2a1e229a6723c94521c373c21dd97514c44895fc07fea07e04b4186d90160c8dad0b"
        );
    }

    #[test]
    fn a_long_mode_start_is_what_the_processor_accepts() {
        let start = LongModeStart {
            rip: 0x1234,
            rsp: 0x8000,
            rdi: 7,
            cr3: 1 << 51 | 0x5000,
            code_selector: 8,
            data_selector: 0x10,
            gdt: (0x6000, 23),
            idt: (0x7000, 0xfff),
            vmpl: Vmpl::Vmpl0,
            status: SevStatus::new(0x87, SevFeatures::DEBUG_SWAP).unwrap(),
        };
        let vmsa = Vmsa::long_mode(&start);
        // Canonicalization rules of VMRUN (APM volume 2, section 15.5.1).
        assert_eq!(vmsa.efer & 0x1500, 0x1500, "SVME, LMA and LME together");
        assert_eq!(vmsa.cr0 & 0x8000_0001, 0x8000_0001, "paging and protection");
        assert_ne!(vmsa.cr4 & 1 << 5, 0, "long mode needs PAE");
        assert_eq!(
            vmsa.cs.attributes & 0x600,
            0x200,
            "CS.L and CS.D are not both set"
        );
        assert_eq!((vmsa.dr6 | vmsa.dr7) >> 32, 0);
        assert_eq!(vmsa.sev_features, 0x21);
        let page = vmsa.as_page();
        assert_eq!(page[0x150..0x158], start.cr3.to_le_bytes());
        assert_eq!(page[0x178..0x180], start.rip.to_le_bytes());
        assert_eq!(page[0x1d8..0x1e0], start.rsp.to_le_bytes());
        assert_eq!(page[0x338..0x340], start.rdi.to_le_bytes());
        assert_eq!(page[0x670..], [0; 0x990]);
    }
}
