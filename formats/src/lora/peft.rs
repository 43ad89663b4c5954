//! Adapters that PEFT's save_pretrained writes: adapter_config.json and adapter_model.safetensors.
//!
//! A pair is called `base_model.model.NAME.lora_A.weight` and `….lora_B.weight`, where NAME is the module's in
//! transformers. Rows of `B` are those of Hugging Face's matrix, so they change their order where those do.

use std::collections::BTreeMap;
use std::path::Path;

use half::{bf16, f16};
use serde_json::{Map, Value as Json};

use super::adapter::{Adapter, Change, Half, change, family};
use super::error::{AdapterError, AdapterFault};
use crate::families::names::Role;
use crate::families::{Family, RowOrder, keys};
use crate::hf::{hf_row, json};
use crate::safetensors::{Dtype, SafetensorsFile};
use crate::source::Source;

const CONFIG: &str = "adapter_config.json";
const WEIGHTS: &str = "adapter_model.safetensors";

/// Reads the adapter in the directory `dir`.
pub(super) fn read(dir: &Path, model: &dyn Source) -> Result<Adapter, AdapterError> {
    let (config, weights) = (dir.join(CONFIG), dir.join(WEIGHTS));
    let missing = |file| AdapterError::Invalid { path: dir.to_owned(), fault: AdapterFault::NoFile { file }.into() };
    let json: Map<String, Json> = json::read_json(&config, json::MAX_SMALL_BYTES)?.ok_or_else(|| missing(CONFIG))?;
    let rule = Rule::read(json).map_err(|fault| AdapterError::Invalid { path: config.clone(), fault: fault.into() })?;
    if !weights.exists() {
        return Err(missing(WEIGHTS));
    }
    let file = SafetensorsFile::open(&weights)?;
    let changes = changes(&file, &rule, model)
        .map_err(|fault| AdapterError::Invalid { path: weights.clone(), fault: fault.into() })?;
    Ok(Adapter { files: vec![dir.to_owned(), config, weights], changes })
}

/// What the configuration says of scales.
struct Rule {
    alpha: f64,
    /// Other alphas for modules whose names are these, or end with them.
    alphas: Vec<(String, f64)>,
    /// Divided by the root of the rank and not by the rank (rsLoRA).
    root: bool,
}

impl Rule {
    fn read(config: Map<String, Json>) -> Result<Rule, AdapterFault> {
        let found = |key: &str| config.get(key).map_or("nothing".into(), Json::to_string);
        let wrong = |key, expected| AdapterFault::Key { key, expected, found: found(key) };
        if found("peft_type") != "\"LORA\"" {
            return Err(wrong("peft_type", "\"LORA\""));
        }
        for (key, what) in MORE {
            let value = config.get(*key).unwrap_or(&Json::Null);
            let is_off = match value {
                Json::Null => true,
                Json::Bool(is_on) => !is_on,
                Json::String(text) => text == "none",
                Json::Array(list) => list.is_empty(),
                Json::Object(map) => map.is_empty(),
                Json::Number(_) => false,
            };
            if !is_off {
                return Err(AdapterFault::Unsupported { key, found: found(key), what });
            }
        }
        // These change the model, too, and an adapter that was not converted afterwards fits only the changed one.
        let start = config.get("init_lora_weights").and_then(Json::as_str).unwrap_or_default();
        if ["pissa", "olora", "corda", "loftq"].iter().any(|kind| start.starts_with(kind)) {
            let key = "init_lora_weights";
            return Err(AdapterFault::Unsupported { key, found: found(key), what: "it starts from a changed model" });
        }
        let number = |value: &Json| value.as_f64().filter(|alpha| alpha.is_finite());
        let alpha = config.get("lora_alpha").and_then(number).ok_or_else(|| wrong("lora_alpha", "a number"))?;
        let mut alphas = Vec::new();
        for (pattern, value) in config.get("alpha_pattern").and_then(Json::as_object).into_iter().flatten() {
            let is_name = pattern.chars().all(|c| c.is_ascii_alphanumeric() || "._".contains(c));
            match number(value).filter(|_| is_name) {
                Some(alpha) => alphas.push((pattern.clone(), alpha)),
                None => return Err(wrong("alpha_pattern", "names of modules with numbers")),
            }
        }
        let root = config.get("use_rslora").and_then(Json::as_bool).unwrap_or(false);
        Ok(Rule { alpha, alphas, root })
    }

    /// The scale of the pair for `module`.
    fn scale(&self, module: &str, rank: usize) -> f32 {
        let is_meant =
            |pattern: &str| module.strip_suffix(pattern).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
        let alpha = self.alphas.iter().find(|(pattern, _)| is_meant(pattern)).map_or(self.alpha, |&(_, alpha)| alpha);
        let rank = rank as f64;
        (alpha / if self.root { rank.sqrt() } else { rank }) as f32
    }
}

/// Keys that mean more than LoRA when they are on, and what they mean.
const MORE: &[(&str, &str)] = &[
    ("use_dora", "DoRA scales the rows of the sum"),
    ("bias", "it changes biases"),
    ("lora_bias", "it has biases"),
    ("modules_to_save", "it brings whole modules"),
    ("fan_in_fan_out", "its model has transposed matrices"),
    ("layer_replication", "it repeats layers"),
    ("trainable_token_indices", "it changes embeddings of tokens"),
    ("target_parameters", "it changes parameters that are no modules"),
    ("alora_invocation_tokens", "it holds from some token on"),
    ("use_qalora", "QA-LoRA pools inputs"),
    ("use_bdlora", "its matrices are in blocks"),
    ("kasa_config", "KaSA changes the model"),
    ("arrow_config", "Arrow chooses among adapters by the input"),
    ("monteclora_config", "MonteCLoRA draws its weights"),
];

fn changes(file: &SafetensorsFile, rule: &Rule, model: &dyn Source) -> Result<BTreeMap<usize, Change>, AdapterFault> {
    const HALVES: [&str; 2] = [".lora_A.weight", ".lora_B.weight"];
    let family = family(model)?;
    let mut changes = BTreeMap::new();
    for (index, tensor) in file.tensors().iter().enumerate() {
        let unknown = || AdapterFault::UnknownTensor { tensor: tensor.name.clone() };
        let which = HALVES.iter().position(|end| tensor.name.ends_with(end)).ok_or_else(unknown)?;
        let stem = &tensor.name[..tensor.name.len() - HALVES[which].len()];
        let other = format!("{stem}{}", HALVES[1 - which]);
        let unpaired = || AdapterFault::Unpaired { tensor: tensor.name.clone(), other: other.clone() };
        let b = file.find(&other).ok_or_else(unpaired)?;
        if which == 1 {
            continue;
        }
        let module = stem.strip_prefix("base_model.model.").ok_or_else(unknown)?;
        let (matrix, order) = matrix(family, module).ok_or_else(unknown)?;
        let mut b = half(file, b)?;
        if order == RowOrder::HalvesToNeighbours {
            b.values = in_order(&b, head_length(model, family).ok_or_else(unknown)?);
        }
        let (number, change) = change(model, &matrix, half(file, index)?, b, |rank| rule.scale(module, rank))?;
        changes.insert(number, change);
    }
    if changes.is_empty() { Err(AdapterFault::Empty) } else { Ok(changes) }
}

/// GGUF's name of the weight of a module, and the order of its rows.
fn matrix(family: &Family, module: &str) -> Option<(String, RowOrder)> {
    let (layer, name) = match module.strip_prefix(family.spelling.layers) {
        Some(rest) => {
            let (number, name) = rest.split_once('.')?;
            (Some(number.parse::<usize>().ok()?), name)
        }
        None => (None, module),
    };
    let is_meant =
        |tensor: &&crate::families::Tensor| tensor.hf == name && tensor.role.is_in_layer() == layer.is_some();
    let tensor = family.tensors.iter().find(is_meant)?;
    // The embedding has other names and is no product.
    tensor.role.input(0).filter(|_| tensor.role != Role::TokenEmbedding)?;
    let weight = layer.map_or_else(|| tensor.role.weight(), |layer| tensor.role.weight_of(layer));
    Some((weight.to_string(), tensor.rows))
}

/// Rows of a head of queries or keys.
fn head_length(model: &dyn Source, family: &Family) -> Option<usize> {
    let number = |key: &str| model.metadata().usize_opt(&family.key(key)).ok().flatten();
    let length = number(keys::KEY_LENGTH).or_else(|| number(keys::HIDDEN)?.checked_div(number(keys::HEADS)?))?;
    (length > 0 && length.is_multiple_of(2)).then_some(length)
}

/// The values of `b` with its rows in GGUF's order; as they are where there are no whole heads, which its shape shows.
fn in_order(b: &Half, head: usize) -> Vec<f32> {
    match b.shape[..] {
        [rows, cols] if rows % head == 0 => (0..rows)
            .map(|row| hf_row(row, head))
            .flat_map(|row| &b.values[row * cols..(row + 1) * cols])
            .copied()
            .collect(),
        _ => b.values.clone(),
    }
}

fn half(file: &SafetensorsFile, index: usize) -> Result<Half, AdapterFault> {
    let (tensor, data) = (&file.tensors()[index], file.data(index));
    let halves = || data.as_chunks().0.iter().map(|&bytes| u16::from_le_bytes(bytes));
    let values = match tensor.dtype {
        Dtype::F32 => data.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect(),
        Dtype::F16 => halves().map(|bits| f16::from_bits(bits).to_f32()).collect(),
        Dtype::BF16 => halves().map(|bits| bf16::from_bits(bits).to_f32()).collect(),
        other => return Err(AdapterFault::Type { tensor: tensor.name.clone(), found: other.to_string() }),
    };
    Ok(Half { tensor: tensor.name.clone(), shape: tensor.shape.clone(), values })
}
