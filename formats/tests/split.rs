//! Models in several files: what is written is read back, by the first part, and parts that do not belong together are
//! refused by name.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use quipu_formats::convert::{ConvertOptions, TypeRule, Warning, write_gguf};
use quipu_formats::gguf::{GgufError, GgufFault, GgufFile, GgufWriter, Metadata, Value};
use quipu_formats::source::{Encoding, Source, TensorInfo};
use quipu_quant::TensorType;
use tempfile::TempDir;

const PART_BYTES: u64 = 3_000_000;

fn demo() -> GgufFile {
    GgufFile::open(Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/tales.gguf")).unwrap()
}

fn convert(source: &dyn Source, options: &ConvertOptions, out: &Path) -> Vec<PathBuf> {
    write_gguf(source, options, out, &AtomicBool::new(false), &|_| {}).unwrap_or_else(|e| panic!("{e}")).files
}

fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap();
    let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn what_is_written_in_parts_is_read_as_one() {
    let source = demo();
    for (name, packed) in [("model.gguf", false), ("model.quipu", true)] {
        let dir = tempfile::tempdir().unwrap();
        let (out, whole) = (dir.path().join(name), dir.path().join("whole"));
        let options = ConvertOptions::new(TypeRule::To(TensorType::F16)).packed(packed);
        convert(&source, &options, &whole);
        let parts = convert(&source, &options.clone().part_bytes(Some(PART_BYTES)), &out);
        let (stem, extension) = name.split_once('.').unwrap();
        let named = |n| format!("{stem}-{n:05}-of-{:05}.{extension}", parts.len());
        assert!(parts.len() > 3);
        for (n, part) in parts.iter().enumerate() {
            assert_eq!(part.file_name().unwrap().to_str().unwrap(), named(n + 1));
            // The embedding is larger.
            let bytes = std::fs::metadata(part).unwrap().len();
            assert!(
                bytes <= PART_BYTES || n + 1 == parts.len() && packed || n == 0 && !packed,
                "part {n}: {bytes} bytes"
            );
        }
        let (read, whole_file) = (GgufFile::open(&parts[0]).unwrap(), GgufFile::open(&whole).unwrap());
        assert_eq!(read.files(), parts);
        assert_eq!(read.tensors(), whole_file.tensors());
        for (i, tensor) in read.tensors().iter().enumerate() {
            assert_eq!(read.find(&tensor.name), Some(i));
            assert_eq!(read.data(i), whole_file.data(i), "{}", tensor.name);
        }
        let lengths = parts.iter().map(|part| std::fs::metadata(part).unwrap().len() as usize);
        assert_eq!(read.file_len(), lengths.sum::<usize>());
        // In one file again it is the same, to the byte.
        let again = dir.path().join("again");
        convert(&read, &ConvertOptions::default().packed(packed), &again);
        assert!(std::fs::read(again).unwrap() == std::fs::read(whole).unwrap());
    }
}

#[test]
fn keys_are_those_of_llama_gguf_split() {
    let dir = tempfile::tempdir().unwrap();
    let source = demo();
    let parts = convert(&source, &ConvertOptions::default().part_bytes(Some(PART_BYTES)), &dir.path().join("m"));
    // A name without an extension gets GGUF's.
    assert!(parts[0].ends_with(format!("m-00001-of-{:05}.gguf", parts.len())));
    let first = GgufFile::open(&parts[0]).unwrap();
    assert_eq!(first.metadata().get("split.no"), Some(&Value::U16(0)));
    assert_eq!(first.metadata().get("split.count"), Some(&Value::U16(parts.len() as u16)));
    assert_eq!(first.metadata().get("split.tensors.count"), Some(&Value::I32(source.tensors().len() as i32)));
    // Of a later part the header is these three keys and its tensors: magic, version, counts, then the first key.
    let second = std::fs::read(&parts[1]).unwrap();
    assert_eq!(second[16..24], 3u64.to_le_bytes());
    // A model that fits is one part, named like one.
    let one = convert(&source, &ConvertOptions::default().part_bytes(Some(1 << 40)), &dir.path().join("one.gguf"));
    assert!(one.len() == 1 && one[0].ends_with("one-00001-of-00001.gguf"));
    assert_eq!(GgufFile::open(&one[0]).unwrap().tensors(), source.tensors());
}

#[test]
fn tensors_that_are_larger_are_told_of() {
    let dir = tempfile::tempdir().unwrap();
    let options = ConvertOptions::default().part_bytes(Some(1000));
    let out = dir.path().join("m.gguf");
    let summary = write_gguf(&demo(), &options, &out, &AtomicBool::new(false), &|_| {}).unwrap();
    let of_large = |w: &Warning| matches!(w, Warning::LargeTensors { part_bytes: 1000, tensors } if tensors.len() > 50);
    assert!(summary.warnings.iter().any(of_large), "{:?}", summary.warnings);
    assert_eq!(summary.files.len(), names(dir.path()).len());
    assert_eq!(GgufFile::open(&summary.files[0]).unwrap().tensors(), demo().tensors());
}

/// Writes part `number`, from 0, with these tensors of 8 numbers each.
fn part(path: &Path, keys: &[(&str, Value)], tensors: &[&str]) {
    let mut metadata = Metadata::default();
    keys.iter().for_each(|(key, value)| metadata.set(*key, value.clone()));
    let info = |name: &&str| TensorInfo::new(*name, Encoding::Plain(TensorType::F32), vec![8]);
    let infos: Vec<_> = tensors.iter().map(info).collect();
    let mut writer = GgufWriter::create(path, None, &metadata, &infos).unwrap();
    for (n, _) in tensors.iter().enumerate() {
        writer.write_tensor_part(&(n as f32).to_le_bytes().repeat(8)).unwrap();
    }
    writer.finish().unwrap();
}

fn keys(number: u16, count: u16, tensors: i32) -> Vec<(&'static str, Value)> {
    vec![
        ("split.no", Value::U16(number)),
        ("split.count", Value::U16(count)),
        ("split.tensors.count", Value::I32(tensors)),
    ]
}

/// Three parts, the first without tensors, as `llama-gguf-split --no-tensor-first-split` makes it, and the last of an
/// alignment of its own.
fn three() -> (TempDir, [PathBuf; 3]) {
    let dir = tempfile::tempdir().unwrap();
    let paths = [1, 2, 3].map(|n| dir.path().join(format!("m-0000{n}-of-00003.gguf")));
    let mut first = keys(0, 3, 3);
    first.push(("general.architecture", Value::String("llama".into())));
    part(&paths[0], &first, &[]);
    part(&paths[1], &keys(1, 3, 3), &["a", "b"]);
    let mut last = keys(2, 3, 3);
    last.push(("general.alignment", Value::U32(128)));
    part(&paths[2], &last, &["c"]);
    (dir, paths)
}

fn error(path: &Path) -> GgufError {
    GgufFile::open(path).err().unwrap_or_else(|| panic!("{} opens", path.display()))
}

fn fault(path: &Path) -> (PathBuf, GgufFault) {
    match error(path) {
        GgufError::Invalid { path, fault } => (path, *fault),
        other => panic!("expected a broken rule, got {other}"),
    }
}

#[test]
fn parts_of_other_programs_are_read() {
    let (_dir, paths) = three();
    let file = GgufFile::open(&paths[0]).unwrap();
    assert_eq!(file.metadata().get("general.architecture"), Some(&Value::String("llama".into())));
    let values: Vec<_> = ["a", "b", "c"].iter().map(|name| file.values(file.find(name).unwrap(), 0..1)).collect();
    assert_eq!(values, [[0.0; 8], [1.0; 8], [0.0; 8]]);
    (0..3).for_each(|i| file.release(i));
}

#[test]
fn parts_that_do_not_belong_together_are_refused_by_name() {
    // A later part is given.
    let (_dir, paths) = three();
    let (at, found) = fault(&paths[2]);
    let first = paths[0].display().to_string();
    assert_eq!((at, found), (paths[2].clone(), GgufFault::LaterPart { number: 2, count: 3, first }));

    // A part is missing.
    std::fs::remove_file(&paths[1]).unwrap();
    let missing = error(&paths[0]);
    assert!(
        matches!(&missing, GgufError::MissingPart { path, part, number: 1, count: 3 } if *path == paths[0] && *part == paths[1]),
        "{missing}"
    );
    assert!(missing.to_string().contains("part 2 of 3 is missing"), "{missing}");

    // Parts that changed places, a part of more, a whole model.
    for (keys, found) in [
        (keys(2, 3, 3), "part 3 of 3"),
        (keys(1, 4, 3), "part 2 of 4"),
        (vec![("general.alignment", Value::U32(32))], "a model in one file"),
    ] {
        part(&paths[1], &keys, &["a", "b"]);
        let expected = GgufFault::OtherPart { number: 1, count: 3, found: found.into() };
        assert_eq!(fault(&paths[0]), (paths[1].clone(), expected));
    }

    // More tensors, or fewer, than the first part says.
    for (tensors, count) in [(&["a", "b", "d"][..], 4), (&["a"][..], 2)] {
        part(&paths[1], &keys(1, 3, 3), tensors);
        let expected = GgufFault::PartTensors { expected: 3, found: count };
        assert_eq!(fault(&paths[0]), (paths[0].clone(), expected));
    }

    // A tensor twice.
    part(&paths[1], &keys(1, 3, 3), &["a", "c"]);
    let other = paths[1].display().to_string();
    assert_eq!(fault(&paths[0]), (paths[2].clone(), GgufFault::TensorInTwoParts { tensor: "c".into(), other }));

    // A part that is no GGUF, and one that is cut short.
    std::fs::write(&paths[1], "<html>").unwrap();
    let (at, found) = fault(&paths[0]);
    assert!(at == paths[1] && matches!(found, GgufFault::NotGguf { .. }), "{found}");
    part(&paths[1], &keys(1, 3, 3), &["a", "b"]);
    let whole = std::fs::read(&paths[1]).unwrap();
    std::fs::write(&paths[1], &whole[..whole.len() - 40]).unwrap();
    let (at, found) = fault(&paths[0]);
    assert!(at == paths[1] && matches!(found, GgufFault::TensorBeyondFile { .. }), "{found}");
}

#[test]
fn a_part_has_to_be_named_like_one() {
    let (dir, paths) = three();
    let renamed = dir.path().join("model.gguf");
    std::fs::copy(&paths[0], &renamed).unwrap();
    assert_eq!(fault(&renamed).1, GgufFault::PartName { count: 3 });
    // The name says another number than the keys.
    std::fs::copy(&paths[0], &paths[1]).unwrap();
    let expected = GgufFault::OtherPart { number: 1, count: 3, found: "part 1 of 3".into() };
    assert_eq!(fault(&paths[1]).1, expected);
    // In memory nothing lies beside it.
    let held = GgufFile::from_bytes("memory", std::fs::read(&paths[0]).unwrap());
    assert!(matches!(held.unwrap_err().fault(), Some(GgufFault::PartName { count: 3 })));
}

#[test]
fn all_parts_appear_or_none() {
    let source = demo();
    let options = ConvertOptions::default().part_bytes(Some(PART_BYTES));
    // Cancelled in the middle.
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("m.gguf");
    let cancel = AtomicBool::new(false);
    let stop =
        |_: quipu_formats::convert::ConvertProgress<'_>| cancel.store(true, std::sync::atomic::Ordering::Relaxed);
    assert!(write_gguf(&source, &options, &out, &cancel, &stop).is_err());
    assert_eq!(names(dir.path()), [""; 0]);

    // The first part, which is the last to get its name, can't get it: a directory of that name appeared meanwhile.
    let parts = convert(&source, &options, &out);
    parts.iter().for_each(|part| std::fs::remove_file(part).unwrap());
    let kept = &parts[2];
    std::fs::write(kept, "what was there").unwrap();
    let block = |_: quipu_formats::convert::ConvertProgress<'_>| {
        std::fs::create_dir_all(parts[0].join("full")).unwrap();
    };
    let failed = write_gguf(&source, &options, &out, &AtomicBool::new(false), &block);
    assert!(failed.is_err_and(|e| e.to_string().contains("m-00001-of-")));
    let left: Vec<String> = [&parts[0], kept].map(|p| p.file_name().unwrap().to_str().unwrap().to_string()).into();
    assert_eq!(names(dir.path()), left, "and no part that was not there before");
}

/// A part is an input like any other.
#[test]
fn no_part_is_replaced_while_it_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let options = ConvertOptions::default().part_bytes(Some(PART_BYTES));
    let parts = convert(&demo(), &options, &dir.path().join("m.gguf"));
    let source = GgufFile::open(&parts[0]).unwrap();
    let before: Vec<_> = parts.iter().map(|part| std::fs::read(part).unwrap()).collect();
    for (out, options) in [(dir.path().join("m.gguf"), &options), (parts[2].clone(), &ConvertOptions::default())] {
        let found = write_gguf(&source, options, &out, &AtomicBool::new(false), &|_| {});
        assert!(found.is_err_and(|e| e.to_string().contains("output and input are the same file")));
    }
    drop(source);
    assert!(parts.iter().zip(before).all(|(part, before)| std::fs::read(part).unwrap() == before));
    assert_eq!(names(dir.path()).len(), parts.len());
}

#[cfg(unix)]
#[test]
fn parts_are_no_stream() {
    let dir = tempfile::tempdir().unwrap();
    let options = ConvertOptions::default().part_bytes(Some(PART_BYTES));
    for out in [Path::new("/dev/null"), Path::new("/dev/stdout"), dir.path(), Path::new("..")] {
        assert!(write_gguf(&demo(), &options, out, &AtomicBool::new(false), &|_| {}).is_err(), "{}", out.display());
    }
}
