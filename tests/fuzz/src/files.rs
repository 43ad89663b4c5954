//! Targets that are one file.

use quipu_formats::gguf::GgufFile;
use quipu_formats::hf::read_tokenizer;
use quipu_formats::imatrix::Imatrix;
use quipu_formats::safetensors::SafetensorsFile;
use quipu_formats::source::Source;
use quipu_formats::torch::TorchFile;

use crate::outcome::outcome;
use crate::place::file;
use crate::seeds::torch_build::archive;
use crate::texts::use_tokenizer;

/// A safetensors file.
pub(crate) fn safetensors(bytes: &[u8]) -> String {
    match SafetensorsFile::open(file("input.safetensors", bytes)) {
        Err(error) => outcome(error),
        Ok(file) => {
            let tensors = file.tensors();
            let sum: usize = (0..tensors.len()).map(|i| file.data(i).len()).sum();
            assert!(sum <= bytes.len(), "tensors of {sum} bytes in {} bytes", bytes.len());
            assert!(tensors.iter().all(|tensor| file.find(&tensor.name).is_some()));
            format!("{} tensors, {} pairs", tensors.len(), file.metadata().len())
        }
    }
}

/// A PyTorch checkpoint; or the pickle in one, which then gets an archive with the right checksum and a storage.
pub(crate) fn torch(bytes: &[u8]) -> String {
    let whole = match bytes.starts_with(b"PK") {
        true => bytes,
        false => {
            let order = ("x/byteorder", b"little".to_vec());
            &archive(&[("x/data.pkl", bytes.to_vec()), ("x/data/0", vec![0; 64]), order], false)
        }
    };
    match TorchFile::open(file("input.pt", whole)) {
        Err(error) => outcome(error),
        Ok(file) => {
            let mut kinds = String::new();
            for (index, tensor) in file.tensors().iter().enumerate() {
                // An extent of nothing times anything, and a storage that is seen again and again, stay small here.
                let count = tensor.shape.iter().try_fold(1_usize, |n, &extent| n.checked_mul(extent));
                let count = count.expect("a shape that was checked");
                if count < 1 << 20 {
                    let expected = count as u64 * tensor.dtype.bits() / 8;
                    assert_eq!(file.data(index).len() as u64, expected, "{tensor:?}");
                }
                kinds += &format!("{}{} ", tensor.dtype, tensor.shape.len());
            }
            kinds
        }
    }
}

/// An importance matrix.
pub(crate) fn imatrix(bytes: &[u8]) -> String {
    let path = file("input.imatrix", bytes);
    match Imatrix::read(&path) {
        Err(error) => outcome(error),
        Ok(imatrix) => {
            let Ok(file) = GgufFile::open(&path) else { return format!("an older one of {} chunks", imatrix.chunks) };
            let mut found = 0;
            for info in file.tensors() {
                let name = info.name.split_once(".in_sum").map_or(info.name.as_str(), |(name, _)| name);
                if let Some(statistics) = imatrix.find(name) {
                    let columns = statistics.squares.len();
                    assert_eq!(statistics.calibration().cols(), columns);
                    statistics.output_error(&vec![1.0; columns]);
                    found += 1;
                }
            }
            format!("{found} entries")
        }
    }
}

/// A tokenizer without tokenizer.json: the first byte says under which name.
pub(crate) fn pieces(bytes: &[u8]) -> String {
    const NAMES: [&str; 3] = ["tokenizer.model", "tekken.json", "tokenizer.json"];
    let Some((which, bytes)) = bytes.split_first() else { return String::new() };
    let path = file(NAMES[*which as usize % NAMES.len()], bytes);
    let metadata = read_tokenizer(path.parent().expect("a file in a directory"), None);
    std::fs::remove_file(path).expect("a file that was just written");
    match metadata {
        Err(error) => outcome(error),
        Ok(metadata) => use_tokenizer(&metadata, "Once upon a time\n <s>été 1234567\u{ff}"),
    }
}
