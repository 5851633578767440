//! Server-sent events (WHATWG HTML, section 9.2) as the server writes them: each is one line of data.

use std::io::{self, BufRead, BufReader, Read};

use cloister_protocol::api::events::DONE;
use zeroize::Zeroizing;

/// The most bytes of a line.
const MAX_LINE_BYTES: u64 = 1 << 20;

/// The data of each event, up to [`DONE`], as soon as it has arrived. Comments and other fields are passed over.
pub struct Events<R> {
    source: BufReader<R>,
    done: bool,
}

impl<R: Read> Events<R> {
    /// The events in what `source` gives.
    pub fn new(source: R) -> Self {
        Self {
            source: BufReader::new(source),
            done: false,
        }
    }

    /// Whether the end was one that the server meant.
    pub fn is_done(&self) -> bool {
        self.done
    }

    /// What the events come from; the next ones in it are lost.
    pub fn into_inner(self) -> R {
        self.source.into_inner()
    }

    /// The next line, without its end; `None` at the end.
    fn line(&mut self) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
        let mut line = Zeroizing::new(Vec::with_capacity(512));
        (&mut self.source)
            .take(MAX_LINE_BYTES)
            .read_until(b'\n', &mut line)?;
        if line.is_empty() {
            return Ok(None);
        }
        if line.pop_if(|last| *last == b'\n').is_none() {
            let reason = "a line of the event stream is too long, or cut";
            return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
        }
        line.pop_if(|last| *last == b'\r');
        Ok(Some(line))
    }

    fn next_data(&mut self) -> io::Result<Option<Zeroizing<String>>> {
        while let Some(line) = self.line()? {
            let Some(data) = line.strip_prefix(b"data:") else {
                continue;
            };
            let data = std::str::from_utf8(data.strip_prefix(b" ").unwrap_or(data))
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            if data == DONE {
                self.done = true;
                return Ok(None);
            }
            return Ok(Some(Zeroizing::new(data.to_owned())));
        }
        Ok(None)
    }
}

impl<R: Read> Iterator for Events<R> {
    type Item = io::Result<Zeroizing<String>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        self.next_data().transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(text: &str) -> (Vec<String>, bool) {
        let mut events = Events::new(text.as_bytes());
        let data = events
            .by_ref()
            .map(|data| data.expect("text").to_string())
            .collect();
        (data, events.is_done())
    }

    #[test]
    fn the_data_of_each_event_up_to_the_end() {
        let text = ": a comment\nevent: x\ndata: {\"a\":1}\r\n\r\ndata:two\n\n\ndata: [DONE]\n\ndata: 3\n\n";
        assert_eq!(data(text), (vec!["{\"a\":1}".into(), "two".into()], true));
        assert_eq!(data("data: cut off\n\n"), (vec!["cut off".into()], false));
        assert_eq!(data(""), (vec![], false));
    }

    #[test]
    fn a_line_without_end_is_an_error() {
        let mut events = Events::new(&b"data: x\ndata: y"[..]);
        assert!(events.next().is_some_and(|data| data.is_ok()));
        assert!(events.next().is_some_and(|data| data.is_err()));
    }
}
