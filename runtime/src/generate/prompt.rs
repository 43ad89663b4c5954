//! From a text to the tokens of a prompt.

use crate::tokenizer::Tokenizer;

/// The tokens of a prompt: those of the text, after one BOS if the model wants it. No EOS: the text goes on. With
/// `parse_special` the names of special tokens in it stand for those tokens.
pub fn prompt_tokens(tokenizer: &Tokenizer, text: &str, parse_special: bool) -> Vec<u32> {
    let mut tokens = tokenizer.encode(text, false, parse_special);
    one_bos(&mut tokens, tokenizer.bos(), tokenizer.add_bos());
    tokens
}

/// Makes sure that `tokens`, a text tokenised without adding anything, begin with one BOS if the model wants one
/// (`add`), and never with two: templates that write the BOS themselves and tokenizers that add it meet here.
pub fn one_bos(tokens: &mut Vec<u32>, bos: Option<u32>, add: bool) {
    let Some(bos) = bos else { return };
    let present = tokens.iter().take_while(|&&t| t == bos).count();
    if present > 1 {
        tokens.drain(1..present);
    } else if present == 0 && add {
        tokens.insert(0, bos);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_bos_never_two() {
        let bos = |mut tokens: Vec<u32>, bos, add| {
            one_bos(&mut tokens, bos, add);
            tokens
        };
        assert_eq!(bos(vec![5, 6], Some(1), true), [1, 5, 6]);
        assert_eq!(bos(vec![5, 6], Some(1), false), [5, 6]);
        assert_eq!(bos(vec![1, 5, 6], Some(1), true), [1, 5, 6]);
        assert_eq!(bos(vec![1, 1, 5, 1], Some(1), false), [1, 5, 1]);
        assert_eq!(bos(vec![5], None, true), [5]);
        assert_eq!(bos(vec![], Some(1), true), [1]);
    }
}
