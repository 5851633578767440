//! I/O ports.
//!
//! Ports reach devices, not memory: a wrong access can confuse a device but breaks no Rust object.
//! (DMA that a port write starts goes to shared pages, which hold no Rust objects either.) In a
//! host process these instructions end the process.

use x86_64::structures::port::{PortRead, PortWrite};

/// Reads a byte.
pub fn in_u8(port: u16) -> u8 {
    // SAFETY: see the module's first lines.
    unsafe { u8::read_from_port(port) }
}

/// Reads two bytes.
pub fn in_u16(port: u16) -> u16 {
    // SAFETY: see the module's first lines.
    unsafe { u16::read_from_port(port) }
}

/// Reads four bytes.
pub fn in_u32(port: u16) -> u32 {
    // SAFETY: see the module's first lines.
    unsafe { u32::read_from_port(port) }
}

/// Writes a byte.
pub fn out_u8(port: u16, value: u8) {
    // SAFETY: see the module's first lines.
    unsafe { u8::write_to_port(port, value) }
}

/// Writes two bytes.
pub fn out_u16(port: u16, value: u16) {
    // SAFETY: see the module's first lines.
    unsafe { u16::write_to_port(port, value) }
}

/// Writes four bytes.
pub fn out_u32(port: u16, value: u32) {
    // SAFETY: see the module's first lines.
    unsafe { u32::write_to_port(port, value) }
}
