//! The guest's second CPU: a processor that waits in L0 until the guest gives it a state.

use crate::entry::{AP_CODE, MAX_CPUS};
use crate::log::{self, log};
use crate::machine::{self, Exit, PLATFORM};
use crate::vcpu::CPUS;
use crate::{cpu, fw_cfg, memory};
use cloister_emulator::ghcb::{ApCreation, GhcbError};
use cloister_emulator::page::Page;
use cloister_emulator::vmsa::{SNP_ACTIVE, field};
use core::sync::atomic::{AtomicUsize, Ordering};
use spin::{Mutex, Once};

const APIC_SPURIOUS: u64 = 0xfee0_00f0;
const APIC_ICR: u64 = 0xfee0_0300;
const APIC_ENABLED: u32 = 0x1ff;
/// INIT and STARTUP to all but this CPU.
const INIT_OTHERS: u32 = 0x000c_4500;
const STARTUP_OTHERS: u32 = 0x000c_4600;
const DELIVERY_MODE: u32 = 7 << 8;
const INIT: u32 = 5 << 8;
const STARTUP: u32 = 6 << 8;
const PATIENCE_TICKS: u64 = 10_000_000_000;
const LARGE_PAGE_MASK: u64 = 0x1f_ffff;

/// Processors that wait.
static WAITING: AtomicUsize = AtomicUsize::new(0);
/// The state with which the second CPU shall begin.
static START: Mutex<Option<Page>> = Mutex::new(None);
/// The measured state of every CPU but the first.
static RESET_STATE: Once<Page> = Once::new();

unsafe extern "C" {
    static l0_ap_code: u8;
    static l0_ap_code_end: u8;
}

/// Brings the machine's other processor into L0, before the guest owns low memory.
pub(crate) fn start_others() {
    if fw_cfg::cpus() < 2 {
        return;
    }
    let first = (&raw const l0_ap_code).expose_provenance();
    let bytes = (&raw const l0_ap_code_end).addr() - first;
    for offset in 0..bytes as u64 {
        let mut byte = [0];
        memory::read(first as u64 + offset, &mut byte);
        memory::write(u64::from(AP_CODE) + offset, &byte);
    }
    let send = |command: u32| memory::write_device(APIC_ICR, &command.to_le_bytes());
    memory::write_device(APIC_SPURIOUS, &APIC_ENABLED.to_le_bytes());
    send(INIT_OTHERS);
    pause(30_000_000);
    send(STARTUP_OTHERS | AP_CODE >> 12);
    let started = cpu::ticks();
    while WAITING.load(Ordering::Acquire) == 0 {
        if cpu::ticks() - started > PATIENCE_TICKS {
            log::diagnose(format_args!("the second processor does not start"))
        }
        core::hint::spin_loop();
    }
    log!("the second processor waits for a guest CPU");
}

fn pause(ticks: u64) {
    let started = cpu::ticks();
    while cpu::ticks() - started < ticks {
        core::hint::spin_loop();
    }
}

/// What the second processor does until the guest starts its second CPU.
pub(crate) fn wait_for_work(number: usize) -> ! {
    WAITING.fetch_add(1, Ordering::AcqRel);
    let state = loop {
        if let Some(state) = START.lock().take() {
            break state;
        }
        core::hint::spin_loop();
    };
    {
        let platform = PLATFORM.lock();
        let platform = platform.as_ref().expect("launched before a CPU is started");
        let paging = state.u64(field::CR0) >> 31 & 1 != 0;
        CPUS[number]
            .lock()
            .load(&state, platform.tables.root(paging));
    }
    machine::run(number)
}

/// The state that a STARTUP signal lets the second CPU begin with.
pub(crate) fn set_reset_state(state: &Page) {
    RESET_STATE.call_once(|| state.clone());
}

/// Whether an interrupt command is INIT or STARTUP, which must not reach L0's processors.
pub(crate) fn is_for_l0(command: u32) -> bool {
    matches!(command & DELIVERY_MODE, INIT | STARTUP)
}

/// INIT does nothing; the first STARTUP starts the second CPU in its measured state, as KVM does.
pub(crate) fn startup(command: u32) {
    if command & DELIVERY_MODE != STARTUP || fw_cfg_cpus() < 2 {
        return;
    }
    if start_measured() {
        log!("STARTUP signal: the second CPU begins in its measured state");
    }
}

/// The number of CPUs, without disturbing the guest's use of fw_cfg.
fn fw_cfg_cpus() -> usize {
    WAITING.load(Ordering::Acquire) + 1
}

/// AP creation (GHCB specification, 4.1.9).
pub(crate) fn create(exit: &mut Exit<'_>, creation: ApCreation) -> Result<u64, GhcbError> {
    const CREATE: u8 = 1;
    let number = creation.apic_id as usize;
    if creation.request != CREATE || creation.vmpl != 0 {
        log!("AP creation {creation:x?}: only \"create now\" at privilege level 0 is supported");
        return Err(GhcbError::InvalidInput);
    }
    if number == 0 || number >= MAX_CPUS || number >= fw_cfg_cpus() || number == exit.number {
        log!("AP creation: there is no CPU {number} to start");
        return Err(GhcbError::InvalidInput);
    }
    let is_vmsa = exit
        .platform
        .rmp
        .entry(creation.vmsa)
        .is_some_and(|entry| entry.is_vmsa());
    let host = exit.platform.host(creation.vmsa, true);
    let (Some(host), true) = (host, is_vmsa) else {
        exit.diagnose(format_args!(
            "AP creation: {:#x} is not a VMSA page (RMPADJUST with bit 16)",
            creation.vmsa
        ))
    };
    if creation.vmsa & LARGE_PAGE_MASK == 0 {
        log!("AP creation: KVM refuses a VMSA at a multiple of 2 MiB");
        return Err(GhcbError::InvalidInput);
    }
    let state = memory::read_page(host);
    if state.u64(field::SEV_FEATURES) != SNP_ACTIVE {
        log!(
            "AP creation: SEV_FEATURES {:#x} in the VMSA",
            state.u64(field::SEV_FEATURES)
        );
        return Err(GhcbError::InvalidInput);
    }
    log!(
        "cpu {number} is created from the VMSA at {:#x}",
        creation.vmsa
    );
    exit.platform.cpus[number].cr3 = state.u64(field::CR3);
    match exit.platform.hostile.creation(state) {
        Ok(state) => start(state),
        Err(true) => {}
        Err(false) => return Err(GhcbError::InvalidInput),
    }
    Ok(0)
}

/// Lets the second processor begin with a state, if it waits.
pub(crate) fn start(state: Page) {
    *START.lock() = Some(state);
}

/// Lets the second processor begin in its measured state. False if there is none.
pub(crate) fn start_measured() -> bool {
    let state = RESET_STATE.get().filter(|_| fw_cfg_cpus() > 1);
    state.cloned().map(start).is_some()
}

/// Sends an NMI to the second processor. It is not intercepted.
pub(crate) fn send_nmi() {
    const DESTINATION: u64 = 0xfee0_0310;
    const SECOND: u32 = 1 << 24;
    const NMI: u32 = 4 << 8 | 1 << 14;
    memory::write_device(DESTINATION, &SECOND.to_le_bytes());
    memory::write_device(APIC_ICR, &NMI.to_le_bytes());
}
