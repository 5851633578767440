//! VMGEXIT, PVALIDATE, RMPADJUST (AMD64 APM volume 3) and the MSRs that go with them.

use crate::address::{Gfn, PageSize};
use crate::hypervisor::Hypervisor;
use crate::rmp::{self, Rmp, RmpAdjust, RmpError};
use core::arch::asm;

/// The MSR that holds the GHCB's address, or a request of the MSR protocol (GHCB specification, section 2.3.1).
const MSR_GHCB: u32 = 0xc001_0130;
/// The MSR that says which SEV features are active (APM volume 2, section 15.34).
const MSR_SEV_STATUS: u32 = 0xc001_0131;

/// Reads SEV_STATUS.
///
/// # Safety
/// The code runs at CPL 0 in a guest with SEV: elsewhere the register does not exist, and reading it is a #GP.
pub unsafe fn read_sev_status() -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: the register exists (see above); reading it has no other effect.
    unsafe {
        asm!("rdmsr", in("ecx") MSR_SEV_STATUS, out("eax") low, out("edx") high,
            options(nomem, nostack, preserves_flags));
    }
    u64::from(high) << 32 | u64::from(low)
}

/// VMGEXIT on this machine.
pub struct HardwareHypervisor {
    pause: fn(),
}

impl HardwareHypervisor {
    /// The hypervisor below this guest; `pause` waits about a second.
    ///
    /// # Safety
    /// The code runs at CPL 0 in an SEV-SNP guest, and interrupts are off for as long as the value is in use, or
    /// their handlers do not use the GHCB MSR.
    pub const unsafe fn new(pause: fn()) -> Self {
        Self { pause }
    }
}

impl Hypervisor for HardwareHypervisor {
    fn exit(&mut self, ghcb_msr: u64) -> u64 {
        let (low, high): (u32, u32);
        // SAFETY: `new` was promised CPL 0 and an SNP guest. The hypervisor writes to shared memory only, to which
        // there are no Rust references; registers other than these are kept. The block is taken to touch memory, so
        // that no write to the GHCB is moved across it.
        unsafe {
            asm!("wrmsr",
                ".byte 0xf3, 0x0f, 0x01, 0xd9", // rep vmmcall
                "rdmsr",
                in("ecx") MSR_GHCB,
                inlateout("eax") ghcb_msr as u32 => low,
                inlateout("edx") (ghcb_msr >> 32) as u32 => high,
                options(nostack));
        }
        u64::from(high) << 32 | u64::from(low)
    }

    fn pause(&mut self) {
        (self.pause)();
    }
}

/// PVALIDATE and RMPADJUST on this machine.
pub struct HardwareRmp {
    direct_map: u64,
}

impl HardwareRmp {
    /// The RMP as seen through a mapping of all guest memory that begins at virtual address `direct_map`; 0 is an
    /// identity mapping.
    ///
    /// # Safety
    /// 1. The code runs at CPL 0 in an SEV-SNP guest.
    /// 2. Every page that the value is asked to change is mapped there as private (C-bit set).
    /// 3. Nothing refers to a page when its validation changes, or when it becomes or ceases to be a VMSA.
    pub const unsafe fn new(direct_map: u64) -> Self {
        Self { direct_map }
    }

    fn address(&self, page: Gfn) -> u64 {
        self.direct_map.wrapping_add(page.address())
    }
}

impl Rmp for HardwareRmp {
    fn pvalidate(&mut self, page: Gfn, size: PageSize, validate: bool) -> Result<(), RmpError> {
        let status: u64;
        let unchanged: u8;
        // SAFETY: see the conditions of `new`. The block is taken to touch memory: the content of the page changes.
        unsafe {
            asm!(".byte 0xf2, 0x0f, 0x01, 0xff", // pvalidate
                "setc {unchanged}",
                unchanged = out(reg_byte) unchanged,
                inlateout("rax") self.address(page) => status,
                in("ecx") rmp::size_operand(size),
                in("edx") u32::from(validate),
                options(nostack));
        }
        rmp::pvalidate_result(status as u32, unchanged != 0)
    }

    fn rmpadjust(&mut self, page: Gfn, size: PageSize, target: RmpAdjust) -> Result<(), RmpError> {
        let status: u64;
        // SAFETY: see the conditions of `new`.
        unsafe {
            asm!(".byte 0xf3, 0x0f, 0x01, 0xfe", // rmpadjust
                inlateout("rax") self.address(page) => status,
                in("rcx") u64::from(rmp::size_operand(size)),
                in("rdx") target.operand(),
                options(nostack));
        }
        rmp::rmpadjust_result(status as u32)
    }
}
