//! The secrets page: what the security processor gives to the guest alone at launch
//! (SNP firmware ABI, AMD publication 56860, section 8.17.2.5, PAGE_TYPE_SECRETS; GHCB specification,
//! section 2.7, "SEV-SNP secrets page", for the part that belongs to the guest).

use crate::address::PAGE_BYTES;
use crate::rmp::Vmpl;
use core::fmt;
use core::mem::{offset_of, size_of};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};
use zeroize::{Zeroize, Zeroizing};

/// Bytes of a VM platform communication key.
pub const VMPCK_BYTES: usize = 32;

#[derive(FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
struct Page {
    version: u32,
    flags: u32,
    fms: u32,
    reserved_00c: u32,
    gosvw: [u8; 16],
    vmpck: [[u8; VMPCK_BYTES]; 4],
    /// The guest's own 96 bytes begin here; what is in them is a convention of guests.
    message_counts_low: [u32; 4],
    ap_jump_table: u64,
    message_counts_high: [u32; 4],
    reserved_0c8: [u8; 22],
    guest_area_version: u16,
    guest_usage: [u8; 32],
    vmsa_tweak_bitmap: [u64; 8],
    svsm_base: u64,
    svsm_size: u64,
    svsm_caa: u64,
    svsm_max_version: u32,
    svsm_guest_vmpl: u8,
    reserved_15d: [u8; 3],
    tsc_factor: u32,
    reserved_164: [u8; 0xe9c],
}

const _: () = {
    assert!(size_of::<Page>() == PAGE_BYTES);
    assert!(offset_of!(Page, flags) == 0x004);
    assert!(offset_of!(Page, fms) == 0x008);
    assert!(offset_of!(Page, gosvw) == 0x010);
    assert!(offset_of!(Page, vmpck) == 0x020);
    assert!(offset_of!(Page, message_counts_low) == 0x0a0);
    assert!(offset_of!(Page, ap_jump_table) == 0x0b0);
    assert!(offset_of!(Page, message_counts_high) == 0x0b8);
    assert!(offset_of!(Page, guest_area_version) == 0x0de);
    assert!(offset_of!(Page, guest_usage) == 0x0e0);
    assert!(offset_of!(Page, vmsa_tweak_bitmap) == 0x100);
    assert!(offset_of!(Page, svsm_base) == 0x140);
    assert!(offset_of!(Page, svsm_size) == 0x148);
    assert!(offset_of!(Page, svsm_caa) == 0x150);
    assert!(offset_of!(Page, svsm_max_version) == 0x158);
    assert!(offset_of!(Page, svsm_guest_vmpl) == 0x15c);
    assert!(offset_of!(Page, tsc_factor) == 0x160);
    assert!(offset_of!(Page, reserved_164) == 0x164);
};

/// Where the keys are in the page.
const VMPCKS: core::ops::Range<usize> = 0x20..0xa0;

/// A VM platform communication key: it encrypts the messages between the guest at a VMPL and the security processor.
/// Wiped when it is dropped.
pub struct Vmpck {
    vmpl: Vmpl,
    key: Zeroizing<[u8; VMPCK_BYTES]>,
}

impl Vmpck {
    /// A key of a VMPL; `None` if it is all zeros, which marks a key that somebody used up.
    pub fn new(vmpl: Vmpl, key: Zeroizing<[u8; VMPCK_BYTES]>) -> Option<Self> {
        (*key != [0; VMPCK_BYTES]).then_some(Self { vmpl, key })
    }

    /// The VMPL that the key is for: its number in message headers.
    pub const fn vmpl(&self) -> Vmpl {
        self.vmpl
    }

    pub(crate) fn bytes(&self) -> &[u8; VMPCK_BYTES] {
        &self.key
    }

    pub(crate) fn wipe(&mut self) {
        self.key.zeroize();
    }
}

impl fmt::Debug for Vmpck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Vmpck({:?})", self.vmpl)
    }
}

/// Why the secrets page was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SecretsError {
    /// Version 0: nobody filled the page.
    Version,
}

impl fmt::Display for SecretsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version => f.write_str("the secrets page has version 0"),
        }
    }
}

impl core::error::Error for SecretsError {}

/// What was in the secrets page. Keys that were not taken are wiped when it is dropped.
pub struct Secrets {
    /// The version of the page's format: at least 1.
    pub version: u32,
    /// Whether the guest was launched by an initial migration image (IMI_EN).
    pub migration_image: bool,
    /// Family, model and stepping, as CPUID leaf 1 has them in EAX.
    pub fms: u32,
    /// The guest OS visible workarounds that the host passed at launch.
    pub gosvw: [u8; 16],
    /// For each VMPCK the number of the last message, as whatever ran in the guest before left it; 0 if nothing did.
    pub message_counts: [u64; 4],
    /// Base address of the SVSM, by its own word.
    pub svsm_base: u64,
    /// Size of the SVSM in bytes; 0 if there is none.
    pub svsm_size: u64,
    /// The VMPL that the SVSM runs the guest at.
    pub svsm_guest_vmpl: u8,
    /// TSC_FACTOR, where Secure TSC is active: how far the real frequency is below the nominal one.
    pub tsc_factor: u32,
    vmpcks: Zeroizing<[[u8; VMPCK_BYTES]; 4]>,
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secrets")
            .field("version", &self.version)
            .field("message_counts", &self.message_counts)
            .finish_non_exhaustive()
    }
}

impl Secrets {
    /// Reads the page, and wipes the keys in it, whatever the result is.
    ///
    /// # Errors
    /// A page of version 0.
    pub fn take(page: &mut [u8; PAGE_BYTES]) -> Result<Self, SecretsError> {
        let mut copy = Page::new_zeroed();
        copy.as_mut_bytes().copy_from_slice(page);
        page[VMPCKS].zeroize();
        let secrets = Self::read(&copy);
        copy.vmpck.zeroize();
        secrets
    }

    fn read(page: &Page) -> Result<Self, SecretsError> {
        if page.version == 0 {
            return Err(SecretsError::Version);
        }
        let count = |key: usize| {
            let high = u64::from(page.message_counts_high[key]);
            high << 32 | u64::from(page.message_counts_low[key])
        };
        Ok(Self {
            version: page.version,
            migration_image: page.flags & 1 != 0,
            fms: page.fms,
            gosvw: page.gosvw,
            message_counts: [0, 1, 2, 3].map(count),
            svsm_base: page.svsm_base,
            svsm_size: page.svsm_size,
            svsm_guest_vmpl: page.svsm_guest_vmpl,
            tsc_factor: page.tsc_factor,
            vmpcks: Zeroizing::new(page.vmpck),
        })
    }

    /// Takes a VMPL's key out, once; `None` if there is none. There is one channel to a key.
    pub fn take_vmpck(&mut self, vmpl: Vmpl) -> Option<Vmpck> {
        let key = &mut self.vmpcks[vmpl as usize];
        let vmpck = Vmpck::new(vmpl, Zeroizing::new(*key));
        key.zeroize();
        vmpck
    }

    /// The number of the last message with a VMPL's key.
    pub const fn message_count(&self, vmpl: Vmpl) -> u64 {
        self.message_counts[vmpl as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page() -> [u8; PAGE_BYTES] {
        let mut page = [0; PAGE_BYTES];
        page[0] = 3;
        page[4] = 1;
        page[8..12].copy_from_slice(&0x00a0_0f11_u32.to_le_bytes());
        page[0x20..0x40].fill(0xa0);
        page[0x40..0x60].fill(0xa1);
        page[0x80..0xa0].fill(0xa3);
        page[0xa4..0xa8].copy_from_slice(&6_u32.to_le_bytes());
        page[0xbc..0xc0].copy_from_slice(&1_u32.to_le_bytes());
        page[0x148..0x150].copy_from_slice(&0x10_0000_u64.to_le_bytes());
        page[0x15c] = 2;
        page[0x160..0x164].copy_from_slice(&200_u32.to_le_bytes());
        page
    }

    #[test]
    fn fields_are_read_and_keys_leave_the_page() {
        let mut page = page();
        let mut secrets = Secrets::take(&mut page).unwrap();
        assert_eq!((secrets.version, secrets.fms), (3, 0x00a0_0f11));
        assert!(secrets.migration_image);
        assert_eq!(secrets.message_count(Vmpl::Vmpl1), 1 << 32 | 6);
        assert_eq!((secrets.svsm_size, secrets.svsm_guest_vmpl), (0x10_0000, 2));
        assert_eq!(secrets.tsc_factor, 200);
        assert_eq!(page[VMPCKS], [0; 128]);
        let key = secrets.take_vmpck(Vmpl::Vmpl1).unwrap();
        assert_eq!((key.vmpl(), key.bytes()), (Vmpl::Vmpl1, &[0xa1; 32]));
        assert!(secrets.take_vmpck(Vmpl::Vmpl1).is_none(), "only once");
        assert!(
            secrets.take_vmpck(Vmpl::Vmpl2).is_none(),
            "a key of zeros is none"
        );
        assert!(secrets.take_vmpck(Vmpl::Vmpl3).is_some());
    }

    #[test]
    fn a_refused_page_loses_its_keys_too() {
        let mut page = page();
        page[0] = 0;
        assert_eq!(Secrets::take(&mut page).err(), Some(SecretsError::Version));
        assert_eq!(page[VMPCKS], [0; 128]);
    }

    #[test]
    fn keys_are_not_printed() {
        let mut secrets = Secrets::take(&mut page()).unwrap();
        let vmpck = secrets.take_vmpck(Vmpl::Vmpl0).unwrap();
        let text = std::format!("{secrets:?} {vmpck:?}");
        assert!(text.contains("Vmpck(Vmpl0)"));
        assert!(!text.contains("160") && !text.contains("161"));
    }

    #[test]
    fn any_page_with_a_version_is_read() {
        let mut rng = crate::testing::Rng(3);
        for _ in 0..200 {
            let mut page = [0; PAGE_BYTES];
            rng.fill(&mut page);
            let version = u32::from_le_bytes([page[0], page[1], page[2], page[3]]);
            assert_eq!(Secrets::take(&mut page).is_ok(), version != 0);
            assert_eq!(page[VMPCKS], [0; 128]);
        }
    }
}
