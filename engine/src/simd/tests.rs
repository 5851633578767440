//! Every set of inner loops gives the same bits.

use super::{
    Kernels, MAX_BLOCK_TOKENS, NO_SCORE, QUERY_SPLIT_BITS, Query, SCORE_LIMIT, available, portable,
    select,
};
use crate::layout::activations::{Activations, Rule};
use crate::layout::encode::{self, RowBlock};
use crate::layout::{BLOCK, Kind, Matrix, TILE_ROWS};
use crate::workers::{Alone, Columns};

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

fn quantized(kernels: &Kernels, kind: Kind, x: &[f32], columns: usize) -> Activations {
    let mut activations = Activations::default();
    activations.quantize(kernels, &Alone, kind.rule(), x, x.len() / columns, columns);
    activations
}

/// All sets that can run here, and those with emulated instructions.
fn tested() -> impl Iterator<Item = &'static Kernels> {
    #[cfg(target_arch = "x86_64")]
    let emulated = super::x86::emulated();
    #[cfg(not(target_arch = "x86_64"))]
    let emulated = core::iter::empty();
    available().chain(emulated)
}

fn compare(kind: Kind, rows: usize, columns: usize, fill: Fill, x: &[f32]) {
    let mut random = Random(rows as u64 * 31 + columns as u64);
    let bytes = matrix_bytes(kind, rows, columns, fill, &mut random);
    let matrix = Matrix::new(kind, rows, columns, &bytes).expect("the bytes fit the shape");
    let activations = quantized(portable(), kind, x, columns);
    let expected = product(portable(), &matrix, &activations);
    assert!(
        expected
            .iter()
            .all(|bits| f32::from_bits(*bits).is_finite())
    );
    for kernels in tested() {
        assert_eq!(quantized(kernels, kind, x, columns), activations);
        let found = product(kernels, &matrix, &activations);
        let name = kernels.name;
        assert_eq!(
            expected, found,
            "{name}: {kind:?} {rows} x {columns} {fill:?}"
        );
    }
}

/// Random shapes and contents for each kind of matrix.
const SHAPES: usize = if cfg!(miri) { 2 } else { 10_000 };

fn compare_random_shapes(kind: Kind) {
    let mut random = Random(kind as u64);
    for round in 0..SHAPES {
        // Mostly small ones, so that there is time for many; some that fill tiles of sixteen tokens.
        let (tiles, blocks, tokens) = match round % 50 {
            0 => (3, 9, 1..=MAX_BLOCK_TOKENS),
            1 => (1, 2, 13..=16),
            _ => (2, 512 / kind.block(), 1..=3),
        };
        let rows = random.range(1, tiles * TILE_ROWS as i64) as usize;
        let columns = kind.block() * random.range(1, blocks as i64) as usize;
        let tokens = random.range(*tokens.start() as i64, *tokens.end() as i64) as usize;
        let size = 10f32.powi(random.range(-6, 3) as i32);
        let outlier = if round % 7 == 0 { 3e4 } else { 1.0 };
        let x: Vec<f32> = (0..tokens * columns)
            .map(|i| random.float() * size * if i % 97 == 5 { outlier } else { 1.0 })
            .collect();
        compare(kind, rows, columns, Fill::Random, &x);
    }
}

/// A test for each kind, so that they run side by side.
macro_rules! random_shapes {
    ($($test:ident: $kind:ident;)*) => {$(
        #[test]
        fn $test() {
            compare_random_shapes(Kind::$kind);
        }
    )*};
}

random_shapes! {
    nibble_products_are_the_same: Nibble;
    nibble_min_products_are_the_same: NibbleMin;
    five_bit_products_are_the_same: Five;
    byte_products_are_the_same: Byte;
    nibble_super_products_are_the_same: NibbleSuper;
    six_bit_super_products_are_the_same: SixSuper;
    wide_products_are_the_same: Wide;
}

#[test]
fn products_are_the_same_at_the_extremes() {
    let widest = if cfg!(miri) {
        512
    } else {
        crate::pack::format::MAX_COLUMNS
    };
    for kind in Kind::ALL {
        // The widest matrix of all, so that sums are as large as they can be.
        for columns in [kind.block(), widest] {
            for fill in [Fill::Lowest, Fill::Highest, Fill::Random] {
                for value in [1e20, -1e20, 1e30, 1e-30, 0.0, f32::INFINITY, f32::NAN] {
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
        let activations = quantized(select(), kind, &x, columns);
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

/// What 16-bit factors and shifted sums lose, apart from what rounding activations loses.
#[test]
fn scales_for_32_columns_lose_little() {
    let mut random = Random(6);
    let rule = Rule::Block;
    for kind in Kind::ALL.into_iter().filter(|kind| kind.rule() == rule) {
        for columns in [32, 96, 896, 4864] {
            let rows = TILE_ROWS;
            let bytes = matrix_bytes(kind, rows, columns, Fill::Random, &mut random);
            let matrix = Matrix::new(kind, rows, columns, &bytes).expect("the bytes fit the shape");
            // Blocks of very different sizes, as models have them.
            let x: Vec<f32> = (0..columns)
                .map(|i| random.float() * [1.0, 0.1, 30.0, 0.01, 3.0][i / BLOCK % 5])
                .collect();
            let activations = quantized(select(), kind, &x, columns);
            let found = product(select(), &matrix, &activations);
            let (mut lost, mut rounded, mut size) = (0.0f64, 0.0f64, 0.0f64);
            for (row, bits) in found.into_iter().enumerate() {
                let mut weights = vec![0.0; columns];
                crate::layout::row_to_f32(&matrix, row, &mut weights);
                let (mut exact, mut quantized) = (0.0, 0.0);
                for (column, weight) in weights.iter().enumerate() {
                    let (mantissa, exponent) = activations.scale_of(0, column);
                    let scale = f64::from(mantissa) * 2f64.powi(exponent);
                    let quant = f64::from(activations.quants[column / BLOCK][column % BLOCK]);
                    let input = quant * scale;
                    quantized += f64::from(*weight) * input;
                    exact += f64::from(*weight) * f64::from(x[column]);
                }
                lost += (f64::from(f32::from_bits(bits)) - quantized).powi(2);
                rounded += (quantized - exact).powi(2);
                size += exact.powi(2);
            }
            let [lost, rounded] = [lost, rounded].map(|sum| (sum / size).sqrt());
            println!("{kind:?}, {columns}: lost {lost:.6}, by rounding activations {rounded:.6}");
            assert!(
                lost < 0.25 * rounded,
                "{kind:?}, {columns}: {lost} of {rounded}"
            );
        }
    }
}

/// Numbers up to `largest`, or all of them as large as that.
fn numbers(random: &mut Random, extreme: bool, count: usize, largest: i64) -> Vec<i16> {
    let fill = if extreme { Fill::Highest } else { Fill::Random };
    (0..count)
        .map(|_| pick(random, fill, -largest, largest) as i16)
        .collect()
}

#[test]
fn scores_are_the_same() {
    let mut random = Random(2);
    for round in 0..SHAPES {
        let head_dim = 16 * random.range(1, 16) as usize;
        let positions = 16 * random.range(1, 4) as usize;
        let extreme = round % 10 == 0;
        let limit = 1 << (QUERY_SPLIT_BITS - 1);
        let (high, low) = (
            numbers(&mut random, extreme, head_dim, limit),
            numbers(&mut random, extreme, head_dim, limit),
        );
        let query = Query {
            high: &high,
            low: &low,
            exponent: random.range(-40, 20) as i32,
        };
        let keys = numbers(&mut random, extreme, positions * head_dim, 32767);
        let exponents = numbers(&mut random, false, positions, 60);
        let mut expected = vec![0; positions];
        (portable().scores)(&query, &keys, &exponents, &mut expected);
        for kernels in available() {
            let mut found = vec![0; positions];
            (kernels.scores)(&query, &keys, &exponents, &mut found);
            assert_eq!(expected, found, "{}: {head_dim} {positions}", kernels.name);
        }
    }
}

#[test]
fn softmax_and_weighted_sums_are_the_same() {
    let mut random = Random(3);
    for round in 0..SHAPES {
        let positions = random.range(1, 200) as usize;
        let padded = positions.next_multiple_of(16);
        let spread = [1, 1 << 10, 1 << 17, 1 << 22, SCORE_LIMIT][round % 5];
        let mut scores: Vec<i32> = (0..padded)
            .map(|_| random.range(-spread, spread) as i32)
            .collect();
        scores[positions..].fill(NO_SCORE);
        let exponents = numbers(&mut random, false, padded, [0, 3, 40][round % 3]);
        let head_dim = 16 * random.range(1, 9) as usize;
        let values = numbers(&mut random, round % 10 == 0, padded * head_dim, 2047);
        let attend = |kernels: &Kernels| {
            let (mut scores, mut weights) = (scores.clone(), vec![0; padded]);
            let softened = (kernels.soften)(&mut scores, &exponents, &mut weights);
            let mut sums = vec![7; head_dim];
            (kernels.weigh)(&weights, &values, &mut sums);
            (softened, weights, sums)
        };
        let expected = attend(portable());
        assert!(expected.1[positions..].iter().all(|weight| *weight == 0));
        for kernels in available() {
            assert_eq!(expected, attend(kernels), "{}: {positions}", kernels.name);
        }
    }
}

#[test]
fn elementwise_loops_are_the_same() {
    let mut random = Random(4);
    for round in 0..SHAPES {
        let length = random.range(1, 80) as usize;
        let size = 10f32.powi(random.range(-20, 8) as i32);
        let mut vector = || -> Vec<f32> { (0..length).map(|_| random.float() * size).collect() };
        let (mut x, y) = (vector(), vector());
        x[0] = [1.0, f32::NAN, f32::INFINITY, -0.0, f32::MIN, -1e-40][round % 6];
        let work = |kernels: &Kernels| {
            let (mut gate, mut out) = (x.clone(), vec![0.0; length]);
            (kernels.swiglu)(&mut gate, &y);
            (kernels.norm)(&x[1..], &y[1..], 1e-5, &mut out[1..]);
            // One number that is none is as good as another.
            let bits = |x: f32| if x.is_nan() { 0 } else { x.to_bits() };
            (
                gate.into_iter().map(bits).collect(),
                out.into_iter().map(bits).collect(),
            )
        };
        let expected: (Vec<u32>, Vec<u32>) = work(portable());
        for kernels in available() {
            assert_eq!(expected, work(kernels), "{}: {length}", kernels.name);
        }
    }
}

#[test]
fn the_fastest_set_comes_first() {
    let names: Vec<&str> = available().map(|kernels| kernels.name).collect();
    assert_eq!(names.first(), Some(&select().name));
    assert_eq!(names.last(), Some(&"portable"));
    let has_vnni = std::arch::is_x86_feature_detected!("avx512vnni");
    assert_eq!(names.contains(&"avx512-vnni"), has_vnni);
    assert_eq!(
        names.contains(&"avx2"),
        std::arch::is_x86_feature_detected!("avx2")
    );
}
