//! What a file or a directory is instead, said by name.

use std::path::Path;

use quipu_formats::hf::HfDirectory;

use crate::build::Llama;

const POINTER: &str = "version https://git-lfs.github.com/spec/v1\noid sha256:4d4d\nsize 9085657\n";

#[test]
fn a_file_that_is_something_else_is_named() {
    for name in
        ["config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json", "model.safetensors"]
    {
        let dir = Llama::new().write();
        let path = dir.path().join(name);
        let before = std::fs::read(&path).unwrap_or_else(|_| b"{}".to_vec());
        std::fs::write(&path, POINTER).unwrap();
        let message = HfDirectory::open(dir.path()).unwrap_err().to_string();
        assert!(message.contains(name) && message.contains("Git LFS pointer"), "{message}");
        if name.ends_with("json") {
            std::fs::write(&path, [b"\xef\xbb\xbf", before.as_slice()].concat()).unwrap();
            let message = HfDirectory::open(dir.path()).unwrap_err().to_string();
            assert!(message.contains(name) && message.contains("byte-order mark"), "{message}");
        }
    }
}

#[test]
fn a_directory_that_is_something_else_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    let message = |below: &str| HfDirectory::open(&dir.path().join(below)).unwrap_err().to_string();
    write("lora/adapter_config.json", "{}");
    assert!(message("lora").contains("LoRA adapter"), "{}", message("lora"));
    // The Hub's cache, and a repository in it: the snapshot that `refs/main` names, or else any.
    let repository = "hub/models--org--tiny";
    write(&format!("{repository}/snapshots/abc/README.md"), "");
    write(&format!("{repository}/snapshots/def/README.md"), "");
    let snapshot = |name: &str| Path::new(repository).join("snapshots").join(name).display().to_string();
    assert!(message(repository).contains(&snapshot("abc")), "{}", message(repository));
    write(&format!("{repository}/refs/main"), "def\n");
    assert!(message(repository).contains(&snapshot("def")), "{}", message(repository));
    assert!(message("hub").contains("Hub's cache") && message("hub").contains(repository), "{}", message("hub"));
    write("empty/file", "");
    assert!(message("empty").contains("no config.json here; expected"), "{}", message("empty"));
}
