//! `quantization_config` of config.json: in which way the weights of a checkpoint are quantised.

use serde_json::{Map, Value};

use crate::hf::json::{KeyError, Object, describe};

/// What Meta's params.json calls its four bits.
pub(in crate::hf) const META: &str = "int4_weight_int8_dynamic_activation";

/// What a `quantization_config` says that the tensors do not show.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in crate::hf) struct Quantisation {
    /// Rows and columns of a block of weights with one scale.
    pub blocks: Vec<(usize, usize)>,
    /// The bits of packed codes.
    pub bits: Vec<usize>,
    /// The inputs of the feed-forward layer's way down are turned (SpinQuant).
    pub turned: bool,
    /// The scale of low-rank matrices beside those in codes (QLoRA).
    pub low_rank: Option<f32>,
}

/// Why a `quantization_config` is refused.
#[derive(Debug)]
pub(in crate::hf) enum MethodFault {
    /// A key is of the wrong type.
    Key(KeyError),
    /// A way of quantising that Quipu does not read.
    Unknown { method: String },
}

impl From<KeyError> for MethodFault {
    fn from(error: KeyError) -> MethodFault {
        MethodFault::Key(error)
    }
}

impl Quantisation {
    /// Reads `quantization_config`; `None` when there is none. What is quantised in a way that Quipu does not read is
    /// refused.
    pub fn read(config: &Object) -> Result<Option<Quantisation>, MethodFault> {
        let Some(map) = config.object("quantization_config")? else { return Ok(None) };
        let object = Object::new(map, "quantization_config.");
        let method = object.string("quant_method")?;
        match method {
            Some("fp8") => fp8(&object).map(Some),
            Some("fbgemm_fp8") => Ok(Some(Quantisation::default())),
            Some("compressed-tensors") => compressed_tensors(map, &object).map(Some),
            Some(META) => Ok(Some(Quantisation {
                turned: object.bool("spinquant")?.unwrap_or(false),
                low_rank: object.positive("lora_scale")?.map(|scale| scale as f32),
                ..Quantisation::default()
            })),
            Some(other) => Err(MethodFault::Unknown { method: format!("{other:?}") }),
            None => Err(MethodFault::Unknown { method: "unnamed method".into() }),
        }
    }
}

fn fp8(object: &Object) -> Result<Quantisation, MethodFault> {
    let block = object.value("weight_block_size").map(|value| read_block(value, "weight_block_size")).transpose()?;
    Ok(Quantisation { blocks: block.into_iter().collect(), ..Quantisation::default() })
}

/// Two sizes.
fn read_block(value: &Value, key: &str) -> Result<(usize, usize), MethodFault> {
    let size = |v: &Value| v.as_u64().and_then(|v| usize::try_from(v).ok()).filter(|&v| v > 0);
    match value.as_array().map(Vec::as_slice) {
        Some([rows, cols]) => size(rows).zip(size(cols)),
        _ => None,
    }
    .ok_or_else(|| MethodFault::Unknown { method: format!("with `{key}` {}", describe(value)) })
}

/// The library's `QuantizationConfig`: a format for all, groups of layers with `weights` and perhaps a format of their
/// own.
fn compressed_tensors(map: &Map<String, Value>, object: &Object) -> Result<Quantisation, MethodFault> {
    const FORMATS: [&str; 6] =
        ["dense", "float-quantized", "int-quantized", "naive-quantized", "pack-quantized", "mixed-precision"];
    let check = |format: &Value| match format.as_str() {
        Some(name) if FORMATS.contains(&name) => Ok(()),
        _ => Err(MethodFault::Unknown { method: format!("\"compressed-tensors\" of format {}", describe(format)) }),
    };
    object.value("format").map(check).transpose()?;
    if let Some(sparsity) = map.get("sparsity_config").and_then(|s| s.get("format"))
        && sparsity != "dense"
    {
        return Err(MethodFault::Unknown {
            method: format!("\"compressed-tensors\" of sparsity {}", describe(sparsity)),
        });
    }
    let mut found = Quantisation::default();
    for group in object.object("config_groups")?.into_iter().flat_map(Map::values) {
        group.get("format").filter(|format| !format.is_null()).map(check).transpose()?;
        let Some(weights) = group.get("weights").filter(|weights| !weights.is_null()) else { continue };
        if let Some(bits) = weights.get("num_bits").and_then(Value::as_u64) {
            found.bits.push(usize::try_from(bits).unwrap_or(usize::MAX));
        }
        if let Some(block) = weights.get("block_structure").filter(|block| !block.is_null()) {
            // Older checkpoints have a string, "128x128".
            let as_list =
                block.as_str().map(|text| text.split('x').map(|n| n.parse().unwrap_or(0)).collect::<Vec<u64>>());
            let block = as_list.map_or_else(|| block.clone(), Value::from);
            found.blocks.push(read_block(&block, "block_structure")?);
        }
    }
    Ok(found)
}
