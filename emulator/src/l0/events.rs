//! VMGEXIT: requests by the MSR protocol and by the GHCB.

use crate::log::{self, End, log};
use crate::machine::Exit;
use crate::{cpu, devices, hostile, memory, msrs, page_state, psp, smp};
use cloister_emulator::checks::Check;
use cloister_emulator::cpuid::{self, LEAF1_ECX_OSXSAVE};
use cloister_emulator::ghcb::{self, Event, field};
use cloister_emulator::hostile::Moment;
use cloister_emulator::msr_protocol::{self, HYPERVISOR_FEATURES, Request};
use cloister_emulator::page::Page;
use cloister_emulator::psc::{Entry, Operation};
use cloister_emulator::rmp::Size;
use cloister_emulator::vmsa;

const CR4_OSXSAVE: u64 = 1 << 18;

/// Handles what the GHCB register says.
pub(crate) fn vmgexit(exit: &mut Exit<'_>) {
    let request = Request::decode(exit.state().ghcb_msr);
    let answer = match request {
        Request::Ghcb { gpa } => return ghcb_call(exit, gpa),
        Request::SevInfo => msr_protocol::sev_info(),
        Request::Cpuid { leaf, register } => {
            let values = cpuid_for(exit, leaf, 0);
            msr_protocol::cpuid(register, values[register as usize & 3])
        }
        Request::ApResetHold => exit.diagnose(format_args!("AP reset hold is not supported")),
        Request::PreferredGhcb => msr_protocol::no_preferred_ghcb(),
        Request::RegisterGhcb { gpa } => {
            exit.state().ghcb = Some(gpa);
            log!("cpu {} registers its GHCB at {gpa:#x}", exit.number);
            msr_protocol::registered(gpa)
        }
        Request::PageState { gpa, operation } => {
            let changed = Operation::decode(operation).map(|operation| {
                let size = Size::Small;
                page_state::change(
                    exit,
                    Entry {
                        gpa,
                        operation,
                        size,
                    },
                )
            });
            msr_protocol::page_state(if changed == Some(Ok(())) { 0 } else { 1 })
        }
        Request::Features => msr_protocol::features(),
        Request::Terminate { set, code } => terminate(exit, set, code),
        Request::Unknown(value) => {
            exit.diagnose(format_args!("MSR protocol: unknown request {value:#x}"))
        }
    };
    exit.state().ghcb_msr = exit.platform.hostile.msr_answer(request, answer);
    if matches!(request, Request::RegisterGhcb { .. }) {
        hostile::inject(exit, Moment::Boot);
        exit.platform.hostile.at_registration();
    }
}

fn terminate(exit: &Exit<'_>, set: u8, code: u8) -> ! {
    exit.platform.log_statistics();
    let rip = exit.cpu.saved(vmsa::field::RIP);
    log!("TERMINATED: the guest ended itself: reason set {set} code {code:#x}, rip {rip:#x}");
    log::end(End::Terminated)
}

/// CPUID for the guest, with what depends on the CPU's state.
fn cpuid_for(exit: &Exit<'_>, leaf: u32, subleaf: u32) -> cpuid::Registers {
    let mut values = cpuid::for_guest(&cpu::cpuid, leaf, subleaf);
    if leaf == 1 && exit.cpu.saved(vmsa::field::CR4) & CR4_OSXSAVE != 0 {
        values[2] |= LEAF1_ECX_OSXSAVE;
    }
    if leaf == 0xd && subleaf < 2 {
        values[1] = cpuid::xsave_bytes(&cpu::cpuid, exit.cpu.xcr0(), subleaf == 1);
    }
    values
}

/// A request in a GHCB. The page is copied, so that another CPU cannot change it meanwhile.
fn ghcb_call(exit: &mut Exit<'_>, gpa: u64) {
    exit.platform.statistics.ghcb_calls += 1;
    let registered = exit.state().ghcb;
    if registered != Some(gpa) {
        exit.require(
            Check::GhcbRegistration,
            format_args!("GHCB at {gpa:#x}, registered is {registered:x?}"),
        );
    }
    let Some(host) = exit.platform.host(gpa, false) else {
        exit.diagnose(format_args!(
            "c-bit: the GHCB at {gpa:#x} is not a shared page"
        ))
    };
    let mut page = memory::read_page(host);
    match ghcb::decode(&page, gpa) {
        Ok(event) => {
            if hostile::devices::before(exit, &page, event) {
                ghcb::finish(&mut page, Ok(0));
            } else {
                handle(exit, &mut page, event);
            }
            hostile::after_request(exit, &mut page, event);
        }
        Err(error) => {
            let code = page.u64(field::EXIT_CODE);
            log!(
                "GHCB request {code:#x} refused: {error:?} (version {}, usage {:#x})",
                page.u16(field::VERSION),
                page.u32(field::USAGE)
            );
            ghcb::finish(&mut page, Err(error));
        }
    }
    memory::write_page(host, &page);
}

fn handle(exit: &mut Exit<'_>, page: &mut Page, event: Event) {
    if exit.platform.options.trace {
        log!("GHCB {event:x?}");
    }
    let result = match event {
        Event::Cpuid(leaf, subleaf) => {
            let values = cpuid_for(exit, leaf, subleaf);
            let offsets = [field::RAX, field::RBX, field::RCX, field::RDX];
            for (offset, value) in offsets.into_iter().zip(values) {
                ghcb::set(page, offset, value.into());
            }
            Ok(0)
        }
        Event::Io(io) => {
            devices::port(page, io);
            Ok(0)
        }
        Event::ReadMsr(msr) => match msrs::read(msr) {
            Some(value) => {
                ghcb::set(page, field::RAX, value & 0xffff_ffff);
                ghcb::set(page, field::RDX, value >> 32);
                Ok(0)
            }
            None => return no_msr(page, "read", msr),
        },
        Event::WriteMsr(msr, value) => match msrs::write(msr, value) {
            Some(()) => Ok(0),
            None => return no_msr(page, "write", msr),
        },
        Event::Nothing => Ok(0),
        Event::Tsc => {
            let ticks = cpu::ticks();
            ghcb::set(page, field::RAX, ticks & 0xffff_ffff);
            ghcb::set(page, field::RDX, ticks >> 32);
            Ok(0)
        }
        Event::ReadMmio(address, bytes, at) => {
            let mut data = [0; 8];
            let read = devices::read(exit, address, &mut data[..bytes]);
            page.set(at, &data[..bytes]);
            read.map(|()| 0)
        }
        Event::WriteMmio(address, bytes, at) => {
            let data: [u8; 8] = core::array::from_fn(|index| {
                if index < bytes {
                    page.bytes()[at + index]
                } else {
                    0
                }
            });
            devices::write(exit, address, &data[..bytes]).map(|()| 0)
        }
        Event::ApResetHold => exit.diagnose(format_args!("AP reset hold is not supported")),
        Event::PageState(at) => Ok(match hostile::page_state(exit, page, at) {
            Some(answer) => answer,
            None => page_state::change_list(exit, page, at),
        }),
        Event::GuestRequest(request, response) => Ok(psp::guest_request(exit, request, response)),
        Event::ExtendedGuestRequest(request, response) => {
            psp::extended_guest_request(exit, page, request, response)
        }
        Event::ApCreation(creation) => smp::create(exit, creation),
        Event::Features => Ok(HYPERVISOR_FEATURES),
        Event::Terminate(reason) => terminate(exit, reason as u8 & 15, (reason >> 4) as u8),
        Event::Unsupported(code) => exit.diagnose(format_args!(
            "the guest got a #VC that it does not handle: {code:#x} ({})",
            cloister_emulator::exit::name(code)
        )),
    };
    ghcb::finish(page, result);
}

fn no_msr(page: &mut Page, what: &str, msr: u32) {
    log!("{what} of MSR {msr:#x}, which the guest does not have: #GP");
    ghcb::finish_with_gp(page);
}
