//! The weights of a model in the layout of the kernels: mapped from a packed file, or packed while they are loaded.

use std::borrow::Cow;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use memmap2::MmapMut;
use quipu_formats::source::{Encoding, Source, TensorInfo};
use quipu_kernels::{Kernels, MatMut, Scratch, Weights};
use quipu_quant::TensorType;
use quipu_quant::pack::{GROUP_ROWS, PackedLayout, dequantize_row, pack_group};

use crate::cancel::Cancel;
use crate::config::{Config, ConfigError};
use crate::pool::Pool;
use crate::product::ProductInput;

/// Why the weights of a model can't be used.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// The metadata.
    #[error("{path}: {error}")]
    Config {
        /// The model file.
        path: PathBuf,
        /// What is wrong.
        error: ConfigError,
    },
    /// A tensor is not there.
    #[error("{path}: tensor `{name}` is missing")]
    Missing {
        /// The model file.
        path: PathBuf,
        /// GGUF's name.
        name: String,
    },
    /// A tensor has another shape than the metadata says.
    #[error("{path}: tensor `{name}` has shape {found:?}; the metadata makes it {expected:?}")]
    Shape {
        /// The model file.
        path: PathBuf,
        /// GGUF's name.
        name: String,
        /// From the metadata.
        expected: Vec<usize>,
        /// From the directory.
        found: Vec<usize>,
    },
    /// The system gives no more memory.
    #[error("no memory for {size} bytes of weights: {error}")]
    Memory {
        /// Bytes of all matrices that do not lie in the file as they are used.
        size: usize,
        /// What the system said.
        error: std::io::Error,
    },
    /// The weights cannot be kept in memory.
    #[error(
        "cannot lock the weights in memory (--mlock): {error}; raise the limit (`ulimit -l unlimited`) or do without"
    )]
    Lock {
        /// What the system said.
        error: std::io::Error,
    },
    /// The caller wants them no more.
    #[error("loading the weights was cancelled")]
    Cancelled,
    /// A tensor of the wrong number type.
    #[error("{path}: tensor `{name}` is {found}; a vector must be F32, F16 or BF16")]
    VectorType {
        /// The model file.
        path: PathBuf,
        /// GGUF's name.
        name: String,
        /// The name of the tensor's type.
        found: &'static str,
    },
}

/// What becomes of the file's pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Residence {
    /// Weights of a packed file are used where they are mapped; otherwise they are copied into memory, as plain ones
    /// always are.
    pub mmap: bool,
    /// The system may not take the weights out of memory.
    pub mlock: bool,
}

enum Store {
    /// Packed or copied while it was loaded, to this place in the memory of all matrices.
    Owned(Arc<OnceLock<MmapMut>>, Range<usize>),
    /// Tensor number so-and-so of a packed file.
    Mapped(Arc<dyn Source>, usize),
}

/// A weight matrix, outputs × inputs, in R16·K4.
pub(crate) struct Matrix {
    layout: PackedLayout,
    store: Store,
}

impl Matrix {
    fn bytes(&self) -> &[u8] {
        match &self.store {
            Store::Owned(memory, at) => memory.get().map_or(&[], |memory| &memory[at.clone()]),
            Store::Mapped(source, index) => source.mapped(*index).unwrap_or(&[]),
        }
    }

    pub(crate) fn weights(&self) -> Weights<'_> {
        Weights::new(self.layout, self.bytes()).expect("the length was checked when the matrix was made")
    }

    pub(crate) fn ty(&self) -> TensorType {
        self.layout.ty()
    }

    pub(crate) fn rows(&self) -> usize {
        self.layout.rows()
    }

    pub(crate) fn groups(&self) -> usize {
        self.layout.groups()
    }

    /// Row `row` as f32: an embedding.
    pub(crate) fn row(&self, row: usize, out: &mut [f32]) {
        dequantize_row(&self.layout, self.bytes(), row, out);
    }
}

/// `y = s·W·x + b`.
pub(crate) struct Linear {
    /// outputs × inputs.
    pub(crate) matrix: Matrix,
    /// A factor of all outputs: files with NVFP4 have one for each matrix, since the type's own scales reach no farther
    /// than 448.
    scale: Option<f32>,
    /// outputs, padded to 16.
    bias: Option<Vec<f32>>,
}

impl Linear {
    /// The outputs of `groups` for all rows of `input`.
    pub(crate) fn apply(
        &self,
        kernels: &Kernels,
        groups: std::ops::Range<usize>,
        input: ProductInput<'_>,
        scratch: &mut Scratch,
        out: &mut MatMut<'_>,
    ) {
        let weights = self.matrix.weights();
        if weights.ty().is_float() {
            kernels.matmul_float(&weights, groups.clone(), input.x, input.stride, out);
        } else {
            kernels.matmul_quant(&weights, groups.clone(), input.tiles, scratch, out);
        }
        if let Some(scale) = self.scale {
            (0..out.rows()).for_each(|r| out.row(r).iter_mut().for_each(|y| *y *= scale));
        }
        if let Some(bias) = &self.bias {
            for r in 0..out.rows() {
                kernels.add(out.row(r), &bias[groups.start * GROUP_ROWS..groups.end * GROUP_ROWS]);
            }
        }
    }
}

/// One transformer block.
pub(crate) struct Layer {
    /// embedding, padded to 16.
    pub(crate) attn_norm: Vec<f32>,
    /// (heads · head_dim) × embedding.
    pub(crate) attn_q: Linear,
    /// (kv_heads · head_dim) × embedding.
    pub(crate) attn_k: Linear,
    /// (kv_heads · head_dim) × embedding.
    pub(crate) attn_v: Linear,
    /// embedding × (heads · head_dim).
    pub(crate) attn_output: Linear,
    /// embedding, padded to 16.
    pub(crate) ffn_norm: Vec<f32>,
    /// feed_forward × embedding.
    pub(crate) ffn_gate: Linear,
    /// feed_forward × embedding.
    pub(crate) ffn_up: Linear,
    /// embedding × feed_forward.
    pub(crate) ffn_down: Linear,
}

/// All weights of a model.
pub(crate) struct ModelWeights {
    pub(crate) layers: Vec<Layer>,
    /// embedding, padded to 16.
    pub(crate) output_norm: Vec<f32>,
    /// vocabulary × embedding; with tied embeddings it is the output matrix too.
    pub(crate) token_embd: Linear,
    /// vocabulary × embedding, if not tied.
    pub(crate) output: Option<Linear>,
    /// One divisor per RoPE pair (Llama 3's scaling).
    pub(crate) rope_factors: Option<Vec<f32>>,
}

impl ModelWeights {
    /// vocabulary × embedding.
    pub(crate) fn head(&self) -> &Linear {
        self.output.as_ref().unwrap_or(&self.token_embd)
    }

    pub(crate) fn vocabulary(&self) -> usize {
        self.token_embd.matrix.rows()
    }
}

/// Bytes of weights loaded so far, of how many.
pub type Progress<'a> = &'a (dyn Fn(u64, u64) + Sync);

/// Reads tensors by name, checks them and packs them.
struct Loader<'a> {
    source: Arc<dyn Source>,
    pool: &'a mut Pool,
    mmap: bool,
    cancel: &'a Cancel,
    progress: Progress<'a>,
    done: u64,
    total: u64,
    /// Where matrices go, one after the other; the first `used` bytes are taken.
    region: MmapMut,
    used: usize,
    /// Becomes `region` when all is loaded.
    memory: Arc<OnceLock<MmapMut>>,
}

/// Reads all weights from `source`, unless it is cancelled meanwhile.
pub(crate) fn load(
    source: Arc<dyn Source>,
    config: &Config,
    pool: &mut Pool,
    residence: Residence,
    cancel: &Cancel,
    progress: Progress<'_>,
) -> Result<ModelWeights, WeightsError> {
    let mut loader = Loader::new(source.clone(), pool, residence.mmap, cancel, progress, |_| true)?;
    let weights = loader.model(config)?;
    let Loader { region, memory, .. } = loader;
    if residence.mlock {
        #[cfg(unix)]
        let locked = region.lock();
        #[cfg(not(unix))]
        let locked = Err(std::io::ErrorKind::Unsupported.into());
        let any_mapped = source.tensors().iter().any(|t| t.encoding.is_packed() && residence.mmap);
        let locked = locked.and_then(|()| if any_mapped { source.lock() } else { Ok(()) });
        locked.map_err(|error| WeightsError::Lock { error })?;
    }
    memory.set(region).expect("set once");
    Ok(weights)
}

/// Reads the weights of layer `i` alone, unless it is cancelled meanwhile.
pub(crate) fn load_layer(
    source: Arc<dyn Source>,
    config: &Config,
    pool: &mut Pool,
    cancel: &Cancel,
    i: usize,
) -> Result<Layer, WeightsError> {
    let prefix = format!("blk.{i}.");
    let mut loader = Loader::new(source, pool, true, cancel, &|_, _| {}, |t| t.name.starts_with(&prefix))?;
    let layer = loader.layer(config, i)?;
    let Loader { region, memory, .. } = loader;
    memory.set(region).expect("set once");
    Ok(layer)
}

/// The vectors that belong to no layer: the final norm, padded to 16, and the divisors of the RoPE pairs.
pub(crate) fn load_vectors(
    source: Arc<dyn Source>,
    config: &Config,
    pool: &mut Pool,
) -> Result<(Vec<f32>, Option<Vec<f32>>), WeightsError> {
    let never = Cancel::new();
    let mut loader = Loader::new(source, pool, true, &never, &|_, _| {}, |_| false)?;
    Ok((loader.padded("output_norm.weight", config.hidden)?, loader.rope_factors(config)?))
}

/// Bytes from the beginning of a matrix in memory to where the next one may begin: no page has parts of two.
const ALIGNMENT: usize = 16 << 10;

/// Memory for matrices one after the other. Only what is written to is taken from the system.
///
/// Decode reads every byte once per token: with 4 KiB pages it waits for the TLB, so huge ones are asked for. Those are
/// 2 MiB, and a matrix with memory of its own would end in up to 2 MiB of small pages. A system that does not offer
/// huge pages loses only that.
fn region(size: usize) -> Result<MmapMut, WeightsError> {
    let memory = MmapMut::map_anon(size).map_err(|error| WeightsError::Memory { size, error })?;
    #[cfg(target_os = "linux")]
    let _ = memory.advise(memmap2::Advice::HugePage);
    Ok(memory)
}

/// Source bytes that are packed or copied before the file's pages are let go: as many as a load takes beyond the
/// weights.
const SLAB: usize = 16 << 20;

/// Asked before every slab: on a slow disk a model of gigabytes takes minutes.
fn go_on(cancel: &Cancel) -> Result<(), WeightsError> {
    if cancel.cancelled() { Err(WeightsError::Cancelled) } else { Ok(()) }
}

impl<'a> Loader<'a> {
    /// With room for those of the source's matrices that are `wanted`.
    fn new(
        source: Arc<dyn Source>,
        pool: &'a mut Pool,
        mmap: bool,
        cancel: &'a Cancel,
        progress: Progress<'a>,
        wanted: impl Fn(&TensorInfo) -> bool,
    ) -> Result<Loader<'a>, WeightsError> {
        let bytes = |t: &TensorInfo| t.ty().row_bytes(t.cols()).unwrap_or(0) as u64 * t.rows() as u64;
        let total = source.tensors().iter().map(bytes).sum();
        let mapped = |t: &TensorInfo| t.encoding.is_packed() && mmap;
        let matrices = source.tensors().iter().filter(|t| t.shape.len() > 1 && !mapped(t) && wanted(t));
        let sizes = matrices.filter_map(|t| PackedLayout::new(t.ty(), t.rows(), t.cols())).map(|l| l.total_bytes());
        let region = region(sizes.map(|size| size.next_multiple_of(ALIGNMENT)).sum())?;
        Ok(Loader { source, pool, mmap, cancel, progress, done: 0, total, region, used: 0, memory: Arc::default() })
    }

    fn model(&mut self, c: &Config) -> Result<ModelWeights, WeightsError> {
        let d = c.hidden;
        let vocabulary = self.source.find("token_embd.weight").map(|i| self.source.tensors()[i].rows());
        let vocabulary = vocabulary.ok_or_else(|| self.missing("token_embd.weight"))?;
        let rope_factors = self.rope_factors(c)?;
        let mut layers = Vec::new();
        for i in 0..c.layers {
            layers.push(self.layer(c, i)?);
        }
        Ok(ModelWeights {
            layers,
            output_norm: self.padded("output_norm.weight", d)?,
            token_embd: self.linear("token_embd", vocabulary, d)?,
            output: match self.source.find("output.weight") {
                Some(_) => Some(self.linear("output", vocabulary, d)?),
                None => None,
            },
            rope_factors,
        })
    }

    fn rope_factors(&mut self, c: &Config) -> Result<Option<Vec<f32>>, WeightsError> {
        match self.source.find("rope_freqs.weight") {
            Some(_) => self.vector("rope_freqs.weight", c.rope_dim / 2).map(Some),
            None => Ok(None),
        }
    }

    fn layer(&mut self, c: &Config, i: usize) -> Result<Layer, WeightsError> {
        let (d, q, kv, ff) = (c.hidden, c.heads * c.head_dim, c.kv_heads * c.head_dim, c.feed_forward);
        let name = |part: &str| format!("blk.{i}.{part}");
        Ok(Layer {
            attn_norm: self.padded(&name("attn_norm.weight"), d)?,
            attn_q: self.linear(&name("attn_q"), q, d)?,
            attn_k: self.linear(&name("attn_k"), kv, d)?,
            attn_v: self.linear(&name("attn_v"), kv, d)?,
            attn_output: self.linear(&name("attn_output"), d, q)?,
            ffn_norm: self.padded(&name("ffn_norm.weight"), d)?,
            ffn_gate: self.linear(&name("ffn_gate"), ff, d)?,
            ffn_up: self.linear(&name("ffn_up"), ff, d)?,
            ffn_down: self.linear(&name("ffn_down"), d, ff)?,
        })
    }

    fn missing(&self, name: &str) -> WeightsError {
        WeightsError::Missing { path: self.source.path().into(), name: name.into() }
    }

    /// The number of tensor `name`, whose shape is checked.
    fn find(&self, name: &str, expected: &[usize]) -> Result<usize, WeightsError> {
        let index = self.source.find(name).ok_or_else(|| self.missing(name))?;
        let found = &self.source.tensors()[index].shape;
        // Further extents of 1 say nothing; but room in memory is made for what has the shape of a matrix.
        let significant = |shape: &[usize]| shape.iter().rposition(|&n| n != 1).map_or(1, |last| last + 1);
        if found.len() < expected.len() || found[..significant(found)] != expected[..significant(expected)] {
            let path = self.source.path().into();
            let (expected, found) = (expected.to_vec(), found.clone());
            return Err(WeightsError::Shape { path, name: name.into(), expected, found });
        }
        Ok(index)
    }

    fn count(&mut self, index: usize) {
        let t = &self.source.tensors()[index];
        self.done += t.ty().row_bytes(t.cols()).unwrap_or(0) as u64 * t.rows() as u64;
        (self.progress)(self.done, self.total);
    }

    /// A vector of `n` numbers.
    fn vector(&mut self, name: &str, n: usize) -> Result<Vec<f32>, WeightsError> {
        let index = self.find(name, &[n])?;
        let info = &self.source.tensors()[index];
        if !matches!(info.encoding, Encoding::Plain(ty) if ty.is_float()) {
            let path = self.source.path().into();
            return Err(WeightsError::VectorType { path, name: name.into(), found: info.encoding.name() });
        }
        let out = self.source.values(index, 0..1);
        self.count(index);
        Ok(out)
    }

    /// A vector of `n` numbers, padded with zeros to 16.
    fn padded(&mut self, name: &str, n: usize) -> Result<Vec<f32>, WeightsError> {
        let mut out = self.vector(name, n)?;
        out.resize(n.next_multiple_of(16), 0.0);
        Ok(out)
    }

    /// `name.weight`, outputs × inputs, and `name.scale` and `name.bias` if there are any.
    fn linear(&mut self, name: &str, outputs: usize, inputs: usize) -> Result<Linear, WeightsError> {
        let weight = format!("{name}.weight");
        let index = self.find(&weight, &[inputs, outputs])?;
        let info = self.source.tensors()[index].clone();
        let layout =
            PackedLayout::new(info.ty(), outputs, inputs).expect("whole blocks, as the directory was checked for");
        let store = match info.encoding {
            Encoding::Packed(_) if self.mmap => {
                self.source.read_ahead(index);
                Store::Mapped(self.source.clone(), index)
            }
            Encoding::Packed(_) => Store::Owned(self.memory.clone(), self.copy(index, &layout)?),
            Encoding::Plain(_) | Encoding::Stored(_) | Encoding::Interleaved(_) => {
                Store::Owned(self.memory.clone(), self.pack(index, &layout)?)
            }
        };
        self.count(index);
        let scale = format!("{name}.scale");
        let scale = match self.source.find(&scale) {
            Some(_) => self.vector(&scale, 1)?.first().copied(),
            None => None,
        };
        let bias = format!("{name}.bias");
        let bias = match self.source.find(&bias) {
            Some(_) => Some(self.padded(&bias, outputs)?),
            None => None,
        };
        Ok(Linear { matrix: Matrix { layout, store }, scale, bias })
    }

    /// Takes room for a matrix.
    fn room(&mut self, layout: &PackedLayout) -> Range<usize> {
        let at = self.used..self.used + layout.total_bytes();
        self.used = at.end.next_multiple_of(ALIGNMENT);
        at
    }

    /// Copies a packed matrix, all threads at it, and lets go of the file's pages.
    fn copy(&mut self, index: usize, layout: &PackedLayout) -> Result<Range<usize>, WeightsError> {
        let at = self.room(layout);
        let source = &self.source;
        source.read_ahead(index);
        let packed = source.mapped(index).unwrap_or(&[]);
        let mut locals = vec![(); self.pool.threads()];
        for (to, from) in self.region[at.clone()].chunks_mut(SLAB).zip(packed.chunks(SLAB)) {
            go_on(self.cancel)?;
            const PART: usize = 256 << 10;
            let mut parts: Vec<_> = to.chunks_mut(PART).zip(from.chunks(PART)).collect();
            self.pool.for_items(&mut locals, &mut parts, |(), _, (to, from)| to.copy_from_slice(from));
            source.release(index);
        }
        Ok(at)
    }

    /// Packs a plain matrix, all threads at it, and lets go of the file's pages.
    fn pack(&mut self, index: usize, layout: &PackedLayout) -> Result<Range<usize>, WeightsError> {
        let at = self.room(layout);
        self.source.read_ahead(index);
        let (quants, scales) = self.region[at.clone()].split_at_mut(layout.scales_offset());
        let mut no_scales: Vec<&mut [u8]> = Vec::new();
        let scales: Vec<&mut [u8]> = match layout.group_scale_bytes() {
            0 => {
                no_scales.resize_with(layout.groups(), || &mut []);
                no_scales
            }
            n => scales.chunks_exact_mut(n).collect(),
        };
        let mut groups: Vec<(&mut [u8], &mut [u8])> =
            quants.chunks_exact_mut(layout.group_quant_bytes()).zip(scales).collect();
        let (source, rows) = (&self.source, layout.rows());
        let mut locals = vec![(); self.pool.threads()];
        let in_slab = (SLAB / layout.group_quant_bytes().max(1)).max(1);
        for (slab, groups) in groups.chunks_mut(in_slab).enumerate() {
            go_on(self.cancel)?;
            self.pool.for_items(&mut locals, groups, |(), g, (quants, scales)| {
                let first = (slab * in_slab + g) * GROUP_ROWS;
                let plain: Cow<'_, [u8]> = source.rows(index, first..(first + GROUP_ROWS).min(rows));
                pack_group(layout, &plain, quants, scales);
            });
            source.release(index);
        }
        Ok(at)
    }
}
