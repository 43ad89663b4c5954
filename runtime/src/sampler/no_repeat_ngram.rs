//! No n-gram twice (Paulus, Xiong and Socher, "A Deep Reinforced Model for Abstractive Summarization", 2017, for
//! trigrams; `no_repeat_ngram_size` of Hugging Face's transformers).

use std::collections::HashMap;

use super::candidates::Candidates;
use super::options::SamplerOptions;
use super::random::Xoshiro256PlusPlus;
use super::step::Step;

/// Leaves out each token that would end an n-gram which stands in the text, prompt and all. If that were every token,
/// it leaves out none.
#[derive(Clone, Debug)]
struct NoRepeatNgram {
    n: usize,
    text: Vec<u32>,
    /// The tokens to be left out: memory that serves every token.
    excluded: HashMap<u32, ()>,
}

/// The step, if it changes anything.
pub(super) fn step(options: &SamplerOptions) -> Option<Box<dyn Step>> {
    let n = options.no_repeat_ngram;
    let (text, excluded) = Default::default();
    (n > 0).then(|| Box::new(NoRepeatNgram { n, text, excluded }) as Box<dyn Step>)
}

impl Step for NoRepeatNgram {
    fn accept(&mut self, token: u32) {
        self.text.push(token);
    }

    fn apply(&mut self, candidates: &mut Candidates<'_>, _: &mut Xoshiro256PlusPlus) {
        let Some(start) = self.text.len().checked_sub(self.n - 1) else { return };
        let begun = &self.text[start..];
        self.excluded.clear();
        // The windows of n tokens; what has begun is one token shorter and ends the text, so it is in none of them.
        for ngram in self.text.windows(self.n) {
            if let Some((last, before)) = ngram.split_last()
                && before == begun
            {
                self.excluded.insert(*last, ());
            }
        }
        if !self.excluded.is_empty() {
            candidates.exclude(&self.excluded);
        }
    }

    fn copy(&self) -> Box<dyn Step> {
        Box::new(self.clone())
    }
}
