//! What happens to text before BPE, and the name that GGUF has for it.
//!
//! llama.cpp's converter hashes the ids of a test string and looks the hash up in a list, so every new vocabulary needs
//! a new entry. Here the steps themselves are compared: any vocabulary with a known pattern gets its name, and one with
//! an unknown pattern keeps the pattern (see `quipu.tokenizer.pre` in the module above).

use serde_json::{Value, json};

use super::file::TokenizerJson;

/// Llama 3's pattern; also of Falcon 3, DBRX, GPT-4.
pub(super) const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// As Llama 3's, but every digit by itself.
const QWEN2: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// What the step ByteLevel does with `use_regex`, written out.
const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
/// Mistral Nemo's and later ones'.
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const GPT4O: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const CJK: &str = "[一-龥ࠀ-一가-퟿]+";

/// A step of a pre-tokenizer, as far as the known ones have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step<'a> {
    /// Matches of a pattern, and what lies between, become pieces.
    Split(&'a str),
    /// Bytes become characters; without a pattern of its own.
    Bytes,
    /// The same after GPT-2's pattern.
    BytesGpt2,
    /// Every digit becomes a piece.
    Digits,
    /// Anything else.
    Other,
}

use Step::{Bytes, BytesGpt2, Digits, Split};

struct Known {
    /// llama.cpp's name (`src/llama-vocab.cpp`).
    name: &'static str,
    steps: &'static [Step<'static>],
    /// What llama.cpp does for this name.
    ignore_merges: bool,
    /// All readers of this name do exactly what the steps say.
    exact: bool,
}

const fn known(name: &'static str, steps: &'static [Step<'static>], ignore_merges: bool, exact: bool) -> Known {
    Known { name, steps, ignore_merges, exact }
}

/// The first entry with the same steps and `ignore_merges` counts, or else the first with the same steps.
const KNOWN: &[Known] = &[
    known("llama-bpe", &[Split(LLAMA3), Bytes], true, true),
    known("smaug-bpe", &[Split(LLAMA3), Bytes], false, false),
    known("gpt-2", &[BytesGpt2], false, true),
    known("gpt-2", &[Split(GPT2), Bytes], false, true),
    known("qwen2", &[Split(QWEN2), Bytes], false, true),
    known("smollm", &[Digits, BytesGpt2], false, true),
    // llama.cpp approximates the letter classes of these two.
    known("tekken", &[Split(TEKKEN), Bytes], true, false),
    known("gpt-4o", &[Split(GPT4O), Bytes], false, false),
    known(
        "deepseek-coder",
        &[Split("[\r\n]"), Split(r"\s?\p{L}+"), Split(r"\s?\p{P}+"), Split(CJK), Digits, Bytes],
        false,
        false,
    ),
];

/// The name for a byte-level tokenizer's pre-tokenizer, and whether the name says everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Naming {
    pub name: &'static str,
    pub says_all: bool,
}

/// Names the pre-tokenizer of a byte-level tokenizer.
pub(super) fn name(json: &TokenizerJson) -> Naming {
    let steps: Vec<Step> = flatten(&json.pre_tokenizer, "pretokenizers").into_iter().map(step).collect();
    let ignores = json.model.ignore_merges;
    let same_steps = || KNOWN.iter().filter(|k| k.steps == steps);
    let Some(found) = same_steps().find(|k| k.ignore_merges == ignores).or_else(|| same_steps().next()) else {
        return Naming { name: "default", says_all: false };
    };
    let normalizers = flatten(&json.normalizer, "normalizers");
    // Qwen's own files have NFC before the pattern; the name stands for both.
    let usual_normalizer = match normalizers.as_slice() {
        [] => found.name != "qwen2",
        [only] => found.name == "qwen2" && only["type"] == "NFC",
        _ => false,
    };
    Naming { name: found.name, says_all: found.exact && found.ignore_merges == ignores && usual_normalizer }
}

/// True when the pre-tokenizer turns bytes into characters.
pub(super) fn is_byte_level(json: &TokenizerJson) -> bool {
    flatten(&json.pre_tokenizer, "pretokenizers").iter().any(|s| s["type"] == "ByteLevel")
}

/// The value of `quipu.tokenizer.pre`.
pub(super) fn exact(json: &TokenizerJson) -> Value {
    json!({
        "normalizer": json.normalizer,
        "pre_tokenizer": json.pre_tokenizer,
        "ignore_merges": json.model.ignore_merges,
    })
}

/// Whether a SentencePiece-style tokenizer puts a space before the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SpacePrefix {
    pub add: bool,
    /// Nothing happens to the text but that, and that every space becomes ▁.
    pub says_all: bool,
}

/// Tells from normalizer (Llama 2: `Prepend` and `Replace`) or pre-tokenizer (`Metaspace`) whether a space comes first.
pub(super) fn space_prefix(json: &TokenizerJson) -> SpacePrefix {
    let normalizers = flatten(&json.normalizer, "normalizers");
    let pre = flatten(&json.pre_tokenizer, "pretokenizers");
    let is_prepend = |s: &Value| s["type"] == "Prepend" && s["prepend"] == "▁";
    let is_replace = |s: &Value| s["type"] == "Replace" && s["pattern"]["String"] == " " && s["content"] == "▁";
    let metaspace = pre.iter().find(|s| s["type"] == "Metaspace");
    // Files from before `prepend_scheme` have `add_prefix_space`, true when absent.
    let metaspace_adds = metaspace.is_some_and(|s| match s["prepend_scheme"].as_str() {
        Some(scheme) => scheme != "never",
        None => s["add_prefix_space"].as_bool().unwrap_or(true),
    });
    let add = normalizers.iter().any(|s| is_prepend(s)) || metaspace_adds;
    let says_all = match (normalizers.as_slice(), pre.as_slice()) {
        ([first, second], []) => is_prepend(first) && is_replace(second),
        ([only], []) => is_replace(only),
        // Gemma cuts at spaces, of which none are left.
        ([only], [split]) if split["type"] == "Split" => is_replace(only) && split["pattern"]["String"] == " ",
        // Metaspace puts no second ▁ where the text starts with one, which GGUF's flag does.
        ([], [only]) => metaspace.is_some() && !add && only["split"] == false,
        _ => false,
    };
    SpacePrefix { add, says_all }
}

/// A step, or those of a `Sequence` (whose list is under `list`), in order.
fn flatten<'a>(value: &'a Value, list: &str) -> Vec<&'a Value> {
    if value.is_null() {
        return Vec::new();
    }
    match value[list].as_array() {
        Some(steps) if value["type"] == "Sequence" => steps.iter().flat_map(|s| flatten(s, list)).collect(),
        _ => vec![value],
    }
}

fn step(value: &Value) -> Step<'_> {
    let flag = |key: &str, default: bool| value[key].as_bool().unwrap_or(default);
    match value["type"].as_str() {
        Some("Split") => {
            // The known patterns match everything, so keeping only matches (`Removed`, inverted) is the same as
            // isolating them.
            let isolates = value["behavior"] == "Isolated" && !flag("invert", false);
            let keeps_matches = value["behavior"] == "Removed" && flag("invert", false);
            match value["pattern"]["Regex"].as_str() {
                Some(pattern) if isolates || keeps_matches => Split(pattern),
                _ => Step::Other,
            }
        }
        Some("ByteLevel") => match (flag("add_prefix_space", true), flag("use_regex", true)) {
            (false, false) => Bytes,
            (false, true) => BytesGpt2,
            (true, _) => Step::Other,
        },
        Some("Digits") if flag("individual_digits", false) => Digits,
        _ => Step::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokenizer(normalizer: Value, pre_tokenizer: Value, ignore_merges: bool) -> TokenizerJson {
        serde_json::from_value(json!({
            "normalizer": normalizer, "pre_tokenizer": pre_tokenizer,
            "model": {"type": "BPE", "vocab": {}, "merges": [], "ignore_merges": ignore_merges, "byte_fallback": true}
        }))
        .unwrap()
    }

    fn split(pattern: &str) -> Value {
        json!({"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false})
    }

    fn bytes(use_regex: bool) -> Value {
        json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": use_regex})
    }

    fn sequence(steps: &[Value]) -> Value {
        json!({"type": "Sequence", "pretokenizers": steps})
    }

    #[test]
    fn known_steps_have_their_name() {
        let digits = json!({"type": "Digits", "individual_digits": true});
        let removed = json!({"type": "Split", "pattern": {"Regex": LLAMA3}, "behavior": "Removed", "invert": true});
        let nfc = json!({"type": "NFC"});
        let empty = json!({"type": "Sequence", "normalizers": []});
        let cases = [
            (json!(null), sequence(&[split(LLAMA3), bytes(false)]), true, "llama-bpe", true),
            (empty, sequence(&[sequence(&[removed]), bytes(false)]), true, "llama-bpe", true),
            (json!(null), sequence(&[split(LLAMA3), bytes(false)]), false, "smaug-bpe", false),
            (nfc.clone(), sequence(&[split(LLAMA3), bytes(false)]), true, "llama-bpe", false),
            (json!(null), bytes(true), false, "gpt-2", true),
            (json!(null), bytes(true), true, "gpt-2", false),
            (json!(null), sequence(&[split(GPT2), bytes(false)]), false, "gpt-2", true),
            (nfc, sequence(&[split(QWEN2), bytes(false)]), false, "qwen2", true),
            (json!(null), sequence(&[split(QWEN2), bytes(false)]), false, "qwen2", false),
            (json!(null), sequence(&[digits, bytes(true)]), false, "smollm", true),
            (json!(null), sequence(&[split(TEKKEN), bytes(false)]), true, "tekken", false),
            (json!(null), sequence(&[split(r"\w+"), bytes(false)]), false, "default", false),
            (json!(null), json!({"type": "ByteLevel", "use_regex": true}), false, "default", false),
        ];
        for (normalizer, pre, ignore_merges, expected, says_all) in cases {
            let found = name(&tokenizer(normalizer, pre.clone(), ignore_merges));
            assert_eq!(found, Naming { name: expected, says_all }, "{pre}");
        }
    }

    #[test]
    fn the_space_before_the_text() {
        let prepend = json!({"type": "Prepend", "prepend": "▁"});
        let replace = json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"});
        let llama2 = json!({"type": "Sequence", "normalizers": [prepend, replace]});
        let metaspace =
            |scheme: &str| json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": false});
        let cases = [
            (llama2, json!(null), true, true),
            (replace, json!(null), false, true),
            (json!(null), metaspace("first"), true, false),
            (json!(null), metaspace("never"), false, true),
            (json!(null), json!({"type": "Metaspace", "replacement": "▁", "add_prefix_space": false}), false, false),
            (json!({"type": "NFKC"}), metaspace("never"), false, false),
        ];
        for (normalizer, pre, add, says_all) in cases {
            let found = space_prefix(&tokenizer(normalizer.clone(), pre.clone(), false));
            assert_eq!(found, SpacePrefix { add, says_all }, "{normalizer} {pre}");
        }
    }
}
