use super::*;

fn mixed(count: u64) -> impl Iterator<Item = u64> {
    let mut drbg = Drbg::from_seed([3; 32]);
    (0..count).map(move |_| drbg.try_next_u64().unwrap())
}

#[test]
fn good_samples_pass_for_long() {
    let mut health = Health::default();
    assert!(mixed(200_000).all(|sample| health.check(sample).is_ok()));
}

#[test]
fn constants_fail() {
    for constant in [0, u64::MAX, 0x0123_4567_89ab_cdef] {
        let mut health = Health::default();
        let first = health.check(constant);
        assert!(first.is_err() || health.check(constant) == Err(EntropyError::Repetition));
    }
}

#[test]
fn equal_bytes_in_a_row_fail_at_the_cutoff() {
    let mut health = Health::default();
    for _ in 1..REPETITION_CUTOFF {
        assert_eq!(health.check_byte(5), Ok(()));
    }
    assert_eq!(health.check_byte(5), Err(EntropyError::Repetition));
}

#[test]
fn a_biased_source_fails() {
    let mut health = Health::default();
    let outcome = (0_u32..600).map(|i| if i % 4 == 0 { 7 } else { i.to_le_bytes()[0] });
    let failed = outcome
        .map(|byte| health.check_byte(byte))
        .find(Result::is_err);
    assert_eq!(failed, Some(Err(EntropyError::Proportion)));
}

/// The cutoff is the one that SP 800-90B section 4.4.2 defines: 1 + the smallest number that a
/// binomial variable stays at or below with probability 1 - 2^-30.
#[test]
fn the_proportion_cutoff_follows_from_the_claim() {
    let (tries, p) = (f64::from(PROPORTION_WINDOW), 1.0 / 16.0_f64);
    let mut term = (tries * (1.0 - p).ln()).exp();
    let mut at_or_below = term;
    let mut successes = 0.0;
    while at_or_below < 1.0 - 2.0_f64.powi(-30) {
        term *= (tries - successes) / (successes + 1.0) * p / (1.0 - p);
        successes += 1.0;
        at_or_below += term;
    }
    assert_eq!(f64::from(PROPORTION_CUTOFF), successes + 1.0);
}

#[test]
fn output_does_not_repeat_and_forks_differ() {
    let mut drbg = Drbg::from_seed([1; 32]);
    let mut first = [0; 64];
    let mut second = [0; 64];
    drbg.fill(&mut first);
    drbg.fill(&mut second);
    assert_ne!(first, second);
    assert_ne!(drbg.fork().key, drbg.fork().key);
}

#[test]
fn the_key_that_made_the_output_is_gone() {
    let mut drbg = Drbg::from_seed([1; 32]);
    drbg.fill(&mut [0; 1]);
    assert_ne!(drbg.key, [1; 32]);
}

/// RFC 8439 appendix A.1, test vectors 1 and 2: zero key, zero nonce, blocks 0 and 1. The first 32
/// bytes become the next key, the rest is output.
#[test]
fn the_stream_is_chacha20() {
    let mut drbg = Drbg::from_seed([0; 32]);
    let mut output = [0; 36];
    drbg.fill(&mut output);
    assert_eq!(drbg.key[..4], [0x76, 0xb8, 0xe0, 0xad]);
    assert_eq!(output[..4], [0xda, 0x41, 0x59, 0x7c]);
    assert_eq!(output[32..], [0x9f, 0x07, 0xe7, 0xbe]);
}
