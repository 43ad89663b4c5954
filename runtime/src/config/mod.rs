//! The sizes of a model, from GGUF metadata.

mod error;
mod keys;
mod plan;

pub use error::ConfigError;

use quipu_formats::families::keys as names;
use quipu_formats::families::names::Role;
use quipu_formats::families::{Experts, Family, LayerPlan, ModelPlan, Sizes};
use quipu_formats::gguf::{Metadata, Required};

use crate::rope_scaling::{RopeMethod, RopeScaling};
use keys::Keys;

/// The numbers that say how a model is built.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The model's family.
    pub family: &'static Family,
    /// The model's name, if the file says one.
    pub name: Option<String>,
    /// Transformer blocks.
    pub layers: usize,
    /// The hidden size: the width of the residual stream.
    pub hidden: usize,
    /// The width of the embedding; the hidden size, unless matrices lead from one to the other.
    pub embedding: usize,
    /// The intermediate size: the width of the feed-forward layer.
    pub feed_forward: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; each serves `heads / kv_heads` query heads (GQA).
    pub kv_heads: usize,
    /// Elements of a head.
    pub head_dim: usize,
    /// Elements of a head that RoPE turns; 0 where no layer has it.
    pub rope_dim: usize,
    /// RoPE's base.
    pub rope_base: f32,
    /// How RoPE is stretched.
    pub rope: RopeScaling,
    /// The ε of norms.
    pub norm_epsilon: f32,
    /// The context length that the model was trained for, in positions.
    pub context: usize,
    /// Windows, layers without RoPE, factors and caps.
    pub plan: ModelPlan,
}

impl Config {
    /// Reads the key `general.architecture` and those of that architecture.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn from_metadata(metadata: &Metadata) -> Result<Config, ConfigError> {
        let architecture = metadata.str_opt(names::ARCHITECTURE).required(names::ARCHITECTURE)?;
        let unknown = || ConfigError::Architecture { found: architecture.into() };
        let family = Family::of_metadata(metadata).ok_or_else(unknown)?;
        let keys = Keys { family, metadata };
        let hidden = keys.size(names::HIDDEN, None)?;
        let heads = keys.size(names::HEADS, None)?;
        let kv_heads = keys.size(names::KV_HEADS, Some(heads))?;
        if !heads.is_multiple_of(kv_heads) {
            return Err(keys.wrong(names::KV_HEADS, kv_heads, format!("a divisor of the {heads} query heads")));
        }
        let default_dim = if hidden.is_multiple_of(heads) { Some(hidden / heads) } else { None };
        let head_dim = keys.size(names::KEY_LENGTH, default_dim.or(keys.usize(names::ROPE_DIM)?))?;
        let value_dim = keys.size(names::VALUE_LENGTH, Some(head_dim))?;
        if value_dim != head_dim {
            return Err(keys.wrong(names::VALUE_LENGTH, value_dim, format!("{head_dim}, the length of a key")));
        }
        let rope_dim = if family.block.has_rope() { keys.size(names::ROPE_DIM, Some(head_dim))? } else { 0 };
        if rope_dim > head_dim || rope_dim % 2 == 1 {
            let expected = format!("an even number up to {head_dim}, the length of a head");
            return Err(keys.wrong(names::ROPE_DIM, rope_dim, expected));
        }
        let context = keys.size(names::CONTEXT, None)?;
        let rope_base = keys.positive(names::ROPE_BASE, keys.f32(names::ROPE_BASE)?.or(Some(10_000.0)))?;
        let rope = keys.rope_scaling(context)?;
        if matches!(rope.method, RopeMethod::Yarn { .. }) && rope_base <= 1.0 {
            return Err(keys.wrong(names::ROPE_BASE, rope_base, "more than 1 with YaRN".into()));
        }
        let epsilon = family.block.norm.epsilon_key();
        let layers = keys.size(names::LAYERS, None)?;
        let feed_forward = keys.size(names::FEED_FORWARD, None)?;
        let plan = keys.plan(layers, hidden, heads, head_dim, rope_base)?;
        let plan = ModelPlan { experts: keys.experts(layers, feed_forward)?, ..plan };
        Ok(Config {
            family,
            name: metadata.str_opt("general.name")?.map(str::to_string),
            layers,
            hidden,
            embedding: match family.tensor(Role::EmbeddingIn) {
                Some(_) => keys.size(names::EMBEDDING, Some(hidden))?,
                None => hidden,
            },
            feed_forward,
            heads,
            kv_heads,
            head_dim,
            rope_dim,
            rope_base,
            rope,
            norm_epsilon: keys.positive(epsilon, keys.f32(epsilon)?)?,
            context,
            plan,
        })
    }

    /// The most positions that a text may have, where each has an embedding of its own.
    pub fn most_positions(&self) -> Option<usize> {
        self.family.tensor(Role::Positions).map(|_| self.context)
    }

    /// What layer `i` does in its own way.
    pub fn layer(&self, i: usize) -> LayerPlan {
        self.plan.layer(i)
    }

    /// The width of what a token passes in layers with experts, if there are any: of all those that it takes.
    pub fn feed_forward_of_token(&self) -> usize {
        let of_experts = |experts: &Experts| experts.used.saturating_mul(experts.feed_forward);
        self.plan.experts.as_ref().map_or(self.feed_forward, of_experts)
    }

    /// What the extents of tensors are made of, with `vocabulary` rows of the embedding.
    pub fn sizes(&self, vocabulary: usize) -> Sizes {
        Sizes {
            hidden: self.hidden,
            feed_forward: self.feed_forward,
            experts: self.plan.experts.as_ref().map_or(0, |experts| experts.count),
            expert_feed_forward: self.plan.experts.as_ref().map_or(0, |experts| experts.feed_forward),
            heads: self.heads,
            kv_heads: self.kv_heads,
            head_dim: self.head_dim,
            rope_dim: self.rope_dim,
            vocabulary,
            embedding: self.embedding,
            positions: self.context,
        }
    }
}
