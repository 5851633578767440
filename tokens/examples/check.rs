//! How long the origin's check of a token takes on this machine: `cargo run --release --features host --example check`.
//! The same operation in OpenSSL is the verification of `openssl speed rsa2048`.

use std::time::Instant;

use cloister_protocol::test_rng::TestRng;
use cloister_tokens::field::write_token;
use cloister_tokens::issuer::IssuerKey;
use cloister_tokens::origin::{Issuer, Limits, Origin};
use cloister_tokens::request::Pending;

const ROUNDS: u32 = 20_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut rng = TestRng(1);
    let key = IssuerKey::generate(&mut rng)?;
    let issuer = Issuer {
        name: "issuer.example".into(),
        token_key: key.public().clone(),
        origin_info: String::new(),
    };
    let origin = Origin::new(issuer, Limits::DEFAULT, &mut rng, 0)?;
    let offer = origin.offer(0);
    let begun = Pending::new(&offer.token_key, &offer.challenge, &mut rng);
    let (request, pending) = begun.ok_or("the key is none")?;
    let started = Instant::now();
    let response = key.issue(&request, &mut rng)?;
    println!("issue: {:.1} us", started.elapsed().as_secs_f64() * 1e6);
    let token = pending.finalize(&response)?;
    let field = write_token(&token);
    time("signature", || key.public().has_signed(&token));
    time("whole check", || {
        origin.check(Some(field.as_bytes())).is_ok()
    });
    Ok(())
}

fn time(name: &str, check: impl Fn() -> bool) {
    let started = Instant::now();
    let good = (0..ROUNDS).filter(|_| check()).count();
    let each_us = started.elapsed().as_secs_f64() * 1e6 / f64::from(ROUNDS);
    println!("{name}: {each_us:.1} us each, {good} of {ROUNDS} good");
}
