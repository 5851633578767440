//! Why a guest CPU stopped, and what the platform does about it.

use crate::hostile;
use crate::instructions;
use crate::log::{self, log};
use crate::machine::{Exit, GuestMemory};
use crate::msrs;
use crate::page_state;
use cloister_emulator::checks::Check;
use cloister_emulator::exception::{self, VC};
use cloister_emulator::exit;
use cloister_emulator::nested::{OutOfTables, Tree};
use cloister_emulator::page::{C_BIT, LARGE_PAGE_BYTES, PAGE_BYTES};
use cloister_emulator::rmp::Size;
use cloister_emulator::vmcb::control;
use cloister_emulator::vmsa::field;

/// Bit of an event that says that there is one.
const EVENT_VALID: u64 = 1 << 31;
const EVENT_TYPE: u64 = 7 << 8;
const VECTOR: u64 = 0xff;
const SOFTWARE_INTERRUPT: u64 = 4 << 8;
const EFER_SVME: u64 = 1 << 12;
/// So many accesses to unvalidated memory are logged.
const LOGGED_UNVALIDATED: u64 = 8;

/// Handles an exit, so that the CPU can go on.
pub(crate) fn handle(exit: &mut Exit<'_>) {
    let (code, info1, info2) = exit.cpu.exit();
    if exit.platform.options.trace {
        let rip = exit.cpu.saved(field::RIP);
        log!(
            "exit {} {code:#x} {info1:#x} {info2:#x} rip {rip:#x}",
            exit::name(code)
        );
    }
    again(exit);
    if exit.cpu.saved(field::EFER) & EFER_SVME == 0 && code != exit::INVALID {
        exit.diagnose(format_args!(
            "EFER.SVME was cleared, which no SNP guest may do"
        ))
    }
    match code {
        exit::NPF => nested_fault(exit, info1, info2),
        exit::MSR => msrs::intercepted(exit, info1 != 0),
        exit::VMMCALL => instructions::vmmcall(exit),
        exit::UD => instructions::invalid(exit),
        exit::READ_CR0 | exit::READ_CR3 | exit::WRITE_CR0 | exit::WRITE_CR3 => {
            instructions::control_register(exit)
        }
        exit::WBINVD => instructions::cache(exit),
        exit::HLT => instructions::halt(exit),
        exit::CPUID if hostile::at_cpuid(exit) => (),
        exit::CPUID
        | exit::IO
        | exit::INVD
        | exit::RDPMC
        | exit::MONITOR
        | exit::MWAIT
        | exit::READ_DR7
        | exit::WRITE_DR7 => communicate(exit, code),
        exit::VMRUN..=exit::SKINIT => instructions::inject_invalid(exit),
        exit::SHUTDOWN => exit.diagnose(format_args!("the guest's CPU shut down (triple fault)")),
        _ => exit.diagnose(format_args!(
            "{} {code:#x} {info1:#x} {info2:#x}",
            exit::name(code)
        )),
    }
}

/// What was being delivered when the exit came has to be delivered again. A software interrupt comes
/// again by itself, as RIP is still at its instruction.
///
/// TCG reports an external interrupt and an NMI as an exception too (its defect D), and would then refuse a
/// vector that no exception has.
fn again(exit: &mut Exit<'_>) {
    const NMI: u64 = 2;
    const NMI_TYPE: u64 = 2 << 8;
    const FIRST_INTERRUPT: u64 = 32;
    let event = exit.cpu.vmcb().u64(control::EXIT_INTERRUPT);
    let valid = event & EVENT_VALID != 0 && event & EVENT_TYPE != SOFTWARE_INTERRUPT;
    let event = match event & VECTOR {
        _ if !valid => 0,
        NMI => NMI | NMI_TYPE | EVENT_VALID,
        FIRST_INTERRUPT.. => event & (VECTOR | EVENT_VALID),
        _ => event,
    };
    exit.cpu.vmcb_mut().set_u64(control::INJECT, event);
}

/// Raises #VC: the guest shall ask for what it wants through its GHCB.
pub(crate) fn communicate(exit: &mut Exit<'_>, code: u64) {
    let paging = exit.paging();
    exit.cpu.vmcb_mut().set_u64(control::INJECT, 0);
    let mut memory = GuestMemory::with(paging, exit.platform);
    let delivered = exception::deliver(exit.cpu.vmcb_mut(), &mut memory, VC, code as u32);
    if let Err(error) = delivered {
        let (_, info1, info2) = exit.cpu.exit();
        exit.diagnose(format_args!(
            "#VC {code:#x} ({}) cannot be delivered: {error:?}; exit information {info1:#x} {info2:#x}",
            exit::name(code)
        ))
    }
}

/// A page that the nested tables do not map (yet).
fn nested_fault(exit: &mut Exit<'_>, info1: u64, address: u64) {
    exit.platform.statistics.nested_faults += 1;
    let unpaged = !exit.paging().is_on();
    let private = address & C_BIT != 0 || unpaged;
    let gpa = address & !C_BIT & !(PAGE_BYTES - 1);
    let Some(entry) = exit.platform.rmp.entry(gpa) else {
        return no_memory(exit, info1, address);
    };
    let entry = if entry.is_undecided() {
        page_state::decide(exit, gpa, private)
    } else {
        entry
    };
    let (tree, host, large) = match (private, entry.is_assigned()) {
        (true, true) if entry.is_validated() => {
            let host = exit
                .platform
                .map
                .private(gpa)
                .expect("there is an entry, so there is memory");
            (Tree::Private, host, exit.platform.rmp.is_large_private(gpa))
        }
        (true, true) => return unvalidated(exit, info1, address),
        (false, false) => (Tree::Shared, gpa, exit.platform.rmp.is_large_shared(gpa)),
        _ => return mismatch(exit, info1, address, private),
    };
    let mapped = exit.platform.tables.map(tree, gpa, host, large);
    if mapped == Err(OutOfTables) {
        log::diagnose(format_args!("L0 has no memory left for nested tables"))
    }
    hostile::after_fault(exit, info1, address);
}

fn access(info1: u64) -> &'static str {
    if info1 & exit::NPF_WALK != 0 {
        "walk of page tables"
    } else if info1 & exit::NPF_FETCH != 0 {
        "instruction fetch"
    } else if info1 & exit::NPF_WRITE != 0 {
        "write"
    } else {
        "read"
    }
}

/// Devices: the guest has to ask with a #VC.
fn no_memory(exit: &mut Exit<'_>, info1: u64, address: u64) {
    if info1 & (exit::NPF_WALK | exit::NPF_FETCH) != 0 {
        let what = access(info1);
        exit.diagnose(format_args!(
            "{what} at {address:#x}, where there is no memory"
        ))
    }
    communicate(exit, exit::NPF);
}

/// Private memory that the guest has not validated.
fn unvalidated(exit: &mut Exit<'_>, info1: u64, address: u64) {
    exit.platform.statistics.unvalidated += 1;
    if exit.platform.statistics.unvalidated <= LOGGED_UNVALIDATED {
        let rip = exit.cpu.saved(field::RIP);
        log!(
            "unvalidated: {} at {address:#x}, rip {rip:#x}",
            access(info1)
        );
    }
    if exit.platform.statistics.unvalidated == 1 {
        exit.name_known_bug(address);
    }
    if exit.platform.options.is_strict(Check::Unvalidated) {
        return communicate(exit, exit::NOT_VALIDATED);
    }
    let gpa = address & !C_BIT & !(PAGE_BYTES - 1);
    page_state::validate_unasked(exit, gpa);
}

/// An access whose C-bit contradicts the page's state.
fn mismatch(exit: &mut Exit<'_>, info1: u64, address: u64, private: bool) {
    if !private {
        exit.name_known_bug(address);
    }
    let kind = |private| if private { "private" } else { "shared" };
    exit.require(
        Check::CBit,
        format_args!(
            "{} {} at {address:#x}, a page that is {}",
            kind(private),
            access(info1),
            kind(!private)
        ),
    );
    let gpa = address & !C_BIT & !(PAGE_BYTES - 1);
    page_state::convert(exit, gpa, private);
}

/// Size of a mapping.
pub(crate) fn is_large(size: Size) -> bool {
    size.bytes() == LARGE_PAGE_BYTES
}
