//! What the tests that cross crates share: where fixtures lie, how a model is loaded, how logits are compared.
//!
//! The tests are in `tests/tests`, one file for each claim. Their references come from outside: `tests/data` holds the
//! small ones, `tests/refs` the scripts that make or fetch the others, into the directory that `QUIPU_REFS` names. A
//! test whose reference is missing prints a line that starts with `SKIPPED`.
//!
//! A few tests of the crates look at the clock or at the memory of their process, which other programs on the machine
//! can spoil. They are skipped, with such a line, where `QUIPU_SKIP_TIMING` is set.
#![forbid(unsafe_code)]

use std::io::Write;
use std::path::{Path, PathBuf};

use quipu_formats::gguf::GgufFile;
use quipu_formats::hf::HfDirectory;
use quipu_formats::source::Source;
use quipu_runtime::{BatchToken, Engine, KvType, LoadOptions, Sequence, TuningChoice};

/// A file or directory of `tests/data`.
pub fn data(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data").join(path)
}

/// What `tests/refs/fetch.sh` made, by its path in `$QUIPU_REFS` (by default `target/refs`).
pub fn refs(path: &str) -> Option<PathBuf> {
    let root = std::env::var_os("QUIPU_REFS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/refs"), PathBuf::from);
    present(root.join(path), "run tests/refs/fetch.sh, or set QUIPU_REFS")
}

/// The `quipu` binary: `$QUIPU_BIN`, or the one that cargo built beside this test.
pub fn binary() -> Option<PathBuf> {
    let path = std::env::var_os("QUIPU_BIN").map(PathBuf::from).or_else(|| {
        // target/release/deps/NAME-HASH: the binary is two directories up.
        let test = std::env::current_exe().ok()?;
        Some(test.parent()?.parent()?.join(format!("quipu{}", std::env::consts::EXE_SUFFIX)))
    });
    present(path?, "build it, or set QUIPU_BIN")
}

fn present(path: PathBuf, hint: &str) -> Option<PathBuf> {
    if path.exists() {
        return Some(path);
    }
    skipped(&format!("no {} ({hint})", path.display()));
    None
}

/// Says that a test did not run, past the test runner's capture, so that it is seen.
pub fn skipped(why: &str) {
    let test = std::thread::current().name().unwrap_or("test").to_string();
    // One write, so that lines of tests that run at once do not mix. Nobody is left to tell when stderr is gone.
    let _ = std::io::stderr().write_all(format!("SKIPPED: {test}: {why}\n").as_bytes());
}

/// The JSON in a file of the tests' own.
pub fn json(path: impl AsRef<Path>) -> serde_json::Value {
    let path = path.as_ref();
    let text = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_slice(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// A Hugging Face directory or a GGUF.
pub fn open(path: &Path) -> Box<dyn Source> {
    if path.is_dir() {
        Box::new(HfDirectory::open(path).unwrap_or_else(|e| panic!("{e}")))
    } else {
        Box::new(GgufFile::open(path).unwrap_or_else(|e| panic!("{e}")))
    }
}

/// One thread, an f32 KV cache, the best instruction set: the options from which a comparison starts. What is found out
/// about the machine is kept apart from what its user has.
pub fn options() -> LoadOptions {
    let tuning = TuningChoice::Measured(Some(std::env::temp_dir().join("quipu-tests")));
    LoadOptions::default().threads(Some(1)).kv_type(KvType::F32).tuning(tuning)
}

/// A model, loaded.
pub fn load(path: &Path, options: &LoadOptions) -> Engine {
    Engine::load(open(path), options, &|_, _| {}).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The logits after each of `tokens`, which go through the model `chunk` at a time: \[token\]\[vocabulary\].
pub fn logits(engine: &mut Engine, tokens: &[u32], chunk: usize) -> Vec<Vec<f32>> {
    let mut sequence = engine.new_sequence();
    let mut rows = Vec::with_capacity(tokens.len());
    for part in tokens.chunks(chunk) {
        let batch: Vec<_> = part.iter().map(|&token| BatchToken { token, sequence: 0, logits: true }).collect();
        forward(engine, &batch, &mut [&mut sequence], |_, row| rows.push(row.to_vec()));
    }
    assert_eq!(rows.len(), tokens.len());
    rows
}

/// A forward pass that has to succeed.
pub fn forward(
    engine: &mut Engine,
    batch: &[BatchToken],
    sequences: &mut [&mut Sequence],
    mut logits: impl FnMut(usize, &[f32]),
) {
    engine.forward(batch, sequences, &mut logits).unwrap_or_else(|e| panic!("{e}"));
}

/// The natural logarithms of the probabilities that a row of logits stands for.
pub fn log_softmax(row: &[f32]) -> Vec<f64> {
    let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max) as f64;
    let sum: f64 = row.iter().map(|&x| (x as f64 - max).exp()).sum();
    row.iter().map(|&x| x as f64 - max - sum.ln()).collect()
}

/// KL(p ‖ q) in nats, of the distributions that two rows of logits stand for.
pub fn kl_divergence(p: &[f32], q: &[f32]) -> f64 {
    let (p, q) = (log_softmax(p), log_softmax(q));
    p.iter().zip(&q).map(|(p, q)| p.exp() * (p - q)).sum()
}

/// The index of the largest logit, the lower one of equals.
pub fn argmax(row: &[f32]) -> u32 {
    let mut best = 0;
    for i in 1..row.len() {
        if row[i] > row[best] {
            best = i;
        }
    }
    best as u32
}

/// The largest absolute difference of two sets of rows.
pub fn max_difference(a: &[Vec<f32>], b: &[Vec<f32>]) -> f32 {
    assert_eq!(a.len(), b.len());
    let rows = a.iter().zip(b).inspect(|(a, b)| assert_eq!(a.len(), b.len()));
    rows.flat_map(|(a, b)| a.iter().zip(b)).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// Panics when a bit of the logits differs, and says where.
pub fn assert_same_bits(a: &[Vec<f32>], b: &[Vec<f32>], what: &str) {
    assert_eq!(a.len(), b.len(), "{what}");
    for (position, (a, b)) in a.iter().zip(b).enumerate() {
        assert_eq!(a.len(), b.len(), "{what}, position {position}");
        for (token, (a, b)) in a.iter().zip(b).enumerate() {
            assert!(a.to_bits() == b.to_bits(), "{what}: position {position}, token {token}: {a:?} and {b:?}");
        }
    }
}

/// A checkpoint with the logits that `transformers` computes from it in float64 (`tests/refs/make_checkpoints.py`).
pub struct Reference {
    /// The checkpoint.
    pub directory: PathBuf,
    /// The tokens that were read.
    pub tokens: Vec<u32>,
    /// The context limit with which they are read, where it is not the model's own: some ways of stretching RoPE depend
    /// on it.
    pub context: Option<usize>,
    /// The positions whose logits are in `logits`.
    pub positions: Vec<usize>,
    /// The logits after them.
    pub logits: Vec<Vec<f32>>,
    /// How far transformers' own float32 logits are from these.
    pub float32_error: f32,
    /// The mean KL divergence in nats of the same arithmetic with weights and activations rounded, for a type by name.
    pub quantised_kl: Vec<(String, f64)>,
    /// A text and its tokens, by Hugging Face tokenizers.
    pub text: (String, Vec<u32>),
}

impl Reference {
    /// Reads what the script wrote into `directory`.
    pub fn read(directory: PathBuf) -> Reference {
        let meta = json(directory.join("reference.json"));
        let numbers = |key: &str| -> Vec<u64> {
            meta[key].as_array().expect(key).iter().map(|v| v.as_u64().expect(key)).collect()
        };
        let tokens = |key| numbers(key).into_iter().map(|n| n as u32).collect::<Vec<_>>();
        let bytes = std::fs::read(directory.join("reference.f32")).expect("reference.f32");
        let (values, rest) = bytes.as_chunks::<4>();
        assert!(rest.is_empty());
        let values: Vec<f32> = values.iter().map(|b| f32::from_le_bytes(*b)).collect();
        let vocabulary = meta["vocab_size"].as_u64().expect("vocab_size") as usize;
        let reference = Reference {
            tokens: tokens("tokens"),
            context: meta["context"].as_u64().map(|n| n as usize),
            positions: numbers("positions").into_iter().map(|n| n as usize).collect(),
            logits: values.chunks(vocabulary).map(<[f32]>::to_vec).collect(),
            float32_error: meta["float32_error"].as_f64().expect("float32_error") as f32,
            quantised_kl: meta["quantised_kl"]
                .as_object()
                .expect("quantised_kl")
                .iter()
                .map(|(name, kl)| (name.clone(), kl.as_f64().expect("quantised_kl")))
                .collect(),
            text: (meta["text"].as_str().expect("text").to_string(), tokens("text_tokens")),
            directory,
        };
        assert_eq!(reference.logits.len(), reference.positions.len());
        reference
    }

    /// All checkpoints of the references' directory, or none when it is not there.
    pub fn all() -> Vec<Reference> {
        refs("checkpoints").map_or_else(Vec::new, |root| Reference::in_directory(&root))
    }

    fn in_directory(root: &Path) -> Vec<Reference> {
        let entries = std::fs::read_dir(root).expect("a directory of checkpoints");
        let mut directories: Vec<_> = entries.map(|e| e.expect("an entry of it").path()).collect();
        directories.retain(|d| d.join("reference.json").exists());
        directories.sort();
        directories.into_iter().map(Reference::read).collect()
    }

    /// Those that are committed: small ones of every family.
    pub fn fixtures() -> Vec<Reference> {
        let found = Reference::in_directory(&data(""));
        assert!(found.len() >= 2, "tests/data has no checkpoints");
        found
    }

    /// [`options`] with the context of the reference.
    pub fn options(&self) -> LoadOptions {
        options().context(self.context)
    }

    /// What to call it in a message.
    pub fn name(&self) -> String {
        self.directory.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default()
    }

    /// The rows of `logits` (after every token) that this reference has.
    pub fn pick(&self, logits: &[Vec<f32>]) -> Vec<Vec<f32>> {
        self.positions.iter().map(|&p| logits[p].clone()).collect()
    }
}
