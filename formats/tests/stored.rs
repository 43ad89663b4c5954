//! Tensors of types without kernels: read, kept, dequantised, recoded for the packed form.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use quipu_formats::convert::{ConvertOptions, Summary, TypeRule, Warning, write_gguf};
use quipu_formats::gguf::{GgufFault, GgufFile, GgufWriter, Metadata, Value};
use quipu_formats::source::{Encoding, Recoded, Source, TensorInfo, recoded_types};
use quipu_quant::TensorType::{F32, Q6_K, Q8_0};
use quipu_quant::pack::{PackedLayout, pack};
use quipu_quant::{StoredType, search, stored};
use quipu_test_random::Random;

const ROWS: usize = 37;
const COLS: usize = 512;

fn name(ty: StoredType) -> String {
    format!("blk.{}.ffn_up.weight", ty.id())
}

/// Bytes without a pattern, below 64, so that f16 scales are smaller than 2 wherever they are.
fn bytes(ty: StoredType) -> Vec<u8> {
    let len = ROWS * ty.row_bytes(COLS).unwrap();
    Random::new(ty.id().into()).bytes(len).iter().map(|b| b & 0x3f).collect()
}

/// A file with a matrix of every type.
fn write(path: &Path) -> GgufFile {
    let mut metadata = Metadata::default();
    metadata.set("general.architecture", Value::String("llama".into()));
    let mut infos = vec![TensorInfo::new("output_norm.weight", Encoding::Plain(F32), [8])];
    let matrix = |ty: StoredType| TensorInfo::new(name(ty), Encoding::Stored(ty), [COLS, ROWS]);
    infos.extend(StoredType::ALL.into_iter().map(matrix));
    let mut writer = GgufWriter::create(path, None, &metadata, &infos).unwrap();
    writer.write_tensor_part(&[0; 32]).unwrap();
    StoredType::ALL.into_iter().for_each(|ty| writer.write_tensor_part(&bytes(ty)).unwrap());
    writer.finish().unwrap();
    GgufFile::open(path).unwrap()
}

fn convert(source: &dyn Source, types: TypeRule, packed: bool, out: PathBuf) -> (GgufFile, Summary) {
    let options = ConvertOptions::new(types).packed(packed);
    let summary = write_gguf(source, &options, &out, &AtomicBool::new(false), &|_| {}).unwrap();
    (GgufFile::open(out).unwrap(), summary)
}

fn recoded(ty: StoredType) -> Vec<u8> {
    let mut out = vec![0; ROWS * ty.runs_as().row_bytes(COLS).unwrap()];
    stored::recode(ty, &bytes(ty), &mut out).unwrap();
    out
}

fn values(ty: StoredType) -> Vec<f32> {
    let mut values = vec![0.0; ROWS * COLS];
    stored::dequantize(ty, &bytes(ty), &mut values).unwrap();
    values
}

#[test]
fn rows_are_handed_out_recoded() {
    let dir = tempfile::tempdir().unwrap();
    let file = write(&dir.path().join("a.gguf"));
    for ty in StoredType::ALL {
        let index = file.find(&name(ty)).unwrap();
        let info = &file.tensors()[index];
        assert_eq!((info.encoding, info.ty(), info.encoding.name()), (Encoding::Stored(ty), ty.runs_as(), ty.name()));
        assert_eq!(file.mapped(index), Some(&bytes(ty)[..]), "{ty}");
        let row = ty.runs_as().row_bytes(COLS).unwrap();
        assert!(*file.rows(index, 3..20) == recoded(ty)[3 * row..20 * row], "{ty}");
    }
    let types = recoded_types(&file);
    assert_eq!(types, StoredType::ALL.map(|ty| Recoded { from: ty, to: ty.runs_as(), tensors: 1 }));
    let said = types.iter().find(|recoded| recoded.from == StoredType::NVFP4).unwrap().to_string();
    assert!(said.starts_with("1 tensors of type NVFP4 are run as Q8_0"), "{said}");
    assert!(said.ends_with("8.5 bits per weight instead of 4.5"), "{said}");
}

#[test]
fn a_plain_copy_keeps_every_byte() {
    let dir = tempfile::tempdir().unwrap();
    let file = write(&dir.path().join("a.gguf"));
    let (copy, summary) = convert(&file, TypeRule::Keep, false, dir.path().join("b.gguf"));
    assert_eq!(summary.warnings, []);
    for ty in StoredType::ALL {
        let index = copy.find(&name(ty)).unwrap();
        assert_eq!(copy.tensors()[index].encoding, Encoding::Stored(ty));
        assert!(copy.data(index) == bytes(ty), "{ty}");
    }
}

#[test]
fn the_packed_form_has_the_type_that_runs() {
    let dir = tempfile::tempdir().unwrap();
    let file = write(&dir.path().join("a.gguf"));
    let (packed, summary) = convert(&file, TypeRule::Keep, true, dir.path().join("b.quipu"));
    let warning = |ty: StoredType| Warning::Requantised { from: ty.name(), to: ty.runs_as(), tensors: 1 };
    for ty in StoredType::ALL {
        assert!(summary.warnings.contains(&warning(ty)), "{ty}: {:?}", summary.warnings);
        let index = packed.find(&name(ty)).unwrap();
        assert_eq!(packed.tensors()[index].encoding, Encoding::Packed(ty.runs_as()));
        let layout = PackedLayout::new(ty.runs_as(), ROWS, COLS).unwrap();
        assert!(packed.data(index) == pack(&layout, &recoded(ty)), "{ty}");
    }
}

/// Another type is made of the values as they are stored; the type that runs is made of the codes.
#[test]
fn converting_starts_from_what_is_stored() {
    let dir = tempfile::tempdir().unwrap();
    let file = write(&dir.path().join("a.gguf"));
    let (f32s, summary) = convert(&file, TypeRule::To(F32), false, dir.path().join("f32.gguf"));
    assert_eq!(summary.warnings, []);
    for ty in StoredType::ALL {
        let found = f32s.data(f32s.find(&name(ty)).unwrap());
        let expected: Vec<u8> = values(ty).iter().flat_map(|v| v.to_le_bytes()).collect();
        assert!(found == expected, "{ty}");
    }
    for to in [Q8_0, Q6_K] {
        let options = ConvertOptions::new(TypeRule::To(to));
        let out = dir.path().join("to.gguf");
        let summary = write_gguf(&file, &options, &out, &AtomicBool::new(false), &|_| {}).unwrap();
        assert_eq!(summary.warnings.len(), StoredType::ALL.len());
        let made = GgufFile::open(out).unwrap();
        for ty in StoredType::ALL {
            let index = made.find(&name(ty)).unwrap();
            assert_eq!(made.tensors()[index].encoding, Encoding::Plain(to));
            let mut expected = vec![0; ROWS * to.row_bytes(COLS).unwrap()];
            if ty.runs_as() == to {
                expected = recoded(ty);
            } else {
                search::quantize(to, COLS, &values(ty), None, &mut expected).unwrap();
            }
            assert!(made.data(index) == expected, "{ty} as {to}");
        }
    }
}

#[test]
fn rows_of_part_of_a_block_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.gguf");
    write(&path);
    let mut file = std::fs::read(&path).unwrap();
    // The first extent of the first matrix: after its name and the number of extents.
    let name = name(StoredType::ALL[0]);
    let at = file.windows(name.len()).position(|w| w == name.as_bytes()).unwrap() + name.len() + 4;
    file[at..at + 8].copy_from_slice(&384u64.to_le_bytes());
    let error = GgufFile::from_bytes("a.gguf", file).unwrap_err();
    assert!(
        matches!(error.fault(), Some(GgufFault::PartialBlock { cols: 384, ty: "IQ2_XXS", block: 256, .. })),
        "{error}"
    );
}
