//! `quipu quantize`: a model with smaller weights.

use std::path::PathBuf;

use anyhow::Result;
use quipu_formats::convert::{ConvertOptions, TypeRule};
use quipu_quant::TensorType;

use super::convert::{parse_type, write};

/// Write a model with weights of another type
///
/// Best from F32, F16 or BF16: from an already quantised file the errors add up. Embeddings and output stay Q8_0 when the type has
/// fewer bits; norms stay F32.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  quipu quantize llama-bf16.gguf llama-q4_0.gguf --type q4_0
  quipu quantize llama-bf16.gguf llama.quipu --type q4_0 --packed")]
pub struct Args {
    /// A GGUF file or a Hugging Face directory
    input: PathBuf,
    /// The file to write
    output: PathBuf,
    /// Type of the weights: f32, f16, bf16, q8_0, q4_0, q4_1, q5_0, q5_1
    #[arg(long = "type", value_name = "TYPE", value_parser = parse_type)]
    ty: TensorType,
    /// Write the packed form, which is mapped and used as it is; only Quipu reads it
    #[arg(long)]
    packed: bool,
}

pub fn run(args: Args) -> Result<()> {
    let options = ConvertOptions { types: TypeRule::To(args.ty), packed: args.packed };
    write(&args.input, &args.output, "quantising", &options)
}
