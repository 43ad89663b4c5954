//! Rows and values of a tensor do not depend on how it lies in its file.

use std::ops::Range;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use quipu_formats::convert::{ConvertOptions, write_gguf};
use quipu_formats::gguf::{GgufFile, GgufWriter, Metadata};
use quipu_formats::source::{Encoding, Source, TensorInfo};
use quipu_quant::{InterleavedType, StoredType, TensorType, blocks, stored};
use quipu_test_random::Random;

/// More than two groups of 16, the last one in part; and for interleaved rows, whole groups of 8.
const ROWS: [usize; 2] = [37, 40];
const COLS: usize = 256;

/// A file of one matrix.
fn write(path: &Path, encoding: Encoding, rows: usize, data: &[u8]) -> GgufFile {
    let info = TensorInfo::new("t.weight", encoding, [COLS, rows]);
    let mut writer = GgufWriter::create(path, None, &Metadata::default(), &[info]).unwrap();
    writer.write_tensor_part(data).unwrap();
    writer.finish().unwrap();
    GgufFile::open(path).unwrap()
}

/// The rows that are asked for: none, one, some within a group of 16 and across them, all.
fn ranges(rows: usize) -> impl Iterator<Item = Range<usize>> {
    (0..=rows).flat_map(move |start| (start..=rows).map(move |end| start..end))
}

/// Holds all ranges of rows of `file` against plain rows and their values.
fn assert_rows(file: &GgufFile, encoding: Encoding, plain: &[u8], values: &[f32]) {
    let info = &file.tensors()[0];
    assert_eq!((info.encoding, info.byte_len()), (encoding, Some(file.data(0).len())));
    let row_bytes = plain.len() / info.rows();
    let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
    for rows in ranges(info.rows()) {
        let context = format!("{encoding:?}, rows {rows:?}");
        assert!(*file.rows(0, rows.clone()) == plain[rows.start * row_bytes..rows.end * row_bytes], "{context}");
        let expected = &values[rows.start * COLS..rows.end * COLS];
        assert!(bits(&file.values(0, rows)) == bits(expected), "values of {context}");
    }
}

fn dequantized(ty: TensorType, plain: &[u8]) -> Vec<f32> {
    let mut values = vec![0.0; plain.len() / ty.block_bytes() * ty.block_len()];
    blocks::dequantize(ty, plain, &mut values).unwrap();
    values
}

/// Random blocks of numbers: what is none is not copied.
fn numbers(ty: TensorType, bytes: usize) -> Vec<u8> {
    let mut random = Random::new(1);
    let mut any = std::iter::repeat_with(|| random.bytes(ty.block_bytes()));
    let finite = std::iter::from_fn(|| any.find(|block| blocks::all_finite(ty, block)));
    let count = bytes / ty.block_bytes();
    finite.take(count).flatten().collect()
}

#[test]
fn packed_is_as_plain() {
    let dir = tempfile::tempdir().unwrap();
    for ty in TensorType::ALL {
        let plain = numbers(ty, ROWS[0] * ty.row_bytes(COLS).unwrap());
        let values = dequantized(ty, &plain);
        let file = write(&dir.path().join("plain.gguf"), Encoding::Plain(ty), ROWS[0], &plain);
        assert_rows(&file, Encoding::Plain(ty), &plain, &values);
        let path = dir.path().join("packed.gguf");
        let options = ConvertOptions::default().packed(true);
        write_gguf(&file, &options, &path, &AtomicBool::new(false), &|_| {}).unwrap();
        let packed = GgufFile::open(&path).unwrap();
        assert_rows(&packed, Encoding::Packed(ty), &plain, &values);
        // From there back to plain.
        let path = dir.path().join("unpacked.gguf");
        write_gguf(&packed, &ConvertOptions::default(), &path, &AtomicBool::new(false), &|_| {}).unwrap();
        assert!(GgufFile::open(path).unwrap().data(0) == plain, "{ty}");
    }
}

#[test]
fn stored_is_as_recoded_with_values_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    for ty in StoredType::ALL {
        let data = Random::new(1).bytes(ROWS[0] * ty.row_bytes(COLS).unwrap());
        let mut plain = vec![0; ROWS[0] * ty.runs_as().row_bytes(COLS).unwrap()];
        let mut values = vec![0.0; ROWS[0] * COLS];
        stored::recode(ty, &data, &mut plain).unwrap();
        stored::dequantize(ty, &data, &mut values).unwrap();
        let file = write(&dir.path().join("stored.gguf"), Encoding::Stored(ty), ROWS[0], &data);
        assert_rows(&file, Encoding::Stored(ty), &plain, &values);
    }
}

/// Rows of Q4_0 as llama.cpp interleaved them in 2024: for each 32 columns the scales of all rows of a group, then
/// their codes, `chunk` bytes of each row in turn, with bit 3 of each code inverted.
fn interleave(plain: &[u8], group: usize, chunk: usize) -> Vec<u8> {
    let row_bytes = TensorType::Q4_0.row_bytes(COLS).unwrap();
    let mut out = Vec::new();
    for rows in plain.chunks_exact(group * row_bytes) {
        for block in 0..COLS / 32 {
            let blocks: Vec<&[u8]> = rows.chunks_exact(row_bytes).map(|row| &row[18 * block..][..18]).collect();
            blocks.iter().for_each(|block| out.extend(&block[..2]));
            for at in (2..18).step_by(chunk) {
                blocks.iter().for_each(|block| out.extend(block[at..at + chunk].iter().map(|codes| codes ^ 0x88)));
            }
        }
    }
    out
}

#[test]
fn interleaved_is_as_plain() {
    let dir = tempfile::tempdir().unwrap();
    let plain = Random::new(1).bytes(ROWS[1] * TensorType::Q4_0.row_bytes(COLS).unwrap());
    let values = dequantized(TensorType::Q4_0, &plain);
    let shapes =
        [(InterleavedType::Q4_0_4_4, 4, 4), (InterleavedType::Q4_0_4_8, 4, 8), (InterleavedType::Q4_0_8_8, 8, 8)];
    assert_eq!(shapes.map(|s| s.0), InterleavedType::ALL);
    for (ty, group, chunk) in shapes {
        // Nobody writes such files any more: the same bytes under another id.
        let path = dir.path().join("interleaved.gguf");
        write(&path, Encoding::Plain(TensorType::Q4_0), ROWS[1], &interleave(&plain, group, chunk));
        let mut bytes = std::fs::read(&path).unwrap();
        let name = bytes.windows(8).position(|w| w == b"t.weight").unwrap();
        // Behind the name: u32 number of extents, two extents of u64, u32 type.
        bytes[name + 8 + 4 + 16..][..4].copy_from_slice(&ty.id().to_le_bytes());
        let file = GgufFile::from_bytes(&path, bytes).unwrap();
        assert_rows(&file, Encoding::Interleaved(ty), &plain, &values);
    }
}
