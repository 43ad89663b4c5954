//! Options for how tokens are chosen.

use quipu_runtime::generate::GenerateOptions;
use quipu_runtime::sampler::{DryOptions, MirostatOptions, SamplerOptions, SamplerStep};

use crate::args::{Limit, token_limit};

/// How tokens are chosen.
#[derive(clap::Args)]
#[command(next_help_heading = "Sampling")]
pub struct SamplingArgs {
    /// 0 always takes the likeliest token; higher is wilder
    #[arg(long, default_value_t = SamplerOptions::default().temperature, value_name = "T")]
    temp: f32,
    /// Draw among the K likeliest tokens; 0: all
    #[arg(long, default_value_t = SamplerOptions::default().top_k, value_name = "K")]
    top_k: usize,
    /// Draw among the fewest tokens with this probability together; 1: all
    #[arg(long, default_value_t = SamplerOptions::default().top_p, value_name = "P")]
    top_p: f32,
    /// Draw among tokens at least P times as likely as the likeliest; 0: all
    #[arg(long, default_value_t = SamplerOptions::default().min_p, value_name = "P")]
    min_p: f32,
    /// Discourage tokens seen lately by this factor; 1: off
    #[arg(long, default_value_t = SamplerOptions::default().repeat_penalty, value_name = "X")]
    repeat_penalty: f32,
    /// Discourage tokens seen lately by this much for each time; 0: off
    #[arg(long, default_value_t = SamplerOptions::default().frequency_penalty, value_name = "X", allow_hyphen_values = true)]
    frequency_penalty: f32,
    /// Discourage tokens seen lately by this much; 0: off
    #[arg(long, default_value_t = SamplerOptions::default().presence_penalty, value_name = "X", allow_hyphen_values = true)]
    presence_penalty: f32,
    /// How many tokens "lately" means for the penalties
    #[arg(long, default_value_t = SamplerOptions::default().repeat_last_n, value_name = "N")]
    repeat_last_n: usize,
    /// The same seed gives the same text on every machine; -1: a new one each time
    #[arg(long, value_name = "N", default_value = "-1", allow_hyphen_values = true, value_parser = seed)]
    seed: Seed,
    /// End the text before this string; may be given several times
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    stop: Vec<String>,
    /// End the text before the token with this id; may be given several times
    #[arg(long, value_name = "ID")]
    stop_token: Vec<u32>,
    /// Never draw a token with which the model ends texts: write on to the limit
    #[arg(long)]
    ignore_eos: bool,
    #[command(flatten)]
    more: MoreArgs,
}

/// What is off unless it is asked for.
#[derive(clap::Args)]
#[command(next_help_heading = "More sampling (all of it off by default)")]
struct MoreArgs {
    /// Draw among the tokens whose surprise is nearest the expected, with this probability together; 1: all
    #[arg(long, alias = "typical-p", default_value_t = SamplerOptions::default().typical_p, value_name = "P")]
    typical: f32,
    /// Draw among the logits at most N standard deviations below the greatest; 0 or less: all
    #[arg(
        long, alias = "top-n-sigma", default_value_t = SamplerOptions::default().top_n_sigma, value_name = "N",
        allow_hyphen_values = true
    )]
    top_nsigma: f32,
    /// XTC: how often to leave out the top choices but the last of them; 0: never
    #[arg(long, default_value_t = SamplerOptions::default().xtc_probability, value_name = "P")]
    xtc_probability: f32,
    /// XTC: from which probability on a token is a top choice; above 0.5 there is nothing to leave out
    #[arg(long, default_value_t = SamplerOptions::default().xtc_threshold, value_name = "P")]
    xtc_threshold: f32,
    /// Let the temperature move this far either way with the entropy; 0: off
    #[arg(long, default_value_t = SamplerOptions::default().dynatemp_range, value_name = "T")]
    dynatemp_range: f32,
    /// How it moves with the entropy: this power of it
    #[arg(long, default_value_t = SamplerOptions::default().dynatemp_exponent, value_name = "X")]
    dynatemp_exp: f32,
    /// DRY: discourage going on with what stands in the text already by X · BASE^(its length − the one allowed); 0: off
    #[arg(long, default_value_t = DryOptions::default().multiplier, value_name = "X")]
    dry_multiplier: f32,
    /// DRY: how the penalty grows
    #[arg(long, default_value_t = DryOptions::default().base, value_name = "BASE")]
    dry_base: f32,
    /// DRY: the length up to which repetitions are free
    #[arg(long, default_value_t = DryOptions::default().allowed_length, value_name = "N")]
    dry_allowed_length: usize,
    /// DRY: how many of the last tokens to look at; -1: all
    #[arg(long, default_value = "64", value_name = "N", allow_hyphen_values = true, value_parser = last_n)]
    dry_penalty_last_n: usize,
    /// DRY: no repetition reaches over this text; may be given several times; `none` for none
    /// [default: line ends and : " *]
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    dry_sequence_breaker: Vec<String>,
    /// Hold the surprise of tokens near a target, by Mirostat's algorithm 1 or 2 (0: off); in the place of all that
    /// truncates
    #[arg(long, default_value_t = MirostatOptions::default().version, value_name = "N")]
    mirostat: u8,
    /// Mirostat's target, tau, in bits
    #[arg(long, default_value_t = MirostatOptions::default().tau, value_name = "N")]
    mirostat_ent: f32,
    /// Mirostat's learning rate, eta
    #[arg(long, default_value_t = MirostatOptions::default().eta, value_name = "N")]
    mirostat_lr: f32,
    /// Never write this text: where it would begin, another token is drawn; may be given several times
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    ban: Vec<String>,
    /// Think for N tokens at most (<think>), then answer; -1: as long as the model likes, 0: not at all
    #[arg(long, default_value = "-1", value_name = "N", allow_hyphen_values = true, value_parser = token_limit)]
    thinking_budget: Limit,
    /// Never write a sequence of N tokens twice; 0: off
    #[arg(long, default_value_t = SamplerOptions::default().no_repeat_ngram, value_name = "N")]
    no_repeat_ngram: usize,
    /// The steps in their order, those that are left out are not taken
    /// [default: penalties;dry;top_n_sigma;top_k;typ_p;top_p;min_p;xtc;temperature]
    #[arg(long, value_name = "A;B;…", value_parser = chain)]
    samplers: Option<Chain>,
}

impl SamplingArgs {
    /// The seed, if one is given.
    pub fn seed(&self) -> Option<u64> {
        self.seed
    }

    /// How a text is written, with a seed.
    pub fn options(&self) -> GenerateOptions {
        GenerateOptions::new(self.sampler())
            .stops(self.stop.clone())
            .stop_tokens(self.stop_token.clone())
            .ignore_end(self.ignore_eos)
            .bans(self.more.ban.clone())
            .thinking_budget(self.more.thinking_budget)
            .after_thoughts(true)
    }

    fn sampler(&self) -> SamplerOptions {
        let more = &self.more;
        let mut dry = DryOptions::default()
            .multiplier(more.dry_multiplier)
            .base(more.dry_base)
            .allowed_length(more.dry_allowed_length)
            .last_n(more.dry_penalty_last_n);
        if !more.dry_sequence_breaker.is_empty() {
            dry.breakers = more.dry_sequence_breaker.iter().filter(|text| *text != "none").cloned().collect();
        }
        let mirostat = MirostatOptions::default().version(more.mirostat).tau(more.mirostat_ent).eta(more.mirostat_lr);
        SamplerOptions::default()
            .temperature(self.temp)
            .top_k(self.top_k)
            .top_p(self.top_p)
            .min_p(self.min_p)
            .repeat_penalty(self.repeat_penalty)
            .frequency_penalty(self.frequency_penalty)
            .presence_penalty(self.presence_penalty)
            .repeat_last_n(self.repeat_last_n)
            .typical_p(more.typical)
            .top_n_sigma(more.top_nsigma)
            .xtc_probability(more.xtc_probability)
            .xtc_threshold(more.xtc_threshold)
            .dynatemp_range(more.dynatemp_range)
            .dynatemp_exponent(more.dynatemp_exp)
            .dry(dry)
            .mirostat(mirostat)
            .no_repeat_ngram(more.no_repeat_ngram)
            .steps(more.samplers.clone().unwrap_or_else(|| SamplerStep::DEFAULT.to_vec()))
            .seed(self.seed.unwrap_or_else(new_seed))
    }
}

/// A number that no one knows beforehand, short enough to be typed again and to survive in any JSON reader.
fn new_seed() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::hash::RandomState::new().build_hasher().finish() >> 32
}

/// `None` for a new one. (An alias, or clap would take the option itself for optional.)
type Seed = std::option::Option<u64>;

/// Parses a seed: a number, or -1 for a new one.
fn seed(text: &str) -> Result<Seed, String> {
    match text {
        "-1" => Ok(None),
        text => text.parse().map(Some).map_err(|_| "expected a number, or -1 for a new seed each time".into()),
    }
}

/// Parses a number of tokens to look back at: -1 for all.
fn last_n(text: &str) -> Result<usize, String> {
    match text {
        "-1" => Ok(usize::MAX),
        text => text.parse().map_err(|_| "expected a number, or -1 for all".into()),
    }
}

/// Steps. (An alias, or clap would take each for a value of its own.)
type Chain = std::vec::Vec<SamplerStep>;

fn chain(text: &str) -> Result<Chain, String> {
    SamplerStep::parse_chain(text).map_err(|error| error.to_string())
}
