//! What is known of the activations that a matrix multiplies, and how rounding uses it.
//!
//! If the weights of a row have the errors `e`, the output for the input `x` is off by `e·x`. The mean square of that
//! is `eᵀHe`, where `H = E[x·xᵀ]`.
//!
//! Columns are rounded one after the other. Once column `k` is rounded and has the error `e_k`, the columns after it
//! may change so that the output is off by less. The best change is known: with the upper triangular `U` for which
//! `H⁻¹ = UᵀU` (a Cholesky factor), column `j` changes by `−e_k · U[k][j] / U[k][k]` (Frantar et al. 2022, GPTQ,
//! arXiv:2210.17323).
//!
//! Here a column changes only those of its own window of [`WINDOW`] columns. So `H` takes 256 numbers for each column;
//! for whole rows it would take as many as a row has columns. Most of the gain stays.

use super::block::Effort;

/// The columns of a window; the error of a column changes later columns of its window.
pub const WINDOW: usize = 256;

/// What is added to each diagonal element of `H`, as a fraction of their mean. Without it, errors in a direction that
/// no input of the text had would seem to cost nothing.
const DAMPING: f64 = 0.01;

/// The assumption that different columns are uncorrelated counts as much as this many inputs: as many as a window has
/// columns. After `n` inputs the mean products of different columns count `n / (n + PRIOR)`. That is the posterior mean
/// under an inverse Wishart prior whose scale is the diagonal. With this prior a short text gains little; without it,
/// a short text would do harm (measured: `docs/quantisation.md`).
const PRIOR: f64 = WINDOW as f64;

/// From so many inputs on, a full search for scales is worth its time. With fewer, it gains less than the choice of
/// inputs changes the result (`docs/quantisation.md`).
const MANY: f64 = 1024.0;

/// The least weight of a column, as a fraction of the mean weight.
const LEAST: f32 = 1e-4;

/// The activations that a matrix multiplies, in the form that rounding needs.
#[derive(Clone, Debug)]
pub struct Calibration {
    /// For each column, what a squared error in it costs: the mean square of its inputs; with feedback, what is left of
    /// that once the later columns have changed as well as they can.
    weights: Vec<f32>,
    /// For each window and each of its columns `k`: `U[k][j] / U[k][k]` for every column `j`, 0 for `j ≤ k`. Empty if
    /// products are unknown.
    feedback: Vec<Vec<f32>>,
    /// The effort of the search for scales when errors are passed on.
    effort: Effort,
}

impl Calibration {
    /// From the mean square of each column alone: errors are weighted, but not passed on.
    pub fn from_squares(squares: &[f32]) -> Calibration {
        let mean = squares.iter().sum::<f32>() / squares.len() as f32;
        let floor = if mean > 0.0 && mean.is_finite() { mean * LEAST } else { 1.0 };
        let weight = |&s: &f32| if s.is_finite() { s.max(floor) } else { floor };
        Calibration { weights: squares.iter().map(weight).collect(), feedback: Vec::new(), effort: Effort::Full }
    }

    /// From the mean squares of the columns and their mean products over `count` inputs. `gram[256·i + j]` is the mean
    /// product of column `i` and column `j` of its window; those with `j` before `i` are not read.
    ///
    /// `None` when the numbers cannot be the mean products of any inputs, for instance when one is not finite.
    ///
    /// # Panics
    /// When `gram` does not have 256 numbers for each of the `squares`.
    pub fn from_products(squares: &[f32], gram: &[f32], count: f32) -> Option<Calibration> {
        assert_eq!(gram.len(), squares.len() * WINDOW, "products");
        let mut this = Calibration::from_squares(squares);
        let count = f64::from(count);
        let believed = count / (count + PRIOR);
        this.effort = if count < MANY { Effort::Brief } else { Effort::Full };
        for (window, weights) in gram.chunks(WINDOW * WINDOW).zip(this.weights.chunks_mut(WINDOW)) {
            this.feedback.push(feedback(window, believed, weights)?);
        }
        Some(this)
    }

    /// The length of the rows that this is for.
    pub fn cols(&self) -> usize {
        self.weights.len()
    }

    /// What a squared error in each column costs.
    pub(super) fn weights(&self) -> &[f32] {
        &self.weights
    }

    /// The effort of the search for scales when errors are passed on.
    pub(super) fn effort(&self) -> Effort {
        self.effort
    }

    /// For each window 256 numbers `U[k][j] / U[k][k]` for each of its columns `k`; empty if products are unknown.
    pub(super) fn feedback(&self) -> &[Vec<f32>] {
        &self.feedback
    }
}

/// `U[k][j] / U[k][k]` for one window, 256 numbers for each column `k`. Into `weights` goes `1 / U[k][k]²`: what a
/// squared error in column `k` costs once the later columns have changed as well as they can.
///
/// Mean products of different columns are multiplied by `believed`.
fn feedback(gram: &[f32], believed: f64, weights: &mut [f32]) -> Option<Vec<f32>> {
    let n = weights.len();
    let mut h = vec![0.0; n * n];
    let mean = (0..n).map(|i| f64::from(gram[i * WINDOW + i])).sum::<f64>() / n as f64;
    for i in 0..n {
        for j in i..n {
            let value = f64::from(gram[i * WINDOW + j]) * if i == j { 1.0 } else { believed };
            (h[i * n + j], h[j * n + i]) = (value, value);
        }
        // So that a window whose inputs were all zero has a solution too.
        h[i * n + i] += (DAMPING * mean).max(f64::from(f32::MIN_POSITIVE));
    }
    // H = V·Vᵀ with an upper triangular V, computed from the last column to the first. U = V⁻¹ is upper triangular as
    // well, and UᵀU = H⁻¹.
    let mut v = vec![0.0; n * n];
    for j in (0..n).rev() {
        let (above, row_j) = v.split_at_mut(j * n);
        let pivot = (h[j * n + j] - dot(&row_j[j + 1..n], &row_j[j + 1..n])).sqrt();
        if !(pivot > 0.0 && pivot.is_finite()) {
            return None;
        }
        row_j[j] = pivot;
        for (i, row) in above.chunks_exact_mut(n).enumerate() {
            row[j] = (h[i * n + j] - dot(&row[j + 1..], &row_j[j + 1..n])) / pivot;
        }
    }
    // The wanted row r, row k of U divided by U[k][k], satisfies r·V = V[k][k] · (unit vector k): forward substitution.
    let mut out = vec![0.0; n * WINDOW];
    let mut row = vec![0.0; n];
    for k in 0..n {
        weights[k] = (v[k * n + k] * v[k * n + k]) as f32;
        row.fill(0.0);
        row[k] = 1.0;
        for i in k..n {
            let (r, rest) = (row[i] / v[i * n + i], &v[i * n + i + 1..(i + 1) * n]);
            row[i] = r;
            for (x, v) in row[i + 1..].iter_mut().zip(rest) {
                *x -= r * v;
            }
        }
        for j in k + 1..n {
            out[k * WINDOW + j] = (row[j] * v[k * n + k]) as f32;
        }
    }
    out.iter().all(|u| u.is_finite()).then_some(out)
}

/// `Σ a·b`, in four virtual lanes.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let ((a, last_a), (b, last_b)) = (a.as_chunks::<4>(), b.as_chunks::<4>());
    let mut sums = [0.0; 4];
    for (a, b) in a.iter().zip(b) {
        for lane in 0..4 {
            sums[lane] += a[lane] * b[lane];
        }
    }
    let last: f64 = last_a.iter().zip(last_b).map(|(a, b)| a * b).sum();
    (sums[0] + sums[2]) + (sums[1] + sums[3]) + last
}

#[cfg(test)]
mod tests {
    use quipu_test_random::Random;

    use super::*;
    use crate::blocks::dequantize;
    use crate::search::quantize;
    use crate::types::TensorType;

    /// Activations with a mean and a few common directions, as models have them.
    fn activations(rows: usize, cols: usize) -> Vec<Vec<f32>> {
        let mut random = Random::new(7);
        let directions: Vec<Vec<f32>> = (0..6).map(|_| random.normals(cols)).collect();
        let row = |_| {
            let c: Vec<f32> = (0..6).map(|i| random.normal() * 3.0 + if i == 0 { 2.0 } else { 0.0 }).collect();
            (0..cols).map(|k| random.normal() * 0.5 + (0..6).map(|i| c[i] * directions[i][k]).sum::<f32>()).collect()
        };
        (0..rows).map(row).collect()
    }

    fn products(x: &[Vec<f32>], cols: usize) -> (Vec<f32>, Vec<f32>) {
        let mut gram = vec![0.0; cols * WINDOW];
        for i in 0..cols {
            let start = i / WINDOW * WINDOW;
            for j in start..(start + WINDOW).min(cols) {
                gram[i * WINDOW + j - start] = x.iter().map(|x| x[i] * x[j]).sum::<f32>() / x.len() as f32;
            }
        }
        let squares = (0..cols).map(|i| gram[i * WINDOW + i % WINDOW]).collect();
        (squares, gram)
    }

    /// The squared error of a matrix's outputs on activations that the calibration has not seen, with it and without,
    /// for each type.
    fn errors(seen: usize) -> Vec<(TensorType, f64, f64)> {
        let of_type = |ty: TensorType| {
            let cols = if ty.block_len() == 256 { 512 } else { 320 };
            let all = activations(seen + 200, cols);
            let (seen, unseen) = all.split_at(seen);
            let (squares, gram) = products(seen, cols);
            let w: Vec<f32> = Random::new(3).normals(16 * cols).iter().map(|x| 0.05 * x).collect();
            let error = |calibration: Option<&Calibration>| -> f64 {
                let mut bytes = vec![0; ty.row_bytes(cols).unwrap() * 16];
                quantize(ty, cols, &w, calibration, &mut bytes).unwrap();
                let mut back = vec![0.0; w.len()];
                dequantize(ty, &bytes, &mut back).unwrap();
                let mut sum = 0.0;
                for (w, back) in w.chunks(cols).zip(back.chunks(cols)) {
                    for x in unseen {
                        let e: f32 = w.iter().zip(back).zip(x).map(|((w, b), x)| (w - b) * x).sum();
                        sum += f64::from(e * e);
                    }
                }
                sum
            };
            let calibration = Calibration::from_products(&squares, &gram, seen.len() as f32).unwrap();
            (ty, error(Some(&calibration)), error(None))
        };
        TensorType::ALL.into_iter().filter(|t| !t.is_float()).map(of_type).collect()
    }

    /// The purpose of it all: with errors passed on, outputs are nearer to the true ones, for every type.
    #[test]
    fn outputs_come_nearer() {
        for (ty, with, without) in errors(1000) {
            assert!(with < 0.5 * without, "{ty}: {with:e} with, {without:e} without");
        }
    }

    /// After few inputs a brief search is enough.
    #[test]
    fn many_inputs_are_worth_a_long_search() {
        for (count, effort) in
            [(512.0, Effort::Brief), (1023.0, Effort::Brief), (1024.0, Effort::Full), (4096.0, Effort::Full)]
        {
            let calibration = Calibration::from_products(&[1.0; 64], &vec![0.0; 64 * WINDOW], count).unwrap();
            assert_eq!(calibration.effort(), effort, "{count} inputs");
        }
        assert_eq!(Calibration::from_squares(&[1.0; 64]).effort(), Effort::Full);
    }

    /// With fewer inputs than a window has columns, most of what their products say is chance.
    #[test]
    fn a_few_inputs_do_no_harm() {
        for (ty, with, without) in [8, 16, 64].into_iter().flat_map(errors) {
            assert!(with < without, "{ty}: {with:e} with, {without:e} without");
        }
    }

    /// On a window of two columns, the change is what the conditional mean of the second column says.
    #[test]
    fn feedback_is_the_conditional_mean() {
        // When the first column is rounded down by e, the second must move by e · h12 / h22.
        let mut gram = vec![0.0; 2 * WINDOW];
        (gram[0], gram[1], gram[WINDOW + 1]) = (2.0, 0.9, 1.0);
        let mut weights = [0.0; 2];
        let u = feedback(&gram, 1.0, &mut weights).unwrap();
        let damped = 1.0 + 0.01 * 1.5;
        assert!((f64::from(u[1]) + 0.9 / damped).abs() < 1e-6, "{}", u[1]);
        assert!((f64::from(weights[1]) - damped).abs() < 1e-6);
        assert!((f64::from(weights[0]) - (2.015 - 0.81 / damped)).abs() < 1e-6);
    }

    #[test]
    fn nonsense_is_refused_and_silence_is_not() {
        let squares = vec![1.0; 64];
        assert!(Calibration::from_products(&squares, &vec![f32::NAN; 64 * WINDOW], 1e6).is_none());
        assert!(Calibration::from_products(&squares, &vec![1e30; 64 * WINDOW], 1e6).is_some(), "all columns alike");
        let silent = Calibration::from_products(&[0.0; 64], &vec![0.0; 64 * WINDOW], 1e6).unwrap();
        let x: Vec<f32> = (0..64).map(|i| (i as f32 - 31.0) / 100.0).collect();
        let (mut a, mut b) = (vec![0; 36], vec![0; 36]);
        quantize(TensorType::Q4_0, 64, &x, Some(&silent), &mut a).unwrap();
        quantize(TensorType::Q4_0, 64, &x, Some(&Calibration::from_squares(&[f32::NAN; 64])), &mut b).unwrap();
        let mut values = [0.0; 64];
        for bytes in [a, b] {
            dequantize(TensorType::Q4_0, &bytes, &mut values).unwrap();
            assert!(x.iter().zip(values).all(|(x, v)| (x - v).abs() < 0.05));
        }
    }
}
