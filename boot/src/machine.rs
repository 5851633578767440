//! What boot needs of the machine that it finds itself on, as data: the kernel of a machine with
//! memory encryption is loaded by the same code, with another mask and another way to accept pages.

use crate::address::PhysRange;
use crate::stop::Reason;
use core::arch::asm;
use core::fmt;

/// Data port of the first serial port.
const SERIAL: u16 = 0x3f8;
/// Port of QEMU's `isa-debug-exit` device.
const DEBUG_EXIT: u16 = 0xf4;

/// A machine.
#[derive(Clone, Copy)]
pub struct Machine {
    /// Bits to set in every page-table entry of private memory.
    pub encryption_mask: u64,
    /// Accepts whole pages of RAM as private, before their first use; false if they are not given.
    pub accept: fn(PhysRange) -> bool,
}

impl Machine {
    /// The machine whose private memory is marked by `encryption_mask`, as the reset code found it.
    pub fn with_mask(encryption_mask: u64) -> Self {
        Self {
            encryption_mask,
            accept: |_| true,
        }
    }
}

/// Prints to the serial port, without waiting: QEMU's port always takes a byte.
pub(crate) struct Serial;

impl fmt::Write for Serial {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            // SAFETY: the port reaches the serial device, which touches no memory.
            unsafe { asm!("out dx, al", in("dx") SERIAL, in("al") byte, options(nomem, nostack)) };
        }
        Ok(())
    }
}

/// Prints the reason and ends the guest.
pub(crate) fn stop(reason: Reason, detail: fmt::Arguments<'_>) -> ! {
    use fmt::Write;
    // Writing to the port cannot fail.
    let _ = writeln!(
        Serial,
        "cloister: stopped: {:02x} {}: {detail}",
        reason.code(),
        reason.name()
    );
    // SAFETY: the port ends QEMU, or belongs to no device.
    unsafe {
        asm!("out dx, eax", in("dx") DEBUG_EXIT, in("eax") u32::from(reason.code()), options(nomem, nostack));
    };
    loop {
        // SAFETY: stopping the processor touches no memory.
        unsafe { asm!("cli", "hlt", options(nomem, nostack)) };
    }
}
