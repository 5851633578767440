//! Where the fields of the GHCB page are (GHCB specification, table "GHCB layout").

use core::mem::{offset_of, size_of};

/// The page, for its offsets only: there is never a value of this type, because there are no references to the page.
#[repr(C)]
struct Layout {
    reserved_000: [u8; 0xcb],
    cpl: u8,
    reserved_0cc: [u8; 0x74],
    xss: u64,
    reserved_148: [u64; 3],
    dr7: u64,
    reserved_168: [u64; 2],
    rip: u64,
    reserved_180: [u64; 11],
    rsp: u64,
    reserved_1e0: [u64; 3],
    rax: u64,
    reserved_200: [u64; 33],
    rcx: u64,
    rdx: u64,
    rbx: u64,
    reserved_320: u64,
    rbp: u64,
    rsi: u64,
    rdi: u64,
    r8_to_r15: [u64; 8],
    reserved_380: [u64; 2],
    sw_exit_code: u64,
    sw_exit_info_1: u64,
    sw_exit_info_2: u64,
    sw_scratch: u64,
    reserved_3b0: [u64; 7],
    xcr0: u64,
    valid_bitmap: [u64; 2],
    x87_state_gpa: u64,
    reserved_408: [u64; 127],
    shared_buffer: [u8; SHARED_BUFFER_BYTES],
    reserved_ff0: [u8; 10],
    protocol_version: u16,
    usage: u32,
}

/// Bytes of the shared buffer.
pub const SHARED_BUFFER_BYTES: usize = 2032;

/// The byte offset of the shared buffer.
pub(super) const SHARED_BUFFER: usize = offset_of!(Layout, shared_buffer);

/// The first quadword of the shared buffer.
pub(super) const SHARED_BUFFER_INDEX: usize = SHARED_BUFFER / 8;

/// The first of the two quadwords of the valid bitmap. Bit `n` belongs to quadword `n` of the page.
pub(super) const VALID_BITMAP_INDEX: usize = offset_of!(Layout, valid_bitmap) / 8;

/// The last quadword: reserved, version (bits 31:16), usage (bits 63:32).
pub(super) const VERSION_INDEX: usize = 511;

/// A quadword of the save area that takes part in some event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Field {
    /// RAX.
    Rax,
    /// RBX.
    Rbx,
    /// RCX.
    Rcx,
    /// RDX.
    Rdx,
    /// The event.
    SwExitCode,
    /// The event's first parameter; the kind of result.
    SwExitInfo1,
    /// The event's second parameter; the result.
    SwExitInfo2,
    /// The guest physical address of the event's data.
    SwScratch,
    /// XCR0.
    Xcr0,
}

impl Field {
    pub(super) const ALL: [Self; 9] = [
        Self::Rax,
        Self::Rbx,
        Self::Rcx,
        Self::Rdx,
        Self::SwExitCode,
        Self::SwExitInfo1,
        Self::SwExitInfo2,
        Self::SwScratch,
        Self::Xcr0,
    ];

    /// The index of the quadword in the page.
    pub(super) const fn index(self) -> usize {
        let offset = match self {
            Self::Rax => offset_of!(Layout, rax),
            Self::Rbx => offset_of!(Layout, rbx),
            Self::Rcx => offset_of!(Layout, rcx),
            Self::Rdx => offset_of!(Layout, rdx),
            Self::SwExitCode => offset_of!(Layout, sw_exit_code),
            Self::SwExitInfo1 => offset_of!(Layout, sw_exit_info_1),
            Self::SwExitInfo2 => offset_of!(Layout, sw_exit_info_2),
            Self::SwScratch => offset_of!(Layout, sw_scratch),
            Self::Xcr0 => offset_of!(Layout, xcr0),
        };
        offset / 8
    }

    /// The bit in the valid bitmap.
    pub(super) const fn bit(self) -> u128 {
        1 << self.index()
    }
}

const _: () = {
    assert!(size_of::<Layout>() == 4096);
    assert!(offset_of!(Layout, cpl) == 0x0cb);
    assert!(offset_of!(Layout, xss) == 0x140);
    assert!(offset_of!(Layout, dr7) == 0x160);
    assert!(offset_of!(Layout, rip) == 0x178);
    assert!(offset_of!(Layout, rsp) == 0x1d8);
    assert!(offset_of!(Layout, rax) == 0x1f8);
    assert!(offset_of!(Layout, rcx) == 0x308);
    assert!(offset_of!(Layout, rdx) == 0x310);
    assert!(offset_of!(Layout, rbx) == 0x318);
    assert!(offset_of!(Layout, rbp) == 0x328);
    assert!(offset_of!(Layout, rsi) == 0x330);
    assert!(offset_of!(Layout, rdi) == 0x338);
    assert!(offset_of!(Layout, r8_to_r15) == 0x340);
    assert!(offset_of!(Layout, sw_exit_code) == 0x390);
    assert!(offset_of!(Layout, sw_exit_info_1) == 0x398);
    assert!(offset_of!(Layout, sw_exit_info_2) == 0x3a0);
    assert!(offset_of!(Layout, sw_scratch) == 0x3a8);
    assert!(offset_of!(Layout, xcr0) == 0x3e8);
    assert!(offset_of!(Layout, valid_bitmap) == 0x3f0);
    assert!(offset_of!(Layout, x87_state_gpa) == 0x400);
    assert!(offset_of!(Layout, shared_buffer) == 0x800);
    assert!(offset_of!(Layout, protocol_version) == 0xffa);
    assert!(offset_of!(Layout, usage) == 0xffc);
    assert!(Field::SwExitCode.index() == 114);
    assert!(Field::Rax.index() == 63);
    assert!(Field::Xcr0.index() == 125);
};
