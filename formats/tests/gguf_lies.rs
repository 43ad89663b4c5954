//! Every way in which a GGUF can lie, each answered with an error that names it; and none of them with a panic.

use proptest::prelude::*;
use quipu_formats::gguf::{GgufError, GgufFault as Fault, GgufFile, MetadataError};
use quipu_formats::source::Source;

// Value type ids.
const BOOL: u32 = 7;
const STRING: u32 = 8;
const ARRAY: u32 = 9;

fn string(s: impl AsRef<[u8]>) -> Vec<u8> {
    let s = s.as_ref();
    [&(s.len() as u64).to_le_bytes(), s].concat()
}

fn key(name: impl AsRef<[u8]>, id: u32, value: impl AsRef<[u8]>) -> Vec<u8> {
    [&string(name)[..], &id.to_le_bytes(), value.as_ref()].concat()
}

fn u32_key(name: &str, value: u32) -> Vec<u8> {
    key(name, 4, value.to_le_bytes())
}

fn array(id: u32, len: u64, elements: impl AsRef<[u8]>) -> Vec<u8> {
    [&id.to_le_bytes()[..], &len.to_le_bytes(), elements.as_ref()].concat()
}

fn tensor(name: impl AsRef<[u8]>, shape: &[u64], id: u32, offset: u64) -> Vec<u8> {
    let mut out = string(name);
    out.extend((shape.len() as u32).to_le_bytes());
    shape.iter().for_each(|e| out.extend(e.to_le_bytes()));
    out.extend(id.to_le_bytes());
    out.extend(offset.to_le_bytes());
    out
}

fn start(version: u32, tensors: u64, keys: u64) -> Vec<u8> {
    [b"GGUF", &version.to_le_bytes()[..], &tensors.to_le_bytes(), &keys.to_le_bytes()].concat()
}

/// A file whose counts are right, padded to `alignment`, with `data` bytes of tensor data.
fn aligned_file(alignment: usize, keys: &[Vec<u8>], tensors: &[Vec<u8>], data: usize) -> Vec<u8> {
    let mut out = start(3, tensors.len() as u64, keys.len() as u64);
    keys.iter().chain(tensors).for_each(|part| out.extend(part));
    out.resize(out.len().next_multiple_of(alignment) + data, 0);
    out
}

fn file(keys: &[Vec<u8>], tensors: &[Vec<u8>], data: usize) -> Vec<u8> {
    aligned_file(32, keys, tensors, data)
}

/// Two tensors, without padding behind the last, and a key of every kind.
fn valid() -> Vec<u8> {
    let nested = array(ARRAY, 2, [array(4, 1, 7u32.to_le_bytes()), array(STRING, 1, string("x"))].concat());
    let keys = [
        key("general.architecture", STRING, string("llama")),
        u32_key("general.alignment", 32),
        key("flag", BOOL, [1]),
        key("flags", ARRAY, array(BOOL, 3, [0, 1, 0])),
        key("names", ARRAY, array(STRING, 2, [string("a"), string("é")].concat())),
        key("nested", ARRAY, nested),
        key("scale", 6, 0.5f32.to_le_bytes()),
    ];
    file(&keys, &[tensor("norm", &[8], 0, 0), tensor("w.weight", &[32, 2], 2, 32)], 32 + 36)
}

fn packed_keys(layout: &str, version: u32) -> Vec<Vec<u8>> {
    vec![
        u32_key("general.alignment", 16384),
        key("quipu.layout", STRING, string(layout)),
        u32_key("quipu.layout.version", version),
    ]
}

fn nest(depth: usize) -> Vec<u8> {
    [array(ARRAY, 1, []).repeat(depth - 1), array(4, 0, [])].concat()
}

fn open(bytes: Vec<u8>) -> Result<GgufFile, GgufError> {
    GgufFile::from_bytes("lie.gguf", bytes)
}

fn fault(bytes: Vec<u8>) -> Fault {
    let error = open(bytes).expect_err("accepted");
    error.fault().expect("a fault of the file").clone()
}

type Case = (&'static str, Vec<u8>, &'static str, fn(&Fault) -> bool);

macro_rules! case {
    ($name:literal, $bytes:expr, $pattern:pat $(if $guard:expr)?) => {
        ($name, $bytes, stringify!($pattern), |fault| matches!(fault, $pattern $(if $guard)?))
    };
}

fn cases() -> Vec<Case> {
    let t = |id| file(&[], &[tensor("t", &[32], id, 0)], 128);
    let shape = |shape: &[u64]| file(&[], &[tensor("t", shape, 0, 0)], 128);
    let value = |id, bytes: &[u8]| file(&[key("k", id, bytes)], &[], 64);
    let alignment = |a: u32| file(&[u32_key("general.alignment", a)], &[], 0);
    let huge = u64::MAX - 3;
    let packed = |keys: &[Vec<u8>], t| aligned_file(16384, keys, &[t], 1 << 15);
    let q4 = 0x5150_0002;
    vec![
        // What is no GGUF at all.
        case!("a web page", b"<!DOCTYPE html><html>".to_vec(), Fault::NotGguf { found } if found.contains("HTML")),
        case!("a web page after blanks", b"\n\n <html lang=en>".to_vec(), Fault::NotGguf { found } if found.contains("HTML")),
        case!("a ZIP", b"PK\x03\x04\x14\0".to_vec(), Fault::NotGguf { found } if found.contains("PyTorch")),
        case!("a pickle", b"\x80\x02}q\0.".to_vec(), Fault::NotGguf { found } if found.contains("pickle")),
        case!("safetensors", b"\x40\0\0\0\0\0\0\0{\"a\":1}".to_vec(), Fault::NotGguf { found } if found.contains("safetensors")),
        case!("ggjt", b"tjgg\x03\0\0\0".to_vec(), Fault::NotGguf { found } if found.contains("ggjt")),
        case!("ggml", b"lmgg".to_vec(), Fault::NotGguf { found } if found.contains("ggml")),
        case!("a pointer to the file", b"version https://git-lfs.github.com/spec/v1".to_vec(), Fault::NotGguf { found } if found.contains("LFS")),
        case!("zeros", vec![0; 64], Fault::NotGguf { found } if found.contains("00 00")),
        case!("the magic half", b"GG".to_vec(), Fault::NotGguf { .. }),
        // Versions.
        case!("version 0", start(0, 0, 0), Fault::UnsupportedVersion { version: 0 }),
        case!("version 1", start(1, 0, 0), Fault::UnsupportedVersion { version: 1 }),
        case!("version 4", start(4, 0, 0), Fault::UnsupportedVersion { version: 4 }),
        case!("big-endian", start(3u32.swap_bytes(), 0, 0), Fault::BigEndian { version: 3 }),
        // Counts.
        case!("2^64 keys", start(3, 0, u64::MAX), Fault::CountBeyondFile { count: u64::MAX, .. }),
        case!("2^64 tensors", start(3, u64::MAX, 0), Fault::CountBeyondFile { count: u64::MAX, .. }),
        case!("keys that wrap when multiplied", start(3, 0, u64::MAX / 13 + 2), Fault::CountBeyondFile { .. }),
        case!("one key more than there is", start(3, 0, 1), Fault::CountBeyondFile { count: 1, .. }),
        case!("one tensor more than there is", start(3, 1, 0), Fault::CountBeyondFile { count: 1, .. }),
        case!(
            "tensors after the keys have eaten the file",
            [start(3, 1, 1), u32_key("a.long.enough.key", 1)].concat(),
            Fault::CountBeyondFile { count: 1, .. }
        ),
        // Strings.
        case!(
            "a key of nearly 2^64 bytes",
            [start(3, 0, 1), huge.to_le_bytes().to_vec(), vec![0; 64]].concat(),
            Fault::CountBeyondFile { .. }
        ),
        case!("a string of nearly 2^64 bytes", value(STRING, &huge.to_le_bytes()), Fault::CountBeyondFile { .. }),
        case!(
            "a tensor name of nearly 2^64 bytes",
            [start(3, 1, 0), huge.to_le_bytes().to_vec(), vec![0; 64]].concat(),
            Fault::CountBeyondFile { .. }
        ),
        case!(
            "a string past the end",
            value(STRING, &1000u64.to_le_bytes()),
            Fault::CountBeyondFile { count: 1000, .. }
        ),
        case!("a key that is not UTF-8", file(&[key(b"k\xff", 4, [0; 4])], &[], 0), Fault::InvalidUtf8 { at: 33, .. }),
        case!("a string that is not UTF-8", value(STRING, &string(b"ab\xc3")), Fault::InvalidUtf8 { .. }),
        case!(
            "a string in an array that is not UTF-8",
            value(ARRAY, &array(STRING, 1, string(b"\xed\xa0\x80"))),
            Fault::InvalidUtf8 { .. }
        ),
        case!(
            "a tensor name that is not UTF-8",
            file(&[], &[tensor(b"\x80", &[8], 0, 0)], 32),
            Fault::InvalidUtf8 { .. }
        ),
        case!(
            "a key longer than 65535 bytes",
            file(&[u32_key(&"k".repeat(65536), 0)], &[], 0),
            Fault::KeyTooLong { number: 0, len: 65536 }
        ),
        case!(
            "a tensor name longer than 64 bytes",
            file(&[], &[tensor("t".repeat(65), &[8], 0, 0)], 32),
            Fault::TensorNameTooLong { number: 0, len: 65 }
        ),
        // Values.
        case!("value type 13", value(13, &[0; 8]), Fault::UnknownValueType { id: 13, .. }),
        case!("value type 2^32 - 1", value(u32::MAX, &[0; 8]), Fault::UnknownValueType { id: u32::MAX, .. }),
        case!("an array of value type 13", value(ARRAY, &array(13, 1, [0; 8])), Fault::UnknownValueType { id: 13, .. }),
        case!(
            "an empty array of value type 99",
            value(ARRAY, &array(99, 0, [])),
            Fault::UnknownValueType { id: 99, .. }
        ),
        case!("a bool of 2", value(BOOL, &[2]), Fault::InvalidBool { value: 2, .. }),
        case!(
            "a bool of 255 in an array",
            value(ARRAY, &array(BOOL, 2, [1, 255])),
            Fault::InvalidBool { value: 255, .. }
        ),
        case!("the same key twice", file(&[u32_key("k", 1), u32_key("j", 1), u32_key("k", 1)], &[], 0), Fault::DuplicateKey { key } if key == "k"),
        // Arrays.
        case!("2^64 bytes", value(ARRAY, &array(0, u64::MAX, [])), Fault::CountBeyondFile { .. }),
        case!("2^62 u32s, 2^64 bytes", value(ARRAY, &array(4, 1 << 62, [])), Fault::CountBeyondFile { .. }),
        case!("2^61 f64s", value(ARRAY, &array(12, 1 << 61, [])), Fault::CountBeyondFile { .. }),
        case!("2^60 strings", value(ARRAY, &array(STRING, 1 << 60, [])), Fault::CountBeyondFile { .. }),
        case!("2^60 arrays", value(ARRAY, &array(ARRAY, 1 << 60, [])), Fault::CountBeyondFile { .. }),
        case!(
            "an array one element too long",
            [start(3, 0, 1), key("k", ARRAY, array(0, 1, []))].concat(),
            Fault::CountBeyondFile { count: 1, .. }
        ),
        case!("arrays nested 9 deep", value(ARRAY, &nest(9)), Fault::ArrayTooDeep { .. }),
        case!("arrays nested 100,000 deep", value(ARRAY, &nest(100_000)), Fault::ArrayTooDeep { .. }),
        // Keys that the container needs.
        case!("alignment 0", alignment(0), Fault::Alignment { value: 0 }),
        case!("alignment 3", alignment(3), Fault::Alignment { value: 3 }),
        case!("alignment 4", alignment(4), Fault::Alignment { value: 4 }),
        case!("alignment 48", alignment(48), Fault::Alignment { value: 48 }),
        case!("alignment 2^31", alignment(1 << 31), Fault::Alignment { .. }),
        case!(
            "alignment 2^63",
            file(&[key("general.alignment", 10, (1u64 << 63).to_le_bytes())], &[], 0),
            Fault::Alignment { .. }
        ),
        case!(
            "alignment -32",
            file(&[key("general.alignment", 5, (-32i32).to_le_bytes())], &[], 0),
            Fault::Metadata(MetadataError::WrongType { .. })
        ),
        case!(
            "alignment as a string",
            file(&[key("general.alignment", STRING, string("32"))], &[], 0),
            Fault::Metadata(MetadataError::WrongType { .. })
        ),
        case!(
            "one part of three",
            file(&[key("split.count", 2, 3u16.to_le_bytes())], &[], 0),
            Fault::Split { count: 3 }
        ),
        case!(
            "a part count in words",
            file(&[key("split.count", STRING, string("3"))], &[], 0),
            Fault::Metadata(MetadataError::WrongType { .. })
        ),
        // The tensor directory.
        case!("the same tensor twice", file(&[], &[tensor("t", &[8], 0, 0), tensor("t", &[8], 0, 32)], 64), Fault::DuplicateTensor { tensor } if tensor == "t"),
        case!("no dimensions", shape(&[]), Fault::DimensionCount { dims: 0, .. }),
        case!("5 dimensions", shape(&[1; 5]), Fault::DimensionCount { dims: 5, .. }),
        case!(
            "2^32 - 1 dimensions",
            [start(3, 1, 0), string("t"), u32::MAX.to_le_bytes().to_vec(), vec![1; 64]].concat(),
            Fault::DimensionCount { dims: u32::MAX, .. }
        ),
        case!("a dimension of 0", shape(&[0]), Fault::ZeroDimension { .. }),
        case!("a second dimension of 0", shape(&[8, 0, 2]), Fault::ZeroDimension { .. }),
        case!("0 beside 2^63", shape(&[1 << 63, 0]), Fault::ZeroDimension { .. }),
        case!("2^64 elements", shape(&[1 << 32, 1 << 32]), Fault::ShapeOverflow { .. }),
        case!("a product that wraps to 8", shape(&[(1 << 63) + 4, 2]), Fault::ShapeOverflow { .. }),
        case!("2^62 elements of 4 bytes", shape(&[1 << 62]), Fault::ShapeOverflow { .. }),
        case!("bytes that wrap to 16", shape(&[(1 << 62) + 4]), Fault::ShapeOverflow { .. }),
        case!("type 999", t(999), Fault::UnknownTensorType { id: 999, .. }),
        case!("type 2^32 - 1", t(u32::MAX), Fault::UnknownTensorType { id: u32::MAX, .. }),
        case!("a type for activations", t(15), Fault::UnknownTensorType { id: 15, .. }),
        case!("a type for integers", t(26), Fault::UnknownTensorType { id: 26, .. }),
        case!("a type that was removed", t(4), Fault::UnknownTensorType { id: 4, .. }),
        case!(
            "a block and a half",
            file(&[], &[tensor("t", &[48, 2], 2, 0)], 128),
            Fault::PartialBlock { cols: 48, .. }
        ),
        case!(
            "whole blocks only over the rows",
            file(&[], &[tensor("t", &[128, 2], 12, 0)], 256),
            Fault::PartialBlock { cols: 128, .. }
        ),
        case!(
            "a group and a half of interleaved rows",
            file(&[], &[tensor("t", &[32, 6], 31, 0)], 128),
            Fault::PartialGroup { rows: 6, .. }
        ),
        case!(
            "whole groups only over the matrices",
            file(&[], &[tensor("t", &[32, 12, 2], 33, 0)], 512),
            Fault::PartialGroup { rows: 12, .. }
        ),
        case!(
            "an interleaved vector",
            file(&[], &[tensor("t", &[32], 32, 0)], 32),
            Fault::PartialGroup { rows: 1, .. }
        ),
        case!(
            "an interleaved block and a half",
            file(&[], &[tensor("t", &[48, 8], 33, 0)], 512),
            Fault::PartialBlock { cols: 48, ty: "Q4_0_8_8", .. }
        ),
        case!(
            "interleaved rows that end too early",
            file(&[], &[tensor("t", &[32, 8], 33, 0)], 8 * 18 - 1),
            Fault::TensorBeyondFile { missing: 1, .. }
        ),
        case!("a type that never was in a file", t(36), Fault::UnknownTensorType { id: 36, .. }),
        case!(
            "offset 8",
            file(&[], &[tensor("t", &[8], 0, 8)], 128),
            Fault::MisalignedTensor { offset: 8, alignment: 32, .. }
        ),
        case!(
            "offset 32 where 64 is asked",
            aligned_file(64, &[u32_key("general.alignment", 64)], &[tensor("t", &[8], 0, 32)], 128),
            Fault::MisalignedTensor { offset: 32, alignment: 64, .. }
        ),
        case!(
            "one byte missing",
            file(&[], &[tensor("t", &[8], 0, 0)], 31),
            Fault::TensorBeyondFile { size: 32, missing: 1, .. }
        ),
        case!(
            "an offset past the end",
            file(&[], &[tensor("t", &[8], 0, 1 << 20)], 128),
            Fault::TensorBeyondFile { .. }
        ),
        case!(
            "an offset near 2^64",
            file(&[], &[tensor("t", &[8], 0, u64::MAX - 31)], 128),
            Fault::TensorBeyondFile { .. }
        ),
        case!("a size near 2^63", file(&[], &[tensor("t", &[1 << 60], 0, 32)], 128), Fault::TensorBeyondFile { .. }),
        case!(
            "tensors on top of each other",
            file(&[], &[tensor("a", &[8], 0, 0), tensor("b", &[8], 0, 0)], 64),
            Fault::OverlappingTensors { .. }
        ),
        case!("tensors that overlap, last first", file(&[], &[tensor("a", &[8], 0, 32), tensor("b", &[16], 0, 0)], 64), Fault::OverlappingTensors { first, second } if first == "b" && second == "a"),
        // Packed files.
        case!(
            "packed without a layout",
            file(&[], &[tensor("t", &[32, 16], q4, 0)], 1024),
            Fault::PackedWithoutLayout { .. }
        ),
        case!("another layout", packed(&packed_keys("r8k4", 1), tensor("t", &[32, 16], q4, 0)), Fault::UnknownLayout { found } if found == "r8k4"),
        case!(
            "a layout without a version",
            packed(&packed_keys("r16k4", 1)[..2], tensor("t", &[32, 16], q4, 0)),
            Fault::Metadata(MetadataError::Missing { .. })
        ),
        case!(
            "layout version 0",
            packed(&packed_keys("r16k4", 0), tensor("t", &[32, 16], q4, 0)),
            Fault::ZeroLayoutVersion
        ),
        case!(
            "layout version 2",
            packed(&packed_keys("r16k4", 2), tensor("t", &[32, 16], q4, 0)),
            Fault::NewerLayout { version: 2 }
        ),
        case!(
            "packed, aligned to 32",
            file(&packed_keys("r16k4", 1)[1..], &[tensor("t", &[32, 16], q4, 0)], 1024),
            Fault::PackedAlignment { found: 32 }
        ),
        case!(
            "a packed vector",
            packed(&packed_keys("r16k4", 1), tensor("t", &[32], q4, 0)),
            Fault::PackedShape { .. }
        ),
        case!(
            "packed in blocks and a half",
            packed(&packed_keys("r16k4", 1), tensor("t", &[33, 16], q4, 0)),
            Fault::PartialBlock { .. }
        ),
        case!(
            "a packed type that is not run",
            packed(&packed_keys("r16k4", 1), tensor("t", &[32, 16], 0x5150_0010, 0)),
            Fault::UnknownTensorType { id: 0x5150_0010, .. }
        ),
        case!(
            "packed rows of 2^60",
            packed(&packed_keys("r16k4", 1), tensor("t", &[32, 1 << 55], q4, 0)),
            Fault::TensorBeyondFile { .. }
        ),
        case!(
            "packed rows of 2^58 blocks",
            packed(&packed_keys("r16k4", 1), tensor("t", &[1 << 59, 17], 0x5150_0000, 0)),
            Fault::ShapeOverflow { .. }
        ),
        case!(
            "a packed tensor without room for the padding rows",
            packed(&packed_keys("r16k4", 1), tensor("t", &[32, 1809], q4, 0)),
            Fault::TensorBeyondFile { .. }
        ),
    ]
}

#[test]
fn every_lie_has_a_name() {
    let mut failed = Vec::new();
    for (name, bytes, expected, is_right) in cases() {
        match open(bytes) {
            Ok(_) => failed.push(format!("{name}: accepted, expected {expected}")),
            Err(error) => {
                let message = error.to_string();
                if !message.starts_with("lie.gguf: ") || message.contains('\n') || message.len() > 500 {
                    failed.push(format!("{name}: not one line that starts with the file: {message:?}"));
                }
                if !error.fault().is_some_and(is_right) {
                    failed.push(format!("{name}: expected {expected}, found {message}"));
                }
            }
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn the_honest_file_opens() {
    for version in [2u32, 3] {
        let mut bytes = valid();
        bytes[4..8].copy_from_slice(&version.to_le_bytes());
        let file = open(bytes.clone()).unwrap();
        assert_eq!(file.version(), version);
        assert_eq!(file.metadata().str_opt("general.architecture").unwrap(), Some("llama"));
        assert_eq!(file.metadata().len(), 7);
        assert_eq!(file.find("w.weight"), Some(1));
        assert_eq!(file.range(1), bytes.len() - 36..bytes.len());
        assert_eq!(file.rows(1, 1..2).len(), 18);
    }
    // The deepest nesting that is allowed, and a packed tensor with its padding rows: a Q4_0 group of 16 rows × 32 is
    // 256 + 32 bytes.
    assert!(open(file(&[key("k", ARRAY, nest(8))], &[], 0)).is_ok());
    let t = tensor("t", &[32, 17], 0x5150_0002, 0);
    assert!(open(aligned_file(16384, &packed_keys("r16k4", 1), std::slice::from_ref(&t), 2 * 288)).is_ok());
    assert!(matches!(
        fault(aligned_file(16384, &packed_keys("r16k4", 1), &[t], 2 * 288 - 1)),
        Fault::TensorBeyondFile { missing: 1, .. }
    ));
}

#[test]
fn cut_anywhere_it_is_refused() {
    let whole = valid();
    assert!(open(whole.clone()).is_ok());
    for len in 0..whole.len() {
        let cut = whole[..len].to_vec();
        assert!(open(cut).is_err(), "accepted when cut to {len} of {} bytes", whole.len());
    }
}

#[test]
fn a_truncated_download_says_what_is_missing() {
    let whole = valid();
    let cut = whole[..whole.len() - 20].to_vec();
    let message = open(cut).unwrap_err().to_string();
    assert!(message.contains("\"w.weight\"") && message.contains("20 bytes past the end"), "{message}");
}

#[test]
fn names_from_the_file_cannot_write_to_the_terminal() {
    let message = open(file(&[], &[tensor("\x1b[2J\n", &[0], 0, 0)], 0)).unwrap_err().to_string();
    assert!(!message.contains('\x1b') && !message.contains('\n'), "{message:?}");
}

#[test]
fn unknown_types_are_named_when_someone_knows_them() {
    let message = fault(file(&[], &[tensor("t", &[32], 15, 0)], 128)).to_string();
    assert!(message.contains("15 (Q8_K") && message.contains("Q4_0, Q4_1"), "{message}");
}

/// Lengths backed by real bytes, but by more of them than any header has.
#[test]
fn a_header_of_gigabytes_is_refused_before_it_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sparse.gguf");
    let mut head = [start(3, 0, 1), string("k"), ARRAY.to_le_bytes().to_vec()].concat();
    head.extend(array(0, 1 << 31, []));
    std::fs::write(&path, &head).unwrap();
    std::fs::File::options().write(true).open(&path).unwrap().set_len(3 << 30).unwrap();
    let error = GgufFile::open(&path).unwrap_err();
    assert!(matches!(error.fault(), Some(Fault::HeaderTooLarge { .. })), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(4000) })]

    /// Whatever is changed, the answer is an error or a file whose every tensor can be read.
    #[test]
    fn flipped_bytes_never_panic(flips in prop::collection::vec((0usize..1000, any::<u8>()), 1..6), cut in 0usize..1000) {
        let mut bytes = valid();
        for (at, byte) in flips {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        // Every second file is cut as well.
        if cut % 2 == 0 {
            bytes.truncate(bytes.len() - cut % 80);
        }
        if let Ok(file) = open(bytes) {
            for (i, info) in file.tensors().iter().enumerate() {
                prop_assert_eq!(file.data(i).len(), info.byte_len().unwrap());
            }
        }
    }

    /// Numbers near the borders of every field, at every place.
    #[test]
    fn planted_numbers_never_panic(at in 0usize..1000, number in prop::sample::select(vec![
        0u64, 1, 2, 3, 31, 33, 255, 1 << 16, 1 << 31, u32::MAX as u64, 1 << 32, 1 << 61, 1 << 62, i64::MAX as u64, 1 << 63,
        u64::MAX - 31, u64::MAX - 1, u64::MAX,
    ]), wide in any::<bool>()) {
        let mut bytes = valid();
        let number = number.to_le_bytes();
        let number = if wide { &number[..] } else { &number[..4] };
        let at = at % (bytes.len() - number.len());
        bytes[at..at + number.len()].copy_from_slice(number);
        if let Ok(file) = open(bytes) {
            for i in 0..file.tensors().len() {
                prop_assert!(file.data(i).len() < 1000);
            }
        }
    }
}
