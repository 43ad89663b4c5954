//! Texts with a grammar: what is written is what sampling among the allowed tokens gives, one at a time; neighbours,
//! forced pieces and the thread that follows grammars change nothing.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use quipu_runtime::constraint::{Constraint, ConstraintError, Grammar, TokenMask};
use quipu_runtime::generate::{
    Draft, Event, GenerateError, GenerateOptions, Generation, Request, RequestId, Scheduler, SchedulerOptions,
    StopReason, Token, prompt_tokens,
};
use quipu_runtime::sampler::{Sampler, SamplerError, SamplerOptions, log_probability, top_log_probabilities};
use quipu_runtime::{Engine, LoadOptions};
use quipu_tests::load;

fn demo() -> Engine {
    load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/tales.gguf"), &LoadOptions::default())
}

/// A place in a form.
#[derive(Clone, Debug)]
enum Slot {
    /// This token.
    Exactly(u32),
    /// Any of these ids, stepping by so many.
    Every(usize),
    /// No token at all, nor the end.
    Nothing,
    /// Following it panics.
    Panic,
}

/// A form that is filled in again and again; the text may end where it begins.
#[derive(Clone, Debug)]
struct Form {
    slots: Vec<Slot>,
    at: usize,
    /// How often it may be filled in.
    times: usize,
}

impl Form {
    fn new(slots: &[Slot]) -> Form {
        Form { slots: slots.to_vec(), at: 0, times: usize::MAX }
    }
}

impl Grammar for Form {
    fn begin(&self) -> Result<Box<dyn Constraint>, ConstraintError> {
        Ok(self.copy())
    }
}

impl Constraint for Form {
    fn allow(&mut self, next: &mut TokenMask) -> Result<bool, ConstraintError> {
        assert!(next.is_empty());
        let may_end = self.at > 0 && self.at.is_multiple_of(self.slots.len());
        if self.at / self.slots.len() >= self.times {
            return Ok(true);
        }
        match self.slots[self.at % self.slots.len()] {
            Slot::Exactly(token) => next.insert(token),
            Slot::Every(step) => (0..next.vocabulary() as u32).step_by(step).for_each(|token| next.insert(token)),
            Slot::Nothing => return Ok(false),
            Slot::Panic => panic!("a test"),
        }
        Ok(may_end)
    }

    fn advance(&mut self, token: u32) -> Result<(), ConstraintError> {
        let mut next = TokenMask::new(usize::from(u16::MAX));
        self.allow(&mut next)?;
        self.at += 1;
        if next.contains(token) { Ok(()) } else { Err(ConstraintError::Refused { token }) }
    }

    fn copy(&self) -> Box<dyn Constraint> {
        Box::new(self.clone())
    }
}

/// What became of a request: its tokens, and why it ended or failed.
type Outcome = (Vec<u32>, Result<StopReason, GenerateError>);

/// The same while it may still go on.
type Heard = (Vec<Token>, Option<Result<StopReason, GenerateError>>);

/// Serves requests side by side.
fn serve(scheduler: &mut Scheduler, requests: Vec<Request>) -> Vec<Outcome> {
    let ids = |(tokens, end): (Vec<Token>, _)| (tokens.iter().map(|token| token.id).collect(), end);
    serve_tokens(scheduler, requests).into_iter().map(ids).collect()
}

/// The same with all that is told of tokens.
fn serve_tokens(
    scheduler: &mut Scheduler,
    requests: Vec<Request>,
) -> Vec<(Vec<Token>, Result<StopReason, GenerateError>)> {
    let ids: Vec<RequestId> = requests.into_iter().map(|request| scheduler.submit(request)).collect();
    let mut heard: HashMap<RequestId, Heard> = HashMap::new();
    while scheduler.is_busy() {
        let events = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| scheduler.step())).unwrap_or_default();
        for (id, event) in events {
            let (tokens, end) = heard.entry(id).or_default();
            match event {
                Event::Token(token) => tokens.push(token),
                Event::Finished(finished) => *end = Some(Ok(finished.stop)),
                Event::Failed(failed) => *end = Some(Err(failed.error)),
                _ => {}
            }
        }
    }
    let outcome = |id| {
        let (tokens, end) = heard.remove(&id).expect("an end");
        (tokens, end.expect("an end"))
    };
    ids.into_iter().map(outcome).collect()
}

/// The same by hand: a mask, a draw, a token.
fn by_hand(engine: &mut Engine, prompt: &[u32], options: &GenerateOptions, form: &Form) -> (Vec<u32>, StopReason) {
    let mut sequence = engine.new_sequence();
    let mut sampler = Sampler::new(options.sampler.clone()).expect("sensible options");
    let tokenizer = engine.tokenizer().clone();
    let mut constraint = form.begin().expect("a form");
    prompt.iter().for_each(|&token| sampler.accept(token));
    let mut logits = engine.prefill(&mut sequence, prompt).expect("it fits").to_vec();
    let mut tokens = Vec::new();
    while tokens.len() < options.max_tokens.unwrap_or(usize::MAX) {
        let mut mask = TokenMask::new(tokenizer.vocab_size());
        let may_end = constraint.allow(&mut mask).expect("a mask");
        tokenizer.ends().for_each(|end| if may_end { mask.insert(end) } else { mask.remove(end) });
        // −∞ where the mask says no: what `sample_among` has to give.
        let masked: Vec<f32> =
            (0..).zip(&logits).map(|(id, &l)| if mask.contains(id) { l } else { f32::NEG_INFINITY }).collect();
        let token = sampler.clone().sample(&masked).expect("a candidate");
        assert_eq!(sampler.sample_among(&logits, &mask), Ok(token));
        if tokenizer.is_end_of_generation(token) {
            return (tokens, StopReason::End);
        }
        sampler.accept(token);
        constraint.advance(token).expect("it is allowed");
        tokens.push(token);
        logits = engine.decode(&mut sequence, token).expect("it fits").to_vec();
    }
    (tokens, StopReason::Limit)
}

fn prompts(engine: &Engine) -> Vec<Vec<u32>> {
    let texts = ["Once upon a time", "The old king of the mountain had three daughters", "A miller"];
    texts.map(|text| prompt_tokens(engine.tokenizer(), text, true)).to_vec()
}

fn samplers() -> [SamplerOptions; 4] {
    let seeded = |seed| SamplerOptions::default().seed(seed);
    [
        SamplerOptions::greedy(),
        seeded(1).temperature(1.3),
        seeded(2).repeat_penalty(1.3).frequency_penalty(0.4),
        seeded(3).top_k(0).top_p(0.9).min_p(0.0).temperature(2.0),
    ]
}

fn forms() -> [Form; 4] {
    use Slot::{Every, Exactly};
    let long: Vec<Slot> = (0..70).map(|i| Exactly(300 + i)).chain([Every(3)]).collect();
    [
        Form::new(&[Every(2)]),
        Form::new(&[Exactly(300), Exactly(301), Every(1), Exactly(302), Exactly(303), Exactly(304), Every(64)]),
        Form { times: 2, ..Form::new(&[Every(40), Exactly(310), Exactly(311)]) },
        // Longer than a piece.
        Form::new(&long),
    ]
}

#[test]
fn a_grammar_gives_what_sampling_among_its_tokens_gives() {
    let mut engine = demo();
    let prompts = prompts(&engine);
    let mut expected = Vec::new();
    let mut cases = Vec::new();
    for (f, form) in forms().into_iter().enumerate() {
        for (s, sampler) in samplers().into_iter().enumerate() {
            let prompt = &prompts[(f + s) % prompts.len()];
            let options = GenerateOptions::new(sampler).max_tokens(if f == 3 { 280 } else { 40 });
            expected.push(by_hand(&mut engine, prompt, &options, &form));
            let grammar: std::sync::Arc<dyn Grammar> = std::sync::Arc::new(form.clone());
            cases.push((prompt.clone(), options.grammar(grammar)));
        }
    }
    let request = |(prompt, options): &(Vec<u32>, GenerateOptions), logprobs: bool| {
        Request::new(prompt.clone(), options.clone().logprobs(logprobs))
    };
    let check = |found: &[Outcome], how: &str| {
        for (i, ((tokens, end), (expected, stop))) in found.iter().zip(&expected).enumerate() {
            assert_eq!((tokens, end), (expected, &Ok(*stop)), "case {i}, {how}");
        }
    };
    let mut scheduler = Scheduler::with_options(engine, SchedulerOptions::default().draft(Draft::None));
    // One token at a time, since somebody wants to know how likely each is.
    let one = cases.iter().flat_map(|case| serve(&mut scheduler, vec![request(case, true)])).collect::<Vec<_>>();
    check(&one, "one at a time");
    let before = scheduler.stats().steps;
    let alone = cases.iter().flat_map(|case| serve(&mut scheduler, vec![request(case, false)])).collect::<Vec<_>>();
    check(&alone, "in pieces");
    let steps = scheduler.stats().steps - before;
    assert!(steps < before * 2 / 3, "pieces save steps: {steps} and {before}");
    let batch = serve(&mut scheduler, cases.iter().map(|case| request(case, false)).collect());
    check(&batch, "side by side");
    let guessing = SchedulerOptions::default().draft(Draft::Text);
    let mut scheduler = Scheduler::with_options(scheduler.into_engine(), guessing);
    let guessed = serve(&mut scheduler, cases.iter().map(|case| request(case, true)).collect());
    check(&guessed, "with guesses, one at a time");
    let guessed = serve(&mut scheduler, cases.iter().map(|case| request(case, false)).collect());
    check(&guessed, "with guesses, in pieces");
    assert!(scheduler.stats().accepted_tokens > 0);
    // Beside texts without a grammar, in little memory and small pieces: texts are put back and read again.
    let options = SchedulerOptions::default().piece(7).itl_target(Duration::from_millis(1)).sequences(5);
    let kv_memory = 3 * scheduler.engine().page_bytes();
    let mut scheduler = Scheduler::with_options(scheduler.into_engine(), options.kv_memory(kv_memory));
    let free = |case: &(Vec<u32>, GenerateOptions)| Request::new(case.0.clone(), case.1.clone().grammar(None));
    let mixed = cases.iter().flat_map(|case| [request(case, case.0.len() % 2 == 0), free(case)]).collect();
    let found: Vec<Outcome> = serve(&mut scheduler, mixed).into_iter().step_by(2).collect();
    check(&found, "in little memory");
}

/// How likely a forced token was is told as of any other, whatever is read in one step; and where guesses are, forced
/// tokens need no step each.
#[test]
fn forced_tokens_have_probabilities() {
    const TOP: usize = 3;
    let mut engine = demo();
    let prompts = prompts(&engine);
    let (mut cases, mut expected) = (Vec::new(), Vec::new());
    for ((form, sampler), prompt) in forms().into_iter().zip(samplers()).zip(prompts.iter().cycle()) {
        // The long form is not filled in twice, so that nothing can be guessed from the text.
        let options = GenerateOptions::new(sampler).max_tokens(70);
        let (tokens, _) = by_hand(&mut engine, prompt, &options, &form);
        let mut sequence = engine.new_sequence();
        let mut logits = engine.prefill(&mut sequence, prompt).expect("it fits").to_vec();
        let mut told = Vec::new();
        for &token in &tokens {
            told.push((token, Some(log_probability(&logits, token)), top_log_probabilities(&logits, TOP)));
            logits = engine.decode(&mut sequence, token).expect("it fits").to_vec();
        }
        expected.push(told);
        let grammar: std::sync::Arc<dyn Grammar> = std::sync::Arc::new(form);
        cases.push(Request::new(prompt.clone(), options.logprobs(true).top_logprobs(TOP).grammar(grammar)));
    }
    let check = |found: Vec<(Vec<Token>, _)>, expected: &[Vec<_>], how: &str| {
        for ((tokens, _), expected) in found.iter().zip(expected) {
            let told = tokens.iter().map(|token| (token.id, token.logprob, token.top_logprobs.clone()));
            assert!(told.eq(expected.iter().cloned()), "{how}");
        }
    };
    let mut scheduler = Scheduler::new(engine);
    for draft in [Draft::None, Draft::Text] {
        scheduler = Scheduler::with_options(scheduler.into_engine(), SchedulerOptions::default().draft(draft));
        let how = format!("{draft:?}");
        let long = cases.len() - 1;
        check(serve_tokens(&mut scheduler, vec![cases[long].clone()]), &expected[long..], &how);
        let steps = scheduler.stats().steps;
        assert_eq!(steps < expected[long].len() as u64, draft == Draft::Text, "{how}: {steps} steps");
        assert_eq!(scheduler.stats().drafted_tokens, 0, "nothing was guessed");
        let alone = cases.iter().flat_map(|case| serve_tokens(&mut scheduler, vec![case.clone()])).collect();
        check(alone, &expected, &how);
        check(serve_tokens(&mut scheduler, cases.clone()), &expected, &how);
    }
}

fn one_request(slots: &[Slot], options: GenerateOptions) -> Outcome {
    let mut scheduler = Scheduler::new(demo());
    let prompt = prompts(scheduler.engine()).remove(0);
    let grammar: std::sync::Arc<dyn Grammar> = std::sync::Arc::new(Form::new(slots));
    serve(&mut scheduler, vec![Request::new(prompt, options.grammar(grammar))]).remove(0)
}

#[test]
fn a_text_that_cannot_go_on_fails_by_name() {
    let dead_end = Err(GenerateError::Constraint(ConstraintError::DeadEnd));
    assert_eq!(one_request(&[Slot::Nothing], GenerateOptions::default()), (vec![], dead_end.clone()));
    let found = one_request(&[Slot::Exactly(300), Slot::Exactly(301), Slot::Nothing], GenerateOptions::default());
    assert_eq!(found, (vec![300, 301], dead_end));
    // The grammar wants one token, and the options exclude it.
    let sampler = SamplerOptions::default().logit_bias(vec![(301, f32::NEG_INFINITY)]);
    let found = one_request(&[Slot::Exactly(300), Slot::Exactly(301)], GenerateOptions::new(sampler));
    assert!(
        matches!(found, (tokens, Err(GenerateError::Sampler(SamplerError::NoCandidate { .. }))) if tokens == [300])
    );
}

#[test]
fn tokens_that_end_a_text_wait_until_it_may_end() {
    let options = GenerateOptions::new(SamplerOptions::greedy()).max_tokens(50).stop_tokens(vec![300, 305]);
    let slots = [Slot::Every(5), Slot::Every(5), Slot::Exactly(301)];
    let (tokens, end) = one_request(&slots, options);
    assert!(!tokens.contains(&300) && !tokens.contains(&305));
    assert!(end == Ok(StopReason::Limit) || end == Ok(StopReason::End) && tokens.len().is_multiple_of(3));
    // Nothing but an end is left.
    let mut scheduler = Scheduler::new(demo());
    let prompt = prompts(scheduler.engine()).remove(1);
    let form = Form { times: 3, ..Form::new(&[Slot::Every(2), Slot::Exactly(300)]) };
    let grammar: std::sync::Arc<dyn Grammar> = std::sync::Arc::new(form);
    let found = serve(&mut scheduler, vec![Request::new(prompt, GenerateOptions::default().grammar(grammar))]);
    assert_eq!((found[0].0.len(), &found[0].1), (6, &Ok(StopReason::End)));
}

#[test]
fn limits_hold_within_a_forced_piece() {
    let slots: Vec<Slot> = (0..30).map(|i| Slot::Exactly(300 + i)).collect();
    for most in [1, 2, 7, 29] {
        let (tokens, end) = one_request(&slots, GenerateOptions::default().max_tokens(most));
        assert_eq!((tokens.len(), end), (most, Ok(StopReason::Limit)));
    }
    let engine = demo();
    let second = engine.tokenizer().decode(&[305, 306], false);
    let (tokens, end) = one_request(&slots, GenerateOptions::default().stops([second]));
    assert_eq!((tokens.last(), end), (Some(&306), Ok(StopReason::StopString)));
}

/// A grammar that panics ends its own text and no other.
#[test]
fn a_panic_in_a_grammar_ends_one_text() {
    let mut scheduler = Scheduler::new(demo());
    let prompts = prompts(scheduler.engine());
    let with = |slots: &[Slot]| -> std::sync::Arc<dyn Grammar> { std::sync::Arc::new(Form::new(slots)) };
    let options = GenerateOptions::new(SamplerOptions::greedy()).max_tokens(10);
    let bad = options.clone().grammar(with(&[Slot::Every(1), Slot::Panic]));
    let good = options.clone().grammar(with(&[Slot::Every(2)]));
    let whole = serve(&mut scheduler, vec![Request::new(prompts[1].clone(), good.clone())]);
    let requests = [Request::new(prompts[0].clone(), bad), Request::new(prompts[1].clone(), good)];
    let found = serve(&mut scheduler, requests.to_vec());
    assert!(matches!(found[0].1, Err(GenerateError::Panicked | GenerateError::Constraint(ConstraintError::Panicked))));
    assert_eq!(found[1], whole[0]);
}

/// A place in the grammar is part of what is kept and restored.
#[test]
fn a_checkpoint_has_the_place_in_the_grammar() {
    let mut engine = demo();
    let prompt = prompts(&engine).remove(2);
    let grammar: std::sync::Arc<dyn Grammar> = std::sync::Arc::new(forms()[1].clone());
    let sampler = SamplerOptions::default().seed(9);
    let options = GenerateOptions::new(sampler).max_tokens(40).grammar(grammar);
    let new = || {
        let sequence = engine.new_sequence();
        let tokenizer = engine.tokenizer().clone();
        (Generation::new(tokenizer, prompt.clone(), &options, engine.context_length()).expect("a text"), sequence)
    };
    let (mut whole, mut whole_sequence) = new();
    let (mut found, mut sequence) = new();
    let mut write = |generation: &mut Generation, sequence: &mut quipu_runtime::Sequence, most: usize| {
        for _ in 0..most {
            if generation.stop().is_some() {
                break;
            }
            let unread = generation.unread().to_vec();
            let logits = engine.prefill(sequence, &unread).expect("it fits").to_vec();
            generation.advance(unread.len());
            if generation.take_logits(&logits).expect("a token").is_some() {
                while generation.take_forced().is_some() {}
            }
        }
    };
    write(&mut whole, &mut whole_sequence, usize::MAX);
    for (kept, thrown_away) in [(1, 4), (3, 1), (2, 9), (usize::MAX, 0)] {
        write(&mut found, &mut sequence, kept);
        let checkpoint = found.checkpoint();
        write(&mut found, &mut sequence, thrown_away);
        found.roll_back(checkpoint);
        sequence.truncate(found.read());
    }
    assert_eq!((found.tokens(), found.stop()), (whole.tokens(), whole.stop()));
}
