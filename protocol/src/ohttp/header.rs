//! What stands in the clear before an encapsulated request (RFC 9458, section 4.1), and the HPKE `info` made of it.

use super::OhttpError;
use crate::reader::Reader;
use crate::suite::{Kem, Suite};
use alloc::vec::Vec;

/// Bytes of the header without the encapsulated key: key id, KEM, KDF, AEAD.
pub(super) const HEADER_BYTES: usize = 7;

/// The labels that separate whole from chunked messages.
pub(super) struct Labels {
    /// Begins the HPKE `info` of the request.
    pub(super) request: &'static [u8],
    /// The exporter context of the response's secret.
    pub(super) response: &'static [u8],
}

/// RFC 9458, sections 4.3 and 4.4.
pub(super) const WHOLE: Labels = Labels {
    request: b"message/bhttp request",
    response: b"message/bhttp response",
};

/// draft-ietf-ohai-chunked-ohttp, section 6.
pub(super) const CHUNKED: Labels = Labels {
    request: b"message/bhttp chunked request",
    response: b"message/bhttp chunked response",
};

/// A request's header: which key, which algorithms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) key_id: u8,
    pub(super) kem: Kem,
    pub(super) suite: Suite,
}

impl Header {
    pub(super) fn encode(&self) -> [u8; HEADER_BYTES] {
        let [m0, m1] = self.kem.id().to_be_bytes();
        let [d0, d1] = Suite::KDF_ID.to_be_bytes();
        let [a0, a1] = self.suite.aead.id().to_be_bytes();
        [self.key_id, m0, m1, d0, d1, a0, a1]
    }

    /// HPKE's `info`: the label, a zero byte, the header.
    pub(super) fn info(&self, labels: &Labels) -> Vec<u8> {
        [labels.request, &[0], &self.encode()].concat()
    }
}

/// The header's numbers before they are held against the gateway's keys.
#[derive(Clone, Copy, Debug)]
pub(super) struct RawHeader {
    pub(super) key_id: u8,
    pub(super) kem_id: u16,
    pub(super) kdf_id: u16,
    pub(super) aead_id: u16,
}

impl RawHeader {
    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, OhttpError> {
        let mut read = || {
            Some(Self {
                key_id: reader.u8()?,
                kem_id: reader.u16()?,
                kdf_id: reader.u16()?,
                aead_id: reader.u16()?,
            })
        };
        read().ok_or(OhttpError::Truncated)
    }
}
