//! Matrix products of super-blocks and sixteen tokens at a time with AMX: the groups of a block are the rows of a tile
//! register.
//!
//! A tile of products is `[token][row]` in 32 bits. Tile registers can be read through memory alone, and what is read
//! has to meet scales. That pays where one sum covers 256 columns, so the sub-scales of a super-block go into its weights
//! first. A weight times its sub-scale does not fit a signed byte, so there are two sets of weights, and a sum is
//! `first + second << SHIFT`:
//!
//! | weights | first | second | shift |
//! |---|---|---|---|
//! | 0..=15, sub-scale `s` of 6 bits | `weight * (s & 7)`, at most 105 | `weight * (s >> 3)`, at most 105 | 3 |
//! | -32..=31, sub-scale of 8 bits, their product `p` at most 4,096 | `p & 127` | `p >> 7`, -32..=32 | 7 |
//!
//! With a scale for 32 columns there would be a tile of products for each block: measured on Intel's family 6, model 207,
//! that is no faster than `VPDPBUSD` (and with minima slower), which those kinds have.

use super::lanes::{Avx512, Lanes, NoTiles};
use super::products::{self, Method, Offsets, SCALE_BYTES, Sums, TileTask, add_scaled};
#[cfg(test)]
use crate::layout::SUPER_BLOCK;
use crate::layout::activations::{Activations, PARTS, two_i16};
use crate::layout::{BLOCK, GROUP_BYTES, Kind, Matrix, NIBBLE_BYTES, TILE_ROWS};
use crate::simd::MAX_BLOCK_TOKENS;
use crate::workers::Columns;
use core::arch::asm;
use core::arch::x86_64::__m512i;
use core::ops::Range;

/// Tokens in a tile.
pub(super) const TOKENS: usize = 16;
/// Tiles that the most tokens fill.
const TOKEN_TILES: usize = MAX_BLOCK_TOKENS / TOKENS;

/// Signed weights of the groups of one block, as bytes.
type BlockWeights = [[u8; GROUP_BYTES]; 8];
/// Two sets of weights of a super-block.
type Weights = [[BlockWeights; PARTS]; 2];
/// Products of sixteen tokens, `[token][row]`.
type TileProducts = [[i32; TILE_ROWS]; TOKENS];
/// With either set of weights, one tile of tokens after the other.
type Products = [[TileProducts; TOKEN_TILES]; 2];

/// The activations of a super-block for one tile of tokens or two.
pub(super) struct Inputs<'a> {
    /// `[PARTS][places]`
    quants: &'a [[i8; BLOCK]],
    places: usize,
}

impl<'a> Inputs<'a> {
    /// Panics where tiles would reach outside.
    #[inline(always)]
    fn new(quants: &'a [[i8; BLOCK]], places: usize) -> Self {
        assert!(
            places == TOKENS || places == TOKEN_TILES * TOKENS,
            "{places} tokens in tiles"
        );
        assert_eq!(quants.len(), PARTS * places, "activations of a super-block");
        Self { quants, places }
    }
}

/// What multiplies tiles of bytes: the processor, or a test's arithmetic.
pub(super) trait Tiles: Copy {
    /// Before the first product on this processor.
    fn begin();
    /// After the last one.
    fn end();
    /// Sums over 256 columns with either set of weights.
    fn multiply(inputs: &Inputs<'_>, weights: &Weights, products: &mut Products);
}

/// AMX-TILE and AMX-INT8.
#[derive(Clone, Copy)]
pub(super) struct Amx(());

/// Shape of the tile registers 0 to 3 (Intel SDM, volume 1, table 18-1), products: `(rows, bytes of a row)`.
const PRODUCTS_SHAPE: (u8, u8) = (TOKENS as u8, 4 * TILE_ROWS as u8);
/// Registers 4 and 5: activations of a block.
const INPUTS_SHAPE: (u8, u8) = (TOKENS as u8, BLOCK as u8);
/// Registers 6 and 7: weights of a block.
const WEIGHTS_SHAPE: (u8, u8) = (8, GROUP_BYTES as u8);
const SHAPES: [(u8, u8); 8] = [
    PRODUCTS_SHAPE,
    PRODUCTS_SHAPE,
    PRODUCTS_SHAPE,
    PRODUCTS_SHAPE,
    INPUTS_SHAPE,
    INPUTS_SHAPE,
    WEIGHTS_SHAPE,
    WEIGHTS_SHAPE,
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

/// Instructions that take a super-block's activations and weights, and leave products.
macro_rules! tiles {
    (($inputs:ident, $weights:ident, $products:ident), $($instruction:literal,)*) => {
        asm!(
            $($instruction,)*
            weights = inout(reg) $weights.as_ptr() => _,
            inputs = inout(reg) $inputs.quants.as_ptr() => _,
            products = in(reg) $products.as_mut_ptr(),
            blocks = inout(reg) PARTS => _,
            line = in(reg) LINE_STRIDE,
            input = in(reg) INPUT_STRIDE,
            weight_bytes = const size_of::<BlockWeights>(),
            set_weights = const size_of::<[BlockWeights; PARTS]>(),
            tile_inputs = const TOKENS * BLOCK,
            tile_products = const size_of::<TileProducts>(),
            options(nostack),
        )
    };
}

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
    fn multiply(inputs: &Inputs<'_>, weights: &Weights, products: &mut Products) {
        // SAFETY: 1. As above; `begin` has set the shapes. 2. Of each of the 8 blocks, tile 4 reads 16 rows of 32 bytes,
        // 32 apart, and tile 5 the 16 after them where there are 32 places (`Inputs::new`); tiles 6 and 7 read 8 rows of
        // 64 bytes from either set of weights. 3. Tiles 0 to 3 write 16 rows of 64 bytes each: all products, or those of
        // the first tile of tokens with either set.
        unsafe {
            if inputs.places == TOKENS {
                tiles!(
                    (inputs, weights, products),
                    "tilezero tmm0",
                    "tilezero tmm2",
                    "2:",
                    "tileloadd tmm4, [{inputs} + {input}]",
                    "tileloadd tmm6, [{weights} + {line}]",
                    "tileloadd tmm7, [{weights} + {line} + {set_weights}]",
                    "tdpbssd tmm0, tmm4, tmm6",
                    "tdpbssd tmm2, tmm4, tmm7",
                    "add {weights}, {weight_bytes}",
                    "add {inputs}, {tile_inputs}",
                    "dec {blocks}",
                    "jnz 2b",
                    "tilestored [{products} + {line}], tmm0",
                    "tilestored [{products} + {line} + 2 * {tile_products}], tmm2",
                );
            } else {
                tiles!(
                    (inputs, weights, products),
                    "tilezero tmm0",
                    "tilezero tmm1",
                    "tilezero tmm2",
                    "tilezero tmm3",
                    "2:",
                    "tileloadd tmm4, [{inputs} + {input}]",
                    "tileloadd tmm6, [{weights} + {line}]",
                    "tileloadd tmm5, [{inputs} + {input} + {tile_inputs}]",
                    "tileloadd tmm7, [{weights} + {line} + {set_weights}]",
                    "tdpbssd tmm0, tmm4, tmm6",
                    "tdpbssd tmm1, tmm5, tmm6",
                    "tdpbssd tmm2, tmm4, tmm7",
                    "tdpbssd tmm3, tmm5, tmm7",
                    "add {weights}, {weight_bytes}",
                    "add {inputs}, 2 * {tile_inputs}",
                    "dec {blocks}",
                    "jnz 2b",
                    "tilestored [{products} + {line}], tmm0",
                    "tilestored [{products} + {line} + {tile_products}], tmm1",
                    "tilestored [{products} + {line} + 2 * {tile_products}], tmm2",
                    "tilestored [{products} + {line} + 3 * {tile_products}], tmm3",
                );
            }
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
    let is_super = matches!(matrix.kind(), Kind::NibbleSuper | Kind::SixSuper);
    if !is_super || !activations.places().is_multiple_of(TOKENS) {
        let v: Avx512<NoTiles> = v.without_tiles();
        return products::multiply::<_, 4>(v, matrix, tiles, activations, out);
    }
    T::begin();
    products::multiply_tokens::<_, InTiles, MAX_BLOCK_TOKENS>(v, matrix, tiles, activations, out);
    T::end();
}

/// With tile registers, 256 columns at a time.
struct InTiles;

/// What tiles are loaded from and stored to.
#[repr(align(64))]
pub(super) struct Scratch {
    weights: Weights,
    products: Products,
}

impl Default for Scratch {
    #[inline(always)]
    fn default() -> Self {
        Self {
            weights: [[[[0; GROUP_BYTES]; 8]; PARTS]; 2],
            products: [[[[0; TILE_ROWS]; TOKENS]; TOKEN_TILES]; 2],
        }
    }
}

impl<T: Tiles> Method<Avx512<T>> for InTiles {
    const GROUP: usize = TOKENS;
    type Scratch = Scratch;

    #[inline(always)]
    fn add_tile<const N: usize>(
        kind: Kind,
        tile: &TileTask<'_, Avx512<T>>,
        scratch: &mut Scratch,
        [sums, _]: &mut [Sums<Avx512<T>, N>; 2],
    ) {
        match kind {
            Kind::NibbleSuper => super_blocks_of_nibbles(tile, scratch, sums),
            Kind::SixSuper => super_blocks_of_six(tile, scratch, sums),
            _ => unreachable!("super-blocks alone"),
        }
    }
}

/// 4 bits, scales and minima for 256 columns with 6-bit factors for 32.
#[inline(always)]
fn super_blocks_of_nibbles<T: Tiles, const N: usize>(
    tile: &TileTask<'_, Avx512<T>>,
    scratch: &mut Scratch,
    sums: &mut Sums<Avx512<T>, N>,
) {
    let (v, rows, places, all) = (tile.v, tile.rows(0), tile.places, tile.activations);
    let sevens = v.splat(0x0007_0007);
    let offsets = Offsets::new(tile.tile);
    let bits = offsets.bits(rows);
    let mut quants = tile.quants(NIBBLE_BYTES);
    let inputs = all.quants.chunks_exact(PARTS * places);
    let inputs = inputs.zip(all.mantissas.chunks_exact(places));
    let inputs = inputs.zip(all.sums.chunks_exact(places));
    for (block, ((inputs, mantissas), input_sums)) in inputs.enumerate() {
        let ratios = rows.scales(&tile.tile.mins[block * SCALE_BYTES..]);
        let mut mins = [v.zero(); PARTS / 2];
        let [first, second] = &mut scratch.weights;
        for (part, (first, second)) in first.iter_mut().zip(second).enumerate() {
            let Some((quants, next)) = quants.next() else {
                return;
            };
            tile.fetch(next);
            // Two parts' factors lie in pairs.
            let at = (block * PARTS + part / 2 * 2) * TILE_ROWS;
            let min_factors = v.widen_u8(&tile.tile.submins[at..]);
            // Weights keep their zero point here, and offsets have no part of it.
            mins[part / 2] = offsets.of(rows, v.zero(), min_factors, ratios);
            let factors = v.halves(v.widen_u8(&tile.tile.subscales[at..]))[part % 2];
            let (low, high) = (v.and(factors, sevens), v.shr16::<3>(factors));
            let lines = first.iter_mut().zip(second);
            for (weight, (first, second)) in rows.nibbles(quants).into_iter().zip(lines) {
                // Bytes of at most 105: none reaches its neighbour.
                v.store_bytes(v.mul16(weight, low), first);
                v.store_bytes(v.mul16(weight, high), second);
            }
        }
        let inputs = Inputs::new(inputs, places);
        T::multiply(&inputs, &scratch.weights, &mut scratch.products);
        let at = block * SCALE_BYTES;
        let scales = rows.scales(&tile.tile.scales[at..]);
        for token in 0..all.tokens() {
            let mut dots = dots::<T, 3>(v, &scratch.products, token);
            for (pair, mins) in mins.into_iter().enumerate() {
                let input_sums = v.splat(two_i16(&input_sums[token][2 * pair..]));
                dots = v.add(dots, v.sar_each(v.madd(mins, input_sums), bits));
            }
            let mantissa = v.splat(mantissas[token]);
            add_scaled(v, &mut sums.scaled[token], dots, v.madd(scales, mantissa));
        }
    }
}

/// 6 bits, scales for 256 columns with 8-bit factors for 16.
#[inline(always)]
fn super_blocks_of_six<T: Tiles, const N: usize>(
    tile: &TileTask<'_, Avx512<T>>,
    scratch: &mut Scratch,
    sums: &mut Sums<Avx512<T>, N>,
) {
    let (v, rows, places, all) = (tile.v, tile.rows(0), tile.places, tile.activations);
    let (low_bytes, low_bits) = (v.splat(0x00ff_00ff), v.splat_i8(127));
    let mut quants = tile.quants(Kind::SixSuper.quant_bytes());
    let mut factors = tile.tile.subscales.chunks_exact(2 * TILE_ROWS);
    let inputs = all.quants.chunks_exact(PARTS * places);
    let inputs = inputs.zip(all.mantissas.chunks_exact(places));
    for (block, (inputs, mantissas)) in inputs.enumerate() {
        let [first, second] = &mut scratch.weights;
        for (first, second) in first.iter_mut().zip(second) {
            let (Some((quants, next)), Some(factors)) = (quants.next(), factors.next()) else {
                return;
            };
            tile.fetch(next);
            let halves = v.halves(v.widen_i8(factors));
            let lines = first.iter_mut().zip(second);
            for (group, (weight, (first, second))) in
                rows.six(quants).into_iter().zip(lines).enumerate()
            {
                let factors = halves[group / 4];
                // Two bytes of a pair on their own: the factor of the other one is zero.
                let even = v.pairs(weight, v.and(factors, low_bytes));
                let odd = v.pairs(weight, v.shl16::<8>(factors));
                let zero = v.shl16::<5>(factors);
                let (even, odd) = (v.sub16(even, zero), v.sub16(odd, zero));
                let low = v.odd_bytes(even, v.shl16::<8>(odd));
                v.store_bytes(v.and(low, low_bits), first);
                v.store_bytes(v.odd_bytes(v.shr16::<7>(even), v.shl16::<1>(odd)), second);
            }
        }
        let inputs = Inputs::new(inputs, places);
        T::multiply(&inputs, &scratch.weights, &mut scratch.products);
        let scales = rows.scales(&tile.tile.scales[block * SCALE_BYTES..]);
        for (token, mantissa) in mantissas[..all.tokens()].iter().enumerate() {
            let dots = dots::<T, 7>(v, &scratch.products, token);
            let scales = v.madd(scales, v.splat(*mantissa));
            add_scaled(v, &mut sums.scaled[token], dots, scales);
        }
    }
}

/// One token's sums: `first + second << SHIFT`.
#[inline(always)]
fn dots<T: Tiles, const SHIFT: u32>(
    v: Avx512<T>,
    [first, second]: &Products,
    token: usize,
) -> __m512i {
    let (tile, line) = (token / TOKENS, token % TOKENS);
    let second = v.load_i32(&second[tile][line]);
    v.add(v.load_i32(&first[tile][line]), v.shl::<SHIFT>(second))
}

/// The arithmetic of tile registers (Intel SDM, volume 2, `TDPBSSD`), for tests on processors without.
#[cfg(test)]
#[derive(Clone, Copy)]
pub(super) struct Emulated(());

#[cfg(test)]
impl Tiles for Emulated {
    fn begin() {}

    fn end() {}

    fn multiply(inputs: &Inputs<'_>, weights: &Weights, products: &mut Products) {
        for (weights, products) in weights.iter().zip(products) {
            for (token, products) in products
                .as_flattened_mut()
                .iter_mut()
                .take(inputs.places)
                .enumerate()
            {
                for (row, sum) in products.iter_mut().enumerate() {
                    let product = |column: usize| {
                        let (block, column) = (column / BLOCK, column % BLOCK);
                        let weight = weights[block][column / 4][4 * row + column % 4];
                        let input = inputs.quants[block * inputs.places + token][column];
                        i32::from(input) * i32::from(weight.cast_signed())
                    };
                    *sum = (0..SUPER_BLOCK).map(product).sum();
                }
            }
        }
    }
}
