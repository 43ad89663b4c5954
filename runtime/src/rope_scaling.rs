//! How RoPE is stretched to contexts that are longer than those of training.

/// What the keys `rope.*` say of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RopeScaling {
    /// Which frequencies are stretched.
    pub method: RopeMethod,
    /// What frequencies are divided by; 1 for nothing.
    pub factor: f32,
    /// What cosines and sines are multiplied by, at every position.
    pub attention: f64,
    /// The context length before stretching, in positions.
    pub original_context: usize,
}

/// A way of stretching RoPE.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RopeMethod {
    /// All frequencies alike, which is as good as dividing positions.
    Linear,
    /// YaRN (Peng et al. 2023): pairs that turn often within the original context are left as they are, those that turn
    /// less than about once are stretched, those between blended.
    Yarn {
        /// How much of a fast pair's own frequency is kept: 1, or less.
        blend: f32,
        /// Turns within the original context above which a pair is left as it is.
        beta_fast: f32,
        /// Turns below which it is stretched fully.
        beta_slow: f32,
        /// The pairs where blending begins and ends are whole numbers.
        truncate: bool,
    },
    /// LongRoPE (Ding et al. 2024): each pair by a divisor of its own, of one list for contexts within the original one
    /// (`rope_factors_short.weight`) and of another beyond it (`rope_factors_long.weight`).
    LongRope,
    /// NTK-aware: a larger base, for contexts beyond the model's own.
    Dynamic {
        /// How fast the base grows.
        factor: f32,
    },
}
