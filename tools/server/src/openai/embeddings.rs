//! `POST /v1/embeddings`: texts as vectors.

use quipu_runtime::embedding::EmbedOptions;
use serde_json::{Value as Json, json};

use super::completions::{Prompt, prompts};
use crate::context::{Context, Embedding};
use crate::error::ApiError;
use crate::fields::Fields;

/// Reads `input`, `encoding_format` and `dimensions`. The vector of a text is the mean of its hidden states, brought to
/// length 1; one that is cut to fewer dimensions is brought to it anew.
///
/// # Errors
/// What is wrong with the request.
pub fn embeddings(context: &Context, body: &Json) -> Result<Embedding, ApiError> {
    let fields = Fields::of_body(body)?;
    let name = fields.str("model")?.map(str::to_string);
    let served = context.served.clone();
    let model = served.model.clone();
    model.loras.refuse_vectors(name.as_deref())?;
    let base64 = match fields.str("encoding_format")? {
        None | Some("float") => false,
        Some("base64") => true,
        Some(_) => return Err(fields.wrong("encoding_format", "`float` or `base64`")),
    };
    let dimensions = fields.integer("dimensions", 1..=model.card.hidden as i64)?.map(|n| n as usize);
    let input = if fields.get("input").is_some() { "input" } else { "content" };
    let texts = texts(&prompts(&fields, input, &context.limits)?, |prompt| prompt.tokens(&model))?;
    let read: usize = texts.iter().map(Vec::len).sum();
    let tell = move |vectors: Vec<Vec<f32>>| {
        let one = |(index, vector): (usize, Vec<f32>)| {
            let vector = shortened(vector, dimensions);
            let vector = if base64 { encode(&vector).into() } else { json!(vector) };
            json!({"object": "embedding", "index": index, "embedding": vector})
        };
        json!({
            "object": "list",
            "data": vectors.into_iter().enumerate().map(one).collect::<Json>(),
            "model": name.as_deref().unwrap_or(model.id()),
            "usage": {"prompt_tokens": read, "total_tokens": read},
        })
    };
    Ok(Embedding { served, texts, options: EmbedOptions::default(), tell: Box::new(tell) })
}

/// The tokens of all texts; an empty one is refused, since nothing has no meaning.
///
/// # Errors
/// What is wrong with one of them.
pub fn texts(
    prompts: &[Prompt],
    tokens: impl Fn(&Prompt) -> Result<Vec<u32>, ApiError>,
) -> Result<Vec<Vec<u32>>, ApiError> {
    let texts = prompts.iter().map(tokens).collect::<Result<Vec<_>, _>>()?;
    match texts.iter().position(Vec::is_empty) {
        Some(i) => Err(ApiError::field("input", format!("has nothing in text {}", i + 1))),
        None => Ok(texts),
    }
}

/// The first `dimensions` of a vector, at length 1 again.
pub fn shortened(mut vector: Vec<f32>, dimensions: Option<usize>) -> Vec<f32> {
    if let Some(dimensions) = dimensions.filter(|&n| n < vector.len()) {
        vector.truncate(dimensions);
        let length = vector.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt();
        if length > 0.0 {
            vector.iter_mut().for_each(|x| *x = (f64::from(*x) / length) as f32);
        }
    }
    vector
}

/// The bytes of the numbers, the least significant first, as base64.
fn encode(vector: &[f32]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bytes: Vec<u8> = vector.iter().flat_map(|x| x.to_le_bytes()).collect();
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let number = three.iter().fold(0u32, |number, &byte| number << 8 | u32::from(byte)) << (8 * (3 - three.len()));
        for i in 0..4 {
            let digit = DIGITS[(number >> (18 - 6 * i)) as usize % 64];
            text.push(if i <= three.len() { digit.into() } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_of_numbers() {
        // RFC 4648's alphabet; the bytes of 1.0 are 00 00 80 3f.
        assert_eq!(encode(&[1.0]), "AACAPw==");
        assert_eq!(encode(&[1.0, -2.0]), "AACAPwAAAMA=");
        assert_eq!(encode(&[1.0, -2.0, 0.0]), "AACAPwAAAMAAAAAA");
        assert_eq!(encode(&[]), "");
    }

    #[test]
    fn fewer_dimensions_have_length_one_again() {
        assert_eq!(shortened(vec![0.6, 0.0, 0.8], Some(1)), [1.0]);
        assert_eq!(shortened(vec![0.6, 0.8], Some(2)), [0.6, 0.8]);
        assert_eq!(shortened(vec![0.0, 1.0], Some(1)), [0.0]);
    }
}
