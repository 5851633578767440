//! Inner loops in plain Rust: the definition that other sets are tested against.

use super::{Kernels, MAX_BLOCK_TOKENS, QUERY_SPLIT_BITS, tiles_of};
use crate::layout::activations::Activations;
use crate::layout::{BLOCK, Kind, Matrix, TILE_ROWS, Tile, WIDE_SHIFT, block_quants, i16_at};
use crate::ops::scaled_f32;
use crate::workers::Columns;

pub(super) static KERNELS: Kernels = Kernels {
    name: "portable",
    multiply,
    scores,
    weigh,
};

/// Fixed-point sums of a tile for each token and row, and those of the minima.
#[derive(Debug, Default)]
struct Sums {
    scaled: [[i64; TILE_ROWS]; MAX_BLOCK_TOKENS],
    mins: [[i64; TILE_ROWS]; MAX_BLOCK_TOKENS],
}

fn multiply(matrix: &Matrix<'_>, activations: &Activations, mut out: Columns<'_, f32>) {
    let kind = matrix.kind();
    for (place, index) in tiles_of(matrix, activations, &out).enumerate() {
        let tile = matrix.tile(index);
        let mut sums = Sums::default();
        for block in 0..matrix.columns() / kind.block() {
            add_block(kind, &tile, block, activations, &mut sums);
        }
        for (token, exponent) in activations.exponents.iter().enumerate() {
            let out = out.row(token)[place * TILE_ROWS..].iter_mut();
            for (lane, out) in out.take(TILE_ROWS).enumerate() {
                let wide = if kind == Kind::Wide {
                    WIDE_SHIFT as i32
                } else {
                    0
                };
                let exponents = [tile.exponents[0][lane], tile.exponents[1][lane]].map(i32::from);
                *out = scaled_f32(sums.scaled[token][lane], exponents[0] + exponent + wide);
                if kind.has_min() {
                    *out += scaled_f32(sums.mins[token][lane], exponents[1] + exponent);
                }
            }
        }
    }
}

/// Adds what one block of columns gives to every row and token.
fn add_block(
    kind: Kind,
    tile: &Tile<'_>,
    block: usize,
    activations: &Activations,
    sums: &mut Sums,
) {
    let (columns, parts) = (activations.columns(), kind.block() / BLOCK);
    let mut dots = [[[0i32; 2]; TILE_ROWS]; MAX_BLOCK_TOKENS];
    for part in block * parts..(block + 1) * parts {
        let weights: [_; TILE_ROWS] =
            core::array::from_fn(|lane| block_quants(kind, tile, part, lane));
        let factors: [_; TILE_ROWS] = core::array::from_fn(|lane| factors(kind, tile, part, lane));
        for (token, dots) in dots.iter_mut().enumerate().take(activations.tokens()) {
            let start = token * columns + part * BLOCK;
            let inputs = inputs(kind, activations, start);
            let sum = if kind.has_min() {
                i32::from(activations.sums[start / BLOCK])
            } else {
                0
            };
            for ((dot, weights), factors) in dots.iter_mut().zip(&weights).zip(&factors) {
                dot[0] +=
                    half(weights, &inputs, 0) * factors[0] + half(weights, &inputs, 1) * factors[1];
                dot[1] += sum * factors[2];
            }
        }
    }
    let blocks = columns / kind.block();
    let wide = if kind == Kind::Wide { WIDE_SHIFT } else { 0 };
    for (token, dots) in dots.iter().enumerate().take(activations.tokens()) {
        let unit = activations.scales[token * blocks + block];
        for (lane, dot) in dots.iter().enumerate() {
            let scale = unit.times(i16_at(tile.scales, block * TILE_ROWS + lane)) >> wide;
            let sum = &mut sums.scaled[token][lane];
            *sum = sum.wrapping_add(i64::from(dot[0]) * i64::from(scale));
            if kind.has_min() {
                let scale = unit.times(i16_at(tile.mins, block * TILE_ROWS + lane));
                let sum = &mut sums.mins[token][lane];
                *sum = sum.wrapping_add(i64::from(dot[1]) * i64::from(scale));
            }
        }
    }
}

/// The activations of one token and 32 columns.
fn inputs(kind: Kind, activations: &Activations, start: usize) -> [i16; BLOCK] {
    let mut inputs = [0; BLOCK];
    if kind == Kind::Wide {
        inputs.copy_from_slice(&activations.wide[start..start + BLOCK]);
    } else {
        for (input, quant) in inputs
            .iter_mut()
            .zip(&activations.quants[start..start + BLOCK])
        {
            *input = i16::from(*quant);
        }
    }
    inputs
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

/// Integer factors of one row and 32 columns: of the scale for either half, and of the minimum.
fn factors(kind: Kind, tile: &Tile<'_>, part: usize, lane: usize) -> [i32; 3] {
    match kind {
        Kind::NibbleSuper => {
            let scale = i32::from(tile.subscales[part * TILE_ROWS + lane]);
            let min = tile.submins[(part / 2 * TILE_ROWS + lane) * 2 + part % 2];
            [scale, scale, i32::from(min)]
        }
        Kind::SixSuper => {
            let scale = |half: usize| {
                i32::from(tile.subscales[(part * 2 + half) * TILE_ROWS + lane].cast_signed())
            };
            [scale(0), scale(1), 0]
        }
        _ => [1; 3],
    }
}

fn scores(high: &[i16], low: &[i16], keys: &[i16], out: &mut [i64]) {
    assert!(
        high.len() == low.len() && keys.len() == high.len() * out.len(),
        "shapes of scores"
    );
    for (out, key) in out.iter_mut().zip(keys.chunks_exact(high.len())) {
        *out = (dot(high, key) << QUERY_SPLIT_BITS) + dot(low, key);
    }
}

fn dot(a: &[i16], b: &[i16]) -> i64 {
    a.iter()
        .zip(b)
        .map(|(a, b)| i64::from(i32::from(*a) * i32::from(*b)))
        .sum()
}

fn weigh(weights: &[i16], values: &[i16], out: &mut [i32]) {
    assert!(
        weights.len().is_multiple_of(2) && values.len() == weights.len() * out.len(),
        "shapes of weigh"
    );
    for (weights, values) in weights
        .as_chunks::<2>()
        .0
        .iter()
        .zip(values.chunks_exact(2 * out.len()))
    {
        for (out, value) in out.iter_mut().zip(values.as_chunks::<2>().0) {
            let pair = i32::from(weights[0]) * i32::from(value[0])
                + i32::from(weights[1]) * i32::from(value[1]);
            *out = out.wrapping_add(pair);
        }
    }
}
