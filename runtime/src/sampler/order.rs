//! The steps whose order can be chosen.

use std::fmt;
use std::str::FromStr;

use super::error::SamplerError;

/// A step whose place in the chain can be chosen. The names are llama.cpp's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SamplerStep {
    /// Repetition, frequency and presence penalties.
    Penalties,
    /// DRY.
    Dry,
    /// Top-nσ.
    TopNSigma,
    /// Top-k.
    TopK,
    /// Locally typical.
    TypicalP,
    /// Top-p.
    TopP,
    /// Min-p.
    MinP,
    /// XTC.
    Xtc,
    /// Temperature, dynamic or not.
    Temperature,
}

impl SamplerStep {
    /// The order of llama.cpp's default chain.
    pub const DEFAULT: [SamplerStep; 9] = [
        SamplerStep::Penalties,
        SamplerStep::Dry,
        SamplerStep::TopNSigma,
        SamplerStep::TopK,
        SamplerStep::TypicalP,
        SamplerStep::TopP,
        SamplerStep::MinP,
        SamplerStep::Xtc,
        SamplerStep::Temperature,
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            SamplerStep::Penalties => "penalties",
            SamplerStep::Dry => "dry",
            SamplerStep::TopNSigma => "top_n_sigma",
            SamplerStep::TopK => "top_k",
            SamplerStep::TypicalP => "typ_p",
            SamplerStep::TopP => "top_p",
            SamplerStep::MinP => "min_p",
            SamplerStep::Xtc => "xtc",
            SamplerStep::Temperature => "temperature",
        }
    }

    /// Reads a chain: names between semicolons, as in llama.cpp's `--samplers`.
    ///
    /// ```
    /// use quipu_runtime::sampler::SamplerStep;
    ///
    /// assert_eq!(SamplerStep::parse_chain("top_k;temperature")?, [SamplerStep::TopK, SamplerStep::Temperature]);
    /// assert!(SamplerStep::parse_chain("top_k;warmth").is_err());
    /// # Ok::<(), quipu_runtime::sampler::SamplerError>(())
    /// ```
    ///
    /// # Errors
    /// [`SamplerError::UnknownStep`].
    pub fn parse_chain(text: &str) -> Result<Vec<SamplerStep>, SamplerError> {
        text.split(';').map(str::trim).filter(|name| !name.is_empty()).map(str::parse).collect()
    }
}

impl fmt::Display for SamplerStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for SamplerStep {
    type Err = SamplerError;

    /// By its name, or another that llama.cpp takes for it: `top-k`, `topk`, `nucleus`, `temp`, `typical_p`, or the
    /// letter of its `--sampler-seq`.
    fn from_str(name: &str) -> Result<SamplerStep, SamplerError> {
        let plain = name.to_ascii_lowercase().replace(['-', '_'], "");
        Ok(match plain.as_str() {
            "penalties" | "e" => SamplerStep::Penalties,
            "dry" | "d" => SamplerStep::Dry,
            "topnsigma" | "s" => SamplerStep::TopNSigma,
            "topk" | "k" => SamplerStep::TopK,
            "typp" | "typ" | "typicalp" | "typical" | "y" => SamplerStep::TypicalP,
            "topp" | "nucleus" | "p" => SamplerStep::TopP,
            "minp" | "m" => SamplerStep::MinP,
            "xtc" | "x" => SamplerStep::Xtc,
            "temperature" | "temp" | "t" => SamplerStep::Temperature,
            _ => return Err(SamplerError::UnknownStep(name.into())),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_has_one_name_and_takes_others() {
        for step in SamplerStep::DEFAULT {
            let name = step.name();
            for spelling in [name.to_string(), name.replace('_', "-"), name.replace('_', ""), name.to_uppercase()] {
                assert_eq!(spelling.parse(), Ok(step), "{spelling}");
            }
        }
        let letters: Vec<SamplerStep> = "edskypmxt".chars().map(|c| c.to_string().parse().unwrap()).collect();
        assert_eq!(letters, SamplerStep::DEFAULT);
        assert_eq!("infill".parse::<SamplerStep>(), Err(SamplerError::UnknownStep("infill".into())));
    }
}
