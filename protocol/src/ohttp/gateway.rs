//! The gateway's half: holds the private keys of one epoch, opens requests, seals the responses to them.

use super::context::{PrivateKey, Receiver};
use super::header::{CHUNKED, Header, Labels, RawHeader, WHOLE};
use super::response::ResponseSecret;
use super::{OhttpError, chunked};
use crate::keyconfig::{Epoch, KeyConfig, encode_list};
use crate::reader::Reader;
use crate::suite::{Kem, Suite};
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;
use rand_core::CryptoRng;
use zeroize::Zeroizing;

/// The key pairs of one epoch, one for each KEM. Dropping it wipes the private keys.
#[derive(Debug)]
pub struct Gateway {
    keys: Vec<GatewayKey>,
    epoch: Option<Epoch>,
}

#[derive(Debug)]
struct GatewayKey {
    config: KeyConfig,
    private: PrivateKey,
}

impl Gateway {
    /// Fresh keys that belong to no epoch: X-Wing with key id 1, X25519 with key id 2.
    pub fn generate(rng: &mut impl CryptoRng) -> Self {
        Self::with_first_key_id(rng, 1, None)
    }

    /// Fresh keys for an epoch, which the key config list then names. The key ids differ from those of the 126 epochs
    /// before, so that a request to an outdated key is answered as one, not as a damaged one.
    pub fn generate_for_epoch(rng: &mut impl CryptoRng, epoch: Epoch) -> Self {
        let first_key_id = 1 + 2 * (epoch.number % 127) as u8;
        Self::with_first_key_id(rng, first_key_id, Some(epoch))
    }

    fn with_first_key_id(rng: &mut impl CryptoRng, first_key_id: u8, epoch: Option<Epoch>) -> Self {
        let keys = (first_key_id..)
            .zip(Kem::ALL)
            .map(|(key_id, kem)| GatewayKey::generate(key_id, kem, rng))
            .collect();
        Self { keys, epoch }
    }

    /// A gateway with one given key, for known-answer tests.
    #[cfg(test)]
    pub(super) fn with_key(key_id: u8, kem: Kem, private_key: &[u8], suites: &[Suite]) -> Self {
        let (private, public_key) = PrivateKey::from_bytes(kem, private_key);
        let config = KeyConfig::new(key_id, kem, public_key, suites.to_vec()).unwrap();
        Self {
            keys: alloc::vec![GatewayKey { config, private }],
            epoch: None,
        }
    }

    /// The encoded key config list, `application/ohttp-keys`: what clients fetch, and what evidence binds.
    pub fn key_configs(&self) -> Vec<u8> {
        encode_list(self.keys.iter().map(|key| &key.config), self.epoch)
    }

    /// The epoch of these keys, if they belong to one.
    pub fn epoch(&self) -> Option<Epoch> {
        self.epoch
    }

    /// Opens an encapsulated request (RFC 9458, section 4.3), `message/ohttp-req`: the message in it, and what seals
    /// the response.
    ///
    /// # Errors
    /// [`OhttpError::UnknownKey`] when the request names a key that is not here, so that another gateway (the one of
    /// the epoch before) can be asked; other variants when it cannot be opened.
    pub fn decapsulate(
        &self,
        sealed: &[u8],
    ) -> Result<(Zeroizing<Vec<u8>>, ResponseSealer), OhttpError> {
        let mut reader = Reader::new(sealed);
        let (mut context, secret) = self.start(&mut reader, &WHOLE)?;
        let request = context.open(b"", reader.rest())?;
        Ok((request, ResponseSealer { secret }))
    }

    /// Reads the header of a chunked request, `message/ohttp-chunked-req`: what opens the chunks, and the number of
    /// bytes that the header took.
    ///
    /// # Errors
    /// Those of [`Gateway::decapsulate`]; [`OhttpError::Truncated`] while the header is not complete.
    pub fn start_chunked(
        &self,
        received: &[u8],
    ) -> Result<(chunked::RequestOpener, usize), OhttpError> {
        let mut reader = Reader::new(received);
        let (context, secret) = self.start(&mut reader, &CHUNKED)?;
        let opener = chunked::RequestOpener::new(context, secret);
        Ok((opener, received.len() - reader.rest().len()))
    }

    /// Opens a chunked request that has arrived as a whole: the message in it, and what begins the response.
    ///
    /// # Errors
    /// Those of [`Gateway::decapsulate`] and [`chunked::RequestOpener`].
    pub fn decapsulate_chunked(
        &self,
        sealed: &[u8],
    ) -> Result<(Zeroizing<Vec<u8>>, chunked::ResponseKey), OhttpError> {
        let (mut opener, used) = self.start_chunked(sealed)?;
        let chunks = opener.push(&sealed[used..])?;
        let (last, key) = opener.finish()?;
        // One allocation: what grows would leave copies behind.
        let bytes = chunks.iter().map(|chunk| chunk.len()).sum::<usize>() + last.len();
        let mut request = Zeroizing::new(Vec::with_capacity(bytes));
        for chunk in chunks.iter().chain([&last]) {
            request.extend_from_slice(chunk);
        }
        Ok((request, key))
    }

    fn start(
        &self,
        reader: &mut Reader<'_>,
        labels: &Labels,
    ) -> Result<(Box<dyn Receiver>, ResponseSecret), OhttpError> {
        let (key, header) = self.select(RawHeader::read(reader)?)?;
        let encapped = reader
            .take(header.kem.encapsulated_key_bytes())
            .ok_or(OhttpError::Truncated)?;
        let aead = header.suite.aead;
        let context = key.private.receiver(aead, encapped, &header.info(labels))?;
        let secret =
            ResponseSecret::new(aead, encapped, |out| context.export(labels.response, out));
        Ok((context, secret))
    }

    /// The key that a request names, and its header once the algorithms are known to be on offer.
    fn select(&self, raw: RawHeader) -> Result<(&GatewayKey, Header), OhttpError> {
        let key_id = raw.key_id;
        let key = self.keys.iter().find(|key| key.config.key_id() == key_id);
        let key = key.ok_or(OhttpError::UnknownKey { key_id })?;
        let kem = key.config.kem();
        let suite = Suite::from_ids(raw.kdf_id, raw.aead_id)
            .filter(|suite| key.config.suites().contains(suite));
        match suite {
            Some(suite) if raw.kem_id == kem.id() => Ok((key, Header { key_id, kem, suite })),
            _ => Err(OhttpError::UnsupportedSuite { key_id }),
        }
    }
}

impl GatewayKey {
    fn generate(key_id: u8, kem: Kem, rng: &mut impl CryptoRng) -> Self {
        let (private, public_key) = PrivateKey::generate(kem, rng);
        let config = KeyConfig::new(key_id, kem, public_key, Suite::OFFERED.to_vec());
        Self {
            config: config.expect("a fresh public key is valid"),
            private,
        }
    }
}

/// Seals the response to one request.
pub struct ResponseSealer {
    secret: ResponseSecret,
}

impl ResponseSealer {
    /// An encapsulated response (RFC 9458, section 4.4), `message/ohttp-res`.
    pub fn seal(self, rng: &mut impl CryptoRng, response: &[u8]) -> Vec<u8> {
        let mut sealed = alloc::vec![0; self.secret.nonce_bytes()];
        rng.fill_bytes(&mut sealed);
        let body = self.secret.cipher(&sealed).seal(b"", response);
        sealed.extend_from_slice(&body.expect("the first nonce of a fresh key is unused"));
        sealed
    }
}

impl fmt::Debug for ResponseSealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ResponseSealer")
    }
}
