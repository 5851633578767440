//! The vectors of three instruction sets, behind two traits: what inner loops are written against.
//!
//! A value of one of the three types is the proof that its instructions may be used. That is why the methods are safe.

use crate::layout::TILE_ROWS;
use crate::simd::SCORE_LIMIT;
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
    /// 32-bit lanes shifted right without sign, each by its own count; 0 for counts of 32 and more.
    fn shr_each(self, x: Self::Int, counts: Self::Int) -> Self::Int;
    /// `chosen` where `x` is not zero, else `other`.
    fn if_not_zero(self, x: Self::Int, chosen: Self::Int, other: Self::Int) -> Self::Int;
    /// `table[index]` for each lane. Indices are masked to 8 bits.
    fn gather(self, table: &[i32; 256], indices: Self::Int) -> Self::Int;

    /// Products of neighbours in 16 bits, added in 32 bits.
    fn madd(self, a: Self::Int, b: Self::Int) -> Self::Int;
    /// `sum + madd(a, b)`
    fn madd_add(self, sum: Self::Int, a: Self::Int, b: Self::Int) -> Self::Int;
    /// The low 16 bits of each lane of `low`, and above them those of `high`.
    fn pair(self, low: Self::Int, high: Self::Int) -> Self::Int;
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
    /// 32-bit lanes, at most 63, and then limited to [`SCORE_LIMIT`].
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

    /// Largest of the signed 32-bit lanes.
    fn largest(self, x: Self::Int) -> i32 {
        let mut lanes = [i32::MIN; 16];
        self.store_i32(x, &mut lanes);
        lanes.into_iter().fold(i32::MIN, i32::max)
    }
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

fn check<T>(slice: &[T], length: usize) {
    assert!(slice.len() >= length, "a vector of {length}");
}

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
    fn gather(self, table: &[i32; 256], indices: __m512i) -> __m512i {
        let indices = self.and(indices, self.splat(0xff));
        instructions!(_mm512_i32gather_epi32::<4>(indices, table.as_ptr().cast()))
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
        pub(super) pairs(a: Int, b: Int) -> Int = _mm512_maddubs_epi16;
        pub(super) mul16(a: Int, b: Int) -> Int = _mm512_mullo_epi16;
        pub(super) sub16(a: Int, b: Int) -> Int = _mm512_sub_epi16;
    }

    /// The even bytes of `even`, the odd ones of `odd`.
    #[inline(always)]
    pub(super) fn odd_bytes(self, even: __m512i, odd: __m512i) -> __m512i {
        instructions!(_mm512_mask_blend_epi8(0xaaaa_aaaa_aaaa_aaaa, even, odd))
    }
}

impl Dot for Avx512<NoTiles> {
    single! {
        dot(sum: Int, a: Int, b: Int) -> Int = _mm512_dpbusd_epi32;
    }
}

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
    fn gather(self, table: &[i32; 256], indices: __m256i) -> __m256i {
        let indices = self.and(indices, self.splat(0xff));
        instructions!(_mm256_i32gather_epi32::<4>(table.as_ptr(), indices))
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
        pub(super) pairs(a: Int, b: Int) -> Int = _mm256_maddubs_epi16;
        pub(super) add16(a: Int, b: Int) -> Int = _mm256_add_epi16;
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
