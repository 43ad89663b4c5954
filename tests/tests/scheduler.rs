//! The scheduler's promise: what becomes of a request is what would have become of it alone, whatever the other
//! requests, the moment it came, the pieces of the prompts, the threads and the instruction set.

use std::collections::HashMap;
use std::path::Path;

use quipu_runtime::chat::{ChatError, ChatTemplate, Conversation, Message};
use quipu_runtime::generate::{
    Event, Failed, Finished, GenerateError, GenerateOptions, Generation, Request, RequestId, Scheduler,
    SchedulerOptions, StopReason, Token, prompt_tokens,
};
use quipu_runtime::host::cores::Cores;
use quipu_runtime::sampler::{DryOptions, MirostatOptions, SamplerError, SamplerOptions};
use quipu_runtime::{Cancel, Engine, EngineError, Isa, LoadOptions, Sequence};
use quipu_tests::{data, load, skipped};

fn demo(options: LoadOptions) -> Engine {
    load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/tales.gguf"), &options)
}

/// What became of a request.
#[derive(Clone, Debug, Default, PartialEq)]
struct Outcome {
    tokens: Vec<Token>,
    text: String,
    stop: Option<StopReason>,
    error: Option<GenerateError>,
    /// Of the sequence that was given back.
    read: Vec<u32>,
    /// Not what became of it, but how.
    cached: Ignored<usize>,
}

/// What is not compared.
#[derive(Clone, Copy, Debug, Default)]
struct Ignored<T>(T);

impl<T> PartialEq for Ignored<T> {
    fn eq(&self, _: &Ignored<T>) -> bool {
        true
    }
}

impl Outcome {
    fn hear(&mut self, event: Event) -> bool {
        match event {
            Event::Token(token) => {
                self.text.push_str(&token.text);
                self.tokens.push(token);
            }
            Event::Finished(Finished { text, stop, sequence, cached_tokens, .. }) => {
                self.text.push_str(&text);
                (self.stop, self.read, self.cached) = (Some(stop), sequence.tokens().to_vec(), Ignored(cached_tokens));
                return true;
            }
            Event::Failed(Failed { error, sequence, .. }) => {
                self.error = Some(error);
                self.read = sequence.map_or(Vec::new(), |s| s.tokens().to_vec());
                return true;
            }
            _ => {}
        }
        false
    }
}

/// Serves a request with nobody beside it.
fn alone(scheduler: &mut Scheduler, request: Request) -> Outcome {
    let mut outcome = Outcome::default();
    let id = scheduler.submit(request);
    while scheduler.is_busy() {
        for (whose, event) in scheduler.step() {
            assert_eq!(whose, id);
            outcome.hear(event);
        }
    }
    outcome
}

const TALE: &str = "\
    Once upon a time there was a poor woodcutter who lived with his wife and his two children at the edge of a great \
    forest. One evening the youngest said: \"Father, why does the old mill turn when there is no wind?\" The father put \
    down his axe, looked long into the fire, and began to tell them what his own grandmother had told him. ";

/// Sixteen different requests, some with prompts longer than a piece, some with a common beginning.
fn requests(engine: &Engine) -> Vec<Request> {
    let tokenizer = engine.tokenizer();
    (0..16u64)
        .map(|i| {
            let text = match i % 4 {
                0 => format!("The {i} dwarfs"),
                // A beginning that others have as well.
                1 => format!("{TALE}Then {i} ravens came"),
                // Longer than a piece.
                2 => format!("{}In the end {i}", TALE.repeat(3)),
                _ => TALE[i as usize * 7..i as usize * 11].to_string(),
            };
            let sampler = match i % 8 {
                0 => SamplerOptions::greedy(),
                1 => SamplerOptions::default().seed(i),
                2 => SamplerOptions::default().seed(i).top_k(0).temperature(1.3),
                3 => SamplerOptions::default().seed(i).repeat_penalty(1.3).repeat_last_n(20),
                4 => SamplerOptions::default().seed(i).xtc_probability(0.5).typical_p(0.9).dynatemp_range(0.5),
                5 => SamplerOptions::default().seed(i).dry(DryOptions::default().multiplier(0.8)).no_repeat_ngram(4),
                6 => SamplerOptions::default().seed(i).mirostat(MirostatOptions::default().version(1)),
                _ => SamplerOptions::default().seed(i).top_p(1.0).min_p(0.0).frequency_penalty(0.4),
            };
            let stops: &[&str] = match i % 3 {
                0 => &[],
                1 => &["the", " and his"],
                _ => &["never there", ". "],
            };
            let options = GenerateOptions::new(sampler)
                .max_tokens(3 + 5 * i as usize)
                .stops(stops.iter().map(|s| s.to_string()).collect::<Vec<_>>())
                .logprobs(i % 2 == 0);
            Request::new(prompt_tokens(tokenizer, &text, true), options)
        })
        .collect()
}

/// What is the request's own: a flag of its own, not the one that clones share.
fn fresh(request: &Request) -> Request {
    request.clone().cancel(Cancel::new())
}

/// Of a request that was cancelled at some time, a beginning of what it would have become.
fn assert_beginning_of(cancelled: &Outcome, whole: &Outcome) {
    assert_eq!(cancelled.stop, Some(StopReason::Cancelled));
    let n = cancelled.tokens.len();
    assert_eq!(cancelled.tokens, whole.tokens[..n]);
    assert_eq!(cancelled.read, whole.read[..cancelled.read.len()]);
}

/// All of `requests` through one scheduler; request `i` comes in step `i * 7 % 23`, and those for which `cancelled`
/// gives a number of tokens are cancelled when they have written so many.
fn together(
    scheduler: &mut Scheduler,
    requests: &[Request],
    cancelled: impl Fn(usize) -> Option<usize>,
) -> Vec<Outcome> {
    let mut outcomes = vec![Outcome::default(); requests.len()];
    let mut whose: HashMap<RequestId, usize> = HashMap::new();
    let flags: Vec<Cancel> = requests.iter().map(|_| Cancel::new()).collect();
    let (mut step, mut ended, mut widest) = (0, 0, 0);
    while ended < requests.len() {
        for (i, request) in requests.iter().enumerate().filter(|(i, _)| i * 7 % 23 == step) {
            whose.insert(scheduler.submit(request.clone().cancel(flags[i].clone())), i);
        }
        let mut written = 0;
        for (id, event) in scheduler.step() {
            let i = whose[&id];
            written += usize::from(matches!(event, Event::Token(_)));
            ended += usize::from(outcomes[i].hear(event));
            if cancelled(i).is_some_and(|n| outcomes[i].tokens.len() >= n) {
                flags[i].cancel();
            }
        }
        (step, widest) = (step + 1, widest.max(written));
    }
    assert!(!scheduler.is_busy());
    assert!(widest > 5, "only {widest} requests were ever served at once");
    outcomes
}

#[test]
fn sixteen_requests_get_what_each_gets_alone() {
    let mut expected: Option<Vec<Outcome>> = None;
    let isas: Vec<Isa> = Isa::available().into_iter().filter(|isa| *isa != Isa::Portable).collect();
    let isas = [isas.first().copied(), Some(Isa::best())].into_iter().flatten();
    for isa in isas {
        for threads in [1, 2] {
            if threads > Cores::here().allowed_threads() {
                skipped("two threads: this machine runs only one at a time");
                continue;
            }
            for piece in [64, 512] {
                let engine = demo(LoadOptions::default().isa(Some(isa)).threads(Some(threads)));
                let requests = requests(&engine);
                let mut scheduler = Scheduler::with_options(engine, SchedulerOptions::default().piece(piece));
                let expected = &*expected.get_or_insert_with(|| {
                    requests.iter().map(|request| alone(&mut scheduler, fresh(request))).collect()
                });
                let stops: Vec<_> = expected.iter().filter_map(|outcome| outcome.stop).collect();
                assert!(stops.contains(&StopReason::Limit) && stops.contains(&StopReason::StopString), "{stops:?}");

                let what = format!("{isa}, {threads} threads, pieces of {piece}");
                let found = together(&mut scheduler, &requests, |_| None);
                for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
                    assert_eq!(found, expected, "request {i}: {what}");
                }
                // Every third one ends early, one of them before its first token; the others hear nothing of it.
                let cancelled = |i: usize| (i % 3 == 1).then_some(i / 2);
                let found = together(&mut scheduler, &requests, cancelled);
                for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
                    match cancelled(i) {
                        Some(n) if n < expected.tokens.len() => assert_beginning_of(found, expected),
                        _ => assert_eq!(found, expected, "request {i}: {what}"),
                    }
                }
            }
        }
    }
}

#[test]
fn a_request_fails_alone() {
    let engine = load(&data("stories260K/stories260K-f32.gguf"), &LoadOptions::default().context(Some(200)));
    let tokens = prompt_tokens(engine.tokenizer(), "Once upon a time", true);
    let vocabulary = engine.vocabulary();
    let options = || GenerateOptions::default().max_tokens(40);
    let mut scheduler = Scheduler::new(engine);
    let good = Request::new(tokens.clone(), options());
    let expected = alone(&mut scheduler, fresh(&good));
    assert!(expected.error.is_none(), "{expected:?}");

    let mut bad_sampler = options();
    bad_sampler.sampler.temperature = -1.0;
    let requests = [
        good.clone(),
        Request::new(vec![1; 201], options()),
        Request::new(vec![1, vocabulary as u32], options()),
        Request::new(Vec::new(), options()),
        Request::new(tokens.clone(), bad_sampler),
        Request::new(tokens.clone(), options().stops([String::new()])),
        good,
    ];
    let mut outcomes = vec![Outcome::default(); requests.len()];
    let ids: Vec<RequestId> = requests.iter().map(|request| scheduler.submit(fresh(request))).collect();
    while scheduler.is_busy() {
        for (id, event) in scheduler.step() {
            outcomes[ids.iter().position(|&mine| mine == id).unwrap()].hear(event);
        }
    }
    assert_eq!((&outcomes[0], &outcomes[6]), (&expected, &expected));
    let error = |i: usize| outcomes[i].error.clone().unwrap();
    assert_eq!(error(1), GenerateError::PromptTooLong { tokens: 201, context: 200 });
    assert_eq!(error(2), EngineError::Token { token: vocabulary as u32, vocabulary }.into());
    assert_eq!(error(3), GenerateError::EmptyPrompt);
    assert!(matches!(error(4), GenerateError::Sampler(SamplerError::Option { option: "temperature", .. })));
    assert_eq!(error(5), SamplerError::EmptyStop.into());
}

/// A model that wants nothing but to end, and may not.
#[test]
fn a_text_may_be_kept_from_ending() {
    let mut scheduler = Scheduler::new(demo(LoadOptions::default()));
    let tokenizer = scheduler.engine().tokenizer().clone();
    let tokens = prompt_tokens(&tokenizer, "Once upon a time", true);
    let eager = tokenizer.ends().map(|id| (id, 1000.0)).collect::<Vec<_>>();
    assert!(!eager.is_empty());
    let options = GenerateOptions::new(SamplerOptions::default().logit_bias(eager)).max_tokens(9);
    let outcome = alone(&mut scheduler, Request::new(tokens.clone(), options.clone()));
    assert_eq!((outcome.stop, outcome.tokens.len()), (Some(StopReason::End), 0));
    let outcome = alone(&mut scheduler, Request::new(tokens, options.ignore_end(true)));
    assert_eq!((outcome.stop, outcome.tokens.len()), (Some(StopReason::Limit), 9));
}

#[test]
fn a_full_context_ends_a_text() {
    let mut scheduler = Scheduler::new(demo(LoadOptions::default().context(Some(20))));
    let tokens = prompt_tokens(scheduler.engine().tokenizer(), "Once upon a time", true);
    let n = tokens.len();
    let outcome = alone(&mut scheduler, Request::new(tokens.clone(), GenerateOptions::default()));
    assert_eq!((outcome.stop, outcome.tokens.len(), outcome.read.len()), (Some(StopReason::ContextFull), 21 - n, 20));
    // Nothing is written: the prompt is read all the same.
    let outcome = alone(&mut scheduler, Request::new(tokens.clone(), GenerateOptions::default().max_tokens(0)));
    assert_eq!((outcome.stop, outcome.text, outcome.read), (Some(StopReason::Limit), String::new(), tokens));
}

/// Reads what the generation wants and hands it the logits, without a scheduler.
fn write(engine: &mut Engine, sequence: &mut Sequence, generation: &mut Generation, most: usize) -> Vec<Token> {
    let mut tokens = Vec::new();
    while tokens.len() < most && generation.stop().is_none() {
        let unread = generation.unread().to_vec();
        let logits = engine.prefill(sequence, &unread).expect("it fits").to_vec();
        generation.advance(unread.len());
        tokens.extend(generation.take_logits(&logits).expect("finite logits"));
    }
    tokens
}

/// A draft that is rejected: everything goes on as if it had never been.
#[test]
fn a_generation_goes_on_from_a_checkpoint_as_if_nothing_had_been() {
    let mut engine = demo(LoadOptions::default());
    let prompt = prompt_tokens(engine.tokenizer(), "The old king", true);
    // Everything that remembers something.
    let sampler = SamplerOptions::default().seed(3).repeat_penalty(1.2).temperature(1.1).no_repeat_ngram(3);
    let sampler = sampler.dry(DryOptions::default().multiplier(0.8)).xtc_probability(0.5);
    let sampler = sampler.mirostat(MirostatOptions::default().version(2));
    // A stop string whose beginnings are held back now and then.
    let options = GenerateOptions::new(sampler).max_tokens(60).stops(["the never".into()]).logprobs(true);
    let new = |engine: &Engine| {
        Generation::new(engine.tokenizer().clone(), prompt.clone(), &options, engine.context_length()).unwrap()
    };
    let (mut generation, mut sequence) = (new(&engine), engine.new_sequence());
    let whole = write(&mut engine, &mut sequence, &mut generation, usize::MAX);
    let end = generation.finish();

    let (mut generation, mut sequence) = (new(&engine), engine.new_sequence());
    let mut found = Vec::new();
    for (kept, thrown_away) in [(1, 5), (7, 1), (10, 30), (1, 0), (usize::MAX, 0)] {
        found.extend(write(&mut engine, &mut sequence, &mut generation, kept));
        let checkpoint = generation.checkpoint();
        let read = generation.read();
        write(&mut engine, &mut sequence, &mut generation, thrown_away);
        generation.roll_back(checkpoint);
        sequence.truncate(read);
    }
    assert_eq!(found, whole);
    assert_eq!(generation.finish(), end);
}

#[test]
fn a_sequence_that_is_handed_on_saves_reading_and_changes_nothing() {
    let mut scheduler = Scheduler::new(demo(LoadOptions::default()));
    let tokens = |scheduler: &Scheduler, text: &str| prompt_tokens(scheduler.engine().tokenizer(), text, true);
    let options = GenerateOptions::default().max_tokens(20).logprobs(true);
    let first = tokens(&scheduler, TALE);
    let (_, end) = scheduler.complete(Request::new(first.clone(), options.clone())).unwrap();
    // Two texts go on from the same one, at once; a third is the same text again; a fourth another altogether.
    let texts = [&format!("{TALE}Then"), &format!("{TALE}But"), TALE, "A fox"].map(|text| tokens(&scheduler, text));
    let requests = texts.clone().map(|text| Request::new(text, options.clone()));
    let expected = requests.clone().map(|request| alone(&mut scheduler, request));
    let requests = requests.map(|request| request.sequence(end.sequence.clone()));
    let ids = requests.map(|request| scheduler.submit(request));
    let mut outcomes = vec![Outcome::default(); ids.len()];
    while scheduler.is_busy() {
        for (id, event) in scheduler.step() {
            outcomes[ids.iter().position(|&mine| mine == id).unwrap()].hear(event);
        }
    }
    for ((outcome, expected), text) in outcomes.iter().zip(&expected).zip(&texts) {
        let common = end.sequence.tokens().iter().zip(text).take_while(|(a, b)| a == b).count();
        assert_eq!((outcome.cached.0, expected.cached.0), (common.min(text.len() - 1), 0));
        assert_eq!(outcome, expected);
    }
    assert_eq!(outcomes[2].cached.0, first.len() - 1);
}

/// Keys and values of another engine would be read as if they were of this one, were it of the same shape or not.
#[test]
fn a_sequence_of_another_engine_is_refused() {
    let mut other = demo(LoadOptions::default());
    let mut theirs = other.new_sequence();
    other.prefill(&mut theirs, &[1, 2, 3]).unwrap();
    let mut scheduler = Scheduler::new(demo(LoadOptions::default()));
    let request = Request::new(vec![1, 2, 3, 4], GenerateOptions::default().max_tokens(4));
    let expected = alone(&mut scheduler, fresh(&request));
    let refused = alone(&mut scheduler, request.clone().sequence(theirs.clone()));
    assert_eq!(refused.error, Some(EngineError::OtherEngine.into()));
    assert_eq!(refused.read, [1, 2, 3]);
    assert_eq!(alone(&mut scheduler, request), expected);
    assert_eq!(scheduler.engine_mut().decode(&mut theirs, 4), Err(EngineError::OtherEngine));
    assert_eq!(theirs.tokens(), [1, 2, 3]);
}

#[test]
fn a_piece_has_one_token_at_least() {
    let mut options = SchedulerOptions::default();
    options.piece = 0;
    let mut scheduler = Scheduler::with_options(demo(LoadOptions::default()), options);
    let (_, end) = scheduler.complete(Request::new(vec![1, 2, 3], GenerateOptions::default().max_tokens(2))).unwrap();
    assert_eq!((end.prefill.tokens, end.sequence.len()), (3, 4));
}

#[test]
fn events_of_others_wait_while_one_request_is_served_to_its_end() {
    let mut scheduler = Scheduler::new(demo(LoadOptions::default()));
    let tokens = prompt_tokens(scheduler.engine().tokenizer(), "Once", true);
    let request = |n, seed| {
        let sampler = SamplerOptions::default().seed(seed);
        Request::new(tokens.clone(), GenerateOptions::new(sampler).max_tokens(n))
    };
    let expected = [request(5, 1), request(30, 2)].map(|request| alone(&mut scheduler, request));
    let (short, long) = (scheduler.submit(request(5, 1)), scheduler.submit(request(30, 2)));
    let (text, _) = scheduler.complete(request(12, 3)).unwrap();
    assert_eq!(text, alone(&mut Scheduler::new(demo(LoadOptions::default())), request(12, 3)).text);
    let mut outcomes = [Outcome::default(), Outcome::default()];
    while scheduler.is_busy() {
        for (id, event) in scheduler.step() {
            outcomes[usize::from(id == long)].hear(event);
            assert!(id == short || id == long);
        }
    }
    assert_eq!(outcomes, expected);
}

/// The simplest template there is.
const TEMPLATE: &str = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant:";

/// What was said, in a conversation that begins with the system's message.
fn said(conversation: &Conversation) -> Vec<String> {
    conversation.messages().iter().map(|m| format!("{}: {}", m.role, m.content.as_str().unwrap())).collect()
}

#[test]
fn a_conversation_reads_nothing_twice_and_forgets_the_oldest_turns() {
    let engine = demo(LoadOptions::default().context(Some(240)));
    let tokenizer = engine.tokenizer().clone();
    let template = || ChatTemplate::new(TEMPLATE, None, None).unwrap();
    let mut conversation = Conversation::new(&engine, template());
    conversation.push(Message::new("system", "You tell tales."));
    let mut scheduler = Scheduler::new(engine);
    let options = GenerateOptions::default().max_tokens(16);
    let (mut forgotten, mut reused) = (0, 0);
    let mut written: Vec<u32> = Vec::new();
    for turn in 0..12 {
        let asked = conversation.ask(format!("What did the {turn} brothers do then?"), options.clone()).unwrap();
        forgotten += asked.forgotten;
        // The prompt is that of the messages that are left, and answers have the tokens that were written.
        let text = said(&conversation).join("\n") + "\nassistant:";
        let tokens = &asked.request.tokens;
        assert_eq!(tokenizer.decode(tokens, true), tokenizer.decode(&prompt_tokens(&tokenizer, &text, true), true));
        if asked.forgotten == 0 && turn > 0 {
            assert!(tokens.windows(written.len()).any(|ids| ids == written), "{tokens:?} without {written:?}");
        }
        assert_eq!(said(&conversation)[0], "system: You tell tales.");
        let expected = alone(&mut scheduler, fresh(&asked.request).sequence(None));
        let prompt = tokens.len();
        let (answer, end) = scheduler.complete(asked.request).unwrap();
        written = end.sequence.tokens()[prompt..].to_vec();
        assert_eq!(answer, expected.text);
        if asked.forgotten == 0 && turn > 0 {
            assert!(end.cached_tokens > 20, "{}", end.cached_tokens);
            reused += 1;
        }
        conversation.answer(answer, end.sequence);
    }
    assert!(forgotten > 4 && forgotten % 2 == 0 && reused > 2, "{forgotten} forgotten, {reused} reused");

    // What cannot be asked was not said.
    let before = said(&conversation);
    let error = conversation.ask("why ".repeat(300), options.clone()).unwrap_err();
    assert!(matches!(error, ChatError::TooLong { context: 240, .. }), "{error}");
    assert_eq!(said(&conversation), before);
    let turn = conversation.ask("Really?", options).unwrap();
    conversation.take_back(turn.request.sequence);
    assert_eq!(said(&conversation).last(), before.last());
    conversation.clear();
    assert_eq!(said(&conversation), ["system: You tell tales."]);
}

/// A turn is what a user says and everything up to what a user says next: a call of a tool is never cut from its
/// result.
#[test]
fn whole_turns_are_forgotten() {
    let engine = demo(LoadOptions::default().context(Some(200)));
    let mut conversation = Conversation::new(&engine, ChatTemplate::new(TEMPLATE, None, None).unwrap());
    conversation.push(Message::new("system", "You tell tales."));
    for turn in 0..6 {
        conversation.push(Message::new("user", format!("How is the weather in town {turn}?")));
        conversation.push(Message::new("assistant", "I shall ask the tool."));
        conversation.push(Message::new("tool", "It rains and rains and rains."));
        conversation.push(Message::new("assistant", "It rains."));
    }
    let asked = conversation.ask("And tomorrow?", GenerateOptions::default()).unwrap();
    assert!(asked.forgotten > 0 && asked.forgotten < 24 && asked.forgotten.is_multiple_of(4), "{}", asked.forgotten);
    let roles: Vec<_> = conversation.messages().iter().map(|m| m.role.as_str()).collect();
    assert_eq!(roles[..3], ["system", "user", "assistant"]);
    // One more turn would not have fitted.
    let room = 200 - 50;
    let turn = "user: How is the weather in town 0?\nassistant: I shall ask the tool.\ntool: It rains and rains and rains.\nassistant: It rains.\n";
    let more = prompt_tokens(engine.tokenizer(), turn, true).len();
    assert!(asked.request.tokens.len() <= room && asked.request.tokens.len() + more > room - 10);
}

#[test]
#[should_panic(expected = "not an earlier moment of this text")]
fn a_checkpoint_that_was_rolled_back_cannot_be_restored() {
    let mut engine = demo(LoadOptions::default());
    let prompt = prompt_tokens(engine.tokenizer(), "The old king", true);
    let (tokenizer, options) = (engine.tokenizer().clone(), GenerateOptions::default());
    let mut generation = Generation::new(tokenizer, prompt, &options, engine.context_length()).unwrap();
    let mut sequence = engine.new_sequence();
    let early = generation.checkpoint();
    write(&mut engine, &mut sequence, &mut generation, 5);
    let late = generation.checkpoint();
    generation.roll_back(early);
    generation.roll_back(late);
}
