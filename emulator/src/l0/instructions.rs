//! Instructions that L0 carries out for the guest.

use crate::exits;
use crate::log::log;
use crate::machine::Exit;
use crate::{events, page_state};
use cloister_emulator::exit;
use cloister_emulator::instruction::{Instruction, MAX_BYTES};
use cloister_emulator::page::C_BIT;
use cloister_emulator::vmcb::{SAVE, control};
use cloister_emulator::vmsa::{Segment, field};

const CR0_PG: u64 = 1 << 31;
const CR0_ET: u64 = 1 << 4;
const CR0_TS: u64 = 1 << 3;
/// PE, MP, EM, TS: what LMSW writes; it cannot clear PE.
const LMSW_BITS: u64 = 0xf;
const EFER_LME: u64 = 1 << 8;
const EFER_LMA: u64 = 1 << 10;
const RFLAGS_IF: u64 = 1 << 9;
const INJECT_UD: u64 = 6 | 3 << 8 | 1 << 31;

/// The instruction at RIP.
fn current(exit: &Exit<'_>) -> Instruction {
    let code_segment = Segment::read(exit.cpu.vmcb(), SAVE + field::CS);
    let long = code_segment.attributes & 0x200 != 0 && exit.paging().is_long();
    let base = if long { 0 } else { code_segment.base };
    let mut code = [0; MAX_BYTES];
    let address = base.wrapping_add(exit.cpu.saved(field::RIP));
    if exit.read_virtual(address, &mut code) == 0 {
        exit.diagnose(format_args!(
            "the instruction at {address:#x} cannot be read"
        ))
    }
    Instruction::decode(&code)
}

/// VMGEXIT, or VMMCALL, which the guest has to ask for.
pub(crate) fn vmmcall(exit: &mut Exit<'_>) {
    match current(exit) {
        Instruction::Vmgexit => {
            exit.cpu.skip(4);
            events::vmgexit(exit);
        }
        _ => exits::communicate(exit, exit::VMMCALL),
    }
}

/// Instructions of SNP, which QEMU does not know; anything else is the guest's own mistake.
pub(crate) fn invalid(exit: &mut Exit<'_>) {
    match current(exit) {
        Instruction::Pvalidate => page_state::pvalidate(exit),
        Instruction::Rmpadjust => page_state::rmpadjust(exit),
        _ => inject_invalid(exit),
    }
}

/// Raises #UD.
pub(crate) fn inject_invalid(exit: &mut Exit<'_>) {
    exit.cpu.vmcb_mut().set_u64(control::INJECT, INJECT_UD);
}

/// HLT: the next interrupt comes to a CPU that loops. The second CPU may halt for good.
pub(crate) fn halt(exit: &mut Exit<'_>) {
    if exit.cpu.saved(field::RFLAGS) & RFLAGS_IF == 0 {
        if exit.number > 0 {
            log!("cpu {} halts with interrupts off, for good", exit.number);
            exit.state().is_halted = true;
            return;
        }
        exit.diagnose(format_args!(
            "HLT with interrupts off: nothing can wake this CPU"
        ))
    }
    exit.cpu.skip(1);
}

/// WBINVD, as which some versions of TCG report INVD too (defect E).
pub(crate) fn cache(exit: &mut Exit<'_>) {
    let code = match current(exit) {
        Instruction::Invd => exit::INVD,
        _ => exit::WBINVD,
    };
    exits::communicate(exit, code);
}

/// Moves from and to control registers.
pub(crate) fn control_register(exit: &mut Exit<'_>) {
    let cr0 = exit.cpu.saved(field::CR0);
    match current(exit) {
        Instruction::MoveControl {
            control,
            general,
            write,
            bytes,
        } => {
            if write {
                let value = exit.cpu.register(general);
                write_control(exit, control, value);
            } else {
                let value = read_control(exit, control);
                exit.cpu.set_register(general, value);
            }
            exit.cpu.skip(bytes);
        }
        Instruction::Lmsw { general, bytes } => {
            let kept = !LMSW_BITS | cr0 & 1;
            let value = cr0 & kept | exit.cpu.register(general) & LMSW_BITS;
            write_control(exit, 0, value);
            exit.cpu.skip(bytes);
        }
        Instruction::Clts => {
            write_control(exit, 0, cr0 & !CR0_TS);
            exit.cpu.skip(2);
        }
        other => exit.diagnose(format_args!("{other:?} where a control register was used")),
    }
}

fn read_control(exit: &mut Exit<'_>, control: u8) -> u64 {
    match control {
        0 => exit.cpu.saved(field::CR0),
        2 => exit.cpu.saved(field::CR2),
        3 => exit.state().cr3,
        4 => exit.cpu.saved(field::CR4),
        // The task priority: no guest of ours has set one.
        8 => 0,
        _ => exit.diagnose(format_args!("read of CR{control}")),
    }
}

fn write_control(exit: &mut Exit<'_>, control: u8, value: u64) {
    match control {
        0 => {
            let mut efer = exit.cpu.saved(field::EFER) & !EFER_LMA;
            let paging = value & CR0_PG != 0;
            if paging && efer & EFER_LME != 0 {
                efer |= EFER_LMA;
            }
            exit.cpu.set_saved(field::EFER, efer);
            exit.cpu.set_saved(field::CR0, value | CR0_ET);
            // Without paging there is no C-bit: all accesses are private.
            let root = exit.platform.tables.root(paging);
            exit.cpu.vmcb_mut().set_u64(control::NESTED_CR3, root);
        }
        3 => {
            exit.state().cr3 = value;
            // The processor reads page tables as private memory whatever CR3 says. Bit 63 asks only
            // for the TLB to be kept.
            exit.cpu.set_saved(field::CR3, value & !(1 << 63) | C_BIT);
        }
        _ => exit.diagnose(format_args!("write of CR{control}")),
    }
}
