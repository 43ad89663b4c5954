//! What a model that can't be used costs until it is refused.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use quipu_formats::gguf::{Array, GgufFile, GgufWriter, Metadata, Value};
use quipu_formats::source::Source;
use quipu_runtime::{Engine, LoadError, LoadOptions};

fn demo() -> GgufFile {
    GgufFile::open(Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/tales.gguf")).unwrap()
}

/// The demo model with other metadata.
fn write(path: PathBuf, change: impl Fn(&mut Metadata)) -> Box<dyn Source> {
    let source = demo();
    let mut metadata = source.metadata().clone();
    change(&mut metadata);
    let mut writer = GgufWriter::create(&path, None, &metadata, source.tensors()).unwrap();
    for (i, tensor) in source.tensors().iter().enumerate() {
        writer.write_tensor_part(&source.rows(i, 0..tensor.rows())).unwrap();
    }
    writer.finish().unwrap();
    Box::new(GgufFile::open(path).unwrap())
}

/// The error, and which part of the weights was loaded before it, each tensor taking its time.
fn refused(source: Box<dyn Source>) -> (LoadError, f64) {
    let (done, all) = (AtomicU64::new(0), AtomicU64::new(1));
    let slowly = |loaded, total| {
        std::thread::sleep(Duration::from_millis(20));
        done.store(loaded, Ordering::Relaxed);
        all.store(total, Ordering::Relaxed);
    };
    let error = Engine::load(source, &LoadOptions::default(), &slowly).err().expect("a model without a tokenizer");
    (error, done.into_inner() as f64 / all.into_inner() as f64)
}

#[test]
fn a_bad_tokenizer_is_refused_before_the_weights_are_loaded() {
    let dir = tempfile::tempdir().unwrap();
    let abacus = |m: &mut Metadata| m.set("tokenizer.ggml.model", Value::String("abacus".into()));
    let (error, part) = refused(write(dir.path().join("model.gguf"), abacus));
    assert!(matches!(error, LoadError::Tokenizer { .. }) && error.to_string().contains("abacus"), "{error}");
    assert!(part < 0.5, "{part} of the weights");
}

#[test]
fn more_tokens_than_embeddings_are_refused_before_the_weights_are_loaded() {
    let dir = tempfile::tempdir().unwrap();
    let one_more = |m: &mut Metadata| {
        let Some(Value::Array(Array::String(mut tokens))) = m.remove("tokenizer.ggml.tokens") else { panic!("tokens") };
        let Some(Value::Array(Array::I32(mut types))) = m.remove("tokenizer.ggml.token_type") else { panic!("types") };
        tokens.push("one more".into());
        types.push(types[0]);
        m.set("tokenizer.ggml.tokens", Value::Array(Array::String(tokens)));
        m.set("tokenizer.ggml.token_type", Value::Array(Array::I32(types)));
    };
    let (error, part) = refused(write(dir.path().join("model.gguf"), one_more));
    assert!(matches!(error, LoadError::Vocabulary { tokens: 8193, rows: 8192, .. }), "{error}");
    assert!(part < 0.5, "{part} of the weights");
}
