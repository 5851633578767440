//! Random numbers with a seed (SplitMix64): the same on each run. For tests only.

use core::convert::Infallible;
use rand_core::{TryCryptoRng, TryRng};

#[derive(Clone, Debug)]
pub(crate) struct TestRng(pub u64);

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

    /// Alters bytes in one of the ways that files go wrong: a bit, a byte, a cut, a repetition.
    pub(crate) fn alter(&mut self, bytes: &mut Vec<u8>) {
        if bytes.is_empty() {
            return bytes.push(self.number() as u8);
        }
        let at = self.below(bytes.len());
        match self.below(8) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, self.number() as u8),
            2 => drop(bytes.remove(at)),
            3 => {
                let piece = bytes[at..(at + 32).min(bytes.len())].to_vec();
                let to = self.below(bytes.len());
                bytes.splice(to..to, piece);
            }
            4 => bytes[at] = [0, 0x7f, 0x80, 0xff][self.below(4)],
            _ => bytes[at] ^= 1 << self.below(8),
        }
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
