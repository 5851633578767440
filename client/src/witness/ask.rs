//! Asking a witness for its cosignature.

use std::time::Duration;

use cloister_transparency::VerifierKey;
use cloister_transparency::log::LogError;
use cloister_transparency::note::Signature;
use cloister_transparency::witness::{AddCheckpoint, Reply, ReplyError, read_reply};

use crate::tls::Authorities;
use crate::transport::{Transport, TransportError};

/// Why there is no cosignature.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AskError {
    /// The witness cannot be reached.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// There is no request: the log has no proof.
    #[error("no proof for the witness {url}: {error}")]
    Log {
        /// The witness.
        url: String,
        /// What is wrong with the log.
        error: LogError,
    },
    /// The witness did not cosign, or something else.
    #[error("{url}: {error}")]
    Reply {
        /// The witness.
        url: String,
        /// What it answered.
        error: ReplyError,
    },
    /// The witness has seen more of this log than there is: the log was set back, or shows two histories.
    #[error("{url}: the witness has seen {witnessed} entries of this log, which has {size}")]
    Ahead {
        /// The witness.
        url: String,
        /// Leaves of the last checkpoint that it cosigned.
        witnessed: u64,
        /// Leaves of the checkpoint that it was asked to cosign.
        size: u64,
    },
    /// The witness gave another size each time that it was asked: somebody else asks it too.
    #[error("{url}: the witness is being asked by another one too; try again")]
    Busy {
        /// The witness.
        url: String,
    },
}

/// Sends `POST add-checkpoint` to the witness at `url` and gives its cosignatures by `key`, which hold.
///
/// `request` makes the request for a witness whose last checkpoint is of the given size; [`TileLog::witness_request`] does.
/// `known_size` is the size to try first, 0 where nothing is known; a witness that knows another one says so and is asked
/// once more.
///
/// [`TileLog::witness_request`]: cloister_transparency::log::TileLog::witness_request
///
/// # Errors
/// [`AskError`].
pub fn ask_witness(
    url: &str,
    key: &VerifierKey,
    timeout: Duration,
    known_size: u64,
    request: &mut dyn FnMut(u64) -> Result<AddCheckpoint, LogError>,
) -> Result<Vec<Signature>, AskError> {
    let authorities = Authorities::default();
    ask_vouched_witness(&authorities, url, key, timeout, known_size, request)
}

/// The same, where other authorities than the operating system's have to vouch for a witness with `https`.
///
/// # Errors
/// [`AskError`].
pub fn ask_vouched_witness(
    authorities: &Authorities,
    url: &str,
    key: &VerifierKey,
    timeout: Duration,
    known_size: u64,
    request: &mut dyn FnMut(u64) -> Result<AddCheckpoint, LogError>,
) -> Result<Vec<Signature>, AskError> {
    let transport = Transport::new(url, timeout, authorities)?;
    let url = transport.base().to_owned();
    let mut ask = |old_size: u64| {
        let in_log = |error| AskError::Log {
            url: url.clone(),
            error,
        };
        let request = request(old_size).map_err(in_log)?;
        let reply = send(&transport, key, &request);
        Ok::<_, AskError>((reply?, request.checkpoint.checkpoint().size))
    };
    let (reply, size) = ask(known_size)?;
    let witnessed = match reply {
        Reply::Cosigned(signatures) => return Ok(signatures),
        Reply::Conflict { size } => size,
    };
    if witnessed > size {
        return Err(AskError::Ahead {
            url,
            witnessed,
            size,
        });
    }
    match ask(witnessed)?.0 {
        Reply::Cosigned(signatures) => Ok(signatures),
        Reply::Conflict { .. } => Err(AskError::Busy { url }),
    }
}

fn send(
    transport: &Transport,
    key: &VerifierKey,
    request: &AddCheckpoint,
) -> Result<Reply, AskError> {
    let body = request.to_string();
    let answer = transport.post(
        "/add-checkpoint",
        "text/plain; charset=utf-8",
        body.as_bytes(),
    )?;
    let reply = read_reply(answer.status, &answer.body, &request.checkpoint, [key]);
    reply.map_err(|error| AskError::Reply {
        url: transport.base().to_owned(),
        error,
    })
}
