//! How tokens are chosen.

use std::ops::RangeInclusive;

use super::error::SamplerError;
use super::order::SamplerStep;
use crate::setters::setters;

/// How a token is chosen. [`Default`] is llama.cpp's: a moderately creative setting, with everything that is not said
/// to be on below off.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct SamplerOptions {
    /// Divides the logits before the draw. 0 takes the likeliest token and draws nothing.
    pub temperature: f32,
    /// How far the temperature moves either way with the entropy of the candidates; 0 leaves it fixed.
    pub dynatemp_range: f32,
    /// How the temperature follows the entropy: a power of its share of the greatest possible.
    pub dynatemp_exponent: f32,
    /// Keeps the `top_k` likeliest tokens; 0 keeps all.
    pub top_k: usize,
    /// Keeps the fewest likeliest tokens that together have at least this probability; 1 keeps all.
    pub top_p: f32,
    /// Keeps tokens at least `min_p` times as likely as the likeliest; 0 keeps all.
    pub min_p: f32,
    /// Keeps the fewest tokens whose surprise is nearest the expected one and that together have at least this
    /// probability; 1 keeps all.
    pub typical_p: f32,
    /// Keeps logits at most this many standard deviations below the greatest; 0 or less keeps all.
    pub top_n_sigma: f32,
    /// How often XTC leaves out the top choices: a probability; 0 is never.
    pub xtc_probability: f32,
    /// From which probability on a token is a top choice to XTC; above ½ none is left out.
    pub xtc_threshold: f32,
    /// Divides positive and multiplies other logits of tokens seen lately (Keskar et al., CTRL, 2019); 1 changes
    /// nothing.
    pub repeat_penalty: f32,
    /// Taken from the logit of a token once for each time it was seen lately; 0 changes nothing.
    pub frequency_penalty: f32,
    /// Taken from the logit of a token that was seen lately at all; 0 changes nothing.
    pub presence_penalty: f32,
    /// How many of the last tokens the penalties look at; 0 turns them off.
    pub repeat_last_n: usize,
    /// A penalty for going on with what stands in the text already.
    pub dry: DryOptions,
    /// Leaves out tokens that would end an n-gram of this many tokens which stands in the text already; 0 leaves out
    /// none.
    pub no_repeat_ngram: usize,
    /// Holds the surprise of tokens near a target. It takes the place of all that truncates.
    pub mirostat: MirostatOptions,
    /// The steps in their order, each at most once; those that are not named are not taken. Before them come
    /// `logit_bias` and `no_repeat_ngram`. With `mirostat`, only penalties, DRY and temperature are taken of them.
    pub steps: Vec<SamplerStep>,
    /// Added to the logits of these tokens before all else, a number each; −∞ excludes a token.
    pub logit_bias: Vec<(u32, f32)>,
    /// The seed of the random numbers.
    pub seed: u64,
}

impl Default for SamplerOptions {
    fn default() -> Self {
        SamplerOptions {
            temperature: 0.8,
            dynatemp_range: 0.0,
            dynatemp_exponent: 1.0,
            top_k: 40,
            top_p: 0.95,
            min_p: 0.05,
            typical_p: 1.0,
            top_n_sigma: -1.0,
            xtc_probability: 0.0,
            xtc_threshold: 0.1,
            repeat_penalty: 1.0,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            repeat_last_n: 64,
            dry: DryOptions::default(),
            no_repeat_ngram: 0,
            mirostat: MirostatOptions::default(),
            steps: SamplerStep::DEFAULT.to_vec(),
            logit_bias: Vec::new(),
            seed: 0,
        }
    }
}

setters!(SamplerOptions {
    temperature: f32,
    dynatemp_range: f32,
    dynatemp_exponent: f32,
    top_k: usize,
    top_p: f32,
    min_p: f32,
    typical_p: f32,
    top_n_sigma: f32,
    xtc_probability: f32,
    xtc_threshold: f32,
    repeat_penalty: f32,
    frequency_penalty: f32,
    presence_penalty: f32,
    repeat_last_n: usize,
    dry: DryOptions,
    no_repeat_ngram: usize,
    mirostat: MirostatOptions,
    steps: impl Into<Vec<SamplerStep>>,
    logit_bias: Vec<(u32, f32)>,
    seed: u64,
});

/// DRY's penalty: `multiplier · base^(n − allowed_length)` for a token that would continue a repetition of `n ≥
/// allowed_length` tokens.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct DryOptions {
    /// 0 turns it off.
    pub multiplier: f32,
    /// How fast the penalty grows with the repetition.
    pub base: f32,
    /// The length up to which repetitions are free.
    pub allowed_length: usize,
    /// How many of the last tokens are looked at; 0 turns it off.
    pub last_n: usize,
    /// Texts over which no repetition reaches. They need a tokenizer ([`Sampler::for_tokenizer`](super::Sampler)).
    pub breakers: Vec<String>,
}

impl Default for DryOptions {
    fn default() -> Self {
        let breakers = ["\n", ":", "\"", "*"].map(str::to_string).into();
        DryOptions { multiplier: 0.0, base: 1.75, allowed_length: 2, last_n: 64, breakers }
    }
}

setters!(DryOptions {
    multiplier: f32,
    base: f32,
    allowed_length: usize,
    last_n: usize,
    breakers: impl Into<Vec<String>>,
});

impl DryOptions {
    pub(super) fn is_off(&self) -> bool {
        self.multiplier == 0.0 || self.last_n == 0
    }
}

/// Mirostat.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct MirostatOptions {
    /// Which of its two algorithms; 0 turns it off.
    pub version: u8,
    /// The surprise to aim at, in bits.
    pub tau: f32,
    /// How fast it learns.
    pub eta: f32,
}

impl Default for MirostatOptions {
    fn default() -> Self {
        MirostatOptions { version: 0, tau: 5.0, eta: 0.1 }
    }
}

setters!(MirostatOptions { version: u8, tau: f32, eta: f32 });

impl MirostatOptions {
    pub(super) fn is_off(&self) -> bool {
        self.version == 0
    }
}

impl SamplerOptions {
    /// Always the likeliest token.
    pub fn greedy() -> Self {
        SamplerOptions { temperature: 0.0, ..SamplerOptions::default() }
    }

    /// Refuses options outside their ranges, those too that are turned off.
    ///
    /// # Errors
    /// [`SamplerError::Option`], [`SamplerError::RepeatedStep`].
    pub fn check(&self) -> Result<(), SamplerError> {
        let (positive, any) = (0.0..=f32::MAX, f32::MIN..=f32::MAX);
        check("temperature", self.temperature, &positive, "0 (greedy) or more")?;
        check("dynatemp_range", self.dynatemp_range, &positive, "0 (off) or more")?;
        check("dynatemp_exponent", self.dynatemp_exponent, &positive, "0 or more")?;
        for (name, share) in [
            ("top_p", self.top_p),
            ("min_p", self.min_p),
            ("typical_p", self.typical_p),
            ("xtc_probability", self.xtc_probability),
            ("xtc_threshold", self.xtc_threshold),
        ] {
            check(name, share, &(0.0..=1.0), "from 0 to 1")?;
        }
        check("top_n_sigma", self.top_n_sigma, &any, "a number; 0 or less is off")?;
        check("repeat_penalty", self.repeat_penalty, &(f32::MIN_POSITIVE..=f32::MAX), "above 0")?;
        check("frequency_penalty", self.frequency_penalty, &any, "a finite number")?;
        check("presence_penalty", self.presence_penalty, &any, "a finite number")?;
        check("dry_multiplier", self.dry.multiplier, &positive, "0 (off) or more")?;
        check("dry_base", self.dry.base, &(1.0..=f32::MAX), "1 or more")?;
        check("mirostat", self.mirostat.version.into(), &(0.0..=2.0), "0 (off), 1 or 2")?;
        check("mirostat_tau", self.mirostat.tau, &positive, "0 or more")?;
        check("mirostat_eta", self.mirostat.eta, &positive, "0 or more")?;
        for &(_, bias) in &self.logit_bias {
            check("logit_bias", bias, &(f32::NEG_INFINITY..=f32::MAX), "a finite number or -∞")?;
        }
        let twice = |i: &usize| self.steps[..*i].contains(&self.steps[*i]);
        (0..self.steps.len()).find(twice).map_or(Ok(()), |i| Err(SamplerError::RepeatedStep(self.steps[i].name())))
    }

    /// Whether the likeliest token is taken, and nothing on the way can leave it out.
    pub(super) fn takes_likeliest(&self) -> bool {
        let takes = |step| self.steps.contains(&step);
        self.temperature == 0.0
            && self.dynatemp_range == 0.0
            && takes(SamplerStep::Temperature)
            && (self.typical_p == 1.0 || !takes(SamplerStep::TypicalP))
            && (self.is_xtc_off() || !takes(SamplerStep::Xtc))
    }

    /// Whether XTC leaves out nothing: above ½ no two tokens can reach the threshold.
    pub(super) fn is_xtc_off(&self) -> bool {
        self.xtc_probability == 0.0 || self.xtc_threshold > 0.5
    }
}

/// Refuses the value of an option that lies outside its range, which `expected` puts into words.
fn check(
    option: &'static str,
    value: f32,
    range: &RangeInclusive<f32>,
    expected: &'static str,
) -> Result<(), SamplerError> {
    if range.contains(&value) { Ok(()) } else { Err(SamplerError::Option { option, value, expected }) }
}
