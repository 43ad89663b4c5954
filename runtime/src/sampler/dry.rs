//! DRY, "don't repeat yourself" (Philipp Emanuel Weidmann, 2024, text-generation-webui's pull request 5677).

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::breakers::Breakers;
use super::candidates::Candidates;
use super::error::SamplerError;
use super::options::SamplerOptions;
use super::random::Xoshiro256PlusPlus;
use super::step::Step;
use crate::tokenizer::Tokenizer;

/// Takes `multiplier · base^(n − allowed)` from the logit of each token that would continue a repetition: the last `n ≥
/// allowed` tokens stand in the text before, followed by that token. The longest repetition counts. None reaches over a
/// sequence breaker, and tokens that have one in them are never penalised.
#[derive(Clone, Debug)]
struct Dry {
    multiplier: f64,
    base: f64,
    allowed: usize,
    last_n: usize,
    breakers: Option<Arc<Breakers>>,
    /// The last `last_n` tokens.
    recent: VecDeque<u32>,
    /// For each token the length of the longest repetition that it would continue, and how much of `recent` begins
    /// there as it begins itself: memory that serves every token.
    repetitions: HashMap<u32, usize>,
    matches: Vec<usize>,
}

/// The step, if it changes anything.
pub(super) fn step(
    options: &SamplerOptions,
    tokenizer: Option<&Arc<Tokenizer>>,
) -> Result<Option<Box<dyn Step>>, SamplerError> {
    let dry = &options.dry;
    if dry.is_off() {
        return Ok(None);
    }
    let breakers = match (dry.breakers.iter().any(|text| !text.is_empty()), tokenizer) {
        (false, _) => None,
        (true, Some(tokenizer)) => Some(Arc::new(Breakers::new(tokenizer.clone(), &dry.breakers))),
        (true, None) => return Err(SamplerError::NoTokenizer),
    };
    Ok(Some(Box::new(Dry {
        multiplier: dry.multiplier.into(),
        base: dry.base.into(),
        allowed: dry.allowed_length,
        last_n: dry.last_n,
        breakers,
        recent: VecDeque::new(),
        repetitions: HashMap::new(),
        matches: Vec::new(),
    })))
}

impl Step for Dry {
    fn accept(&mut self, token: u32) {
        if self.recent.len() == self.last_n {
            self.recent.pop_front();
        }
        self.recent.push_back(token);
    }

    fn apply(&mut self, candidates: &mut Candidates<'_>, _: &mut Xoshiro256PlusPlus) {
        let recent = &*self.recent.make_contiguous();
        let breakers = self.breakers.as_deref();
        let longest = breakers.map_or(recent.len(), |breakers| breakers.tokens_since(recent));
        if recent.len() <= self.allowed || longest < self.allowed {
            return;
        }
        self.repetitions.clear();
        common_endings(recent, &mut self.matches);
        for (&token, &matched) in recent.iter().skip(1).zip(&self.matches) {
            let length = matched.min(longest);
            if length >= self.allowed {
                let known = self.repetitions.entry(token).or_insert(length);
                *known = length.max(*known);
            }
        }
        if let Some(breakers) = breakers {
            self.repetitions.retain(|&token, _| !breakers.are_in(token));
        }
        if self.repetitions.is_empty() {
            return;
        }
        let temperature = candidates.temperature();
        candidates.adjust(&self.repetitions, |logit, length| {
            let penalty = self.multiplier * libm::pow(self.base, (length - self.allowed) as f64) * temperature;
            let penalised = (f64::from(logit) - penalty) as f32;
            // However long, a repetition excludes no token altogether.
            if logit > f32::NEG_INFINITY { penalised.max(f32::MIN) } else { logit }
        });
    }

    fn copy(&self) -> Box<dyn Step> {
        Box::new(self.clone())
    }
}

/// For each place but the last: how many tokens up to and including it are the same as the last ones of the text.
///
/// It is the Z-algorithm (Gusfield, Algorithms on Strings, Trees and Sequences, 1997, section 1.4) on the reversed
/// text, linear in its length.
fn common_endings(text: &[u32], matches: &mut Vec<usize>) {
    let n = text.len();
    matches.clear();
    matches.resize(n, n);
    let at = |i: usize| text[n - 1 - i];
    // From `start` to `end`, seen from the back, the text is the same as from the back on.
    let (mut start, mut end) = (0, 0);
    for i in 1..n {
        let mut same = if i < end { matches[n - 1 - (i - start)].min(end - i) } else { 0 };
        while i + same < n && at(same) == at(i + same) {
            same += 1;
        }
        matches[n - 1 - i] = same;
        if i + same > end {
            (start, end) = (i, i + same);
        }
    }
    matches.pop();
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn endings_are_those_that_a_plain_search_finds(text in prop::collection::vec(0u32..3, 1..40)) {
            let mut found = Vec::new();
            common_endings(&text, &mut found);
            let same = |i: usize| (0..=i).take_while(|k| text[i - k] == text[text.len() - 1 - k]).count();
            let expected: Vec<usize> = (0..text.len() - 1).map(same).collect();
            prop_assert_eq!(found, expected);
        }
    }
}
