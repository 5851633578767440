//! Ports and device registers: what the guest asks for is done on QEMU's real devices.

use crate::machine::Exit;
use crate::{cpu, log, memory, signer, smp};
use cloister_emulator::ghcb::{GhcbError, Io, field, set};
use cloister_emulator::page::Page;

const APIC_ICR: u64 = 0xfee0_0300;

/// A port access.
pub(crate) fn port(ghcb: &mut Page, io: Io) {
    let Some((count, at)) = io.string else {
        if io.input {
            let value = input(io.port, io.bytes);
            set(ghcb, field::RAX, value.into());
        } else {
            output(io.port, io.bytes, ghcb.u64(field::RAX) as u32);
        }
        return;
    };
    for element in 0..count {
        let place = at + element * io.bytes;
        if io.input {
            let value = input(io.port, io.bytes).to_le_bytes();
            ghcb.set(place, &value[..io.bytes]);
        } else {
            let mut value = [0; 4];
            value[..io.bytes].copy_from_slice(&ghcb.bytes()[place..place + io.bytes]);
            output(io.port, io.bytes, u32::from_le_bytes(value));
        }
    }
}

/// L0's own devices are not there for the guest.
fn is_own(port: u16) -> bool {
    port == log::PORT || signer::PORTS.contains(&port)
}

fn input(port: u16, bytes: usize) -> u32 {
    match bytes {
        _ if is_own(port) => u32::MAX,
        1 => cpu::in8(port).into(),
        2 => cpu::in16(port).into(),
        _ => cpu::in32(port),
    }
}

fn output(port: u16, bytes: usize, value: u32) {
    match bytes {
        _ if is_own(port) => (),
        1 => cpu::out8(port, value as u8),
        2 => cpu::out16(port, value as u16),
        _ => cpu::out32(port, value),
    }
}

/// Reads a device's register.
pub(crate) fn read(exit: &Exit<'_>, address: u64, bytes: &mut [u8]) -> Result<(), GhcbError> {
    check(exit, address, bytes.len())?;
    memory::read_device(address, bytes);
    Ok(())
}

/// Writes a device's register.
pub(crate) fn write(exit: &Exit<'_>, address: u64, bytes: &[u8]) -> Result<(), GhcbError> {
    check(exit, address, bytes.len())?;
    if let (APIC_ICR, Ok(value)) = (address, <[u8; 4]>::try_from(bytes)) {
        let value = u32::from_le_bytes(value);
        if smp::is_for_l0(value) {
            smp::startup(value);
            return Ok(());
        }
    }
    memory::write_device(address, bytes);
    Ok(())
}

/// Memory is no device, and L0 itself is none.
fn check(exit: &Exit<'_>, address: u64, bytes: usize) -> Result<(), GhcbError> {
    let last = address
        .checked_add(bytes as u64)
        .ok_or(GhcbError::InvalidInput)?
        - 1;
    let memory = [address, last]
        .into_iter()
        .any(|at| exit.platform.map.index(at).is_some());
    let hidden = (1 << 32)..exit.platform.map.backing_end();
    if memory || hidden.contains(&address) || last >= memory::MAPPED_END {
        log::log!("device access at {address:#x}, which is none");
        return Err(GhcbError::InvalidInput);
    }
    Ok(())
}
