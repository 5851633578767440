//! A small SNP guest that tries what OVMF does not reach: reports, derived keys, a second CPU, and at last every
//! breach of a rule, one after the other, each of which a strict platform stops.

#![no_std]
#![no_main]

use cloister_boot as _;
use cloister_emulator::ghcb::{self, field};
use cloister_emulator::guest_message;
use cloister_emulator::page::{C_BIT, Page};
use cloister_emulator::vmsa::{self, Segment};
use core::alloc::{GlobalAlloc, Layout};
use core::arch::{asm, global_asm};
use core::panic::PanicInfo;
use core::ptr;
use sev_snp_guest::address::Gfn;
use sev_snp_guest::arch::{HardwareHypervisor, SharedPages};
use sev_snp_guest::ghcb::Ghcb;
use sev_snp_guest::message::{
    GuestChannel, GuestFields, GuestLink, KeyRequest, KeySelect, MessageError, RootKey,
};
use sev_snp_guest::rmp::Vmpl;
use sev_snp_guest::secrets::Secrets;

const CPUID: u64 = 0x8000;
const SECRETS: u64 = 0x9000;
/// Memory that the launcher validates: stack, then the pages below.
const RAM: u64 = 0x1_0000;
const RAM_BYTES: u64 = 0x5_0000;
const STACK: u64 = 0x5_0000;
const AP_STATE: u64 = 0x5_1000;
const AP_FLAG: u64 = 0x5_2000;
const IDT: u64 = 0x5_3000;
/// Pages that the tables map as shared: GHCB, request, response, one that is never shared.
const SHARED: u64 = 0x8_0000;
const SHARED_COUNT: u64 = 4;
const GHCB: u64 = SHARED;
const REQUEST: u64 = SHARED + 0x1000;
const RESPONSE: u64 = SHARED + 0x2000;
const NEVER_SHARED: u64 = SHARED + 0x3000;
/// A page that the guest validates itself.
const FRESH: u64 = 0x9_0000;
const LARGE: u64 = 0x20_0000;
const GHCB_MSR: u32 = 0xc001_0130;
const SERIAL: u64 = 0x3f8;
const APIC_VERSION: u64 = 0xfee0_0030;
const VMPCK0: u64 = SECRETS + 0x20;
/// The project's set of reasons, and "the probe is done".
const DONE: u64 = 5 << 12 | 0x42 << 16 | 0x100;
const AP_PATIENCE: u32 = 100_000_000;

global_asm!(
    include_str!("start.s"),
    stack = const STACK,
    flag = const AP_FLAG,
    cpuid = const CPUID,
    secrets = const SECRETS,
    ram = const RAM,
    ram_bytes = const RAM_BYTES,
    shared = const SHARED,
    shared_count = const SHARED_COUNT,
    c_bit = const C_BIT,
    options(att_syntax)
);

unsafe extern "C" {
    static probe_vc: u8;
    static probe_ap: u8;
    static level4: u8;
}

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    msr_call(5 << 12 | 0xff << 16 | 0x100);
    loop {
        core::hint::spin_loop();
    }
}

/// The probe has no heap.
struct NoHeap;

// SAFETY: it never hands out memory, so there is nothing to get wrong.
unsafe impl GlobalAlloc for NoHeap {
    unsafe fn alloc(&self, _: Layout) -> *mut u8 {
        ptr::null_mut()
    }

    unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
}

#[global_allocator]
static HEAP: NoHeap = NoHeap;

/// Puts a value into the GHCB register, exits, and gives the answer.
fn msr_call(value: u64) -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: the hypervisor changes the register, and pages that hold no Rust object.
    unsafe {
        asm!(
            "wrmsr", "rep vmmcall", "rdmsr",
            in("ecx") GHCB_MSR,
            inout("eax") value as u32 => low,
            inout("edx") (value >> 32) as u32 => high,
        );
    }
    u64::from(high) << 32 | u64::from(low)
}

fn read<T: Copy>(address: u64) -> T {
    // SAFETY: the probe's tables map the address, and every value is a `T`.
    unsafe { ptr::with_exposed_provenance::<T>(address as usize).read_volatile() }
}

fn write<T>(address: u64, value: T) {
    // SAFETY: the probe's tables map the address, where no Rust object lies.
    unsafe { ptr::with_exposed_provenance_mut::<T>(address as usize).write_volatile(value) }
}

/// A request by the GHCB at an address. Gives `SW_EXITINFO1`, `SW_EXITINFO2`, RAX.
fn ghcb_call_at(at: u64, page: &mut Page, request: [u64; 3]) -> [u64; 3] {
    page.set_u16(field::VERSION, 2);
    let fields = [field::EXIT_CODE, field::EXIT_INFO1, field::EXIT_INFO2];
    for (offset, value) in fields.into_iter().zip(request) {
        ghcb::set(page, offset, value);
    }
    ghcb::set(page, field::SCRATCH, at + field::SHARED_BUFFER as u64);
    write(at, page.clone());
    msr_call(at);
    *page = Page::ZERO;
    for offset in (0..4096).step_by(8) {
        page.set_u64(offset, read(at + offset as u64));
    }
    [field::EXIT_INFO1, field::EXIT_INFO2, field::RAX].map(|offset| page.u64(offset))
}

fn ghcb_call(page: &mut Page, request: [u64; 3]) -> [u64; 3] {
    ghcb_call_at(GHCB, page, request)
}

/// Prints through a string OUT.
fn say(text: &str) {
    let mut page = Page::ZERO;
    page.set(field::SHARED_BUFFER, text.as_bytes());
    let information = SERIAL << 16 | 1 << 4 | 1 << 3 | 1 << 2;
    ghcb_call(&mut page, [0x7b, information, text.len() as u64]);
}

fn say_hex(name: &str, bytes: &[u8]) {
    say(name);
    for byte in bytes {
        let digit = |value: u8| b"0123456789abcdef"[usize::from(value & 15)];
        let digits = [digit(byte >> 4), digit(*byte)];
        say(core::str::from_utf8(&digits).unwrap_or("??"));
    }
    say("\r\n");
}

fn check(name: &str, good: bool) {
    say("probe: ");
    say(name);
    say(if good { ": good\r\n" } else { ": BAD\r\n" });
}

/// Status, and whether the state changed.
fn pvalidate(address: u64, large: bool, validate: bool) -> (u64, bool) {
    let (status, unchanged): (u64, u8);
    // SAFETY: the pages hold no Rust object.
    unsafe {
        asm!(
            ".byte 0xf2, 0x0f, 0x01, 0xff", "setc r8b",
            inout("rax") address => status,
            in("rcx") u64::from(large),
            in("rdx") u64::from(validate),
            out("r8b") unchanged,
        );
    }
    (status, unchanged == 0)
}

fn rmpadjust(address: u64, attributes: u64) -> u64 {
    let status;
    // SAFETY: the page holds no Rust object.
    unsafe {
        asm!(
            ".byte 0xf3, 0x0f, 0x01, 0xfe",
            inout("rax") address => status,
            in("rcx") 0,
            in("rdx") attributes,
        );
    }
    status
}

/// Page state change by the MSR protocol: 1 private, 2 shared.
fn page_state(gpa: u64, operation: u64) -> bool {
    msr_call(operation << 52 | gpa | 0x014) >> 32 == 0
}

#[unsafe(no_mangle)]
extern "C" fn probe_main() -> ! {
    load_handler();
    let information = msr_call(0x002);
    for page in [GHCB, REQUEST, RESPONSE] {
        page_state(page, 2);
    }
    msr_call(GHCB | 0x012);
    check("SEV information", information == 0x0002_0001_3300_0001);
    events();
    pages();
    report();
    derived_keys();
    second_cpu();
    breaches();
    msr_call(DONE);
    loop {
        core::hint::spin_loop();
    }
}

/// #VC for CPUID, which is all that the probe causes.
fn load_handler() {
    #[repr(C, packed)]
    struct Pointer(u16, u64);
    let handler = (&raw const probe_vc).addr() as u64;
    let low = handler & 0xffff | 24 << 16 | 0x8e00 << 32 | (handler >> 16 & 0xffff) << 48;
    write(IDT + 29 * 16, [low, handler >> 32]);
    let pointer = Pointer(0xfff, IDT);
    // SAFETY: the table's page is the probe's own.
    unsafe { asm!("lidt [{}]", in(reg) &raw const pointer) };
}

fn events() {
    let mut page = Page::ZERO;
    let features = ghcb_call(&mut page, [0x8000_fffd, 0, 0]);
    check("hypervisor features", features[..2] == [0, 3]);
    let mut page = Page::ZERO;
    ghcb::set(&mut page, field::RAX, 0x8000_001f);
    ghcb::set(&mut page, field::RCX, 0);
    let cpuid = ghcb_call(&mut page, [0x72, 0, 0]);
    check("CPUID", cpuid[0] == 0 && cpuid[2] == 0x1a);
    let mut page = Page::ZERO;
    let mmio = ghcb_call(&mut page, [0x8000_0001, APIC_VERSION, 4]);
    let version = page.u32(field::SHARED_BUFFER) & 0xff;
    check("MMIO", mmio[0] == 0 && (0x10..=0x15).contains(&version));
    let mut page = Page::ZERO;
    let unknown = ghcb_call(&mut page, [0x1234, 0, 0]);
    check("an unknown event is refused", unknown[..2] == [2, 6]);
}

fn pages() {
    let first = pvalidate(FRESH, false, true);
    check("validation of a page", first == (0, true));
    write(FRESH, 0x1234_u64);
    check("it keeps what is written", read::<u64>(FRESH) == 0x1234);
    let mut page = Page::ZERO;
    page.set_u64(field::SHARED_BUFFER + 8, 1 << 56 | 1 << 52 | LARGE);
    let changed = ghcb_call(&mut page, [0x8000_0010, 0, 0]);
    check("page state change of 2 MiB", changed[..2] == [0, 0]);
    check(
        "validation of 2 MiB",
        pvalidate(LARGE, true, true) == (0, true),
    );
    check(
        "a small page in it is rescinded",
        pvalidate(LARGE, false, false) == (0, true),
    );
    check("2 MiB no longer fit", pvalidate(LARGE, true, true).0 == 6);
}

fn report() {
    let key: [u8; 32] = read(VMPCK0);
    let data = [0x5a; 64];
    for sequence in [1, 3] {
        let request = guest_message::report_request(&key, sequence, &data);
        write(REQUEST, request.expect("a short message"));
        let mut page = Page::ZERO;
        let status = ghcb_call(&mut page, [0x8000_0011, REQUEST, RESPONSE]);
        check("guest request", status[..2] == [0, 0]);
        let mut response = Page::ZERO;
        for offset in (0..4096).step_by(8) {
            response.set_u64(offset, read(RESPONSE + offset as u64));
        }
        let Some(report) = guest_message::open_report(&key, sequence + 1, response) else {
            check("report", false);
            return;
        };
        check("report has our data", report[0x50..0x90] == data);
        say_hex("probe: measurement ", &report[0x90..0xc0]);
        say_hex("probe: policy ", &report[0x08..0x10]);
        say_hex("probe: host data ", &report[0xc0..0xe0]);
        say_hex("probe: signature begins ", &report[0x2a0..0x2a8]);
    }
    let replay = guest_message::report_request(&key, 3, &data);
    write(REQUEST, replay.expect("a short message"));
    let mut replayed = Page::ZERO;
    let status = ghcb_call(&mut replayed, [0x8000_0011, REQUEST, RESPONSE]);
    check("a replay is refused", status[1] != 0);
}

/// Numbers that `report` has used: two messages with their answers.
const MESSAGES_BEFORE: u64 = 4;

/// Asks with the crate that the image asks with.
fn derived_keys() {
    let page = |address: u64| {
        let frame = Gfn::at(address).expect("a page's address");
        let base = ptr::with_exposed_provenance_mut(address as usize);
        // SAFETY: 1. The probe's tables map the page as shared, for ever. 2. Nothing refers to it, and no other such
        // value lives when this function's end. 3. One page.
        unsafe { SharedPages::new(base, frame, 1) }
    };
    let secrets = Secrets::take(&mut read::<[u8; 4096]>(SECRETS));
    let key = secrets
        .ok()
        .and_then(|mut secrets| secrets.take_vmpck(Vmpl::Vmpl0));
    // SAFETY: the probe runs at CPL 0 with interrupts off, in an SNP guest.
    let hypervisor = unsafe { HardwareHypervisor::new(core::hint::spin_loop) };
    let (Some(key), Ok(mut ghcb)) = (key, Ghcb::register(hypervisor, page(GHCB))) else {
        check("a channel for derived keys", false);
        return;
    };
    let mut channel = GuestChannel::new(key, MESSAGES_BEFORE);
    let (mut request, mut response) = (page(REQUEST), page(RESPONSE));
    let mut link = GuestLink {
        ghcb: &mut ghcb,
        request: &mut request,
        response: &mut response,
    };
    let of_image = KeyRequest {
        root: RootKey::Endorsement(KeySelect::VlekOrVcek),
        fields: GuestFields::MEASUREMENT,
        vmpl: Vmpl::Vmpl0,
        guest_svn: 0,
        tcb_version: 0,
        launch_mitigation_vector: None,
    };
    let mut ask = |request: KeyRequest| channel.derive_key(&mut link, &request);
    let key = ask(of_image);
    let again = ask(of_image);
    let other_fields = ask(KeyRequest {
        fields: GuestFields::MEASUREMENT | GuestFields::POLICY,
        ..of_image
    });
    let other_level = ask(KeyRequest {
        vmpl: Vmpl::Vmpl1,
        ..of_image
    });
    let newer = ask(KeyRequest {
        launch_mitigation_vector: Some(0),
        ..of_image
    });
    let beyond = ask(KeyRequest {
        guest_svn: 1,
        ..of_image
    });
    check("derived key", key.is_ok());
    check("the same request gives the same key", key == again);
    let others = [&other_fields, &other_level];
    let differ = others
        .into_iter()
        .all(|other| other.is_ok() && *other != key);
    check("other fields or another level give another key", differ);
    check("version 2 of the request is answered", newer.is_ok());
    let refused = Err(MessageError::Status(0x16));
    check(
        "a guest SVN above the guest's is refused",
        beyond == refused,
    );
    if let Ok(key) = key {
        say_hex("probe: derived key begins ", &key[..8]);
    }
}

fn second_cpu() {
    let mut state = vmsa::reset_vmsa(vmsa::RESET_VECTOR, 0);
    let segment = |selector, attributes| Segment {
        selector,
        attributes,
        limit: u32::MAX,
        base: 0,
    };
    segment(24, 0xa9b).write(&mut state, vmsa::field::CS);
    segment(16, 0xc93).write(&mut state, vmsa::field::SS);
    let registers = [
        (vmsa::field::CR0, 0x8000_0033),
        (vmsa::field::CR3, (&raw const level4).addr() as u64),
        (vmsa::field::CR4, 0x660),
        (vmsa::field::EFER, 0x1500),
        (vmsa::field::RIP, (&raw const probe_ap).addr() as u64),
    ];
    for (register, value) in registers {
        state.set_u64(register, value);
    }
    write(AP_STATE, state);
    check(
        "RMPADJUST makes a VMSA",
        rmpadjust(AP_STATE, 1 | 1 << 16) == 0,
    );
    let mut page = Page::ZERO;
    ghcb::set(&mut page, field::RAX, vmsa::SNP_ACTIVE);
    let created = ghcb_call(&mut page, [0x8000_0013, 1 << 32 | 1, AP_STATE]);
    if created[0] != 0 {
        say("probe: there is no second CPU\r\n");
        return;
    }
    let ran = (0..AP_PATIENCE).any(|_| read::<u32>(AP_FLAG) == 0x600d);
    check("second CPU runs", ran);
}

/// Each is stopped by a strict platform; when its rule is relaxed, the next one follows.
fn breaches() {
    check(
        "a second validation changes nothing",
        pvalidate(FRESH, false, true) == (0, false),
    );
    check("a validated page can be shared", page_state(FRESH, 2));
    page_state(NEVER_SHARED, 1);
    write(NEVER_SHARED, 7_u64);
    check(
        "a private page can be used as shared",
        read::<u64>(NEVER_SHARED) == 7,
    );
    let mut page = Page::ZERO;
    let answer = ghcb_call_at(REQUEST, &mut page, [0x8000_fffd, 0, 0]);
    check("a GHCB that is not registered is used", answer[1] == 3);
}
