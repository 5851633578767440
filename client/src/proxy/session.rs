//! The keys of a server whose evidence was accepted, renewed in time.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use cloister_protocol::keyconfig::Epoch;
use cloister_protocol::ohttp;

use super::failure::Failure;
use crate::client::Accepted;
use crate::clock::now_s;
use crate::policy::Attestation;
use crate::tls::KeyDigest;

/// How long before the end of their epoch keys are renewed.
const EARLY: Duration = Duration::from_secs(60);
/// When they are renewed again where the server has no later ones yet: it takes them for 5 minutes after their epoch.
const LATE: Duration = Duration::from_secs(10);
/// How long keys are used that name no epoch.
const WITHOUT_EPOCH: Duration = Duration::from_secs(600);
/// The longest time between two looks at a server's evidence, whatever it says of its epoch.
const LONGEST: Duration = Duration::from_secs(3600);
/// How long a failure is the answer to all requests, so that not each of them asks the server.
const FAILURE_KEPT: Duration = Duration::from_secs(5);

/// Fetches evidence and judges it. It may wait.
pub(super) type Attest = dyn Fn() -> Result<Accepted, Failure> + Send + Sync;

/// Keys in use, and what they were accepted for.
pub(super) struct Session {
    pub(super) attestation: Attestation,
    pub(super) keys: ohttp::Client,
    /// Of the key that a TLS connection to the server has to show.
    pub(super) tls_key: KeyDigest,
    pub(super) epoch: Option<Epoch>,
    renew_at: Instant,
}

impl Session {
    fn new(accepted: Accepted) -> Self {
        let epoch = accepted.keys.epoch();
        Self {
            keys: ohttp::Client::new(accepted.keys.preferred()),
            attestation: accepted.attestation,
            tls_key: accepted.tls_key,
            epoch,
            renew_at: Instant::now() + lifetime(epoch, now_s()),
        }
    }

    /// How long until it should be renewed.
    pub(super) fn left(&self) -> Duration {
        self.renew_at.saturating_duration_since(Instant::now())
    }
}

/// How long keys are used from now on.
fn lifetime(epoch: Option<Epoch>, now_s: u64) -> Duration {
    let Some(epoch) = epoch else {
        return WITHOUT_EPOCH;
    };
    let left = Duration::from_secs(epoch.end_s.saturating_sub(now_s));
    match left.checked_sub(EARLY) {
        Some(early) if !early.is_zero() => early.min(LONGEST),
        _ => left + LATE,
    }
}

/// The session in use.
pub(super) struct Sessions {
    attest: Arc<Attest>,
    current: Mutex<Option<Arc<Session>>>,
    /// Held by whoever renews it; with the failure of the last time.
    renewal: tokio::sync::Mutex<Option<(Instant, Failure)>>,
}

impl Sessions {
    pub(super) fn new(attest: Arc<Attest>) -> Self {
        Self {
            attest,
            current: Mutex::default(),
            renewal: tokio::sync::Mutex::default(),
        }
    }

    /// The one in use, if there is any.
    pub(super) fn current(&self) -> Option<Arc<Session>> {
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        current.clone()
    }

    /// The one in use, or a new one.
    pub(super) async fn get(&self) -> Result<Arc<Session>, Failure> {
        match self.current() {
            Some(session) => Ok(session),
            None => self.renew(None).await,
        }
    }

    /// One that is not `outdated`: another request may have got it meanwhile.
    ///
    /// A server whose evidence is refused has no session afterwards. One that cannot be reached keeps its old one, which
    /// was accepted and ends by itself when the server no longer takes its keys.
    pub(super) async fn renew(
        &self,
        outdated: Option<&Arc<Session>>,
    ) -> Result<Arc<Session>, Failure> {
        let mut failure = self.renewal.lock().await;
        if let Some(session) = self.current()
            && !outdated.is_some_and(|outdated| Arc::ptr_eq(outdated, &session))
        {
            return Ok(session);
        }
        if let Some((since, failure)) = &*failure
            && since.elapsed() < FAILURE_KEPT
        {
            return Err(failure.clone());
        }
        let attest = Arc::clone(&self.attest);
        let outcome = tokio::task::spawn_blocking(move || attest()).await;
        let outcome = outcome.unwrap_or_else(|_| {
            Err(Failure::server(
                500,
                "evidence",
                "the evidence could not be judged",
            ))
        });
        match outcome {
            Ok(accepted) => {
                *failure = None;
                let session = Arc::new(Session::new(accepted));
                self.set(Some(Arc::clone(&session)));
                Ok(session)
            }
            Err(error) => {
                *failure = Some((Instant::now(), error.clone()));
                if error.is_refusal() {
                    self.set(None);
                }
                Err(error)
            }
        }
    }

    fn set(&self, session: Option<Arc<Session>>) {
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = session;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use cloister_protocol::keyconfig::decode_list;
    use cloister_protocol::ohttp::Gateway;
    use getrandom::SysRng;
    use rand_core::UnwrapErr;

    fn accepted() -> Accepted {
        let gateway = Gateway::generate(&mut UnwrapErr(SysRng));
        Accepted {
            attestation: Attestation::None,
            keys: decode_list(&gateway.key_configs()).unwrap(),
            tls_key: KeyDigest::of(b""),
        }
    }

    fn epoch(end_s: u64) -> Option<Epoch> {
        Some(Epoch {
            number: 1,
            start_s: 0,
            end_s,
        })
    }

    #[test]
    fn keys_are_renewed_before_their_epoch_ends_and_again_after_it() {
        assert_eq!(lifetime(epoch(4_000), 3_000), Duration::from_secs(940));
        assert_eq!(lifetime(epoch(4_000), 3_950), Duration::from_secs(60));
        assert_eq!(lifetime(epoch(4_000), 4_100), LATE);
        assert_eq!(lifetime(epoch(u64::MAX), 3_000), LONGEST);
        assert_eq!(lifetime(None, 3_000), WITHOUT_EPOCH);
    }

    #[tokio::test]
    async fn many_requests_make_one_look_at_the_evidence() {
        let looks = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&looks);
        let sessions = Sessions::new(Arc::new(move || {
            counted.fetch_add(1, Ordering::SeqCst);
            Ok(accepted())
        }));
        let (first, second) = tokio::join!(sessions.get(), sessions.get());
        let first = first.unwrap();
        assert!(Arc::ptr_eq(&first, &second.unwrap()));
        assert_eq!(looks.load(Ordering::SeqCst), 1);
        // Both found it outdated: one renews it.
        let both = tokio::join!(sessions.renew(Some(&first)), sessions.renew(Some(&first)));
        let (third, fourth) = (both.0.unwrap(), both.1.unwrap());
        assert!(Arc::ptr_eq(&third, &fourth) && !Arc::ptr_eq(&first, &third));
        assert_eq!(looks.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn a_refusal_ends_the_session_and_a_server_out_of_reach_does_not() {
        for (failure, stays) in [
            (Failure::server(502, "unreachable", "gone"), true),
            (Failure::from(&crate::Refusal::Unattested), false),
        ] {
            let looks = AtomicUsize::new(0);
            let sessions = Sessions::new(Arc::new(move || {
                match looks.fetch_add(1, Ordering::SeqCst) {
                    0 => Ok(accepted()),
                    _ => Err(failure.clone()),
                }
            }));
            let first = sessions.get().await.unwrap();
            assert!(sessions.renew(Some(&first)).await.is_err());
            assert_eq!(sessions.current().is_some(), stays);
            assert_eq!(sessions.get().await.is_ok(), stays);
        }
    }
}
