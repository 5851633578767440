//! How fast this machine's memory can be read: what bounds the writing of tokens, each of which reads all weights.

use std::io;
use std::time::Instant;

use memmap2::{Advice, MmapMut};

/// Far more than any cache holds.
const BUFFER_BYTES: usize = 1 << 30;
/// Bytes that one stream reads before the next one's turn.
const STRIDE_BYTES: usize = 4096;
/// Sums side by side, so that no addition waits for the one before: few enough to stay in registers.
const LANES: usize = 16;
/// Streams of one thread; which number is best differs between machines.
const STREAMS: [usize; 3] = [1, 2, 4];
/// Passes with each number of streams.
const PASSES: usize = 2;

/// Anonymous memory that the system is asked to back with huge pages, as weights have in the guest.
pub(super) fn huge_buffer(bytes: usize) -> io::Result<MmapMut> {
    let buffer = MmapMut::map_anon(bytes)?;
    // Refused where the kernel has none: the buffer then has small pages.
    let _ = buffer.advise(Advice::HugePage);
    Ok(buffer)
}

/// A buffer to read, in memory already.
pub(super) struct Reader {
    buffer: MmapMut,
    threads: usize,
}

impl Reader {
    pub(super) fn new(threads: usize) -> io::Result<Self> {
        let mut buffer = huge_buffer(BUFFER_BYTES)?;
        buffer.fill(1);
        Ok(Self { buffer, threads })
    }

    /// The best of a few passes, in bytes per second.
    pub(super) fn measure(&self) -> f64 {
        let passes = STREAMS
            .iter()
            .flat_map(|&streams| (0..PASSES).map(move |_| streams));
        passes.map(|streams| self.pass(streams)).fold(0.0, f64::max)
    }

    fn pass(&self, streams: usize) -> f64 {
        let part = BUFFER_BYTES / self.threads / STRIDE_BYTES * STRIDE_BYTES;
        let parts = self.buffer.chunks_exact(part).take(self.threads);
        let started = Instant::now();
        std::thread::scope(|scope| {
            let mut parts = parts;
            let own = parts.next();
            for part in parts {
                scope.spawn(move || std::hint::black_box(sum(part, streams)));
            }
            std::hint::black_box(own.map(|part| sum(part, streams)));
        });
        (part * self.threads) as f64 / started.elapsed().as_secs_f64()
    }
}

/// Reads all of `bytes`, in as many places at a time as there are streams.
fn sum(bytes: &[u8], streams: usize) -> u64 {
    let stream_bytes = bytes.len() / streams / STRIDE_BYTES * STRIDE_BYTES;
    let mut sums = [0_u64; LANES];
    for offset in (0..stream_bytes).step_by(STRIDE_BYTES) {
        for stream in 0..streams {
            let start = stream * stream_bytes + offset;
            add(&bytes[start..start + STRIDE_BYTES], &mut sums);
        }
    }
    for rest in bytes[streams * stream_bytes..].chunks_exact(STRIDE_BYTES) {
        add(rest, &mut sums);
    }
    sums.iter().fold(0, |sum, &lane| sum.wrapping_add(lane))
}

#[inline]
fn add(bytes: &[u8], sums: &mut [u64; LANES]) {
    let (blocks, _) = bytes.as_chunks::<{ LANES * 8 }>();
    for block in blocks {
        let (words, _) = block.as_chunks::<8>();
        for (sum, word) in sums.iter_mut().zip(words) {
            *sum = sum.wrapping_add(u64::from_le_bytes(*word));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_read_once() {
        let bytes = vec![1; 13 * STRIDE_BYTES];
        let words = (bytes.len() / 8) as u64;
        for streams in STREAMS {
            assert_eq!(
                sum(&bytes, streams),
                words.wrapping_mul(0x0101_0101_0101_0101),
                "{streams}"
            );
        }
    }
}
