//! Inner loops in plain Rust: the definition that other sets are tested against.

use super::{Kernels, MAX_BLOCK_TOKENS, QUERY_SPLIT_BITS, Query, SCORE_LIMIT, Softened, tiles_of};
use crate::layout::activations::{Activations, BlockMut, PARTS, QuantSums, ROUND, Rule};
use crate::layout::{
    BLOCK, Kind, Matrix, ROUND_SHIFT, TILE_ROWS, Tile, WIDE_SHIFT, block_quants, i16_at,
    mul_round16, offset, pair_index, subscales,
};
use crate::ops::{self, SUMS, scaled_f32};
use crate::workers::Columns;

pub(super) static KERNELS: Kernels = Kernels {
    name: "portable",
    multiply,
    scores,
    soften,
    weigh,
    quantize,
    swiglu,
    norm,
};

/// Fixed-point sums of a tile for each token and row.
#[derive(Debug, Default)]
struct Sums {
    scaled: [[i64; TILE_ROWS]; MAX_BLOCK_TOKENS],
    /// Where a scale is for 32 columns and activations have 8 bits: see [`add_pair`].
    pairs: [[i32; TILE_ROWS]; MAX_BLOCK_TOKENS],
    /// The same of minima.
    mins: [[i32; TILE_ROWS]; MAX_BLOCK_TOKENS],
}

fn multiply(matrix: &Matrix<'_>, activations: &Activations, mut out: Columns<'_, f32>) {
    let kind = matrix.kind();
    for (place, index) in tiles_of(matrix, activations, &out).enumerate() {
        let tile = matrix.tile(index);
        let mut sums = Sums::default();
        let blocks = matrix.columns() / kind.block();
        if kind.rule() == Rule::Block {
            for pair in 0..blocks.div_ceil(2) {
                add_pair(kind, &tile, pair, activations, &mut sums);
            }
        } else {
            for block in 0..blocks {
                add_block(kind, &tile, block, activations, &mut sums);
            }
        }
        let rows = tile.exponents();
        for token in 0..activations.tokens() {
            let exponent = activations.exponent(token);
            let out = out.row(token)[place * TILE_ROWS..].iter_mut();
            for (lane, out) in out.take(TILE_ROWS).enumerate() {
                let exponents = rows.map(|rows| i32::from(rows[lane]) + exponent);
                let [scale, min] = [exponents[0] + kind.scale_shift(), exponents[1] + MIN_SHIFT];
                // One of them is 0.
                let sum = sums.scaled[token][lane] + i64::from(sums.pairs[token][lane]);
                *out = scaled_f32(sum, scale);
                if kind.sums_minima() {
                    *out += scaled_f32(i64::from(sums.mins[token][lane]), min);
                }
            }
        }
    }
}

/// By how many bits the factors of minima were shifted right, which have 8 times the sum of activations.
pub(super) const MIN_SHIFT: i32 = ROUND_SHIFT as i32 - 3;

impl Kind {
    /// By how many bits the sums and factors of this kind were shifted right.
    pub(super) fn scale_shift(self) -> i32 {
        match self {
            Self::Wide => WIDE_SHIFT as i32,
            Self::NibbleSuper | Self::SixSuper => 0,
            _ => (ROUND_SHIFT + self.dot_shift()) as i32,
        }
    }
}

/// Adds what two blocks of 32 columns give, or the last one: sums of 16 bits meet scale times mantissa in 16 bits.
fn add_pair(kind: Kind, tile: &Tile<'_>, pair: usize, activations: &Activations, sums: &mut Sums) {
    let (tokens, places) = (activations.tokens(), activations.places());
    let mut scaled = [[0i32; TILE_ROWS]; MAX_BLOCK_TOKENS];
    let mut mins = [[0i32; TILE_ROWS]; MAX_BLOCK_TOKENS];
    let blocks = activations.columns() / BLOCK;
    for block in 2 * pair..blocks.min(2 * pair + 2) {
        // The lower or the upper half of a number.
        let of_block =
            |both: &[i32], token: usize| (both[pair * places + token] >> (16 * (block % 2))) as i16;
        for lane in 0..TILE_ROWS {
            let at = block * TILE_ROWS + lane;
            let weights = block_quants(kind, tile, block, lane);
            for token in 0..tokens {
                let inputs = inputs(kind, activations, block * places + token);
                let dot = half(&weights, &inputs, 0) + half(&weights, &inputs, 1);
                let dot = (dot + kind.dot_half(block % 2)) >> kind.dot_shift();
                let factor = of_block(&activations.factors, token);
                let factor = mul_round16(i16_at(tile.scales, at), factor);
                add_product(&mut scaled[token][lane], dot as i16, factor);
                if kind.sums_minima() {
                    let factor = of_block(&activations.min_factors, token);
                    add_product(&mut mins[token][lane], i16_at(tile.mins, at), factor);
                }
            }
        }
    }
    let add = |sums: &mut [[i32; TILE_ROWS]], pairs: &[[i32; TILE_ROWS]]| {
        for (token, pairs) in pairs.iter().enumerate().take(tokens) {
            let shift = activations.shifts[pair * places + token];
            for (sum, pair) in sums[token].iter_mut().zip(pairs) {
                *sum = sum.wrapping_add(pair >> shift);
            }
        }
    };
    add(&mut sums.pairs, &scaled);
    add(&mut sums.mins, &mins);
}

fn add_product(sum: &mut i32, a: i16, b: i16) {
    *sum = sum.wrapping_add(i32::from(a) * i32::from(b));
}

/// Adds what one block of columns gives to every row and token, for kinds with super-blocks or wide numbers.
fn add_block(
    kind: Kind,
    tile: &Tile<'_>,
    block: usize,
    activations: &Activations,
    sums: &mut Sums,
) {
    let (places, parts) = (activations.places(), kind.block() / BLOCK);
    let mut dots = [[0i32; TILE_ROWS]; MAX_BLOCK_TOKENS];
    if kind == Kind::NibbleSuper {
        add_offsets(tile, block, activations, &mut dots);
    }
    for part in block * parts..(block + 1) * parts {
        let weights: [_; TILE_ROWS] =
            core::array::from_fn(|lane| block_quants(kind, tile, part, lane));
        let factors: [_; TILE_ROWS] =
            core::array::from_fn(|lane| subscales(kind, tile, part, lane));
        for (token, dots) in dots.iter_mut().enumerate().take(activations.tokens()) {
            let at = part * places + token;
            let inputs = inputs(kind, activations, at);
            for ((dot, weights), factors) in dots.iter_mut().zip(&weights).zip(&factors) {
                *dot +=
                    half(weights, &inputs, 0) * factors[0] + half(weights, &inputs, 1) * factors[1];
            }
        }
    }
    for (token, dots) in dots.iter().enumerate().take(activations.tokens()) {
        let mantissa = activations.mantissas[block * places + token];
        for (lane, dot) in dots.iter().enumerate() {
            let scale = i32::from(i16_at(tile.scales, block * TILE_ROWS + lane)) * mantissa;
            let scale = scale >> kind.scale_shift();
            let sum = &mut sums.scaled[token][lane];
            *sum = sum.wrapping_add(i64::from(*dot) * i64::from(scale));
        }
    }
}

/// Begins the sums of one super-block of 4 bits: with its offsets, two blocks' at a time.
fn add_offsets(
    tile: &Tile<'_>,
    block: usize,
    activations: &Activations,
    dots: &mut [[i32; TILE_ROWS]; MAX_BLOCK_TOKENS],
) {
    for (lane, bits) in tile.offset_bits().into_iter().enumerate() {
        let ratio = i16_at(tile.mins, block * TILE_ROWS + lane);
        let offsets: [i16; PARTS] = core::array::from_fn(|part| {
            let at = pair_index(block * PARTS + part, lane);
            offset(tile.subscales[at], tile.submins[at], ratio, bits)
        });
        for (token, dots) in dots.iter_mut().enumerate().take(activations.tokens()) {
            let sums = activations.sums[block * activations.places() + token];
            let pairs = sums
                .as_chunks::<2>()
                .0
                .iter()
                .zip(offsets.as_chunks::<2>().0);
            let pairs = pairs.map(|(sums, offsets)| pair_product(*sums, *offsets) >> bits);
            dots[lane] += pairs.sum::<i32>();
        }
    }
}

/// The activations of one token and 32 columns.
fn inputs(kind: Kind, activations: &Activations, at: usize) -> [i16; BLOCK] {
    if kind == Kind::Wide {
        activations.wide[at]
    } else {
        activations.quants[at].map(i16::from)
    }
}

/// Dot product of 16 columns.
fn half(weights: &[i16; BLOCK], inputs: &[i16; BLOCK], half: usize) -> i32 {
    let pairs = weights[16 * half..][..16]
        .iter()
        .zip(&inputs[16 * half..][..16]);
    pairs
        .map(|(weight, input)| i32::from(*weight) * i32::from(*input))
        .sum()
}

/// Columns of a head whose products one 32-bit sum takes.
pub(super) const SCORE_CHUNK: usize = 32;

fn scores(query: &Query<'_>, keys: &[i16], exponents: &[i16], out: &mut [i32]) {
    query.check(keys, exponents, out);
    let groups = keys.chunks_exact(TILE_ROWS * query.high.len());
    let outs = out.as_chunks_mut::<TILE_ROWS>().0.iter_mut();
    let exponents = exponents.as_chunks::<TILE_ROWS>().0;
    for ((keys, out), exponents) in groups.zip(outs).zip(exponents) {
        for (lane, (out, exponent)) in out.iter_mut().zip(exponents).enumerate() {
            let mut sum = 0i64;
            let halves = query
                .high
                .chunks(SCORE_CHUNK)
                .zip(query.low.chunks(SCORE_CHUNK));
            for ((high, low), keys) in halves.zip(keys.chunks(SCORE_CHUNK * TILE_ROWS)) {
                sum += i64::from(dot(high, keys, lane)) << QUERY_SPLIT_BITS;
                sum += i64::from(dot(low, keys, lane));
            }
            *out = (sum >> query.shift(*exponent)).clamp(-SCORE_LIMIT, SCORE_LIMIT) as i32;
        }
    }
}

/// Dot product of a part of the query and of the key at position `lane`, in 32 bits.
fn dot(query: &[i16], keys: &[i16], lane: usize) -> i32 {
    let keys = keys.as_chunks::<2>().0.iter().skip(lane).step_by(TILE_ROWS);
    let pairs = query.as_chunks::<2>().0.iter().zip(keys);
    pairs.fold(0, |sum: i32, (query, key)| {
        sum.wrapping_add(pair_product(*query, *key))
    })
}

fn pair_product(a: [i16; 2], b: [i16; 2]) -> i32 {
    let product = |i: usize| i32::from(a[i]) * i32::from(b[i]);
    product(0).wrapping_add(product(1))
}

fn soften(scores: &mut [i32], exponents: &[i16], weights: &mut [i16]) -> Softened {
    super::check_soften(scores, exponents, weights);
    let top = scores.iter().fold(i32::MIN, |top, score| top.max(*score));
    let mut total = 0;
    let mut exponent = i16::MIN;
    for (score, value_exponent) in scores.iter_mut().zip(exponents) {
        *score = ops::exp2_neg(top - *score);
        total += i64::from(*score);
        if *score != 0 {
            exponent = exponent.max(*value_exponent);
        }
    }
    let (mut largest, mut sum) = (0, 0);
    for (weight, value_exponent) in scores.iter_mut().zip(exponents) {
        let below = i32::from(exponent) - i32::from(*value_exponent);
        *weight = weight.checked_shr(below.cast_unsigned()).unwrap_or(0);
        largest = largest.max(*weight);
        sum += i64::from(*weight);
    }
    let drop = super::weight_shift(largest, sum);
    for (weight, whole) in weights.iter_mut().zip(scores) {
        *weight = super::rounded(*whole, drop);
    }
    Softened {
        total,
        exponent: i32::from(exponent) + drop.cast_signed(),
    }
}

fn weigh(weights: &[i16], values: &[i16], out: &mut [i32]) {
    super::check_weigh(weights, values, out);
    for (weights, values) in weights
        .as_chunks::<2>()
        .0
        .iter()
        .zip(values.chunks_exact(2 * out.len()))
    {
        for (out, value) in out.iter_mut().zip(values.as_chunks::<2>().0) {
            *out = out.wrapping_add(pair_product(*weights, *value));
        }
    }
}

fn quantize(block: &mut BlockMut<'_>) {
    block.quantize(ops::largest, round, QuantSums::of);
}

fn round(x: &[f32], inverse: f32, quants: &mut [i8; BLOCK]) {
    for (quant, x) in quants.iter_mut().zip(x) {
        *quant = (x * inverse + ROUND).to_bits() as i8;
    }
}

fn swiglu(gate: &mut [f32], up: &[f32]) {
    for (gate, up) in gate.iter_mut().zip(up) {
        *gate = ops::swiglu(*gate, *up);
    }
}

fn norm(x: &[f32], weight: &[f32], epsilon: f32, out: &mut [f32]) {
    let mut sums = [0.0f32; SUMS];
    for x in x.chunks(SUMS) {
        for (sum, x) in sums.iter_mut().zip(x) {
            *sum += x * x;
        }
    }
    let scale = super::norm_scale(sums, x.len(), epsilon);
    for ((out, x), weight) in out.iter_mut().zip(x).zip(weight) {
        *out = x * scale * weight;
    }
}
