//! Inner loops for AVX2. Same integers as [`super::portable`], eight rows at a time.

mod attention;
mod multiply;

use super::Kernels;
use crate::layout::Matrix;
use crate::layout::activations::Activations;
use crate::workers::Columns;
use core::arch::x86_64::{
    __cpuid, __cpuid_count, __m256i, _mm256_loadu_si256, _mm256_storeu_si256,
};

static KERNELS: Kernels = Kernels {
    name: "avx2",
    multiply,
    scores,
    weigh,
};

/// The set, if this processor and its state can run it: the only way to reach the functions of this module.
pub(super) fn kernels() -> Option<&'static Kernels> {
    const OSXSAVE_AND_AVX: u32 = 1 << 27 | 1 << 28;
    const AVX2: u32 = 1 << 5;
    const XMM_AND_YMM: u64 = 0b110;
    if __cpuid(0).eax < 7 || __cpuid(1).ecx & OSXSAVE_AND_AVX != OSXSAVE_AND_AVX {
        return None;
    }
    // SAFETY: CPUID says that XGETBV may be used (OSXSAVE).
    let enabled = unsafe { xgetbv() };
    (enabled & XMM_AND_YMM == XMM_AND_YMM && __cpuid_count(7, 0).ebx & AVX2 != 0)
        .then_some(&KERNELS)
}

/// XCR0: which register state is enabled.
#[target_feature(enable = "xsave")]
fn xgetbv() -> u64 {
    // SAFETY: the caller makes sure of OSXSAVE; register 0 always exists.
    unsafe { core::arch::x86_64::_xgetbv(0) }
}

fn multiply(matrix: &Matrix<'_>, activations: &Activations, out: Columns<'_, f32>) {
    let tiles = super::tiles_of(matrix, activations, &out);
    // SAFETY: `kernels` gives this function out only where AVX2 works.
    unsafe { multiply::multiply(matrix, tiles, activations, out) }
}

fn scores(high: &[i16], low: &[i16], keys: &[i16], out: &mut [i64]) {
    assert!(
        high.len() == low.len() && keys.len() == high.len() * out.len(),
        "shapes of scores"
    );
    assert!(high.len().is_multiple_of(16), "head dimension");
    // SAFETY: `kernels` gives this function out only where AVX2 works.
    unsafe { attention::scores(high, low, keys, out) }
}

fn weigh(weights: &[i16], values: &[i16], out: &mut [i32]) {
    assert!(
        weights.len().is_multiple_of(2) && values.len() == weights.len() * out.len(),
        "shapes of weigh"
    );
    assert!(out.len().is_multiple_of(16), "head dimension");
    // SAFETY: `kernels` gives this function out only where AVX2 works.
    unsafe { attention::weigh(weights, values, out) }
}

/// 32 bytes as a vector.
#[target_feature(enable = "avx2")]
#[inline]
fn load(bytes: &[u8; 32]) -> __m256i {
    // SAFETY: the reference covers the 32 bytes that are read; any alignment is allowed.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}

/// 16 numbers as a vector.
#[target_feature(enable = "avx2")]
#[inline]
fn load_i16(numbers: &[i16; 16]) -> __m256i {
    // SAFETY: the reference covers the 32 bytes that are read; any alignment is allowed.
    unsafe { _mm256_loadu_si256(numbers.as_ptr().cast()) }
}

/// A vector of four 64-bit lanes as numbers.
#[target_feature(enable = "avx2")]
#[inline]
fn store_i64(vector: __m256i) -> [i64; 4] {
    let mut numbers = [0; 4];
    // SAFETY: the array has the 32 bytes that are written; any alignment is allowed.
    unsafe { _mm256_storeu_si256(numbers.as_mut_ptr().cast(), vector) };
    numbers
}

/// A vector of eight 32-bit lanes as numbers.
#[target_feature(enable = "avx2")]
#[inline]
fn store_i32(vector: __m256i) -> [i32; 8] {
    let mut numbers = [0; 8];
    // SAFETY: the array has the 32 bytes that are written; any alignment is allowed.
    unsafe { _mm256_storeu_si256(numbers.as_mut_ptr().cast(), vector) };
    numbers
}
