//! Little-endian fields of tables in an image, and the header that SEV and TDX metadata both have.

/// The `u32` at `at`.
///
/// # Panics
/// If `bytes` ends before it: the caller has checked the length.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let field = bytes[at..].first_chunk();
    u32::from_le_bytes(*field.expect("the caller has checked the length"))
}

/// The `u64` at `at`.
///
/// # Panics
/// If `bytes` ends before it: the caller has checked the length.
pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let field = bytes[at..].first_chunk();
    u64::from_le_bytes(*field.expect("the caller has checked the length"))
}

/// `signature | u32 length | u32 version | u32 entries`: what both kinds of metadata begin with.
pub(crate) const HEADER_BYTES: usize = 16;

/// Metadata as its header says, with nothing but its place checked.
pub(crate) struct Metadata<'a> {
    /// Where the header begins in the file.
    pub(crate) start: usize,
    pub(crate) signature: [u8; 4],
    /// Length in bytes.
    pub(crate) bytes: u32,
    pub(crate) version: u32,
    pub(crate) entries: u32,
    /// The file from the header's end on.
    pub(crate) rest: &'a [u8],
}

impl<'a> Metadata<'a> {
    /// Reads the header `from_end` bytes before the end of `rom`; `None` if it is not inside.
    pub(crate) fn read(rom: &'a [u8], from_end: u32) -> Option<Self> {
        let start = rom.len().checked_sub(usize::try_from(from_end).ok()?)?;
        let (header, rest) = rom[start..].split_first_chunk::<HEADER_BYTES>()?;
        let [a, b, c, d, ..] = *header;
        let [bytes, version, entries] = [4, 8, 12].map(|at| u32_at(header, at));
        Some(Self {
            start,
            signature: [a, b, c, d],
            bytes,
            version,
            entries,
            rest,
        })
    }

    /// Bytes of the file from the header on.
    pub(crate) fn available(&self) -> usize {
        HEADER_BYTES + self.rest.len()
    }
}
