//! An adapter, whatever it was written by: what is added to which matrix.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::error::AdapterFault;
use crate::families::Family;
use crate::families::keys;
use crate::source::Source;

/// An adapter that fits a model.
#[derive(Clone, Debug)]
pub struct Adapter {
    pub(super) files: Vec<PathBuf>,
    /// By the number of the model's tensor.
    pub(super) changes: BTreeMap<usize, Change>,
}

/// What is added to a matrix: `scale·B·A`.
#[derive(Clone, Debug)]
pub struct Change {
    /// The adapter's own scale: its alpha by its rank.
    pub scale: f32,
    /// Rows of `A`.
    pub rank: usize,
    /// `A`, rank × inputs.
    pub a: Vec<f32>,
    /// `B`, outputs × rank.
    pub b: Vec<f32>,
}

/// A matrix of a pair as it was read: rows × columns.
pub(super) struct Half {
    pub tensor: String,
    pub shape: Vec<usize>,
    pub values: Vec<f32>,
}

impl Adapter {
    /// The files that it was read from.
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// What it adds to which of the model's tensors, by their numbers.
    pub fn changes(&self) -> impl Iterator<Item = (usize, &Change)> {
        self.changes.iter().map(|(&index, change)| (index, change))
    }
}

/// The model's architecture, and its family.
pub(super) fn family(model: &dyn Source) -> Result<&'static Family, AdapterFault> {
    let architecture = model.metadata().str_opt(keys::ARCHITECTURE).ok().flatten().unwrap_or_default();
    let unknown = || AdapterFault::UnknownArchitecture { architecture: architecture.into() };
    Family::of_metadata(model.metadata()).ok_or_else(unknown)
}

/// The pair of matrices for the model's tensor `matrix`, checked. `scale` takes the rank.
pub(super) fn change(
    model: &dyn Source,
    matrix: &str,
    a: Half,
    b: Half,
    scale: impl Fn(usize) -> f32,
) -> Result<(usize, Change), AdapterFault> {
    let missing = || AdapterFault::NotInModel { matrix: matrix.into(), tensor: a.tensor.clone() };
    let index = model.find(matrix).ok_or_else(missing)?;
    let info = &model.tensors()[index];
    let (rows, cols) = (info.rows(), info.cols());
    let shape = |half: &Half, expected: String| AdapterFault::Shape {
        tensor: half.tensor.clone(),
        found: half.shape.clone(),
        expected,
        matrix: matrix.into(),
        rows,
        cols,
    };
    let rank = match a.shape[..] {
        [rank, inputs] if inputs == cols && rank > 0 => rank,
        _ => return Err(shape(&a, format!("[rank, {cols}]"))),
    };
    if b.shape != [rows, rank] {
        return Err(shape(&b, format!("[{rows}, {rank}]")));
    }
    for half in [&a, &b] {
        if !half.values.iter().all(|value| value.is_finite()) {
            return Err(AdapterFault::NotFinite { tensor: half.tensor.clone() });
        }
    }
    Ok((index, Change { scale: scale(rank), rank, a: a.values, b: b.values }))
}
