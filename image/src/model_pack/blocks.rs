//! The quantized blocks of GGUF files, as ggml's `ggml-quants` lays them out, taken apart for the engine's tiles.

use candle_core::quantized::GgmlDType;
use cloister_engine::layout::encode::{RowBlock, packed_scale};
use cloister_engine::layout::{BLOCK, Kind, SUPER_BLOCK};

/// The kind of tile that takes a GGUF type; `None` for types that are not supported.
pub(super) fn kind_of(dtype: GgmlDType) -> Option<Kind> {
    match dtype {
        GgmlDType::F32 | GgmlDType::F16 | GgmlDType::BF16 => Some(Kind::Wide),
        GgmlDType::Q4_0 => Some(Kind::Nibble),
        GgmlDType::Q4_1 => Some(Kind::NibbleMin),
        GgmlDType::Q5_0 => Some(Kind::Five),
        GgmlDType::Q8_0 => Some(Kind::Byte),
        GgmlDType::Q4K => Some(Kind::NibbleSuper),
        GgmlDType::Q6K => Some(Kind::SixSuper),
        _ => None,
    }
}

/// One row's blocks. `bytes` are whole blocks of a type that [`kind_of`] knows.
pub(super) fn row(dtype: GgmlDType, bytes: &[u8]) -> Vec<RowBlock> {
    let blocks = bytes.chunks_exact(dtype.type_size());
    match dtype {
        GgmlDType::Q4_0 => blocks.map(q4_0).collect(),
        GgmlDType::Q4_1 => blocks.map(q4_1).collect(),
        GgmlDType::Q5_0 => blocks.map(q5_0).collect(),
        GgmlDType::Q8_0 => blocks.map(q8_0).collect(),
        GgmlDType::Q4K => blocks.map(q4_k).collect(),
        GgmlDType::Q6K => blocks.map(q6_k).collect(),
        GgmlDType::F16 => wide(
            bytes
                .as_chunks::<2>()
                .0
                .iter()
                .map(|b| f16_to_f32(u16::from_le_bytes(*b))),
        ),
        GgmlDType::BF16 => wide(
            bytes
                .as_chunks::<2>()
                .0
                .iter()
                .map(|b| f32::from_bits(u32::from(u16::from_le_bytes(*b)) << 16)),
        ),
        _ => wide(
            bytes
                .as_chunks::<4>()
                .0
                .iter()
                .map(|b| f32::from_le_bytes(*b)),
        ),
    }
}

/// IEEE 754 binary16.
pub(super) fn f16_to_f32(bits: u16) -> f32 {
    let magnitude = match (bits >> 10 & 31, bits & 1023) {
        (0, fraction) => f32::from(fraction) / 16_777_216.0,
        (31, 0) => f32::INFINITY,
        (31, _) => f32::NAN,
        (exponent, fraction) => {
            f32::from_bits(u32::from(exponent + 127 - 15) << 23 | u32::from(fraction) << 13)
        }
    };
    if bits >> 15 == 1 {
        -magnitude
    } else {
        magnitude
    }
}

fn f16_at(block: &[u8], at: usize) -> f32 {
    f16_to_f32(u16::from_le_bytes([block[at], block[at + 1]]))
}

/// Low nibbles are the first half of the block, high ones the second.
fn nibbles(bytes: &[u8]) -> Vec<i16> {
    let low = bytes.iter().map(|byte| i16::from(byte & 15));
    low.chain(bytes.iter().map(|byte| i16::from(byte >> 4)))
        .collect()
}

/// f16 scale, 16 bytes of nibbles; zero point 8.
fn q4_0(block: &[u8]) -> RowBlock {
    let quants = nibbles(&block[2..18])
        .into_iter()
        .map(|quant| quant - 8)
        .collect();
    RowBlock {
        scale: f16_at(block, 0),
        quants,
        ..RowBlock::default()
    }
}

/// f16 scale, f16 minimum, 16 bytes of nibbles.
fn q4_1(block: &[u8]) -> RowBlock {
    RowBlock {
        scale: f16_at(block, 0),
        min: f16_at(block, 2),
        quants: nibbles(&block[4..20]),
        ..RowBlock::default()
    }
}

/// f16 scale, 32 high bits, 16 bytes of nibbles; zero point 16.
fn q5_0(block: &[u8]) -> RowBlock {
    let high = u32::from_le_bytes([block[2], block[3], block[4], block[5]]);
    let mut quants = nibbles(&block[6..22]);
    for (column, quant) in quants.iter_mut().enumerate() {
        *quant += ((high >> column & 1) << 4) as i16 - 16;
    }
    RowBlock {
        scale: f16_at(block, 0),
        quants,
        ..RowBlock::default()
    }
}

/// f16 scale, 32 signed bytes.
fn q8_0(block: &[u8]) -> RowBlock {
    let quants = block[2..34]
        .iter()
        .map(|byte| i16::from(byte.cast_signed()))
        .collect();
    RowBlock {
        scale: f16_at(block, 0),
        quants,
        ..RowBlock::default()
    }
}

/// f16 scale, f16 minimum, 12 bytes of eight 6-bit scales and minima, 128 bytes of nibbles; minima are subtracted.
fn q4_k(block: &[u8]) -> RowBlock {
    let packed = &block[4..16];
    let mut subscales = vec![0; 8];
    let mut submins = vec![0; 8];
    for part in 0..4 {
        subscales[part] = i16::from(packed[part] & 63);
        submins[part] = packed[part + 4] & 63;
        subscales[part + 4] = i16::from(packed[part + 8] & 15 | packed[part] >> 6 << 4);
        submins[part + 4] = packed[part + 8] >> 4 | packed[part + 4] >> 6 << 4;
    }
    // Each 32 bytes hold two neighbouring groups of 32 columns.
    let quants = block[16..144]
        .chunks_exact(BLOCK)
        .flat_map(nibbles)
        .collect();
    RowBlock {
        scale: f16_at(block, 0),
        min: -f16_at(block, 2),
        quants,
        subscales,
        submins,
    }
}

/// 128 bytes of low nibbles, 64 bytes of high 2 bits, sixteen i8 scales, f16 scale; zero point 32.
fn q6_k(block: &[u8]) -> RowBlock {
    let mut quants = vec![0; SUPER_BLOCK];
    for (half, quants) in quants.chunks_exact_mut(128).enumerate() {
        let low = &block[64 * half..][..64];
        let high = &block[128 + 32 * half..][..32];
        for (column, quant) in quants.iter_mut().enumerate() {
            let (quarter, lane) = (column / 32, column % 32);
            let nibble = low[quarter % 2 * 32 + lane] >> (quarter / 2 * 4) & 15;
            let bits = high[lane] >> (2 * quarter) & 3;
            *quant = i16::from(nibble | bits << 4) - 32;
        }
    }
    let subscales = block[192..208]
        .iter()
        .map(|byte| i16::from(byte.cast_signed()))
        .collect();
    RowBlock {
        scale: f16_at(block, 208),
        quants,
        subscales,
        ..RowBlock::default()
    }
}

/// Floats, as 14-bit integers with a scale for 32 columns.
fn wide(values: impl Iterator<Item = f32>) -> Vec<RowBlock> {
    const LARGEST: f32 = 8191.0;
    let values: Vec<f32> = values.collect();
    let blocks = values.chunks_exact(BLOCK);
    let largest_of = |block: &[f32]| block.iter().fold(0.0f32, |largest, x| largest.max(x.abs()));
    let largest = values
        .iter()
        .fold(0.0f32, |largest, x| largest.max(x.abs()))
        / LARGEST;
    blocks
        .map(|block| {
            let scale = largest_of(block) / LARGEST;
            // Rounded to the scale that the block will really have, so that errors do not add up.
            let actual = packed_scale(scale, largest);
            let quant = |x: &f32| {
                if actual > 0.0 {
                    (x / actual).round().clamp(-LARGEST, LARGEST) as i16
                } else {
                    0
                }
            };
            // A number that is not finite must not pass as a quant: `scale` carries it to the encoder's check.
            let finite = block.iter().all(|x| x.is_finite());
            let scale = if finite { scale } else { f32::NAN };
            RowBlock {
                scale,
                quants: block.iter().map(quant).collect(),
                ..RowBlock::default()
            }
        })
        .collect()
}
