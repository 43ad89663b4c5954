//! The functions of each instruction set: every operation, compiled for each row of the table in `isa`.

use std::ops::Range;

use crate::call::{Call, Kernel};
use crate::gemm;
use crate::isa::{Isa, instruction_sets};
use crate::kernels::{Functions, Kernels};
use crate::operands::activations::Tile;
use crate::operands::matrix::{MatMut, Weights};
use crate::ops::attention::{self, AttentionScratch, Queries, SEGMENT, Segment};
use crate::ops::attention_quant::{self, QuantQueries, QuantScratch, QuantSegment};
use crate::ops::matmul_quant::{self, Scratch};
use crate::ops::roofline::{self, Int8Loop, Reading, Roofline};
use crate::ops::{elementwise, matmul_float, scores_quant, softmax};
use crate::simd::Simd;
use crate::tuning::Tuning;

/// Everything of one instruction set: the functions of [`Call`], and those of [`Functions`] with the features of the
/// row enabled, each of which gives an operation the token.
macro_rules! compile {
    ($features:tt) => {
        impl Call for Token {
            compile!(@call $features attend);
            compile!(@call $features widen);
            compile!(@call $features full_tiles);
            compile!(@call $features stream);
            compile!(@call $features stream_tiles);
        }

        compile! { @functions $features
            fn tile_rows(left: usize) -> usize = |s| gemm::tile_rows(s, left);
            fn quantize(x: &[f32], stride: usize, tile: &mut Tile) = |s| elementwise::quantize(s, x, stride, tile);
            fn matmul_quant(
                tuning: &Tuning, w: &Weights<'_>, groups: Range<usize>, x: &[Tile], scratch: &mut Scratch,
                out: &mut MatMut<'_>,
            ) = |s| matmul_quant::matmul(s, tuning, w, groups, x, scratch, out);
            fn matmul_float(w: &Weights<'_>, groups: Range<usize>, x: &[f32], stride: usize, out: &mut MatMut<'_>)
                = |s| matmul_float::matmul(s, w, groups, x, stride, out);
            fn rms_norm(x: &[f32], w: &[f32], eps: f32, n: usize, out: &mut [f32])
                = |s| elementwise::rms_norm(s, x, w, eps, n, out);
            fn add_rms_norm(x: &[f32], w: &[f32], eps: f32, n: usize, into: &mut [f32])
                = |s| elementwise::add_rms_norm(s, x, w, eps, n, into);
            fn rms_norm_heads(x: &mut [f32], head_dim: usize, w: &[f32], eps: f32)
                = |s| elementwise::rms_norm_heads(s, x, head_dim, w, eps);
            fn layer_norm(x: &mut [f32], w: &[f32], b: &[f32], eps: f32, n: usize)
                = |s| elementwise::layer_norm(s, x, w, b, eps, n);
            fn silu_mul(gate: &mut [f32], up: &[f32]) = |s| elementwise::silu_mul(s, gate, up);
            fn gelu_mul(gate: &mut [f32], up: &[f32]) = |s| elementwise::gelu_mul(s, gate, up);
            fn relu(x: &mut [f32]) = |s| elementwise::relu(s, x);
            fn gelu(x: &mut [f32]) = |s| elementwise::gelu(s, x);
            fn soft_cap(x: &mut [f32], cap: f32) = |s| elementwise::soft_cap(s, x, cap);
            fn add(x: &mut [f32], y: &[f32]) = |s| elementwise::add(s, x, y);
            fn add_scaled(x: &mut [f32], y: &[f32], factor: f32) = |s| elementwise::add_scaled(s, x, y, factor);
            fn within(x: &[f32], limit: f32) -> bool = |s| elementwise::within(s, x, limit);
            fn rope(x: &mut [f32], head_dim: usize, angles: &[[f32; 2]], scale: f32)
                = |_s| elementwise::rope(x, head_dim, angles, scale);
            fn rope_halves(x: &mut [f32], head_dim: usize, angles: &[[f32; 2]], scale: f32)
                = |_s| elementwise::rope_halves(x, head_dim, angles, scale);
            fn attend_f16(
                tuning: &Tuning, q: Queries<'_>, kv: Segment<'_, u16>, first: bool, scratch: &mut AttentionScratch, state: &mut [f32],
            ) = |s| attention::attend(s, tuning, q, kv, first, scratch, state);
            fn attend_f32(
                tuning: &Tuning, q: Queries<'_>, kv: Segment<'_, f32>, first: bool, scratch: &mut AttentionScratch, state: &mut [f32],
            ) = |s| attention::attend(s, tuning, q, kv, first, scratch, state);
            fn scores(keys: &Weights<'_>, positions: Range<usize>, tile: &Tile, ahead: usize, out: &mut [[f32; SEGMENT]]) -> bool
                = |s| scores_quant::scores(s, keys, positions, tile, ahead, out);
            fn weigh(
                tuning: &Tuning, q: QuantQueries<'_>, kv: QuantSegment<'_>, first: bool, scratch: &mut QuantScratch, state: &mut [f32],
            ) = |s| attention_quant::weigh(s, tuning, q, kv, first, scratch, state);
            fn hadamard(x: &mut [f32], head_dim: usize) = |_s| elementwise::hadamard(x, head_dim);
            fn merge(into: &mut [f32], from: &[f32]) = |s| attention::merge(s, into, from);
            fn finish(state: &[f32], out: &mut [f32]) = |_s| attention::finish(state, out);
            fn exp_sum(x: &[f32], max: f64) -> f64 = |s| softmax::exp_sum(s, x, max);
            fn divergence_sums(base: &[f32], model: &[f32], max: [f64; 2]) -> [f64; 3]
                = |s| softmax::divergence_sums(s, base, model, max);
            fn read(x: &[u8], how: Reading) -> i32 = |s| roofline::read(s, x, how);
            fn int8_loop(bits: u32, how: Int8Loop, rounds: usize) -> u64 = |s| s.int8_loop(bits, how, rounds);
            fn f32_loop(rounds: usize) -> u64 = |s| roofline::float32(s, rounds);
        }
    };
    (@call { $($feature:ident $($enable:literal)?),* } $name:ident) => {
        #[inline(always)]
        fn $name<K: Kernel<Token>>(self, kernel: K) {
            #[target_feature($($(enable = $enable,)?)*)]
            #[inline(never)]
            unsafe fn $name<K: Kernel<Token>>(token: Token, kernel: K) {
                kernel.run(token);
            }
            // SAFETY: a token exists, so this CPU has the features.
            unsafe { $name(self, kernel) }
        }
    };
    (@functions $features:tt
        $(fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? = |$s:ident| $body:expr;)*
    ) => {
        static FUNCTIONS: Functions = Functions { $($name),* };

        $(compile!(@function $features fn $name($($arg: $ty),*) $(-> $ret)? = |$s| $body);)*
    };
    (@function { $($feature:ident $($enable:literal)?),* }
        fn $name:ident($($arg:ident: $ty:ty),*) $(-> $ret:ty)? = |$s:ident| $body:expr
    ) => {
        #[target_feature($($(enable = $enable,)?)*)]
        fn $name($($arg: $ty),*) $(-> $ret)? {
            // SAFETY: the features of the token are enabled for this function, which is only called through `Kernels`
            // that `Isa::kernels` gives after it has found them.
            let $s = unsafe { Token::new_unchecked() };
            $body
        }
    };
}

macro_rules! define_tables {
    ($($(#[$doc:meta])* $isa:ident $name:ident [$($target:tt)*] $features:tt $token:path => $tuning:expr;)*) => {
        $(
            #[cfg($($target)*)]
            #[allow(unused_attributes, reason = "the row of the portable kernels enables nothing")]
            mod $name {
                use super::*;
                use $token as Token;

                pub(super) static KERNELS: Kernels =
                    Kernels { isa: Isa::$isa, functions: &FUNCTIONS, tuning: $tuning };

                compile!($features);
            }
        )*

        impl Isa {
            /// The kernels, if this CPU can run them.
            pub fn kernels(self) -> Option<&'static Kernels> {
                if !self.is_available() {
                    return None;
                }
                match self {
                    $(#[cfg($($target)*)] Isa::$isa => Some(&$name::KERNELS),)*
                    // Those of other architectures; no architecture has them all.
                    _ => None,
                }
            }
        }
    };
}
instruction_sets!(define_tables);

impl Kernels {
    /// The kernels of every instruction set that this CPU has, the preferred one last: what tests and benches go
    /// through.
    pub fn available() -> impl Iterator<Item = &'static Kernels> {
        Isa::ALL.into_iter().filter_map(Isa::kernels)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_why_there_are_no_kernels() {
        for isa in Isa::ALL {
            assert_eq!(isa.kernels().is_some(), isa.is_native() && isa.missing().is_empty(), "{isa}");
            assert!(isa.kernels().is_none_or(|kernels| kernels.isa() == isa), "{isa}");
        }
    }
}
