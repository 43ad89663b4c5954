//! Files in which llama.cpp interleaved the rows of Q4_0 are the Q4_0 files that it made of the same model: the same
//! rows, the same logits, and plain for every reader once they are written again. `tests/refs/interleaved.sh` made them
//! with a llama-quantize of October 2024.

use std::sync::atomic::AtomicBool;

use quipu_formats::convert::{ConvertOptions, Summary, TypeRule, Warning, write_gguf};
use quipu_formats::gguf::GgufFile;
use quipu_formats::source::{Encoding, Source, recoded_types};
use quipu_quant::{InterleavedType, TensorType};
use quipu_tests::{assert_same_bits, data, load, logits, options};

fn path(ty: &str) -> std::path::PathBuf {
    data(&format!("interleaved/tiny-llama3-{}.gguf", ty.to_lowercase()))
}

fn file(ty: &str) -> GgufFile {
    GgufFile::open(path(ty)).unwrap()
}

#[test]
fn rows_are_those_of_the_plain_file() {
    let plain = file("Q4_0");
    for ty in InterleavedType::ALL {
        let interleaved = file(ty.name());
        let mut found = 0;
        for (index, tensor) in interleaved.tensors().iter().enumerate() {
            let at = plain.find(&tensor.name).unwrap();
            let expected = &plain.tensors()[at];
            assert_eq!((tensor.ty(), &tensor.shape), (expected.ty(), &expected.shape), "{ty}: {}", tensor.name);
            let rows = 0..tensor.rows();
            assert!(interleaved.rows(index, rows.clone()) == plain.rows(at, rows), "{ty}: {}", tensor.name);
            if expected.ty() == TensorType::Q4_0 {
                assert_eq!(
                    (tensor.encoding, tensor.encoding.name()),
                    (Encoding::Interleaved(ty), ty.name()),
                    "{}",
                    tensor.name
                );
                assert!(interleaved.data(index) != plain.data(at), "{ty}: {} is not interleaved", tensor.name);
                found += 1;
            }
        }
        assert_eq!((found, interleaved.tensors().len()), (14, plain.tensors().len()), "{ty}");
        assert_eq!(recoded_types(&interleaved), [], "{ty}: nothing is lost, so nobody is warned");
    }
}

#[test]
fn logits_are_those_of_the_plain_file() {
    let tokens: Vec<u32> = (0..40).map(|i| i * 37 % 300).collect();
    let expected = logits(&mut load(&path("Q4_0"), &options()), &tokens, 16);
    for ty in InterleavedType::ALL {
        assert_same_bits(&expected, &logits(&mut load(&path(ty.name()), &options()), &tokens, 16), ty.name());
    }
}

#[test]
fn written_again_they_are_the_plain_file() {
    let dir = tempfile::tempdir().unwrap();
    let write = |from: &str, types: TypeRule, packed: bool| -> (Vec<u8>, Summary) {
        let options = ConvertOptions::new(types).packed(packed);
        let out = dir.path().join("out.gguf");
        let summary = write_gguf(&file(from), &options, &out, &AtomicBool::new(false), &|_| {}).unwrap();
        (std::fs::read(out).unwrap(), summary)
    };
    for ty in InterleavedType::ALL {
        for packed in [false, true] {
            let (found, summary) = write(ty.name(), TypeRule::Keep, packed);
            assert!(found == write("Q4_0", TypeRule::Keep, packed).0, "{ty}, packed: {packed}");
            assert_eq!(summary.warnings, []);
        }
        let q8_0 = TypeRule::To(TensorType::Q8_0);
        let (found, summary) = write(ty.name(), q8_0, false);
        assert!(found == write("Q4_0", q8_0, false).0, "{ty} as Q8_0");
        assert_eq!(summary.warnings, [Warning::Requantised { from: ty.name(), to: TensorType::Q8_0, tensors: 14 }]);
    }
}
