//! The guest's serial port: lines with the time they came, and the two lines that have a meaning.

use std::io::Read;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A longer line is cut: the guest may be broken.
const MAX_LINE_BYTES: usize = 4096;
/// Later lines are dropped.
const MAX_LINES: usize = 20_000;

/// What the guest has printed so far.
#[derive(Default)]
pub struct Console {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    first_byte: Option<Instant>,
    lines: Vec<(Instant, String)>,
    partial: Vec<u8>,
    ended: bool,
}

/// The guest's line that it serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ready {
    /// The TCP port inside the guest.
    pub port: u16,
    /// Name of the model in the image, if it has one.
    pub model: Option<String>,
    /// The guest's own clock when it got there.
    pub boot_ms: u64,
}

/// The guest's last line before it stops itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stop {
    /// Reason code.
    pub code: u8,
    /// Reason name.
    pub name: String,
    /// What it was about.
    pub detail: String,
}

impl std::fmt::Display for Stop {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            out,
            "{} (code {:02x}): {}",
            self.name, self.code, self.detail
        )
    }
}

impl Console {
    /// Reads until the other end closes, handing each line on as it is complete.
    pub(super) fn read_all(&self, mut source: impl Read, mut each: impl FnMut(&str)) {
        let mut buffer = [0; 4096];
        while let Ok(read @ 1..) = source.read(&mut buffer) {
            for line in self.take_in(&buffer[..read]) {
                each(&line);
            }
        }
        let mut state = self.lock();
        state.end_line();
        state.ended = true;
        self.changed.notify_all();
    }

    fn take_in(&self, bytes: &[u8]) -> Vec<String> {
        let mut state = self.lock();
        state.first_byte.get_or_insert_with(Instant::now);
        let complete: Vec<String> = bytes.iter().filter_map(|&byte| state.push(byte)).collect();
        self.changed.notify_all();
        complete
    }

    /// When the first byte came.
    pub fn first_byte(&self) -> Option<Instant> {
        self.lock().first_byte
    }

    /// All lines so far.
    pub fn lines(&self) -> Vec<String> {
        self.lock()
            .lines
            .iter()
            .map(|(_, line)| line.clone())
            .collect()
    }

    /// When the first line came that `matches`.
    pub fn time_of(&self, matches: impl Fn(&str) -> bool) -> Option<Instant> {
        self.lock()
            .lines
            .iter()
            .find(|(_, line)| matches(line))
            .map(|(time, _)| *time)
    }

    /// Waits for the first line of which `read` makes something. `None` after `timeout`, or when the guest is gone.
    pub(super) fn wait_for<T>(
        &self,
        timeout: Duration,
        read: impl Fn(&str) -> Option<T>,
    ) -> Option<T> {
        let deadline = Instant::now() + timeout;
        let mut state = self.lock();
        let mut seen = 0;
        loop {
            if let Some(found) = state.lines[seen..].iter().find_map(|(_, line)| read(line)) {
                return Some(found);
            }
            seen = state.lines.len();
            let left = deadline.saturating_duration_since(Instant::now());
            if state.ended || left.is_zero() {
                return None;
            }
            let waited = self.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Takes one byte; returns the line that it ends.
    fn push(&mut self, byte: u8) -> Option<String> {
        match byte {
            b'\n' => self.end_line(),
            b'\r' => None,
            _ if self.partial.len() < MAX_LINE_BYTES => {
                self.partial.push(byte);
                None
            }
            _ => None,
        }
    }

    fn end_line(&mut self) -> Option<String> {
        let line = printable(&std::mem::take(&mut self.partial));
        if line.is_empty() || self.lines.len() == MAX_LINES {
            return None;
        }
        self.lines.push((Instant::now(), line.clone()));
        Some(line)
    }
}

/// The guest's bytes are not trusted with the terminal: control characters are replaced.
fn printable(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes)
        .chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

/// Reads `cloister: ready port=8080 ip=10.0.2.15 model=small boot_ms=410`.
pub(super) fn parse_ready(line: &str) -> Option<Ready> {
    let fields = line.strip_prefix("cloister: ready ")?;
    let field = |name: &str| {
        fields
            .split(' ')
            .find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
    };
    let model = field("model")?;
    Some(Ready {
        port: field("port")?.parse().ok()?,
        model: (model != "none").then(|| model.to_owned()),
        boot_ms: field("boot_ms")?.parse().ok()?,
    })
}

/// Reads `cloister: stopped: 12 model-digest: chunk 3 ...`.
pub(super) fn parse_stop(line: &str) -> Option<Stop> {
    let (code, rest) = line.strip_prefix("cloister: stopped: ")?.split_once(' ')?;
    let (name, detail) = rest.split_once(':').unwrap_or((rest, ""));
    let code = u8::from_str_radix(code, 16).ok()?;
    Some(Stop {
        code,
        name: name.trim().to_owned(),
        detail: detail.trim().to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_ready_line() {
        let ready = parse_ready("cloister: ready port=8080 ip=10.0.2.15 model=SmolLM2 boot_ms=410");
        assert_eq!(
            ready,
            Some(Ready {
                port: 8080,
                model: Some("SmolLM2".to_owned()),
                boot_ms: 410
            })
        );
        let none = parse_ready("cloister: ready port=8080 ip=10.0.2.15 model=none boot_ms=9")
            .expect("ready");
        assert_eq!(none.model, None);
        assert_eq!(
            parse_ready("cloister: ready port=x model=none boot_ms=9"),
            None
        );
        assert_eq!(parse_ready("cloister: not yet"), None);
    }

    #[test]
    fn reads_the_stop_line() {
        let stop =
            parse_stop("cloister: stopped: 1f bad-model: chunk 3: digest differs").expect("a stop");
        assert_eq!(
            (stop.code, stop.name.as_str(), stop.detail.as_str()),
            (0x1f, "bad-model", "chunk 3: digest differs")
        );
        assert_eq!(parse_stop("cloister: stopped"), None);
        assert_eq!(parse_stop("cloister: stopped: zz name: x"), None);
    }

    #[test]
    fn lines_are_bounded_and_cleaned() {
        let console = Console::default();
        let long = vec![b'a'; MAX_LINE_BYTES * 2];
        console.read_all(
            &[b"one\r\n\x1b[2Jtwo\n".as_slice(), &long].concat()[..],
            |_| {},
        );
        let lines = console.lines();
        assert_eq!(lines[0], "one");
        assert_eq!(lines[1], "\u{fffd}[2Jtwo");
        assert_eq!(lines[2].len(), MAX_LINE_BYTES);
        assert!(console.first_byte().is_some());
    }

    #[test]
    fn waiting_ends_with_the_guest() {
        let console = Console::default();
        console.read_all(&b"cloister: stopped: 02 x: y\n"[..], |_| {});
        let minute = Duration::from_secs(60);
        assert!(console.wait_for(minute, parse_stop).is_some());
        assert!(console.wait_for(minute, parse_ready).is_none());
    }
}
