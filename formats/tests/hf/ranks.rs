//! Vocabularies of ranked byte strings: Llama 3's tokenizer.model, Mistral's tekken.json.

use std::path::PathBuf;

use quipu_formats::gguf::Metadata;
use quipu_formats::hf::{HfError, TokenizerFault, read_tokenizer};
use serde_json::{Map, Value, json};

use crate::build::Llama;

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

fn tiktoken(tokens: &[Vec<u8>]) -> String {
    tokens.iter().enumerate().map(|(rank, token)| format!("{} {rank}\n", base64(token))).collect()
}

/// All bytes, then some tokens of several.
fn tokens() -> Vec<Vec<u8>> {
    let several = ["ab", "bc", "abc", " a", "é", "\"\\"].map(|t| t.as_bytes().to_vec());
    (0..=255u8).map(|b| vec![b]).chain(several).collect()
}

fn read(dir: &std::path::Path, size: usize) -> Result<Metadata, TokenizerFault> {
    match read_tokenizer(dir, Some(size)) {
        Ok(metadata) => Ok(metadata),
        Err(HfError::Tokenizer { fault, .. }) => Err(*fault),
        Err(other) => panic!("{other}"),
    }
}

fn strings(metadata: &Metadata, key: &str) -> Vec<String> {
    metadata.strings_opt(key).unwrap().unwrap().iter().map(str::to_string).collect()
}

#[test]
fn tokens_and_merges_of_tiktoken() {
    let dir = tempfile::tempdir().unwrap();
    let tokens = tokens();
    let mut llama = Llama::new();
    llama.tokenizer = Value::Null;
    llama.tokenizer_config = json!({});
    llama.write_small_files(dir.path());
    std::fs::write(dir.path().join("tokenizer.model"), tiktoken(&tokens)).unwrap();
    let found = read(dir.path(), 262 + 256).unwrap();
    let names = strings(&found, "tokenizer.ggml.tokens");
    assert_eq!(names[usize::from(b'a')], "a");
    assert_eq!(names[256..262], ["ab", "bc", "abc", "Ġa", "Ã©", "\"\\"]);
    assert_eq!(
        names[262..266],
        ["<|begin_of_text|>", "<|end_of_text|>", "<|reserved_special_token_0|>", "<|reserved_special_token_1|>"]
    );
    assert_eq!((names[262 + 9].as_str(), names[262 + 255].as_str()), ("<|eot_id|>", "<|reserved_special_token_250|>"));
    // Each way to make a token, by the token's rank, then by those of the two: `a bc` before `ab c`.
    let merges = strings(&found, "tokenizer.ggml.merges");
    assert_eq!(merges, ["a b", "b c", "a bc", "ab c", "Ġ a", "Ã ©", "\" \\"]);
    assert_eq!(found.str_opt("tokenizer.ggml.pre").unwrap(), Some("llama-bpe"));

    for (text, what) in [
        ("YQ== 0\nYg== 2\n", "rank 2, expected 1"),
        ("YQ== 0\nYg==\n", "line 2: expected a token"),
        ("YQ== 0\nYQ== 1\n", "rank 1 is there twice"),
        ("YQ== 0\n*** 1\n", "line 2: expected a token"),
    ] {
        std::fs::write(dir.path().join("tokenizer.model"), text).unwrap();
        let error = read(dir.path(), 300).err().unwrap();
        assert!(matches!(&error, TokenizerFault::Ranks { what: found } if found.contains(what)), "{error}");
    }
    let long = tiktoken(&[vec![b'a'], vec![b'a'; 1025]]);
    std::fs::write(dir.path().join("tokenizer.model"), long).unwrap();
    assert!(read(dir.path(), 300).err().unwrap().to_string().contains("1025 bytes"));
}

#[test]
fn tokens_of_tekken() {
    let dir = tempfile::tempdir().unwrap();
    let tokens = tokens();
    let entry =
        |(rank, token): (usize, &Vec<u8>)| json!({"rank": rank, "token_bytes": base64(token), "token_str": null});
    let mut file = json!({
        "config": {"pattern": "\\w+", "default_vocab_size": 4 + 260, "default_num_special_tokens": 4, "version": "v7"},
        "vocab": tokens.iter().enumerate().map(entry).collect::<Vec<_>>(),
        "special_tokens": [{"rank": 0, "token_str": "<unk>"}, {"rank": 1, "token_str": "<s>"}, {"rank": 2, "token_str": "</s>"}]
    });
    let read = |file: &Value| {
        std::fs::write(dir.path().join("tekken.json"), file.to_string()).unwrap();
        read(dir.path(), 264)
    };
    let names = strings(&read(&file).unwrap(), "tokenizer.ggml.tokens");
    assert_eq!(names[..4], ["<unk>", "<s>", "</s>", "<SPECIAL_3>"]);
    assert_eq!(
        (names[4 + 97].as_str(), names[4 + 259].as_str(), names.len()),
        ("a", "Ġa", 264),
        "those beyond the size do not count"
    );
    file["config"]["default_num_special_tokens"] = json!(22);
    file["config"]["default_vocab_size"] = json!(22 + 256);
    file["special_tokens"] = json!([]);
    let error = read(&file).err();
    assert!(error.is_some(), "more tokens than rows");
    for (key, value) in [
        ("default_vocab_size", json!(-1)),
        ("default_num_special_tokens", json!(1 << 30)),
        ("default_num_special_tokens", json!(null)),
        ("pattern", json!(3)),
    ] {
        let mut wrong = file.clone();
        wrong["config"][key] = value;
        assert!(matches!(read(&wrong), Err(TokenizerFault::Ranks { .. })), "{key}");
    }
    file["vocab"][3]["token_bytes"] = json!("*");
    assert!(matches!(read(&file), Err(TokenizerFault::Ranks { what }) if what.contains("vocab[3]")));
}

/// Llama 3.1's vocabulary as Meta has it gives the tokens and all 280,147 merges of Hugging Face's tokenizer.json.
#[test]
fn llama_3_is_what_hugging_face_made_of_it() {
    let Some(shared) = std::env::var_os("QUIPU_SHARED").map(PathBuf::from) else {
        return eprintln!("SKIPPED: QUIPU_SHARED is not set, so Llama 3's vocabulary is not compared");
    };
    let original = shared.join("data/llama3-hf");
    let json: Value = serde_json::from_slice(&std::fs::read(original.join("tokenizer.json")).unwrap()).unwrap();
    let visible = |b: &u8| matches!(b, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    let hidden: Vec<u8> = (0..=255).filter(|b| !visible(b)).collect();
    let byte = |letter: char| match u32::from(letter) {
        code @ 0..=255 => code as u8,
        code => hidden[code as usize - 256],
    };
    let vocabulary = json["model"]["vocab"].as_object().unwrap();
    let mut tokens = vec![Vec::new(); vocabulary.len()];
    for (token, rank) in vocabulary {
        tokens[rank.as_u64().unwrap() as usize] = token.chars().map(byte).collect();
    }
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("tokenizer.model"), tiktoken(&tokens)).unwrap();
    std::fs::copy(original.join("tokenizer_config.json"), dir.path().join("tokenizer_config.json")).unwrap();
    let names: Map<String, Value> = json["added_tokens"]
        .as_array()
        .unwrap()
        .iter()
        .map(|t| (t["content"].as_str().unwrap().into(), t["id"].clone()))
        .collect();
    if names.contains_key("<|eom_id|>") {
        std::fs::write(dir.path().join("config.json"), r#"{"rope_scaling": {"rope_type": "llama3"}}"#).unwrap();
    }
    let (ours, theirs) = (read(dir.path(), 128_256).unwrap(), read(&original, 128_256).unwrap());
    for key in ["tokens", "merges"] {
        let key = format!("tokenizer.ggml.{key}");
        assert!(strings(&ours, &key) == strings(&theirs, &key), "{key}");
    }
    assert_eq!(strings(&ours, "tokenizer.ggml.merges").len(), 280_147);
    for key in ["token_type", "pre", "model", "bos_token_id", "eos_token_id", "eot_token_id", "add_bos_token"] {
        let key = format!("tokenizer.ggml.{key}");
        assert_eq!(ours.get(&key), theirs.get(&key), "{key}");
    }
}
