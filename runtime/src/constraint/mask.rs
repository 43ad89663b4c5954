//! A set of tokens.

/// A set of tokens of a vocabulary, a bit for each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenMask {
    /// Bit `id % 32` of word `id / 32`; no bit beyond the vocabulary is set.
    words: Vec<u32>,
    vocabulary: usize,
}

impl TokenMask {
    /// No token of a vocabulary of so many.
    pub fn new(vocabulary: usize) -> TokenMask {
        TokenMask { words: vec![0; vocabulary.div_ceil(32)], vocabulary }
    }

    /// All tokens of a vocabulary of so many.
    pub fn full(vocabulary: usize) -> TokenMask {
        let mut mask = TokenMask::new(vocabulary);
        mask.insert_words(&vec![u32::MAX; mask.words.len()]);
        mask
    }

    /// Tokens in the vocabulary.
    pub fn vocabulary(&self) -> usize {
        self.vocabulary
    }

    /// Adds a token; nothing happens if the vocabulary does not have it.
    pub fn insert(&mut self, token: u32) {
        if (token as usize) < self.vocabulary {
            self.words[token as usize / 32] |= 1 << (token % 32);
        }
    }

    /// Takes a token out.
    pub fn remove(&mut self, token: u32) {
        if (token as usize) < self.vocabulary {
            self.words[token as usize / 32] &= !(1 << (token % 32));
        }
    }

    /// Adds the tokens whose bits are set: bit `id % 32` of word `id / 32` is that of token `id`.
    pub fn insert_words(&mut self, words: &[u32]) {
        self.words.iter_mut().zip(words).for_each(|(word, more)| *word |= more);
        if let Some(last) = self.words.last_mut()
            && !self.vocabulary.is_multiple_of(32)
        {
            *last &= (1 << (self.vocabulary % 32)) - 1;
        }
    }

    /// Takes all tokens out.
    pub fn clear(&mut self) {
        self.words.fill(0);
    }

    /// Whether it has this token.
    pub fn contains(&self, token: u32) -> bool {
        self.words.get(token as usize / 32).is_some_and(|word| word >> (token % 32) & 1 == 1)
    }

    /// How many tokens it has.
    pub fn len(&self) -> usize {
        self.words.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|&word| word == 0)
    }

    /// Whether it has all of them.
    pub fn is_full(&self) -> bool {
        self.len() == self.vocabulary
    }

    /// Its tokens, in the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.words.iter().zip(0..).flat_map(|(&word, i)| {
            let mut left = word;
            std::iter::from_fn(move || {
                let bit = left.trailing_zeros();
                // Clears the lowest bit.
                left &= left.wrapping_sub(1);
                (bit < 32).then_some(i * 32 + bit)
            })
        })
    }

    /// The only token, if it has exactly one.
    pub fn only(&self) -> Option<u32> {
        let mut tokens = self.iter();
        tokens.next().filter(|_| tokens.next().is_none())
    }

    /// Appends to `kept` each of `logits` whose token it has, and −∞ in place of the others.
    pub(crate) fn apply(&self, logits: &[f32], kept: &mut Vec<f32>) {
        for (i, logits) in logits.chunks(32).enumerate() {
            match self.words.get(i).copied().unwrap_or(0) {
                0 => kept.resize(kept.len() + logits.len(), f32::NEG_INFINITY),
                u32::MAX => kept.extend_from_slice(logits),
                word => {
                    let bit = |(b, &logit)| if word >> b & 1 == 1 { logit } else { f32::NEG_INFINITY };
                    kept.extend(logits.iter().enumerate().map(bit));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_of_tokens() {
        for vocabulary in [1, 31, 32, 33, 100] {
            let mut mask = TokenMask::new(vocabulary);
            assert!(mask.is_empty() && mask.only().is_none());
            let last = vocabulary as u32 - 1;
            [last, last + 1, u32::MAX].iter().for_each(|&token| mask.insert(token));
            assert_eq!(mask.only(), Some(last));
            mask.insert_words(&[u32::MAX; 9]);
            assert_eq!((mask.len(), mask.iter().count()), (vocabulary, vocabulary));
            assert_eq!(mask, TokenMask::full(vocabulary));
            assert!(mask.is_full());
            assert!(mask.iter().eq(0..vocabulary as u32) && !mask.contains(last + 1));
            mask.remove(0);
            assert!(!mask.contains(0) && mask.len() == vocabulary - 1);
        }
    }

    /// Logits beyond the vocabulary belong to no token.
    #[test]
    fn what_is_not_in_it_is_impossible() {
        let logits: Vec<f32> = (0..100).map(|i| i as f32).collect();
        let mut mask = TokenMask::new(70);
        (32..64).for_each(|token| mask.insert(token));
        [1, 69, 70].iter().for_each(|&token| mask.insert(token));
        let mut kept = Vec::new();
        mask.apply(&logits, &mut kept);
        let expected = logits.iter().map(|&l| if mask.contains(l as u32) { l } else { f32::NEG_INFINITY });
        assert!(kept.len() == 100 && kept.iter().copied().eq(expected));
        assert_eq!(kept.iter().filter(|l| l.is_finite()).count(), 34);
    }
}
