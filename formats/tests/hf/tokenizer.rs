//! Tokenizers: tokens, types, scores, merges, special ids.

use quipu_formats::gguf::{Array, Metadata, Value as Gguf};
use quipu_formats::hf::{HfError, KeyError, SentencePieceFault, TokenizerFault, read_tokenizer};
use serde_json::{Value, json};

use crate::build::*;

/// The metadata of `llama`'s tokenizer.
fn read(llama: &Llama) -> Metadata {
    let dir = llama.write();
    read_tokenizer(dir.path(), Some(VOCAB)).unwrap_or_else(|e| panic!("{e}"))
}

fn fault(llama: &Llama) -> TokenizerFault {
    let dir = llama.write();
    match read_tokenizer(dir.path(), Some(VOCAB)) {
        Err(HfError::Tokenizer { fault, .. }) => *fault,
        Err(other) => panic!("expected a fault of the tokenizer, got {other}"),
        Ok(_) => panic!("this tokenizer should be refused"),
    }
}

fn ggml<'a>(m: &'a Metadata, key: &str) -> Option<&'a Gguf> {
    m.get(&format!("tokenizer.ggml.{key}"))
}

fn string(text: &str) -> Gguf {
    Gguf::String(text.into())
}

fn strings(texts: &[&str]) -> Gguf {
    Gguf::Array(Array::String(texts.iter().collect()))
}

fn spm() -> Llama {
    let config = json!({"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"});
    Llama::new().tokenizer(|t| *t = sentencepiece_style()).tokenizer_config(config)
}

#[test]
fn a_byte_level_tokenizer() {
    let m = read(&Llama::new());
    assert_eq!(ggml(&m, "model"), Some(&string("gpt2")));
    assert_eq!(ggml(&m, "pre"), Some(&string("llama-bpe")));
    assert!(m.get("quipu.tokenizer.pre").is_none(), "the name says everything");
    let tokens = [
        "a",
        "b",
        "c",
        "d",
        "e",
        "f",
        "g",
        "h",
        "i",
        "j",
        "k",
        "l",
        "Ġ",
        "ab",
        "abc",
        "Ġa",
        "<|begin|>",
        "<|end|>",
        "[PAD18]",
        "[PAD19]",
    ];
    assert_eq!(ggml(&m, "tokens"), Some(&strings(&tokens)));
    let types = [[1; 16].as_slice(), &[3, 3, 5, 5]].concat();
    assert_eq!(ggml(&m, "token_type"), Some(&Gguf::Array(Array::I32(types))));
    assert_eq!(ggml(&m, "merges"), Some(&strings(&["a b", "ab c", "Ġ a"])), "both spellings of a merge");
    assert!(ggml(&m, "scores").is_none());
    assert_eq!(ggml(&m, "bos_token_id"), Some(&Gguf::U32(16)));
    assert_eq!(ggml(&m, "eos_token_id"), Some(&Gguf::U32(17)));
    assert_eq!(ggml(&m, "add_bos_token"), Some(&Gguf::Bool(true)));
    assert_eq!(ggml(&m, "add_eos_token"), Some(&Gguf::Bool(false)));
}

#[test]
fn an_unknown_pattern_is_kept_whole() {
    let pre = json!({"type": "Sequence", "pretokenizers": [
        {"type": "Split", "pattern": {"Regex": "\\p{L}+|."}, "behavior": "Isolated", "invert": false},
        {"type": "ByteLevel", "add_prefix_space": false, "use_regex": false}
    ]});
    let m = read(&Llama::new().tokenizer(|t| t["pre_tokenizer"] = pre.clone()));
    assert_eq!(ggml(&m, "pre"), Some(&string("default")));
    let text = m.str_opt("quipu.tokenizer.pre").unwrap().unwrap();
    let exact: Value = serde_json::from_str(text).unwrap();
    assert_eq!(exact, json!({"normalizer": null, "pre_tokenizer": pre, "ignore_merges": true}));
}

#[test]
fn a_sentencepiece_style_tokenizer() {
    let m = read(&spm());
    assert_eq!(ggml(&m, "model"), Some(&string("llama")));
    assert_eq!(ggml(&m, "pre"), Some(&string("default")));
    assert!(m.get("quipu.tokenizer.pre").is_none());
    assert_eq!(ggml(&m, "add_space_prefix"), Some(&Gguf::Bool(true)));
    let tokens = m.strings_opt("tokenizer.ggml.tokens").unwrap().unwrap();
    assert!(tokens.iter().take(5).eq(["<unk>", "<s>", "</s>", "<0x00>", "<0x41>"]));
    // A reader looks for user-defined tokens in the text before spaces become ▁.
    assert!(tokens.iter().skip(13).eq(["<|user|>", "  ", "[PAD15]", "[PAD16]", "[PAD17]", "[PAD18]", "[PAD19]"]));
    let types = vec![2, 3, 3, 6, 6, 1, 1, 1, 1, 1, 1, 1, 1, 4, 4, 5, 5, 5, 5, 5];
    assert_eq!(ggml(&m, "token_type"), Some(&Gguf::Array(Array::I32(types))));
    let scores = m.f32s_opt("tokenizer.ggml.scores").unwrap().unwrap();
    // ab from merge 1, ▁a from merge 0, ▁ab from merges 2 and 3; zz from none.
    assert_eq!(scores[8..12], [-1.0, 0.0, -2.0, -5.0]);
    assert_eq!(scores[3..8], [0.0; 5]);
    assert!(scores[13..15].iter().all(|s| *s == -1000.0) && scores[15..].iter().all(|s| *s == -10000.0));
    assert!(ggml(&m, "merges").is_none());
    for (key, id) in [("bos_token_id", 1), ("eos_token_id", 2), ("unknown_token_id", 0)] {
        assert_eq!(ggml(&m, key), Some(&Gguf::U32(id)), "{key}");
    }
    assert_eq!(ggml(&m, "add_bos_token"), Some(&Gguf::Bool(true)));

    // Without the space before the text; and with a pre-tokenizer that GGUF has no words for.
    let replace = json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"});
    let m = read(&spm().tokenizer(|t| t["normalizer"] = replace));
    assert_eq!(ggml(&m, "add_space_prefix"), Some(&Gguf::Bool(false)));
    assert!(m.get("quipu.tokenizer.pre").is_none());
    let metaspace = json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": false});
    let m = read(&spm().tokenizer(|t| {
        t["normalizer"] = Value::Null;
        t["pre_tokenizer"] = metaspace.clone();
    }));
    assert_eq!(ggml(&m, "add_space_prefix"), Some(&Gguf::Bool(true)));
    let exact: Value = serde_json::from_str(m.str_opt("quipu.tokenizer.pre").unwrap().unwrap()).unwrap();
    assert_eq!(exact["pre_tokenizer"], metaspace);
}

/// A protocol buffer field.
fn field(number: u64, wire_type: u64, payload: &[u8]) -> Vec<u8> {
    let mut out = varint(number << 3 | wire_type);
    if wire_type == 2 {
        out.extend(varint(payload.len() as u64));
    }
    out.extend_from_slice(payload);
    out
}

fn varint(mut v: u64) -> Vec<u8> {
    let mut out = vec![];
    while v >= 0x80 {
        out.push(v as u8 | 0x80);
        v >>= 7;
    }
    out.push(v as u8);
    out
}

fn piece(text: &str, score: f32, kind: Option<u64>) -> Vec<u8> {
    let mut message = [field(1, 2, text.as_bytes()), field(2, 5, &score.to_le_bytes())].concat();
    if let Some(kind) = kind {
        message.extend(field(3, 0, &varint(kind)));
    }
    field(1, 2, &message)
}

/// A tokenizer.model with the pieces of [`sentencepiece_style`], `normalizer` and further bytes.
fn model_file(normalizer: &[u8], more: &[u8]) -> Vec<u8> {
    let kinds = [Some(2), Some(3), Some(3), Some(6), Some(6)];
    let texts = ["<unk>", "<s>", "</s>", "<0x00>", "<0x41>", "▁", "a", "b", "ab", "▁a", "▁ab", "zz", "z"];
    let mut file = vec![];
    for (i, text) in texts.iter().enumerate() {
        let score = if i < 5 { 0.0 } else { -(i as f32) - 0.5 };
        file.extend(piece(text, score, kinds.get(i).copied().flatten()));
    }
    file.extend(field(2, 2, &[field(3, 0, &varint(2)), field(35, 0, &varint(1))].concat()));
    file.extend(field(3, 2, normalizer));
    file.extend_from_slice(more);
    file
}

#[test]
fn scores_come_from_tokenizer_model_when_it_is_of_the_same_pieces() {
    let m = read(&spm().file("tokenizer.model", model_file(&[], &[])));
    let scores = m.f32s_opt("tokenizer.ggml.scores").unwrap().unwrap();
    assert_eq!(scores[5..13], [-5.5, -6.5, -7.5, -8.5, -9.5, -10.5, -11.5, -12.5]);
    let types = m.i32s_opt("tokenizer.ggml.token_type").unwrap().unwrap();
    assert_eq!(types[..6], [2, 3, 3, 6, 6, 1]);
    // Another model's pieces say nothing about this vocabulary.
    let other = [piece("<unk>", 0.0, Some(2)), piece("b", -7.0, None)].concat();
    let m = read(&spm().file("tokenizer.model", other));
    assert_eq!(m.f32s_opt("tokenizer.ggml.scores").unwrap().unwrap()[8..12], [-1.0, 0.0, -2.0, -5.0]);
}

#[test]
fn a_tokenizer_model_alone() {
    let config = json!({
        "bos_token": "<s>", "eos_token": "</s>", "unk_token": {"content": "<unk>"}, "pad_token": "<pad>",
        "added_tokens_decoder": {
            "0": {"content": "<unk>", "special": true}, "1": {"content": "<s>", "special": true},
            "13": {"content": "<pad>", "special": true}
        }
    });
    let mut llama = spm().tokenizer_config(config).file("added_tokens.json", r#"{"<|user|>": 14, "<pad>": 13}"#);
    llama.tokenizer = Value::Null;
    let with = |model: Vec<u8>| {
        let mut llama = Llama {
            files: llama.files.clone(),
            config: llama.config.clone(),
            tensors: vec![],
            tokenizer: Value::Null,
            tokenizer_config: llama.tokenizer_config.clone(),
            dtype: "BF16",
            raw: vec![],
        };
        llama = llama.file("tokenizer.model", model);
        llama
    };
    let m = read(&with(model_file(&[], &[])));
    assert_eq!(ggml(&m, "model"), Some(&string("llama")));
    let tokens = m.strings_opt("tokenizer.ggml.tokens").unwrap().unwrap();
    assert!(tokens.iter().skip(12).take(4).eq(["z", "<pad>", "<|user|>", "[PAD15]"]));
    assert!(m.get("quipu.tokenizer.added_tokens").is_none());
    // A token that takes white space with it: all that are found in texts are listed, its own control tokens, too.
    let mut taking = with(model_file(&[], &[]));
    taking.tokenizer_config["added_tokens_decoder"]["13"]["rstrip"] = json!(true);
    let list = read(&taking).str_opt("quipu.tokenizer.added_tokens").unwrap().unwrap().to_string();
    let list: Vec<Value> = serde_json::from_str(&list).unwrap();
    let listed: Vec<_> =
        list.iter().map(|t| (t["content"].as_str().unwrap(), t["special"] == true, t["rstrip"] == true)).collect();
    let plain = |content, special| (content, special, false);
    assert_eq!(
        listed,
        [
            plain("</s>", true),
            plain("<unk>", true),
            plain("<s>", true),
            ("<pad>", true, true),
            plain("<|user|>", false)
        ]
    );
    let types = m.i32s_opt("tokenizer.ggml.token_type").unwrap().unwrap();
    assert_eq!(types[..15], [2, 3, 3, 6, 6, 1, 1, 1, 1, 1, 1, 1, 1, 3, 4]);
    assert_eq!(ggml(&m, "padding_token_id"), Some(&Gguf::U32(13)));
    assert_eq!(ggml(&m, "add_bos_token"), Some(&Gguf::Bool(true)), "Llama 2's tokenizer puts <s> first");
    assert_eq!(ggml(&m, "add_space_prefix"), Some(&Gguf::Bool(true)));
    let m = read(&with(model_file(&field(3, 0, &varint(0)), &[])));
    assert_eq!(ggml(&m, "add_space_prefix"), Some(&Gguf::Bool(false)));

    let nmt = with(model_file(&field(2, 2, b"table"), &[]));
    assert!(matches!(fault(&nmt), TokenizerFault::UnsupportedOption { .. }));
    let unigram = with(model_file(&[], &field(2, 2, &field(3, 0, &varint(1)))));
    assert_eq!(fault(&unigram), TokenizerFault::UnsupportedModel { kind: "SentencePiece unigram".into() });
}

#[test]
fn every_broken_tokenizer_model_has_its_name() {
    let case = |bytes: Vec<u8>| match fault(&spm().file("tokenizer.model", bytes)) {
        TokenizerFault::SentencePiece(fault) => fault,
        other => panic!("{other}"),
    };
    use SentencePieceFault::*;
    assert_eq!(case(vec![]), NoPieces);
    assert_eq!(case(varint(5 << 3)), Truncated { at: 1, needed: 1, left: 0 });
    assert_eq!(case([varint(1 << 3 | 2), varint(u64::MAX)].concat()), Truncated { at: 11, needed: u64::MAX, left: 0 });
    assert_eq!(case([varint(9 << 3), vec![0xff; 11]].concat()), LongInteger { at: 1 });
    assert_eq!(case(vec![0]), Tag { at: 0, field: 0, wire_type: 0 });
    assert_eq!(case(vec![1 << 3 | 3]), Tag { at: 0, field: 1, wire_type: 3 });
    let expected = FieldType { message: "ModelProto", field: 1, expected: 2, found: 0 };
    assert_eq!(case(field(1, 0, &varint(7))), expected);
    let expected = FieldType { message: "SentencePiece", field: 2, expected: 5, found: 2 };
    assert_eq!(case(field(1, 2, &field(2, 2, b"x"))), expected);
    assert_eq!(case(field(1, 2, &field(1, 2, b"\xff"))), InvalidUtf8 { piece: 0 });
    assert_eq!(case([piece("a", 0.0, None), piece("b", 0.0, Some(7))].concat()), PieceType { piece: 1, found: 7 });
    assert_eq!(case(piece("a", f32::NAN, None)), Score { piece: 0, found: "NaN".into() });
    // Cut anywhere: named, or (between two fields) a shorter model; never a panic.
    let whole = model_file(&field(3, 0, &varint(0)), &[]);
    let dir = spm().write();
    for len in 0..whole.len() {
        std::fs::write(dir.path().join("tokenizer.model"), &whole[..len]).unwrap();
        let _ = read_tokenizer(dir.path(), Some(VOCAB));
    }
}

#[test]
fn every_broken_vocabulary_has_its_name() {
    let with = |edit: &dyn Fn(&mut Value)| fault(&Llama::new().tokenizer(|t| edit(t)));
    use TokenizerFault::*;
    let model = |kind: &str| UnsupportedModel { kind: kind.into() };
    assert_eq!(with(&|t| t["model"]["type"] = json!("WordPiece")), model("WordPiece"));
    assert_eq!(
        with(&|t| t["model"] = json!({"type": "Unigram", "unk_id": 0, "vocab": [["a", -1.0]]})),
        model("Unigram")
    );
    assert_eq!(with(&|t| t["model"] = json!({"vocab": {"a": 0}})), model("nameless"));
    assert!(matches!(with(&|t| t["model"]["end_of_word_suffix"] = json!("</w>")), UnsupportedOption { .. }));
    assert_eq!(with(&|t| t["pre_tokenizer"] = json!({"type": "Whitespace"})), UnknownAlphabet);
    assert_eq!(
        with(&|t| t["model"]["vocab"]["b"] = json!(0)),
        IdTwice { id: 0, first: "a".into(), second: "b".into() }
    );
    assert_eq!(
        with(&|t| t["model"]["vocab"]["b"] = json!(20)),
        BeyondVocabulary { token: "b".into(), id: 20, vocab_size: 20 }
    );
    assert_eq!(
        with(&|t| t["model"]["vocab"]["b"] = json!(u32::MAX)),
        BeyondVocabulary { token: "b".into(), id: u32::MAX, vocab_size: 20 }
    );
    for merge in [json!("ab"), json!("a b c"), json!(""), json!(["a ", "b"])] {
        match with(&|t| t["model"]["merges"][1] = merge.clone()) {
            MergeForm { number: 1, .. } => {}
            other => panic!("{merge}: {other}"),
        }
    }
    for (merge, token) in [("a c", "ac"), ("x b", "x"), ("a y", "y")] {
        let found = with(&|t| t["model"]["merges"][1] = json!(merge));
        assert_eq!(found, MergeUnknown { number: 1, token: token.into() });
    }
    assert_eq!(
        with(&|t| t["post_processor"] = json!({"type": "RobertaProcessing"})),
        PostProcessor { kind: "RobertaProcessing".into() }
    );
    let empty = json!({"type": "BPE", "vocab": {}, "merges": []});
    let no_tokens = with(&|t| {
        t["model"] = empty.clone();
        t["added_tokens"] = json!([]);
    });
    assert_eq!(no_tokens, Empty);
    // Without a model to say how many there are, an id cannot make the table grow without end.
    let far = Llama::new().tokenizer(|t| t["model"]["vocab"]["b"] = json!(u32::MAX)).write();
    assert!(
        matches!(read_tokenizer(far.path(), None), Err(HfError::Tokenizer { fault, .. }) if matches!(*fault, MostlyUnknown { .. }))
    );
    let dir = Llama::new().write();
    let error = read_tokenizer(dir.path(), Some(1 << 30)).unwrap_err();
    assert!(error.to_string().contains("another model"), "{error}");

    // A token of the vocabulary that occurs twice in the file.
    let text = Llama::new().tokenizer.to_string().replace(r#""b":1,"#, r#""b":1,"b":18,"#);
    std::fs::write(dir.path().join("tokenizer.json"), text).unwrap();
    match read_tokenizer(dir.path(), Some(VOCAB)) {
        Err(HfError::Tokenizer { path, fault }) => {
            assert!(path.ends_with("tokenizer.json"));
            assert_eq!(*fault, TokenTwice { token: "b".into(), first: 1, second: 18 });
        }
        other => panic!("{other:?}"),
    }
    for text in [
        "",
        "{}",
        "[]",
        r#"{"model":{"merges":[["a"]]}}"#,
        r#"{"model":{"merges":[5]}}"#,
        r#"{"model":{"vocab":{"a":-1}}}"#,
    ] {
        std::fs::write(dir.path().join("tokenizer.json"), text).unwrap();
        let error = read_tokenizer(dir.path(), Some(VOCAB)).unwrap_err();
        assert!(matches!(error, HfError::File(_)) && error.to_string().contains("tokenizer.json"), "{text}: {error}");
    }
    let mut none = Llama::new();
    none.tokenizer = Value::Null;
    assert!(matches!(fault(&none), NoTokenizer { .. }));
    let slow = none.file("vocab.json", "{}");
    assert!(slow.error().to_string().contains("save_pretrained"));
    // Of GPT-2's class the two files are a tokenizer.
    let mut none = Llama::new().tokenizer_config(json!({"tokenizer_class": "GPT2Tokenizer"}));
    none.tokenizer = Value::Null;
    let none = none.file("vocab.json", r#"{"a": 0, "b": 1}"#);
    assert!(none.error().to_string().contains("expected tokenizer.json"));
    let unknown = none.file("merges.txt", "#version: 0.2\na b\n").error().to_string();
    assert!(unknown.contains("vocab.json") && unknown.contains("\"ab\" is not in the vocabulary"), "{unknown}");
}

#[test]
fn added_tokens_without_an_embedding_are_left_out() {
    let llama = Llama::new().tokenizer(|t| {
        let added = t["added_tokens"].as_array_mut().unwrap();
        added.push(json!({"id": VOCAB, "content": "[PAD]", "special": true}));
    });
    let m = read(&llama);
    assert_eq!(m.strings_opt("tokenizer.ggml.tokens").unwrap().unwrap().len(), VOCAB);
}

#[test]
fn special_tokens_come_from_the_first_file_that_names_them() {
    let dir = |llama: Llama| read(&llama);
    // By text, before the ids of config.json.
    let m = dir(Llama::new().tokenizer_config(json!({})));
    assert_eq!(ggml(&m, "bos_token_id"), Some(&Gguf::U32(16)), "config.json");
    let m = dir(Llama::new()
        .tokenizer_config(json!({}))
        .file("special_tokens_map.json", r#"{"bos_token":{"content":"a"},"pad_token":"b"}"#));
    assert_eq!(ggml(&m, "bos_token_id"), Some(&Gguf::U32(0)), "special_tokens_map.json");
    assert_eq!(ggml(&m, "padding_token_id"), Some(&Gguf::U32(1)));
    assert_eq!(ggml(&m, "add_bos_token"), Some(&Gguf::Bool(false)), "the template puts another token first");
    let m = dir(Llama::new().tokenizer_config(json!({})).file("generation_config.json", r#"{"eos_token_id":[3,17]}"#));
    assert_eq!(ggml(&m, "eos_token_id"), Some(&Gguf::U32(3)), "generation_config.json before config.json");
    // -1 stands for no padding token.
    let m = dir(Llama::new().set("pad_token_id", json!(-1)));
    assert!(ggml(&m, "padding_token_id").is_none());
    // Explicit switches win over the template.
    let m =
        dir(Llama::new()
            .tokenizer_config(json!({"add_bos_token": false, "add_eos_token": true, "bos_token": "<|begin|>"})));
    assert_eq!(ggml(&m, "add_bos_token"), Some(&Gguf::Bool(false)));
    assert_eq!(ggml(&m, "add_eos_token"), Some(&Gguf::Bool(true)));
    // Nothing around the text, nothing added.
    let m = dir(Llama::new().tokenizer(|t| t["post_processor"] = Value::Null));
    assert_eq!(ggml(&m, "add_bos_token"), Some(&Gguf::Bool(false)));
    let both = json!({"type": "Sequence", "processors": [
        {"type": "ByteLevel"},
        {"type": "TemplateProcessing", "single": [
            {"SpecialToken": {"id": "<|begin|>"}}, {"Sequence": {"id": "A"}}, {"SpecialToken": {"id": "<|end|>"}}
        ]}
    ]});
    let m = dir(Llama::new().tokenizer(|t| t["post_processor"] = both));
    assert_eq!(
        (ggml(&m, "add_bos_token"), ggml(&m, "add_eos_token")),
        (Some(&Gguf::Bool(true)), Some(&Gguf::Bool(true)))
    );

    for (file, content, key) in [
        ("generation_config.json", r#"{"eos_token_id":"17"}"#, "eos_token_id"),
        ("special_tokens_map.json", r#"{"eos_token":[1]}"#, "eos_token"),
        ("chat_template.json", r#"{"chat_template":5}"#, "chat_template"),
        ("chat_template.json", r#"{"chat_template":[{"name":"x"}]}"#, "chat_template"),
    ] {
        let llama = Llama::new().tokenizer_config(json!({})).file(file, content);
        match fault(&llama) {
            TokenizerFault::Key(KeyError::Wrong { key: found, .. }) => assert_eq!(found, key),
            other => panic!("{content}: {other}"),
        }
    }
}

#[test]
fn every_way_to_end_is_kept() {
    let llama = Llama::new().tokenizer(|t| {
        let added = t["added_tokens"].as_array_mut().unwrap();
        added.push(json!({"id": 18, "content": "<|eot_id|>", "special": true}));
        added.push(json!({"id": 19, "content": "<|eom_id|>", "special": true}));
    });
    // Llama 3.2 Instruct's way: the tokenizer ends with <|eot_id|>, generation with any of three.
    let llama = llama
        .tokenizer_config(json!({"eos_token": "<|eot_id|>"}))
        .file("generation_config.json", r#"{"eos_token_id":[17,19,18]}"#);
    let m = read(&llama);
    for (key, id) in [("eos_token_id", 18), ("eot_token_id", 18), ("eom_token_id", 19)] {
        assert_eq!(ggml(&m, key), Some(&Gguf::U32(id)), "{key}");
    }
    assert_eq!(m.get("quipu.tokenizer.eos_token_ids"), Some(&Gguf::Array(Array::I32(vec![17, 19, 18]))));
    let m = read(&llama.tokenizer_config(json!({"eos_token": "<|end|>"})));
    assert_eq!(ggml(&m, "eos_token_id"), Some(&Gguf::U32(17)));
    assert!(m.get("quipu.tokenizer.eos_token_ids").is_none(), "the three keys name them all");
}
