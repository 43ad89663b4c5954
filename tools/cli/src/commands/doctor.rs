//! `quipu doctor`: what this machine is, and what a model would make of it.

use std::path::PathBuf;

use anyhow::{Context, Result};
use quipu_measure::{Estimate, MachineLimits, estimate, machine_limits};
use quipu_runtime::config::Config;
use quipu_runtime::host::cores::{Cores, Measure};
use quipu_runtime::host::cpu;
use quipu_runtime::host::memory::{self, LargePages, Memory};
use quipu_runtime::{Isa, TuningChoice};
use serde_json::{Value as Json, json};

use super::tuning;
use crate::args::{self, ContextArgs, IsaArgs, TuningArgs};
use crate::watch::count;
use crate::{model, out, talk};

/// Show what this machine can do, and what a model would need and reach on it
///
/// The CPU, the instruction set that is used and why, threads, tuning, caches, memory; measured: how fast memory is
/// read and how fast the cores multiply. With MODEL: the memory that it needs, and the speeds that follow from these
/// figures (`quipu bench` measures them).
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  quipu doctor
  quipu doctor llama-q4_0.gguf -c 8192
  quipu doctor --json")]
pub struct Args {
    /// A GGUF file, a packed file, a Hugging Face directory, or `demo`
    model: Option<PathBuf>,
    /// Threads [default: one for each fast core]
    #[arg(short, long, value_name = "N")]
    threads: Option<usize>,
    #[command(flatten)]
    isa: IsaArgs,
    #[command(flatten)]
    tuning: TuningArgs,
    #[command(flatten)]
    context: ContextArgs,
    /// One JSON object: cpu, isa, threads, tuning, caches, memory, measured, model
    #[arg(long)]
    json: bool,
}

/// What is known of the machine.
struct Machine {
    isa: Isa,
    /// What asked for that instruction set.
    asked_by: Option<&'static str>,
    cores: Cores,
    /// Threads in use.
    threads: usize,
    /// How kernels are tuned, and what asked for that.
    tuning: Option<(TuningChoice, &'static str)>,
    /// With one thread, and with all that are in use.
    limits: Vec<MachineLimits>,
}

pub fn run(args: Args) -> Result<()> {
    let asked_for = args.isa.asked_for()?;
    let isa = asked_for.map_or_else(Isa::best, |(isa, _)| isa);
    let tuning = args.tuning.asked_for(Some(isa))?;
    let cores = Cores::here();
    let threads = args.threads.unwrap_or(cores.default_threads());
    args::check_threads(threads)?;
    // A model that can't be read should say so before the measurements.
    let source = args.model.as_deref().map(model::open_path).transpose()?;
    if let (Some(source), Some(path)) = (&source, &args.model) {
        Config::from_metadata(source.metadata()).with_context(|| path.display().to_string())?;
    }
    let mut limits = Vec::new();
    for threads in if threads > 1 { vec![1, threads] } else { vec![1] } {
        talk::progress(&format!("measuring with {threads} of {} threads", cores.allowed_threads()));
        limits.push(machine_limits(isa, threads)?);
    }
    let estimate = match (&source, limits.last()) {
        (Some(source), Some(limits)) => Some(estimate(&**source, args.context.context, isa, limits)?),
        _ => None,
    };
    talk::clear_progress();
    let machine = Machine { isa, asked_by: asked_for.map(|(_, origin)| origin), cores, threads, tuning, limits };
    if args.json {
        return out::json(&report(&machine, estimate.as_ref()));
    }
    show_machine(&machine)?;
    estimate.map_or(Ok(()), |estimate| show_model(&estimate, threads))
}

/// The instruction sets of this architecture that are not the one in use, and what they lack.
fn others(isa: Isa) -> impl Iterator<Item = (Isa, Vec<&'static str>)> {
    Isa::ALL.into_iter().filter(move |&other| other != isa && other.is_native()).map(|other| (other, other.missing()))
}

fn report(machine: &Machine, estimate: Option<&Estimate>) -> Json {
    let Machine { isa, asked_by, cores, threads, tuning, limits } = machine;
    let (_, features) = quipu_kernels::cpu();
    let features: serde_json::Map<_, _> = features.into_iter().map(|(name, has)| (name.into(), has.into())).collect();
    let others: Json = others(*isa).map(|(isa, missing)| json!({"name": isa.name(), "missing": missing})).collect();
    let caches: Json =
        cpu::caches().iter().map(|c| json!({"level": c.level, "bytes": c.bytes, "shared_by": c.shared_by})).collect();
    let memory = Memory::here();
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "cpu": {"name": cpu::name(), "architecture": std::env::consts::ARCH, "features": features},
        "isa": {"name": isa.name(), "chosen_by": asked_by.unwrap_or("default"), "others": others},
        "threads": {
            "used": threads,
            "default": cores.default_threads(),
            "allowed": cores.allowed_threads(),
            "online": cores.online,
            "quota": cores.quota,
            "cpus": cores.allowed,
            "fast_cpus": cores.fast(),
            "fast_by": cores.strengths.as_ref().map(|(measure, _)| Measure::name(*measure)),
        },
        "tuning": tuning::report(tuning.as_ref(), *isa, *threads),
        "caches": caches,
        "memory": {
            "total_bytes": memory.map(|m| m.total),
            "available_bytes": memory.map(|m| m.available),
            "huge_pages": match memory::large_pages() {
                Some(LargePages::Setting(setting)) => Some(setting),
                _ => None,
            },
        },
        "measured": limits,
        "model": estimate,
    })
}

fn row(name: &str, value: &str) -> Result<()> {
    out::line(format_args!("{name:17}{value}"))
}

fn show_machine(machine: &Machine) -> Result<()> {
    let Machine { isa, asked_by, cores, threads, tuning, limits } = machine;
    let (_, features) = quipu_kernels::cpu();
    let names = |wanted: bool| features.iter().filter(|f| f.1 == wanted).map(|f| f.0).collect::<Vec<_>>().join(" ");
    row("CPU", &cpu::name())?;
    if !features.is_empty() {
        let missing = names(false);
        let missing = if missing.is_empty() { String::new() } else { format!("; not {missing}") };
        row("", &format!("has {}{missing}", names(true)))?;
    }
    let why = match asked_by {
        Some(origin) => format!("asked for by {origin}; the best here is {}", Isa::best()),
        None => "the best that this CPU has".to_string(),
    };
    row("instruction set", &format!("{isa}, {why}"))?;
    for (other, missing) in others(*isa).filter(|(_, missing)| !missing.is_empty()) {
        row("", &format!("not {other}: no {}", missing.join(", ")))?;
    }
    row("threads", &thread_limits(cores, *threads))?;
    row("", &cores.why())?;
    for (i, line) in tuning::lines(tuning.as_ref(), *isa, *threads).iter().enumerate() {
        row(if i == 0 { "tuning" } else { "" }, line)?;
    }
    let caches: Vec<_> = cpu::caches()
        .iter()
        .map(|c| {
            let shared = if c.shared_by > 1 { format!(" for {} CPUs", c.shared_by) } else { String::new() };
            format!("L{} {} KB{shared}", c.level, c.bytes >> 10)
        })
        .collect();
    if !caches.is_empty() {
        row("caches", &caches.join(", "))?;
    }
    match Memory::here() {
        Some(Memory { total, available }) => {
            row("memory", &format!("{}, {} available", gigabytes(total), gigabytes(available)))?;
        }
        None => row("memory", "unknown on this system")?,
    }
    match memory::large_pages() {
        Some(LargePages::Setting(setting)) => row("huge pages", meaning(&setting))?,
        Some(LargePages::Not(why)) => row("huge pages", &format!("none: {why}"))?,
        None => {}
    }
    out::line("")?;
    for limits in limits {
        let giga = |rate: f64| rate / 1e9;
        let (best, small) = (giga(limits.read_bytes_per_s), giga(limits.read_small_pages_bytes_per_s));
        let least = giga(limits.read_samples.iter().copied().fold(f64::INFINITY, f64::min));
        let (int8, f32) = (giga(limits.int8_macs_per_s), giga(limits.f32_macs_per_s));
        row(
            &count(limits.threads, "thread"),
            &format!(
                "reads {best:.1} GB/s at best ({least:.1} at times; {small:.1} in small pages), \
                 multiplies {int8:.0} G int8/s, {f32:.0} G f32/s"
            ),
        )?;
    }
    Ok(())
}

/// What Linux's setting of huge pages means.
fn meaning(setting: &str) -> &'static str {
    match setting {
        "never" => {
            "never: weights lie in small pages, which costs some speed (see /sys/kernel/mm/transparent_hugepage/enabled)"
        }
        "always" => "always",
        _ => "for what asks for them, as Quipu does",
    }
}

/// Threads in use, and what keeps them from being more.
fn thread_limits(cores: &Cores, threads: usize) -> String {
    let mut limits = Vec::new();
    if let Some(online) = cores.online {
        limits.push(format!("{online} CPUs"));
        if cores.allowed.len() < online {
            limits.push(format!("this process may run on {}", cores.allowed.len()));
        }
    }
    if let Some(quota) = cores.quota {
        limits.push(format!("the control group has time of {quota:.1}"));
    }
    let limits = if limits.is_empty() { String::new() } else { format!(" ({})", limits.join(", ")) };
    format!("{threads} of {} that can run at once{limits}", cores.allowed_threads())
}

fn show_model(p: &Estimate, threads: usize) -> Result<()> {
    out::line("")?;
    let name = p.name.as_ref().map_or(String::new(), |name| format!(" ({name})"));
    row("model", &format!("{}{name}", p.path.display()))?;
    let packed = if p.packed { ", packed: used as it lies in the file" } else { "" };
    row(
        "size",
        &format!("{:.2} G parameters, mostly {}, {}{packed}", p.parameters as f64 / 1e9, p.ty, gigabytes(p.file_bytes)),
    )?;
    row(
        "needs",
        &format!(
            "{}: weights {}, and {} for {} tokens of context",
            gigabytes(p.needed_bytes()),
            gigabytes(p.weight_bytes),
            gigabytes(p.kv_bytes),
            p.context
        ),
    )?;
    if let Some(memory) = Memory::here() {
        let room = memory.available.checked_sub(p.weight_bytes).map(|room| room / p.kv_bytes_per_position.max(1));
        let verdict = match room {
            Some(tokens) if tokens >= p.context => "fits into the memory that is available".to_string(),
            Some(tokens) if tokens > 0 => format!("more than is available; with -c {tokens} or less it fits"),
            _ => "more than is available, even with hardly any context".to_string(),
        };
        row("", &verdict)?;
    }
    row(
        "should reach",
        &format!(
            "with {} about {} tokens/s reading, {} writing, {} at the end of the context",
            count(threads, "thread"),
            about(p.prefill_tokens_per_s),
            about(p.decode_tokens_per_s),
            about(p.decode_full_context_tokens_per_s)
        ),
    )
}

fn gigabytes(bytes: u64) -> String {
    match bytes as f64 / 1e9 {
        small if small < 0.1 => format!("{:.1} MB", small * 1e3),
        large => format!("{large:.2} GB"),
    }
}

/// Two digits: no more is known.
fn about(speed: f64) -> String {
    if !speed.is_finite() || speed <= 0.0 {
        return "?".to_string();
    }
    let unit = 10f64.powf(speed.log10().floor() - 1.0);
    let rounded = (speed / unit).round() * unit;
    if rounded < 10.0 { format!("{rounded:.1}") } else { format!("{rounded:.0}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_digits() {
        for (speed, text) in [(1234.5, "1200"), (98.7, "99"), (9.87, "9.9"), (0.5, "0.5"), (10.4, "10"), (99.7, "100")]
        {
            assert_eq!(about(speed), text);
        }
        assert_eq!(about(f64::INFINITY), "?");
    }

    #[test]
    fn sizes() {
        assert_eq!(gigabytes(3_140_000), "3.1 MB");
        assert_eq!(gigabytes(1_500_000_000), "1.50 GB");
    }
}
