//! A text as a vector: the hidden state from which the logits are made, however the text is read.

use quipu_runtime::embedding::{EmbedOptions, Pooling};
use quipu_runtime::{Engine, EngineError};
use quipu_tests::{data, load, open, options};

const TEXT: &str = "Once upon a time there was a little girl who had a red ball. She liked to play in the park.";

fn engine(batch: usize) -> (Engine, Vec<u32>) {
    let engine = load(&data("stories260K/stories260K-f32.gguf"), &options().batch(batch));
    let tokens = engine.tokenizer().encode(TEXT, true, false);
    assert!(tokens.len() > 30);
    (engine, tokens)
}

/// The output matrix times the last token's vector, as the design defines a product in f32: one chain of fused
/// multiply-adds for each output.
#[test]
fn the_output_matrix_times_the_last_vector_is_the_logits() {
    let (mut engine, tokens) = engine(512);
    let plain = EmbedOptions::default().pooling(Pooling::Last).normalize(false);
    let hidden = engine.embed(&tokens, &plain).unwrap();
    let source = open(&data("stories260K/stories260K-f32.gguf"));
    let head = source.find("output.weight").or_else(|| source.find("token_embd.weight")).unwrap();
    let tensor = &source.tensors()[head];
    let bytes = source.rows(head, 0..tensor.rows());
    let weights: Vec<f32> = bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
    let row = |w: &[f32]| w.iter().zip(&hidden).fold(0.0f32, |acc, (w, x)| w.mul_add(*x, acc));
    let product: Vec<f32> = weights.chunks_exact(hidden.len()).map(row).collect();
    let mut sequence = engine.new_sequence();
    let logits = engine.prefill(&mut sequence, &tokens).unwrap();
    let bits = |row: &[f32]| row.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(&product), bits(logits));
}

/// The mean of the vectors of all beginnings of the text, each of which is a last token's.
#[test]
fn the_mean_is_that_of_all_tokens() {
    let (mut engine, tokens) = engine(512);
    let plain = EmbedOptions::default().normalize(false);
    let mean = engine.embed(&tokens, &plain).unwrap();
    let mut sum = vec![0.0f64; mean.len()];
    for n in 1..=tokens.len() {
        let last = engine.embed(&tokens[..n], &plain.pooling(Pooling::Last)).unwrap();
        sum.iter_mut().zip(&last).for_each(|(sum, &x)| *sum += f64::from(x));
    }
    let expected: Vec<f32> = sum.iter().map(|sum| (sum / tokens.len() as f64) as f32).collect();
    assert_eq!(mean, expected);
}

#[test]
fn pieces_change_nothing_and_the_length_is_one() {
    for pooling in [Pooling::Mean, Pooling::Last] {
        let found = [1, 7, 512].map(|batch| {
            let (mut engine, tokens) = engine(batch);
            engine.embed(&tokens, &EmbedOptions::default().pooling(pooling)).unwrap()
        });
        assert!(found[0] == found[1] && found[0] == found[2], "{pooling:?}");
        let length = found[0].iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt();
        assert!((length - 1.0).abs() < 1e-6, "{length}");
    }
}

#[test]
fn what_cannot_be_read_is_refused() {
    let (mut engine, _) = engine(512);
    assert_eq!(engine.embed(&[], &EmbedOptions::default()), Err(EngineError::Empty));
    assert!(matches!(engine.embed(&[512], &EmbedOptions::default()), Err(EngineError::Token { token: 512, .. })));
}
