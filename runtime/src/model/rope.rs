//! RoPE's angles (Su et al. 2021), in f64 through a pure-Rust `libm`, so that every machine has the same.
//!
//! What changes with the length of a text in transformers (the factors of LongRoPE, the base of dynamic scaling) is
//! fixed here by the context limit: keys that are in the cache were turned by the same angles as those to come, and the
//! chunks of a prompt change nothing.

use std::f64::consts::PI;

use crate::config::Config;
use crate::rope_scaling::RopeMethod;

/// Divisors of the frequencies from the file, one per pair.
#[derive(Clone, Debug)]
pub(crate) enum RopeFactors {
    None,
    /// `rope_freqs.weight`: Llama 3's scaling.
    Always(Vec<f32>),
    /// LongRoPE's for contexts within the original one, and beyond it.
    ByContext {
        short: Vec<f32>,
        long: Vec<f32>,
    },
}

impl RopeFactors {
    /// Those for a context limit.
    fn at(&self, context: usize, original: usize) -> Option<&[f32]> {
        match self {
            RopeFactors::None => None,
            RopeFactors::Always(factors) => Some(factors),
            RopeFactors::ByContext { short, long } => Some(if context > original { long } else { short }),
        }
    }
}

/// A model's RoPEs.
#[derive(Clone, Debug)]
pub(crate) struct Ropes {
    pub(crate) global: Rope,
    /// That of layers with a window, where it is another one.
    pub(crate) local: Option<Rope>,
}

impl Ropes {
    /// For sequences of up to `context` positions.
    pub(crate) fn new(config: &Config, factors: &RopeFactors, context: usize) -> Ropes {
        let local = config.plan.local_base.map(|base| Rope::plain(config, base));
        Ropes { global: Rope::new(config, factors, context), local }
    }
}

/// The angle that each pair of a head turns by per position.
#[derive(Clone, Debug)]
pub(crate) struct Rope {
    frequencies: Vec<f64>,
    /// What cosines and sines are multiplied by.
    attention: f64,
}

impl Rope {
    /// For sequences of up to `context` positions. Without scaling the frequencies are `base^(−2i/dim)`.
    fn new(config: &Config, factors: &RopeFactors, context: usize) -> Rope {
        let (dim, scaling) = (config.rope_dim as f64, config.rope);
        let base = match scaling.method {
            RopeMethod::Dynamic { factor } if context > config.context => {
                let (factor, longer) = (f64::from(factor), context as f64 / config.context as f64);
                f64::from(config.rope_base) * libm::pow(factor * longer - (factor - 1.0), dim / (dim - 2.0))
            }
            _ => f64::from(config.rope_base),
        };
        let factors = factors.at(context, scaling.original_context);
        let frequencies = (0..config.rope_dim / 2)
            .map(|i| {
                let frequency = libm::pow(base, -2.0 * i as f64 / dim);
                let factor = factors.map_or(1.0, |f| f64::from(f[i]));
                let kept = yarn_kept(config, i);
                if kept == 0.0 {
                    frequency / (f64::from(scaling.factor) * factor)
                } else {
                    frequency / factor * ((1.0 - kept) / f64::from(scaling.factor) + kept)
                }
            })
            .collect();
        Rope { frequencies, attention: scaling.attention }
    }

    /// With this base, and stretched by nothing.
    fn plain(config: &Config, base: f64) -> Rope {
        let dim = config.rope_dim as f64;
        let frequencies = (0..config.rope_dim / 2).map(|i| libm::pow(base, -2.0 * i as f64 / dim)).collect();
        Rope { frequencies, attention: 1.0 }
    }

    /// Pairs of a head that are turned.
    fn pairs(&self) -> usize {
        self.frequencies.len()
    }

    /// (position, pair): cos and sin.
    pub(crate) fn all_angles(&self, positions: &[usize], out: &mut Vec<[f32; 2]>) {
        // A model without RoPE has none.
        let pairs = self.pairs();
        out.resize(positions.len() * pairs, [0.0; 2]);
        for (angles, &position) in out.chunks_exact_mut(pairs.max(1)).zip(positions) {
            self.angles(position, angles);
        }
    }

    /// (cos, sin) of every pair at `position`.
    fn angles(&self, position: usize, out: &mut [[f32; 2]]) {
        for (out, frequency) in out.iter_mut().zip(&self.frequencies) {
            let angle = position as f64 * frequency;
            *out = [libm::cos(angle), libm::sin(angle)].map(|x| (x * self.attention) as f32);
        }
    }
}

/// How much of its own frequency YaRN leaves pair `i`: all of it where it turns more than `beta_fast` times within the
/// original context, nothing where it turns less than `beta_slow` times (transformers, `_compute_yarn_parameters`).
fn yarn_kept(config: &Config, i: usize) -> f64 {
    let RopeMethod::Yarn { blend, beta_fast, beta_slow, truncate } = config.rope.method else { return 0.0 };
    let (dim, original) = (config.rope_dim as f64, config.rope.original_context as f64);
    let pair_that_turns = |times: f32| {
        let turns = original / (f64::from(times) * 2.0 * PI);
        dim * libm::log(turns) / (2.0 * libm::log(f64::from(config.rope_base)))
    };
    let (mut low, mut high) = (pair_that_turns(beta_fast), pair_that_turns(beta_slow));
    if truncate {
        (low, high) = (libm::floor(low), libm::ceil(high));
    }
    (low, high) = (low.max(0.0), high.min(dim - 1.0));
    if low == high {
        high += 0.001;
    }
    (1.0 - ((i as f64 - low) / (high - low)).clamp(0.0, 1.0)) * f64::from(blend)
}
