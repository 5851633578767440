//! Server-sent events (WHATWG HTML, section 9.2) as streamed answers use them: each is one line of data, a JSON text,
//! and the last one is [`DONE`]. JSON texts of ours have no line ends.

use alloc::vec::Vec;

/// The data of the event that ends a stream.
pub const DONE: &str = "[DONE]";

/// Appends an event.
pub fn put(out: &mut Vec<u8>, data: &[u8]) {
    out.extend_from_slice(b"data: ");
    out.extend_from_slice(data);
    out.extend_from_slice(b"\n\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_lines_of_data_behind_each_other() {
        let mut out = Vec::new();
        put(&mut out, b"{}");
        put(&mut out, DONE.as_bytes());
        assert_eq!(out, b"data: {}\n\ndata: [DONE]\n\n");
    }
}
