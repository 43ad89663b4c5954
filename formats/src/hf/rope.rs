//! RoPE between the two worlds: the order of rows, and the divisors of frequencies.

use std::f64::consts::PI;

use super::config::HfConfig;
use super::rope_scaling::RopeScaling;
use crate::families::names::Role;

/// The row of a Hugging Face q or k projection that GGUF has as row `row`, for heads of `head_dim` rows.
///
/// Hugging Face turns element `i` of a head together with `i + head_dim/2`; some of GGUF's architectures, like Meta's
/// own code, turn neighbours (`RowOrder::HalvesToNeighbours`). So of each head GGUF row `2i` is Hugging Face's `i`, and
/// `2i + 1` is `i + head_dim/2`. (llama.cpp's converter says `reshape(heads, 2, head_dim/2, cols).swapaxes(1, 2)`.)
pub(crate) fn hf_row(row: usize, head_dim: usize) -> usize {
    let (head, within) = (row / head_dim, row % head_dim);
    head * head_dim + within % 2 * (head_dim / 2) + within / 2
}

/// The tensors of divisors of RoPE's frequencies that the scaling stands for.
pub(super) fn factor_tensors(config: &HfConfig) -> Vec<(Role, Vec<f32>)> {
    let rounded = |factors: &[f64]| factors.iter().map(|&factor| factor as f32).collect();
    match &config.rope_scaling {
        RopeScaling::Llama3 { .. } => vec![(Role::RopeFactors, llama3_factors(config))],
        RopeScaling::LongRope { short, long, .. } => {
            vec![(Role::RopeFactorsLong, rounded(long)), (Role::RopeFactorsShort, rounded(short))]
        }
        _ => Vec::new(),
    }
}

/// Llama 3's divisors, none unless the scaling is that.
///
/// With the wavelength `λ = 2π · theta^(2i/n)` of `n` elements that turn: `factor` where `λ > original/low`, 1 where
/// `λ < original/high`, else `1 / ((1 − s)/factor + s)` with `s = (original/λ − low) / (high − low)` (transformers,
/// `_compute_llama3_parameters`, which takes bands in any order).
fn llama3_factors(config: &HfConfig) -> Vec<f32> {
    let RopeScaling::Llama3 { factor, low_freq_factor: low, high_freq_factor: high, original_context } =
        config.rope_scaling
    else {
        return Vec::new();
    };
    let factor_of = |i: usize| {
        // libm's power and not the system's, so that every machine writes the same bits.
        let wavelength = 2.0 * PI * libm::pow(config.rope_theta, (2 * i) as f64 / config.sizes.rope_dim as f64);
        if wavelength > original_context / low {
            factor
        } else if wavelength <= original_context / high {
            1.0
        } else {
            let smooth = (original_context / wavelength - low) / (high - low);
            1.0 / ((1.0 - smooth) / factor + smooth)
        }
    };
    (0..config.sizes.rope_dim / 2).map(|i| factor_of(i) as f32).collect()
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
