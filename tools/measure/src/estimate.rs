//! What a machine can do, and what a model would need and reach on it.

use std::path::PathBuf;

use quipu_formats::source::{Source, TensorInfo};
use quipu_quant::TensorType;
use quipu_runtime::config::Config;
use quipu_runtime::host::memory::Memory;
use quipu_runtime::{Isa, KvType, LoadOptions};
use serde::Serialize;

use crate::cost::Cost;
use crate::error::MeasureError;
use crate::roofline::{Roof, Roofline, largest};

/// What a number of threads does at best, per second.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct MachineLimits {
    /// Threads in use.
    pub threads: usize,
    /// Bytes read from memory: the most of the samples.
    pub read_bytes_per_s: f64,
    /// Bytes per second, time by time: memory may have states of different speed.
    pub read_samples: Vec<f64>,
    /// Bytes read from memory in small pages.
    pub read_small_pages_bytes_per_s: f64,
    /// Multiplications of int8.
    pub int8_macs_per_s: f64,
    /// Multiplications of f32.
    pub f32_macs_per_s: f64,
}

/// Measures what `threads` threads do at best with the instruction set `isa`.
///
/// # Errors
/// When this CPU lacks the instruction set, or the system gives no threads or no memory.
///
/// # Examples
/// ```
/// use quipu_measure::machine_limits;
/// use quipu_runtime::Isa;
///
/// let limits = machine_limits(Isa::best(), 1)?;
/// assert!(limits.int8_macs_per_s > 0.0 && limits.read_bytes_per_s > 0.0);
/// # Ok::<(), quipu_measure::MeasureError>(())
/// ```
pub fn machine_limits(isa: Isa, threads: usize) -> Result<MachineLimits, MeasureError> {
    let mut roof = Roof::new(isa, threads, TensorType::Q4_0)?;
    let f32_macs_per_s = roof.roofline().multiply_peak(TensorType::F32);
    roof.look()?;
    Ok(MachineLimits {
        threads,
        read_bytes_per_s: largest(roof.reads()),
        read_samples: roof.reads().to_vec(),
        read_small_pages_bytes_per_s: roof.small_pages(),
        int8_macs_per_s: largest(roof.multiplications()),
        f32_macs_per_s,
    })
}

/// The memory that a model needs, and the speeds that follow for it from what the machine can do.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Estimate {
    /// The model file.
    pub path: PathBuf,
    /// The model's own name.
    pub name: Option<String>,
    /// The type of the weights that most multiplications are with.
    #[serde(rename = "type", serialize_with = "crate::json::lowercase")]
    pub ty: TensorType,
    /// Whether the weights are used as they lie in the file.
    pub packed: bool,
    /// Weights, norms included.
    pub parameters: u64,
    /// Bytes of all tensors in the file.
    pub file_bytes: u64,
    /// Bytes of all matrices in memory.
    pub weight_bytes: u64,
    /// Positions of a sequence.
    pub context: u64,
    /// Bytes of keys and values of a full context.
    pub kv_bytes: u64,
    /// Bytes of keys and values of one position.
    pub kv_bytes_per_position: u64,
    /// Whether weights and context fit into the memory that is available; `None` where the system does not tell.
    pub fits: Option<bool>,
    /// Tokens per second of a prompt of one batch.
    pub prefill_tokens_per_s: f64,
    /// Tokens per second that are written without context.
    pub decode_tokens_per_s: f64,
    /// Tokens per second that are written when the context is full.
    pub decode_full_context_tokens_per_s: f64,
}

impl Estimate {
    /// Bytes of memory for weights and context together.
    pub fn needed_bytes(&self) -> u64 {
        self.weight_bytes.saturating_add(self.kv_bytes)
    }
}

/// What the model in `source` needs with `context` positions, by default the model's own limit, and how fast it should
/// be on a machine with these `limits`, by a short measurement of the kernels.
///
/// # Errors
/// When the metadata do not describe a model that runs here, or the kernels can't be measured.
///
/// # Examples
/// ```
/// use quipu_measure::{estimate, machine_limits};
/// use quipu_runtime::{Isa, open};
///
/// let limits = machine_limits(Isa::best(), 1)?;
/// let found = estimate(&*open("demo")?, Some(1000), Isa::best(), &limits)?;
/// assert_eq!(found.kv_bytes, 1000 * found.kv_bytes_per_position);
/// # Ok::<(), quipu_measure::MeasureError>(())
/// ```
pub fn estimate(
    source: &dyn Source,
    context: Option<usize>,
    isa: Isa,
    limits: &MachineLimits,
) -> Result<Estimate, MeasureError> {
    let path = source.path().to_path_buf();
    let config = match Config::from_metadata(source.metadata()) {
        Ok(config) => config,
        Err(error) => return Err(MeasureError::Config { path, error }),
    };
    let cost = Cost::new(source, &config, KvType::default());
    let sum = |f: fn(&TensorInfo) -> u64| source.tensors().iter().map(f).sum::<u64>();
    let context = context.unwrap_or(config.context);
    let Some(kv_bytes) = cost.position_bytes.checked_mul(context as u64) else {
        return Err(MeasureError::TooManyPositions { depth: 0, more: context });
    };
    let context = context as u64;

    let mut roofline = Roofline::new(isa, limits.threads)?;
    let (one_row, many_rows) = (roofline.product(cost.ty, 1), roofline.product(cost.ty, 64));
    // Memory and arithmetic overlap, so the slower of them decides.
    let decode = |depth: u64| {
        let macs = (cost.layers.macs + cost.head.macs) as f64;
        let reading = cost.decode_bytes(depth, 1, 1) as f64 / limits.read_bytes_per_s;
        1.0 / reading.max(macs / one_row)
    };
    let prompt = LoadOptions::default().batch as u64;
    let needed = cost.resident_bytes.saturating_add(kv_bytes);
    Ok(Estimate {
        path,
        name: config.name.clone(),
        ty: cost.ty,
        packed: source.tensors().iter().any(|t| t.encoding.is_packed()),
        parameters: sum(|t| t.shape.iter().map(|&n| n as u64).product()),
        file_bytes: sum(|t| t.byte_len().unwrap_or(0) as u64),
        weight_bytes: cost.resident_bytes,
        context,
        kv_bytes,
        kv_bytes_per_position: cost.position_bytes,
        fits: Memory::here().map(|memory| needed <= memory.available),
        prefill_tokens_per_s: prompt as f64 * many_rows / cost.prefill_macs(prompt) as f64,
        decode_tokens_per_s: decode(0),
        decode_full_context_tokens_per_s: decode(context.saturating_sub(1)),
    })
}
