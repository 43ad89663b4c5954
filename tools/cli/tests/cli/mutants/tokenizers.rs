//! Tokenizers with lies in them: tokenizer.json, SentencePiece's tokenizer.model, Meta's, and Mistral's tekken.json.

use std::path::Path;

use quipu_test_random::Random;
use serde_json::{Value as Json, json};

use super::bytes::{integer, mutate_bytes};
use super::hf::mutate_json;
use super::sentencepiece;

/// Texts that an added token, a piece of the vocabulary or a pattern may be.
const TEXTS: [&str; 16] = [
    "",
    " ",
    "  ",
    "\n",
    "▁",
    "Ġ",
    "a",
    "he",
    "the",
    "<s>",
    "<|eot_id|>",
    "\u{0}",
    "\u{301}",
    "\u{1b}[2J",
    "\u{fdfa}",
    "É",
];
/// Patterns that mean something, take their time, or are none.
const PATTERNS: [&str; 14] = [
    "",
    " ",
    "(a+)+$",
    r"(a)\1",
    "[",
    r"\p{Foo}",
    "x{1000000}",
    "(?i)ß",
    r"\s+(?!\S)",
    "(?=(a))",
    r"\b",
    ".*",
    "(((a{30}){30}){30})",
    r"[^\s\S]",
];

fn text(random: &mut Random) -> Json {
    match random.below(20) {
        0 => json!("a".repeat([1000, 70_000][random.below(2)])),
        _ => json!(TEXTS[random.below(TEXTS.len())]),
    }
}

fn pattern(random: &mut Random) -> Json {
    let kind = ["Regex", "String"][random.below(2)];
    json!({kind: PATTERNS[random.below(PATTERNS.len())]})
}

fn normalizer(random: &mut Random) -> Json {
    let names = [
        "NFC",
        "NFD",
        "NFKC",
        "NFKD",
        "Lowercase",
        "StripAccents",
        "Nmt",
        "BertNormalizer",
        "Precompiled",
        "ByteLevel",
    ];
    match random.below(8) {
        0 => json!({"type": "Prepend", "prepend": text(random)}),
        1 => json!({"type": "Replace", "pattern": pattern(random), "content": text(random)}),
        2 => json!({"type": "Strip", "strip_left": random.below(2) == 0, "strip_right": random.below(2) == 0}),
        3 => {
            let inner: Vec<Json> = (0..random.below(4)).map(|_| normalizer(random)).collect();
            json!({"type": "Sequence", "normalizers": inner})
        }
        _ => json!({"type": names[random.below(names.len())]}),
    }
}

fn pre_tokenizer(random: &mut Random) -> Json {
    let behaviors = ["Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous", "Whatever"];
    let behavior = behaviors[random.below(behaviors.len())];
    let scheme = ["first", "never", "always", "x"][random.below(4)];
    let names =
        ["Whitespace", "WhitespaceSplit", "BertPreTokenizer", "UnicodeScripts", "Punctuation", "Digits", "ByteLevel"];
    match random.below(9) {
        0 | 1 => {
            json!({"type": "Split", "pattern": pattern(random), "behavior": behavior, "invert": random.below(2) == 0})
        }
        2 => {
            json!({"type": "Metaspace", "replacement": text(random), "prepend_scheme": scheme})
        }
        3 => json!({"type": "CharDelimiterSplit", "delimiter": text(random)}),
        4 => json!({"type": "FixedLength", "length": integer(random)}),
        5 => {
            let inner: Vec<Json> = (0..random.below(4)).map(|_| pre_tokenizer(random)).collect();
            json!({"type": "Sequence", "pretokenizers": inner})
        }
        _ => json!({"type": names[random.below(names.len())]}),
    }
}

/// Changes one thing in a tokenizer.json; returns what.
fn mutate_tokenizer(json: &mut Json, random: &mut Random) -> String {
    match random.below(8) {
        0 | 1 => {
            let mut flag = || random.below(3) == 0;
            let flags = [flag(), flag(), flag(), flag(), flag()];
            let token = json!({
                "id": if random.below(2) == 0 { integer(random) } else { random.below(330) as u64 }, "content": text(random),
                "lstrip": flags[0], "rstrip": flags[1], "single_word": flags[2], "normalized": flags[3], "special": flags[4]
            });
            let what = format!("an added token {token}");
            if let Some(added) = json["added_tokens"].as_array_mut() {
                added.push(token);
            }
            what.chars().take(200).collect()
        }
        2 => {
            let made = normalizer(random);
            let what = format!("the normalizer {made}");
            json["normalizer"] = made;
            what.chars().take(200).collect()
        }
        3 => {
            let made = pre_tokenizer(random);
            let what = format!("the pre-tokenizer {made}");
            let before = json["pre_tokenizer"].take();
            json["pre_tokenizer"] = match random.below(3) {
                0 => made,
                1 => json!({"type": "Sequence", "pretokenizers": [made, before]}),
                _ => json!({"type": "Sequence", "pretokenizers": [before, made]}),
            };
            what.chars().take(200).collect()
        }
        4 => {
            let Some(merges) = json["model"]["merges"].as_array_mut().filter(|merges| !merges.is_empty()) else {
                return "no merges".into();
            };
            let (i, j) = (random.below(merges.len()), random.below(merges.len()));
            match random.below(5) {
                0 => merges.swap(i, j),
                1 => drop(merges.remove(i)),
                2 => merges[i] = merges[j].clone(),
                3 => merges[i] = json!([text(random), text(random)]),
                _ => merges[i] = text(random),
            }
            format!("merge {i}")
        }
        5 => {
            let Some(vocabulary) = json["model"]["vocab"].as_object_mut().filter(|vocabulary| !vocabulary.is_empty())
            else {
                return "no vocabulary".into();
            };
            let key = vocabulary.keys().nth(random.below(vocabulary.len())).unwrap().clone();
            let id = vocabulary.remove(&key).unwrap();
            match random.below(4) {
                0 => {}
                1 => drop(vocabulary.insert(key.clone(), json!(integer(random)))),
                2 => drop(vocabulary.insert(key.clone(), json!(random.below(vocabulary.len())))),
                _ => drop(vocabulary.insert(TEXTS[random.below(TEXTS.len())].into(), id)),
            }
            format!("the token {key:?}")
        }
        6 => {
            let keys = [
                "ignore_merges",
                "byte_fallback",
                "fuse_unk",
                "unk_token",
                "continuing_subword_prefix",
                "end_of_word_suffix",
                "dropout",
                "type",
            ];
            let key = keys[random.below(keys.len())];
            json["model"][key] =
                [json!(true), json!(false), json!(null), text(random), json!("WordPiece")][random.below(5)].clone();
            format!("model.{key}")
        }
        _ => mutate_json(json, random),
    }
}

fn read_json(path: &Path) -> Json {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// A tokenizer.json with lies instead of the one in `dir`; returns what.
pub fn lie_in_json(dir: &Path, random: &mut Random) -> String {
    let path = dir.join("tokenizer.json");
    let mut json = read_json(&path);
    let what: Vec<_> = (0..1 + random.below(3)).map(|_| mutate_tokenizer(&mut json, random)).collect();
    std::fs::write(path, json.to_string()).unwrap();
    what.join(", ")
}

/// SentencePiece's tokenizer.model instead of the tokenizer.json that says the same.
pub fn lie_in_sentencepiece(dir: &Path, random: &mut Random) -> String {
    let path = dir.join("tokenizer.json");
    let mut model = sentencepiece::of_json(&read_json(&path));
    if random.below(4) > 0 {
        std::fs::remove_file(path).unwrap();
    }
    let what: Vec<_> = (0..1 + random.below(3)).map(|_| sentencepiece::mutate(&mut model, random)).collect();
    let mut bytes = sentencepiece::bytes(&model);
    let other = if random.below(8) == 0 { mutate_bytes(&mut bytes, random) } else { String::new() };
    std::fs::write(dir.join("tokenizer.model"), bytes).unwrap();
    format!("{} {other}", what.join(", "))
}

/// RFC 4648.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let word = three.iter().chain(&[0, 0]).take(3).fold(0_usize, |word, b| word << 8 | usize::from(*b));
        for at in 0..4 {
            text.push(if at <= three.len() { DIGITS[word >> (18 - 6 * at) & 63].into() } else { '=' });
        }
    }
    text
}

/// All bytes and some tokens of several, in base64: fewer than the tiny models have rows.
fn ranked() -> Vec<String> {
    let several = ["he", "th", "the", " a", " t", " the", "in", "er", "\u{e9}", "  "].map(|t| t.as_bytes().to_vec());
    (0..=255u8).map(|byte| vec![byte]).chain(several).map(|token| base64(&token)).collect()
}

/// Meta's tokenizer.model, lines of tokens and ranks.
pub fn lie_in_tiktoken(dir: &Path, random: &mut Random) -> String {
    std::fs::remove_file(dir.join("tokenizer.json")).unwrap();
    let mut lines: Vec<String> = ranked().iter().enumerate().map(|(rank, token)| format!("{token} {rank}")).collect();
    let mut what = Vec::new();
    for _ in 0..random.below(4) {
        let (i, j) = (random.below(lines.len()), random.below(lines.len()));
        let rank = lines[i].rsplit(' ').next().unwrap_or_default().to_string();
        match random.below(9) {
            0 => lines.swap(i, j),
            1 => drop(lines.remove(i)),
            2 => lines[i] = lines[j].clone(),
            3 => lines[i] = String::new(),
            4 => lines[i] = format!("{} {}", base64(b"he"), integer(random)),
            5 => lines[i] = format!(" {rank}"),
            6 => lines[i] = format!("{} {rank}", base64(&b"a".repeat([20, 1024, 1025, 50_000][random.below(4)]))),
            7 => lines[i] = format!("{}== {rank}", TEXTS[random.below(TEXTS.len())]),
            _ => lines[i].push_str(["\r", " ", "\t1", " 1", "="][random.below(5)]),
        }
        what.push(format!("line {i}"));
    }
    let mut bytes = (lines.join("\n") + "\n").into_bytes();
    if random.below(6) == 0 {
        what.push(mutate_bytes(&mut bytes, random));
    }
    std::fs::write(dir.join("tokenizer.model"), bytes).unwrap();
    what.join(", ")
}

/// Mistral's tekken.json.
pub fn lie_in_tekken(dir: &Path, random: &mut Random) -> String {
    std::fs::remove_file(dir.join("tokenizer.json")).unwrap();
    let token = |(rank, token): (usize, &String)| json!({"rank": rank, "token_bytes": token, "token_str": null});
    let vocabulary: Vec<Json> = ranked().iter().enumerate().map(token).collect();
    let special = ["<unk>", "<s>", "</s>", "[INST]", "[/INST]"];
    let special: Vec<Json> =
        (0..).zip(special).map(|(rank, text)| json!({"rank": rank, "token_str": text, "is_control": true})).collect();
    let mut json = json!({
        "config": {"pattern": r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+", "num_vocab_tokens": vocabulary.len(),
                   "default_vocab_size": vocabulary.len() + 20, "default_num_special_tokens": 20, "version": "v3"},
        "vocab": vocabulary,
        "special_tokens": special,
    });
    let mut what = Vec::new();
    for _ in 0..random.below(4) {
        what.push(match random.below(4) {
            0 => {
                json["config"]["pattern"] = json!(PATTERNS[random.below(PATTERNS.len())]);
                "the pattern".to_string()
            }
            1 => {
                let size = ["default_vocab_size", "default_num_special_tokens", "num_vocab_tokens"][random.below(3)];
                json["config"][size] =
                    if random.below(2) == 0 { json!(integer(random)) } else { json!(random.below(320)) };
                size.to_string()
            }
            2 => {
                let tokens = ["", "aGU=", "aGU", "====", &base64(&b"a".repeat(1025)), &base64(&b"ab".repeat(500))]
                    .map(String::from);
                let i = random.below(266);
                json["vocab"][i] = json!({"rank": i, "token_bytes": tokens[random.below(tokens.len())]});
                format!("token {i}")
            }
            _ => mutate_json(&mut json, random),
        });
        if !json.is_object() || !json["vocab"].is_array() || !json["config"].is_object() {
            break;
        }
    }
    std::fs::write(dir.join("tekken.json"), json.to_string()).unwrap();
    what.join(", ")
}
