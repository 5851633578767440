//! Anonymous tokens for requests: one for each that makes work, and more from the issuer before they run out.
//!
//! A token goes with one request. From the moment when the first byte of that request may have left it is gone, whatever
//! comes of it; before, it is there for the next one. A request that is sealed once more, as the server no longer has the key
//! that it was sealed to, is the same request: nobody has opened it, so the server sees the token once.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use cloister_protocol::bhttp::{Request, Response};
use cloister_tokens::Token;
use tokio::task::spawn_blocking;

use super::failure::Failure;
use crate::tokens::{Purse, PurseError, is_about_tokens};
use crate::upstream::PoolNews;

/// How long a failure is the answer to all requests that need the issuer, so that not each of them waits for it.
const FAILURE_KEPT: Duration = Duration::from_secs(5);
/// How long after a failure nothing is fetched in advance.
const REFILL_PAUSE: Duration = Duration::from_secs(30);

/// Says what has gone wrong while nobody waited for it.
pub(super) type Report = dyn Fn(&Failure) + Send + Sync;

/// The tokens for one server.
pub(super) struct Tokens {
    server: String,
    purse: Arc<tokio::sync::Mutex<Purse>>,
    /// Tokens of requests of which nothing was sent.
    returned: Arc<Returned>,
    /// When the issuer failed last, and how.
    failure: Mutex<Option<(Instant, Failure)>>,
    is_refilling: AtomicBool,
    report: Box<Report>,
}

#[derive(Default)]
struct Returned(Mutex<Vec<Token>>);

/// A token for one request. Dropped before anything of the request was sent, it is there for the next one.
pub(super) struct Held {
    token: Token,
    returned: Arc<Returned>,
    /// Connections that something of it may have been sent over.
    sent: AtomicUsize,
}

/// What an answer means.
pub(super) enum Met {
    /// It is the answer.
    Answer(Response),
    /// The server asks for a token, and this is one.
    Token(Box<Held>),
}

impl Tokens {
    pub(super) fn new(server: &str, purse: Purse, report: Box<Report>) -> Self {
        Self {
            server: server.trim_end_matches('/').to_owned(),
            purse: Arc::new(tokio::sync::Mutex::new(purse)),
            returned: Arc::default(),
            failure: Mutex::default(),
            is_refilling: AtomicBool::new(false),
            report,
        }
    }

    /// The token to send a request with: none for one that makes no work, and none where there is none.
    pub(super) async fn take(self: &Arc<Self>, request: &Request) -> Result<Option<Held>, Failure> {
        if request.method != "POST" {
            return Ok(None);
        }
        let returned = Arc::clone(&self.returned);
        let (held, is_short) = self
            .with_purse(move |purse, server| {
                let held = purse.take(server)?.map(|token| Held::new(token, returned));
                // What is wrong with the wallet is said when a token is needed.
                Ok((held, matches!(purse.shortage(), Ok(Some(_)))))
            })
            .await?;
        if is_short {
            self.refill();
        }
        Ok(held)
    }

    /// What an answer to a request with the token `held` means. Where the server asks for a token, it is fetched.
    pub(super) async fn meet(&self, answer: Response, held: Option<Held>) -> Result<Met, Failure> {
        if !is_about_tokens(&answer) {
            return Ok(Met::Answer(answer));
        }
        if let Some(failure) = self.failure_since(FAILURE_KEPT) {
            return Err(failure);
        }
        let returned = Arc::clone(&self.returned);
        let met = self
            .with_purse(move |purse, server| {
                let refused = held.as_ref().map(Held::token);
                let other = purse.meet(server, &answer, refused)?;
                Ok(match other {
                    Some(other) => Met::Token(Box::new(Held::new(other, returned))),
                    None => Met::Answer(answer),
                })
            })
            .await;
        met.inspect_err(|failure| self.has_failed(failure))
    }

    /// The answer to a request with a token that was fetched for it.
    pub(super) fn last(answer: Response) -> Result<Response, Failure> {
        match is_about_tokens(&answer) {
            false => Ok(answer),
            true => Err(Failure::tokens(
                "the server did not take a token that it had just asked for; its tokens change now and then, so try again. If \
                 that does not help, look at --issuer, and at how much the server has to do",
            )),
        }
    }

    /// Puts away what was not used: to be called at the end.
    pub(super) async fn close(&self) -> Result<(), Failure> {
        self.with_purse(|_, _| Ok(())).await
    }

    /// Fetches tokens while requests are served with those that are left.
    fn refill(self: &Arc<Self>) {
        if self.failure_since(REFILL_PAUSE).is_some()
            || self.is_refilling.swap(true, Ordering::SeqCst)
        {
            return;
        }
        let this = Arc::clone(self);
        tokio::spawn(async move {
            if let Err(failure) = this.fetch_batch().await {
                this.has_failed(&failure);
                (this.report)(&failure);
            }
            this.is_refilling.store(false, Ordering::SeqCst);
        });
    }

    /// Fetches what is still short, without keeping others from the purse meanwhile.
    async fn fetch_batch(&self) -> Result<(), Failure> {
        let shortage = self.with_purse(|purse, _| purse.shortage()).await?;
        let Some(shortage) = shortage else {
            return Ok(());
        };
        let fetched = spawn_blocking(move || shortage.fetch()).await;
        let fetched = fetched.map_err(|_| broken())??;
        self.with_purse(move |purse, server| purse.put(server, fetched))
            .await
    }

    /// Does something with the purse that may wait, for a disk or for the issuer.
    async fn with_purse<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Purse, &str) -> Result<T, PurseError> + Send + 'static,
    ) -> Result<T, Failure> {
        let mut purse = Arc::clone(&self.purse).lock_owned().await;
        let (server, returned) = (self.server.clone(), Arc::clone(&self.returned));
        let outcome = spawn_blocking(move || {
            purse.give_back(&server, returned.take())?;
            work(&mut purse, &server)
        });
        Ok(outcome.await.map_err(|_| broken())??)
    }

    fn has_failed(&self, failure: &Failure) {
        let mut last = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        *last = Some((Instant::now(), failure.clone()));
    }

    fn failure_since(&self, longest: Duration) -> Option<Failure> {
        let last = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        let recent = last.as_ref().filter(|(since, _)| since.elapsed() < longest);
        recent.map(|(_, failure)| failure.clone())
    }
}

fn broken() -> Failure {
    Failure::tokens("the tokens cannot be used; start the proxy again")
}

impl Returned {
    fn take(&self) -> Vec<Token> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn put(&self, token: Token) {
        let mut tokens = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tokens.push(token);
    }
}

impl Held {
    fn new(token: Token, returned: Arc<Returned>) -> Self {
        Self {
            token,
            returned,
            sent: AtomicUsize::new(0),
        }
    }

    pub(super) fn token(&self) -> &Token {
        &self.token
    }
}

impl PoolNews for Held {
    fn connected(&self) {
        self.sent.fetch_add(1, Ordering::SeqCst);
    }

    fn reused(&self) {
        self.sent.fetch_add(1, Ordering::SeqCst);
    }

    fn unsent(&self) {
        self.sent.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.sent.load(Ordering::SeqCst) == 0 {
            self.returned.put(self.token.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(returned: &Arc<Returned>) -> Held {
        let token = Token {
            nonce: [1; 32],
            challenge_digest: [2; 32],
            token_key_id: [3; 32],
            authenticator: [4; 256],
        };
        Held::new(token, Arc::clone(returned))
    }

    #[test]
    fn a_token_of_which_nothing_was_sent_is_there_for_the_next_request() {
        let returned = Arc::default();
        drop(held(&returned));
        assert_eq!(returned.take().len(), 1);
        // The connection that was kept had ended, and there was no other.
        let unsent = held(&returned);
        unsent.reused();
        unsent.unsent();
        drop(unsent);
        assert_eq!(returned.take().len(), 1);
        assert_eq!(returned.take().len(), 0, "it is given back once");
    }

    #[test]
    fn one_that_may_have_been_sent_is_gone() {
        let returned = Arc::default();
        let sent = held(&returned);
        sent.connected();
        drop(sent);
        // With another key of the server, but there was no connection any more.
        let again = held(&returned);
        again.connected();
        again.reused();
        again.unsent();
        drop(again);
        assert_eq!(returned.take().len(), 0);
    }
}
