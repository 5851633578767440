use super::*;
use crate::ghcb::{Ghcb, NaeError, Refusal};
use crate::report::{AttestationReport, REPORT_BYTES};
use crate::rmp::Vmpl;
use crate::secrets::Vmpck;
use crate::testing::{
    Host, HostMemory, Psp, REFUSED, Rng, TestHypervisor, TestMemory, report_template, seal,
};
use std::cell::RefCell;
use std::rc::Rc;
use std::vec::Vec;
use zeroize::Zeroizing;

const GHCB: u64 = 0x40;
const REQUEST: u64 = 0x41;
const RESPONSE: u64 = 0x42;
const CERTIFICATES: u64 = 0x50;
const BITMAP: usize = 0x3f0 / 8;
const INFO_2: usize = 0x3a0 / 8;
const RBX: usize = 0x318 / 8;
const KEY: [u8; 32] = [0xc0; 32];

const ASKED: ReportRequest = ReportRequest {
    report_data: [0x5a; 64],
    vmpl: Vmpl::Vmpl0,
    key: KeySelect::Vcek,
};

/// A guest with a channel to a security processor.
struct Guest {
    ghcb: Ghcb<TestHypervisor, TestMemory>,
    request: TestMemory,
    response: TestMemory,
    channel: GuestChannel,
}

impl Guest {
    fn new(hypervisor: TestHypervisor) -> Self {
        let [page, request, response] =
            [GHCB, REQUEST, RESPONSE].map(|frame| hypervisor.pages(frame, 1));
        Self {
            ghcb: Ghcb::register(hypervisor, page).unwrap(),
            request,
            response,
            channel: channel(Vmpl::Vmpl0, 0),
        }
    }

    fn with<T>(
        &mut self,
        ask: impl FnOnce(&mut GuestChannel, &mut GuestLink<'_, TestHypervisor, TestMemory>) -> T,
    ) -> T {
        let mut link = GuestLink {
            ghcb: &mut self.ghcb,
            request: &mut self.request,
            response: &mut self.response,
        };
        ask(&mut self.channel, &mut link)
    }

    fn report(&mut self) -> Result<AttestationReport, MessageError> {
        self.with(|channel, link| channel.report(link, &ASKED))
    }

    fn extended_report(
        &mut self,
        pages: usize,
    ) -> Result<(AttestationReport, Certificates), MessageError> {
        let mut buffer = self.ghcb.hypervisor().pages(CERTIFICATES, pages);
        self.with(|channel, link| channel.extended_report(link, &ASKED, &mut buffer))
    }

    /// The channel is closed and its key gone.
    fn assert_closed(&mut self) {
        assert!(!self.channel.is_open());
        assert_eq!(self.channel.vmpck_bytes(), &[0; 32]);
        let exits = self.ghcb.hypervisor().exits.len();
        assert_eq!(self.report(), Err(MessageError::Closed));
        assert_eq!(self.ghcb.hypervisor().exits.len(), exits, "nothing is sent");
    }
}

fn channel(vmpl: Vmpl, count: u64) -> GuestChannel {
    let key = [0xc0 + vmpl as u8; 32];
    GuestChannel::new(Vmpck::new(vmpl, Zeroizing::new(key)).unwrap(), count)
}

fn honest() -> (Guest, Rc<RefCell<Host>>) {
    let host = Rc::new(RefCell::new(Host::default()));
    let answering = Rc::clone(&host);
    let hypervisor =
        TestHypervisor::new(move |msr, memory| answering.borrow_mut().exit(msr, memory));
    (Guest::new(hypervisor), host)
}

fn tampered(tamper: impl FnMut(&mut Host, &HostMemory) + 'static) -> Guest {
    Guest::new(TestHypervisor::tampering(Host::default(), tamper))
}

#[test]
fn a_report_binds_what_was_asked() {
    let (mut guest, host) = honest();
    let report = guest.report().unwrap();
    let mut expected = report_template();
    expected[0x30..0x34].fill(0);
    expected[0x50..0x90].fill(0x5a);
    assert_eq!(report.as_bytes()[..], expected);
    assert_eq!(guest.channel.count(), 2);
    let request = &host.borrow().requests[0];
    // Header of MSG_REPORT_REQ 1 with VMPCK0; nothing behind the payload.
    assert_eq!(request[0x20..0x28], 1_u64.to_le_bytes());
    assert_eq!(
        request[0x30..0x3d],
        [1, 1, 0x60, 0, 5, 1, 0x60, 0, 0, 0, 0, 0, 0]
    );
    assert!(request[0xc0..].iter().all(|&byte| byte == 0));
    let payload = crate::testing::unseal(&KEY, request).unwrap();
    assert_eq!(payload[..0x40], [0x5a; 64]);
    assert_eq!(payload[0x40..0x48], [0, 0, 0, 0, 1, 0, 0, 0]);
}

#[test]
fn counts_go_on_from_message_to_message() {
    let (mut guest, host) = honest();
    for _ in 0..3 {
        guest.report().unwrap();
    }
    let counts: Vec<u8> = host
        .borrow()
        .requests
        .iter()
        .map(|page| page[0x20])
        .collect();
    assert_eq!(counts, [1, 3, 5]);
    assert_eq!(guest.channel.count(), 6);
}

#[test]
fn each_vmpl_has_its_key() {
    for vmpl in [Vmpl::Vmpl0, Vmpl::Vmpl1, Vmpl::Vmpl2, Vmpl::Vmpl3] {
        let (mut guest, host) = honest();
        host.borrow_mut().psp.counts[vmpl as usize] = 40;
        guest.channel = channel(vmpl, 40);
        let request = ReportRequest { vmpl, ..ASKED };
        let report = guest.with(|channel, link| channel.report(link, &request));
        assert_eq!(report.map(|report| report.vmpl), Ok(vmpl as u32));
        assert_eq!(host.borrow().requests[0][0x3c], vmpl as u8);
    }
}

#[test]
fn keys_are_derived_from_what_was_named() {
    let (mut guest, _) = honest();
    let request = KeyRequest {
        root: RootKey::Endorsement(KeySelect::Vlek),
        fields: GuestFields::POLICY | GuestFields::MEASUREMENT | GuestFields::GUEST_SVN,
        vmpl: Vmpl::Vmpl2,
        guest_svn: 7,
        tcb_version: 0x1122,
        launch_mitigation_vector: None,
    };
    let key = guest.with(|channel, link| channel.derive_key(link, &request));
    let mut expected = [0; 32];
    expected[0] = 2 << 1;
    expected[8] = 0b1_1001;
    expected[0x10] = 2;
    expected[0x14] = 7;
    expected[0x18..0x1a].copy_from_slice(&[0x22, 0x11]);
    assert_eq!(*key.unwrap(), expected);

    let request = KeyRequest {
        root: RootKey::Vmrk,
        fields: GuestFields::LAUNCH_MITIGATION_VECTOR,
        launch_mitigation_vector: Some(0xb),
        ..request
    };
    let key = guest.with(|channel, link| channel.derive_key(link, &request));
    assert_eq!(
        key.map(|key| (key[0], key[8], key[0x18])),
        Ok((1, 1 << 6, 0xb))
    );
}

#[test]
fn a_busy_host_gets_the_same_bytes_again() {
    let (mut guest, host) = honest();
    host.borrow_mut().busy = 5;
    guest.report().unwrap();
    let requests = &host.borrow().requests;
    assert_eq!(requests.len(), 6);
    assert!(requests.iter().all(|request| *request == requests[0]));
    assert_eq!(guest.ghcb.hypervisor().pauses, 5);
}

#[test]
fn a_request_that_the_host_altered_meanwhile_is_written_again() {
    let mut first = true;
    let seen = Rc::new(RefCell::new(Vec::new()));
    let log = Rc::clone(&seen);
    let host = Host {
        busy: 1,
        ..Host::default()
    };
    let mut guest = Guest::new(TestHypervisor::tampering(host, move |host, memory| {
        log.borrow_mut().clone_from(&host.requests);
        if core::mem::take(&mut first) {
            memory.write_page(REQUEST, &[0xee; 4096]);
        }
    }));
    guest.report().unwrap();
    assert_eq!(seen.borrow()[0], seen.borrow()[1]);
}

#[test]
fn a_host_that_stays_busy_ends_the_channel() {
    let (mut guest, host) = honest();
    host.borrow_mut().busy = u32::MAX;
    assert_eq!(guest.report(), Err(MessageError::Busy));
    assert_eq!(host.borrow().requests.len(), MAX_BUSY_ANSWERS as usize);
    guest.assert_closed();
}

#[test]
fn no_count_is_used_twice() {
    for count in [
        MAX_COUNT - 1,
        MAX_COUNT,
        MAX_COUNT + 1,
        u64::MAX - 1,
        u64::MAX,
    ] {
        let (mut guest, host) = honest();
        guest.channel = channel(Vmpl::Vmpl0, count);
        assert_eq!(guest.report(), Err(MessageError::CountExhausted));
        assert!(host.borrow().requests.is_empty());
        guest.assert_closed();
    }
    let (mut guest, host) = honest();
    guest.channel = channel(Vmpl::Vmpl0, MAX_COUNT - 2);
    host.borrow_mut().psp.counts[0] = MAX_COUNT - 2;
    guest.report().unwrap();
    assert_eq!(guest.channel.count(), MAX_COUNT);
}

#[test]
fn an_altered_response_is_refused_wherever_it_is_altered() {
    // Not authenticated and not used: the tag's second half and eight reserved bytes.
    let without_meaning = |place| (0x10..0x20).contains(&place) || (0x28..0x30).contains(&place);
    let sealed = 0x60 + 0x20 + REPORT_BYTES;
    let header = 0..0x60;
    let some_of_the_rest = (0x60..sealed).step_by(37).chain(sealed - 1..sealed + 1);
    for place in header.chain(some_of_the_rest) {
        for bit in [0, 7] {
            let mut guest = tampered(move |_, memory| {
                let mut page = memory.read_page(RESPONSE);
                page[place] ^= 1 << bit;
                memory.write_page(RESPONSE, &page);
            });
            let accepted = without_meaning(place) || place >= sealed;
            assert_eq!(guest.report().is_ok(), accepted, "byte {place:#x}");
            if !accepted {
                guest.assert_closed();
            }
        }
    }
}

/// A response of the host's own making, sealed as `make` says.
fn answered(make: impl Fn() -> Vec<u8> + 'static) -> Result<AttestationReport, MessageError> {
    let mut guest = tampered(move |_, memory| memory.write_page(RESPONSE, &make()));
    let result = guest.report();
    if result.is_err() {
        guest.assert_closed();
    }
    result
}

/// The payload of a good response.
fn good_payload() -> Vec<u8> {
    let mut payload = std::vec![0; 0x20];
    payload[4..8].copy_from_slice(&(REPORT_BYTES as u32).to_le_bytes());
    let mut report = report_template();
    report[0x30..0x34].fill(0);
    report[0x50..0x90].fill(0x5a);
    payload.extend_from_slice(&report);
    payload
}

#[test]
fn a_response_to_something_else_is_refused() {
    assert!(answered(|| seal(&KEY, 0, 2, 6, 1, &good_payload())).is_ok());
    for count in [0, 1, 3, 4, 1 << 32 | 2, u64::MAX] {
        let error = MessageError::Count {
            expected: 2,
            found: count,
        };
        let result = answered(move || seal(&KEY, 0, count, 6, 1, &good_payload()));
        assert_eq!(result, Err(error));
    }
    for (vmpck, kind, version) in [(1, 6, 1), (0, 5, 1), (0, 4, 1), (0, 8, 1), (0, 6, 2)] {
        let result = answered(move || seal(&KEY, vmpck, 2, kind, version, &good_payload()));
        assert_eq!(result, Err(MessageError::Header));
    }
    let other_key = answered(|| seal(&[0xc1; 32], 0, 2, 6, 1, &good_payload()));
    assert_eq!(other_key, Err(MessageError::Authentication));
}

#[test]
fn header_fields_that_cannot_be_are_refused() {
    // Algorithm, header version, header size, and a payload beyond the page.
    for (place, value) in [
        (0x30, 2),
        (0x30, 0),
        (0x31, 2),
        (0x32, 0x61),
        (0x33, 1),
        (0x37, 0x0f),
    ] {
        let result = answered(move || {
            let mut page = seal(&KEY, 0, 2, 6, 1, &good_payload());
            page[place] = value;
            page
        });
        assert_eq!(result, Err(MessageError::Header), "{place:#x}");
    }
}

#[test]
fn a_payload_of_another_form_is_refused() {
    let payloads: [(Vec<u8>, MessageError); 7] = [
        (Vec::new(), MessageError::Response),
        (Vec::from([0; 3]), MessageError::Response),
        (good_payload()[..0x4bf].to_vec(), MessageError::Response),
        (
            [good_payload(), Vec::from([0])].concat(),
            MessageError::Response,
        ),
        (with(4, 0x9f), MessageError::Response),
        (with(0x20 + 0x50, 0x5b), MessageError::OtherReport),
        (with(0x20 + 0x30, 1), MessageError::OtherReport),
    ];
    for (payload, error) in payloads {
        let result = answered(move || seal(&KEY, 0, 2, 6, 1, &payload));
        assert_eq!(result, Err(error));
    }
}

fn with(place: usize, value: u8) -> Vec<u8> {
    let mut payload = good_payload();
    payload[place] = value;
    payload
}

#[test]
fn a_replayed_response_is_refused() {
    let mut earlier: Option<Vec<u8>> = None;
    let mut guest = tampered(move |_, memory| match &earlier {
        None => earlier = Some(memory.read_page(RESPONSE)),
        Some(page) => memory.write_page(RESPONSE, page),
    });
    guest.report().unwrap();
    let error = MessageError::Count {
        expected: 4,
        found: 2,
    };
    assert_eq!(guest.report(), Err(error));
    guest.assert_closed();
}

#[test]
fn the_request_sent_back_is_no_response() {
    let mut guest = tampered(|_, memory| {
        let request = memory.read_page(REQUEST);
        memory.write_page(RESPONSE, &request);
    });
    assert!(matches!(guest.report(), Err(MessageError::Count { .. })));
    guest.assert_closed();
}

#[test]
fn a_response_that_never_came_is_refused() {
    let mut guest = tampered(|_, memory| memory.write_page(RESPONSE, &[0; 4096]));
    let error = MessageError::Count {
        expected: 2,
        found: 0,
    };
    assert_eq!(guest.report(), Err(error));
}

#[test]
fn errors_of_host_and_firmware_end_the_channel() {
    let statuses = [
        (0x16, MessageError::Firmware(0x16)),
        (1 << 32, MessageError::Vmm(1)),
        (3 << 32 | 5, MessageError::Vmm(3)),
        (u64::from(u32::MAX) << 32, MessageError::Vmm(u32::MAX)),
    ];
    for (info, error) in statuses {
        let mut guest = tampered(move |_, memory| memory.set(GHCB, INFO_2, info));
        assert_eq!(guest.report(), Err(error));
        guest.assert_closed();
    }
    let mut guest = tampered(|_, memory| memory.set(GHCB, BITMAP + 1, 0));
    assert!(matches!(
        guest.report(),
        Err(MessageError::Nae(NaeError::Missing(_)))
    ));
    guest.assert_closed();
    let mut guest = tampered(|_, _| {});
    guest.ghcb.hypervisor().memory.set(GHCB, 0, 0);
    let other_registration = 0x99_9012;
    crate::Hypervisor::exit(guest.ghcb.hypervisor(), other_registration);
    let refused = NaeError::Refused(Refusal::NotRegistered);
    assert_eq!(guest.report(), Err(MessageError::Nae(refused)));
    guest.assert_closed();
}

#[test]
fn a_message_that_the_firmware_does_not_expect_ends_the_channel() {
    let (mut guest, host) = honest();
    // Somebody used the key before: the counts differ.
    host.borrow_mut().psp.counts[0] = 2;
    assert_eq!(guest.report(), Err(MessageError::Firmware(REFUSED)));
    guest.assert_closed();
}

#[test]
fn a_status_in_the_response_ends_the_channel() {
    for status in [0x16, 0x27] {
        let (mut guest, host) = honest();
        host.borrow_mut().psp.status = status;
        assert_eq!(guest.report(), Err(MessageError::Status(status)));
        guest.assert_closed();
    }
}

#[test]
fn pages_with_two_uses_are_refused_before_anything_is_sent() {
    let (mut guest, host) = honest();
    guest.response = guest.ghcb.hypervisor().pages(REQUEST, 1);
    assert_eq!(guest.report(), Err(MessageError::Pages));
    guest.response = guest.ghcb.hypervisor().pages(GHCB, 1);
    assert_eq!(guest.report(), Err(MessageError::Pages));
    guest.response = guest.ghcb.hypervisor().pages(CERTIFICATES + 1, 1);
    assert!(matches!(guest.extended_report(2), Err(MessageError::Pages)));
    let too_many = MAX_CERTIFICATE_PAGES as usize + 1;
    assert!(matches!(
        guest.extended_report(too_many),
        Err(MessageError::Pages)
    ));
    assert!(host.borrow().requests.is_empty());
    assert!(guest.channel.is_open());
}

#[test]
fn certificates_come_along_with_a_report() {
    let (mut guest, host) = honest();
    host.borrow_mut().certificates = std::vec![7; 5000];
    let (report, certificates) = guest.extended_report(2).unwrap();
    assert_eq!(report.report_data, ASKED.report_data);
    assert_eq!(certificates, Certificates::Written);
    let memory = &guest.ghcb.hypervisor().memory;
    assert_eq!(
        memory.read_page(CERTIFICATES + 1)[..905],
        [[7; 904].as_slice(), &[0]].concat()
    );
}

#[test]
fn a_buffer_too_small_costs_the_certificates_only() {
    let (mut guest, host) = honest();
    host.borrow_mut().certificates = std::vec![7; 3 * 4096];
    let (_, certificates) = guest.extended_report(2).unwrap();
    assert_eq!(certificates, Certificates::TooSmall { pages: 3 });
    assert_eq!(guest.channel.count(), 2);
    let requests = &host.borrow().requests;
    assert_eq!(
        requests[0], requests[1],
        "the same message, without a buffer"
    );
    let memory = &guest.ghcb.hypervisor().memory;
    assert_eq!(memory.read_page(CERTIFICATES), [0; 4096]);
}

#[test]
fn a_size_that_cannot_be_is_not_passed_on() {
    for lie in [0, 1, 2, MAX_CERTIFICATE_PAGES + 1, 1 << 52, u64::MAX] {
        let host = Host {
            certificates: std::vec![7; 3 * 4096],
            ..Host::default()
        };
        let mut guest = Guest::new(TestHypervisor::tampering(host, move |_, memory| {
            memory.set(GHCB, RBX, lie);
        }));
        let (_, certificates) = guest.extended_report(2).unwrap();
        assert_eq!(certificates, Certificates::NoSize, "{lie}");
    }
    let host = Host {
        certificates: std::vec![7; 3 * 4096],
        ..Host::default()
    };
    let mut guest = Guest::new(TestHypervisor::tampering(host, |_, memory| {
        memory.set(GHCB, BITMAP + 1, memory.get(GHCB, BITMAP + 1) & !(1 << 35));
    }));
    let (_, certificates) = guest.extended_report(2).unwrap();
    assert_eq!(certificates, Certificates::NoSize, "RBX is not valid");
}

#[test]
fn a_host_that_never_finds_the_buffer_large_enough_ends_the_channel() {
    let mut guest = tampered(|_, memory| memory.set(GHCB, INFO_2, 1 << 32));
    assert!(matches!(
        guest.extended_report(1),
        Err(MessageError::Vmm(1))
    ));
    guest.assert_closed();
}

#[test]
fn whatever_the_host_does_no_nonce_has_two_messages() {
    let mut rng = Rng(21);
    let mut closed = 0;
    for round in 0..200 {
        let mut tamper = Rng(rng.next());
        let seen = Rc::new(RefCell::new(Vec::<Vec<u8>>::new()));
        let log = Rc::clone(&seen);
        let host = Host {
            busy: round % 3,
            ..Host::default()
        };
        let mut guest = Guest::new(TestHypervisor::tampering(host, move |host, memory| {
            log.borrow_mut().clone_from(&host.requests);
            if tamper.below(4) != 0 {
                return;
            }
            let frame = [GHCB, RESPONSE, REQUEST][tamper.below(3)];
            let mut page = memory.read_page(frame);
            for _ in 0..=tamper.below(3) {
                let window = if frame == GHCB {
                    0x390..0x400
                } else {
                    0..0x600
                };
                tamper.alter(&mut page[window]);
            }
            memory.write_page(frame, &page);
        }));
        for number in 0..6_u8 {
            let request = ReportRequest {
                report_data: [number; 64],
                ..ASKED
            };
            let result = guest.with(|channel, link| channel.report(link, &request));
            match result {
                Ok(report) => assert_eq!(report.report_data, [number; 64]),
                Err(_) => assert!(!guest.channel.is_open()),
            }
        }
        closed += u32::from(!guest.channel.is_open());
        for request in seen.borrow().iter() {
            let same_nonce = |other: &&Vec<u8>| other[0x20..0x28] == request[0x20..0x28];
            let seen = seen.borrow();
            assert!(seen.iter().filter(same_nonce).all(|other| other == request));
        }
    }
    assert!((20..200).contains(&closed), "{closed}");
}

#[test]
fn a_closed_channel_has_no_key() {
    let (mut guest, _) = honest();
    guest.report().unwrap();
    guest.channel.close();
    guest.assert_closed();
}

#[test]
fn a_message_fills_a_page_and_no_more() {
    let vmpck = Vmpck::new(Vmpl::Vmpl0, Zeroizing::new(KEY)).unwrap();
    let kind = header::MessageKind {
        message_type: 5,
        version: 1,
    };
    let payload = [3; MAX_PAYLOAD_BYTES + 1];
    assert!(header::seal(&vmpck, 1, kind, &payload).is_err());
    let mut page = header::seal(&vmpck, 1, kind, &payload[1..]).unwrap();
    let opened = header::open(&vmpck, 1, kind, &mut page).unwrap();
    assert_eq!(opened, &payload[1..]);
}

#[test]
fn the_psp_of_these_tests_refuses_what_is_altered() {
    let mut psp = Psp::new();
    let mut message = seal(&KEY, 0, 1, 5, 1, &[0; 0x60]);
    message[0x60] ^= 1;
    assert_eq!(psp.handle(&message), Err(REFUSED));
}
