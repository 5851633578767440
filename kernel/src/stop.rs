//! The end of the guest: one line on the serial port, then the platform's way out.

pub use cloister_boot::stop::Reason;

use crate::arch::cpu;
use crate::memory::heap;
use crate::platform;
use crate::smp;
use core::fmt;
use core::panic::PanicInfo;

/// Prints `cloister: stopped: <code> <name>: <detail>` and ends the guest.
///
/// `detail` says what was wrong and what to do; never request content or keys.
///
/// On another processor than the first the words are kept until the first one says them: only it talks to the host.
pub fn stop(reason: Reason, detail: fmt::Arguments<'_>) -> ! {
    let number = cpu::number();
    if number != 0 {
        smp::fail(number, reason, detail);
    }
    crate::log!("stopped: {:02x} {}: {detail}", reason.code(), reason.name());
    platform::current().stop(reason)
}

/// Ends the guest after a panic. Only the place is printed: a panic's message can quote the text
/// that it failed on, and that may be a request.
pub fn panicked(info: &PanicInfo<'_>) -> ! {
    let place = PanicPlace(info);
    match heap::HEAP.failed_request() {
        Some(bytes) => stop(
            Reason::OutOfMemory,
            format_args!("no room for {bytes} more bytes on the heap, at {place}"),
        ),
        None => stop(Reason::Panic, format_args!("a bug, at {place}")),
    }
}

struct PanicPlace<'a>(&'a PanicInfo<'a>);

impl fmt::Display for PanicPlace<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.location() {
            Some(place) => write!(f, "{}:{}", place.file(), place.line()),
            None => f.write_str("an unknown place"),
        }
    }
}
