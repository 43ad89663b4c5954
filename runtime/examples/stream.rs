//! Loads a model and prints a text as it is written.
//!
//! ```text
//! cargo run --release -p quipu-runtime --example stream [MODEL [PROMPT]]
//! ```

use std::io::Write;

use quipu_runtime::generate::{Event, GenerateOptions, Request, Scheduler, prompt_tokens};
use quipu_runtime::sampler::SamplerOptions;
use quipu_runtime::{Engine, LoadOptions};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let model = arguments.next().unwrap_or("demo".into());
    let prompt = arguments.next().unwrap_or("Once upon a time".into());

    // A GGUF file, a packed file, a Hugging Face directory, or the model inside this library.
    let engine = Engine::load(quipu_runtime::open(&model)?, &LoadOptions::default(), &|_, _| {})?;
    let tokens = prompt_tokens(engine.tokenizer(), &prompt, true);

    let sampler = SamplerOptions::default().seed(7);
    let request = Request::new(tokens, GenerateOptions::new(sampler).max_tokens(60));
    print!("{prompt}");
    let mut scheduler = Scheduler::new(engine);
    let end = scheduler.stream(request, |event| {
        if let Event::Token(token) = event {
            print!("{}", token.text);
            let _ = std::io::stdout().flush();
        }
    })?;
    // What was held back, in case it was the beginning of a stop string.
    println!("{}", end.text);
    let seconds = end.decode.time.as_secs_f64();
    eprintln!("ended by {}; {:.0} tokens/s", end.stop.name(), end.decode.tokens as f64 / seconds.max(1e-9));
    Ok(())
}
