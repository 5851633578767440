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
        let at = block * BLOCK / kind.block() * TILE_ROWS + lane;
        let scale = i64::from(i16_at(tile.scales, at));
        let subscales = subscales(kind, &tile, block, lane);
        let (offset, bits) = match kind {
            Kind::NibbleSuper => {
                let (bits, at_block) = (tile.offset_bits()[lane], pair_index(block, lane));
                let factors = (tile.subscales[at_block], tile.submins[at_block]);
                let offset = offset(factors.0, factors.1, i16_at(tile.mins, at), bits);
                (i64::from(offset), i32::from(bits))
            }
            _ => (0, 0),
        };
        for (column, (out, quant)) in out.iter_mut().zip(quants).enumerate() {
            let weight = i64::from(quant) * i64::from(subscales[column / 16]);
            *out = scaled_f32(((weight << bits) + offset) * scale, exponent - bits);
        }
        if kind.sums_minima() {
            let min = scaled_f32(i64::from(i16_at(tile.mins, at)), min_exponent);
            out.iter_mut().for_each(|out| *out += min);
        }
    }
}

/// Sub-scales of the two halves of a block of 32 columns; ones where the kind has none.
pub(crate) fn subscales(kind: Kind, tile: &Tile<'_>, block: usize, lane: usize) -> [i32; 2] {
    match kind {
        Kind::NibbleSuper => [i32::from(tile.subscales[pair_index(block, lane)]); 2],
        Kind::SixSuper => [0, 1].map(|half| {
            i32::from(tile.subscales[pair_index(block * 2 + half, lane)].cast_signed())
        }),
        _ => [1; 2],
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
        Kind::Nibble | Kind::NibbleMin | Kind::NibbleSuper => 8,
        Kind::Five => 16,
        Kind::SixSuper => 32,
        Kind::Byte | Kind::Wide => return quants,
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
