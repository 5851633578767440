//! A security processor that answers guest messages, written from the tables of the SNP firmware ABI: offsets are
//! literals here.

use aes_gcm::aead::{AeadInOut, KeyInit};
use aes_gcm::{Aes256Gcm, Tag};
use std::vec;
use std::vec::Vec;

/// INVALID_PARAM, the firmware's status for a message that does not open or is out of turn.
pub(crate) const REFUSED: u32 = 0x16;

/// Keys and message counts for the four VMPLs.
pub(crate) struct Psp {
    pub(crate) keys: [[u8; 32]; 4],
    pub(crate) counts: [u64; 4],
    /// The status in the payload of responses.
    pub(crate) status: u32,
}

/// A real report; the security processor puts data and VMPL into it.
pub(crate) fn report_template() -> Vec<u8> {
    include_bytes!("../../tests/vectors/v3-genoa-vcek-227a641d.bin").to_vec()
}

impl Psp {
    pub(crate) fn new() -> Self {
        Self {
            keys: [[0xc0; 32], [0xc1; 32], [0xc2; 32], [0xc3; 32]],
            counts: [0; 4],
            status: 0,
        }
    }

    /// The response to a message, or the status that the firmware refuses it with.
    pub(crate) fn handle(&mut self, message: &[u8]) -> Result<Vec<u8>, u32> {
        let level = usize::from(message[0x3c]);
        let count = u64::from_le_bytes(message[0x20..0x28].try_into().unwrap());
        if count != self.counts[level] + 1 {
            return Err(REFUSED);
        }
        let payload = unseal(&self.keys[level], message).ok_or(REFUSED)?;
        assert_eq!(message[0x30..0x34], [1, 1, 0x60, 0]);
        let (kind, version) = (message[0x34], message[0x35]);
        let answer = match (kind, version, payload.len()) {
            (5, 1, 0x60) => self.report(&payload),
            (3, 1, 0x20) | (3, 2, 0x28) => self.derived_key(&payload),
            _ => return Err(REFUSED),
        };
        self.counts[level] = count + 1;
        Ok(seal(
            &self.keys[level],
            level as u8,
            count + 1,
            kind + 1,
            version,
            &answer,
        ))
    }

    fn report(&self, request: &[u8]) -> Vec<u8> {
        assert!(request[0x48..].iter().all(|&byte| byte == 0));
        let mut answer = vec![0; 0x20];
        answer[..4].copy_from_slice(&self.status.to_le_bytes());
        if self.status == 0 {
            answer[4..8].copy_from_slice(&0x4a0_u32.to_le_bytes());
            let mut report = report_template();
            report[0x30..0x34].copy_from_slice(&request[0x40..0x44]);
            report[0x50..0x90].copy_from_slice(&request[..0x40]);
            answer.extend_from_slice(&report);
        }
        answer
    }

    /// Not a real derivation: what was asked, so that a test sees every field arrive.
    fn derived_key(&self, request: &[u8]) -> Vec<u8> {
        let mut answer = vec![0; 0x40];
        answer[..4].copy_from_slice(&self.status.to_le_bytes());
        answer[0x20..].copy_from_slice(&request[..0x20]);
        if request.len() == 0x28 {
            answer[0x38..0x40].copy_from_slice(&request[0x20..0x28]);
        }
        answer
    }
}

fn nonce(count: u64) -> [u8; 12] {
    let mut nonce = [0; 12];
    nonce[..8].copy_from_slice(&count.to_le_bytes());
    nonce
}

/// A message page, as either side makes it.
pub(crate) fn seal(
    key: &[u8; 32],
    vmpck: u8,
    count: u64,
    kind: u8,
    version: u8,
    payload: &[u8],
) -> Vec<u8> {
    let mut page = vec![0; 4096];
    page[0x20..0x28].copy_from_slice(&count.to_le_bytes());
    page[0x30..0x36].copy_from_slice(&[1, 1, 0x60, 0, kind, version]);
    page[0x36..0x38].copy_from_slice(&(payload.len() as u16).to_le_bytes());
    page[0x3c] = vmpck;
    page[0x60..0x60 + payload.len()].copy_from_slice(payload);
    let (head, body) = page.split_at_mut(0x60);
    let tag = Aes256Gcm::new(key.into())
        .encrypt_inout_detached(
            &nonce(count).into(),
            &head[0x30..0x60],
            (&mut body[..payload.len()]).into(),
        )
        .unwrap();
    head[..16].copy_from_slice(&tag);
    page
}

/// The payload of a message page.
pub(crate) fn unseal(key: &[u8; 32], page: &[u8]) -> Option<Vec<u8>> {
    let length = usize::from(u16::from_le_bytes([page[0x36], page[0x37]]));
    let count = u64::from_le_bytes(page[0x20..0x28].try_into().unwrap());
    let mut payload = page.get(0x60..0x60 + length)?.to_vec();
    let tag: [u8; 16] = page[..16].try_into().unwrap();
    Aes256Gcm::new(key.into())
        .decrypt_inout_detached(
            &nonce(count).into(),
            &page[0x30..0x60],
            (&mut payload[..]).into(),
            &Tag::from(tag),
        )
        .ok()?;
    Some(payload)
}
