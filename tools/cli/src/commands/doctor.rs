//! `quipu doctor`: what this machine is, and what a model would make of it.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use quipu_formats::source::{Source, TensorInfo};
use quipu_measure::cost::Cost;
use quipu_measure::roofline::Roofline;
use quipu_quant::TensorType;
use quipu_runtime::config::Config;
use quipu_runtime::host::cores::{Cores, Measure};
use quipu_runtime::host::cpu;
use quipu_runtime::host::memory::{self, Memory};
use quipu_runtime::{Isa, KvType, LoadOptions};
use serde_json::{Value as Json, json};

use crate::args::{ContextArgs, IsaArgs};
use crate::{model, out, talk};

/// Show what this machine can do, and what a model would need and reach on it
///
/// The CPU, the instruction set that is used and why, threads, caches, memory; measured: how fast memory is read and
/// how fast the cores multiply. With MODEL: the memory that it needs, and the speeds that follow from these figures
/// (`quipu bench` measures them).
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
    context: ContextArgs,
    /// One JSON object: cpu, isa, threads, caches, memory, measured, model
    #[arg(long)]
    json: bool,
}

/// What the machine does with a number of threads, per second.
struct Measured {
    threads: usize,
    /// Bytes read from memory in large pages, if the system gives them, and in small ones.
    bandwidth: [f64; 2],
    /// Multiplications of int8.
    int8: f64,
    /// Multiplications of f32.
    f32: f64,
}

/// What a model needs and what follows for its speed.
struct Prospect {
    path: PathBuf,
    name: Option<String>,
    ty: TensorType,
    packed: bool,
    parameters: u64,
    file_bytes: u64,
    weight_bytes: u64,
    context: u64,
    kv_bytes: u64,
    position_bytes: u64,
    /// Tokens per second: prefill, decode, decode with a full context.
    speeds: [f64; 3],
}

impl Prospect {
    fn needed(&self) -> u64 {
        self.weight_bytes + self.kv_bytes
    }
}

pub fn run(args: Args) -> Result<()> {
    let asked_for = args.isa.asked_for()?;
    let isa = asked_for.map_or_else(Isa::best, |(isa, _)| isa);
    let cores = Cores::here();
    let allowed = cores.allowed_threads();
    let threads = args.threads.unwrap_or(cores.default_threads());
    ensure!((1..=allowed).contains(&threads), "-t {threads}: this process can use 1 to {allowed} threads");
    // A model that can't be read should say so before the measurements.
    let source = args.model.as_deref().map(model::open_path).transpose()?;
    let source = source.map(|s| Config::from_metadata(s.metadata()).map(|c| (s, c))).transpose();
    let source = source.with_context(|| args.model.as_deref().unwrap_or(Path::new("")).display().to_string())?;

    let mut measured = Vec::new();
    for threads in if threads > 1 { vec![1, threads] } else { vec![1] } {
        talk::note_part(&format!("\r\x1b[Kmeasuring with {threads} of {allowed} threads"));
        let mut roofline = Roofline::new(isa, threads)?;
        measured.push(Measured {
            threads,
            bandwidth: [roofline.read_bandwidth(true)?, roofline.read_bandwidth(false)?],
            int8: roofline.multiply_peak(TensorType::Q4_0),
            f32: roofline.multiply_peak(TensorType::F32),
        });
    }
    let prospect = match &source {
        Some((source, config)) => Some(prospect(&**source, config, args.context.context, isa, threads, &measured)?),
        None => None,
    };
    talk::note_part("\r\x1b[K");
    let origin = asked_for.map(|(_, origin)| origin);
    if args.json {
        out::json(&report(isa, origin, &cores, threads, &measured, prospect.as_ref()))
    } else {
        show_machine(isa, origin, &cores, threads, &measured)?;
        prospect.map_or(Ok(()), |p| show_model(&p, threads))
    }
}

/// The CPU by name.
pub fn cpu_name() -> String {
    let (name, _) = quipu_kernels::cpu();
    name.or_else(cpu::model_name).unwrap_or_else(|| format!("{} CPU", std::env::consts::ARCH))
}

fn prospect(
    source: &dyn Source,
    config: &Config,
    context: Option<usize>,
    isa: Isa,
    threads: usize,
    measured: &[Measured],
) -> Result<Prospect> {
    let cost = Cost::new(source, config, KvType::default());
    let sum = |f: fn(&TensorInfo) -> u64| source.tensors().iter().map(f).sum::<u64>();
    let context = context.unwrap_or(config.context) as u64;

    let mut roofline = Roofline::new(isa, threads)?;
    let (one_row, many_rows) = (roofline.product(cost.ty, 1), roofline.product(cost.ty, 64));
    let bandwidth = measured.last().map_or(0.0, |m| m.bandwidth[0]);
    // Memory and arithmetic overlap, so the slower of them decides.
    let decode = |depth: u64| {
        let macs = (cost.layers.macs + cost.head.macs) as f64;
        let reading = cost.decode_bytes(depth, 1) as f64 / bandwidth;
        1.0 / reading.max(macs / one_row)
    };
    let prompt = LoadOptions::default().batch as u64;
    let prefill = prompt as f64 * many_rows / cost.prefill_macs(prompt) as f64;
    Ok(Prospect {
        path: source.path().to_path_buf(),
        name: config.name.clone(),
        ty: cost.ty,
        packed: source.tensors().iter().any(|t| t.encoding.is_packed()),
        parameters: sum(|t| t.shape.iter().map(|&n| n as u64).product()),
        file_bytes: sum(|t| t.byte_len().unwrap_or(0) as u64),
        weight_bytes: cost.resident_bytes,
        context,
        kv_bytes: context.saturating_mul(cost.position_bytes),
        position_bytes: cost.position_bytes,
        speeds: [prefill, decode(0), decode(context.saturating_sub(1))],
    })
}

/// The instruction sets of this architecture that are not the one in use, and what they lack.
fn others(isa: Isa) -> impl Iterator<Item = (Isa, Vec<&'static str>)> {
    Isa::ALL.into_iter().filter(move |&other| other != isa && other.is_native()).map(|other| (other, other.missing()))
}

fn report(
    isa: Isa,
    origin: Option<&str>,
    cores: &Cores,
    threads: usize,
    measured: &[Measured],
    prospect: Option<&Prospect>,
) -> Json {
    let (_, features) = quipu_kernels::cpu();
    let features: serde_json::Map<_, _> = features.into_iter().map(|(name, has)| (name.into(), has.into())).collect();
    let others: Json = others(isa).map(|(isa, missing)| json!({"name": isa.name(), "missing": missing})).collect();
    let caches: Json =
        cpu::caches().iter().map(|c| json!({"level": c.level, "bytes": c.bytes, "shared_by": c.shared_by})).collect();
    let memory = Memory::here();
    let measured: Json = measured
        .iter()
        .map(|m| {
            json!({
                "threads": m.threads,
                "read_bytes_per_s": m.bandwidth[0],
                "read_small_pages_bytes_per_s": m.bandwidth[1],
                "int8_macs_per_s": m.int8,
                "f32_macs_per_s": m.f32,
            })
        })
        .collect();
    let model = prospect.map(|p| {
        json!({
            "path": p.path,
            "name": p.name,
            "type": p.ty.name().to_ascii_lowercase(),
            "packed": p.packed,
            "parameters": p.parameters,
            "file_bytes": p.file_bytes,
            "weight_bytes": p.weight_bytes,
            "context": p.context,
            "kv_bytes": p.kv_bytes,
            "kv_bytes_per_position": p.position_bytes,
            "fits": memory.map(|m| p.needed() <= m.available),
            "prefill_tokens_per_s": p.speeds[0],
            "decode_tokens_per_s": p.speeds[1],
            "decode_full_context_tokens_per_s": p.speeds[2],
        })
    });
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "cpu": {"name": cpu_name(), "architecture": std::env::consts::ARCH, "features": features},
        "isa": {"name": isa.name(), "chosen_by": origin.unwrap_or("default"), "others": others},
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
        "caches": caches,
        "memory": {
            "total_bytes": memory.map(|m| m.total),
            "available_bytes": memory.map(|m| m.available),
            "huge_pages": memory::transparent_huge_pages(),
        },
        "measured": measured,
        "model": model,
    })
}

fn row(name: &str, value: &str) -> Result<()> {
    out::line(format_args!("{name:17}{value}"))
}

fn show_machine(isa: Isa, origin: Option<&str>, cores: &Cores, threads: usize, measured: &[Measured]) -> Result<()> {
    let (_, features) = quipu_kernels::cpu();
    let names = |wanted: bool| features.iter().filter(|f| f.1 == wanted).map(|f| f.0).collect::<Vec<_>>().join(" ");
    row("CPU", &cpu_name())?;
    if !features.is_empty() {
        let missing = names(false);
        let missing = if missing.is_empty() { String::new() } else { format!("; not {missing}") };
        row("", &format!("has {}{missing}", names(true)))?;
    }
    let why = match origin {
        Some(origin) => format!("asked for by {origin}; the best here is {}", Isa::best()),
        None => "the best that this CPU has".to_string(),
    };
    row("instruction set", &format!("{isa}, {why}"))?;
    for (other, missing) in others(isa).filter(|(_, missing)| !missing.is_empty()) {
        row("", &format!("not {other}: no {}", missing.join(", ")))?;
    }
    row("threads", &thread_limits(cores, threads))?;
    row("", &cores.why())?;
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
    if let Some(setting) = memory::transparent_huge_pages() {
        let meaning = match setting.as_str() {
            "never" => {
                "never: weights lie in small pages, which costs some speed (see /sys/kernel/mm/transparent_hugepage/enabled)"
            }
            "always" => "always",
            _ => "for what asks for them, as Quipu does",
        };
        row("huge pages", meaning)?;
    }
    out::line("")?;
    for m in measured {
        let what = if m.threads == 1 { "1 thread".to_string() } else { format!("{} threads", m.threads) };
        let [large, small] = m.bandwidth.map(|b| b / 1e9);
        row(
            &what,
            &format!(
                "reads {large:.1} GB/s ({small:.1} in small pages), multiplies {:.0} G int8/s, {:.0} G f32/s",
                m.int8 / 1e9,
                m.f32 / 1e9
            ),
        )?;
    }
    Ok(())
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

fn show_model(p: &Prospect, threads: usize) -> Result<()> {
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
            gigabytes(p.needed()),
            gigabytes(p.weight_bytes),
            gigabytes(p.kv_bytes),
            p.context
        ),
    )?;
    if let Some(memory) = Memory::here() {
        let room = memory.available.checked_sub(p.weight_bytes).map(|room| room / p.position_bytes.max(1));
        let verdict = match room {
            Some(tokens) if tokens >= p.context => "fits into the memory that is available".to_string(),
            Some(tokens) if tokens > 0 => format!("more than is available; with -c {tokens} or less it fits"),
            _ => "more than is available, even with hardly any context".to_string(),
        };
        row("", &verdict)?;
    }
    let [prefill, decode, deep] = p.speeds;
    row(
        "should reach",
        &format!(
            "with {threads} threads about {} tokens/s reading, {} writing, {} at the end of the context",
            about(prefill),
            about(decode),
            about(deep)
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
