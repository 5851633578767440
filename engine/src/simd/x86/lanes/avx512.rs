//! Vectors of 512 bits.

use super::{Avx512, Dot, Lanes, NoTiles, check};
use crate::simd::SCORE_LIMIT;
use core::arch::x86_64::*;

impl<T: Copy> Lanes for Avx512<T> {
    const LANES: usize = 16;
    const FETCHES_TWICE: bool = true;
    type Int = __m512i;
    type Float = __m512;

    #[inline(always)]
    fn load_bytes(self, from: &[u8]) -> __m512i {
        check(from, 64);
        instructions!(_mm512_loadu_si512(from.as_ptr().cast()))
    }

    #[inline(always)]
    fn load_i32(self, from: &[i32]) -> __m512i {
        check(from, 16);
        instructions!(_mm512_loadu_si512(from.as_ptr().cast()))
    }

    #[inline(always)]
    fn load_i16(self, from: &[i16]) -> __m512i {
        check(from, 32);
        instructions!(_mm512_loadu_si512(from.as_ptr().cast()))
    }

    #[inline(always)]
    fn widen_i16(self, from: &[i16]) -> __m512i {
        check(from, 16);
        instructions!(_mm512_cvtepi16_epi32(_mm256_loadu_si256(
            from.as_ptr().cast()
        )))
    }

    #[inline(always)]
    fn widen_u16_bytes(self, from: &[u8]) -> __m512i {
        check(from, 32);
        instructions!(_mm512_cvtepu16_epi32(_mm256_loadu_si256(
            from.as_ptr().cast()
        )))
    }

    #[inline(always)]
    fn widen_u8(self, from: &[u8]) -> __m512i {
        check(from, 32);
        instructions!(_mm512_cvtepu8_epi16(_mm256_loadu_si256(
            from.as_ptr().cast()
        )))
    }

    #[inline(always)]
    fn widen_i8(self, from: &[u8]) -> __m512i {
        check(from, 32);
        instructions!(_mm512_cvtepi8_epi16(_mm256_loadu_si256(
            from.as_ptr().cast()
        )))
    }

    #[inline(always)]
    fn load_f32(self, from: &[f32]) -> __m512 {
        check(from, 16);
        instructions!(_mm512_loadu_ps(from.as_ptr()))
    }

    #[inline(always)]
    fn store_bytes(self, x: __m512i, to: &mut [u8]) {
        check(to, 64);
        instructions!(_mm512_storeu_si512(to.as_mut_ptr().cast(), x));
    }

    #[inline(always)]
    fn store_i32(self, x: __m512i, to: &mut [i32]) {
        check(to, 16);
        instructions!(_mm512_storeu_si512(to.as_mut_ptr().cast(), x));
    }

    #[inline(always)]
    fn store_low_i16(self, x: __m512i, to: &mut [i16]) {
        check(to, 16);
        instructions!(_mm256_storeu_si256(
            to.as_mut_ptr().cast(),
            _mm512_cvtepi32_epi16(x)
        ));
    }

    #[inline(always)]
    fn store_low_i8(self, x: __m512i, to: &mut [i8]) {
        check(to, 16);
        instructions!(_mm_storeu_si128(
            to.as_mut_ptr().cast(),
            _mm512_cvtepi32_epi8(x)
        ));
    }

    #[inline(always)]
    fn store_f32(self, x: __m512, to: &mut [f32]) {
        check(to, 16);
        instructions!(_mm512_storeu_ps(to.as_mut_ptr(), x));
    }

    #[inline(always)]
    fn splat(self, x: i32) -> __m512i {
        instructions!(_mm512_set1_epi32(x))
    }

    #[inline(always)]
    fn splat_i8(self, x: i8) -> __m512i {
        instructions!(_mm512_set1_epi8(x))
    }

    #[inline(always)]
    fn splat_f32(self, x: f32) -> __m512 {
        instructions!(_mm512_set1_ps(x))
    }

    single! {
        and(a: Int, b: Int) -> Int = _mm512_and_si512;
        or(a: Int, b: Int) -> Int = _mm512_or_si512;
        add(a: Int, b: Int) -> Int = _mm512_add_epi32;
        sub(a: Int, b: Int) -> Int = _mm512_sub_epi32;
        mul(a: Int, b: Int) -> Int = _mm512_mullo_epi32;
        max(a: Int, b: Int) -> Int = _mm512_max_epi32;
        min(a: Int, b: Int) -> Int = _mm512_min_epi32;
        add16(a: Int, b: Int) -> Int = _mm512_add_epi16;
        mul16(a: Int, b: Int) -> Int = _mm512_mullo_epi16;
        mul_round16(a: Int, b: Int) -> Int = _mm512_mulhrs_epi16;
        sar_each(x: Int, counts: Int) -> Int = _mm512_srav_epi32;
        shr_each(x: Int, counts: Int) -> Int = _mm512_srlv_epi32;
        madd(a: Int, b: Int) -> Int = _mm512_madd_epi16;
        madd_add(sum: Int, a: Int, b: Int) -> Int = _mm512_dpwssd_epi32;
        add64(a: Int, b: Int) -> Int = _mm512_add_epi64;
        mul_even(a: Int, b: Int) -> Int = _mm512_mul_epi32;
        mul_f32(a: Float, b: Float) -> Float = _mm512_mul_ps;
        add_f32(a: Float, b: Float) -> Float = _mm512_add_ps;
        div_f32(a: Float, b: Float) -> Float = _mm512_div_ps;
        min_f32(a: Float, b: Float) -> Float = _mm512_min_ps;
        to_f32(x: Int) -> Float = _mm512_cvtepi32_ps;
        bits(x: Float) -> Int = _mm512_castps_si512;
        as_floats(x: Int) -> Float = _mm512_castsi512_ps;
    }

    #[inline(always)]
    fn shl<const BITS: u32>(self, x: __m512i) -> __m512i {
        instructions!(_mm512_slli_epi32::<BITS>(x))
    }

    #[inline(always)]
    fn sar<const BITS: u32>(self, x: __m512i) -> __m512i {
        instructions!(_mm512_srai_epi32::<BITS>(x))
    }

    #[inline(always)]
    fn shl16<const BITS: u32>(self, x: __m512i) -> __m512i {
        instructions!(_mm512_slli_epi16::<BITS>(x))
    }

    #[inline(always)]
    fn shr16<const BITS: u32>(self, x: __m512i) -> __m512i {
        instructions!(_mm512_srli_epi16::<BITS>(x))
    }

    #[inline(always)]
    fn if_not_zero(self, x: __m512i, chosen: __m512i, other: __m512i) -> __m512i {
        instructions!(_mm512_mask_blend_epi32(
            _mm512_test_epi32_mask(x, x),
            other,
            chosen
        ))
    }

    #[inline(always)]
    fn lookup(self, table: &[i32; 16], indices: __m512i) -> __m512i {
        instructions!(_mm512_permutexvar_epi32(indices, self.load_i32(table)))
    }

    #[inline(always)]
    fn pair(self, low: __m512i, high: __m512i) -> __m512i {
        instructions!(_mm512_mask_blend_epi16(
            0xaaaa_aaaa,
            low,
            _mm512_slli_epi32::<16>(high)
        ))
    }

    #[inline(always)]
    fn odd(self, x: __m512i) -> __m512i {
        instructions!(_mm512_srli_epi64::<32>(x))
    }

    #[inline(always)]
    fn widen64(self, x: __m512i) -> [__m512i; 2] {
        instructions!([
            _mm512_cvtepi32_epi64(_mm512_castsi512_si256(x)),
            _mm512_cvtepi32_epi64(_mm512_extracti64x4_epi64::<1>(x)),
        ])
    }

    #[inline(always)]
    fn shl64<const BITS: u32>(self, x: __m512i) -> __m512i {
        instructions!(_mm512_slli_epi64::<BITS>(x))
    }

    #[inline(always)]
    fn limit_scores(self, x: [__m512i; 2], counts: __m512i) -> __m512i {
        let counts = self.widen64(counts);
        instructions!({
            let (low, high) = (
                _mm512_set1_epi64(-SCORE_LIMIT),
                _mm512_set1_epi64(SCORE_LIMIT),
            );
            let mut limited = [_mm256_setzero_si256(); 2];
            for half in 0..2 {
                let shifted = _mm512_srav_epi64(x[half], counts[half]);
                let within = _mm512_min_epi64(_mm512_max_epi64(shifted, low), high);
                limited[half] = _mm512_cvtepi64_epi32(within);
            }
            _mm512_inserti64x4::<1>(_mm512_castsi256_si512(limited[0]), limited[1])
        })
    }

    #[inline(always)]
    fn largest(self, x: __m512i) -> i32 {
        instructions!(_mm512_reduce_max_epi32(x))
    }

    #[inline(always)]
    fn sum64(self, x: __m512i) -> i64 {
        instructions!(_mm512_reduce_add_epi64(x))
    }

    #[inline(always)]
    fn to_f32_64(self, even: __m512i, odd: __m512i) -> __m512 {
        instructions!({
            // The odd ones behind the even ones, then one of each in turn.
            let both = _mm512_insertf32x8::<1>(
                _mm512_castps256_ps512(_mm512_cvtepi64_ps(even)),
                _mm512_cvtepi64_ps(odd),
            );
            let order = _mm512_set_epi32(15, 7, 14, 6, 13, 5, 12, 4, 11, 3, 10, 2, 9, 1, 8, 0);
            _mm512_permutexvar_ps(order, both)
        })
    }
}

impl<T: Copy> Avx512<T> {
    single! {
        pub(in crate::simd::x86) pairs(a: Int, b: Int) -> Int = _mm512_maddubs_epi16;
        pub(in crate::simd::x86) sub16(a: Int, b: Int) -> Int = _mm512_sub_epi16;
    }

    /// The even bytes of `even`, the odd ones of `odd`.
    #[inline(always)]
    pub(in crate::simd::x86) fn odd_bytes(self, even: __m512i, odd: __m512i) -> __m512i {
        instructions!(_mm512_mask_blend_epi8(0xaaaa_aaaa_aaaa_aaaa, even, odd))
    }
}

impl Dot for Avx512<NoTiles> {
    single! {
        dot(sum: Int, a: Int, b: Int) -> Int = _mm512_dpbusd_epi32;
    }
}
