//! Options that several subcommands share.

use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, ensure};
use quipu_formats::output::Inputs;
use quipu_runtime::generate::Scheduler;
use quipu_runtime::host::cores::Cores;
use quipu_runtime::{Isa, KvType, Residence, TuningChoice};

use crate::kv::KvArgs;
use crate::usage::Usage;
use crate::{out, talk};

/// Which instruction set.
#[derive(Clone, clap::Args)]
pub struct IsaArgs {
    /// Instruction set of the kernels; QUIPU_ISA does the same [default: the best that this CPU has]
    #[arg(long, value_name = "NAME")]
    isa: Option<String>,
}

impl IsaArgs {
    /// The instruction set asked for by `--isa` or QUIPU_ISA, and by which of them.
    pub fn asked_for(&self) -> Result<Option<(Isa, &'static str)>> {
        let variable = std::env::var("QUIPU_ISA").ok().filter(|name| !name.is_empty());
        let (name, origin) = match (&self.isa, &variable) {
            (Some(name), _) => (name, "--isa"),
            (None, Some(name)) => (name, "QUIPU_ISA"),
            (None, None) => return Ok(None),
        };
        let isa = name.to_ascii_lowercase().parse::<Isa>();
        Ok(Some((isa.map_err(|error| anyhow!("{origin}: {error}"))?, origin)))
    }
}

/// How kernels are tuned to this machine.
#[derive(Clone, clap::Args)]
pub struct TuningArgs {
    /// Settings of the kernels instead of what Quipu measures on this machine and keeps: NAME=NUMBER,… (see `quipu
    /// doctor`); QUIPU_TUNING does the same, which can be `off`, too
    #[arg(long, value_name = "SETTINGS")]
    tuning: Option<String>,
    /// Measure nothing, keep to the defaults of the instruction set
    #[arg(long, conflicts_with = "tuning")]
    no_tuning: bool,
}

impl TuningArgs {
    /// The tuning asked for by an option or QUIPU_TUNING, and by which of them; `isa` has the defaults.
    pub fn asked_for(&self, isa: Option<Isa>) -> Result<Option<(TuningChoice, &'static str)>> {
        let variable = std::env::var("QUIPU_TUNING").ok().filter(|text| !text.is_empty());
        let (text, origin) = match (&self.tuning, &variable) {
            _ if self.no_tuning => return Ok(Some((TuningChoice::Defaults, "--no-tuning"))),
            (Some(text), _) => (text, "--tuning"),
            (None, Some(text)) => (text, "QUIPU_TUNING"),
            (None, None) => return Ok(None),
        };
        let choice = TuningChoice::parse(text, isa.unwrap_or_else(Isa::best));
        Ok(Some((choice.map_err(|error| anyhow!("{origin}: {error}"))?, origin)))
    }

    /// For the engine.
    pub fn get(&self, isa: Option<Isa>) -> Result<TuningChoice> {
        Ok(self.asked_for(isa)?.map_or_else(TuningChoice::default, |(choice, _)| choice))
    }
}

/// Where the weights stay.
#[derive(Clone, clap::Args)]
pub struct ResidenceArgs {
    /// Copy the weights of a packed file into memory, with large pages if the system has them, instead of using them
    /// where the file is mapped (a plain file is always packed into memory)
    #[arg(long)]
    no_mmap: bool,
    /// Never let the system take the weights out of memory
    #[arg(long)]
    mlock: bool,
}

impl ResidenceArgs {
    /// For the engine.
    pub fn get(&self) -> Residence {
        Residence { mmap: !self.no_mmap, mlock: self.mlock }
    }
}

/// Which model, and what it may use of the machine.
#[derive(Clone, clap::Args)]
pub struct ModelArgs {
    /// A GGUF file, a packed file, a Hugging Face directory, `ollama:NAME`, `hf:ORG/REPO[:TYPE]`, or `demo`
    pub model: PathBuf,
    #[command(flatten)]
    pub machine: MachineArgs,
}

/// What a model may use of the machine.
#[derive(Clone, clap::Args)]
pub struct MachineArgs {
    /// Threads [default: one for each fast core; `quipu doctor` tells which]
    #[arg(short, long, value_name = "N")]
    pub threads: Option<usize>,
    #[command(flatten)]
    residence: ResidenceArgs,
    #[command(flatten)]
    isa: IsaArgs,
    #[command(flatten)]
    tuning: TuningArgs,
    #[command(flatten)]
    kv: KvArgs,
}

impl MachineArgs {
    /// Keeps keys and values in these numbers, whatever was asked for.
    pub fn set_kv_type(&mut self, kv_type: KvType) {
        self.kv = kv_type.into();
    }

    /// In which numbers keys and values are kept.
    pub fn kv_type(&self) -> Result<KvType> {
        self.kv.get()
    }

    /// Where the weights stay.
    pub fn residence(&self) -> Residence {
        self.residence.get()
    }

    /// How the kernels are tuned.
    pub fn tuning(&self) -> Result<TuningChoice> {
        self.tuning.get(self.isa()?)
    }

    /// The instruction set asked for by `--isa` or QUIPU_ISA.
    pub fn isa(&self) -> Result<Option<Isa>> {
        Ok(self.isa.asked_for()?.map(|(isa, _)| isa))
    }
}

/// How long the model's memory is.
#[derive(clap::Args)]
pub struct ContextArgs {
    /// Tokens that a sequence may have, prompt and answer together; 0: the model's own limit [default: 0]
    #[arg(short, long = "ctx", value_name = "N")]
    pub context: Option<usize>,
}

/// Where what was read is kept for the next run.
#[derive(clap::Args)]
pub struct CacheArgs {
    /// Keep what was read in a directory, too, so that the next start need not read it again
    #[arg(long, value_name = "DIR")]
    cache_dir: Option<PathBuf>,
    /// Bytes that may lie there
    #[arg(long, value_name = "BYTES", value_parser = byte_count, default_value = "4G", requires = "cache_dir")]
    cache_dir_bytes: u64,
}

impl CacheArgs {
    /// Has `scheduler` keep what it reads there, if that is asked for.
    pub fn keep(&self, scheduler: &mut Scheduler) -> Result<()> {
        if let Some(directory) = &self.cache_dir {
            scheduler.keep_on_disk(directory, self.cache_dir_bytes)?;
        }
        Ok(())
    }
}

/// How long an answer may be.
#[derive(clap::Args)]
pub struct AnswerArgs {
    /// Tokens of an answer at most where nobody says otherwise; -1: until it or the context ends [default: -1; 256 for
    /// the demo, whose tales find no end]
    #[arg(short, long, value_name = "N", allow_hyphen_values = true, value_parser = token_limit)]
    number: Option<Limit>,
}

impl AnswerArgs {
    /// For answers of this model.
    pub fn get(&self, model: &Path) -> Limit {
        self.number.unwrap_or_else(|| (model == Path::new("demo")).then_some(256))
    }
}

/// A limit on tokens; `None` for none. (An alias, or clap would take the option itself for optional.)
pub type Limit = std::option::Option<usize>;

/// Parses a limit on tokens: a number, or -1 for none.
pub fn token_limit(text: &str) -> Result<Limit, String> {
    match text {
        "-1" => Ok(None),
        text => text.parse().map(Some).map_err(|_| "expected a number, or -1 for no limit".into()),
    }
}

/// A number of bytes, with K, M, G or T for thousands of thousands.
pub fn byte_count(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match text[digits.len()..].to_ascii_uppercase().as_str() {
        "" => Some(1),
        "K" => Some(1_000),
        "M" => Some(1_000_000),
        "G" => Some(1_000_000_000),
        "T" => Some(1_000_000_000_000),
        _ => None,
    };
    let size = unit.and_then(|unit: u64| unit.checked_mul(digits.parse().ok()?)).filter(|size| *size > 0);
    size.ok_or_else(|| "expected a number of bytes, such as 500M or 2G".into())
}

/// The file that [`text`] reads, or stdin without one, which may be a file as well.
pub fn text_inputs(file: Option<&Path>) -> Inputs {
    let mut inputs = Inputs::of(file);
    if file.is_none() {
        inputs.add_stdin();
    }
    inputs
}

/// The text to work on: an argument, a file, or what is piped in.
///
/// # Errors
/// A sentence about usage when there is none of them.
pub fn text(argument: Option<String>, file: Option<&Path>, what: &str) -> Result<String> {
    let (bytes, origin) = match (argument, file) {
        (Some(text), None) => return Ok(text),
        (None, Some(path)) => {
            let origin = path.display().to_string();
            out::apart_from(&Inputs::of([path]), path)?;
            (std::fs::read(path).with_context(|| format!("cannot read {origin}"))?, origin)
        }
        (Some(_), Some(_)) => {
            return Err(Usage::new(format!("the {what} is given twice, as an argument and with -f")).into());
        }
        (None, None) => {
            let mut stdin = std::io::stdin();
            if stdin.is_terminal() {
                let message = format!("there is no {what}: give it as an argument, with -f FILE, or through a pipe");
                return Err(Usage::new(message).into());
            }
            let mut bytes = Vec::new();
            stdin.read_to_end(&mut bytes).context("cannot read stdin")?;
            (bytes, "stdin".to_string())
        }
    };
    match String::from_utf8(bytes) {
        Ok(text) => Ok(text),
        Err(e) => {
            let at = e.utf8_error().valid_up_to();
            talk::warning(&format!(
                "{origin} is no UTF-8 text: the first bad byte is number {at}; each is read as \u{fffd}"
            ));
            Ok(String::from_utf8_lossy(e.as_bytes()).into_owned())
        }
    }
}

/// The prompt: as [`text`], but a line end at the end of a file or a pipe does not count. Editors and `echo` put it
/// there, and it would make another token of the last one; so llama.cpp has it, too.
pub fn prompt(argument: Option<String>, file: Option<&Path>) -> Result<String> {
    let given = argument.is_some();
    let mut prompt = text(argument, file, "prompt")?;
    if !given && prompt.ends_with('\n') {
        prompt.pop();
        if prompt.ends_with('\r') {
            prompt.pop();
        }
    }
    Ok(prompt)
}

/// The threads to run on: no more than can run at once here, since more would wait for each other.
pub fn threads(wanted: Option<usize>) -> Option<usize> {
    let allowed = Cores::here().allowed_threads();
    let Some(n) = wanted.filter(|&n| n > allowed) else { return wanted };
    talk::warning(&format!("-t {n}: this process can use {allowed} at once; it runs on so many"));
    Some(allowed)
}

/// Refuses a number of threads that cannot run at once here: what is measured would be something else.
pub fn check_threads(n: usize) -> Result<()> {
    let allowed = Cores::here().allowed_threads();
    ensure!((1..=allowed).contains(&n), "-t {n}: this process can use 1 to {allowed} threads");
    Ok(())
}
