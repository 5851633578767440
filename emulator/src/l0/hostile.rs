//! L0 as a hostile hypervisor: carries one attack out and says so in the log, as `HOSTILE: name: what was done`.
//!
//! Without the option `hostile=NAME` none of these functions changes anything.

use crate::exits;
use crate::log::log;
use crate::machine::{Exit, GuestMemory};
use crate::{fw_cfg, log, memory, page_state, smp};
use cloister_emulator::exit;
use cloister_emulator::ghcb::Event as Request;
use cloister_emulator::hostile::card::Card;
use cloister_emulator::hostile::fw_cfg::{Files, Forgery, MAX_MAP_BYTES, Reading, Transfer};
use cloister_emulator::hostile::message::MessageLie;
use cloister_emulator::hostile::requests::PageStateLie;
use cloister_emulator::hostile::{Attack, Deed, Event, Moment, PageDeed, ProcessorLie};
use cloister_emulator::msr_protocol;
use cloister_emulator::page::{C_BIT, Page};
use cloister_emulator::psc::{self, Operation};
use cloister_emulator::rmp::Size;
use cloister_emulator::vmcb::{SAVE, control};
use cloister_emulator::vmsa::{Segment, field};
use core::fmt::Arguments;

pub(crate) mod devices;

/// Limit of the kernel's interrupt table, once it has loaded it: 256 vectors.
const KERNEL_VECTORS_LIMIT: u32 = 256 * 16 - 1;

/// The attack, and what has to be remembered for it.
pub(crate) struct Hostile {
    attack: Option<&'static Attack>,
    is_done: bool,
    /// Responses to guest messages so far, and the first one.
    responses: u32,
    first_response: Page,
    /// The state of a second processor that was not started when the guest asked.
    withheld: Option<Page>,
    forgery: Option<Forgery>,
    reading: Reading,
    transfers: Transfers,
    card: Card,
}

/// Transfers of fw_cfg by DMA.
#[derive(Default)]
struct Transfers {
    count: u32,
    item: u16,
    /// High half of the request's address.
    high: u32,
    /// The last one, until the guest has read what it brought.
    unread: Option<Transfer>,
}

impl Hostile {
    /// An honest hypervisor where there is no attack.
    pub(crate) fn new(attack: Option<&'static Attack>) -> Self {
        let forgery = match attack.map(|attack| attack.deed) {
            Some(Deed::Files(lie)) => {
                let mut buffer = [0; MAX_MAP_BYTES];
                let map = fw_cfg::find("etc/e820").expect("QEMU tells the memory map");
                let files = Files {
                    map,
                    map_bytes: fw_cfg::read_file(map, &mut buffer),
                    model: fw_cfg::find("opt/cloister/model"),
                };
                let forgery = lie.forge(&files);
                Some(forgery.unwrap_or_else(|| {
                    log::diagnose(format_args!("there is no model whose size could be a lie"))
                }))
            }
            _ => None,
        };
        Self {
            attack,
            is_done: false,
            responses: 0,
            first_response: Page::ZERO,
            withheld: None,
            forgery,
            reading: Reading::default(),
            transfers: Transfers::default(),
            card: Card::default(),
        }
    }

    fn deed(&self) -> Option<Deed> {
        self.attack.map(|attack| attack.deed)
    }

    /// Says what was done, the first time.
    fn done(&mut self, what: Arguments<'_>) {
        if let (Some(attack), false) = (self.attack, self.is_done) {
            log!("HOSTILE: {}: {what}", attack.name);
        }
        self.is_done = true;
    }

    /// The CPUID page of the launch.
    pub(crate) fn cpuid_page(&mut self, page: &mut Page) {
        if let Some(Deed::CpuidPage(lie)) = self.deed() {
            let (leaf, value) = lie.tell(page);
            self.done(format_args!("CPUID page: {leaf:#x} says {value:#x}"));
        }
    }

    /// SEV_STATUS.
    pub(crate) fn sev_status(&mut self, status: u64) -> u64 {
        let Some(Deed::SevStatus(other)) = self.deed() else {
            return status;
        };
        self.done(format_args!("SEV_STATUS reads as {other:#x}"));
        other
    }

    /// Whether the guest runs at VMPL 1, from where RMPADJUST reaches nothing.
    pub(crate) fn is_at_vmpl1(&mut self) -> bool {
        let is_at_vmpl1 = self.deed() == Some(Deed::Vmpl1);
        if is_at_vmpl1 {
            self.done(format_args!("RMPADJUST has no permission"));
        }
        is_at_vmpl1
    }

    /// An answer of the MSR protocol.
    pub(crate) fn msr_answer(&mut self, request: msr_protocol::Request, answer: u64) -> u64 {
        let Some(Deed::Msr(lie)) = self.deed() else {
            return answer;
        };
        let told = lie.tell(request, answer).unwrap_or(answer);
        if told != answer {
            self.done(format_args!("{request:x?}: {told:#x}, not {answer:#x}"));
        }
        told
    }

    /// Whether a report's data is changed before the security processor sees it.
    pub(crate) fn report_data(&mut self, data: &mut [u8; 64]) {
        if self.deed() == Some(Deed::Message(MessageLie::OtherReportData)) {
            data[0] ^= 1;
            self.done(format_args!("one bit of the report data flipped"));
        }
    }

    /// Whether the response is to be sealed for another guest.
    pub(crate) fn is_for_another_guest(&mut self) -> bool {
        let wanted = self.deed() == Some(Deed::Message(MessageLie::OtherGuest));
        if wanted {
            self.done(format_args!("the response is sealed with another key"));
        }
        wanted
    }

    /// What is told in place of a response.
    pub(crate) fn message_status(&mut self) -> Option<u64> {
        let Some(Deed::Message(lie)) = self.deed() else {
            return None;
        };
        let status = lie.status()?;
        self.done(format_args!("a guest message ends with {status:#x}"));
        Some(status)
    }

    /// The second processor's state, where it is to be created now; otherwise whether its creation succeeds.
    pub(crate) fn creation(&mut self, state: Page) -> Result<Page, bool> {
        let (what, told) = match self.deed() {
            Some(Deed::Processor(ProcessorLie::Refused)) => ("it is refused", false),
            Some(Deed::Processor(ProcessorLie::Never)) => ("it is left to wait", true),
            Some(Deed::Processor(ProcessorLie::Late)) => {
                self.withheld = Some(state);
                log!("the second processor's creation is put off");
                return Err(true);
            }
            _ => return Ok(state),
        };
        self.done(format_args!("the second processor's creation: {what}"));
        Err(told)
    }

    /// What becomes of the second processor once the guest has its first report.
    fn after_first_report(&mut self) {
        if self.is_done || self.responses == 0 {
            return;
        }
        match (self.deed(), self.withheld.take()) {
            (Some(Deed::Processor(ProcessorLie::Nmi)), _) => {
                smp::send_nmi();
                self.done(format_args!("NMI sent to the second processor"));
            }
            (_, Some(state)) => {
                smp::start(state);
                self.done(format_args!("the second processor is created now"));
            }
            _ => {}
        }
    }

    /// At the guest's first request that is not the reset code's.
    pub(crate) fn at_registration(&mut self) {
        let unasked = self.deed() == Some(Deed::Processor(ProcessorLie::Unasked));
        if unasked && !self.is_done && smp::start_measured() {
            self.done(format_args!("the second processor runs"));
        }
    }

    /// The response to a guest message.
    pub(crate) fn response(&mut self, response: &mut Page) {
        self.responses += 1;
        if self.responses == 1 {
            self.first_response = response.clone();
        }
        if let Some(Deed::Message(lie)) = self.deed()
            && lie.tell(response, self.responses, &self.first_response)
        {
            let number = self.responses;
            self.done(format_args!("response {number} altered: {lie:?}"));
        }
    }
}

/// Whether the kernel runs, with its own interrupt table.
fn is_in_kernel(exit: &Exit<'_>) -> bool {
    Segment::read(exit.cpu.vmcb(), SAVE + field::IDTR).limit == KERNEL_VECTORS_LIMIT
}

/// Injects an event if now is the moment. False: nothing happened.
pub(crate) fn inject(exit: &mut Exit<'_>, moment: Moment) -> bool {
    let hostile = &mut exit.platform.hostile;
    let Some(Deed::Inject(wanted, event)) = hostile.deed() else {
        return false;
    };
    let is_free = exit.cpu.vmcb().u64(control::INJECT) == 0;
    if wanted != moment || hostile.is_done || !is_free {
        return false;
    }
    let rip = exit.cpu.saved(field::RIP);
    hostile.done(format_args!("{event:x?} at rip {rip:#x}"));
    match (event, event.injection()) {
        (Event::Communication(code), _) => exits::communicate(exit, code),
        (_, Some(injection)) => {
            exit.cpu.set_saved(field::CR2, exit.cpu.saved(field::RSP));
            exit.cpu.vmcb_mut().set_u64(control::INJECT, injection);
        }
        (_, None) => return false,
    }
    true
}

/// At a CPUID. True: the guest gets another event than the one for CPUID.
pub(crate) fn at_cpuid(exit: &mut Exit<'_>) -> bool {
    if !exit.paging().is_on() {
        inject(exit, Moment::ResetCpuid)
    } else {
        is_in_kernel(exit) && inject(exit, Moment::KernelCpuid)
    }
}

/// After a page was mapped that the guest missed: in the kernel this is at an ordinary instruction that uses memory.
pub(crate) fn after_fault(exit: &mut Exit<'_>, info1: u64, address: u64) {
    let is_data = info1 & exit::NPF_WRITE != 0 && info1 & exit::NPF_WALK == 0;
    if address & C_BIT == 0 || !is_data || !is_in_kernel(exit) {
        return;
    }
    inject(exit, Moment::Kernel);
    let hostile = &exit.platform.hostile;
    let Some(Deed::Page(deed @ (PageDeed::Exchange | PageDeed::Share))) = hostile.deed() else {
        return;
    };
    let stack = GuestMemory::new(exit).translate(exit.cpu.saved(field::RSP));
    let (Ok(target), false) = (stack, hostile.is_done) else {
        return;
    };
    let gpa = target.gpa & !0xfff;
    take_page(exit, gpa, deed);
}

/// A validated page in use gets another frame, or becomes shared.
fn take_page(exit: &mut Exit<'_>, gpa: u64, deed: PageDeed) {
    let mut other = Page::ZERO;
    other.bytes_mut().fill(0xee);
    let platform = &mut *exit.platform;
    let before = platform.rmp.entry(gpa);
    let taken = match deed {
        PageDeed::Share => {
            memory::write_page(gpa, &other);
            platform.rmp.share(gpa, Size::Small)
        }
        _ => {
            let host = platform.map.private(gpa).expect("the stack is in memory");
            memory::write_page(host, &other);
            platform.rmp.assign(gpa, Size::Small)
        }
    };
    taken.expect("the stack's page has an entry");
    platform.unmap(gpa, false);
    let after = platform.rmp.entry(gpa);
    platform
        .hostile
        .done(format_args!("page {gpa:#x}: {before:x?} became {after:x?}"));
}

/// Before PVALIDATE looks at the RMP.
pub(crate) fn before_pvalidate(exit: &mut Exit<'_>, gpa: u64, size: Size, validate: bool) {
    let in_kernel = is_in_kernel(exit);
    let platform = &mut *exit.platform;
    let changed = match platform.hostile.deed() {
        _ if platform.hostile.is_done => return,
        Some(Deed::Page(PageDeed::ValidateFirst)) if validate && in_kernel => {
            platform.rmp.validate(gpa, size, true).is_ok()
        }
        Some(Deed::Page(PageDeed::RescindFirst)) if !validate => {
            platform.rmp.assign(gpa, size).is_ok()
        }
        _ => return,
    };
    if changed {
        let entry = platform.rmp.entry(gpa);
        platform
            .hostile
            .done(format_args!("page {gpa:#x} is {entry:x?} before PVALIDATE"));
    }
}

/// A list of page state changes in a GHCB. `None`: it is to be done as it is.
pub(crate) fn page_state(exit: &mut Exit<'_>, page: &mut Page, at: usize) -> Option<u64> {
    let Some(Deed::PageState(lie)) = exit.platform.hostile.deed() else {
        return None;
    };
    let (first, last) = (page.u16(at), page.u16(at + 2));
    if lie.tell(page, at) {
        let hostile = &mut exit.platform.hostile;
        hostile.done(format_args!("{lie:?} in entries {first} to {last}"));
        return Some(0);
    }
    if lie == PageStateLie::InParts {
        page.set_u16(at + 2, first);
        let answer = page_state::change_list(exit, page, at);
        page.set_u16(at + 2, last);
        if last > first {
            let hostile = &mut exit.platform.hostile;
            hostile.done(format_args!("entry {first} alone of those up to {last}"));
        }
        return Some(answer);
    }
    let large = (first..=last.min(psc::MAX_ENTRIES - 1)).find_map(|index| {
        let place = at + psc::HEADER_BYTES + usize::from(index) * 8;
        let entry = psc::Entry::decode(page.u64(place))?;
        (entry.size == Size::Large && entry.operation == Operation::Private).then_some(entry.gpa)
    });
    let answer = page_state::change_list(exit, page, at);
    if let (Some(gpa), false) = (large, exit.platform.hostile.is_done) {
        exit.platform.rmp.smash(gpa);
        let hostile = &mut exit.platform.hostile;
        hostile.done(format_args!("{gpa:#x} is assigned as 512 small pages"));
    }
    Some(answer)
}

/// After a request in the GHCB was handled.
pub(crate) fn after_request(exit: &mut Exit<'_>, page: &mut Page, request: Request) {
    devices::after(exit, page, request);
    if !is_in_kernel(exit) {
        return;
    }
    if let Request::Io(io) = request
        && io.input
    {
        inject(exit, Moment::KernelCall);
    }
    let hostile = &mut exit.platform.hostile;
    if let Some(Deed::Ghcb(lie)) = hostile.deed()
        && (lie.is_lasting() || !hostile.is_done)
        && lie.tell(page, request)
    {
        hostile.done(format_args!("{lie:?} in the answer to {request:x?}"));
    }
}
