//! Matrix products of sixteen tokens at a time with AMX: the groups of a block are the rows of a tile register.
//!
//! A tile of products is `[token][row]` in 32 bits. Tile registers are stored after each block (for 6-bit weights
//! after each half of one), because every block has scales of its own; from there on vectors do the rest.

use super::lanes::{Avx512, Lanes, NoTiles};
use super::products::{self, BYTE, FIVE, Inputs, NIBBLE_MIN, Products, SixZeros, Wide, add_scaled};
use crate::layout::activations::Activations;
use crate::layout::{BLOCK, GROUP_BYTES, Matrix, TILE_ROWS};
use crate::simd::MAX_BLOCK_TOKENS;
use crate::workers::Columns;
use core::arch::asm;
use core::ops::Range;

/// Tokens in a tile.
pub(super) const TOKENS: usize = 16;

/// Sixteen tokens' activations of one block.
type Block = [[i8; BLOCK]; TOKENS];
/// Unsigned weights of the groups of one block.
type Weights = [[u8; GROUP_BYTES]; 8];
/// Products, `[token][row]`.
type Sums = [[i32; TILE_ROWS]; TOKENS];

/// What multiplies tiles of bytes: the processor, or a test's arithmetic.
pub(super) trait Tiles: Copy {
    /// Before the first product on this processor.
    fn begin();
    /// After the last one.
    fn end();
    /// `sums[token][row]`: products of all 32 columns of a block.
    fn block(inputs: &Block, weights: &Weights, sums: &mut Sums);
    /// Products of 16 columns, the first or the second half of a block.
    fn half_block(inputs: &Block, weights: &Weights, half: usize, sums: &mut Sums);
}

/// AMX-TILE and AMX-INT8.
#[derive(Clone, Copy)]
pub(super) struct Amx(());

/// Shapes of the tile registers (Intel SDM, volume 1, table 18-1): `(rows, bytes of a row)`.
const SHAPES: [(u8, u8); 5] = [
    // 0: products.
    (TOKENS as u8, 4 * TILE_ROWS as u8),
    // 1: activations of a block, 2: its weights.
    (TOKENS as u8, BLOCK as u8),
    (8, GROUP_BYTES as u8),
    // 3: activations of half a block, 4: its weights.
    (TOKENS as u8, BLOCK as u8 / 2),
    (4, GROUP_BYTES as u8),
];

/// The operand of `LDTILECFG`.
#[repr(align(64))]
struct TileConfig([u8; 64]);

static CONFIG: TileConfig = {
    let mut bytes = [0; 64];
    // Palette.
    bytes[0] = 1;
    let mut tile = 0;
    while tile < SHAPES.len() {
        (bytes[48 + tile], bytes[16 + 2 * tile]) = SHAPES[tile];
        tile += 1;
    }
    TileConfig(bytes)
};

/// Bytes from one token's activations to the next one's.
const INPUT_STRIDE: usize = BLOCK;
/// Bytes from one group's weights to the next one's, and from one token's products to the next one's.
const LINE_STRIDE: usize = GROUP_BYTES;

impl Tiles for Amx {
    fn begin() {
        // SAFETY: this type's functions are reached only where the processor has AMX and its state is enabled; the
        // configuration is 64 bytes of palette 1 with shapes that it allows.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &CONFIG.0, options(nostack, readonly)) };
    }

    fn end() {
        // SAFETY: as above; no tile register is in use.
        unsafe { asm!("tilerelease", options(nostack, nomem)) };
    }

    #[inline(always)]
    fn block(inputs: &Block, weights: &Weights, sums: &mut Sums) {
        // SAFETY: 1. As above; `begin` has set the shapes. 2. Tile 1 reads 16 rows of 32 bytes, 32 apart: `inputs`.
        // Tile 2 reads 8 rows of 64 bytes, 64 apart: `weights`. Tile 0 writes 16 rows of 64 bytes, 64 apart: `sums`.
        unsafe {
            asm!(
                "tilezero tmm0",
                "tileloadd tmm1, [{inputs} + {input_stride}]",
                "tileloadd tmm2, [{weights} + {line_stride}]",
                "tdpbsud tmm0, tmm1, tmm2",
                "tilestored [{sums} + {line_stride}], tmm0",
                inputs = in(reg) inputs,
                input_stride = in(reg) INPUT_STRIDE,
                weights = in(reg) weights,
                line_stride = in(reg) LINE_STRIDE,
                sums = in(reg) sums,
                options(nostack),
            );
        }
    }

    #[inline(always)]
    fn half_block(inputs: &Block, weights: &Weights, half: usize, sums: &mut Sums) {
        assert!(half < 2, "a block has two halves");
        // SAFETY: 1. As above. 2. Tile 3 reads 16 bytes of each token's 32, from the start or the middle. Tile 4 reads
        // 4 rows of 64 bytes of the 8, the first or the last four. Tile 0 writes all of `sums`.
        unsafe {
            asm!(
                "tilezero tmm0",
                "tileloadd tmm3, [{inputs} + {input_stride}]",
                "tileloadd tmm4, [{weights} + {line_stride}]",
                "tdpbsud tmm0, tmm3, tmm4",
                "tilestored [{sums} + {line_stride}], tmm0",
                inputs = in(reg) inputs.as_ptr().cast::<i8>().add(half * BLOCK / 2),
                input_stride = in(reg) INPUT_STRIDE,
                weights = in(reg) weights.as_ptr().add(4 * half),
                line_stride = in(reg) LINE_STRIDE,
                sums = in(reg) sums,
                options(nostack),
            );
        }
    }
}

/// Multiplies with tiles what fills them, and the rest without. See [`crate::simd::Kernels::multiply`]; shapes are
/// checked.
#[inline(always)]
pub(super) fn multiply<T: Tiles>(
    v: Avx512<T>,
    matrix: &Matrix<'_>,
    tiles: Range<usize>,
    activations: &Activations,
    out: Columns<'_, f32>,
) {
    if !activations.places().is_multiple_of(TOKENS) {
        let v: Avx512<NoTiles> = v.without_tiles();
        return products::multiply::<_, 4>(v, matrix, tiles, activations, out);
    }
    T::begin();
    products::multiply_tokens::<_, MAX_BLOCK_TOKENS, TOKENS>(v, matrix, tiles, activations, out);
    T::end();
}

impl<T: Tiles> Avx512<T> {
    /// The weights of a block in memory, where tiles are loaded from.
    #[inline(always)]
    fn stored(self, weights: &[<Self as Lanes>::Int; 8]) -> Weights {
        let mut stored = [[0; GROUP_BYTES]; 8];
        for (line, weight) in stored.iter_mut().zip(weights) {
            self.store_bytes(*weight, line);
        }
        stored
    }
}

/// The one group of tokens that a tile takes.
#[inline(always)]
fn sixteen<T, const G: usize>(all: &[T; G]) -> &[T; TOKENS] {
    all.first_chunk().expect("tiles take sixteen tokens")
}

/// For groups of `G` = 16 tokens only.
impl<T: Tiles> Products for Avx512<T> {
    #[inline(always)]
    fn add_block<const KIND: u8, const G: usize>(
        self,
        totals: &mut [Wide<Self>; G],
        weights: &[Self::Int; 8],
        inputs: &Inputs<'_, G>,
        scales: Self::Int,
        mantissas: &[i32; G],
    ) {
        let mut sums = [[0; TILE_ROWS]; TOKENS];
        T::block(sixteen(inputs.quants), &self.stored(weights), &mut sums);
        for (token, total) in totals.iter_mut().enumerate() {
            // -8 times the sum of the activations.
            let zero = self.splat(inputs.zeros[token]);
            let zero = match KIND {
                NIBBLE_MIN => self.zero(),
                FIVE => self.shl::<1>(zero),
                BYTE => self.shl::<4>(zero),
                _ => zero,
            };
            let sum = self.add(self.load_i32(&sums[token]), zero);
            let scales = self.madd(scales, self.splat(mantissas[token]));
            add_scaled(self, total, sum, scales);
        }
    }

    #[inline(always)]
    fn scaled_nibbles<const G: usize>(
        self,
        totals: &mut [Self::Int; G],
        weights: &[[Self::Int; 8]; 2],
        inputs: &[Inputs<'_, G>; 2],
        factors: Self::Int,
    ) {
        let mut sums = [[[0; TILE_ROWS]; TOKENS]; 2];
        for ((sums, weights), inputs) in sums.iter_mut().zip(weights).zip(inputs) {
            T::block(sixteen(inputs.quants), &self.stored(weights), sums);
        }
        for (token, total) in totals.iter_mut().enumerate() {
            let mut pair = [self.zero(); 2];
            for ((sum, sums), inputs) in pair.iter_mut().zip(&sums).zip(inputs) {
                // Takes the sum into 16 bits, see `vnni`.
                *sum = self.add(self.load_i32(&sums[token]), self.splat(inputs.zeros[token]));
            }
            *total = self.madd_add(*total, self.pair(pair[0], pair[1]), factors);
        }
    }

    #[inline(always)]
    fn without_zero(self, total: Self::Int, factors: Self::Int, eights: Self::Int) -> Self::Int {
        self.madd_add(total, factors, eights)
    }

    #[inline(always)]
    fn scaled_six<const G: usize>(
        self,
        totals: &mut [Self::Int; G],
        weights: &[Self::Int; 8],
        inputs: &Inputs<'_, G>,
        zeros: &SixZeros<'_, G>,
        factors: [Self::Int; 2],
    ) {
        let weights = self.stored(weights);
        for (half, factor) in factors.into_iter().enumerate() {
            let mut sums = [[0; TILE_ROWS]; TOKENS];
            T::half_block(sixteen(inputs.quants), &weights, half, &mut sums);
            // 16 columns need 17 bits: a 32-bit product with the sign-extended factor.
            let factor = self.sar::<16>(self.shl::<16>(factor));
            for (total, (sum, zeros)) in totals.iter_mut().zip(sums.iter().zip(zeros.of_8)) {
                let zero = self.splat(zeros[2 * half] + zeros[2 * half + 1]);
                let sum = self.add(self.load_i32(sum), zero);
                *total = self.add(*total, self.mul(sum, factor));
            }
        }
    }
}

/// The arithmetic of tile registers (Intel SDM, volume 2, `TDPBSUD`), for tests on processors without.
#[cfg(test)]
#[derive(Clone, Copy)]
pub(super) struct Emulated(());

#[cfg(test)]
impl Emulated {
    fn product(inputs: &Block, weights: &Weights, groups: Range<usize>, sums: &mut Sums) {
        for (sums, inputs) in sums.iter_mut().zip(inputs) {
            for (row, sum) in sums.iter_mut().enumerate() {
                let columns = 4 * groups.start..4 * groups.end;
                let product = |column: usize| {
                    let weight = weights[column / 4][4 * row + column % 4];
                    i32::from(inputs[column]) * i32::from(weight)
                };
                *sum = columns.map(product).sum();
            }
        }
    }
}

#[cfg(test)]
impl Tiles for Emulated {
    fn begin() {}

    fn end() {}

    fn block(inputs: &Block, weights: &Weights, sums: &mut Sums) {
        Self::product(inputs, weights, 0..8, sums);
    }

    fn half_block(inputs: &Block, weights: &Weights, half: usize, sums: &mut Sums) {
        Self::product(inputs, weights, 4 * half..4 * half + 4, sums);
    }
}
