//! A C program uses the library, linked in both ways, and gets what the Rust API gives.
//!
//! `CC` names the compiler (`cc` by default); it must compile for the target of this test. `QUIPU_RUNNER` is the
//! command that runs what it makes (an emulator with its options).

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use quipu_formats::convert::{ConvertOptions, TypeRule, write_gguf};
use quipu_formats::gguf::{GgufFile, GgufWriter};
use quipu_formats::source::{Encoding, Source, TensorInfo};
use quipu_quant::StoredType;
use quipu_runtime::generate::{GenerateOptions, Request, Scheduler, prompt_tokens};
use quipu_runtime::sampler::SamplerOptions;
use quipu_runtime::{Engine, LoadOptions};

const PROMPT: &str = "Once upon a time";
const TOKENS: usize = 24;
const SEED: u64 = 7;

fn skipped(why: &str) {
    use std::io::Write;
    let _ = std::io::stderr().write_all(format!("SKIPPED: the library from C: {why}\n").as_bytes());
}

fn model() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/tales.gguf")
}

/// The text that the Rust API writes.
fn expected() -> String {
    let source = quipu_runtime::open(model().to_str().unwrap()).unwrap();
    let engine = Engine::load(source, &LoadOptions::default(), &|_, _| {}).unwrap();
    let tokens = prompt_tokens(engine.tokenizer(), PROMPT, true);
    let sampler = SamplerOptions::default().seed(SEED);
    let request = Request::new(tokens, GenerateOptions::new(sampler).max_tokens(TOKENS));
    Scheduler::new(engine).complete(request).unwrap().0
}

/// The demo model with its queries and keys in types that have no kernels. The values do not matter.
fn model_without_kernels(directory: &Path) -> PathBuf {
    let source = quipu_runtime::open(model().to_str().unwrap()).unwrap();
    let infos: Vec<TensorInfo> = source
        .tensors()
        .iter()
        .map(|tensor| {
            let stored = match tensor.name.rsplit_once(".attn_").map(|(_, part)| part) {
                Some("q.weight") => StoredType::IQ2_XS,
                Some("k.weight") => StoredType::NVFP4,
                _ => return tensor.clone(),
            };
            TensorInfo { encoding: Encoding::Stored(stored), ..tensor.clone() }
        })
        .collect();
    let path = directory.join("stored.gguf");
    let mut writer = GgufWriter::create(&path, None, source.metadata(), &infos).unwrap();
    for (i, info) in infos.iter().enumerate() {
        let bytes = match info.encoding {
            Encoding::Stored(_) => vec![0; info.byte_len().unwrap()],
            _ => source.rows(i, 0..info.rows()).into_owned(),
        };
        writer.write_tensor_part(&bytes).unwrap();
    }
    writer.finish().unwrap();
    path
}

/// The demo model with a scale that is no number, as `damaged.gguf` and packed as `damaged.quipu`.
fn damaged_models(directory: &Path) {
    let (plain, packed) = (directory.join("damaged.gguf"), directory.join("damaged.quipu"));
    std::fs::copy(model(), &plain).unwrap();
    let source = GgufFile::open(model()).unwrap();
    let options = ConvertOptions::new(TypeRule::Keep).packed(true);
    write_gguf(&source, &options, &packed, &false.into(), &|_| {}).unwrap();
    for path in [plain, packed] {
        let file = GgufFile::open(&path).unwrap();
        let index = file.tensors().iter().position(|tensor| tensor.name == "blk.1.ffn_up.weight").unwrap();
        let info = &file.tensors()[index];
        let at = if matches!(info.encoding, Encoding::Packed(_)) { info.packed_layout().scales_offset() } else { 0 };
        let at = file.range(index).start + at;
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[at..at + 2].copy_from_slice(&0x7e00_u16.to_le_bytes());
        std::fs::write(&path, bytes).unwrap();
    }
}

/// Compiles the program against the shared or the static library. `None`, loudly, where that can't be done.
fn program(directory: &Path, shared: bool) -> Option<PathBuf> {
    // target/…/deps, where cargo puts the libraries that a test needs.
    let libraries = std::env::current_exe().unwrap().parent().unwrap().to_path_buf();
    let library = libraries.join(if shared { "libquipu.so" } else { "libquipu.a" });
    if !library.exists() {
        skipped(&format!("no {}", library.display()));
        return None;
    }
    let cc = std::env::var("CC").unwrap_or_else(|_| "cc".to_string());
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let program = directory.join(if shared { "story-shared" } else { "story-static" });
    let mut command = Command::new(&cc);
    command.args(["-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-O1", "-I"]).arg(root.join("include"));
    command.arg("-o").arg(&program).arg(root.join("tests/c/story.c")).arg(&library);
    command.args(["-lpthread", "-ldl", "-lm"]);
    if shared {
        command.arg(format!("-Wl,-rpath,{}", libraries.display()));
    }
    match command.output() {
        Err(error) => {
            skipped(&format!("no C compiler `{cc}` ({error})"));
            None
        }
        Ok(output) => {
            assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
            Some(program)
        }
    }
}

fn run(program: &Path, arguments: &[&str]) -> Output {
    let runner = std::env::var("QUIPU_RUNNER").unwrap_or_default();
    let mut words = runner.split_whitespace();
    let mut command = match words.next() {
        Some(emulator) => {
            let mut command = Command::new(emulator);
            command.args(words).arg(program);
            command
        }
        None => Command::new(program),
    };
    command.args(arguments).output().unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

fn check(shared: bool) {
    let directory = tempfile::tempdir().unwrap();
    let Some(program) = program(directory.path(), shared) else { return };
    let model = model();
    let model = model.to_str().unwrap();

    let story = run(&program, &[model, PROMPT, &TOKENS.to_string(), &SEED.to_string()]);
    let log = String::from_utf8_lossy(&story.stderr).into_owned();
    assert!(story.status.success(), "{log}");
    let text = String::from_utf8(story.stdout).unwrap();
    let (beginning, text) = text.split_once('\n').unwrap();
    assert_eq!(text, expected());
    assert!(!beginning.is_empty() && text.starts_with(beginning) && beginning.len() < text.len(), "{beginning}");
    let version = env!("CARGO_PKG_VERSION");
    let end = format!("read 1, written {TOKENS}, stop 2\n");
    assert!(log.starts_with(&format!("version {version}, stopped 1, ")) && log.ends_with(&end), "{log}");

    let warnings = run(&program, &["--warnings", model_without_kernels(directory.path()).to_str().unwrap()]);
    assert!(warnings.status.success(), "{}", String::from_utf8_lossy(&warnings.stderr));
    let warnings = String::from_utf8(warnings.stdout).unwrap();
    let lines: Vec<&str> = warnings.lines().collect();
    assert_eq!(lines.len(), 2, "{warnings}");
    for (stored, run) in [("IQ2_XS", "Q6_K"), ("NVFP4", "Q8_0")] {
        assert!(lines.iter().any(|line| line.contains(&format!("of type {stored} are run as {run}"))), "{warnings}");
    }

    damaged_models(directory.path());
    let errors = run(&program, &["--errors", model, directory.path().to_str().unwrap()]);
    assert!(errors.status.success(), "{}: {}", errors.status, String::from_utf8_lossy(&errors.stderr));
}

#[test]
fn shared_library() {
    check(true);
}

#[test]
fn static_library() {
    check(false);
}
