//! Types under a size budget: the matrices that lose most by coarse types get the fine ones.
//!
//! How much a model loses when a matrix is rounded differs by a factor of a hundred from matrix to matrix, and no rule
//! by name and layer foretells it. What can be relied on: the loss grows with the square of the errors, and losses of
//! several matrices add up. So
//!
//! - [`Candidates::errors`] rounds some rows of each matrix to each type and measures the squared error of the outputs;
//! - whoever can run the model measures the loss of each of the [`parts`] when that alone is rounded ([`Rounded`]), and
//!   so gives these errors a common unit;
//! - [`choose`] finds the types.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use quipu_quant::TensorType::{self, *};
use quipu_quant::blocks::dequantize;
use quipu_quant::search::{self, Calibration};
use rayon::prelude::*;

use super::options::{ConvertOptions, TypeRule};
use super::outcome::ConvertError;
use super::plan::{Plan, is_calibrated, is_weight};
use super::stream::check_range;
use crate::families::names::split_layer;
use crate::gguf::Metadata;
use crate::imatrix::Statistics;
use crate::source::{Encoding, SharedBytes, Source, TensorInfo};

/// Weights of a matrix that are rounded to learn its errors, about: enough for a figure within a few percent.
const SAMPLE: usize = 64 << 10;

/// Rows that are read together.
const GROUP: usize = 16;

/// As many matrices are measured one by one.
const MOST_PARTS: usize = 64;

/// A type that a matrix may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The type.
    pub ty: TensorType,
    /// Bytes of the whole matrix.
    pub bytes: u64,
}

/// A matrix whose type is to be chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Matrix {
    /// Its number in the source.
    pub index: usize,
    /// Its name.
    pub name: String,
    /// What it may become, the smallest first; never empty.
    pub candidates: Vec<Candidate>,
    /// The type that it has already, if with that its bytes stay as they are.
    pub kept: Option<TensorType>,
}

impl Matrix {
    /// The number of the candidate that it takes when the loss of rounding it is measured: not the one that loses
    /// nothing, and else the nearest to `bits` for each weight. A much coarser one would be misleading, since large
    /// losses grow more slowly than squared errors.
    pub fn probe(&self, bits: f64) -> usize {
        let distance = |i: &usize| (self.candidates[*i].ty.bits_per_weight() - bits).abs();
        let lossy = (0..self.candidates.len()).filter(|&i| Some(self.candidates[i].ty) != self.kept);
        lossy.min_by(|a, b| distance(a).total_cmp(&distance(b))).unwrap_or(0)
    }
}

/// What there is to choose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidates {
    /// The matrices, in the source's order.
    pub matrices: Vec<Matrix>,
    /// Bytes of all other tensors.
    pub other_bytes: u64,
    /// Weights of the whole file.
    pub weights: u64,
}

impl Candidates {
    /// Those for converting `source` with `options`, but for their `types`: the matrices that none of the rules for
    /// single tensors is for.
    ///
    /// # Errors
    /// As for [`write_gguf`](super::write_gguf).
    pub fn of(source: &dyn Source, options: &ConvertOptions) -> Result<Candidates, ConvertError> {
        let plan = Plan::new(source, &ConvertOptions { types: TypeRule::Keep, ..options.clone() })?;
        let (mut matrices, mut other_bytes, mut weights) = (Vec::new(), 0, 0);
        for (to, &index) in plan.tensors.iter().zip(&plan.origins) {
            weights += to.shape.iter().product::<usize>() as u64;
            if is_weight(to) && !options.tensors.iter().any(|rule| rule.matches(&to.name)) {
                is_calibrated(options, to)?;
                let packed = to.encoding.is_packed();
                matrices.push(matrix(&source.tensors()[index], index, packed));
            } else {
                other_bytes += to.byte_len().unwrap_or(0) as u64;
            }
        }
        matrices.sort_by_key(|m| m.index);
        Ok(Candidates { matrices, other_bytes, weights })
    }

    /// Bits for each weight of a file whose matrices have so many bytes together: all bytes of tensors by all weights.
    pub fn bits_per_weight(&self, bytes: u64) -> f64 {
        8.0 * (self.other_bytes + bytes) as f64 / self.weights as f64
    }

    /// The same when all matrices have their smallest types, and when they have their largest ones.
    pub fn range(&self) -> (f64, f64) {
        let least = self.matrices.iter().map(|m| m.candidates[0].bytes).sum();
        let most = self.matrices.iter().map(|m| m.candidates[m.candidates.len() - 1].bytes).sum();
        (self.bits_per_weight(least), self.bits_per_weight(most))
    }

    /// Bytes that the matrices may have together in a file of so many bits for each weight.
    pub fn budget(&self, bits_per_weight: f64) -> u64 {
        // So that what a file has suffices for it: the quotient was rounded.
        let bytes = bits_per_weight * self.weights as f64 / 8.0 * (1.0 + 4.0 * f64::EPSILON);
        (bytes as u64).saturating_sub(self.other_bytes)
    }

    /// For each matrix and each of its candidates the squared error of the outputs, summed over sampled rows, mean over
    /// inputs; without an importance matrix that of the weights. Only errors of one matrix compare with each other.
    ///
    /// # Errors
    /// When a weight cannot be rounded.
    pub fn errors(&self, source: &dyn Source, options: &ConvertOptions) -> Result<Vec<Vec<f64>>, ConvertError> {
        self.matrices.par_iter().map(|matrix| errors(source, options, matrix)).collect()
    }
}

fn matrix(from: &TensorInfo, index: usize, packed: bool) -> Matrix {
    // From F32, F16 is a choice. Larger than in the source no matrix becomes.
    let float = |ty: TensorType| ty == from.ty() || (ty, from.ty()) == (F16, F32);
    let candidate = |ty: TensorType| {
        let encoding = if packed { Encoding::Packed(ty) } else { Encoding::Plain(ty) };
        let bytes = encoding.byte_len(from.rows(), from.cols())?;
        (!ty.is_float() || float(ty)).then_some(Candidate { ty, bytes: bytes as u64 })
    };
    let mut candidates: Vec<Candidate> = TensorType::ALL.into_iter().filter_map(candidate).collect();
    candidates.sort_by_key(|c| c.bytes);
    let kept = (!matches!(from.encoding, Encoding::Stored(_))).then_some(from.ty());
    Matrix { index, name: from.name.clone(), candidates, kept }
}

fn errors(source: &dyn Source, options: &ConvertOptions, matrix: &Matrix) -> Result<Vec<f64>, ConvertError> {
    let from = &source.tensors()[matrix.index];
    let cols = from.cols();
    let statistics = options.imatrix.as_ref().and_then(|imatrix| imatrix.find(&from.name));
    let calibration = statistics.map(Statistics::calibration);
    let sample = sample(source, matrix.index)?;
    let error = |ty, values: &[f32]| {
        let mut errors = rounded(ty, cols, values, calibration.as_ref());
        errors.iter_mut().zip(values).for_each(|(e, v)| *e -= v);
        match statistics {
            Some(statistics) => errors.chunks_exact(cols).map(|e| statistics.output_error(e)).sum::<f64>(),
            None => errors.iter().map(|e| f64::from(*e).powi(2)).sum(),
        }
    };
    let of = |candidate: &Candidate| {
        let kept = Some(candidate.ty) == matrix.kept;
        if kept { 0.0 } else { sample.iter().map(|values| error(candidate.ty, values)).sum() }
    };
    Ok(matrix.candidates.iter().map(of).collect())
}

/// Some groups of rows, spread over the matrix.
fn sample(source: &dyn Source, index: usize) -> Result<Vec<Vec<f32>>, ConvertError> {
    let from = &source.tensors()[index];
    let groups = from.rows().div_ceil(GROUP);
    let count = (SAMPLE / GROUP / from.cols()).clamp(1, groups);
    let group = |i| {
        let start = (2 * i + 1) * groups / (2 * count) * GROUP;
        let values = source.values(index, start..(start + GROUP).min(from.rows()));
        check_range(source, index, Q8_0, start, &values)?;
        Ok(values)
    };
    (0..count).map(group).collect()
}

/// The values of whole rows after they were rounded to type `ty`.
fn rounded(ty: TensorType, cols: usize, values: &[f32], calibration: Option<&Calibration>) -> Vec<f32> {
    let mut bytes = vec![0; values.len() / ty.block_len() * ty.block_bytes()];
    let mut back = vec![0.0; values.len()];
    search::quantize(ty, cols, values, calibration, &mut bytes)
        .and_then(|()| dequantize(ty, &bytes, &mut back))
        .expect("whole rows, of a type whose blocks divide them, and their calibration");
    back
}

/// Which matrices are measured together: each by itself, or in a deep model those of one kind in neighbouring layers.
/// The first layers and the last one differ most from the others.
pub fn parts(matrices: &[Matrix]) -> Vec<Vec<usize>> {
    if matrices.len() <= MOST_PARTS {
        return (0..matrices.len()).map(|i| vec![i]).collect();
    }
    let place = |m: &Matrix| split_layer(&m.name).map(|(layer, kind)| (layer, kind.to_owned()));
    let last = matrices.iter().filter_map(|m| Some(place(m)?.0)).max().unwrap_or(0);
    let band = |layer: usize| match layer {
        0 | 1 => layer,
        _ if layer == last => 5,
        _ => 2 + 3 * (layer - 2) / (last - 2),
    };
    let mut parts: BTreeMap<(usize, String), Vec<usize>> = BTreeMap::new();
    for (i, matrix) in matrices.iter().enumerate() {
        let key = place(matrix).map_or((0, matrix.name.clone()), |(layer, part)| (band(layer), part));
        parts.entry(key).or_default().push(i);
    }
    parts.into_values().collect()
}

/// For each matrix one of its `(bytes, loss)`, so that the bytes are at most `budget` together and the losses as small
/// as steps along the lower convex hulls make them; `None` when the budget is too small for anything. A larger budget
/// never gives a larger loss.
///
/// Each matrix begins with the smallest; then the steps are taken that gain most for a byte, as far as they fit (the
/// Lagrangian relaxation of the knapsack problem: Everett 1963; the last bytes go to smaller steps).
pub fn choose(matrices: &[Vec<(u64, f64)>], budget: u64) -> Option<Vec<usize>> {
    let hulls: Vec<Vec<usize>> = matrices.iter().map(|m| hull(m)).collect();
    let first = |(m, hull): (&Vec<(u64, f64)>, &Vec<usize>)| Some(m[*hull.first()?].0);
    let mut left = budget;
    for bytes in matrices.iter().zip(&hulls).map(first) {
        left = left.checked_sub(bytes?)?;
    }
    let mut steps = Vec::new();
    for (i, (matrix, hull)) in matrices.iter().zip(&hulls).enumerate() {
        for (n, pair) in hull.windows(2).enumerate() {
            let ((bytes, loss), (more, less)) = (matrix[pair[0]], matrix[pair[1]]);
            steps.push(((loss - less) / (more - bytes) as f64, i, n + 1, more - bytes));
        }
    }
    // Along a hull gains fall, so the steps of a matrix stay in their order; equal ones do by their numbers.
    steps.sort_by(|a, b| b.0.total_cmp(&a.0).then((a.1, a.2).cmp(&(b.1, b.2))));
    let mut at = vec![0; matrices.len()];
    for (_, i, to, bytes) in steps {
        // Where a step did not fit, those behind it are not to be had.
        if at[i] + 1 == to && bytes <= left {
            (at[i], left) = (to, left - bytes);
        }
    }
    Some(at.iter().zip(&hulls).map(|(&at, hull)| hull[at]).collect())
}

/// The candidates on the lower convex hull, from the smallest on to the one with the least loss.
fn hull(candidates: &[(u64, f64)]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..candidates.len()).collect();
    order.sort_by(|&a, &b| candidates[a].0.cmp(&candidates[b].0).then(candidates[a].1.total_cmp(&candidates[b].1)));
    let mut hull: Vec<usize> = Vec::new();
    for next in order {
        let (bytes, loss) = candidates[next];
        if hull.last().is_some_and(|&last| loss >= candidates[last].1) {
            continue;
        }
        let slope = |from: usize| (candidates[from].1 - loss) / (bytes - candidates[from].0) as f64;
        while let [.., before, last] = hull[..] {
            let kept = (candidates[before].1 - candidates[last].1) / (candidates[last].0 - candidates[before].0) as f64;
            if kept > slope(last) {
                break;
            }
            hull.pop();
        }
        hull.push(next);
    }
    hull
}

/// A model of which some matrices were rounded: their values as F32, so that nothing but the rounding of weights
/// differs.
pub struct Rounded {
    source: Arc<dyn Source>,
    infos: Vec<TensorInfo>,
    rounded: BTreeMap<usize, (TensorType, Option<Calibration>)>,
}

impl Rounded {
    /// `source` with these matrices, by their numbers, rounded to these types by what `options` tell of activations.
    pub fn new(source: Arc<dyn Source>, options: &ConvertOptions, types: &[(usize, TensorType)]) -> Rounded {
        let mut infos = source.tensors().to_vec();
        let round = |&(index, ty): &(usize, TensorType)| {
            let info: &mut TensorInfo = &mut infos[index];
            info.encoding = Encoding::Plain(F32);
            let statistics = options.imatrix.as_ref().and_then(|imatrix| imatrix.find(&info.name));
            (index, (ty, statistics.map(Statistics::calibration)))
        };
        let rounded = types.iter().map(round).collect();
        Rounded { source, infos, rounded }
    }
}

impl Source for Rounded {
    fn path(&self) -> &Path {
        self.source.path()
    }

    fn metadata(&self) -> &Metadata {
        self.source.metadata()
    }

    fn tensors(&self) -> &[TensorInfo] {
        &self.infos
    }

    fn rows(&self, index: usize, rows: Range<usize>) -> Cow<'_, [u8]> {
        let Some((ty, calibration)) = self.rounded.get(&index) else { return self.source.rows(index, rows) };
        let values = self.source.values(index, rows);
        let values = rounded(*ty, self.infos[index].cols(), &values, calibration.as_ref());
        Cow::Owned(bytemuck::cast_slice(&values).to_vec())
    }

    fn mapped(&self, index: usize) -> Option<&[u8]> {
        if self.rounded.contains_key(&index) { None } else { self.source.mapped(index) }
    }

    fn shared(self: Arc<Self>, index: usize) -> Option<SharedBytes> {
        if self.rounded.contains_key(&index) { None } else { self.source.clone().shared(index) }
    }

    fn release(&self, index: usize) {
        self.source.release(index);
    }

    fn read_ahead(&self, index: usize) {
        self.source.read_ahead(index);
    }

    fn lock(&self) -> std::io::Result<()> {
        self.source.lock()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matrices() -> impl Strategy<Value = Vec<Vec<(u64, f64)>>> {
        prop::collection::vec(prop::collection::vec((1_u64..100, 0.0..10.0), 1..6), 1..5)
    }

    fn totals(matrices: &[Vec<(u64, f64)>], chosen: &[usize]) -> (u64, f64) {
        let pick = |(m, &c): (&Vec<(u64, f64)>, &usize)| m[c];
        let all = matrices.iter().zip(chosen).map(pick);
        all.fold((0, 0.0), |(bytes, loss), (b, l)| (bytes + b, loss + l))
    }

    /// The least loss for a budget, by trying everything.
    fn best(matrices: &[Vec<(u64, f64)>], budget: u64) -> Option<f64> {
        let Some((first, rest)) = matrices.split_first() else { return Some(0.0) };
        let with = |&(bytes, loss): &(u64, f64)| Some(loss + best(rest, budget.checked_sub(bytes)?)?);
        first.iter().filter_map(with).min_by(f64::total_cmp)
    }

    proptest! {
        #[test]
        fn never_over_the_budget_and_never_worse_with_more(matrices in matrices()) {
            let mut last = f64::INFINITY;
            for budget in 0..500 {
                let (found, least) = (choose(&matrices, budget), best(&matrices, budget));
                prop_assert_eq!(found.is_some(), least.is_some(), "{}", budget);
                let Some(found) = found else { continue };
                let (bytes, loss) = totals(&matrices, &found);
                prop_assert!(bytes <= budget);
                prop_assert!(loss <= last + 1e-9 && loss >= least.unwrap() - 1e-9, "{} {} {:?}", budget, loss, least);
                last = loss;
            }
            // With room for all, each takes its best.
            let finest: f64 = matrices.iter().map(|m| m.iter().map(|c| c.1).fold(f64::INFINITY, f64::min)).sum();
            prop_assert!((last - finest).abs() < 1e-9);
        }

        /// What every step of the hulls reaches exactly nothing beats.
        #[test]
        fn a_budget_that_is_used_up_is_used_best(matrices in matrices(), budget in 0_u64..500) {
            let Some(found) = choose(&matrices, budget) else { return Ok(()) };
            let (bytes, loss) = totals(&matrices, &found);
            // Bytes left and the steepest step that did not fit bound what is lost.
            let steepest = matrices.iter().flat_map(|m| {
                let hull = hull(m);
                hull.windows(2).map(|p| (m[p[0]].1 - m[p[1]].1) / (m[p[1]].0 - m[p[0]].0) as f64).collect::<Vec<_>>()
            }).fold(0.0, f64::max);
            prop_assert!(loss <= best(&matrices, budget).unwrap() + steepest * (budget - bytes) as f64 + 1e-9);
        }
    }

    /// A type that loses nothing would say that nothing is ever lost.
    #[test]
    fn what_is_measured_is_a_loss() {
        for (ty, bits, expected) in [(F32, 3.5, Q3_K), (Q3_K, 3.3, Q2_K), (Q8_0, 9.0, Q6_K), (BF16, 2.0, Q2_K)] {
            let from = TensorInfo::new("a.weight", Encoding::Plain(ty), [256, 2]);
            let matrix = matrix(&from, 0, false);
            assert_eq!(matrix.candidates[matrix.probe(bits)].ty, expected);
        }
    }

    #[test]
    fn deep_models_are_measured_in_few_parts() {
        let matrix = |name: String| Matrix { index: 0, name, candidates: Vec::new(), kept: None };
        let model = |layers: usize| {
            let names = |layer| ["attn_q", "ffn_down"].map(|part| format!("blk.{layer}.{part}.weight"));
            let all = ["token_embd.weight".to_owned()].into_iter().chain((0..layers).flat_map(names));
            all.map(matrix).collect::<Vec<_>>()
        };
        assert_eq!(parts(&model(8)).len(), 17);
        for layers in [32, 33, 80, 1000] {
            let parts = parts(&model(layers));
            assert_eq!(parts.len(), 13, "{layers}");
            let mut all = parts.concat();
            all.sort_unstable();
            assert_eq!(all, (0..1 + 2 * layers).collect::<Vec<_>>());
            let widest = parts.iter().map(Vec::len).max();
            assert!(widest <= Some(layers / 3 + 1), "{layers}: {widest:?}");
        }
    }
}
