//! Texts that become vectors beside texts that are written: the same numbers as alone, and nobody waits for them.

use quipu_runtime::embedding::{EmbedOptions, Pooling};
use quipu_runtime::generate::{
    Draft, Event, GenerateError, GenerateOptions, Request, Scheduler, SchedulerOptions, prompt_tokens,
};
use quipu_runtime::sampler::SamplerOptions;
use quipu_runtime::{Cancel, Engine, EngineError};
use quipu_tests::{data, load, options};
use std::time::Duration;

const TALE: &str = "Once upon a time, there was a little girl named Lily. She loved to play outside in the sunshine. ";

/// A scheduler whose steps have no time for more than the fewest tokens of a prompt, and a text of 2,000 tokens.
fn scheduler(kv_memory: Option<u64>) -> (Scheduler, Vec<u32>) {
    let engine = load(&data("stories260K/stories260K-f32.gguf"), &options().context(Some(2048)));
    let mut long = prompt_tokens(engine.tokenizer(), &TALE.repeat(60), true);
    assert!(long.len() >= 2000);
    long.truncate(2000);
    let options = SchedulerOptions::default().itl_target(Duration::from_nanos(1)).kv_memory(kv_memory);
    // A guess that is right would bring two tokens in a step.
    let options = options.draft(Draft::None);
    (Scheduler::with_options(engine, options), long)
}

fn writes(engine: &Engine, seed: u64, tokens: usize) -> Request {
    let prompt = prompt_tokens(engine.tokenizer(), "Once upon a time", true);
    // EOS never comes.
    let sampler = SamplerOptions::default().seed(seed).logit_bias(vec![(2, f32::NEG_INFINITY)]);
    Request::new(prompt, GenerateOptions::new(sampler).max_tokens(tokens))
}

#[test]
fn texts_get_a_token_in_every_step_while_a_vector_is_made() {
    for pooling in [Pooling::Mean, Pooling::Last] {
        let how = EmbedOptions::default().pooling(pooling);
        let (mut scheduler, long) = scheduler(None);
        let texts = vec![long[..700].to_vec(), long[3..40].to_vec(), long.clone()];
        let expected: Vec<_> = texts.iter().map(|text| scheduler.engine_mut().embed(text, &how).unwrap()).collect();
        for seed in 0..3 {
            scheduler.submit(writes(scheduler.engine(), seed, 1000));
        }
        (0..10).for_each(|_| drop(scheduler.step()));
        let vectors = scheduler.embed(texts, how, Cancel::new());
        let (mut steps, mut found) = (0, None);
        while found.is_none() {
            let mut tokens = 0;
            for (id, event) in scheduler.step() {
                match event {
                    Event::Embedded(those) if id == vectors => found = Some(those),
                    Event::Token(_) => tokens += 1,
                    event => panic!("{event:?}"),
                }
            }
            assert_eq!(tokens, 3);
            steps += 1;
        }
        assert_eq!(found.unwrap(), expected);
        // Pieces of sixteen tokens.
        assert!((2737 / 16..2737 / 16 + 20).contains(&steps), "{steps}");
    }
}

/// Prompts and vectors take turns, so neither waits for the other's end.
#[test]
fn prompts_are_read_meanwhile() {
    let (mut scheduler, long) = scheduler(None);
    scheduler.submit(writes(scheduler.engine(), 1, 1500));
    let vectors = scheduler.embed(vec![long.clone()], EmbedOptions::default(), Cancel::new());
    let prompt = scheduler.submit(Request::new(long, GenerateOptions::default().max_tokens(1)));
    let mut ended = Vec::new();
    for step in 0usize.. {
        for (id, event) in scheduler.step() {
            if matches!(event, Event::Embedded(_) | Event::Finished(_)) {
                ended.push((id, step));
            }
        }
        if ended.len() == 2 {
            break;
        }
    }
    let when = |of| ended.iter().find(|&&(id, _)| id == of).map(|&(_, step)| step).expect("it has ended");
    // One after the other, the second would take twice as long as the first.
    let (first, last) = (when(vectors).min(when(prompt)), when(vectors).max(when(prompt)));
    assert!(4 * first > 3 * last, "{ended:?}");
}

/// Their memory is beside what texts may take, and is free again when nobody wants them any more.
#[test]
fn vectors_take_no_memory_from_texts() {
    let (_, long) = scheduler(None);
    let (mut scheduler, _) = {
        let (with_pages, long) = scheduler(None);
        let page = with_pages.engine().page_bytes();
        drop((with_pages, long));
        scheduler(Some(4 * page))
    };
    for seed in 0..2 {
        scheduler.submit(writes(scheduler.engine(), seed, 200));
    }
    let cancel = Cancel::new();
    let vectors = scheduler.embed(vec![long.clone(), long], EmbedOptions::default(), cancel.clone());
    let (mut ended, mut failed) = (0, None);
    while scheduler.is_busy() {
        for (id, event) in scheduler.step() {
            match event {
                Event::Finished(finished) => {
                    ended += 1;
                    assert_eq!(finished.recomputed.tokens, 0);
                    cancel.cancel();
                }
                Event::Failed(why) => failed = Some((id, why.error)),
                _ => {}
            }
        }
    }
    assert_eq!((ended, failed), (2, Some((vectors, GenerateError::Cancelled))));
    assert_eq!(scheduler.stats().preempted, 0);
    scheduler.forget();
    assert_eq!(scheduler.engine().kv_bytes(), 0);
}

#[test]
fn what_cannot_become_a_vector_fails_alone() {
    let (mut scheduler, mut long) = scheduler(None);
    long.extend_from_within(..);
    let bad = [(vec![], EngineError::Empty), (vec![9999], EngineError::Token { token: 9999, vocabulary: 512 })];
    for (text, error) in bad {
        let id = scheduler.embed(vec![vec![5, 6], text], EmbedOptions::default(), Cancel::new());
        let mut events = Vec::new();
        while scheduler.is_busy() {
            events.extend(scheduler.step());
        }
        let [(found, Event::Failed(why))] = &events[..] else { panic!("{events:?}") };
        assert_eq!((*found, &why.error), (id, &GenerateError::Engine(error)));
    }
    scheduler.embed(vec![long], EmbedOptions::default(), Cancel::new());
    let events = std::iter::from_fn(|| scheduler.is_busy().then(|| scheduler.step())).flatten();
    let error =
        events.filter_map(|(_, event)| if let Event::Failed(why) = event { Some(why.error) } else { None }).next();
    assert!(matches!(error, Some(GenerateError::Engine(EngineError::ContextFull { .. }))), "{error:?}");
}
