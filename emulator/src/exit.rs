//! Exit codes of the processor (AMD64 manual, volume 2, appendix C), which are also the error codes of #VC.

/// Reading CR0. Some versions of TCG report the read of every control register so.
pub const READ_CR0: u64 = 0x000;
/// Reading CR3.
pub const READ_CR3: u64 = 0x003;
/// Writing CR0.
pub const WRITE_CR0: u64 = 0x010;
/// Writing CR3.
pub const WRITE_CR3: u64 = 0x013;
/// Reading DR7.
pub const READ_DR7: u64 = 0x027;
/// Writing DR7.
pub const WRITE_DR7: u64 = 0x037;
/// Invalid instruction.
pub const UD: u64 = 0x046;
/// RDPMC.
pub const RDPMC: u64 = 0x06f;
/// CPUID.
pub const CPUID: u64 = 0x072;
/// INVD.
pub const INVD: u64 = 0x076;
/// HLT.
pub const HLT: u64 = 0x078;
/// A port.
pub const IO: u64 = 0x07b;
/// A model-specific register.
pub const MSR: u64 = 0x07c;
/// Triple fault.
pub const SHUTDOWN: u64 = 0x07f;
/// VMRUN.
pub const VMRUN: u64 = 0x080;
/// VMMCALL, and with a REP prefix VMGEXIT.
pub const VMMCALL: u64 = 0x081;
/// SKINIT, the last of the virtualization instructions.
pub const SKINIT: u64 = 0x086;
/// WBINVD.
pub const WBINVD: u64 = 0x089;
/// MONITOR.
pub const MONITOR: u64 = 0x08a;
/// MWAIT.
pub const MWAIT: u64 = 0x08b;
/// Nested page fault.
pub const NPF: u64 = 0x400;
/// #VC only: a page that the guest has not validated.
pub const NOT_VALIDATED: u64 = 0x404;
/// The VMCB is invalid. The manual says -1 in 64 bits, QEMU 10.0 writes 32.
pub const INVALID: u64 = 0xffff_ffff;

/// `EXITINFO1` of a nested page fault: the fault was met while reading the guest's page tables.
pub const NPF_WALK: u64 = 1 << 33;
/// `EXITINFO1` of a nested page fault: a write.
pub const NPF_WRITE: u64 = 1 << 1;
/// `EXITINFO1` of a nested page fault: an instruction fetch.
pub const NPF_FETCH: u64 = 1 << 4;

/// The code's name for a diagnosis.
pub fn name(code: u64) -> &'static str {
    match code {
        READ_CR0 | READ_CR3 => "read of a control register",
        WRITE_CR0 => "write of CR0",
        WRITE_CR3 => "write of CR3",
        READ_DR7 | WRITE_DR7 => "DR7",
        UD => "invalid instruction",
        RDPMC => "RDPMC",
        CPUID => "CPUID",
        INVD => "INVD",
        HLT => "HLT",
        IO => "port",
        MSR => "MSR",
        SHUTDOWN => "triple fault",
        VMRUN..=SKINIT if code != VMMCALL => "virtualization instruction",
        VMMCALL => "VMMCALL",
        0x6e => "RDTSCP",
        WBINVD => "WBINVD",
        MONITOR => "MONITOR",
        MWAIT => "MWAIT",
        NPF => "nested page fault",
        NOT_VALIDATED => "page not validated",
        INVALID => "invalid guest state",
        _ => "unknown exit",
    }
}
