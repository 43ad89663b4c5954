//! An adapter in memory (Hu et al. 2021, LoRA): pairs of small matrices, packed as weights are.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use half::{bf16, f16};
use quipu_formats::lora::{Adapter, Change};
use quipu_formats::source::Source;
use quipu_quant::TensorType;
use quipu_quant::pack::{PackedLayout, pack};

use super::matrix::{Matrix, region};
use crate::host::memory::Shortage;
use crate::kv::checksum;

/// Why an adapter cannot be loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AdapterLoadError {
    /// It changes what is more than a factor of products.
    #[error("{}: it changes {tensor}, which is no matrix of products alone; `quipu merge` adds it to the model's file", .path.display())]
    NoProduct {
        /// The adapter.
        path: PathBuf,
        /// The model's tensor.
        tensor: String,
    },
    /// It was opened for another model.
    #[error("{}: it was opened for another model: tensor number {tensor} is not {rows} × {cols} in this one", .path.display())]
    OtherModel {
        /// The adapter.
        path: PathBuf,
        /// The tensor's number.
        tensor: usize,
        /// Rows that it should have.
        rows: usize,
        /// Columns that it should have.
        cols: usize,
    },
    /// There is no memory for it.
    #[error(transparent)]
    Memory(#[from] Shortage),
    /// The system gives no memory for it.
    #[error("{}: no memory for its {bytes} bytes: {error}", .path.display())]
    NoMemory {
        /// The adapter.
        path: PathBuf,
        /// Its size in memory.
        bytes: usize,
        /// What the system says.
        error: std::io::Error,
    },
}

/// `scale·B·A`, which is added to a matrix.
pub(super) struct Pair {
    pub(super) scale: f32,
    /// rank × inputs.
    pub(super) a: Matrix,
    /// outputs × rank.
    pub(super) b: Matrix,
}

impl Pair {
    /// The width of a row of `A·x`: the rank, padded to 16.
    pub(super) fn width(&self) -> usize {
        self.a.groups() * 16
    }
}

/// An adapter, ready to run.
pub(crate) struct LowRank {
    /// By the number of the model's tensor.
    pairs: HashMap<usize, Pair>,
    /// A checksum of all that it adds.
    fingerprint: u64,
}

/// Matrices of an adapter begin at multiples of so many bytes: a line of the cache.
const ALIGNMENT: usize = 64;

impl LowRank {
    /// Packs `adapter`, which was opened for `model`. `is_product` says of a tensor's number whether it is a matrix of
    /// products alone.
    pub(crate) fn load(
        adapter: &Adapter,
        model: &dyn Source,
        is_product: impl Fn(usize) -> bool,
    ) -> Result<LowRank, AdapterLoadError> {
        let path = || adapter.files().first().cloned().unwrap_or_default();
        let mut planned = Vec::new();
        let (mut bytes, mut fingerprint) = (0, checksum(0, b"adapter"));
        for (index, change) in adapter.changes() {
            let Change { scale, rank, a, b } = change;
            let (rows, cols) = (b.len() / rank, a.len() / rank);
            let info = model.tensors().get(index).filter(|info| (info.rows(), info.cols()) == (rows, cols));
            let Some(info) = info else {
                return Err(AdapterLoadError::OtherModel { path: path(), tensor: index, rows, cols });
            };
            if !is_product(index) {
                return Err(AdapterLoadError::NoProduct { path: path(), tensor: info.name.clone() });
            }
            fingerprint = checksum(fingerprint, info.name.as_bytes());
            fingerprint = checksum(fingerprint, &scale.to_le_bytes());
            let mut place = |values: &[f32], rows, cols| {
                let ty = exact_type(values);
                let plain = plain_rows(values, ty);
                let layout = PackedLayout::new(ty, rows, cols).expect("floats have rows of any length");
                fingerprint = checksum(fingerprint, format!("{} {rows} {cols}", ty.name()).as_bytes());
                fingerprint = checksum(fingerprint, &plain);
                let at = bytes..bytes + layout.total_bytes();
                bytes = at.end.next_multiple_of(ALIGNMENT);
                (layout, at)
            };
            planned.push((index, change, place(a, *rank, cols), place(b, rows, *rank)));
        }
        let no_memory = |error: std::io::Error| match error.downcast::<Shortage>() {
            Ok(shortage) => shortage.into(),
            Err(error) => AdapterLoadError::NoMemory { path: path(), bytes, error },
        };
        let mut memory = region(bytes, || format!("the adapter {}", path().display())).map_err(no_memory)?;
        for (_, change, a, b) in &planned {
            for (values, (layout, at)) in [(&change.a, a), (&change.b, b)] {
                memory[at.clone()].copy_from_slice(&pack(layout, &plain_rows(values, layout.ty())));
            }
        }
        let memory = Arc::new(memory);
        let matrix = |(layout, at)| Matrix::in_memory(layout, memory.clone(), at);
        let pair = |(index, change, a, b): (_, &Change, _, _)| {
            (index, Pair { scale: change.scale, a: matrix(a), b: matrix(b) })
        };
        Ok(LowRank { pairs: planned.into_iter().map(pair).collect(), fingerprint })
    }

    /// What it adds to the model's tensor number `tensor`.
    pub(super) fn pair(&self, tensor: usize) -> Option<&Pair> {
        self.pairs.get(&tensor)
    }

    /// A checksum of all that it adds.
    pub(crate) fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    /// Numbers that the rows of `A·x` of a token take, for the most matrices that have one input: three.
    pub(crate) fn width(&self) -> usize {
        3 * self.pairs.values().map(Pair::width).max().unwrap_or(0)
    }
}

/// The smallest type of numbers that holds all of `values` as they are.
fn exact_type(values: &[f32]) -> TensorType {
    if values.iter().all(|x| f16::from_f32(*x).to_f32().to_bits() == x.to_bits()) {
        TensorType::F16
    } else if values.iter().all(|x| x.to_bits() & 0xffff == 0) {
        TensorType::BF16
    } else {
        TensorType::F32
    }
}

/// The bytes of `values`, which `ty` holds exactly, in rows.
fn plain_rows(values: &[f32], ty: TensorType) -> Vec<u8> {
    match ty {
        TensorType::F16 => values.iter().flat_map(|&x| f16::from_f32(x).to_le_bytes()).collect(),
        TensorType::BF16 => values.iter().flat_map(|&x| bf16::from_f32(x).to_le_bytes()).collect(),
        _ => values.iter().flat_map(|x| x.to_le_bytes()).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_their_values_in_the_smallest_type() {
        for (values, ty) in [
            (vec![1.0, -0.0, 65504.0, 6e-8_f32], TensorType::F32),
            (vec![1.0, -0.0, 65504.0, 2f32.powi(-24)], TensorType::F16),
            (vec![1.0, 2f32.powi(100)], TensorType::BF16),
            (vec![65536.0], TensorType::BF16),
            (vec![1.0 + 2f32.powi(-10)], TensorType::F16),
            (vec![1.0 + 2f32.powi(-12)], TensorType::F32),
        ] {
            assert_eq!(exact_type(&values), ty, "{values:?}");
            let bytes = plain_rows(&values, ty);
            let read = |bytes: &[u8]| match ty {
                TensorType::F16 => f16::from_le_bytes(bytes.try_into().unwrap()).to_f32(),
                TensorType::BF16 => bf16::from_le_bytes(bytes.try_into().unwrap()).to_f32(),
                _ => f32::from_le_bytes(bytes.try_into().unwrap()),
            };
            let found: Vec<f32> = bytes.chunks(bytes.len() / values.len()).map(read).collect();
            assert_eq!(found, values);
        }
    }
}
