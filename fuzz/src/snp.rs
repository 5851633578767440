//! What a guest of SEV-SNP is told: by its hypervisor through the GHCB, by the security processor, by pages of the
//! launch.

use aes_gcm::aead::{AeadInOut, KeyInit};
use aes_gcm::{Aes256Gcm, Nonce};
use sev_snp_guest::address::{FrameRange, Gfn, PAGE_BYTES};
use sev_snp_guest::certificates::{CertificateId, CertificateTable};
use sev_snp_guest::cpuid::{CpuState, CpuidTable};
use sev_snp_guest::ghcb::{ApCreation, Ghcb, IoSize, MmioSize, msr};
use sev_snp_guest::message::{
    GuestChannel, GuestFields, GuestLink, KeyRequest, KeySelect, ReportRequest, RootKey,
};
use sev_snp_guest::rmp::Vmpl;
use sev_snp_guest::secrets::Vmpck;
use sev_snp_guest::{Hypervisor, SharedMemory};
use std::cell::RefCell;
use std::iter;
use std::rc::Rc;
use zeroize::Zeroizing;

/// Exits that one call of the guest may take: each loop that a host can drive has a bound far below.
const MAX_EXITS: usize = 20_000;

/// Quadwords of a page.
const PAGE_QUADWORDS: usize = PAGE_BYTES / 8;

/// The frame of the GHCB; those of requests and responses follow.
const GHCB: u64 = 0x40;

/// Places in the GHCB, as quadwords (GHCB specification, "GHCB layout").
const RAX: usize = 0x1f8 / 8;
const RCX: usize = 0x308 / 8;
const RDX: usize = 0x310 / 8;
const RBX: usize = 0x318 / 8;
const INFO_1: usize = 0x398 / 8;
const INFO_2: usize = 0x3a0 / 8;
const BITMAP: usize = 0x3f0 / 8;
const BUFFER: usize = 0x800 / 8;

/// Three pages that guest and host see.
#[derive(Clone)]
struct Memory(Rc<RefCell<[[u64; PAGE_QUADWORDS]; 3]>>);

impl Memory {
    fn new() -> Self {
        Self(Rc::new(RefCell::new([[0; PAGE_QUADWORDS]; 3])))
    }

    fn page(&self, number: usize) -> Page {
        let memory = self.clone();
        Page { memory, number }
    }

    fn set(&self, page: usize, quadwords: impl IntoIterator<Item = (usize, u64)>) {
        let mut pages = self.0.borrow_mut();
        for (index, value) in quadwords {
            pages[page][index] = value;
        }
    }
}

/// One of them.
struct Page {
    memory: Memory,
    number: usize,
}

impl SharedMemory for Page {
    fn gfn(&self) -> Gfn {
        Gfn::new(GHCB + self.number as u64).expect("a small number")
    }

    fn pages(&self) -> usize {
        1
    }

    fn load(&self, index: usize) -> u64 {
        self.memory.0.borrow()[self.number][index]
    }

    fn store(&mut self, index: usize, value: u64) {
        self.memory.0.borrow_mut()[self.number][index] = value;
    }
}

/// A host that registers the GHCB as it must, and otherwise answers as `answer` does.
struct Host<F> {
    answer: F,
    exits: usize,
}

impl<F: FnMut(u64) -> u64> Hypervisor for Host<F> {
    fn exit(&mut self, ghcb_msr: u64) -> u64 {
        self.exits += 1;
        assert!(self.exits <= MAX_EXITS, "the host keeps the guest busy");
        match ghcb_msr & 0xfff {
            0x012 => ghcb_msr & !0xfff | 0x013,
            _ => (self.answer)(ghcb_msr),
        }
    }

    fn pause(&mut self) {}
}

fn quadwords(bytes: &[u8]) -> impl Iterator<Item = u64> {
    bytes.chunks(8).map(|part| {
        let mut quadword = [0; 8];
        quadword[..part.len()].copy_from_slice(part);
        u64::from_le_bytes(quadword)
    })
}

/// The GHCB: the first byte says what the guest wants, the rest what the host answers, over and over: eight quadwords
/// for exit information, valid bits and registers, and eight for the shared buffer; or one for the MSR protocol.
pub fn ghcb(data: &[u8]) -> bool {
    let Some((wish, script)) = data.split_first().filter(|(_, script)| !script.is_empty()) else {
        return false;
    };
    let script: Vec<u64> = quadwords(script).collect();
    let memory = Memory::new();
    let mut next = script.into_iter().cycle();
    let page = memory.page(0);
    let host = Host {
        exits: 0,
        answer: move |ghcb_msr| match ghcb_msr & 0xfff {
            0 => {
                let places = [BITMAP, BITMAP + 1, INFO_1, INFO_2, RAX, RBX, RCX, RDX];
                let places = places.into_iter().chain(BUFFER..BUFFER + 8);
                memory.set(0, places.zip(next.by_ref()));
                ghcb_msr
            }
            _ => next.next().unwrap_or(0),
        },
    };
    match wish % 16 {
        number @ 0..6 => ask_by_msr(host, number),
        number => {
            let mut ghcb = Ghcb::register(host, page).expect("the host registers the page");
            ask_by_page(&mut ghcb, number)
        }
    }
}

fn ask_by_msr(mut host: impl Hypervisor, wish: u8) -> bool {
    let frame = Gfn::new(0x1234).expect("a small number");
    match wish {
        0 => msr::negotiate(&mut host).is_ok(),
        1 => msr::cpuid(&mut host, 1).is_ok(),
        2 => msr::features(&mut host).is_ok(),
        3 => msr::preferred_ghcb(&mut host).is_ok(),
        4 => msr::ap_reset_hold(&mut host).is_ok(),
        _ => msr::page_state_change(&mut host, frame, msr::PageState::Private).is_ok(),
    }
}

fn ask_by_page<H: Hypervisor>(ghcb: &mut Ghcb<H, Page>, wish: u8) -> bool {
    match wish {
        6 => ghcb.cpuid(0xd, 1, 7).is_ok(),
        7 => ghcb.read_msr(0x10).is_ok(),
        8 => ghcb.write_msr(0x10, 1).is_ok(),
        9 => match ghcb.io_read(0x510, IoSize::Word) {
            Ok(value) => value <= 0xffff,
            Err(_) => false,
        },
        10 => ghcb.io_read_bytes(0x511, &mut [0; 5000]).is_ok(),
        11 => match ghcb.mmio_read(0xfe00_0000, MmioSize::Dword) {
            Ok(value) => u32::try_from(value).is_ok(),
            Err(_) => false,
        },
        12 => ghcb.mmio_write(0xfe00_0000, MmioSize::Qword, 1).is_ok(),
        13 => ghcb.features().is_ok(),
        14 => {
            let first = Gfn::new(0x7ff).expect("a small number");
            let range = FrameRange::new(first, 1200).expect("a small range");
            ghcb.page_state_change(range, msr::PageState::Shared)
                .is_ok()
        }
        _ => {
            let creation = ApCreation {
                apic_id: 1,
                vmpl: Vmpl::Vmpl0,
                vmsa: Gfn::new(0x1235).expect("a small number"),
                sev_features: 1,
            };
            ghcb.create_ap(&creation).is_ok()
        }
    }
}

/// One answer to each wish, which is accepted.
pub fn ghcb_seeds() -> Vec<Vec<u8>> {
    let by_msr = [
        2 << 48 | 1 << 32 | 51 << 24 | 0x001,
        0x178b_fbff << 32 | 0x005,
        0x3f << 12 | 0x081,
        0x4000 << 12 | 0x011,
        1 << 12 | 0x007,
        0x015,
    ];
    let by_msr = by_msr
        .into_iter()
        .zip(0_u8..)
        .map(|(answer, wish): (u64, _)| [&[wish][..], &answer.to_le_bytes()].concat());
    // Every bit valid, no error. At the end of its 178 entries a page state change is done.
    let by_page = (6_u8..16).map(|wish| {
        let buffer = if wish == 14 { 177 << 16 | 178 } else { 7 };
        let quadwords = [u64::MAX, u64::MAX, 0, 0, 7, 7, 7, 7, buffer];
        let bytes = quadwords
            .into_iter()
            .chain([7; 7])
            .flat_map(u64::to_le_bytes);
        iter::once(wish).chain(bytes).collect()
    });
    by_msr.chain(by_page).collect()
}

/// The key that the guest and the security processor share.
const VMPCK: [u8; 32] = [0xc0; 32];

/// Header and payload of a message, without the fields before the authenticated ones.
const HEADER_BYTES: usize = 48;

const REPORT_REQUEST: ReportRequest = ReportRequest {
    report_data: [0x5a; 64],
    vmpl: Vmpl::Vmpl0,
    key: KeySelect::VlekOrVcek,
};

const KEY_REQUEST: KeyRequest = KeyRequest {
    root: RootKey::Vmrk,
    fields: GuestFields::MEASUREMENT,
    vmpl: Vmpl::Vmpl0,
    guest_svn: 0,
    tcb_version: 0,
    launch_mitigation_vector: None,
};

/// A response of the security processor. The first byte says to what request; its upper half, whether what follows is
/// a page, or header and payload that are yet to be encrypted, so that they are looked at.
pub fn guest_message(data: &[u8]) -> bool {
    let Some((&how, response)) = data.split_first() else {
        return false;
    };
    let response = match how >> 4 {
        0 => match seal(response) {
            Some(page) => page,
            None => return false,
        },
        _ => response[..response.len().min(PAGE_BYTES)].to_vec(),
    };
    let memory = Memory::new();
    let [page, mut request_page, mut response_page] = [0, 1, 2].map(|page| memory.page(page));
    let host = Host {
        exits: 0,
        answer: |ghcb_msr| {
            memory.set(2, (0..PAGE_QUADWORDS).zip(quadwords(&response)));
            let valid = [(BITMAP, u64::MAX), (BITMAP + 1, u64::MAX)];
            memory.set(0, valid.into_iter().chain([(INFO_1, 0), (INFO_2, 0)]));
            ghcb_msr
        },
    };
    let mut ghcb = Ghcb::register(host, page).expect("the host registers the page");
    let mut link = GuestLink {
        ghcb: &mut ghcb,
        request: &mut request_page,
        response: &mut response_page,
    };
    let vmpck = Vmpck::new(Vmpl::Vmpl0, Zeroizing::new(VMPCK)).expect("not zero");
    let mut channel = GuestChannel::new(vmpck, 0);
    let accepted = match how & 0xf {
        0 => channel.derive_key(&mut link, &KEY_REQUEST).is_ok(),
        _ => match channel.report(&mut link, &REPORT_REQUEST) {
            Ok(report) => {
                assert_eq!(report.report_data, REPORT_REQUEST.report_data);
                assert_eq!(report.vmpl, 0);
                true
            }
            Err(_) => false,
        },
    };
    assert_eq!(channel.is_open(), accepted, "a failure closes the channel");
    accepted
}

/// A message page with the count 2, from its authenticated header fields and its payload.
fn seal(message: &[u8]) -> Option<Vec<u8>> {
    let (header, payload) = message.split_at_checked(HEADER_BYTES)?;
    let mut payload = payload[..payload.len().min(PAGE_BYTES - 0x60)].to_vec();
    let mut nonce = [0; 12];
    nonce[0] = 2;
    let tag = Aes256Gcm::new(&VMPCK.into()).encrypt_inout_detached(
        &Nonce::from(nonce),
        header,
        payload.as_mut_slice().into(),
    );
    let mut page = tag.expect("a page is short").to_vec();
    page.resize(0x20, 0);
    page.extend([2, 0, 0, 0, 0, 0, 0, 0]);
    page.resize(0x30, 0);
    page.extend_from_slice(header);
    page.append(&mut payload);
    Some(page)
}

/// A report and a derived key, to be encrypted and encrypted.
pub fn guest_message_seeds() -> Vec<Vec<u8>> {
    let message = |kind: u8, payload: &[u8]| {
        let mut message = vec![1, 1, 0x60, 0, kind, 1];
        message.extend((payload.len() as u16).to_le_bytes());
        message.resize(HEADER_BYTES, 0);
        message.extend_from_slice(payload);
        message
    };
    let mut report = vec![0; 0x20 + 0x4a0];
    report[4..8].copy_from_slice(&0x4a0_u32.to_le_bytes());
    report[0x20] = 5;
    report[0x70..0xb0].fill(0x5a);
    let messages = [message(4, &[0; 0x40]), message(6, &report)];
    let seeds = messages.iter().zip(0_u8..).flat_map(|(message, kind)| {
        let page = seal(message).expect("a header");
        [
            [&[kind][..], message].concat(),
            [&[0x10 | kind][..], &page].concat(),
        ]
    });
    seeds.collect()
}

/// The CPUID page: what is accepted answers every question, and the same each time.
pub fn cpuid_page(data: &[u8]) -> bool {
    let mut page = [0; PAGE_BYTES];
    let bytes = data.len().min(PAGE_BYTES);
    page[..bytes].copy_from_slice(&data[..bytes]);
    let Ok(table) = CpuidTable::parse(&page) else {
        return false;
    };
    let state = CpuState {
        xcr0: 7,
        os_xsave: true,
        ..CpuState::RESET
    };
    for leaf in (0..0x20).chain(0x8000_0000..0x8000_0020) {
        for subleaf in [0, 1, 2, 63, u32::MAX] {
            let first = table.cpuid(leaf, subleaf, &state);
            assert_eq!(first, table.cpuid(leaf, subleaf, &state));
            let other = CpuState {
                xcr0: u64::MAX,
                xss: u64::MAX,
                ..state
            };
            let _ = table.cpuid(leaf, subleaf, &other);
        }
    }
    true
}

/// A page with the vendor, the features, XSAVE with one component, and the C-bit.
pub fn cpuid_page_seeds() -> Vec<Vec<u8>> {
    let rows: [([u32; 4], [u32; 4]); 5] = [
        ([0, 0, 0, 0], [0x10, 0x6874_7541, 0x444d_4163, 0x6974_6e65]),
        (
            [1, 0, 0, 0],
            [0x00a0_0f11, 0x0501_0800, 0xfffa_3203, 0x178b_fbff],
        ),
        ([0xd, 0, 1, 0], [7, 0x240, 0x340, 0]),
        ([0xd, 2, 0, 0], [0x100, 0x240, 0, 0]),
        ([0x8000_001f, 0, 0, 0], [0x0101_fd3f, 0x4173, 0x1fd, 1]),
    ];
    let mut page = vec![rows.len() as u8];
    page.resize(16, 0);
    for ([leaf, subleaf, xcr0, xss], [eax, ebx, ecx, edx]) in rows {
        let words = [leaf, subleaf, xcr0, 0, xss, 0, eax, ebx, ecx, edx, 0, 0];
        page.extend(words.into_iter().flat_map(u32::to_le_bytes));
    }
    vec![page]
}

/// The hypervisor's table of certificates: what is accepted lies behind the table.
pub fn certificate_table(data: &[u8]) -> bool {
    let Ok(table) = CertificateTable::parse(data) else {
        return false;
    };
    let count = table.iter().count();
    for (id, certificate) in table.iter() {
        assert!(!certificate.is_empty());
        assert!(certificate.len() <= data.len() - 24 * (count + 1));
        assert!(table.get(id).is_some());
    }
    true
}

/// No certificates, and two.
pub fn certificate_table_seeds() -> Vec<Vec<u8>> {
    let entry = |id: CertificateId, offset: u32, bytes: u32| {
        [&id.0[..], &offset.to_le_bytes(), &bytes.to_le_bytes()].concat()
    };
    let two = [
        entry(CertificateId::VCEK, 72, 4),
        entry(CertificateId::ASK, 76, 3),
        vec![0; 24],
        b"vcekask".to_vec(),
    ];
    vec![vec![0; 24], two.concat()]
}
