//! `POST /api/embed`, and `/api/embeddings` as it was before.

use std::time::{Duration, Instant};

use quipu_runtime::embedding::EmbedOptions;
use serde_json::{Value as Json, json};

use super::keep::keep;
use crate::context::{Context, Embedding};
use crate::error::ApiError;
use crate::fields::Fields;
use crate::openai::completions::prompts;
use crate::openai::embeddings::{shortened, texts};

/// `POST /api/embed`: `input` is a text or a list of them; nothing is cut off, whatever `truncate` says.
///
/// # Errors
/// What is wrong with the request.
pub fn embed(context: &Context, body: &Json) -> Result<Embedding, ApiError> {
    let fields = Fields::of_body(body)?;
    let name = fields.str("model")?;
    let served = context.served.clone();
    let model = served.model.clone();
    model.loras.refuse_vectors(name)?;
    keep(&fields, &served)?;
    let dimensions = fields.integer("dimensions", 1..=model.card.hidden as i64)?.map(|n| n as usize);
    let texts = texts(&prompts(&fields, "input", &context.limits)?, |prompt| prompt.tokens(&model))?;
    let (read, loading, started) = (texts.iter().map(Vec::len).sum::<usize>(), context.loading, Instant::now());
    let name = name.unwrap_or(model.id()).to_string();
    let tell = move |vectors: Vec<Vec<f32>>| {
        let vectors: Vec<_> = vectors.into_iter().map(|vector| shortened(vector, dimensions)).collect();
        let nanos = |time: Duration| time.as_nanos() as u64;
        json!({
            "model": name,
            "embeddings": vectors,
            "total_duration": nanos(loading + started.elapsed()),
            "load_duration": nanos(loading),
            "prompt_eval_count": read,
        })
    };
    Ok(Embedding { served, texts, options: EmbedOptions::default(), tell: Box::new(tell) })
}

/// `POST /api/embeddings`: one text, `prompt`.
///
/// # Errors
/// What is wrong with the request.
pub fn embeddings(context: &Context, body: &Json) -> Result<Embedding, ApiError> {
    let fields = Fields::of_body(body)?;
    let served = context.served.clone();
    served.model.loras.refuse_vectors(fields.str("model")?)?;
    keep(&fields, &served)?;
    let text = fields.str("prompt")?.ok_or_else(|| fields.missing("prompt"))?;
    let texts = vec![served.model.text(text)?];
    let tell = |vectors: Vec<Vec<f32>>| json!({"embedding": vectors.into_iter().next()});
    Ok(Embedding { served, texts, options: EmbedOptions::default(), tell: Box::new(tell) })
}
