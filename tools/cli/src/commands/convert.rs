//! `quipu convert`: a checkpoint becomes a GGUF. What `quantize` and `pack` do with other options is here too.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use quipu_formats::convert::{self, ConvertError, ConvertOptions, Mix, Rounding, TensorRule, TypeRule};
use quipu_formats::imatrix::{Imatrix, ImatrixError};
use quipu_quant::TensorType;

use crate::calibrate::{Calibrated, calibrate, on_random_tokens};
use crate::{args, budget, interrupt, model, talk};

/// Write a Hugging Face checkpoint as a GGUF file
///
/// Reads the directory that `huggingface-cli download` makes: safetensors, config.json, tokenizer.json and what else
/// lies there. The result runs here and in llama.cpp. Streams: memory stays near the size of one tensor, with a
/// quantised type near that of a layer and of what is learned from running the model (see --no-calibrate).
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  quipu convert Llama-3.2-1B-Instruct/ -o llama.gguf                    as the checkpoint has it
  quipu convert Llama-3.2-1B-Instruct/ -o llama-q8_0.gguf --type q8_0
  quipu convert Llama-3.2-1B-Instruct/ -o llama.quipu --type q4_0 --packed
  quipu convert llama-q4_0_4_4.gguf -o llama-q4_0.gguf                  of 2024, for llama.cpp of today")]
pub struct Args {
    /// The checkpoint's directory, or a GGUF file
    dir: PathBuf,
    /// The file to write
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Type of the weights, as for `quipu quantize` [default: the checkpoint's]
    #[arg(long = "type", value_name = "TYPE", value_parser = parse_type, conflicts_with = "target_bits")]
    types: Option<TypeRule>,
    #[command(flatten)]
    rounding: RoundingArgs,
    /// Write the packed form, which is mapped and used as it is; only Quipu reads it
    #[arg(long)]
    packed: bool,
}

/// How weights get their types and codes.
#[derive(clap::Args)]
pub struct RoundingArgs {
    /// Choose the type of each matrix, so that the file has at most so many bits per weight and its predictions diverge
    /// as little as they can. What counts is what `quipu inspect` shows: all bytes of tensors, norms included, by all
    /// their weights. The losses are measured: by the model reading 512 tokens for each matrix, or in deep models for
    /// each of some 40 parts, after that was rounded alone. That takes some five times as long as --calibrate, which
    /// goes without saying unless there is an --imatrix
    #[arg(long, value_name = "BITS", value_parser = parse_bits, conflicts_with = "rounding")]
    target_bits: Option<f64>,
    /// Another type for the matrices whose names have PATTERN at their beginning or after a dot (`ffn_down`, `blk.0.`,
    /// `output.weight`), in which * stands for anything; the first match counts
    #[arg(long = "tensor", value_name = "PATTERN=TYPE", value_parser = parse_tensor)]
    tensors: Vec<TensorRule>,
    /// What a calibration text tells about each matrix's inputs: a file by `quipu imatrix` or llama.cpp
    #[arg(long, value_name = "FILE")]
    imatrix: Option<PathBuf>,
    /// Look longer at what the matrices meet: on TEXT; without TEXT, on 4096 tokens that the model writes itself.
    /// Lowers the divergence from the unquantised model by up to a fifth more, but takes some five times as long, and
    /// memory for the whole model as it is
    #[arg(long, value_name = "TEXT", num_args = 0..=1, require_equals = true, conflicts_with = "imatrix")]
    calibrate: Option<Option<PathBuf>>,
    /// Do not run the model before rounding; then errors do not make each other good. Takes about as long, but memory
    /// for a few rows of weights only; otherwise there must be room for one layer as it is, and for 1 KB for each input
    /// of each layer's four products
    #[arg(long, conflicts_with_all = ["imatrix", "calibrate", "target_bits"])]
    no_calibrate: bool,
    /// How weights become codes: by search for the least error, or by ggml's plain rule, to the byte (blocks of 32
    /// only)
    #[arg(long, value_enum, default_value = "search", conflicts_with_all = ["imatrix", "calibrate"])]
    rounding: RoundingRule,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum RoundingRule {
    Search,
    Plain,
}

impl RoundingArgs {
    /// The options for the model `input`, with the importance matrix read or made.
    pub fn options(self, input: &Path, types: TypeRule, packed: bool) -> Result<ConvertOptions> {
        let rounding = match self.rounding {
            RoundingRule::Search => Rounding::Search,
            RoundingRule::Plain => Rounding::Plain,
        };
        let keeps_types = matches!(types, TypeRule::Keep) && self.tensors.is_empty() && self.target_bits.is_none();
        anyhow::ensure!(
            !keeps_types || self.calibrate.is_none(),
            "there is nothing to calibrate for: the weights keep their types; add `--type` or `--tensor`, or leave out `--calibrate`"
        );
        let imatrix_types = self.imatrix.is_some();
        let text = self.calibrate.iter().flatten().next();
        let text = text.map(|file| args::text(None, Some(file), "text")).transpose()?;
        let read = |path: PathBuf| match Imatrix::read(&path) {
            Err(error @ ImatrixError::None { .. }) => Err(anyhow::anyhow!("{error}; `quipu imatrix` makes one")),
            other => other.context("cannot use the importance matrix"),
        };
        let imatrix = self.imatrix.map(read);
        let imatrix = imatrix.transpose()?.map(Arc::new);
        let mut options = ConvertOptions::new(types)
            .tensors(self.tensors)
            .packed(packed)
            .rounding(rounding)
            .imatrix(imatrix)
            .imatrix_types(imatrix_types);
        if let Some(bits) = self.target_bits {
            budget::check(&*model::open_path(input)?, bits, &options)?;
        }
        if self.calibrate.is_some() || self.target_bits.is_some() {
            let Calibrated { imatrix, texts } = calibrate(input, text.as_deref())?;
            options.imatrix.get_or_insert_with(|| imatrix.into());
            if let Some(bits) = self.target_bits {
                budget::choose_types(model::open_path(input)?, bits, &texts, &mut options)?;
            }
        } else if options.imatrix.is_none() && !self.no_calibrate {
            let source = model::open_path(input)?;
            if convert::gains_by_calibration(&*source, &options).map_err(with_hint)? {
                options.imatrix = on_random_tokens(source)?.map(Arc::new);
            }
        }
        Ok(options)
    }
}

pub fn run(args: Args) -> Result<()> {
    let options = args.rounding.options(&args.dir, args.types.unwrap_or(TypeRule::Keep), args.packed)?;
    write(&args.dir, &args.output, "converting", &options)
}

/// A type or mix by any case of its name.
pub fn parse_type(name: &str) -> Result<TypeRule, String> {
    let mix = Mix::from_name(name).map(TypeRule::Mix);
    mix.or_else(|| TensorType::from_name(name).map(TypeRule::To)).ok_or_else(|| {
        let alone = TensorType::ALL.iter().map(|t| t.name()).filter(|name| Mix::from_name(name).is_none());
        let names: Vec<_> = alone.chain(Mix::ALL.iter().map(|m| m.name())).map(str::to_lowercase).collect();
        format!("expected one of {}", names.join(", "))
    })
}

/// Bits for each weight.
fn parse_bits(text: &str) -> Result<f64, String> {
    let bits = text.parse().ok().filter(|bits: &f64| *bits > 0.0 && bits.is_finite());
    bits.ok_or_else(|| "expected a number of bits, such as 4.5".into())
}

/// `PATTERN=TYPE`.
fn parse_tensor(rule: &str) -> Result<TensorRule, String> {
    let (pattern, ty) = rule.rsplit_once('=').ok_or("expected PATTERN=TYPE")?;
    let ty = TensorType::from_name(ty).ok_or_else(|| {
        let names: Vec<_> = TensorType::ALL.iter().map(|t| t.name().to_lowercase()).collect();
        format!("expected one of {}", names.join(", "))
    })?;
    Ok(TensorRule { pattern: pattern.into(), ty })
}

/// The error with what can be done about it on the command line.
fn with_hint(error: ConvertError) -> anyhow::Error {
    match error {
        ConvertError::NoPlainRule { .. } => anyhow::anyhow!("{error}; leave out `--rounding plain`"),
        _ => error.into(),
    }
}

/// Writes `input`, any model, to `output`, with a progress bar called `what`. Ctrl-C and SIGTERM leave nothing behind.
pub fn write(input: &Path, output: &Path, what: &str, options: &ConvertOptions) -> Result<()> {
    let source = model::open_path(input)?;
    let bar = talk::Progress::new(what);
    let interrupt = interrupt::listen();
    let started = std::time::Instant::now();
    let written = convert::write_gguf(source.as_ref(), options, output, interrupt.flag(), &|now| {
        bar.update(now.bytes, now.total_bytes, now.tensor);
    });
    drop(bar);
    let summary = match written {
        Err(ConvertError::Cancelled) => {
            talk::note("cancelled; nothing was written");
            return Err(interrupt::Interrupted.into());
        }
        other => other.map_err(with_hint)?,
    };
    for warning in &summary.warnings {
        talk::warning(&warning.to_string());
    }
    let types: Vec<String> = summary.types.iter().map(|(ty, count)| format!("{count} {ty}")).collect();
    talk::note(&format!(
        "{}: {:.1} MB in {:.1} s, tensors: {}",
        output.display(),
        summary.bytes as f64 / 1e6,
        started.elapsed().as_secs_f64(),
        types.join(", ")
    ));
    Ok(())
}
