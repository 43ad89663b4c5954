//! The sampler: its steps in order, and the draw.

use super::candidates::{Buffers, Candidates};
use super::draw::Draw;
use super::error::SamplerError;
use super::options::SamplerOptions;
use super::random::Xoshiro256PlusPlus;
use super::step::Step;
use super::{logit_bias, min_p, penalties, top_k, top_p};
use crate::constraint::TokenMask;

/// Makes a step from the options: none if they leave it nothing to do.
type MakeStep = fn(&SamplerOptions) -> Result<Option<Box<dyn Step>>, SamplerError>;

/// All steps before the draw, in the order in which they are taken: llama.cpp's.
const CHAIN: &[MakeStep] = &[logit_bias::step, penalties::step, top_k::step, top_p::step, min_p::step];

/// Chooses tokens; remembers what its steps must know of the text.
///
/// A clone is the whole state: the place in the random numbers, and what the penalties have seen. It goes on exactly as
/// this one would.
#[derive(Clone, Debug)]
pub struct Sampler {
    options: SamplerOptions,
    random: Xoshiro256PlusPlus,
    steps: Vec<Box<dyn Step>>,
    draw: Draw,
    buffers: Buffers,
}

impl Sampler {
    /// A sampler at the start of its random sequence.
    ///
    /// # Errors
    /// [`SamplerError::Option`] when an option lies outside its range.
    pub fn new(options: SamplerOptions) -> Result<Sampler, SamplerError> {
        let draw = Draw::new(&options)?;
        let steps = CHAIN.iter().filter_map(|step| step(&options).transpose()).collect::<Result<_, _>>()?;
        let random = Xoshiro256PlusPlus::new(options.seed);
        Ok(Sampler { options, random, steps, draw, buffers: Buffers::default() })
    }

    /// The options.
    pub fn options(&self) -> &SamplerOptions {
        &self.options
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
        check_logits(logits)?;
        let Sampler { random, steps, draw, buffers, .. } = self;
        choose(steps, draw, random, Candidates::new(logits, buffers), logits.len())
    }

    /// As [`Sampler::sample`], but one of the tokens of `mask`: what it would be if the logits of the others were -∞.
    ///
    /// # Errors
    /// As [`Sampler::sample`].
    pub fn sample_among(&mut self, logits: &[f32], mask: &TokenMask) -> Result<u32, SamplerError> {
        check_logits(logits)?;
        let Sampler { random, steps, draw, buffers, .. } = self;
        choose(steps, draw, random, Candidates::among(logits, mask, buffers), logits.len())
    }

    /// Takes a token beside which no other is possible, whatever the logits: the random numbers go on as if it had been
    /// sampled.
    ///
    /// # Errors
    /// [`SamplerError::NoCandidate`] when the options exclude it.
    pub fn force(&mut self, token: u32) -> Result<(), SamplerError> {
        let Sampler { random, steps, draw, buffers, .. } = self;
        choose(steps, draw, random, Candidates::only(token, buffers), 1).map(|_| ())
    }
}

/// The steps, and the draw.
fn choose(
    steps: &mut [Box<dyn Step>],
    draw: &Draw,
    random: &mut Xoshiro256PlusPlus,
    mut candidates: Candidates<'_>,
    count: usize,
) -> Result<u32, SamplerError> {
    for step in steps {
        step.apply(&mut candidates, random);
    }
    draw.draw(&mut candidates, random).ok_or(SamplerError::NoCandidate { count })
}

/// Refuses logits that are NaN or +∞.
fn check_logits(logits: &[f32]) -> Result<(), SamplerError> {
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
