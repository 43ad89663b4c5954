//! What stands between two texts, for models that were trained to write that.

use crate::error::ApiError;
use crate::model::Model;

/// The tokens for what comes before, what comes after, and what is to be written, as families spell them.
const MARKS: &[[&str; 3]] = &[
    ["<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"],
    ["<fim_prefix>", "<fim_suffix>", "<fim_middle>"],
    // Code Llama's.
    ["▁<PRE>", "▁<SUF>", "▁<MID>"],
];

/// The prompt for what stands between `before` and `after`; nothing for a model that has no tokens for it.
///
/// # Errors
/// When there is no room for it.
pub fn between(model: &Model, before: &str, after: &str) -> Result<Option<Vec<u32>>, ApiError> {
    let tokenizer = &model.tokenizer;
    model.check_bytes(before.len().saturating_add(after.len()))?;
    let find = |marks: &[&str; 3]| Some([tokenizer.id(marks[0])?, tokenizer.id(marks[1])?, tokenizer.id(marks[2])?]);
    let Some([prefix, suffix, middle]) = MARKS.iter().find_map(find) else { return Ok(None) };
    let mut tokens: Vec<u32> = tokenizer.bos().filter(|_| tokenizer.add_bos()).into_iter().collect();
    tokens.push(prefix);
    tokens.extend(tokenizer.encode(before, false, false));
    tokens.push(suffix);
    tokens.extend(tokenizer.encode(after, false, false));
    tokens.push(middle);
    model.check_room(tokens).map(Some)
}
