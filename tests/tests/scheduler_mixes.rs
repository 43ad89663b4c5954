//! The scheduler under everything at once: hundreds of random mixes of requests, vectors, cancellations, pieces,
//! budgets of memory that are too small for all, and texts that were seen before. Each request gets exactly what it
//! gets alone, and afterwards every page is accounted for.

use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant};

use quipu_runtime::embedding::EmbedOptions;
use quipu_runtime::generate::{
    Event, Finished, GenerateOptions, Request, RequestId, Scheduler, SchedulerOptions, Stats, StopReason, Token,
    prompt_tokens,
};
use quipu_runtime::sampler::SamplerOptions;
use quipu_runtime::{Cancel, Engine, KvType, LoadOptions, Sequence};
use quipu_test_random::Random;
use quipu_tests::{Reference, data, load};

/// What became of a request.
#[derive(Clone, Debug, Default, PartialEq)]
struct Outcome {
    /// Of the prompt, where their probabilities are wanted.
    prompt: Vec<Token>,
    tokens: Vec<Token>,
    text: String,
    stop: Option<StopReason>,
    /// Of the sequence that was given back.
    read: Vec<u32>,
}

/// What the model reads, as often as it is read.
fn alone(scheduler: &mut Scheduler, request: &Request) -> Outcome {
    let (mut prompt, mut tokens) = (Vec::new(), Vec::new());
    let request = request.clone().cancel(Cancel::new());
    let mut hear = |event: &Event| match event {
        Event::Prompt(scored) => prompt.extend_from_slice(scored),
        Event::Token(token) => tokens.push(token.clone()),
        _ => {}
    };
    let end = scheduler.stream(request, &mut hear).expect("every request of these tests can be served");
    let text = tokens.iter().map(|t| t.text.as_str()).chain([end.text.as_str()]).collect();
    Outcome { prompt, tokens, text, stop: Some(end.stop), read: end.sequence.tokens().to_vec() }
}

const TALE: &str = "Once upon a time, there was a little girl named Lily. She loved to play outside in the sunshine with \
    her dog. One day, they saw a big tree with a red ball at the very top. The dog barked and barked, but the ball did \
    not come down. Lily said, \"We need a ladder!\" So they went to ask her dad, who was in the garden with a spade. ";

/// Forty requests with prompts from one token to most of the context, many of which begin alike.
fn requests(engine: &Engine) -> Vec<Request> {
    let context = engine.context_length();
    let vocabulary = engine.tokenizer().vocab_size();
    let text = prompt_tokens(engine.tokenizer(), &TALE.repeat(40), true);
    let mut random = Random::new(3);
    (0..40u64)
        .map(|seed| {
            // Those that write for long have short prompts.
            let most = if seed % 4 == 1 { 20 } else { [20, context / 2, context - 45][random.below(3)] };
            let mut tokens = text[..1 + random.below(most)].to_vec();
            for _ in 0..random.below(12) {
                tokens.push((3 + random.below(vocabulary - 3)) as u32);
            }
            let sampler = match seed % 4 {
                0 => SamplerOptions::greedy(),
                1 => SamplerOptions::default().seed(seed),
                2 => SamplerOptions::default().seed(seed).top_k(0).temperature(1.3),
                _ => SamplerOptions::default().seed(seed).repeat_penalty(1.3).repeat_last_n(20),
            };
            let stops = if seed % 3 == 0 { vec!["the".to_string(), " and she".to_string()] } else { vec![] };
            // Some write until the context is full: they outgrow what was foreseen.
            let max_tokens = if seed % 4 == 1 { None } else { Some(random.below(32)) };
            let options = GenerateOptions::new(sampler).max_tokens(max_tokens).stops(stops).logprobs(seed % 2 == 0);
            let options = options.sampled_logprobs(seed % 4 == 2).prompt_logprobs(seed % 7 == 0);
            Request::new(tokens, options)
        })
        .collect()
}

/// What all mixes together have seen, so that each kind of trouble is known to have come up.
#[derive(Default)]
struct Seen {
    preempted: u64,
    cached: u64,
    evicted: u64,
    cancelled: usize,
    late: usize,
    waited: usize,
    restored: u64,
    vectors: usize,
}

/// One request of a mix.
struct Part {
    /// Which of the requests it is.
    which: usize,
    arrives: usize,
    /// After so many tokens, or in so many steps, it is cancelled.
    cancelled: Option<(usize, usize)>,
    late: bool,
    cancel: Cancel,
    outcome: Outcome,
}

/// A random mix through `scheduler`. `kept` are sequences of earlier texts, where there is memory for them.
fn mix(
    scheduler: &mut Scheduler,
    requests: &[Request],
    expected: &[(Outcome, Vec<f32>)],
    random: &mut Random,
    kept: &mut Option<Vec<Sequence>>,
    seen: &mut Seen,
) {
    let mut parts: Vec<Part> = (0..1 + random.below(12))
        .map(|_| {
            let which = random.below(requests.len());
            // More of those that outgrow what was foreseen.
            let which = if random.below(3) == 0 { which / 4 * 4 + 1 } else { which };
            let arrives = random.below(20);
            let cancelled = (random.below(4) == 0).then(|| (random.below(20), random.below(60)));
            let late = random.below(25) == 0;
            Part { which, arrives, cancelled, late, cancel: Cancel::new(), outcome: Outcome::default() }
        })
        .collect();
    let mut whose: HashMap<RequestId, usize> = HashMap::new();
    // Prompts that become vectors meanwhile, by whose they are.
    let mut embedded: HashMap<RequestId, usize> = HashMap::new();
    let (mut step, mut ended) = (0, 0);
    while ended < parts.len() || !embedded.is_empty() {
        for (i, part) in parts.iter().enumerate().filter(|(_, part)| part.arrives == step) {
            let mut request = requests[part.which].clone().cancel(part.cancel.clone());
            request.deadline = part.late.then(Instant::now);
            if random.below(6) == 0 {
                request.sequence = kept.as_mut().and_then(Vec::pop);
            }
            whose.insert(scheduler.submit(request), i);
        }
        if step < 20 && random.below(20) == 0 {
            let which = random.below(requests.len());
            let texts = vec![requests[which].tokens.clone()];
            embedded.insert(scheduler.embed(texts, EmbedOptions::default(), Cancel::new()), which);
        }
        for (id, event) in scheduler.step() {
            if let Some(which) = embedded.remove(&id) {
                let Event::Embedded(vectors) = event else { panic!("{event:?}") };
                assert_eq!(vectors, [expected[which].1.as_slice()], "the vector of prompt {which}");
                seen.vectors += 1;
                continue;
            }
            let Part { outcome, .. } = &mut parts[whose[&id]];
            match event {
                Event::Prompt(scored) => outcome.prompt.extend(scored),
                Event::Token(token) => {
                    outcome.text.push_str(&token.text);
                    outcome.tokens.push(token);
                }
                Event::Finished(Finished { text, stop, sequence, .. }) => {
                    outcome.text.push_str(&text);
                    (outcome.stop, outcome.read) = (Some(stop), sequence.tokens().to_vec());
                    ended += 1;
                    if let Some(kept) = kept.as_mut().filter(|kept| kept.len() < 2 && random.below(8) == 0) {
                        kept.push(sequence);
                    }
                }
                Event::Failed(failed) => panic!("{failed}"),
                _ => {}
            }
        }
        for part in &parts {
            if part.cancelled.is_some_and(|(tokens, steps)| part.outcome.tokens.len() >= tokens || step >= steps) {
                part.cancel.cancel();
            }
        }
        seen.waited += scheduler.stats().waiting;
        step += 1;
        assert!(step < 200_000, "it never ends: {:?}", scheduler.stats());
    }
    for Part { which, outcome, cancelled, late, .. } in parts {
        let (expected, _) = &expected[which];
        match outcome.stop {
            Some(StopReason::Cancelled) if cancelled.is_some() => seen.cancelled += 1,
            Some(StopReason::Deadline) if late => seen.late += 1,
            _ => {
                assert_eq!(&outcome, expected, "request {which}");
                continue;
            }
        }
        assert_eq!(outcome.tokens, expected.tokens[..outcome.tokens.len()], "request {which}");
        assert_eq!(outcome.read, expected.read[..outcome.read.len()], "request {which}");
    }
}

/// No pages are left but those that are kept for later requests, once the thread that writes files holds none.
fn assert_only_kept_pages(scheduler: &Scheduler) {
    let begun = Instant::now();
    loop {
        let stats = scheduler.stats();
        if stats.pages_used == stats.cached_pages as u64 {
            return assert_eq!(scheduler.engine().kv_bytes(), stats.pages_used * stats.page_bytes);
        }
        assert!(begun.elapsed() < Duration::from_secs(10), "{stats:?}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// What may have become of a directory since the last run: bits that flipped, files that end early or too late, that
/// have each other's names, that are something else, that are gone.
fn damage(directory: &Path, random: &mut Random) {
    let files = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let theirs = directory.join("notes.txt");
    let mut files: Vec<_> = files.filter(|path| path.is_file() && *path != theirs).collect();
    files.sort();
    for path in &files {
        // One that went with another's name.
        let Ok(mut bytes) = std::fs::read(path) else { continue };
        let at = random.below(bytes.len().max(1));
        match random.below(12) {
            // An earlier run may have left nothing of it.
            0 => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << random.below(8)),
            1 => bytes.truncate(at),
            2 => bytes.extend([0; 8]),
            3 => bytes = b"something else".to_vec(),
            4 => {
                let _ = std::fs::remove_file(path);
                continue;
            }
            5 => {
                let _ = std::fs::rename(path, &files[random.below(files.len())]);
                continue;
            }
            6 => {
                let _ = std::fs::remove_file(path);
                let _ = std::fs::create_dir(path);
                continue;
            }
            _ => continue,
        }
        let _ = std::fs::write(path, bytes);
    }
    std::fs::write(theirs, "not a page").unwrap();
}

/// How a mix is served.
fn random_options(random: &mut Random, page: u64, context_pages: u64) -> SchedulerOptions {
    let mut options = SchedulerOptions::default();
    options.piece = [1, 7, 64, 130, 512][random.below(5)];
    options.itl_target = [Duration::ZERO, Duration::from_nanos(1), Duration::from_millis(1)][random.below(3)];
    options.sequences = [1, 2, 5, 64][random.below(4)];
    options.prefix_cache = random.below(5) > 0;
    options.kv_memory = match random.below(6) {
        0 => None,
        // From one text that fills the context to many.
        n => Some(page * (context_pages + [0, 0, 1, 2, 5, 40][n] + random.below(2) as u64)),
    };
    options
}

/// So many mixes through schedulers that serve some of them each.
fn mixes(mut engine: Engine, count: usize, seed: u64) -> Seen {
    let requests = requests(&engine);
    let embed = |request: &Request| engine.embed(&request.tokens, &EmbedOptions::default()).unwrap();
    let vectors: Vec<_> = requests.iter().map(embed).collect();
    let mut scheduler = Scheduler::new(engine);
    let texts = requests.iter().map(|request| alone(&mut scheduler, request));
    let expected: Vec<_> = texts.zip(vectors).collect();
    engine = scheduler.into_engine();
    let (page, context_pages) = (engine.page_bytes(), engine.context_length().div_ceil(128) as u64);
    let directory = tempfile::tempdir().unwrap();
    let (mut random, mut seen, mut left) = (Random::new(seed), Seen::default(), count);
    while left > 0 {
        let options = random_options(&mut random, page, context_pages);
        let budget = options.kv_memory;
        let mut scheduler = Scheduler::with_options(engine, options);
        if random.below(2) == 0 {
            damage(directory.path(), &mut random);
            let files = 1 + random.below(40) as u64;
            scheduler.keep_on_disk(directory.path(), files * (page + 4096)).unwrap();
        }
        let mut kept = budget.is_none_or(|budget| budget >= page * (context_pages + 40)).then(Vec::new);
        for _ in 0..left.min(1 + random.below(6)) {
            mix(&mut scheduler, &requests, &expected, &mut random, &mut kept, &mut seen);
            left -= 1;
            // Every page is somebody's: of a sequence that was handed out, or kept.
            let stats = scheduler.stats();
            assert_eq!((stats.running, stats.waiting), (0, 0));
            assert!(budget.is_none_or(|budget| stats.pages_used * page <= budget), "{stats:?}");
            kept.iter_mut().for_each(Vec::clear);
            assert_only_kept_pages(&scheduler);
        }
        let Stats { preempted, cached_tokens, evicted_pages, restored_tokens, .. } = scheduler.stats();
        seen.restored += restored_tokens;
        seen.preempted += preempted;
        seen.cached += cached_tokens;
        seen.evicted += evicted_pages;
        if random.below(2) == 0 {
            scheduler.forget();
        }
        engine = scheduler.into_engine();
        assert_eq!(engine.kv_bytes(), 0);
    }
    // What is somebody else's stays.
    assert_eq!(std::fs::read(directory.path().join("notes.txt")).unwrap(), b"not a page");
    seen
}

fn assert_everything_came_up(seen: &Seen) {
    let Seen { preempted, cached, evicted, cancelled, late, waited, restored, vectors } = seen;
    let all =
        [*preempted, *cached, *evicted, *cancelled as u64, *late as u64, *waited as u64, *restored, *vectors as u64];
    let names = "preempted, cached, evicted, cancelled, late, waited, restored, vectors";
    assert!(all.iter().all(|&n| n > 50), "{names}: {all:?}");
}

#[test]
fn five_hundred_random_mixes_get_what_each_request_gets_alone() {
    let options = LoadOptions::default().threads(Some(1));
    let engine = load(&data("stories260K/stories260K-f32.gguf"), &options);
    assert_everything_came_up(&mixes(engine, 500, 11));
}

/// Weights as they are in use: Q4, and keys in f16.
#[test]
fn random_mixes_of_the_demo_model_do_too() {
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/tales.gguf");
    mixes(load(&demo, &LoadOptions::default().context(Some(300))), 12, 3);
}

/// Families whose RoPE, norms and biases differ, with keys and values in f32.
#[test]
fn random_mixes_of_other_families_do_too() {
    for reference in Reference::fixtures() {
        let options = reference.options().kv_type(KvType::F32).context(Some(300)).threads(Some(1));
        mixes(load(&reference.directory, &options), 10, 5);
    }
}
