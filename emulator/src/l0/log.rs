//! L0's log, on a port of its own, and its ways to end.

use crate::cpu;
use core::fmt::{Arguments, Write};
use spin::Mutex;

/// QEMU's debug console.
pub(crate) const PORT: u16 = 0xe9;
/// QEMU's device to end it: the status is twice the value plus one.
const END_PORT: u16 = 0xf4;

struct Console;

impl Write for Console {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        text.bytes().for_each(|byte| cpu::out8(PORT, byte));
        Ok(())
    }
}

/// One line at a time, also with two CPUs.
static CONSOLE: Mutex<Console> = Mutex::new(Console);

/// Writes a line.
pub(crate) fn line(text: Arguments<'_>) {
    // Writing to a port cannot fail.
    let _ = writeln!(CONSOLE.lock(), "l0: {text}");
}

/// Writes a line of the log.
macro_rules! log {
    ($($argument:tt)*) => {
        $crate::log::line(format_args!($($argument)*))
    };
}
pub(crate) use log;

/// How L0 ends.
#[derive(Clone, Copy, Debug)]
pub(crate) enum End {
    /// The guest asked for its end.
    Terminated = 1,
    /// L0 found something that a real platform would not bear.
    Diagnosis = 2,
    /// QEMU does not behave as L0 needs it.
    Selftest = 3,
    /// All that the options asked for is done.
    Done = 0x10,
}

/// Ends QEMU.
pub(crate) fn end(how: End) -> ! {
    cpu::out8(END_PORT, how as u8);
    loop {
        core::hint::spin_loop();
    }
}

/// Says what is wrong and ends.
pub(crate) fn diagnose(text: Arguments<'_>) -> ! {
    log!("DIAGNOSIS: {text}");
    end(End::Diagnosis)
}
