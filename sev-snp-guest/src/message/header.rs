//! The header of a guest message, and the message's encryption
//! (SNP firmware ABI, AMD publication 56860, table "Message header format").

use super::MessageError;
use crate::address::PAGE_BYTES;
use crate::secrets::Vmpck;
use aes_gcm::aead::{AeadInOut, KeyInit};
use aes_gcm::{Aes256Gcm, Nonce, Tag};
use core::mem::{offset_of, size_of};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Bytes of the header.
pub(super) const HEADER_BYTES: usize = 0x60;
/// The most bytes of a payload: message and response are one page each.
pub const MAX_PAYLOAD_BYTES: usize = PAGE_BYTES - HEADER_BYTES;

const ALGORITHM_AES_256_GCM: u8 = 1;
const HEADER_VERSION: u8 = 1;
/// What is authenticated but not encrypted: the header from the algorithm on.
const AUTHENTICATED: core::ops::Range<usize> = offset_of!(Header, algorithm)..HEADER_BYTES;
const TAG_BYTES: usize = 16;
const _: () = assert!(AUTHENTICATED.start == 0x30);

/// The header. Integers are little-endian.
#[derive(Clone, Copy, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
struct Header {
    /// 16 bytes of tag; the rest is zero.
    auth_tag: [u8; 32],
    count: u64,
    reserved_28: u64,
    algorithm: u8,
    header_version: u8,
    header_bytes: u16,
    message_type: u8,
    message_version: u8,
    payload_bytes: u16,
    reserved_38: u32,
    vmpck: u8,
    reserved_3d: [u8; 35],
}

const _: () = {
    assert!(size_of::<Header>() == HEADER_BYTES);
    assert!(offset_of!(Header, count) == 0x20);
    assert!(offset_of!(Header, algorithm) == 0x30);
    assert!(offset_of!(Header, header_version) == 0x31);
    assert!(offset_of!(Header, header_bytes) == 0x32);
    assert!(offset_of!(Header, message_type) == 0x34);
    assert!(offset_of!(Header, message_version) == 0x35);
    assert!(offset_of!(Header, payload_bytes) == 0x36);
    assert!(offset_of!(Header, reserved_38) == 0x38);
    assert!(offset_of!(Header, vmpck) == 0x3c);
    assert!(offset_of!(Header, reserved_3d) == 0x3d);
};

/// Type and version of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MessageKind {
    pub(super) message_type: u8,
    pub(super) version: u8,
}

impl MessageKind {
    /// The kind of the response: the next type, and the same version.
    pub(super) const fn response(self) -> Self {
        Self {
            message_type: self.message_type + 1,
            version: self.version,
        }
    }
}

/// Encrypts a payload of at most [`MAX_PAYLOAD_BYTES`] bytes into a page whose rest is zero.
pub(super) fn seal(
    vmpck: &Vmpck,
    count: u64,
    kind: MessageKind,
    payload: &[u8],
) -> Result<[u8; PAGE_BYTES], MessageError> {
    let mut page = [0; PAGE_BYTES];
    let (head, body) = page.split_at_mut(HEADER_BYTES);
    let body = body.get_mut(..payload.len()).ok_or(MessageError::Header)?;
    let mut header = Header {
        auth_tag: [0; 32],
        count,
        reserved_28: 0,
        algorithm: ALGORITHM_AES_256_GCM,
        header_version: HEADER_VERSION,
        header_bytes: HEADER_BYTES as u16,
        message_type: kind.message_type,
        message_version: kind.version,
        payload_bytes: payload.len() as u16,
        reserved_38: 0,
        vmpck: vmpck.vmpl() as u8,
        reserved_3d: [0; 35],
    };
    body.copy_from_slice(payload);
    let tag = Aes256Gcm::new(vmpck.bytes().into())
        .encrypt_inout_detached(
            &nonce(count),
            &header.as_bytes()[AUTHENTICATED],
            body.into(),
        )
        .map_err(|_| MessageError::Authentication)?;
    header.auth_tag[..TAG_BYTES].copy_from_slice(&tag);
    head.copy_from_slice(header.as_bytes());
    Ok(page)
}

/// Decrypts a page in place (a private copy of what the host sent), and returns the payload.
///
/// The nonce is the count that must come, not the one that came. Fields that are neither authenticated nor used are
/// not looked at.
pub(super) fn open<'a>(
    vmpck: &Vmpck,
    expected_count: u64,
    kind: MessageKind,
    page: &'a mut [u8; PAGE_BYTES],
) -> Result<&'a mut [u8], MessageError> {
    let (head, body) = page.split_at_mut(HEADER_BYTES);
    let header = Header::read_from_bytes(head).map_err(|_| MessageError::Header)?;
    if header.count != expected_count {
        return Err(MessageError::Count {
            expected: expected_count,
            found: header.count,
        });
    }
    let as_it_must_be = header.algorithm == ALGORITHM_AES_256_GCM
        && header.header_version == HEADER_VERSION
        && usize::from(header.header_bytes) == HEADER_BYTES
        && header.message_type == kind.message_type
        && header.message_version == kind.version
        && header.vmpck == vmpck.vmpl() as u8;
    let body = body
        .get_mut(..usize::from(header.payload_bytes))
        .filter(|_| as_it_must_be)
        .ok_or(MessageError::Header)?;
    let tag = header.auth_tag.first_chunk::<TAG_BYTES>();
    let tag: &Tag = tag.ok_or(MessageError::Header)?.into();
    Aes256Gcm::new(vmpck.bytes().into())
        .decrypt_inout_detached(
            &nonce(expected_count),
            &header.as_bytes()[AUTHENTICATED],
            (&mut *body).into(),
            tag,
        )
        .map_err(|_| MessageError::Authentication)?;
    Ok(body)
}

/// 96 bits: the message count, little-endian, and zeros.
fn nonce(count: u64) -> Nonce<aes_gcm::aead::consts::U12> {
    let mut nonce = [0; 12];
    nonce[..8].copy_from_slice(&count.to_le_bytes());
    nonce.into()
}
