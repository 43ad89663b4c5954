//! Steps that end before their end, guesses, and another budget, at work.

use std::collections::HashMap;

use super::draft::Costs;
use super::*;
use crate::engine::{EngineError, LoadOptions};
use crate::generate::options::{GenerateOptions, StopReason};
use crate::generate::prompt::prompt_tokens;
use crate::kv::PAGE;

/// Three texts side by side. When the second has `panics_at` tokens, drawing its next one panics.
fn texts(panics_at: Option<usize>) -> HashMap<RequestId, (Vec<u32>, bool)> {
    let model = crate::open::open("demo").unwrap();
    let engine = Engine::load(model, &LoadOptions::default().threads(Some(2)), &|_, _| {}).unwrap();
    let mut scheduler = Scheduler::new(engine);
    for text in ["Once upon a time", "The old king of the mountain", "A miller"] {
        let tokens = prompt_tokens(scheduler.engine().tokenizer(), text, true);
        scheduler.submit(Request::new(tokens, GenerateOptions::default().max_tokens(12)));
    }
    let panics = |generation: &Generation| {
        let written = generation.tokens().len() - generation.prompt_len();
        generation.prompt_len() > 5 && Some(written) == panics_at
    };
    let mut heard: HashMap<RequestId, (Vec<u32>, bool)> = HashMap::new();
    while scheduler.is_busy() {
        let step = AssertUnwindSafe(|| {
            scheduler.step_with(&|generation, logits| {
                assert!(!panics(generation), "a test");
                generation.take_logits(logits)
            })
        });
        for (id, event) in catch_unwind(step).unwrap_or_default() {
            let (tokens, failed) = heard.entry(id).or_default();
            match event {
                Event::Token(token) => tokens.push(token.id),
                Event::Failed(Failed { error, .. }) => *failed = error == GenerateError::Panicked,
                _ => {}
            }
        }
    }
    heard
}

/// A panic while one text is drawn takes nothing from the others.
#[test]
fn a_panic_ends_one_text_and_loses_nothing_of_the_others() {
    let whole = texts(None);
    for panics_at in [0, 1, 5] {
        let found = texts(Some(panics_at));
        assert_eq!(found[&RequestId(0)], whole[&RequestId(0)]);
        assert_eq!(found[&RequestId(2)], whole[&RequestId(2)]);
        let (tokens, failed) = &found[&RequestId(1)];
        assert!(*failed && tokens[..] == whole[&RequestId(1)].0[..panics_at], "{panics_at}: {tokens:?}");
    }
}

/// A scheduler of the demo model, for texts of up to `context` tokens.
pub(super) fn scheduler(draft: Draft, context: usize) -> Scheduler {
    let options = LoadOptions::default().threads(2).context(context);
    let engine = Engine::load(crate::open::open("demo").unwrap(), &options, &|_, _| {}).unwrap();
    let options = SchedulerOptions::default().draft(draft).kv_memory(1 << 30);
    Scheduler::with_options(engine, options)
}

/// Steps that cost the same however many guesses they have: all guesses are taken.
pub(super) fn free() -> Costs {
    let mut costs = Costs::default();
    (1..=32).chain(1..=32).for_each(|rows| costs.observe(rows, Duration::from_secs(1)));
    costs
}

/// What came of a request: tokens with their probabilities, its text, why it ended, what was read.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Outcome {
    pub(super) tokens: Vec<Token>,
    text: String,
    stop: Option<StopReason>,
    pub(super) read: Vec<u32>,
}

/// Serves all of `requests`, the second half of which comes later.
pub(super) fn serve(scheduler: &mut Scheduler, requests: &[Request]) -> Vec<Outcome> {
    let mut ids = Vec::new();
    let mut outcomes: Vec<Outcome> = requests.iter().map(|_| Outcome::default()).collect();
    let mut steps = 0;
    while ids.len() < requests.len() || scheduler.is_busy() {
        let more = if steps >= 5 { requests.len() } else { requests.len().div_ceil(2) };
        for request in &requests[ids.len()..more] {
            ids.push(scheduler.submit(Request { cancel: Default::default(), ..request.clone() }));
        }
        scheduler.guessing.costs = free();
        steps += 1;
        for (id, event) in scheduler.step() {
            let outcome = &mut outcomes[ids.iter().position(|&mine| mine == id).unwrap()];
            match event {
                Event::Token(token) => outcome.tokens.push(token),
                Event::Finished(end) => {
                    (outcome.text, outcome.stop) = (end.text, Some(end.stop));
                    outcome.read = end.sequence.tokens().to_vec();
                    assert!(end.decode.tokens <= outcome.tokens.len());
                }
                Event::Failed(failed) => panic!("{failed}"),
                _ => {}
            }
        }
    }
    outcomes
}

/// Texts that repeat themselves, in all ways of being written.
pub(super) fn repetitive(scheduler: &Scheduler) -> Vec<Request> {
    let tokenizer = scheduler.engine().tokenizer();
    let texts = ["the king and the queen. ".repeat(9), "a b a b a c ".repeat(7), "Once upon a time, ".repeat(3)];
    let mut requests = Vec::new();
    for (seed, text) in (0..).zip(texts.iter().cycle().take(24)) {
        use crate::sampler::SamplerOptions;
        let temperature = [0.0, 0.3, 0.8, 1.3][seed as usize % 4];
        let mut sampler = SamplerOptions::default().temperature(temperature).seed(seed);
        if seed % 3 == 1 {
            sampler = sampler.repeat_penalty(1.3).presence_penalty(0.2);
        }
        let mut options = GenerateOptions::new(sampler).logprobs(true).top_logprobs(2);
        if seed % 5 < 3 {
            options = options.ignore_end(true);
        }
        if seed % 7 == 2 {
            options = options.stops(["queen. the".to_string(), "\n".to_string()]);
        }
        if seed % 4 != 3 {
            options = options.max_tokens(40 + 3 * seed as usize);
        }
        let mut tokens = prompt_tokens(tokenizer, text, true);
        tokens.truncate(100 - seed as usize);
        requests.push(Request::new(tokens, options));
    }
    requests
}

/// With guesses and without: the same tokens, probabilities, texts, ends and cached pages.
#[test]
fn guesses_change_nothing_but_time() {
    let mut plain = scheduler(Draft::None, 200);
    let requests = repetitive(&plain);
    let expected = serve(&mut plain, &requests);
    assert_eq!(plain.stats().drafted_tokens, 0);

    let mut drafting = scheduler(Draft::Text, 200);
    for round in 0..2 {
        let found = serve(&mut drafting, &requests);
        for (i, (found, expected)) in found.iter().zip(&expected).enumerate() {
            assert_eq!(found, expected, "request {i}, round {round}");
        }
    }
    let stats = drafting.stats();
    let written: usize = 2 * expected.iter().map(|outcome| outcome.tokens.len()).sum::<usize>();
    assert_eq!(stats.written_tokens, written as u64);
    // Both kinds are there in numbers.
    assert!(stats.accepted_tokens > 200, "{stats:?}");
    assert!(stats.drafted_tokens > stats.accepted_tokens + 200, "{stats:?}");

    // One by one as well, with the rows of a single text.
    for (request, expected) in requests.iter().zip(&expected) {
        let found = serve(&mut drafting, std::slice::from_ref(request));
        assert_eq!(&found[0], expected);
    }
}

/// What a text would never have said may be more than the model can compute: it is read again without.
#[test]
fn a_guess_that_cannot_be_read_fails_no_text() {
    let mut plain = scheduler(Draft::None, 200);
    let requests = &repetitive(&plain)[..1];
    let expected = serve(&mut plain, requests);
    let mut drafting = scheduler(Draft::Text, 200);
    let id = drafting.submit(requests[0].clone());
    let (mut tokens, mut failures) = (Vec::new(), 0);
    while drafting.is_busy() {
        drafting.guessing.costs = free();
        let mut events = Vec::new();
        if !drafting.texts.running.is_empty() && failures == 0 {
            drafting.form_batch(&mut events);
            if drafting.texts.running[0].guesses > 0 {
                let error = EngineError::NotFinite { token: 0, position: 0, sequence: 0, cause: "a test".to_string() };
                drafting.after_error(error, Duration::ZERO, &mut events);
                failures += 1;
            }
        }
        events.extend(drafting.step());
        for (found, event) in events {
            assert_eq!(found, id);
            assert!(!matches!(event, Event::Failed(_)));
            if let Event::Token(token) = event {
                tokens.push(token);
            }
        }
    }
    assert_eq!((failures, tokens), (1, expected[0].tokens.clone()));
}

/// What a text was promised when it came it gets, others get what there is by now.
#[test]
fn a_smaller_budget_takes_nothing_from_a_text_that_has_begun() {
    let write = |smaller: bool| {
        let model = crate::open::open("demo").unwrap();
        let engine = Engine::load(model, &LoadOptions::default().threads(Some(2)), &|_, _| {}).unwrap();
        let page = engine.page_bytes();
        let mut scheduler = Scheduler::with_options(engine, SchedulerOptions::default().kv_memory(Some(8 * page)));
        let request = || Request::new(vec![5; 2 * PAGE - 4], GenerateOptions::default().max_tokens(20));
        // Kept for later requests: this goes at once.
        scheduler.complete(Request::new(vec![7; PAGE + 1], GenerateOptions::default().max_tokens(1))).unwrap();
        scheduler.submit(request());
        let mut written = Vec::new();
        while scheduler.is_busy() {
            for (_, event) in scheduler.step() {
                match event {
                    Event::Token(token) => written.push(token.id),
                    Event::Failed(failed) => panic!("{}", failed.error),
                    _ => {}
                }
            }
            if smaller && written.len() >= 2 {
                scheduler.set_kv_memory(Some(page));
                assert!(scheduler.stats().pages_used <= 3, "{:?}", scheduler.stats());
            }
        }
        let next = scheduler.complete(request());
        let refused = matches!(next, Err(Failed { error: GenerateError::KvMemory { .. }, .. }));
        assert_eq!(refused, smaller);
        written
    };
    assert_eq!(write(true), write(false));
}
