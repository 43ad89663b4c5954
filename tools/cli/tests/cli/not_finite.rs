//! A weight that is NaN or infinite, in each kind of tensor and type of weights, before each command: an error that
//! names the tensor, and no file with it.

use std::path::{Path, PathBuf};

use quipu_formats::gguf::GgufFile;
use quipu_formats::source::{Encoding, Source};
use quipu_quant::TensorType;

use crate::quipu;

const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data");
const TEXT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/design.md");

/// What computes with a model; `MODEL`, `TEXT` and `OUT` are files.
const COMMANDS: [&str; 7] = [
    "run MODEL Once -n 3",
    "run MODEL -f TEXT -n 1 --json",
    "score MODEL Once --json",
    "embed MODEL Once",
    "perplexity MODEL -f TEXT -c 16 --chunks 1",
    "imatrix MODEL -f TEXT -o OUT -c 16 --chunks 1",
    "compare MODEL -f TEXT -c 16 --chunks 1 --no-speed",
];
/// What moves weights.
const COPIES: [&str; 6] = [
    "convert MODEL -o OUT",
    "convert MODEL -o OUT --split-size 1M",
    "convert MODEL -o OUT --packed",
    "pack MODEL OUT",
    "quantize MODEL OUT --type q5_0",
    "quantize MODEL OUT --type q8_0 --no-calibrate",
];

/// The file with NaN or infinity as the first number, or the first scale, of tensor `index`.
fn damage(path: &Path, index: usize, number: f32) -> PathBuf {
    let file = GgufFile::open(path).unwrap();
    let info = &file.tensors()[index];
    let bytes = match info.ty() {
        TensorType::F32 => number.to_bits().to_le_bytes().to_vec(),
        TensorType::BF16 => ((number.to_bits() >> 16) as u16).to_le_bytes().to_vec(),
        // A scale is an f16, too.
        _ => if number.is_nan() { 0x7e00_u16 } else { 0x7c00 }.to_le_bytes().to_vec(),
    };
    let at = match info.encoding {
        Encoding::Packed(ty) if !ty.is_float() => info.packed_layout().scales_offset(),
        _ => 0,
    };
    let start = file.range(index).start + at;
    let mut damaged = std::fs::read(path).unwrap();
    damaged[start..start + bytes.len()].copy_from_slice(&bytes);
    let path = path.with_extension("damaged");
    std::fs::write(&path, damaged).unwrap();
    path
}

/// Runs a command on the damaged model: its error, if it is one.
fn run(line: &str, model: &Path, text: &Path, out: &Path) -> Option<String> {
    let _ = std::fs::remove_file(out);
    let args = line.split(' ').map(|word| match word {
        "MODEL" => model.as_os_str(),
        "TEXT" => text.as_os_str(),
        "OUT" => out.as_os_str(),
        word => word.as_ref(),
    });
    let ended = quipu(args);
    if ended.code == 0 {
        let told = ended.stdout.to_lowercase();
        assert!(["nan", "inf", "null"].iter().all(|word| !told.contains(word)), "{line}: {told}");
        return None;
    }
    assert!(!out.exists(), "{line}: an error and an output");
    // A warning may stand before it.
    let error = ended.stderr.lines().last().and_then(|line| line.strip_prefix("error: "));
    assert_eq!(ended.code, 1, "{line}: {}", ended.stderr);
    Some(error.unwrap_or_else(|| panic!("{line}: {}", ended.stderr)).to_string())
}

#[test]
fn what_is_no_number_is_an_error_of_every_command() {
    let dir = tempfile::tempdir().unwrap();
    let (text, out) = (dir.path().join("text"), dir.path().join("out"));
    std::fs::write(&text, &std::fs::read(TEXT).unwrap()[..1500]).unwrap();
    let (mut turn, mut errors) = (0, 0);
    for ty in ["f32", "bf16", "q8_0", "q4_0"] {
        for packed in [&[][..], &["--packed"]] {
            let path = dir.path().join("model.gguf");
            let checkpoint = format!("{DATA}/tiny-qwen2-bf16");
            let args = ["convert", &checkpoint, "-o", path.to_str().unwrap(), "--type", ty, "--no-calibrate"];
            assert_eq!(quipu(args.iter().chain(packed)).code, 0);
            let tensors = GgufFile::open(&path).unwrap().tensors().to_vec();
            for (index, info) in tensors.iter().enumerate().filter(|(_, info)| !info.name.starts_with("blk.0.")) {
                let damaged = damage(&path, index, if turn % 2 == 0 { f32::NAN } else { f32::INFINITY });
                // Another command for each tensor, and all of them for each kind of tensor in the end.
                let line = COMMANDS[turn % COMMANDS.len()];
                let what = format!("{ty} {packed:?} {}: {line}", info.name);
                match run(line, &damaged, &text, &out) {
                    Some(error) => {
                        assert!(error.contains(&info.name), "{what}: {error}");
                        errors += 1;
                    }
                    // Only one row of the embedding is broken, which nobody may have asked for.
                    None => assert!(info.name == "token_embd.weight" && line.starts_with("embed"), "{what}"),
                }
                let copy = COPIES[turn % COPIES.len()];
                let what = format!("{ty} {packed:?} {}: {copy}", info.name);
                let error = run(copy, &damaged, &text, &out).unwrap_or_else(|| panic!("{what}: a file was written"));
                assert!(error.contains(&format!("{:?}", info.name)), "{what}: {error}");
                turn += 1;
            }
        }
    }
    assert!(errors > 80, "{errors}");
}
