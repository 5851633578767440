//! The secrets page that the SNP firmware gives the guest (SNP firmware ABI, 8.17.2.5).

use crate::page::Page;

/// Bytes of a key for guest messages.
pub const VMPCK_BYTES: usize = 32;
/// Keys, one for each privilege level.
pub const VMPCKS: usize = 4;

const VERSION: usize = 0x000;
const FAMILY_MODEL_STEPPING: usize = 0x008;
const VMPCK0: usize = 0x020;
/// The version without a secure TSC's fields.
const PAGE_VERSION: u32 = 3;

/// Keys for guest messages, by privilege level.
pub type Vmpcks = [[u8; VMPCK_BYTES]; VMPCKS];

/// Builds the page.
pub fn secrets_page(cpu_signature: u32, keys: &Vmpcks) -> Page {
    let mut page = Page::ZERO;
    page.set_u32(VERSION, PAGE_VERSION);
    page.set_u32(FAMILY_MODEL_STEPPING, cpu_signature);
    for (index, key) in keys.iter().enumerate() {
        page.set(VMPCK0 + index * VMPCK_BYTES, key);
    }
    page
}
