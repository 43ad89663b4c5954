//! A model with adapters added.

use std::borrow::Cow;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use quipu_quant::TensorType;

use super::adapter::{Adapter, Change};
use crate::gguf::Metadata;
use crate::oddity::Oddity;
use crate::source::{Encoding, SharedBytes, Source, TensorInfo};

/// A model with adapters added to its matrices. Those that change are F32, computed when they are asked for; all else
/// is as it was.
pub struct Merged {
    model: Arc<dyn Source>,
    tensors: Vec<TensorInfo>,
    adapters: Vec<(Adapter, f32)>,
}

impl Merged {
    /// `model` with these adapters, each times a scale, added in this order.
    pub fn new(model: Arc<dyn Source>, adapters: Vec<(Adapter, f32)>) -> Merged {
        let mut tensors = model.tensors().to_vec();
        for index in adapters.iter().flat_map(|(adapter, _)| adapter.changes.keys()) {
            tensors[*index].encoding = Encoding::Plain(TensorType::F32);
        }
        Merged { model, tensors, adapters }
    }

    /// The matrices that change, with the types that they have in the model.
    pub fn changed(&self) -> impl Iterator<Item = (&str, TensorType)> {
        let both = self.tensors.iter().zip(self.model.tensors()).enumerate();
        let changed = both.filter(|(index, _)| self.changes(*index).next().is_some());
        changed.map(|(_, (info, before))| (info.name.as_str(), before.ty()))
    }

    /// What is added to tensor number `index`, and times what.
    fn changes(&self, index: usize) -> impl Iterator<Item = (&Change, f32)> {
        let both = self.adapters.iter().map(move |(adapter, scale)| (adapter.changes.get(&index), *scale));
        both.filter_map(|(change, scale)| Some((change?, scale)))
    }
}

/// Adds `scale·B·A` to `values`, which are `rows` of a matrix.
fn add(change: &Change, scale: f32, rows: Range<usize>, values: &mut [f32]) {
    let cols = change.a.len() / change.rank;
    let scale = change.scale * scale;
    let mut sum = vec![0.0; cols];
    for (row, values) in rows.zip(values.chunks_exact_mut(cols)) {
        sum.fill(0.0);
        let b = &change.b[row * change.rank..(row + 1) * change.rank];
        for (&b, a) in b.iter().zip(change.a.chunks_exact(cols)) {
            sum.iter_mut().zip(a).for_each(|(sum, &a)| *sum += b * a);
        }
        values.iter_mut().zip(&sum).for_each(|(value, &sum)| *value += scale * sum);
    }
}

impl Source for Merged {
    fn path(&self) -> &Path {
        self.model.path()
    }

    fn metadata(&self) -> &Metadata {
        self.model.metadata()
    }

    fn files(&self) -> Vec<PathBuf> {
        let adapters = self.adapters.iter().flat_map(|(adapter, _)| adapter.files.iter().cloned());
        self.model.files().into_iter().chain(adapters).collect()
    }

    fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    fn oddities(&self) -> &[Oddity] {
        self.model.oddities()
    }

    fn rows(&self, index: usize, rows: Range<usize>) -> Cow<'_, [u8]> {
        if self.changes(index).next().is_none() {
            return self.model.rows(index, rows);
        }
        let mut values = self.model.values(index, rows.clone());
        self.changes(index).for_each(|(change, scale)| add(change, scale, rows.clone(), &mut values));
        Cow::Owned(values.iter().flat_map(|value| value.to_le_bytes()).collect())
    }

    fn mapped(&self, index: usize) -> Option<&[u8]> {
        if self.changes(index).next().is_none() { self.model.mapped(index) } else { None }
    }

    fn shared(self: Arc<Self>, index: usize) -> Option<SharedBytes> {
        if self.changes(index).next().is_none() { self.model.clone().shared(index) } else { None }
    }

    fn release(&self, index: usize) {
        self.model.release(index);
    }

    fn read_ahead(&self, index: usize) {
        self.model.read_ahead(index);
    }

    fn lock(&self) -> io::Result<()> {
        self.model.lock()
    }
}
