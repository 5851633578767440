//! Private, shared, validated: requests of the guest that change a page.

use crate::exits::is_large;
use crate::hostile;
use crate::log::log;
use crate::machine::{Exit, GuestMemory};
use cloister_emulator::checks::Check;
use cloister_emulator::page::{C_BIT, Page};
use cloister_emulator::psc::{self, Entry, Operation};
use cloister_emulator::rmp::{self, RmpError, Size};
use cloister_emulator::vmsa::field;

const RAX: u8 = 0;
const RCX: u8 = 1;
const RDX: u8 = 2;
const INSTRUCTION_BYTES: u64 = 4;
const CARRY: u64 = 1;
/// CF, PF, AF, ZF, SF, OF.
const ARITHMETIC_FLAGS: u64 = 0x8d5;
const FAIL_INPUT: u64 = 1;
const FAIL_PERMISSION: u64 = 2;
const FAIL_SIZE_MISMATCH: u64 = 6;
/// RMPADJUST: the page holds a CPU's state.
const VMSA: u64 = 1 << 16;

/// One change of state, asked for by GHCB or MSR protocol. `Err` if there is no such page.
pub(crate) fn change(exit: &mut Exit<'_>, entry: Entry) -> Result<(), RmpError> {
    let pages = entry.size.bytes() / 4096;
    exit.platform.statistics.page_state_changes += pages;
    match entry.operation {
        Operation::Private => exit.platform.rmp.assign(entry.gpa, entry.size)?,
        Operation::Shared => {
            let before = exit.platform.rmp.entry(entry.gpa);
            if before.is_some_and(|before| before.is_validated()) {
                exit.require(
                    Check::Rescind,
                    format_args!("{:#x} is shared while it is still validated", entry.gpa),
                );
            }
            exit.platform.rmp.share(entry.gpa, entry.size)?;
        }
        Operation::Smash => exit.platform.rmp.smash(entry.gpa),
        Operation::Unsmash => (),
    }
    exit.platform.unmap(entry.gpa, is_large(entry.size));
    Ok(())
}

/// The list of changes in a GHCB. Gives `SW_EXITINFO2`.
pub(crate) fn change_list(exit: &mut Exit<'_>, ghcb: &mut Page, at: usize) -> u64 {
    loop {
        let (current, last) = (ghcb.u16(at), ghcb.u16(at + 2));
        if last >= psc::MAX_ENTRIES {
            return psc::BAD_HEADER;
        }
        if current > last {
            return 0;
        }
        let place = at + psc::HEADER_BYTES + usize::from(current) * 8;
        if place + 8
            > cloister_emulator::ghcb::field::SHARED_BUFFER
                + cloister_emulator::ghcb::SHARED_BUFFER_BYTES
        {
            return psc::BAD_HEADER;
        }
        let word = ghcb.u64(place);
        let Some(entry) = Entry::decode(word) else {
            return psc::BAD_ENTRY;
        };
        if let Err(error) = change(exit, entry) {
            log!("page state change of {:#x} refused: {error:?}", entry.gpa);
            return psc::BAD_ENTRY;
        }
        ghcb.set_u64(place, psc::done(word, entry.size));
        ghcb.set_u16(at, current + 1);
    }
}

/// The page that an instruction names with RAX and ECX.
fn operand(exit: &Exit<'_>, name: &str) -> (u64, Size) {
    let address = exit.cpu.register(RAX);
    let size = match exit.cpu.register(RCX) as u32 {
        0 => Size::Small,
        _ => Size::Large,
    };
    match GuestMemory::new(exit).translate(address) {
        Ok(target) if target.private => (target.gpa & !0xfff, size),
        Ok(target) => exit.diagnose(format_args!(
            "c-bit: {name} of {address:#x}, which is mapped as shared ({:#x})",
            target.gpa
        )),
        Err(error) => exit.diagnose(format_args!("{name} of {address:#x}: {error:?}")),
    }
}

/// Ends PVALIDATE or RMPADJUST.
fn finish(exit: &mut Exit<'_>, status: u64, carry: bool) {
    exit.cpu.set_register(RAX, status);
    let flags = exit.cpu.saved(field::RFLAGS) & !ARITHMETIC_FLAGS;
    let carry = if carry { CARRY } else { 0 };
    exit.cpu.set_saved(field::RFLAGS, flags | carry);
    exit.cpu.skip(INSTRUCTION_BYTES);
}

/// PVALIDATE (AMD64 manual, volume 3).
pub(crate) fn pvalidate(exit: &mut Exit<'_>) {
    let (gpa, size) = operand(exit, "PVALIDATE");
    let validate = exit.cpu.register(RDX) & 1 != 0;
    hostile::before_pvalidate(exit, gpa, size, validate);
    let (status, unchanged) = match exit.platform.rmp.validate(gpa, size, validate) {
        Ok(changed) => {
            if !changed && validate {
                exit.require(
                    Check::DoubleValidation,
                    format_args!("{gpa:#x} is validated already"),
                );
            }
            exit.platform.statistics.validations += size.bytes() / 4096;
            if !validate {
                exit.platform.unmap(gpa, is_large(size));
            }
            (0, !changed)
        }
        Err(RmpError::NotAssigned) => exit.diagnose(format_args!(
            "PVALIDATE of {gpa:#x}, a page that is shared: the hypervisor was not asked to make it private"
        )),
        Err(RmpError::SizeMismatch) => (FAIL_SIZE_MISMATCH, false),
        Err(_) => (FAIL_INPUT, false),
    };
    finish(exit, status, unchanged);
}

/// RMPADJUST (AMD64 manual, volume 3). Of the permissions only the VMSA bit is kept: there is only
/// privilege level 0.
pub(crate) fn rmpadjust(exit: &mut Exit<'_>) {
    let (gpa, size) = operand(exit, "RMPADJUST");
    let attributes = exit.cpu.register(RDX);
    let status = if attributes & 0xff == 0 || exit.platform.hostile.is_at_vmpl1() {
        FAIL_PERMISSION
    } else if size == Size::Large {
        // Permissions of a large page: accepted, without effect.
        if attributes & VMSA == 0 {
            0
        } else {
            FAIL_INPUT
        }
    } else {
        match exit.platform.rmp.set_vmsa(gpa, attributes & VMSA != 0) {
            Ok(()) => {
                exit.platform.unmap(gpa, false);
                0
            }
            Err(_) => FAIL_INPUT,
        }
    };
    finish(exit, status, false);
}

/// Relaxed rule `unvalidated`.
pub(crate) fn validate_unasked(exit: &mut Exit<'_>, gpa: u64) {
    // There is an entry, and it is assigned; so this cannot fail.
    let _ = exit.platform.rmp.validate(gpa, Size::Small, true);
}

/// The first use of a page makes it private or shared, as KVM and QEMU do. Gives its new entry.
pub(crate) fn decide(exit: &mut Exit<'_>, gpa: u64, private: bool) -> rmp::Entry {
    let rmp = &mut exit.platform.rmp;
    let decided = if private {
        rmp.assign(gpa, Size::Small)
    } else {
        rmp.share(gpa, Size::Small)
    };
    decided.expect("the page has an entry");
    rmp.entry(gpa).expect("the page has an entry")
}

/// Relaxed rule `c-bit`: the page becomes what the access takes it for.
pub(crate) fn convert(exit: &mut Exit<'_>, gpa: u64, private: bool) {
    log!(
        "c-bit: {gpa:#x} becomes {}",
        if private { "private" } else { "shared" }
    );
    decide(exit, gpa, private);
    exit.platform.unmap(gpa | C_BIT, false);
}
