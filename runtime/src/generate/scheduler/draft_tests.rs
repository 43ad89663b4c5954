//! A draft model at work: whatever it guesses, texts are what they are without it.

use std::collections::HashMap;
use std::sync::Arc;

use super::draft::Costs;
use super::tests::{Outcome, free, repetitive, scheduler, serve};
use super::*;
use crate::constraint::{Constraint, ConstraintError, Grammar, TokenMask};
use crate::engine::LoadOptions;
use crate::generate::options::GenerateOptions;
use crate::kv::KvType;

/// The demo model with coarse keys and values: nearly of the same mind as itself.
fn rough() -> Engine {
    let options = LoadOptions::default().threads(2).context(150).kv_type(KvType::Q4);
    Engine::load(crate::open::open("demo").unwrap(), &options, &|_, _| {}).unwrap()
}

/// A scheduler for which it guesses.
fn drafting(draft: Draft) -> Scheduler {
    let mut scheduler = scheduler(draft, 200);
    scheduler.set_draft_model(rough()).unwrap();
    scheduler
}

fn check(found: &[Outcome], expected: &[Outcome], how: &str) {
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert_eq!(found, expected, "request {i}, {how}");
    }
}

/// Greedy and sampled, with and without penalties, stop strings and limits, side by side and one by one, some beyond
/// what the draft model can read.
#[test]
fn a_draft_model_changes_nothing_but_time() {
    let mut plain = scheduler(Draft::None, 200);
    let requests = repetitive(&plain);
    let expected = serve(&mut plain, &requests);
    let mut alone = drafting(Draft::None);
    for (request, expected) in requests.iter().zip(&expected) {
        check(&serve(&mut alone, std::slice::from_ref(request)), std::slice::from_ref(expected), "alone");
    }
    // Both kinds are there in numbers, and several are right before one is wrong: the same random numbers were drawn.
    let stats = alone.stats();
    assert!(stats.accepted_tokens > 500 && stats.drafted_tokens > stats.accepted_tokens + 50, "{stats:?}");
    assert!(stats.accepted_tokens > 2 * stats.drafts, "{stats:?}");

    let mut together = drafting(Draft::None);
    check(&serve(&mut together, &requests), &expected, "side by side");
    check(&serve(&mut together, &requests), &expected, "once more");
    assert!(together.stats().accepted_tokens > 100, "{:?}", together.stats());
    assert!(together.stats().draft_kv_bytes > 0);
    together.forget();
    assert_eq!(together.stats().draft_kv_bytes, 0);
    // The two sources beside each other.
    let mut both = drafting(Draft::Text);
    check(&serve(&mut both, &requests), &expected, "with guesses from the text as well");
}

/// Guesses that are right as often as one likes.
#[test]
fn wrong_guesses_and_right_ones_leave_no_trace() {
    let mut plain = scheduler(Draft::None, 200);
    let requests = repetitive(&plain);
    let expected = serve(&mut plain, &requests);
    let texts: Vec<Vec<u32>> = requests
        .iter()
        .zip(&expected)
        .map(|(request, outcome)| {
            let written = outcome.tokens.iter().map(|token| token.id);
            request.tokens.iter().copied().chain(written).collect()
        })
        .collect();
    for acceptance in [0.0, 0.5, 1.0] {
        let mut scheduler = drafting(Draft::None);
        scheduler.simulate_acceptance(acceptance, texts.clone());
        check(&serve(&mut scheduler, &requests), &expected, &format!("{acceptance} right"));
        let stats = scheduler.stats();
        match acceptance {
            0.0 => assert_eq!(stats.accepted_tokens, 0),
            // What follows a stop string is never drawn.
            1.0 => assert!(stats.accepted_tokens + 24 >= stats.drafted_tokens, "{stats:?}"),
            _ => assert!(stats.accepted_tokens > 50 && stats.drafted_tokens > stats.accepted_tokens + 50, "{stats:?}"),
        }
        assert!(stats.drafted_tokens > 20, "{acceptance}: {stats:?}");
    }
}

/// The draft model has its part of the budget; where that is used up, it does not guess.
#[test]
fn a_budget_holds_for_both_models() {
    let mut plain = scheduler(Draft::None, 200);
    let requests = repetitive(&plain);
    let expected = serve(&mut plain, &requests);
    for pages in [2, 5, 12] {
        let mut scheduler = drafting(Draft::None);
        let (own, both) = (scheduler.engine().page_bytes(), scheduler.page_bytes());
        assert!(own < both && both < 2 * own);
        scheduler.set_kv_memory(Some(pages * both));
        let ids: Vec<RequestId> = requests.iter().map(|request| scheduler.submit(request.clone())).collect();
        let mut found = HashMap::new();
        while scheduler.is_busy() {
            scheduler.guessing.costs = free();
            for (id, event) in scheduler.step() {
                if let Event::Finished(end) = event {
                    found.insert(id, end.tokens[end.prompt_tokens..].to_vec());
                }
            }
            let stats = scheduler.stats();
            assert!(stats.draft_kv_bytes <= pages * (both - own), "{stats:?}");
            assert!(stats.pages_used * own + stats.draft_kv_bytes <= pages * both, "{stats:?}");
        }
        for (id, expected) in ids.iter().zip(&expected) {
            let expected: Vec<u32> = expected.tokens.iter().map(|token| token.id).collect();
            assert_eq!(found[id], expected, "{pages} pages");
        }
        assert!(scheduler.stats().drafted_tokens > 0);
    }
}

/// Even tokens and odd ones in turns.
#[derive(Clone, Debug, Default)]
struct Turns(u32);

impl Grammar for Turns {
    fn begin(&self) -> Result<Box<dyn Constraint>, ConstraintError> {
        Ok(self.copy())
    }
}

impl Constraint for Turns {
    fn allow(&mut self, next: &mut TokenMask) -> Result<bool, ConstraintError> {
        (300 + self.0..500).step_by(2).for_each(|token| next.insert(token));
        Ok(false)
    }

    fn advance(&mut self, _: u32) -> Result<(), ConstraintError> {
        self.0 = 1 - self.0;
        Ok(())
    }

    fn copy(&self) -> Box<dyn Constraint> {
        Box::new(self.clone())
    }
}

/// What guesses has the grammar, too: without it hardly any would be right.
#[test]
fn guesses_keep_to_the_grammar() {
    let mut plain = scheduler(Draft::None, 200);
    let request = |request: Request| {
        let options = request.options.grammar(Arc::new(Turns::default()) as Arc<dyn Grammar>).max_tokens(40);
        Request::new(request.tokens, options)
    };
    let requests: Vec<Request> = repetitive(&plain).into_iter().take(8).map(request).collect();
    let expected = serve(&mut plain, &requests);
    let mut scheduler = drafting(Draft::None);
    check(&serve(&mut scheduler, &requests), &expected, "in a grammar");
    let stats = scheduler.stats();
    assert!(stats.accepted_tokens > 50 && 3 * stats.accepted_tokens > stats.drafted_tokens, "{stats:?}");
}

/// A draft model that is never right is hardly asked any more, and one that costs as much as the model neither.
#[test]
fn what_does_not_pay_ends() {
    let mut plain = scheduler(Draft::None, 200);
    let prompt = repetitive(&plain)[0].tokens[..4].to_vec();
    let request = || Request::new(prompt.clone(), GenerateOptions::default().ignore_end(true));
    let text = serve(&mut plain, &[request()]).remove(0);
    let whole = [&prompt[..], &text.tokens.iter().map(|token| token.id).collect::<Vec<_>>()[..]].concat();
    let mut scheduler = drafting(Draft::None);
    scheduler.simulate_acceptance(0.0, vec![whole]);
    // A step costs ten times what one of the draft model does.
    let mut costs = Costs::default();
    (1..=32).chain(1..=32).for_each(|rows| costs.observe(rows, Duration::from_millis(10)));
    scheduler.submit(request());
    while scheduler.is_busy() {
        scheduler.guessing.costs = costs.clone();
        scheduler.step();
    }
    let stats = scheduler.stats();
    assert!(stats.written_tokens > 100 && stats.drafts < stats.written_tokens / 4, "{stats:?}");
}
