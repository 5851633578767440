//! The client's half: encapsulates a request, opens the response to it.

use super::context::{self, Sender};
use super::header::{Header, Labels, WHOLE};
use super::response::ResponseSecret;
use super::{OhttpError, chunked};
use crate::keyconfig::KeyConfig;
use crate::suite::{Aead, Suite};
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;
use rand_core::CryptoRng;
use zeroize::Zeroizing;

/// Encrypts requests to one key of a gateway. Each request has an encapsulation of its own, so that one `Client` can
/// be used as often as one likes.
#[derive(Clone, Debug)]
pub struct Client {
    header: Header,
    public_key: Vec<u8>,
}

impl Client {
    /// A client of this key, with the gateway's first suite.
    pub fn new(config: &KeyConfig) -> Self {
        Self::with_header(config, config.suites()[0])
    }

    /// A client of this key that uses `aead`; `None` when the gateway does not offer it.
    pub fn with_aead(config: &KeyConfig, aead: Aead) -> Option<Self> {
        let suite = config.suites().iter().find(|suite| suite.aead == aead)?;
        Some(Self::with_header(config, *suite))
    }

    fn with_header(config: &KeyConfig, suite: Suite) -> Self {
        let header = Header {
            key_id: config.key_id(),
            kem: config.kem(),
            suite,
        };
        Self {
            header,
            public_key: config.public_key().to_vec(),
        }
    }

    /// Encapsulates one request (RFC 9458, section 4.3): the bytes to send as `message/ohttp-req`, and what opens the
    /// answer.
    ///
    /// # Errors
    /// [`OhttpError::InvalidKey`] when nothing can be encrypted to the gateway's key.
    pub fn encapsulate(
        &self,
        rng: &mut impl CryptoRng,
        request: &[u8],
    ) -> Result<(Vec<u8>, ResponseOpener), OhttpError> {
        let (mut sealed, mut context, secret) = self.start(rng, &WHOLE)?;
        sealed.extend_from_slice(&context.seal(b"", request)?);
        Ok((sealed, ResponseOpener { secret }))
    }

    /// Begins a chunked request: the header to send first, and what seals the chunks.
    ///
    /// # Errors
    /// [`OhttpError::InvalidKey`] when nothing can be encrypted to the gateway's key.
    pub fn start_chunked(
        &self,
        rng: &mut impl CryptoRng,
    ) -> Result<(Vec<u8>, chunked::RequestSealer), OhttpError> {
        let (header, context, secret) = self.start(rng, &super::header::CHUNKED)?;
        Ok((header, chunked::RequestSealer::new(context, secret)))
    }

    /// Encapsulates a request in chunks that are all there: the bytes to send as `message/ohttp-chunked-req`, and what
    /// opens the chunks of the answer.
    ///
    /// # Errors
    /// [`OhttpError::InvalidKey`] when nothing can be encrypted to the gateway's key.
    pub fn encapsulate_chunked(
        &self,
        rng: &mut impl CryptoRng,
        request: &[u8],
    ) -> Result<(Vec<u8>, chunked::ResponseOpener), OhttpError> {
        let (mut sealed, mut sealer) = self.start_chunked(rng)?;
        let mut rest = request;
        while let Some((chunk, more)) = rest.split_at_checked(chunked::MAX_CHUNK_BYTES) {
            sealed.extend_from_slice(&sealer.seal(chunk)?);
            rest = more;
        }
        let (last, opener) = sealer.finish(rest)?;
        sealed.extend_from_slice(&last);
        Ok((sealed, opener))
    }

    fn start(&self, rng: &mut impl CryptoRng, labels: &Labels) -> Result<Started, OhttpError> {
        let Header { kem, suite, .. } = self.header;
        let info = self.header.info(labels);
        let (encapped, context) = context::sender(kem, suite.aead, &self.public_key, &info, rng)?;
        let secret = ResponseSecret::new(suite.aead, &encapped, |out| {
            context.export(labels.response, out)
        });
        let header = [&self.header.encode()[..], &encapped].concat();
        Ok((header, context, secret))
    }
}

/// Header with encapsulated key, HPKE context, and the secret of the response.
type Started = (Vec<u8>, Box<dyn Sender>, ResponseSecret);

/// Opens the response to one request.
pub struct ResponseOpener {
    secret: ResponseSecret,
}

impl ResponseOpener {
    /// Opens an encapsulated response (RFC 9458, section 4.4), `message/ohttp-res`.
    ///
    /// # Errors
    /// [`OhttpError::Truncated`] or [`OhttpError::Unopenable`].
    pub fn open(self, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, OhttpError> {
        let (nonce, sealed) = sealed
            .split_at_checked(self.secret.nonce_bytes())
            .ok_or(OhttpError::Truncated)?;
        self.secret.cipher(nonce).open(b"", sealed)
    }
}

impl fmt::Debug for ResponseOpener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ResponseOpener")
    }
}
