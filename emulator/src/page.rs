//! A page of bytes with little-endian fields, and the sizes of pages.

/// Bytes of a small page.
pub const PAGE_BYTES: u64 = 4096;
/// Bytes of a large page.
pub const LARGE_PAGE_BYTES: u64 = 2 << 20;
/// Small pages in a large one.
pub const PAGES_PER_LARGE: u64 = LARGE_PAGE_BYTES / PAGE_BYTES;
/// Position of the C-bit: the physical address bit that makes an access private (Milan, Genoa, Turin).
pub const C_BIT_POSITION: u32 = 51;
/// The C-bit as a mask.
pub const C_BIT: u64 = 1 << C_BIT_POSITION;
/// Bits of a page number in a physical address or page-table entry, without the C-bit.
pub const ADDRESS_MASK: u64 = 0x0007_ffff_ffff_f000;

/// 4096 bytes at a page boundary.
#[repr(C, align(4096))]
#[derive(Clone)]
pub struct Page([u8; PAGE_BYTES as usize]);

const _: () = assert!(size_of::<Page>() == 4096 && align_of::<Page>() == 4096);

impl Page {
    /// A page of zeros.
    pub const ZERO: Self = Self([0; PAGE_BYTES as usize]);

    /// All bytes.
    pub fn bytes(&self) -> &[u8; PAGE_BYTES as usize] {
        &self.0
    }

    /// All bytes, to be changed.
    pub fn bytes_mut(&mut self) -> &mut [u8; PAGE_BYTES as usize] {
        &mut self.0
    }

    /// The field of `N` bytes at a constant offset. Panics where it does not lie in the page.
    pub fn field<const N: usize>(&self, offset: usize) -> [u8; N] {
        let mut value = [0; N];
        value.copy_from_slice(&self.0[offset..offset + N]);
        value
    }

    /// Writes bytes at a constant offset. Panics where they do not fit.
    pub fn set(&mut self, offset: usize, value: &[u8]) {
        self.0[offset..offset + value.len()].copy_from_slice(value);
    }

    /// A 16-bit field.
    pub fn u16(&self, offset: usize) -> u16 {
        u16::from_le_bytes(self.field(offset))
    }

    /// A 32-bit field.
    pub fn u32(&self, offset: usize) -> u32 {
        u32::from_le_bytes(self.field(offset))
    }

    /// A 64-bit field.
    pub fn u64(&self, offset: usize) -> u64 {
        u64::from_le_bytes(self.field(offset))
    }

    /// Writes a 16-bit field.
    pub fn set_u16(&mut self, offset: usize, value: u16) {
        self.set(offset, &value.to_le_bytes());
    }

    /// Writes a 32-bit field.
    pub fn set_u32(&mut self, offset: usize, value: u32) {
        self.set(offset, &value.to_le_bytes());
    }

    /// Writes a 64-bit field.
    pub fn set_u64(&mut self, offset: usize, value: u64) {
        self.set(offset, &value.to_le_bytes());
    }
}
