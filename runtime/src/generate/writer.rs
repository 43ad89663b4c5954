//! What writing changes, besides the tokens: the sampler, the place in the grammar, text that is held back, limits.

use std::collections::HashMap;
use std::sync::Arc;

use super::error::GenerateError;
use super::options::StopReason;
use crate::constraint::{Ahead, Next, TokenMask};
use crate::sampler::{Sampler, SamplerError, StopMatcher};
use crate::tokenizer::{TextStream, Tokenizer};

/// What writing changes, besides the tokens. A copy goes on exactly as this one would.
#[derive(Clone, Debug)]
pub(super) struct Writer {
    pub(super) sampler: Sampler,
    /// Its place in the grammar, if it has one.
    pub(super) grammar: Option<Ahead>,
    pub(super) stops: StopMatcher,
    pub(super) stream: TextStream<Arc<Tokenizer>>,
    /// Tokens that may still be written.
    pub(super) left: Option<usize>,
    pub(super) stop: Option<StopReason>,
}

/// A token that was drawn.
#[derive(Debug)]
pub(super) struct Drawn {
    /// `None` where the grammar is at its end, and no token says so.
    pub(super) id: Option<u32>,
    /// What it was drawn from, if that is wanted: tokens with the logarithms of their probabilities, the likeliest
    /// first.
    pub(super) among: Vec<(u32, f64)>,
}

impl Writer {
    /// Draws the next token, none of those that are excluded. The text does not go on yet: [`Writer::push`].
    pub(super) fn draw(
        &mut self,
        logits: &[f32],
        excluded: &HashMap<u32, ()>,
        tell: bool,
    ) -> Result<Drawn, GenerateError> {
        let mut among = Vec::new();
        let Writer { sampler, grammar, .. } = self;
        let mut draw = |sampler: &mut Sampler, mask: Option<&TokenMask>| -> Result<u32, SamplerError> {
            if tell {
                among = distribution(sampler, logits, mask, excluded)?;
            }
            sampler.sample_but(logits, mask, excluded)
        };
        let id = match grammar {
            None => draw(sampler, None).map(Some).map_err(GenerateError::from),
            Some(grammar) => grammar.choose(|next| match next {
                Next::Forced(token) if excluded.contains_key(&token) => Err(GenerateError::OnlyBanned),
                Next::Forced(token) => Ok(sampler.force(token).map(|()| Some(token))?),
                Next::Any => Ok(draw(sampler, None).map(Some)?),
                Next::Among(mask) => Ok(draw(sampler, Some(mask)).map(Some)?),
                Next::End => Ok(None),
            }),
        };
        let id = id.map_err(|error| match error {
            GenerateError::Sampler(SamplerError::NoCandidate { .. }) if !excluded.is_empty() => {
                GenerateError::OnlyBanned
            }
            error => error,
        })?;
        if tell && among.is_empty() {
            // Nothing else could be drawn.
            among.extend(id.map(|id| (id, 0.0)));
        }
        Ok(Drawn { id, among })
    }

    /// Draws the next token without logits, if the grammar lets no other come next.
    pub(super) fn draw_forced(&mut self) -> Option<u32> {
        let token = self.grammar.as_ref()?.forced()?;
        self.sampler.force(token).ok().map(|()| token)
    }

    /// The text goes on with a token that was drawn, one that does not end it. Returns the text that becomes certain.
    pub(super) fn push(&mut self, id: u32) -> Result<String, GenerateError> {
        if let Some(grammar) = &self.grammar {
            grammar.advance(id)?;
        }
        self.sampler.accept(id);
        let (text, stopped) = self.stops.push(&self.stream.push(id));
        self.left = self.left.map(|n| n.saturating_sub(1));
        if stopped {
            self.stop = Some(StopReason::StopString);
        } else if self.left == Some(0) {
            self.stop = Some(StopReason::Limit);
        }
        Ok(text)
    }
}

/// What the next token is drawn from, with the logarithms of its probabilities, the likeliest first; none is there that
/// could not be drawn.
fn distribution(
    sampler: &Sampler,
    logits: &[f32],
    mask: Option<&TokenMask>,
    excluded: &HashMap<u32, ()>,
) -> Result<Vec<(u32, f64)>, SamplerError> {
    let may_be_drawn = |id: &u32| mask.is_none_or(|mask| mask.contains(*id)) && !excluded.contains_key(id);
    let among = |(&logit, id)| if may_be_drawn(&id) { logit } else { f32::NEG_INFINITY };
    let all = sampler.distribution(&logits.iter().zip(0..).map(among).collect::<Vec<f32>>())?;
    Ok(all.into_iter().filter(|&(_, p)| p > 0.0).map(|(id, p)| (id, libm::log(p))).collect())
}
