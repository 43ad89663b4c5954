//! Which files of a repository a model is.

use std::path::Path;

use quipu_formats::stores::{has_type, part_of_gguf};

use super::error::PullError;
use crate::list::without_part;

/// Endings of what belongs to a checkpoint besides its weights.
const BESIDE: &[&str] = &["json", "jinja", "model", "txt"];

/// Of `files`, paths in the repository of `name`, those of the GGUF of type `kind`, or without one those of the
/// checkpoint, or of the only GGUF.
///
/// # Errors
/// When none or several could be meant.
pub(super) fn choose<'f>(name: &str, kind: Option<&str>, files: &[&'f str]) -> Result<Vec<&'f str>, PullError> {
    if let (None, Some(checkpoint)) = (kind, checkpoint(files)) {
        return Ok(checkpoint);
    }
    let ggufs: Vec<&str> = files.iter().copied().filter(|file| part_of_gguf(Path::new(file)).is_some()).collect();
    let meant: Vec<&str> =
        ggufs.iter().copied().filter(|file| kind.is_none_or(|kind| has_type(stem(file), kind))).collect();
    // A model in several files is one.
    let mut models: Vec<&str> = meant.iter().map(|file| without_part(stem(file))).collect();
    models.sort();
    models.dedup();
    let there = |files: &[&str]| {
        let mut there: Vec<String> = files.iter().map(|file| without_part(stem(file)).to_string()).collect();
        there.sort();
        there.dedup();
        there
    };
    match (&models[..], ggufs.is_empty()) {
        ([_], _) => Ok(meant),
        ([], true) => Err(PullError::NoModel { name: name.into() }),
        ([], false) => Err(PullError::NoFile { name: name.into(), there: there(&ggufs) }),
        _ => Err(PullError::Several { name: name.into(), there: there(&meant) }),
    }
}

/// The files of a checkpoint: weights, and what stands beside them and is small; none from directories, where
/// repositories keep the same in other forms.
fn checkpoint<'f>(files: &[&'f str]) -> Option<Vec<&'f str>> {
    let top: Vec<&str> = files.iter().copied().filter(|file| !file.contains('/')).collect();
    let ends = |file: &str, ending: &str| file.rsplit_once('.').is_some_and(|(_, own)| own == ending);
    let weights = |start: &str, ending: &str| -> Vec<&'f str> {
        top.iter().copied().filter(|file| file.starts_with(start) && ends(file, ending)).collect()
    };
    let all = [weights("model", "safetensors"), weights("", "safetensors"), weights("pytorch_model", "bin")];
    let weights = all.into_iter().find(|weights| !weights.is_empty())?;
    if !top.contains(&"config.json") {
        return None;
    }
    let licence = |file: &str| ["LICENSE", "LICENCE", "COPYING"].iter().any(|start| file.starts_with(start));
    let beside = |file: &&str| BESIDE.iter().any(|ending| ends(file, ending)) || licence(file);
    let index = |file: &&str| {
        !file.ends_with(".index.json") || file.contains(".safetensors.") == ends(weights[0], "safetensors")
    };
    Some(top.iter().copied().filter(|file| weights.contains(file) || (beside(file) && index(file))).collect())
}

/// A path's last part without its ending.
fn stem(file: &str) -> &str {
    let name = file.rsplit('/').next().unwrap_or(file);
    name.rsplit_once('.').map_or(name, |(stem, _)| stem)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_is_its_weights_and_what_is_small() {
        let files = [
            "config.json",
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
            "LICENSE.txt",
            "model.safetensors.index.json",
            "pytorch_model.bin",
            "pytorch_model.bin.index.json",
            "README.md",
            "consolidated.safetensors",
            "original/consolidated.00.pth",
            "tokenizer.model",
            "onnx/model.onnx",
        ];
        let expected = [files[0], files[1], files[2], files[3], files[4], files[10]];
        assert_eq!(choose("x", None, &files).unwrap(), expected);
        assert_eq!(choose("x", None, &["config.json", "pytorch_model.bin"]).unwrap().len(), 2);
        assert!(matches!(choose("x", None, &["config.json", "README.md"]), Err(PullError::NoModel { .. })));
    }

    #[test]
    fn a_gguf_is_one_by_its_type_with_all_its_parts() {
        let files =
            ["a-Q4_K_M.gguf", "Q8/a-Q8_0-00001-of-00002.gguf", "Q8/a-Q8_0-00002-of-00002.gguf", "mmproj-f16.gguf"];
        assert_eq!(choose("x", Some("q4_k_m"), &files).unwrap(), files[..1]);
        assert_eq!(choose("x", Some("Q8_0"), &files).unwrap(), files[1..3]);
        let error = choose("hf:o/r", None, &files).unwrap_err().to_string();
        assert!(error.ends_with("the end of the name: a-Q4_K_M, a-Q8_0"), "{error}");
        let error = choose("hf:o/r", Some("f16"), &files).unwrap_err().to_string();
        assert!(error.ends_with("there are a-Q4_K_M, a-Q8_0"), "{error}");
        assert_eq!(choose("x", None, &files[1..3]).unwrap().len(), 2);
    }
}
