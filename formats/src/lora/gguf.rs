//! Adapters that llama.cpp's convert_lora_to_gguf.py writes: `NAME.lora_a` and `NAME.lora_b` for the tensor `NAME`.

use std::collections::BTreeMap;
use std::path::Path;

use super::adapter::{Adapter, Half, change, family};
use super::error::{AdapterError, AdapterFault};
use crate::families::keys;
use crate::gguf::GgufFile;
use crate::source::Source;

const A: &str = ".lora_a";
const B: &str = ".lora_b";

/// Reads the adapter at `path`.
pub(super) fn read(path: &Path, model: &dyn Source) -> Result<Adapter, AdapterError> {
    let file = GgufFile::open(path)?;
    let changes =
        changes(&file, model).map_err(|fault| AdapterError::Invalid { path: path.to_owned(), fault: fault.into() })?;
    Ok(Adapter { files: file.files(), changes })
}

fn changes(file: &GgufFile, model: &dyn Source) -> Result<BTreeMap<usize, super::adapter::Change>, AdapterFault> {
    let text = |key: &str| file.metadata().str_opt(key).ok().flatten().unwrap_or("nothing").to_string();
    for (key, expected) in [("general.type", "adapter"), ("adapter.type", "lora")] {
        if text(key) != expected {
            let expected = if expected == "lora" { "lora" } else { "adapter (a LoRA, not a model)" };
            return Err(AdapterFault::Key { key, expected, found: text(key) });
        }
    }
    let (adapter, architecture) = (text(keys::ARCHITECTURE), family(model)?.architecture);
    if adapter != architecture {
        return Err(AdapterFault::Architecture { adapter, model: architecture.into() });
    }
    const ALPHA: &str = "adapter.lora.alpha";
    let alpha = file.metadata().f32_opt(ALPHA).ok().flatten().filter(|alpha| alpha.is_finite());
    let alpha = alpha.ok_or_else(|| AdapterFault::Key { key: ALPHA, expected: "a number", found: text(ALPHA) })?;
    // As in llama.cpp, none is no scale at all.
    let scale = |rank: usize| if alpha == 0.0 { 1.0 } else { alpha / rank as f32 };
    let half = |index: usize| {
        let info = &file.tensors()[index];
        Half {
            tensor: info.name.clone(),
            shape: info.shape.iter().rev().copied().collect(),
            values: file.values(index, 0..info.rows()),
        }
    };
    let mut changes = BTreeMap::new();
    for (index, info) in file.tensors().iter().enumerate() {
        let (stem, other) = match (info.name.strip_suffix(A), info.name.strip_suffix(B)) {
            (Some(stem), _) => (stem, format!("{stem}{B}")),
            (_, Some(stem)) => (stem, format!("{stem}{A}")),
            (None, None) => return Err(AdapterFault::UnknownTensor { tensor: info.name.clone() }),
        };
        let unpaired = || AdapterFault::Unpaired { tensor: info.name.clone(), other: other.clone() };
        let other = file.find(&other).ok_or_else(unpaired)?;
        if info.name.ends_with(A) {
            let (number, change) = change(model, stem, half(index), half(other), scale)?;
            changes.insert(number, change);
        }
    }
    if changes.is_empty() { Err(AdapterFault::Empty) } else { Ok(changes) }
}
