//! Texts as vectors: which of some sentences is most like the first?
//!
//! ```text
//! cargo run --release -p quipu-runtime --example embeddings [MODEL]
//! ```

use quipu_runtime::embedding::EmbedOptions;
use quipu_runtime::generate::prompt_tokens;
use quipu_runtime::{Engine, LoadOptions};

const SENTENCES: [&str; 4] =
    ["The king was angry.", "The queen was sad.", "A fox ran into the wood.", "Salt the soup well."];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let model = std::env::args().nth(1).unwrap_or("demo".into());
    let mut engine = Engine::load(quipu_runtime::open(&model)?, &LoadOptions::default(), &|_, _| {})?;
    // The mean of all tokens, at length 1; other choices are in the options.
    let options = EmbedOptions::default();
    let mut vectors = Vec::new();
    for sentence in SENTENCES {
        let tokens = prompt_tokens(engine.tokenizer(), sentence, true);
        vectors.push(engine.embed(&tokens, &options)?);
    }
    for (sentence, vector) in SENTENCES.iter().zip(&vectors) {
        // Of vectors of length 1 the product is the cosine of their angle.
        let cosine: f32 = vector.iter().zip(&vectors[0]).map(|(a, b)| a * b).sum();
        println!("{cosine:6.3}  {sentence}");
    }
    Ok(())
}
