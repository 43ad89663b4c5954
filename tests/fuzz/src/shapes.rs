//! What an answer is to be: schemas, grammars and regular expressions, as clients of the server send them.

use std::sync::{Arc, OnceLock};

use quipu_constrain::{Grammars, Shape};
use quipu_formats::gguf::{Array, Metadata, Value};
use quipu_runtime::constraint::TokenMask;
use quipu_runtime::tokenizer::Tokenizer;
use quipu_test_random::Random;
use serde_json::Value as Json;

use crate::outcome::outcome;
use crate::texts::byte_level;

/// Tokens that are written at most.
const MOST: usize = 100;

/// A token for every byte, some of several that JSON has, and one that ends a text.
fn tokenizer() -> Arc<Tokenizer> {
    static TOKENIZER: OnceLock<Arc<Tokenizer>> = OnceLock::new();
    let make = || {
        let mut pieces: Vec<String> = (0..=255).map(|byte| byte_level(byte).to_string()).collect();
        pieces.extend(["{\"", "\":", "\",\"", "true", "]}", "12", "<end>"].map(String::from));
        let end = pieces.len() - 1;
        let kinds = (0..=end).map(|id| if id == end { 3 } else { 1 }).collect();
        let mut metadata = Metadata::default();
        let mut set = |key: &str, value| metadata.set(format!("tokenizer.ggml.{key}"), value);
        set("model", Value::String("gpt2".into()));
        set("pre", Value::String("default".into()));
        set("tokens", Value::Array(Array::String(pieces.iter().map(String::as_str).collect())));
        set("token_type", Value::Array(Array::I32(kinds)));
        set("merges", Value::Array(Array::String(["{ \"", "\" :"].into_iter().collect())));
        set("eos_token_id", Value::U32(end as u32));
        Arc::new(Tokenizer::from_metadata(&metadata).expect("a tokenizer"))
    };
    TOKENIZER.get_or_init(make).clone()
}

/// A shape, and a text that is written within it: a byte that says of which kind it is, one from which the text is
/// drawn, and the shape.
pub(crate) fn shape(bytes: &[u8]) -> String {
    static GRAMMARS: OnceLock<Grammars> = OnceLock::new();
    let [kind, seed, text @ ..] = bytes else { return String::new() };
    let text = String::from_utf8_lossy(text);
    let shape = match kind % 4 {
        0 => match Shape::schema(&text) {
            Ok(shape) => shape,
            Err(error) => return outcome(error),
        },
        1 => Shape::grammar(&text),
        2 => Shape::Regex(text.into_owned()),
        _ => Shape::Choice(text.lines().map(String::from).collect()),
    };
    let checked = shape.check();
    let grammar = match GRAMMARS.get_or_init(|| Grammars::new(tokenizer())).compile(&shape) {
        Err(error) => return outcome(error),
        Ok(grammar) => grammar,
    };
    assert!(checked.is_ok(), "compiled, though {checked:?}");
    let tokenizer = tokenizer();
    let mut place = match grammar.begin() {
        Err(error) => return outcome(error),
        Ok(place) => place,
    };
    let (mut random, mut written) = (Random::new(u64::from(*seed)), Vec::new());
    for _ in 0..MOST {
        let mut next = TokenMask::new(tokenizer.vocab_size());
        let may_end = match place.allow(&mut next) {
            Err(error) => return outcome(error),
            Ok(may_end) => may_end,
        };
        let next: Vec<u32> = next.iter().filter(|&id| !tokenizer.is_end_of_generation(id)).collect();
        if may_end && (next.is_empty() || random.below(3) == 0) {
            return whole(&shape, &written);
        }
        if next.is_empty() {
            return "a dead end".into();
        }
        let token = next[random.below(next.len())];
        if let Err(error) = place.advance(token) {
            return outcome(error);
        }
        written.extend_from_slice(tokenizer.token_bytes(token, true));
    }
    "a beginning".into()
}

/// What was written within a schema is JSON, and one of the choices is what was chosen.
fn whole(shape: &Shape, written: &[u8]) -> String {
    let text = String::from_utf8_lossy(written);
    match shape {
        Shape::JsonSchema(_) => match serde_json::from_slice::<Json>(written) {
            Ok(_) => {}
            // Deeper, or a larger number, than this reader takes.
            Err(error) if error.to_string().contains("limit") || error.to_string().contains("out of range") => {}
            Err(error) => panic!("{text:?} is no JSON: {error}"),
        },
        Shape::Choice(choices) => assert!(choices.iter().any(|choice| *choice == text), "{text:?} is no choice"),
        _ => {}
    }
    format!("a text of {} bits", written.len().checked_ilog2().unwrap_or(0))
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let schemas = [
        r#"{"type":"object","properties":{"name":{"type":"string","maxLength":8},"age":{"type":"integer","minimum":0,"exclusiveMaximum":150}},"required":["name"],"additionalProperties":false}"#,
        r##"{"$defs":{"node":{"type":"object","properties":{"left":{"$ref":"#/$defs/node"},"value":{"enum":[1,"two",null,[3]]}},"required":["value"]}},"$ref":"#/$defs/node"}"##,
        r#"{"type":"array","prefixItems":[{"type":"boolean"},{"const":{"a":1.5}}],"items":{"type":"number","multipleOf":0.5},"minItems":1,"maxItems":4}"#,
        r#"{"anyOf":[{"type":"string","pattern":"^[a-z]{1,3}(-[0-9]+)?$"},{"type":"string","format":"date-time"},{"type":"null"}]}"#,
        r#"{"type":"object","patternProperties":{"^x-":{"type":"string"}},"propertyNames":{"maxLength":4},"minProperties":1,"maxProperties":3}"#,
        r#"{"allOf":[{"type":"integer","minimum":-9007199254740991},{"maximum":12}],"title":"a number"}"#,
    ];
    let grammars = [
        "# a list of letters, nested\nroot ::= list\nlist ::= \"[\" ws (item (\",\" ws item)*)? \"]\" ws\nitem ::= [a-c]+ ws | list\nws ::= | \" \" | \"\\n\" [ \\t]{0,4}\n",
        "root ::= \"\\x41\\u00e9\\U0001F600\" [^a-z\\n] . maybe?\nmaybe ::= (\"x\" |\n  \"y\"){2,3} # two\n",
        "%llguidance {}\nstart: \"a\" (NUMBER | list)\nlist[capture]: \"[\" (list (\",\" list)*)? \"]\"\nNUMBER: /[0-9]+/ & ~\"0\"\n",
        "%llguidance {}\nstart: head %json {\"type\":\"boolean\"}\nhead[lazy]: /(?s:.*)/ \"<call>\"\n",
    ];
    let patterns = [r"(?i)yes|no\b", r"[\p{L}&&[^x]]{1,5}(?:\.\d+)*", r"(a|b)*abb"];
    let of = |kind: u8, text: &str| [&[kind, 7], text.as_bytes()].concat();
    let mut seeds: Vec<_> = schemas.iter().map(|text| of(0, text)).collect();
    seeds.extend(grammars.iter().map(|text| of(1, text)));
    seeds.extend(patterns.iter().map(|text| of(2, text)));
    seeds.push(of(3, "yes\nno\n\"maybe\"\nno, never"));
    seeds
}

pub(crate) const WORDS: &[&str] = &[
    "\"type\":",
    "\"object\"",
    "\"properties\":{",
    "\"required\":[",
    "\"additionalProperties\":",
    "\"patternProperties\":{",
    "\"items\":",
    "\"enum\":[",
    "\"const\":",
    "\"oneOf\":[",
    "\"anyOf\":[",
    "\"allOf\":[",
    "\"not\":",
    "\"$ref\":\"#\"",
    "\"pattern\":\"",
    "\"format\":\"",
    "\"multipleOf\":",
    "\"minimum\":",
    "\"maxLength\":",
    "{}",
    "false",
    "1e308",
    "root ::= ",
    " ::= ",
    " | ",
    "[^",
    "{0,100}",
    "{1000}",
    ")*",
    ")+",
    "%llguidance {}\n",
    "start: ",
    "%json {",
    "%regex ",
    "[lazy]",
    " & ~",
    "(?s:.*)",
    "\\p{L}",
    "(?i:",
    "\\u0000",
    "<[3]>",
];
