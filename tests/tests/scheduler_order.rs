//! Who comes first, who waits, who gives way and who is refused, and what is read twice.

use std::collections::HashMap;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use quipu_formats::convert::{ConvertOptions, TypeRule, write_gguf};
use quipu_formats::gguf::GgufFile;
use quipu_formats::hf::HfDirectory;
use quipu_formats::source::Source;
use quipu_quant::TensorType;
use quipu_runtime::generate::{
    Event, Finished, GenerateError, GenerateOptions, Request, RequestId, Scheduler, SchedulerOptions, StopReason,
    prompt_tokens,
};
use quipu_runtime::sampler::SamplerOptions;
use quipu_runtime::{Engine, EngineError, LoadOptions};
use quipu_tests::{data, load};

fn engine() -> Engine {
    load(&data("stories260K/stories260K-f32.gguf"), &LoadOptions::default().threads(Some(1)))
}

/// `n` tokens of a tale.
fn tale(engine: &Engine, n: usize) -> Vec<u32> {
    let text = "Once upon a time there was a big red ball. Tom and Lily ran to the park with it. ";
    prompt_tokens(engine.tokenizer(), &text.repeat(60), true)[..n].to_vec()
}

fn request(tokens: Vec<u32>, max_tokens: usize) -> Request {
    Request::new(tokens, GenerateOptions::new(SamplerOptions::greedy()).max_tokens(max_tokens))
}

/// How a request ended. Its sequence is not kept: it would hold memory.
#[derive(Clone, Copy, Debug)]
struct End {
    stop: StopReason,
    read: usize,
    cached: usize,
    prefill: usize,
}

/// Steps until nothing is left to do. Tells `hear` of everything, and returns the ends.
fn run(
    scheduler: &mut Scheduler,
    mut hear: impl FnMut(RequestId, &Event),
) -> HashMap<RequestId, Result<End, GenerateError>> {
    let mut ends = HashMap::new();
    while scheduler.is_busy() {
        for (id, event) in scheduler.step() {
            hear(id, &event);
            match event {
                Event::Finished(Finished { stop, sequence, cached_tokens: cached, prefill, .. }) => {
                    ends.insert(id, Ok(End { stop, read: sequence.len(), cached, prefill: prefill.tokens }));
                }
                Event::Failed(failed) => {
                    ends.insert(id, Err(failed.error));
                }
                _ => {}
            }
        }
    }
    ends
}

/// In every step one more short prompt comes than can be read. They go first, but not for ever.
#[test]
fn a_long_prompt_does_not_starve() {
    let options = SchedulerOptions::default().piece(16).itl_target(Duration::ZERO);
    let mut scheduler = Scheduler::with_options(engine(), options);
    let (long, mut short) = (request(tale(scheduler.engine(), 400), 1), tale(scheduler.engine(), 17));
    let long = scheduler.submit(long);
    let mut ended = Vec::new();
    for step in 0..200 {
        // None begins as another does.
        short[0] = 3 + step % 300;
        scheduler.submit(request(short.clone(), 1));
        let finished = |(id, event)| matches!(event, Event::Finished(_)).then_some(id);
        ended.extend(scheduler.step().into_iter().filter_map(finished));
        if ended.contains(&long) {
            break;
        }
    }
    let place = ended.iter().position(|&id| id == long).expect("the long one has its turn");
    assert!((5..60).contains(&place), "{place} short ones were served first");
}

/// While a text is written, a long prompt that comes is read in small pieces; the text gets a token in every step.
#[test]
fn texts_go_on_while_a_long_prompt_is_read() {
    let options = SchedulerOptions::default().itl_target(Duration::from_nanos(1));
    let mut scheduler = Scheduler::with_options(engine(), options);
    let (short, long) = (tale(scheduler.engine(), 5), tale(scheduler.engine(), 300));
    let writer = scheduler.submit(request(short, 200));
    let first = scheduler.step();
    assert!(first.iter().any(|(_, event)| matches!(event, Event::Token(_))));
    let reader = scheduler.submit(request(long, 1));
    let mut steps = 0;
    loop {
        let events = scheduler.step();
        steps += 1;
        let of = |id| events.iter().filter(move |(whose, _)| *whose == id).map(|(_, event)| event);
        assert!(of(writer).any(|event| matches!(event, Event::Token(_))), "step {steps}");
        if of(reader).any(|event| matches!(event, Event::Token(_))) {
            break;
        }
    }
    assert!(steps > 10, "{steps} steps");
}

/// Several answers to one question: it is read once.
#[test]
fn prompts_that_begin_alike_are_read_once() {
    for memory in [None, Some(50_000_000)] {
        let mut scheduler = Scheduler::with_options(engine(), SchedulerOptions::default().piece(64).kv_memory(memory));
        let prompt = tale(scheduler.engine(), 200);
        let ids: Vec<_> = (0..4)
            .map(|seed| {
                let options = GenerateOptions::new(SamplerOptions::default().seed(seed)).max_tokens(8);
                scheduler.submit(Request::new(prompt.clone(), options))
            })
            .collect();
        // Another parts from them after 150 tokens.
        let mut other = prompt[..150].to_vec();
        other.extend([5, 6, 7]);
        let other = scheduler.submit(request(other, 3));
        let ends = run(&mut scheduler, |_, _| {});
        let read = |id| ends[id].as_ref().map(|end| (end.cached, end.prefill)).unwrap();
        // The shortest goes first, and the first of the others goes on from it.
        assert_eq!(read(&other), (0, 153));
        assert_eq!(ids.iter().map(read).collect::<Vec<_>>(), [(150, 50), (199, 1), (199, 1), (199, 1)]);
    }
}

#[test]
fn a_text_that_was_read_is_not_read_again_and_a_near_miss_says_where_it_parts() {
    let mut scheduler = Scheduler::with_options(engine(), SchedulerOptions::default().kv_memory(50_000_000));
    let prompt = tale(scheduler.engine(), 300);
    let (_, first) = scheduler.complete(request(prompt.clone(), 20)).unwrap();
    let mut started = |tokens: Vec<u32>| {
        let mut found = None;
        let mut hear = |event: &Event| {
            if let Event::Started { cached, near_miss } = event {
                found = Some((*cached, near_miss.clone()));
            }
        };
        let end = scheduler.stream(request(tokens, 2), &mut hear).unwrap();
        let (cached, near_miss) = found.expect("it was started");
        assert_eq!((end.cached_tokens, end.prefill.tokens), (cached, end.prompt_tokens - cached));
        (cached, near_miss)
    };
    // What it wrote is kept as well, and the last page token by token.
    assert_eq!(started(first.sequence.tokens().to_vec()), (first.sequence.len() - 1, None));
    for position in [4, 8, 128, 200, 256, 290] {
        let mut changed = prompt.clone();
        changed[position] = if changed[position] == 9 { 10 } else { 9 };
        let (cached, near_miss) = started(changed.clone());
        if position == 4 {
            // So much all texts have in common.
            assert_eq!((cached, near_miss), (4, None));
            continue;
        }
        let near_miss = near_miss.expect("the first text is kept");
        assert_eq!((cached, near_miss.position), (position, position), "{near_miss:?}");
        assert_eq!(near_miss.prompt, changed[position..(position + 8).min(299)], "{near_miss:?}");
        assert!(prompt[position..].starts_with(&near_miss.cached[..near_miss.cached.len().min(1)]), "{near_miss:?}");
    }
    let stats = scheduler.stats();
    assert!(stats.cached_tokens > 800 && stats.cached_pages >= 3, "{stats:?}");
    assert!(scheduler.forget());
    assert_eq!(scheduler.complete(request(prompt, 2)).unwrap().1.cached_tokens, 0);
}

#[test]
fn what_can_never_fit_is_refused_at_once_and_what_grows_too_large_ends_alone() {
    let engine = engine();
    let page = engine.page_bytes();
    let (large, small) = (tale(&engine, 200), tale(&engine, 20));
    let mut scheduler = Scheduler::with_options(engine, SchedulerOptions::default().kv_memory(page + page / 2));
    let (large, grows, neighbour) = (
        scheduler.submit(request(large, 1)),
        scheduler.submit(request(small.clone(), 400)),
        scheduler.submit(request(small[..10].to_vec(), 5)),
    );
    let first = scheduler.step();
    let Some((id, Event::Failed(failed))) = first.first() else { panic!("{first:?}") };
    let error = GenerateError::KvMemory { tokens: 200, needed: 2 * page, budget: page + page / 2 };
    assert_eq!((*id, &failed.error), (large, &error));
    assert!(error.to_string().contains("200 tokens take 1 MB, but only 0 MB"), "{error}");
    let ends = run(&mut scheduler, |_, _| {});
    let end = |id| ends[&id].as_ref().map(|end| (end.stop, end.read)).unwrap();
    assert_eq!(end(grows), (StopReason::ContextFull, 128));
    assert_eq!(end(neighbour), (StopReason::Limit, 14));
}

#[test]
fn those_that_wait_can_be_cancelled_and_have_deadlines() {
    let mut scheduler = Scheduler::with_options(engine(), SchedulerOptions::default().sequences(1));
    let prompt = tale(scheduler.engine(), 20);
    let first = scheduler.submit(request(prompt.clone(), 100));
    scheduler.step();
    let cancelled = request(prompt.clone(), 100);
    let flag = cancelled.cancel.clone();
    let cancelled = scheduler.submit(cancelled);
    let late = scheduler.submit(request(prompt.clone(), 100).deadline(Instant::now()));
    let patient = scheduler.submit(request(prompt, 2));
    assert_eq!(scheduler.stats().waiting, 3);
    flag.cancel();
    let mut stops = HashMap::new();
    for (id, event) in scheduler.step() {
        if let Event::Finished(finished) = event {
            stops.insert(id, finished.stop);
        }
    }
    assert_eq!(stops, HashMap::from([(cancelled, StopReason::Cancelled), (late, StopReason::Deadline)]));
    assert_eq!((scheduler.stats().running, scheduler.stats().waiting), (1, 1));
    let ends = run(&mut scheduler, |_, _| {});
    assert!(ends[&first].is_ok() && ends[&patient].is_ok());
}

/// One text of a batch meets a weight that is no number; the others hear nothing of it.
#[test]
fn a_text_whose_numbers_are_none_fails_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("packed.quipu");
    let source = HfDirectory::open(&data("tiny-llama2-f16")).unwrap();
    assert!(!source.is_tied());
    let options = ConvertOptions::new(TypeRule::To(TensorType::Q8_0)).packed(true);
    write_gguf(&source, &options, &path, &AtomicBool::new(false), &|_| {}).unwrap();
    let whole = load(&path, &LoadOptions::default());
    let good = [vec![1, 20, 30, 40], vec![1, 21, 31]].map(|tokens| request(tokens, 12));
    let mut scheduler = Scheduler::new(whole);
    let expected = good.clone().map(|request| scheduler.complete(request).unwrap().0);

    // The first scale of the embedding: that of token 0.
    let file = GgufFile::open(&path).unwrap();
    let index = file.find("token_embd.weight").unwrap();
    let at = file.range(index).start + file.tensors()[index].packed_layout().scales_offset();
    drop(file);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[at..at + 2].copy_from_slice(&[0x00, 0x7e]);
    std::fs::write(&path, bytes).unwrap();

    let mut scheduler = Scheduler::new(load(&path, &LoadOptions::default()));
    let (one, bad) = (scheduler.submit(good[0].clone()), scheduler.submit(request(vec![1, 20, 0, 5], 9)));
    let two = scheduler.submit(good[1].clone());
    let mut texts: HashMap<RequestId, String> = HashMap::new();
    let ends = run(&mut scheduler, |id, event| match event {
        Event::Token(token) => texts.entry(id).or_default().push_str(&token.text),
        Event::Finished(end) => texts.entry(id).or_default().push_str(&end.text),
        _ => {}
    });
    let failed: Vec<_> = ends.iter().filter_map(|(id, end)| Some((*id, end.as_ref().err()?))).collect();
    assert!(
        matches!(&failed[..], [(id, GenerateError::Engine(EngineError::NotFinite { token: 0, position: 2, .. }))] if *id == bad),
        "{failed:?}"
    );
    assert_eq!([&texts[&one], &texts[&two]], [&expected[0], &expected[1]]);
}
