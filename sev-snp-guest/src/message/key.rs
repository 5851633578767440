//! MSG_KEY_REQ and MSG_KEY_RSP: keys that the security processor derives for a guest of some identity
//! (SNP firmware ABI, AMD publication 56860, "Key derivation").

use super::MessageError;
use super::header::MessageKind;
use super::report::{KeySelect, check_status};
use crate::rmp::Vmpl;
use core::mem::{offset_of, size_of};
use core::ops::BitOr;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};
use zeroize::Zeroizing;

const MESSAGE_TYPE: u8 = 3;

/// Bytes of a derived key.
pub const DERIVED_KEY_BYTES: usize = 32;

/// What a derived key comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RootKey {
    /// The chip's or the provider's endorsement key.
    Endorsement(KeySelect),
    /// The VM root key, which a migration agent gave to the guest.
    Vmrk,
}

/// Fields of the guest's identity that are mixed into a derived key: a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct GuestFields(u64);

impl GuestFields {
    /// No field.
    pub const NONE: Self = Self(0);
    /// The policy.
    pub const POLICY: Self = Self(1);
    /// The image id.
    pub const IMAGE_ID: Self = Self(1 << 1);
    /// The family id.
    pub const FAMILY_ID: Self = Self(1 << 2);
    /// The launch measurement.
    pub const MEASUREMENT: Self = Self(1 << 3);
    /// The guest SVN in the request.
    pub const GUEST_SVN: Self = Self(1 << 4);
    /// The TCB version in the request.
    pub const TCB_VERSION: Self = Self(1 << 5);
    /// The launch mitigation vector in the request; it needs version 2 of the message.
    pub const LAUNCH_MITIGATION_VECTOR: Self = Self(1 << 6);

    /// The bits.
    pub const fn bits(self) -> u64 {
        self.0
    }
}

impl BitOr for GuestFields {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// A request for a derived key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyRequest {
    /// What the key comes from.
    pub root: RootKey,
    /// What is mixed into it.
    pub fields: GuestFields,
    /// The VMPL that is mixed into it: the guest's own, or a less privileged one.
    pub vmpl: Vmpl,
    /// The guest SVN, at most the guest's own.
    pub guest_svn: u32,
    /// The TCB version, at most the platform's.
    pub tcb_version: u64,
    /// The launch mitigation vector. With it the request is of version 2, which older firmware does not know.
    pub launch_mitigation_vector: Option<u64>,
}

#[derive(FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
struct Request {
    /// Bit 0: the root is the VMRK; bits 2:1: the endorsement key.
    select: u32,
    reserved_04: u32,
    fields: u64,
    vmpl: u32,
    guest_svn: u32,
    tcb_version: u64,
    launch_mitigation_vector: u64,
}

/// Version 1 ends before the mitigation vector.
const REQUEST_V1_BYTES: usize = offset_of!(Request, launch_mitigation_vector);

const STATUS_BYTES: usize = 0x20;

const _: () = {
    assert!(size_of::<Request>() == 0x28);
    assert!(REQUEST_V1_BYTES == 0x20);
    assert!(offset_of!(Request, fields) == 0x08);
    assert!(offset_of!(Request, vmpl) == 0x10);
    assert!(offset_of!(Request, guest_svn) == 0x14);
    assert!(offset_of!(Request, tcb_version) == 0x18);
};

impl KeyRequest {
    /// The version follows from what is asked for.
    pub(super) const fn kind(&self) -> MessageKind {
        MessageKind {
            message_type: MESSAGE_TYPE,
            version: if self.launch_mitigation_vector.is_some() {
                2
            } else {
                1
            },
        }
    }

    /// The request, and how many bytes of it the version has.
    pub(super) fn encode(&self) -> ([u8; size_of::<Request>()], usize) {
        let select = match self.root {
            RootKey::Endorsement(key) => (key as u32) << 1,
            RootKey::Vmrk => 1,
        };
        let request = Request {
            select,
            reserved_04: 0,
            fields: self.fields.bits(),
            vmpl: self.vmpl as u32,
            guest_svn: self.guest_svn,
            tcb_version: self.tcb_version,
            launch_mitigation_vector: self.launch_mitigation_vector.unwrap_or(0),
        };
        let length = match self.launch_mitigation_vector {
            Some(_) => size_of::<Request>(),
            None => REQUEST_V1_BYTES,
        };
        (zerocopy::transmute!(request), length)
    }
}

/// The key in a response.
pub(super) fn decode_response(
    payload: &[u8],
) -> Result<Zeroizing<[u8; DERIVED_KEY_BYTES]>, MessageError> {
    check_status(payload)?;
    if payload.len() != STATUS_BYTES + DERIVED_KEY_BYTES {
        return Err(MessageError::Response);
    }
    let key = payload.last_chunk().ok_or(MessageError::Response)?;
    Ok(Zeroizing::new(*key))
}
