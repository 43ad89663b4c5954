//! What the output will hold: decided for all tensors before the first byte is written.

use std::sync::Arc;

use quipu_quant::blocks::has_plain_rule;
use quipu_quant::{InterleavedType, TensorType};

use super::llama_cpp::{block_differences, rope_differences, tokenizer_difference};
use super::mix::{self, Model};
use super::options::{ConvertOptions, Rounding, TypeRule};
use super::order::forward_order;
use super::outcome::{ConvertError, Warning};
use crate::families::names::{Role, TensorName, split_layer};
use crate::families::{Family, keys};
use crate::gguf::packed::is_packable;
use crate::gguf::{
    ALIGNMENT_KEY, LAYOUT_KEY, LAYOUT_NAME, LAYOUT_VERSION, LAYOUT_VERSION_KEY, Metadata, PACKED_ALIGNMENT, Value,
    split,
};
use crate::imatrix::Imatrix;
use crate::source::{Encoding, Source, TensorInfo};

const FILE_TYPE_KEY: &str = "general.file_type";
const QUANTIZATION_VERSION_KEY: &str = "general.quantization_version";

/// The output's header, and where each of its tensors comes from.
#[derive(Debug)]
pub(super) struct Plan {
    pub metadata: Metadata,
    /// The tensors of the output, in its order.
    pub tensors: Vec<TensorInfo>,
    /// For each of them the number of the source's tensor that it is made of.
    pub origins: Vec<usize>,
    /// The importance matrix, of this model.
    pub imatrix: Option<Arc<Imatrix>>,
    pub warnings: Vec<Warning>,
}

impl Plan {
    pub fn new(source: &dyn Source, options: &ConvertOptions) -> Result<Plan, ConvertError> {
        let infos = source.tensors();
        let mut origins: Vec<usize> = (0..infos.len()).collect();
        if options.packed {
            origins.sort_by_cached_key(|&i| forward_order(&infos[i].name));
        }
        let embedding = Role::TokenEmbedding.weight().to_string();
        let head = source.output_matrix().to_string();

        let model = model(source, options);

        let mut warnings = Vec::new();
        let mut uncalibrated = 0;
        let mut tensors = Vec::with_capacity(infos.len());
        for &origin in &origins {
            let from = &infos[origin];
            let is_head = from.name == head;
            let wanted = wanted_type(from, options, model, is_head);
            let packed = options.packed && is_packed(from);
            let is_kept = wanted.is_none() && !packed && matches!(from.encoding, Encoding::Stored(_));
            let wanted = wanted.unwrap_or(from.ty());
            let ty = mix::fallback(wanted, from.cols());
            if ty != wanted {
                warn_not_whole_blocks(&mut warnings, wanted, ty, &from.name);
            }
            if ty != from.ty() && !ty.is_float() {
                // Embeddings that are not the output matrix too are looked up, not multiplied: there is nothing to know
                // of their inputs.
                let is_multiplied = is_head || from.name != embedding;
                uncalibrated += usize::from(!is_calibrated(options, from)? && is_multiplied);
                if options.rounding == Rounding::Plain && !has_plain_rule(ty) {
                    return Err(ConvertError::NoPlainRule { tensor: from.name.clone(), ty });
                }
            }
            let encoding = match from.encoding {
                kept if is_kept => kept,
                _ if packed => Encoding::Packed(ty),
                _ => Encoding::Plain(ty),
            };
            let recoded = matches!(from.encoding, Encoding::Stored(_)) && encoding != from.encoding;
            if (ty != from.ty() || recoded) && !from.ty().is_float() && !ty.is_float() {
                warn_requantised(&mut warnings, from.encoding.name(), ty);
            }
            tensors.push(TensorInfo { encoding, ..from.clone() });
        }
        if uncalibrated > 0 {
            warnings.push(Warning::NotCalibrated { tensors: uncalibrated });
        }
        let metadata = metadata(source.metadata(), options, &tensors);
        if let Some(part_bytes) = options.part_bytes {
            let large = tensors.iter().filter(|t| t.byte_len().is_some_and(|bytes| bytes as u64 > part_bytes));
            let tensors: Vec<_> = large.map(|t| t.name.clone()).collect();
            warnings.extend((!tensors.is_empty()).then_some(Warning::LargeTensors { part_bytes, tensors }));
        }
        if !options.packed {
            warnings.extend(rope_differences(&metadata, &tensors));
            warnings.extend(block_differences(&metadata));
            warnings.extend(tokenizer_difference(&metadata));
        }
        Ok(Plan { metadata, tensors, origins, imatrix: options.imatrix.clone(), warnings })
    }
}

/// Whether the importance matrix, if there is one, knows this tensor.
pub(super) fn is_calibrated(options: &ConvertOptions, info: &TensorInfo) -> Result<bool, ConvertError> {
    let Some(imatrix) = &options.imatrix else { return Ok(true) };
    let Some(entry) = imatrix.find_row(info, 0) else { return Ok(false) };
    if entry.squares.len() != info.cols() {
        let (path, tensor) = (imatrix.path.clone(), info.name.clone());
        return Err(ConvertError::OtherModel { path, tensor, expected: info.cols(), found: entry.squares.len() });
    }
    Ok(true)
}

/// What the mixes ask about the model.
fn model(source: &dyn Source, options: &ConvertOptions) -> Model {
    let weights = source.tensors().iter().filter(|t| is_weight_name(&t.name));
    let layers = weights.filter_map(|t| Some(split_layer(&t.name)?.0.saturating_add(1)));
    let rows = |role: Role| source.find(&role.weight_of(0).to_string()).map_or(1, |i| source.tensors()[i].rows());
    // Where the three are one matrix, only the header says how many of its rows are whose.
    let metadata = source.metadata();
    let family = Family::of_metadata(metadata);
    let fused = family.filter(|family| family.tensor(Role::QueryKeyValue).is_some());
    let heads = |key| fused.and_then(|family| metadata.usize_opt(&family.key(key)).ok().flatten());
    let queries_per_key = match (heads(keys::HEADS), heads(keys::KV_HEADS)) {
        (Some(heads), Some(kv_heads)) => heads / kv_heads.max(1),
        _ => rows(Role::Query) / rows(Role::Value).max(1),
    };
    let experts = family.and_then(|family| metadata.usize_opt(&family.key(keys::EXPERTS)).ok().flatten()).unwrap_or(0);
    Model { layers: layers.max().unwrap_or(0), queries_per_key, experts, imatrix: options.imatrix_types }
}

/// Whether a packed file has this tensor packed: matrices, and those of experts whose rows fill groups.
fn is_packed(info: &TensorInfo) -> bool {
    let is_bank = || TensorName::parse(&info.name).is_some_and(|name| name.role.is_bank());
    is_weight(info) && is_packable(&info.shape) && (info.shape.len() == 2 || is_bank())
}

/// Whether this is the matrix of experts' scores. It is small, and a score that moves takes another expert: so it stays
/// as it is, as in llama.cpp.
pub(super) fn is_router(info: &TensorInfo) -> bool {
    TensorName::parse(&info.name).is_some_and(|name| name.role == Role::Router)
}

/// Whether this is an embedding of positions, which is small and stays as it is, as in llama.cpp.
pub(super) fn is_positions(info: &TensorInfo) -> bool {
    info.name == Role::Positions.weight().to_string()
}

pub(super) fn is_weight(info: &TensorInfo) -> bool {
    info.shape.len() >= 2 && is_weight_name(&info.name)
}

fn is_weight_name(name: &str) -> bool {
    name.ends_with(".weight")
}

/// The tables of the [module](super) and of [`mix`]; `None`: as it is.
fn wanted_type(info: &TensorInfo, options: &ConvertOptions, model: Model, is_head: bool) -> Option<TensorType> {
    if info.shape.len() == 1 {
        return Some(TensorType::F32);
    }
    if !is_weight(info) || is_positions(info) {
        return None;
    }
    if let Some(rule) = options.tensors.iter().find(|rule| rule.matches(&info.name)) {
        return Some(rule.ty);
    }
    if is_router(info) {
        return None;
    }
    Some(match options.types {
        TypeRule::Keep => return None,
        TypeRule::To(ty) if is_head => mix::head(ty),
        TypeRule::Mix(mix) if is_head => mix::head(mix.base()),
        TypeRule::To(ty) => model.uniform(ty, &info.name),
        TypeRule::Mix(mix) => model.mixed(mix, &info.name),
    })
}

fn warn_not_whole_blocks(warnings: &mut Vec<Warning>, wanted: TensorType, used: TensorType, name: &str) {
    for warning in warnings.iter_mut() {
        if let Warning::NotWholeBlocks { wanted: w, used: u, tensors } = warning
            && (*w, *u) == (wanted, used)
        {
            return tensors.push(name.into());
        }
    }
    warnings.push(Warning::NotWholeBlocks { wanted, used, tensors: vec![name.into()] });
}

fn warn_requantised(warnings: &mut Vec<Warning>, from_type: &'static str, to_type: TensorType) {
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
    let given = metadata.u32_opt(FILE_TYPE_KEY);
    for key in [ALIGNMENT_KEY, LAYOUT_KEY, LAYOUT_VERSION_KEY, QUANTIZATION_VERSION_KEY] {
        metadata.remove(key);
    }
    split::remove_keys(&mut metadata);
    let file_type = match options.types {
        TypeRule::To(ty) => ty.file_type(),
        TypeRule::Mix(mix) => Some(mix.file_type()),
        TypeRule::Keep => match given {
            Ok(None) => most_common_type(tensors).and_then(TensorType::file_type),
            // Interleaved rows are plain now.
            Ok(Some(number)) => {
                InterleavedType::from_file_type(number).map_or(Some(number), |ty| ty.plain().file_type())
            }
            Err(_) => None,
        },
    };
    match file_type {
        Some(number) => metadata.set(FILE_TYPE_KEY, Value::U32(number)),
        // What the source says of its own types is not true of others.
        None => drop(metadata.remove(FILE_TYPE_KEY)),
    }
    if tensors.iter().any(|t| !t.ty().is_float()) {
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
    let bytes_of =
        |ty| tensors.iter().filter(|t| t.ty() == ty).filter_map(TensorInfo::byte_len).map(|b| b as u128).sum();
    TensorType::ALL.into_iter().max_by_key(|&ty| -> u128 { bytes_of(ty) }).filter(|_| !tensors.is_empty())
}
