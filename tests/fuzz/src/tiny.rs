//! Small valid models of most architectures, in any type.

use quipu_formats::families::keys;
use quipu_formats::families::{Bias, Family, Presence, Scales, Shape, Sizes, Windows};
use quipu_formats::gguf::{Array, GgufWriter, Metadata, Value};
use quipu_formats::source::{Encoding, TensorInfo};
use quipu_quant::TensorType;
use quipu_test_random::Random;

use crate::place::written;

const PIECES: [(&str, i32); 9] =
    [("<unk>", 2), ("<s>", 3), ("</s>", 3), ("▁", 1), ("o", 1), ("n", 1), ("ce", 1), ("<0x0A>", 6), ("▁on", 1)];

const SIZES: Sizes = Sizes {
    hidden: 32,
    feed_forward: 32,
    experts: 2,
    expert_feed_forward: 32,
    heads: 4,
    kv_heads: 2,
    head_dim: 8,
    rope_dim: 8,
    vocabulary: PIECES.len(),
    embedding: 32,
    positions: 128,
};

/// A GGUF, 32 wide, all matrices of which are of type `ty`: of one layer, or of two where layers differ. `experts` says
/// whether it has some, where that makes another family of the same name.
pub(crate) fn gguf(architecture: &str, experts: bool, ty: TensorType) -> Vec<u8> {
    let mut named = Metadata::default();
    named.set(keys::ARCHITECTURE, Value::String(architecture.into()));
    named.set(format!("{architecture}.{}", keys::EXPERTS), Value::U32(experts.into()));
    let family = Family::of_metadata(&named).expect("an architecture that is known");
    let layers = 1 + usize::from(matches!(family.block.windows, Windows::AllBut(_)));
    let tensors = tensors(family, layers, ty);
    let mut random = Random::new(1);
    written(|path| {
        let mut writer = GgufWriter::create(path, None, &metadata(family, layers), &tensors).expect("a temporary file");
        for info in &tensors {
            writer.write_tensor_part(&numbers(info, &mut random)).expect("bytes of the tensor's length");
        }
        writer.finish().expect("room for a temporary file");
    })
}

fn metadata(family: &Family, layers: usize) -> Metadata {
    let mut metadata = Metadata::default();
    metadata.set(keys::ARCHITECTURE, Value::String(family.architecture.into()));
    let mut set = |key: &str, value| metadata.set(family.key(key), value);
    for (key, value) in [
        (keys::LAYERS, layers),
        (keys::CONTEXT, 128),
        (keys::HIDDEN, SIZES.hidden),
        (keys::FEED_FORWARD, SIZES.feed_forward),
        (keys::HEADS, SIZES.heads),
        (keys::KV_HEADS, SIZES.kv_heads),
        (keys::KEY_LENGTH, SIZES.head_dim),
        (keys::VALUE_LENGTH, SIZES.head_dim),
        (keys::ROPE_DIM, SIZES.rope_dim),
    ] {
        set(key, Value::U32(value as u32));
    }
    set(keys::RMS_EPSILON, Value::F32(1e-5));
    set(keys::EPSILON, Value::F32(1e-5));
    if family.experts.is_some() {
        // In every layer; one of them serves a token.
        for (key, value) in [
            (keys::EXPERTS, SIZES.experts),
            (keys::EXPERTS_USED, 1),
            (keys::EXPERT_FEED_FORWARD, SIZES.expert_feed_forward),
            (keys::EXPERT_STEP, 1),
        ] {
            set(key, Value::U32(value as u32));
        }
    }
    set(keys::ROPE_BASE, Value::F32(1e4));
    if family.block.windows != Windows::None {
        // Shorter than the texts.
        set(keys::WINDOW, Value::U32(2));
        set(keys::WINDOW_PATTERN, Value::Array(Array::Bool((0..layers).map(|layer| layer == 0).collect())));
        set(keys::ROPE_BASE_LOCAL, Value::F32(100.0));
    }
    if family.block.scales != Scales::NONE {
        for (key, value) in [
            (keys::ATTENTION_SCALE, 0.4),
            (keys::ATTENTION_CAP, 50.0),
            (keys::LOGIT_CAP, 30.0),
            (keys::EMBEDDING_SCALE, 2.0),
            (keys::RESIDUAL_SCALE, 0.5),
            (keys::LOGIT_SCALE, 3.0),
        ] {
            set(key, Value::F32(value));
        }
    }
    if family.block.without_rope.is_some() {
        metadata.set(keys::ROPED, Value::Array(Array::Bool(vec![false; layers])));
    }
    let (pieces, kinds): (Vec<_>, Vec<_>) = PIECES.into_iter().unzip();
    let scores = (0..pieces.len()).map(|id| -(id as f32)).collect();
    for (key, value) in [
        ("model", Value::String("llama".into())),
        ("tokens", Value::Array(Array::String(pieces.into_iter().collect()))),
        ("token_type", Value::Array(Array::I32(kinds))),
        ("scores", Value::Array(Array::F32(scores))),
        ("bos_token_id", Value::U32(1)),
    ] {
        metadata.set(format!("tokenizer.ggml.{key}"), value);
    }
    metadata
}

/// All that the family has, but for what some models of it lack.
fn tensors(family: &Family, layers: usize, ty: TensorType) -> Vec<TensorInfo> {
    let mut infos = Vec::new();
    let places = family.tensors.iter().flat_map(|tensor| match tensor.role.is_in_layer() {
        true => (0..layers).map(|layer| (tensor, tensor.role.weight_of(layer))).collect::<Vec<_>>(),
        false => vec![(tensor, tensor.role.weight())],
    });
    let here = |presence: Presence| match presence {
        Presence::Always | Presence::FinalNorm => true,
        Presence::ExpertLayers | Presence::DenseLayers => presence.is_in(family.experts.is_some()),
        Presence::Untied | Presence::Projected | Presence::Computed => false,
    };
    for (tensor, name) in places.filter(|(tensor, _)| here(tensor.presence)) {
        let own = if matches!(tensor.shape, Shape::Vector(_)) { TensorType::F32 } else { ty };
        infos.push(TensorInfo::new(name.to_string(), Encoding::Plain(own), tensor.shape.gguf(&SIZES)));
        if matches!(tensor.bias, Bias::Always | Bias::Unless(_)) {
            let bias = name.to_string().replace(".weight", ".bias");
            infos.push(TensorInfo::new(bias, Encoding::Plain(TensorType::F32), [tensor.shape.outputs(&SIZES)]));
        }
    }
    infos
}

/// Small numbers: where there are blocks, a scale of 2⁻¹⁰ before the codes of each.
fn numbers(info: &TensorInfo, random: &mut Random) -> Vec<u8> {
    match info.ty() {
        TensorType::F32 => random.numbers(info.cols() * info.rows()).into_iter().flat_map(f32::to_le_bytes).collect(),
        ty => {
            let blocks = info.byte_len().expect("a shape that fits") / ty.block_bytes();
            (0..blocks).flat_map(|_| [vec![0, 0x14], random.bytes(ty.block_bytes() - 2)].concat()).collect()
        }
    }
}
