//! Vectors of 256 bits.

use super::{Avx2, AvxVnni, Dot, Lanes, NoDot, check};
use crate::simd::SCORE_LIMIT;
use core::arch::x86_64::*;

impl<T: Copy> Lanes for Avx2<T> {
    const LANES: usize = 8;
    const FETCHES_TWICE: bool = false;
    type Int = __m256i;
    type Float = __m256;

    #[inline(always)]
    fn load_bytes(self, from: &[u8]) -> __m256i {
        check(from, 32);
        instructions!(_mm256_loadu_si256(from.as_ptr().cast()))
    }

    #[inline(always)]
    fn load_i32(self, from: &[i32]) -> __m256i {
        check(from, 8);
        instructions!(_mm256_loadu_si256(from.as_ptr().cast()))
    }

    #[inline(always)]
    fn load_i16(self, from: &[i16]) -> __m256i {
        check(from, 16);
        instructions!(_mm256_loadu_si256(from.as_ptr().cast()))
    }

    #[inline(always)]
    fn widen_i16(self, from: &[i16]) -> __m256i {
        check(from, 8);
        instructions!(_mm256_cvtepi16_epi32(_mm_loadu_si128(from.as_ptr().cast())))
    }

    #[inline(always)]
    fn widen_u16_bytes(self, from: &[u8]) -> __m256i {
        check(from, 16);
        instructions!(_mm256_cvtepu16_epi32(_mm_loadu_si128(from.as_ptr().cast())))
    }

    #[inline(always)]
    fn widen_u8(self, from: &[u8]) -> __m256i {
        check(from, 16);
        instructions!(_mm256_cvtepu8_epi16(_mm_loadu_si128(from.as_ptr().cast())))
    }

    #[inline(always)]
    fn widen_i8(self, from: &[u8]) -> __m256i {
        check(from, 16);
        instructions!(_mm256_cvtepi8_epi16(_mm_loadu_si128(from.as_ptr().cast())))
    }

    #[inline(always)]
    fn load_f32(self, from: &[f32]) -> __m256 {
        check(from, 8);
        instructions!(_mm256_loadu_ps(from.as_ptr()))
    }

    #[inline(always)]
    fn store_bytes(self, x: __m256i, to: &mut [u8]) {
        check(to, 32);
        instructions!(_mm256_storeu_si256(to.as_mut_ptr().cast(), x));
    }

    #[inline(always)]
    fn store_i32(self, x: __m256i, to: &mut [i32]) {
        check(to, 8);
        instructions!(_mm256_storeu_si256(to.as_mut_ptr().cast(), x));
    }

    #[inline(always)]
    fn store_low_i16(self, x: __m256i, to: &mut [i16]) {
        check(to, 8);
        instructions!({
            let low = _mm256_and_si256(x, _mm256_set1_epi32(0xffff));
            let both = _mm256_packus_epi32(low, low);
            let ordered = _mm256_permute4x64_epi64::<0b1000>(both);
            _mm_storeu_si128(to.as_mut_ptr().cast(), _mm256_castsi256_si128(ordered));
        });
    }

    #[inline(always)]
    fn store_low_i8(self, x: __m256i, to: &mut [i8]) {
        check(to, 8);
        instructions!({
            let low = _mm256_and_si256(x, _mm256_set1_epi32(0xff));
            let words = _mm256_packus_epi32(low, low);
            let bytes = _mm256_packus_epi16(words, words);
            // Four bytes at the start of either half.
            let ordered =
                _mm256_permutevar8x32_epi32(bytes, _mm256_set_epi32(0, 0, 0, 0, 0, 0, 4, 0));
            _mm_storel_epi64(to.as_mut_ptr().cast(), _mm256_castsi256_si128(ordered));
        });
    }

    #[inline(always)]
    fn store_f32(self, x: __m256, to: &mut [f32]) {
        check(to, 8);
        instructions!(_mm256_storeu_ps(to.as_mut_ptr(), x));
    }

    #[inline(always)]
    fn splat(self, x: i32) -> __m256i {
        instructions!(_mm256_set1_epi32(x))
    }

    #[inline(always)]
    fn splat_i8(self, x: i8) -> __m256i {
        instructions!(_mm256_set1_epi8(x))
    }

    #[inline(always)]
    fn splat_f32(self, x: f32) -> __m256 {
        instructions!(_mm256_set1_ps(x))
    }

    single! {
        and(a: Int, b: Int) -> Int = _mm256_and_si256;
        or(a: Int, b: Int) -> Int = _mm256_or_si256;
        add(a: Int, b: Int) -> Int = _mm256_add_epi32;
        sub(a: Int, b: Int) -> Int = _mm256_sub_epi32;
        mul(a: Int, b: Int) -> Int = _mm256_mullo_epi32;
        max(a: Int, b: Int) -> Int = _mm256_max_epi32;
        min(a: Int, b: Int) -> Int = _mm256_min_epi32;
        add16(a: Int, b: Int) -> Int = _mm256_add_epi16;
        mul16(a: Int, b: Int) -> Int = _mm256_mullo_epi16;
        mul_round16(a: Int, b: Int) -> Int = _mm256_mulhrs_epi16;
        sar_each(x: Int, counts: Int) -> Int = _mm256_srav_epi32;
        shr_each(x: Int, counts: Int) -> Int = _mm256_srlv_epi32;
        madd(a: Int, b: Int) -> Int = _mm256_madd_epi16;
        add64(a: Int, b: Int) -> Int = _mm256_add_epi64;
        mul_even(a: Int, b: Int) -> Int = _mm256_mul_epi32;
        mul_f32(a: Float, b: Float) -> Float = _mm256_mul_ps;
        add_f32(a: Float, b: Float) -> Float = _mm256_add_ps;
        div_f32(a: Float, b: Float) -> Float = _mm256_div_ps;
        min_f32(a: Float, b: Float) -> Float = _mm256_min_ps;
        to_f32(x: Int) -> Float = _mm256_cvtepi32_ps;
        bits(x: Float) -> Int = _mm256_castps_si256;
        as_floats(x: Int) -> Float = _mm256_castsi256_ps;
    }

    #[inline(always)]
    fn shl<const BITS: u32>(self, x: __m256i) -> __m256i {
        instructions!(_mm256_sll_epi32(x, _mm_cvtsi32_si128(BITS.cast_signed())))
    }

    #[inline(always)]
    fn sar<const BITS: u32>(self, x: __m256i) -> __m256i {
        instructions!(_mm256_sra_epi32(x, _mm_cvtsi32_si128(BITS.cast_signed())))
    }

    #[inline(always)]
    fn shl16<const BITS: u32>(self, x: __m256i) -> __m256i {
        instructions!(_mm256_sll_epi16(x, _mm_cvtsi32_si128(BITS.cast_signed())))
    }

    #[inline(always)]
    fn shr16<const BITS: u32>(self, x: __m256i) -> __m256i {
        instructions!(_mm256_srl_epi16(x, _mm_cvtsi32_si128(BITS.cast_signed())))
    }

    #[inline(always)]
    fn if_not_zero(self, x: __m256i, chosen: __m256i, other: __m256i) -> __m256i {
        instructions!(_mm256_blendv_epi8(
            chosen,
            other,
            _mm256_cmpeq_epi32(x, _mm256_setzero_si256())
        ))
    }

    #[inline(always)]
    fn lookup(self, table: &[i32; 16], indices: __m256i) -> __m256i {
        let (low, high) = table.split_at(8);
        // Bit 3 becomes the sign, which chooses.
        instructions!(_mm256_castps_si256(_mm256_blendv_ps(
            _mm256_castsi256_ps(_mm256_permutevar8x32_epi32(self.load_i32(low), indices)),
            _mm256_castsi256_ps(_mm256_permutevar8x32_epi32(self.load_i32(high), indices)),
            _mm256_castsi256_ps(_mm256_slli_epi32::<28>(indices)),
        )))
    }

    #[inline(always)]
    fn madd_add(self, sum: __m256i, a: __m256i, b: __m256i) -> __m256i {
        self.add(sum, self.madd(a, b))
    }

    #[inline(always)]
    fn pair(self, low: __m256i, high: __m256i) -> __m256i {
        instructions!(_mm256_blend_epi16::<0xaa>(
            low,
            _mm256_slli_epi32::<16>(high)
        ))
    }

    #[inline(always)]
    fn odd(self, x: __m256i) -> __m256i {
        instructions!(_mm256_srli_epi64::<32>(x))
    }

    #[inline(always)]
    fn widen64(self, x: __m256i) -> [__m256i; 2] {
        instructions!([
            _mm256_cvtepi32_epi64(_mm256_castsi256_si128(x)),
            _mm256_cvtepi32_epi64(_mm256_extracti128_si256::<1>(x)),
        ])
    }

    #[inline(always)]
    fn shl64<const BITS: u32>(self, x: __m256i) -> __m256i {
        instructions!(_mm256_sll_epi64(x, _mm_cvtsi32_si128(BITS.cast_signed())))
    }

    #[inline(always)]
    fn limit_scores(self, x: [__m256i; 2], counts: __m256i) -> __m256i {
        let counts = self.widen64(counts);
        instructions!({
            let sign = _mm256_set1_epi64x(i64::MIN);
            let (low, high) = (
                _mm256_set1_epi64x(-SCORE_LIMIT),
                _mm256_set1_epi64x(SCORE_LIMIT),
            );
            let mut limited = [_mm_setzero_si128(); 2];
            for half in 0..2 {
                // There is no signed shift of 64 bits: shift the number plus 2^63, and take what became of 2^63 off.
                let shifted = _mm256_sub_epi64(
                    _mm256_srlv_epi64(_mm256_xor_si256(x[half], sign), counts[half]),
                    _mm256_srlv_epi64(sign, counts[half]),
                );
                let floor = _mm256_blendv_epi8(shifted, low, _mm256_cmpgt_epi64(low, shifted));
                let within = _mm256_blendv_epi8(floor, high, _mm256_cmpgt_epi64(floor, high));
                let order = _mm256_set_epi32(0, 0, 0, 0, 6, 4, 2, 0);
                limited[half] = _mm256_castsi256_si128(_mm256_permutevar8x32_epi32(within, order));
            }
            _mm256_set_m128i(limited[1], limited[0])
        })
    }

    #[inline(always)]
    fn largest(self, x: __m256i) -> i32 {
        instructions!({
            let four = _mm_max_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256::<1>(x));
            let two = _mm_max_epi32(four, _mm_shuffle_epi32::<0b01_00_11_10>(four));
            let one = _mm_max_epi32(two, _mm_shuffle_epi32::<0b10_11_00_01>(two));
            _mm_cvtsi128_si32(one)
        })
    }

    #[inline(always)]
    fn sum64(self, x: __m256i) -> i64 {
        numbers(self, x).into_iter().fold(0, i64::wrapping_add)
    }

    #[inline(always)]
    fn to_f32_64(self, even: __m256i, odd: __m256i) -> __m256 {
        let (even, odd) = (numbers(self, even), numbers(self, odd));
        let number = |lane: usize| [even, odd][lane % 2][lane / 2] as f32;
        let numbers: [f32; 8] = core::array::from_fn(number);
        self.load_f32(&numbers)
    }
}

impl Avx2<NoDot> {
    single! {
        pub(in crate::simd::x86) pairs(a: Int, b: Int) -> Int = _mm256_maddubs_epi16;
    }
}

impl Dot for Avx2<AvxVnni> {
    single! {
        dot(sum: Int, a: Int, b: Int) -> Int = _mm256_dpbusd_avx_epi32;
    }
}

/// Four 64-bit lanes.
#[inline(always)]
fn numbers<T: Copy>(v: Avx2<T>, x: __m256i) -> [i64; 4] {
    let mut lanes = [0; 8];
    v.store_i32(x, &mut lanes);
    let number = |pair: &[i32; 2]| i64::from(pair[1]) << 32 | i64::from(pair[0].cast_unsigned());
    let pairs = lanes.as_chunks::<2>().0;
    core::array::from_fn(|index| number(&pairs[index]))
}
