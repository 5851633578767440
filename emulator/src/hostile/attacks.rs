//! The attacks, each with what the guest must do. Reason codes are those of `cloister_boot::stop::Reason`; sets and
//! codes of terminations those of the GHCB specification (set 0) and of `sev_snp_guest::termination` (set 12).

use super::card::CardLie;
use super::fw_cfg::{FilesLie, TransferLie};
use super::message::MessageLie;
use super::requests::{CpuidPageLie, GhcbLie, MsrLie, PageStateLie};
use super::{Attack, Deed, Event, Moment, Outcome, PageDeed, ProcessorLie, TimeLie};

/// Set of the specification, and of the guest's own reasons.
const GENERAL: u8 = 0;
const OWN: u8 = 0xc;

const fn attack(name: &'static str, what: &'static str, deed: Deed, expected: Outcome) -> Attack {
    Attack {
        name,
        what,
        deed,
        expected,
    }
}

/// The processor has no handler yet for what comes.
const SHUT_DOWN: Outcome = Outcome::Stuck("the guest's CPU shut down");

const fn stopped(code: u8, words: &'static str) -> Outcome {
    Outcome::Stopped(code, words)
}

/// All attacks.
pub const ATTACKS: &[Attack] = &[
    // The first steps: what kind of machine is this?
    attack(
        "cpuid-no-sev",
        "CPUID 0x8000001F by the MSR protocol: there is no SEV",
        Deed::Msr(MsrLie::CpuidNoSev),
        Outcome::Terminated(GENERAL, 2),
    ),
    attack(
        "cpuid-c-bit",
        "CPUID 0x8000001F by the MSR protocol: the C-bit is bit 50",
        Deed::Msr(MsrLie::CpuidOtherCBit),
        // The page tables are private memory, and there is none where bit 50 leads.
        Outcome::Stuck("walk of page tables"),
    ),
    attack(
        "sev-es",
        "the image is launched as a guest with SEV-ES, without SNP",
        Deed::SevStatus(0b011),
        Outcome::Terminated(GENERAL, 2),
    ),
    attack(
        "sev-feature",
        "the image is launched with debug swap, which it has no support for (the measurement is another one then)",
        Deed::SevStatus(0b111 | 1 << 7),
        Outcome::Terminated(GENERAL, 2),
    ),
    attack(
        "vmpl1",
        "the image is launched at VMPL 1, below a program of the hypervisor's",
        Deed::Vmpl1,
        stopped(0x75, "does not run at VMPL 0"),
    ),
    attack(
        "sev-status-gp",
        "#GP injected where the reset code reads SEV_STATUS",
        Deed::Inject(Moment::SevStatus, Event::Exception(13, 0)),
        SHUT_DOWN,
    ),
    attack(
        "reset-vc",
        "#VC for an MSR (0x7c) at the reset code's CPUID",
        Deed::Inject(Moment::ResetCpuid, Event::Communication(0x7c)),
        Outcome::Terminated(GENERAL, 2),
    ),
    attack(
        "sev-info-version",
        "SEV information: GHCB versions 3 and 4 only",
        Deed::Msr(MsrLie::InfoVersion),
        Outcome::Terminated(GENERAL, 1),
    ),
    attack(
        "sev-info-c-bit",
        "SEV information: the C-bit is bit 50",
        Deed::Msr(MsrLie::InfoOtherCBit),
        stopped(0x72, "Differ(51, 50)"),
    ),
    attack(
        "no-snp",
        "hypervisor features: no SNP",
        Deed::Msr(MsrLie::NoFeatures),
        stopped(0x70, "MissingFeatures"),
    ),
    attack(
        "cpuid-page-c-bit",
        "CPUID page: the C-bit is bit 50 (the security processor lets it pass)",
        Deed::CpuidPage(CpuidPageLie::OtherCBit),
        stopped(0x72, "Differ(50, 51)"),
    ),
    attack(
        "cpuid-page-count",
        "CPUID page: 65 entries (the security processor lets it pass)",
        Deed::CpuidPage(CpuidPageLie::TooMany),
        stopped(0x73, "65 entries"),
    ),
    attack(
        "cpuid-page-contradiction",
        "CPUID page: two entries for leaf 0 that differ (the security processor lets it pass)",
        Deed::CpuidPage(CpuidPageLie::Contradiction),
        stopped(0x73, "contradicts itself in 0x0"),
    ),
    attack(
        "cpuid-page-no-random",
        "CPUID page: no RDRAND, no RDSEED",
        Deed::CpuidPage(CpuidPageLie::NoRandomNumbers),
        stopped(0x30, "random numbers"),
    ),
    // The GHCB.
    attack(
        "ghcb-other-page",
        "the GHCB's registration is answered with the next page",
        Deed::Msr(MsrLie::OtherGhcb),
        Outcome::Terminated(OWN, 0x81),
    ),
    attack(
        "ghcb-other-answer",
        "the GHCB's registration is answered with the hypervisor's features",
        Deed::Msr(MsrLie::OtherAnswer),
        Outcome::Terminated(OWN, 0x80),
    ),
    attack(
        "ghcb-nothing-valid",
        "a port's value comes with no field marked as valid",
        Deed::Ghcb(GhcbLie::NothingValid),
        stopped(0x71, "did not return"),
    ),
    attack(
        "ghcb-exception",
        "a port's read raises #PF in the answer",
        Deed::Ghcb(GhcbLie::PageFault),
        stopped(0x71, "exception out of place"),
    ),
    attack(
        "ghcb-result",
        "a port's read ends with result 0x17",
        Deed::Ghcb(GhcbLie::UnknownResult),
        stopped(0x71, "result 0x17"),
    ),
    attack(
        "ghcb-garbage",
        "every answer has ones where it needs nothing, all marked as valid",
        Deed::Ghcb(GhcbLie::Garbage),
        Outcome::NoEffect,
    ),
    // Private memory.
    attack(
        "remap",
        "another frame is mapped at the stack's page; the RMP does not call it validated",
        Deed::Page(PageDeed::Exchange),
        stopped(0x12, "error 0x404"),
    ),
    attack(
        "share",
        "the stack's page becomes shared, and private again when the guest misses it",
        Deed::Page(PageDeed::Share),
        stopped(0x12, "error 0x404"),
    ),
    attack(
        "validated-before",
        "a page is validated before the guest validates it (the RMP lets it pass)",
        Deed::Page(PageDeed::ValidateFirst),
        stopped(0x45, "PvalidateError"),
    ),
    attack(
        "rescinded-before",
        "a page is assigned anew before the guest rescinds it",
        Deed::Page(PageDeed::RescindFirst),
        Outcome::Terminated(OWN, 0x85),
    ),
    attack(
        "psc-no-progress",
        "page state changes succeed and do nothing",
        Deed::PageState(PageStateLie::NoProgress),
        stopped(0x45, "does not get on"),
    ),
    attack(
        "psc-undone",
        "page state changes are said to be done; frames come when the guest uses the pages",
        Deed::PageState(PageStateLie::Undone),
        Outcome::NoEffect,
    ),
    attack(
        "psc-overrun",
        "a page state change is done beyond its list",
        Deed::PageState(PageStateLie::Overrun),
        stopped(0x45, "page state change is at entry"),
    ),
    attack(
        "psc-other-page",
        "a page state change stops in an entry that names another page",
        Deed::PageState(PageStateLie::OtherPage),
        stopped(0x45, "the entry of a page state change was"),
    ),
    attack(
        "psc-in-parts",
        "page state changes do one entry of their list at a time",
        Deed::PageState(PageStateLie::InParts),
        Outcome::NoEffect,
    ),
    attack(
        "psc-smashed",
        "a page of 2 MiB comes as 512 small ones",
        Deed::PageState(PageStateLie::Smashed),
        Outcome::NoEffect,
    ),
    // Events.
    attack(
        "int80",
        "interrupt 0x80 in the kernel (Heckler)",
        Deed::Inject(Moment::Kernel, Event::Interrupt(0x80)),
        stopped(0x12, "vector 128"),
    ),
    attack(
        "nmi",
        "NMI in the kernel",
        Deed::Inject(Moment::Kernel, Event::Nmi),
        stopped(0x12, "vector 2 "),
    ),
    attack(
        "gp",
        "#GP in the kernel",
        Deed::Inject(Moment::Kernel, Event::Exception(13, 0)),
        stopped(0x12, "vector 13"),
    ),
    attack(
        "pf",
        "#PF in the kernel",
        Deed::Inject(Moment::Kernel, Event::Exception(14, 2)),
        stopped(0x14, "vector 14"),
    ),
    attack(
        "vc-without-cause",
        "#VC for CPUID (0x72) at another instruction (WeSee)",
        Deed::Inject(Moment::Kernel, Event::Communication(0x72)),
        stopped(0x12, "error 0x72"),
    ),
    attack(
        "vc-other-code",
        "#VC for an MSR (0x7c) at a CPUID (WeSee)",
        Deed::Inject(Moment::KernelCpuid, Event::Communication(0x7c)),
        stopped(0x12, "error 0x7c"),
    ),
    attack(
        "vc-in-call",
        "#VC for a port (0x7b) in the middle of a call to the host",
        Deed::Inject(Moment::KernelCall, Event::Communication(0x7b)),
        Outcome::Terminated(OWN, 0x12),
    ),
    attack(
        "nmi-in-call",
        "NMI in the middle of a call to the host",
        Deed::Inject(Moment::KernelCall, Event::Nmi),
        Outcome::Terminated(OWN, 0x12),
    ),
    attack(
        "interrupt-in-boot",
        "interrupt 0x20 in the boot program",
        Deed::Inject(Moment::Boot, Event::Interrupt(0x20)),
        SHUT_DOWN,
    ),
    // fw_cfg.
    attack(
        "files-count",
        "fw_cfg: a directory of 4,294,967,295 files",
        Deed::Files(FilesLie::Count),
        stopped(0x41, "TooManyFiles"),
    ),
    attack(
        "map-size",
        "fw_cfg: a memory map of 4 GiB",
        Deed::Files(FilesLie::MapSize),
        stopped(0x41, "TooLong"),
    ),
    attack(
        "map-item",
        "fw_cfg: the memory map is an item that no file can be",
        Deed::Files(FilesLie::MapItem),
        stopped(0x41, "Item(5)"),
    ),
    attack(
        "map-overlap",
        "e820: two entries overlap, over the image",
        Deed::Files(FilesLie::MapOverlap),
        stopped(0x41, "Overlap"),
    ),
    attack(
        "map-wrap",
        "e820: an entry ends beyond the last address",
        Deed::Files(FilesLie::MapWrap),
        stopped(0x41, "WrapAround"),
    ),
    attack(
        "map-over-devices",
        "e820: RAM where devices are",
        Deed::Files(FilesLie::MapOverDevices),
        stopped(0x41, "RamOverDevices"),
    ),
    attack(
        "map-without-image",
        "e820: no RAM where the image runs",
        Deed::Files(FilesLie::MapWithoutImage),
        stopped(0x41, "OccupiedIsNotRam"),
    ),
    attack(
        "map-too-large",
        "e820: 256 MiB of RAM more than there is",
        Deed::Files(FilesLie::MapTooLarge),
        stopped(0x45, "Refused"),
    ),
    attack(
        "model-longer",
        "fw_cfg: the model has one byte more",
        Deed::Files(FilesLie::ModelLonger),
        stopped(0x53, "bytes instead of"),
    ),
    attack(
        "model-shorter",
        "fw_cfg: the model has one byte less",
        Deed::Files(FilesLie::ModelShorter),
        stopped(0x51, "copy it again"),
    ),
    attack(
        "model-head",
        "one bit of the model's head is flipped in the shared buffer",
        Deed::Transfer(TransferLie::Head),
        stopped(0x52, "the model pack's head"),
    ),
    attack(
        "model-bit",
        "one bit of the model is flipped in the shared buffer",
        Deed::Transfer(TransferLie::Bit),
        stopped(0x53, "differs from its digest"),
    ),
    attack(
        "model-again",
        "the model's beginning comes a second time",
        Deed::Transfer(TransferLie::FromTheBeginning),
        stopped(0x53, "differs from its digest"),
    ),
    attack(
        "buffer-afterwards",
        "the shared buffer is overwritten once the guest has read it",
        Deed::Transfer(TransferLie::Afterwards),
        Outcome::NoEffect,
    ),
    attack(
        "transfer-error",
        "a transfer of the model fails",
        Deed::Transfer(TransferLie::Error),
        stopped(0x40, "Device"),
    ),
    attack(
        "transfer-never",
        "a transfer of the model never ends",
        Deed::Transfer(TransferLie::Never),
        stopped(0x40, "Stuck"),
    ),
    // The network card.
    attack(
        "card-region",
        "PCI: a region of the card wants 2 GiB",
        Deed::Card(CardLie::RegionTooLarge),
        stopped(0x60, "Pci(Bar)"),
    ),
    attack(
        "card-structure",
        "PCI: a structure of the card lies outside its region",
        Deed::Card(CardLie::StructureOutside),
        stopped(0x60, "Transport(Structure"),
    ),
    attack(
        "card-loop",
        "PCI: the list of capabilities is a loop",
        Deed::Card(CardLie::CapabilityLoop),
        stopped(0x60, "Transport(Structure"),
    ),
    attack(
        "card-legacy",
        "virtio: the card does not offer version 1",
        Deed::Card(CardLie::NotVersion1),
        stopped(0x60, "Start(Setup)"),
    ),
    attack(
        "queue-empty",
        "virtio: a queue has no entries",
        Deed::Card(CardLie::QueueEmpty),
        stopped(0x60, "Start(Setup)"),
    ),
    attack(
        "queue-huge",
        "virtio: queues of 65,535 entries",
        Deed::Card(CardLie::QueueHuge),
        Outcome::NoEffect,
    ),
    attack(
        "queue-notify",
        "virtio: a queue is notified outside its structure",
        Deed::Card(CardLie::NotifyOutside),
        stopped(0x60, "Start(Setup)"),
    ),
    attack(
        "card-address",
        "virtio: the hardware address is that of a group",
        Deed::Card(CardLie::GroupAddress),
        stopped(0x60, "HardwareAddress"),
    ),
    attack(
        "used-unknown",
        "virtio: buffer 200 of 64 is given back",
        Deed::Card(CardLie::UsedUnknown),
        stopped(0x61, "UnknownBuffer"),
    ),
    attack(
        "used-long",
        "virtio: a buffer is given back with 4 GiB in it",
        Deed::Card(CardLie::UsedLong),
        stopped(0x61, "Length"),
    ),
    attack(
        "used-short",
        "virtio: a buffer is given back with 4 bytes in it",
        Deed::Card(CardLie::UsedShort),
        stopped(0x61, "Length"),
    ),
    attack(
        "used-index",
        "virtio: 1000 buffers of 64 are given back",
        Deed::Card(CardLie::UsedIndex),
        stopped(0x61, "Length"),
    ),
    attack(
        "descriptor-links",
        "virtio: all descriptors are linked beyond the queue, again and again",
        Deed::Card(CardLie::Links),
        Outcome::NoEffect,
    ),
    // Guest messages.
    attack(
        "report-replayed",
        "the second response is the first one again",
        Deed::Message(MessageLie::Replayed),
        stopped(0x76, "message 4 had to come, 2 came"),
    ),
    attack(
        "report-absent",
        "the response's page stays empty",
        Deed::Message(MessageLie::Absent),
        stopped(0x76, "message 2 had to come, 0 came"),
    ),
    attack(
        "report-ciphertext",
        "one bit of the response's ciphertext is flipped",
        Deed::Message(MessageLie::Ciphertext),
        stopped(0x76, "does not open"),
    ),
    attack(
        "report-header",
        "one reserved bit of the response's header is flipped",
        Deed::Message(MessageLie::Header),
        stopped(0x76, "does not open"),
    ),
    attack(
        "report-type",
        "the response's header names another type",
        Deed::Message(MessageLie::Type),
        stopped(0x76, "header is not one to the request"),
    ),
    attack(
        "report-tag",
        "one bit of the response's tag is flipped",
        Deed::Message(MessageLie::Tag),
        stopped(0x76, "does not open"),
    ),
    attack(
        "report-count",
        "the response has a later message count",
        Deed::Message(MessageLie::Count),
        stopped(0x76, "message 2 had to come, 4 came"),
    ),
    attack(
        "report-other-guest",
        "the response is sealed for another guest",
        Deed::Message(MessageLie::OtherGuest),
        stopped(0x76, "does not open"),
    ),
    attack(
        "report-other-data",
        "the report has other report data (the security processor lets it pass)",
        Deed::Message(MessageLie::OtherReportData),
        stopped(0x76, "not the one that was asked for"),
    ),
    attack(
        "report-refused",
        "the security processor is said to have refused",
        Deed::Message(MessageLie::Refused),
        stopped(0x76, "refused a guest message: 0x16"),
    ),
    attack(
        "report-busy",
        "the security processor is said to be busy, for ever",
        Deed::Message(MessageLie::Busy),
        stopped(0x76, "too busy"),
    ),
    // The second processor.
    attack(
        "cpus-many",
        "fw_cfg: 65,535 processors",
        Deed::Files(FilesLie::Processors),
        Outcome::NoEffect,
    ),
    attack(
        "ap-refused",
        "the second processor is not created",
        Deed::Processor(ProcessorLie::Refused),
        Outcome::NoEffect,
    ),
    attack(
        "ap-never",
        "the second processor is said to be created, and never runs",
        Deed::Processor(ProcessorLie::Never),
        Outcome::NoEffect,
    ),
    attack(
        "ap-late",
        "the second processor runs when the guest has given it up",
        Deed::Processor(ProcessorLie::Late),
        Outcome::NoEffect,
    ),
    attack(
        "ap-unasked",
        "the second processor runs before the guest asks, from its state at the launch",
        Deed::Processor(ProcessorLie::Unasked),
        Outcome::NoEffect,
    ),
    attack(
        "ap-nmi",
        "NMI on the second processor, while it waits for work",
        Deed::Processor(ProcessorLie::Nmi),
        stopped(0x12, "cpu 1: vector 2 "),
    ),
    // Time.
    attack(
        "clock-back",
        "the timestamp counter goes back to the launch",
        Deed::Time(TimeLie::Back),
        Outcome::NoEffect,
    ),
    attack(
        "clock-forward",
        "the timestamp counter goes forward by 2^44: more than the keys' epoch",
        Deed::Time(TimeLie::Forward),
        Outcome::Refused("epoch"),
    ),
    attack(
        "date",
        "the battery-backed clock reads as ones",
        Deed::Time(TimeLie::Date),
        Outcome::Refused("epoch"),
    ),
    attack(
        "timer",
        "the timer that the clock is measured with ends at once",
        Deed::Time(TimeLie::Timer),
        stopped(0x31, "the timestamp counter cannot be calibrated"),
    ),
];
