//! LoRA adapters that stay apart from their model: the logits of transformers and PEFT, the same bits alone and among
//! neighbours with other adapters, on every instruction set, and what is kept of a text is kept for its adapters.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use quipu_formats::convert::{ConvertOptions, TypeRule, write_gguf};
use quipu_formats::lora::Adapter;
use quipu_formats::output::Inputs;
use quipu_formats::source::Source;
use quipu_kernels::Isa;
use quipu_quant::TensorType;
use quipu_runtime::generate::{Event, GenerateOptions, Request, Scheduler, SchedulerOptions};
use quipu_runtime::model::{Input, Rows};
use quipu_runtime::session::{Session, SessionError};
use quipu_runtime::{AdapterId, AdapterLoadError, Adapters, BatchToken, Engine, EngineError, LoadOptions, Sequence};
use quipu_tests::{assert_same_bits, data, json, max_difference, open, options};

fn model() -> Arc<dyn Source> {
    open(&data("tiny-llama3-bf16")).into()
}

/// An engine with the adapters `one` and `two`.
fn engine_of(model: Arc<dyn Source>, options: &LoadOptions) -> (Engine, [AdapterId; 2]) {
    let mut engine = Engine::load_shared(model, options, &|_, _| {}).unwrap_or_else(|e| panic!("{e}"));
    let ids = ["one", "two"].map(|name| {
        let adapter = Adapter::open(&data("lora").join(name), engine.source()).unwrap_or_else(|e| panic!("{e}"));
        engine.load_adapter(&adapter).unwrap_or_else(|e| panic!("{e}"))
    });
    (engine, ids)
}

/// Scales of `one` and `two`.
fn adapters(ids: [AdapterId; 2], scales: [f32; 2]) -> Adapters {
    Adapters::new(ids.into_iter().zip(scales)).unwrap()
}

fn tokens() -> Vec<u32> {
    let reference = json(data("lora/logits.json"));
    reference["tokens"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

/// The logits of all of `tokens`, read `chunk` at a time.
fn logits(engine: &mut Engine, adapters: &Adapters, tokens: &[u32], chunk: usize) -> Vec<Vec<f32>> {
    let (mut sequence, mut rows) = (engine.new_sequence_with(adapters).unwrap(), Vec::new());
    for part in tokens.chunks(chunk) {
        let batch: Vec<_> = part.iter().map(|&token| BatchToken { token, sequence: 0, logits: true }).collect();
        engine.forward(&batch, &mut [&mut sequence], &mut |_, row| rows.push(row.to_vec())).unwrap();
    }
    rows
}

/// What the texts of these tests have: nothing, one, the other, both, both with other scales.
const SCALES: [[f32; 2]; 5] = [[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.5, 2.0], [-1.5, 0.25]];

#[test]
fn logits_are_those_of_transformers_and_peft() {
    let reference = json(data("lora/logits.json"));
    let (mut engine, ids) = engine_of(model(), &options());
    let plain = logits(&mut engine, &Adapters::default(), &tokens(), 5);
    for (name, scales) in [("one", [1.0, 0.0]), ("two", [0.0, 1.0]), ("both", [0.5, 2.0])] {
        let row =
            |row: &serde_json::Value| row.as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect();
        let expected: Vec<Vec<f32>> = reference[name].as_array().unwrap().iter().map(row).collect();
        let found = logits(&mut engine, &adapters(ids, scales), &tokens(), 5);
        let difference = max_difference(&found, &expected);
        println!("{name}: {difference:.1e}");
        assert!(difference < 2e-4, "{name}: {difference}");
        assert!(max_difference(&plain, &expected) > 1.0);
    }
}

/// The tokens of a text of these tests.
fn text(number: usize, len: usize) -> Vec<u32> {
    (0..len).map(|i| ((number * 37 + i * 11) % 250 + 1) as u32).collect()
}

/// The same model in Q8_0.
fn quantised() -> Arc<dyn Source> {
    let dir = tempfile::tempdir().unwrap();
    let (path, options) = (dir.path().join("model.gguf"), ConvertOptions::new(TypeRule::To(TensorType::Q8_0)));
    let written = write_gguf(&*model(), &options, &path, &AtomicBool::new(false), &|_| {});
    written.unwrap_or_else(|e| panic!("{e}"));
    // What is mapped stays when the directory goes.
    open(&path).into()
}

/// Five texts with other adapters, read together in a mixed batch, have the bits that each has alone; with every
/// instruction set, one thread or two, of a model in floats or in blocks.
#[test]
fn neighbours_and_instruction_sets_change_no_bit() {
    for source in [model(), quantised()] {
        let alone = |options: &LoadOptions| -> Vec<Vec<Vec<f32>>> {
            let (mut engine, ids) = engine_of(source.clone(), options);
            let text = |n: usize| logits(&mut engine, &adapters(ids, SCALES[n]), &text(n, 40), 40);
            (0..SCALES.len()).map(text).collect()
        };
        let expected = alone(&options().isa(Some(Isa::Portable)));
        let differing = |a: usize, b: usize| max_difference(&expected[a], &expected[b]) > 0.1;
        assert!(differing(0, 1) && differing(1, 2) && differing(3, 4));
        for isa in Isa::available() {
            for threads in [1, 2] {
                let options = options().isa(Some(isa)).threads(Some(threads));
                for (n, found) in alone(&options).iter().enumerate() {
                    assert_same_bits(found, &expected[n], &format!("{}, text {n}", isa.name()));
                }
                let (mut engine, ids) = engine_of(source.clone(), &options);
                let mut sequences: Vec<Sequence> =
                    SCALES.iter().map(|&scales| engine.new_sequence_with(&adapters(ids, scales)).unwrap()).collect();
                let (mut found, mut at) = (vec![Vec::new(); SCALES.len()], [0; SCALES.len()]);
                // Pieces of all lengths, so that the rows of an adapter are neighbours or not.
                for step in 0.. {
                    let mut batch = Vec::new();
                    for n in 0..SCALES.len() {
                        let piece = ((step * 5 + n * 3) % 11).min(40 - at[n]);
                        let piece = text(n, 40)[at[n]..at[n] + piece].to_vec();
                        at[n] += piece.len();
                        batch.extend(piece.iter().map(|&token| BatchToken { token, sequence: n, logits: true }));
                    }
                    let mut all: Vec<&mut Sequence> = sequences.iter_mut().collect();
                    let whose: Vec<usize> = batch.iter().map(|token| token.sequence).collect();
                    engine.forward(&batch, &mut all, &mut |i, row| found[whose[i]].push(row.to_vec())).unwrap();
                    if at == [40; SCALES.len()] {
                        break;
                    }
                }
                for (n, found) in found.iter().enumerate() {
                    assert_same_bits(found, &expected[n], &format!("{}, text {n} among others", isa.name()));
                }
            }
        }
    }
}

/// More rows than a task or a panel has, and a text whose rows are cut by others.
#[test]
fn long_prompts_have_the_bits_of_short_pieces() {
    let (mut engine, ids) = engine_of(quantised(), &options());
    let both = adapters(ids, SCALES[3]);
    let (text, context) = (text(1, 200), engine.context_length());
    let text = &text[..text.len().min(context)];
    let whole = logits(&mut engine, &both, text, text.len());
    assert_same_bits(&logits(&mut engine, &both, text, 1), &whole, "one by one");
    assert_same_bits(&logits(&mut engine, &both, text, 33), &whole, "in pieces");
}

/// The order of sums that is stated: `u` and `v` are chains of fma from 0, then `y ← fma(s, v, y)`. The values of the
/// first layer show it: those of a text's first token are what its attention gives.
#[test]
fn sums_have_the_order_that_is_stated() {
    let chain = |w: &[f32], x: &[f32]| w.iter().zip(x).fold(0.0f32, |sum, (&w, &x)| w.mul_add(x, sum));
    let source = model();
    let (mut engine, ids) = engine_of(source.clone(), &options());
    let mut sequence = engine.new_sequence_with(&adapters(ids, [0.5, 2.0])).unwrap();
    let (mut x, mut found) = (Vec::new(), Vec::new());
    let mut see = |input, rows: Rows<'_>| match input {
        Input::Attention(0) => x.extend_from_slice(&rows.x[..rows.cols]),
        Input::AttentionOutput(0) => found.extend_from_slice(&rows.x[..rows.cols]),
        _ => {}
    };
    engine.observe(&mut sequence, &[17], &mut see).unwrap();

    let index = source.find("blk.0.attn_v.weight").unwrap();
    let weights = source.values(index, 0..source.tensors()[index].rows());
    let mut values: Vec<f32> = weights.chunks(x.len()).map(|w| chain(w, &x)).collect();
    let mut changed = 0;
    for (name, scale) in [("one", 0.5), ("two", 2.0)] {
        let adapter = Adapter::open(&data("lora").join(name), &*source).unwrap();
        let Some((_, change)) = adapter.changes().find(|(at, _)| *at == index) else { continue };
        let u: Vec<f32> = change.a.chunks(x.len()).map(|a| chain(a, &x)).collect();
        for (y, b) in values.iter_mut().zip(change.b.chunks(change.rank)) {
            *y = (change.scale * scale).mul_add(chain(b, &u), *y);
        }
        changed += 1;
    }
    assert!(changed > 0);
    let config = engine.config();
    let group = config.heads / config.kv_heads;
    let heads = values.chunks(config.head_dim).flat_map(|head| std::iter::repeat_n(head, group)).flatten();
    assert_eq!(found, heads.copied().collect::<Vec<f32>>());
}

/// What a request writes, with probabilities, and how many tokens of its prompt were known.
type Written = (Vec<(u32, Option<f64>)>, usize);

fn written(scheduler: &mut Scheduler, requests: Vec<Request>) -> Vec<Written> {
    let ids: Vec<_> = requests.into_iter().map(|request| scheduler.submit(request)).collect();
    let mut all = vec![(Vec::new(), 0); ids.len()];
    while scheduler.is_busy() {
        for (id, event) in scheduler.step() {
            let n = ids.iter().position(|own| *own == id).unwrap();
            match event {
                Event::Token(token) => all[n].0.push((token.id, token.logprob)),
                Event::Finished(finished) => all[n].1 = finished.cached_tokens,
                Event::Failed(failed) => panic!("{failed}"),
                _ => {}
            }
        }
    }
    all
}

/// One prompt with five choices of adapters.
fn requests(ids: [AdapterId; 2]) -> Vec<Request> {
    let options = GenerateOptions::default().max_tokens(20).logprobs(true);
    let request = |&scales: &[f32; 2]| Request::new(text(3, 150), options.clone()).adapters(adapters(ids, scales));
    SCALES.iter().map(request).collect()
}

/// Side by side texts are what they are alone, and each finds what was read with its adapters and nothing else: in
/// memory and on disk.
#[test]
fn a_scheduler_keeps_texts_with_other_adapters_apart() {
    let directory = tempfile::tempdir().unwrap();
    let scheduler = |disk: bool| {
        let (engine, ids) = engine_of(quantised(), &options().context(Some(512)));
        let mut scheduler = Scheduler::with_options(engine, SchedulerOptions::default().kv_memory(Some(1 << 30)));
        if disk {
            scheduler.keep_on_disk(directory.path(), 1 << 30).unwrap();
        }
        (scheduler, ids)
    };
    let alone: Vec<Written> = (0..SCALES.len())
        .flat_map(|n| {
            let (mut scheduler, ids) = scheduler(false);
            written(&mut scheduler, vec![requests(ids).swap_remove(n)])
        })
        .collect();
    assert!(alone.iter().all(|(tokens, cached)| tokens.len() == 20 && *cached == 0));
    assert!((1..SCALES.len()).all(|n| alone[n].0 != alone[0].0), "an adapter changes what is written");
    let (mut first, ids) = scheduler(true);
    assert_eq!(written(&mut first, requests(ids)), alone);
    // Once more: all of the prompt but its last token is known.
    let again = written(&mut first, requests(ids));
    assert!(again.iter().zip(&alone).all(|(again, alone)| again.0 == alone.0 && again.1 == 149), "{again:?}");
    drop(first);
    let (mut second, ids) = scheduler(true);
    let restored = written(&mut second, requests(ids));
    assert!(restored.iter().zip(&alone).all(|(restored, alone)| restored.0 == alone.0), "{restored:?}");
    assert_eq!(second.stats().restored_tokens, 5 * 128);
    // A sequence that was read with other adapters is of no use.
    let mut theirs = second.engine().new_sequence_with(&adapters(ids, SCALES[1])).unwrap();
    second.engine_mut().prefill(&mut theirs, &text(3, 150)).unwrap();
    let request = requests(ids).swap_remove(2).sequence(theirs);
    assert_eq!(written(&mut second, vec![request])[0].0, alone[2].0);
}

#[test]
fn a_session_is_for_its_adapters() {
    let directory = tempfile::tempdir().unwrap();
    let (path, source) = (directory.path().join("text.session"), model());
    let (mut engine, ids) = engine_of(source.clone(), &options());
    let both = adapters(ids, SCALES[3]);
    let mut sequence = engine.new_sequence_with(&both).unwrap();
    engine.prefill(&mut sequence, &text(1, 30)).unwrap();
    let saved = Session { tokens: text(1, 30), sequence, state: serde_json::Value::Null };
    saved.save(&engine, &path, &Inputs::new()).unwrap();
    // In another engine, in which they have other numbers.
    let mut other = Engine::load_shared(source, &options(), &|_, _| {}).unwrap();
    let ids = ["two", "one"].map(|name| {
        let adapter = Adapter::open(&data("lora").join(name), other.source()).unwrap();
        other.load_adapter(&adapter).unwrap()
    });
    let refused = |adapters: &Adapters| match Session::open_with(&other, adapters, &path) {
        Err(SessionError::Other { what, .. }) => what,
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("it was opened"),
    };
    assert!(refused(&Adapters::default()).contains("adapters"));
    assert!(refused(&adapters(ids, [2.0, 0.25])).contains("adapters"));
}

#[test]
fn adapters_that_do_not_belong_are_refused() {
    let (mut engine, ids) = engine_of(model(), &options());
    let mut other = Engine::load_shared(model(), &options(), &|_, _| {}).unwrap();
    let one = adapters(ids, SCALES[1]);
    assert_eq!(other.new_sequence_with(&one).err(), Some(EngineError::OtherAdapter));
    let mut scheduler = Scheduler::new(other);
    let failed = scheduler.complete(Request::new(vec![1], GenerateOptions::default()).adapters(one)).unwrap_err();
    assert_eq!(failed.to_string(), EngineError::OtherAdapter.to_string());
    // One that was opened for another model.
    other = scheduler.into_engine();
    let smaller: Arc<dyn Source> = open(&data("stories260K/stories260K-f32.gguf")).into();
    let mut smaller = Engine::load_shared(smaller, &options(), &|_, _| {}).unwrap();
    let adapter = Adapter::open(&data("lora/one"), other.source()).unwrap();
    assert!(matches!(smaller.load_adapter(&adapter), Err(AdapterLoadError::OtherModel { .. })));
    assert!(engine.load_adapter(&adapter).is_ok());
}
