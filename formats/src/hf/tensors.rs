//! Tensors: Hugging Face's names and shapes, and how each becomes GGUF's.

use std::borrow::Cow;
use std::collections::HashSet;
use std::ops::Range;

use half::{bf16, f16};
use quipu_quant::TensorType;

use super::config::HfConfig;
use super::error::WeightsFault;
use super::rope::{factor_tensors, hf_row};
use super::shards::Shards;
use super::weight::Weight;
use crate::families::names::{Parameter, Role, TensorName};
use crate::families::{Half, Presence, RopePairs, RowOrder, Tensor};
use crate::oddity::Oddity;
use crate::safetensors::Dtype;
use crate::source::{Encoding, TensorInfo};

/// A tensor that the model has: under both names, with Hugging Face's shape.
struct Wanted {
    gguf: TensorName,
    /// Where each expert has a tensor of its own, with a `*` for its number.
    hf: String,
    /// How many such tensors there are, one after the other in GGUF's.
    experts: Option<usize>,
    /// Of one of them.
    shape: Vec<usize>,
    rows: RowOrder,
    /// See [`Tensor::plus_one`].
    plus_one: bool,
}

impl Wanted {
    /// Hugging Face's names: lazily, since config.json can claim any number of experts.
    fn names(&self) -> impl Iterator<Item = String> {
        (0..self.experts.unwrap_or(1)).map(|expert| match self.experts {
            Some(_) => self.hf.replacen('*', &expert.to_string(), 1),
            None => self.hf.clone(),
        })
    }
}

/// Every tensor of the model but computed ones, in the order in which the family's table has them.
fn wanted(config: &HfConfig) -> impl Iterator<Item = Wanted> {
    let tensors = config.family.tensors;
    let first = tensors.iter().position(|t| t.role.is_in_layer()).unwrap_or(tensors.len());
    let end = tensors.iter().rposition(|t| t.role.is_in_layer()).map_or(first, |last| last + 1);
    let part = move |tensors: &'static [Tensor], layer| tensors.iter().flat_map(move |t| of_tensor(config, t, layer));
    // Lazily, so that a config.json with a billion layers fails at the first one that is missing.
    let layers = (0..config.layers).flat_map(move |n| part(&tensors[first..end], Some(n)));
    part(&tensors[..first], None).chain(layers).chain(part(&tensors[end..], None))
}

/// What the model has of `tensor`: the weight and, if there is one, the bias.
fn of_tensor(config: &HfConfig, tensor: &Tensor, layer: Option<usize>) -> impl Iterator<Item = Wanted> {
    let has_it = match tensor.presence {
        Presence::Always => true,
        Presence::Untied => !config.tied,
        Presence::FinalNorm => config.plan.final_norm,
        Presence::Projected => config.sizes.embedding != config.sizes.hidden,
        Presence::Computed => false,
        by_layer => by_layer.is_in(layer.is_some_and(|layer| config.plan.layer(layer).experts)),
    };
    let stem = match layer {
        Some(layer) => format!("{}{layer}.{}", config.family.spelling.layers, tensor.hf),
        None => tensor.hf.to_owned(),
    };
    // HeadsOverflow was checked: extents are below 2³¹.
    let extents = tensor.shape.gguf(&config.sizes);
    let (mut shape, experts) = match (tensor.rows, &extents[..]) {
        (RowOrder::Columns(half), &[inputs, outputs, experts]) => {
            let width = if half == Half::Both { outputs } else { 2 * outputs };
            (vec![experts, inputs, width], None)
        }
        (_, extents) => (extents.iter().copied().take(2).rev().collect::<Vec<_>>(), extents.get(2).copied()),
    };
    shape[0] += first_row(tensor.rows);
    let (rows, plus_one, bias) = (tensor.rows, tensor.plus_one, vec![tensor.shape.outputs(&config.sizes)]);
    let name = TensorName { layer, ..tensor.role.weight() };
    let hf = match tensor.rows {
        RowOrder::Columns(_) => stem.clone(),
        RowOrder::Same | RowOrder::HalvesToNeighbours | RowOrder::From(_) => format!("{stem}.weight"),
    };
    let weight = Wanted { gguf: name, hf, experts, shape, rows, plus_one };
    let gguf = name.with(Parameter::Bias);
    let bias = Wanted { gguf, hf: format!("{stem}.bias"), experts, shape: bias, rows, plus_one };
    let bias = config.has_bias(tensor.bias).then_some(bias);
    [Some(weight), bias].into_iter().flatten().filter(move |_| has_it)
}

/// The first row of Hugging Face's tensor that a GGUF has.
fn first_row(rows: RowOrder) -> usize {
    match rows {
        RowOrder::From(first) => first,
        RowOrder::Same | RowOrder::HalvesToNeighbours | RowOrder::Columns(_) => 0,
    }
}

/// Where the bytes of a tensor come from, and what is done to them. A weight is named by its number among the shards'.
#[derive(Debug)]
pub(super) enum Origin {
    /// A weight, its rows as the checkpoint has them, from this one on.
    AsItIs { weight: usize, first: usize },
    /// A matrix, the rows of each head in GGUF's order.
    Heads { weight: usize },
    /// A weight as F32, the rows (of a vector: the elements) of each head in GGUF's order if they are those of heads,
    /// from this one on, and 1 added to each number of a norm whose family has them so.
    Floats { weight: usize, first: usize, heads: bool, plus_one: bool },
    /// Matrices of experts, of so many rows each, one after the other.
    Bank { weights: Vec<usize>, rows: usize },
    /// Columns of the matrices of experts: experts × inputs × outputs, the outputs from `first` on, as many as the
    /// tensor has of each expert.
    Columns { weight: usize, first: usize },
    /// Computed from config.json.
    Computed(Vec<u8>),
}

impl Origin {
    /// The weights that it is made of.
    pub fn weights(&self) -> &[usize] {
        match self {
            Origin::AsItIs { weight, .. }
            | Origin::Heads { weight }
            | Origin::Floats { weight, .. }
            | Origin::Columns { weight, .. } => std::slice::from_ref(weight),
            Origin::Bank { weights, .. } => weights,
            Origin::Computed(_) => &[],
        }
    }
}

/// What a directory's tensors become, in order, and what is odd about them.
type Plan = (Vec<(TensorInfo, Origin)>, Vec<Oddity>);

/// Finds every tensor of the model among the shards and checks its shape and type.
pub(super) fn plan(config: &HfConfig, shards: &Shards) -> Result<Plan, WeightsFault> {
    if shards.neighbours && config.family.block.rope != RopePairs::Neighbours {
        return Err(WeightsFault::OrderOfRows { architecture: config.family.architecture });
    }
    let (mut plans, mut oddities) = (Vec::new(), Vec::new());
    let mut used = HashSet::new();
    let mut zeros = Vec::new();
    for tensor in wanted(config) {
        // A LayerNorm that only normalises is one with these weights.
        if config.has_ones(tensor.gguf) {
            plans.push(computed(tensor.gguf, &vec![1.0; tensor.shape[0]]));
            continue;
        }
        let mut weights = Vec::new();
        for name in tensor.names() {
            let Some(&(weight, _)) = shards.index.get(&name) else {
                // transformers leaves biases that are missing as it makes them.
                if tensor.gguf.parameter == Parameter::Bias {
                    plans.push(computed(tensor.gguf, &vec![0.0; tensor.shape[0]]));
                    zeros.push(name);
                    break;
                }
                return Err(missing(config, shards, name));
            };
            check_shape(&shards.weights[weight], &name, &tensor.shape)?;
            weights.push(weight);
        }
        used.extend(weights.iter().copied());
        if !weights.is_empty() {
            plans.push(plan_tensor(&tensor, weights, shards)?);
        }
    }
    // After the embedding. There are as many as config.json's heads are long, which the shapes have confirmed by now.
    let factors = factor_tensors(config);
    let factors = factors.iter().map(|(role, factors)| computed(role.weight(), factors));
    plans.splice(1..1, factors);
    if let Some(first) = zeros.first() {
        oddities.push(Oddity::MissingBiases { first: first.clone(), count: zeros.len() });
    }
    if used.len() < shards.index.len() {
        oddities.extend(unused(config, shards)?);
    }
    Ok((plans, oddities))
}

/// The error for a tensor that is nowhere, or not where the index of the shards has it.
fn missing(config: &HfConfig, shards: &Shards, tensor: String) -> WeightsFault {
    if let Some(shard) = shards.absent.get(&tensor).cloned() {
        return WeightsFault::NotInShard { tensor, shard };
    }
    let hint = missing_hint(config, &tensor, shards);
    WeightsFault::MissingTensor { tensor, hint }
}

fn check_shape(found: &Weight, name: &str, expected: &[usize]) -> Result<(), WeightsFault> {
    if found.shape == expected {
        return Ok(());
    }
    let (tensor, expected, found) = (name.to_owned(), expected.to_vec(), found.shape.clone());
    Err(WeightsFault::Shape { tensor, expected, found })
}

/// What becomes of the weights of `tensor`, whose shapes are checked.
fn plan_tensor(tensor: &Wanted, weights: Vec<usize>, shards: &Shards) -> Result<(TensorInfo, Origin), WeightsFault> {
    let (weight, dtype) = (weights[0], shards.weights[weights[0]].dtype);
    if let Some(other) = weights.iter().position(|&other| shards.weights[other].dtype != dtype) {
        let (tensor, found) = (tensor.names().nth(other).unwrap_or_default(), shards.weights[weights[other]].dtype);
        return Err(WeightsFault::ExpertDtype { tensor, found, expected: dtype });
    }
    let ty = match dtype {
        // There is no such type to compute with; each value is rounded to the nearest f32.
        Dtype::F64 => None,
        dtype => match dtype.tensor_type() {
            Some(ty) => Some(ty),
            None => return Err(WeightsFault::Dtype { tensor: tensor.names().next().unwrap_or_default(), dtype }),
        },
    };
    // llama.cpp keeps vectors and routers in F32, whatever the type of the matrices.
    let as_floats = tensor.shape.len() == 1 || tensor.gguf.role == Role::Router;
    let heads = tensor.rows == RowOrder::HalvesToNeighbours && !shards.neighbours;
    let (plus_one, first) = (tensor.plus_one, first_row(tensor.rows));
    let (ty, origin) = match (as_floats, heads, ty) {
        (_, _, Some(ty)) if tensor.experts.is_some() => (ty, Origin::Bank { weights, rows: tensor.shape[0] }),
        (_, _, None) if tensor.experts.is_some() => {
            return Err(WeightsFault::Dtype { tensor: tensor.names().next().unwrap_or_default(), dtype });
        }
        (true, false, Some(TensorType::F32)) if !plus_one => (TensorType::F32, Origin::AsItIs { weight, first }),
        (true, ..) | (false, _, None) => (TensorType::F32, Origin::Floats { weight, first, heads, plus_one }),
        (false, true, Some(ty)) => (ty, Origin::Heads { weight }),
        (false, false, Some(ty)) => (ty, Origin::AsItIs { weight, first }),
    };
    if let (RowOrder::Columns(half), &[experts, inputs, width]) = (tensor.rows, &tensor.shape[..]) {
        let Some(ty) = dtype.tensor_type() else {
            return Err(WeightsFault::Dtype { tensor: tensor.hf.clone(), dtype });
        };
        let (first, outputs) = match half {
            Half::First => (0, width / 2),
            Half::Second => (width / 2, width / 2),
            Half::Both => (0, width),
        };
        let info = TensorInfo::new(tensor.gguf.to_string(), Encoding::Plain(ty), [inputs, outputs, experts]);
        return Ok((info, Origin::Columns { weight, first }));
    }
    let mut extents = tensor.shape.clone();
    extents[0] -= first;
    let shape: Vec<_> = extents.into_iter().rev().chain(tensor.experts).collect();
    Ok((TensorInfo::new(tensor.gguf.to_string(), Encoding::Plain(ty), shape), origin))
}

fn computed(name: TensorName, values: &[f32]) -> (TensorInfo, Origin) {
    let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    let shape = vec![values.len()];
    let info = TensorInfo::new(name.to_string(), Encoding::Plain(TensorType::F32), shape);
    (info, Origin::Computed(bytes))
}

/// Whether `hf` is Hugging Face's name of the output matrix.
pub(super) fn is_output(config: &HfConfig, hf: &str) -> bool {
    hf.strip_suffix(".weight").is_some_and(|hf| config.family.tensor(Role::Output).is_some_and(|t| t.hf == hf))
}

fn missing_hint(config: &HfConfig, hf: &str, shards: &Shards) -> &'static str {
    let has = |end: &str| shards.index.keys().any(|name| name.ends_with(end));
    if is_output(config, hf) {
        " (`tie_word_embeddings` in config.json is false, so the output matrix cannot be the embedding)"
    } else if has(".qweight") || has("_packed") {
        " (the weights are quantised: convert from the original checkpoint)"
    } else if has(".lora_A.weight") {
        " (this is a LoRA adapter: merge it into its base model first)"
    } else {
        ""
    }
}

/// The tensors that are not used. The first, by name, on which the numbers of the model would depend is refused.
fn unused(config: &HfConfig, shards: &Shards) -> Result<Vec<Oddity>, WeightsFault> {
    let known: HashSet<String> =
        wanted(config).filter(|w| !config.has_ones(w.gguf)).flat_map(|w| w.names().collect::<Vec<_>>()).collect();
    let superfluous = |name: &str| {
        // Recomputed from config.json by every runtime; and a copy of the embedding that training code saved.
        name.ends_with("rotary_emb.inv_freq") || name == "rope.freqs" || (config.tied && is_output(config, name))
    };
    let mut names: Vec<&String> = shards.index.keys().filter(|n| !known.contains(*n) && !superfluous(n)).collect();
    names.sort();
    let (mut layers, mut others) = (Vec::new(), Vec::new());
    for name in names {
        let is_quantised = ["scale", "scale_inv", "absmax", "qweight", "qzeros"].iter().any(|end| name.ends_with(end));
        let beyond = layer_of(config, name).filter(|&layer| layer >= config.layers);
        if is_quantised || (beyond.is_none() && belongs(config, name)) {
            let hint = if let Some(key) = absent_bias(config, name) {
                format!(" (`{key}` says that there is none)")
            } else if is_quantised {
                " (the weights are quantised: convert from the original checkpoint)".into()
            } else {
                String::new()
            };
            return Err(WeightsFault::UnknownTensor { tensor: name.clone(), hint });
        }
        if beyond.is_some() { &mut layers } else { &mut others }.push(name);
    }
    let count = format!("`num_hidden_layers` is {}", config.layers);
    let oddity = |(names, because): (Vec<&String>, String)| {
        Some(Oddity::UnusedTensors { first: names.first()?.to_string(), count: names.len(), because })
    };
    let kinds = [(layers, count), (others, "a model of this type has no such tensors".into())];
    Ok(kinds.into_iter().filter_map(oddity).collect())
}

/// The number of the layer that a tensor belongs to.
fn layer_of(config: &HfConfig, hf: &str) -> Option<usize> {
    hf.strip_prefix(config.family.spelling.layers)?.split('.').next()?.parse().ok()
}

/// Whether a tensor called `hf` stands in a layer, or beside the numbers of a tensor that the model has.
fn belongs(config: &HfConfig, hf: &str) -> bool {
    let beside = |stem: &str| !stem.is_empty() && hf.strip_prefix(stem).is_some_and(|rest| rest.starts_with('.'));
    hf.starts_with(config.family.spelling.layers)
        || config.family.tensors.iter().any(|t| !t.role.is_in_layer() && beside(t.hf))
}

/// The key of config.json that says that there is no bias called `hf`, if one does.
fn absent_bias(config: &HfConfig, hf: &str) -> Option<&'static str> {
    let stem = hf.strip_suffix(".bias")?;
    let key = |tensor: &Tensor| tensor.bias.key().filter(|_| stem.ends_with(tensor.hf));
    config.family.tensors.iter().find_map(key).map(|(key, _)| key)
}

/// The bytes of `rows` of the tensor `info`, which comes from `origin`.
pub(super) fn rows<'a>(
    info: &TensorInfo,
    origin: &'a Origin,
    shards: &'a Shards,
    head_dim: usize,
    rows: Range<usize>,
) -> Cow<'a, [u8]> {
    assert!(rows.start <= rows.end && rows.end <= info.rows(), "rows {rows:?} of {}", info.name);
    let row_bytes = info.cols() * info.ty().block_bytes();
    let range = rows.start * row_bytes..rows.end * row_bytes;
    match *origin {
        Origin::AsItIs { weight, first } => {
            shards.weights[weight].bytes(&shards.files, rows.start + first..rows.end + first)
        }
        Origin::Computed(ref bytes) => Cow::Borrowed(&bytes[range]),
        Origin::Columns { weight, first } => {
            let weight = &shards.weights[weight];
            let (inputs, outputs) = (info.shape[0], info.shape[1]);
            let (width, size) = (weight.shape[2], info.ty().block_bytes());
            let mut bytes = Vec::with_capacity(range.len());
            for row in rows {
                let (expert, column) = (row / outputs, first + row % outputs);
                let matrix = weight.bytes(&shards.files, expert * inputs..(expert + 1) * inputs);
                for input in matrix.chunks_exact(width * size) {
                    bytes.extend_from_slice(&input[column * size..][..size]);
                }
            }
            Cow::Owned(bytes)
        }
        Origin::Bank { ref weights, rows: of_one } => {
            let part = |expert: usize| {
                let first = expert * of_one;
                let within = rows.start.max(first) - first..rows.end.min(first + of_one) - first;
                shards.weights[weights[expert]].bytes(&shards.files, within)
            };
            let (first, end) = (rows.start / of_one, rows.end.div_ceil(of_one));
            if first + 1 == end {
                return part(first);
            }
            Cow::Owned((first..end).flat_map(|expert| part(expert).into_owned()).collect())
        }
        Origin::Heads { weight } => {
            let weight = &shards.weights[weight];
            let mut bytes = Vec::with_capacity(range.len());
            for row in rows.map(|row| hf_row(row, head_dim)) {
                bytes.extend_from_slice(&weight.bytes(&shards.files, row..row + 1));
            }
            Cow::Owned(bytes)
        }
        Origin::Floats { weight, first, heads, plus_one } => {
            let weight = &shards.weights[weight];
            let floats = |rows: Range<usize>| to_f32(weight.dtype, &weight.bytes(&shards.files, rows));
            let mut values = Vec::with_capacity(range.len() / 4);
            if info.shape.len() == 1 {
                let all = floats(0..1);
                values.extend((0..all.len()).map(|i| all[if heads { hf_row(i, head_dim) } else { i }]));
                values.truncate(range.len() / 4);
            } else if heads {
                rows.map(|row| hf_row(row, head_dim)).for_each(|row| values.extend(floats(row..row + 1)));
            } else {
                values = floats(rows.start + first..rows.end + first);
            }
            if plus_one {
                values.iter_mut().for_each(|value| *value += 1.0);
            }
            Cow::Owned(values.iter().flat_map(|v| v.to_le_bytes()).collect())
        }
    }
}

/// The elements of a tensor whose type [`plan`] has accepted.
fn to_f32(dtype: Dtype, data: &[u8]) -> Vec<f32> {
    let halves = || data.chunks_exact(2).map(|b| u16::from_le_bytes([b[0], b[1]]));
    match dtype {
        Dtype::F16 => halves().map(|bits| f16::from_bits(bits).to_f32()).collect(),
        Dtype::BF16 => halves().map(|bits| bf16::from_bits(bits).to_f32()).collect(),
        Dtype::F64 => data.as_chunks().0.iter().map(|&b| f64::from_le_bytes(b) as f32).collect(),
        _ => data.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
    }
}
