//! A model with a weight that is NaN or infinite writes nothing, whatever the weight and wherever it lies: the error
//! names the tensor, or the token where no weight is to blame.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use quipu_formats::convert::{ConvertOptions, TypeRule, write_gguf};
use quipu_formats::families::names::split_layer;
use quipu_formats::gguf::{GgufFile, GgufWriter};
use quipu_formats::source::{Encoding, Source, TensorInfo};
use quipu_quant::TensorType;
use quipu_runtime::calibration::calibration_pass;
use quipu_runtime::embedding::EmbedOptions;
use quipu_runtime::{
    BatchToken, Cancel, Engine, EngineError, Isa, KvType, LoadError, LoadOptions, Residence, WeightsError,
};

const NAN: [u8; 2] = [0x00, 0x7e];
const INFINITY: [u8; 2] = [0x00, 0xfc];
/// Among them the first row of the embedding.
const TOKENS: [u32; 4] = [3, 0, 4, 1];

fn demo() -> GgufFile {
    GgufFile::open(Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/tales.gguf")).unwrap()
}

/// The demo model with weights of one type.
fn converted(dir: &Path, ty: TensorType, packed: bool) -> PathBuf {
    let path = dir.join(format!("{ty}-{packed}.gguf"));
    let options = ConvertOptions::new(TypeRule::To(ty)).packed(packed);
    write_gguf(&demo(), &options, &path, &AtomicBool::new(false), &|_| {}).unwrap();
    path
}

/// The file with `number` as the first f16 scale, or the first number, of tensor `index`.
fn damage(path: &Path, index: usize, number: [u8; 2]) -> PathBuf {
    let file = GgufFile::open(path).unwrap();
    let info = &file.tensors()[index];
    let float = match info.ty() {
        TensorType::F32 => Some([0, 0, 0xc0, 0x7f].to_vec()),
        TensorType::BF16 => Some(vec![0xc0, 0x7f]),
        TensorType::F16 => Some(number.to_vec()),
        _ => None,
    };
    let at = file.range(index).start
        + match (&float, info.encoding) {
            (None, Encoding::Packed(_)) => info.packed_layout().scales_offset(),
            // The scale is the last of a block.
            (None, _) if info.ty() == TensorType::Q6_K => TensorType::Q6_K.block_bytes() - 2,
            _ => 0,
        };
    let mut bytes = std::fs::read(path).unwrap();
    let number = float.unwrap_or(number.to_vec());
    bytes[at..at + number.len()].copy_from_slice(&number);
    let damaged = path.with_extension("damaged");
    std::fs::write(&damaged, bytes).unwrap();
    damaged
}

/// Whether a tensor is of the layers that tests go through: one stands for all.
fn is_tried(info: &TensorInfo) -> bool {
    split_layer(&info.name).is_none_or(|(layer, _)| layer == 1)
}

fn load(path: &Path, residence: Residence, kv_type: KvType) -> Result<Engine, LoadError> {
    let options = LoadOptions::default().threads(2).residence(residence).kv_type(kv_type);
    Engine::load(Box::new(GgufFile::open(path).unwrap()), &options, &|_, _| {})
}

const MAPPED: Residence = Residence { mmap: true, mlock: false };
const COPIED: Residence = Residence { mmap: false, mlock: false };

fn assert_named(error: &EngineError, tensor: &str) {
    let EngineError::NotFinite { token, position, cause, .. } = error else { panic!("{tensor}: {error}") };
    assert_eq!(TOKENS[*position], *token, "{tensor}");
    assert!(cause.contains(&format!("`{tensor}`")), "{tensor}: {cause}");
}

#[test]
fn every_tensor_of_a_mapped_file_is_named_when_it_is_met() {
    let dir = tempfile::tempdir().unwrap();
    for ty in [TensorType::Q8_0, TensorType::Q4_0, TensorType::F16] {
        let path = converted(dir.path(), ty, true);
        let tensors = GgufFile::open(&path).unwrap().tensors().to_vec();
        for (index, info) in tensors.iter().enumerate().filter(|(_, info)| is_tried(info)) {
            let damaged = damage(&path, index, if index % 2 == 0 { NAN } else { INFINITY });
            let mut engine = match load(&damaged, MAPPED, KvType::F16) {
                // Vectors are read when the file is opened.
                Err(LoadError::Weights(WeightsError::NotFinite { name, row: 0, .. })) if info.shape.len() == 1 => {
                    assert_eq!(name, info.name);
                    continue;
                }
                found => found.unwrap_or_else(|e| panic!("{ty} {}: {e}", info.name)),
            };
            let mut sequence = engine.new_sequence();
            // As one batch, one by one, and as every other thing that an engine does.
            assert_named(&engine.prefill(&mut sequence, &TOKENS).unwrap_err(), &info.name);
            assert!(sequence.is_empty(), "{}", info.name);
            let one = TOKENS.iter().find_map(|&token| engine.decode(&mut sequence, token).err()).unwrap();
            assert!(matches!(one, EngineError::NotFinite { .. }), "{}", info.name);
            let mut sequence = engine.new_sequence();
            let batch = TOKENS.map(|token| BatchToken { token, sequence: 0, logits: true });
            assert_named(&engine.forward_each(&batch, &mut [&mut sequence], &|_, _| {}).unwrap_err(), &info.name);
            assert_named(&engine.score_each(&mut sequence, &TOKENS, 1, |_, _| ()).unwrap_err(), &info.name);
            assert!(sequence.is_empty(), "{}", info.name);
            // Without logits the output matrix is not met, and neither is the embedding's part in it.
            if !info.name.starts_with("output.") {
                assert_named(&engine.observe(&mut sequence, &TOKENS, &mut |_, _| {}).unwrap_err(), &info.name);
                assert_named(&engine.embed(&TOKENS, &EmbedOptions::default()).unwrap_err(), &info.name);
                let pass = calibration_pass(
                    std::sync::Arc::new(GgufFile::open(&damaged).unwrap()),
                    &[TOKENS.to_vec()],
                    Isa::best(),
                    &Cancel::new(),
                    &mut |_, _| {},
                    &mut |_, _| {},
                );
                let error = pass.unwrap_err().to_string();
                assert!(error.contains(&format!("`{}`", info.name)), "{error}");
            }
        }
    }
}

#[test]
fn every_tensor_that_is_packed_or_copied_is_named_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let types = [TensorType::F32, TensorType::F16, TensorType::BF16, TensorType::Q4_0];
    for (ty, packed) in types.into_iter().flat_map(|ty| [(ty, false), (ty, true)]) {
        let path = converted(dir.path(), ty, packed);
        let tensors = GgufFile::open(&path).unwrap().tensors().to_vec();
        for (index, info) in tensors.iter().enumerate().filter(|(_, info)| is_tried(info)) {
            let damaged = damage(&path, index, if index % 2 == 0 { NAN } else { INFINITY });
            match load(&damaged, COPIED, KvType::F16).err().unwrap() {
                LoadError::Weights(WeightsError::NotFinite { name, row: 0, .. }) => assert_eq!(name, info.name),
                other => panic!("{ty} {packed} {}: {other}", info.name),
            }
        }
    }
}

/// The demo model with other values of one vector.
fn changed(path: PathBuf, name: &str, change: impl Fn(usize, f32) -> f32) -> PathBuf {
    let source = demo();
    let mut writer = GgufWriter::create(&path, None, source.metadata(), source.tensors()).unwrap();
    for (i, tensor) in source.tensors().iter().enumerate() {
        if tensor.name == name {
            let values = source.values(i, 0..1);
            let bytes = values.iter().enumerate().flat_map(|(k, &x)| change(k, x).to_le_bytes());
            writer.write_tensor_part(&bytes.collect::<Vec<u8>>()).unwrap();
        } else {
            writer.write_tensor_part(&source.rows(i, 0..tensor.rows())).unwrap();
        }
    }
    writer.finish().unwrap();
    path
}

/// Weights that are numbers, and activations that are none any more.
#[test]
fn activations_that_overflow_are_told_of_without_a_weight_to_blame() {
    let dir = tempfile::tempdir().unwrap();
    let cases = [
        // Keys and values beyond f16: only a cache of f32 holds them.
        ("blk.0.attn_norm.weight", 1e7, KvType::F16, false),
        ("blk.0.attn_norm.weight", 1e7, KvType::F32, true),
        ("blk.0.attn_norm.weight", 1e37, KvType::F32, false),
        ("blk.0.attn_norm.weight", 1e37, KvType::Q8, false),
        ("blk.0.attn_norm.weight", 1e37, KvType::Q8Q4, false),
        ("blk.0.attn_norm.weight", 1e37, KvType::Q4, false),
        ("blk.1.ffn_norm.weight", 1e30, KvType::F16, false),
        ("output_norm.weight", 1e38, KvType::F16, false),
        ("output_norm.weight", 1.0, KvType::F16, true),
    ];
    for (name, factor, kv_type, is_good) in cases {
        let path = changed(dir.path().join("model.gguf"), name, |_, x| x * factor);
        let mut engine = load(&path, MAPPED, kv_type).unwrap();
        let mut sequence = engine.new_sequence();
        match engine.prefill(&mut sequence, &TOKENS) {
            Ok(logits) => assert!(is_good && logits.iter().all(|x| x.is_finite()), "{name} {factor}"),
            Err(EngineError::NotFinite { cause, .. }) => {
                assert!(!is_good && cause.contains("no weight is to blame"), "{name} {factor}: {cause}");
            }
            Err(other) => panic!("{name} {factor}: {other}"),
        }
    }
}

#[test]
fn divisors_of_frequencies_are_positive_numbers() {
    let dir = tempfile::tempdir().unwrap();
    for bad in [0.0, -1.0, f32::NAN, f32::INFINITY] {
        let change = |k, x| if k == 2 { bad } else { x };
        let path = changed(dir.path().join("model.gguf"), "rope_freqs.weight", change);
        match load(&path, MAPPED, KvType::F16).err().unwrap() {
            LoadError::Weights(WeightsError::NotFinite { name, row: 2, .. }) => assert_eq!(name, "rope_freqs.weight"),
            other => panic!("{bad}: {other}"),
        }
    }
}
