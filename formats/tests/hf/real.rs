//! Real checkpoints and vocabularies.

use std::path::{Path, PathBuf};

use quipu_formats::gguf::{GgufFile, Metadata, Strings, Value as Gguf};
use quipu_formats::hf::{HfDirectory, RopeScaling, read_tokenizer};
use quipu_formats::source::Source;
use serde_json::Value;

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A file or directory of the data that is not shipped; `None`, with a visible line, where it is missing.
fn shared(path: &str) -> Option<PathBuf> {
    let root = std::env::var_os("QUIPU_SHARED").map_or_else(|| workspace().join("../shared"), PathBuf::from);
    let path = root.join(path);
    if path.exists() {
        return Some(path);
    }
    eprintln!("SKIPPED: {} is missing (QUIPU_SHARED names another place)", path.display());
    None
}

fn strings<'a>(m: &'a Metadata, key: &str) -> &'a Strings {
    m.strings_opt(key).unwrap().unwrap_or_else(|| panic!("no {key}"))
}

#[test]
fn the_demo_model() {
    let hf = HfDirectory::open(&workspace().join("models/tales")).unwrap();
    let c = hf.config();
    let s = c.sizes;
    assert_eq!((c.layers, s.hidden, s.heads, s.kv_heads, s.head_dim, s.vocabulary), (8, 256, 4, 2, 64, 8192));
    assert!(matches!(c.rope_scaling, RopeScaling::Llama3 { factor: 32.0, original_context: 8192.0, .. }) && c.tied);
    assert_eq!(hf.tensors().len(), 8 * 9 + 3, "nine a layer, embedding, norm, RoPE factors");
    let m = hf.metadata();
    assert_eq!(m.get("general.name"), Some(&Gguf::String("tales".into())));
    assert_eq!(m.get("general.size_label"), Some(&Gguf::String("8.4M".into())));
    assert_eq!(m.get("tokenizer.ggml.pre"), Some(&Gguf::String("llama-bpe".into())));
    assert_eq!(m.get("tokenizer.ggml.bos_token_id"), Some(&Gguf::U32(8184)));
    assert_eq!(m.get("tokenizer.ggml.eos_token_id"), Some(&Gguf::U32(8185)));
    assert_eq!(m.get("tokenizer.ggml.eot_token_id"), Some(&Gguf::U32(8188)));
    assert_eq!(m.get("tokenizer.ggml.add_bos_token"), Some(&Gguf::Bool(true)));
    let (tokens, types) =
        (strings(m, "tokenizer.ggml.tokens"), m.i32s_opt("tokenizer.ggml.token_type").unwrap().unwrap());
    assert_eq!((tokens.len(), types.len()), (8192, 8192));
    assert!(types[..8184].iter().all(|t| *t == 1) && types[8184..].iter().all(|t| *t == 3));
}

#[test]
fn the_checkpoints_that_transformers_wrote() {
    let tiny = |name: &str| HfDirectory::open(&workspace().join("tests/data").join(name)).unwrap();
    let three = tiny("tiny-llama3-bf16");
    assert!(matches!(three.config().rope_scaling, RopeScaling::Llama3 { original_context: 32.0, .. }));
    assert!(three.config().tied && three.find("rope_freqs.weight").is_some());
    let two = tiny("tiny-llama2-f16");
    assert_eq!(two.config().rope_scaling, RopeScaling::Linear { factor: 2.0 });
    assert!(two.config().biases == ["attention_bias", "mlp_bias"] && !two.config().tied);
    assert_eq!(two.config().sizes.head_dim, 24);
    assert_eq!(two.metadata().get("tokenizer.ggml.model"), Some(&Gguf::String("llama".into())));
    assert_eq!(two.metadata().get("general.file_type"), Some(&Gguf::U32(1)));
}

/// Keys, types, values and tensor bytes against llama.cpp's converter, all but the differences named here.
#[test]
fn what_llama_cpps_converter_writes() {
    // Their converter makes the name prettier. Here the version is added later, by the conversion, if anything is
    // quantised. The separator is BERT's.
    let common = ["general.name", "general.quantization_version", "tokenizer.ggml.add_sep_token"];
    // llama.cpp finds <|eot_id|> by its text when it loads.
    let three = ["tokenizer.ggml.eot_token_id"];
    // Without a tokenizer.model llama.cpp gives every piece the score -1000 (so it merges nothing rightly) and takes
    // <unk> for a control token; the space prefix is what it assumes anyway.
    let two = ["tokenizer.ggml.scores", "tokenizer.ggml.token_type", "tokenizer.ggml.add_space_prefix"];
    for (name, differing) in [("tiny-llama3-bf16", three.as_slice()), ("tiny-llama2-f16", &two)] {
        let data = workspace().join("tests/data");
        let ours = HfDirectory::open(&data.join(name)).unwrap();
        let theirs = GgufFile::open(data.join("llama_cpp_convert").join(name).with_extension("gguf")).unwrap();
        let keys = ours.metadata().iter().chain(theirs.metadata().iter()).map(|(key, _)| key);
        let mut same = 0;
        for key in keys.filter(|key| !common.contains(key) && !differing.contains(key)) {
            assert_eq!(ours.metadata().get(key), theirs.metadata().get(key), "{name}: {key}");
            same += 1;
        }
        assert!(same >= 2 * 20, "{name}: only {same} keys");
        assert_eq!(ours.tensors().len(), theirs.tensors().len());
        for (index, info) in ours.tensors().iter().enumerate() {
            let other = theirs.find(&info.name).unwrap_or_else(|| panic!("{name}: no {}", info.name));
            assert_eq!(info, &theirs.tensors()[other], "{name}");
            let (ours, theirs) = (ours.rows(index, 0..info.rows()), theirs.rows(other, 0..info.rows()));
            if info.name != "rope_freqs.weight" {
                assert!(ours == theirs, "{name}: bytes of {}", info.name);
                continue;
            }
            // Theirs are computed in f32.
            let values = |b: &[u8]| -> Vec<f32> {
                b.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
            };
            for (a, b) in values(&ours).into_iter().zip(values(&theirs)) {
                assert!((a / b - 1.0).abs() < 1e-6, "{name}: {a} is not {b}");
            }
        }
    }
}

/// A directory with copies of these `files` of the SentencePiece fixture.
fn sentencepiece(files: &[&str]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for file in files {
        std::fs::copy(workspace().join("tests/data/sentencepiece").join(file), dir.path().join(file)).unwrap();
    }
    dir
}

/// Pieces, scores and types as sentencepiece itself says them, from tokenizer.model alone and beside a tokenizer.json.
#[test]
fn a_model_that_sentencepiece_wrote() {
    let text = std::fs::read_to_string(workspace().join("tests/data/sentencepiece/pieces.json")).unwrap();
    let pieces: Vec<(String, f32, i32)> = serde_json::from_str(&text).unwrap();
    for files in [&["tokenizer.model"][..], &["tokenizer.model", "tokenizer.json"]] {
        let m = read_tokenizer(sentencepiece(files).path(), Some(pieces.len())).unwrap();
        let (tokens, scores) =
            (strings(&m, "tokenizer.ggml.tokens"), m.f32s_opt("tokenizer.ggml.scores").unwrap().unwrap());
        let types = m.i32s_opt("tokenizer.ggml.token_type").unwrap().unwrap();
        for (id, (piece, score, ty)) in pieces.iter().enumerate() {
            assert_eq!((&tokens[id], scores[id], types[id]), (piece.as_str(), *score, *ty), "{id} of {files:?}");
        }
        assert_eq!(m.bool_opt("tokenizer.ggml.add_space_prefix").unwrap(), Some(true));
        assert!(m.get("quipu.tokenizer.pre").is_none());
    }
}

/// Scores made from the merges of a tokenizer.json put the pieces in the order of SentencePiece's own scores.
#[test]
fn scores_from_merges_order_pieces_as_sentencepiece_does() {
    let theirs = read_tokenizer(sentencepiece(&["tokenizer.model", "tokenizer_config.json"]).path(), None).unwrap();
    let ours = read_tokenizer(sentencepiece(&["tokenizer.json", "tokenizer_config.json"]).path(), None).unwrap();
    for key in ["model", "tokens", "token_type", "bos_token_id", "eos_token_id", "unknown_token_id", "add_bos_token"] {
        let key = format!("tokenizer.ggml.{key}");
        assert!(ours.get(&key).is_some() && ours.get(&key) == theirs.get(&key), "{key} differs");
    }
    assert_same_order(&ours, &theirs);
}

/// The same of Llama 2's vocabulary, whose merges are listed here as transformers lists them: all pairs of pieces that
/// make a piece, by its score.
#[test]
fn scores_from_merges_order_llama_2s_pieces() {
    let Some(path) = shared("data/vocab/ggml-vocab-llama-spm.gguf") else { return };
    let gguf = GgufFile::open(path).unwrap();
    let theirs = gguf.metadata();
    let (tokens, scores) =
        (strings(theirs, "tokenizer.ggml.tokens"), theirs.f32s_opt("tokenizer.ggml.scores").unwrap().unwrap());
    let ids: std::collections::HashMap<&str, usize> = tokens.iter().enumerate().map(|(id, t)| (t, id)).collect();
    let mut merges: Vec<(f32, &str, &str)> = vec![];
    for (token, score) in tokens.iter().zip(scores) {
        for (at, _) in token.char_indices().skip(1) {
            let (left, right) = token.split_at(at);
            if ids.contains_key(left) && ids.contains_key(right) {
                merges.push((*score, left, right));
            }
        }
    }
    merges.sort_by(|a, b| b.0.total_cmp(&a.0));
    assert!(merges.len() > 50_000);
    let vocab: serde_json::Map<String, Value> =
        tokens.iter().enumerate().map(|(id, t)| (t.to_owned(), id.into())).collect();
    let special = |id: usize| serde_json::json!({"id": id, "content": tokens[id], "special": true});
    let json = serde_json::json!({
        "added_tokens": [special(0), special(1), special(2)],
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "▁"}, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
        ]},
        "model": {"type": "BPE", "byte_fallback": true, "unk_token": "<unk>", "vocab": vocab,
            "merges": merges.iter().map(|(_, l, r)| format!("{l} {r}")).collect::<Vec<_>>()}
    });
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("tokenizer.json"), json.to_string()).unwrap();
    let ours = read_tokenizer(dir.path(), Some(32_000)).unwrap();
    for key in ["model", "pre", "tokens", "token_type", "unknown_token_id"] {
        let key = format!("tokenizer.ggml.{key}");
        assert!(ours.get(&key).is_some() && ours.get(&key) == theirs.get(&key), "{key} differs");
    }
    assert_same_order(&ours, theirs);
}

/// Asserts that both vocabularies put the pieces of several characters in the same order of scores.
fn assert_same_order(ours: &Metadata, theirs: &Metadata) {
    let scores = |m: &Metadata| m.f32s_opt("tokenizer.ggml.scores").unwrap().unwrap().to_vec();
    let (ours, their_scores) = (scores(ours), scores(theirs));
    let types = theirs.i32s_opt("tokenizer.ggml.token_type").unwrap().unwrap();
    let tokens = strings(theirs, "tokenizer.ggml.tokens");
    let merged = |id: &usize| types[*id] == 1 && tokens[*id].chars().count() > 1;
    let mut order: Vec<usize> = (0..tokens.len()).filter(merged).collect();
    order.sort_by(|a, b| their_scores[*b].total_cmp(&their_scores[*a]));
    for pair in order.windows(2) {
        assert!(ours[pair[0]] > ours[pair[1]], "{:?} before {:?}", &tokens[pair[0]], &tokens[pair[1]]);
    }
}

/// Llama 3's tokenizer.json against the vocabulary that llama.cpp's converter made of it.
#[test]
fn llama_3s_vocabulary_is_what_llama_cpp_made_of_it() {
    let (Some(hf), Some(gguf)) = (shared("data/llama3-hf"), shared("data/vocab/ggml-vocab-llama-bpe.gguf")) else {
        return;
    };
    let hf = read_tokenizer(&hf, Some(128_256)).unwrap();
    let gguf = GgufFile::open(gguf).unwrap();
    let gguf = gguf.metadata();
    for key in ["model", "pre", "tokens", "token_type", "merges", "bos_token_id"] {
        let key = format!("tokenizer.ggml.{key}");
        assert!(hf.get(&key).is_some() && hf.get(&key) == gguf.get(&key), "{key} differs");
    }
    // The file that llama.cpp made is of the base model; this tokenizer_config.json is of the instruct model.
    assert_eq!(hf.get("tokenizer.ggml.eos_token_id"), Some(&Gguf::U32(128_009)));
    assert_eq!(hf.get("tokenizer.ggml.eot_token_id"), Some(&Gguf::U32(128_009)));
    assert_eq!(hf.get("tokenizer.ggml.add_bos_token"), Some(&Gguf::Bool(true)));
    assert!(hf.get("quipu.tokenizer.pre").is_none());
    assert!(hf.str_opt("tokenizer.chat_template").unwrap().unwrap().contains("<|start_header_id|>"));
}
