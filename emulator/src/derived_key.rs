//! Derived keys (MSG_KEY_REQ; SNP firmware ABI, "Key Derivation").
//!
//! Which of the guest's data go into a key is the ABI's: those that the request selects, and its VMPL always. How they
//! are mixed is not public, so the function is this platform's own: SHA-256 over a fixed layout. A key that a guest gets
//! here is none that it gets from a chip.

use crate::digest::DIGEST_BYTES;
use crate::page::Page;
use sha2::{Digest, Sha256};

/// Bytes of a derived key, and of the root key.
pub const KEY_BYTES: usize = 32;

/// Status of the answer: a parameter is wrong.
pub const STATUS_INVALID_PARAMETERS: u32 = 0x16;
/// Status of the answer: there is no such root key.
pub const STATUS_INVALID_KEY: u32 = 0x27;

/// Bytes of a request of version 1, and of version 2, which has the mitigation vector.
const REQUEST_BYTES: [usize; 2] = [0x20, 0x28];
const ROOT_IS_VMRK: u32 = 1;
/// Bits 2:1 of the first word: which endorsement key.
const KEY_SELECT: u32 = 3;

/// Bits of the guest field select.
mod select {
    pub(super) const POLICY: u64 = 1;
    pub(super) const IMAGE_ID: u64 = 1 << 1;
    pub(super) const FAMILY_ID: u64 = 1 << 2;
    pub(super) const MEASUREMENT: u64 = 1 << 3;
    pub(super) const GUEST_SVN: u64 = 1 << 4;
    pub(super) const TCB_VERSION: u64 = 1 << 5;
    pub(super) const MITIGATION: u64 = 1 << 6;
}

/// A key that a guest asks for, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyRequest {
    fields: u64,
    vmpl: u32,
    guest_svn: u32,
    tcb_version: [u8; 8],
}

/// What the platform knows of the guest that asks.
#[derive(Clone, Copy, Debug)]
pub struct Identity {
    /// The guest's policy.
    pub policy: u64,
    /// Its launch digest.
    pub measurement: [u8; DIGEST_BYTES],
}

/// Without an ID block these are zero; no request may name a higher SVN.
const IMAGE_ID: [u8; 16] = [0; 16];
const FAMILY_ID: [u8; 16] = [0; 16];
const GUEST_SVN: u32 = 0;

impl KeyRequest {
    /// Reads the payload at an offset of a message of a version, sent with the key of a privilege level. `Err` is the
    /// answer's status.
    pub fn parse(
        message: &Page,
        at: usize,
        (version, bytes): (u8, usize),
        level: u32,
        platform_tcb: &[u8; 8],
    ) -> Result<Self, u32> {
        let expected = REQUEST_BYTES.get(usize::from(version).wrapping_sub(1));
        if expected != Some(&bytes) {
            return Err(STATUS_INVALID_PARAMETERS);
        }
        let root = message.u32(at);
        let request = Self {
            fields: message.u64(at + 0x08),
            vmpl: message.u32(at + 0x10),
            guest_svn: message.u32(at + 0x14),
            tcb_version: message.field(at + 0x18),
        };
        let mitigation = if version == 2 {
            message.u64(at + 0x20)
        } else {
            0
        };
        let known_fields = match version {
            1 => select::MITIGATION - 1,
            _ => (select::MITIGATION << 1) - 1,
        };
        let newer_than = |(asked, has): (&u8, &u8)| asked > has;
        let good = root & !(ROOT_IS_VMRK | KEY_SELECT << 1) == 0
            && root >> 1 & KEY_SELECT != KEY_SELECT
            && message.u32(at + 4) == 0
            && request.fields & !known_fields == 0
            && (level..=3).contains(&request.vmpl)
            && request.guest_svn == GUEST_SVN
            && !request.tcb_version.iter().zip(platform_tcb).any(newer_than)
            && mitigation == 0;
        if !good {
            return Err(STATUS_INVALID_PARAMETERS);
        }
        // No migration agent has given a VMRK, and there is no VLEK.
        if root & ROOT_IS_VMRK != 0 || root >> 1 & KEY_SELECT > 1 {
            return Err(STATUS_INVALID_KEY);
        }
        Ok(request)
    }

    /// The key for a guest.
    pub fn derive(&self, root: &[u8; KEY_BYTES], guest: &Identity) -> [u8; KEY_BYTES] {
        let mut hash = Sha256::new();
        hash.update(b"cloister emulator derived key");
        hash.update(root);
        hash.update(self.fields.to_le_bytes());
        hash.update(self.vmpl.to_le_bytes());
        // What is not selected leaves zeros, so that every field has its place.
        let mut mix = |bit: u64, field: &[u8]| {
            let selected = self.fields & bit != 0;
            for byte in field {
                hash.update([if selected { *byte } else { 0 }]);
            }
        };
        mix(select::POLICY, &guest.policy.to_le_bytes());
        mix(select::IMAGE_ID, &IMAGE_ID);
        mix(select::FAMILY_ID, &FAMILY_ID);
        mix(select::MEASUREMENT, &guest.measurement);
        mix(select::GUEST_SVN, &self.guest_svn.to_le_bytes());
        mix(select::TCB_VERSION, &self.tcb_version);
        hash.finalize().into()
    }
}

/// The platform's root key: no secret, and the same at every launch, so that a guest gets its keys again.
pub fn root_key(chip_id: &[u8; 64], tcb_version: &[u8; 8]) -> [u8; KEY_BYTES] {
    let mut hash = Sha256::new();
    hash.update(b"cloister emulator root key");
    hash.update(chip_id);
    hash.update(tcb_version);
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TCB: [u8; 8] = [1, 1, 0, 0, 0, 0, 1, 1];
    const GUEST: Identity = Identity {
        policy: 0x3_0000,
        measurement: [7; DIGEST_BYTES],
    };

    /// A request of version 1 from privilege level 1.
    fn parse(change: impl Fn(&mut Page)) -> Result<KeyRequest, u32> {
        let mut page = Page::ZERO;
        page.set_u32(0x10, 1);
        change(&mut page);
        KeyRequest::parse(&page, 0, (1, 0x20), 1, &TCB)
    }

    fn key(fields: u64, vmpl: u32, guest: &Identity) -> [u8; KEY_BYTES] {
        let request = parse(|page| {
            page.set_u64(8, fields);
            page.set_u32(0x10, vmpl);
        });
        let root = root_key(&[1; 64], &TCB);
        request.expect("a good request").derive(&root, guest)
    }

    #[test]
    fn a_key_depends_on_what_is_selected_and_on_nothing_else() {
        let other = Identity {
            measurement: [8; DIGEST_BYTES],
            ..GUEST
        };
        assert_eq!(key(1, 1, &GUEST), key(1, 1, &other));
        assert_ne!(key(8, 1, &GUEST), key(8, 1, &other));
        assert_ne!(key(1, 1, &GUEST), key(9, 1, &GUEST));
        assert_ne!(key(0, 1, &GUEST), key(2, 1, &GUEST), "zeros, but selected");
        assert_ne!(key(1, 1, &GUEST), key(1, 2, &GUEST));
        let chips = [[1; 64], [2; 64]].map(|chip| root_key(&chip, &TCB));
        assert_ne!(chips[0], chips[1]);
    }

    #[test]
    fn requests_beyond_the_guest_or_the_platform_are_refused() {
        let wrong = Err(STATUS_INVALID_PARAMETERS);
        assert_eq!(parse(|page| page.set_u32(0x10, 0)), wrong, "VMPL");
        assert_eq!(parse(|page| page.set_u32(0x10, 4)), wrong, "VMPL");
        assert_eq!(parse(|page| page.set_u32(0x14, 1)), wrong, "guest SVN");
        assert_eq!(parse(|page| page.set(0x18, &[2])), wrong, "TCB");
        assert!(parse(|page| page.set(0x18, &TCB)).is_ok());
        assert_eq!(parse(|page| page.set_u64(8, 1 << 6)), wrong, "version 1");
        assert_eq!(parse(|page| page.set_u32(0, 6)), wrong, "key select");
        assert_eq!(parse(|page| page.set_u32(4, 1)), wrong, "reserved");
        let absent = Err(STATUS_INVALID_KEY);
        assert_eq!(parse(|page| page.set_u32(0, 1)), absent, "VMRK");
        assert_eq!(parse(|page| page.set_u32(0, 4)), absent, "VLEK");
    }

    #[test]
    fn the_second_version_has_a_mitigation_vector() {
        let parse = |version, bytes, vector, fields| {
            let mut page = Page::ZERO;
            page.set_u64(8, fields);
            page.set_u64(0x20, vector);
            KeyRequest::parse(&page, 0, (version, bytes), 0, &TCB)
        };
        assert!(parse(2, 0x28, 0, 1 << 6).is_ok());
        assert!(parse(2, 0x28, 0, 1 << 7).is_err());
        assert!(parse(2, 0x28, 1, 0).is_err());
        assert!(parse(2, 0x20, 0, 0).is_err());
        assert!(parse(3, 0x28, 0, 0).is_err());
    }
}
