//! `quipu merge`: a model with LoRA adapters added to its matrices.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Result;
use quipu_formats::convert::{TensorRule, TypeRule};
use quipu_formats::lora::Merged;
use quipu_formats::source::Source;

use super::convert::{RoundingArgs, parse_type, write_source};
use crate::adapters::Named;
use crate::model;

/// Write a model with LoRA adapters added to its matrices
///
/// Each matrix W becomes W + s·B·A, in F32, and then gets the type that it had, or --type. A quantised model is rounded
/// anew where it changes, after a calibration pass as in `quipu quantize`; it is better to merge with the unquantised
/// model and to quantise that in the same step.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  quipu merge llama-bf16.gguf adapter/ -o merged.gguf
  quipu merge Llama-3.2-1B/ adapter/ style.gguf:0.5 -o merged.gguf --type q4_k_m")]
pub struct Args {
    /// A GGUF file or a Hugging Face directory
    model: PathBuf,
    /// LoRA adapters: directories that PEFT writes, or llama.cpp's GGUF; with a factor behind them, another scale
    #[arg(value_name = "ADAPTER[:SCALE]", required = true)]
    adapters: Vec<Named>,
    /// The file to write
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Type of the weights, as for `quipu quantize` [default: what each matrix has]
    #[arg(long = "type", value_name = "TYPE", value_parser = parse_type, conflicts_with = "target_bits")]
    types: Option<TypeRule>,
    #[command(flatten)]
    rounding: RoundingArgs,
    /// Write the packed form, which is mapped and used as it is; only Quipu reads it
    #[arg(long)]
    packed: bool,
}

pub fn run(args: Args) -> Result<()> {
    let keep = args.types.is_none();
    let mut options = args.rounding.options(args.types.unwrap_or(TypeRule::Keep), args.packed)?;
    let source: Arc<dyn Source> = model::open_path(&args.model)?.into();
    model::warn_oddities(&args.model, source.oddities());
    let adapters = args.adapters.iter().map(|named| Ok((named.open(&*source)?, named.scale)));
    let adapters = adapters.collect::<Result<Vec<_>>>()?;
    let merged = Merged::new(source, adapters);
    if keep {
        let own = |(name, ty): (&str, _)| TensorRule { pattern: name.into(), ty };
        options.tensors.extend(merged.changed().map(own));
    }
    write_source(Arc::new(merged), &args.output, "merging", &options)
}
