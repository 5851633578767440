//! Lies in answers to the guest's requests: MSR protocol, GHCB, page state changes, and the CPUID page.

use crate::cpuid;
use crate::ghcb::{self, Event, field};
use crate::msr_protocol::{self, Request};
use crate::page::Page;
use crate::psc;

/// A C-bit that is none here, but could be one.
const OTHER_C_BIT: u32 = 50;
const SEV_LEAF: u32 = 0x8000_001f;

/// A lie in an answer of the MSR protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MsrLie {
    /// CPUID 0x8000001F: another C-bit.
    CpuidOtherCBit,
    /// CPUID 0x8000001F: no SEV.
    CpuidNoSev,
    /// SEV information: another C-bit.
    InfoOtherCBit,
    /// SEV information: only versions that are not there yet.
    InfoVersion,
    /// Features: none.
    NoFeatures,
    /// GHCB registration: the address of another page.
    OtherGhcb,
    /// GHCB registration: the answer to another request.
    OtherAnswer,
}

impl MsrLie {
    /// What is said to a request in place of the true answer, if this is the one.
    pub fn tell(self, request: Request, answer: u64) -> Option<u64> {
        const VALUE: u64 = 0xffff_ffff << 32;
        const EBX: u32 = 1;
        const EAX: u32 = 0;
        const SEV: u64 = 1 << 1;
        let info = |versions: u64, c_bit: u32| versions << 32 | u64::from(c_bit) << 24 | 1;
        match (self, request) {
            (Self::CpuidOtherCBit, Request::Cpuid { leaf, register })
                if (leaf, register) == (SEV_LEAF, EBX) =>
            {
                let lie = answer >> 32 & !0x3f | u64::from(OTHER_C_BIT);
                Some(answer & !VALUE | lie << 32)
            }
            (Self::CpuidNoSev, Request::Cpuid { leaf, register })
                if (leaf, register) == (SEV_LEAF, EAX) =>
            {
                Some(answer & !(SEV << 32))
            }
            (Self::InfoOtherCBit, Request::SevInfo) => Some(info(0x0002_0001, OTHER_C_BIT)),
            (Self::InfoVersion, Request::SevInfo) => Some(info(0x0004_0003, 51)),
            (Self::NoFeatures, Request::Features) => {
                Some(answer & !(msr_protocol::HYPERVISOR_FEATURES << 12))
            }
            (Self::OtherGhcb, Request::RegisterGhcb { .. }) => Some(answer + 0x1000),
            (Self::OtherAnswer, Request::RegisterGhcb { .. }) => Some(msr_protocol::features()),
            _ => None,
        }
    }
}

/// A lie in the CPUID page, as if the security processor let it pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CpuidPageLie {
    /// Another C-bit.
    OtherCBit,
    /// One entry more than the page has room for.
    TooMany,
    /// Two entries for one leaf that differ.
    Contradiction,
    /// No RDRAND and no RDSEED, so that a guest makes its keys of something else.
    NoRandomNumbers,
}

impl CpuidPageLie {
    /// Changes the page. Leaf and register that changed, or the number of entries.
    pub fn tell(self, page: &mut Page) -> (u32, u32) {
        const EBX: usize = 1;
        const ECX: usize = 2;
        const RDRAND: u32 = 1 << 30;
        const RDSEED: u32 = 1 << 18;
        match self {
            Self::OtherCBit => change(page, SEV_LEAF, EBX, |ebx| ebx & !0x3f | OTHER_C_BIT),
            Self::TooMany => {
                let count = cpuid::MAX_ENTRIES as u32 + 1;
                page.set_u32(0, count);
                (0, count)
            }
            Self::Contradiction => {
                let last = (page.u32(0) as usize).min(cpuid::MAX_ENTRIES - 1);
                let first: [u8; cpuid::ENTRY_BYTES] = page.field(cpuid::FIRST_ENTRY);
                let at = cpuid::FIRST_ENTRY + last * cpuid::ENTRY_BYTES;
                page.set(at, &first);
                page.set_u32(at + cpuid::REGISTERS, !page.u32(at + cpuid::REGISTERS));
                page.set_u32(0, last as u32 + 1);
                (page.u32(at), last as u32 + 1)
            }
            Self::NoRandomNumbers => {
                change(page, 7, EBX, |ebx| ebx & !RDSEED);
                change(page, 1, ECX, |ecx| ecx & !RDRAND)
            }
        }
    }
}

/// Changes a register in the first entry of a leaf.
fn change(page: &mut Page, leaf: u32, register: usize, to: impl Fn(u32) -> u32) -> (u32, u32) {
    for index in 0..page.u32(0) as usize {
        let entry = cpuid::FIRST_ENTRY + index * cpuid::ENTRY_BYTES;
        if page.u32(entry) == leaf {
            let at = entry + cpuid::REGISTERS + register * 4;
            page.set_u32(at, to(page.u32(at)));
            return (leaf, page.u32(at));
        }
    }
    (leaf, 0)
}

/// A lie in the GHCB after an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GhcbLie {
    /// No field is marked as valid.
    NothingValid,
    /// The event is said to have raised #PF.
    PageFault,
    /// The event is said to have ended in a way that there is not.
    UnknownResult,
    /// Everything that the answer does not need is ones, and marked as valid.
    Garbage,
}

impl GhcbLie {
    /// Whether it is told again and again.
    pub fn is_lasting(self) -> bool {
        self == Self::Garbage
    }

    /// Changes the answer to a port's or device's access; false for other events.
    pub fn tell(self, page: &mut Page, event: Event) -> bool {
        const PAGE_FAULT: u64 = 14 | 3 << 8 | 1 << 11 | 1 << 31;
        let (bytes, at) = match event {
            Event::Io(io) => (io.bytes, None),
            Event::ReadMmio(_, bytes, at) => (bytes, Some(at)),
            Event::WriteMmio(..) => (0, None),
            _ => return false,
        };
        match self {
            Self::NothingValid => page.set(field::VALID, &[0; 16]),
            Self::PageFault => {
                ghcb::set(page, field::EXIT_INFO1, 1);
                ghcb::set(page, field::EXIT_INFO2, PAGE_FAULT);
            }
            Self::UnknownResult => ghcb::set(page, field::EXIT_INFO1, 0x17),
            Self::Garbage => fill(page, bytes, at),
        }
        true
    }
}

/// Ones, but for so many bytes of RAX or of the data at an offset, and how the event ended.
fn fill(page: &mut Page, bytes: usize, data: Option<usize>) {
    let kept = page.clone();
    page.bytes_mut().fill(0xff);
    for at in [field::EXIT_INFO1, field::EXIT_INFO2] {
        page.set_u64(at, kept.u64(at));
    }
    let at = data.unwrap_or(field::RAX);
    page.set(at, &kept.bytes()[at..at + bytes]);
}

/// A lie about the progress of page state changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageStateLie {
    /// Success each time, and nothing is done.
    NoProgress,
    /// The list is said to be done, and nothing is: frames come when the guest uses the pages.
    Undone,
    /// The list is said to be done beyond its end.
    Overrun,
    /// The entry in which the list stops names another page.
    OtherPage,
    /// One entry of the list at a time, as a hypervisor may.
    InParts,
    /// The page of 2 MiB that was asked for comes as 512 small ones, as a hypervisor may.
    Smashed,
}

impl PageStateLie {
    /// Changes the list at an offset of the GHCB; false if the changes have to be made first or at all.
    pub fn tell(self, page: &mut Page, at: usize) -> bool {
        match self {
            Self::NoProgress => {}
            Self::Undone => page.set_u16(at, page.u16(at + 2) + 1),
            Self::Overrun => page.set_u16(at, page.u16(at + 2) + 2),
            Self::OtherPage => {
                let entry = at + psc::HEADER_BYTES + usize::from(page.u16(at)) * 8;
                page.set_u64(entry, page.u64(entry) ^ 0x1000);
            }
            Self::InParts | Self::Smashed => return false,
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpuid::cpuid_page;
    use crate::ghcb::Io;

    #[test]
    fn only_the_answer_in_question_is_a_lie() {
        let ebx = Request::Cpuid {
            leaf: SEV_LEAF,
            register: 1,
        };
        let answer = msr_protocol::cpuid(1, 0x73);
        let lie = MsrLie::CpuidOtherCBit.tell(ebx, answer);
        assert_eq!(lie, Some(msr_protocol::cpuid(1, 0x72)));
        let eax = Request::Cpuid {
            leaf: SEV_LEAF,
            register: 0,
        };
        assert_eq!(MsrLie::CpuidOtherCBit.tell(eax, answer), None);
        let no_sev = MsrLie::CpuidNoSev.tell(eax, msr_protocol::cpuid(0, 0x1a));
        assert_eq!(no_sev, Some(msr_protocol::cpuid(0, 0x18)));
        let info = MsrLie::InfoOtherCBit.tell(Request::SevInfo, msr_protocol::sev_info());
        assert_eq!(info, Some(0x0002_0001_3200_0001));
        let none = MsrLie::NoFeatures.tell(Request::Features, msr_protocol::features());
        assert_eq!(none, Some(0x081));
    }

    #[test]
    fn the_cpuid_page_lies_where_it_should() {
        let honest = cpuid_page(&|leaf, subleaf| match (leaf, subleaf) {
            (0, 0) => [7, 0, 0, 0],
            (_, 0) => [u32::MAX; 4],
            _ => [0; 4],
        });
        let told = |lie: CpuidPageLie| {
            let mut page = honest.clone();
            let told = lie.tell(&mut page);
            assert_ne!(page.bytes(), honest.bytes(), "{lie:?}");
            told
        };
        assert_eq!(told(CpuidPageLie::OtherCBit), (SEV_LEAF, 0x72));
        assert_eq!(told(CpuidPageLie::TooMany), (0, 65));
        assert_eq!(
            told(CpuidPageLie::Contradiction),
            (0, (honest.u32(0) + 1).min(64))
        );
        let (leaf, ecx) = told(CpuidPageLie::NoRandomNumbers);
        assert_eq!((leaf, ecx >> 30 & 1), (1, 0));
    }

    #[test]
    fn garbage_spares_the_answer() {
        let mut page = Page::ZERO;
        ghcb::set(&mut page, field::RAX, 0x60);
        ghcb::finish(&mut page, Ok(0));
        let io = Io {
            port: 0x3fd,
            bytes: 1,
            input: true,
            string: None,
        };
        assert!(GhcbLie::Garbage.tell(&mut page, Event::Io(io)));
        assert_eq!(page.u64(field::RAX), 0xffff_ffff_ffff_ff60);
        assert_eq!(page.u64(field::EXIT_INFO1), 0);
        assert!(ghcb::is_valid(&page, field::RBX));
        assert!(!GhcbLie::Garbage.tell(&mut page, Event::Features));
    }

    #[test]
    fn a_list_of_page_state_changes_lies_about_its_place() {
        let list = |lie: PageStateLie| {
            let mut page = Page::ZERO;
            page.set_u16(0x802, 3);
            page.set_u64(0x808, 1 << 52 | 0x40_0000);
            let told = lie.tell(&mut page, 0x800);
            (told, page.u16(0x800), page.u64(0x808) & 0xff_f000)
        };
        assert_eq!(list(PageStateLie::NoProgress), (true, 0, 0x40_0000));
        assert_eq!(list(PageStateLie::Undone), (true, 4, 0x40_0000));
        assert_eq!(list(PageStateLie::Overrun), (true, 5, 0x40_0000));
        assert_eq!(list(PageStateLie::OtherPage), (true, 0, 0x40_1000));
        assert_eq!(list(PageStateLie::InParts), (false, 0, 0x40_0000));
    }
}
