//! Where a forward pass takes its weights from: all of them in memory, or one layer at a time.

use std::sync::Arc;

use quipu_formats::families::names::Role;
use quipu_formats::source::Source;

use super::finite::NotFinite;
use super::load::{Plan, load_layer, load_projections};
use super::loading::WeightsError;
use super::rope::RopeFactors;
use super::unused::refuse_unused;
use super::weights::{Layer, Linear, ModelWeights, Norm, Projections};
use crate::cancel::Cancel;
use crate::config::Config;
use crate::pool::Pool;

/// What a forward pass asks for, in this order.
pub(crate) trait LayerSource {
    /// Why a pass can't go on.
    type Error: From<NotFinite>;

    /// Divisors of RoPE's frequencies, if the model has them.
    fn rope_factors(&self) -> &RopeFactors;

    /// Token `token`'s row of the embedding, as wide as that is.
    fn embed(&self, token: u32, out: &mut [f32]);

    /// The row of a position into `hidden` numbers, if the model has learned them.
    fn position(&self, position: usize, out: &mut [f32]) -> bool;

    /// What leads from the embedding's width to that of the layers and back, if they differ.
    fn projections(&self) -> Option<&Projections>;

    /// Layer `i`. If it has to be read first, that takes the pool.
    fn layer(&mut self, i: usize, pool: &mut Pool) -> Result<&Layer, Self::Error>;

    /// The final norm, if there is one.
    fn output_norm(&self) -> Option<&Norm>;

    /// The output matrix, if there are to be logits.
    fn head(&self) -> Option<&Linear>;
}

impl LayerSource for ModelWeights {
    type Error = NotFinite;

    fn rope_factors(&self) -> &RopeFactors {
        &self.rope_factors
    }

    fn embed(&self, token: u32, out: &mut [f32]) {
        self.embedding.matrix.row(token as usize, out);
    }

    fn position(&self, position: usize, out: &mut [f32]) -> bool {
        self.positions.as_ref().inspect(|positions| positions.row(position, out)).is_some()
    }

    fn projections(&self) -> Option<&Projections> {
        self.projections.as_ref()
    }

    fn layer(&mut self, i: usize, _: &mut Pool) -> Result<&Layer, NotFinite> {
        Ok(&self.layers[i])
    }

    fn output_norm(&self) -> Option<&Norm> {
        self.output_norm.as_ref()
    }

    fn head(&self) -> Option<&Linear> {
        Some(ModelWeights::head(self))
    }
}

/// Layers that are read from their file when their turn comes and dropped after it. Memory is that of the largest one.
/// There are no logits, so the output matrix is never read.
pub(crate) struct Streamed<'a> {
    source: Arc<dyn Source>,
    config: Config,
    cancel: &'a Cancel,
    /// Hears how many layers are done, and how many there are.
    progress: &'a mut dyn FnMut(usize, usize),
    /// The number of the embedding in the source.
    embedding: usize,
    vocabulary: usize,
    /// The number of the embedding of positions.
    positions: Option<usize>,
    projections: Option<Projections>,
    output_norm: Option<Norm>,
    rope_factors: RopeFactors,
    /// The layer in memory, and its number.
    layer: Option<(usize, Layer)>,
}

impl<'a> Streamed<'a> {
    /// Reads what belongs to no layer, and the first layer.
    pub(crate) fn new(
        source: Arc<dyn Source>,
        config: Config,
        pool: &mut Pool,
        cancel: &'a Cancel,
        progress: &'a mut dyn FnMut(usize, usize),
    ) -> Result<Streamed<'a>, WeightsError> {
        let missing = |name: String| WeightsError::Missing { path: source.path().into(), name };
        let mut plan = Plan::new(source.clone(), &config, true)?;
        let vocabulary = plan.vocabulary();
        let (embedding, output_norm, rope_factors) = (plan.embedding()?, plan.output_norm()?, plan.rope_factors()?);
        // Buffers are sized by the number of layers and the first one's shape, so the metadata's word is not enough.
        if config.layers > source.tensors().len() {
            return Err(missing(Role::AttentionNorm.weight_of(config.layers - 1).to_string()));
        }
        refuse_unused(&*source, &config)?;
        let (positions, projections) = (plan.positions()?, load_projections(&source, &config, pool, cancel)?);
        let layer = Some((0, load_layer(&source, &config, pool, cancel, 0)?));
        Ok(Streamed {
            source,
            config,
            cancel,
            progress,
            embedding,
            vocabulary,
            positions,
            projections,
            output_norm,
            rope_factors,
            layer,
        })
    }

    /// Rows of the embedding.
    pub(crate) fn vocabulary(&self) -> usize {
        self.vocabulary
    }

    /// Reports the last layer as done.
    pub(crate) fn finish(self) {
        (self.progress)(self.config.layers, self.config.layers);
    }
}

/// Why a pass over [`Streamed`] layers ended early.
#[derive(Debug)]
pub(crate) enum StreamError {
    /// A layer could not be read.
    Weights(WeightsError),
    /// Some number was none.
    NotFinite(NotFinite),
}

impl From<WeightsError> for StreamError {
    fn from(error: WeightsError) -> StreamError {
        StreamError::Weights(error)
    }
}

impl From<NotFinite> for StreamError {
    fn from(error: NotFinite) -> StreamError {
        StreamError::NotFinite(error)
    }
}

impl LayerSource for Streamed<'_> {
    type Error = StreamError;

    fn rope_factors(&self) -> &RopeFactors {
        &self.rope_factors
    }

    fn embed(&self, token: u32, out: &mut [f32]) {
        let row = token as usize;
        out.copy_from_slice(&self.source.values(self.embedding, row..row + 1));
    }

    fn position(&self, position: usize, out: &mut [f32]) -> bool {
        let row = |index| self.source.values(index, position..position + 1);
        self.positions.inspect(|&index| out.copy_from_slice(&row(index))).is_some()
    }

    fn projections(&self) -> Option<&Projections> {
        self.projections.as_ref()
    }

    fn layer(&mut self, i: usize, pool: &mut Pool) -> Result<&Layer, StreamError> {
        // The layer before this one is dropped before this one is read.
        let layer = match self.layer.take().filter(|(number, _)| *number == i) {
            Some(layer) => layer,
            None => {
                (self.progress)(i, self.config.layers);
                (i, load_layer(&self.source, &self.config, pool, self.cancel, i)?)
            }
        };
        Ok(&self.layer.insert(layer).1)
    }

    fn output_norm(&self) -> Option<&Norm> {
        self.output_norm.as_ref()
    }

    fn head(&self) -> Option<&Linear> {
        None
    }
}
