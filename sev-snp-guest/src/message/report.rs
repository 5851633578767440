//! MSG_REPORT_REQ and MSG_REPORT_RSP (SNP firmware ABI, AMD publication 56860, "Attestation").

use super::MessageError;
use super::header::MessageKind;
use crate::report::{AttestationReport, REPORT_BYTES};
use crate::rmp::Vmpl;
use core::mem::{offset_of, size_of};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

pub(super) const KIND: MessageKind = MessageKind {
    message_type: 5,
    version: 1,
};

/// Which key signs a report, or a derived key comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum KeySelect {
    /// The VLEK if one is loaded, else the VCEK.
    #[default]
    VlekOrVcek = 0,
    /// The VCEK, the chip's own key.
    Vcek = 1,
    /// The VLEK, the cloud provider's key.
    Vlek = 2,
}

/// A request for a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReportRequest {
    /// What is to be signed along.
    pub report_data: [u8; 64],
    /// The VMPL that the report is to name: the guest's own, or a less privileged one.
    pub vmpl: Vmpl,
    /// Which key is to sign.
    pub key: KeySelect,
}

#[derive(FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
struct Request {
    report_data: [u8; 64],
    vmpl: u32,
    key_select: u32,
    reserved_48: [u8; 24],
}

#[derive(FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
struct Response {
    status: u32,
    report_bytes: u32,
    reserved_08: [u8; 24],
    report: [u8; REPORT_BYTES],
}

const _: () = {
    assert!(size_of::<Request>() == 0x60);
    assert!(offset_of!(Request, vmpl) == 0x40);
    assert!(offset_of!(Request, key_select) == 0x44);
    assert!(size_of::<Response>() == 0x4c0);
    assert!(offset_of!(Response, report_bytes) == 0x04);
    assert!(offset_of!(Response, report) == 0x20);
};

impl ReportRequest {
    pub(super) fn encode(&self) -> [u8; size_of::<Request>()] {
        zerocopy::transmute!(Request {
            report_data: self.report_data,
            vmpl: self.vmpl as u32,
            key_select: self.key as u32,
            reserved_48: [0; 24],
        })
    }

    /// The report in a response to this request.
    pub(super) fn decode_response(
        &self,
        payload: &[u8],
    ) -> Result<AttestationReport, MessageError> {
        check_status(payload)?;
        let response = Response::read_from_bytes(payload).map_err(|_| MessageError::Response)?;
        if response.report_bytes as usize != REPORT_BYTES {
            return Err(MessageError::Response);
        }
        let report = AttestationReport::from_bytes(&response.report);
        if report.report_data != self.report_data || report.vmpl != self.vmpl as u32 {
            return Err(MessageError::OtherReport);
        }
        Ok(report)
    }
}

/// The status that each response begins with. One with an error may end behind it.
pub(super) fn check_status(payload: &[u8]) -> Result<(), MessageError> {
    let status = payload.first_chunk::<4>().ok_or(MessageError::Response)?;
    match u32::from_le_bytes(*status) {
        0 => Ok(()),
        status => Err(MessageError::Status(status)),
    }
}
