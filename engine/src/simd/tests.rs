//! Every set of inner loops gives the same bits.

use super::{Kernels, MAX_BLOCK_TOKENS, portable, select};
use crate::layout::activations::Activations;
use crate::layout::encode::{self, RowBlock};
use crate::layout::{Kind, Matrix, TILE_ROWS};
use crate::workers::Columns;

/// A small generator (SplitMix64) so that tests repeat.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// A number in `low..=high`.
    pub(crate) fn range(&mut self, low: i64, high: i64) -> i64 {
        low + (self.next() % (high - low + 1).unsigned_abs()).cast_signed()
    }

    /// A number in -1..1.
    pub(crate) fn float(&mut self) -> f32 {
        self.range(-(1 << 24), 1 << 24) as f32 / (1 << 24) as f32
    }
}

/// What a matrix is filled with.
#[derive(Debug, Clone, Copy)]
enum Fill {
    Random,
    Lowest,
    Highest,
}

fn pick(random: &mut Random, fill: Fill, low: i64, high: i64) -> i64 {
    match fill {
        Fill::Random => random.range(low, high),
        Fill::Lowest => low,
        Fill::Highest => high,
    }
}

fn block(kind: Kind, fill: Fill, random: &mut Random) -> RowBlock {
    let (low, high) = match kind {
        Kind::Nibble => (-8, 7),
        Kind::NibbleMin | Kind::NibbleSuper => (0, 15),
        Kind::Five => (-16, 15),
        Kind::SixSuper => (-32, 31),
        Kind::Byte => (-128, 127),
        Kind::Wide => (-8191, 8191),
    };
    let scale = match fill {
        Fill::Random => random.float() * 0.01,
        Fill::Lowest => -65504.0,
        Fill::Highest => 65504.0,
    };
    let subscales = match kind {
        Kind::NibbleSuper => (0..8).map(|_| pick(random, fill, 0, 63) as i16).collect(),
        Kind::SixSuper => (0..16)
            .map(|_| pick(random, fill, -128, 127) as i16)
            .collect(),
        _ => Vec::new(),
    };
    let submins = if kind == Kind::NibbleSuper { 8 } else { 0 };
    RowBlock {
        scale,
        min: if kind.has_min() { random.float() } else { 0.0 },
        quants: (0..kind.block())
            .map(|_| pick(random, fill, low, high) as i16)
            .collect(),
        subscales,
        submins: (0..submins)
            .map(|_| pick(random, fill, 0, 63) as u8)
            .collect(),
    }
}

fn matrix_bytes(
    kind: Kind,
    rows: usize,
    columns: usize,
    fill: Fill,
    random: &mut Random,
) -> Vec<u8> {
    let mut bytes = Vec::new();
    for first in (0..rows).step_by(TILE_ROWS) {
        let tile: Vec<Vec<RowBlock>> = (first..rows.min(first + TILE_ROWS))
            .map(|_| {
                (0..columns / kind.block())
                    .map(|_| block(kind, fill, random))
                    .collect()
            })
            .collect();
        encode::tile(kind, columns, &tile, &mut bytes)
            .expect("blocks have the shape of their kind");
    }
    bytes
}

fn product(kernels: &Kernels, matrix: &Matrix<'_>, activations: &Activations) -> Vec<u32> {
    let mut out = vec![f32::NAN; activations.tokens() * matrix.rows()];
    (kernels.multiply)(matrix, activations, Columns::all(&mut out, matrix.rows()));
    out.into_iter().map(f32::to_bits).collect()
}

fn compare(kind: Kind, rows: usize, columns: usize, fill: Fill, x: &[f32]) {
    let mut random = Random(rows as u64 * 31 + columns as u64);
    let bytes = matrix_bytes(kind, rows, columns, fill, &mut random);
    let matrix = Matrix::new(kind, rows, columns, &bytes).expect("the bytes fit the shape");
    let mut activations = Activations::default();
    activations.quantize(kind.rule(), x, x.len() / columns, columns);
    let expected = product(portable(), &matrix, &activations);
    let found = product(select(), &matrix, &activations);
    assert_eq!(expected, found, "{kind:?} {rows} x {columns} {fill:?}");
    assert!(expected.iter().all(|bits| !f32::from_bits(*bits).is_nan()));
}

#[test]
fn products_are_the_same_for_random_shapes() {
    let mut random = Random(1);
    for kind in Kind::ALL {
        for _ in 0..12 {
            let rows = random.range(1, 41) as usize;
            let columns = kind.block() * random.range(1, 9) as usize;
            let tokens = random.range(1, MAX_BLOCK_TOKENS as i64) as usize;
            let x: Vec<f32> = (0..tokens * columns)
                .map(|_| random.float() * 10f32.powi(random.range(-6, 3) as i32))
                .collect();
            compare(kind, rows, columns, Fill::Random, &x);
        }
    }
}

#[test]
fn products_are_the_same_at_the_extremes() {
    for kind in Kind::ALL {
        // The widest matrix of all, so that sums are as large as they can be.
        for columns in [kind.block(), crate::pack::format::MAX_COLUMNS] {
            for fill in [Fill::Lowest, Fill::Highest, Fill::Random] {
                for value in [1e30, -1e30, 1e-30, 0.0, f32::INFINITY, f32::NAN] {
                    compare(kind, 9, columns, fill, &vec![value; 2 * columns]);
                }
            }
        }
    }
}

#[test]
fn a_product_is_the_sum_of_weights_times_inputs() {
    let mut random = Random(5);
    for kind in Kind::ALL {
        let (rows, columns) = (11, 512);
        let bytes = matrix_bytes(kind, rows, columns, Fill::Random, &mut random);
        let matrix = Matrix::new(kind, rows, columns, &bytes).expect("the bytes fit the shape");
        let x: Vec<f32> = (0..columns).map(|_| random.float()).collect();
        let mut activations = Activations::default();
        activations.quantize(kind.rule(), &x, 1, columns);
        let found = product(select(), &matrix, &activations);
        for (row, bits) in found.into_iter().enumerate() {
            let mut weights = vec![0.0; columns];
            crate::layout::row_to_f32(&matrix, row, &mut weights);
            let products = weights
                .iter()
                .zip(&x)
                .map(|(w, x)| f64::from(*w) * f64::from(*x));
            let (sum, size) = products.fold((0.0, 0.0), |(sum, size), p| (sum + p, size + p.abs()));
            let error = (f64::from(f32::from_bits(bits)) - sum).abs();
            assert!(error < 0.002 * size, "{kind:?}: {error} of {size}");
        }
    }
}

#[test]
fn attention_is_the_same() {
    let mut random = Random(2);
    for head_dim in [16, 32, 48, 64, 80, 96, 128, 256] {
        for (positions, extreme) in [(1, false), (2, true), (63, false), (64, true)] {
            let mut numbers = |count: usize, largest: i64| -> Vec<i16> {
                (0..count)
                    .map(|_| {
                        pick(
                            &mut random,
                            if extreme { Fill::Highest } else { Fill::Random },
                            -largest,
                            largest,
                        ) as i16
                    })
                    .collect()
            };
            let (high, low) = (numbers(head_dim, 2048), numbers(head_dim, 2048));
            let keys = numbers(positions * head_dim, 32767);
            let mut scores = [vec![0; positions], vec![0; positions]];
            (portable().scores)(&high, &low, &keys, &mut scores[0]);
            (select().scores)(&high, &low, &keys, &mut scores[1]);
            assert_eq!(scores[0], scores[1]);

            let padded = positions.next_multiple_of(2);
            let weights = numbers(padded, (1 << 19) / padded as i64 - 1);
            let values = numbers(padded * head_dim, 2047);
            let mut sums = [vec![7; head_dim], vec![7; head_dim]];
            (portable().weigh)(&weights, &values, &mut sums[0]);
            (select().weigh)(&weights, &values, &mut sums[1]);
            assert_eq!(sums[0], sums[1]);
        }
    }
}

#[test]
fn this_machine_has_a_vector_set() {
    if std::arch::is_x86_feature_detected!("avx2") {
        assert_eq!(select().name, "avx2");
    } else {
        assert_eq!(select().name, "portable");
    }
}
