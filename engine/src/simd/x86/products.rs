//! Matrix products, for any vectors. What differs is how 32 columns of bytes become sums: see [`Products`].

use super::lanes::Lanes;
use crate::layout::activations::{Activations, PARTS, Rule, two_i16};
use crate::layout::{BLOCK, GROUP_BYTES, Kind, Matrix, NIBBLE_BYTES, TILE_ROWS, Tile, WIDE_SHIFT};
use crate::simd::MAX_BLOCK_TOKENS;
use crate::simd::portable::MIN_SHIFT;
use crate::workers::Columns;
use core::ops::Range;

/// How unsigned weights of eight groups of four columns meet signed activations. Weights have a zero point of 8
/// ([`Kind::Nibble`], [`Kind::NibbleMin`], [`Kind::NibbleSuper`]), 16, 32 or 128.
pub(super) trait Products: Lanes {
    /// Sums of the products of 32 columns, for each token; the zero point of `KIND` is taken off, and what makes the
    /// sum's shift round is added: that of the first or of the second of two blocks.
    fn dots<const KIND: u8, const PLACE: usize, const G: usize>(
        self,
        weights: &[Self::Int; 8],
        inputs: &Inputs<'_, G>,
    ) -> [Self::Int; G];

    /// Adds to `totals` factor * products of 32 columns for two blocks, zero point 8, pairs of factors below 64.
    fn scaled_nibbles<const G: usize>(
        self,
        totals: &mut [Self::Int; G],
        weights: &[[Self::Int; 8]; 2],
        inputs: &[Inputs<'_, G>; 2],
        factors: Self::Int,
    );

    /// Adds to `totals` factor * products of 16 columns for two halves of a block, zero point 32. Signed factors of 8
    /// bits for each half, in both halves of their lanes.
    fn scaled_six<const G: usize>(
        self,
        totals: &mut [Self::Int; G],
        weights: &[Self::Int; 8],
        inputs: &Inputs<'_, G>,
        zeros: &SixZeros<'_, G>,
        factors: [Self::Int; 2],
    );
}

/// Where sums begin of the products of some tokens' 32 columns with weights that have a zero point of 32.
pub(super) struct SixZeros<'a, const G: usize> {
    /// See [`Activations::zeros_of_8`].
    pub(super) of_8: &'a [[i32; 4]; G],
    /// See [`Activations::pair_zeros_of_16`].
    pub(super) pairs_of_16: &'a [[i32; 2]; G],
}

/// The activations of some tokens and 32 columns.
pub(super) struct Inputs<'a, const G: usize> {
    pub(super) quants: &'a [[i8; BLOCK]; G],
    /// See [`Activations::pair_zeros`].
    pub(super) pair_zeros: &'a [i32; G],
    /// Where 32-bit sums begin.
    pub(super) starts: &'a [i32; G],
}

impl<const G: usize> Inputs<'_, G> {
    /// The four activations of a group in every lane.
    #[inline(always)]
    pub(super) fn four<V: Lanes>(&self, v: V, token: usize, group: usize) -> V::Int {
        let four = self.quants[token].as_chunks::<4>().0[group];
        v.splat(i32::from_ne_bytes(four.map(i8::cast_unsigned)))
    }
}

/// How far ahead memory is asked for that was asked for before. See [`Lanes::FETCHES_TWICE`].
const NEAR_BYTES: usize = 8192;

/// Bytes of the scales of a block.
pub(super) const SCALE_BYTES: usize = 2 * TILE_ROWS;

/// 64-bit sums of a vector's rows: the even ones and the odd ones.
pub(super) type Wide<V> = [<V as Lanes>::Int; 2];

/// Sums of some rows of a tile for each token.
pub(super) struct Sums<V: Lanes, const TOKENS: usize> {
    /// Fixed-point sums of products, for kinds with super-blocks or wide numbers.
    pub(super) scaled: [Wide<V>; TOKENS],
    /// Sums within one super-block, before it meets its scales; for other kinds of bytes, those of pairs of blocks.
    dots: [V::Int; TOKENS],
    /// Sums of minima.
    mins: [V::Int; TOKENS],
}

impl<V: Lanes, const TOKENS: usize> Sums<V, TOKENS> {
    #[inline(always)]
    fn new(v: V) -> Self {
        Self {
            scaled: [[v.zero(); 2]; TOKENS],
            dots: [v.zero(); TOKENS],
            mins: [v.zero(); TOKENS],
        }
    }
}

/// See [`crate::simd::Kernels::multiply`]; shapes are checked. `G` is how many tokens are taken at a time: more of them
/// need more registers.
#[inline(always)]
pub(super) fn multiply<V: Products, const G: usize>(
    v: V,
    matrix: &Matrix<'_>,
    tiles: Range<usize>,
    activations: &Activations,
    out: Columns<'_, f32>,
) {
    // Sums of a single token stay in registers.
    if activations.tokens() == 1 {
        multiply_tokens::<V, InGroups<1>, 1>(v, matrix, tiles, activations, out);
    } else {
        multiply_tokens::<V, InGroups<G>, MAX_BLOCK_TOKENS>(v, matrix, tiles, activations, out);
    }
}

/// How a tile of any kind but [`Kind::Wide`] meets some tokens.
pub(super) trait Method<V: Lanes> {
    /// Tokens that are taken at a time.
    const GROUP: usize;
    /// Memory that is needed meanwhile.
    type Scratch: Default;

    /// Adds the tile's products to `sums`.
    fn add_tile<const TOKENS: usize>(
        kind: Kind,
        tile: &TileTask<'_, V>,
        scratch: &mut Self::Scratch,
        sums: &mut [Sums<V, TOKENS>; 2],
    );
}

/// With [`Products`], block by block of 32 columns, `G` tokens at a time.
struct InGroups<const G: usize>;

impl<V: Products, const G: usize> Method<V> for InGroups<G> {
    const GROUP: usize = G;
    type Scratch = ();

    #[inline(always)]
    fn add_tile<const TOKENS: usize>(
        kind: Kind,
        tile: &TileTask<'_, V>,
        (): &mut (),
        sums: &mut [Sums<V, TOKENS>; 2],
    ) {
        match kind {
            Kind::Nibble => tile.blocks::<NIBBLE, TOKENS, G>(sums),
            Kind::NibbleMin => tile.blocks::<NIBBLE_MIN, TOKENS, G>(sums),
            Kind::Five => tile.blocks::<FIVE, TOKENS, G>(sums),
            Kind::Byte => tile.blocks::<BYTE, TOKENS, G>(sums),
            Kind::NibbleSuper => tile.super_blocks_of_nibbles::<TOKENS, G>(sums),
            Kind::SixSuper => tile.super_blocks_of_six::<TOKENS, G>(sums),
            Kind::Wide => unreachable!("one way for all"),
        }
    }
}

/// The same for up to `TOKENS` tokens, whose places are a multiple of the method's group.
#[inline(always)]
pub(super) fn multiply_tokens<V: Lanes, M: Method<V>, const TOKENS: usize>(
    v: V,
    matrix: &Matrix<'_>,
    tiles: Range<usize>,
    activations: &Activations,
    mut out: Columns<'_, f32>,
) {
    const { assert!(TOKENS.is_multiple_of(M::GROUP)) };
    assert!(
        activations.places().is_multiple_of(M::GROUP),
        "groups of {} tokens",
        M::GROUP
    );
    let kind = matrix.kind();
    let tokens = if TOKENS == 1 { 1 } else { activations.tokens() };
    let used = if TOKENS == 1 {
        1
    } else {
        tokens.next_multiple_of(M::GROUP)
    };
    let mut sums = [Sums::<V, TOKENS>::new(v), Sums::new(v)];
    let mut scratch = M::Scratch::default();
    let mut next = None;
    for (place, index) in tiles.enumerate() {
        let tile = next.unwrap_or_else(|| matrix.tile(index));
        // Behind the last one nothing is to come: its own lines are there already.
        next = (index + 1 < matrix.tiles()).then(|| matrix.tile(index + 1));
        let ahead = next.unwrap_or(tile);
        fetch_head(v, &ahead);
        let tile = TileTask {
            v,
            tile: &tile,
            ahead: &ahead,
            activations,
            places: if TOKENS == 1 { 1 } else { activations.places() },
            used,
        };
        for sums in &mut sums[..V::TILE_VECTORS] {
            if kind.rule() == Rule::Block {
                sums.dots[..used].fill(v.zero());
                sums.mins[..used].fill(v.zero());
            } else {
                sums.scaled[..used].fill([v.zero(); 2]);
            }
        }
        match kind {
            Kind::Wide => tile.wide_blocks(&mut sums, tokens),
            _ => M::add_tile(kind, &tile, &mut scratch, &mut sums),
        }
        let exponents = tile.tile.exponents();
        for token in 0..tokens {
            let row = &mut out.row(token)[place * TILE_ROWS..];
            tile.finish(kind, &sums, &exponents, token, row);
        }
    }
}

pub(super) const NIBBLE: u8 = Kind::Nibble as u8;
pub(super) const NIBBLE_MIN: u8 = Kind::NibbleMin as u8;
pub(super) const FIVE: u8 = Kind::Five as u8;
pub(super) const BYTE: u8 = Kind::Byte as u8;

/// [`Kind::dot_half`]
pub(super) const fn dot_half<const KIND: u8>(place: usize) -> i32 {
    match KIND {
        FIVE => Kind::Five.dot_half(place),
        BYTE => Kind::Byte.dot_half(place),
        _ => 0,
    }
}

/// A tile, and the activations that it meets.
pub(super) struct TileTask<'a, V> {
    pub(super) v: V,
    pub(super) tile: &'a Tile<'a>,
    /// The tile that comes into the caches meanwhile.
    ahead: &'a Tile<'a>,
    pub(super) activations: &'a Activations,
    /// As many entries has a block in what belongs to the activations.
    pub(super) places: usize,
    /// As many of them are used: all tokens, in whole groups.
    pub(super) used: usize,
}

/// As many rows of a tile as a vector has lanes.
#[derive(Clone, Copy)]
pub(super) struct Rows<V> {
    v: V,
    first: usize,
}

/// What the offsets of a tile of [`Kind::NibbleSuper`] are made of.
pub(super) struct Offsets {
    /// Fraction bits, by row.
    bits: [i32; TILE_ROWS],
    /// 8 with these, in both halves of each number.
    eights: [i32; TILE_ROWS],
}

impl Offsets {
    #[inline(always)]
    pub(super) fn new(tile: &Tile<'_>) -> Self {
        let bits = tile.offset_bits();
        Self {
            bits: bits.map(i32::from),
            eights: bits.map(|bits| 0x0008_0008 << bits),
        }
    }

    /// [`crate::layout::offset`] of two blocks, from pairs of sub-scales and sub-minima and the super-block's ratios,
    /// which are in the low halves of their lanes.
    #[inline(always)]
    pub(super) fn of<V: Lanes>(
        &self,
        Rows { v, first }: Rows<V>,
        factors: V::Int,
        min_factors: V::Int,
        ratios: V::Int,
    ) -> V::Int {
        let mins = v.mul_round16(v.pair(ratios, ratios), v.shl16::<9>(min_factors));
        let eights = v.mul16(factors, v.load_i32(&self.eights[first..]));
        v.add16(eights, mins)
    }

    /// Their fraction bits.
    #[inline(always)]
    pub(super) fn bits<V: Lanes>(&self, Rows { v, first }: Rows<V>) -> V::Int {
        v.load_i32(&self.bits[first..])
    }
}

/// Asks the memory for what a tile has beside its quants.
#[inline(always)]
fn fetch_head<V: Lanes>(v: V, tile: &Tile<'_>) {
    for bytes in [tile.scales, tile.mins, tile.subscales, tile.submins] {
        fetch(v, bytes);
    }
}

/// Asks the memory for bytes.
#[inline(always)]
fn fetch<V: Lanes>(v: V, bytes: &[u8]) {
    for line in bytes.as_chunks::<GROUP_BYTES>().0 {
        v.prefetch(&line[0]);
    }
}

/// The activations of 32 columns, `[places]`.
#[derive(Clone, Copy)]
struct BlockInputs<'a> {
    quants: &'a [[i8; BLOCK]],
    pair_zeros: &'a [i32],
    starts: &'a [i32],
}

impl<'a> BlockInputs<'a> {
    /// The same in groups of `G` tokens.
    #[inline(always)]
    fn groups<const G: usize>(&self) -> impl Iterator<Item = Inputs<'a, G>> + use<'a, G> {
        let quants = self.quants.as_chunks::<G>().0.iter();
        let starts = self.starts.as_chunks::<G>().0;
        let starts = self.pair_zeros.as_chunks::<G>().0.iter().zip(starts);
        quants
            .zip(starts)
            .map(|(quants, (pair_zeros, starts))| Inputs {
                quants,
                pair_zeros,
                starts,
            })
    }
}

impl<V: Lanes> TileTask<'_, V> {
    /// The rows of each part of the tile.
    #[inline(always)]
    pub(super) fn rows(&self, part: usize) -> Rows<V> {
        Rows {
            v: self.v,
            first: part * V::LANES,
        }
    }

    /// Asks the memory for what comes later.
    #[inline(always)]
    pub(super) fn fetch(&self, (near, far): (&[u8], &[u8])) {
        if V::FETCHES_TWICE {
            fetch(self.v, near);
        }
        fetch(self.v, far);
    }

    /// The quants of so many bytes at a time, and what is to be fetched meanwhile: those that come
    /// [`NEAR_BYTES`] later, and the same ones of the next tile.
    #[inline(always)]
    pub(super) fn quants(&self, bytes: usize) -> impl Iterator<Item = (&[u8], (&[u8], &[u8]))> {
        let far = self.ahead.quants.chunks_exact(bytes);
        let near = self.tile.quants.get(NEAR_BYTES..).unwrap_or_default();
        let near = near.chunks_exact(bytes).chain(far.clone());
        self.tile.quants.chunks_exact(bytes).zip(near.zip(far))
    }

    /// The activations, block by block of 32 columns, and where 32-bit sums begin: one of the vectors of that kind.
    #[inline(always)]
    fn inputs<'a>(&'a self, starts: &'a [i32]) -> impl Iterator<Item = BlockInputs<'a>> {
        let (all, places) = (self.activations, self.places);
        let quants = all.quants.chunks_exact(places);
        let starts = starts.chunks_exact(places);
        let starts = all.pair_zeros.chunks_exact(places).zip(starts);
        quants
            .zip(starts)
            .map(|(quants, (pair_zeros, starts))| BlockInputs {
                quants,
                pair_zeros,
                starts,
            })
    }
}

impl<V: Products> TileTask<'_, V> {
    /// Kinds with a scale for 32 columns.
    #[inline(always)]
    fn blocks<const KIND: u8, const TOKENS: usize, const G: usize>(
        &self,
        sums: &mut [Sums<V, TOKENS>; 2],
    ) {
        let v = self.v;
        let bytes = match KIND {
            NIBBLE | NIBBLE_MIN => NIBBLE_BYTES,
            FIVE => NIBBLE_BYTES + GROUP_BYTES,
            _ => 2 * NIBBLE_BYTES,
        };
        let mut quants = self.quants(bytes);
        let mut inputs = self.inputs(match KIND {
            FIVE => &self.activations.starts_of_five,
            BYTE => &self.activations.starts_of_bytes,
            _ => &self.activations.zeros,
        });
        // Behind the last of an odd number of blocks there is room, and factors are 0.
        let scales = self.tile.scales.chunks_exact(2 * SCALE_BYTES);
        let mut mins = self.tile.mins.chunks_exact(2 * SCALE_BYTES);
        let factors = self.activations.factors.chunks_exact(self.places);
        let factors = factors.zip(self.activations.min_factors.chunks_exact(self.places));
        let shifts = self.activations.shifts.chunks_exact(self.places);
        for (scales, ((factors, min_factors), shifts)) in scales.zip(factors.zip(shifts)) {
            let (Some((low, next)), Some(low_inputs)) = (quants.next(), inputs.next()) else {
                return;
            };
            self.fetch(next);
            let (high, next) = quants.next().unwrap_or((low, next));
            self.fetch(next);
            let high_inputs = inputs.next().unwrap_or(low_inputs);
            let mins = mins.next().filter(|_| KIND == NIBBLE_MIN).unwrap_or(scales);
            for (part, sums) in sums[..V::TILE_VECTORS].iter_mut().enumerate() {
                let rows = self.rows(part);
                let weights = [rows.unpack::<KIND>(low), rows.unpack::<KIND>(high)];
                let (scales, mins) = (rows.pair(scales), rows.pair(mins));
                let dots = sums.dots[..self.used].as_chunks_mut::<G>().0.iter_mut();
                let sums = dots.zip(sums.mins.as_chunks_mut::<G>().0);
                let factors = factors.as_chunks::<G>().0.iter();
                let factors = factors.zip(min_factors.as_chunks::<G>().0);
                let factors = factors.zip(shifts.as_chunks::<G>().0);
                let inputs = low_inputs.groups::<G>().zip(high_inputs.groups::<G>());
                for (((low, high), ((factors, min_factors), shifts)), (sums, min_sums)) in
                    inputs.zip(factors).zip(sums)
                {
                    let low = v.dots::<KIND, 0, G>(&weights[0], &low);
                    let high = v.dots::<KIND, 1, G>(&weights[1], &high);
                    for token in 0..G {
                        let both = pair_of_dots::<V, KIND>(v, low[token], high[token]);
                        let factors = v.mul_round16(scales, v.splat(factors[token]));
                        let shift = v.splat(shifts[token]);
                        let product = v.sar_each(v.madd(both, factors), shift);
                        sums[token] = v.add(sums[token], product);
                        if KIND == NIBBLE_MIN {
                            let product = v.madd(mins, v.splat(min_factors[token]));
                            min_sums[token] = v.add(min_sums[token], v.sar_each(product, shift));
                        }
                    }
                }
            }
        }
    }

    /// 4 bits, scales and minima for 256 columns with 6-bit factors for 32.
    #[inline(always)]
    fn super_blocks_of_nibbles<const TOKENS: usize, const G: usize>(
        &self,
        sums: &mut [Sums<V, TOKENS>; 2],
    ) {
        let v = self.v;
        let mut inputs = self.inputs(&self.activations.zeros);
        let mut quants = self.quants(2 * NIBBLE_BYTES);
        let input_sums = self.activations.sums.chunks_exact(self.places);
        let offsets = Offsets::new(self.tile);
        for (block, input_sums) in input_sums.enumerate() {
            for (pair, (quants, next)) in quants.by_ref().take(PARTS / 2).enumerate() {
                let (Some(low_inputs), Some(high_inputs)) = (inputs.next(), inputs.next()) else {
                    return;
                };
                self.fetch(next);
                let first = block * PARTS + 2 * pair;
                let (low, high) = quants.split_at(NIBBLE_BYTES);
                for (part, sums) in sums[..V::TILE_VECTORS].iter_mut().enumerate() {
                    let rows = self.rows(part);
                    let weights = [rows.nibbles(low), rows.nibbles(high)];
                    let at = first * TILE_ROWS + 2 * rows.first;
                    let factors = v.widen_u8(&self.tile.subscales[at..]);
                    let min_factors = v.widen_u8(&self.tile.submins[at..]);
                    let ratios = rows.scales(&self.tile.mins[block * SCALE_BYTES..]);
                    let bits = offsets.bits(rows);
                    let offsets = offsets.of(rows, factors, min_factors, ratios);
                    let dots = sums.dots[..self.used].as_chunks_mut::<G>().0;
                    let inputs = low_inputs.groups::<G>().zip(high_inputs.groups::<G>());
                    let inputs = inputs.zip(input_sums.as_chunks::<G>().0);
                    for (((low, high), input_sums), dots) in inputs.zip(dots) {
                        // A copy stays in registers: what is behind a reference is stored each time.
                        let mut sums = match pair {
                            0 => [v.zero(); G],
                            _ => *dots,
                        };
                        v.scaled_nibbles(&mut sums, &weights, &[low, high], factors);
                        for token in 0..G {
                            let input_sums = v.splat(two_i16(&input_sums[token][2 * pair..]));
                            let offset = v.sar_each(v.madd(offsets, input_sums), bits);
                            sums[token] = v.add(sums[token], offset);
                        }
                        *dots = sums;
                    }
                }
            }
            for (part, sums) in sums[..V::TILE_VECTORS].iter_mut().enumerate() {
                let rows = self.rows(part);
                self.add_super_block(rows, self.tile.scales, block, &sums.dots, &mut sums.scaled);
            }
        }
    }

    /// 6 bits, scales for 256 columns with 8-bit factors for 16.
    #[inline(always)]
    fn super_blocks_of_six<const TOKENS: usize, const G: usize>(
        &self,
        sums: &mut [Sums<V, TOKENS>; 2],
    ) {
        let v = self.v;
        let bytes = Kind::SixSuper.quant_bytes();
        let of_8 = self.activations.zeros_of_8.chunks_exact(self.places);
        let of_16 = &self.activations.pair_zeros_of_16;
        let zeros = of_8.zip(of_16.chunks_exact(self.places));
        let quants = self.quants(bytes);
        let factors = self.tile.subscales.chunks_exact(2 * TILE_ROWS);
        let blocks = quants
            .zip(factors)
            .zip(self.inputs(&self.activations.zeros).zip(zeros));
        for (block, (((quants, next), factors), (inputs, (of_8, of_16)))) in blocks.enumerate() {
            self.fetch(next);
            for (part, sums) in sums[..V::TILE_VECTORS].iter_mut().enumerate() {
                let rows = self.rows(part);
                let weights = rows.six(quants);
                let factors = v.halves(v.widen_i8(&factors[2 * rows.first..]));
                let zeros = of_8.as_chunks::<G>().0.iter().zip(of_16.as_chunks::<G>().0);
                let dots = sums.dots[..self.used].as_chunks_mut::<G>().0;
                for ((inputs, (of_8, pairs_of_16)), dots) in inputs.groups().zip(zeros).zip(dots) {
                    let zeros = SixZeros { of_8, pairs_of_16 };
                    let mut sums = match block % PARTS {
                        0 => [v.zero(); G],
                        _ => *dots,
                    };
                    v.scaled_six(&mut sums, &weights, &inputs, &zeros, factors);
                    *dots = sums;
                }
                if block % PARTS == PARTS - 1 {
                    let (scales, block) = (self.tile.scales, block / PARTS);
                    self.add_super_block(rows, scales, block, &sums.dots, &mut sums.scaled);
                }
            }
        }
    }

    /// `sums += dots * scale * mantissa` of one super-block, for every token.
    #[inline(always)]
    fn add_super_block<const TOKENS: usize>(
        &self,
        rows: Rows<V>,
        scales: &[u8],
        block: usize,
        dots: &[V::Int; TOKENS],
        sums: &mut [Wide<V>; TOKENS],
    ) {
        let v = self.v;
        let scales = rows.scales(&scales[block * SCALE_BYTES..]);
        let mantissas = &self.activations.mantissas[block * self.places..][..self.used];
        for ((mantissa, dot), sums) in mantissas.iter().zip(dots).zip(sums) {
            add_scaled(v, sums, *dot, v.madd(scales, v.splat(*mantissa)));
        }
    }
}

impl<V: Lanes> TileTask<'_, V> {
    /// 14-bit weights and 12-bit activations.
    #[inline(always)]
    fn wide_blocks<const TOKENS: usize>(&self, sums: &mut [Sums<V, TOKENS>; 2], tokens: usize) {
        let (v, places) = (self.v, self.places);
        let quants = self.quants(Kind::Wide.quant_bytes());
        let blocks = quants.zip(self.tile.scales.chunks_exact(SCALE_BYTES));
        for (block, ((quants, next), scales)) in blocks.enumerate() {
            self.fetch(next);
            for (part, sums) in sums[..V::TILE_VECTORS].iter_mut().enumerate() {
                let rows = self.rows(part);
                let scales = rows.scales(scales);
                for token in 0..tokens {
                    let at = block * places + token;
                    let mut dot = v.zero();
                    let pairs = self.activations.wide[at].as_chunks::<2>().0;
                    for (line, pair) in pairs.iter().enumerate() {
                        dot = v.madd_add(dot, rows.line(quants, line), v.splat(two_i16(pair)));
                    }
                    let scale = v.madd(scales, v.splat(self.activations.mantissas[at]));
                    let scale = v.sar::<WIDE_SHIFT>(scale);
                    add_scaled(v, &mut sums.scaled[token], dot, scale);
                }
            }
        }
    }

    /// Converts one token's sums to f32: the rows of the tile, or as many as `out` has.
    #[inline(always)]
    fn finish<const TOKENS: usize>(
        &self,
        kind: Kind,
        sums: &[Sums<V, TOKENS>; 2],
        [scale, min]: &[[i16; TILE_ROWS]; 2],
        token: usize,
        out: &mut [f32],
    ) {
        let v = self.v;
        let exponent = self.activations.exponent(token);
        let parts = sums[..V::TILE_VECTORS].iter().enumerate();
        for ((part, sums), out) in parts.zip(out.chunks_mut(V::LANES)) {
            let rows = self.rows(part);
            let values = match kind.rule() {
                Rule::Block => v.to_f32(sums.dots[token]),
                _ => v.to_f32_64(sums.scaled[token][0], sums.scaled[token][1]),
            };
            let powers = rows.powers_of_two(scale, exponent + kind.scale_shift());
            let mut values = v.mul_f32(values, powers);
            if kind.sums_minima() {
                let powers = rows.powers_of_two(min, exponent + MIN_SHIFT);
                let mins = v.mul_f32(v.to_f32(sums.mins[token]), powers);
                values = v.add_f32(values, mins);
            }
            if out.len() == V::LANES {
                v.store_f32(values, out);
            } else {
                let mut all = [0.0; TILE_ROWS];
                v.store_f32(values, &mut all);
                out.copy_from_slice(&all[..out.len()]);
            }
        }
    }
}

impl<V: Lanes> Rows<V> {
    /// These rows' bytes of line `line` of a block's quants.
    #[inline(always)]
    fn line(self, quants: &[u8], line: usize) -> V::Int {
        self.v
            .load_bytes(&quants[line * GROUP_BYTES + 4 * self.first..])
    }

    /// These rows' scales among those of a block, each in the low half of its lane.
    #[inline(always)]
    pub(super) fn scales(self, of_block: &[u8]) -> V::Int {
        self.v.widen_u16_bytes(&of_block[2 * self.first..])
    }

    /// These rows' scales or minima among those of two blocks, the first one's in the low halves.
    #[inline(always)]
    fn pair(self, of_blocks: &[u8]) -> V::Int {
        let (low, high) = of_blocks.split_at(SCALE_BYTES);
        self.v.pair(self.scales(low), self.scales(high))
    }

    /// Weights of the eight groups of a block.
    #[inline(always)]
    pub(super) fn unpack<const KIND: u8>(self, quants: &[u8]) -> [V::Int; 8] {
        let v = self.v;
        if KIND == BYTE {
            let mut weights = [v.zero(); 8];
            for (group, weight) in weights.iter_mut().enumerate() {
                *weight = self.line(quants, group);
            }
            return weights;
        }
        let mut weights = self.nibbles(quants);
        if KIND == FIVE {
            let plane = self.line(quants, 4);
            let bit = v.splat_i8(16);
            // Bit `group` of each byte moves to bit 4.
            let planes = [
                v.shl16::<4>(plane),
                v.shl16::<3>(plane),
                v.shl16::<2>(plane),
                v.shl16::<1>(plane),
                plane,
                v.shr16::<1>(plane),
                v.shr16::<2>(plane),
                v.shr16::<3>(plane),
            ];
            for (weight, plane) in weights.iter_mut().zip(planes) {
                *weight = v.or(*weight, v.and(plane, bit));
            }
        }
        weights
    }

    /// Low four bits of the weights of the eight groups of a block.
    #[inline(always)]
    pub(super) fn nibbles(self, quants: &[u8]) -> [V::Int; 8] {
        let v = self.v;
        let mask = v.splat_i8(15);
        let mut weights = [v.zero(); 8];
        for line in 0..4 {
            let bytes = self.line(quants, line);
            weights[line] = v.and(bytes, mask);
            weights[line + 4] = v.and(v.shr16::<4>(bytes), mask);
        }
        weights
    }

    /// Weights of the eight groups: nibbles and two planes of high bits, groups 0 to 3 and 4 to 7.
    #[inline(always)]
    pub(super) fn six(self, quants: &[u8]) -> [V::Int; 8] {
        let v = self.v;
        let bits = v.splat_i8(0x30);
        let mut weights = self.nibbles(quants);
        for (line, weights) in weights.as_chunks_mut::<4>().0.iter_mut().enumerate() {
            let plane = self.line(quants, 4 + line);
            // Bits `2 * i` and above of each byte move to bits 4 and 5.
            let planes = [
                v.shl16::<4>(plane),
                v.shl16::<2>(plane),
                plane,
                v.shr16::<2>(plane),
            ];
            for (weight, plane) in weights.iter_mut().zip(planes) {
                *weight = v.or(*weight, v.and(plane, bits));
            }
        }
        weights
    }

    /// [`crate::ops::power_of_two`] of the sums of these rows' exponents and another one.
    #[inline(always)]
    fn powers_of_two(self, rows: &[i16; TILE_ROWS], exponent: i32) -> V::Float {
        let v = self.v;
        let exponents = v.add(v.widen_i16(&rows[self.first..]), v.splat(exponent));
        let (lowest, highest) = crate::ops::EXPONENTS.into_inner();
        let exponents = v.min(v.max(exponents, v.splat(lowest)), v.splat(highest));
        v.as_floats(v.shl::<23>(v.add(exponents, v.splat(127))))
    }
}

/// Sums of 32 columns of two blocks in 16 bits each: see [`Kind::dot_shift`].
#[inline(always)]
fn pair_of_dots<V: Lanes, const KIND: u8>(v: V, low: V::Int, high: V::Int) -> V::Int {
    const { assert!(Kind::Five.dot_shift() == 1 && Kind::Byte.dot_shift() == 4) };
    match KIND {
        FIVE => v.pair(v.sar::<1>(low), v.sar::<1>(high)),
        BYTE => v.pair(v.sar::<4>(low), v.sar::<4>(high)),
        _ => v.pair(low, high),
    }
}

/// `sums += dots * scales`, in 64 bits.
#[inline(always)]
pub(super) fn add_scaled<V: Lanes>(v: V, sums: &mut Wide<V>, dots: V::Int, scales: V::Int) {
    sums[0] = v.add64(sums[0], v.mul_even(dots, scales));
    sums[1] = v.add64(sums[1], v.mul_even(v.odd(dots), v.odd(scales)));
}
