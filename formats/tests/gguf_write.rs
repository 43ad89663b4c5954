//! What is written is read back the same, and a file is under its name whole or not at all.

use std::path::{Path, PathBuf};

use proptest::prelude::*;
use quipu_formats::gguf::{Array, GgufError, GgufFault, GgufFile, GgufWriter, Metadata, Value, WriteError};
use quipu_formats::output::{Inputs, OutputError, OutputFile};
use quipu_formats::source::{Encoding, Source, TensorInfo};
use quipu_quant::TensorType;

fn info(name: &str, ty: TensorType, shape: &[usize]) -> TensorInfo {
    TensorInfo::new(name, Encoding::Plain(ty), shape)
}

fn metadata(keys: &[(&str, Value)]) -> Metadata {
    let mut metadata = Metadata::default();
    keys.iter().for_each(|(key, value)| metadata.set(*key, value.clone()));
    metadata
}

fn encode(metadata: &Metadata, tensors: &[TensorInfo], data: &[Vec<u8>]) -> Result<Vec<u8>, WriteError> {
    let mut writer = GgufWriter::new(Vec::new(), metadata, tensors)?;
    for bytes in data {
        // In parts, as a converter writes them.
        bytes.chunks(7).try_for_each(|part| writer.write_tensor_part(part))?;
    }
    let (bytes, len) = writer.complete()?;
    assert_eq!(bytes.len() as u64, len);
    Ok(bytes)
}

fn read(bytes: Vec<u8>) -> Result<GgufFile, GgufError> {
    GgufFile::from_bytes("memory", bytes)
}

fn array() -> impl Strategy<Value = Array> {
    fn some<T: std::fmt::Debug + Clone>(each: impl Strategy<Value = T>) -> impl Strategy<Value = Vec<T>> {
        prop::collection::vec(each, 0..5)
    }
    let leaf = prop_oneof![
        some(any::<u8>()).prop_map(Array::U8),
        some(any::<i8>()).prop_map(Array::I8),
        some(any::<u16>()).prop_map(Array::U16),
        some(any::<i16>()).prop_map(Array::I16),
        some(any::<u32>()).prop_map(Array::U32),
        some(any::<i32>()).prop_map(Array::I32),
        some(any::<u64>()).prop_map(Array::U64),
        some(any::<i64>()).prop_map(Array::I64),
        some(any::<f32>()).prop_map(Array::F32),
        some(any::<f64>()).prop_map(Array::F64),
        some(any::<bool>()).prop_map(Array::Bool),
        some(".{0,9}").prop_map(|strings| Array::String(strings.iter().collect())),
    ];
    leaf.prop_recursive(6, 32, 4, |inner| prop::collection::vec(inner, 0..4).prop_map(Array::Array))
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<u8>().prop_map(Value::U8),
        any::<i8>().prop_map(Value::I8),
        any::<u16>().prop_map(Value::U16),
        any::<i16>().prop_map(Value::I16),
        any::<u32>().prop_map(Value::U32),
        any::<i32>().prop_map(Value::I32),
        any::<u64>().prop_map(Value::U64),
        any::<i64>().prop_map(Value::I64),
        any::<f32>().prop_map(Value::F32),
        any::<f64>().prop_map(Value::F64),
        any::<bool>().prop_map(Value::Bool),
        ".{0,20}".prop_map(Value::String),
        array().prop_map(Value::Array),
    ]
}

fn tensor() -> impl Strategy<Value = (TensorType, Vec<usize>)> {
    (prop::sample::select(&TensorType::ALL[..]), prop::collection::vec(1usize..5, 1..=4)).prop_map(|(ty, mut shape)| {
        shape[0] *= ty.block_len();
        (ty, shape)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn keys_and_tensors_come_back(
        keys in prop::collection::btree_map("[a-z_.]{0,20}", value(), 0..8),
        tensors in prop::collection::vec(tensor(), 0..6),
        alignment in prop::sample::select(vec![None, Some(8u32), Some(32), Some(64), Some(16384)]),
    ) {
        let mut metadata = Metadata::default();
        keys.into_iter().for_each(|(key, value)| metadata.set(key, value));
        if let Some(alignment) = alignment {
            metadata.set("general.alignment", Value::U32(alignment));
        }
        let infos: Vec<TensorInfo> =
            tensors.iter().enumerate().map(|(i, (ty, shape))| info(&format!("t{i}"), *ty, shape)).collect();
        let data: Vec<Vec<u8>> =
            infos.iter().enumerate().map(|(i, t)| vec![i as u8 + 1; t.byte_len().unwrap()]).collect();
        let bytes = encode(&metadata, &infos, &data).unwrap();
        let file = read(bytes).unwrap();
        prop_assert_eq!(file.version(), 3);
        prop_assert_eq!(file.metadata(), &metadata);
        prop_assert_eq!(file.tensors(), &infos[..]);
        for (i, data) in data.iter().enumerate() {
            prop_assert_eq!(file.data(i), &data[..]);
            prop_assert!(file.range(i).start.is_multiple_of(alignment.unwrap_or(32) as usize));
        }
    }
}

#[test]
fn the_bits_of_a_nan_survive() {
    let odd = f32::from_bits(0x7fc1_2345);
    let bytes = encode(&metadata(&[("k", Value::F32(odd))]), &[], &[]).unwrap();
    let file = read(bytes).unwrap();
    assert!(matches!(file.metadata().get("k"), Some(Value::F32(v)) if v.to_bits() == odd.to_bits()));
}

#[test]
fn every_tensor_gets_exactly_its_bytes() {
    let tensors = [info("a", TensorType::F32, &[2]), info("b", TensorType::F32, &[1])];
    let start = || GgufWriter::new(Vec::new(), &Metadata::default(), &tensors).unwrap();

    let mut writer = start();
    assert!(matches!(writer.write_tensor_part(&[0; 9]), Err(WriteError::TooManyBytes { got: 9, left: 8, .. })));
    writer.write_tensor_part(&[0; 8]).unwrap();
    writer.write_tensor_part(&[0; 3]).unwrap();
    assert!(matches!(writer.complete(), Err(WriteError::Unfinished { tensor, left: 1 }) if tensor == "b"));

    let mut writer = start();
    writer.write_tensor_part(&[0; 8]).unwrap();
    writer.write_tensor_part(&[0; 4]).unwrap();
    assert!(matches!(writer.write_tensor_part(&[0]), Err(WriteError::NoTensorLeft { got: 1 })));
}

#[test]
fn nothing_is_written_that_would_not_be_read() {
    let none = Metadata::default();
    let write = |metadata: &Metadata, tensors: &[TensorInfo]| encode(metadata, tensors, &[]).unwrap_err();
    let t = |shape: &[usize]| [info("t", TensorType::Q4_0, shape)];
    assert!(matches!(write(&none, &t(&[33])), WriteError::Tensor { .. }));
    assert!(matches!(write(&none, &t(&[])), WriteError::Tensor { .. }));
    assert!(matches!(write(&none, &t(&[32, 0])), WriteError::Tensor { .. }));
    assert!(matches!(write(&none, &t(&[32; 5])), WriteError::Tensor { .. }));
    assert!(matches!(write(&none, &t(&[usize::MAX / 32 * 32, 1 << 20])), WriteError::Tensor { .. }));
    let long = info(&"n".repeat(64), TensorType::F32, &[1]);
    assert!(matches!(write(&none, &[long]), WriteError::Tensor { .. }));
    let twice = [info("t", TensorType::F32, &[1]), info("t", TensorType::F32, &[1])];
    assert!(matches!(write(&none, &twice), WriteError::Rule(GgufFault::DuplicateTensor { .. })));
    let packed = TensorInfo::new("t", Encoding::Packed(TensorType::F32), [4, 16]);
    assert!(matches!(write(&none, &[packed]), WriteError::Tensor { .. }));
    let alignment = metadata(&[("general.alignment", Value::U32(3))]);
    assert!(matches!(write(&alignment, &[]), WriteError::Rule(GgufFault::Alignment { value: 3 })));
    let deep = (0..9).fold(Array::U8(vec![]), |inner, _| Array::Array(vec![inner]));
    let deep = metadata(&[("k", Value::Array(deep))]);
    assert!(matches!(write(&deep, &[]), WriteError::Rule(GgufFault::ArrayTooDeep { .. })));
    let long = metadata(&[(&"k".repeat(65536), Value::Bool(true))]);
    assert!(matches!(write(&long, &[]), WriteError::Rule(GgufFault::KeyTooLong { .. })));
}

// The file on the disk.

fn one_tensor() -> [TensorInfo; 1] {
    [info("t", TensorType::F32, &[4])]
}

fn create(path: &Path) -> Result<GgufWriter<OutputFile>, WriteError> {
    GgufWriter::create(path, None, &Metadata::default(), &one_tensor())
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_finished_file_replaces_and_an_unfinished_one_leaves_no_trace() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    std::fs::write(&path, "precious").unwrap();

    let mut writer = create(&path).unwrap();
    writer.write_tensor_part(&[1; 5]).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"precious", "replaced before it was complete");
    assert!(matches!(writer.finish(), Err(WriteError::Unfinished { .. })));
    assert_eq!(std::fs::read(&path).unwrap(), b"precious");
    assert_eq!(names(dir.path()), ["model.gguf"]);

    drop(create(&path).unwrap());
    assert_eq!(names(dir.path()), ["model.gguf"]);

    let mut writer = create(&path).unwrap();
    writer.write_tensor_part(&[1; 16]).unwrap();
    let len = writer.finish().unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().len(), len);
    assert_eq!(names(dir.path()), ["model.gguf"]);
    assert_eq!(GgufFile::open(&path).unwrap().data(0), [1; 16]);
}

#[test]
fn a_header_that_nobody_could_read_again_is_not_written() {
    let text = "x".repeat(quipu_formats::gguf::MAX_HEADER_BYTES);
    let mut metadata = Metadata::default();
    metadata.set("text", Value::String(text));
    let error = GgufWriter::new(Vec::new(), &metadata, &[]).unwrap_err();
    assert!(matches!(error, WriteError::Rule(GgufFault::HeaderTooLarge { .. })), "{error}");
}

#[test]
fn wrong_places_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("no/such/model.gguf");
    let error = create(&missing).unwrap_err();
    assert!(matches!(&error, WriteError::Output(OutputError::NoDirectory { dir, .. }) if dir.ends_with("no/such")));
    assert!(error.to_string().contains("does not exist"), "{error}");
    assert!(matches!(create(dir.path()), Err(WriteError::Output(OutputError::IsDirectory { .. }))));
    let below_a_file = dir.path().join("file/model.gguf");
    std::fs::write(dir.path().join("file"), "x").unwrap();
    assert!(create(&below_a_file).is_err());
    assert_eq!(names(dir.path()), ["file"]);
}

#[test]
fn the_input_is_not_overwritten_under_any_of_its_names() {
    let dir = tempfile::tempdir().unwrap();
    let input = dir.path().join("in.gguf");
    std::fs::write(&input, "precious").unwrap();
    let mut aliases: Vec<PathBuf> = vec![input.clone(), dir.path().join("./in.gguf")];
    std::fs::hard_link(&input, dir.path().join("hard")).unwrap();
    aliases.push(dir.path().join("hard"));
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(&input, dir.path().join("soft")).unwrap();
        aliases.push(dir.path().join("soft"));
    }
    for alias in aliases {
        let result = GgufWriter::create(&alias, Some(&Inputs::of([&input])), &Metadata::default(), &one_tensor());
        assert!(matches!(result, Err(WriteError::Output(OutputError::SameAsInput { .. }))), "{alias:?}");
    }
    assert_eq!(std::fs::read(&input).unwrap(), b"precious");
}

#[cfg(unix)]
#[test]
fn the_file_is_as_readable_as_any_other() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let (ours, other) = (dir.path().join("ours"), dir.path().join("other"));
    std::fs::write(&other, "x").unwrap();
    let mut writer = create(&ours).unwrap();
    writer.write_tensor_part(&[1; 16]).unwrap();
    writer.finish().unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&ours), mode(&other));
}

#[cfg(unix)]
#[test]
fn a_link_stays_a_link() {
    let dir = tempfile::tempdir().unwrap();
    let (real, link) = (dir.path().join("real.gguf"), dir.path().join("link.gguf"));
    std::fs::write(&real, "old").unwrap();
    std::os::unix::fs::symlink(&real, &link).unwrap();
    let mut writer = create(&link).unwrap();
    writer.write_tensor_part(&[1; 16]).unwrap();
    writer.finish().unwrap();
    assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(GgufFile::open(&real).unwrap().data(0), [1; 16]);
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_one_line_with_the_name() {
    let result = create(Path::new("/dev/full")).and_then(|mut writer| {
        writer.write_tensor_part(&[1; 16])?;
        writer.finish()
    });
    let error = result.unwrap_err();
    assert!(matches!(&error, WriteError::Output(OutputError::Write { .. })), "{error:?}");
    let message = error.to_string();
    assert!(
        message.starts_with("/dev/full: ") && message.contains("No space left") && !message.contains('\n'),
        "{message}"
    );

    let mut writer = create(Path::new("/dev/null")).unwrap();
    writer.write_tensor_part(&[1; 16]).unwrap();
    assert!(writer.finish().unwrap() > 16);
}
