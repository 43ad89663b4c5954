//! The operations on rows of activations: norms, functions element by element, RoPE.

use crate::kernels::{Kernels, call};

impl Kernels {
    /// RMSNorm (Zhang & Sennrich 2019) of one row: `out = x · weight / √(mean(x²) + eps)`, the mean over the `n`
    /// elements of the row. `x`, `weight` and `out` are padded with zeros to the same multiple of 16.
    ///
    /// # Panics
    /// When the shapes are others.
    pub fn rms_norm(&self, x: &[f32], weight: &[f32], eps: f32, n: usize, out: &mut [f32]) {
        assert!(x.len().is_multiple_of(16) && x.len() == weight.len() && x.len() == out.len() && n <= x.len());
        call!(self.rms_norm(x, weight, eps, n, out));
    }

    /// `into ← into +` [`Kernels::rms_norm`] of `x`, product and sum each rounded.
    ///
    /// # Panics
    /// When the shapes are others.
    pub fn add_rms_norm(&self, x: &[f32], weight: &[f32], eps: f32, n: usize, into: &mut [f32]) {
        assert!(x.len().is_multiple_of(16) && x.len() == weight.len() && x.len() == into.len() && n <= x.len());
        call!(self.add_rms_norm(x, weight, eps, n, into));
    }

    /// [`Kernels::rms_norm`] of every head by itself, in place: `x` is heads × `head_dim`, without padding, and the
    /// `head_dim` elements of `weight` are for all of them.
    ///
    /// # Panics
    /// When `weight` has another length.
    pub fn rms_norm_heads(&self, x: &mut [f32], head_dim: usize, weight: &[f32], eps: f32) {
        assert!(weight.len() == head_dim);
        call!(self.rms_norm_heads(x, head_dim, weight, eps));
    }

    /// LayerNorm (Ba et al. 2016) of one row, in place: `x ← (x − mean(x)) / √(mean((x − mean(x))²) + eps) · weight +
    /// bias`, the means over the `n` elements of the row. All three are padded with zeros to the same multiple of 16.
    ///
    /// # Panics
    /// When the shapes are others.
    pub fn layer_norm(&self, x: &mut [f32], weight: &[f32], bias: &[f32], eps: f32, n: usize) {
        assert!(x.len().is_multiple_of(16) && x.len() == weight.len() && x.len() == bias.len() && n <= x.len());
        call!(self.layer_norm(x, weight, bias, eps, n));
    }

    /// SwiGLU (Shazeer 2020): `gate ← gate / (1 + e^(−gate)) · up`, element by element.
    ///
    /// # Panics
    /// When the lengths differ or are no multiple of 16.
    pub fn silu_mul(&self, gate: &mut [f32], up: &[f32]) {
        assert!(gate.len().is_multiple_of(16) && gate.len() == up.len());
        call!(self.silu_mul(gate, up));
    }

    /// GeGLU (Shazeer 2020) with GELU's approximation by tanh: `gate ← ½·gate·(1 + tanh(√(2/π)·(gate +
    /// 0.044715·gate³))) · up`, element by element.
    ///
    /// # Panics
    /// When the lengths differ or are no multiple of 16.
    pub fn gelu_mul(&self, gate: &mut [f32], up: &[f32]) {
        assert!(gate.len().is_multiple_of(16) && gate.len() == up.len());
        call!(self.gelu_mul(gate, up));
    }

    /// ReLU (Nair & Hinton 2010): `x ← max(x, 0)`, element by element.
    ///
    /// # Panics
    /// When the length is no multiple of 16.
    pub fn relu(&self, x: &mut [f32]) {
        assert!(x.len().is_multiple_of(16));
        call!(self.relu(x));
    }

    /// GELU (Hendrycks & Gimpel 2016): `x ← x·Φ(x) = ½·x·(1 + erf(x / √2))`, element by element.
    ///
    /// # Panics
    /// When the length is no multiple of 16.
    pub fn gelu(&self, x: &mut [f32]) {
        assert!(x.len().is_multiple_of(16));
        call!(self.gelu(x));
    }

    /// `x ← cap · tanh(x / cap)`, element by element.
    ///
    /// # Panics
    /// When the length is no multiple of 16.
    pub fn soft_cap(&self, x: &mut [f32], cap: f32) {
        assert!(x.len().is_multiple_of(16));
        call!(self.soft_cap(x, cap));
    }

    /// `x ← x + factor · y`, rounded once.
    ///
    /// # Panics
    /// When the lengths differ or are no multiple of 16.
    pub fn add_scaled(&self, x: &mut [f32], y: &[f32], factor: f32) {
        assert!(x.len().is_multiple_of(16) && x.len() == y.len());
        call!(self.add_scaled(x, y, factor));
    }

    /// `x ← x + y`.
    ///
    /// # Panics
    /// When the lengths differ or are no multiple of 16.
    pub fn add(&self, x: &mut [f32], y: &[f32]) {
        assert!(x.len().is_multiple_of(16) && x.len() == y.len());
        call!(self.add(x, y));
    }

    /// Whether all magnitudes of `x` are below `limit`. NaN is not, and with an infinite limit infinity is not.
    pub fn within(&self, x: &[f32], limit: f32) -> bool {
        call!(self.within(x, limit))
    }

    /// RoPE (Su et al. 2021) on neighbours: in every head of `x`, heads × `head_dim`, the elements `2i` and `2i + 1`
    /// turn by the angle whose cosine and sine are `angles[i]`; then all elements are multiplied by `scale`. Elements
    /// that no angle is given for do not turn.
    ///
    /// # Panics
    /// When `head_dim` is 0.
    pub fn rope(&self, x: &mut [f32], head_dim: usize, angles: &[[f32; 2]], scale: f32) {
        call!(self.rope(x, head_dim, angles, scale));
    }

    /// [`Kernels::rope`] on elements half the turned part apart: `i` and `i + angles.len()` turn together.
    ///
    /// # Panics
    /// When a head has fewer than 2 elements for each angle, or none.
    pub fn rope_halves(&self, x: &mut [f32], head_dim: usize, angles: &[[f32; 2]], scale: f32) {
        assert!(2 * angles.len() <= head_dim);
        call!(self.rope_halves(x, head_dim, angles, scale));
    }
}
