//! Models that ollama and Hugging Face's programs have fetched, by name and in place.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::{Ended, command, ended, ids, quipu, tales};

/// The demo model as a file.
const TALES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/tales.gguf");

/// Both stores, with the demo model in them.
struct Stores {
    directory: tempfile::TempDir,
    blob: PathBuf,
}

impl Stores {
    fn new() -> Stores {
        let directory = tempfile::tempdir().unwrap();
        let (ollama, digest) = (directory.path().join("ollama"), "5".repeat(64));
        let manifests = ollama.join("manifests/registry.ollama.ai/library/tales");
        std::fs::create_dir_all(&manifests).unwrap();
        std::fs::create_dir_all(ollama.join("blobs")).unwrap();
        let blob = ollama.join("blobs").join(format!("sha256-{digest}"));
        std::fs::copy(TALES, &blob).unwrap();
        let layer = |kind: &str, size: u64| {
            let media_type = format!("application/vnd.ollama.image.{kind}");
            json!({"mediaType": media_type, "digest": format!("sha256:{digest}"), "size": size})
        };
        let layers = [layer("model", blob.metadata().unwrap().len()), layer("template", 1)];
        std::fs::write(manifests.join("8m"), json!({"layers": layers}).to_string()).unwrap();

        let snapshot = |repository: &str| {
            let repository = directory.path().join("hub").join(repository);
            std::fs::create_dir_all(repository.join("refs")).unwrap();
            std::fs::write(repository.join("refs/main"), "abc").unwrap();
            let snapshot = repository.join("snapshots/abc");
            std::fs::create_dir_all(&snapshot).unwrap();
            snapshot
        };
        symlink(&blob, snapshot("models--me--tales-GGUF").join("tales-Q4_0.gguf")).unwrap();
        let checkpoint = snapshot("models--me--tales");
        for file in std::fs::read_dir(tales()).unwrap() {
            let file = std::fs::canonicalize(file.unwrap().path()).unwrap();
            symlink(&file, checkpoint.join(file.file_name().unwrap())).unwrap();
        }
        Stores { directory, blob }
    }

    fn quipu(&self, args: &[&str]) -> Ended {
        let mut command = command(args);
        command.env("OLLAMA_MODELS", self.directory.path().join("ollama"));
        command.env("HF_HUB_CACHE", self.directory.path().join("hub"));
        ended(command)
    }
}

#[test]
fn models_run_where_other_programs_have_put_them() {
    let stores = Stores::new();
    let run = |model: &str| stores.quipu(&["run", model, "Once upon a time", "-n", "8", "--temp", "0", "--json"]);
    let text = |ended: &Ended| ids(&serde_json::from_str::<serde_json::Value>(&ended.stdout).unwrap()["tokens"]);
    let file = quipu(["run", TALES, "Once upon a time", "-n", "8", "--temp", "0", "--json"]);
    let ollama = run("ollama:tales:8m");
    assert_eq!((ollama.code, text(&ollama)), (0, text(&file)));
    assert!(ollama.stderr.contains("(template) is not used"), "{}", ollama.stderr);
    let hub = run("hf:me/tales-GGUF:q4_0");
    assert_eq!((hub.stderr.as_str(), text(&hub)), ("", text(&file)));
    let checkpoint = quipu(["run", tales().to_str().unwrap(), "Once upon a time", "-n", "8", "--temp", "0", "--json"]);
    assert_eq!(text(&run("hf:me/tales")), text(&checkpoint));
    assert!(stores.quipu(&["inspect", "hf:me/tales", "--json"]).ok().contains("Hugging Face directory"));
}

#[test]
fn what_is_not_there_is_told_in_one_line() {
    let stores = Stores::new();
    let error = |model: &str| stores.quipu(&["run", model, "A"]).error();
    for (model, parts) in [
        ("ollama:tales", &["ollama:tales: there is no such model in ", "/ollama; there are tales:8m"][..]),
        ("ollama:../../x", &["no name of a model; expected ollama:MODEL"]),
        ("hf:me/other", &["no such model in ", "/hub; there are me/tales"]),
        ("hf:me/tales-GGUF:f16", &["no such model in ", "there are tales-Q4_0"]),
        ("hf:me", &["no such model"]),
    ] {
        let error = error(model);
        assert!(parts.iter().all(|part| error.contains(part)), "{model}: {error}");
    }
    // A file of that name goes before.
    let directory = tempfile::tempdir().unwrap();
    std::fs::copy(TALES, directory.path().join("ollama:tales")).unwrap();
    let mut here = command(["tokenize", "ollama:tales", "A", "--json"]);
    here.current_dir(directory.path());
    assert_eq!(ended(here).code, 0);
}

#[test]
fn no_output_goes_onto_a_store() {
    let stores = Stores::new();
    let before = std::fs::read(&stores.blob).unwrap();
    let link = stores.directory.path().join("hub/models--me--tales-GGUF/snapshots/abc/tales-Q4_0.gguf");
    for model in ["ollama:tales:8m", "hf:me/tales-GGUF"] {
        for output in [&stores.blob as &Path, &link] {
            let error = stores.quipu(&["-q", "pack", model, output.to_str().unwrap()]).error();
            assert!(error.contains("same file"), "{error}");
        }
    }
    assert_eq!(std::fs::read(&stores.blob).unwrap(), before);
}
