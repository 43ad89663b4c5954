//! `quipu convert`: a checkpoint becomes a GGUF. What `quantize` and `pack` do with other options is here too.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result};
use quipu_formats::convert::{Mix, Rounding, TensorRule, TypeRule};
use quipu_formats::imatrix::Imatrix;
use quipu_formats::source::Source;
use quipu_measure::{CalibrateOn, QuantizeOptions, Types, quantize};
use quipu_quant::TensorType;

use crate::args::byte_count;
use crate::watch::Watch;
use crate::{args, model, talk};

/// Write a Hugging Face checkpoint as a GGUF file
///
/// Reads the directory that `huggingface-cli download` makes: safetensors or PyTorch's files (of which nothing is
/// run), config.json, tokenizer.json and what else lies there. Checkpoints in FP8 and those of compressed-tensors
/// become F32. Meta's and Mistral's own layouts (params.json, consolidated.*) are read, too. The result runs here and
/// in llama.cpp. Weights are read and written piece by piece, so that memory stays near the size of one tensor; with
/// a quantised type it takes one layer, too, and what a calibration pass finds out (see --no-calibrate).
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
    /// Choose a type for each matrix, so that the file has at most BITS bits per weight and its predictions diverge
    /// as little as possible from the unquantised model's. Bits per weight are what `quipu inspect` shows: the size
    /// of all tensors, norms included, divided by the number of their weights. To measure what types cost, each
    /// matrix (in a deep model, each of some 40 groups of matrices) is rounded alone, and the model reads 512 tokens.
    /// That takes about five times as long as --calibrate, which it implies unless there is an --imatrix
    #[arg(long, value_name = "BITS", value_parser = parse_bits, conflicts_with = "rounding")]
    target_bits: Option<f64>,
    /// Give matrices another type: those whose names have PATTERN at their beginning or after a dot (`ffn_down`,
    /// `blk.0.`, `output.weight`), in which * stands for anything. May be given several times; the first match counts
    #[arg(long = "tensor", value_name = "PATTERN=TYPE", value_parser = parse_tensor)]
    tensors: Vec<TensorRule>,
    /// Round by an importance matrix, which tells what each matrix's inputs were on a calibration text: a file by
    /// `quipu imatrix` or llama.cpp
    #[arg(long, value_name = "FILE")]
    imatrix: Option<PathBuf>,
    /// Calibrate for longer: on the text in the file TEXT; without TEXT, on 4096 tokens that the model writes itself.
    /// Compared with the calibration that is made anyway, it lowers the divergence from the unquantised model by up to
    /// a fifth, takes about five times as long, and needs memory for the whole unquantised model
    #[arg(long, value_name = "TEXT", num_args = 0..=1, require_equals = true, conflicts_with = "imatrix")]
    calibrate: Option<Option<PathBuf>>,
    /// Leave out the calibration pass; then no weight makes good the error of another. Takes about as long, but memory
    /// for a few rows of weights only. With the pass there must be room for one unquantised layer, and for 1 KB for
    /// each input of each layer's four products
    #[arg(long, conflicts_with_all = ["imatrix", "calibrate", "target_bits"])]
    no_calibrate: bool,
    /// How weights become codes: by a search for the least error, or by ggml's plain rule, byte for byte (only for
    /// types with blocks of 32)
    #[arg(long, value_enum, default_value = "search", conflicts_with_all = ["imatrix", "calibrate"])]
    rounding: RoundingRule,
    /// Write the model in parts of at most SIZE bytes each (500M, 2G: thousands of thousands), called
    /// NAME-00001-of-00003.gguf and so on, as llama-gguf-split's are. Give the first part to whoever reads the model.
    /// No tensor is cut, so one that is larger has a larger part
    #[arg(long, value_name = "SIZE", value_parser = byte_count)]
    split_size: Option<u64>,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum RoundingRule {
    Search,
    Plain,
}

impl RoundingArgs {
    /// What to write: types by `rule`, unless they are chosen for a size.
    pub fn options(self, rule: TypeRule, packed: bool) -> Result<QuantizeOptions> {
        let types = self.target_bits.map_or(Types::Rule(rule), Types::Bits);
        let mut options = QuantizeOptions::new(types);
        options.packed = packed;
        options.part_bytes = self.split_size;
        options.tensors = self.tensors;
        options.rounding = match self.rounding {
            RoundingRule::Search => Rounding::Search,
            RoundingRule::Plain => Rounding::Plain,
        };
        options.calibrate_on = match (self.imatrix, self.calibrate) {
            (Some(path), _) => {
                options.reads.add(&path);
                CalibrateOn::Imatrix(Imatrix::read(&path).context("cannot use the importance matrix")?.into())
            }
            (None, Some(Some(file))) => {
                options.reads.add(&file);
                CalibrateOn::Text(args::text(None, Some(&file), "text")?)
            }
            (None, Some(None)) => CalibrateOn::OwnText,
            (None, None) if self.no_calibrate => CalibrateOn::Nothing,
            (None, None) => CalibrateOn::RandomTokens,
        };
        Ok(options)
    }
}

pub fn run(args: Args) -> Result<()> {
    let options = args.rounding.options(args.types.unwrap_or(TypeRule::Keep), args.packed)?;
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

/// Writes `input`, any model, to `output`; `what` names that on the progress bar. Ctrl-C and SIGTERM leave nothing
/// behind.
pub fn write(input: &Path, output: &Path, what: &'static str, options: &QuantizeOptions) -> Result<()> {
    let source = model::open_path(input)?;
    model::warn_oddities(input, source.oddities());
    write_source(source.into(), output, what, options)
}

/// The same for a model that is open.
pub fn write_source(
    source: Arc<dyn Source>,
    output: &Path,
    what: &'static str,
    options: &QuantizeOptions,
) -> Result<()> {
    let started = Instant::now();
    let written = Watch::of_file(what).run(|monitor| quantize(source, output, options, monitor))?.file;
    for warning in &written.warnings {
        talk::warning(&warning.to_string());
    }
    let types: Vec<String> = written.types.iter().map(|(ty, count)| format!("{count} {ty}")).collect();
    let name = match &*written.files {
        [file] => file.display().to_string(),
        parts => format!("{} and {} more parts", parts[0].display(), parts.len() - 1),
    };
    talk::note(&format!(
        "{name}: {:.1} MB in {:.1} s, tensors: {}",
        written.bytes as f64 / 1e6,
        started.elapsed().as_secs_f64(),
        types.join(", ")
    ));
    Ok(())
}
