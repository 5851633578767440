//! Log lines on the first serial port (16550, I/O port 0x3f8). The host reads them.

use crate::platform::{self, Platform};
use core::fmt::{self, Write};

/// Prints a line that starts with `cloister: `.
#[macro_export]
macro_rules! log {
    ($($arg:tt)*) => { $crate::device::serial::line(format_args!($($arg)*)) };
}

const DATA: u16 = 0x3f8;
const LINE_STATUS: u16 = DATA + 5;
const TRANSMITTER_EMPTY: u8 = 1 << 5;
/// Polls for room before a byte is dropped: a host that never reads must not hang the guest.
const POLLS_MAX: u32 = 100_000;

/// Prints one line.
pub fn line(text: fmt::Arguments<'_>) {
    let mut port = Port(platform::current());
    // Writing to the port cannot fail, and a failing `Display` only shortens the line.
    let _ = writeln!(port, "cloister: {text}");
}

struct Port(&'static dyn Platform);

impl Write for Port {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            let ready = || self.0.in_u8(LINE_STATUS) & TRANSMITTER_EMPTY != 0;
            if (0..POLLS_MAX).any(|_| ready()) {
                self.0.out_u8(DATA, byte);
            }
        }
        Ok(())
    }
}
