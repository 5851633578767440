//! `cargo xtask bench protocol`: what the protocol costs the guest's processor for each request, as a host process with
//! the same code, beside other programs that do the same.

mod tls;

use std::process::Command;
use std::time::Instant;

use cloister_protocol::keyconfig::decode_list;
use cloister_protocol::ohttp::{Client, Gateway};
use cloister_protocol::suite::{Aead, Kem};
use cloister_tokens::issuer::IssuerKey;
use cloister_tokens::request::Pending;
use cloister_tokens::{Token, TokenChallenge, TokenKey};
use getrandom::SysRng;
use rand_core::UnwrapErr;
use rsa::pss::{Signature, VerifyingKey};
use rsa::signature::Verifier;
use serde_json::json;
use sha2::Sha384;

use crate::cli::{BenchArgs, Outcome};
use crate::commands::CommandError;
use crate::progress::Phase;
use crate::statistics::median;

/// Bytes of a request and of its answer before they are sealed: the smallest ones that a client sends.
const MESSAGE_BYTES: usize = 1024;
/// Exchanges that are prepared for a run: each is opened once.
const EXCHANGES: usize = 500;
/// Tokens are checked so many times in a run.
const CHECKS: usize = 2000;

/// Microseconds of one operation by Cloister and by another program.
#[derive(Debug, serde::Serialize)]
struct Row {
    operation: &'static str,
    us: f64,
    peers: Vec<Peer>,
}

#[derive(Debug, serde::Serialize)]
struct Peer {
    name: String,
    us: f64,
}

/// Measures `--runs` times; Cloister and the others take turns, so that they meet the same disturbances.
pub fn run(arguments: &BenchArgs) -> Result<Outcome, CommandError> {
    let phase = Phase::start("Measure the protocol");
    let mut rows = Vec::new();
    for (kem, theirs, operation) in [
        (
            Kem::X25519,
            ohttp::hpke::Kem::X25519Sha256,
            "request opened and answer sealed, X25519",
        ),
        (
            Kem::XWing,
            ohttp::hpke::Kem::XWing,
            "request opened and answer sealed, X-Wing",
        ),
    ] {
        rows.push(exchanges(arguments.runs, kem, theirs, operation)?);
    }
    rows.push(token_checks(arguments.runs)?);
    rows.push(tls::handshakes(arguments.runs)?);
    phase.done("");
    Ok(Outcome {
        text: report(&rows, arguments.runs),
        json: json!({ "runs": arguments.runs, "message_bytes": MESSAGE_BYTES, "operations": rows }),
        success: true,
    })
}

fn report(rows: &[Row], runs: u32) -> String {
    let mut text = format!(
        "What one request costs a processor (one thread, {MESSAGE_BYTES} bytes each way, median of {runs} runs):\n"
    );
    for row in rows {
        text += &format!("  {:42} {:8.1} us\n", row.operation, row.us);
        for peer in &row.peers {
            let ratio = peer.us / row.us;
            text += &format!(
                "    {:40} {:8.1} us: Cloister is {ratio:.2} times as fast\n",
                peer.name, peer.us
            );
        }
    }
    text
}

fn failed(error: impl std::fmt::Display) -> CommandError {
    CommandError::Failed(error.to_string())
}

/// Microseconds that `task` takes for each of `items`.
fn us_each<T, E>(
    items: Vec<T>,
    mut task: impl FnMut(T) -> Result<(), E>,
) -> Result<f64, CommandError>
where
    E: std::fmt::Display,
{
    let count = items.len() as f64;
    let started = Instant::now();
    for item in items {
        task(item).map_err(failed)?;
    }
    Ok(started.elapsed().as_secs_f64() * 1e6 / count)
}

/// The gateway's part of an exchange, beside that of the crate `ohttp`.
fn exchanges(
    runs: u32,
    kem: Kem,
    theirs: ohttp::hpke::Kem,
    operation: &'static str,
) -> Result<Row, CommandError> {
    let mut rng = UnwrapErr(SysRng);
    let gateway = Gateway::generate(&mut rng);
    let list = decode_list(&gateway.key_configs()).map_err(failed)?;
    let of_kem = list.configs().iter().find(|config| config.kem() == kem);
    let client = of_kem.and_then(|config| Client::with_aead(config, Aead::ChaCha20Poly1305));
    let client = client.ok_or_else(|| failed("the gateway offers no such key"))?;
    let suite = ohttp::SymmetricSuite::new(
        ohttp::hpke::Kdf::HkdfSha256,
        ohttp::hpke::Aead::ChaCha20Poly1305,
    );
    let config = ohttp::KeyConfig::new(1, theirs, vec![suite]).map_err(failed)?;
    let their_list = ohttp::KeyConfig::encode_list(&[&config]).map_err(failed)?;
    let server = ohttp::Server::new(config).map_err(failed)?;
    let message = [7; MESSAGE_BYTES];
    let (mut ours_us, mut theirs_us) = (Vec::new(), Vec::new());
    for _ in 0..runs {
        let sealed: Result<Vec<_>, _> = (0..EXCHANGES)
            .map(|_| client.encapsulate(&mut rng, &message))
            .collect();
        ours_us.push(us_each(sealed.map_err(failed)?, |(sealed, _)| {
            let (_, sealer) = gateway.decapsulate(&sealed)?;
            std::hint::black_box(sealer.seal(&mut rng, &message));
            Ok::<_, cloister_protocol::ohttp::OhttpError>(())
        })?);
        let sealed: Result<Vec<_>, _> = (0..EXCHANGES)
            .map(|_| {
                ohttp::ClientRequest::from_encoded_config_list(&their_list)?.encapsulate(&message)
            })
            .collect();
        theirs_us.push(us_each(sealed.map_err(failed)?, |(sealed, _)| {
            let (_, sealer) = server.decapsulate(&sealed)?;
            std::hint::black_box(sealer.encapsulate(&message)?);
            Ok::<_, ohttp::Error>(())
        })?);
    }
    Ok(Row {
        operation,
        us: median(ours_us).unwrap_or_default(),
        peers: vec![Peer {
            name: "the crate ohttp".to_owned(),
            us: median(theirs_us).unwrap_or_default(),
        }],
    })
}

/// A token and the key that signed it.
fn token() -> Result<(TokenKey, Token), CommandError> {
    let mut rng = UnwrapErr(SysRng);
    let issuer = IssuerKey::generate(&mut rng).map_err(failed)?;
    let challenge = TokenChallenge::new("issuer.example", None, "").map_err(failed)?;
    let pending = Pending::new(issuer.public(), &challenge, &mut rng);
    let (request, pending) = pending.ok_or_else(|| failed("the issuer's key is unusable"))?;
    let response = issuer.issue(&request, &mut rng).map_err(failed)?;
    let token = pending.finalize(&response).map_err(failed)?;
    Ok((issuer.public().clone(), token))
}

/// The check of a token's signature, beside the crate `rsa` and, where there is one, OpenSSL.
fn token_checks(runs: u32) -> Result<Row, CommandError> {
    let (key, token) = token()?;
    let public = key
        .rsa()
        .ok_or_else(|| failed("the issuer's key is unusable"))?;
    let verifier = VerifyingKey::<Sha384>::new(public);
    let signature = Signature::try_from(&token.authenticator[..]).map_err(failed)?;
    let input = token.input();
    let (mut ours_us, mut theirs_us, mut openssl_us) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..runs {
        ours_us.push(us_each(vec![(); CHECKS], |()| {
            let signed = key.has_signed(&token);
            signed
                .then_some(())
                .ok_or("a token that was just issued is refused")
        })?);
        theirs_us.push(us_each(vec![(); CHECKS], |()| {
            verifier.verify(&input, &signature)
        })?);
        openssl_us.extend(openssl_verify_us());
    }
    let others = [
        ("the crate rsa", median(theirs_us)),
        ("OpenSSL's RSA-2048 alone, without PSS", median(openssl_us)),
    ];
    let measured = others.into_iter().filter_map(|(name, us)| {
        let name = name.to_owned();
        Some(Peer { name, us: us? })
    });
    Ok(Row {
        operation: "token checked",
        us: median(ours_us).unwrap_or_default(),
        peers: measured.collect(),
    })
}

/// Microseconds of one verification by `openssl speed`; `None` without OpenSSL.
fn openssl_verify_us() -> Option<f64> {
    let arguments = ["speed", "-seconds", "1", "-mr", "rsa2048"];
    let output = Command::new("openssl").args(arguments).output().ok()?;
    verify_us_in(&String::from_utf8_lossy(&output.stdout))
}

/// The last number of the line `+F2:2:2048:SIGNATURES PER SECOND:VERIFICATIONS PER SECOND`.
fn verify_us_in(output: &str) -> Option<f64> {
    let line = output.lines().find(|line| line.starts_with("+F2:"))?;
    let per_s: f64 = line.split(':').nth(4)?.parse().ok()?;
    (per_s > 1.0).then(|| 1e6 / per_s)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_openssl_is_read() {
        let output = "+R2:1:rsa2048:1.00\n+F2:2:2048:4115.068493:62500.000000\n";
        assert_eq!(verify_us_in(output), Some(16.0));
        assert_eq!(verify_us_in("+F2:2:2048:4115.068493"), None);
        assert_eq!(verify_us_in("+F2:2:2048:4115.0:0.0"), None);
        assert_eq!(verify_us_in(""), None);
    }

    #[test]
    fn a_token_that_is_measured_is_valid() {
        let (key, token) = token().unwrap();
        assert!(key.has_signed(&token));
    }
}
