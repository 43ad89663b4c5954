//! Whatever schema, and a model with Llama 3's vocabulary that knows nothing: one layer, random weights. What it writes
//! is valid, or cut at its limit and said to be.
//!
//! The vocabulary is not ours to ship: `$QUIPU_SHARED/data/llama3-hf`. `QUIPU_SCHEMAS` and `QUIPU_WRITTEN` are as in
//! `property.rs`.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use quipu_constrain::{Grammars, Shape};
use quipu_formats::gguf::{Metadata, Value};
use quipu_formats::hf::read_tokenizer;
use quipu_formats::source::{Encoding, Source, TensorInfo};
use quipu_quant::TensorType;
use quipu_runtime::generate::{Event, GenerateOptions, Request, Scheduler, StopReason, prompt_tokens};
use quipu_runtime::sampler::SamplerOptions;
use quipu_runtime::tokenizer::Tokenizer;
use quipu_runtime::{Engine, LoadOptions};
use quipu_test_random::Random;
use serde_json::Value as Json;

use crate::property::{Written, count};
use crate::schemas;

const WIDTH: usize = 64;
const HEAD: usize = 32;
const HIDDEN: usize = 128;

/// Texts that are written side by side.
const BATCH: usize = 32;

/// Tokens of a text: most end long before.
const MOST: usize = 200;

/// A model whose weights are made when they are asked for.
struct Unreal {
    metadata: Metadata,
    tensors: Vec<TensorInfo>,
}

impl Unreal {
    /// With the vocabulary of a directory of Hugging Face's.
    fn new(vocabulary: &Path) -> Unreal {
        let mut metadata = read_tokenizer(vocabulary, None).expect("a tokenizer");
        let tokens = metadata.strings_opt("tokenizer.ggml.tokens").expect("strings").expect("tokens").len();
        metadata.set("general.architecture", Value::String("llama".into()));
        for (key, value) in [
            ("block_count", 1),
            ("context_length", 1024),
            ("embedding_length", WIDTH),
            ("feed_forward_length", HIDDEN),
            ("attention.head_count", WIDTH / HEAD),
            ("attention.head_count_kv", 1),
            ("rope.dimension_count", HEAD),
        ] {
            metadata.set(format!("llama.{key}"), Value::U32(value as u32));
        }
        metadata.set("llama.attention.layer_norm_rms_epsilon", Value::F32(1e-5));
        let tensor = |name: &str, shape: &[usize]| TensorInfo::new(name, Encoding::Plain(TensorType::F32), shape);
        let tensors = vec![
            tensor("token_embd.weight", &[WIDTH, tokens]),
            tensor("blk.0.attn_norm.weight", &[WIDTH]),
            tensor("blk.0.attn_q.weight", &[WIDTH, WIDTH]),
            tensor("blk.0.attn_k.weight", &[WIDTH, HEAD]),
            tensor("blk.0.attn_v.weight", &[WIDTH, HEAD]),
            tensor("blk.0.attn_output.weight", &[WIDTH, WIDTH]),
            tensor("blk.0.ffn_norm.weight", &[WIDTH]),
            tensor("blk.0.ffn_gate.weight", &[WIDTH, HIDDEN]),
            tensor("blk.0.ffn_up.weight", &[WIDTH, HIDDEN]),
            tensor("blk.0.ffn_down.weight", &[HIDDEN, WIDTH]),
            tensor("output_norm.weight", &[WIDTH]),
            tensor("output.weight", &[WIDTH, tokens]),
        ];
        Unreal { metadata, tensors }
    }
}

impl Source for Unreal {
    fn path(&self) -> &Path {
        Path::new("unreal")
    }

    fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    fn rows(&self, index: usize, rows: Range<usize>) -> Cow<'_, [u8]> {
        let info = &self.tensors[index];
        let value = |random: &mut Random| if info.shape.len() == 1 { 1.0 } else { random.normal() };
        let row = |row: usize| {
            let mut random = Random::new((index << 32 | row) as u64);
            (0..info.cols()).flat_map(move |_| value(&mut random).to_le_bytes()).collect::<Vec<u8>>()
        };
        rows.flat_map(row).collect()
    }

    fn mapped(&self, _: usize) -> Option<&[u8]> {
        None
    }
}

/// More weight for what closes something: few texts would ever end otherwise.
fn closing(tokenizer: &Tokenizer) -> Vec<(u32, f32)> {
    let closes = |id: &u32| {
        let bytes = tokenizer.token_bytes(*id, false);
        !bytes.is_empty() && bytes.iter().all(|byte| b"\"]},:".contains(byte))
    };
    (0..tokenizer.vocab_size() as u32).filter(closes).map(|id| (id, 12.0)).collect()
}

/// Writes a text for each request; the texts, and why they ended.
fn write(scheduler: &mut Scheduler, requests: Vec<Request>) -> Vec<(String, StopReason)> {
    let ids: Vec<_> = requests.into_iter().map(|request| scheduler.submit(request)).collect();
    let (mut texts, mut ends) = (HashMap::new(), HashMap::new());
    while scheduler.is_busy() {
        for (id, event) in scheduler.step() {
            let text: &mut String = texts.entry(id).or_default();
            match event {
                Event::Token(token) => text.push_str(&token.text),
                Event::Finished(end) => {
                    text.push_str(&end.text);
                    ends.insert(id, end.stop);
                }
                Event::Failed(failed) => panic!("{}: {text}", failed.error),
                _ => {}
            }
        }
    }
    ids.into_iter().map(|id| (texts.remove(&id).unwrap_or_default(), ends[&id])).collect()
}

#[test]
fn what_a_random_model_writes_is_valid() {
    let shared = std::env::var_os("QUIPU_SHARED")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared"), PathBuf::from);
    let vocabulary = shared.join("data/llama3-hf");
    if !vocabulary.is_dir() {
        println!("SKIPPED: no {}, a vocabulary of 128,000 tokens", vocabulary.display());
        return;
    }
    let engine =
        Engine::load(Box::new(Unreal::new(&vocabulary)), &LoadOptions::default(), &|_, _| {}).expect("a model");
    let tokenizer = engine.tokenizer().clone();
    assert!(tokenizer.vocab_size() > 128_000);
    let grammars = Grammars::new(tokenizer.clone());
    let (prompt, bias) = (prompt_tokens(&tokenizer, "Answer:", true), closing(&tokenizer));
    let mut scheduler = Scheduler::new(engine);
    let (mut written, mut cut) = (Written::new(), 0);
    let seeds: Vec<u64> = (0..count()).collect();
    for seeds in seeds.chunks(BATCH) {
        let mut asked: Vec<(u64, Json)> = Vec::new();
        let mut requests = Vec::new();
        for &seed in seeds {
            let schema = schemas::schema(&mut Random::new(seed));
            // What has no valid instance, or cannot be enforced, is the other test's affair.
            let Ok(grammar) = grammars.compile(&Shape::JsonSchema(schema.clone())) else { continue };
            let sampler = SamplerOptions::default().top_k(0).min_p(0.0).top_p(1.0).temperature(1.0);
            let sampler = sampler.logit_bias(bias.clone()).seed(seed);
            let options = GenerateOptions::new(sampler).max_tokens(MOST).grammar(grammar);
            asked.push((seed, schema));
            requests.push(Request::new(prompt.clone(), options));
        }
        for ((seed, schema), (text, end)) in asked.iter().zip(write(&mut scheduler, requests)) {
            match end {
                StopReason::End => written.check(*seed, schema, &text),
                StopReason::Limit => cut += 1,
                end => panic!("seed {seed}: {end:?}: {text}"),
            }
        }
    }
    println!("{} schemas; {} complete texts, {cut} cut at {MOST} tokens", seeds.len(), written.complete);
    assert!(written.complete > seeds.len() * 2 / 3 && cut < seeds.len() / 4, "{} {cut}", written.complete);
}
