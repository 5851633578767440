//! Single rows out of tiles: token embeddings, and what tests compare.

use super::{BLOCK, GROUP_BYTES, Kind, Matrix, NIBBLE_BYTES, TILE_ROWS, Tile, offset};
use crate::ops::scaled_f32;

/// Row `row` of a matrix as f32, `out[columns]`.
///
/// # Panics
/// When `row` is not below the number of rows or `out` has another length than a row.
pub fn row_to_f32(matrix: &Matrix<'_>, row: usize, out: &mut [f32]) {
    assert!(
        row < matrix.rows() && out.len() == matrix.columns(),
        "row {row} or length {} out of range",
        out.len()
    );
    let tile = matrix.tile(row / TILE_ROWS);
    let lane = row % TILE_ROWS;
    let kind = matrix.kind();
    let [exponent, min_exponent] = tile.exponents().map(|rows| i32::from(rows[lane]));
    for (block, out) in out.as_chunks_mut::<BLOCK>().0.iter_mut().enumerate() {
        let quants = block_quants(kind, &tile, block, lane);
        let group = block * BLOCK / kind.block();
        let scale = i64::from(i16_at(tile.scales, group * TILE_ROWS + lane));
        let factors = factors(kind, &tile, block, lane);
        if kind == Kind::NibbleSuper {
            let bits = tile.offset_bits()[lane];
            let ratio = i16_at(tile.mins, group * TILE_ROWS + lane);
            let [subscale, _] = factors.scales;
            let offset = offset(subscale as u8, factors.min as u8, ratio, bits);
            for (out, quant) in out.iter_mut().zip(quants) {
                let weight = (i64::from(quant) * i64::from(subscale)) << bits;
                *out = scaled_f32(
                    (weight + i64::from(offset)) * scale,
                    exponent - i32::from(bits),
                );
            }
            continue;
        }
        for (column, (out, quant)) in out.iter_mut().zip(quants).enumerate() {
            let weight = i64::from(quant) * i64::from(factors.scales[column / 16]) * scale;
            *out = scaled_f32(weight, exponent);
        }
        if kind.sums_minima() {
            let min =
                i64::from(i16_at(tile.mins, group * TILE_ROWS + lane)) * i64::from(factors.min);
            let min = scaled_f32(min, min_exponent);
            out.iter_mut().for_each(|out| *out += min);
        }
    }
}

/// Sub-scales of the two halves of a block, and its sub-minimum; ones where the kind has none.
struct Factors {
    scales: [i32; 2],
    min: i32,
}

fn factors(kind: Kind, tile: &Tile<'_>, block: usize, lane: usize) -> Factors {
    match kind {
        Kind::NibbleSuper => {
            let scale = i32::from(tile.subscales[pair_index(block, lane)]);
            let min = tile.submins[pair_index(block, lane)];
            Factors {
                scales: [scale; 2],
                min: i32::from(min),
            }
        }
        Kind::SixSuper => {
            let scale = |half: usize| {
                i32::from(tile.subscales[pair_index(block * 2 + half, lane)].cast_signed())
            };
            Factors {
                scales: [scale(0), scale(1)],
                min: 1,
            }
        }
        _ => Factors {
            scales: [1; 2],
            min: 1,
        },
    }
}

/// Where the factor of `part` and row `lane` stands among those of a tile: two neighbours of one row lie side by side.
pub(crate) fn pair_index(part: usize, lane: usize) -> usize {
    (part / 2 * TILE_ROWS + lane) * 2 + part % 2
}

pub(crate) fn i16_at(bytes: &[u8], index: usize) -> i16 {
    i16::from_le_bytes([bytes[2 * index], bytes[2 * index + 1]])
}

/// The quants of one row and 32 columns with the zero point taken off.
pub(crate) fn block_quants(kind: Kind, tile: &Tile<'_>, block: usize, lane: usize) -> [i16; BLOCK] {
    let bytes = &tile.quants[block * kind.quant_bytes()..][..kind.quant_bytes()];
    let mut quants = [0; BLOCK];
    match kind {
        Kind::Byte => {
            for (column, quant) in quants.iter_mut().enumerate() {
                *quant = i16::from(bytes[column / 4 * GROUP_BYTES + 4 * lane + column % 4]) - 128;
            }
        }
        Kind::Wide => {
            for (column, quant) in quants.iter_mut().enumerate() {
                *quant = i16_at(bytes, column / 2 * 2 * TILE_ROWS + 2 * lane + column % 2);
            }
        }
        _ => nibbles(bytes, lane, &mut quants),
    }
    let zero = match kind {
        Kind::Nibble | Kind::NibbleSuper => 8,
        Kind::Five => 16,
        Kind::SixSuper => 32,
        Kind::NibbleMin | Kind::Byte | Kind::Wide => return quants,
    };
    for (column, quant) in quants.iter_mut().enumerate() {
        let (group, at) = (column / 4, 4 * lane + column % 4);
        let high = match kind {
            Kind::Five => bytes[NIBBLE_BYTES + at] >> group & 1,
            Kind::SixSuper => {
                bytes[NIBBLE_BYTES + group / 4 * GROUP_BYTES + at] >> (group % 4 * 2) & 3
            }
            _ => 0,
        };
        *quant += i16::from(high << 4) - zero;
    }
    quants
}

fn nibbles(bytes: &[u8], lane: usize, quants: &mut [i16; BLOCK]) {
    let (low, high) = quants.split_at_mut(BLOCK / 2);
    for (column, (low, high)) in low.iter_mut().zip(high).enumerate() {
        let byte = bytes[column / 4 * GROUP_BYTES + 4 * lane + column % 4];
        (*low, *high) = (i16::from(byte & 15), i16::from(byte >> 4));
    }
}
