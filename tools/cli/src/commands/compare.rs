//! `quipu compare`: what several files of one model cost, and what they are worth, in one table.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use quipu_runtime::tokenizer::Tokenizer;
use quipu_runtime::{Engine, LoadOptions};
use serde_json::{Value as Json, json};

use super::bench::speeds;
use crate::args::{self, IsaArgs, ResidenceArgs};
use crate::plot::{self, Point};
use crate::predict::{Pieces, predict, same_vocabulary, seconds_left};
use crate::statistics::{Divergence, Mean, Place};
use crate::{model, out, talk};

/// Compare files of one model: size, bits per weight, perplexity, divergence from the best of them, speed
///
/// The text is read as `quipu perplexity` reads it. KL is the mean Kullback-Leibler divergence of each file's
/// predictions from those of the base, with what 99 % of the places stay below, and how often both find the same token
/// likeliest. The base is --base, or else the file with the most bits per weight. Speeds are medians of -r runs, not of
/// the quality of `quipu bench`, which also knows the machine's limits.
///
/// Models are loaded one after the other. Between them the base's predictions lie in a temporary file (TMPDIR says
/// where) of 4 bytes for each entry of the vocabulary and each predicted token: 0.7 GB for 20 pieces and 32 000
/// entries, 2.6 GB for 128 000.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  quipu compare llama-f16.gguf llama-q4_k_m.gguf llama-q4_0.gguf -f wiki.test.raw
  quipu compare *.gguf -f wiki.test.raw --base llama-f16.gguf --plot size-kl.svg
  quipu compare llama-q4_0.gguf llama-q4_1.gguf -f text.txt --no-speed --json")]
pub struct Args {
    /// GGUF files, packed files, Hugging Face directories, or `demo`
    #[arg(required = true)]
    models: Vec<PathBuf>,
    /// The text; without it, what is piped in
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// The model from which divergence is measured [default: the one with the most bits per weight]
    #[arg(long, value_name = "MODEL")]
    base: Option<PathBuf>,
    /// Tokens of a piece
    #[arg(short, long = "ctx", value_name = "N", default_value_t = 512)]
    context: usize,
    /// Stop after so many pieces
    #[arg(long, value_name = "N", default_value_t = 20)]
    chunks: usize,
    /// Tokens of the prompt whose speed is measured
    #[arg(short, long, value_name = "N", default_value_t = 128, value_parser = at_least_one)]
    prompt: usize,
    /// Tokens to decode one by one
    #[arg(short, long, value_name = "N", default_value_t = 32, value_parser = at_least_one)]
    number: usize,
    /// Runs of each
    #[arg(short, long, value_name = "N", default_value_t = 3, value_parser = at_least_one)]
    repetitions: usize,
    /// Do not measure speeds
    #[arg(long)]
    no_speed: bool,
    /// Threads [default: one for each fast core; `quipu doctor` tells which]
    #[arg(short, long, value_name = "N")]
    threads: Option<usize>,
    #[command(flatten)]
    residence: ResidenceArgs,
    #[command(flatten)]
    isa: IsaArgs,
    /// Also plot divergence against size, as SVG
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
    /// One JSON object: base, ctx, chunks, tokens, and a list of files with all figures
    #[arg(long)]
    json: bool,
}

fn at_least_one(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|&n| n > 0).ok_or_else(|| "expected a number of at least 1".into())
}

/// What a file is, known without loading it.
struct Candidate {
    path: PathBuf,
    /// Of the file, or of the tensors where there is none or several.
    bytes: u64,
    bits_per_weight: f64,
    /// The parts of all weights that each type has, the largest first.
    types: Vec<(&'static str, f64)>,
}

/// What was measured.
struct Figures {
    nll: Mean,
    /// `None` for the base.
    divergence: Option<Divergence>,
    /// Tokens per second, prefill and decode.
    speeds: Option<[f64; 2]>,
}

pub fn run(args: Args) -> Result<()> {
    let text = args::text(None, args.file.as_deref(), "text")?;
    if let Some(path) = &args.plot {
        // So that it does not fail when everything else is done.
        quipu_formats::gguf::OutputFile::create(path)?;
    }
    let mut candidates = args.models.iter().map(|path| Candidate::new(path)).collect::<Result<Vec<_>>>()?;
    let base = match &args.base {
        None => most_precise(&candidates),
        Some(path) => match candidates.iter().position(|c| c.path == *path) {
            Some(i) => i,
            None => {
                candidates.insert(0, Candidate::new(path)?);
                0
            }
        },
    };
    ensure!(
        args.plot.is_none() || candidates.len() > 1,
        "--plot: there is nothing to plot but the base; name more files"
    );
    let why = if args.base.is_some() { "--base" } else { "the most bits per weight" };

    // The base first: the others are compared with it.
    let order = std::iter::once(base).chain((0..candidates.len()).filter(|&i| i != base));
    let mut figures: Vec<Option<Figures>> = candidates.iter().map(|_| None).collect();
    let mut reference: Option<Reference> = None;
    for (number, i) in order.enumerate() {
        let candidate = &candidates[i];
        let what = format!("{}/{} {}", number + 1, candidates.len(), candidate.name());
        let mut engine = load(&args, &candidate.path, &what)?;
        let reference = match &mut reference {
            Some(reference) => reference,
            none => none.insert(Reference::new(&engine, &text, &args)?),
        };
        let same =
            engine.vocabulary() == reference.vocabulary && same_vocabulary(engine.tokenizer(), &reference.tokenizer);
        ensure!(
            same,
            "{}: its vocabulary is not that of {}, so their predictions do not compare",
            candidate.path.display(),
            candidates[base].path.display()
        );
        let (nll, divergence) = if i == base {
            (reference.write(&mut engine, &what)?, None)
        } else {
            let (nll, divergence) = reference.compare(&mut engine, &what)?;
            (nll, Some(divergence))
        };
        talk::note_part(&format!("\r\x1b[K{what}: speed"));
        let speeds = match args.no_speed {
            true => None,
            false => Some(speeds(&mut engine, args.prompt, args.number, args.repetitions)?),
        };
        figures[i] = Some(Figures { nll, divergence, speeds });
    }
    talk::note_part("\r\x1b[K");
    let rows: Vec<(&Candidate, Figures)> = candidates.iter().zip(figures.into_iter().flatten()).collect();
    if let Some(path) = &args.plot {
        plot::write(path, &picture(&rows, &candidates[base])?)?;
    }
    let pieces = reference.map_or(0, |reference| reference.pieces.iter().len());
    if args.json { out::json(&report(&args, pieces, &rows, base, why)) } else { table(&rows, base, why) }
}

impl Candidate {
    fn new(path: &Path) -> Result<Candidate> {
        let source = model::open_path(path)?;
        let (mut weights_of, mut weights, mut bytes) = (BTreeMap::new(), 0, 0);
        for tensor in source.tensors() {
            let elements: u64 = tensor.shape.iter().map(|&n| n as u64).product();
            *weights_of.entry(tensor.encoding.name()).or_insert(0) += elements;
            weights += elements;
            bytes += tensor.byte_len().unwrap_or(0) as u64;
        }
        let mut types: Vec<_> = weights_of.into_iter().map(|(ty, n)| (ty, n as f64 / weights as f64)).collect();
        types.sort_by(|a, b| b.1.total_cmp(&a.1));
        let of_file = std::fs::metadata(path).ok().filter(|meta| meta.is_file()).map(|meta| meta.len());
        let bits_per_weight = 8.0 * bytes as f64 / (weights as f64).max(1.0);
        Ok(Candidate { path: path.to_owned(), bytes: of_file.unwrap_or(bytes), bits_per_weight, types })
    }

    /// Short, for a table.
    fn name(&self) -> String {
        self.path.file_name().unwrap_or(self.path.as_os_str()).to_string_lossy().into_owned()
    }

    /// The types of at least a hundredth of the weights.
    fn mix(&self) -> String {
        let shares = self.types.iter().filter(|(_, share)| *share >= 0.01);
        let names: Vec<String> = match self.types.first() {
            Some((ty, share)) if *share > 0.99 => vec![ty.to_string()],
            _ => shares.map(|(ty, share)| format!("{ty} {:.0} %", 100.0 * share)).collect(),
        };
        names.join(", ")
    }
}

/// The number of the file with the most bits per weight, the first of several.
fn most_precise(candidates: &[Candidate]) -> usize {
    let bits = |i: usize| candidates[i].bits_per_weight;
    (1..candidates.len()).fold(0, |best, i| if bits(i) > bits(best) { i } else { best })
}

fn load(args: &Args, path: &Path, what: &str) -> Result<Engine> {
    let isa = args.isa.asked_for()?.map(|(isa, _)| isa);
    let context = if args.no_speed { args.context } else { args.context.max(args.prompt).max(args.number) };
    let (threads, residence) = (args.threads, args.residence.get());
    let options = LoadOptions { threads, isa, context: Some(context), residence, ..LoadOptions::default() };
    let source = model::open_path(path)?;
    talk::note_part("\r\x1b[K");
    model::warn_recoded(&*source);
    talk::note_part(&format!("{what}: loading"));
    Ok(Engine::load(source, &options, &|_, _| {})?)
}

/// The text, and what the base predicts for it: all logits, place by place, in a file without a name.
struct Reference {
    pieces: Pieces,
    tokenizer: Arc<Tokenizer>,
    vocabulary: usize,
    logits: File,
}

impl Reference {
    fn new(base: &Engine, text: &str, args: &Args) -> Result<Reference> {
        let pieces = Pieces::new(base.tokenizer(), text, args.context, Some(args.chunks))?;
        let logits = tempfile::tempfile().context("cannot make a temporary file; TMPDIR may name another place")?;
        Ok(Reference { pieces, tokenizer: base.tokenizer().clone(), vocabulary: base.vocabulary(), logits })
    }

    /// Lets the base predict, and remembers.
    fn write(&mut self, base: &mut Engine, what: &str) -> Result<Mean> {
        let size = (self.pieces.iter().len() * self.pieces.places() * self.vocabulary * 4) as f64 / 1e9;
        let file = &mut self.logits;
        read_pieces(&self.pieces, what, |piece, nll| {
            for logits in predict(base, piece, nll, |_, logits| logits.to_vec())? {
                file.write_all(bytemuck::cast_slice(&logits)).with_context(|| {
                    format!(
                        "cannot write {size:.1} GB of predictions to a temporary file; TMPDIR may name another place"
                    )
                })?;
            }
            Ok(())
        })
    }

    /// Lets another model predict.
    fn compare(&mut self, engine: &mut Engine, what: &str) -> Result<(Mean, Divergence)> {
        const UNREADABLE: &str = "cannot read the temporary file with the base's predictions";
        let (file, vocabulary) = (&mut self.logits, self.vocabulary);
        file.rewind().context(UNREADABLE)?;
        let (mut divergence, mut base) = (Divergence::default(), vec![0.0f32; self.pieces.places() * vocabulary]);
        let nll = read_pieces(&self.pieces, what, |piece, nll| {
            file.read_exact(bytemuck::cast_slice_mut(&mut base)).context(UNREADABLE)?;
            let compare = |place, logits: &[f32]| Place::new(&base[place * vocabulary..][..vocabulary], logits);
            divergence.add(&predict(engine, piece, nll, compare)?);
            Ok(())
        })?;
        Ok((nll, divergence))
    }
}

/// Lets `read` predict all pieces, with progress.
fn read_pieces(pieces: &Pieces, what: &str, mut read: impl FnMut(&[u32], &mut Mean) -> Result<()>) -> Result<Mean> {
    let (started, count, mut nll) = (Instant::now(), pieces.iter().len(), Mean::default());
    for (i, piece) in pieces.iter().enumerate() {
        read(piece, &mut nll)?;
        ensure!(nll.value().is_finite(), "{what}: piece {}: the model's logits are not finite numbers", i + 1);
        let left = seconds_left(started.elapsed().as_secs_f64(), i + 1, count);
        talk::note_part(&format!("\r\x1b[K{what}: piece {} of {count}, {left}", i + 1));
    }
    Ok(nll)
}

fn report(args: &Args, pieces: usize, rows: &[(&Candidate, Figures)], base: usize, why: &str) -> Json {
    let file = |(candidate, figures): &(&Candidate, Figures)| {
        let (ppl, error) = figures.nll.perplexity();
        let shares = candidate.types.iter().map(|(ty, share)| json!({"type": ty, "share": share}));
        let mut json = json!({
            "file": candidate.path,
            "bytes": candidate.bytes,
            "bits_per_weight": candidate.bits_per_weight,
            "types": shares.collect::<Json>(),
            "ppl": ppl,
            "error": error,
        });
        if let Some(divergence) = &figures.divergence {
            let (kl, (same, same_error)) = (divergence.mean(), divergence.same_top());
            json["kl"] = kl.value().into();
            json["kl_error"] = kl.error().into();
            json["kl_99"] = divergence.percentile(0.99).into();
            json["same_top"] = same.into();
            json["same_top_error"] = same_error.into();
        }
        if let Some([prefill, decode]) = figures.speeds {
            json["prefill_tokens_per_s"] = prefill.into();
            json["decode_tokens_per_s"] = decode.into();
        }
        json
    };
    json!({
        "base": rows[base].0.path,
        "base_chosen_by": why,
        "ctx": args.context,
        "chunks": pieces,
        "tokens": rows[base].1.nll.count,
        "files": rows.iter().map(file).collect::<Json>(),
    })
}

fn table(rows: &[(&Candidate, Figures)], base: usize, why: &str) -> Result<()> {
    const HEAD: [&str; 10] =
        ["file", "types", "bits/weight", "MB", "perplexity", "KL", "KL 99 %", "same top", "prefill/s", "decode/s"];
    let mut cells: Vec<Vec<String>> = vec![HEAD.map(String::from).to_vec()];
    for (candidate, figures) in rows {
        let (ppl, error) = figures.nll.perplexity();
        let mut row = vec![
            candidate.name(),
            candidate.mix(),
            format!("{:.2}", candidate.bits_per_weight),
            format!("{:.1}", candidate.bytes as f64 / 1e6),
            format!("{ppl:.4} ± {error:.4}"),
        ];
        match &figures.divergence {
            None => row.extend(["base", "", ""].map(String::from)),
            Some(divergence) => {
                let (kl, (same, same_error)) = (divergence.mean(), divergence.same_top());
                row.push(format!("{:.5} ± {:.5}", kl.value(), kl.error()));
                row.push(format!("{:.5}", divergence.percentile(0.99)));
                row.push(format!("{:.2} ± {:.2} %", 100.0 * same, 100.0 * same_error));
            }
        }
        row.extend(figures.speeds.iter().flatten().map(|speed| format!("{speed:.1}")));
        cells.push(row);
    }
    let columns = cells[1].len();
    let width = |c: usize| cells.iter().map(|row| row[c].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    for row in &cells {
        // Names to the left, numbers to the right.
        let padded = row.iter().zip(&widths).enumerate().map(|(c, (cell, &width))| match c {
            0 | 1 => format!("{cell:width$}"),
            _ => format!("{cell:>width$}"),
        });
        out::line(padded.collect::<Vec<_>>().join("  ").trim_end())?;
    }
    let (candidate, figures) = &rows[base];
    let tokens = figures.nll.count;
    out::line(format_args!("\n{tokens} predicted tokens; base: {} ({why})", candidate.path.display()))
}

fn picture(rows: &[(&Candidate, Figures)], base: &Candidate) -> Result<String> {
    /// A file that predicts as the base does would be infinitely low on a logarithmic scale.
    const LEAST: f64 = 1e-7;
    let point = |(candidate, figures): &(&Candidate, Figures)| {
        let kl = figures.divergence.as_ref()?.mean().value().max(LEAST);
        Some(Point { x: candidate.bytes as f64 / 1e6, y: kl, label: candidate.name() })
    };
    let points: Vec<Point> = rows.iter().filter_map(point).collect();
    plot::svg(&points, &format!("Divergence from {}", base.name()), "size in MB", "mean KL divergence in nats")
}
