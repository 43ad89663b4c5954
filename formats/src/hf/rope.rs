//! RoPE between the two worlds: the order of rows, and Llama 3.1's frequency factors.

use std::f64::consts::PI;

use super::config::{HfConfig, RopeScaling};

/// The row of a Hugging Face q or k projection that GGUF has as row `row`, for heads of `head_dim` rows.
///
/// Hugging Face turns element `i` of a head together with `i + head_dim/2`; some of GGUF's architectures, like Meta's
/// own code, turn neighbours (`RowOrder::HalvesToNeighbours`). So of each head GGUF row `2i` is Hugging Face's `i`, and
/// `2i + 1` is `i + head_dim/2`. (llama.cpp's converter says `reshape(heads, 2, head_dim/2, cols).swapaxes(1, 2)`.)
pub(super) fn hf_row(row: usize, head_dim: usize) -> usize {
    let (head, within) = (row / head_dim, row % head_dim);
    head * head_dim + within % 2 * (head_dim / 2) + within / 2
}

/// `rope_freqs.weight`, by which the `head_dim/2` RoPE frequencies are divided; `None` unless the scaling is Llama 3's.
///
/// With the wavelength `λ = 2π · theta^(2i/head_dim)`: 1 where `λ < original/high`, `factor` where `λ > original/low`,
/// else `1 / ((1 − s)/factor + s)` with `s = (original/λ − low) / (high − low)` (transformers,
/// `_compute_llama3_parameters`).
pub(super) fn llama3_factors(config: &HfConfig) -> Option<Vec<f32>> {
    let RopeScaling::Llama3 { factor, low_freq_factor: low, high_freq_factor: high, original_context } =
        config.rope_scaling
    else {
        return None;
    };
    let factor_of = |i: usize| {
        // libm's power and not the system's, so that every machine writes the same bits.
        let wavelength = 2.0 * PI * libm::pow(config.rope_theta, (2 * i) as f64 / config.sizes.head_dim as f64);
        if wavelength < original_context / high {
            1.0
        } else if wavelength > original_context / low {
            factor
        } else {
            let smooth = (original_context / wavelength - low) / (high - low);
            1.0 / ((1.0 - smooth) / factor + smooth)
        }
    };
    Some((0..config.sizes.head_dim / 2).map(|i| factor_of(i) as f32).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against the definition, done as an array operation: `[heads][2][half] → [heads][half][2]`.
    #[test]
    fn rows_are_transposed_within_each_head() {
        for (heads, head_dim) in [(1, 2), (3, 8), (2, 64), (5, 6)] {
            let half = head_dim / 2;
            let mut expected = vec![];
            for head in 0..heads {
                for i in 0..half {
                    for t in 0..2 {
                        expected.push((head * 2 + t) * half + i);
                    }
                }
            }
            let found: Vec<_> = (0..heads * head_dim).map(|row| hf_row(row, head_dim)).collect();
            assert_eq!(found, expected, "{heads} heads of {head_dim}");
        }
    }
}
