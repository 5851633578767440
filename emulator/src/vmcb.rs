//! The VMCB (AMD64 manual, volume 2, appendix B): what L0 tells the processor about a guest CPU.

use crate::page::Page;
use crate::vmsa::field;

/// The save area's offset; its first fields are laid out as in a VMSA.
pub const SAVE: usize = 0x400;

/// Offsets of the control area's fields.
pub mod control {
    #![expect(missing_docs, reason = "named as the manual names the fields")]
    pub const CR_READS: usize = 0x000;
    pub const CR_WRITES: usize = 0x002;
    pub const DR_READS: usize = 0x004;
    pub const DR_WRITES: usize = 0x006;
    pub const EXCEPTIONS: usize = 0x008;
    pub const INTERCEPTS: usize = 0x00c;
    pub const INTERCEPTS2: usize = 0x010;
    pub const IO_MAP: usize = 0x040;
    pub const MSR_MAP: usize = 0x048;
    pub const TSC_OFFSET: usize = 0x050;
    pub const ASID: usize = 0x058;
    pub const TLB: usize = 0x05c;
    pub const INTERRUPT_SHADOW: usize = 0x068;
    pub const EXIT_CODE: usize = 0x070;
    pub const EXIT_INFO1: usize = 0x078;
    pub const EXIT_INFO2: usize = 0x080;
    pub const EXIT_INTERRUPT: usize = 0x088;
    pub const NESTED: usize = 0x090;
    pub const INJECT: usize = 0x0a8;
    pub const NESTED_CR3: usize = 0x0b0;
}

const INTERCEPT_RDPMC: u32 = 1 << 15;
const INTERCEPT_CPUID: u32 = 1 << 18;
const INTERCEPT_INVD: u32 = 1 << 22;
const INTERCEPT_HLT: u32 = 1 << 24;
const INTERCEPT_IO: u32 = 1 << 27;
const INTERCEPT_MSR: u32 = 1 << 28;
const INTERCEPT_SHUTDOWN: u32 = 1 << 31;
/// VMRUN, VMMCALL, VMLOAD, VMSAVE, STGI, CLGI, SKINIT, and WBINVD, MONITOR, MWAIT.
const INTERCEPTS2: u32 = 0x7f | 1 << 9 | 1 << 10 | 1 << 11;
const EXCEPTION_UD: u32 = 1 << 6;
/// CR3, and CR0, as which some versions of TCG report the read of every control register.
const CR_READS: u16 = 1 | 1 << 3;
/// CR0 and CR3.
const CR_WRITES: u16 = 1 | 1 << 3;
const DR7: u16 = 1 << 7;

/// Bytes of the MSR permission map.
pub const MSR_MAP_BYTES: usize = 8192;
/// Bytes of the I/O permission map.
pub const IO_MAP_BYTES: usize = 12288;

/// Host-physical addresses of what a VMCB points to.
#[derive(Clone, Copy, Debug)]
pub struct Pointers {
    /// I/O permission map, all ones.
    pub io_map: u64,
    /// MSR permission map.
    pub msr_map: u64,
    /// Nested page tables.
    pub nested_cr3: u64,
}

/// A VMCB for a CPU in the state of a VMSA. Registers that a VMCB has no field for are the
/// caller's to load.
pub fn from_vmsa(vmsa: &Page, pointers: Pointers) -> Page {
    let mut vmcb = Page::ZERO;
    vmcb.set_u16(control::CR_READS, CR_READS);
    vmcb.set_u16(control::CR_WRITES, CR_WRITES);
    vmcb.set_u16(control::DR_READS, DR7);
    vmcb.set_u16(control::DR_WRITES, DR7);
    vmcb.set_u32(control::EXCEPTIONS, EXCEPTION_UD);
    vmcb.set_u32(
        control::INTERCEPTS,
        INTERCEPT_RDPMC
            | INTERCEPT_CPUID
            | INTERCEPT_INVD
            | INTERCEPT_HLT
            | INTERCEPT_IO
            | INTERCEPT_MSR
            | INTERCEPT_SHUTDOWN,
    );
    vmcb.set_u32(control::INTERCEPTS2, INTERCEPTS2);
    vmcb.set_u64(control::IO_MAP, pointers.io_map);
    vmcb.set_u64(control::MSR_MAP, pointers.msr_map);
    vmcb.set_u32(control::ASID, 1);
    vmcb.set_u64(control::NESTED, 1);
    vmcb.set_u64(control::NESTED_CR3, pointers.nested_cr3);
    // Up to and without the fields of G_PAT's successors, where the two layouts part.
    let shared = field::G_PAT + 8;
    vmcb.set(SAVE, &vmsa.bytes()[..shared]);
    vmcb
}

/// MSRs that the guest uses without an exit, as KVM lets an SEV-ES guest.
const DIRECT_MSRS: [u32; 15] = [
    0x174,       // SYSENTER_CS
    0x175,       // SYSENTER_ESP
    0x176,       // SYSENTER_EIP
    0x277,       // PAT
    0xda0,       // XSS
    0xc000_0080, // EFER
    0xc000_0081, // STAR
    0xc000_0082, // LSTAR
    0xc000_0083, // CSTAR
    0xc000_0084, // SFMASK
    0xc000_0100, // FS_BASE
    0xc000_0101, // GS_BASE
    0xc000_0102, // KERNEL_GS_BASE
    0xc000_0103, // TSC_AUX
    0x10,        // TSC
];

/// Fills the MSR permission map: everything is intercepted but the registers above.
pub fn fill_msr_map(map: &mut [u8; MSR_MAP_BYTES]) {
    map.fill(0xff);
    for msr in DIRECT_MSRS {
        let number = match msr {
            0xc000_0000..=0xc000_1fff => msr - 0xc000_0000 + 0x2000,
            _ => msr,
        } as usize;
        map[number / 4] &= !(3 << (number % 4 * 2));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vmsa::{RESET_VECTOR, Segment, reset_vmsa};

    #[test]
    fn a_vmcb_begins_where_its_vmsa_says() {
        let vmsa = reset_vmsa(RESET_VECTOR, 0);
        let pointers = Pointers {
            io_map: 0x1000,
            msr_map: 0x4000,
            nested_cr3: 0x8000,
        };
        let vmcb = from_vmsa(&vmsa, pointers);
        assert_eq!(vmcb.u64(SAVE + field::RIP), 0xfff0);
        assert_eq!(Segment::read(&vmcb, SAVE + field::CS).base, 0xffff_0000);
        assert_eq!(vmcb.u64(SAVE + field::EFER), 0x1000);
        assert_eq!(vmcb.u64(control::NESTED_CR3), 0x8000);
    }

    #[test]
    fn only_the_named_msrs_pass() {
        let mut map = [0; MSR_MAP_BYTES];
        fill_msr_map(&mut map);
        let bits = |number: usize| map[number / 4] >> (number % 4 * 2) & 3;
        assert_eq!(bits(0x2000 + 0x80), 0);
        assert_eq!(bits(0x2000 + 0x104), 3);
        assert_eq!(bits(0x4000 + 0x130), 3);
        assert_eq!(map.iter().map(|byte| byte.count_zeros()).sum::<u32>(), 30);
    }
}
