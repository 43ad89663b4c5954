//! YaRN's constants (Peng et al. 2023), which the reader of config.json and the runtime share.

/// Turns within the original context above which a pair is left as it is, and below which it is stretched fully, where
/// no file says otherwise.
pub const YARN_BETAS: (f64, f64) = (32.0, 1.0);

/// What cosines and sines are multiplied by where contexts are stretched by `factor` and no file says otherwise:
/// `0.1 · scale · ln(factor) + 1`, and 1 where nothing is stretched.
pub fn yarn_attention(factor: f64, scale: f64) -> f64 {
    if factor <= 1.0 { 1.0 } else { 0.1 * scale * libm::log(factor) + 1.0 }
}
