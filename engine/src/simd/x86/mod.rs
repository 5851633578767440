//! Inner loops for x86-64.

mod attention;
mod avx2;
mod elementwise;
mod features;
mod lanes;
mod products;
mod tiles;
mod vnni;

use super::{Kernels, Query, Softened};
use crate::layout::Matrix;
use crate::layout::activations::{Activations, BlockMut};
use crate::workers::Columns;
use core::ops::Range;
use features::Features;
use lanes::{Avx2, Avx512, AvxVnni, NoDot, NoTiles};
use tiles::Amx;

/// The sets that this processor can run, the fastest one first: the only way to reach the functions of this module.
pub(super) fn sets() -> impl Iterator<Item = &'static Kernels> {
    let has = Features::of_this_processor();
    [
        has.amx.then_some(&amx::KERNELS),
        has.avx512.then_some(&avx512::KERNELS),
        has.avx_vnni.then_some(&avx_vnni::KERNELS),
        has.avx2.then_some(&avx2_only::KERNELS),
    ]
    .into_iter()
    .flatten()
}

/// A module with a set of kernels for one type of vectors and the processor features that this type stands for. What
/// is generic over vectors is inlined into functions that are compiled for these features.
macro_rules! kernels {
    ($module:ident, $name:literal, $vector:ty, $multiply:expr, $features:literal) => {
        mod $module {
            use super::*;

            pub(super) static KERNELS: Kernels = Kernels {
                name: $name,
                multiply,
                scores,
                soften,
                weigh,
                quantize,
                swiglu,
                norm,
            };

            /// The proof that the features are there.
            #[target_feature(enable = $features)]
            fn vector() -> $vector {
                // SAFETY: only functions for these features call this, which `sets` gives out only where the processor
                // has them and their state is enabled.
                unsafe { <$vector>::assume() }
            }

            fn multiply(matrix: &Matrix<'_>, activations: &Activations, out: Columns<'_, f32>) {
                let tiles = crate::simd::tiles_of(matrix, activations, &out);
                kernels!($features, vector, ($multiply)(
                    matrix: &Matrix<'_>, tiles: Range<usize>, activations: &Activations, out: Columns<'_, f32>
                ));
            }

            fn scores(query: &Query<'_>, keys: &[i16], exponents: &[i16], out: &mut [i32]) {
                query.check(keys, exponents, out);
                kernels!($features, vector, (attention::scores)(
                    query: &Query<'_>, keys: &[i16], exponents: &[i16], out: &mut [i32]
                ));
            }

            fn soften(scores: &mut [i32], exponents: &[i16], weights: &mut [i16]) -> Softened {
                crate::simd::check_soften(scores, exponents, weights);
                kernels!($features, vector, (attention::soften)(
                    scores: &mut [i32], exponents: &[i16], weights: &mut [i16]
                ) -> Softened)
            }

            fn weigh(weights: &[i16], values: &[i16], out: &mut [i32]) {
                crate::simd::check_weigh(weights, values, out);
                kernels!($features, vector, (attention::weigh)(
                    weights: &[i16], values: &[i16], out: &mut [i32]
                ));
            }

            fn quantize(block: &mut BlockMut<'_>) {
                kernels!($features, vector, (elementwise::quantize)(block: &mut BlockMut<'_>));
            }

            fn swiglu(gate: &mut [f32], up: &[f32]) {
                kernels!($features, vector, (elementwise::swiglu)(gate: &mut [f32], up: &[f32]));
            }

            fn norm(x: &[f32], weight: &[f32], epsilon: f32, out: &mut [f32]) {
                kernels!($features, vector, (elementwise::norm)(
                    x: &[f32], weight: &[f32], epsilon: f32, out: &mut [f32]
                ));
            }
        }
    };
    // Calls a function that is generic over vectors, compiled for the features.
    ($features:literal, $vector:ident, ($function:expr)(
        $($argument:ident: $type:ty),*
    ) $(-> $result:ty)?) => {{
        #[target_feature(enable = $features)]
        fn here($($argument: $type),*) $(-> $result)? {
            $function($vector(), $($argument),*)
        }
        // SAFETY: `sets` gives the function around this out only where the processor has the features.
        unsafe { here($($argument),*) }
    }};
}

kernels!(
    avx2_only,
    "avx2",
    Avx2<NoDot>,
    products::multiply::<_, 1>,
    "avx2"
);
kernels!(
    avx_vnni,
    "avx-vnni",
    Avx2<AvxVnni>,
    products::multiply::<_, 4>,
    "avx2,avxvnni"
);
kernels!(
    avx512,
    "avx512-vnni",
    Avx512<NoTiles>,
    products::multiply::<_, 4>,
    "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni"
);
kernels!(
    amx,
    "amx-int8",
    Avx512<Amx>,
    tiles::multiply,
    "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni"
);

/// The kernels for AVX-VNNI and for AMX with these instructions emulated, where all else is there.
#[cfg(test)]
pub(super) fn emulated() -> impl Iterator<Item = &'static Kernels> {
    let has = Features::of_this_processor();
    [
        has.avx2.then_some(&emulated_vnni::KERNELS),
        has.avx512.then_some(&emulated_amx::KERNELS),
    ]
    .into_iter()
    .flatten()
}

#[cfg(test)]
kernels!(
    emulated_vnni,
    "avx-vnni, emulated",
    Avx2<vnni::Emulated>,
    products::multiply::<_, 4>,
    "avx2"
);
#[cfg(test)]
kernels!(
    emulated_amx,
    "amx-int8, emulated",
    Avx512<tiles::Emulated>,
    tiles::multiply,
    "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni"
);
