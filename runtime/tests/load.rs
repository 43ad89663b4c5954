//! What a model that can't be used costs until it is refused.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use quipu_formats::gguf::{Array, GgufFile, GgufWriter, Metadata, Value};
use quipu_formats::source::{Encoding, Source, TensorInfo};
use quipu_quant::TensorType;
use quipu_runtime::calibration::calibration_pass;
use quipu_runtime::config::Config;
use quipu_runtime::{Engine, LoadError, LoadOptions, WeightsError};

fn demo() -> GgufFile {
    GgufFile::open(Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/tales.gguf")).unwrap()
}

/// The demo model with other metadata.
fn write(path: PathBuf, change: impl Fn(&mut Metadata)) -> Box<dyn Source> {
    write_with(path, change, |_| {})
}

/// The demo model with other metadata and other tensors; those that were changed are zeros.
fn write_with(
    path: PathBuf,
    change: impl Fn(&mut Metadata),
    change_tensor: impl Fn(&mut TensorInfo),
) -> Box<dyn Source> {
    let source = demo();
    let mut metadata = source.metadata().clone();
    change(&mut metadata);
    let mut tensors = source.tensors().to_vec();
    tensors.iter_mut().for_each(change_tensor);
    let mut writer = GgufWriter::create(&path, None, &metadata, &tensors).unwrap();
    for (i, (tensor, before)) in tensors.iter().zip(source.tensors()).enumerate() {
        match tensor == before {
            true => writer.write_tensor_part(&source.rows(i, 0..tensor.rows())).unwrap(),
            false => writer.write_tensor_part(&vec![0; tensor.byte_len().unwrap()]).unwrap(),
        }
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

/// The tokenizer is read beside the weights, by a thread that another program may keep from running.
fn assert_early(part: f64) {
    if std::env::var_os("QUIPU_SKIP_TIMING").is_some() {
        return eprintln!("SKIPPED: how soon a tokenizer is refused: QUIPU_SKIP_TIMING is set");
    }
    assert!(part < 0.5, "{part} of the weights");
}

#[test]
fn a_bad_tokenizer_is_refused_before_the_weights_are_loaded() {
    let dir = tempfile::tempdir().unwrap();
    let abacus = |m: &mut Metadata| m.set("tokenizer.ggml.model", Value::String("abacus".into()));
    let (error, part) = refused(write(dir.path().join("model.gguf"), abacus));
    assert!(matches!(error, LoadError::Tokenizer { .. }) && error.to_string().contains("abacus"), "{error}");
    assert_early(part);
}

/// Memory is taken for tensors of two dimensions; a matrix of one row that claims to be a vector must not be packed
/// beyond it.
#[test]
fn a_vector_is_no_matrix() {
    let dir = tempfile::tempdir().unwrap();
    let one_unit = |m: &mut Metadata| m.set("llama.feed_forward_length", Value::U32(1));
    let flat = |tensor: &mut TensorInfo| {
        let kept: &[usize] = if tensor.name.contains("ffn_down") { &[1, tensor.rows()] } else { &[tensor.cols()] };
        if ["ffn_gate", "ffn_up", "ffn_down"].iter().any(|part| tensor.name.contains(part)) {
            (tensor.encoding, tensor.shape) = (Encoding::Plain(TensorType::F32), kept.to_vec());
        }
    };
    let (error, _) = refused(write_with(dir.path().join("model.gguf"), one_unit, flat));
    let error = error.to_string();
    assert!(error.contains("`blk.0.ffn_gate.weight` has shape [256]") && error.contains(", 1]"), "{error}");
}

/// A family's plan says what its files must have: the demo model's have neither biases nor norms of heads.
#[test]
fn what_a_family_must_have_is_missed_by_name() {
    let dir = tempfile::tempdir().unwrap();
    for (family, tensor) in [("qwen2", "blk.0.attn_q.bias"), ("qwen3", "blk.0.attn_q_norm.weight")] {
        let renamed = |m: &mut Metadata| {
            let keys: Vec<String> = m.iter().map(|(key, _)| key.to_string()).collect();
            for key in keys.iter().filter(|key| key.starts_with("llama.")) {
                let value = m.remove(key).unwrap();
                m.set(key.replace("llama.", &format!("{family}.")), value);
            }
            m.set("general.architecture", Value::String(family.into()));
        };
        let (error, part) = refused(write(dir.path().join(family), renamed));
        match error {
            LoadError::Weights(WeightsError::Missing { name, .. }) => assert_eq!(name, tensor),
            other => panic!("{other}"),
        }
        assert_eq!(part, 0.0, "nothing is packed before everything is found");
    }
}

#[test]
fn more_tokens_than_embeddings_are_refused_before_the_weights_are_loaded() {
    let dir = tempfile::tempdir().unwrap();
    let one_more = |m: &mut Metadata| {
        let Some(Value::Array(Array::String(mut tokens))) = m.remove("tokenizer.ggml.tokens") else { panic!("tokens") };
        let Some(Value::Array(Array::I32(mut types))) = m.remove("tokenizer.ggml.token_type") else { panic!("types") };
        tokens.push("one more");
        types.push(types[0]);
        m.set("tokenizer.ggml.tokens", Value::Array(Array::String(tokens)));
        m.set("tokenizer.ggml.token_type", Value::Array(Array::I32(types)));
    };
    let (error, part) = refused(write(dir.path().join("model.gguf"), one_more));
    assert!(matches!(error, LoadError::Vocabulary { tokens: 8193, rows: 8192, .. }), "{error}");
    assert_early(part);
}

/// llama.cpp's arrays have a number for each layer; where they are all the same, that is the model's number.
#[test]
fn arrays_of_one_number_for_all_layers_are_that_number() {
    let dir = tempfile::tempdir().unwrap();
    let config = |numbers: Vec<i32>| {
        let path = dir.path().join("model.gguf");
        let source = write(path, |m| m.set("llama.attention.head_count_kv", Value::Array(Array::I32(numbers.clone()))));
        Config::from_metadata(source.metadata())
    };
    let heads = Config::from_metadata(demo().metadata()).unwrap().kv_heads;
    assert_eq!(config(vec![heads as i32; 5]).unwrap().kv_heads, heads);
    for numbers in [vec![], vec![heads as i32, 1], vec![-1, -1]] {
        let error = config(numbers).unwrap_err().to_string();
        assert!(error.contains("head_count_kv") && error.contains("the same for all layers"), "{error}");
    }
}

/// The demo model with one more tensor called `name`.
fn with_extra(path: PathBuf, name: &str, change: impl Fn(&mut Metadata)) -> Box<dyn Source> {
    let source = demo();
    let mut metadata = source.metadata().clone();
    change(&mut metadata);
    let mut tensors = source.tensors().to_vec();
    tensors.push(TensorInfo::new(name, Encoding::Plain(TensorType::F32), vec![32]));
    let mut writer = GgufWriter::create(&path, None, &metadata, &tensors).unwrap();
    for (i, tensor) in source.tensors().iter().enumerate() {
        writer.write_tensor_part(&source.rows(i, 0..tensor.rows())).unwrap();
    }
    writer.write_tensor_part(&[0; 4 * 32]).unwrap();
    writer.finish().unwrap();
    Box::new(GgufFile::open(path).unwrap())
}

/// A model that was made with more than what its metadata tells would say something else without it.
#[test]
fn what_would_not_be_used_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = || dir.path().join("model.gguf");
    let layers = Config::from_metadata(demo().metadata()).unwrap().layers;
    let beyond = format!("blk.{layers}.attn_norm.weight");
    for name in [
        "blk.0.attn_q_norm.weight",
        "blk.0.attn_norm.bias",
        "blk.0.unheard.of",
        "blk.x.y",
        &beyond,
        "output_norm.bias",
        "token_embd_norm.weight",
        "token_types.weight",
    ] {
        let (error, part) = refused(with_extra(path(), name, |_| {}));
        assert!(matches!(&error, LoadError::Weights(WeightsError::Unused { name: n, .. }) if n == name), "{error}");
        assert_eq!(part, 0.0, "nothing is packed before that is known");
    }
    let fewer = |m: &mut Metadata| m.set("llama.block_count", Value::U32(layers as u32 - 1));
    let (error, _) = refused(write(path(), fewer));
    assert!(error.to_string().contains(&format!("the model has {} layers", layers - 1)), "{error}");
    // Calibration reads layer by layer.
    let pass = |source: Box<dyn Source>| {
        let (isa, cancel) = (quipu_runtime::Isa::best(), quipu_runtime::Cancel::new());
        calibration_pass(source.into(), &[vec![1, 2]], isa, &cancel, &mut |_, _| {}, &mut |_, _| {})
    };
    assert!(pass(write(path(), fewer)).unwrap_err().to_string().contains("would not be used"));
    assert!(pass(write(path(), |_| {})).is_ok());
}

#[test]
fn what_stands_beside_a_model_is_told_of() {
    let dir = tempfile::tempdir().unwrap();
    let source = with_extra(dir.path().join("model.gguf"), "v_head.summary.weight", |_| {});
    let engine = Engine::load(source, &LoadOptions::default(), &|_, _| {}).unwrap();
    let told = engine.oddities();
    assert!(told.len() == 1 && told[0].to_string().contains("v_head.summary.weight"), "{told:?}");
    let engine = Engine::load(Box::new(demo()), &LoadOptions::default(), &|_, _| {}).unwrap();
    assert!(engine.oddities().is_empty());
}
