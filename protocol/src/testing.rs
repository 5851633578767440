//! What tests of several modules share: hex, random numbers that repeat, alterations.

pub(crate) use crate::test_rng::TestRng;
use core::convert::Infallible;
use rand_core::{TryCryptoRng, TryRng};

/// Bytes of a hex string; white space is skipped.
pub(crate) fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u32> = text
        .chars()
        .filter(|c| !c.is_whitespace())
        .map(|c| c.to_digit(16).unwrap())
        .collect();
    assert_eq!(digits.len() % 2, 0);
    digits
        .chunks(2)
        .map(|pair| (pair[0] * 16 + pair[1]) as u8)
        .collect()
}

/// A generator that hands out given bytes and panics when they run out: for known-answer tests.
#[derive(Clone, Debug)]
pub(crate) struct ScriptedRng(pub(crate) Vec<u8>);

impl TryRng for ScriptedRng {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        unreachable!("known-answer tests draw bytes only")
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        unreachable!("known-answer tests draw bytes only")
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Infallible> {
        let rest = self.0.split_off(out.len());
        out.copy_from_slice(&self.0);
        self.0 = rest;
        Ok(())
    }
}

impl TryCryptoRng for ScriptedRng {}

/// Feeds `check` with random alterations of `valid`: flipped bits, changed, removed, repeated and inserted bytes.
/// The check itself only has to return; what it proves is that nothing panics.
pub(crate) fn mutate(valid: &[u8], rounds: usize, mut check: impl FnMut(&[u8])) {
    let mut rng = TestRng(valid.len() as u64);
    for _ in 0..rounds {
        let mut bytes = valid.to_vec();
        for _ in 0..=rng.below(3) {
            rng.alter(&mut bytes);
        }
        check(&bytes);
    }
}
