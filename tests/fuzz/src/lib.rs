//! Fuzz targets: what is done with bytes from outside, whatever they are.
//!
//! A [`Target`] is a function that takes any bytes, gives them to a reader of Quipu as the file, text or template that
//! they claim to be, and goes on with what was read as the program would: it must neither panic nor crash, hang, or
//! take memory that the bytes do not account for. Two fuzzers call the same functions: cargo-fuzz, guided by coverage,
//! in `fuzz/`; and [`hunt`], which every compiler builds and CI runs for some seconds a target. Both start from
//! [`Target::seeds`] and from what lies in `fuzz/corpus`.
//!
//! Start with [`TARGETS`].
#![forbid(unsafe_code)]

mod adapters;
mod answers;
mod files;
pub mod hunt;
mod models;
mod mutate;
mod outcome;
mod place;
mod seeds;
mod sessions;
mod shapes;
mod texts;
mod tiny;

/// What a fuzzer needs to know of a target.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, which is that of its corpus and of its file in `fuzz/fuzz_targets`, too.
    pub name: &'static str,
    /// Takes any bytes. Says what became of them, for a fuzzer to see whether that is something new.
    pub run: fn(&[u8]) -> String,
    /// Valid inputs.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Words that mean something in the format.
    pub words: &'static [&'static str],
}

/// All targets.
pub const TARGETS: [Target; 13] = [
    Target { name: "gguf", run: models::model_file, seeds: seeds::gguf, words: seeds::GGUF_WORDS },
    Target { name: "packed", run: models::model_file, seeds: seeds::packed, words: seeds::GGUF_WORDS },
    Target { name: "imatrix", run: files::imatrix, seeds: seeds::imatrix, words: seeds::GGUF_WORDS },
    Target { name: "safetensors", run: files::safetensors, seeds: seeds::safetensors, words: seeds::SAFETENSORS_WORDS },
    Target { name: "torch", run: files::torch, seeds: seeds::torch, words: seeds::TORCH_WORDS },
    Target { name: "checkpoint", run: models::checkpoint, seeds: seeds::checkpoint, words: seeds::JSON_WORDS },
    Target { name: "pieces", run: files::pieces, seeds: seeds::pieces, words: seeds::JSON_WORDS },
    Target { name: "tokenizer", run: texts::tokenizer, seeds: seeds::tokenizer, words: seeds::TOKENIZER_WORDS },
    Target { name: "template", run: texts::template, seeds: seeds::template, words: seeds::TEMPLATE_WORDS },
    Target { name: "answer", run: answers::answer, seeds: answers::seeds, words: answers::WORDS },
    Target { name: "shape", run: shapes::shape, seeds: shapes::seeds, words: shapes::WORDS },
    Target { name: "adapter", run: adapters::adapter, seeds: adapters::seeds, words: adapters::WORDS },
    Target { name: "session", run: sessions::session, seeds: sessions::seeds, words: sessions::WORDS },
];

/// The target called `name`.
pub fn target(name: &str) -> Option<Target> {
    TARGETS.into_iter().find(|target| target.name == name)
}
