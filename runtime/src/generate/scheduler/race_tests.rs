//! What the thread that writes pages to disk may do at the worst moment.

use super::*;
use crate::engine::LoadOptions;
use crate::generate::{GenerateOptions, prompt_tokens};
use crate::kv::PAGE;
use crate::sampler::SamplerOptions;

/// One of two texts outgrows its first page while somebody else holds the only other one there may be: between the
/// moment when bytes were counted and the one when the writer is asked for its pages, this one is let go. Nobody has to
/// give way then. (A text alone would not show it: what was promised to it, it gets in any case.)
#[test]
fn a_page_that_is_let_go_after_it_was_counted_is_not_missing() {
    let engine = Engine::load(crate::open("demo").unwrap(), &LoadOptions::default().threads(1), &|_, _| {}).unwrap();
    let tokens = prompt_tokens(engine.tokenizer(), &"Once upon a time ".repeat(40), true)[..PAGE - 10].to_vec();
    let options = SchedulerOptions::default().kv_memory(3 * engine.page_bytes()).prefix_cache(false);
    let mut scheduler = Scheduler::with_options(engine, options);
    let request =
        |tokens: &[u32]| Request::new(tokens.to_vec(), GenerateOptions::new(SamplerOptions::greedy()).max_tokens(40));
    let grows = scheduler.submit(request(&tokens));
    scheduler.submit(request(&tokens[..9]));
    let (mut written, mut held) = (0, None);
    while scheduler.is_busy() {
        for (id, event) in scheduler.step() {
            match event {
                Event::Token(_) => written += usize::from(id == grows),
                Event::Failed(failed) => panic!("after {written} tokens: {}", failed.error),
                _ => {}
            }
        }
        // Both have begun.
        if held.is_none() && scheduler.stats().pages_used == 2 {
            let pages = scheduler.engine.new_sequence().new_pages();
            assert_eq!((scheduler.stats().pages_used, written < 9), (3, true));
            held = Some(());
            scheduler.texts.pages.meanwhile = Some(Box::new(move || drop(pages)));
        }
    }
    assert!(held.is_some() && scheduler.texts.pages.meanwhile.is_none(), "it never came to that");
    assert!(written > 12, "the text ended after {written} tokens");
    assert_eq!(scheduler.stats().preempted, 0);
}
