//! Private keys: made here, kept for one epoch and its grace, then wiped.

use alloc::boxed::Box;
use alloc::vec::Vec;
use cloister_protocol::evidence::{self, Enclosures, Evidence, Kind, NONCE_BYTES};
use cloister_protocol::keyconfig::Epoch;
use cloister_protocol::ohttp::{Gateway, OhttpError, ResponseSealer, chunked};
use core::cell::Cell;
use zeroize::Zeroizing;

use crate::entropy::Drbg;
use crate::platform;

/// How long keys are good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetime {
    /// How long clients are told to use a key, in seconds; not 0.
    pub epoch_s: u64,
    /// How long after that requests to it are still opened, in milliseconds.
    pub grace_ms: u64,
}

impl Lifetime {
    /// Five minutes for what is under way, or an epoch where that is less: there is one earlier key at most.
    #[must_use]
    pub fn of_epoch(epoch_s: u32) -> Self {
        let epoch_s = u64::from(epoch_s.max(1));
        Self {
            epoch_s,
            grace_ms: (1000 * epoch_s).min(300_000),
        }
    }
}

/// Binds report data to the machine; see [`crate::platform::Platform::attest`].
pub type Attest = fn(&[u8; 64]) -> platform::Evidence;

/// What shows which program holds the keys.
#[derive(Clone)]
pub struct Attester {
    /// The machine's.
    pub attest: Attest,
    /// The public key of the port's TLS (SubjectPublicKeyInfo, DER), which is bound too; empty without TLS.
    pub tls_public_key: Vec<u8>,
    /// What the host handed the guest to go with it, passed on unread.
    pub enclosures: Enclosures,
}

/// The keys of this epoch, and of the last one while they are good.
pub struct Keys {
    current: Gateway,
    previous: Option<Gateway>,
    lifetime: Lifetime,
    began_ms: u64,
    /// Unix time, in seconds, at which the guest's clock was 0; by the host's clock, so nothing rests on it.
    start_s: u64,
    key_configs: Vec<u8>,
    evidence: Vec<u8>,
    attester: Attester,
    allowance: Cell<Allowance>,
}

impl Keys {
    /// The first keys. `start_s` is the Unix time of the guest's start as far as it is known, else 0.
    pub fn new(
        rng: &mut Drbg,
        start_s: u64,
        now_ms: u64,
        lifetime: Lifetime,
        attester: Attester,
    ) -> Self {
        // The first number differs from start to start, so that a key from before is answered as an unknown one.
        let number = (start_s + now_ms / 1000) / lifetime.epoch_s;
        let epoch = epoch(number, start_s, now_ms, lifetime);
        let mut keys = Self {
            current: Gateway::generate_for_epoch(rng, epoch),
            previous: None,
            lifetime,
            began_ms: now_ms,
            start_s,
            key_configs: Vec::new(),
            evidence: Vec::new(),
            attester,
            allowance: Cell::new(Allowance::full(now_ms)),
        };
        keys.publish();
        keys
    }

    /// Makes new keys when the epoch is over, and wipes the ones whose grace is. Returns whether it did.
    pub fn tick(&mut self, rng: &mut Drbg, now_ms: u64) -> bool {
        let age_ms = now_ms.saturating_sub(self.began_ms);
        if age_ms >= 1000 * self.lifetime.epoch_s {
            let number = self.epoch_number() + 1;
            let epoch = epoch(number, self.start_s, now_ms, self.lifetime);
            let next = Gateway::generate_for_epoch(rng, epoch);
            self.previous = Some(core::mem::replace(&mut self.current, next));
            self.began_ms = now_ms;
            self.publish();
            return true;
        }
        age_ms >= self.lifetime.grace_ms && self.previous.take().is_some()
    }

    /// The encoded list of public keys, `application/ohttp-keys`.
    #[must_use]
    pub fn key_configs(&self) -> &[u8] {
        &self.key_configs
    }

    /// The evidence of this epoch.
    #[must_use]
    pub fn evidence(&self) -> &[u8] {
        &self.evidence
    }

    /// Fresh evidence that holds `nonce`; `None` when too much was asked for lately.
    #[must_use]
    pub fn fresh_evidence(&self, nonce: [u8; NONCE_BYTES], now_ms: u64) -> Option<Vec<u8>> {
        let mut allowance = self.allowance.get();
        let granted = allowance.take(now_ms);
        self.allowance.set(allowance);
        granted.then(|| self.make_evidence(Some(nonce)))
    }

    /// Opens an encapsulated request with the key that it names.
    ///
    /// # Errors
    /// [`OhttpError`].
    pub fn decapsulate(
        &self,
        sealed: &[u8],
    ) -> Result<(Zeroizing<Vec<u8>>, ResponseSealer), OhttpError> {
        match (self.current.decapsulate(sealed), &self.previous) {
            (Err(OhttpError::UnknownKey { .. }), Some(previous)) => previous.decapsulate(sealed),
            (outcome, _) => outcome,
        }
    }

    /// The same for a request in chunks.
    ///
    /// # Errors
    /// [`OhttpError`].
    pub fn decapsulate_chunked(
        &self,
        sealed: &[u8],
    ) -> Result<(Zeroizing<Vec<u8>>, chunked::ResponseKey), OhttpError> {
        match (self.current.decapsulate_chunked(sealed), &self.previous) {
            (Err(OhttpError::UnknownKey { .. }), Some(previous)) => {
                previous.decapsulate_chunked(sealed)
            }
            (outcome, _) => outcome,
        }
    }

    fn publish(&mut self) {
        self.key_configs = self.current.key_configs();
        self.evidence = self.make_evidence(None);
    }

    fn epoch_number(&self) -> u64 {
        self.current.epoch().map_or(0, |epoch| epoch.number)
    }

    fn make_evidence(&self, nonce: Option<[u8; NONCE_BYTES]>) -> Vec<u8> {
        let epoch = self.epoch_number();
        let tls_public_key = &self.attester.tls_public_key;
        let report_data =
            evidence::report_data(epoch, &self.key_configs, tls_public_key, nonce.as_ref());
        let kind = match (self.attester.attest)(&report_data) {
            platform::Evidence::None => Kind::None,
            platform::Evidence::SevSnp(report) => Kind::SevSnp(Box::new(*report.as_bytes())),
        };
        Evidence {
            kind,
            key_configs: self.key_configs.clone(),
            epoch,
            nonce,
            tls_public_key: tls_public_key.clone(),
            enclosures: self.attester.enclosures.clone(),
        }
        .encode()
    }
}

/// How many reports may be asked for. Each occupies the security processor, which serves every guest of the machine, and
/// anybody can ask.
#[derive(Clone, Copy)]
struct Allowance {
    reports: u64,
    counted_ms: u64,
}

impl Allowance {
    /// Reports that may be asked for at once.
    const MOST: u64 = 32;
    /// Until one more may be.
    const INTERVAL_MS: u64 = 100;

    const fn full(now_ms: u64) -> Self {
        Self {
            reports: Self::MOST,
            counted_ms: now_ms,
        }
    }

    fn take(&mut self, now_ms: u64) -> bool {
        let intervals = now_ms.saturating_sub(self.counted_ms) / Self::INTERVAL_MS;
        self.counted_ms += intervals * Self::INTERVAL_MS;
        self.reports = Self::MOST.min(self.reports.saturating_add(intervals));
        match self.reports.checked_sub(1) {
            Some(left) => {
                self.reports = left;
                true
            }
            None => false,
        }
    }
}

fn epoch(number: u64, start_s: u64, now_ms: u64, lifetime: Lifetime) -> Epoch {
    let begin_s = start_s + now_ms / 1000;
    Epoch {
        number,
        start_s: begin_s,
        end_s: begin_s + lifetime.epoch_s,
    }
}

#[cfg(test)]
mod tests;
