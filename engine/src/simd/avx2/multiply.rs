//! Matrix products of packed weights and quantized activations.
//!
//! Unsigned weight bytes meet signed activations in `maddubs`, which adds neighbours in 16 bits. Weights with a zero
//! point take it off in the same 16 bits: the sum starts at minus the zero point times the activations' pair sums.
//! Sums over the groups named below then stay in range, whatever the order (16-bit additions wrap):
//!
//! | weights | groups | bound |
//! |---|---|---|
//! | 0..=15 | 8 | 15 * 127 * 2 * 8 = 30,480 |
//! | -8..=7 | 8 | 8 * 127 * 2 * 8 = 16,256 |
//! | -16..=15 | 8 | 16 * 127 * 2 * 8 = 32,512 |
//! | -32..=31 | 4 | 32 * 127 * 2 * 4 = 32,512 |
//!
//! Bytes are two nibbles, `16 * (high - 8) + low`, each summed on its own. A single `maddubs` never saturates:
//! 63 * 127 * 2 = 16,002.

use super::{load, store_i64};
use crate::layout::activations::{Activations, Scale};
use crate::layout::{BLOCK, Kind, Matrix, SUPER_BLOCK, TILE_ROWS, Tile, WIDE_SHIFT};
use crate::ops::scaled_f32;
use crate::simd::MAX_BLOCK_TOKENS;
use crate::workers::Columns;
use core::arch::x86_64::{
    __m256i, _mm_cvtsi32_si128, _mm_loadl_epi64, _mm_loadu_si128, _mm256_add_epi16,
    _mm256_add_epi32, _mm256_add_epi64, _mm256_and_si256, _mm256_cvtepi8_epi32,
    _mm256_cvtepi16_epi32, _mm256_cvtepu8_epi16, _mm256_cvtepu8_epi32, _mm256_madd_epi16,
    _mm256_maddubs_epi16, _mm256_mul_epi32, _mm256_mullo_epi32, _mm256_or_si256, _mm256_set1_epi8,
    _mm256_set1_epi16, _mm256_set1_epi32, _mm256_setzero_si256, _mm256_slli_epi16,
    _mm256_slli_epi32, _mm256_sra_epi32, _mm256_srai_epi32, _mm256_srli_epi16, _mm256_srli_epi64,
    _mm256_sub_epi16,
};
use core::ops::Range;

/// 64-bit sums of eight rows: rows 0, 2, 4, 6 and rows 1, 3, 5, 7.
type Wide = [__m256i; 2];

/// Fixed-point sums of a tile for each token, and those of the minima.
struct Sums {
    scaled: [Wide; MAX_BLOCK_TOKENS],
    mins: [Wide; MAX_BLOCK_TOKENS],
}

/// See [`crate::simd::Kernels::multiply`]; shapes are checked.
#[target_feature(enable = "avx2")]
pub(super) fn multiply(
    matrix: &Matrix<'_>,
    tiles: Range<usize>,
    activations: &Activations,
    mut out: Columns<'_, f32>,
) {
    let kind = matrix.kind();
    for (place, index) in tiles.enumerate() {
        let tile = matrix.tile(index);
        let zero = [_mm256_setzero_si256(); 2];
        let mut sums = Sums {
            scaled: [zero; MAX_BLOCK_TOKENS],
            mins: [zero; MAX_BLOCK_TOKENS],
        };
        match kind {
            Kind::Nibble => blocks::<{ Kind::Nibble as u8 }>(&tile, activations, &mut sums),
            Kind::NibbleMin => blocks::<{ Kind::NibbleMin as u8 }>(&tile, activations, &mut sums),
            Kind::Five => blocks::<{ Kind::Five as u8 }>(&tile, activations, &mut sums),
            Kind::Byte => blocks::<{ Kind::Byte as u8 }>(&tile, activations, &mut sums),
            Kind::NibbleSuper => super_blocks_of_nibbles(&tile, activations, &mut sums),
            Kind::SixSuper => super_blocks_of_six(&tile, activations, &mut sums),
            Kind::Wide => wide_blocks(&tile, activations, &mut sums),
        }
        finish(kind, &tile, activations, &sums, place, &mut out);
    }
}

/// Converts a tile's sums to f32: the rows of the tile at `place` among those of `out`.
#[target_feature(enable = "avx2")]
fn finish(
    kind: Kind,
    tile: &Tile<'_>,
    activations: &Activations,
    sums: &Sums,
    place: usize,
    out: &mut Columns<'_, f32>,
) {
    let wide = if kind == Kind::Wide {
        WIDE_SHIFT as i32
    } else {
        0
    };
    for (token, exponent) in activations.exponents.iter().enumerate() {
        let scaled = sums.scaled[token].map(|half| store_i64(half));
        let mins = sums.mins[token].map(|half| store_i64(half));
        let out = out.row(token)[place * TILE_ROWS..].iter_mut();
        for (lane, out) in out.take(TILE_ROWS).enumerate() {
            let exponents = [tile.exponents[0][lane], tile.exponents[1][lane]].map(i32::from);
            *out = scaled_f32(scaled[lane % 2][lane / 2], exponents[0] + exponent + wide);
            if kind.has_min() {
                *out += scaled_f32(mins[lane % 2][lane / 2], exponents[1] + exponent);
            }
        }
    }
}

/// Kinds with a scale for 32 columns.
#[target_feature(enable = "avx2")]
#[inline]
fn blocks<const KIND: u8>(tile: &Tile<'_>, activations: &Activations, sums: &mut Sums) {
    let count = activations.columns() / BLOCK;
    let bytes = match KIND {
        NIBBLE | NIBBLE_MIN => 128,
        FIVE => 160,
        _ => 256,
    };
    let quants = tile
        .quants
        .chunks_exact(bytes)
        .zip(tile.scales.as_chunks::<16>().0);
    for (block, (quants, scales)) in quants.enumerate().take(count) {
        let weights = unpack::<KIND>(quants);
        let scales = widen_i16(scales);
        let mins = if KIND == NIBBLE_MIN {
            widen_i16(&tile.mins.as_chunks::<16>().0[block])
        } else {
            scales
        };
        for token in 0..activations.tokens() {
            let at = token * count + block;
            let dot = dot::<KIND>(
                &weights,
                quants,
                &fours(activations, at),
                pair_sum(activations, at),
            );
            let unit = activations.scales[at];
            add_scaled(&mut sums.scaled[token], dot, combined(scales, unit));
            if KIND == NIBBLE_MIN {
                let sum = _mm256_set1_epi32(i32::from(activations.sums[at]));
                add_scaled(&mut sums.mins[token], sum, combined(mins, unit));
            }
        }
    }
}

const NIBBLE: u8 = Kind::Nibble as u8;
const NIBBLE_MIN: u8 = Kind::NibbleMin as u8;
const FIVE: u8 = Kind::Five as u8;
const BYTE: u8 = Kind::Byte as u8;

/// Weight vectors of the eight groups of a block; of bytes only the low nibbles.
#[target_feature(enable = "avx2")]
#[inline]
fn unpack<const KIND: u8>(quants: &[u8]) -> [__m256i; 8] {
    let vectors = quants.as_chunks::<32>().0;
    let mask = _mm256_set1_epi8(15);
    let mut weights = [_mm256_setzero_si256(); 8];
    if KIND == BYTE {
        for (weight, vector) in weights.iter_mut().zip(vectors) {
            *weight = _mm256_and_si256(load(vector), mask);
        }
        return weights;
    }
    for group in 0..4 {
        let vector = load(&vectors[group]);
        weights[group] = _mm256_and_si256(vector, mask);
        weights[group + 4] = _mm256_and_si256(_mm256_srli_epi16::<4>(vector), mask);
    }
    if KIND == FIVE {
        let plane = load(&vectors[4]);
        let bit = _mm256_set1_epi8(16);
        // Bit `group` of each byte moves to bit 4.
        let planes = [
            _mm256_slli_epi16::<4>(plane),
            _mm256_slli_epi16::<3>(plane),
            _mm256_slli_epi16::<2>(plane),
            _mm256_slli_epi16::<1>(plane),
            plane,
            _mm256_srli_epi16::<1>(plane),
            _mm256_srli_epi16::<2>(plane),
            _mm256_srli_epi16::<3>(plane),
        ];
        for (weight, plane) in weights.iter_mut().zip(planes) {
            *weight = _mm256_or_si256(*weight, _mm256_and_si256(plane, bit));
        }
    }
    weights
}

/// Dot products of one block with eight rows, zero points taken off.
#[target_feature(enable = "avx2")]
#[inline]
fn dot<const KIND: u8>(
    weights: &[__m256i; 8],
    quants: &[u8],
    fours: &[i32; 8],
    pair_sum: __m256i,
) -> __m256i {
    let start = match KIND {
        NIBBLE => negated(_mm256_slli_epi16::<3>(pair_sum)),
        FIVE => negated(_mm256_slli_epi16::<4>(pair_sum)),
        _ => _mm256_setzero_si256(),
    };
    let mut low = start;
    for (weight, four) in weights.iter().zip(fours) {
        low = _mm256_add_epi16(low, _mm256_maddubs_epi16(*weight, _mm256_set1_epi32(*four)));
    }
    let low = _mm256_madd_epi16(low, _mm256_set1_epi16(1));
    if KIND != BYTE {
        return low;
    }
    let mask = _mm256_set1_epi8(15);
    let mut high = negated(_mm256_slli_epi16::<3>(pair_sum));
    for (vector, four) in quants.as_chunks::<32>().0.iter().zip(fours) {
        let weight = _mm256_and_si256(_mm256_srli_epi16::<4>(load(vector)), mask);
        high = _mm256_add_epi16(high, _mm256_maddubs_epi16(weight, _mm256_set1_epi32(*four)));
    }
    _mm256_add_epi32(low, _mm256_madd_epi16(high, _mm256_set1_epi16(16)))
}

#[target_feature(enable = "avx2")]
#[inline]
fn negated(x: __m256i) -> __m256i {
    _mm256_sub_epi16(_mm256_setzero_si256(), x)
}

/// 4 bits, scales and minima for 256 columns with 6-bit factors for 32.
#[target_feature(enable = "avx2")]
fn super_blocks_of_nibbles(tile: &Tile<'_>, activations: &Activations, sums: &mut Sums) {
    const PARTS: usize = SUPER_BLOCK / BLOCK;
    let count = activations.columns() / SUPER_BLOCK;
    for block in 0..count {
        let mut dots = [_mm256_setzero_si256(); MAX_BLOCK_TOKENS];
        let mut mins = [_mm256_setzero_si256(); MAX_BLOCK_TOKENS];
        for part in block * PARTS..(block + 1) * PARTS {
            let weights = unpack::<NIBBLE_MIN>(&tile.quants[part * 128..][..128]);
            let factors = _mm256_cvtepu8_epi32(low_bytes(&tile.subscales[part * TILE_ROWS..]));
            let factors = twice(factors);
            // Factors of the minima of this part and the next, by row.
            let pair = part % 2 == 0;
            let submins = if pair {
                submin_pairs(&tile.submins[part * TILE_ROWS..])
            } else {
                factors
            };
            for token in 0..activations.tokens() {
                let at = token * count * PARTS + part;
                let sum16 = nibble_sums(&weights, &fours(activations, at));
                dots[token] = _mm256_add_epi32(dots[token], _mm256_madd_epi16(sum16, factors));
                if pair {
                    let two = two_i16(activations.sums[at], activations.sums[at + 1]);
                    mins[token] = _mm256_add_epi32(mins[token], _mm256_madd_epi16(submins, two));
                }
            }
        }
        let scales = widen_i16(&tile.scales.as_chunks::<16>().0[block]);
        let min_scales = widen_i16(&tile.mins.as_chunks::<16>().0[block]);
        for token in 0..activations.tokens() {
            let unit = activations.scales[token * count + block];
            add_scaled(&mut sums.scaled[token], dots[token], combined(scales, unit));
            add_scaled(
                &mut sums.mins[token],
                mins[token],
                combined(min_scales, unit),
            );
        }
    }
}

/// 16-bit sums of eight groups of nibbles, two for each row.
#[target_feature(enable = "avx2")]
#[inline]
fn nibble_sums(weights: &[__m256i; 8], fours: &[i32; 8]) -> __m256i {
    let mut sum = _mm256_setzero_si256();
    for (weight, four) in weights.iter().zip(fours) {
        sum = _mm256_add_epi16(sum, _mm256_maddubs_epi16(*weight, _mm256_set1_epi32(*four)));
    }
    sum
}

/// 6 bits, scales for 256 columns with 8-bit factors for 16.
#[target_feature(enable = "avx2")]
fn super_blocks_of_six(tile: &Tile<'_>, activations: &Activations, sums: &mut Sums) {
    const PARTS: usize = SUPER_BLOCK / BLOCK;
    let count = activations.columns() / SUPER_BLOCK;
    for block in 0..count {
        let mut dots = [_mm256_setzero_si256(); MAX_BLOCK_TOKENS];
        for part in block * PARTS..(block + 1) * PARTS {
            let weights = unpack_six(&tile.quants[part * 192..][..192]);
            let factors = |half: usize| {
                twice(_mm256_cvtepi8_epi32(low_bytes(
                    &tile.subscales[(part * 2 + half) * TILE_ROWS..],
                )))
            };
            let factors = [factors(0), factors(1)];
            for (token, dot) in dots.iter_mut().enumerate().take(activations.tokens()) {
                let at = token * count * PARTS + part;
                let fours = fours(activations, at);
                for (half, factors) in factors.iter().enumerate() {
                    let [first, second] = activations.pair_sums[at * 2 + half];
                    let mut sum = negated(_mm256_slli_epi16::<5>(two_i16(first, second)));
                    for group in half * 4..half * 4 + 4 {
                        let four = _mm256_set1_epi32(fours[group]);
                        sum = _mm256_add_epi16(sum, _mm256_maddubs_epi16(weights[group], four));
                    }
                    *dot = _mm256_add_epi32(*dot, _mm256_madd_epi16(sum, *factors));
                }
            }
        }
        let scales = widen_i16(&tile.scales.as_chunks::<16>().0[block]);
        for (token, dot) in dots.iter().enumerate().take(activations.tokens()) {
            let unit = activations.scales[token * count + block];
            add_scaled(&mut sums.scaled[token], *dot, combined(scales, unit));
        }
    }
}

/// Weight vectors of the eight groups: nibbles and two planes of high bits, groups 0 to 3 and 4 to 7.
#[target_feature(enable = "avx2")]
#[inline]
fn unpack_six(quants: &[u8]) -> [__m256i; 8] {
    let mut weights = unpack::<NIBBLE>(&quants[..128]);
    let bits = _mm256_set1_epi8(0x30);
    for (plane, weights) in quants[128..]
        .as_chunks::<32>()
        .0
        .iter()
        .zip(weights.as_chunks_mut::<4>().0)
    {
        let plane = load(plane);
        // Bits `2 * i` and above of each byte move to bits 4 and 5.
        let planes = [
            _mm256_slli_epi16::<4>(plane),
            _mm256_slli_epi16::<2>(plane),
            plane,
            _mm256_srli_epi16::<2>(plane),
        ];
        for (weight, plane) in weights.iter_mut().zip(planes) {
            *weight = _mm256_or_si256(*weight, _mm256_and_si256(plane, bits));
        }
    }
    weights
}

/// 14-bit weights and 12-bit activations.
#[target_feature(enable = "avx2")]
fn wide_blocks(tile: &Tile<'_>, activations: &Activations, sums: &mut Sums) {
    let count = activations.columns() / BLOCK;
    let quants = tile
        .quants
        .as_chunks::<512>()
        .0
        .iter()
        .zip(tile.scales.as_chunks::<16>().0);
    for (block, (quants, scales)) in quants.enumerate().take(count) {
        let scales = widen_i16(scales);
        for token in 0..activations.tokens() {
            let at = token * count + block;
            let mut dot = _mm256_setzero_si256();
            let pairs = activations.wide[at * BLOCK..][..BLOCK].as_chunks::<2>().0;
            for (vector, pair) in quants.as_chunks::<32>().0.iter().zip(pairs) {
                let products = _mm256_madd_epi16(load(vector), two_i16(pair[0], pair[1]));
                dot = _mm256_add_epi32(dot, products);
            }
            let scale = combined(scales, activations.scales[at]);
            add_scaled(
                &mut sums.scaled[token],
                dot,
                _mm256_srai_epi32::<{ WIDE_SHIFT as i32 }>(scale),
            );
        }
    }
}

/// The 32 activations of block `at` (counted over all tokens), four to a number.
#[target_feature(enable = "avx2")]
#[inline]
fn fours(activations: &Activations, at: usize) -> [i32; 8] {
    let quants = activations.quants[at * BLOCK..][..BLOCK].as_chunks::<4>().0;
    let mut fours = [0; 8];
    for (four, quants) in fours.iter_mut().zip(quants) {
        *four = i32::from_le_bytes(quants.map(i8::cast_unsigned));
    }
    fours
}

/// Pair sums of the 32 activations of block `at`, in every row's lane.
#[target_feature(enable = "avx2")]
#[inline]
fn pair_sum(activations: &Activations, at: usize) -> __m256i {
    let sums = &activations.pair_sums[at * 2..][..2];
    two_i16(sums[0][0] + sums[1][0], sums[0][1] + sums[1][1])
}

/// Two numbers in every 32-bit lane, the first one low.
#[target_feature(enable = "avx2")]
#[inline]
fn two_i16(first: i16, second: i16) -> __m256i {
    let pair = u32::from(second.cast_unsigned()) << 16 | u32::from(first.cast_unsigned());
    _mm256_set1_epi32(pair.cast_signed())
}

/// The low half of each 32-bit lane in both halves.
#[target_feature(enable = "avx2")]
#[inline]
fn twice(x: __m256i) -> __m256i {
    let low = _mm256_and_si256(x, _mm256_set1_epi32(0xffff));
    _mm256_or_si256(low, _mm256_slli_epi32::<16>(x))
}

/// The first eight bytes, in the low half of a vector.
#[target_feature(enable = "avx2")]
#[inline]
fn low_bytes(bytes: &[u8]) -> core::arch::x86_64::__m128i {
    let bytes: &[u8] = &bytes[..8];
    // SAFETY: the slice has the 8 bytes that are read; any alignment is allowed.
    unsafe { _mm_loadl_epi64(bytes.as_ptr().cast()) }
}

/// 16 bytes as unsigned numbers: two factors for each row.
#[target_feature(enable = "avx2")]
#[inline]
fn submin_pairs(bytes: &[u8]) -> __m256i {
    let bytes: &[u8] = &bytes[..16];
    // SAFETY: the slice has the 16 bytes that are read; any alignment is allowed.
    _mm256_cvtepu8_epi16(unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) })
}

/// Eight little-endian i16 as 32-bit lanes.
#[target_feature(enable = "avx2")]
#[inline]
fn widen_i16(bytes: &[u8; 16]) -> __m256i {
    // SAFETY: the reference covers the 16 bytes that are read; any alignment is allowed.
    _mm256_cvtepi16_epi32(unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) })
}

/// [`Scale::times`] for eight rows.
#[target_feature(enable = "avx2")]
#[inline]
fn combined(scales: __m256i, unit: Scale) -> __m256i {
    let product = _mm256_mullo_epi32(scales, _mm256_set1_epi32(unit.mantissa));
    _mm256_sra_epi32(product, _mm_cvtsi32_si128(unit.shift as i32))
}

/// `sums += dots * scales`, in 64 bits.
#[target_feature(enable = "avx2")]
#[inline]
fn add_scaled(sums: &mut Wide, dots: __m256i, scales: __m256i) {
    let even = _mm256_mul_epi32(dots, scales);
    let odd = _mm256_mul_epi32(
        _mm256_srli_epi64::<32>(dots),
        _mm256_srli_epi64::<32>(scales),
    );
    sums[0] = _mm256_add_epi64(sums[0], even);
    sums[1] = _mm256_add_epi64(sums[1], odd);
}
