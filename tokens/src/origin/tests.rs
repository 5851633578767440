use super::*;
use crate::field::write_token;
use crate::issuer::IssuerKey;
use crate::request::Pending;
use crate::token::Token;
use cloister_protocol::test_rng::TestRng;
use std::string::ToString;

const SMALL: Limits = Limits {
    period_ms: 1000,
    capacity: 8,
};

struct World {
    issuer: IssuerKey,
    origin: Origin,
    rng: TestRng,
}

impl World {
    fn new(limits: Limits) -> Self {
        let issuer = crate::request::tests::a_key();
        let mut rng = TestRng(5);
        let origin = Origin::new(named(&issuer), limits, &mut rng, 0).unwrap();
        Self {
            issuer,
            origin,
            rng,
        }
    }

    /// A token for the challenge of now.
    fn token(&mut self) -> Token {
        let Offer {
            challenge,
            token_key,
            ..
        } = self.origin.offer(0);
        self.token_for(&challenge, &token_key)
    }

    fn token_for(&mut self, challenge: &TokenChallenge, key: &TokenKey) -> Token {
        let (request, pending) = Pending::new(key, challenge, &mut self.rng).unwrap();
        let response = self.issuer.issue(&request, &mut self.rng).unwrap();
        pending.finalize(&response).unwrap()
    }

    fn check(&self, token: &Token) -> Result<Unspent, Refusal> {
        self.origin.check(Some(write_token(token).as_bytes()))
    }

    fn redeem(&mut self, token: &Token) -> Result<(), Refusal> {
        let unspent = self.check(token)?;
        self.origin.spend(unspent)
    }

    fn tick(&mut self, now_ms: u64) {
        self.origin.tick(&mut self.rng, now_ms);
    }
}

fn named(issuer: &IssuerKey) -> Issuer {
    Issuer {
        name: "issuer.example".to_string(),
        token_key: issuer.public().clone(),
        origin_info: "cloister.example".to_string(),
    }
}

#[test]
fn a_token_is_good_once() {
    let mut world = World::new(SMALL);
    let token = world.token();
    assert_eq!(world.redeem(&token), Ok(()));
    assert_eq!(world.redeem(&token), Err(Refusal::Spent));
    let another = world.token();
    assert_eq!(world.redeem(&another), Ok(()));
}

#[test]
fn a_token_that_was_only_judged_is_not_spent() {
    let mut world = World::new(SMALL);
    let token = world.token();
    drop(world.check(&token).unwrap());
    // Twice judged at one time, it is spent once.
    let (first, second) = (world.check(&token).unwrap(), world.check(&token).unwrap());
    assert_eq!(world.origin.spend(first), Ok(()));
    assert_eq!(world.origin.spend(second), Err(Refusal::Spent));
}

#[test]
fn every_altered_byte_is_refused() {
    let mut world = World::new(SMALL);
    let token = world.token();
    let bytes = token.encode();
    for at in 0..bytes.len() {
        let mut altered = bytes.clone();
        altered[at] ^= 1;
        let field = match Token::decode(&altered) {
            Some(token) => write_token(&token),
            None => {
                assert!(at < 2, "only the type is looked at by the decoder");
                continue;
            }
        };
        let expected = match at {
            2..34 => Refusal::Signature,
            34..66 => Refusal::OtherChallenge,
            66..98 => Refusal::OtherKey,
            _ => Refusal::Signature,
        };
        let refusal = world.origin.check(Some(field.as_bytes())).unwrap_err();
        assert_eq!(refusal, expected, "{at}");
    }
    assert_eq!(world.origin.check(None).unwrap_err(), Refusal::Missing);
    let refusal = world.origin.check(Some(b"Bearer x")).unwrap_err();
    assert_eq!(refusal, Refusal::Field(FieldError::Scheme));
    assert_eq!(world.redeem(&token), Ok(()));
}

#[test]
fn another_key_another_challenge() {
    let mut world = World::new(SMALL);
    let offer = world.origin.offer(0);
    let info = offer.challenge.origin_info();
    let context = offer.challenge.redemption_context().copied();
    let key = offer.token_key.clone();
    for challenge in [
        TokenChallenge::new("issuer.example", None, info).unwrap(),
        TokenChallenge::new("issuer.example", Some([1; 32]), info).unwrap(),
        TokenChallenge::new("issuer.example", context, "other.example").unwrap(),
        TokenChallenge::new("other.example", context, info).unwrap(),
    ] {
        let token = world.token_for(&challenge, &key);
        assert_eq!(world.redeem(&token), Err(Refusal::OtherChallenge));
    }
    let other = IssuerKey::generate(&mut TestRng(77)).unwrap();
    let ours = core::mem::replace(&mut world.issuer, other);
    let other_key = world.issuer.public().clone();
    let mut token = world.token_for(&offer.challenge, &other_key);
    assert_eq!(world.redeem(&token), Err(Refusal::OtherKey));
    // It claims to be of the right key.
    token.token_key_id = *ours.public().id();
    assert_eq!(world.redeem(&token), Err(Refusal::Signature));
}

#[test]
fn no_token_is_spent_twice_across_periods() {
    let mut world = World::new(SMALL);
    let (early, late) = (world.token(), world.token());
    assert_eq!(world.origin.offer(0).max_age_s, Some(2));
    assert_eq!(world.redeem(&early), Ok(()));
    world.tick(999);
    let before = world.origin.offer(999);
    world.tick(1000);
    assert_ne!(world.origin.offer(1000).challenge, before.challenge);
    // The last period's challenge is still good, and what was spent then still is.
    assert_eq!(world.redeem(&early), Err(Refusal::Spent));
    assert_eq!(world.redeem(&late), Ok(()));
    assert_eq!(world.redeem(&late), Err(Refusal::Spent));
    let held = world.token();
    world.tick(2000);
    // Now it is forgotten, and with it the challenge.
    for token in [&early, &late] {
        assert_eq!(world.redeem(token), Err(Refusal::OtherChallenge));
    }
    assert_eq!(world.redeem(&held), Ok(()));
    world.tick(3000);
    assert_eq!(world.redeem(&held), Err(Refusal::OtherChallenge));
}

#[test]
fn a_judged_token_whose_period_ends_is_not_spent_in_another() {
    let mut world = World::new(SMALL);
    let token = world.token();
    let unspent = world.check(&token).unwrap();
    world.tick(1000);
    world.tick(2000);
    assert_eq!(world.origin.spend(unspent), Err(Refusal::OtherChallenge));
}

#[test]
fn a_full_set_refuses_and_a_busy_period_ends_early() {
    let mut world = World::new(SMALL);
    let held = world.token();
    for _ in 0..SMALL.capacity {
        let token = world.token();
        assert_eq!(world.redeem(&token), Ok(()));
    }
    assert_eq!(world.redeem(&held), Err(Refusal::Full));
    assert_eq!(
        world.redeem(&held),
        Err(Refusal::Full),
        "it is not taken for spent"
    );
    let full = world.origin.offer(1);
    world.tick(1);
    assert_ne!(world.origin.offer(1).challenge, full.challenge);
    assert_eq!(
        world.redeem(&held),
        Err(Refusal::Full),
        "of the last period"
    );
    let fresh = world.token();
    assert_eq!(world.redeem(&fresh), Ok(()));
    world.tick(2);
    assert_eq!(
        world.redeem(&fresh),
        Err(Refusal::Spent),
        "one token is no reason to end a period"
    );
}

#[test]
fn half_of_a_period_is_kept_for_those_who_hold_its_tokens() {
    let mut world = World::new(SMALL);
    let held: Vec<Token> = (0..4).map(|_| world.token()).collect();
    for _ in 0..4 {
        let token = world.token();
        assert_eq!(world.redeem(&token), Ok(()));
    }
    world.tick(1);
    for token in &held {
        assert_eq!(world.redeem(token), Ok(()));
    }
}

#[test]
fn a_restart_takes_no_token_of_before() {
    let mut world = World::new(SMALL);
    let (spent, unspent) = (world.token(), world.token());
    assert_eq!(world.redeem(&spent), Ok(()));
    world.origin = Origin::new(named(&world.issuer), SMALL, &mut TestRng(6), 0).unwrap();
    for token in [&spent, &unspent] {
        assert_eq!(world.redeem(token), Err(Refusal::OtherChallenge));
    }
}

#[test]
fn the_memory_has_a_bound() {
    assert_eq!(Limits::DEFAULT.memory_bytes(), 4 << 20);
    let mut world = World::new(SMALL);
    world.origin.issuer.name.clear();
    let issuer = world.origin.issuer.clone();
    let outcome = Origin::new(issuer, SMALL, &mut TestRng(1), 0);
    assert_eq!(outcome.map(drop), Err(ChallengeError::IssuerName));
}

#[test]
fn an_issuer_is_named_in_a_file() {
    use crate::description::DescriptionError;
    let issuer = named(&crate::request::tests::a_key());
    let text = issuer.to_json();
    assert_eq!(Issuer::from_json(text.as_bytes()), Ok(issuer));
    let outcome = |text: String| Issuer::from_json(text.as_bytes());
    assert!(matches!(
        outcome(text.replace("issuer\"", "isuer\"")),
        Err(DescriptionError::Json(_))
    ));
    assert!(matches!(
        outcome(text.replace("issuer.example", "")),
        Err(DescriptionError::Name(_))
    ));
    assert!(matches!(
        outcome(text.replace("MIIB", "MIIC")),
        Err(DescriptionError::Key(_))
    ));
    assert_eq!(
        outcome(text + &" ".repeat(9000)),
        Err(DescriptionError::TooLarge)
    );
}
