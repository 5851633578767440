use super::*;
use crate::address::{FrameRange, LARGE_PAGE_FRAMES};
use crate::cpuid::CpuidResult;
use crate::features::HypervisorFeatures;
use crate::rmp::Vmpl;
use crate::testing::{Host, HostMemory, Rng, TestHypervisor, TestMemory, gfn};
use std::cell::RefCell;
use std::rc::Rc;

const GHCB: u64 = 0x40;
const BITMAP: usize = 0x3f0 / 8;
const BUFFER: usize = 0x800 / 8;
const INFO_1: usize = 0x398 / 8;
const INFO_2: usize = 0x3a0 / 8;

type TestGhcb = Ghcb<TestHypervisor, TestMemory>;

fn ghcb(hypervisor: TestHypervisor) -> TestGhcb {
    let page = hypervisor.pages(GHCB, 1);
    Ghcb::register(hypervisor, page).unwrap()
}

/// A GHCB of an honest host, and the host.
fn honest() -> (TestGhcb, Rc<RefCell<Host>>) {
    let host = Rc::new(RefCell::new(Host::default()));
    let answering = Rc::clone(&host);
    let hypervisor =
        TestHypervisor::new(move |msr, memory| answering.borrow_mut().exit(msr, memory));
    (ghcb(hypervisor), host)
}

/// A GHCB of a host that is honest up to what `tamper` does after each event.
fn tampered(tamper: impl FnMut(&mut Host, &HostMemory) + 'static) -> TestGhcb {
    let mut host = Host::default();
    host.msrs.insert(0x1b, 0x1_2345_6789);
    ghcb(TestHypervisor::tampering(host, tamper))
}

#[test]
fn cpuid_has_its_registers() {
    let (mut ghcb, _) = honest();
    let plain = CpuidResult {
        eax: 8,
        ebx: 1,
        ecx: 0,
        edx: 9,
    };
    assert_eq!(ghcb.cpuid(7, 1, 7), Ok(plain));
    let xsave = CpuidResult {
        eax: 0xe,
        ebx: 0,
        ecx: 7,
        edx: 9,
    };
    assert_eq!(ghcb.cpuid(0xd, 0, 7), Ok(xsave), "XCR0 goes along");
}

#[test]
fn msrs_are_read_and_written() {
    let (mut ghcb, host) = honest();
    ghcb.write_msr(0x1b, 0xfee0_0900_dead_beef).unwrap();
    assert_eq!(host.borrow().msrs[&0x1b], 0xfee0_0900_dead_beef);
    assert_eq!(ghcb.read_msr(0x1b), Ok(0xfee0_0900_dead_beef));
    assert_eq!(
        ghcb.read_msr(0x1c),
        Err(NaeError::Exception(GuestException::GeneralProtection(0)))
    );
}

#[test]
fn ports_move_as_much_as_they_should() {
    let (mut ghcb, host) = honest();
    for (size, value) in [
        (IoSize::Byte, 0x44),
        (IoSize::Word, 0x3344),
        (IoSize::Dword, 0x1122_3344),
    ] {
        ghcb.io_write(0x3f8, size, 0x1122_3344).unwrap();
        assert_eq!(host.borrow().ports[&0x3f8], value);
        host.borrow_mut().ports.insert(0x3f8, 0x1122_3344);
        assert_eq!(ghcb.io_read(0x3f8, size), Ok(value));
    }
}

#[test]
fn string_reads_come_through_the_buffer_in_parts() {
    let (mut ghcb, host) = honest();
    let mut stream = std::vec![0; 5000];
    Rng(1).fill(&mut stream);
    host.borrow_mut().stream = stream.clone();
    let exits = ghcb.hypervisor().exits.len();
    let mut bytes = std::vec![0; 4999];
    ghcb.io_read_bytes(0x511, &mut bytes).unwrap();
    assert_eq!(bytes, stream[..4999]);
    assert_eq!(ghcb.hypervisor().exits.len() - exits, 3);
    assert_eq!(host.borrow().stream.len(), 1);
}

#[test]
fn device_memory_moves_as_much_as_it_should() {
    let (mut ghcb, host) = honest();
    let value = 0x1122_3344_5566_7788;
    for (size, part) in [
        (MmioSize::Byte, 0x88),
        (MmioSize::Word, 0x7788),
        (MmioSize::Dword, 0x5566_7788),
        (MmioSize::Qword, value),
    ] {
        ghcb.mmio_write(0xfee0_0030, size, value).unwrap();
        assert_eq!(host.borrow().device[&0xfee0_0030], part);
        assert_eq!(ghcb.mmio_read(0xfee0_0030, size), Ok(part));
    }
}

#[test]
fn features_are_asked_for() {
    let (mut ghcb, _) = honest();
    let features = ghcb.features().unwrap();
    let needed = HypervisorFeatures::SNP | HypervisorFeatures::AP_CREATION;
    assert_eq!(features.require(needed), Ok(()));
    assert!(features.require(HypervisorFeatures::MULTI_VMPL).is_err());
}

#[test]
fn processors_are_created_and_destroyed() {
    let (mut ghcb, host) = honest();
    let mut creation = ApCreation {
        apic_id: 3,
        vmpl: Vmpl::Vmpl1,
        vmsa: gfn(0x201),
        sev_features: 0x21,
    };
    ghcb.create_ap(&creation).unwrap();
    ghcb.destroy_ap(3, Vmpl::Vmpl1).unwrap();
    let seen = [
        [3 << 32 | 1 << 16 | 1, 0x20_1000, 0x21],
        [3 << 32 | 1 << 16 | 2, 0, 0],
    ];
    assert_eq!(host.borrow().started, seen);
    creation.vmsa = gfn(0x200);
    assert_eq!(
        ghcb.create_ap(&creation),
        Err(ApCreationError::LargePageAligned)
    );
    assert_eq!(ghcb.ap_reset_hold(), Ok(true));
}

#[test]
fn a_host_that_lost_the_registration_refuses() {
    let mut ghcb = tampered(|_, _| {});
    let hypervisor = ghcb.hypervisor();
    let other = gfn(GHCB + 1).address() | 0x012;
    hypervisor.exit(other);
    assert_eq!(
        ghcb.features(),
        Err(NaeError::Refused(Refusal::NotRegistered))
    );
}

/// All events that return something, on a GHCB.
fn all_events(ghcb: &mut TestGhcb) -> [Option<NaeError>; 9] {
    [
        ghcb.cpuid(1, 0, 1).err(),
        ghcb.read_msr(0x1b).err(),
        ghcb.write_msr(0x1b, 1).err(),
        ghcb.io_read(0x60, IoSize::Byte).err(),
        ghcb.io_write(0x60, IoSize::Byte, 1).err(),
        ghcb.mmio_read(0x1000, MmioSize::Dword).err(),
        ghcb.mmio_write(0x1000, MmioSize::Dword, 1).err(),
        ghcb.features().err(),
        ghcb.guest_request(gfn(5), gfn(6)).err(),
    ]
}

#[test]
fn nothing_is_taken_from_a_field_that_is_not_valid() {
    let mut ghcb = tampered(|_, memory| {
        memory.set(GHCB, BITMAP, 0);
        memory.set(GHCB, BITMAP + 1, 0);
    });
    let missing = Some(NaeError::Missing(Field::SwExitInfo1));
    assert_eq!(all_events(&mut ghcb), [missing; 9]);
}

#[test]
fn each_missing_register_is_named() {
    let omitting = |field: Field| {
        tampered(move |_, memory| {
            let place = BITMAP + field.index() / 64;
            let bits = memory.get(GHCB, place);
            memory.set(GHCB, place, bits & !(1 << (field.index() % 64)));
        })
    };
    for field in [Field::Rax, Field::Rbx, Field::Rcx, Field::Rdx] {
        let error = Err(NaeError::Missing(field));
        assert_eq!(omitting(field).cpuid(1, 0, 1), error);
    }
    for field in [Field::Rax, Field::Rdx] {
        let error = Err(NaeError::Missing(field));
        assert_eq!(omitting(field).read_msr(0x1b), error);
    }
    let read = omitting(Field::Rax).io_read(0x60, IoSize::Dword);
    assert_eq!(read, Err(NaeError::Missing(Field::Rax)));
    let error = Some(NaeError::Missing(Field::SwExitInfo1));
    let mut ghcb = omitting(Field::SwExitInfo1);
    assert_eq!(all_events(&mut ghcb), [error; 9]);
    // Two of the events return something in SW_EXITINFO2.
    let error = Some(NaeError::Missing(Field::SwExitInfo2));
    let mut ghcb = omitting(Field::SwExitInfo2);
    let none = None;
    let expected = [none, none, none, none, none, none, none, error, error];
    assert_eq!(all_events(&mut ghcb), expected);
    let change = ghcb.page_state_change(range(1, 3), PageState::Private);
    assert!(matches!(change, Err(PscError::Nae(nae)) if Some(nae) == error));
}

/// A host that writes these results to every event.
fn claiming(info_1: u64, info_2: u64) -> TestGhcb {
    tampered(move |_, memory| {
        memory.set(GHCB, INFO_1, info_1);
        memory.set(GHCB, INFO_2, info_2);
    })
}

#[test]
fn errors_of_the_host_are_errors() {
    let refusals = [
        (0, Refusal::Unknown(0)),
        (1, Refusal::NotRegistered),
        (2, Refusal::InvalidUsage),
        (3, Refusal::InvalidScratch),
        (4, Refusal::MissingInput),
        (5, Refusal::InvalidInput),
        (6, Refusal::InvalidEvent),
        (7, Refusal::Unknown(7)),
        (u64::MAX, Refusal::Unknown(u64::MAX)),
    ];
    for (info_2, refusal) in refusals {
        let error = Some(NaeError::Refused(refusal));
        assert_eq!(all_events(&mut claiming(2, info_2)), [error; 9]);
    }
    for result in [3, 0x10, u32::MAX] {
        let error = Some(NaeError::UnknownResult(result));
        let info_1 = u64::from(result) | 7 << 32;
        assert_eq!(all_events(&mut claiming(info_1, 0)), [error; 9]);
    }
}

#[test]
fn only_two_exceptions_are_understood() {
    let valid = 3 << 8 | 1 << 31;
    let accepted = [
        (6 | valid, GuestException::InvalidOpcode),
        (
            13 | valid | 1 << 11 | 7 << 32,
            GuestException::GeneralProtection(7),
        ),
        (13 | valid | 7 << 32, GuestException::GeneralProtection(0)),
    ];
    for (info, exception) in accepted {
        let error = Some(NaeError::Exception(exception));
        assert_eq!(all_events(&mut claiming(1, info)), [error; 9]);
    }
    let refused = [
        0,
        6 | 3 << 8,
        6 | 1 << 31,
        6 | valid | 1 << 11,
        13 | 3 << 8,
        13 | valid | 1 << 11 | 1 << 12,
        14 | valid | 1 << 11,
        29 | valid | 1 << 11,
        2 | valid,
        0x80 | valid,
    ];
    for info in refused {
        let error = Some(NaeError::InvalidException(info));
        assert_eq!(all_events(&mut claiming(1, info)), [error; 9], "{info:#x}");
    }
}

#[test]
fn a_host_that_does_nothing_has_not_answered() {
    // Registers that the guest itself set stay valid; those that it did not set are missing.
    let mut ghcb = ghcb(TestHypervisor::new(|msr, _| msr + 1));
    assert_eq!(ghcb.cpuid(1, 0, 1), Err(NaeError::Missing(Field::Rbx)));
    assert_eq!(ghcb.read_msr(0x1b), Err(NaeError::Missing(Field::Rax)));
}

#[test]
fn nothing_of_an_event_is_left_in_the_next() {
    let seen = Rc::new(RefCell::new(std::vec::Vec::new()));
    let log = Rc::clone(&seen);
    let mut host = Host::default();
    let mut ghcb = ghcb(TestHypervisor::new(move |msr, memory| {
        log.borrow_mut().push(memory.read_page(GHCB));
        host.exit(msr, memory)
    }));
    ghcb.write_msr(0x1b, u64::MAX).unwrap();
    ghcb.features().unwrap();
    let last = seen.borrow().last().unwrap().clone();
    let set: std::vec::Vec<usize> = (0..0x400).filter(|&at| last[at] != 0).collect();
    // The event's code (0x8000FFFD) and the bitmap.
    assert_eq!(set, [0x390, 0x391, 0x393, 0x3fe]);
}

#[test]
fn any_page_the_host_leaves_behind_is_survived() {
    let mut rng = Rng(9);
    for _ in 0..300 {
        let seed = rng.next();
        let mut garbage = Rng(seed);
        let mut ghcb = tampered(move |_, memory| {
            let mut page = memory.read_page(GHCB);
            match garbage.below(3) {
                0 => garbage.fill(&mut page),
                1 => garbage.fill(&mut page[0x390..0x400]),
                _ => (0..4).for_each(|_| garbage.alter(&mut page[0x1f8..0x900])),
            }
            memory.write_page(GHCB, &page);
        });
        all_events(&mut ghcb);
        let range = FrameRange::new(gfn(512), 700).unwrap();
        let _ = ghcb.page_state_change(range, PageState::Private);
    }
}

fn range(first: u64, frames: u64) -> FrameRange {
    FrameRange::new(gfn(first), frames).unwrap()
}

#[test]
fn every_page_of_a_range_changes_its_state() {
    for step in [1000, 253, 100, 1] {
        let (mut ghcb, host) = honest();
        host.borrow_mut().psc_step = step;
        let frames = 300 + 3 * LARGE_PAGE_FRAMES + 7;
        let range = range(212, frames);
        ghcb.page_state_change(range, PageState::Private).unwrap();
        let host = host.borrow();
        let changed: std::vec::Vec<u64> = host.page_states.keys().copied().collect();
        assert!(changed.iter().copied().eq(212..212 + frames));
        assert!(host.page_states.values().all(|&state| state == 1));
    }
}

#[test]
fn lists_are_as_long_as_the_buffer() {
    for (frames, exits) in [(0, 0), (1, 1), (253, 1), (254, 2), (506, 2), (507, 3)] {
        let (mut ghcb, host) = honest();
        let before = ghcb.hypervisor().exits.len();
        // Frames between multiples of 512 make 4 KiB entries only.
        ghcb.page_state_change(range(1, frames), PageState::Shared)
            .unwrap();
        assert_eq!(ghcb.hypervisor().exits.len() - before, exits, "{frames}");
        assert_eq!(host.borrow().page_states.len() as u64, frames);
    }
}

/// A change of three pages, with this written over the header at each exit.
fn with_header(header: u64) -> Result<(), PscError> {
    let mut ghcb = tampered(move |_, memory| memory.set(GHCB, BUFFER, header));
    ghcb.page_state_change(range(1, 3), PageState::Private)
}

#[test]
fn a_header_that_cannot_be_is_refused() {
    let last = 2 << 16;
    assert_eq!(with_header(last | 3), Ok(()));
    for current in [4, 253, 0xffff] {
        let overrun = PscError::Overrun { current, last: 2 };
        assert_eq!(with_header(last | u64::from(current)), Err(overrun));
    }
    for header in [3, 1 << 16 | 3, 3 << 16 | 4, 0xffff_ffff, last | 3 | 1 << 32] {
        let changed = PscError::HeaderChanged(header);
        assert_eq!(with_header(header), Err(changed), "{header:#x}");
    }
}

#[test]
fn a_change_that_goes_back_is_refused() {
    let mut exits = 0;
    let mut ghcb = tampered(move |_, memory| {
        exits += 1;
        memory.set(GHCB, BUFFER, 2 << 16 | if exits == 1 { 2 } else { 1 });
        for index in 0..3 {
            // No page done: the entries are as they were.
            let entry = memory.get(GHCB, BUFFER + 1 + index) & !0xfff;
            memory.set(GHCB, BUFFER + 1 + index, entry);
        }
    });
    let error = ghcb.page_state_change(range(1, 3), PageState::Private);
    assert_eq!(error, Err(PscError::Backwards { from: 2, to: 1 }));
}

#[test]
fn a_change_that_does_not_get_on_ends() {
    let mut host = Host {
        psc_step: 0,
        ..Host::default()
    };
    let mut ghcb = ghcb(TestHypervisor::new(move |msr, memory| {
        host.exit(msr, memory)
    }));
    let before = ghcb.hypervisor().exits.len();
    let error = ghcb.page_state_change(range(1, 3), PageState::Private);
    assert_eq!(error, Err(PscError::NoProgress));
    let exits = ghcb.hypervisor().exits.len() - before;
    assert_eq!(exits, psc::MAX_IDLE_EXITS as usize);
}

#[test]
fn a_large_page_may_be_done_in_parts_but_not_go_back() {
    /// A host that reaches these places of one 2 MiB page, exit by exit.
    fn reaching(places: &'static [u64]) -> Result<(), PscError> {
        let mut next = places.iter();
        let mut ghcb = tampered(move |_, memory| {
            let entry = memory.get(GHCB, BUFFER + 1) & !0xfff;
            let place = next.next().copied().unwrap_or(0);
            memory.set(GHCB, BUFFER + 1, entry | place);
            let done = u64::from(place == 512);
            memory.set(GHCB, BUFFER, done);
        });
        ghcb.page_state_change(range(512, 512), PageState::Private)
    }
    assert_eq!(reaching(&[1, 2, 100, 511, 512]), Ok(()));
    let entry: u64 = 1 << 56 | 1 << 52 | 512 << 12;
    let changed = |written: u64, read: u64| PscError::EntryChanged {
        written: entry | written,
        read: entry | read,
    };
    assert_eq!(reaching(&[100, 99]), Err(changed(100, 99)));
    assert_eq!(reaching(&[513]), Err(changed(0, 513)));
}

#[test]
fn an_entry_that_changed_is_refused() {
    for bit in [12, 20, 51, 52, 53, 55, 56, 57, 63] {
        let mut ghcb = tampered(move |_, memory| {
            let entry = memory.get(GHCB, BUFFER + 2) & !0xfff;
            memory.set(GHCB, BUFFER + 2, entry ^ 1 << bit);
            memory.set(GHCB, BUFFER, 2 << 16 | 1);
        });
        let error = ghcb.page_state_change(range(1, 3), PageState::Private);
        assert!(matches!(error, Err(PscError::EntryChanged { .. })), "{bit}");
    }
}

#[test]
fn a_refused_change_is_an_error() {
    for info in [1 << 32 | 1, 1 << 32 | 2, 0x100 << 32, 1] {
        let mut ghcb = claiming(0, info);
        let error = ghcb.page_state_change(range(1, 3), PageState::Private);
        assert_eq!(error, Err(PscError::Refused(info)));
    }
    let error = claiming(2, 5).page_state_change(range(1, 3), PageState::Private);
    let refused = NaeError::Refused(Refusal::InvalidInput);
    assert_eq!(error, Err(PscError::Nae(refused)));
}
