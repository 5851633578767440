//! The origin's side: who takes tokens, each once (RFC 9577, section 2).
//!
//! A token is bound to the challenge's redemption context, and that is a random number which the origin makes itself, for
//! one period, and never tells before the period begins. So a token is good at one origin (of several that serve the same
//! image, too), and not after a restart; and the set of spent tokens of a period can be forgotten at the moment when the
//! period's challenge is no longer taken. In between, the last period's tokens are still taken against the last
//! period's set. No clock needs to be right for that.
//!
//! All clients get the same challenge: whoever asks for tokens in the same period is in the same crowd.

use alloc::string::String;
use rand_core::CryptoRng;

use crate::DIGEST_BYTES;
use crate::challenge::{CONTEXT_BYTES, ChallengeError, TokenChallenge};
use crate::field::{self, FieldError, Offer};
use crate::key::TokenKey;
use crate::spent::{Added, SpentSet};

/// Whose tokens an origin takes, and for what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issuer {
    /// The issuer's name.
    pub name: String,
    /// Its key.
    pub token_key: TokenKey,
    /// The origin's names, as tokens have them.
    pub origin_info: String,
}

/// How long and how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How long a challenge is handed out; its tokens are taken for as long again. In milliseconds.
    pub period_ms: u64,
    /// The most tokens of a period that are taken. When half of them were, the next period begins early.
    pub capacity: usize,
}

impl Limits {
    /// A day, and 65,536 tokens.
    pub const DEFAULT: Self = Self {
        period_ms: 86_400_000,
        capacity: 1 << 16,
    };

    /// Memory in bytes for the tokens that were spent, in both periods.
    #[must_use]
    pub const fn memory_bytes(&self) -> usize {
        2 * SpentSet::memory_bytes(self.capacity)
    }
}

/// Why a token is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// There is none.
    Missing,
    /// The field has none that can be read.
    Field(FieldError),
    /// It names another issuer's key.
    OtherKey,
    /// It is for another challenge than those of now: of an earlier period, another server, or the same one before a
    /// restart.
    OtherChallenge,
    /// The issuer has not signed it.
    Signature,
    /// It was spent before.
    Spent,
    /// As many tokens of its period were spent as there is room for.
    Full,
}

impl core::fmt::Display for Refusal {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Missing => f.write_str("a token is needed; the challenge says whose"),
            Self::Field(error) => write!(f, "the authorization field has no token: {error}"),
            Self::OtherKey => f.write_str("the token is of another issuer's key"),
            Self::OtherChallenge => f.write_str(
                "the token is for another challenge: of an earlier period, or of another server",
            ),
            Self::Signature => f.write_str("the token has no signature by the issuer's key"),
            Self::Spent => f.write_str("the token was spent before"),
            Self::Full => f.write_str(
                "too many tokens of that period were spent; get one for the challenge of now",
            ),
        }
    }
}

impl core::error::Error for Refusal {}

/// A token that is good and was not spent. It is spent by [`Origin::spend`] only.
#[derive(Debug)]
#[must_use]
pub struct Unspent {
    challenge_digest: [u8; DIGEST_BYTES],
    nonce: [u8; DIGEST_BYTES],
}

/// An origin.
pub struct Origin {
    issuer: Issuer,
    limits: Limits,
    current: Period,
    /// The one before; its challenge is not handed out any more. At the start one that nobody ever heard of.
    previous: Period,
}

struct Period {
    challenge: TokenChallenge,
    digest: [u8; DIGEST_BYTES],
    began_ms: u64,
    spent: SpentSet,
}

impl Origin {
    /// An origin whose first period begins now, with all the memory that it will ever need.
    ///
    /// # Errors
    /// [`ChallengeError`] for names that a challenge cannot have.
    pub fn new(
        issuer: Issuer,
        limits: Limits,
        rng: &mut impl CryptoRng,
        now_ms: u64,
    ) -> Result<Self, ChallengeError> {
        let mut period = || {
            let challenge = issuer.challenge(rng)?;
            Ok(Period {
                digest: challenge.digest(),
                challenge,
                began_ms: now_ms,
                spent: SpentSet::new(limits.capacity, random(rng)),
            })
        };
        Ok(Self {
            current: period()?,
            previous: period()?,
            issuer,
            limits,
        })
    }

    /// Begins the next period when it is time, or when half of the current one's tokens were spent.
    pub fn tick(&mut self, rng: &mut impl CryptoRng, now_ms: u64) {
        let age_ms = now_ms.saturating_sub(self.current.began_ms);
        let is_busy = 2 * self.current.spent.len() >= self.limits.capacity;
        if age_ms < self.limits.period_ms && !is_busy {
            return;
        }
        // The names are the ones that made a challenge before.
        let Ok(challenge) = self.issuer.challenge(rng) else {
            return;
        };
        core::mem::swap(&mut self.current, &mut self.previous);
        self.current.digest = challenge.digest();
        self.current.challenge = challenge;
        self.current.began_ms = now_ms;
        self.current.spent.clear(random(rng));
    }

    /// What a client without a token needs to know.
    #[must_use]
    pub fn offer(&self, now_ms: u64) -> Offer {
        let age_ms = now_ms.saturating_sub(self.current.began_ms);
        let left_ms = (2 * self.limits.period_ms).saturating_sub(age_ms);
        Offer {
            challenge: self.current.challenge.clone(),
            token_key: self.issuer.token_key.clone(),
            max_age_s: Some(left_ms / 1000),
        }
    }

    /// Judges the token in an `Authorization` field; nothing is spent yet.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn check(&self, field: Option<&[u8]>) -> Result<Unspent, Refusal> {
        let token = field::read_token(field.ok_or(Refusal::Missing)?).map_err(Refusal::Field)?;
        if token.token_key_id != *self.issuer.token_key.id() {
            return Err(Refusal::OtherKey);
        }
        let period = self
            .periods()
            .into_iter()
            .find(|period| period.digest == token.challenge_digest)
            .ok_or(Refusal::OtherChallenge)?;
        if !self.issuer.token_key.has_signed(&token) {
            return Err(Refusal::Signature);
        }
        if period.spent.contains(&token.nonce) {
            return Err(Refusal::Spent);
        }
        Ok(Unspent {
            challenge_digest: token.challenge_digest,
            nonce: token.nonce,
        })
    }

    /// Spends a token.
    ///
    /// # Errors
    /// [`Refusal::Spent`] if that was done since it was judged, [`Refusal::Full`], and [`Refusal::OtherChallenge`] if its
    /// period has ended.
    pub fn spend(&mut self, token: Unspent) -> Result<(), Refusal> {
        let period = [&mut self.current, &mut self.previous]
            .into_iter()
            .find(|period| period.digest == token.challenge_digest)
            .ok_or(Refusal::OtherChallenge)?;
        match period.spent.add(&token.nonce) {
            Added::New => Ok(()),
            Added::Before => Err(Refusal::Spent),
            Added::Full => Err(Refusal::Full),
        }
    }

    fn periods(&self) -> [&Period; 2] {
        [&self.current, &self.previous]
    }
}

impl Issuer {
    fn challenge(&self, rng: &mut impl CryptoRng) -> Result<TokenChallenge, ChallengeError> {
        let context: [u8; CONTEXT_BYTES] = random(rng);
        TokenChallenge::new(&self.name, Some(context), &self.origin_info)
    }
}

fn random<const N: usize>(rng: &mut impl CryptoRng) -> [u8; N] {
    let mut bytes = [0; N];
    rng.fill_bytes(&mut bytes);
    bytes
}

#[cfg(test)]
mod tests;
