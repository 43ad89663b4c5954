//! The lies: each with its name, its bytes and the fault that answers it.

use quipu_formats::gguf::{GgufFault as Fault, MetadataError};

use super::build::*;

pub type Case = (&'static str, Vec<u8>, &'static str, fn(&Fault) -> bool);

macro_rules! case {
    ($name:literal, $bytes:expr, $pattern:pat $(if $guard:expr)?) => {
        ($name, $bytes, stringify!($pattern), |fault| matches!(fault, $pattern $(if $guard)?))
    };
}

pub fn cases() -> Vec<Case> {
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
            file(&[key("split.count", 2, 3u16.to_le_bytes()), key("split.no", 2, 0u16.to_le_bytes())], &[], 0),
            Fault::PartName { count: 3 }
        ),
        case!(
            "a part without a number",
            file(&[key("split.count", 2, 3u16.to_le_bytes())], &[], 0),
            Fault::Metadata(MetadataError::Missing { .. })
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
