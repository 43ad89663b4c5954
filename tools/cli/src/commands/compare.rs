//! `quipu compare`: what several files of one model cost, and what they are worth, in one table.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use quipu_formats::output::{self, Inputs};
use quipu_measure::{CompareOptions, Compared, Comparison, ModelFile, SpeedOptions, compare};
use serde::Serialize;

use crate::args::{self, IsaArgs, ResidenceArgs, TuningArgs};
use crate::plot::{self, Point};
use crate::visible::visible;
use crate::watch::Watch;
use crate::{model, out, talk};

/// Compare files of one model: size, bits per weight, perplexity, divergence from the best of them, speed
///
/// The text is read as `quipu perplexity` reads it. KL is the mean Kullback-Leibler divergence of each file's
/// predictions from those of the base, with what 99 % of the places stay below, and how often both find the same token
/// likeliest. The base is --base, or else the file with the most bits per weight. Speeds are medians of -r runs;
/// `quipu bench` measures them more thoroughly, and beside the machine's limits.
///
/// Models are loaded one after the other. Between them the base's predictions lie in a temporary file (TMPDIR says
/// where) of 4 bytes for each entry of the vocabulary and each predicted token: 0.7 GB for 20 chunks and 32 000
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
    /// Tokens of a chunk
    #[arg(short, long = "ctx", value_name = "N", default_value_t = 512)]
    context: usize,
    /// Stop after so many chunks
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
    #[command(flatten)]
    tuning: TuningArgs,
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

/// The whole as JSON.
#[derive(Serialize)]
struct Report<'a> {
    base: &'a Path,
    base_chosen_by: &'a str,
    #[serde(flatten)]
    comparison: &'a Comparison,
}

pub fn run(args: Args) -> Result<()> {
    let text = args::text(None, args.file.as_deref(), "text")?;
    let mut inputs = args::text_inputs(args.file.as_deref());
    for path in args.models.iter().chain(&args.base) {
        inputs.extend(&Inputs::of(model::open_path(path)?.files()));
    }
    if let Some(path) = &args.plot {
        // So that it does not fail when everything else is done.
        output::check(path, &inputs)?;
    }
    let open = |path: &PathBuf| Ok(ModelFile::open(model::name(path)?)?);
    let mut files = args.models.iter().map(open).collect::<Result<Vec<_>>>()?;
    let base = match &args.base {
        None => ModelFile::most_precise(&files),
        Some(path) => match files.iter().position(|file| file.path == *path) {
            Some(i) => i,
            None => {
                files.insert(0, open(path)?);
                0
            }
        },
    };
    let nothing = "--plot: there is nothing to plot but the base; name more files";
    ensure!(args.plot.is_none() || files.len() > 1, nothing);
    files.iter().for_each(|file| model::warn_recoded(&file.recoded));

    let options = options(&args)?;
    let comparison = Watch::new().run(|monitor| compare(&files, base, &text, &options, monitor));
    talk::clear_progress();
    let comparison = comparison?;
    if let Some(path) = &args.plot {
        plot::write(path, &inputs, &picture(&comparison.files, base))?;
    }
    let why = if args.base.is_some() { "--base" } else { "the most bits per weight" };
    if args.json {
        return out::json(&Report { base: &files[base].path, base_chosen_by: why, comparison: &comparison });
    }
    table(&comparison.files)?;
    let (tokens, base) = (comparison.tokens, visible(&files[base].path.display().to_string()));
    out::line(format_args!("\n{tokens} predicted tokens; base: {base} ({why})"))
}

fn options(args: &Args) -> Result<CompareOptions> {
    let mut options = CompareOptions::default();
    (options.context, options.chunks) = (args.context, args.chunks);
    options.load.threads = args::threads(args.threads);
    options.load.isa = args.isa.asked_for()?.map(|(isa, _)| isa);
    options.load.tuning = args.tuning.get(options.load.isa)?;
    options.load.residence = args.residence.get();
    let mut speed = SpeedOptions::default();
    (speed.prompt, speed.decode, speed.repetitions) = (args.prompt, args.number, args.repetitions);
    options.speed = (!args.no_speed).then_some(speed);
    Ok(options)
}

/// Short, for a table.
fn name(file: &ModelFile) -> String {
    visible(&file.path.file_name().unwrap_or(file.path.as_os_str()).to_string_lossy())
}

/// The types of at least a hundredth of the weights.
fn mix(file: &ModelFile) -> String {
    let shares = file.types.iter().filter(|ty| ty.share >= 0.01);
    let names: Vec<String> = match file.types.first() {
        Some(ty) if ty.share > 0.99 => vec![ty.name.to_string()],
        _ => shares.map(|ty| format!("{} {:.0} %", ty.name, 100.0 * ty.share)).collect(),
    };
    names.join(", ")
}

fn table(rows: &[Compared]) -> Result<()> {
    const HEAD: [&str; 10] =
        ["file", "types", "bits/weight", "MB", "perplexity", "KL", "KL 99 %", "same top", "prefill/s", "decode/s"];
    let mut cells: Vec<Vec<String>> = vec![HEAD.map(String::from).to_vec()];
    for Compared { file, ppl, error, divergence, speed, .. } in rows {
        let mut row = vec![
            name(file),
            mix(file),
            format!("{:.2}", file.bits_per_weight),
            format!("{:.1}", file.bytes as f64 / 1e6),
            format!("{ppl:.4} ± {error:.4}"),
        ];
        match divergence {
            None => row.extend(["base", "", ""].map(String::from)),
            Some(found) => {
                row.push(format!("{:.5} ± {:.5}", found.kl, found.kl_error));
                row.push(format!("{:.5}", found.kl_99));
                row.push(format!("{:.2} ± {:.2} %", 100.0 * found.same_top, 100.0 * found.same_top_error));
            }
        }
        let speeds = speed.iter().flat_map(|speed| [speed.prefill, speed.decode]);
        row.extend(speeds.map(|speed| format!("{speed:.1}")));
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
    Ok(())
}

fn picture(rows: &[Compared], base: usize) -> String {
    /// A file that predicts as the base does would be infinitely low on a logarithmic scale.
    const LEAST: f64 = 1e-7;
    let point = |row: &Compared| {
        let kl = row.divergence?.kl.max(LEAST);
        Some(Point { x: row.file.bytes as f64 / 1e6, y: kl, label: name(&row.file) })
    };
    let points: Vec<Point> = rows.iter().filter_map(point).collect();
    let title = format!("Divergence from {}", name(&rows[base].file));
    plot::svg(&points, &title, "size in MB", "mean KL divergence in nats")
}
