//! Tokens from the client's side: every byte goes through the card in software, TCP, HTTP and the encapsulation.

use std::string::String;
use std::sync::OnceLock;
use std::vec::Vec;

use cloister_boot::manifest::TokenIssuer;
use cloister_protocol::api::problem::{self as kinds, Problem};
use cloister_protocol::api::{media, paths};
use cloister_protocol::bhttp;
use cloister_tokens::Token;
use cloister_tokens::field::{Offer, read_offers, write_token};
use cloister_tokens::issuer::IssuerKey;
use cloister_tokens::origin::Limits;
use cloister_tokens::request::Pending;

use super::Gate;
use crate::entropy::Drbg;
use crate::service::jobs::{MAX_RUNNING, MAX_WAITING};
use crate::service::testing::{World, open, problem, summarize};

const LIMITS: Limits = Limits {
    period_ms: 60_000,
    capacity: 64,
};

fn issuer() -> &'static IssuerKey {
    static KEY: OnceLock<IssuerKey> = OnceLock::new();
    KEY.get_or_init(|| IssuerKey::generate(&mut Drbg::from_seed([3; 32])).unwrap())
}

fn named() -> TokenIssuer {
    TokenIssuer {
        name: "issuer.example".into(),
        token_key: issuer().public().spki().to_vec(),
        origin_info: "cloister.example".into(),
    }
}

fn world(limits: Limits) -> World {
    let gate = Gate::new(Some(&named()), limits, &mut Drbg::from_seed([4; 32]), 0).unwrap();
    World::with_gate(true, gate)
}

/// The challenge in a refusal, which has the status 401 and this kind.
fn offer(refusal: &bhttp::Response, kind: &str) -> Offer {
    let (status, problem) = problem(refusal);
    assert_eq!((status, problem.kind.as_str()), (401, kind), "{problem:?}");
    let field = refusal.field("www-authenticate").expect("a challenge");
    let offers = read_offers(field).unwrap();
    assert_eq!(offers.len(), 1);
    offers[0].clone()
}

/// What a client without a token is told.
fn challenge(world: &mut World) -> Offer {
    offer(&world.ask(&summarize("hello", 1)), kinds::TOKEN_REQUIRED)
}

fn token(offer: &Offer, seed: u8) -> Token {
    let mut rng = Drbg::from_seed([seed; 32]);
    let (request, pending) = Pending::new(&offer.token_key, &offer.challenge, &mut rng).unwrap();
    pending
        .finalize(&issuer().issue(&request, &mut rng).unwrap())
        .unwrap()
}

fn with(request: bhttp::Request, token: &Token) -> bhttp::Request {
    request
        .with_header("authorization", write_token(token))
        .unwrap()
}

#[test]
fn without_an_issuer_everybody_is_served() {
    let mut world = World::new();
    assert_eq!(world.ask(&summarize("hello", 1)).status, 200);
    let strange = summarize("hello", 1).with_header("authorization", "PrivateToken token=x");
    assert_eq!(world.ask(&strange.unwrap()).status, 200);
}

#[test]
fn a_token_lets_one_request_in() {
    let mut world = world(LIMITS);
    let offer_of_now = challenge(&mut world);
    assert_eq!(offer_of_now.challenge.issuer_name(), "issuer.example");
    assert_eq!(offer_of_now.challenge.origin_info(), "cloister.example");
    assert_eq!(offer_of_now.max_age_s.map(|s| s > 110), Some(true));
    assert_eq!(
        world.server.metrics().jobs_queued,
        0,
        "nothing was done for it"
    );
    let token = token(&offer_of_now, 1);
    let request = with(summarize("hello", 1), &token);
    assert_eq!(world.ask(&request).status, 200);
    let again = world.ask(&request);
    assert_eq!(
        offer(&again, kinds::TOKEN_SPENT).challenge,
        offer_of_now.challenge
    );
    let metrics = world.server.metrics();
    assert_eq!((metrics.jobs_queued, metrics.tokens_refused), (1, 2));
}

#[test]
fn what_makes_no_work_needs_no_token() {
    let mut world = world(LIMITS);
    assert_eq!(
        world.ask(&bhttp::Request::new("GET", paths::MODELS)).status,
        200
    );
    assert_eq!(
        world.ask(&bhttp::Request::new("GET", "/v1/other")).status,
        404
    );
    assert_eq!(world.get(paths::HEALTH).status, 200);
}

#[test]
fn tokens_that_are_not_taken() {
    let mut world = world(LIMITS);
    let offer_of_now = challenge(&mut world);
    let good = token(&offer_of_now, 1);
    let bytes = good.encode();
    for at in [2, 40, 70, 98, 200, 353] {
        let mut altered = bytes.clone();
        altered[at] ^= 1;
        let altered = Token::decode(&altered).unwrap();
        let answer = world.ask(&with(summarize("hello", 1), &altered));
        offer(&answer, kinds::TOKEN_INVALID);
    }
    for field in [
        "",
        "Bearer abc",
        "PrivateToken",
        "PrivateToken token=\"AAI=\"",
    ] {
        let request = summarize("hello", 1)
            .with_header("authorization", field)
            .unwrap();
        offer(&world.ask(&request), kinds::TOKEN_INVALID);
    }
    // The first field of two counts.
    let other = summarize("hello", 1)
        .with_header("authorization", "Basic x")
        .unwrap();
    offer(&world.ask(&with(other, &good)), kinds::TOKEN_INVALID);
    assert_eq!(world.server.metrics().jobs_queued, 0);
    assert_eq!(world.ask(&with(summarize("hello", 1), &good)).status, 200);
}

#[test]
fn without_a_token_not_even_the_content_is_read_and_with_one_a_bad_request_costs_nothing() {
    let mut world = world(LIMITS);
    let bad = |text: &str| {
        bhttp::Request::new("POST", paths::SUMMARIZE)
            .with_content(media::JSON, text.as_bytes().to_vec())
            .unwrap()
    };
    offer(&world.ask(&bad("not json")), kinds::TOKEN_REQUIRED);
    let token = token(&challenge(&mut world), 1);
    let answer = world.ask(&with(bad("not json"), &token));
    assert_eq!(problem(&answer).1.kind, kinds::INVALID_JSON);
    assert_eq!(problem(&world.ask(&with(bad("{}"), &token))).0, 422);
    assert_eq!(world.ask(&with(summarize("hello", 1), &token)).status, 200);
    offer(
        &world.ask(&with(summarize("hello", 1), &token)),
        kinds::TOKEN_SPENT,
    );
}

#[test]
fn a_request_that_began_has_cost_its_token() {
    let mut world = world(LIMITS);
    let offer_of_now = challenge(&mut world);
    for (seed, text, status) in [(1, "refuse", 422), (2, "fail", 500)] {
        let request = with(summarize(text, 1), &token(&offer_of_now, seed));
        assert_eq!(problem(&world.ask(&request)).0, status);
        offer(&world.ask(&request), kinds::TOKEN_SPENT);
    }
}

/// Sends requests on connections of their own, all before an answer is read.
fn at_once(world: &mut World, requests: &[bhttp::Request]) -> Vec<bhttp::Response> {
    let keys = world.keys();
    let sent: Vec<_> = requests
        .iter()
        .map(|request| {
            let (bytes, opener) = world.encapsulate(&keys, request);
            let client = world.connect();
            world.lan.socket(client).send_slice(&bytes).unwrap();
            (client, opener)
        })
        .collect();
    sent.into_iter()
        .map(|(client, opener)| open(world.answer(client).unwrap(), opener))
        .collect()
}

#[test]
fn a_token_that_comes_many_times_at_one_time_is_spent_once() {
    let mut world = world(LIMITS);
    let token = token(&challenge(&mut world), 1);
    let request = with(summarize("hello", 50), &token);
    let answers = at_once(&mut world, &[(); 8].map(|()| request.clone()));
    let served = answers.iter().filter(|answer| answer.status == 200).count();
    let spent = answers.iter().filter(|answer| answer.status == 401).count();
    assert_eq!((served, spent), (1, 7));
    assert_eq!(world.server.metrics().jobs_queued, 1);
}

#[test]
fn a_request_that_finds_no_place_costs_nothing() {
    let mut world = world(Limits {
        capacity: 1000,
        ..LIMITS
    });
    let offer_of_now = challenge(&mut world);
    let keys = world.keys();
    world.room.set(0);
    for seed in 0..(MAX_RUNNING + MAX_WAITING) as u8 {
        let request = with(summarize("hello", 1), &token(&offer_of_now, seed));
        let (bytes, _) = world.encapsulate(&keys, &request);
        let client = world.connect();
        world.send(client, &bytes);
        world.turns(3);
    }
    let late = with(summarize("hello", 1), &token(&offer_of_now, 200));
    assert_eq!(problem(&world.ask(&late)).0, 429);
    assert_eq!(problem(&world.ask(&late)).0, 429, "it is still not spent");
    world.room.set(usize::MAX);
    world.turns(500);
    assert_eq!(world.ask(&late).status, 200);
    offer(&world.ask(&late), kinds::TOKEN_SPENT);
}

#[test]
fn periods_follow_each_other_and_no_token_is_good_twice() {
    let mut world = world(LIMITS);
    let first = challenge(&mut world);
    let (spent, held) = (token(&first, 1), token(&first, 2));
    assert_eq!(world.ask(&with(summarize("hello", 1), &spent)).status, 200);
    world.skip_s(61);
    let second = challenge(&mut world);
    assert_ne!(second.challenge, first.challenge);
    let answer = world.ask(&with(summarize("hello", 1), &spent));
    assert_eq!(
        offer(&answer, kinds::TOKEN_SPENT).challenge,
        second.challenge
    );
    assert_eq!(world.ask(&with(summarize("hello", 1), &held)).status, 200);
    world.skip_s(61);
    challenge(&mut world);
    for token in [&spent, &held] {
        offer(
            &world.ask(&with(summarize("hello", 1), token)),
            kinds::TOKEN_INVALID,
        );
    }
    assert_eq!(
        world
            .ask(&with(summarize("hello", 1), &token(&second, 3)))
            .status,
        200
    );
}

#[test]
fn when_half_of_a_period_is_spent_the_next_begins_and_holders_are_served_until_it_is_full() {
    let mut world = world(Limits {
        capacity: 4,
        ..LIMITS
    });
    let first = challenge(&mut world);
    let ask =
        |world: &mut World, seed| world.ask(&with(summarize("hello", 1), &token(&first, seed)));
    for seed in 0..4 {
        assert_eq!(ask(&mut world, seed).status, 200, "{seed}");
    }
    let refusal = ask(&mut world, 4);
    let detail: Problem = problem(&refusal).1;
    assert!(detail.detail.unwrap().contains("too many tokens"));
    let second = offer(&refusal, kinds::TOKEN_INVALID);
    assert_ne!(second.challenge, first.challenge);
    assert_eq!(
        world
            .ask(&with(summarize("hello", 1), &token(&second, 5)))
            .status,
        200
    );
}

#[test]
fn a_manifest_whose_key_is_none_gives_no_gate() {
    let mut issuer = named();
    issuer.token_key[3] ^= 1;
    let gate = Gate::new(Some(&issuer), LIMITS, &mut Drbg::from_seed([1; 32]), 0);
    let error: String = gate.map(drop).unwrap_err();
    assert!(error.contains("RFC 9578"), "{error}");
    let gate = Gate::new(None, LIMITS, &mut Drbg::from_seed([1; 32]), 0);
    assert!(gate.is_ok());
}
