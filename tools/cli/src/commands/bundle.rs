//! `quipu bundle`: the program and a model as one file.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use quipu_formats::bundle::{Lead, Notes};
use quipu_formats::convert::TypeRule;
use quipu_formats::output::Inputs;
use quipu_formats::source::TensorInfo;
use quipu_formats::stores::Stores;
use quipu_measure::QuantizeOptions;

use super::convert::write_source;
use crate::bundled::NAME;
use crate::{model, out, talk};

/// Write a program with a model in it: one file that runs
///
/// The file is quipu, for this system or for that of --program, with the packed model behind it, which is used where it
/// lies: it starts as fast as `quipu run` on a packed file and takes the same memory. In it the model is called
/// `bundled`. Started by itself it does what --args or what stands behind `--` says; without either it chats, or, where
/// nobody sits at a terminal, serves its page and opens it. Options that it is given are added to that.
///
/// Programs for Linux and Windows can carry a model, signed or not (sign the bundle, not the program before). `strip`
/// would take the model away. A bundle for Windows can have 4 GiB.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  quipu bundle llama-3.2-1b-instruct-q4_0.gguf -o llama
  quipu bundle llama.quipu -o poet -- chat bundled --system \"Answer in rhymes.\"
  quipu bundle llama.gguf -o llama.exe --program quipu.exe --args server.args
  ./llama -c 4096 --temp 0
  ./llama run bundled \"Once upon a time\"")]
pub struct Args {
    /// A GGUF file, a packed file, a Hugging Face directory, `ollama:NAME`, `hf:ORG/REPO[:TYPE]`, or `demo`
    model: PathBuf,
    /// The program to write
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// What the program does by itself: one word of a command line on each line of FILE, `chat` and `bundled` for
    /// example; lines that are empty or begin with # do not count
    #[arg(long, value_name = "FILE", conflicts_with = "words")]
    args: Option<PathBuf>,
    /// The same as words
    #[arg(last = true, value_name = "WORD")]
    words: Vec<String>,
    /// A `quipu` of this version for another system [default: this program]
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
    /// The licence of the model [default: a file LICENSE in its directory, or what ollama has of it]
    #[arg(long, value_name = "FILE")]
    licence: Option<PathBuf>,
}

pub fn run(args: Args, program: clap::Command) -> Result<()> {
    let mut reads = Inputs::of(args.args.iter().chain(&args.licence).chain(&args.program));
    out::apart_from(&reads, &args.output)?;
    let arguments = match &args.args {
        Some(path) => lines(&read(path)?),
        None => args.words.clone(),
    };
    check(&arguments, program)?;
    let own = match args.program {
        Some(path) => path,
        None => std::env::current_exe().context("the file of this program is not to be found")?,
    };
    reads.add(&own);
    let source = model::open_path(&args.model)?;
    model::warn_oddities(&args.model, source.oddities());
    if arguments.is_empty() && source.metadata().get("tokenizer.chat_template").is_none() {
        talk::warning(&format!(
            "{}: has no chat template, so the program cannot chat by itself; say what it does with `-- run {NAME} …`",
            args.model.display()
        ));
    }
    let licence = match args.licence.or_else(|| licence_of(&args.model)) {
        Some(path) => Some(read(&path)?),
        None => None,
    };
    let lead = Lead::new(&own, &Notes { name: name(&args.model), arguments, licence })?;
    let model = source.tensors().iter().filter_map(TensorInfo::byte_len).map(|bytes| bytes as u64).sum();
    lead.check_size(&args.output, model)?;
    let mut options = QuantizeOptions::new(TypeRule::Keep);
    options.packed = true;
    options.lead = Some(Arc::new(lead));
    options.reads = reads;
    write_source(source.into(), &args.output, "bundling", &options)
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

/// The words of a file of arguments.
fn lines(text: &str) -> Vec<String> {
    let counts = |line: &&str| !line.is_empty() && !line.starts_with('#');
    text.lines().map(str::trim).filter(counts).map(String::from).collect()
}

/// Whether `program` takes these words.
fn check(arguments: &[String], program: clap::Command) -> Result<()> {
    let Some(first) = arguments.first() else { return Ok(()) };
    ensure!(
        program.find_subcommand(first).is_some(),
        "{first}: what a program does by itself begins with a subcommand, such as `chat {NAME}`"
    );
    let words = std::iter::once("quipu").chain(arguments.iter().map(String::as_str));
    if let Err(error) = program.try_get_matches_from(words) {
        let text = error.to_string();
        let why = text.lines().next().unwrap_or_default().trim_start_matches("error: ");
        return Err(anyhow::anyhow!("quipu {}: {why}", arguments.join(" ")));
    }
    Ok(())
}

/// The licence in a checkpoint's directory, or the one that ollama has of a model.
fn licence_of(model: &Path) -> Option<PathBuf> {
    if !model.exists() {
        return Stores::here().find(model.to_str()?).ok()??.licence;
    }
    let names = ["LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE", "LICENCE.txt", "COPYING"];
    model.is_dir().then(|| names.map(|name| model.join(name)).into_iter().find(|path| path.is_file()))?
}

/// What a model is called: its name in a store, its directory's, or its file's without the ending.
fn name(model: &Path) -> String {
    let own = match () {
        () if model.is_dir() => model.file_name(),
        () if model.is_file() => model.file_stem(),
        () => None,
    };
    own.unwrap_or(model.as_os_str()).to_string_lossy().into()
}
