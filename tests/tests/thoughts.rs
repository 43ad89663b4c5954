//! A budget for thoughts: what is thought stays what it would have been, then the mark that closes thoughts comes, then
//! the answer.

use std::path::Path;
use std::sync::Arc;

use quipu_runtime::constraint::{Constraint, ConstraintError, Grammar, TokenMask};
use quipu_runtime::generate::{
    Draft, Event, GenerateOptions, Request, Scheduler, SchedulerOptions, StopReason, prompt_tokens,
};
use quipu_runtime::sampler::{Sampler, SamplerOptions};
use quipu_runtime::tokenizer::Tokenizer;
use quipu_runtime::{Engine, LoadOptions};
use quipu_tests::load;

const PROMPT: &str = "Once upon a time\n<think>\n";
const CLOSE: &str = "</think>";

fn demo() -> Engine {
    load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/tales.gguf"), &LoadOptions::default())
}

/// Tokens with an odd id, so many of them.
#[derive(Clone, Debug)]
struct Odd(usize);

impl Grammar for Odd {
    fn begin(&self) -> Result<Box<dyn Constraint>, ConstraintError> {
        Ok(self.copy())
    }
}

impl Constraint for Odd {
    fn allow(&mut self, next: &mut TokenMask) -> Result<bool, ConstraintError> {
        if self.0 > 0 {
            (0..next.vocabulary() as u32).filter(|id| id % 2 == 1).for_each(|id| next.insert(id));
        }
        Ok(self.0 == 0)
    }

    fn advance(&mut self, token: u32) -> Result<(), ConstraintError> {
        self.0 -= 1;
        if token % 2 == 1 { Ok(()) } else { Err(ConstraintError::Refused { token }) }
    }

    fn copy(&self) -> Box<dyn Constraint> {
        Box::new(self.clone())
    }
}

/// Any tokens with an even id; the text may end.
#[derive(Clone, Debug)]
struct Even;

impl Grammar for Even {
    fn begin(&self) -> Result<Box<dyn Constraint>, ConstraintError> {
        Ok(self.copy())
    }
}

impl Constraint for Even {
    fn allow(&mut self, next: &mut TokenMask) -> Result<bool, ConstraintError> {
        (0..next.vocabulary() as u32).step_by(2).for_each(|id| next.insert(id));
        Ok(true)
    }

    fn advance(&mut self, token: u32) -> Result<(), ConstraintError> {
        if token.is_multiple_of(2) { Ok(()) } else { Err(ConstraintError::Refused { token }) }
    }

    fn copy(&self) -> Box<dyn Constraint> {
        Box::new(self.clone())
    }
}

fn options(seed: u64) -> GenerateOptions {
    GenerateOptions::new(SamplerOptions::default().seed(seed).repeat_penalty(1.1)).max_tokens(40).ignore_end(true)
}

/// The tokens and the end of each text, written side by side.
fn serve(scheduler: &mut Scheduler, prompt: &str, asked: &[GenerateOptions]) -> Vec<(Vec<u32>, Option<StopReason>)> {
    let prompt = prompt_tokens(scheduler.engine().tokenizer(), prompt, true);
    let ids: Vec<_> =
        asked.iter().map(|options| scheduler.submit(Request::new(prompt.clone(), options.clone()))).collect();
    let mut texts = vec![(Vec::new(), None); ids.len()];
    while scheduler.is_busy() {
        for (id, event) in scheduler.step() {
            let (tokens, end) = &mut texts[ids.iter().position(|&known| known == id).expect("one of ours")];
            match event {
                Event::Token(token) => tokens.push(token.id),
                Event::Finished(finished) => *end = Some(finished.stop),
                Event::Failed(failed) => panic!("{}", failed.error),
                _ => {}
            }
        }
    }
    texts
}

/// The tokens of the mark that closes thoughts, amid a text.
fn close(tokenizer: &Tokenizer) -> Vec<u32> {
    let text = tokenizer.encode(&format!("a{CLOSE}"), false, false);
    let a = tokenizer.encode("a", false, false);
    text.strip_prefix(&a[..]).expect("the letter is a token").to_vec()
}

/// What has to come, drawn from the logits of the whole text, read anew for every token.
fn by_hand(engine: &mut Engine, seed: u64, budget: usize, odd: usize) -> Vec<u32> {
    let tokenizer = engine.tokenizer().clone();
    let mut text = prompt_tokens(&tokenizer, PROMPT, true);
    let (prompt, close) = (text.len(), close(&tokenizer));
    let mut options = options(seed).sampler;
    if odd == 0 {
        options.logit_bias = tokenizer.ends().map(|id| (id, f32::NEG_INFINITY)).collect();
    }
    let mut sampler = Sampler::new(options).expect("sensible options");
    text.iter().for_each(|&token| sampler.accept(token));
    while text.len() < prompt + 40 {
        let written = text.len() - prompt;
        let mut sequence = engine.new_sequence();
        let logits = engine.prefill(&mut sequence, &text).expect("it fits").to_vec();
        let in_answer = written >= budget + close.len();
        let may_come = |id: u32| match written {
            _ if in_answer && odd > 0 && written - budget - close.len() < odd => {
                id % 2 == 1 && !tokenizer.is_end_of_generation(id)
            }
            _ if in_answer && odd > 0 => tokenizer.is_end_of_generation(id),
            _ if odd > 0 && written < budget => !tokenizer.is_end_of_generation(id),
            _ if !in_answer && written >= budget => id == close[written - budget],
            _ => true,
        };
        let masked: Vec<f32> =
            (0..).zip(&logits).map(|(id, &l)| if may_come(id) { l } else { f32::NEG_INFINITY }).collect();
        let token = sampler.sample(&masked).expect("a candidate");
        if tokenizer.is_end_of_generation(token) {
            break;
        }
        sampler.accept(token);
        text.push(token);
    }
    text.split_off(prompt)
}

#[test]
fn the_mark_comes_when_the_budget_is_spent() {
    let odd = |n| Some(Arc::new(Odd(n)) as Arc<dyn Grammar>);
    let mut asked = Vec::new();
    let mut expected = Vec::new();
    let mut engine = demo();
    for (seed, budget) in [(1, 0), (2, 1), (3, 7), (4, 12)] {
        asked.push(options(seed).thinking_budget(budget));
        expected.push(by_hand(&mut engine, seed, budget, 0));
        // A grammar is for the answer.
        asked.push(options(seed).thinking_budget(budget).grammar(odd(9)).after_thoughts(true));
        expected.push(by_hand(&mut engine, seed, budget, 9));
    }
    let mut scheduler = Scheduler::with_options(demo(), SchedulerOptions::default().draft(Draft::None));
    for (options, expected) in asked.iter().zip(&expected) {
        let (tokens, _) = serve(&mut scheduler, PROMPT, std::slice::from_ref(options)).remove(0);
        assert_eq!(&tokens, expected, "{options:?}");
        let text = scheduler.engine().tokenizer().decode(&tokens, true);
        assert_eq!(text.matches(CLOSE).count(), 1, "{text}");
    }
    let beside = serve(&mut Scheduler::new(demo()), PROMPT, &asked);
    assert!(beside.iter().map(|(tokens, _)| tokens).eq(&expected));
    for ((_, end), options) in beside.iter().zip(&asked) {
        assert_eq!(*end, Some(if options.grammar.is_some() { StopReason::End } else { StopReason::Limit }));
    }
}

#[test]
fn a_budget_that_is_not_spent_changes_nothing() {
    let mut scheduler = Scheduler::new(demo());
    for prompt in [PROMPT, "Once upon a time"] {
        let plain = serve(&mut scheduler, prompt, &[options(5)]);
        assert_eq!(serve(&mut scheduler, prompt, &[options(5).thinking_budget(1000)]), plain);
        // There are no thoughts without a mark that opens them.
        if prompt != PROMPT {
            assert_eq!(serve(&mut scheduler, prompt, &[options(5).thinking_budget(0)]), plain);
            let shape = |after| options(5).grammar(Arc::new(Odd(5)) as Arc<dyn Grammar>).after_thoughts(after);
            assert_eq!(serve(&mut scheduler, prompt, &[shape(true)]), serve(&mut scheduler, prompt, &[shape(false)]));
        }
    }
    // Nor is there a budget where a grammar for the whole text does not let the mark come.
    assert_eq!(close(scheduler.engine().tokenizer())[0], 27);
    let even = options(5).grammar(Arc::new(Even) as Arc<dyn Grammar>);
    let plain = serve(&mut scheduler, PROMPT, std::slice::from_ref(&even));
    assert_eq!(serve(&mut scheduler, PROMPT, &[even.thinking_budget(0)]), plain);
}
