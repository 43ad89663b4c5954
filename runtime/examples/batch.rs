//! Several prompts at once: the model's weights are read once for all of them. Each text is what it would be alone.
//!
//! ```text
//! cargo run --release -p quipu-runtime --example batch [MODEL]
//! ```

use std::collections::BTreeMap;

use quipu_runtime::generate::{Event, GenerateOptions, Request, Scheduler, prompt_tokens};
use quipu_runtime::{Engine, LoadOptions};

const PROMPTS: [&str; 4] = ["The king", "In the forest", "A hungry wolf", "The youngest daughter"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let model = std::env::args().nth(1).unwrap_or("demo".into());
    let engine = Engine::load(quipu_runtime::open(&model)?, &LoadOptions::default(), &|_, _| {})?;
    let tokenizer = engine.tokenizer().clone();
    let mut scheduler = Scheduler::new(engine);

    let mut texts = BTreeMap::new();
    for prompt in PROMPTS {
        let tokens = prompt_tokens(&tokenizer, prompt, true);
        let id = scheduler.submit(Request::new(tokens, GenerateOptions::default().max_tokens(30)));
        texts.insert(id, prompt.to_string());
    }
    // More requests could be submitted between any two steps.
    while scheduler.is_busy() {
        for (id, event) in scheduler.step() {
            match event {
                Event::Token(token) => texts.entry(id).or_default().push_str(&token.text),
                Event::Finished(end) => texts.entry(id).or_default().push_str(&end.text),
                // The others go on.
                Event::Failed(failed) => eprintln!("request {id}: {failed}"),
                _ => {}
            }
        }
    }
    texts.values().for_each(|text| println!("{text}\n"));
    Ok(())
}
