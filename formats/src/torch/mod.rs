//! PyTorch checkpoints: `pytorch_model.bin`, `consolidated.00.pth`.
//!
//! What `torch.save` writes since PyTorch 1.6 is a zip archive of entries that are stored as they are (`zip.rs`):
//! `data.pkl`, a Python pickle that makes a dictionary from names to tensors (`pickle.rs`), and the numbers of each
//! storage, little-endian, in `data/KEY`. A tensor is a view of a storage: an offset, a shape and strides; several may
//! share one (`tensors.rs`).
//!
//! A pickle is a program, and Python's own reader lets it call anything. This one knows a dozen names, all of which are
//! words of the format and none of which it runs; whatever else a file asks for is refused by name.
//!
//! Sources: PyTorch's `torch/serialization.py` and `torch/_utils.py`, Python's `pickletools`, PKWARE's APPNOTE.

mod fault;
mod global;
mod pickle;
mod strided;
mod tensors;
mod zip;

use std::borrow::Cow;
use std::path::{Path, PathBuf};

pub use fault::{TorchError, TorchFault};
pub use strided::Strided;
pub use tensors::{Numbers, TorchTensor};

use crate::map::MappedFile;
use crate::safetensors::text_instead_of_weights;

/// A mapped PyTorch checkpoint whose list of tensors has been checked.
#[derive(Debug)]
pub struct TorchFile {
    map: MappedFile,
    tensors: Vec<TorchTensor>,
}

impl TorchFile {
    /// Maps and checks the file at `path`.
    ///
    /// # Errors
    /// When it cannot be read, is no checkpoint of PyTorch 1.6 or later, or asks for more than tensors.
    pub fn open(path: impl Into<PathBuf>) -> Result<TorchFile, TorchError> {
        let map = MappedFile::open(path)?;
        match parse(&map) {
            Ok(tensors) => Ok(TorchFile { map, tensors }),
            Err(fault) => Err(TorchError::Invalid { path: map.path().to_owned(), fault: Box::new(fault) }),
        }
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        self.map.path()
    }

    /// The tensors, in the order of the list.
    pub fn tensors(&self) -> &[TorchTensor] {
        &self.tensors
    }

    /// The numbers of tensor number `index`, row after row, little-endian.
    ///
    /// # Panics
    /// When there is no such tensor.
    pub fn data(&self, index: usize) -> Cow<'_, [u8]> {
        let TorchTensor { shape, numbers, .. } = &self.tensors[index];
        match numbers {
            Numbers::Contiguous(range) => Cow::Borrowed(&self.map[range.clone()]),
            Numbers::Strided(strided) => {
                let rows = shape.iter().rev().skip(1).product();
                Cow::Owned(strided.bytes(&self.map, shape, 0..rows))
            }
        }
    }

    /// The mapped file and its tensors.
    pub(crate) fn into_parts(self) -> (MappedFile, Vec<TorchTensor>) {
        (self.map, self.tensors)
    }
}

fn parse(file: &[u8]) -> Result<Vec<TorchTensor>, TorchFault> {
    // What torch.save wrote before it wrote archives: a pickle of a number that says so.
    const LEGACY: &[u8] = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19";
    if let Some(what) = text_instead_of_weights(file) {
        return Err(TorchFault::NotWeights { what });
    }
    if file.starts_with(LEGACY) {
        return Err(TorchFault::Legacy);
    }
    tensors::read(file)
}
