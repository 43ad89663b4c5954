//! Means with their standard errors; how far two models' predictions are apart.

use quipu_runtime::softmax;
use serde::Serialize;

/// The mean of some numbers, with its standard error.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Mean {
    pub(crate) count: usize,
    sum: f64,
    squares: f64,
}

impl Mean {
    pub(crate) fn add(&mut self, value: f64) {
        self.count += 1;
        self.sum += value;
        self.squares += value * value;
    }

    pub(crate) fn value(&self) -> f64 {
        self.sum / self.count as f64
    }

    /// The standard error of the mean: the sample's deviation over √n. Zero for a single number.
    pub(crate) fn error(&self) -> f64 {
        let variance = self.squares / self.count as f64 - self.value() * self.value();
        (variance.max(0.0) / (self.count.max(2) - 1) as f64).sqrt()
    }

    /// For negative log-likelihoods: the perplexity, and the mean's error carried through the exponential.
    pub(crate) fn perplexity(&self) -> (f64, f64) {
        let ppl = self.value().exp();
        (ppl, self.error() * ppl)
    }
}

/// How far a model's prediction is from a base model's at one place of a text.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    kl: f64,
    same_top: bool,
}

impl Place {
    /// From the logits of both.
    pub(crate) fn new(base: &[f32], model: &[f32]) -> Place {
        Place { kl: softmax::divergence(base, model), same_top: top(base) == top(model) }
    }
}

/// How far a model's predictions of a text are from those of a base model.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Divergence {
    /// The mean Kullback-Leibler divergence from the base's distribution, in nats.
    pub kl: f64,
    /// Its standard error.
    pub kl_error: f64,
    /// What the divergence stays below at 99 % of the places, in nats.
    pub kl_99: f64,
    /// At what share of the places both models find the same token likeliest.
    pub same_top: f64,
    /// The standard error of that share.
    pub same_top_error: f64,
}

/// Divergences, place by place.
#[derive(Debug, Default)]
pub(crate) struct Divergences {
    /// In nats.
    kl: Vec<f64>,
    mean: Mean,
    same_top: usize,
}

impl Divergences {
    /// Several places more.
    pub(crate) fn add(&mut self, places: &[Place]) {
        for place in places {
            self.kl.push(place.kl);
            self.mean.add(place.kl);
            self.same_top += usize::from(place.same_top);
        }
    }

    /// The mean divergence, in nats.
    pub(crate) fn mean(&self) -> Mean {
        self.mean
    }

    /// What the divergence stays below at the share `p` of all places, interpolated linearly between neighbours.
    fn percentile(&self, p: f64) -> f64 {
        let mut sorted = self.kl.clone();
        sorted.sort_unstable_by(f64::total_cmp);
        let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
        let place = p * last as f64;
        let (below, part) = (place.floor() as usize, place.fract());
        (1.0 - part) * sorted[below] + part * sorted[(below + 1).min(last)]
    }

    /// At what share of the places both models find the same token likeliest, with the standard error of a share.
    fn same_top(&self) -> (f64, f64) {
        let n = self.kl.len() as f64;
        let p = self.same_top as f64 / n;
        (p, (p * (1.0 - p) / (n - 1.0).max(1.0)).sqrt())
    }

    /// The figures of all places together.
    pub(crate) fn divergence(&self) -> Divergence {
        let (same_top, same_top_error) = self.same_top();
        let (kl, kl_error) = (self.mean.value(), self.mean.error());
        Divergence { kl, kl_error, kl_99: self.percentile(0.99), same_top, same_top_error }
    }
}

/// The likeliest token, the first of several.
fn top(logits: &[f32]) -> usize {
    logits.iter().enumerate().fold(0, |best, (i, &l)| if l > logits[best] { i } else { best })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A model that gives every token one of `n` equal chances has perplexity n, without error.
    #[test]
    fn chance_among_n_has_perplexity_n() {
        let mut mean = Mean::default();
        (0..1000).for_each(|_| mean.add(50f64.ln()));
        let (ppl, error) = mean.perplexity();
        assert!((ppl - 50.0).abs() < 1e-9 && error < 1e-5);
    }

    #[test]
    fn the_error_is_that_of_the_mean() {
        let mut mean = Mean::default();
        for value in [1.0, 3.0, 1.0, 3.0, 1.0] {
            mean.add(value);
        }
        // Mean 1.8; sample deviation √1.2; of the mean √(1.2 / 5) = √0.24; for the perplexity times e^1.8.
        assert!((mean.error() - 0.24f64.sqrt()).abs() < 1e-9);
        assert!((mean.perplexity().1 - 0.24f64.sqrt() * 1.8f64.exp()).abs() < 1e-9);
    }

    #[test]
    fn divergence_of_known_distributions() {
        let logits = |p: &[f64]| p.iter().map(|p| p.ln() as f32 + 7.0).collect::<Vec<_>>();
        let (p, q) = (logits(&[0.5, 0.25, 0.25]), logits(&[0.25, 0.5, 0.25]));
        let mut divergence = Divergences::default();
        divergence.add(&[Place::new(&p, &q), Place::new(&p, &p)]);
        // ½·ln 2 − ¼·ln 2, and nothing.
        let expected = 0.25 * 2f64.ln();
        assert!((divergence.mean().value() - expected / 2.0).abs() < 1e-6);
        assert!((divergence.percentile(1.0) - expected).abs() < 1e-6 && divergence.percentile(0.0) < 1e-9);
        assert!((divergence.percentile(0.25) - expected / 4.0).abs() < 1e-6);
        assert_eq!(divergence.same_top(), (0.5, 0.5));
    }
}
