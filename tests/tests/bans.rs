//! Strings that must not be written: the text goes back and takes another way, and nothing else changes.

use std::sync::Arc;

use quipu_runtime::constraint::{Constraint, ConstraintError, Grammar, TokenMask};
use quipu_runtime::generate::{
    Draft, Event, Finished, GenerateError, GenerateOptions, Generation, Request, Scheduler, SchedulerOptions,
    StopReason, Token, prompt_tokens,
};
use quipu_runtime::sampler::{Sampler, SamplerError, SamplerOptions};
use quipu_runtime::tokenizer::Tokenizer;
use quipu_runtime::{Engine, LoadOptions};

const TALE: &str = "Once upon a time";

fn demo() -> Engine {
    let model = quipu_runtime::open("demo").expect("the demo opens");
    Engine::load(model, &LoadOptions::default(), &|_, _| {}).expect("it loads")
}

/// A grammar in which the place matters: token number `n` has an id that is `n` modulo 3, but for the eighth ones,
/// which are always the same. It never ends.
#[derive(Clone, Debug)]
struct Turns {
    at: usize,
    eighth: u32,
}

impl Turns {
    fn new(tokenizer: &Tokenizer) -> Turns {
        Turns { at: 0, eighth: tokenizer.encode(",", false, false).pop().expect("a comma") }
    }

    fn may_come(&self, at: usize, token: u32) -> bool {
        if at % 8 == 7 { token == self.eighth } else { token as usize % 3 == at % 3 }
    }
}

impl Grammar for Turns {
    fn begin(&self) -> Result<Box<dyn Constraint>, ConstraintError> {
        Ok(self.copy())
    }
}

impl Constraint for Turns {
    fn allow(&mut self, next: &mut TokenMask) -> Result<bool, ConstraintError> {
        (0..next.vocabulary() as u32).filter(|&id| self.may_come(self.at, id)).for_each(|id| next.insert(id));
        Ok(false)
    }

    fn advance(&mut self, token: u32) -> Result<(), ConstraintError> {
        self.at += 1;
        if self.may_come(self.at - 1, token) { Ok(()) } else { Err(ConstraintError::Refused { token }) }
    }

    fn copy(&self) -> Box<dyn Constraint> {
        Box::new(self.clone())
    }
}

fn options(seed: u64, bans: &[&str]) -> GenerateOptions {
    let bans: Vec<String> = bans.iter().map(|text| text.to_string()).collect();
    GenerateOptions::new(SamplerOptions::default().seed(seed).repeat_penalty(1.1)).max_tokens(50).bans(bans)
}

fn request(engine: &Engine, options: GenerateOptions) -> Request {
    Request::new(prompt_tokens(engine.tokenizer(), TALE, true), options)
}

/// The tokens that were told, all text that was, and the end.
fn written(scheduler: &mut Scheduler, options: GenerateOptions) -> (Vec<u32>, String, Finished) {
    let request = request(scheduler.engine(), options);
    let (mut tokens, mut text) = (Vec::new(), String::new());
    let end = scheduler.stream(request, |event| {
        if let Event::Token(Token { id, text: piece, .. }) = event {
            tokens.push(*id);
            text.push_str(piece);
        }
    });
    let end = end.expect("it is served");
    text.push_str(&end.text);
    (tokens, text, end)
}

/// A part of the text, which is ASCII, from the middle of a token to the middle of the third one.
fn across_tokens(tokenizer: &Tokenizer, tokens: &[u32], from: usize) -> String {
    let length = |n: usize| tokenizer.decode(&tokens[..n], false).len();
    tokenizer.decode(tokens, false)[length(from) + 1..length(from + 2) + 1].to_string()
}

#[test]
fn what_is_banned_is_not_written_and_nothing_before_it_changes() {
    let mut scheduler = Scheduler::new(demo());
    let tokenizer = scheduler.engine().tokenizer().clone();
    let mut returns = 0;
    for seed in 0..12 {
        let (tokens, text, _) = written(&mut scheduler, options(seed, &[]));
        let from = 5 + seed as usize % 7;
        if tokens.len() < from + 4 || !text.is_ascii() {
            continue;
        }
        let ban = across_tokens(&tokenizer, &tokens, from);
        let (found, without, end) = written(&mut scheduler, options(seed, &[&ban]));
        assert!(!without.contains(&ban), "{ban:?} in {without:?}");
        let first = text.find(&ban).expect("it was there");
        let before = (0..).take_while(|&n| tokenizer.decode(&tokens[..n + 1], false).len() <= first).count();
        assert_eq!(found[..before], tokens[..before], "{ban:?} changes what comes before it");
        assert_ne!(found[before], tokens[before], "{ban:?} begins in this token");
        // All that was told is the text, and the sequence holds what was read of it.
        assert_eq!(tokenizer.decode(&found, false), without);
        let prompt = prompt_tokens(&tokenizer, TALE, true);
        let all: Vec<u32> = prompt.iter().chain(&found).copied().collect();
        assert_eq!(end.sequence.tokens(), &all[..end.sequence.len()]);
        returns += 1;
        // What never comes changes nothing.
        assert_eq!(written(&mut scheduler, options(seed, &["qqq", "the never end"])).0, tokens);
    }
    assert!(returns >= 8, "only {returns} texts had something to ban");
}

/// The way round, found by trying: every token is drawn from the logits of the whole text, read anew, and with the next
/// random number, whether the text has gone back or not.
#[test]
fn texts_are_those_of_a_plain_search() {
    let mut engine = demo();
    let tokenizer = engine.tokenizer().clone();
    let prompt = prompt_tokens(&tokenizer, TALE, true);
    let turns = Turns::new(&tokenizer);
    let bans = [&[" the", "was"][..], &["e w", "nd"], &["a"], &["e", "o", "i"], &["there", " a ", "king", "and "]];
    let drawn = [SamplerOptions::greedy(), SamplerOptions::default().seed(3)];
    let cases = drawn.iter().flat_map(|drawn| bans.map(|bans| (drawn, bans)));
    for ((drawn, bans), in_grammar) in cases.flat_map(|case| [(case, false), (case, true)]) {
        let mut sampler = Sampler::new(drawn.clone()).expect("sensible options");
        let (mut tokens, mut excluded): (Vec<u32>, Vec<Vec<u32>>) = (Vec::new(), vec![Vec::new()]);
        while tokens.len() < 24 {
            let text: Vec<u32> = prompt.iter().chain(&tokens).copied().collect();
            let mut sequence = engine.new_sequence();
            let mut logits = engine.prefill(&mut sequence, &text).expect("it fits").to_vec();
            excluded[tokens.len()].iter().for_each(|&id| logits[id as usize] = f32::NEG_INFINITY);
            let may_come = |id| !in_grammar || turns.may_come(tokens.len(), id) && !tokenizer.is_end_of_generation(id);
            logits
                .iter_mut()
                .zip(0..)
                .filter(|(_, id)| !may_come(*id))
                .for_each(|(logit, _)| *logit = f32::NEG_INFINITY);
            let token = sampler.sample(&logits).expect("a candidate");
            if tokenizer.is_end_of_generation(token) {
                break;
            }
            tokens.push(token);
            excluded.push(Vec::new());
            let bytes = |tokens: &[u32]| -> Vec<u8> {
                tokens.iter().flat_map(|&id| tokenizer.token_bytes(id, false)).copied().collect()
            };
            let text = bytes(&tokens);
            let find = |ban: &&str| {
                text.windows(ban.len()).position(|part| part == ban.as_bytes()).map(|at| (at + ban.len(), at))
            };
            if let Some((_, at)) = bans.iter().filter_map(find).min() {
                let place = (0..).take_while(|&n| bytes(&tokens[..n + 1]).len() <= at).count();
                excluded.truncate(place + 1);
                excluded[place].push(tokens[place]);
                if place + 1 == tokens.len() {
                    // No token that has one in itself need be tried.
                    let whole = |&id: &u32| {
                        let text = String::from_utf8_lossy(tokenizer.token_bytes(id, false));
                        bans.iter().any(|ban| text.contains(ban))
                    };
                    excluded[place].extend((0..tokenizer.vocab_size() as u32).filter(whole));
                }
                tokens.truncate(place);
            }
        }
        let mut scheduler = Scheduler::new(demo());
        let mut asked = options(0, bans).sampler(drawn.clone()).max_tokens(24);
        asked.grammar = in_grammar.then(|| Arc::new(turns.clone()) as Arc<dyn Grammar>);
        assert_eq!(written(&mut scheduler, asked).0, tokens, "{bans:?}, in a grammar: {in_grammar}");
    }
}

#[test]
fn the_same_text_alone_and_beside_others() {
    let bans: [&[&str]; 6] = [&["e"], &["the", " and"], &[" "], &["a", "i"], &[], &["n t", "d h", "e s", "."]];
    let mut scheduler = Scheduler::with_options(demo(), SchedulerOptions::default().draft(Draft::None));
    let turns: Arc<dyn Grammar> = Arc::new(Turns::new(scheduler.engine().tokenizer()));
    // Each with a grammar, and without one. Of those without bans, tokens are guessed.
    let asked = |i: usize| options(i as u64, bans[i / 2]).grammar((i % 2 == 1).then(|| turns.clone()));
    let all = 0..2 * bans.len();
    let alone: Vec<_> =
        all.clone().map(|i| written(&mut scheduler, asked(i))).map(|(ids, text, _)| (ids, text)).collect();
    for (i, (_, text)) in alone.iter().enumerate() {
        assert!(bans[i / 2].iter().all(|ban| !text.contains(ban)), "{i} {:?}: {text:?}", bans[i / 2]);
    }
    let mut scheduler = Scheduler::new(demo());
    let requests: Vec<Request> = all.clone().map(|i| request(scheduler.engine(), asked(i))).collect();
    let ids: Vec<_> = requests.into_iter().map(|request| scheduler.submit(request)).collect();
    let mut beside = vec![(Vec::new(), String::new()); alone.len()];
    while scheduler.is_busy() {
        for (id, event) in scheduler.step() {
            let (tokens, text) = &mut beside[ids.iter().position(|&known| known == id).expect("one of ours")];
            match event {
                Event::Token(token) => {
                    tokens.push(token.id);
                    text.push_str(&token.text);
                }
                Event::Finished(end) => text.push_str(&end.text),
                Event::Failed(failed) => panic!("{}", failed.error),
                _ => {}
            }
            let i = ids.iter().position(|&known| known == id).expect("one of ours");
            let (_, text) = &beside[i];
            assert!(bans[i / 2].iter().all(|ban| !text.contains(ban)), "{:?}: {text:?}", bans[i / 2]);
        }
    }
    assert_eq!(beside, alone);
    assert!(alone.iter().all(|(tokens, _)| !tokens.is_empty()));
}

/// What was told of a text stays true whatever comes after it, and each return is counted apart.
#[test]
fn a_text_that_goes_back_reads_little_again() {
    let mut scheduler = Scheduler::new(demo());
    let prompt = prompt_tokens(scheduler.engine().tokenizer(), TALE, true).len();
    let (mut told, mut again) = (Vec::new(), 0);
    for seed in 0..4 {
        let request = request(scheduler.engine(), options(seed, &["e w", "nd", "on a", "time", " the "]));
        let end =
            scheduler.stream(request, |event| told.extend(matches!(event, Event::Prefill { .. }).then_some(seed)));
        let end = end.expect("it is served");
        assert_eq!(end.prefill.tokens + end.cached_tokens, prompt);
        again += end.recomputed.tokens;
    }
    assert!(again > 0 && told.is_empty(), "{again} {told:?}");
}

/// Bans that leave a text no way but the end of it, or none at all, end it.
#[test]
fn everything_may_be_banned() {
    let mut scheduler = Scheduler::new(demo());
    let letters: Vec<String> = (1u8..128).map(|byte| char::from(byte).to_string()).collect();
    let letters: Vec<&str> = letters.iter().map(String::as_str).collect();
    let (_, text, end) = written(&mut scheduler, options(1, &letters));
    assert!(!text.bytes().any(|byte| byte.is_ascii() && byte > 0), "{text:?}");
    assert!(matches!(end.stop, StopReason::End | StopReason::Limit));
    let empty = Scheduler::complete(&mut scheduler, request(&demo(), options(1, &[""])));
    assert!(empty.is_err_and(|failed| failed.error == SamplerError::EmptyBan.into()));
    // Here the grammar wants what is banned, and there is nothing else.
    let turns = Turns::new(scheduler.engine().tokenizer());
    let asked = options(1, &[","]).grammar(Arc::new(turns) as Arc<dyn Grammar>);
    let failed = Scheduler::complete(&mut scheduler, request(&demo(), asked)).expect_err("there is no way");
    assert_eq!(failed.error, GenerateError::OnlyBanned);
}

/// A draft that is rejected while something is held back.
#[test]
fn a_checkpoint_has_what_is_held_back() {
    let mut engine = demo();
    let prompt = prompt_tokens(engine.tokenizer(), TALE, true);
    let new = |engine: &Engine| {
        let options = options(3, &["the never", "e w", "and s", "a little"]);
        Generation::new(engine.tokenizer().clone(), prompt.clone(), &options, engine.context_length()).expect("it fits")
    };
    let write = |engine: &mut Engine, sequence: &mut _, generation: &mut Generation, steps: usize| {
        let mut told = Vec::new();
        for _ in 0..steps {
            if generation.stop().is_some() {
                break;
            }
            quipu_runtime::Sequence::truncate(sequence, generation.read());
            let unread = generation.unread().to_vec();
            let logits = engine.prefill(sequence, &unread).expect("it fits").to_vec();
            generation.advance(unread.len());
            told.extend(generation.take_logits(&logits).expect("finite logits"));
            told.extend(std::iter::from_fn(|| generation.take_forced()));
        }
        told
    };
    let (mut generation, mut sequence) = (new(&engine), engine.new_sequence());
    let whole = write(&mut engine, &mut sequence, &mut generation, usize::MAX);
    let end = generation.finish();
    let (mut generation, mut sequence) = (new(&engine), engine.new_sequence());
    let mut found = Vec::new();
    for (kept, thrown_away) in [(1, 3), (2, 1), (3, 5), (4, 2), (5, 9), (7, 1), (usize::MAX, 0)] {
        found.extend(write(&mut engine, &mut sequence, &mut generation, kept));
        let checkpoint = generation.checkpoint();
        write(&mut engine, &mut sequence, &mut generation, thrown_away);
        generation.roll_back(checkpoint);
    }
    assert_eq!(found, whole);
    assert_eq!(generation.finish(), end);
}
