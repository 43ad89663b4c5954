//! Files with lies in them, made by the thousand of small valid ones, before every command that reads such a file:
//! it ends well or with one line of error, and leaves nothing behind. It never dies of a signal, panics, hangs or takes
//! the machine's memory.
//!
//! Every seed makes one file. By itself the test takes the first few; `QUIPU_FUZZ_SECONDS=600` goes on for so long, and
//! `QUIPU_FUZZ_SEED=7` begins elsewhere or repeats a failure.

mod asked;
mod beside;
mod bytes;
mod gguf;
mod hf;
mod hunt;
mod layouts;
mod requests;
mod sentencepiece;
mod tokenizers;

use std::path::{Path, PathBuf};

use quipu_test_random::Random;

use crate::quipu;
use bytes::mutate_bytes;
use gguf::Gguf;
use hunt::{hunt, names, ready};

const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data");
const TEXT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/design.md");
const OUT: &str = "out";

/// What a checkpoint of Hugging Face has.
const FILES: [&str; 5] =
    ["config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json", "model.safetensors"];

/// Models with experts.
const EXPERTS: [&str; 3] = ["tiny-mixtral-bf16", "tiny-qwen3moe-bf16", "tiny-llama4-bf16"];

/// What reads a model; `m` is the file.
const COMMANDS: [&str; 25] = [
    "run m Once -n 3 -t 1",
    "run m Once -n 2 -t 2 --json",
    "run m Once -n 3 -t 1 --schema schema",
    "run m Once -n 3 -t 1 --kv q4 --session out",
    "run m Once -n 3 -t 1 --lora lora",
    "chat m -n 2 -t 1",
    "chat m -n 2 -t 1 --template template --tools tools",
    "batch m lines -o out -t 1",
    "guard m Once --form 3 -t 1",
    "inspect m",
    "inspect m --json",
    "tokenize m Hello<s>wörld",
    "tokenize m -f text",
    "score m Oncemore -t 1 --json",
    "embed m Once -t 1",
    "perplexity m -f text -c 16 --chunks 2 -t 1",
    "imatrix m -f text -o out -c 16 --chunks 2 -t 1",
    "compare m -f text -c 16 --chunks 1 --no-speed -t 1",
    "convert m -o out",
    "convert m -o out --type q8_0 --packed",
    "pack m out",
    "merge m lora -o out",
    "merge m lora -o out --type q4_0 --no-calibrate",
    "quantize m out --type q4_0 --no-calibrate",
    "quantize m out --type q5_0",
];

/// One of the files, with lies.
fn mutant(files: &[(Vec<u8>, Gguf)], random: &mut Random) -> (Vec<u8>, String) {
    let (bytes, pieces) = &files[random.below(files.len())];
    if random.below(6) == 0 {
        let mut bytes = bytes.clone();
        let what = mutate_bytes(&mut bytes, random);
        return (bytes, what);
    }
    let mut pieces = pieces.clone();
    let lies = [1, 1, 1, 2, 3][random.below(5)];
    let what: Vec<_> = (0..lies).map(|_| pieces.mutate(random)).collect();
    (pieces.bytes(), what.join(", "))
}

fn valid(bytes: Vec<u8>) -> (Vec<u8>, Gguf) {
    let pieces = Gguf::parse(&bytes);
    assert!(pieces.bytes() == bytes, "taken apart and put together again it is another file");
    (bytes, pieces)
}

/// What a command writes.
fn written(args: &[&str]) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join(OUT);
    let ended = quipu(args.iter().map(|&arg| if arg == OUT { out.to_str().unwrap() } else { arg }));
    assert_eq!(ended.code, 0, "{args:?}: {}", ended.stderr);
    std::fs::read(out).unwrap()
}

#[test]
fn lies_of_a_gguf_are_errors() {
    if !ready() {
        return;
    }
    let paths = ["interleaved/tiny-llama3-q4_0.gguf", "llama_cpp_convert/tiny-llama3-bf16.gguf"];
    let mut files: Vec<_> = paths.iter().map(|path| std::fs::read(format!("{DATA}/{path}")).unwrap()).collect();
    let dense =
        ["tiny-qwen2-bf16", "tiny-qwen3-bf16", "tiny-longrope-beyond-bf16", "tiny-gemma3-bf16", "tiny-opt-bf16"];
    for name in dense.into_iter().chain(EXPERTS) {
        files.push(written(&["convert", &format!("{DATA}/{name}"), "-o", OUT]));
    }
    let files: Vec<_> = files.into_iter().map(valid).collect();
    hunt("GGUF", &COMMANDS, |dir, random| {
        let (bytes, what) = mutant(&files, random);
        std::fs::write(dir.join("m"), bytes).unwrap();
        what
    });
}

/// Named on the command line, or found in a directory and asked for by a client.
#[test]
fn lies_of_a_served_model_are_errors() {
    if !ready() {
        return;
    }
    let files = [valid(std::fs::read(format!("{DATA}/llama_cpp_convert/tiny-llama3-bf16.gguf")).unwrap())];
    let commands = [
        "serve x.gguf -v --port 0 -t 1",
        "serve x.gguf -v --port 0 -t 1 --template template",
        "serve --models . -v --port 0 -t 1",
    ];
    hunt("served GGUF", &commands, |dir, random| {
        let (bytes, what) = mutant(&files, random);
        std::fs::write(dir.join("x.gguf"), bytes).unwrap();
        what
    });
}

#[test]
fn lies_of_a_packed_file_are_errors() {
    if !ready() {
        return;
    }
    let llama = format!("{DATA}/tiny-llama3-bf16");
    let files = ["q8_0", "q4_k_m"]
        .map(|t| valid(written(&["convert", &llama, "-o", OUT, "--type", t, "--no-calibrate", "--packed"])));
    hunt("packed files", &COMMANDS, |dir, random| {
        let (bytes, what) = mutant(&files, random);
        std::fs::write(dir.join("m"), bytes).unwrap();
        what
    });
}

#[test]
fn lies_of_an_importance_matrix_are_errors() {
    if !ready() {
        return;
    }
    let model = format!("{DATA}/tiny-llama3-bf16");
    let files = [valid(written(&["imatrix", &model, "-f", TEXT, "-o", OUT, "-c", "32", "--chunks", "2", "-t", "1"]))];
    let gguf = std::fs::read(format!("{DATA}/llama_cpp_convert/tiny-llama3-bf16.gguf")).unwrap();
    let commands = ["quantize m out --type q4_0 --imatrix i", "quantize m out --type q6_k --imatrix i"];
    hunt("importance matrices", &commands, |dir, random| {
        let (bytes, what) = mutant(&files, random);
        std::fs::write(dir.join("i"), bytes).unwrap();
        std::fs::write(dir.join("m"), &gguf).unwrap();
        what
    });
}

/// A copy of a model of tests/data in `dir`.
fn copy(name: &str, dir: &Path) -> PathBuf {
    let to = dir.join("m");
    std::fs::create_dir(&to).unwrap();
    for entry in std::fs::read_dir(format!("{DATA}/{name}")).unwrap() {
        let from = entry.unwrap().path();
        std::fs::copy(&from, to.join(from.file_name().unwrap())).unwrap();
    }
    to
}

/// What reads a tokenizer; `m` is the model's directory.
const TOKENIZER_COMMANDS: [&str; 6] = [
    "tokenize m Hello<s>wörld",
    "tokenize m -f text",
    "run m Once -n 3 -t 1",
    "chat m -n 2 -t 1",
    "inspect m",
    "convert m -o out",
];

#[test]
fn lies_of_a_tokenizer_json_are_errors() {
    if !ready() {
        return;
    }
    let models = ["tiny-llama3-bf16", "tiny-llama2-f16", "tiny-qwen2-bf16"];
    hunt("tokenizer.json", &TOKENIZER_COMMANDS, |dir, random| {
        let name = models[random.below(models.len())];
        format!("{name}, {}", tokenizers::lie_in_json(&copy(name, dir), random))
    });
}

#[test]
fn lies_of_a_sentencepiece_model_are_errors() {
    if !ready() {
        return;
    }
    hunt("SentencePiece's tokenizer.model", &TOKENIZER_COMMANDS, |dir, random| {
        tokenizers::lie_in_sentencepiece(&copy("tiny-llama2-f16", dir), random)
    });
}

#[test]
fn lies_of_ranked_vocabularies_are_errors() {
    if !ready() {
        return;
    }
    hunt("tiktoken's tokenizer.model and tekken.json", &TOKENIZER_COMMANDS, |dir, random| {
        let dir = copy("tiny-llama3-bf16", dir);
        if random.below(2) == 0 {
            tokenizers::lie_in_tiktoken(&dir, random)
        } else {
            tokenizers::lie_in_tekken(&dir, random)
        }
    });
}

#[test]
fn lies_of_a_checkpoint_are_errors() {
    if !ready() {
        return;
    }
    let dense = ["tiny-llama3-bf16", "tiny-qwen2-bf16", "tiny-qwen3-bf16", "tiny-yarn-bf16", "tiny-galactica-bf16"];
    let models = [&dense[..], &EXPERTS].concat();
    hunt("checkpoints", &COMMANDS, |dir, random| {
        let name = models[random.below(models.len())];
        let to = copy(name, dir);
        let what: Vec<_> = (0..1 + random.below(2)).map(|_| hf::mutate(&to, &FILES, random)).collect();
        format!("{name}, {}", what.join(", "))
    });
}

#[test]
fn lies_of_other_layouts_are_errors() {
    if !ready() {
        return;
    }
    let from = Path::new(DATA).join("tiny-llama3-bf16");
    hunt("other layouts", &COMMANDS, |dir, random| layouts::make(&from, &dir.join("m"), random));
}

/// In the first part or in another one.
#[test]
fn lies_of_a_model_in_parts_are_errors() {
    if !ready() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("m.gguf");
    let model = format!("{DATA}/tiny-llama3-bf16");
    quipu(["convert", &model, "-o", out.to_str().unwrap(), "--split-size", "100K"]).ok();
    let mut paths: Vec<_> = names(dir.path());
    paths.sort();
    assert!(paths.len() > 1, "{paths:?}");
    let parts: Vec<_> = paths.iter().map(|path| valid(std::fs::read(path).unwrap())).collect();
    let commands =
        COMMANDS.map(|line| line.replace(" m", &format!(" {}", paths[0].file_name().unwrap().to_str().unwrap())));
    let commands: Vec<&str> = commands.iter().map(String::as_str).collect();
    hunt("models in parts", &commands, |dir, random| {
        let which = random.below(parts.len());
        let mut what = String::new();
        for (i, path) in paths.iter().enumerate() {
            let mut bytes = parts[i].0.clone();
            if i == which {
                // As often the numbers of the parts as anything else.
                let mut pieces = parts[i].1.clone();
                (bytes, what) = match random.below(2) {
                    0 => {
                        let what = pieces.mutate_key(b"split.", random);
                        (pieces.bytes(), what)
                    }
                    _ => mutant(&parts[i..i + 1], random),
                };
            }
            std::fs::write(dir.join(path.file_name().unwrap()), bytes).unwrap();
        }
        if random.below(10) == 0 {
            std::fs::remove_file(dir.join(paths[which].file_name().unwrap())).unwrap();
        }
        format!("part {which}: {what}")
    });
}
