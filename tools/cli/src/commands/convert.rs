//! `quipu convert`: a checkpoint becomes a GGUF. What `quantize` and `pack` do with other options is here too.

use std::path::{Path, PathBuf};

use anyhow::Result;
use quipu_formats::convert::{self, ConvertError, ConvertOptions, TypeRule};
use quipu_quant::TensorType;

use crate::{interrupt, model, talk};

/// Write a Hugging Face checkpoint as a GGUF file
///
/// Reads the directory that `huggingface-cli download` makes: safetensors, config.json, tokenizer.json and what else lies there. The
/// result runs here and in llama.cpp. Streams: memory stays near the size of one tensor.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  quipu convert Llama-3.2-1B-Instruct/ -o llama.gguf                    as the checkpoint has it
  quipu convert Llama-3.2-1B-Instruct/ -o llama-q8_0.gguf --type q8_0
  quipu convert Llama-3.2-1B-Instruct/ -o llama.quipu --type q4_0 --packed")]
pub struct Args {
    /// The checkpoint's directory
    dir: PathBuf,
    /// The file to write
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Type of the weights: f32, f16, bf16, q8_0, q4_0, q4_1, q5_0, q5_1 [default: the checkpoint's]
    #[arg(long = "type", value_name = "TYPE", value_parser = parse_type)]
    ty: Option<TensorType>,
    /// Write the packed form, which is mapped and used as it is; only Quipu reads it
    #[arg(long)]
    packed: bool,
}

pub fn run(args: Args) -> Result<()> {
    let types = args.ty.map_or(TypeRule::Keep, TypeRule::To);
    write(&args.dir, &args.output, "converting", &ConvertOptions { types, packed: args.packed })
}

/// The tensor types that can be made, by any case of their names.
pub fn parse_type(name: &str) -> Result<TensorType, String> {
    let possible = |ty: &TensorType| ty.block_len() < 256;
    TensorType::from_name(name).filter(possible).ok_or_else(|| {
        let names: Vec<_> = TensorType::ALL.iter().filter(|t| possible(t)).map(|t| t.name().to_lowercase()).collect();
        format!("expected one of {}", names.join(", "))
    })
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
        other => other?,
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
