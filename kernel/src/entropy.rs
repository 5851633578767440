//! Random numbers: the processor's source, checked for health, seeds a ChaCha20 generator.
//!
//! Health checks after NIST SP 800-90B section 4.4, on the bytes of the source, which are taken to
//! hold at least 4 bits of entropy each (a very careful claim for RDSEED), with a false-alarm rate
//! of 2^-30. The generator rekeys itself after each request (fast key erasure), so that its state
//! tells nothing about earlier output.

use crate::platform::Platform;
use crate::stop::{self, Reason};
use chacha20::ChaCha20;
use chacha20::cipher::{KeyIvInit, StreamCipher};
use core::convert::Infallible;
use rand_core::{TryCryptoRng, TryRng};
use sha2::{Digest, Sha256};
use spin::Mutex;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// Repetition count: this many equal bytes in a row fail. 1 + ceil(30 / 4).
const REPETITION_CUTOFF: u32 = 9;
/// Adaptive proportion: size of the window in bytes, for a source that is not binary.
const PROPORTION_WINDOW: u32 = 512;
/// Adaptive proportion: this many bytes equal to the window's first one fail. One more than the
/// number of successes that 512 tries of probability 2^-4 exceed with probability 2^-30.
const PROPORTION_CUTOFF: u32 = 71;
/// Numbers of 64 bits that must pass before the first is used (1,024 bytes).
const STARTUP_SAMPLES: usize = 128;
/// Numbers of 64 bits in a later reseed.
const RESEED_SAMPLES: usize = 8;
/// Requests to the shared generator between reseeds.
const RESEED_INTERVAL: u32 = 1024;

/// Why there is no entropy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EntropyError {
    /// The processor has no source, or it gave nothing.
    NoSource,
    /// The same value came again and again.
    Repetition,
    /// One value came far too often.
    Proportion,
}

/// Runs the health checks over a stream of samples.
#[derive(Default)]
struct Health {
    last: Option<u8>,
    last_word: Option<u64>,
    repetitions: u32,
    window_first: u8,
    window_seen: u32,
    window_hits: u32,
}

impl Health {
    fn check(&mut self, sample: u64) -> Result<(), EntropyError> {
        // Broken processors have returned one constant for ever; two equal words in a row are a
        // false alarm once in 2^64.
        if self.last_word.replace(sample) == Some(sample) {
            return Err(EntropyError::Repetition);
        }
        sample
            .to_ne_bytes()
            .into_iter()
            .try_for_each(|byte| self.check_byte(byte))
    }

    fn check_byte(&mut self, byte: u8) -> Result<(), EntropyError> {
        self.repetitions = if self.last == Some(byte) {
            self.repetitions + 1
        } else {
            1
        };
        self.last = Some(byte);
        if self.repetitions >= REPETITION_CUTOFF {
            return Err(EntropyError::Repetition);
        }
        if self.window_seen == 0 {
            self.window_first = byte;
            self.window_hits = 0;
        }
        self.window_hits += u32::from(byte == self.window_first);
        self.window_seen = (self.window_seen + 1) % PROPORTION_WINDOW;
        if self.window_hits >= PROPORTION_CUTOFF {
            return Err(EntropyError::Proportion);
        }
        Ok(())
    }
}

/// A deterministic generator: ChaCha20 with a fresh key after every request.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct Drbg {
    key: [u8; 32],
}

impl Drbg {
    /// A generator whose output is fixed by `seed`.
    pub const fn from_seed(seed: [u8; 32]) -> Self {
        Self { key: seed }
    }

    /// A generator of its own, for one owner.
    pub fn fork(&mut self) -> Self {
        let mut key = [0; 32];
        self.fill(&mut key);
        Self { key }
    }

    /// Fills `output` with random bytes.
    pub fn fill(&mut self, output: &mut [u8]) {
        // The key is used once, so the nonce need not differ.
        let mut cipher = ChaCha20::new(&self.key.into(), &[0; 12].into());
        self.key.zeroize();
        cipher.apply_keystream(&mut self.key);
        output.fill(0);
        cipher.apply_keystream(output);
    }

    fn reseed(&mut self, samples: &[u64]) {
        let mut hash = Sha256::new();
        hash.update(b"cloister drbg v1");
        hash.update(self.key);
        for sample in samples {
            hash.update(sample.to_ne_bytes());
        }
        self.key = hash.finalize().into();
    }
}

impl TryRng for Drbg {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.fill(&mut bytes);
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.fill(&mut bytes);
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, output: &mut [u8]) -> Result<(), Infallible> {
        self.fill(output);
        Ok(())
    }
}

impl TryCryptoRng for Drbg {}

/// The guest's generator together with the source that it is reseeded from.
pub struct Source {
    platform: &'static dyn Platform,
    health: Health,
    drbg: Drbg,
    until_reseed: u32,
}

impl Source {
    /// Checks the source and seeds a generator from it.
    pub fn new(platform: &'static dyn Platform) -> Result<Self, EntropyError> {
        let drbg = Drbg::from_seed([0; 32]);
        let mut source = Self {
            platform,
            health: Health::default(),
            drbg,
            until_reseed: RESEED_INTERVAL,
        };
        source.absorb::<STARTUP_SAMPLES>()?;
        Ok(source)
    }

    /// A generator for one owner; fresh entropy goes in every so many calls.
    pub fn fork(&mut self) -> Result<Drbg, EntropyError> {
        if self.until_reseed == 0 {
            self.absorb::<RESEED_SAMPLES>()?;
            self.until_reseed = RESEED_INTERVAL;
        }
        self.until_reseed -= 1;
        Ok(self.drbg.fork())
    }

    fn absorb<const N: usize>(&mut self) -> Result<(), EntropyError> {
        let mut samples = [0; N];
        for sample in &mut samples {
            *sample = self
                .platform
                .hardware_random()
                .ok_or(EntropyError::NoSource)?;
            self.health.check(*sample)?;
        }
        self.drbg.reseed(&samples);
        samples.zeroize();
        Ok(())
    }
}

static SOURCE: Mutex<Option<Source>> = Mutex::new(None);

/// Installs the guest's source, for libraries that ask `getrandom` too.
pub fn install(source: Source) {
    *SOURCE.lock() = Some(source);
    getrandom::set_source(|output| with(|drbg| drbg.fill(output)));
}

/// Runs `use_generator` with a generator of its own. Ends the guest if there is no entropy.
pub fn with<R>(use_generator: impl FnOnce(&mut Drbg) -> R) -> R {
    use_generator(&mut fork())
}

/// A generator for one owner. Ends the guest if there is no entropy.
pub fn fork() -> Drbg {
    let forked = match SOURCE.lock().as_mut() {
        Some(source) => source.fork(),
        None => Err(EntropyError::NoSource),
    };
    match forked {
        Ok(drbg) => drbg,
        Err(error) => stop::stop(
            Reason::NoEntropy,
            format_args!("the processor's random numbers failed: {error:?}"),
        ),
    }
}

#[cfg(test)]
mod tests;
