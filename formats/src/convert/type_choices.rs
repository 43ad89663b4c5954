//! Which types the matrices of a file may take, and what each of them would cost: bytes, and the squared error of the
//! outputs. Whoever can run the model learns from that which to take.

use quipu_quant::TensorType::{self, *};
use rayon::prelude::*;

use super::numbers::check_values;
use super::options::{ConvertOptions, TypeRule};
use super::outcome::ConvertError;
use super::plan::{Plan, is_calibrated, is_positions, is_router, is_weight};
use super::rounded::rounded;
use crate::source::{Encoding, Source, TensorInfo};

/// Weights of a matrix that are rounded to learn its errors, about: enough for a figure within a few percent.
const SAMPLE: usize = 64 << 10;

/// Rows that are read together.
const GROUP: usize = 16;

/// A type that a matrix may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SizedType {
    /// The type.
    pub ty: TensorType,
    /// Bytes of the whole matrix.
    pub bytes: u64,
}

/// A matrix whose type is to be chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MatrixTypes {
    /// Its number in the source.
    pub index: usize,
    /// Its name.
    pub name: String,
    /// What it may become, the smallest first; never empty.
    pub types: Vec<SizedType>,
    /// The type that it has already, if with that its bytes stay as they are.
    pub kept: Option<TensorType>,
}

impl MatrixTypes {
    /// The choices for tensor number `index` of a source, whose entry is `from`, in a file that is to be packed or not.
    pub fn new(from: &TensorInfo, index: usize, packed: bool) -> MatrixTypes {
        // Of the float types, the source's own is a choice, and F16 where that is F32. MXFP4 and TQ2_0 are for weights
        // that were trained in them; others lose less in types of that size.
        let own = |ty: TensorType| ty == from.ty() || (ty, from.ty()) == (F16, F32);
        let sized = |ty: TensorType| {
            let encoding = if packed { Encoding::Packed(ty) } else { Encoding::Plain(ty) };
            let bytes = encoding.byte_len(from.rows(), from.cols())?;
            (!(ty.is_float() || matches!(ty, MXFP4 | TQ2_0)) || own(ty))
                .then_some(SizedType { ty, bytes: bytes as u64 })
        };
        let mut types: Vec<SizedType> = TensorType::ALL.into_iter().filter_map(sized).collect();
        types.sort_by_key(|t| t.bytes);
        let kept = (!matches!(from.encoding, Encoding::Stored(_))).then_some(from.ty());
        MatrixTypes { index, name: from.name.clone(), types, kept }
    }
}

/// What there is to choose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TypeChoices {
    /// The matrices, in the source's order.
    pub matrices: Vec<MatrixTypes>,
    /// Bytes of all other tensors.
    pub other_bytes: u64,
    /// Weights of the whole file.
    pub weights: u64,
}

impl TypeChoices {
    /// The choices for converting `source` with `options`, whose `types` do not count: those for all matrices to which
    /// no rule for single tensors applies.
    ///
    /// # Errors
    /// As for [`write_gguf`](super::write_gguf).
    pub fn of(source: &dyn Source, options: &ConvertOptions) -> Result<TypeChoices, ConvertError> {
        let plan = Plan::new(source, &ConvertOptions { types: TypeRule::Keep, ..options.clone() })?;
        let (mut matrices, mut other_bytes, mut weights) = (Vec::new(), 0, 0);
        for (to, &index) in plan.tensors.iter().zip(&plan.origins) {
            weights += to.shape.iter().product::<usize>() as u64;
            if is_weight(to)
                && !is_positions(to)
                && !is_router(to)
                && !options.tensors.iter().any(|rule| rule.matches(&to.name))
            {
                is_calibrated(options, to)?;
                let packed = to.encoding.is_packed();
                matrices.push(MatrixTypes::new(&source.tensors()[index], index, packed));
            } else {
                other_bytes += to.byte_len().unwrap_or(0) as u64;
            }
        }
        matrices.sort_by_key(|m| m.index);
        Ok(TypeChoices { matrices, other_bytes, weights })
    }

    /// Bits per weight of a file whose matrices take `bytes` together: the bytes of all tensors by the number of
    /// weights.
    pub fn bits_per_weight(&self, bytes: u64) -> f64 {
        8.0 * (self.other_bytes + bytes) as f64 / self.weights as f64
    }

    /// The same when all matrices have their smallest types, and when they have their largest ones.
    pub fn range(&self) -> (f64, f64) {
        let least = self.matrices.iter().map(|m| m.types[0].bytes).sum();
        let most = self.matrices.iter().map(|m| m.types[m.types.len() - 1].bytes).sum();
        (self.bits_per_weight(least), self.bits_per_weight(most))
    }

    /// The bytes that the matrices may take together in a file of so many bits per weight.
    pub fn budget(&self, bits_per_weight: f64) -> u64 {
        // A little more, so that the bits per weight of a file, a rounded quotient, are a budget that this file keeps.
        let bytes = bits_per_weight * self.weights as f64 / 8.0 * (1.0 + 4.0 * f64::EPSILON);
        (bytes as u64).saturating_sub(self.other_bytes)
    }

    /// For each matrix and each of its types the squared error of the outputs, summed over sampled rows and averaged
    /// over inputs; without an importance matrix the squared error of the weights. Errors of different matrices do not
    /// compare.
    ///
    /// # Errors
    /// When a weight cannot be rounded.
    pub fn errors(&self, source: &dyn Source, options: &ConvertOptions) -> Result<Vec<Vec<f64>>, ConvertError> {
        self.matrices.par_iter().map(|matrix| errors(source, options, matrix)).collect()
    }
}

fn errors(source: &dyn Source, options: &ConvertOptions, matrix: &MatrixTypes) -> Result<Vec<f64>, ConvertError> {
    let from = &source.tensors()[matrix.index];
    let cols = from.cols();
    let known = |row| {
        let statistics = options.imatrix.as_ref().and_then(|imatrix| imatrix.find_row(from, row));
        let calibration = statistics.as_ref().map(|statistics| statistics.calibration());
        (statistics, calibration)
    };
    // Experts have each their own; else one is all.
    let of_all = (from.shape.len() < 3).then(|| known(0));
    let sample = sample(source, matrix.index)?;
    let error = |ty, (row, values): &(usize, Vec<f32>)| {
        let of_row = if of_all.is_none() { Some(known(*row)) } else { None };
        let (statistics, calibration) = match (&of_all, &of_row) {
            (Some(known), _) | (None, Some(known)) => known,
            (None, None) => return 0.0,
        };
        let mut errors = rounded(ty, cols, values, calibration.as_ref());
        errors.iter_mut().zip(values).for_each(|(e, v)| *e -= v);
        match statistics {
            Some(statistics) => errors.chunks_exact(cols).map(|e| statistics.output_error(e)).sum::<f64>(),
            None => errors.iter().map(|e| f64::from(*e).powi(2)).sum(),
        }
    };
    let of = |sized: &SizedType| {
        let kept = Some(sized.ty) == matrix.kept;
        if kept { 0.0 } else { sample.iter().map(|part| error(sized.ty, part)).sum() }
    };
    Ok(matrix.types.iter().map(of).collect())
}

/// Some groups of rows, spread over the matrix: the first one's number, and the values.
fn sample(source: &dyn Source, index: usize) -> Result<Vec<(usize, Vec<f32>)>, ConvertError> {
    let from = &source.tensors()[index];
    let groups = from.rows().div_ceil(GROUP);
    let count = (SAMPLE / GROUP / from.cols()).clamp(1, groups);
    let group = |i| {
        let start = (2 * i + 1) * groups / (2 * count) * GROUP;
        let values = source.values(index, start..(start + GROUP).min(from.rows()));
        check_values(source, index, Q8_0, start, &values)?;
        Ok((start, values))
    };
    (0..count).map(group).collect()
}
