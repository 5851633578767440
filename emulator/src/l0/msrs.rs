//! Model-specific registers.

use crate::cpu;
use crate::exits;
use crate::hostile;
use crate::machine::Exit;
use crate::smp;
use cloister_emulator::exit;
use cloister_emulator::hostile::Moment;
use cloister_emulator::msr_protocol::{GHCB_MSR, SEV_STATUS, SEV_STATUS_MSR};

const RAX: u8 = 0;
const RCX: u8 = 1;
const RDX: u8 = 2;
const INSTRUCTION_BYTES: u64 = 2;
const X2APIC_ICR: u32 = 0x830;

/// RDMSR or WRMSR of a register that does not pass. The two of SEV are the platform's own; any other
/// the guest has to ask for.
pub(crate) fn intercepted(exit: &mut Exit<'_>, write: bool) {
    match (exit.cpu.register(RCX) as u32, write) {
        (GHCB_MSR, false) => {
            let value = exit.state().ghcb_msr;
            answer(exit, value);
        }
        (GHCB_MSR, true) => {
            let (high, low) = (exit.cpu.register(RDX), exit.cpu.register(RAX));
            exit.state().ghcb_msr = high << 32 | low & 0xffff_ffff;
            exit.cpu.skip(INSTRUCTION_BYTES);
        }
        (SEV_STATUS_MSR, false) if hostile::inject(exit, Moment::SevStatus) => (),
        (SEV_STATUS_MSR, false) => {
            let status = exit.platform.hostile.sev_status(SEV_STATUS);
            answer(exit, status)
        }
        _ => exits::communicate(exit, exit::MSR),
    }
}

fn answer(exit: &mut Exit<'_>, value: u64) {
    exit.cpu.set_register(RAX, value & 0xffff_ffff);
    exit.cpu.set_register(RDX, value >> 32);
    exit.cpu.skip(INSTRUCTION_BYTES);
}

/// Whether the guest may use a register of the real processor.
fn is_passed(msr: u32) -> bool {
    matches!(
        msr,
        0x1b // APIC base
        | 0xfe // MTRR capabilities
        | 0x200..=0x20f
        | 0x250
        | 0x258
        | 0x259
        | 0x268..=0x26f
        | 0x277
        | 0x2ff
        | 0x800..=0x8ff // x2APIC
    )
}

/// Registers that a guest may read, and that hold nothing.
fn is_zero(msr: u32) -> bool {
    // Microcode version, machine check, SYSCFG, HWCR.
    matches!(msr, 0x8b | 0x179 | 0xc001_0010 | 0xc001_0015)
}

/// RDMSR by request. `None`: the guest shall raise #GP.
pub(crate) fn read(msr: u32) -> Option<u64> {
    if is_zero(msr) {
        return Some(0);
    }
    is_passed(msr).then(|| cpu::read_msr(msr))
}

/// WRMSR by request. `None`: the guest shall raise #GP.
pub(crate) fn write(msr: u32, value: u64) -> Option<()> {
    if msr == X2APIC_ICR && smp::is_for_l0(value as u32) {
        smp::startup(value as u32);
        return Some(());
    }
    is_passed(msr).then(|| cpu::write_msr(msr, value))
}
