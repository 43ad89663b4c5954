//! Control tokens by which models mark calls and thoughts.

use crate::tokenizer::Tokenizer;

const MARKS: [&str; 10] = [
    "<|python_tag|>",
    "<tool_call>",
    "</tool_call>",
    "[TOOL_CALLS]",
    "[CALL_ID]",
    "[ARGS]",
    "<think>",
    "</think>",
    "[THINK]",
    "[/THINK]",
];

/// The control tokens of a vocabulary by which calls and thoughts are marked. Whoever reads an answer needs their text
/// ([`GenerateOptions::spelled`](crate::generate::GenerateOptions::spelled)).
pub fn control_tokens(tokenizer: &Tokenizer) -> Vec<u32> {
    MARKS.iter().filter_map(|mark| tokenizer.id(mark)).filter(|&id| tokenizer.is_control(id)).collect()
}
