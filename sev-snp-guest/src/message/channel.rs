//! The channel: one message out, one in, and never the same nonce for another message.

use super::header::{self, MessageKind};
use super::report::{self, ReportRequest};
use super::{DERIVED_KEY_BYTES, KeyRequest, MessageError, key};
use crate::address::{Gfn, PAGE_BYTES};
use crate::ghcb::{Ghcb, GuestRequestStatus};
use crate::hypervisor::{Hypervisor, SharedMemory, clear_shared, copy_from_shared, copy_to_shared};
use crate::report::AttestationReport;
use crate::rmp::Vmpl;
use crate::secrets::Vmpck;
use zeroize::{Zeroize, Zeroizing};

/// How often the hypervisor may say that it is busy with one message.
pub const MAX_BUSY_ANSWERS: u32 = 64;

/// The most pages for certificates, of the buffer and of what a hypervisor may ask for: 1 MiB.
pub const MAX_CERTIFICATE_PAGES: u64 = 256;

/// The last message count. The header has 64 bits for it, but guests that take over read 32.
pub const MAX_COUNT: u64 = u32::MAX as u64;

/// What a message travels by: the GHCB and two shared pages.
pub struct GuestLink<'a, H, M> {
    /// The GHCB of this processor.
    pub ghcb: &'a mut Ghcb<H, M>,
    /// The page that requests are put into.
    pub request: &'a mut M,
    /// The page that responses come to.
    pub response: &'a mut M,
}

/// What became of the certificates of an extended request. None of it is authenticated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Certificates {
    /// The hypervisor had the whole buffer to write to:
    /// [`CertificateTable`](crate::certificates::CertificateTable) parses a copy of it.
    Written,
    /// The buffer is too small: this many pages would do, more than there are and at most [`MAX_CERTIFICATE_PAGES`].
    TooSmall {
        /// Pages that the hypervisor wants.
        pages: u64,
    },
    /// The hypervisor finds the buffer too small and does not name a size, or one that cannot be.
    NoSize,
}

/// An encrypted channel to the security processor. A message takes about 24 KiB of stack: three pages, and AES.
pub struct GuestChannel {
    vmpck: Vmpck,
    /// The count of the last message, the security processor's.
    count: u64,
    open: bool,
}

impl GuestChannel {
    /// A channel with a key, and the count of the last message that was encrypted with it
    /// ([`Secrets::message_count`](crate::secrets::Secrets::message_count)); 0 if there was none.
    pub const fn new(vmpck: Vmpck, count: u64) -> Self {
        Self {
            vmpck,
            count,
            open: true,
        }
    }

    /// The VMPL whose key the channel has.
    pub const fn vmpl(&self) -> Vmpl {
        self.vmpck.vmpl()
    }

    /// The count of the last message, for a guest that takes over.
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// Whether messages can be sent.
    pub const fn is_open(&self) -> bool {
        self.open
    }

    /// Wipes the key.
    pub fn close(&mut self) {
        self.open = false;
        self.vmpck.wipe();
    }

    /// Asks for an attestation report.
    ///
    /// # Errors
    /// See [`MessageError`], which closes the channel.
    pub fn report<H: Hypervisor, M: SharedMemory>(
        &mut self,
        link: &mut GuestLink<'_, H, M>,
        request: &ReportRequest,
    ) -> Result<AttestationReport, MessageError> {
        self.exchange(link, None, report::KIND, &request.encode(), |payload| {
            request.decode_response(payload)
        })
        .map(|(report, _)| report)
    }

    /// Asks for an attestation report, and the hypervisor for the certificates of its key, which it puts into shared
    /// pages. The report is there whether the certificates are or not.
    ///
    /// # Errors
    /// See [`MessageError`], which closes the channel.
    pub fn extended_report<H: Hypervisor, M: SharedMemory>(
        &mut self,
        link: &mut GuestLink<'_, H, M>,
        request: &ReportRequest,
        certificates: &mut M,
    ) -> Result<(AttestationReport, Certificates), MessageError> {
        let pages = certificates.pages() as u64;
        if pages == 0 || pages > MAX_CERTIFICATE_PAGES {
            return Err(MessageError::Pages);
        }
        clear_shared(certificates);
        let buffer = CertificateBuffer {
            first: certificates.gfn(),
            pages,
        };
        let payload = request.encode();
        self.exchange(link, Some(buffer), report::KIND, &payload, |payload| {
            request.decode_response(payload)
        })
    }

    /// Asks for a derived key.
    ///
    /// # Errors
    /// See [`MessageError`], which closes the channel.
    pub fn derive_key<H: Hypervisor, M: SharedMemory>(
        &mut self,
        link: &mut GuestLink<'_, H, M>,
        request: &KeyRequest,
    ) -> Result<Zeroizing<[u8; DERIVED_KEY_BYTES]>, MessageError> {
        let (payload, length) = request.encode();
        let payload = &payload[..length];
        self.exchange(link, None, request.kind(), payload, key::decode_response)
            .map(|(key, _)| key)
    }

    #[cfg(test)]
    pub(super) fn vmpck_bytes(&self) -> &[u8; 32] {
        self.vmpck.bytes()
    }

    /// One message and its response. Whatever fails once the message is made closes the channel.
    fn exchange<H: Hypervisor, M: SharedMemory, T>(
        &mut self,
        link: &mut GuestLink<'_, H, M>,
        buffer: Option<CertificateBuffer>,
        kind: MessageKind,
        payload: &[u8],
        decode: impl FnOnce(&[u8]) -> Result<T, MessageError>,
    ) -> Result<(T, Certificates), MessageError> {
        if !self.open {
            return Err(MessageError::Closed);
        }
        link.check_pages(buffer)?;
        let result = self.try_exchange(link, buffer, kind, payload, decode);
        if result.is_err() {
            self.close();
        }
        result
    }

    fn try_exchange<H: Hypervisor, M: SharedMemory, T>(
        &mut self,
        link: &mut GuestLink<'_, H, M>,
        buffer: Option<CertificateBuffer>,
        kind: MessageKind,
        payload: &[u8],
        decode: impl FnOnce(&[u8]) -> Result<T, MessageError>,
    ) -> Result<(T, Certificates), MessageError> {
        let response_count = self
            .count
            .checked_add(2)
            .filter(|&count| count <= MAX_COUNT)
            .ok_or(MessageError::CountExhausted)?;
        let message = header::seal(&self.vmpck, response_count - 1, kind, payload)?;
        let certificates = link.carry(&message, buffer)?;

        let mut page = Zeroizing::new([0; PAGE_BYTES]);
        copy_from_shared(link.response, 0, &mut page[..]);
        let payload = header::open(&self.vmpck, response_count, kind.response(), &mut page)?;
        let result = decode(payload);
        payload.zeroize();
        self.count = response_count;
        Ok((result?, certificates))
    }
}

/// Shared pages for certificates.
#[derive(Clone, Copy)]
struct CertificateBuffer {
    first: Gfn,
    pages: u64,
}

impl<H: Hypervisor, M: SharedMemory> GuestLink<'_, H, M> {
    /// No page has two uses.
    fn check_pages(&self, buffer: Option<CertificateBuffer>) -> Result<(), MessageError> {
        let (ghcb, request, response) = (self.ghcb.gfn(), self.request.gfn(), self.response.gfn());
        let in_buffer = |page: Gfn| {
            buffer.is_some_and(|buffer| {
                let first = buffer.first.number();
                (first..first + buffer.pages).contains(&page.number())
            })
        };
        let apart = ghcb != request && ghcb != response && request != response;
        if apart && ![ghcb, request, response].into_iter().any(in_buffer) {
            Ok(())
        } else {
            Err(MessageError::Pages)
        }
    }

    /// Brings a sealed message to the security processor: the same bytes as often as it takes.
    ///
    /// A hypervisor that finds the certificate buffer too small has not passed the message on. It then goes without
    /// certificates, because its nonce can have no other message.
    fn carry(
        &mut self,
        message: &[u8; PAGE_BYTES],
        mut buffer: Option<CertificateBuffer>,
    ) -> Result<Certificates, MessageError> {
        let mut certificates = Certificates::Written;
        let mut busy_answers = 0;
        loop {
            let status = self.send(message, buffer)?;
            match (status.vmm, buffer) {
                (0, _) if status.firmware == 0 => return Ok(certificates),
                (0, _) => return Err(MessageError::Firmware(status.firmware)),
                (GuestRequestStatus::VMM_BUSY, _) => {
                    busy_answers += 1;
                    if busy_answers == MAX_BUSY_ANSWERS {
                        return Err(MessageError::Busy);
                    }
                    self.ghcb.hypervisor().pause();
                }
                (GuestRequestStatus::VMM_INVALID_LENGTH, Some(given)) => {
                    certificates = wanted_size(status.certificate_pages, given.pages);
                    buffer = None;
                }
                (error, _) => return Err(MessageError::Vmm(error)),
            }
        }
    }

    fn send(
        &mut self,
        message: &[u8; PAGE_BYTES],
        buffer: Option<CertificateBuffer>,
    ) -> Result<GuestRequestStatus, MessageError> {
        copy_to_shared(self.request, 0, message);
        clear_shared(self.response);
        let (request, response) = (self.request.gfn(), self.response.gfn());
        let status = match buffer {
            None => self.ghcb.guest_request(request, response)?,
            Some(CertificateBuffer { first, pages }) => self
                .ghcb
                .extended_guest_request(request, response, first, pages)?,
        };
        Ok(status)
    }
}

/// What a hypervisor may say that it needs: more than there is, within the limit.
fn wanted_size(pages: Option<u64>, given: u64) -> Certificates {
    match pages {
        Some(pages) if pages > given && pages <= MAX_CERTIFICATE_PAGES => {
            Certificates::TooSmall { pages }
        }
        _ => Certificates::NoSize,
    }
}
