//! What a certificate needs of DER (X.690): definite lengths, a tag of one byte, contents in pieces.

use alloc::vec::Vec;

pub(super) const INTEGER: u8 = 0x02;
pub(super) const BIT_STRING: u8 = 0x03;
pub(super) const OCTET_STRING: u8 = 0x04;
pub(super) const OBJECT_IDENTIFIER: u8 = 0x06;
pub(super) const UTF8_STRING: u8 = 0x0c;
pub(super) const UTC_TIME: u8 = 0x17;
pub(super) const GENERALIZED_TIME: u8 = 0x18;
pub(super) const SEQUENCE: u8 = 0x30;
pub(super) const SET: u8 = 0x31;
/// `[0]` and `[3]`, with an element in them.
pub(super) const EXPLICIT_0: u8 = 0xa0;
pub(super) const EXPLICIT_3: u8 = 0xa3;
/// `[2]` in place of the tag of a string: dNSName in a GeneralName.
pub(super) const IMPLICIT_2: u8 = 0x82;

/// One element with the contents of all `parts`.
pub(super) fn element(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let mut out = Vec::with_capacity(length + 6);
    out.push(tag);
    if length < 0x80 {
        out.push(length as u8);
    } else {
        let bytes = length.to_be_bytes();
        let used = &bytes[length.leading_zeros() as usize / 8..];
        out.push(0x80 | used.len() as u8);
        out.extend_from_slice(used);
    }
    parts.iter().for_each(|part| out.extend_from_slice(part));
    out
}

/// A bit string of whole bytes.
pub(super) fn bit_string(bytes: &[u8]) -> Vec<u8> {
    element(BIT_STRING, &[&[0], bytes])
}
