//! `quipu quantize`: a model with smaller weights.

use std::path::PathBuf;

use anyhow::Result;
use quipu_formats::convert::TypeRule;

use super::convert::{RoundingArgs, parse_type, write};

/// Write a model with weights of another type
///
/// Best from F32, F16 or BF16: from an already quantised file the errors add up. Types with _S, _M or _L, Q2_K and IQ4
/// are llama.cpp's mixes: some matrices get more bits. The output matrix is Q6_K when the type has fewer than 8 bits;
/// norms stay F32.
///
/// The same bits go much further when the inputs of the matrices are known: then the error of each weight is made good
/// by the weights after it. So a calibration pass comes first: the model runs, layer by layer, on 512 random tokens.
/// --calibrate does that for longer, on a text or on what the model writes itself; --imatrix reads the result from a
/// file by `quipu imatrix`, which serves for several types.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  quipu quantize llama-bf16.gguf llama-q4_k_m.gguf --type q4_k_m
  quipu quantize llama-bf16.gguf llama-q4_k_m.gguf --type q4_k_m --calibrate
  quipu quantize llama-bf16.gguf llama-q4_k_m.gguf --type q4_k_m --calibrate=calibration.txt
  quipu quantize llama-bf16.gguf llama-4.5.gguf --target-bits 4.5
  quipu imatrix llama-bf16.gguf -f calibration.txt -o llama.imatrix
  quipu quantize llama-bf16.gguf llama-q4_k_m.gguf --type q4_k_m --imatrix llama.imatrix
  quipu quantize llama-bf16.gguf llama.gguf --type q4_0 --tensor attn_v=q6_k --tensor 'blk.0.*=q8_0'")]
pub struct Args {
    /// A GGUF file or a Hugging Face directory
    input: PathBuf,
    /// The file to write
    output: PathBuf,
    /// Type of the weights: f32, f16, bf16, q8_0, q6_k, q5_k_m, q5_k_s, q5_0, q5_1, q4_k_m, q4_k_s, iq4_nl, iq4_xs,
    /// q4_0, q4_1, q3_k_l, q3_k_m, q3_k_s, q2_k
    #[arg(long = "type", value_name = "TYPE", value_parser = parse_type, required_unless_present = "target_bits", conflicts_with = "target_bits")]
    types: Option<TypeRule>,
    #[command(flatten)]
    rounding: RoundingArgs,
    /// Write the packed form, which is mapped and used as it is; only Quipu reads it
    #[arg(long)]
    packed: bool,
}

pub fn run(args: Args) -> Result<()> {
    let options = args.rounding.options(args.types.unwrap_or(TypeRule::Keep), args.packed)?;
    write(&args.input, &args.output, "quantising", &options)
}
