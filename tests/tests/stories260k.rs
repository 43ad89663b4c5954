//! A real, trained Llama of 260 thousand parameters writes what llama2.c's own test expects of it, to the letter.

use quipu_tests::{argmax, data, load, options};

#[test]
fn greedy_story_to_the_letter() {
    let mut engine = load(&data("stories260K/stories260K-f32.gguf"), &options());
    let golden = std::fs::read_to_string(data("stories260K/golden_greedy_200.txt")).expect("golden text");
    let mut tokens = engine.tokenizer().encode("", true, false);
    assert_eq!(tokens, [1], "an empty prompt is the token that begins a text");
    let mut sequence = engine.new_sequence();
    let mut row = engine.prefill(&mut sequence, &tokens).expect("prefill").to_vec();
    for _ in 0..200 {
        let token = argmax(&row);
        tokens.push(token);
        row = engine.decode(&mut sequence, token).expect("decode").to_vec();
    }
    let text = engine.tokenizer().decode(&tokens[1..], false);
    // llama2.c strips the space that SentencePiece puts before the first word, and ends with a line feed.
    assert_eq!(text.trim_start().to_string() + "\n", golden);
}
