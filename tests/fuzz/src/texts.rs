//! Targets that are texts: what is tokenised, and what renders it.

use quipu_formats::gguf::{Array, Metadata, Value};
use quipu_runtime::chat::{ChatTemplate, DateTime, Message, RenderOptions};
use quipu_runtime::tokenizer::{Part, TextStream, Tokenizer};
use serde_json::json;

use crate::outcome::outcome;

/// Between the parts of an input of [`tokenizer`]: no byte of UTF-8.
pub(crate) const SEPARATOR: u8 = 0xff;

/// Names of pre-tokenizers, of each kind one.
const PRE: [&str; 12] = [
    "default",
    "llama-bpe",
    "gpt-2",
    "smollm",
    "qwen2",
    "falcon",
    "deepseek-llm",
    "deepseek-coder",
    "deepseek-v3",
    "tekken",
    "gpt-4o",
    "bloom",
];

/// A vocabulary, rules and a text: parts of the input.
///
/// 1. a byte: bit 0 for SentencePiece, bit 1 for all single bytes in front of the vocabulary; the rest chooses the
///    pre-tokenizer
/// 2. the value of `quipu.tokenizer.pre`, or nothing
/// 3. tokens, one a line: a digit for the type, and the piece
/// 4. merges, one a line
/// 5. the text
pub(crate) fn tokenizer(bytes: &[u8]) -> String {
    let parts: Vec<_> = bytes.splitn(5, |&byte| byte == SEPARATOR).map(String::from_utf8_lossy).collect();
    let [flags, pre, tokens, merges, text] = parts.as_slice() else { return String::new() };
    let flags = flags.bytes().next().unwrap_or(0);
    let (sentence_piece, all_bytes) = (flags & 1 == 1, flags & 2 == 2);
    let mut vocabulary: Vec<(String, i32)> = Vec::new();
    if all_bytes {
        vocabulary.extend((0..=255_u8).map(|byte| match sentence_piece {
            true => (format!("<0x{byte:02X}>"), 6),
            false => (byte_level(byte).to_string(), 1),
        }));
    }
    vocabulary.extend(tokens.lines().map(|line| match line.chars().next().and_then(|c| c.to_digit(10)) {
        Some(kind) => (line[1..].to_string(), kind as i32),
        None => (line.to_string(), 1),
    }));
    let mut metadata = Metadata::default();
    let mut set = |key: &str, value| metadata.set(format!("tokenizer.ggml.{key}"), value);
    set("model", Value::String(if sentence_piece { "llama" } else { "gpt2" }.into()));
    set("pre", Value::String(PRE[(flags >> 2) as usize % PRE.len()].into()));
    set("tokens", Value::Array(Array::String(vocabulary.iter().map(|(piece, _)| piece.as_str()).collect())));
    set("token_type", Value::Array(Array::I32(vocabulary.iter().map(|(_, kind)| *kind).collect())));
    set("scores", Value::Array(Array::F32((0..vocabulary.len()).map(|id| -(id as f32)).collect())));
    set("merges", Value::Array(Array::String(merges.lines().collect())));
    if !pre.is_empty() {
        metadata.set("quipu.tokenizer.pre", Value::String(pre.as_ref().into()));
    }
    let said = use_tokenizer(&metadata, text);
    // With a token for every byte nothing of a text can be lost, unless the rules say so.
    if all_bytes
        && !sentence_piece
        && pre.is_empty()
        && PRE[(flags >> 2) as usize % PRE.len()] != "qwen2"
        && vocabulary[256..].iter().all(|(_, kind)| *kind == 1)
        && let Ok(tokenizer) = Tokenizer::from_metadata(&metadata)
    {
        assert_eq!(tokenizer.decode(&tokenizer.encode(text, false, false), true), text.as_ref());
    }
    said
}

/// The character that stands for a byte in pieces of byte-level BPE: itself if it can be seen in Latin-1, otherwise the
/// next of those from U+0100 on.
pub(crate) fn byte_level(byte: u8) -> char {
    let is_seen = |byte: &u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    match is_seen(&byte) {
        true => byte.into(),
        false => {
            let before = (0..byte).filter(|byte| !is_seen(byte)).count() as u32;
            char::from_u32(0x100 + before).expect("a letter with a diacritic")
        }
    }
}

/// Builds the tokenizer and lets it do everything with a text.
pub(crate) fn use_tokenizer(metadata: &Metadata, text: &str) -> String {
    let tokenizer = match Tokenizer::from_metadata(metadata) {
        Err(error) => return outcome(error),
        Ok(tokenizer) => tokenizer,
    };
    let size = tokenizer.vocab_size();
    for (add, parse) in [(false, false), (true, true)] {
        let ids = tokenizer.encode(text, add, parse);
        assert!(ids.iter().all(|&id| (id as usize) < size), "{ids:?} of {size}");
        for special in [false, true] {
            let mut stream = TextStream::new(&tokenizer, special);
            let streamed: String = ids.iter().map(|&id| stream.push(id)).collect();
            assert_eq!(streamed + &stream.finish(), tokenizer.decode(&ids, special));
        }
    }
    let plain = tokenizer.encode(text, false, false);
    assert_eq!(tokenizer.encode_parts(&[Part::Data(text)]), plain);
    let mut middle = text.len() / 2;
    while !text.is_char_boundary(middle) {
        middle -= 1;
    }
    let (a, b) = text.split_at(middle);
    assert_eq!(tokenizer.encode_parts(&[Part::Data(a), Part::Data(b)]), plain);
    let trusted = tokenizer.encode_parts(&[Part::Template(a), Part::Template(b), Part::Tokens(&[])]);
    assert_eq!(trusted, tokenizer.encode(text, false, true));
    let oddities: String = tokenizer.oddities().iter().map(outcome).collect();
    format!("{} tokens {oddities}", plain.len().min(9))
}

/// A chat template.
pub(crate) fn template(bytes: &[u8]) -> String {
    let source = String::from_utf8_lossy(bytes);
    let template = match ChatTemplate::new(&source, Some("<s>"), Some("</s>")) {
        Err(error) => return outcome(error),
        Ok(template) => template,
    };
    let mut call = Message::new("assistant", "");
    call.extra.insert("tool_calls".into(), json!([{"function": {"name": "f", "arguments": {"x": [1, 2.5, null]}}}]));
    let messages = [
        Message::new("system", "Be brief.</s>"),
        Message::new("user", "Où est l'été?\n  <s> 1"),
        call,
        Message::new("tool", "42"),
    ];
    let tools = json!([{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "x": -1}}}]);
    let now = DateTime { year: 2024, month: 7, day: 26, hour: 12, minute: 0, second: 0 };
    let options = RenderOptions::default().tools(tools).add_generation_prompt(true).now(now);
    match template.render(&messages, &options) {
        Err(error) => outcome(error),
        Ok(text) => format!("a text of {} bits", text.len().checked_ilog2().unwrap_or(0)),
    }
}
