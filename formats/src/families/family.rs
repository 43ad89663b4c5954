//! What a family is: the types of its table.

use super::names::Role;
use super::plan::BlockPlan;

/// Models whose files look alike and whose layers compute alike.
#[derive(Debug, PartialEq)]
pub struct Family {
    /// GGUF's `general.architecture`; keys that speak of the model begin with it.
    pub architecture: &'static str,
    /// What config.json has as `model_type`.
    pub model_types: &'static [&'static str],
    /// What config.json may have in `architectures`.
    pub classes: &'static [&'static str],
    /// What Hugging Face's files call things.
    pub spelling: Spelling,
    /// What an absent key of config.json means.
    pub defaults: Defaults,
    /// How its block computes.
    pub block: BlockPlan,
    /// What config.json says of experts, in families that have them.
    pub experts: Option<ExpertKeys>,
    /// Every tensor, those of a layer once, in the order in which a converted file has them.
    pub tensors: &'static [Tensor],
}

impl Family {
    /// The key of GGUF's metadata that ends with `key`, one of [`keys`](super::keys).
    pub fn key(&self, key: &str) -> String {
        format!("{}.{key}", self.architecture)
    }

    /// The tensor with this role.
    pub fn tensor(&self, role: Role) -> Option<&'static Tensor> {
        self.tensors.iter().find(|tensor| tensor.role == role)
    }
}

/// What Hugging Face's files of a family call things.
#[derive(Debug, PartialEq)]
pub struct Spelling {
    /// What stands before the number of a layer in the names of its tensors.
    pub layers: &'static str,
    /// The key of the width of the feed-forward layer.
    pub feed_forward: &'static str,
    /// The key of the function in it.
    pub activation: &'static str,
}

impl Spelling {
    /// Llama's and most others'.
    pub const LLAMA: Spelling =
        Spelling { layers: "model.layers.", feed_forward: "intermediate_size", activation: "hidden_act" };
}

/// What transformers takes where config.json of a family says nothing.
#[derive(Debug, PartialEq)]
pub struct Defaults {
    /// `max_position_embeddings`.
    pub context: usize,
    /// `head_dim`; `None` for `hidden_size / num_attention_heads`.
    pub head_dim: Option<usize>,
    /// `num_attention_heads`, if there is such a default that models rely on.
    pub heads: Option<usize>,
    /// `vocab_size`, likewise.
    pub vocabulary: Option<usize>,
    /// `num_key_value_heads`; `None` for `num_attention_heads`, which is also what a `null` means.
    pub kv_heads: Option<usize>,
    /// `sliding_window`, the positions that each sees in layers with a window; also where a GGUF says nothing.
    pub window: Option<usize>,
    /// `rms_norm_eps`, or the ε of LayerNorm.
    pub epsilon: f64,
    /// RoPE's base.
    pub rope_base: f64,
    /// `tie_word_embeddings`.
    pub tied: bool,
}

impl Defaults {
    /// Llama's, of which others are variations.
    pub const LLAMA: Defaults = Defaults {
        context: 2048,
        head_dim: None,
        heads: None,
        vocabulary: None,
        kv_heads: None,
        window: None,
        epsilon: 1e-6,
        rope_base: 10_000.0,
        tied: false,
    };
}

/// The keys of config.json that speak of experts, and what they mean where they are absent. How many serve a token is
/// `num_experts_per_tok` in all families.
#[derive(Debug, PartialEq)]
pub struct ExpertKeys {
    /// Names of the number of experts of a layer, and the number.
    pub count: (&'static [&'static str], usize),
    /// How many serve a token.
    pub used: usize,
    /// The width of an expert, if it is not the feed-forward layer's `intermediate_size`.
    pub width: Option<(&'static str, usize)>,
    /// The width of the feed-forward layer, where `intermediate_size` is that of an expert.
    pub dense_width: Option<&'static str>,
    /// Whether the weights of those chosen are made to sum to 1, where models differ in that.
    pub normalised: Option<(&'static str, bool)>,
    /// Which layers have them.
    pub layers: ExpertLayers,
}

/// Where config.json says which layers have experts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExpertLayers {
    /// All have.
    All,
    /// Every `decoder_sparse_step`-th, but for those in `mlp_only_layers`.
    SparseStep,
    /// Those in `moe_layers`, or every `interleave_moe_layer_step`-th.
    Interleaved,
}

/// A tensor of a family.
#[derive(Debug, PartialEq)]
pub struct Tensor {
    /// What it does, which determines its name in a GGUF, too.
    pub role: Role,
    /// Hugging Face's name without `.weight`; for a layer's tensor, what follows the layer's number
    /// ([`Spelling::layers`]). Where each expert has a tensor of its own, a `*` stands for its number.
    pub hf: &'static str,
    /// Its extents.
    pub shape: Shape,
    /// Whether it has a bias.
    pub bias: Bias,
    /// The order of its rows.
    pub rows: RowOrder,
    /// Hugging Face has the numbers of a norm less 1, a GGUF as they are multiplied with.
    pub plus_one: bool,
    /// When a model has it.
    pub presence: Presence,
}

/// The extents of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// So many numbers.
    Vector(Extent),
    /// Outputs × inputs.
    Matrix(Extent, Extent),
    /// The same of each expert, one after the other.
    Bank(Extent, Extent),
}

/// A number of a model's configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// The hidden size: the width of the residual stream.
    Hidden,
    /// The width of the feed-forward layer.
    FeedForward,
    /// The width of an expert.
    ExpertFeedForward,
    /// The experts of a layer.
    Experts,
    /// Twice the width of the feed-forward layer: the gate and the way up side by side.
    GateAndUp,
    /// All query heads side by side.
    Queries,
    /// All key heads side by side, or all value heads.
    Keys,
    /// All query heads, all key heads and all value heads side by side.
    QueriesKeysValues,
    /// One head.
    Head,
    /// The pairs of a head that RoPE turns.
    RopePairs,
    /// The vocabulary.
    Vocabulary,
    /// The width of the embedding.
    Embedding,
    /// The positions that the model was made for.
    Positions,
}

/// Whether a matrix has a bias.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bias {
    /// Hugging Face's files have none. One that a GGUF has all the same is added.
    None,
    /// Always.
    Always,
    /// If this key of config.json is true; in a GGUF, if it is there.
    If(&'static str),
    /// Unless this key of config.json is false; in a GGUF, if it is there.
    Unless(&'static str),
}

impl Bias {
    /// The key of config.json that says whether there is one, and what it says where it is absent.
    pub fn key(self) -> Option<(&'static str, bool)> {
        match self {
            Bias::None | Bias::Always => None,
            Bias::If(key) => Some((key, false)),
            Bias::Unless(key) => Some((key, true)),
        }
    }
}

/// How the rows of a Hugging Face matrix become those of a GGUF.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowOrder {
    /// They stay as they are.
    Same,
    /// Those of each head change from RoPE's order of halves to that of neighbours ([`RopePairs`](super::RopePairs)).
    HalvesToNeighbours,
    /// Those from this one on; nothing ever reads those before it.
    From(usize),
    /// They are its columns: of a tensor without `.weight` in its name, experts × inputs × outputs, this half of the
    /// outputs, or all of them.
    Columns(Half),
}

/// A part of the outputs of a matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Half {
    /// Those before the middle.
    First,
    /// Those from the middle on.
    Second,
    /// All.
    Both,
}

/// When a model has a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// Always.
    Always,
    /// Unless the embedding is the output matrix too (`tie_word_embeddings`).
    Untied,
    /// If a norm stands behind the last layer ([`ModelPlan::final_norm`](super::ModelPlan::final_norm)).
    FinalNorm,
    /// If the embedding has another width than the layers.
    Projected,
    /// If config.json has a scaling of RoPE that it stands for; Hugging Face has no such tensor.
    Computed,
    /// In the layers that have experts.
    ExpertLayers,
    /// In the others.
    DenseLayers,
}

impl Presence {
    /// Whether a layer has such a tensor, if it has experts or not.
    pub fn is_in(self, experts: bool) -> bool {
        match self {
            Presence::ExpertLayers => experts,
            Presence::DenseLayers => !experts,
            _ => true,
        }
    }
}

/// The numbers that make extents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// The hidden size: the width of the residual stream.
    pub hidden: usize,
    /// The width of the feed-forward layer.
    pub feed_forward: usize,
    /// Experts of a layer.
    pub experts: usize,
    /// The width of an expert.
    pub expert_feed_forward: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; each serves `heads / kv_heads` query heads (GQA).
    pub kv_heads: usize,
    /// Elements of a head.
    pub head_dim: usize,
    /// Elements of a head that RoPE turns.
    pub rope_dim: usize,
    /// Rows of the embedding.
    pub vocabulary: usize,
    /// The width of the embedding; the hidden size, unless matrices lead from one to the other.
    pub embedding: usize,
    /// Positions that the model was made for.
    pub positions: usize,
}

impl Extent {
    /// The number, for a model of these sizes; whoever made them has checked that products are small.
    pub fn of(self, sizes: &Sizes) -> usize {
        match self {
            Extent::Hidden => sizes.hidden,
            Extent::FeedForward => sizes.feed_forward,
            Extent::ExpertFeedForward => sizes.expert_feed_forward,
            Extent::Experts => sizes.experts,
            Extent::GateAndUp => 2 * sizes.feed_forward,
            Extent::QueriesKeysValues => (sizes.heads + 2 * sizes.kv_heads) * sizes.head_dim,
            Extent::Queries => sizes.heads * sizes.head_dim,
            Extent::Keys => sizes.kv_heads * sizes.head_dim,
            Extent::Head => sizes.head_dim,
            Extent::RopePairs => sizes.rope_dim / 2,
            Extent::Vocabulary => sizes.vocabulary,
            Extent::Embedding => sizes.embedding,
            Extent::Positions => sizes.positions,
        }
    }
}

impl Shape {
    /// The number of outputs, of an expert's matrix its own; or of a vector's elements.
    pub fn outputs(self, sizes: &Sizes) -> usize {
        match self {
            Shape::Vector(n) | Shape::Matrix(n, _) | Shape::Bank(n, _) => n.of(sizes),
        }
    }

    /// The extents in GGUF's order: inputs, then outputs, then experts.
    pub fn gguf(self, sizes: &Sizes) -> Vec<usize> {
        match self {
            Shape::Vector(n) => vec![n.of(sizes)],
            Shape::Matrix(outputs, inputs) => vec![inputs.of(sizes), outputs.of(sizes)],
            Shape::Bank(outputs, inputs) => vec![inputs.of(sizes), outputs.of(sizes), sizes.experts],
        }
    }
}

impl Tensor {
    /// A matrix without bias whose rows keep their order.
    pub(super) const fn matrix(role: Role, hf: &'static str, outputs: Extent, inputs: Extent) -> Tensor {
        let (shape, plus_one) = (Shape::Matrix(outputs, inputs), false);
        Tensor { role, hf, shape, bias: Bias::None, rows: RowOrder::Same, plus_one, presence: Presence::Always }
    }

    /// The weight of a norm.
    pub(super) const fn norm(role: Role, hf: &'static str, n: Extent) -> Tensor {
        let (shape, plus_one) = (Shape::Vector(n), false);
        Tensor { role, hf, shape, bias: Bias::None, rows: RowOrder::Same, plus_one, presence: Presence::Always }
    }

    /// The matrices of experts; there is none in a layer without them.
    pub(super) const fn bank(role: Role, hf: &'static str, outputs: Extent, inputs: Extent) -> Tensor {
        let (shape, presence) = (Shape::Bank(outputs, inputs), Presence::ExpertLayers);
        Tensor { shape, presence, ..Tensor::matrix(role, hf, outputs, inputs) }
    }

    /// The same in one tensor, inputs first.
    pub(super) const fn columns(self, half: Half) -> Tensor {
        Tensor { rows: RowOrder::Columns(half), ..self }
    }

    /// A matrix that only a layer with experts has.
    pub(super) const fn beside_experts(self) -> Tensor {
        Tensor { presence: Presence::ExpertLayers, ..self }
    }

    /// The matrix of experts' scores, likewise.
    pub(super) const fn router(hf: &'static str) -> Tensor {
        let matrix = Tensor::matrix(Role::Router, hf, Extent::Experts, Extent::Hidden);
        Tensor { presence: Presence::ExpertLayers, ..matrix }
    }

    /// The same where a layer has no experts.
    pub(super) const fn dense(self) -> Tensor {
        Tensor { presence: Presence::DenseLayers, ..self }
    }

    pub(super) const fn plus_one(self) -> Tensor {
        Tensor { plus_one: true, ..self }
    }

    pub(super) const fn bias(self, bias: Bias) -> Tensor {
        Tensor { bias, ..self }
    }

    pub(super) const fn rows(self, rows: RowOrder) -> Tensor {
        Tensor { rows, ..self }
    }

    pub(super) const fn presence(self, presence: Presence) -> Tensor {
        Tensor { presence, ..self }
    }

    pub(super) const fn halves_to_neighbours(self) -> Tensor {
        Tensor { rows: RowOrder::HalvesToNeighbours, ..self }
    }
}

// What stands outside of the layers in most families.

/// vocabulary × hidden.
pub(super) const EMBEDDING: Tensor =
    Tensor::matrix(Role::TokenEmbedding, "model.embed_tokens", Extent::Vocabulary, Extent::Hidden);

/// Llama 3's divisors of RoPE's frequencies, one for each pair.
pub(super) const ROPE_FACTORS: Tensor = computed(Role::RopeFactors);

/// LongRoPE's, for contexts beyond the original one.
pub(super) const ROPE_FACTORS_LONG: Tensor = computed(Role::RopeFactorsLong);

/// LongRoPE's, for contexts within it.
pub(super) const ROPE_FACTORS_SHORT: Tensor = computed(Role::RopeFactorsShort);

const fn computed(role: Role) -> Tensor {
    Tensor { presence: Presence::Computed, ..Tensor::norm(role, "", Extent::RopePairs) }
}

/// The norm behind the last layer.
pub(super) const OUTPUT_NORM: Tensor = Tensor::norm(Role::OutputNorm, "model.norm", Extent::Hidden);

/// vocabulary × hidden.
pub(super) const OUTPUT: Tensor = Tensor {
    presence: Presence::Untied,
    ..Tensor::matrix(Role::Output, "lm_head", Extent::Vocabulary, Extent::Hidden)
};
