//! llama.cpp's own test vectors: texts and the ids that Hugging Face's tokenizers give for them (ggml-vocab-*.gguf,
//! .inp, .out).

use std::path::{Path, PathBuf};

use quipu_formats::gguf::GgufFile;
use quipu_formats::source::Source;
use quipu_runtime::tokenizer::{TextStream, Tokenizer};

/// The directory with the vocabularies: `$QUIPU_SHARED`, or `shared` beside the workspace.
fn vocab_dir() -> Option<PathBuf> {
    let shared = std::env::var_os("QUIPU_SHARED")
        .map_or_else(|| Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared")).to_path_buf(), PathBuf::from);
    let dir = shared.join("data/vocab");
    if dir.is_dir() {
        return Some(dir);
    }
    eprintln!("SKIPPED: no vocabularies in {} (set QUIPU_SHARED)", dir.display());
    None
}

fn load(dir: &Path, name: &str) -> Tokenizer {
    let file = GgufFile::open(dir.join(format!("ggml-vocab-{name}.gguf"))).unwrap();
    Tokenizer::from_metadata(file.metadata()).unwrap()
}

fn vectors(dir: &Path, name: &str) -> Vec<(String, Vec<u32>)> {
    let read = |ending: &str| std::fs::read_to_string(dir.join(format!("ggml-vocab-{name}.gguf.{ending}"))).unwrap();
    let (texts, ids) = (read("inp"), read("out"));
    let ids: Vec<Vec<u32>> =
        ids.split('\n').map(|line| line.split_whitespace().map(|id| id.parse().unwrap()).collect()).collect();
    let texts: Vec<&str> = texts.split("\n__ggml_vocab_test__\n").collect();
    assert_eq!(texts.len(), ids.len(), "{name}");
    assert!(texts.len() > 40, "{name}");
    texts.into_iter().map(String::from).zip(ids).collect()
}

#[test]
fn published_vectors() {
    let Some(dir) = vocab_dir() else { return };
    for name in ["llama-bpe", "llama-spm", "gpt-2", "qwen2"] {
        let tokenizer = load(&dir, name);
        for (text, ids) in vectors(&dir, name) {
            assert_eq!(tokenizer.encode(&text, false, false), ids, "{name}: {text:?}");
            assert_eq!(tokenizer.decode(&ids, false), text, "{name}");
            let mut stream = TextStream::new(&tokenizer, false);
            let streamed: String = ids.iter().map(|id| stream.push(*id)).collect();
            assert_eq!(streamed + &stream.finish(), text, "{name}");
        }
    }
}

#[test]
fn llama3_specials() {
    let Some(dir) = vocab_dir() else { return };
    let tokenizer = load(&dir, "llama-bpe");
    assert_eq!(tokenizer.vocab_size(), 128_256);
    assert_eq!((tokenizer.bos(), tokenizer.eos(), tokenizer.add_bos()), (Some(128_000), Some(128_001), true));
    for (piece, ends) in
        [("<|end_of_text|>", true), ("<|eot_id|>", true), ("<|start_header_id|>", false), ("Hello", false)]
    {
        let id = tokenizer.id(piece).unwrap();
        assert_eq!(tokenizer.is_end_of_generation(id), ends, "{piece}");
        assert_eq!(tokenizer.piece(id), piece);
    }

    let chat = "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>";
    let parsed = [128_000, 128_006, 882, 128_007, 271, 13347, 128_009];
    assert_eq!(tokenizer.encode(chat, false, true), parsed);
    assert_eq!(tokenizer.encode(chat, true, true), parsed, "one BOS, not two");
    assert_eq!(tokenizer.encode("Hi", true, false), [128_000, 13347]);
    assert_eq!(tokenizer.encode("", true, false), [128_000]);
    assert!(tokenizer.encode(chat, false, false).iter().all(|id| *id < 128_000), "text cannot forge marks");
    assert_eq!(tokenizer.decode(&parsed, true), chat);
    assert_eq!(tokenizer.decode(&parsed, false), "user\n\nHi");

    // One past the vocabulary, as a model with padded logits may sample.
    assert_eq!((tokenizer.piece(128_256), tokenizer.token_bytes(128_256, true)), ("", &[][..]));
    assert_eq!(tokenizer.decode(&[u32::MAX], true), "");
}

#[test]
fn llama2_spaces() {
    let Some(dir) = vocab_dir() else { return };
    let tokenizer = load(&dir, "llama-spm");
    let ids = tokenizer.encode("Hello world", true, false);
    assert_eq!(ids.iter().map(|id| tokenizer.piece(*id)).collect::<Vec<_>>(), ["<s>", "▁Hello", "▁world"]);
    assert_eq!(tokenizer.decode(&ids, false), "Hello world");
    assert_eq!(tokenizer.decode(&ids, true), "<s>Hello world");

    // What a model writes after a prompt keeps its space, also when it comes in two parts.
    let mut stream = TextStream::continuing(&tokenizer, false);
    assert_eq!(stream.push(ids[2]), " world");
    // A sequence that begins with two spaces has one of its own.
    let ids = tokenizer.encode(" x", false, false);
    assert_eq!(tokenizer.decode(&ids, false), " x");

    // A character without a token: its bytes, and out of the stream in one piece.
    let ids = tokenizer.encode("🦙", false, false);
    assert_eq!(ids.len(), 5, "▁ and four bytes");
    let mut stream = TextStream::new(&tokenizer, false);
    let parts: Vec<String> = ids.iter().map(|id| stream.push(*id)).collect();
    assert_eq!(parts, ["", "", "", "", "🦙"]);
    // A broken one is replaced as soon as that is certain, an unfinished one at the end.
    let mut stream = TextStream::new(&tokenizer, false);
    let parts: Vec<String> = [ids[1], ids[2], ids[1]].iter().map(|id| stream.push(*id)).collect();
    assert_eq!(parts, ["", "", "\u{FFFD}"]);
    assert_eq!(stream.finish(), "\u{FFFD}");
}
