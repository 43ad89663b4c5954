//! The rules of a vocabulary, on vocabularies small enough to see through: what is refused, what is forgiven, and in
//! which order things happen.

use quipu_formats::gguf::{Array, Metadata, Value};
use quipu_runtime::tokenizer::{TextStream, Tokenizer};

const NORMAL: i32 = 1;
const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
const BYTE: i32 = 6;

fn strings<'a>(items: impl IntoIterator<Item = &'a str>) -> Value {
    Value::Array(Array::String(items.into_iter().collect()))
}

fn metadata(model: &str, tokens: &[(&str, i32)]) -> Metadata {
    let mut metadata = Metadata::default();
    metadata.set("tokenizer.ggml.model", Value::String(model.into()));
    metadata.set("tokenizer.ggml.tokens", strings(tokens.iter().map(|t| t.0)));
    metadata.set("tokenizer.ggml.token_type", Value::Array(Array::I32(tokens.iter().map(|t| t.1).collect())));
    metadata
}

/// Letters, a few merges, two marks and a user-defined token.
fn bpe() -> Metadata {
    let tokens = [
        ("a", NORMAL),
        ("b", NORMAL),
        ("c", NORMAL),
        ("Ġ", NORMAL),
        ("ab", NORMAL),
        ("bc", NORMAL),
        ("Ġa", NORMAL),
        ("<s>", CONTROL),
        ("<|im_end|>", USER_DEFINED),
        ("<tool>", USER_DEFINED),
        ("<tool>a", USER_DEFINED),
    ];
    let mut metadata = metadata("gpt2", &tokens);
    metadata.set("tokenizer.ggml.pre", Value::String("gpt-2".into()));
    metadata.set("tokenizer.ggml.merges", strings(["b c", "a b", "Ġ a"]));
    metadata.set("tokenizer.ggml.bos_token_id", Value::U32(7));
    metadata
}

/// Pieces with scores, all bytes, and Llama 2's three marks.
fn spm() -> Metadata {
    let bytes: Vec<String> = (0..256).map(|b| format!("<0x{b:02X}>")).collect();
    let mut tokens = vec![("<unk>", UNKNOWN), ("<s>", CONTROL), ("</s>", CONTROL)];
    tokens.extend(bytes.iter().map(|b| (b.as_str(), BYTE)));
    tokens.extend(["▁", "a", "b", "ab", "▁a", "aa", "ba"].map(|piece| (piece, NORMAL)));
    let mut metadata = metadata("llama", &tokens);
    let mut scores = vec![0.0; 259];
    scores.extend([-10.0, -11.0, -12.0, -2.0, -1.0, -2.0, -3.0]);
    metadata.set("tokenizer.ggml.scores", Value::Array(Array::F32(scores)));
    metadata
}

fn pieces(tokenizer: &Tokenizer, ids: &[u32]) -> Vec<String> {
    ids.iter().map(|id| tokenizer.piece(*id).to_string()).collect()
}

fn load(metadata: &Metadata) -> Tokenizer {
    Tokenizer::from_metadata(metadata).unwrap()
}

#[test]
fn what_is_refused() {
    type Change = fn(&mut Metadata);
    let cases: &[(&str, Metadata, Change, &str)] = &[
        ("no model", bpe(), |m| drop(m.remove("tokenizer.ggml.model")), "`tokenizer.ggml.model` is missing"),
        ("another model", bpe(), |m| m.set("tokenizer.ggml.model", Value::String("rwkv".into())), "`rwkv`"),
        ("model of a wrong type", bpe(), |m| m.set("tokenizer.ggml.model", Value::U32(1)), "expected a string"),
        ("no tokens", bpe(), |m| drop(m.remove("tokenizer.ggml.tokens")), "`tokenizer.ggml.tokens` is missing"),
        ("an empty vocabulary", bpe(), |m| m.set("tokenizer.ggml.tokens", strings([])), "is empty"),
        (
            "tokens that are numbers",
            bpe(),
            |m| m.set("tokenizer.ggml.tokens", Value::Array(Array::I32(vec![1]))),
            "expected an array of strings",
        ),
        (
            "too few types",
            bpe(),
            |m| m.set("tokenizer.ggml.token_type", Value::Array(Array::I32(vec![1]))),
            "`tokenizer.ggml.token_type` has 1 entries, but there are 11 tokens",
        ),
        (
            "too many scores",
            spm(),
            |m| m.set("tokenizer.ggml.scores", Value::Array(Array::F32(vec![0.0; 300]))),
            "`tokenizer.ggml.scores` has 300 entries, but there are 266 tokens",
        ),
        ("no scores", spm(), |m| drop(m.remove("tokenizer.ggml.scores")), "`tokenizer.ggml.scores` is missing"),
        ("no merges", bpe(), |m| drop(m.remove("tokenizer.ggml.merges")), "`tokenizer.ggml.merges` is missing"),
        (
            "an unknown pre-tokenizer",
            bpe(),
            |m| m.set("tokenizer.ggml.pre", Value::String("llama-9".into())),
            "unknown pre-tokenizer `llama-9`; known ones: ",
        ),
        (
            "a pre-tokenizer description that is none",
            bpe(),
            |m| m.set("quipu.tokenizer.pre", Value::String("{".into())),
            "`quipu.tokenizer.pre` is not a description",
        ),
        (
            "a vocabulary that is not byte-level",
            bpe(),
            |m| m.set("tokenizer.ggml.tokens", strings(["xx"; 11])),
            "none of the 256 byte tokens",
        ),
        (
            "neither bytes nor unknown",
            spm(),
            |m| m.set("tokenizer.ggml.token_type", Value::Array(Array::I32(vec![NORMAL; 266]))),
            "lacks 256 of the 256 byte tokens, the first of them `<0x00>`",
        ),
        (
            "an endless piece",
            spm(),
            |m| {
                let tokens: Vec<String> = (0..266).map(|i| "x".repeat(if i == 260 { 2000 } else { i + 1 })).collect();
                m.set("tokenizer.ggml.tokens", strings(tokens.iter().map(String::as_str)));
            },
            "token 260 is 2000 bytes long",
        ),
    ];
    for (name, metadata, change, message) in cases {
        let mut metadata = metadata.clone();
        change(&mut metadata);
        let error = Tokenizer::from_metadata(&metadata).expect_err(name).to_string();
        assert!(error.contains(message), "{name}: {error}");
    }
}

#[test]
fn an_unknown_token_stands_for_missing_bytes() {
    let mut metadata = metadata("llama", &[("<unk>", UNKNOWN), ("<s>", CONTROL), ("</s>", CONTROL), ("a", NORMAL)]);
    metadata.set("tokenizer.ggml.scores", Value::Array(Array::F32(vec![0.0; 4])));
    metadata.set("tokenizer.ggml.add_space_prefix", Value::Bool(false));
    assert_eq!(load(&metadata).encode("aéa", false, false), [3, 0, 0, 3]);
    // Files without types: marks and bytes are known by their spelling and place.
    metadata.remove("tokenizer.ggml.token_type");
    let tokenizer = load(&metadata);
    assert_eq!(tokenizer.encode("aé</s>", false, true), [3, 0, 0, 2]);
    assert_eq!(tokenizer.decode(&[1, 3, 2], false), "a");
}

#[test]
fn merges_go_by_rank_and_from_the_left() {
    let tokenizer = load(&bpe());
    let encode = |text: &str| pieces(&tokenizer, &tokenizer.encode(text, false, false));
    assert_eq!(encode("abc"), ["a", "bc"], "b c was learned first");
    assert_eq!(encode("ab"), ["ab"]);
    assert_eq!(encode("ab abc"), ["ab", "Ġa", "bc"]);
    assert_eq!(encode("aXb"), ["a", "b"], "a byte without a token vanishes");
}

/// The first of equal lines counts; lines that are no merges or whose pieces are unknown do no harm.
#[test]
fn odd_merges_are_passed_over() {
    let mut metadata = bpe();
    metadata.set(
        "tokenizer.ggml.merges",
        strings(["", " ", "b", "b ", " b", "x y", "a c", "a b", "b c", "b c", "a b", "b c d"]),
    );
    let tokenizer = load(&metadata);
    assert_eq!(pieces(&tokenizer, &tokenizer.encode("abc", false, false)), ["ab", "c"]);
}

#[test]
fn words_of_the_vocabulary_skip_the_merges_only_where_the_preset_says_so() {
    let mut metadata = bpe();
    metadata.set("tokenizer.ggml.merges", strings(["b c"]));
    let text = "ab";
    let tokenizer = load(&metadata);
    assert_eq!(pieces(&tokenizer, &tokenizer.encode(text, false, false)), ["a", "b"]);
    metadata.set("tokenizer.ggml.pre", Value::String("llama-bpe".into()));
    let tokenizer = load(&metadata);
    assert_eq!(pieces(&tokenizer, &tokenizer.encode(text, false, false)), ["ab"]);
    let description = r#"{"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": true}, "ignore_merges": true}"#;
    metadata.set("quipu.tokenizer.pre", Value::String(description.into()));
    let tokenizer = load(&metadata);
    assert_eq!(pieces(&tokenizer, &tokenizer.encode("a ab", false, false)), ["Ġa", "Ġ", "a", "b"], "a space in front");
}

#[test]
fn special_tokens() {
    let tokenizer = load(&bpe());
    let encode = |text: &str, special: bool| pieces(&tokenizer, &tokenizer.encode(text, false, special));
    assert_eq!(encode("a<tool>b", false), ["a", "<tool>", "b"], "user-defined tokens always");
    assert_eq!(encode("a<tool>ab", false), ["a", "<tool>a", "b"], "the longest");
    assert_eq!(encode("<s>a<s", true), ["<s>", "a"], "control tokens when asked");
    assert_eq!(encode("<s>a", false), ["a"], "otherwise they are text");

    // The name says what it is, whatever the file calls it.
    let end = tokenizer.id("<|im_end|>").unwrap();
    assert!(tokenizer.is_end_of_generation(end) && tokenizer.is_control(end));
    assert_eq!(encode("a<|im_end|>", false), ["a"]);
    assert_eq!(tokenizer.decode(&[0, end], false), "a");
    assert_eq!(tokenizer.decode(&[0, end], true), "a<|im_end|>");
    assert!(!tokenizer.is_end_of_generation(9));

    let mut metadata = bpe();
    metadata.set("tokenizer.ggml.eot_token_id", Value::U32(9));
    metadata.set("quipu.tokenizer.eos_token_ids", Value::Array(Array::I32(vec![0, 10])));
    let tokenizer = load(&metadata);
    let ends: Vec<u32> = (0..11).filter(|id| tokenizer.is_end_of_generation(*id)).collect();
    assert_eq!(ends, [0, 8, 9, 10], "all that the file lists, and what the name says");
}

/// As in llama.cpp: a conversion that typed `<|im_end|>` as text must not make answers endless, or forgeable.
#[test]
fn an_end_typed_as_text_is_an_end() {
    let retyped = |ty: i32| {
        let mut metadata = bpe();
        let mut types = metadata.i32s_opt("tokenizer.ggml.token_type").unwrap().unwrap().to_vec();
        types[8] = ty;
        metadata.set("tokenizer.ggml.token_type", Value::Array(Array::I32(types)));
        load(&metadata)
    };
    let tokenizer = retyped(NORMAL);
    assert!(tokenizer.is_end_of_generation(8) && tokenizer.is_control(8));
    assert_eq!(tokenizer.encode("<|im_end|>", false, true), [8]);
    assert!(!tokenizer.encode("<|im_end|>", false, false).contains(&8));
    let told: Vec<String> = tokenizer.oddities().iter().map(ToString::to_string).collect();
    assert!(told.len() == 1 && told[0].contains("<|im_end|>"), "{told:?}");
    assert!(retyped(USER_DEFINED).oddities().is_empty() && retyped(CONTROL).oddities().is_empty());
    assert!(!retyped(UNKNOWN).is_end_of_generation(8));
}

/// As llama.cpp does, and with a word about it.
#[test]
fn special_ids_that_no_token_has_are_ignored() {
    let mut metadata = bpe();
    let tokens = load(&metadata).vocab_size();
    let bad = Value::Array(Array::I32(vec![-2, 10, 11]));
    let keys = ["quipu.tokenizer.eos_token_ids", "tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id"];
    let values = [bad, Value::U32(tokens as u32), Value::I32(-3)];
    keys.iter().zip(values).for_each(|(key, value)| metadata.set(*key, value));
    let tokenizer = load(&metadata);
    let told: Vec<String> = tokenizer.oddities().iter().map(ToString::to_string).collect();
    for (key, id) in keys.iter().zip(["-2", "11", "-3"]) {
        assert!(told.iter().any(|line| line.contains(key) && line.contains(&format!(" {id},"))), "{key}: {told:?}");
    }
    assert_eq!(tokenizer.eos(), None);
    assert!(tokenizer.is_end_of_generation(10) && !tokenizer.is_end_of_generation(11));
    // Some writers put -1 for none.
    metadata.set("tokenizer.ggml.eot_token_id", Value::I32(-1));
    assert_eq!(load(&metadata).oddities().len(), told.len() - 1);
}

#[test]
fn bos_and_eos_once() {
    let mut metadata = bpe();
    assert_eq!(load(&metadata).encode("a", true, true), [0], "gpt-2 has no BOS unless the file says so");
    metadata.set("tokenizer.ggml.add_bos_token", Value::Bool(true));
    metadata.set("tokenizer.ggml.eos_token_id", Value::U32(7));
    metadata.set("tokenizer.ggml.add_eos_token", Value::Bool(true));
    let tokenizer = load(&metadata);
    assert_eq!(tokenizer.encode("a", true, true), [7, 0, 7]);
    assert_eq!(tokenizer.encode("<s>a", true, true), [7, 0, 7]);
    assert_eq!(tokenizer.encode("<s>a<s>", true, true), [7, 0, 7]);
    assert_eq!(tokenizer.encode("<s>a", false, true), [7, 0]);
    metadata.remove("tokenizer.ggml.bos_token_id");
    let tokenizer = load(&metadata);
    assert_eq!(tokenizer.encode("a", true, true), [0, 7], "a wish for a token that is not named");
    assert!(tokenizer.oddities()[0].to_string().contains("bos_token_id"), "{:?}", tokenizer.oddities());

    let mut metadata = spm();
    assert_eq!(pieces(&load(&metadata), &load(&metadata).encode("a", true, false)), ["<s>", "▁a"]);
    metadata.set("tokenizer.ggml.add_bos_token", Value::Bool(false));
    assert_eq!(pieces(&load(&metadata), &load(&metadata).encode("a", true, false)), ["▁a"]);
}

#[test]
fn scores_decide_in_sentencepiece() {
    let tokenizer = load(&spm());
    let encode = |text: &str| pieces(&tokenizer, &tokenizer.encode(text, false, false));
    assert_eq!(encode("ab"), ["▁a", "b"], "▁a before ab");
    assert_eq!(encode("baa"), ["▁", "b", "aa"]);
    assert_eq!(encode("baab"), ["▁", "b", "aa", "b"], "equal scores: the left one");
    assert_eq!(encode("é"), ["▁", "<0xC3>", "<0xA9>"]);
    assert_eq!(encode("<s><0x41>").len(), 10, "neither marks nor bytes can be written as text");
    assert_eq!(encode(""), [""; 0]);
}

#[test]
fn the_space_in_front() {
    let mut metadata = spm();
    let tokenizer = load(&metadata);
    let ids = tokenizer.encode("a</s>a", true, true);
    assert_eq!(pieces(&tokenizer, &ids), ["<s>", "▁a", "</s>", "▁a"], "after a special token too");
    let ids = tokenizer.encode("a", true, true);
    assert_eq!(tokenizer.decode(&ids, false), "a");
    assert_eq!(TextStream::continuing(&tokenizer, false).push(ids[1]), " a");
    // Marks put nothing into a text, but for those that somebody wants to see.
    let marks = tokenizer.encode("<s></s>", false, true);
    let mut stream = TextStream::continuing(&tokenizer, false).spelling([marks[1]]);
    assert_eq!([stream.push(marks[0]), stream.push(marks[1]), stream.push(ids[1])], ["", "</s>", " a"]);
    // A token that is nothing but the space.
    let ids = tokenizer.encode("b", false, true);
    let mut stream = TextStream::new(&tokenizer, false);
    assert_eq!([stream.push(ids[0]), stream.push(ids[1])], ["", "b"]);

    metadata.set("tokenizer.ggml.add_space_prefix", Value::Bool(false));
    let tokenizer = load(&metadata);
    let ids = tokenizer.encode(" a", false, false);
    assert_eq!(pieces(&tokenizer, &ids), ["▁a"]);
    assert_eq!(tokenizer.decode(&ids, false), " a");
}

/// Very long words, the kind of text that makes naive merging quadratic.
#[test]
fn a_megabyte_without_a_space() {
    let (bpe, spm) = (load(&bpe()), load(&spm()));
    for text in ["ab".repeat(1 << 19), "a".repeat(1 << 20), " ".repeat(1 << 20)] {
        for tokenizer in [&bpe, &spm] {
            let ids = tokenizer.encode(&text, false, false);
            assert!(tokenizer.decode(&ids, false) == text);
        }
    }
}
