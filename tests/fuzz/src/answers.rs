//! What models write, read by [`AnswerReader`].

use std::sync::Arc;

use quipu_runtime::chat::answer::{AnswerReader, Delta, Piece, ReadOptions, Tool};
use quipu_test_random::Random;
use serde_json::{Value as Json, json};

/// What may stand around calls and thoughts without being part of the answer.
const MARKS: [&str; 9] = ["<think>", "</think>", "[THINK]", "[/THINK]", "</tool_call>", "</function>", "```", "}", "]"];

fn tools() -> Arc<[Tool]> {
    let tool = |name: &str, parameters: Json| Tool { name: name.into(), description: None, parameters, strict: false };
    let properties = json!({
        "city": {"type": "string"}, "days": {"type": "integer"}, "numbers": {"type": "array", "items": {"type": "number"}},
        "text": {}, "item": {"type": "object"}, "note": {"type": ["string", "null"]}, "round": {"type": "number"},
    });
    let all = json!({"type": "object", "properties": properties, "required": ["city"]});
    let names = ["get_weather", "add", "write_file", "brave_search", "place_order", "code_interpreter"];
    names.iter().map(|name| tool(name, all.clone())).chain([tool("now", Json::Null)]).collect()
}

/// An answer: a byte that says how it is read, one that says how it is cut, and the text.
pub(crate) fn answer(bytes: &[u8]) -> String {
    let [flags, seed, text @ ..] = bytes else { return String::new() };
    let text = String::from_utf8_lossy(text);
    let mut tools = tools();
    if flags & 8 == 0 {
        // Without an interpreter.
        tools = tools.iter().filter(|tool| tool.name != "code_interpreter").cloned().collect();
    }
    let options = ReadOptions { tools, parallel: flags & 1 == 0, thinking: flags & 2 == 0 };
    let prompt = if flags & 4 == 0 { "" } else { "<think>\n" };
    let cut = flags & 16 != 0;
    let mut reader = AnswerReader::new(options.clone(), prompt);
    let mut pieces = reader.push(&text);
    pieces.extend(reader.finish(cut));
    covers(&text, &pieces);

    let mut reader = AnswerReader::new(options, prompt);
    let mut random = Random::new(u64::from(*seed));
    let mut in_pieces = Vec::new();
    let (mut from, longest) = (0, 1 + random.below(40));
    while from < text.len() {
        let mut to = (from + 1 + random.below(longest)).min(text.len());
        while !text.is_char_boundary(to) {
            to += 1;
        }
        in_pieces.extend(reader.push(&text[from..to]));
        from = to;
    }
    in_pieces.extend(reader.finish(cut));
    let (whole, in_pieces) = (merged(pieces), merged(in_pieces));
    assert_eq!(whole, in_pieces);
    whole.iter().map(kind).collect()
}

/// What kind of a delta it is, in a letter.
fn kind(delta: &Delta) -> char {
    match delta {
        Delta::Content(_) => 'c',
        Delta::Reasoning(_) => 'r',
        Delta::Begin { .. } => 'b',
        Delta::Arguments(_) => 'a',
        Delta::End { complete: true } => 'e',
        Delta::End { complete: false } => 'x',
    }
}

/// Deltas of one kind that follow each other, as one.
fn merged(pieces: Vec<Piece>) -> Vec<Delta> {
    let mut merged: Vec<Delta> = Vec::new();
    for piece in pieces {
        match (merged.last_mut(), piece.delta) {
            (Some(Delta::Content(text)), Delta::Content(more))
            | (Some(Delta::Reasoning(text)), Delta::Reasoning(more))
            | (Some(Delta::Arguments(text)), Delta::Arguments(more)) => text.push_str(&more),
            (_, delta) => merged.push(delta),
        }
    }
    merged
}

/// Nothing of `text` is lost: text and thoughts are given out as they stand, and what lies between them and the calls
/// is nothing but marks.
fn covers(text: &str, pieces: &[Piece]) {
    let (mut at, mut arguments, mut after_call) = (0, String::new(), false);
    for Piece { delta, end } in pieces {
        assert!(at <= *end && *end <= text.len(), "{delta:?} ends at {end}, after {at} of {}", text.len());
        match delta {
            Delta::Content(same) | Delta::Reasoning(same) => {
                let start = end - same.len();
                assert_eq!(text[start..*end], *same);
                only_marks(&text[at..start], after_call);
                after_call = false;
            }
            Delta::Begin { name } => {
                assert!(text[at..*end].contains(name.as_str()) || name == "code_interpreter" || after_call);
                arguments.clear();
            }
            Delta::Arguments(more) => arguments.push_str(more),
            Delta::End { complete } => {
                let object = serde_json::from_str::<Json>(&arguments).is_ok_and(|value| value.is_object());
                assert!(object || !complete, "{arguments}");
                after_call = true;
            }
        }
        at = *end;
    }
    only_marks(&text[at..], after_call);
}

fn only_marks(between: &str, after_call: bool) {
    let mut rest = between.to_string();
    // The rest of the objects around arguments.
    if after_call && let Some(end) = rest.rfind('}') {
        rest.drain(..end);
    }
    for mark in MARKS {
        rest = rest.replace(mark, "");
    }
    let is_left = |c: char| !(c.is_whitespace() || after_call && matches!(c, ';' | ','));
    assert!(!rest.contains(is_left), "{between:?} is lost");
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../data/calls/texts.json");
    let file = std::fs::read_to_string(path).expect("a fixture");
    let file: Json = serde_json::from_str(&file).expect("a fixture");
    let cases = file["cases"].as_array().expect("a fixture").iter().enumerate();
    cases.map(|(i, case)| [&[8, i as u8], case["text"].as_str().expect("a text").as_bytes()].concat()).collect()
}

pub(crate) const WORDS: &[&str] = &[
    "{\"name\": \"now\", \"parameters\": {",
    "\"name\": ",
    "\"arguments\": ",
    "<|python_tag|>",
    "<tool_call>",
    "</tool_call>",
    "<function=now>",
    "</function>",
    "[TOOL_CALLS]",
    "[ARGS]",
    "[CALL_ID]",
    "<think>",
    "</think>",
    "```json\n",
    "get_weather(city='",
    "[now()",
    ".call(",
    "\\ud83d",
    "null",
    "'",
    "\"",
    "; ",
    "\n",
];
