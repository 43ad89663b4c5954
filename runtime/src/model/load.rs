//! From a file to weights: planned, filled, frozen.
//!
//! The plan finds every tensor that the family's table names, checks its shape, and gives each matrix its place: where
//! it lies in a packed file, or in one region of memory. Then all threads fill the region. Only then are the matrices
//! made, so a matrix always has its bytes.

use std::ops::Range;
use std::sync::Arc;

use memmap2::MmapMut;
use quipu_formats::families::names::{Parameter, Role, TensorName};
use quipu_formats::families::{Bias, NormKind, Sizes};
use quipu_formats::source::{Encoding, SharedBytes, Source, TensorInfo};
use quipu_quant::pack::{GROUP_ROWS, PackedLayout};

use super::filling::{Filling, memory_layout, not_finite};
use super::loading::{Progress, Residence, WeightsError};
use super::matrix::{ALIGNMENT, Matrix, region};
use super::rope::RopeFactors;
use super::unused::refuse_unused;
use super::weights::{
    Dense, Experts, FeedForward, GateAndUp, Layer, LayerNorm, Linear, ModelWeights, NOT_ADAPTED, Norm, Projections,
    QkNormWeights, Qkv,
};
use crate::cancel::Cancel;
use crate::config::Config;
use crate::pool::Pool;
use crate::rope_scaling::RopeMethod;

/// Reads all weights from `source`, unless it is cancelled meanwhile.
pub(crate) fn load(
    source: Arc<dyn Source>,
    config: &Config,
    pool: &mut Pool,
    residence: Residence,
    cancel: &Cancel,
    progress: Progress<'_>,
) -> Result<ModelWeights, WeightsError> {
    let mut plan = Plan::new(source.clone(), config, residence.mmap)?;
    let weights = plan.model()?;
    refuse_unused(&*source, config)?;
    let memory = plan.fill(pool, cancel, progress)?;
    if residence.mlock {
        let any_mapped = source.tensors().iter().any(|t| t.encoding.is_packed() && residence.mmap);
        let locked = quipu_formats::lock::lock(&memory).and_then(|()| if any_mapped { source.lock() } else { Ok(()) });
        locked.map_err(|error| WeightsError::Lock { error })?;
    }
    let memory = Arc::new(memory);
    Ok(weights.map(&mut |place| place.matrix(&memory)))
}

/// What [`load`] would find wrong before it reads a matrix.
pub(crate) fn check(source: Arc<dyn Source>, config: &Config) -> Result<(), WeightsError> {
    Plan::new(source.clone(), config, true)?.model()?;
    refuse_unused(&*source, config)
}

/// Where a matrix will lie.
pub(super) enum Place {
    /// In the region of memory.
    Memory(PackedLayout, Range<usize>),
    /// Where it lies in its file.
    File(PackedLayout, SharedBytes),
}

impl Place {
    fn matrix(self, memory: &Arc<MmapMut>) -> Matrix {
        match self {
            Place::Memory(layout, at) => Matrix::in_memory(layout, memory.clone(), at),
            Place::File(layout, bytes) => Matrix::in_file(layout, bytes),
        }
    }
}

/// What is to be loaded, and where it goes.
pub(super) struct Plan<'a> {
    source: Arc<dyn Source>,
    config: &'a Config,
    sizes: Sizes,
    /// Packed matrices stay in their file.
    mmap: bool,
    fillings: Vec<Filling>,
    /// Where the next matrix will begin in the region.
    end: usize,
    /// Bytes of the source that need no filling.
    done: u64,
}

/// Bytes of a tensor in plain rows, for the progress.
fn plain_bytes(t: &TensorInfo) -> u64 {
    t.ty().row_bytes(t.cols()).unwrap_or(0) as u64 * t.rows() as u64
}

impl<'a> Plan<'a> {
    /// A plan with nothing in it, for the model that `config` describes.
    pub(super) fn new(source: Arc<dyn Source>, config: &'a Config, mmap: bool) -> Result<Plan<'a>, WeightsError> {
        let embedding = Role::TokenEmbedding.weight().to_string();
        let Some(index) = source.find(&embedding) else {
            return Err(WeightsError::Missing { path: source.path().into(), name: embedding });
        };
        let sizes = config.sizes(source.tensors()[index].rows());
        Ok(Plan { source, config, sizes, mmap, fillings: Vec::new(), end: 0, done: 0 })
    }

    /// Rows of the embedding.
    pub(super) fn vocabulary(&self) -> usize {
        self.sizes.vocabulary
    }

    /// All weights.
    fn model(&mut self) -> Result<ModelWeights<Place>, WeightsError> {
        let rope_factors = self.rope_factors()?;
        // Ends at the first layer that is missing, so too large a number of layers costs no memory.
        let layers = (0..self.config.layers).map(|i| self.layer(i)).collect::<Result<_, _>>()?;
        Ok(ModelWeights {
            positions: self.positions()?.map(|index| self.place(index)),
            projections: self.projections()?,
            layers,
            output_norm: self.output_norm()?,
            embedding: self.linear(Role::TokenEmbedding.weight())?,
            output: if self.source.is_tied() { None } else { Some(self.linear(Role::Output.weight())?) },
            rope_factors,
        })
    }

    /// The number of the embedding, whose shape is checked.
    pub(super) fn embedding(&self) -> Result<usize, WeightsError> {
        self.find(Role::TokenEmbedding.weight(), &[self.sizes.embedding, self.sizes.vocabulary])
    }

    /// The number of the embedding of positions, whose shape is checked, if the family has one.
    pub(super) fn positions(&self) -> Result<Option<usize>, WeightsError> {
        let Some(tensor) = self.config.family.tensor(Role::Positions) else { return Ok(None) };
        self.find(Role::Positions.weight(), &tensor.shape.gguf(&self.sizes)).map(Some)
    }

    /// The matrices between embedding and layers, where those have different widths.
    pub(super) fn projections(&mut self) -> Result<Option<Projections<Place>>, WeightsError> {
        if self.sizes.embedding == self.sizes.hidden {
            return Ok(None);
        }
        let (into, out_of) = (Role::EmbeddingIn.weight(), Role::EmbeddingOut.weight());
        Ok(Some(Projections { into: self.linear(into)?, out_of: self.linear(out_of)? }))
    }

    /// The divisors of the RoPE pairs, if the model has them.
    pub(super) fn rope_factors(&mut self) -> Result<RopeFactors, WeightsError> {
        let pairs = self.config.rope_dim / 2;
        if self.config.rope.method == RopeMethod::LongRope {
            let short = self.vector(Role::RopeFactorsShort.weight(), pairs)?;
            let long = self.vector(Role::RopeFactorsLong.weight(), pairs)?;
            return Ok(RopeFactors::ByContext { short, long });
        }
        let factors = self.optional(Role::RopeFactors.weight(), pairs)?;
        Ok(factors.map_or(RopeFactors::None, RopeFactors::Always))
    }

    /// The final norm, if the model has one.
    pub(super) fn output_norm(&mut self) -> Result<Option<Norm>, WeightsError> {
        if self.config.plan.final_norm { self.norm(Role::OutputNorm.weight()) } else { Ok(None) }
    }

    /// The weights of layer `i`.
    pub(super) fn layer(&mut self, i: usize) -> Result<Layer<Place>, WeightsError> {
        let name = |role: Role| role.weight_of(i);
        let joined_qkv = self.config.family.tensor(Role::QueryKeyValue).is_some();
        // A family's norms of the same names stand before attention and feed-forward layer or behind the sum.
        let (mut before, mut after) = ([None, None], [None, None]);
        for (i, role) in [Role::AttentionNorm, Role::FeedForwardNorm].into_iter().enumerate() {
            match self.norm(name(role))? {
                Some(Norm::Layer(norm)) if self.config.plan.norms_after => after[i] = Some(norm),
                norm => before[i] = norm,
            }
        }
        let ([attention_norm, feed_forward_norm], [attention_out_norm, feed_forward_out_norm]) = (before, after);
        Ok(Layer {
            attention_norm,
            qkv: if joined_qkv {
                Qkv::Joined(self.linear(name(Role::QueryKeyValue))?)
            } else {
                let three = [Role::Query, Role::Key, Role::Value].map(name);
                Qkv::Apart([self.linear(three[0])?, self.linear(three[1])?, self.linear(three[2])?])
            },
            qk_norm: match (self.scale(name(Role::QueryNorm))?, self.scale(name(Role::KeyNorm))?) {
                (Some(query), Some(key)) => Some(QkNormWeights { query, key }),
                // Behind RoPE, without weights of its own.
                _ if self.config.layer(i).bare_qk_norm => {
                    let ones = vec![1.0; self.sizes.head_dim];
                    Some(QkNormWeights { query: ones.clone(), key: ones })
                }
                _ => None,
            },
            attention_output: self.linear(name(Role::AttentionOutput))?,
            attention_post_norm: self.scale(name(Role::AttentionPostNorm))?.map(padded),
            attention_out_norm,
            feed_forward_norm,
            feed_forward: if let Some(plan) = self.config.plan.experts.clone().filter(|plan| plan.layers.contains(i)) {
                let gate_and_up = [self.linear(name(Role::ExpertGate))?, self.linear(name(Role::ExpertUp))?];
                let (gate_and_up, down) = (GateAndUp::Apart(gate_and_up), self.linear(name(Role::ExpertDown))?);
                let shared = match self.config.family.tensor(Role::SharedDown) {
                    Some(_) => {
                        let gate_and_up = [self.linear(name(Role::SharedGate))?, self.linear(name(Role::SharedUp))?];
                        let gate_and_up = GateAndUp::Apart(gate_and_up);
                        Some(Dense { gate_and_up, down: self.linear(name(Role::SharedDown))? })
                    }
                    None => None,
                };
                let (router, banks) = (self.linear(name(Role::Router))?, Dense { gate_and_up, down });
                FeedForward::Experts(Box::new(Experts { plan, shared, router, banks }))
            } else {
                FeedForward::Dense(Dense { gate_and_up: self.gate_and_up(i)?, down: self.linear(name(Role::Down))? })
            },
            feed_forward_post_norm: self.scale(name(Role::FeedForwardPostNorm))?.map(padded),
            feed_forward_out_norm,
        })
    }

    /// The matrices of the input of layer `i`'s feed-forward layer.
    fn gate_and_up(&mut self, i: usize) -> Result<GateAndUp<Place>, WeightsError> {
        let (gate, up) = (Role::Gate.weight_of(i), Role::Up.weight_of(i));
        if let Some(function) = self.config.plan.ungated {
            return Ok(GateAndUp::Ungated(self.linear(up)?, function));
        }
        if self.config.family.tensor(Role::Gate).is_some() {
            return Ok(GateAndUp::Apart([self.linear(gate)?, self.linear(up)?]));
        }
        let rows = self.sizes.feed_forward;
        if !rows.is_multiple_of(GROUP_ROWS) {
            return Err(WeightsError::Halves { path: self.source.path().into(), name: up.to_string(), rows });
        }
        Ok(GateAndUp::Joined(self.linear(up)?))
    }

    fn missing(&self, name: TensorName) -> WeightsError {
        WeightsError::Missing { path: self.source.path().into(), name: name.to_string() }
    }

    /// The number of tensor `name`, whose shape is checked.
    fn find(&self, name: TensorName, expected: &[usize]) -> Result<usize, WeightsError> {
        let index = self.source.find(&name.to_string()).ok_or_else(|| self.missing(name))?;
        let found = &self.source.tensors()[index].shape;
        // Further extents of 1 say nothing.
        let significant = |shape: &[usize]| shape.iter().rposition(|&n| n != 1).map_or(1, |last| last + 1);
        if found.len() < expected.len() || found[..significant(found)] != expected[..significant(expected)] {
            let (path, name) = (self.source.path().into(), name.to_string());
            return Err(WeightsError::Shape { path, name, expected: expected.to_vec(), found: found.clone() });
        }
        Ok(index)
    }

    /// A vector of `n` numbers.
    fn vector(&mut self, name: TensorName, n: usize) -> Result<Vec<f32>, WeightsError> {
        let index = self.find(name, &[n])?;
        let info = &self.source.tensors()[index];
        if !matches!(info.encoding, Encoding::Plain(ty) if ty.is_float()) {
            let (path, found) = (self.source.path().into(), info.encoding.name());
            return Err(WeightsError::VectorType { path, name: name.to_string(), found });
        }
        self.done += plain_bytes(info);
        let values = self.source.values(index, 0..1);
        // A frequency divided by nothing, or turned round, is none.
        let is_good = |x: &f32| x.is_finite() && (!name.role.is_rope_factors() || *x > 0.0);
        match values.iter().position(|x| !is_good(x)) {
            Some(row) => Err(not_finite(&*self.source, index, row, &values[row].to_string())),
            None => Ok(values),
        }
    }

    fn optional(&mut self, name: TensorName, n: usize) -> Result<Option<Vec<f32>>, WeightsError> {
        match self.source.find(&name.to_string()) {
            Some(_) => self.vector(name, n).map(Some),
            None => Ok(None),
        }
    }

    /// The parameters of a norm, if the family has it.
    fn norm(&mut self, weight: TensorName) -> Result<Option<Norm>, WeightsError> {
        let Some(scale) = self.scale(weight)?.map(padded) else { return Ok(None) };
        if self.config.family.block.norm == NormKind::Rms {
            return Ok(Some(Norm::Rms(scale)));
        }
        let bias = self.optional(weight.with(Parameter::Bias), self.sizes.hidden)?.map(padded);
        Ok(Some(Norm::Layer(LayerNorm { bias: bias.unwrap_or(vec![0.0; scale.len()]), weight: scale })))
    }

    /// The weight of a norm, if the family has it.
    fn scale(&mut self, weight: TensorName) -> Result<Option<Vec<f32>>, WeightsError> {
        let Some(tensor) = self.config.family.tensor(weight.role) else { return Ok(None) };
        self.vector(weight, tensor.shape.outputs(&self.sizes)).map(Some)
    }

    /// The matrix called `weight`, and its scale and bias if there are any.
    fn linear(&mut self, weight: TensorName) -> Result<Linear<Place>, WeightsError> {
        let Some(tensor) = self.config.family.tensor(weight.role) else { return Err(self.missing(weight)) };
        let index = self.find(weight, &tensor.shape.gguf(&self.sizes))?;
        let (outputs, bias) = (tensor.shape.outputs(&self.sizes), weight.with(Parameter::Bias));
        if weight.role.is_bank() {
            return Ok(Linear { matrix: self.place(index), tensor: NOT_ADAPTED, scale: None, bias: None });
        }
        Ok(Linear {
            matrix: self.place(index),
            tensor: index,
            scale: self.optional(weight.with(Parameter::Scale), 1)?.and_then(|scale| scale.first().copied()),
            bias: match tensor.bias {
                Bias::Always => Some(self.vector(bias, outputs)?),
                Bias::None | Bias::If(_) | Bias::Unless(_) => self.optional(bias, outputs)?,
            }
            .map(padded),
        })
    }

    /// Gives matrix number `index` of the source its place.
    fn place(&mut self, index: usize) -> Place {
        let info = &self.source.tensors()[index];
        let (layout, unit) = memory_layout(info);
        if info.encoding.is_packed()
            && self.mmap
            && let Some(bytes) = self.source.clone().shared(index)
        {
            self.source.read_ahead(index);
            self.done += plain_bytes(info);
            return Place::File(layout, bytes);
        }
        let at = self.end..self.end + layout.total_bytes();
        self.end = at.end.next_multiple_of(ALIGNMENT);
        self.fillings.push(Filling { index, layout, unit, at: at.clone() });
        Place::Memory(layout, at)
    }

    /// The region with all matrices in it that do not stay in their file.
    fn fill(&self, pool: &mut Pool, cancel: &Cancel, progress: Progress<'_>) -> Result<MmapMut, WeightsError> {
        let (mut done, total) = (self.done, self.source.tensors().iter().map(plain_bytes).sum());
        progress(done, total);
        let no_memory = |error| WeightsError::Memory { size: self.end, error };
        let mut memory = region(self.end, || "the model".into()).map_err(no_memory)?;
        for filling in &self.fillings {
            self.source.read_ahead(filling.index);
            let info = &self.source.tensors()[filling.index];
            let to = &mut memory[filling.at.clone()];
            match self.source.mapped(filling.index).filter(|_| info.encoding.is_packed()) {
                Some(packed) => filling.copy(&*self.source, packed, to, pool, cancel)?,
                None => filling.pack(&*self.source, to, pool, cancel)?,
            }
            done += plain_bytes(info);
            progress(done, total);
        }
        Ok(memory)
    }
}

/// `x` with zeros behind it, to a multiple of 16.
fn padded(mut x: Vec<f32>) -> Vec<f32> {
    x.resize(x.len().next_multiple_of(16), 0.0);
    x
}

/// Reads the weights of layer `i` alone, unless it is cancelled meanwhile.
pub(super) fn load_layer(
    source: &Arc<dyn Source>,
    config: &Config,
    pool: &mut Pool,
    cancel: &Cancel,
    i: usize,
) -> Result<Layer, WeightsError> {
    let mut plan = Plan::new(source.clone(), config, true)?;
    let layer = plan.layer(i)?;
    let memory = Arc::new(plan.fill(pool, cancel, &|_, _| {})?);
    Ok(layer.map(&mut |place| place.matrix(&memory)))
}

/// Reads the matrices between embedding and layers, if there are any.
pub(super) fn load_projections(
    source: &Arc<dyn Source>,
    config: &Config,
    pool: &mut Pool,
    cancel: &Cancel,
) -> Result<Option<Projections>, WeightsError> {
    let mut plan = Plan::new(source.clone(), config, true)?;
    let projections = plan.projections()?;
    let memory = Arc::new(plan.fill(pool, cancel, &|_, _| {})?);
    Ok(projections.map(|projections| projections.map(&mut |place| place.matrix(&memory))))
}
