//! What the thread that writes pages to disk may do at the worst moment.

use super::*;
use crate::engine::LoadOptions;
use crate::generate::{GenerateOptions, prompt_tokens};
use crate::sampler::SamplerOptions;

/// A text that outgrows its first page while somebody else holds the only other one there may be: between the moment
/// when bytes were counted and the one when the writer is asked for its pages, this one is let go.
#[test]
fn a_page_that_is_let_go_after_it_was_counted_is_not_missing() {
    let engine = Engine::load(crate::open("demo").unwrap(), &LoadOptions::default().threads(1), &|_, _| {}).unwrap();
    let tokens = prompt_tokens(engine.tokenizer(), &"Once upon a time ".repeat(40), true)[..PAGE - 10].to_vec();
    let options = SchedulerOptions::default().kv_memory(2 * engine.page_bytes()).prefix_cache(false);
    let mut scheduler = Scheduler::with_options(engine, options);
    let options = GenerateOptions::new(SamplerOptions::greedy()).max_tokens(20);
    scheduler.submit(Request::new(tokens, options));
    let mut written = scheduler.step().len();

    let held = scheduler.engine.new_sequence().new_pages();
    assert_eq!(scheduler.stats().pages_used, 2);
    scheduler.texts.pages.meanwhile = Some(Box::new(move || drop(held)));
    while scheduler.is_busy() {
        for (_, event) in scheduler.step() {
            match event {
                Event::Token(_) => written += 1,
                Event::Failed(failed) => panic!("after {written} tokens: {}", failed.error),
                _ => {}
            }
        }
    }
    assert!(scheduler.texts.pages.meanwhile.is_none(), "it never came to that");
    assert!(written > 12, "the text ended after {written} tokens");
    assert_eq!(scheduler.stats().preempted, 0);
}
