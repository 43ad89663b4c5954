//! The layouts of Meta and Mistral: `params.json` and `consolidated.*`, in which the models were first published.
//!
//! Both have the same names for tensors, and the rows of q and k in the order in which RoPE turns neighbours, which is
//! GGUF's. Meta's larger models come in files of which each has a part of every matrix: of its rows or its columns.

use std::path::{Path, PathBuf};

use super::error::WeightsFault;
use super::weight::{Numbers, Weight};

/// The files of weights in the directory `dir`; none when it has no such layout.
pub(super) fn files(dir: &Path) -> Vec<PathBuf> {
    let single = dir.join("consolidated.safetensors");
    if single.exists() {
        return vec![single];
    }
    (0..100).map(|n| dir.join(format!("consolidated.{n:02}.pth"))).take_while(|path| path.exists()).collect()
}

/// Hugging Face's name of the tensor `name`; the name as it is where there is none.
pub(super) fn hugging_face_name(name: &str) -> String {
    let known = || {
        // QLoRA's, beside a matrix.
        let (name, beside) = match ["A", "B"].map(|m| (m, name.strip_suffix(&format!(".adaptor.{m}.weight")))) {
            [(_, Some(stem)), _] => (format!("{stem}.weight"), "adaptor.A."),
            [_, (_, Some(stem))] => (format!("{stem}.weight"), "adaptor.B."),
            _ => (name.to_string(), ""),
        };
        let (stem, last) = name.rsplit_once('.')?;
        let last = match last {
            // Mistral's scales of matrices in FP8 and of their inputs.
            "qscale_weight" => "weight_scale",
            "qscale_act" => "input_scale",
            // Meta's, of matrices in four bits and embeddings in eight.
            "scales" => "weight_scale",
            other => other,
        };
        let stem = match stem {
            "tok_embeddings" => "model.embed_tokens".into(),
            "norm" => "model.norm".into(),
            "output" => "lm_head".into(),
            _ => {
                let (layer, stem) = stem.strip_prefix("layers.")?.split_once('.')?;
                let stem = match stem {
                    "attention.wq" => "self_attn.q_proj",
                    "attention.wk" => "self_attn.k_proj",
                    "attention.wv" => "self_attn.v_proj",
                    "attention.wo" => "self_attn.o_proj",
                    "attention_norm" => "input_layernorm",
                    "ffn_norm" => "post_attention_layernorm",
                    "feed_forward.w1" => "mlp.gate_proj",
                    "feed_forward.w2" => "mlp.down_proj",
                    "feed_forward.w3" => "mlp.up_proj",
                    _ => return None,
                };
                format!("model.layers.{layer}.{stem}")
            }
        };
        Some(format!("{stem}.{beside}{last}"))
    };
    known().unwrap_or_else(|| name.into())
}

/// The matrix that `parts` make, one of each of `files` files. A vector is whole in every file.
pub(super) fn join(name: &str, mut parts: Vec<Weight>, files: usize, width: usize) -> Result<Weight, WeightsFault> {
    let shapes = || parts.iter().map(|part| part.shape.clone()).collect();
    let fault = |found| WeightsFault::Parts { tensor: name.into(), found };
    if parts.len() != files {
        return Err(fault(shapes()));
    }
    if files == 1 || parts[0].shape.len() != 2 {
        return Ok(parts.swap_remove(0));
    }
    let along = joined_along(name, &parts[0].shape, width);
    let other = 1 - along;
    let alike = |part: &Weight| {
        part.dtype == parts[0].dtype && part.shape.len() == 2 && part.shape[other] == parts[0].shape[other]
    };
    let stored: Option<Vec<_>> = parts.iter().map(|part| part.stored().cloned()).collect();
    let Some(stored) = stored.filter(|_| parts.iter().all(alike)) else { return Err(fault(shapes())) };
    let mut shape = parts[0].shape.clone();
    shape[along] = parts.iter().map(|part| part.shape[along]).sum();
    Ok(Weight { dtype: parts[0].dtype, shape, numbers: Numbers::Joined { along, parts: stored } })
}

/// The extent along which the parts of a matrix are joined, 0 for rows, by Hugging Face's `name`, the shape of a part
/// and the `width` of the model.
fn joined_along(name: &str, part: &[usize], width: usize) -> usize {
    match name.rsplit('.').nth(1) {
        Some("o_proj" | "down_proj") => 1,
        // Llama 1 and 2 divided columns, Llama 3 rows.
        Some("embed_tokens") if part.last() != Some(&width) => 1,
        _ => 0,
    }
}
