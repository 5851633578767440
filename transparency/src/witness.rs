//! The witness (C2SP tlog-witness): cosigns checkpoints that are consistent with the last one that it saw of a log.
//!
//! There is no transport in here. A server hands the body of `POST add-checkpoint` to [`Witness::add_checkpoint`] and
//! sends the [`Answer`]; a client sends an [`AddCheckpoint`] and gives what comes back to [`read_reply`].

use crate::checkpoint::{CheckpointError, SignedCheckpoint};
use crate::decimal::MAX_NUMBER;
use crate::key::{KeyType, VerifierKey};
use crate::merkle::{Hash, ProofError, check_consistency};
use crate::note::{NoteError, Signature};
use crate::signer::{self, SignError, Signer};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use sha2::{Digest, Sha256};

mod client;
mod request;
#[cfg(feature = "std")]
mod store;
#[cfg(test)]
mod tests;

pub use client::{Reply, ReplyError, read_reply};
pub use request::{AddCheckpoint, MAX_REQUEST_BYTES, RequestError};
#[cfg(feature = "std")]
pub use store::{DirectoryStore, StoreError};

/// Where a witness keeps the last checkpoint that it cosigned of each log.
pub trait WitnessStore {
    /// Why the state could not be read or written.
    type Error: fmt::Debug;

    /// The last checkpoint of the log, with the witness's own cosignature; `None` where it never cosigned one. State that
    /// is there and cannot be read is an error: a witness that forgets would cosign a second history.
    ///
    /// # Errors
    /// Where it cannot be read.
    fn latest(&mut self, origin: &str) -> Result<Option<SignedCheckpoint>, Self::Error>;

    /// Keeps a checkpoint in place of the last one, all of it or nothing, so that it is still there after a power cut.
    ///
    /// # Errors
    /// Where it cannot be written; either of the two checkpoints is there then.
    fn put(&mut self, checkpoint: &SignedCheckpoint) -> Result<(), Self::Error>;
}

/// Why a witness cannot be set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WitnessError {
    /// The witness's key is not for cosignatures.
    NotACosigner,
}

impl fmt::Display for WitnessError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotACosigner => write!(f, "a witness's key is one of type 0x04"),
        }
    }
}

impl core::error::Error for WitnessError {}

/// What a witness answers, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Answer<E> {
    /// 200: the checkpoint is kept, and this is the cosignature.
    Cosigned(Signature),
    /// 400: the request is malformed.
    Malformed(RequestError),
    /// 400: the old size is above that of the checkpoint.
    OldSizeAbove {
        /// Of the request.
        old_size: u64,
        /// Of the checkpoint.
        size: u64,
    },
    /// 403: the log did not sign it, or a signature cannot be read.
    InvalidSignature(NoteError),
    /// 404: no log of this origin is witnessed.
    UnknownLog,
    /// 409: the last checkpoint is of another size than the request says.
    Conflict {
        /// Of the last checkpoint.
        size: u64,
    },
    /// 422: it does not follow from the last checkpoint, or is an empty tree with a root of its own.
    Inconsistent(ProofError),
    /// 500: the state cannot be read or written. Nothing was cosigned.
    Store(E),
    /// 500: the time is not one that a cosignature can have. Nothing was cosigned.
    Clock,
    /// 500: the witness's signer gave no signature that holds.
    NotSigned(SignError),
    /// 500: the state is there and does not bear the witness's cosignature on this log. Nothing was cosigned.
    StateDamaged,
}

impl<E> Answer<E> {
    /// The HTTP status.
    pub fn status(&self) -> u16 {
        match self {
            Self::Cosigned(_) => 200,
            Self::Malformed(_) | Self::OldSizeAbove { .. } => 400,
            Self::InvalidSignature(_) => 403,
            Self::UnknownLog => 404,
            Self::Conflict { .. } => 409,
            Self::Inconsistent(_) => 422,
            Self::Store(_) | Self::StateDamaged | Self::Clock | Self::NotSigned(_) => 500,
        }
    }

    /// The value of `Content-Type`.
    pub fn content_type(&self) -> &'static str {
        match self {
            Self::Conflict { .. } => "text/x.tlog.size",
            _ => "text/plain; charset=utf-8",
        }
    }

    /// The body: cosignature lines, the size, or a reason.
    pub fn body(&self) -> String {
        match self {
            Self::Cosigned(signature) => format!("{signature}"),
            Self::Malformed(error) => format!("malformed request: {error}\n"),
            Self::OldSizeAbove { old_size, size } => {
                format!("old size {old_size} is above that of the checkpoint, {size}\n")
            }
            Self::InvalidSignature(error) => format!("invalid signature: {error}\n"),
            Self::UnknownLog => "unknown log\n".into(),
            Self::Conflict { size } => format!("{size}\n"),
            Self::Inconsistent(error) => format!("consistency proof: {error}\n"),
            // What is wrong with the witness's disk is not for everyone.
            Self::Clock => "the witness's clock is wrong\n".into(),
            Self::NotSigned(_) => "the witness cannot sign\n".into(),
            Self::Store(_) | Self::StateDamaged => "the witness's state cannot be used\n".into(),
        }
    }
}

/// A witness of some logs.
///
/// Looking at the state and changing it are one step, as `add_checkpoint` has the witness to itself; two processes must
/// not share a store.
#[derive(Debug)]
pub struct Witness<S> {
    key: Box<dyn Signer>,
    logs: BTreeMap<String, Vec<VerifierKey>>,
    store: S,
}

impl<S: WitnessStore> Witness<S> {
    /// A witness with this cosigner's key, of the logs with these keys: a key's name is its log's origin.
    ///
    /// # Errors
    /// [`WitnessError`].
    pub fn new(
        key: impl Signer + 'static,
        logs: impl IntoIterator<Item = VerifierKey>,
        store: S,
    ) -> Result<Self, WitnessError> {
        if key.verifier().key_type() != KeyType::CosignatureV1 {
            return Err(WitnessError::NotACosigner);
        }
        let mut by_origin: BTreeMap<String, Vec<VerifierKey>> = BTreeMap::new();
        for log in logs {
            by_origin.entry(log.name().into()).or_default().push(log);
        }
        Ok(Self {
            key: Box::new(key),
            logs: by_origin,
            store,
        })
    }

    /// The key that its cosignatures are checked with.
    pub fn verifier(&self) -> &VerifierKey {
        self.key.verifier()
    }

    /// Answers `POST add-checkpoint`. `now_s` are seconds since 1970. What is cosigned is in the store before the answer
    /// is given.
    pub fn add_checkpoint(&mut self, body: &[u8], now_s: u64) -> Answer<S::Error> {
        match self.decide(body, now_s) {
            Ok(signature) => Answer::Cosigned(signature),
            Err(answer) => answer,
        }
    }

    /// The checks in the order of the specification.
    fn decide(&mut self, body: &[u8], now_s: u64) -> Result<Signature, Answer<S::Error>> {
        let request = AddCheckpoint::parse(body).map_err(refuse_body)?;
        let (new, old_size) = (request.checkpoint.checkpoint(), request.old_size);
        let keys = self.logs.get(&new.origin).ok_or(Answer::UnknownLog)?;
        request
            .checkpoint
            .verify_log(keys)
            .map_err(Answer::InvalidSignature)?;
        if old_size > new.size {
            return Err(Answer::OldSizeAbove {
                old_size,
                size: new.size,
            });
        }
        let latest = self.latest(&new.origin)?;
        let (size, root) = match &latest {
            Some(latest) => (latest.checkpoint().size, latest.checkpoint().root),
            None => (0, Hash::empty_tree()),
        };
        if old_size != size {
            return Err(Answer::Conflict { size });
        }
        if new.size == 0 && new.root != Hash::empty_tree() {
            return Err(Answer::Inconsistent(ProofError::RootsDiffer));
        }
        check_consistency(size, &root, new.size, &new.root, &request.proof)
            .map_err(Answer::Inconsistent)?;
        self.cosign(&request.checkpoint, now_s)
    }

    /// Keeps the checkpoint with the log's signatures and the witness's own, without those of others.
    fn cosign(
        &mut self,
        checkpoint: &SignedCheckpoint,
        now_s: u64,
    ) -> Result<Signature, Answer<S::Error>> {
        if !(1..=MAX_NUMBER).contains(&now_s) {
            return Err(Answer::Clock);
        }
        let signature = signer::sign(&*self.key, checkpoint.note().text(), now_s);
        let signature = signature.map_err(Answer::NotSigned)?;
        let keys = self.logs.get(&checkpoint.checkpoint().origin);
        let keys = keys.map_or(&[][..], Vec::as_slice);
        let by_log = checkpoint.note().signatures().iter();
        let by_log = by_log.filter(|line| keys.iter().any(|key| key.is_named_by(line)));
        let kept = checkpoint.with_signatures(by_log.chain([&signature]).cloned().collect());
        self.store.put(&kept).map_err(Answer::Store)?;
        Ok(signature)
    }

    /// The last checkpoint that was cosigned, which has to bear that cosignature.
    fn latest(&mut self, origin: &str) -> Result<Option<SignedCheckpoint>, Answer<S::Error>> {
        let latest = self.store.latest(origin).map_err(Answer::Store)?;
        let damaged = |latest: &SignedCheckpoint| {
            latest.checkpoint().origin != origin
                || latest.note().verify([self.key.verifier()]).is_err()
        };
        match latest {
            Some(latest) if damaged(&latest) => Err(Answer::StateDamaged),
            latest => Ok(latest),
        }
    }

    /// Answers `GET <origin hash>/checkpoint` of the monitoring prefix: the last checkpoint that was cosigned of the log
    /// with this [`origin_hash`]; `None` for 404.
    ///
    /// # Errors
    /// [`Answer::Store`] and [`Answer::StateDamaged`].
    pub fn monitored(&mut self, hash: &str) -> Result<Option<SignedCheckpoint>, Answer<S::Error>> {
        let origin = self
            .logs
            .keys()
            .find(|origin| origin_hash(origin) == hash)
            .cloned();
        origin.map_or(Ok(None), |origin| self.latest(&origin))
    }
}

/// A signature that cannot be read is a wrong signature, as other witnesses say too, and not a malformed request.
fn refuse_body<E>(error: RequestError) -> Answer<E> {
    match error {
        RequestError::Checkpoint(CheckpointError::Note(
            note @ (NoteError::SignatureLine { .. } | NoteError::Unsigned),
        )) => Answer::InvalidSignature(note),
        other => Answer::Malformed(other),
    }
}

/// SHA-256 of an origin in lower-case hexadecimal: how the monitoring prefix names a log.
pub fn origin_hash(origin: &str) -> String {
    let digest = Sha256::digest(origin);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
