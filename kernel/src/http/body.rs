//! Request bodies: counted bytes, or the chunked transfer coding (RFC 9112, section 7.1) decoded with bounds.

use alloc::vec::Vec;

use super::head::Framing;
use super::response::Status;

/// Longest line of a chunk's size with its extensions, which are skipped.
const MAX_CHUNK_LINE_BYTES: usize = 128;
/// Hexadecimal digits of a chunk's size.
const MAX_CHUNK_SIZE_DIGITS: usize = 8;
/// Bytes of all trailer fields together; they are skipped.
const MAX_TRAILER_BYTES: usize = 1024;

/// Why a body was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum BodyError {
    /// Longer than the path allows.
    TooLarge,
    /// A chunk's size line, its end or the trailer is malformed.
    Chunk,
}

impl BodyError {
    /// The status that answers it.
    #[must_use]
    pub fn status(self) -> Status {
        match self {
            Self::TooLarge => Status::ContentTooLarge,
            Self::Chunk => Status::BadRequest,
        }
    }

    /// What was wrong, for the answer.
    #[must_use]
    pub fn detail(self) -> &'static str {
        match self {
            Self::TooLarge => "The request body is too large.",
            Self::Chunk => "The chunked request body is malformed.",
        }
    }
}

/// Reads one body.
#[derive(Debug)]
pub(super) struct BodyReader {
    body: Vec<u8>,
    limit: usize,
    state: State,
}

#[derive(Debug)]
enum State {
    /// So many bytes to go.
    Counted(usize),
    /// In a chunk's size line; its bytes so far.
    Size(Vec<u8>),
    /// In a chunk; so many bytes to go.
    Data(usize),
    /// Between a chunk's data and its CR LF; bytes of it that were seen.
    DataEnd(usize),
    /// In the trailer: bytes so far, and of the current line.
    Trailer {
        total: usize,
        line: usize,
        after_cr: bool,
    },
    /// Complete.
    Done,
}

impl BodyReader {
    /// A reader for a body that may have `limit` bytes.
    pub(super) fn new(framing: Framing, limit: usize) -> Result<Self, BodyError> {
        let (state, capacity) = match framing {
            Framing::Length(0) => (State::Done, 0),
            Framing::Length(length) => match usize::try_from(length) {
                Ok(length) if length <= limit => (State::Counted(length), length),
                _ => return Err(BodyError::TooLarge),
            },
            Framing::Chunked => (State::Size(Vec::new()), 0),
        };
        Ok(Self {
            body: Vec::with_capacity(capacity),
            limit,
            state,
        })
    }

    /// Whether the last byte was read.
    pub(super) fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// The body.
    pub(super) fn into_body(self) -> Vec<u8> {
        self.body
    }

    /// Takes bytes until the body ends; returns how many were taken.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<usize, BodyError> {
        let mut taken = 0;
        while taken < bytes.len() && !self.is_done() {
            taken += match self.state {
                State::Counted(left) => self.take_data(&bytes[taken..], left, State::Counted),
                State::Data(left) => self.take_data(&bytes[taken..], left, State::Data),
                _ => {
                    self.take_framing(bytes[taken])?;
                    1
                }
            };
        }
        Ok(taken)
    }

    fn take_data(&mut self, bytes: &[u8], left: usize, more: fn(usize) -> State) -> usize {
        let taken = bytes.len().min(left);
        self.body.extend_from_slice(&bytes[..taken]);
        self.state = match (left - taken, &self.state) {
            (0, State::Counted(_)) => State::Done,
            (0, _) => State::DataEnd(0),
            (left, _) => more(left),
        };
        taken
    }

    fn take_framing(&mut self, byte: u8) -> Result<(), BodyError> {
        match &mut self.state {
            State::Size(line) => {
                line.push(byte);
                if byte == b'\n' {
                    let size = parse_chunk_line(line)?;
                    return self.begin_chunk(size);
                }
                if line.len() >= MAX_CHUNK_LINE_BYTES {
                    return Err(BodyError::Chunk);
                }
            }
            State::DataEnd(seen) => match (*seen, byte) {
                (0, b'\r') => *seen = 1,
                (1, b'\n') => self.state = State::Size(Vec::new()),
                _ => return Err(BodyError::Chunk),
            },
            State::Trailer {
                total,
                line,
                after_cr,
            } => {
                *total += 1;
                if *total > MAX_TRAILER_BYTES || *after_cr != (byte == b'\n') {
                    return Err(BodyError::Chunk);
                }
                *after_cr = byte == b'\r';
                if byte == b'\n' && *line == 1 {
                    self.state = State::Done;
                } else {
                    *line = if byte == b'\n' { 0 } else { *line + 1 };
                }
            }
            State::Counted(_) | State::Data(_) | State::Done => {}
        }
        Ok(())
    }

    fn begin_chunk(&mut self, size: usize) -> Result<(), BodyError> {
        if size > self.limit - self.body.len() {
            return Err(BodyError::TooLarge);
        }
        self.state = if size == 0 {
            State::Trailer {
                total: 0,
                line: 0,
                after_cr: false,
            }
        } else {
            self.body.reserve(size);
            State::Data(size)
        };
        Ok(())
    }
}

/// The size in a complete line `hex [;extension] CR LF`.
fn parse_chunk_line(line: &[u8]) -> Result<usize, BodyError> {
    let line = line.strip_suffix(b"\r\n").ok_or(BodyError::Chunk)?;
    if line
        .iter()
        .any(|byte| byte.is_ascii_control() && *byte != b'\t')
    {
        return Err(BodyError::Chunk);
    }
    let digits = line.split(|byte| *byte == b';').next().unwrap_or(line);
    let digits = digits.trim_ascii_end();
    if digits.is_empty() || digits.len() > MAX_CHUNK_SIZE_DIGITS {
        return Err(BodyError::Chunk);
    }
    digits.iter().try_fold(0_usize, |size, digit| {
        let value = char::from(*digit).to_digit(16).ok_or(BodyError::Chunk)?;
        Ok(size << 4 | value as usize)
    })
}
