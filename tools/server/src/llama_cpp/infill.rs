//! `POST /infill`: what stands between two texts, for models that have tokens for it.

use serde_json::Value as Json;

use super::completion::CompletionBody;
use super::endpoints::plan;
use crate::context::{Context, Plan};
use crate::error::ApiError;
use crate::fields::Fields;
use crate::openai::completions::Prompt;

/// The tokens for what comes before, what comes after, and what is to be written, as families spell them.
const MARKS: &[[&str; 3]] = &[
    ["<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"],
    ["<fim_prefix>", "<fim_suffix>", "<fim_middle>"],
    // Code Llama's.
    ["▁<PRE>", "▁<SUF>", "▁<MID>"],
];

/// `input_prefix`, `input_suffix` and `prompt`, which goes between the prefix and what is written.
///
/// # Errors
/// What is wrong with the request; 501 for a model without such tokens.
pub fn infill(context: &Context, body: &Json) -> Result<Plan, ApiError> {
    let fields = Fields::of_body(body)?;
    let model = context.served.model.clone();
    let tokenizer = &model.tokenizer;
    let find = |marks: &[&str; 3]| Some([tokenizer.id(marks[0])?, tokenizer.id(marks[1])?, tokenizer.id(marks[2])?]);
    let Some([before, after, middle]) = MARKS.iter().find_map(find) else {
        return Err(ApiError::unsupported("this model has no tokens for infilling"));
    };
    let text = |name: &str| fields.str(name)?.ok_or_else(|| fields.missing(name));
    let (prefix, suffix) = (text("input_prefix")?, text("input_suffix")?);
    if fields.array("input_extra", 0)?.is_some_and(|extra| !extra.is_empty()) {
        return Err(ApiError::field("input_extra", "is not supported"));
    }
    let prompt = fields.str("prompt")?.unwrap_or_default();
    let mut tokens: Vec<u32> = tokenizer.bos().filter(|_| tokenizer.add_bos()).into_iter().collect();
    tokens.push(before);
    tokens.extend(tokenizer.encode(&format!("{prefix}{prompt}"), false, false));
    tokens.push(after);
    tokens.extend(tokenizer.encode(suffix, false, false));
    tokens.push(middle);
    let prompts = vec![Prompt::Tokens(tokens)];
    plan(CompletionBody::of(&fields, prompts, true, &context.limits, &context.defaults)?, context)
}
