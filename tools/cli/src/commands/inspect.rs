//! `quipu inspect`: what is in a model file.

use std::path::PathBuf;

use anyhow::Result;
use quipu_formats::bundle::Bundle;
use quipu_formats::gguf::{Array, Value};
use quipu_formats::safetensors::SafetensorsFile;
use quipu_formats::source::{Encoding, Source};
use quipu_formats::torch::{Numbers, TorchFile};
use serde_json::{Value as Json, json};

use crate::visible::visible;
use crate::{bundled, model, out};

/// Show what is in a model file: metadata, tensors, totals
///
/// FILE is a GGUF file, a packed file, the directory of a checkpoint (shown as the GGUF it would become), a safetensors
/// file or a PyTorch checkpoint (.bin, .pth, .pt), of which nothing is run.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  quipu inspect llama-q4_0.gguf
  quipu inspect llama-q4_0.gguf --json | jq '.metadata[\"llama.context_length\"]'")]
pub struct Args {
    /// The file, or `demo`
    file: PathBuf,
    /// One JSON object instead of tables; long arrays are abbreviated there too, unless --all
    #[arg(long)]
    json: bool,
    /// Print arrays and strings in full
    #[arg(long)]
    all: bool,
}

/// A file as both outputs show it.
struct Report {
    format: &'static str,
    metadata: Vec<(String, Json)>,
    tensors: Vec<Tensor>,
}

struct Tensor {
    name: String,
    ty: String,
    layout: &'static str,
    /// In the file format's own order.
    shape: Vec<usize>,
    bytes: u64,
}

impl Tensor {
    fn elements(&self) -> u64 {
        self.shape.iter().map(|&n| n as u64).product()
    }
}

pub fn run(args: Args) -> Result<()> {
    // Arrays longer and strings larger than this are cut short.
    let limit = if args.all { usize::MAX } else { 8 };
    let ends_with = |ends: &[&str]| args.file.extension().is_some_and(|e| ends.iter().any(|end| e == *end));
    let report = if ends_with(&["safetensors"]) && !args.file.is_dir() {
        safetensors(&SafetensorsFile::open(&args.file)?)
    } else if ends_with(&["bin", "pth", "pt"]) && !args.file.is_dir() {
        torch(&TorchFile::open(&args.file)?)
    } else {
        let source = model::open_path(&args.file)?;
        model::warn_oddities(&args.file, source.oddities());
        let format = match source.tensors().iter().any(|t| t.encoding.is_packed()) {
            true => "GGUF, packed",
            false if source.path().is_dir() => "Hugging Face directory",
            false => "GGUF",
        };
        let mut report = gguf(source.as_ref(), format, limit);
        let bundle = if args.file.as_os_str() == bundled::NAME { Bundle::here()? } else { None };
        if let Some(licence) = bundle.and_then(|bundle| bundle.notes.licence) {
            report.metadata.push(("(licence)".into(), licence.into()));
        }
        report
    };
    if args.json { print_json(&args, &report) } else { print_tables(&report, limit) }
}

fn gguf(source: &dyn Source, format: &'static str, limit: usize) -> Report {
    let metadata = source.metadata().iter().map(|(key, value)| (key.to_string(), value_json(value, limit))).collect();
    let tensors = source.tensors().iter().map(|t| Tensor {
        name: t.name.clone(),
        ty: t.encoding.name().to_string(),
        layout: match t.encoding {
            Encoding::Plain(_) | Encoding::Stored(_) => "plain",
            Encoding::Packed(_) => "packed",
            Encoding::Interleaved(_) => "interleaved",
        },
        shape: t.shape.clone(),
        bytes: t.byte_len().unwrap_or(0) as u64,
    });
    Report { format, metadata, tensors: tensors.collect() }
}

fn safetensors(file: &SafetensorsFile) -> Report {
    let tensors = file.tensors().iter().enumerate().map(|(i, t)| Tensor {
        name: t.name.clone(),
        ty: t.dtype.to_string(),
        layout: "plain",
        shape: t.shape.clone(),
        bytes: file.data(i).len() as u64,
    });
    let metadata = file.metadata().iter().map(|(k, v)| (k.clone(), Json::from(v.as_str()))).collect();
    Report { format: "safetensors", metadata, tensors: tensors.collect() }
}

fn torch(file: &TorchFile) -> Report {
    let tensors = file.tensors().iter().map(|t| {
        let numbers: u64 = t.shape.iter().map(|&n| n as u64).product();
        let layout = match t.numbers {
            Numbers::Contiguous(_) => "plain",
            Numbers::Strided(_) => "strided",
        };
        let bytes = numbers * t.dtype.bits() / 8;
        Tensor { name: t.name.clone(), ty: t.dtype.to_string(), layout, shape: t.shape.clone(), bytes }
    });
    Report { format: "PyTorch checkpoint", metadata: Vec::new(), tensors: tensors.collect() }
}

fn print_json(args: &Args, report: &Report) -> Result<()> {
    let (parameters, bytes) = totals(report);
    let tensors: Vec<Json> = report
        .tensors
        .iter()
        .map(|t| json!({"name": t.name, "type": t.ty, "layout": t.layout, "shape": t.shape, "bytes": t.bytes}))
        .collect();
    out::json(&json!({
        "file": args.file,
        "format": report.format,
        "metadata": report.metadata.iter().cloned().collect::<serde_json::Map<_, _>>(),
        "tensors": tensors,
        "parameters": parameters,
        "tensor_bytes": bytes,
        "bits_per_weight": bits_per_weight(parameters, bytes),
    }))
}

fn print_tables(report: &Report, limit: usize) -> Result<()> {
    let keys: Vec<String> = report.metadata.iter().map(|(key, _)| visible(key)).collect();
    let width = keys.iter().map(String::len).max().unwrap_or(0);
    for (key, (_, value)) in keys.iter().zip(&report.metadata) {
        out::line(format_args!("{key:width$}  {}", shorten(&visible(&value.to_string()), limit)))?;
    }
    if !report.metadata.is_empty() {
        out::line("")?;
    }
    let names: Vec<String> = report.tensors.iter().map(|t| visible(&t.name)).collect();
    let width = names.iter().map(String::len).max().unwrap_or(0);
    for (name, t) in names.iter().zip(&report.tensors) {
        let shape = t.shape.iter().map(usize::to_string).collect::<Vec<_>>().join(" × ");
        let layout = if t.layout == "plain" { String::new() } else { format!("  {}", t.layout) };
        out::line(format_args!("{:width$}  {:8}  {shape:24}  {:>13} bytes{layout}", name, t.ty, t.bytes))?;
    }
    let (parameters, bytes) = totals(report);
    out::line(format_args!(
        "\n{}: {} tensors, {:.1} M parameters, {:.1} MB, {:.2} bits per weight",
        report.format,
        report.tensors.len(),
        parameters as f64 / 1e6,
        bytes as f64 / 1e6,
        bits_per_weight(parameters, bytes)
    ))
}

fn totals(report: &Report) -> (u64, u64) {
    (report.tensors.iter().map(Tensor::elements).sum(), report.tensors.iter().map(|t| t.bytes).sum())
}

fn bits_per_weight(parameters: u64, bytes: u64) -> f64 {
    if parameters == 0 { 0.0 } else { 8.0 * bytes as f64 / parameters as f64 }
}

/// One line of a table; long values (chat templates) end in dots.
fn shorten(text: &str, limit: usize) -> String {
    const LONGEST: usize = 160;
    if limit == usize::MAX || text.chars().count() <= LONGEST {
        return text.to_string();
    }
    text.chars().take(LONGEST - 1).chain(['…']).collect()
}

/// A metadata value as JSON. Of an array longer than `limit`, the first elements and the length: `{"length": n,
/// "first": […]}`.
fn value_json(value: &Value, limit: usize) -> Json {
    match value {
        Value::Bool(v) => json!(v),
        Value::String(v) => json!(v),
        Value::F32(v) => float_json(*v),
        Value::F64(v) => json!(v),
        Value::Array(v) => array_json(v, limit),
        Value::U8(_) | Value::U16(_) | Value::U32(_) | Value::U64(_) => json!(value.as_u64()),
        Value::I8(v) => json!(v),
        Value::I16(v) => json!(v),
        Value::I32(v) => json!(v),
        Value::I64(v) => json!(v),
    }
}

/// With f32's own shortest digits (0.00001, not 0.000009999999747378752).
fn float_json(v: f32) -> Json {
    v.to_string().parse::<f64>().map_or(Json::Null, |v| json!(v))
}

fn array_json(array: &Array, limit: usize) -> Json {
    fn some<T>(items: impl ExactSizeIterator<Item = T>, limit: usize, to_json: impl Fn(T) -> Json) -> Json {
        match items.len() {
            all if all <= limit => items.map(to_json).collect(),
            all => json!({"length": all, "first": items.take(limit).map(to_json).collect::<Json>()}),
        }
    }
    match array {
        Array::U8(v) => some(v.iter(), limit, |v| json!(v)),
        Array::I8(v) => some(v.iter(), limit, |v| json!(v)),
        Array::U16(v) => some(v.iter(), limit, |v| json!(v)),
        Array::I16(v) => some(v.iter(), limit, |v| json!(v)),
        Array::U32(v) => some(v.iter(), limit, |v| json!(v)),
        Array::I32(v) => some(v.iter(), limit, |v| json!(v)),
        Array::U64(v) => some(v.iter(), limit, |v| json!(v)),
        Array::I64(v) => some(v.iter(), limit, |v| json!(v)),
        Array::F32(v) => some(v.iter(), limit, |v| float_json(*v)),
        Array::F64(v) => some(v.iter(), limit, |v| json!(v)),
        Array::Bool(v) => some(v.iter(), limit, |v| json!(v)),
        Array::String(v) => some(v.iter(), limit, |v| json!(v)),
        Array::Array(v) => some(v.iter(), limit, |v| array_json(v, limit)),
    }
}
