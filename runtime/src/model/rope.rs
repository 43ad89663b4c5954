//! RoPE's angles (Su et al. 2021), in f64 through a pure-Rust `libm`, so that every machine has the same.

use crate::config::Config;

/// The angle that each pair of a head turns by per position.
#[derive(Clone, Debug)]
pub(crate) struct Rope {
    frequencies: Vec<f64>,
}

impl Rope {
    /// `base^(−2i/dim)`, divided by the linear factor and by `factors` (`rope_freqs.weight`, Llama 3's scaling), one
    /// per pair.
    pub(crate) fn new(config: &Config, factors: Option<&[f32]>) -> Rope {
        let dim = config.rope_dim as f64;
        let frequencies = (0..config.rope_dim / 2)
            .map(|i| {
                let frequency = libm::pow(f64::from(config.rope_base), -2.0 * i as f64 / dim);
                let factor = factors.map_or(1.0, |f| f64::from(f[i]));
                frequency / (f64::from(config.rope_linear) * factor)
            })
            .collect();
        Rope { frequencies }
    }

    /// Pairs of a head that are turned.
    pub(crate) fn pairs(&self) -> usize {
        self.frequencies.len()
    }

    /// (cos, sin) of every pair at `position`.
    pub(crate) fn angles(&self, position: usize, out: &mut [[f32; 2]]) {
        for (out, frequency) in out.iter_mut().zip(&self.frequencies) {
            let angle = position as f64 * frequency;
            *out = [libm::cos(angle) as f32, libm::sin(angle) as f32];
        }
    }
}
