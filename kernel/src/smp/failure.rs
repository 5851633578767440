//! What a processor that cannot go on leaves for the first one to say.

use crate::arch::cpu;
use crate::stop::{self, Reason};
use core::fmt::{self, Write};
use core::str;
use core::sync::atomic::{AtomicBool, Ordering};
use spin::Mutex;

/// Bytes of words that are kept.
const TEXT_BYTES: usize = 320;

static HAS_FAILED: AtomicBool = AtomicBool::new(false);
static FAILURE: Mutex<Option<Failure>> = Mutex::new(None);

struct Failure {
    number: u32,
    reason: Reason,
    text: Text,
}

/// Ends processor `number`: it leaves its words and does nothing more. Of several, the first one's are kept.
pub fn fail(number: u32, reason: Reason, detail: fmt::Arguments<'_>) -> ! {
    if let Some(mut place) = FAILURE.try_lock()
        && place.is_none()
    {
        let mut text = Text::default();
        // What does not fit is left out.
        let _ = text.write_fmt(detail);
        *place = Some(Failure {
            number,
            reason,
            text,
        });
        HAS_FAILED.store(true, Ordering::Release);
    }
    cpu::halt()
}

/// Ends the guest if a processor has failed.
pub(super) fn check() {
    if !HAS_FAILED.load(Ordering::Acquire) {
        return;
    }
    if let Some(failure) = &*FAILURE.lock() {
        let Failure {
            number,
            reason,
            text,
        } = failure;
        stop::stop(*reason, format_args!("cpu {number}: {}", text.as_str()));
    }
}

/// A short text without a heap.
struct Text {
    bytes: [u8; TEXT_BYTES],
    length: usize,
}

impl Default for Text {
    fn default() -> Self {
        Self {
            bytes: [0; TEXT_BYTES],
            length: 0,
        }
    }
}

impl Text {
    fn as_str(&self) -> &str {
        str::from_utf8(&self.bytes[..self.length]).unwrap_or_default()
    }
}

impl Write for Text {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = TEXT_BYTES - self.length;
        let taken = &text[..text.floor_char_boundary(room)];
        self.bytes[self.length..][..taken.len()].copy_from_slice(taken.as_bytes());
        self.length += taken.len();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_do_not_fit_are_cut_between_characters() {
        let mut text = Text::default();
        write!(text, "vector {}: {}", 14, "ä".repeat(TEXT_BYTES)).unwrap();
        assert!(text.as_str().starts_with("vector 14: ää"));
        assert!((TEXT_BYTES - 1..=TEXT_BYTES).contains(&text.as_str().len()));
        write!(text, "more").unwrap();
        assert!(text.length <= TEXT_BYTES);
    }
}
