//! What a model's file shows before it is loaded.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use quipu_formats::source::{Recoded, recoded_types};
use quipu_runtime::OpenError;
use serde::Serialize;

/// A model to compare, by what can be known without loading it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ModelFile {
    /// Its name, as [`open`](fn@quipu_runtime::open) takes it.
    #[serde(rename = "file")]
    pub path: PathBuf,
    /// Bytes of the file or of all parts, or of the tensors where there is none or a directory.
    pub bytes: u64,
    /// All bytes of tensors, norms included, by all weights.
    pub bits_per_weight: f64,
    /// What share of all weights each type has, the largest first.
    pub types: Vec<TypeShare>,
    /// The types that are run as others, of which a user should know.
    #[serde(skip)]
    pub recoded: Vec<Recoded>,
}

/// The share of all weights that have one type.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct TypeShare {
    /// GGUF's name of the type.
    #[serde(rename = "type")]
    pub name: &'static str,
    /// From 0 to 1.
    pub share: f64,
}

impl ModelFile {
    /// Looks at the model called `name`.
    ///
    /// # Errors
    /// When it can't be opened.
    pub fn open(name: &str) -> Result<ModelFile, OpenError> {
        let source = quipu_runtime::open(name)?;
        let (mut weights_of, mut weights, mut bytes) = (BTreeMap::new(), 0, 0);
        for tensor in source.tensors() {
            let elements: u64 = tensor.shape.iter().map(|&n| n as u64).product();
            *weights_of.entry(tensor.encoding.name()).or_insert(0) += elements;
            weights += elements;
            bytes += tensor.byte_len().unwrap_or(0) as u64;
        }
        let share = |(name, n)| TypeShare { name, share: n as f64 / weights as f64 };
        let mut types: Vec<_> = weights_of.into_iter().map(share).collect();
        types.sort_by(|a, b| b.share.total_cmp(&a.share));
        let path = Path::new(name);
        let length = |file: &PathBuf| std::fs::metadata(file).ok().filter(|meta| meta.is_file()).map(|meta| meta.len());
        let of_file = source.files().iter().map(length).sum::<Option<u64>>();
        Ok(ModelFile {
            path: path.to_owned(),
            bytes: of_file.unwrap_or(bytes),
            bits_per_weight: 8.0 * bytes as f64 / (weights as f64).max(1.0),
            types,
            recoded: recoded_types(&*source),
        })
    }

    /// The number of the file with the most bits per weight, the first of several; 0 when there is none.
    pub fn most_precise(files: &[ModelFile]) -> usize {
        let bits = |i: usize| files[i].bits_per_weight;
        (1..files.len()).fold(0, |best, i| if bits(i) > bits(best) { i } else { best })
    }
}
