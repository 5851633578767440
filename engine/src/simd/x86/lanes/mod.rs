//! The vectors of three instruction sets, behind two traits: what inner loops are written against.
//!
//! A value of one of the three types is the proof that its instructions may be used. That is why the methods are safe.

use crate::layout::activations::QuantSums;
use crate::layout::{BLOCK, TILE_ROWS};
use core::arch::x86_64::*;
use core::marker::PhantomData;

/// Instructions of the type whose method this is.
macro_rules! instructions {
    ($instructions:expr) => {{
        // SAFETY: `self` exists only where the processor has these instructions and their state is enabled. Where they
        // read or write memory, the line before has checked that the slice is long enough; any alignment will do.
        unsafe { $instructions }
    }};
}

/// Vectors of 32-bit lanes, and what inner loops do with them. All arithmetic wraps.
pub(super) trait Lanes: Copy {
    /// 32-bit lanes of a vector.
    const LANES: usize;
    /// Vectors that the rows of a tile take, at most two.
    const TILE_VECTORS: usize = TILE_ROWS / Self::LANES;
    /// Whether memory that comes soon is asked for again. A processor drops what it is asked for while it waits for as
    /// much as it can. Code with few instructions for each line gets there: AMD Zen 4 reads up to 1.4 times as much in a
    /// second with a second chance. Where there are more, the second one costs more than it saves.
    const FETCHES_TWICE: bool;
    /// Integers of 8, 16, 32 or 64 bits.
    type Int: Copy;
    /// 32-bit floats.
    type Float: Copy;

    // Loads and stores panic when the slice is shorter than what they move.

    /// Whole vectors of bytes.
    fn load_bytes(self, from: &[u8]) -> Self::Int;
    /// `LANES` numbers.
    fn load_i32(self, from: &[i32]) -> Self::Int;
    /// `2 * LANES` numbers.
    fn load_i16(self, from: &[i16]) -> Self::Int;
    /// `LANES` numbers, sign-extended to 32 bits.
    fn widen_i16(self, from: &[i16]) -> Self::Int;
    /// `LANES` little-endian 16-bit numbers, zero-extended to 32 bits.
    fn widen_u16_bytes(self, from: &[u8]) -> Self::Int;
    /// `2 * LANES` bytes, zero-extended to 16 bits.
    fn widen_u8(self, from: &[u8]) -> Self::Int;
    /// `2 * LANES` bytes, sign-extended to 16 bits.
    fn widen_i8(self, from: &[u8]) -> Self::Int;
    /// `LANES` numbers.
    fn load_f32(self, from: &[f32]) -> Self::Float;
    /// Whole vectors of bytes.
    fn store_bytes(self, x: Self::Int, to: &mut [u8]);
    /// `LANES` numbers.
    fn store_i32(self, x: Self::Int, to: &mut [i32]);
    /// The low halves of `LANES` numbers.
    fn store_low_i16(self, x: Self::Int, to: &mut [i16]);
    /// The low bytes of `LANES` numbers.
    fn store_low_i8(self, x: Self::Int, to: &mut [i8]);
    /// `LANES` numbers.
    fn store_f32(self, x: Self::Float, to: &mut [f32]);

    /// Asks the memory for the cache line of this byte: nothing else happens.
    #[inline(always)]
    fn prefetch(self, byte: &u8) {
        // The second level has room for a tile, and takes more requests at a time than the first.
        instructions!(_mm_prefetch::<_MM_HINT_T1>(
            core::ptr::from_ref(byte).cast()
        ));
    }

    /// One 32-bit number in every lane.
    fn splat(self, x: i32) -> Self::Int;
    /// One byte in every byte.
    fn splat_i8(self, x: i8) -> Self::Int;
    /// One float in every lane.
    fn splat_f32(self, x: f32) -> Self::Float;
    /// Zeros.
    fn zero(self) -> Self::Int {
        self.splat(0)
    }

    /// `a & b`
    fn and(self, a: Self::Int, b: Self::Int) -> Self::Int;
    /// `a | b`
    fn or(self, a: Self::Int, b: Self::Int) -> Self::Int;
    /// 32-bit sums.
    fn add(self, a: Self::Int, b: Self::Int) -> Self::Int;
    /// 32-bit differences.
    fn sub(self, a: Self::Int, b: Self::Int) -> Self::Int;
    /// 32-bit products, low half.
    fn mul(self, a: Self::Int, b: Self::Int) -> Self::Int;
    /// Larger of signed 32-bit numbers.
    fn max(self, a: Self::Int, b: Self::Int) -> Self::Int;
    /// Smaller of signed 32-bit numbers.
    fn min(self, a: Self::Int, b: Self::Int) -> Self::Int;
    /// 32-bit lanes shifted left.
    fn shl<const BITS: u32>(self, x: Self::Int) -> Self::Int;
    /// 32-bit lanes shifted right with their sign.
    fn sar<const BITS: u32>(self, x: Self::Int) -> Self::Int;
    /// 16-bit lanes shifted left: for bytes, of which some bits are masked out afterwards.
    fn shl16<const BITS: u32>(self, x: Self::Int) -> Self::Int;
    /// 16-bit lanes shifted right without sign: likewise.
    fn shr16<const BITS: u32>(self, x: Self::Int) -> Self::Int;
    /// 16-bit sums.
    fn add16(self, a: Self::Int, b: Self::Int) -> Self::Int;
    /// 16-bit products, low half.
    fn mul16(self, a: Self::Int, b: Self::Int) -> Self::Int;
    /// Products of signed 16-bit numbers, rounded to multiples of 2^15 and divided by it.
    fn mul_round16(self, a: Self::Int, b: Self::Int) -> Self::Int;
    /// 32-bit lanes shifted right with their sign, each by its own count.
    fn sar_each(self, x: Self::Int, counts: Self::Int) -> Self::Int;
    /// 32-bit lanes shifted right without sign, each by its own count; 0 for counts of 32 and more.
    fn shr_each(self, x: Self::Int, counts: Self::Int) -> Self::Int;
    /// `chosen` where `x` is not zero, else `other`.
    fn if_not_zero(self, x: Self::Int, chosen: Self::Int, other: Self::Int) -> Self::Int;
    /// `table[index]` for each lane. Indices are masked to 4 bits.
    fn lookup(self, table: &[i32; 16], indices: Self::Int) -> Self::Int;

    /// Products of neighbours in 16 bits, added in 32 bits.
    fn madd(self, a: Self::Int, b: Self::Int) -> Self::Int;
    /// `sum + madd(a, b)`
    fn madd_add(self, sum: Self::Int, a: Self::Int, b: Self::Int) -> Self::Int;
    /// The low 16 bits of each lane of `low`, and above them those of `high`.
    fn pair(self, low: Self::Int, high: Self::Int) -> Self::Int;
    /// The low and the high 16 bits of each lane, in both of its halves.
    #[inline(always)]
    fn halves(self, x: Self::Int) -> [Self::Int; 2] {
        let high = self.shr_each(x, self.splat(16));
        [self.pair(x, x), self.pair(high, high)]
    }
    /// 64-bit sums.
    fn add64(self, a: Self::Int, b: Self::Int) -> Self::Int;
    /// 64-bit products of the signed even lanes.
    fn mul_even(self, a: Self::Int, b: Self::Int) -> Self::Int;
    /// Odd lanes in the places of the even ones.
    fn odd(self, x: Self::Int) -> Self::Int;
    /// Lower and upper half of the lanes, sign-extended to 64 bits.
    fn widen64(self, x: Self::Int) -> [Self::Int; 2];
    /// 64-bit lanes shifted left.
    fn shl64<const BITS: u32>(self, x: Self::Int) -> Self::Int;
    /// 64-bit lanes (the lower and the upper half of all lanes), shifted right with their sign by the counts of
    /// 32-bit lanes, at most 63, and then limited to [`crate::simd::SCORE_LIMIT`].
    fn limit_scores(self, x: [Self::Int; 2], counts: Self::Int) -> Self::Int;
    /// Sum of the 64-bit lanes.
    fn sum64(self, x: Self::Int) -> i64;
    /// 64-bit numbers of the even and of the odd lanes, rounded to floats in the order of the lanes.
    fn to_f32_64(self, even: Self::Int, odd: Self::Int) -> Self::Float;

    /// Products.
    fn mul_f32(self, a: Self::Float, b: Self::Float) -> Self::Float;
    /// Sums.
    fn add_f32(self, a: Self::Float, b: Self::Float) -> Self::Float;
    /// Quotients.
    fn div_f32(self, a: Self::Float, b: Self::Float) -> Self::Float;
    /// Smaller numbers; `b` where one of both is none.
    fn min_f32(self, a: Self::Float, b: Self::Float) -> Self::Float;
    /// 32-bit integers, rounded to floats.
    fn to_f32(self, x: Self::Int) -> Self::Float;
    /// The bits of floats.
    fn bits(self, x: Self::Float) -> Self::Int;
    /// Floats of these bits.
    fn as_floats(self, x: Self::Int) -> Self::Float;

    /// Sums of 32 numbers: see [`QuantSums`].
    #[inline(always)]
    fn quant_sums(self, quants: &[i8; BLOCK]) -> QuantSums {
        let mut sums = QuantSums::default();
        instructions!({
            let quants = _mm256_loadu_si256(quants.as_ptr().cast());
            let pairs = _mm256_maddubs_epi16(_mm256_set1_epi8(1), quants);
            // Each pair of each four, added up in either half of the vector.
            let sixteens = _mm256_add_epi16(pairs, _mm256_shuffle_epi32::<0b01_00_11_10>(pairs));
            let sixteens =
                _mm256_add_epi16(sixteens, _mm256_shuffle_epi32::<0b10_11_00_01>(sixteens));
            sums.pairs_of_16 = [
                _mm256_extract_epi32::<0>(sixteens),
                _mm256_extract_epi32::<4>(sixteens),
            ]
            .map(|pair| [pair as i16, (pair >> 16) as i16]);
            let fours = _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
            let eights = _mm256_add_epi32(fours, _mm256_srli_epi64::<32>(fours));
            let order = _mm256_set_epi32(0, 0, 0, 0, 6, 4, 2, 0);
            let eights = _mm256_permutevar8x32_epi32(eights, order);
            _mm_storeu_si128(
                sums.of_8.as_mut_ptr().cast(),
                _mm256_castsi256_si128(eights),
            );
        });
        sums
    }

    /// Largest of the signed 32-bit lanes.
    fn largest(self, x: Self::Int) -> i32;
}

/// Vectors with an instruction for dot products of four bytes.
pub(super) trait Dot: Lanes {
    /// `sum + dot products of four unsigned bytes of a with four signed ones of b`, in 32 bits.
    fn dot(self, sum: Self::Int, a: Self::Int, b: Self::Int) -> Self::Int;
}

/// AVX2, and an instruction for dot products `T`.
#[derive(Clone, Copy)]
pub(super) struct Avx2<T>(PhantomData<T>);

/// No instruction for dot products.
#[derive(Clone, Copy)]
pub(super) struct NoDot(());

/// AVX-VNNI.
#[derive(Clone, Copy)]
pub(super) struct AvxVnni(());

/// AVX-512 F, BW, DQ, VL and VNNI, and tile registers `T`.
#[derive(Clone, Copy)]
pub(super) struct Avx512<T>(PhantomData<T>);

/// No tile registers.
#[derive(Clone, Copy)]
pub(super) struct NoTiles(());

impl<T> Avx2<T> {
    /// # Safety
    /// The processor has AVX2 (and AVX-VNNI), and its state is enabled.
    pub(super) unsafe fn assume() -> Self {
        Self(PhantomData)
    }
}

impl<T> Avx512<T> {
    /// # Safety
    /// The processor has AVX-512 F, BW, DQ, VL and VNNI (and the tile registers), and their state is enabled.
    pub(super) unsafe fn assume() -> Self {
        Self(PhantomData)
    }

    /// The same vectors.
    pub(super) fn without_tiles(self) -> Avx512<NoTiles> {
        Avx512(PhantomData)
    }
}

/// Methods that are one instruction.
macro_rules! single {
    ($($visible:vis $name:ident($($argument:ident: $type:ident),*) -> $result:ident = $instruction:ident;)*) => {
        $(#[inline(always)]
        $visible fn $name(self, $($argument: <Self as Lanes>::$type),*) -> <Self as Lanes>::$result {
            instructions!($instruction($($argument),*))
        })*
    };
}

#[inline(always)]
fn check<T>(slice: &[T], length: usize) {
    assert!(slice.len() >= length, "a vector of {length}");
}

mod avx2;
mod avx512;
