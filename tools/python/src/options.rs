//! Keyword arguments: each is taken by its name, and what nobody takes is refused.

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use quipu_constrain::Shape;
use quipu_runtime::generate::GenerateOptions;
use quipu_runtime::sampler::{DryOptions, MirostatOptions, SamplerOptions, SamplerStep};

use crate::failure::failure;

/// Keyword arguments that have not been taken yet.
pub struct Given<'py>(Bound<'py, PyDict>);

impl<'py> Given<'py> {
    /// Those of `options`, which stays as it is.
    ///
    /// # Errors
    /// When there is no memory.
    pub fn new(options: &Bound<'py, PyDict>) -> PyResult<Given<'py>> {
        options.copy().map(Given)
    }

    /// Takes the argument `name`, if it is there and not None; `expected` says what it has to be.
    ///
    /// # Errors
    /// When it is something else.
    pub fn take<T: for<'a> FromPyObject<'a, 'py>>(&self, name: &str, expected: &str) -> PyResult<Option<T>> {
        let Some(value) = self.0.get_item(name)? else { return Ok(None) };
        self.0.del_item(name)?;
        if value.is_none() {
            return Ok(None);
        }
        let wrong = |_| {
            let kind = value.get_type().name().map_or_else(|_| "something else".into(), |name| name.to_string());
            PyTypeError::new_err(format!("{name} must be {expected}, not {kind}"))
        };
        value.extract::<T>().map_err(|error| wrong(error.into())).map(Some)
    }

    /// A number of tokens; −1 is no limit, and so is None, which [`Limit::Given`] tells apart from a missing argument.
    fn limit(&self, name: &str) -> PyResult<Limit> {
        if !self.0.contains(name)? {
            return Ok(Limit::Missing);
        }
        let number = self.take::<i64>(name, "a whole number, or None for no limit")?.unwrap_or(-1);
        match usize::try_from(number) {
            Ok(number) => Ok(Limit::Given(Some(number))),
            Err(_) if number == -1 => Ok(Limit::Given(None)),
            Err(_) => {
                Err(PyTypeError::new_err(format!("{name} must be a whole number, or -1 for no limit, not {number}")))
            }
        }
    }

    /// Texts: one, or a list.
    fn texts(&self, name: &str) -> PyResult<Vec<String>> {
        Ok(match self.take::<OneOrMany<String>>(name, "a text or a list of texts")? {
            None => Vec::new(),
            Some(OneOrMany::One(text)) => vec![text],
            Some(OneOrMany::Many(texts)) => texts,
        })
    }

    /// All arguments have been taken.
    ///
    /// # Errors
    /// When one has not.
    pub fn finish(self) -> PyResult<()> {
        match self.0.keys().iter().next() {
            Some(name) => {
                Err(PyTypeError::new_err(format!("there is no option {name}; help(quipu.Options) tells them all")))
            }
            None => Ok(()),
        }
    }
}

/// A value, or several.
#[derive(FromPyObject)]
enum OneOrMany<T> {
    One(T),
    Many(Vec<T>),
}

/// A limit on tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Nobody has said anything.
    Missing,
    /// This one, or none.
    Given(Option<usize>),
}

/// How texts are written, as far as it is the same for all prompts.
pub struct Writing {
    /// All but the seed and the grammar.
    pub options: GenerateOptions,
    /// The most tokens.
    pub limit: Limit,
    /// A seed for each prompt, one for all, or none for new ones.
    seeds: Option<OneOrMany<i64>>,
    /// What the answers are to be.
    pub shape: Option<(Shape, &'static str)>,
    /// Whether special tokens that are written in a prompt are plain text.
    pub plain: bool,
}

impl Writing {
    /// Takes what belongs to it.
    ///
    /// # Errors
    /// When an option is none, or not what it has to be.
    pub fn take(given: &Given<'_>) -> PyResult<Writing> {
        let mut options = GenerateOptions::new(sampler(given)?)
            .stops(given.texts("stop")?)
            .bans(given.texts("ban")?)
            .after_thoughts(true);
        if let Some(ends) = given.take::<OneOrMany<u32>>("stop_token", "a token's id or a list of them")? {
            options.stop_tokens = match ends {
                OneOrMany::One(id) => vec![id],
                OneOrMany::Many(ids) => ids,
            };
        }
        let flag = |name| Ok::<_, PyErr>(given.take::<bool>(name, "True or False")?.unwrap_or(false));
        options.ignore_end = flag("ignore_eos")?;
        options.logprobs = flag("logprobs")?;
        options.prompt_logprobs = flag("prompt_logprobs")?;
        options.top_logprobs = given.take("top", "a whole number")?.unwrap_or(0);
        if let Limit::Given(budget) = given.limit("thinking_budget")? {
            options.thinking_budget = budget;
        }
        Ok(Writing {
            options,
            limit: given.limit("max_tokens")?,
            seeds: given.take("seed", "a whole number, or a list with one for each prompt")?,
            shape: shape(given)?,
            plain: flag("plain")?,
        })
    }

    /// The seeds of so many prompts.
    ///
    /// # Errors
    /// When there are others than prompts.
    pub fn seeds(&self, prompts: usize) -> PyResult<Vec<u64>> {
        let seed = |seed: i64| if seed == -1 { new_seed() } else { seed as u64 };
        match &self.seeds {
            None => Ok((0..prompts).map(|_| new_seed()).collect()),
            Some(OneOrMany::One(one)) => Ok((0..prompts).map(|_| seed(*one)).collect()),
            Some(OneOrMany::Many(seeds)) if seeds.len() == prompts => Ok(seeds.iter().map(|&one| seed(one)).collect()),
            Some(OneOrMany::Many(seeds)) => {
                Err(PyTypeError::new_err(format!("there are {} seeds for {prompts} prompts", seeds.len())))
            }
        }
    }
}

/// A number that no one knows beforehand, short enough to be typed again and to survive in any JSON reader.
fn new_seed() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::hash::RandomState::new().build_hasher().finish() >> 32
}

fn shape(given: &Given<'_>) -> PyResult<Option<(Shape, &'static str)>> {
    let text = |name| given.take::<String>(name, "a text");
    let mut found = Vec::new();
    if let Some(schema) = text("schema")? {
        found.push((Shape::schema(&schema).map_err(failure)?, "schema"));
    }
    found.extend(text("grammar")?.map(|grammar| (Shape::grammar(&grammar), "grammar")));
    found.extend(text("regex")?.map(|regex| (Shape::Regex(regex), "regex")));
    if let Some(choices) = given.take::<Vec<String>>("choices", "a list of texts")? {
        found.push((Shape::Choice(choices), "choices"));
    }
    if let [(_, first), (_, second), ..] = &found[..] {
        return Err(PyTypeError::new_err(format!("{first} and {second} cannot be asked for together")));
    }
    Ok(found.pop())
}

fn sampler(given: &Given<'_>) -> PyResult<SamplerOptions> {
    let mut options = SamplerOptions::default();
    let number = |name, value: &mut f32| {
        given.take::<f32>(name, "a number").map(|found| found.into_iter().for_each(|found| *value = found))
    };
    let count = |name, value: &mut usize| {
        given.take::<usize>(name, "a whole number, 0 or more").map(|found| found.into_iter().for_each(|n| *value = n))
    };
    number("temp", &mut options.temperature)?;
    count("top_k", &mut options.top_k)?;
    number("top_p", &mut options.top_p)?;
    number("min_p", &mut options.min_p)?;
    number("repeat_penalty", &mut options.repeat_penalty)?;
    number("frequency_penalty", &mut options.frequency_penalty)?;
    number("presence_penalty", &mut options.presence_penalty)?;
    count("repeat_last_n", &mut options.repeat_last_n)?;
    number("typical", &mut options.typical_p)?;
    number("top_nsigma", &mut options.top_n_sigma)?;
    number("xtc_probability", &mut options.xtc_probability)?;
    number("xtc_threshold", &mut options.xtc_threshold)?;
    number("dynatemp_range", &mut options.dynatemp_range)?;
    number("dynatemp_exp", &mut options.dynatemp_exponent)?;
    count("no_repeat_ngram", &mut options.no_repeat_ngram)?;
    options.dry = dry(given, options.dry)?;
    let MirostatOptions { version, tau, eta, .. } = &mut options.mirostat;
    *version = given.take("mirostat", "0, 1 or 2")?.unwrap_or(*version);
    number("mirostat_ent", tau)?;
    number("mirostat_lr", eta)?;
    if let Some(chain) = given.take::<OneOrMany<String>>("samplers", "a text or a list of names")? {
        let chain = match chain {
            OneOrMany::One(text) => text,
            OneOrMany::Many(names) => names.join(";"),
        };
        options.steps = SamplerStep::parse_chain(&chain).map_err(failure)?;
    }
    if let Some(biases) =
        given.take::<std::collections::BTreeMap<u32, f32>>("logit_bias", "a dict from ids to numbers")?
    {
        options.logit_bias = biases.into_iter().collect();
    }
    options.check().map_err(failure)?;
    Ok(options)
}

fn dry(given: &Given<'_>, defaults: DryOptions) -> PyResult<DryOptions> {
    let number = |name, default| Ok::<f32, PyErr>(given.take(name, "a number")?.unwrap_or(default));
    let mut dry = defaults;
    dry.multiplier = number("dry_multiplier", dry.multiplier)?;
    dry.base = number("dry_base", dry.base)?;
    dry.allowed_length = given.take("dry_allowed_length", "a whole number, 0 or more")?.unwrap_or(dry.allowed_length);
    if let Limit::Given(last) = given.limit("dry_penalty_last_n")? {
        dry.last_n = last.unwrap_or(usize::MAX);
    }
    let breakers = given.texts("dry_sequence_breaker")?;
    if !breakers.is_empty() {
        dry.breakers = breakers.into_iter().filter(|text| text != "none").collect();
    }
    Ok(dry)
}
