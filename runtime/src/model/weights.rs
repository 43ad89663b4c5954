//! The weights of a model as the block uses them.
//!
//! The types are generic over what a matrix is: while a model is loaded that is a plan of where it will lie
//! ([`super::load`]), and when all of them lie there, [`Matrix`].

use std::ops::Range;

use quipu_formats::families::{Experts as ExpertsPlan, Ungated};
use quipu_kernels::{Kernels, MatMut};
use quipu_quant::pack::GROUP_ROWS;

use super::matrix::Matrix;
use super::product::{ProductInput, ProductScratch};
use super::rope::RopeFactors;

/// `y = s·W·x + b`, and what adapters add.
pub(crate) struct Linear<M = Matrix> {
    /// outputs × inputs.
    pub(crate) matrix: M,
    /// The number of `W` among the model's tensors, or [`NOT_ADAPTED`].
    pub(super) tensor: usize,
    /// A factor of all outputs: files with NVFP4 have one for each matrix, since the type's own scales reach no farther
    /// than 448.
    pub(super) scale: Option<f32>,
    /// outputs, padded to 16.
    pub(super) bias: Option<Vec<f32>>,
}

/// Stands for the number of a tensor to which nothing is added: a bank of experts, whose rows are those of many
/// matrices.
pub(super) const NOT_ADAPTED: usize = usize::MAX;

impl<M> Linear<M> {
    pub(super) fn map<N>(self, f: &mut impl FnMut(M) -> N) -> Linear<N> {
        Linear { matrix: f(self.matrix), tensor: self.tensor, scale: self.scale, bias: self.bias }
    }
}

impl Linear {
    /// The outputs of `groups` for all rows of `input`.
    pub(crate) fn apply(
        &self,
        kernels: &Kernels,
        groups: Range<usize>,
        input: ProductInput<'_>,
        scratch: &mut ProductScratch,
        out: &mut MatMut<'_>,
    ) {
        let weights = self.matrix.weights();
        if weights.ty().is_float() {
            kernels.matmul_float(&weights, groups.clone(), input.x, input.stride, out);
        } else {
            kernels.matmul_quant(&weights, groups.clone(), input.tiles, &mut scratch.quant, out);
        }
        if let Some(scale) = self.scale {
            (0..out.rows()).for_each(|r| out.row(r).iter_mut().for_each(|y| *y *= scale));
        }
        if let Some(bias) = &self.bias {
            for r in 0..out.rows() {
                kernels.add(out.row(r), &bias[groups.start * GROUP_ROWS..groups.end * GROUP_ROWS]);
            }
        }
        input.low_rank.add(kernels, self.tensor, groups, input.first, &mut scratch.low_rank, out);
    }
}

/// The parameters of a norm of rows, hidden long, padded to 16.
pub(crate) enum Norm {
    /// RMSNorm's weight.
    Rms(Vec<f32>),
    /// LayerNorm's.
    Layer(LayerNorm),
}

/// The parameters of LayerNorm, hidden long, padded to 16.
pub(crate) struct LayerNorm {
    pub(super) weight: Vec<f32>,
    pub(super) bias: Vec<f32>,
}

impl Norm {
    /// The norm of the row `x`, over its first `n` elements.
    pub(super) fn apply(&self, kernels: &Kernels, x: &[f32], eps: f32, n: usize, out: &mut [f32]) {
        match self {
            Norm::Rms(weight) => kernels.rms_norm(x, weight, eps, n, out),
            Norm::Layer(norm) => {
                out.copy_from_slice(x);
                norm.apply(kernels, out, eps, n);
            }
        }
    }
}

impl LayerNorm {
    /// The norm of the row `x`, over its first `n` elements, in its place.
    pub(super) fn apply(&self, kernels: &Kernels, x: &mut [f32], eps: f32, n: usize) {
        kernels.layer_norm(x, &self.weight, &self.bias, eps, n);
    }
}

/// The weights of the norms of queries and keys.
pub(crate) struct QkNormWeights {
    /// head_dim; or heads · head_dim, where all heads are normed together.
    pub(crate) query: Vec<f32>,
    /// head_dim; or kv_heads · head_dim.
    pub(crate) key: Vec<f32>,
}

/// The projections of attention's input.
pub(crate) enum Qkv<M = Matrix> {
    /// Of queries, (heads · head_dim) × hidden, of keys, (kv_heads · head_dim) × hidden, and of values.
    Apart([Linear<M>; 3]),
    /// The three of them, one after the other.
    Joined(Linear<M>),
}

/// The matrices of the feed-forward layer's input.
pub(crate) enum GateAndUp<M = Matrix> {
    /// Two of feed_forward × hidden.
    Apart([Linear<M>; 2]),
    /// Both, one after the other; feed_forward is a multiple of 16.
    Joined(Linear<M>),
    /// One without a gate, and the function of its outputs.
    Ungated(Linear<M>, Ungated),
}

impl<M> Qkv<M> {
    pub(super) fn matrices(&self) -> &[Linear<M>] {
        match self {
            Qkv::Apart(three) => three,
            Qkv::Joined(one) => std::slice::from_ref(one),
        }
    }

    fn map<N>(self, f: &mut impl FnMut(M) -> N) -> Qkv<N> {
        match self {
            Qkv::Apart(three) => Qkv::Apart(three.map(|linear| linear.map(f))),
            Qkv::Joined(one) => Qkv::Joined(one.map(f)),
        }
    }
}

impl<M> GateAndUp<M> {
    pub(super) fn matrices(&self) -> &[Linear<M>] {
        match self {
            GateAndUp::Apart(two) => two,
            GateAndUp::Joined(one) | GateAndUp::Ungated(one, _) => std::slice::from_ref(one),
        }
    }

    fn map<N>(self, f: &mut impl FnMut(M) -> N) -> GateAndUp<N> {
        match self {
            GateAndUp::Apart(two) => GateAndUp::Apart(two.map(|linear| linear.map(f))),
            GateAndUp::Joined(one) => GateAndUp::Joined(one.map(f)),
            GateAndUp::Ungated(one, function) => GateAndUp::Ungated(one.map(f), function),
        }
    }
}

/// A feed-forward layer.
pub(crate) struct Dense<M = Matrix> {
    pub(crate) gate_and_up: GateAndUp<M>,
    /// hidden × feed_forward.
    pub(crate) down: Linear<M>,
}

/// Feed-forward layers of which each token takes a few. Those of a kind are one matrix, each padded to whole groups of
/// rows.
pub(crate) struct Experts<M = Matrix> {
    pub(super) plan: ExpertsPlan,
    /// The one that serves all tokens besides, if there is one.
    pub(super) shared: Option<Dense<M>>,
    /// experts × hidden.
    pub(crate) router: Linear<M>,
    /// Of (experts · feed_forward) × hidden, and hidden outputs for each expert.
    pub(crate) banks: Dense<M>,
}

/// What stands behind attention.
pub(crate) enum FeedForward<M = Matrix> {
    /// One feed-forward layer for all tokens.
    Dense(Dense<M>),
    /// A mixture of experts.
    Experts(Box<Experts<M>>),
}

impl<M> Dense<M> {
    fn map<N>(self, f: &mut impl FnMut(M) -> N) -> Dense<N> {
        Dense { gate_and_up: self.gate_and_up.map(f), down: self.down.map(f) }
    }
}

impl<M> FeedForward<M> {
    fn map<N>(self, f: &mut impl FnMut(M) -> N) -> FeedForward<N> {
        match self {
            FeedForward::Dense(dense) => FeedForward::Dense(dense.map(f)),
            FeedForward::Experts(experts) => {
                let Experts { plan, shared, router, banks } = *experts;
                let shared = shared.map(|shared| shared.map(f));
                FeedForward::Experts(Box::new(Experts { plan, shared, router: router.map(f), banks: banks.map(f) }))
            }
        }
    }

    /// Its matrices but for a router, which is small.
    fn linears(&self) -> impl Iterator<Item = &Linear<M>> {
        let (dense, shared) = match self {
            FeedForward::Dense(dense) => (dense, None),
            FeedForward::Experts(experts) => (&experts.banks, experts.shared.as_ref()),
        };
        let all = [Some(dense), shared].into_iter().flatten();
        all.flat_map(|dense| dense.gate_and_up.matrices().iter().chain([&dense.down]))
    }
}

/// One transformer block. A family has norms before attention and feed-forward layer, those of what they add to the
/// residual stream, or both; or those of the sum (`…_out_norm`). Weights of norms are hidden long, padded to 16.
pub(crate) struct Layer<M = Matrix> {
    pub(crate) attention_norm: Option<Norm>,
    pub(crate) qkv: Qkv<M>,
    /// Only in families whose queries and keys are normed.
    pub(crate) qk_norm: Option<QkNormWeights>,
    /// hidden × (heads · head_dim).
    pub(crate) attention_output: Linear<M>,
    pub(crate) attention_post_norm: Option<Vec<f32>>,
    pub(crate) attention_out_norm: Option<LayerNorm>,
    pub(crate) feed_forward_norm: Option<Norm>,
    pub(crate) feed_forward: FeedForward<M>,
    pub(crate) feed_forward_post_norm: Option<Vec<f32>>,
    pub(crate) feed_forward_out_norm: Option<LayerNorm>,
}

impl<M> Layer<M> {
    pub(super) fn map<N>(self, f: &mut impl FnMut(M) -> N) -> Layer<N> {
        Layer {
            attention_norm: self.attention_norm,
            qkv: self.qkv.map(f),
            qk_norm: self.qk_norm,
            attention_output: self.attention_output.map(f),
            attention_post_norm: self.attention_post_norm,
            attention_out_norm: self.attention_out_norm,
            feed_forward_norm: self.feed_forward_norm,
            feed_forward: self.feed_forward.map(f),
            feed_forward_post_norm: self.feed_forward_post_norm,
            feed_forward_out_norm: self.feed_forward_out_norm,
        }
    }

    /// Its matrices, in the order of a forward pass.
    fn linears(&self) -> impl Iterator<Item = &Linear<M>> {
        let before = self.qkv.matrices().iter().chain([&self.attention_output]);
        before.chain(self.feed_forward.linears())
    }
}

/// Between the embedding and the layers, where they have different widths.
pub(crate) struct Projections<M = Matrix> {
    /// hidden × embedding.
    pub(crate) into: Linear<M>,
    /// embedding × hidden.
    pub(crate) out_of: Linear<M>,
}

impl<M> Projections<M> {
    pub(super) fn map<N>(self, f: &mut impl FnMut(M) -> N) -> Projections<N> {
        Projections { into: self.into.map(f), out_of: self.out_of.map(f) }
    }
}

/// All weights of a model.
pub(crate) struct ModelWeights<M = Matrix> {
    /// context × hidden, in a family that learns its positions.
    pub(crate) positions: Option<M>,
    pub(crate) projections: Option<Projections<M>>,
    pub(crate) layers: Vec<Layer<M>>,
    pub(crate) output_norm: Option<Norm>,
    /// vocabulary × hidden; with tied embeddings it is the output matrix too.
    pub(crate) embedding: Linear<M>,
    /// vocabulary × hidden, if not tied.
    pub(crate) output: Option<Linear<M>>,
    /// Divisors of RoPE's frequencies.
    pub(crate) rope_factors: RopeFactors,
}

impl<M> ModelWeights<M> {
    pub(super) fn map<N>(self, f: &mut impl FnMut(M) -> N) -> ModelWeights<N> {
        ModelWeights {
            positions: self.positions.map(&mut *f),
            projections: self.projections.map(|projections| projections.map(f)),
            layers: self.layers.into_iter().map(|layer| layer.map(f)).collect(),
            output_norm: self.output_norm,
            embedding: self.embedding.map(f),
            output: self.output.map(|output| output.map(f)),
            rope_factors: self.rope_factors,
        }
    }
}

impl ModelWeights {
    /// vocabulary × hidden.
    pub(crate) fn head(&self) -> &Linear {
        self.output.as_ref().unwrap_or(&self.embedding)
    }

    pub(crate) fn vocabulary(&self) -> usize {
        self.embedding.matrix.rows()
    }

    /// The matrices of all products, in the order of a forward pass.
    pub(crate) fn products(&self) -> impl Iterator<Item = &Matrix> {
        let (into, out_of) = self.projections.as_ref().map(|both| (&both.into, &both.out_of)).unzip();
        let layers = self.layers.iter().flat_map(Layer::linears);
        into.into_iter().chain(layers).chain(out_of).chain([self.head()]).map(|linear| &linear.matrix)
    }

    /// Whether tensor number `tensor` of the model is a matrix that is nothing but a factor of products; an embedding
    /// that is the output matrix as well is not.
    pub(crate) fn is_product(&self, tensor: usize) -> bool {
        let around = self.projections.iter().flat_map(|both| [&both.into, &both.out_of]);
        let mut linears = self.layers.iter().flat_map(Layer::linears).chain(&self.output).chain(around);
        linears.any(|linear| linear.tensor == tensor)
    }
}
