//! The kernels of one instruction set as a value.

use std::ops::Range;
use std::str::FromStr;

#[cfg(target_arch = "aarch64")]
use crate::aarch64::{dotprod::DotProd, i8mm::I8mm, neon::Neon};
use crate::activations::{self, Tile};
use crate::cpu::cpu;
use crate::matrix::{MatMut, Weights};
use crate::ops::attention::{self, AttentionScratch, Queries, SEGMENT, Segment, state_len};
use crate::ops::matmul_quant::Scratch;
use crate::ops::roof::{self, Int8Loop};
use crate::ops::{elementwise, matmul_float, matmul_quant, softmax};
use crate::portable::Portable;
use crate::simd::Simd;
#[cfg(target_arch = "x86_64")]
use crate::x86_64::{amx::Amx, avx2::Avx2, avx512::Avx512Vnni, avxvnni::AvxVnni};

/// An instruction set that kernels exist for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Isa {
    /// Plain Rust.
    Portable,
    /// AVX2, FMA and F16C.
    Avx2,
    /// AVX2, FMA, F16C and AVX-VNNI.
    AvxVnni,
    /// AVX-512 F, BW, DQ, VL and VNNI.
    Avx512Vnni,
    /// AVX-512 as [`Isa::Avx512Vnni`], and AMX's int8 tiles.
    Amx,
    /// NEON of ARMv8.0.
    Neon,
    /// NEON with the dot product instructions of ARMv8.2.
    DotProd,
    /// NEON with the int8 matrix instructions of ARMv8.6.
    I8mm,
}

impl Isa {
    /// Every instruction set, the preferred one last.
    pub const ALL: [Isa; 8] =
        [Isa::Portable, Isa::Avx2, Isa::AvxVnni, Isa::Avx512Vnni, Isa::Amx, Isa::Neon, Isa::DotProd, Isa::I8mm];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Isa::Portable => "portable",
            Isa::Avx2 => "avx2",
            Isa::AvxVnni => "avxvnni",
            Isa::Avx512Vnni => "avx512vnni",
            Isa::Amx => "amx",
            Isa::Neon => "neon",
            Isa::DotProd => "dotprod",
            Isa::I8mm => "i8mm",
        }
    }

    /// Those that this CPU has, the preferred one last.
    pub fn available() -> Vec<Isa> {
        Isa::ALL.into_iter().filter(|isa| isa.kernels().is_some()).collect()
    }

    /// The preferred one of this CPU.
    pub fn best() -> Isa {
        Isa::ALL.into_iter().rev().find(|isa| isa.kernels().is_some()).unwrap_or(Isa::Portable)
    }

    /// Whether kernels for it are in this build: it belongs to the architecture.
    pub fn is_native(self) -> bool {
        match self {
            Isa::Portable => true,
            Isa::Avx2 | Isa::AvxVnni | Isa::Avx512Vnni | Isa::Amx => cfg!(target_arch = "x86_64"),
            Isa::Neon | Isa::DotProd | Isa::I8mm => cfg!(target_arch = "aarch64"),
        }
    }

    /// The features that it takes, by the names of [`cpu`].
    fn needs(self) -> &'static [&'static str] {
        match self {
            Isa::Portable => &[],
            Isa::Avx2 => &["AVX2", "FMA", "F16C"],
            Isa::AvxVnni => &["AVX2", "FMA", "F16C", "AVX_VNNI"],
            Isa::Avx512Vnni => &["AVX2", "FMA", "F16C", "AVX512F", "AVX512DQ", "AVX512BW", "AVX512VL", "AVX512_VNNI"],
            Isa::Amx => &[
                "AVX2",
                "FMA",
                "F16C",
                "AVX512F",
                "AVX512DQ",
                "AVX512BW",
                "AVX512VL",
                "AVX512_VNNI",
                "AMX_TILE",
                "AMX_INT8",
                "XTILEDATA_PERM",
            ],
            Isa::Neon => &["NEON"],
            Isa::DotProd => &["NEON", "DotProd"],
            Isa::I8mm => &["NEON", "DotProd", "I8MM"],
        }
    }

    /// The features that it takes and that cannot be used here: this CPU lacks them, or the system does not save their
    /// registers. Empty when [`Isa::kernels`] has kernels.
    pub fn missing(self) -> Vec<&'static str> {
        let (_, features) = cpu();
        self.needs().iter().copied().filter(|name| !features.contains(&(*name, true))).collect()
    }

    /// The kernels, if this CPU can run them.
    pub fn kernels(self) -> Option<&'static Kernels> {
        match self {
            Isa::Portable => Some(&portable::KERNELS),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => Avx2::detect().map(|_| &avx2::KERNELS),
            #[cfg(target_arch = "x86_64")]
            Isa::AvxVnni => AvxVnni::detect().map(|_| &avxvnni::KERNELS),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Vnni => Avx512Vnni::detect().map(|_| &avx512vnni::KERNELS),
            #[cfg(target_arch = "x86_64")]
            Isa::Amx => Amx::detect().map(|_| &amx::KERNELS),
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => Neon::detect().map(|_| &neon::KERNELS),
            #[cfg(target_arch = "aarch64")]
            Isa::DotProd => DotProd::detect().map(|_| &dotprod::KERNELS),
            #[cfg(target_arch = "aarch64")]
            Isa::I8mm => I8mm::detect().map(|_| &i8mm::KERNELS),
            // Those of other architectures; no architecture has them all.
            _ => None,
        }
    }
}

impl std::fmt::Display for Isa {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Isa {
    type Err = String;

    fn from_str(name: &str) -> Result<Isa, String> {
        Isa::ALL.into_iter().find(|isa| isa.name() == name).ok_or_else(|| {
            let known: Vec<_> = Isa::ALL.iter().map(|isa| isa.name()).collect();
            format!("unknown instruction set `{name}`; known are {}", known.join(", "))
        })
    }
}

/// The kernels of one instruction set. It can be had only from [`Isa::kernels`], which asks the CPU first.
pub struct Kernels {
    isa: Isa,
    tile_rows: unsafe fn(usize) -> usize,
    quantize: unsafe fn(&[f32], usize, &mut Tile),
    matmul_quant: unsafe fn(&Weights<'_>, Range<usize>, &[Tile], &mut Scratch, &mut MatMut<'_>),
    matmul_float: unsafe fn(&Weights<'_>, Range<usize>, &[f32], usize, &mut MatMut<'_>),
    rms_norm: unsafe fn(&[f32], &[f32], f32, usize, &mut [f32]),
    silu_mul: unsafe fn(&mut [f32], &[f32]),
    add: unsafe fn(&mut [f32], &[f32]),
    rms_norm_heads: unsafe fn(&mut [f32], usize, &[f32], f32),
    rope: unsafe fn(&mut [f32], usize, &[[f32; 2]], f32),
    rope_halves: unsafe fn(&mut [f32], usize, &[[f32; 2]], f32),
    attend_f16: unsafe fn(Queries<'_>, Segment<'_, u16>, bool, &mut AttentionScratch, &mut [f32]),
    attend_f32: unsafe fn(Queries<'_>, Segment<'_, f32>, bool, &mut AttentionScratch, &mut [f32]),
    merge: unsafe fn(&mut [f32], &[f32]),
    finish: unsafe fn(&[f32], &mut [f32]),
    exp_sum: unsafe fn(&[f32], f64) -> f64,
    divergence_sums: DivergenceSums,
    read: unsafe fn(&[u8]) -> i32,
    int8_loop: unsafe fn(u32, Int8Loop, usize) -> u64,
    f32_loop: unsafe fn(usize) -> u64,
}

type DivergenceSums = unsafe fn(&[f32], &[f32], [f64; 2]) -> [f64; 3];

/// Instantiates every operation for one ISA. The features are those that the token's `detect` tests for.
macro_rules! instantiate {
    ($module:ident, $isa:expr, $token:expr, $features:tt) => {
        mod $module {
            use super::*;

            pub(super) static KERNELS: Kernels = Kernels {
                isa: $isa,
                tile_rows,
                quantize,
                matmul_quant: mm_quant,
                matmul_float: mm_float,
                rms_norm,
                silu_mul,
                add,
                rms_norm_heads,
                rope,
                rope_halves,
                attend_f16,
                attend_f32,
                merge,
                finish,
                exp_sum,
                divergence_sums,
                read,
                int8_loop,
                f32_loop,
            };

            instantiate!(@ $token, $features;
                fn tile_rows(left: usize) -> usize = |s| activations::tile_rows(s, left);
                fn quantize(x: &[f32], stride: usize, tile: &mut Tile) = |s| elementwise::quantize(s, x, stride, tile);
                fn mm_quant(w: &Weights<'_>, groups: Range<usize>, x: &[Tile], scratch: &mut Scratch, out: &mut MatMut<'_>)
                    = |s| matmul_quant::matmul(s, w, groups, x, scratch, out);
                fn mm_float(w: &Weights<'_>, groups: Range<usize>, x: &[f32], stride: usize, out: &mut MatMut<'_>)
                    = |s| matmul_float::matmul(s, w, groups, x, stride, out);
                fn rms_norm(x: &[f32], w: &[f32], eps: f32, n: usize, out: &mut [f32])
                    = |s| elementwise::rms_norm(s, x, w, eps, n, out);
                fn silu_mul(gate: &mut [f32], up: &[f32]) = |s| elementwise::silu_mul(s, gate, up);
                fn add(x: &mut [f32], y: &[f32]) = |s| elementwise::add(s, x, y);
                fn rope(x: &mut [f32], head_dim: usize, angles: &[[f32; 2]], scale: f32)
                    = |_s| elementwise::rope(x, head_dim, angles, scale);
                fn rope_halves(x: &mut [f32], head_dim: usize, angles: &[[f32; 2]], scale: f32)
                    = |_s| elementwise::rope_halves(x, head_dim, angles, scale);
                fn rms_norm_heads(x: &mut [f32], head_dim: usize, w: &[f32], eps: f32)
                    = |s| elementwise::rms_norm_heads(s, x, head_dim, w, eps);
                fn attend_f16(
                    q: Queries<'_>, kv: Segment<'_, u16>, first: bool, scratch: &mut AttentionScratch, state: &mut [f32],
                ) = |s| attention::attend(s, q, kv, first, scratch, state);
                fn attend_f32(
                    q: Queries<'_>, kv: Segment<'_, f32>, first: bool, scratch: &mut AttentionScratch, state: &mut [f32],
                ) = |s| attention::attend(s, q, kv, first, scratch, state);
                fn merge(into: &mut [f32], from: &[f32]) = |s| attention::merge(s, into, from);
                fn finish(state: &[f32], out: &mut [f32]) = |_s| attention::finish(state, out);
                fn exp_sum(x: &[f32], max: f64) -> f64 = |s| softmax::exp_sum(s, x, max);
                fn divergence_sums(base: &[f32], model: &[f32], max: [f64; 2]) -> [f64; 3]
                    = |s| softmax::divergence_sums(s, base, model, max);
                fn read(x: &[u8]) -> i32 = |s| roof::read(s, x);
                fn int8_loop(bits: u32, how: Int8Loop, rounds: usize) -> u64 = |s| s.int8_loop(bits, how, rounds);
                fn f32_loop(rounds: usize) -> u64 = |s| roof::float32(s, rounds);
            );
        }
    };
    (@ $token:expr, $features:tt; $(fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? = |$s:ident| $body:expr;)*) => {
        $(instantiate!(@one $token, $features; fn $name($($arg: $ty),*) $(-> $ret)? = |$s| $body);)*
    };
    (@one $token:expr, none; fn $name:ident($($arg:ident: $ty:ty),*) $(-> $ret:ty)? = |$s:ident| $body:expr) => {
        fn $name($($arg: $ty),*) $(-> $ret)? {
            let $s = $token;
            $body
        }
    };
    (@one $token:expr, $features:literal; fn $name:ident($($arg:ident: $ty:ty),*) $(-> $ret:ty)? = |$s:ident| $body:expr) => {
        #[target_feature(enable = $features)]
        fn $name($($arg: $ty),*) $(-> $ret)? {
            // SAFETY: the features of the token are enabled for this function, which is only called through a table
            // that `Isa::kernels` gives after checking for them.
            let $s = unsafe { $token };
            $body
        }
    };
}

instantiate!(portable, Isa::Portable, Portable, none);
#[cfg(target_arch = "x86_64")]
instantiate!(avx2, Isa::Avx2, Avx2::new_unchecked(), "avx2,fma,f16c");
#[cfg(target_arch = "x86_64")]
instantiate!(avxvnni, Isa::AvxVnni, AvxVnni::new_unchecked(), "avx2,fma,f16c,avxvnni");
#[cfg(target_arch = "x86_64")]
instantiate!(
    avx512vnni,
    Isa::Avx512Vnni,
    Avx512Vnni::new_unchecked(),
    "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni"
);
#[cfg(target_arch = "x86_64")]
instantiate!(amx, Isa::Amx, Amx::new_unchecked(), "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni");

#[cfg(target_arch = "aarch64")]
instantiate!(neon, Isa::Neon, Neon::new_unchecked(), "neon");
#[cfg(target_arch = "aarch64")]
instantiate!(dotprod, Isa::DotProd, DotProd::new_unchecked(), "neon,dotprod");
#[cfg(target_arch = "aarch64")]
instantiate!(i8mm, Isa::I8mm, I8mm::new_unchecked(), "neon,dotprod,i8mm");

/// Calls a field of the table.
macro_rules! call {
    ($self:ident.$name:ident($($arg:expr),* $(,)?)) => {
        // SAFETY: `Kernels` can be had only from `Isa::kernels`, which found this CPU to have the features.
        unsafe { ($self.$name)($($arg),*) }
    };
}

impl Kernels {
    /// Whose kernels these are.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// Rows of the next tile when `left` rows are left: the largest power of two of them that this instruction set has
    /// a kernel for.
    pub fn tile_rows(&self, left: usize) -> usize {
        call!(self.tile_rows(left))
    }

    /// Quantises `rows` ([`Kernels::tile_rows`]) rows of `cols` activations (a multiple of 32), `stride` apart in `x`.
    ///
    /// # Panics
    /// When `x` is too short, `rows` no number of rows of a tile, or `cols` not as said.
    pub fn quantize(&self, x: &[f32], rows: usize, cols: usize, stride: usize, tile: &mut Tile) {
        assert_eq!(rows, self.tile_rows(rows));
        tile.resize(rows, cols);
        assert!(stride >= cols && x.len() >= (rows - 1) * stride + cols);
        call!(self.quantize(x, stride, tile));
    }

    /// Quantises `rows` rows of `cols` activations (a multiple of 32), one after the other in `x`, in tiles as
    /// [`Kernels::matmul_quant`] takes them: the largest first.
    ///
    /// # Panics
    /// When `x` is too short or `cols` not as said.
    pub fn tiles(&self, x: &[f32], rows: usize, cols: usize) -> Vec<Tile> {
        let (mut tiles, mut start) = (Vec::new(), 0);
        while start < rows {
            let mut tile = Tile::default();
            self.quantize(&x[start * cols..], self.tile_rows(rows - start), cols, cols, &mut tile);
            start += tile.rows;
            tiles.push(tile);
        }
        tiles
    }

    /// `out[row][16·i + lane] = weights[16·(groups.start + i) + lane] · x[row]` for quantised weights; the largest
    /// tiles stand first.
    ///
    /// # Panics
    /// When the shapes disagree: the tiles' rows are `out`'s rows, their columns the weights', and `out` has 16 columns
    /// a group; when tiles grow.
    pub fn matmul_quant(
        &self,
        w: &Weights<'_>,
        groups: Range<usize>,
        x: &[Tile],
        scratch: &mut Scratch,
        out: &mut MatMut<'_>,
    ) {
        assert!(!w.ty().is_float() && groups.end <= w.groups());
        assert_eq!(out.cols(), groups.len() * 16);
        assert_eq!(out.rows(), x.iter().map(|t| t.rows).sum::<usize>());
        assert!(x.iter().all(|t| t.rows == self.tile_rows(t.rows) && t.blocks * 32 == w.cols()));
        assert!(x.is_sorted_by(|a, b| a.rows >= b.rows), "the largest tiles stand first");
        call!(self.matmul_quant(w, groups, x, scratch, out));
    }

    /// As [`Kernels::matmul_quant`] for F32, F16 and BF16 weights and f32 rows, `stride` apart in `x`.
    ///
    /// # Panics
    /// When the shapes disagree.
    pub fn matmul_float(&self, w: &Weights<'_>, groups: Range<usize>, x: &[f32], stride: usize, out: &mut MatMut<'_>) {
        assert!(w.ty().is_float() && groups.end <= w.groups());
        assert_eq!(out.cols(), groups.len() * 16);
        assert!(stride >= w.cols() && (out.rows() == 0 || x.len() >= (out.rows() - 1) * stride + w.cols()));
        call!(self.matmul_float(w, groups, x, stride, out));
    }

    /// RMSNorm of one row over its first `n` elements; the row, the weight and `out` are padded with zeros to 16.
    ///
    /// # Panics
    /// When the lengths differ or are no multiple of 16.
    pub fn rms_norm(&self, x: &[f32], weight: &[f32], eps: f32, n: usize, out: &mut [f32]) {
        assert!(x.len().is_multiple_of(16) && x.len() == weight.len() && x.len() == out.len() && n <= x.len());
        call!(self.rms_norm(x, weight, eps, n, out));
    }

    /// SwiGLU: `gate ← silu(gate) · up`.
    ///
    /// # Panics
    /// When the lengths differ or are no multiple of 16.
    pub fn silu_mul(&self, gate: &mut [f32], up: &[f32]) {
        assert!(gate.len().is_multiple_of(16) && gate.len() == up.len());
        call!(self.silu_mul(gate, up));
    }

    /// `x ← x + y`.
    ///
    /// # Panics
    /// When the lengths differ or are no multiple of 16.
    pub fn add(&self, x: &mut [f32], y: &[f32]) {
        assert!(x.len().is_multiple_of(16) && x.len() == y.len());
        call!(self.add(x, y));
    }

    /// RoPE on interleaved pairs of every head in `x`, then a factor.
    pub fn rope(&self, x: &mut [f32], head_dim: usize, angles: &[[f32; 2]], scale: f32) {
        call!(self.rope(x, head_dim, angles, scale));
    }

    /// RoPE on the pairs (`i`, `i + angles.len()`) of every head in `x`, then a factor.
    ///
    /// # Panics
    /// When there are more pairs than a head has.
    pub fn rope_halves(&self, x: &mut [f32], head_dim: usize, angles: &[[f32; 2]], scale: f32) {
        assert!(2 * angles.len() <= head_dim);
        call!(self.rope_halves(x, head_dim, angles, scale));
    }

    /// RMSNorm of every head in `x` by itself, all with the same `weight`, which is as long as a head.
    ///
    /// # Panics
    /// When it is not.
    pub fn rms_norm_heads(&self, x: &mut [f32], head_dim: usize, weight: &[f32], eps: f32) {
        assert!(weight.len() == head_dim);
        call!(self.rms_norm_heads(x, head_dim, weight, eps));
    }

    /// Attends to one segment of f16 keys and values; see [`Kernels::attend_f32`].
    ///
    /// # Panics
    /// When the lengths disagree.
    pub fn attend_f16(
        &self,
        queries: Queries<'_>,
        segment: Segment<'_, u16>,
        first: bool,
        scratch: &mut AttentionScratch,
        state: &mut [f32],
    ) {
        check_attend(&queries, segment.keys.len(), segment.values.len(), state.len());
        call!(self.attend_f16(queries, segment, first, scratch, state));
    }

    /// Attends to one segment. `state` (rows × [`state_len`]) is written when `first`, else the segment merges into it.
    ///
    /// # Panics
    /// When the lengths disagree.
    pub fn attend_f32(
        &self,
        queries: Queries<'_>,
        segment: Segment<'_, f32>,
        first: bool,
        scratch: &mut AttentionScratch,
        state: &mut [f32],
    ) {
        check_attend(&queries, segment.keys.len(), segment.values.len(), state.len());
        call!(self.attend_f32(queries, segment, first, scratch, state));
    }

    /// Merges one row of state of a later segment into that of the earlier ones.
    ///
    /// # Panics
    /// When the lengths differ.
    pub fn merge(&self, into: &mut [f32], from: &[f32]) {
        assert!(into.len() == from.len() && into.len() >= state_len(1));
        call!(self.merge(into, from));
    }

    /// The attention output of one row of state.
    ///
    /// # Panics
    /// When `state` is shorter than `out` needs.
    pub fn finish(&self, state: &[f32], out: &mut [f32]) {
        assert!(state.len() >= state_len(out.len()));
        call!(self.finish(state, out));
    }

    /// `Σ exp(x − max)` in eight lanes, each in ascending order; for `x` up to `max`. An exponential is within 10⁻¹⁴ of
    /// its value.
    pub fn exp_sum(&self, x: &[f32], max: f64) -> f64 {
        call!(self.exp_sum(x, max))
    }

    /// With `p = exp(base − max[0])` and `q = exp(model − max[1])`: `Σ p`, `Σ q` and `Σ p·(ln p − ln q)`, as
    /// [`Kernels::exp_sum`].
    ///
    /// # Panics
    /// When the lengths differ.
    pub fn divergence_sums(&self, base: &[f32], model: &[f32], max: [f64; 2]) -> [f64; 3] {
        assert_eq!(base.len(), model.len());
        call!(self.divergence_sums(base, model, max))
    }

    /// Reads `x`, but for less than 256 bytes at either end, as fast as it comes; the sum means nothing.
    pub fn read(&self, x: &[u8]) -> i32 {
        call!(self.read(x))
    }

    /// Multiplies codes of `bits` bits (4 or 8) with int8 activations, all at hand, `rounds` times over. Returns how
    /// many multiplications those were: timed, the most that the instruction set can do.
    pub fn int8_loop(&self, bits: u32, how: Int8Loop, rounds: usize) -> u64 {
        call!(self.int8_loop(bits, how, rounds))
    }

    /// As [`Kernels::int8_loop`] for f32.
    pub fn f32_loop(&self, rounds: usize) -> u64 {
        call!(self.f32_loop(rounds))
    }
}

fn check_attend(queries: &Queries<'_>, keys: usize, values: usize, state: usize) {
    let (n, head_dim) = (queries.visible.len(), queries.head_dim);
    assert!(head_dim > 0 && queries.q.len() == n * head_dim);
    assert!(queries.visible.iter().all(|v| (1..=SEGMENT).contains(v)));
    assert!(keys == SEGMENT * head_dim && values == SEGMENT * head_dim.next_multiple_of(16));
    assert_eq!(state, n * state_len(head_dim));
}
