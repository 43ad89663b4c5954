//! Directories whose weights are PyTorch's files.

use std::path::Path;

use quipu_formats::hf::{HfDirectory, HfError, WeightsFault};
use quipu_formats::source::Source;
use serde_json::{Map, json};

use crate::build::Llama;
use crate::torch_build::{Tensor, checkpoint};

fn tensors(llama: &Llama) -> Vec<Tensor> {
    let tensor = |(name, _, shape, bytes)| (name, "BFloat16Storage", 2, shape, bytes);
    llama.payload().into_iter().map(tensor).collect()
}

fn assert_same(found: &HfDirectory, expected: &HfDirectory) {
    assert_eq!(found.tensors(), expected.tensors());
    for (index, info) in expected.tensors().iter().enumerate() {
        assert_eq!(found.rows(index, 0..info.rows()), expected.rows(index, 0..info.rows()), "{}", info.name);
    }
}

#[test]
fn one_file_and_several_are_what_safetensors_are() {
    let llama = Llama::new();
    let (expected, _dir) = llama.open().unwrap();
    let tensors = tensors(&llama);

    let dir = tempfile::tempdir().unwrap();
    llama.write_small_files(dir.path());
    std::fs::write(dir.path().join("pytorch_model.bin"), checkpoint(&tensors)).unwrap();
    assert_same(&HfDirectory::open(dir.path()).unwrap(), &expected);

    let dir = sharded(&llama, &tensors);
    assert_same(&HfDirectory::open(dir.path()).unwrap(), &expected);
    std::fs::remove_file(dir.path().join("pytorch_model-1.bin")).unwrap();
    match HfDirectory::open(dir.path()).unwrap_err() {
        HfError::Weights { path, fault } => {
            assert!(path.ends_with("pytorch_model.bin.index.json"));
            assert!(matches!(*fault, WeightsFault::MissingShard { .. }));
        }
        other => panic!("{other}"),
    }
}

fn sharded(llama: &Llama, tensors: &[Tensor]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    llama.write_small_files(dir.path());
    let mut map = Map::new();
    for (number, tensors) in tensors.chunks(tensors.len().div_ceil(2)).enumerate() {
        let shard = format!("pytorch_model-{number}.bin");
        std::fs::write(dir.path().join(&shard), checkpoint(tensors)).unwrap();
        map.extend(tensors.iter().map(|(name, ..)| (name.clone(), shard.clone().into())));
    }
    std::fs::write(dir.path().join("pytorch_model.bin.index.json"), json!({ "weight_map": map }).to_string()).unwrap();
    dir
}

#[test]
fn safetensors_go_first() {
    let llama = Llama::new();
    let dir = llama.write();
    std::fs::write(dir.path().join("pytorch_model.bin"), b"nothing that could be read").unwrap();
    HfDirectory::open(dir.path()).unwrap();
    std::fs::remove_file(dir.path().join("model.safetensors")).unwrap();
    let error = HfDirectory::open(dir.path()).unwrap_err();
    assert!(matches!(error, HfError::Torch(_)) && error.to_string().contains("no zip archive"), "{error}");
}

/// What torch itself has written is opened with the rest of a directory: its tensors are not a Llama's.
#[test]
fn tensors_of_no_model_are_named() {
    let dir = tempfile::tempdir().unwrap();
    Llama::new().write_small_files(dir.path());
    let views = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/torch/views.pt");
    std::fs::copy(views, dir.path().join("pytorch_model.bin")).unwrap();
    match HfDirectory::open(dir.path()).unwrap_err() {
        HfError::Weights { fault, .. } => assert!(matches!(*fault, WeightsFault::MissingTensor { .. }), "{fault}"),
        other => panic!("{other}"),
    }
}
