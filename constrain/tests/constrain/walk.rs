//! Texts written at random within a grammar, and texts held against one.

use std::sync::{Arc, OnceLock};

use quipu_constrain::{Grammars, Shape, ShapeError};
use quipu_runtime::constraint::{Grammar, TokenMask};
use quipu_runtime::tokenizer::{Part, Tokenizer};
use quipu_test_random::Random;

/// The demo model's tokenizer.
pub fn tokenizer() -> Arc<Tokenizer> {
    static TOKENIZER: OnceLock<Arc<Tokenizer>> = OnceLock::new();
    let read = || {
        let source = quipu_runtime::open("demo").expect("it is in the library");
        Tokenizer::from_metadata(source.metadata()).expect("a tokenizer").into()
    };
    TOKENIZER.get_or_init(read).clone()
}

/// The demo model's grammars.
pub fn grammars() -> &'static Grammars {
    static GRAMMARS: OnceLock<Grammars> = OnceLock::new();
    GRAMMARS.get_or_init(|| Grammars::new(tokenizer()))
}

pub fn compile(shape: &Shape) -> Result<Arc<dyn Grammar>, ShapeError> {
    grammars().compile(shape)
}

/// A text of the grammar, of at most so many tokens, and whether it ended by itself. Short tokens and those that close
/// something are taken more often: otherwise few texts would ever end.
pub fn write(grammar: &dyn Grammar, tokenizer: &Tokenizer, random: &mut Random, most: usize) -> (String, bool) {
    let mut place = grammar.begin().expect("a beginning");
    let mut tokens = Vec::new();
    let hurry = most / 3 + random.below(most / 3);
    while tokens.len() < most {
        let mut next = TokenMask::new(tokenizer.vocab_size());
        let may_end = place.allow(&mut next).expect("a mask");
        let all: Vec<u32> = next.iter().filter(|&id| !tokenizer.is_end_of_generation(id)).collect();
        if may_end && (all.is_empty() || tokens.len() > hurry || random.below(4) == 0) {
            return (text(tokenizer, &tokens), true);
        }
        assert!(!all.is_empty(), "a dead end after {:?}", text(tokenizer, &tokens));
        let closes = |id: &u32| matches!(tokenizer.token_bytes(*id, true), [b'"' | b']' | b'}' | b',' | b':' | b'.']);
        let closing: Vec<u32> = all.iter().copied().filter(closes).collect();
        let short: Vec<u32> = all.iter().copied().filter(|&id| tokenizer.token_bytes(id, true).len() == 1).collect();
        let closes_now = !closing.is_empty() && (tokens.len() > hurry || random.below(5) == 0);
        let from = match random.below(3) {
            _ if closes_now => &closing,
            0 if !short.is_empty() => &short,
            _ => &all,
        };
        let token = from[random.below(from.len())];
        place.advance(token).expect("it is allowed");
        tokens.push(token);
    }
    (text(tokenizer, &tokens), false)
}

fn text(tokenizer: &Tokenizer, tokens: &[u32]) -> String {
    let bytes = tokens.iter().flat_map(|&id| tokenizer.token_bytes(id, true)).copied().collect();
    String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

/// Whether `text` is one of the grammar's, as its usual tokens.
pub fn accepts(grammar: &dyn Grammar, text: &str) -> bool {
    let tokenizer = tokenizer();
    let tokens = tokenizer.encode_parts(&[Part::Tokens(&[0]), Part::Data(text)]);
    let mut place = grammar.begin().expect("a beginning");
    if !tokens[1..].iter().all(|&token| place.advance(token).is_ok()) {
        return false;
    }
    place.allow(&mut TokenMask::new(tokenizer.vocab_size())).unwrap_or(false)
}
