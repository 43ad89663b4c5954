//! From the value of data.pkl to tensors in the file.

use std::collections::HashSet;
use std::ops::Range;

use super::fault::TorchFault;
use super::pickle::{self, Value, View};
use super::strided::Strided;
use super::zip::{Archive, crc32};
use crate::safetensors::Dtype;

/// The largest list of tensors that is read; real ones have less than 1 MB.
const MAX_PICKLE_BYTES: usize = 16 << 20;

/// A tensor of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TorchTensor {
    /// Its name.
    pub name: String,
    /// The type of its numbers.
    pub dtype: Dtype,
    /// Its extents: the last is the length of a row. None for a scalar; an extent may be zero.
    pub shape: Vec<usize>,
    /// Where its numbers are in the file.
    pub numbers: Numbers,
}

/// Where the numbers of a tensor are in its file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Numbers {
    /// In these bytes, row after row.
    Contiguous(Range<usize>),
    /// Apart, as a transposed or sliced tensor has them.
    Strided(Strided),
}

/// Reads the list of tensors of the checkpoint `file`.
pub(super) fn read(file: &[u8]) -> Result<Vec<TorchTensor>, TorchFault> {
    let archive = Archive::read(file)?;
    // The archive has one folder, whose name follows that of the file when it was saved.
    let list = archive.names().find(|name| name.ends_with("/data.pkl")).ok_or(TorchFault::NoPickle)?;
    let folder = list.strip_suffix("data.pkl").unwrap_or_default();
    let entry = |name: &str| archive.find(&format!("{folder}{name}"));
    if archive.names().any(|name| name.strip_prefix(folder) == Some("constants.pkl")) {
        return Err(TorchFault::Script);
    }
    if let Some(order) = entry("byteorder")?.map(|entry| &file[entry.range.clone()])
        && order != b"little"
    {
        let found = String::from_utf8_lossy(&order[..order.len().min(16)]).into_owned();
        return Err(TorchFault::ByteOrder { found });
    }
    let list = archive.find(list)?.ok_or(TorchFault::NoPickle)?;
    let program = &file[list.range.clone()];
    if program.len() > MAX_PICKLE_BYTES {
        return Err(TorchFault::Entry { entry: list.name.clone(), what: "is larger than any list of tensors" });
    }
    if crc32(program) != list.crc {
        return Err(TorchFault::Entry { entry: list.name.clone(), what: "is damaged: its checksum differs" });
    }
    let (value, heap) = pickle::read(program)?;
    let Value::Dict(dict) = value else { return Err(TorchFault::NotADict { found: value.kind() }) };
    let mut seen = HashSet::new();
    let mut tensors = Vec::with_capacity(heap.dicts[dict].len());
    for (key, value) in &heap.dicts[dict] {
        let Value::Text(name) = *key else { return Err(TorchFault::NotADict { found: "a dictionary of other keys" }) };
        let Value::Tensor(tensor) = *value else {
            return Err(TorchFault::NotATensor { key: name.into(), found: value.kind() });
        };
        if !seen.insert(name) {
            return Err(TorchFault::Twice { tensor: name.into() });
        }
        let view = &heap.tensors[tensor];
        let key = format!("data/{}", view.storage.key);
        let storage = entry(&key)?.ok_or_else(|| TorchFault::NoStorage { tensor: name.into(), entry: key })?;
        tensors.push(place(name, view, &storage.range)?);
    }
    Ok(tensors)
}

/// Checks that the numbers of `view` are in the file, whose bytes `bytes` are its storage.
fn place(name: &str, view: &View, bytes: &Range<usize>) -> Result<TorchTensor, TorchFault> {
    let tensor = || name.to_string();
    let View { dtype, offset, ref shape, ref strides, .. } = *view;
    // Every dtype that a checkpoint can name has whole bytes.
    let size = dtype.bits() / 8;
    let in_storage = view.storage.dtype.map_or(1, |dtype| dtype.bits() / 8);
    let found = bytes.len() as u64;
    let expected = view.storage.len.saturating_mul(in_storage);
    if expected > found {
        let entry = format!("data/{}", view.storage.key);
        return Err(TorchFault::ShortStorage { tensor: tensor(), entry, expected, found });
    }
    let numbers = expected / size;
    let outside = || {
        let (shape, strides) = (shape.clone(), strides.clone());
        TorchFault::OutsideStorage { tensor: tensor(), shape, strides, offset, numbers }
    };
    // A tensor that uses a number again and again could be larger than the file; none that is a weight does.
    let len = shape.iter().try_fold(1, |n: u64, &extent| n.checked_mul(extent)).filter(|&len| len <= numbers);
    let len = len.filter(|_| shape.len() == strides.len()).ok_or_else(outside)?;
    let shape_fits: Option<Vec<usize>> = shape.iter().map(|&extent| usize::try_from(extent).ok()).collect();
    let shape_fits = shape_fits.ok_or_else(outside)?;
    let lying = |start: u64, len: u64| {
        let start = bytes.start + (start * size) as usize;
        Numbers::Contiguous(start..start + (len * size) as usize)
    };
    let numbers = if len == 0 {
        lying(0, 0)
    } else {
        let last = shape
            .iter()
            .zip(strides)
            .try_fold(offset, |at, (&extent, &stride)| at.checked_add((extent - 1).checked_mul(stride)?));
        last.filter(|&last| last < numbers).ok_or_else(outside)?;
        if is_contiguous(shape, strides) {
            lying(offset, len)
        } else {
            // Strides of extents above one are below `numbers`, and the others are of no consequence.
            let stride = |(&extent, &stride): (&u64, &u64)| if extent > 1 { (stride * size) as usize } else { 0 };
            let strides = shape.iter().zip(strides).map(stride).collect();
            Numbers::Strided(Strided { start: bytes.start + (offset * size) as usize, strides, size: size as usize })
        }
    };
    Ok(TorchTensor { name: tensor(), dtype, shape: shape_fits, numbers })
}

/// Whether the numbers lie row after row.
fn is_contiguous(shape: &[u64], strides: &[u64]) -> bool {
    let mut expected = 1;
    for (&extent, &stride) in shape.iter().zip(strides).rev() {
        if extent != 1 && stride != expected {
            return false;
        }
        expected *= extent;
    }
    true
}
