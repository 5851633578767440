//! Who is let in: requests that make work need an anonymous token, if the image names an issuer.
//!
//! A token is judged before the content of its request is read, and spent when the request gets its place in the queue:
//! one that is refused before (bad content, no room) costs none. From then on it is spent, whatever becomes of the
//! request. Judging and spending happen in one turn of the loop, so that nothing comes in between.

use alloc::string::{String, ToString};
use cloister_boot::manifest::TokenIssuer;
use cloister_protocol::api::problem::{Problem, TOKEN_INVALID, TOKEN_REQUIRED, TOKEN_SPENT};
use cloister_protocol::bhttp;
use cloister_tokens::TokenKey;
use cloister_tokens::origin::{Issuer, Limits, Origin, Refusal, Unspent};

use super::inner;
use crate::entropy::Drbg;

/// The field with the token.
const AUTHORIZATION: &str = "authorization";
/// The field with the challenge.
const WWW_AUTHENTICATE: &str = "www-authenticate";

/// The gate; open for everybody where no issuer is named.
#[derive(Default)]
pub struct Gate {
    origin: Option<Origin>,
    now_ms: u64,
}

/// A request was let in. What it costs is paid by [`Gate::spend`].
#[derive(Debug)]
#[must_use]
pub struct Admitted(Option<Unspent>);

impl Gate {
    /// The gate that the manifest asks for, with all the memory that it will need.
    ///
    /// # Errors
    /// What is wrong with the issuer in the manifest.
    pub fn new(
        issuer: Option<&TokenIssuer>,
        limits: Limits,
        rng: &mut Drbg,
        now_ms: u64,
    ) -> Result<Self, String> {
        let origin = issuer.map(|issuer| {
            let issuer = Issuer {
                name: issuer.name.clone(),
                token_key: TokenKey::from_spki(&issuer.token_key)
                    .map_err(|error| error.to_string())?,
                origin_info: issuer.origin_info.clone(),
            };
            Origin::new(issuer, limits, rng, now_ms).map_err(|error| error.to_string())
        });
        Ok(Self {
            origin: origin.transpose()?,
            now_ms,
        })
    }

    /// Begins the next period of tokens when it is time.
    pub fn tick(&mut self, rng: &mut Drbg, now_ms: u64) {
        self.now_ms = now_ms;
        if let Some(origin) = &mut self.origin {
            origin.tick(rng, now_ms);
        }
    }

    /// Judges the token of a request.
    ///
    /// # Errors
    /// The answer to a request that is not let in.
    pub fn admit(&self, request: &bhttp::Request) -> Result<Admitted, bhttp::Response> {
        let Some(origin) = &self.origin else {
            return Ok(Admitted(None));
        };
        match origin.check(request.field(AUTHORIZATION)) {
            Ok(token) => Ok(Admitted(Some(token))),
            Err(refusal) => Err(refuse(origin, refusal, self.now_ms)),
        }
    }

    /// Spends the token of a request that was let in.
    ///
    /// # Errors
    /// The answer, if its token can no longer be spent.
    pub fn spend(&mut self, admitted: Admitted) -> Result<(), bhttp::Response> {
        let (Some(origin), Some(token)) = (&mut self.origin, admitted.0) else {
            return Ok(());
        };
        origin
            .spend(token)
            .map_err(|refusal| refuse(origin, refusal, self.now_ms))
    }
}

fn refuse(origin: &Origin, refusal: Refusal, now_ms: u64) -> bhttp::Response {
    let kind = match refusal {
        Refusal::Missing => TOKEN_REQUIRED,
        Refusal::Spent => TOKEN_SPENT,
        _ => TOKEN_INVALID,
    };
    let problem = Problem::new(401, kind, refusal.to_string());
    let challenge = origin.offer(now_ms).to_field();
    inner::answer_problem(&problem)
        .with_header(WWW_AUTHENTICATE, challenge)
        .expect("a challenge is printable ASCII")
}

const _: () = assert!(
    Limits::DEFAULT.memory_bytes() as u64 <= cloister_boot::manifest::SPENT_TOKENS_BYTES,
    "the manifest asks for the memory that spent tokens take"
);
#[cfg(test)]
mod tests;
