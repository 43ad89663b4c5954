//! A text as one vector.

use crate::setters::setters;

/// How the hidden states of a text's tokens become one vector.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Pooling {
    /// Their mean.
    #[default]
    Mean,
    /// The last token's, which has seen the whole text.
    Last,
}

/// How a text becomes a vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EmbedOptions {
    /// How the tokens' vectors become one.
    pub pooling: Pooling,
    /// Whether it is brought to length 1, so that a product of two is the cosine of their angle.
    pub normalize: bool,
}

impl Default for EmbedOptions {
    fn default() -> EmbedOptions {
        EmbedOptions { pooling: Pooling::Mean, normalize: true }
    }
}

setters!(EmbedOptions { pooling: Pooling, normalize: bool });

/// Takes hidden states token by token. Sums run in f64 and in the order of the tokens, so that the result does not
/// depend on the pieces in which a text is read.
#[derive(Debug)]
pub(crate) struct Pool {
    options: EmbedOptions,
    sum: Vec<f64>,
    count: usize,
}

impl Pool {
    /// Of vectors of `size` numbers.
    pub(crate) fn new(options: EmbedOptions, size: usize) -> Pool {
        Pool { options, sum: vec![0.0; size], count: 0 }
    }

    /// Whether the hidden state of token `i` of `n` counts.
    pub(crate) fn wants(&self, i: usize, n: usize) -> bool {
        self.options.pooling == Pooling::Mean || i + 1 == n
    }

    /// Adds the hidden state of one token.
    pub(crate) fn add(&mut self, hidden: &[f32]) {
        for (sum, &x) in self.sum.iter_mut().zip(hidden) {
            *sum += f64::from(x);
        }
        self.count += 1;
    }

    /// The vector. One that is all zeros stays so: it can't be brought to length 1.
    pub(crate) fn finish(self) -> Vec<f32> {
        let count = self.count.max(1) as f64;
        let mut mean: Vec<f64> = self.sum.into_iter().map(|sum| sum / count).collect();
        let length = mean.iter().map(|x| x * x).sum::<f64>().sqrt();
        if self.options.normalize && length > 0.0 {
            mean.iter_mut().for_each(|x| *x /= length);
        }
        mean.into_iter().map(|x| x as f32).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pooled(options: EmbedOptions, rows: &[[f32; 2]]) -> Vec<f32> {
        let mut pool = Pool::new(options, 2);
        for (i, row) in rows.iter().enumerate() {
            if pool.wants(i, rows.len()) {
                pool.add(row);
            }
        }
        pool.finish()
    }

    #[test]
    fn mean_last_and_length() {
        let rows = [[1.0, 0.0], [3.0, 4.0], [5.0, 8.0]];
        let plain = EmbedOptions::default().normalize(false);
        assert_eq!(pooled(plain, &rows), [3.0, 4.0]);
        assert_eq!(pooled(EmbedOptions::default(), &rows), [0.6, 0.8]);
        assert_eq!(pooled(plain.pooling(Pooling::Last), &rows), [5.0, 8.0]);
        assert_eq!(pooled(EmbedOptions::default(), &[[0.0, 0.0]]), [0.0, 0.0]);
    }
}
