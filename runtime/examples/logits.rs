//! A text as the model sees it: for each token how likely it was, and which one would have been likeliest.
//!
//! ```text
//! cargo run --release -p quipu-runtime --example logits [MODEL [TEXT]]
//! ```

use quipu_runtime::generate::prompt_tokens;
use quipu_runtime::sampler::{log_probability, top_log_probabilities};
use quipu_runtime::{Engine, LoadOptions};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let model = arguments.next().unwrap_or("demo".into());
    let text = arguments.next().unwrap_or("Once upon a time there was a king".into());
    let mut engine = Engine::load(quipu_runtime::open(&model)?, &LoadOptions::default(), &|_, _| {})?;
    let tokenizer = engine.tokenizer().clone();
    let tokens = prompt_tokens(&tokenizer, &text, true);

    let mut sequence = engine.new_sequence();
    engine.score(&mut sequence, &tokens, |i, logits| {
        // The logits after token i judge token i + 1.
        let Some(&next) = tokens.get(i + 1) else { return };
        let likeliest = top_log_probabilities(logits, 1)[0].0;
        println!(
            "{:>14?} {:8.3}   likeliest: {:?}",
            tokenizer.decode(&[next], true),
            log_probability(logits, next),
            tokenizer.decode(&[likeliest], true)
        );
    })?;
    Ok(())
}
