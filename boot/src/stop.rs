//! Why the guest stopped: one code for each cause, the same in boot and kernel.

/// A cause of stopping. The number appears on the serial port and as the debug-exit value, where
/// the machine has that device; codes stay below 0x80 because the exit status is `2 * code + 1`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
#[non_exhaustive]
pub enum Reason {
    /// The guest ended as it was meant to.
    Done = 0x10,
    /// A bug: the program found itself in a state that it excludes.
    Panic = 0x11,
    /// An exception that has no reason of its own.
    Exception = 0x12,
    /// An exception while another was being delivered.
    DoubleFault = 0x13,
    /// An access that the page tables forbid.
    PageFault = 0x14,
    /// A page fault on the guard page below a stack.
    StackOverflow = 0x15,
    /// The ROM's table does not describe this ROM.
    BadRom = 0x20,
    /// The kernel in the ROM cannot be loaded.
    BadKernel = 0x21,
    /// The structure that boot hands to the kernel is not what the kernel was built for.
    BadHandover = 0x22,
    /// The manifest in the ROM cannot be read.
    BadManifest = 0x23,
    /// The processor lacks something that the guest cannot do without.
    CpuUnsupported = 0x24,
    /// A processor that shares the work does not answer.
    Processor = 0x25,
    /// No hardware random numbers, or they failed their health checks.
    NoEntropy = 0x30,
    /// The timestamp counter could not be calibrated.
    NoClock = 0x31,
    /// The firmware configuration device is missing or contradicts itself.
    FirmwareConfig = 0x40,
    /// The host's memory map is not one of a machine.
    MemoryMap = 0x41,
    /// The machine has less RAM than this image needs.
    TooLittleMemory = 0x42,
    /// The heap is used up.
    OutOfMemory = 0x43,
    /// The page tables could not be built.
    PageTables = 0x44,
    /// A page did not become what it must be: the host refused, or the reverse map table is not as it must be.
    PageState = 0x45,
    /// The host offers no model pack although the image names one.
    ModelMissing = 0x50,
    /// The model pack is shorter than the image says.
    ModelTruncated = 0x51,
    /// The model pack's head is not the one that the image names.
    ModelOtherImage = 0x52,
    /// A part of the model pack differs from its digest.
    ModelAltered = 0x53,
    /// The model pack has the right digest but cannot be used.
    ModelInvalid = 0x54,
    /// No usable network device.
    NoNetwork = 0x60,
    /// The network device contradicts itself.
    Network = 0x61,
    /// The service cannot go on.
    Service = 0x62,
    /// SEV is active with a feature that the guest has no support for, or without one that it needs.
    SevUnsupported = 0x70,
    /// The host broke the rules of the GHCB.
    HostProtocol = 0x71,
    /// Two sources differ about the encryption bit.
    EncryptionBit = 0x72,
    /// The launch's CPUID page is malformed or lacks something.
    CpuidPage = 0x73,
    /// The launch's secrets page is malformed.
    SecretsPage = 0x74,
    /// The guest does not run at VMPL 0.
    NotVmpl0 = 0x75,
    /// The security processor gave no report.
    Attestation = 0x76,
}

impl Reason {
    /// The code, as in `cloister: stopped: <code>`.
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The name, in kebab case.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Panic => "panic",
            Self::Exception => "exception",
            Self::DoubleFault => "double-fault",
            Self::PageFault => "page-fault",
            Self::StackOverflow => "stack-overflow",
            Self::BadRom => "bad-rom",
            Self::BadKernel => "bad-kernel",
            Self::BadHandover => "bad-handover",
            Self::BadManifest => "bad-manifest",
            Self::CpuUnsupported => "cpu-unsupported",
            Self::Processor => "processor",
            Self::NoEntropy => "no-entropy",
            Self::NoClock => "no-clock",
            Self::FirmwareConfig => "firmware-config",
            Self::MemoryMap => "memory-map",
            Self::TooLittleMemory => "too-little-memory",
            Self::OutOfMemory => "out-of-memory",
            Self::PageTables => "page-tables",
            Self::PageState => "page-state",
            Self::ModelMissing => "model-missing",
            Self::ModelTruncated => "model-truncated",
            Self::ModelOtherImage => "model-other-image",
            Self::ModelAltered => "model-altered",
            Self::ModelInvalid => "model-invalid",
            Self::NoNetwork => "no-network",
            Self::Network => "network",
            Self::Service => "service",
            Self::SevUnsupported => "sev-unsupported",
            Self::HostProtocol => "host-protocol",
            Self::EncryptionBit => "encryption-bit",
            Self::CpuidPage => "cpuid-page",
            Self::SecretsPage => "secrets-page",
            Self::NotVmpl0 => "not-vmpl0",
            Self::Attestation => "attestation",
        }
    }
}
