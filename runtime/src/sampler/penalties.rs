//! Penalties for tokens that stand in the text already: repetition, frequency, presence.

use std::collections::{HashMap, VecDeque};

use super::candidates::Candidates;
use super::options::SamplerOptions;
use super::random::Xoshiro256PlusPlus;
use super::step::Step;

/// As ggml's `llama_sampler_penalties`: `l ← l > 0 ? l / repeat : l · repeat`, then `l ← l − (count · frequency +
/// presence)`.
#[derive(Clone, Debug)]
struct Penalties {
    repeat: f32,
    frequency: f32,
    presence: f32,
    last_n: usize,
    /// The last `last_n` tokens.
    recent: VecDeque<u32>,
    /// How often each token stands in `recent`.
    counts: HashMap<u32, u32>,
}

/// The step, if it changes anything.
pub(super) fn step(options: &SamplerOptions) -> Option<Box<dyn Step>> {
    let (repeat, frequency, presence) = (options.repeat_penalty, options.frequency_penalty, options.presence_penalty);
    let last_n = options.repeat_last_n;
    if last_n == 0 || (repeat == 1.0 && frequency == 0.0 && presence == 0.0) {
        return None;
    }
    let (recent, counts) = (VecDeque::new(), HashMap::new());
    Some(Box::new(Penalties { repeat, frequency, presence, last_n, recent, counts }))
}

impl Step for Penalties {
    fn accept(&mut self, token: u32) {
        self.recent.push_back(token);
        *self.counts.entry(token).or_insert(0) += 1;
        if self.recent.len() > self.last_n
            && let Some(old) = self.recent.pop_front()
            && let Some(count) = self.counts.get_mut(&old)
        {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&old);
            }
        }
    }

    fn apply(&mut self, candidates: &mut Candidates<'_>, _: &mut Xoshiro256PlusPlus) {
        if self.counts.is_empty() {
            return;
        }
        // Where the logits are to be divided by a temperature, what is taken from them must not be.
        let temperature = candidates.temperature() as f32;
        candidates.adjust(&self.counts, |logit, count| {
            let scaled = if logit > 0.0 { logit / self.repeat } else { logit * self.repeat };
            let penalised = scaled - (count as f32 * self.frequency + self.presence) * temperature;
            // At the edge of f32's range: a NaN or +∞ of our own making must not enter the sort, and however large a
            // penalty is, it excludes no token altogether.
            match (logit, penalised) {
                (f32::NEG_INFINITY, _) => logit,
                (_, nan) if nan.is_nan() => f32::MIN,
                _ => penalised.clamp(f32::MIN, f32::MAX),
            }
        });
    }

    fn copy(&self) -> Box<dyn Step> {
        Box::new(self.clone())
    }
}
