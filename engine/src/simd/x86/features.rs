//! What this processor has, and what of it may be used.

use core::arch::x86_64::{__cpuid, __cpuid_count, _xgetbv};

/// Instruction sets that the kernels know: each one with the state that it needs enabled.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Features {
    pub(super) avx2: bool,
    pub(super) avx_vnni: bool,
    /// AVX-512 F, BW, DQ, VL and VNNI.
    pub(super) avx512: bool,
    /// AMX-TILE and AMX-INT8, beside AVX-512.
    pub(super) amx: bool,
}

/// CPUID.1:ECX
const OSXSAVE_AND_AVX: u32 = 1 << 27 | 1 << 28;
/// CPUID.7.0:EBX
const AVX2: u32 = 1 << 5;
/// CPUID.7.0:EBX: F, DQ, BW, VL.
const AVX512: u32 = 1 << 16 | 1 << 17 | 1 << 30 | 1 << 31;
/// CPUID.7.0:ECX
const AVX512_VNNI: u32 = 1 << 11;
/// CPUID.7.0:EDX: AMX-TILE, AMX-INT8.
const AMX: u32 = 1 << 24 | 1 << 25;
/// CPUID.7.1:EAX
const AVX_VNNI: u32 = 1 << 4;
/// XCR0: XMM, YMM.
const YMM_STATE: u64 = 0b110;
/// XCR0: mask registers, upper halves of the first sixteen ZMM, the other sixteen.
const ZMM_STATE: u64 = YMM_STATE | 0b1110_0000;
/// XCR0: configuration of the tiles, their data.
const TILE_STATE: u64 = 1 << 17 | 1 << 18;

impl Features {
    /// By CPUID and XCR0 (Intel SDM, volume 1, sections 13.2 and 14.3).
    pub(super) fn of_this_processor() -> Self {
        // Miri interprets neither CPUID nor vector instructions.
        if cfg!(miri) || __cpuid(0).eax < 7 || __cpuid(1).ecx & OSXSAVE_AND_AVX != OSXSAVE_AND_AVX {
            return Self::default();
        }
        // SAFETY: CPUID says that XGETBV may be used (OSXSAVE).
        let enabled = unsafe { xcr0() };
        let has_state = |state: u64| enabled & state == state;
        let leaf = __cpuid_count(7, 0);
        let vnni = leaf.eax >= 1 && __cpuid_count(7, 1).eax & AVX_VNNI != 0;
        let avx2 = leaf.ebx & AVX2 != 0 && has_state(YMM_STATE);
        let avx512 = avx2
            && leaf.ebx & AVX512 == AVX512
            && leaf.ecx & AVX512_VNNI != 0
            && has_state(ZMM_STATE);
        let tiles = avx512 && leaf.edx & AMX == AMX && has_state(TILE_STATE);
        Self {
            avx2,
            avx_vnni: avx2 && vnni,
            avx512,
            amx: tiles && may_use_tiles(),
        }
    }
}

/// XCR0: which register state is enabled.
#[target_feature(enable = "xsave")]
fn xcr0() -> u64 {
    // SAFETY: the caller makes sure of OSXSAVE; register 0 always exists.
    unsafe { _xgetbv(0) }
}

/// Linux gives a process the tile registers when it asks for them (`Documentation/arch/x86/xstate.rst`); the guest's
/// kernel has nobody to ask.
#[cfg(all(any(test, feature = "std"), target_os = "linux"))]
fn may_use_tiles() -> bool {
    const ARCH_PRCTL: i64 = 158;
    const ARCH_REQ_XCOMP_PERM: u64 = 0x1023;
    const TILE_DATA: u64 = 18;
    let result: i64;
    // SAFETY: a system call that reads and writes no memory of this process; the registers that it changes are named.
    unsafe {
        core::arch::asm!(
            "syscall",
            inlateout("rax") ARCH_PRCTL => result,
            in("rdi") ARCH_REQ_XCOMP_PERM,
            in("rsi") TILE_DATA,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    result == 0
}

#[cfg(not(all(any(test, feature = "std"), target_os = "linux")))]
fn may_use_tiles() -> bool {
    true
}
