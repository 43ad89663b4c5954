//! Llama 3.2-Vision as ollama writes it: its text as a Llama's ([`mllama`](crate::families)).

use super::fault::GgufFault;
use super::parse::Header;
use super::strings::Strings;
use super::value::{Array, Metadata, Required, Value};
use crate::families::keys::ARCHITECTURE as ARCHITECTURE_KEY;
use crate::families::mllama::CrossLayers;
use crate::families::names::{Role, split_layer};
use crate::oddity::Oddity;

const ARCHITECTURE: &str = "mllama";
const LAYERS: &str = "mllama.block_count";
const CROSS: &str = "mllama.attention.cross_attention_layers";

/// The lists with something for each token.
const TOKENS: [&str; 3] = ["tokenizer.ggml.tokens", "tokenizer.ggml.token_type", "tokenizer.ggml.scores"];

/// Leaves the Llama that is in `header`, if it is that of such a model: keys, layers and tokens that are its own.
pub(super) fn keep_text(header: &mut Header) -> Result<(), GgufFault> {
    if header.metadata.str_opt(ARCHITECTURE_KEY)? != Some(ARCHITECTURE) {
        return Ok(());
    }
    let layers = header.metadata.usize_opt(LAYERS).required(LAYERS)?;
    let cross = match header.metadata.get(CROSS) {
        Some(Value::Array(list)) => list.integers().and_then(|list| CrossLayers::new(&list, layers)),
        _ => None,
    };
    let Some(cross) = cross else { return Err(GgufFault::CrossLayers { key: CROSS, layers }) };

    let old = std::mem::take(&mut header.metadata);
    header.metadata = llama_keys(&old, &cross);
    let (tensors, ranges) = (std::mem::take(&mut header.tensors), std::mem::take(&mut header.ranges));
    let before = tensors.len();
    header.names.clear();
    for (mut info, range) in tensors.into_iter().zip(ranges) {
        if info.name.starts_with("v.") || info.name.starts_with("mm.") {
            continue;
        }
        if let Some((layer, rest)) = split_layer(&info.name) {
            let Some(layer) = cross.number(layer) else { continue };
            info.name = format!("blk.{layer}.{rest}");
        }
        header.names.insert(info.name.clone(), header.tensors.len());
        header.tensors.push(info);
        header.ranges.push(range);
    }
    cut_vocabulary(header);
    header.oddities.push(Oddity::TextHalf { tensors: before - header.tensors.len(), layers: cross.count() });
    Ok(())
}

/// The keys of the Llama.
fn llama_keys(old: &Metadata, cross: &CrossLayers) -> Metadata {
    let mut metadata = Metadata::default();
    for (key, value) in old.iter() {
        match key.strip_prefix("mllama.") {
            Some(_) if key == CROSS => {}
            Some(key) if key.starts_with("vision.") => {}
            Some(key) => metadata.set(format!("llama.{key}"), value.clone()),
            None => metadata.set(key, value.clone()),
        }
    }
    metadata.set(ARCHITECTURE_KEY, Value::String("llama".into()));
    metadata.set("llama.block_count", Value::U64(cross.others() as u64));
    metadata
}

/// Takes the rows from the embedding, and the tokens, that the output matrix does not have.
fn cut_vocabulary(header: &mut Header) {
    let find = |role: Role| header.names.get(&role.weight().to_string()).copied();
    let (Some(embedding), Some(output)) = (find(Role::TokenEmbedding), find(Role::Output)) else { return };
    let (rows, vocabulary) = (header.tensors[embedding].rows(), header.tensors[output].rows());
    let info = &mut header.tensors[embedding];
    // In a packed file rows do not lie one after the other; it is written of what is cut already.
    if vocabulary < rows && info.shape.len() == 2 && !info.encoding.is_packed() {
        let range = &mut header.ranges[embedding];
        range.end = range.start + range.len() / rows * vocabulary;
        info.shape[1] = vocabulary;
    }
    for key in TOKENS {
        let cut = match header.metadata.get(key) {
            Some(Value::Array(Array::String(list))) => Array::String(list.iter().take(vocabulary).collect::<Strings>()),
            Some(Value::Array(Array::I32(list))) => Array::I32(list.iter().copied().take(vocabulary).collect()),
            Some(Value::Array(Array::U32(list))) => Array::U32(list.iter().copied().take(vocabulary).collect()),
            Some(Value::Array(Array::F32(list))) => Array::F32(list.iter().copied().take(vocabulary).collect()),
            _ => continue,
        };
        header.metadata.set(key, Value::Array(cut));
    }
}
