//! The sampler: its steps in order, and the draw.

use std::collections::HashMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::candidates::{Buffers, Candidates};
use super::draw::draw;
use super::error::SamplerError;
use super::options::SamplerOptions;
use super::order::SamplerStep;
use super::random::Xoshiro256PlusPlus;
use super::step::Step;
use super::{
    dry, logit_bias, min_p, mirostat, no_repeat_ngram, penalties, temperature, top_k, top_n_sigma, top_p, typical, xtc,
};
use crate::constraint::TokenMask;
use crate::tokenizer::Tokenizer;

/// Chooses tokens; remembers what its steps must know of the text.
///
/// A clone is the whole state: the place in the random numbers, and what the steps have seen of the text. It goes on
/// exactly as this one would.
#[derive(Clone, Debug)]
pub struct Sampler {
    options: SamplerOptions,
    random: Xoshiro256PlusPlus,
    steps: Vec<Box<dyn Step>>,
    buffers: Buffers,
}

impl Sampler {
    /// A sampler at the start of its random sequence.
    ///
    /// # Errors
    /// [`SamplerError::Option`] when an option lies outside its range, and [`SamplerError::NoTokenizer`] when one needs
    /// the texts of tokens.
    pub fn new(options: SamplerOptions) -> Result<Sampler, SamplerError> {
        Sampler::with(options, None)
    }

    /// As [`Sampler::new`], for the tokens of this tokenizer.
    ///
    /// # Errors
    /// [`SamplerError::Option`] when an option lies outside its range.
    pub fn for_tokenizer(options: SamplerOptions, tokenizer: &Arc<Tokenizer>) -> Result<Sampler, SamplerError> {
        Sampler::with(options, Some(tokenizer))
    }

    fn with(options: SamplerOptions, tokenizer: Option<&Arc<Tokenizer>>) -> Result<Sampler, SamplerError> {
        options.check()?;
        let steps = steps(&options, tokenizer)?;
        let random = Xoshiro256PlusPlus::new(options.seed);
        Ok(Sampler { options, random, steps, buffers: Buffers::default() })
    }

    /// The options.
    pub fn options(&self) -> &SamplerOptions {
        &self.options
    }

    /// What the tokens of the text do not tell of it.
    pub fn state(&self) -> SamplerState {
        let learnt = self.steps.iter().find_map(|step| step.learnt()).map(f64::to_bits);
        SamplerState { random: self.random.clone(), learnt }
    }

    /// Goes on where another sampler was, of whose text this one has been told.
    pub fn restore(&mut self, state: &SamplerState) {
        self.random = state.random.clone();
        // A number that is none would come from a file that lies; then nothing has been learnt.
        if let Some(learnt) = state.learnt.map(f64::from_bits).filter(|learnt| learnt.is_finite()) {
            self.steps.iter_mut().for_each(|step| step.recall(learnt));
        }
    }

    /// Tells the steps of a token that now stands in the text: each one sampled, and those of the prompt too.
    pub fn accept(&mut self, token: u32) {
        self.steps.iter_mut().for_each(|step| step.accept(token));
    }

    /// The next token. `logits[id]` belongs to token `id`; -∞ excludes a token.
    ///
    /// # Errors
    /// [`SamplerError::Logit`] for NaN or +∞, [`SamplerError::NoCandidate`] when nothing is possible.
    pub fn sample(&mut self, logits: &[f32]) -> Result<u32, SamplerError> {
        check(logits)?;
        let Sampler { random, steps, buffers, .. } = self;
        choose(steps, random, Candidates::new(logits, buffers), logits.len())
    }

    /// As [`Sampler::sample`], but one of the tokens of `mask`, if there is one, and none of those excluded: what it
    /// would be if the logits of the others were −∞.
    pub(crate) fn sample_but(
        &mut self,
        logits: &[f32],
        mask: Option<&TokenMask>,
        excluded: &HashMap<u32, ()>,
    ) -> Result<u32, SamplerError> {
        check(logits)?;
        let Sampler { random, steps, buffers, .. } = self;
        let mut candidates = match mask {
            None => Candidates::new(logits, buffers),
            Some(mask) => Candidates::among(logits, mask, buffers),
        };
        if !excluded.is_empty() {
            candidates.adjust(excluded, |_, ()| f32::NEG_INFINITY);
        }
        choose(steps, random, candidates, logits.len())
    }

    /// Takes over the place in the random numbers from a later state of this sampler.
    pub(crate) fn go_on_with_random_of(&mut self, later: &Sampler) {
        self.random = later.random.clone();
    }

    /// As [`Sampler::sample`], but one of the tokens of `mask`: what it would be if the logits of the others were -∞.
    ///
    /// # Errors
    /// As [`Sampler::sample`].
    pub fn sample_among(&mut self, logits: &[f32], mask: &TokenMask) -> Result<u32, SamplerError> {
        check(logits)?;
        let Sampler { random, steps, buffers, .. } = self;
        choose(steps, random, Candidates::among(logits, mask, buffers), logits.len())
    }

    /// Takes a token beside which no other is possible, whatever the logits: the random numbers go on as if it had been
    /// sampled.
    ///
    /// # Errors
    /// [`SamplerError::NoCandidate`] when the options exclude it.
    pub fn force(&mut self, token: u32) -> Result<(), SamplerError> {
        let Sampler { random, steps, buffers, .. } = self;
        choose(steps, random, Candidates::only(token, buffers), 1).map(|_| ())
    }

    /// What the next [`Sampler::sample`] would draw from: the tokens that the steps leave, each with its probability,
    /// the likeliest first. The sampler stays as it is, its random numbers too.
    ///
    /// # Errors
    /// As [`Sampler::sample`].
    pub fn distribution(&self, logits: &[f32]) -> Result<Vec<(u32, f64)>, SamplerError> {
        check(logits)?;
        let Sampler { mut random, mut steps, mut buffers, .. } = self.clone();
        let mut candidates = Candidates::new(logits, &mut buffers);
        narrow(&mut steps, &mut candidates, &mut random);
        if candidates.is_decided() {
            let likeliest = candidates.likeliest().ok_or(SamplerError::NoCandidate { count: logits.len() })?;
            return Ok(vec![(likeliest, 1.0)]);
        }
        let softmax = candidates.softmax();
        let list = candidates.sorted();
        let total: f64 = list.iter().map(|c| softmax.weight(c)).sum();
        if list.is_empty() {
            return Err(SamplerError::NoCandidate { count: logits.len() });
        }
        Ok(list.iter().map(|c| (c.id, softmax.weight(c) / total)).collect())
    }
}

/// The part of a sampler that the tokens of its text do not tell: with it a sampler that has seen them goes on as this
/// one would.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SamplerState {
    random: Xoshiro256PlusPlus,
    /// What Mirostat has learnt: the bits of an f64, which numbers in JSON might not keep.
    learnt: Option<u64>,
}

/// The steps that change anything, in the order in which they are taken. What excludes comes first.
fn steps(options: &SamplerOptions, tokenizer: Option<&Arc<Tokenizer>>) -> Result<Vec<Box<dyn Step>>, SamplerError> {
    let mut steps = Vec::new();
    steps.extend(logit_bias::step(options));
    steps.extend(no_repeat_ngram::step(options));
    let mirostat = mirostat::step(options);
    for &step in &options.steps {
        let truncates = !matches!(step, SamplerStep::Penalties | SamplerStep::Dry | SamplerStep::Temperature);
        if truncates && mirostat.is_some() {
            continue;
        }
        steps.extend(match step {
            SamplerStep::Penalties => penalties::step(options),
            SamplerStep::Dry => dry::step(options, tokenizer)?,
            SamplerStep::TopNSigma => top_n_sigma::step(options),
            SamplerStep::TopK => top_k::step(options),
            SamplerStep::TypicalP => typical::step(options),
            SamplerStep::TopP => top_p::step(options),
            SamplerStep::MinP => min_p::step(options),
            SamplerStep::Xtc => xtc::step(options),
            SamplerStep::Temperature => temperature::step(options),
        });
    }
    steps.extend(mirostat);
    Ok(steps)
}

/// The steps, and the draw, which they hear of.
fn choose(
    steps: &mut [Box<dyn Step>],
    random: &mut Xoshiro256PlusPlus,
    mut candidates: Candidates<'_>,
    count: usize,
) -> Result<u32, SamplerError> {
    narrow(steps, &mut candidates, random);
    let drawn = draw(&mut candidates, random).ok_or(SamplerError::NoCandidate { count })?;
    steps.iter_mut().for_each(|step| step.drawn(drawn.probability));
    Ok(drawn.id)
}

/// Takes the steps, one after the other, until the token is known.
fn narrow(steps: &mut [Box<dyn Step>], candidates: &mut Candidates<'_>, random: &mut Xoshiro256PlusPlus) {
    for step in steps {
        if candidates.is_decided() {
            return;
        }
        step.apply(candidates, random);
    }
}

/// Refuses logits that are NaN or +∞.
fn check(logits: &[f32]) -> Result<(), SamplerError> {
    // Without a branch per element, so that the compiler can use vectors: there may be 128 k of them.
    if logits.iter().fold(true, |good, &l| good & is_possible(l)) {
        return Ok(());
    }
    let id = logits.iter().position(|&l| !is_possible(l)).unwrap_or(0);
    Err(SamplerError::Logit { id: id as u32, value: logits[id] })
}

/// False for +∞ and, as every comparison with it, for NaN.
fn is_possible(logit: f32) -> bool {
    logit < f32::INFINITY
}
