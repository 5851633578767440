//! Makes tiles from rows of quantized blocks. The image builder uses it; the guest never does.

use super::{
    BLOCK, EXPONENT_BYTES, GROUP_BYTES, Kind, NIBBLE_BYTES, OFFSET_BITS, SUPER_BLOCK, Spans,
    TILE_ROWS, i16_at, pair_index,
};
use alloc::borrow::Cow;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

/// One block of one row, [`Kind::block`] columns: `weight = quant * scale * subscale + min * submin`, where the
/// quant is signed (its zero point taken off) except for kinds with a minimum.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RowBlock {
    /// Scale of the block.
    pub scale: f32,
    /// Minimum of the block (a negative number for most weights); 0 for kinds without.
    pub min: f32,
    /// Quants without their zero point, one for each column.
    pub quants: Vec<i16>,
    /// Integer factors of the scale: 8 for [`Kind::NibbleSuper`], 16 for [`Kind::SixSuper`], else none.
    pub subscales: Vec<i16>,
    /// Integer factors of the minimum: 8 for [`Kind::NibbleSuper`], else none.
    pub submins: Vec<u8>,
}

/// Why a row cannot be packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum EncodeError {
    /// A scale or minimum is infinite or not a number.
    NotFinite,
    /// A quant, sub-scale or count of columns does not belong to this kind.
    Shape,
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotFinite => "a scale is infinite or not a number",
            Self::Shape => "a block does not have the shape of its kind",
        })
    }
}

impl core::error::Error for EncodeError {}

/// Appends one tile to `out`. `rows` are 1 to 16 rows of blocks, all of the same number of columns; missing rows of
/// the last tile become zeros.
///
/// # Errors
/// [`EncodeError`] when a row is not one of `kind`; `out` is unchanged then.
pub fn tile(
    kind: Kind,
    columns: usize,
    rows: &[Vec<RowBlock>],
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    let bytes = kind.tile_bytes(columns).ok_or(EncodeError::Shape)?;
    if rows.is_empty()
        || rows.len() > TILE_ROWS
        || rows.iter().any(|row| row.len() != columns / kind.block())
    {
        return Err(EncodeError::Shape);
    }
    let mut tile = vec![0; bytes];
    let spans = Spans::of(kind, columns);
    for (lane, row) in rows.iter().enumerate() {
        row.iter().try_for_each(|block| check(kind, block))?;
        let row: Cow<'_, [RowBlock]> = match kind {
            Kind::NibbleSuper => row.iter().map(with_near_scale).collect(),
            _ => Cow::Borrowed(row),
        };
        let scales = row.iter().map(|block| block.scale);
        put_scales(scales, lane, 0, EXPONENT_BYTES, &mut tile);
        match kind {
            Kind::NibbleMin => {
                let mins = row.iter().map(min_of_zero_point);
                put_scales(mins, lane, 1, spans.scales_end, &mut tile);
            }
            Kind::NibbleSuper => put_ratios(&row, lane, spans.scales_end, &mut tile),
            _ => {}
        }
        for (index, block) in row.iter().enumerate() {
            put_factors(kind, &spans, block, index, lane, &mut tile);
            for (part, quants) in block.quants.as_chunks::<BLOCK>().0.iter().enumerate() {
                let part = index * kind.block() / BLOCK + part;
                let at = spans.submins_end + part * kind.quant_bytes();
                put_quants(kind, quants, lane, &mut tile[at..at + kind.quant_bytes()]);
            }
        }
    }
    out.append(&mut tile);
    Ok(())
}

fn check(kind: Kind, block: &RowBlock) -> Result<(), EncodeError> {
    if !block.scale.is_finite() || !block.min.is_finite() || !min_of_zero_point(block).is_finite() {
        return Err(EncodeError::NotFinite);
    }
    let quants = match kind {
        Kind::Nibble => -8..=7,
        Kind::NibbleMin | Kind::NibbleSuper => 0..=15,
        Kind::Five => -16..=15,
        Kind::SixSuper => -32..=31,
        Kind::Byte => -128..=127,
        Kind::Wide => -8191..=8191,
    };
    let (subscales, submins, factors) = match kind {
        Kind::NibbleSuper => (8, 8, 0..=63),
        Kind::SixSuper => (SUPER_BLOCK / 16, 0, -128..=127),
        _ => (0, 0, 0..=0),
    };
    let ok = block.quants.len() == kind.block()
        && block.quants.iter().all(|quant| quants.contains(quant))
        && block.subscales.len() == subscales
        && block
            .subscales
            .iter()
            .all(|factor| factors.contains(factor))
        && block.submins.len() == submins
        && block.submins.iter().all(|&factor| factor < 64);
    if ok { Ok(()) } else { Err(EncodeError::Shape) }
}

/// What is added to weights of 4 bits whose zero point is 8, where [`RowBlock::min`] is for one of 0. Mostly it is small,
/// so that sums of minima do not have to make up for those of quants.
fn min_of_zero_point(block: &RowBlock) -> f32 {
    block.min + 8.0 * block.scale
}

/// Writes one row's scales as integers relative to a power of two, chosen so that the largest one has 15 bits. Scales
/// of GGUF files are f16: all within a factor of 16 of the row's largest one are exact.
fn put_scales(
    scales: impl Iterator<Item = f32> + Clone,
    lane: usize,
    which: usize,
    start: usize,
    tile: &mut [u8],
) {
    let exponent = row_exponent(scales.clone());
    let at = (which * TILE_ROWS + lane) * 2;
    tile[at..at + 2].copy_from_slice(&exponent.to_le_bytes());
    for (index, scale) in scales.enumerate() {
        let at = start + (index * TILE_ROWS + lane) * 2;
        tile[at..at + 2].copy_from_slice(&relative(scale, exponent).to_le_bytes());
    }
}

/// Largest ratio of minimum and scale in a super-block of 4 bits: with the fewest fraction bits any offset fits 16 bits,
/// `8 * 63 * 2^4 + 24 * 63 * 2^4 < 2^15`.
const MAX_RATIO: f32 = 24.0;

/// The block with a scale that is not too small for the minimum to be counted in it, and sub-scales to match. That
/// changes weights by a third of the minimum at most, of which each has up to 63. It happens where weights have more in
/// common than what they differ by; no block of the models that we build needs it.
fn with_near_scale(block: &RowBlock) -> RowBlock {
    let mut block = block.clone();
    let nearest = block.min.abs() / MAX_RATIO;
    if block.scale.abs() < nearest && block.submins.iter().any(|&factor| factor != 0) {
        let scale = nearest.copysign(block.scale);
        for factor in &mut block.subscales {
            *factor = libm::roundf(f32::from(*factor) * (block.scale / scale)) as i16;
        }
        block.scale = scale;
    }
    block
}

/// Writes one row's minima as multiples of its scales, which are there already: see [`super::offset`].
fn put_ratios(row: &[RowBlock], lane: usize, start: usize, tile: &mut [u8]) {
    let exponent = i32::from(i16_at(tile, lane));
    let ratios = row.iter().enumerate().map(|(index, block)| {
        match i16_at(&tile[EXPONENT_BYTES..], index * TILE_ROWS + lane) {
            0 => 0.0,
            scale => f64::from(block.min) / libm::scalbn(f64::from(scale), exponent),
        }
    });
    let ratios: Vec<f64> = ratios.collect();
    let ratio_with = |ratio: f64, bits: i16| {
        let most = if bits == *OFFSET_BITS.start() {
            // Where rounding made a small scale smaller still, an offset might not fit.
            libm::scalbn(f64::from(MAX_RATIO), i32::from(bits) + 6)
        } else {
            f64::INFINITY
        };
        libm::round(libm::scalbn(ratio, i32::from(bits) + 6)).clamp(-most, most)
    };
    let fits = |bits: &i16| {
        row.iter().zip(&ratios).all(|(block, ratio)| {
            let ratio = ratio_with(*ratio, *bits);
            let eight = libm::scalbn(8.0, i32::from(*bits));
            let mut factors = block.subscales.iter().zip(&block.submins);
            // With a half for the rounding.
            ratio.abs() <= 32767.0
                && factors.all(|(&factor, &min)| {
                    (f64::from(factor) * eight + ratio * f64::from(min) / 64.0).abs() <= 32766.5
                })
        })
    };
    let bits = OFFSET_BITS.rev().find(fits);
    let bits = bits.expect("offsets fit with the fewest fraction bits");
    let at = (TILE_ROWS + lane) * 2;
    tile[at..at + 2].copy_from_slice(&bits.to_le_bytes());
    for (index, ratio) in ratios.into_iter().enumerate() {
        let at = start + (index * TILE_ROWS + lane) * 2;
        tile[at..at + 2].copy_from_slice(&(ratio_with(ratio, bits) as i16).to_le_bytes());
    }
}

fn row_exponent(scales: impl Iterator<Item = f32>) -> i16 {
    let largest = scales.fold(0.0f32, |largest, scale| largest.max(scale.abs()));
    if largest == 0.0 {
        return 0;
    }
    // largest lies in [2^e, 2^(e + 1)): relative to 2^(e - 14) it has 15 bits.
    libm::ilogbf(largest) as i16 - 14
}

/// `scale / 2^exponent`, rounded.
fn relative(scale: f32, exponent: i16) -> i16 {
    let value = libm::round(libm::scalbn(f64::from(scale), -i32::from(exponent)));
    value.clamp(-32767.0, 32767.0) as i16
}

/// The scale that a block will really have once it is packed with the largest scale of its row.
pub fn packed_scale(scale: f32, largest_of_row: f32) -> f32 {
    let exponent = row_exponent(core::iter::once(largest_of_row));
    libm::scalbn(f64::from(relative(scale, exponent)), i32::from(exponent)) as f32
}

fn put_factors(
    kind: Kind,
    spans: &Spans,
    block: &RowBlock,
    index: usize,
    lane: usize,
    tile: &mut [u8],
) {
    let subscales = spans.mins_end + index * kind.subscale_bytes();
    for (part, &factor) in block.subscales.iter().enumerate() {
        tile[subscales + pair_index(part, lane)] = factor.to_le_bytes()[0];
    }
    let submins = spans.subscales_end + index * kind.submin_bytes();
    for (part, &factor) in block.submins.iter().enumerate() {
        tile[submins + pair_index(part, lane)] = factor;
    }
}

/// Writes 32 quants of one row into their places among those of the tile.
fn put_quants(kind: Kind, quants: &[i16; BLOCK], lane: usize, bytes: &mut [u8]) {
    for (column, &quant) in quants.iter().enumerate() {
        let (group, at) = (column / 4, 4 * lane + column % 4);
        let unsigned = match kind {
            Kind::Nibble => quant + 8,
            Kind::Five => quant + 16,
            Kind::SixSuper => quant + 32,
            Kind::Byte => quant + 128,
            Kind::NibbleMin | Kind::NibbleSuper | Kind::Wide => quant,
        }
        .to_le_bytes();
        match kind {
            Kind::Byte => bytes[group * GROUP_BYTES + at] = unsigned[0],
            Kind::Wide => {
                let at = (column / 2 * TILE_ROWS + lane) * 4 + column % 2 * 2;
                bytes[at..at + 2].copy_from_slice(&unsigned);
            }
            _ => bytes[group % 4 * GROUP_BYTES + at] |= (unsigned[0] & 15) << (group / 4 * 4),
        }
        match kind {
            Kind::Five => bytes[NIBBLE_BYTES + at] |= (unsigned[0] >> 4) << group,
            Kind::SixSuper => {
                bytes[NIBBLE_BYTES + group / 4 * GROUP_BYTES + at] |=
                    (unsigned[0] >> 4) << (group % 4 * 2)
            }
            _ => {}
        }
    }
}
