//! Delivering an exception by hand: TCG injects #VC without its error code.

use crate::page::Page;
use crate::vmcb::SAVE;
use crate::vmsa::{Segment, field};
use crate::walk::WalkError;

/// VMM communication exception.
pub const VC: u8 = 29;

const CR0_PE: u64 = 1;
const EFER_LMA: u64 = 1 << 10;
const FLAG_TF: u64 = 1 << 8;
const FLAG_IF: u64 = 1 << 9;
const FLAG_NT: u64 = 1 << 14;
const FLAG_RF: u64 = 1 << 16;
const GATE_PRESENT: u8 = 0x80;
const INTERRUPT_GATE: u8 = 0xe;
const TRAP_GATE: u8 = 0xf;
/// Offset of the first interrupt stack in a 64-bit TSS.
const TSS_IST1: u64 = 0x24;

/// The guest's memory by virtual address.
pub trait Memory {
    /// Reads bytes.
    fn read(&self, address: u64, bytes: &mut [u8]) -> Result<(), WalkError>;
    /// Writes bytes.
    fn write(&mut self, address: u64, bytes: &[u8]) -> Result<(), WalkError>;
}

/// Why an exception cannot be delivered. On hardware most of these are a triple fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DeliveryError {
    /// The CPU is in real mode, where no handler expects an error code.
    RealMode,
    /// The interrupt table is too short.
    NoGate,
    /// The gate is not present or not an interrupt or trap gate.
    BadGate(u8),
    /// The exception came from user mode, which is not supported.
    UserMode,
    /// Gate, descriptor or stack cannot be reached.
    Memory(WalkError),
}

impl From<WalkError> for DeliveryError {
    fn from(error: WalkError) -> Self {
        Self::Memory(error)
    }
}

/// Pushes a frame with an error code and lets the guest go on in its handler.
pub fn deliver(
    vmcb: &mut Page,
    memory: &mut impl Memory,
    vector: u8,
    error: u32,
) -> Result<(), DeliveryError> {
    if vmcb.u64(SAVE + field::CR0) & CR0_PE == 0 {
        return Err(DeliveryError::RealMode);
    }
    if vmcb.bytes()[SAVE + field::CPL] != 0 {
        return Err(DeliveryError::UserMode);
    }
    let long = vmcb.u64(SAVE + field::EFER) & EFER_LMA != 0;
    let gate = Gate::read(vmcb, memory, vector, long)?;
    let (cs, rip) = (
        Segment::read(vmcb, SAVE + field::CS),
        vmcb.u64(SAVE + field::RIP),
    );
    let (ss, rsp) = (
        Segment::read(vmcb, SAVE + field::SS),
        vmcb.u64(SAVE + field::RSP),
    );
    let flags = vmcb.u64(SAVE + field::RFLAGS);
    let new_rsp = if long {
        let frame = [
            error.into(),
            rip,
            cs.selector.into(),
            flags,
            rsp,
            ss.selector.into(),
        ];
        let top = gate.stack(vmcb, memory)?.unwrap_or(rsp) & !15;
        let new_rsp = top.wrapping_sub(size_of_val(&frame) as u64);
        for (index, word) in frame.into_iter().enumerate() {
            let at = new_rsp.wrapping_add(index as u64 * 8);
            memory.write(at, &u64::to_le_bytes(word))?;
        }
        new_rsp
    } else {
        let frame = [error, rip as u32, cs.selector.into(), flags as u32];
        let new_rsp = rsp.wrapping_sub(size_of_val(&frame) as u64) & 0xffff_ffff;
        for (index, word) in frame.into_iter().enumerate() {
            let at = new_rsp.wrapping_add(index as u64 * 4);
            memory.write(ss.base + at, &u32::to_le_bytes(word))?;
        }
        new_rsp
    };
    let mut cleared = FLAG_TF | FLAG_NT | FLAG_RF;
    if gate.kind == INTERRUPT_GATE {
        cleared |= FLAG_IF;
    }
    code_segment(vmcb, memory, gate.selector)?.write(vmcb, SAVE + field::CS);
    vmcb.set_u64(SAVE + field::RSP, new_rsp);
    vmcb.set_u64(SAVE + field::RIP, gate.offset);
    vmcb.set_u64(SAVE + field::RFLAGS, flags & !cleared);
    vmcb.set_u32(crate::vmcb::control::INTERRUPT_SHADOW, 0);
    Ok(())
}

struct Gate {
    selector: u16,
    offset: u64,
    kind: u8,
    ist: u8,
}

impl Gate {
    fn read(
        vmcb: &Page,
        memory: &impl Memory,
        vector: u8,
        long: bool,
    ) -> Result<Self, DeliveryError> {
        let table = Segment::read(vmcb, SAVE + field::IDTR);
        let bytes = if long { 16 } else { 8 };
        let at = u64::from(vector) * bytes;
        if at + bytes > u64::from(table.limit) + 1 {
            return Err(DeliveryError::NoGate);
        }
        let mut gate = [0; 16];
        memory.read(table.base + at, &mut gate[..bytes as usize])?;
        let kind = gate[5] & 0xf;
        if gate[5] & GATE_PRESENT == 0 || !matches!(kind, INTERRUPT_GATE | TRAP_GATE) {
            return Err(DeliveryError::BadGate(gate[5]));
        }
        let half = |at: usize| u64::from(u16::from_le_bytes([gate[at], gate[at + 1]]));
        // A 32-bit gate has zeros here, see the slice above.
        let high = half(8) | half(10) << 16;
        Ok(Self {
            selector: half(2) as u16,
            offset: half(0) | half(6) << 16 | high << 32,
            kind,
            ist: if long { gate[4] & 7 } else { 0 },
        })
    }

    /// The interrupt stack, if the gate names one.
    fn stack(&self, vmcb: &Page, memory: &impl Memory) -> Result<Option<u64>, DeliveryError> {
        if self.ist == 0 {
            return Ok(None);
        }
        let tss = Segment::read(vmcb, SAVE + field::TR).base;
        let mut stack = [0; 8];
        memory.read(tss + TSS_IST1 + u64::from(self.ist - 1) * 8, &mut stack)?;
        Ok(Some(u64::from_le_bytes(stack)))
    }
}

/// The segment of a selector, with the attributes of its descriptor.
fn code_segment(
    vmcb: &Page,
    memory: &impl Memory,
    selector: u16,
) -> Result<Segment, DeliveryError> {
    let table = Segment::read(vmcb, SAVE + field::GDTR).base;
    let mut bytes = [0; 8];
    memory.read(table + u64::from(selector & !7), &mut bytes)?;
    let descriptor = u64::from_le_bytes(bytes);
    let limit = (descriptor & 0xffff | descriptor >> 32 & 0xf_0000) as u32;
    let pages = descriptor >> 55 & 1 != 0;
    Ok(Segment {
        selector: selector & !3,
        attributes: (descriptor >> 40 & 0xff | descriptor >> 44 & 0xf00) as u16,
        limit: if pages { limit << 12 | 0xfff } else { limit },
        base: descriptor >> 16 & 0xff_ffff | descriptor >> 32 & 0xff00_0000,
    })
}

#[cfg(test)]
mod tests;
