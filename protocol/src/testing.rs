//! What tests of several modules share: hex, and random numbers that repeat.

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

/// A generator with a seed (SplitMix64): the same numbers on each run. For tests only.
#[derive(Clone, Debug)]
pub(crate) struct TestRng(pub(crate) u64);

impl TestRng {
    pub(crate) fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.number() % bound as u64) as usize
    }
}

impl TryRng for TestRng {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(self.number() as u32)
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(self.number())
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Infallible> {
        for chunk in out.chunks_mut(8) {
            chunk.copy_from_slice(&self.number().to_le_bytes()[..chunk.len()]);
        }
        Ok(())
    }
}

impl TryCryptoRng for TestRng {}

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
            alter(&mut bytes, &mut rng);
        }
        check(&bytes);
    }
}

fn alter(bytes: &mut Vec<u8>, rng: &mut TestRng) {
    let at = rng.below(bytes.len().max(1));
    match rng.below(6) {
        _ if bytes.is_empty() => bytes.push(rng.number() as u8),
        0 => bytes[at] ^= 1 << rng.below(8),
        1 => bytes[at] = [0, 0x3f, 0x40, 0x7f, 0x80, 0xc0, 0xff][rng.below(7)],
        2 => drop(bytes.remove(at)),
        3 => bytes.truncate(at),
        4 => bytes.insert(at, rng.number() as u8),
        _ => {
            let end = (at + 1 + rng.below(8)).min(bytes.len());
            bytes.extend_from_within(at..end);
        }
    }
}
