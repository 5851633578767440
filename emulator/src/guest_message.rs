//! Guest messages: requests to the SNP firmware, encrypted with a key from the secrets page (SNP
//! firmware ABI, 8.26).

use crate::derived_key::{KEY_BYTES, KeyRequest, STATUS_INVALID_KEY, STATUS_INVALID_PARAMETERS};
use crate::page::Page;
use crate::report::{REPORT_BYTES, REPORT_DATA_BYTES, TCB};
use crate::secrets::{VMPCK_BYTES, VMPCKS, Vmpcks};
use aes_gcm::aead::{AeadInOut, KeyInit};
use aes_gcm::{Aes256Gcm, Nonce, Tag};

/// Bytes before the payload.
const HEADER_BYTES: usize = 0x60;
const MAX_PAYLOAD_BYTES: usize = 4096 - HEADER_BYTES;
const TAG_BYTES: usize = 16;
/// The part of the header that is authenticated.
const AAD: core::ops::Range<usize> = 0x30..0x60;

const SEQUENCE: usize = 0x20;
const ALGORITHM: usize = 0x30;
const HEADER_VERSION: usize = 0x31;
const HEADER_SIZE: usize = 0x32;
const MESSAGE_TYPE: usize = 0x34;
const MESSAGE_VERSION: usize = 0x35;
const MESSAGE_SIZE: usize = 0x36;
const VMPCK: usize = 0x3c;

const AES_256_GCM: u8 = 1;
const KEY_REQUEST: u8 = 3;
const REPORT_REQUEST: u8 = 5;
const REPORT_REQUEST_BYTES: usize = 0x60;
/// An answer begins with its status, a report's also with its size.
const REPORT_AT: usize = 0x20;
const KEY_AT: usize = 0x20;

/// Status codes of the firmware's command, in the low half of `SW_EXITINFO2`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MessageError {
    /// The header makes no sense.
    InvalidParam = 0x16,
    /// The message cannot be decrypted, or its sequence number is not the next one.
    BadMeasurement = 0x0b,
    /// The key is disabled: its sequence number is exhausted.
    AeadOverflow = 0x23,
    /// The firmware does not know the message.
    Unsupported = 0x15,
}

/// A report that a guest asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReportRequest {
    /// The guest's bytes.
    pub report_data: [u8; REPORT_DATA_BYTES],
    /// Privilege level for the report.
    pub vmpl: u32,
}

/// What the firmware makes for a guest.
pub trait Firmware {
    /// A report.
    fn report(&mut self, request: &ReportRequest) -> [u8; REPORT_BYTES];
    /// A derived key.
    fn derive_key(&mut self, request: &KeyRequest) -> [u8; KEY_BYTES];
}

/// The firmware's side of the keys.
#[derive(Debug)]
pub struct Channel {
    keys: Vmpcks,
    sequences: [u64; VMPCKS],
}

impl Channel {
    /// Keys that have not been used.
    pub fn new(keys: Vmpcks) -> Self {
        Self {
            keys,
            sequences: [0; VMPCKS],
        }
    }

    /// Answers a request: opens it, lets the firmware make what is asked for, and seals the answer. A request
    /// that fails changes no sequence number.
    pub fn answer(
        &mut self,
        request: &Page,
        firmware: &mut impl Firmware,
    ) -> Result<Page, MessageError> {
        let mut message = request.clone();
        let key = usize::from(message.bytes()[VMPCK]);
        let sequence = *self.sequences.get(key).ok_or(MessageError::InvalidParam)?;
        let next = sequence.checked_add(2).ok_or(MessageError::AeadOverflow)?;
        check_header(&message)?;
        if message.u64(SEQUENCE) != sequence + 1 {
            return Err(MessageError::BadMeasurement);
        }
        let size = usize::from(message.u16(MESSAGE_SIZE));
        open(&self.keys[key], &mut message, size)?;
        let kind = (
            message.bytes()[MESSAGE_TYPE],
            message.bytes()[MESSAGE_VERSION],
        );
        let mut answer = Page::ZERO;
        answer.set(AAD.start, &message.bytes()[AAD]);
        answer.set_u64(SEQUENCE, next);
        answer.set(MESSAGE_TYPE, &[kind.0 + 1]);
        let level = key as u32;
        let (bytes, outcome) = match kind {
            (REPORT_REQUEST, 1) => (
                REPORT_AT + REPORT_BYTES,
                report(&message, size, level, firmware, &mut answer),
            ),
            (KEY_REQUEST, version) => (
                KEY_AT + KEY_BYTES,
                derive_key(&message, (version, size), level, firmware, &mut answer),
            ),
            _ => return Err(MessageError::Unsupported),
        };
        answer.set_u16(MESSAGE_SIZE, bytes as u16);
        if let Err(status) = outcome {
            answer.set_u32(HEADER_BYTES, status);
        }
        seal(&self.keys[key], &mut answer)?;
        self.sequences[key] = next;
        Ok(answer)
    }
}

impl Channel {
    /// The same answer as a guest with other keys would get it.
    pub fn for_another_guest(&self, mut answer: Page) -> Page {
        let key = usize::from(answer.bytes()[VMPCK]) % VMPCKS;
        let size = usize::from(answer.u16(MESSAGE_SIZE)).min(MAX_PAYLOAD_BYTES);
        let other = self.keys[key].map(|byte| !byte);
        // An answer of this channel opens and is short enough.
        if open(&self.keys[key], &mut answer, size).is_ok() {
            let _ = seal(&other, &mut answer);
        }
        answer
    }
}

fn check_header(message: &Page) -> Result<(), MessageError> {
    let bytes = message.bytes();
    let good = bytes[ALGORITHM] == AES_256_GCM
        && bytes[HEADER_VERSION] == 1
        && usize::from(message.u16(HEADER_SIZE)) == HEADER_BYTES
        && usize::from(message.u16(MESSAGE_SIZE)) <= MAX_PAYLOAD_BYTES;
    good.then_some(()).ok_or(MessageError::InvalidParam)
}

/// Puts a report into the answer.
fn report(
    message: &Page,
    size: usize,
    level: u32,
    firmware: &mut impl Firmware,
    answer: &mut Page,
) -> Result<(), u32> {
    let request = parse_report_request(message, size, level)?;
    answer.set_u32(HEADER_BYTES + 4, REPORT_BYTES as u32);
    answer.set(HEADER_BYTES + REPORT_AT, &firmware.report(&request));
    Ok(())
}

/// Puts a derived key into the answer.
fn derive_key(
    message: &Page,
    form: (u8, usize),
    level: u32,
    firmware: &mut impl Firmware,
    answer: &mut Page,
) -> Result<(), u32> {
    let request = KeyRequest::parse(message, HEADER_BYTES, form, level, &TCB)?;
    answer.set(HEADER_BYTES + KEY_AT, &firmware.derive_key(&request));
    Ok(())
}

/// The request's fields, or the status that its answer carries.
fn parse_report_request(message: &Page, size: usize, key: u32) -> Result<ReportRequest, u32> {
    if size != REPORT_REQUEST_BYTES {
        return Err(STATUS_INVALID_PARAMETERS);
    }
    let vmpl = message.u32(HEADER_BYTES + 0x40);
    let key_selection = message.u32(HEADER_BYTES + 0x44);
    if vmpl > 3 || vmpl < key || key_selection > 3 {
        return Err(STATUS_INVALID_PARAMETERS);
    }
    // There is no VLEK here.
    if key_selection > 1 {
        return Err(STATUS_INVALID_KEY);
    }
    Ok(ReportRequest {
        report_data: message.field(HEADER_BYTES),
        vmpl,
    })
}

fn nonce(sequence: u64) -> [u8; 12] {
    let mut nonce = [0; 12];
    nonce[..8].copy_from_slice(&sequence.to_le_bytes());
    nonce
}

fn open(key: &[u8; VMPCK_BYTES], message: &mut Page, size: usize) -> Result<(), MessageError> {
    let cipher = Aes256Gcm::new(key.into());
    let nonce = nonce(message.u64(SEQUENCE));
    let tag: [u8; TAG_BYTES] = message.field(0);
    let (header, payload) = message.bytes_mut().split_at_mut(HEADER_BYTES);
    cipher
        .decrypt_inout_detached(
            &Nonce::from(nonce),
            &header[AAD],
            (&mut payload[..size]).into(),
            &Tag::from(tag),
        )
        .map_err(|_| MessageError::BadMeasurement)
}

fn seal(key: &[u8; VMPCK_BYTES], message: &mut Page) -> Result<(), MessageError> {
    let cipher = Aes256Gcm::new(key.into());
    let nonce = nonce(message.u64(SEQUENCE));
    let size = usize::from(message.u16(MESSAGE_SIZE));
    let (header, payload) = message.bytes_mut().split_at_mut(HEADER_BYTES);
    let tag = cipher
        .encrypt_inout_detached(
            &Nonce::from(nonce),
            &header[AAD],
            (&mut payload[..size]).into(),
        )
        .map_err(|_| MessageError::AeadOverflow)?;
    message.set(0, &tag);
    Ok(())
}

/// The guest's side: a request for a report, for guests that test the platform.
pub fn report_request(
    key: &[u8; VMPCK_BYTES],
    sequence: u64,
    report_data: &[u8; REPORT_DATA_BYTES],
) -> Result<Page, MessageError> {
    let mut page = Page::ZERO;
    page.set_u64(SEQUENCE, sequence);
    page.set(ALGORITHM, &[AES_256_GCM, 1]);
    page.set_u16(HEADER_SIZE, HEADER_BYTES as u16);
    page.set(MESSAGE_TYPE, &[REPORT_REQUEST, 1]);
    page.set_u16(MESSAGE_SIZE, REPORT_REQUEST_BYTES as u16);
    page.set(HEADER_BYTES, report_data);
    seal(key, &mut page)?;
    Ok(page)
}

/// The guest's side: the report in an answer, if it is the expected one and of status 0.
pub fn open_report(
    key: &[u8; VMPCK_BYTES],
    sequence: u64,
    mut answer: Page,
) -> Option<[u8; REPORT_BYTES]> {
    let size = REPORT_AT + REPORT_BYTES;
    let expected = answer.u64(SEQUENCE) == sequence
        && answer.bytes()[MESSAGE_TYPE] == REPORT_REQUEST + 1
        && usize::from(answer.u16(MESSAGE_SIZE)) == size;
    if !expected || open(key, &mut answer, size).is_err() {
        return None;
    }
    (answer.u32(HEADER_BYTES) == 0).then(|| answer.field(HEADER_BYTES + REPORT_AT))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: Vmpcks = [[1; 32], [2; 32], [3; 32], [4; 32]];

    /// Makes what shows that it was asked for.
    struct Echo;

    impl Firmware for Echo {
        fn report(&mut self, request: &ReportRequest) -> [u8; REPORT_BYTES] {
            [request.report_data[0]; REPORT_BYTES]
        }

        fn derive_key(&mut self, _: &KeyRequest) -> [u8; KEY_BYTES] {
            [0xcd; KEY_BYTES]
        }
    }

    /// A report request as a guest makes it.
    fn request(sequence: u64, key_selection: u32) -> Page {
        let mut page = Page::ZERO;
        page.set_u64(SEQUENCE, sequence);
        page.set(ALGORITHM, &[1, 1, 0x60, 0, REPORT_REQUEST, 1, 0x60, 0]);
        page.set(HEADER_BYTES, &[0xab; 64]);
        page.set_u32(HEADER_BYTES + 0x44, key_selection);
        seal(&KEYS[0], &mut page).expect("sealed");
        page
    }

    #[test]
    fn an_answer_has_the_next_number_and_the_report() {
        let mut channel = Channel::new(KEYS);
        let mut answer = channel.answer(&request(1, 0), &mut Echo).expect("answered");
        assert_eq!(answer.u64(SEQUENCE), 2);
        open(&KEYS[0], &mut answer, REPORT_AT + REPORT_BYTES).expect("for the guest");
        assert_eq!(answer.bytes()[MESSAGE_TYPE], 6);
        assert_eq!(answer.u32(HEADER_BYTES), 0);
        assert_eq!(answer.bytes()[HEADER_BYTES + REPORT_AT], 0xab);
        // The next request goes on from there; a replay does not.
        assert!(channel.answer(&request(1, 0), &mut Echo).is_err());
        assert!(channel.answer(&request(3, 0), &mut Echo).is_ok());
    }

    #[test]
    fn an_answer_for_another_guest_does_not_open() {
        let mut channel = Channel::new(KEYS);
        let answer = channel.answer(&request(1, 0), &mut Echo).expect("answered");
        let size = REPORT_AT + REPORT_BYTES;
        let mut other = channel.for_another_guest(answer.clone());
        assert!(open(&KEYS[0], &mut other.clone(), size).is_err());
        open(&KEYS[0].map(|byte| !byte), &mut other, size).expect("for the other guest");
        open(&KEYS[0], &mut answer.clone(), size).expect("for the guest");
    }

    #[test]
    fn derived_keys_come_in_both_versions() {
        for (version, size) in [(1, 0x20), (2, 0x28)] {
            let mut channel = Channel::new(KEYS);
            let mut page = Page::ZERO;
            page.set_u64(SEQUENCE, 1);
            page.set(ALGORITHM, &[1, 1, 0x60, 0, KEY_REQUEST, version, size, 0]);
            seal(&KEYS[0], &mut page).expect("sealed");
            let mut answer = channel.answer(&page, &mut Echo).expect("answered");
            assert_eq!(answer.bytes()[MESSAGE_TYPE..=MESSAGE_VERSION], [4, version]);
            open(&KEYS[0], &mut answer, KEY_AT + KEY_BYTES).expect("for the guest");
            assert_eq!(answer.u32(HEADER_BYTES), 0);
            assert_eq!(answer.bytes()[HEADER_BYTES + KEY_AT], 0xcd);
        }
    }

    #[test]
    fn altered_requests_are_refused() {
        let refuse = |change: fn(&mut Page)| {
            let mut page = request(1, 0);
            change(&mut page);
            let answer = Channel::new(KEYS).answer(&page, &mut Echo);
            answer.expect_err("must be refused")
        };
        assert_eq!(refuse(|p| p.set(0, &[0; 16])), MessageError::BadMeasurement);
        assert_eq!(refuse(|p| p.set(VMPCK, &[1])), MessageError::BadMeasurement);
        assert_eq!(refuse(|p| p.set(VMPCK, &[4])), MessageError::InvalidParam);
        assert_eq!(
            refuse(|p| p.set(ALGORITHM, &[2])),
            MessageError::InvalidParam
        );
        assert_eq!(
            refuse(|p| p.set_u16(MESSAGE_SIZE, 0xffff)),
            MessageError::InvalidParam
        );
    }

    #[test]
    fn a_key_that_does_not_exist_is_named_in_the_answer() {
        let mut channel = Channel::new(KEYS);
        let mut answer = channel.answer(&request(1, 2), &mut Echo).expect("answered");
        open(&KEYS[0], &mut answer, REPORT_AT + REPORT_BYTES).expect("for the guest");
        assert_eq!(answer.u32(HEADER_BYTES), STATUS_INVALID_KEY);
        assert_eq!(answer.bytes()[HEADER_BYTES + REPORT_AT], 0, "no report");
    }
}
