//! The promise across machines: what the demo model makes of a fixed text is one number, on every architecture and
//! instruction set.
//!
//! The constants guard the promise and say nothing about quality. They change only with the arithmetic that the design
//! fixes, or with the model; then all machines have to agree on the new ones.

use std::path::{Path, PathBuf};

use quipu_runtime::generate::{Event, GenerateOptions, Request, Scheduler};
use quipu_runtime::sampler::SamplerOptions;
use quipu_runtime::{Engine, Isa, LoadOptions};
use quipu_tests::load;

/// Of the bits of all logits after each token of [`TEXT`].
const LOGITS: u64 = 0x654b_e65a_e02e_da7b;
/// What follows the text with seed 7.
const TOKENS: [u32; 16] = [352, 40, 594, 508, 277, 537, 584, 277, 1655, 259, 861, 11, 458, 277, 654, 258];

/// More than one segment of attention.
const TEXT: &str = "\
    Once upon a time there was a poor woodcutter who lived with his wife and his two children at the edge of a great forest. \
    One evening the youngest said: \"Father, why does the old mill turn when there is no wind?\" The father put down his axe, looked \
    long into the fire, and began to tell them what his own grandmother had told him. There had been a miller in those days, 37 years \
    old and as stubborn as a mule, who would grind no corn for a stranger. Then, on a winter's night, somebody knocked three times. \
    \"Who is there?\" he called, but nobody answered, and the snow fell on.";

fn demo() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/tales.gguf")
}

/// FNV-1a, 64 bits (Fowler, Noll, Vo).
fn hash(rows: &[Vec<f32>]) -> u64 {
    let bytes = rows.iter().flatten().flat_map(|x| x.to_bits().to_le_bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

fn tokens(engine: &Engine) -> Vec<u32> {
    engine.tokenizer().encode(TEXT, true, false)
}

/// The greater part as a prompt, the rest token by token: both kinds of kernels.
fn number(engine: &mut Engine) -> u64 {
    let tokens = tokens(engine);
    let (prompt, rest) = tokens.split_at(tokens.len() - 6);
    let mut sequence = engine.new_sequence();
    let mut rows = Vec::new();
    engine.score(&mut sequence, prompt, |_, row| rows.push(row.to_vec())).expect("the prompt fits");
    for &token in rest {
        rows.push(engine.decode(&mut sequence, token).expect("the text fits").to_vec());
    }
    hash(&rows)
}

#[test]
fn the_demo_models_logits_are_one_number() {
    for isa in Isa::available() {
        let mut engine = load(&demo(), &LoadOptions::default().isa(Some(isa)));
        let number = number(&mut engine);
        assert_eq!(number, LOGITS, "{number:#x} on {isa}");
        println!("ok: {number:#x} on {isa}");
    }
}

/// Whoever looks at the logits side by side sees what one who looks at them in order sees, in whatever batches the
/// tokens are read.
#[test]
fn logits_side_by_side_are_those_in_order() {
    let mut engine = load(&demo(), &LoadOptions::default().batch(16));
    let (tokens, mut sequence, mut rows) = (tokens(&engine), engine.new_sequence(), Vec::new());
    engine.score(&mut sequence, &tokens, |i, row| rows.push((i, row.to_vec()))).expect("the text fits");
    for first in [0, 17, tokens.len() - 1, tokens.len()] {
        let mut sequence = engine.new_sequence();
        let found =
            engine.score_each(&mut sequence, &tokens, first, |i, row| (i, row.to_vec())).expect("the text fits");
        assert!(found == rows[first..], "from token {first} on");
    }
}

#[test]
fn the_demo_models_tale_is_one_tale() {
    let engine = load(&demo(), &LoadOptions::default());
    let tokens = tokens(&engine);
    let read = tokens.len();
    let sampler = SamplerOptions::default().seed(7);
    let request = Request::new(tokens, GenerateOptions::new(sampler).max_tokens(TOKENS.len()));
    let mut written = Vec::new();
    let end = Scheduler::new(engine).stream(request, |event| {
        if let Event::Token(token) = event {
            written.push(token.id);
        }
    });
    end.expect("it fits");
    assert_eq!(written, TOKENS, "after {read} tokens");
}

/// `QUIPU_EXPECT_ISA` is the answer that whoever chose the (emulated) CPU knows.
#[test]
fn the_best_instruction_set_is_found() {
    let found = Isa::best();
    let engine = load(&demo(), &LoadOptions::default());
    assert_eq!(engine.isa(), found);
    match std::env::var("QUIPU_EXPECT_ISA") {
        Ok(expected) => assert_eq!(found.name(), expected),
        Err(_) => {
            quipu_tests::skipped("QUIPU_EXPECT_ISA is not set, so the choice of the instruction set is not checked")
        }
    }
}
