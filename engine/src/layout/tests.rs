//! Tiles and quantized activations, against their definitions.

use super::activations::{Activations, PARTS, Rule};
use super::encode::{self, EncodeError, RowBlock, packed_scale};
use super::{BLOCK, Encoding, Kind, Matrix, Spans, TILE_ROWS, row_to_f32};
use crate::simd;
use crate::simd::tests::Random;
use crate::workers::Alone;

fn block(kind: Kind, scale: f32) -> RowBlock {
    RowBlock {
        scale,
        min: 0.0,
        quants: vec![1; kind.block()],
        subscales: match kind {
            Kind::NibbleSuper => vec![1; 8],
            Kind::SixSuper => vec![1; 16],
            _ => Vec::new(),
        },
        submins: if kind == Kind::NibbleSuper {
            vec![1; 8]
        } else {
            Vec::new()
        },
    }
}

#[test]
fn sizes_are_whole_vectors() {
    for kind in Kind::ALL {
        for blocks in 1..12 {
            let columns = kind.block() * blocks;
            let bytes = kind.tile_bytes(columns).expect("whole blocks");
            assert!(bytes.is_multiple_of(64));
            assert_eq!(Spans::of(kind, columns).quants_end, bytes);
            assert_eq!(Encoding::Tiles(kind).bytes(17, columns), Some(2 * bytes));
        }
        assert_eq!(kind.tile_bytes(kind.block() + 1), None);
        assert_eq!(kind.tile_bytes(0), None);
        assert_eq!(
            Encoding::from_code(Encoding::Tiles(kind).code()),
            Some(Encoding::Tiles(kind))
        );
    }
    assert_eq!(Encoding::F32.bytes(2, 4), None);
    assert_eq!(Encoding::from_code(8), None);
    assert!(Matrix::new(Kind::Byte, 1, 32, &[0; 3]).is_none());
}

#[test]
fn scales_near_the_largest_are_exact() {
    let kind = Kind::Five;
    // f16 numbers with all 11 bits in use, down to a sixteenth of the largest.
    let scales = [
        1.0 + 1.0 / 1024.0,
        -(0.5 + 1.0 / 2048.0),
        0.25 + 1.0 / 4096.0,
        0.125 + 1.0 / 8192.0,
    ];
    let scales = scales.map(|scale: f32| scale / 512.0);
    let row: Vec<RowBlock> = scales.iter().map(|scale| block(kind, *scale)).collect();
    let columns = row.len() * BLOCK;
    let mut bytes = Vec::new();
    encode::tile(kind, columns, &[row], &mut bytes).expect("the row has its shape");
    let matrix = Matrix::new(kind, 1, columns, &bytes).expect("one tile");
    let mut weights = vec![0.0; columns];
    row_to_f32(&matrix, 0, &mut weights);
    for (weights, scale) in weights.chunks(BLOCK).zip(scales) {
        assert_eq!(weights, [scale; BLOCK]);
        assert_eq!(packed_scale(scale, scales[0]), scale);
    }
}

#[test]
fn minima_counted_in_scales_are_near_what_they_stand_for() {
    let kind = Kind::NibbleSuper;
    let mut random = Random(17);
    for ratio in [
        0.0,
        0.5,
        -1.0,
        7.0,
        -8.0,
        15.0,
        -24.0,
        30.0,
        -1e3,
        1e6,
        f32::INFINITY,
    ] {
        let mut number = |high: i64| random.range(0, high);
        // The second block of a row has an ordinary minimum.
        let row: Vec<RowBlock> = [ratio, -8.0]
            .into_iter()
            .map(|ratio: f32| RowBlock {
                scale: if ratio.is_infinite() { 0.0 } else { 0.125 },
                min: if ratio.is_infinite() {
                    -1.0
                } else {
                    ratio * 0.125
                },
                quants: (0..kind.block()).map(|_| number(15) as i16).collect(),
                subscales: (0..8).map(|_| number(63) as i16).collect(),
                submins: (0..8).map(|_| number(63) as u8).collect(),
            })
            .collect();
        let columns = row.len() * kind.block();
        let mut bytes = Vec::new();
        let rows = std::slice::from_ref(&row);
        encode::tile(kind, columns, rows, &mut bytes).expect("the row has its shape");
        let matrix = Matrix::new(kind, 1, columns, &bytes).expect("one tile");
        let mut weights = vec![0.0; columns];
        row_to_f32(&matrix, 0, &mut weights);
        let scale_of = |block: &RowBlock| block.scale.max(block.min.abs() / 24.0);
        // Scales have 15 bits relative to the largest one of the row; a weight has up to 63 * (15 + 24) of one.
        let largest = row.iter().map(scale_of).fold(0.0, f32::max);
        let coarse = largest / 32_768.0 * 63.0 * 39.0;
        for (weights, block) in weights.chunks(kind.block()).zip(&row) {
            // Offsets have 4 bits or more behind the point, and are rounded twice.
            let step = scale_of(block) / 16.0;
            let changed = if block.min.abs() > 24.0 * block.scale {
                block.min.abs() / 3.0
            } else {
                0.0
            };
            for (column, (weight, quant)) in weights.iter().zip(&block.quants).enumerate() {
                let part = column / BLOCK;
                let exact = f32::from(*quant) * f32::from(block.subscales[part]) * block.scale
                    + f32::from(block.submins[part]) * block.min;
                let bound = step + changed + coarse;
                let error = (weight - exact).abs();
                assert!(error <= bound, "{ratio}: {weight} and {exact}");
            }
        }
    }
}

#[test]
fn rows_that_do_not_belong_to_a_kind_are_refused() {
    for kind in Kind::ALL {
        let good = block(kind, 1.0);
        let encode =
            |block: RowBlock| encode::tile(kind, kind.block(), &[vec![block]], &mut Vec::new());
        assert_eq!(encode(good.clone()), Ok(()));
        for scale in [f32::NAN, f32::INFINITY] {
            assert_eq!(
                encode(RowBlock {
                    scale,
                    ..good.clone()
                }),
                Err(EncodeError::NotFinite)
            );
            assert_eq!(
                encode(RowBlock {
                    min: scale,
                    ..good.clone()
                }),
                Err(EncodeError::NotFinite)
            );
        }
        let shapes = [
            RowBlock {
                quants: vec![9000; kind.block()],
                ..good.clone()
            },
            RowBlock {
                quants: vec![0; 16],
                ..good.clone()
            },
            RowBlock {
                subscales: vec![0; 3],
                ..good.clone()
            },
            RowBlock {
                submins: vec![64; 8],
                ..good.clone()
            },
        ];
        for shape in shapes {
            assert_eq!(encode(shape), Err(EncodeError::Shape), "{kind:?}");
        }
        let rows = vec![vec![good]; TILE_ROWS + 1];
        assert_eq!(
            encode::tile(kind, kind.block(), &rows, &mut Vec::new()),
            Err(EncodeError::Shape)
        );
        assert_eq!(
            encode::tile(kind, kind.block(), &[], &mut Vec::new()),
            Err(EncodeError::Shape)
        );
        assert_eq!(
            encode::tile(kind, 1, &rows[..1], &mut Vec::new()),
            Err(EncodeError::Shape)
        );
    }
}

/// What a quantized block stands for.
fn value(activations: &Activations, rule: Rule, index: usize) -> f64 {
    let (token, column) = (index / activations.columns(), index % activations.columns());
    let place = |block: usize| column / block * activations.places() + token;
    let (mantissa, exponent) = activations.scale_of(token, column);
    let quant = match rule {
        Rule::Wide => f64::from(activations.wide[place(BLOCK)][column % BLOCK]),
        _ => f64::from(activations.quants[place(BLOCK)][column % BLOCK]),
    };
    quant * f64::from(mantissa) * 2f64.powi(exponent)
}

fn quantized(rule: Rule, x: &[f32], tokens: usize) -> Activations {
    let mut activations = Activations::default();
    activations.quantize(simd::select(), &Alone, rule, x, tokens, x.len() / tokens);
    activations
}

#[test]
fn quantized_activations_are_near_what_they_stand_for() {
    let mut random = Random(3);
    for (rule, largest) in [
        (Rule::Block, 127.0),
        (Rule::Super, 127.0),
        (Rule::Wide, 2047.0),
    ] {
        let (tokens, columns) = (3, 512);
        let x: Vec<f32> = (0..tokens * columns)
            .map(|i| random.float() * if i / 256 % 2 == 0 { 1.0 } else { 1e-4 })
            .collect();
        let activations = quantized(rule, &x, tokens);
        for (block, x) in x.chunks(rule.block()).enumerate() {
            let top = x.iter().fold(0.0f32, |top, x| top.max(x.abs()));
            for (i, x) in x.iter().enumerate() {
                let error =
                    (value(&activations, rule, block * rule.block() + i) - f64::from(*x)).abs();
                // Half a step, and the rounding of the scale to 15 bits of the vector's largest one.
                assert!(
                    error <= f64::from(top) * 0.5 / largest + 1.0 / 32_768.0,
                    "{rule:?}: {error} of {top}"
                );
            }
        }
        let sum = |quants: &[i8]| quants.iter().map(|quant| i32::from(*quant)).sum::<i32>();
        for (at, quants) in activations.quants.iter().enumerate() {
            assert_eq!(activations.zeros[at], -8 * sum(quants));
            assert_eq!(activations.pair_zeros[at], pair_zeros(quants, 8));
            if rule == Rule::Super {
                let (part, place) = (at / activations.places(), at % activations.places());
                let block = part / PARTS * activations.places() + place;
                assert_eq!(
                    i32::from(activations.sums[block][part % PARTS]),
                    sum(quants)
                );
                let halves = quants.as_chunks::<16>().0;
                assert!(
                    halves
                        .iter()
                        .zip(activations.pair_zeros_of_16[at])
                        .all(|(quants, zero)| zero == pair_zeros(quants, 32))
                );
                let eighths = quants.as_chunks::<8>().0;
                let zeros = activations.zeros_of_8[at];
                assert!(
                    eighths
                        .iter()
                        .zip(zeros)
                        .all(|(quants, zero)| zero == -32 * sum(quants))
                );
            }
        }
    }
}

/// Minus the zero point times the sums at positions 0, 1 and at 2, 3 of each four, in the halves of a number.
fn pair_zeros(quants: &[i8], zero_point: i32) -> i32 {
    let sum = |first: usize| {
        let pairs = quants.as_chunks::<4>().0.iter();
        let sums = pairs.map(|four| i32::from(four[first]) + i32::from(four[first + 1]));
        -zero_point * sums.sum::<i32>()
    };
    sum(2) << 16 | sum(0) & 0xffff
}

#[test]
fn infinities_and_absent_numbers_count_as_zeros() {
    let mut x = vec![1.0; 64];
    x[3] = f32::NAN;
    for rule in [Rule::Block, Rule::Wide] {
        let activations = quantized(rule, &x, 1);
        assert_eq!(value(&activations, rule, 0), 0.0);
        // Half a step of 8 bits.
        assert!((value(&activations, rule, 40) - 1.0).abs() < 0.5 / 127.0);
    }
    let activations = quantized(Rule::Block, &[1e-44; 32], 1);
    assert_eq!(activations.quants, [[0; 32]]);
}
