//! What the output will hold: decided for all tensors before the first byte is written.

use quipu_quant::TensorType;

use super::order::forward_order;
use super::{ConvertError, ConvertOptions, TypeRule, Warning};
use crate::gguf::{
    ALIGNMENT_KEY, LAYOUT_KEY, LAYOUT_NAME, LAYOUT_VERSION, LAYOUT_VERSION_KEY, Metadata, PACKED_ALIGNMENT, Value,
};
use crate::source::{Layout, Source, TensorInfo};

const FILE_TYPE_KEY: &str = "general.file_type";
const QUANTIZATION_VERSION_KEY: &str = "general.quantization_version";

/// The output's header, and where each of its tensors comes from.
#[derive(Debug)]
pub(super) struct Plan {
    pub metadata: Metadata,
    /// The tensors of the output, in its order.
    pub tensors: Vec<TensorInfo>,
    /// For each of them the number of the source's.
    pub origins: Vec<usize>,
    pub warnings: Vec<Warning>,
}

impl Plan {
    pub fn new(source: &dyn Source, options: &ConvertOptions) -> Result<Plan, ConvertError> {
        use TensorType::{Q4_K, Q5_K, Q6_K};
        if let TypeRule::To(ty @ (Q4_K | Q5_K | Q6_K)) = options.types {
            return Err(ConvertError::CannotQuantise { ty });
        }
        let infos = source.tensors();
        let mut origins: Vec<usize> = (0..infos.len()).collect();
        if options.packed {
            origins.sort_by_cached_key(|&i| forward_order(&infos[i].name));
        }
        let head = ["output.weight", "token_embd.weight"].into_iter().find(|name| source.find(name).is_some());

        let mut warnings = Vec::new();
        let mut tensors = Vec::with_capacity(infos.len());
        for &origin in &origins {
            let from = &infos[origin];
            let wanted = wanted_type(from, options.types, head == Some(&from.name));
            let ty = if from.cols().is_multiple_of(wanted.block_len()) {
                wanted
            } else {
                warn_not_whole_blocks(&mut warnings, wanted, &from.name);
                NOT_WHOLE_BLOCKS
            };
            if ty != from.ty && !from.ty.is_float() && !ty.is_float() {
                warn_requantised(&mut warnings, from.ty, ty);
            }
            let packed = options.packed && is_weight(from) && from.shape.len() == 2;
            let layout = if packed { Layout::Packed } else { Layout::Plain };
            tensors.push(TensorInfo { name: from.name.clone(), ty, layout, shape: from.shape.clone() });
        }
        let metadata = metadata(source.metadata(), options, &tensors);
        Ok(Plan { metadata, tensors, origins, warnings })
    }
}

/// What a matrix becomes when its rows are no multiple of the block.
const NOT_WHOLE_BLOCKS: TensorType = TensorType::F16;

fn is_weight(info: &TensorInfo) -> bool {
    info.shape.len() >= 2 && info.name.ends_with(".weight")
}

/// The table of the [module](super).
fn wanted_type(info: &TensorInfo, rule: TypeRule, is_head: bool) -> TensorType {
    use TensorType::{F32, Q4_0, Q4_1, Q5_0, Q5_1, Q6_K, Q8_0};
    if info.shape.len() == 1 {
        return F32;
    }
    match rule {
        TypeRule::To(Q4_0 | Q4_1 | Q5_0 | Q5_1) if is_head => {
            if info.ty == Q6_K {
                Q6_K
            } else {
                Q8_0
            }
        }
        TypeRule::To(ty) if is_weight(info) => ty,
        _ => info.ty,
    }
}

fn warn_not_whole_blocks(warnings: &mut Vec<Warning>, wanted: TensorType, name: &str) {
    for warning in warnings.iter_mut() {
        if let Warning::NotWholeBlocks { wanted: w, tensors, .. } = warning
            && *w == wanted
        {
            return tensors.push(name.into());
        }
    }
    warnings.push(Warning::NotWholeBlocks { wanted, used: NOT_WHOLE_BLOCKS, tensors: vec![name.into()] });
}

fn warn_requantised(warnings: &mut Vec<Warning>, from_type: TensorType, to_type: TensorType) {
    for warning in warnings.iter_mut() {
        if let Warning::Requantised { from, to, tensors } = warning
            && (*from, *to) == (from_type, to_type)
        {
            return *tensors += 1;
        }
    }
    warnings.push(Warning::Requantised { from: from_type, to: to_type, tensors: 1 });
}

/// The source's keys, with those that speak of types and layout set right.
fn metadata(source: &Metadata, options: &ConvertOptions, tensors: &[TensorInfo]) -> Metadata {
    let mut metadata = source.clone();
    for key in [ALIGNMENT_KEY, LAYOUT_KEY, LAYOUT_VERSION_KEY, QUANTIZATION_VERSION_KEY] {
        metadata.remove(key);
    }
    let file_type = match options.types {
        TypeRule::To(ty) => file_type(ty),
        TypeRule::Keep if metadata.get(FILE_TYPE_KEY).is_none() => most_common_type(tensors).and_then(file_type),
        TypeRule::Keep => None,
    };
    if let Some(number) = file_type {
        metadata.set(FILE_TYPE_KEY, Value::U32(number));
    }
    if tensors.iter().any(|t| !t.ty.is_float()) {
        // ggml's GGML_QNT_VERSION: the meaning of quantised blocks, unchanged since May 2023.
        metadata.set(QUANTIZATION_VERSION_KEY, Value::U32(2));
    }
    if options.packed {
        metadata.set(ALIGNMENT_KEY, Value::U32(PACKED_ALIGNMENT as u32));
        metadata.set(LAYOUT_KEY, Value::String(LAYOUT_NAME.into()));
        metadata.set(LAYOUT_VERSION_KEY, Value::U32(LAYOUT_VERSION));
    }
    metadata
}

/// The type with the most bytes in it.
fn most_common_type(tensors: &[TensorInfo]) -> Option<TensorType> {
    let bytes_of = |ty| tensors.iter().filter(|t| t.ty == ty).filter_map(TensorInfo::byte_len).map(|b| b as u128).sum();
    TensorType::ALL.into_iter().max_by_key(|&ty| -> u128 { bytes_of(ty) }).filter(|_| !tensors.is_empty())
}

/// llama.cpp's number for a file that is mostly of this type (`enum llama_ftype` in `llama.h`). The K-quants have no one number each.
fn file_type(ty: TensorType) -> Option<u32> {
    use TensorType::*;
    Some(match ty {
        F32 => 0,
        F16 => 1,
        Q4_0 => 2,
        Q4_1 => 3,
        Q8_0 => 7,
        Q5_0 => 8,
        Q5_1 => 9,
        BF16 => 32,
        Q4_K | Q5_K | Q6_K => return None,
    })
}
