//! The weights of a model as the block uses them.
//!
//! The types are generic over what a matrix is: while a model is loaded that is a plan of where it will lie
//! ([`super::load`]), and when all of them lie there, [`Matrix`].

use std::ops::Range;

use quipu_kernels::{Kernels, MatMut};
use quipu_quant::pack::GROUP_ROWS;

use super::matrix::Matrix;
use super::product::{ProductInput, ProductScratch};
use super::rope::RopeFactors;

/// `y = s·W·x + b`, and what adapters add.
pub(crate) struct Linear<M = Matrix> {
    /// outputs × inputs.
    pub(crate) matrix: M,
    /// The number of `W` among the model's tensors.
    pub(super) tensor: usize,
    /// A factor of all outputs: files with NVFP4 have one for each matrix, since the type's own scales reach no farther
    /// than 448.
    pub(super) scale: Option<f32>,
    /// outputs, padded to 16.
    pub(super) bias: Option<Vec<f32>>,
}

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
            GateAndUp::Joined(one) => std::slice::from_ref(one),
        }
    }

    fn map<N>(self, f: &mut impl FnMut(M) -> N) -> GateAndUp<N> {
        match self {
            GateAndUp::Apart(two) => GateAndUp::Apart(two.map(|linear| linear.map(f))),
            GateAndUp::Joined(one) => GateAndUp::Joined(one.map(f)),
        }
    }
}

/// One transformer block. The weights of norms are hidden long, padded to 16; a family has those before attention and
/// feed-forward layer, those behind them, or both.
pub(crate) struct Layer<M = Matrix> {
    pub(crate) attention_norm: Option<Vec<f32>>,
    pub(crate) qkv: Qkv<M>,
    /// Only in families whose queries and keys are normed.
    pub(crate) qk_norm: Option<QkNormWeights>,
    /// hidden × (heads · head_dim).
    pub(crate) attention_output: Linear<M>,
    pub(crate) attention_post_norm: Option<Vec<f32>>,
    pub(crate) feed_forward_norm: Option<Vec<f32>>,
    pub(crate) gate_and_up: GateAndUp<M>,
    /// hidden × feed_forward.
    pub(crate) down: Linear<M>,
    pub(crate) feed_forward_post_norm: Option<Vec<f32>>,
}

impl<M> Layer<M> {
    pub(super) fn map<N>(self, f: &mut impl FnMut(M) -> N) -> Layer<N> {
        Layer {
            attention_norm: self.attention_norm,
            qkv: self.qkv.map(f),
            qk_norm: self.qk_norm,
            attention_output: self.attention_output.map(f),
            attention_post_norm: self.attention_post_norm,
            feed_forward_norm: self.feed_forward_norm,
            gate_and_up: self.gate_and_up.map(f),
            down: self.down.map(f),
            feed_forward_post_norm: self.feed_forward_post_norm,
        }
    }

    /// Its matrices, in the order of a forward pass.
    fn linears(&self) -> impl Iterator<Item = &Linear<M>> {
        let before = self.qkv.matrices().iter().chain([&self.attention_output]);
        before.chain(self.gate_and_up.matrices()).chain([&self.down])
    }
}

/// All weights of a model.
pub(crate) struct ModelWeights<M = Matrix> {
    pub(crate) layers: Vec<Layer<M>>,
    /// hidden, padded to 16.
    pub(crate) output_norm: Vec<f32>,
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
        self.layers.iter().flat_map(Layer::linears).map(|linear| &linear.matrix).chain([&self.head().matrix])
    }

    /// Whether tensor number `tensor` of the model is a matrix that is nothing but a factor of products; an embedding
    /// that is the output matrix as well is not.
    pub(crate) fn is_product(&self, tensor: usize) -> bool {
        let mut linears = self.layers.iter().flat_map(Layer::linears).chain(&self.output);
        linears.any(|linear| linear.tensor == tensor)
    }
}
