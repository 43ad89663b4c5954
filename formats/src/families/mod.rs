//! Model families as data.
//!
//! A family is a file here, opened by its formula. It says what GGUF and Hugging Face call the family, how its block
//! differs from others ([`BlockPlan`]), and which tensors it has: their names in both worlds, shapes, biases and order
//! of rows ([`Tensor`]). The converter makes a GGUF of a Hugging Face directory by it, the runtime checks a file by it
//! and runs it; neither names a tensor or a key by itself.
//!
//! - `family.rs`: what a family is, and what all of them have; the table of families is here.
//! - `plan.rs`: the switches of the block, and what is different in each model or layer of a family ([`ModelPlan`]).
//! - [`names`]: what a tensor is by its name in a GGUF, which all families share.
//! - [`keys`]: the keys of GGUF's metadata that say how large a model is.
//!
//! A new family is a new file and its row in [`FAMILIES`]. One that needs a new step in the block gets a switch in
//! [`BlockPlan`], which the runtime's block follows.

mod family;
mod gemma2;
mod gemma3;
mod granite;
pub mod keys;
mod llama;
mod llama4;
mod mistral;
mod mixtral;
pub(crate) mod mllama;
pub mod names;
mod olmo2;
mod opt;
mod phi3;
mod plan;
mod qwen2;
mod qwen3;
mod qwen3moe;
mod smollm3;
mod yarn;

pub use family::{
    Bias, Defaults, ExpertKeys, ExpertLayers, Extent, Family, Half, Presence, RowOrder, Shape, Sizes, Spelling, Tensor,
};
pub use plan::{
    Activation, AttentionScale, BlockPlan, Cap, Experts, LayerPlan, Layers, LocalRope, ModelPlan, NormKind, QkNorm,
    Rope, RopePairs, Router, Scale, Scales, Temperature, Ungated, Window, Windows,
};
pub use yarn::{YARN_BETAS, yarn_attention};

use crate::gguf::Metadata;

/// All families, as messages list them.
pub static FAMILIES: [&Family; 15] = [
    &llama::LLAMA,
    &llama4::LLAMA4,
    &mistral::MISTRAL,
    &mixtral::MIXTRAL,
    &qwen2::QWEN2,
    &qwen3::QWEN3,
    &qwen3moe::QWEN3_MOE,
    &gemma2::GEMMA2,
    &gemma3::GEMMA3,
    &phi3::PHI3,
    &olmo2::OLMO2,
    &olmo2::OLMO3,
    &granite::GRANITE,
    &smollm3::SMOLLM3,
    &opt::OPT,
];

impl Family {
    /// The family of the model that `metadata` describes. Of those that GGUF calls alike the first that has experts, or
    /// has none, as the model; these have the same layers. `None` where the architecture is unknown or none is said.
    pub fn of_metadata(metadata: &Metadata) -> Option<&'static Family> {
        let architecture = metadata.str_opt(keys::ARCHITECTURE).ok().flatten()?;
        let alike = || FAMILIES.into_iter().filter(|family| family.architecture == architecture);
        let first = alike().next()?;
        let experts = metadata.usize_opt(&first.key(keys::EXPERTS)).ok().flatten().is_some_and(|count| count > 0);
        Some(alike().find(|family| family.experts.is_some() == experts).unwrap_or(first))
    }
}

/// The architectures that Quipu knows, for messages.
pub fn known_architectures() -> String {
    let mut names: Vec<String> = FAMILIES.iter().map(|family| format!("`{}`", family.architecture)).collect();
    names.dedup();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::names::Role;
    use super::*;
    use crate::gguf::Value;

    const GATE_AND_UP: Shape = Shape::Matrix(Extent::GateAndUp, Extent::Hidden);

    /// What the runtime's block asks for is there, and nothing stands twice.
    #[test]
    fn tables_are_complete() {
        for family in FAMILIES {
            let roles: Vec<Role> = family.tensors.iter().map(|tensor| tensor.role).collect();
            for role in Role::ALL {
                let count = roles.iter().filter(|&&r| r == role).count();
                let has = |role| usize::from(roles.contains(&role));
                let expected = match role {
                    Role::QueryNorm | Role::KeyNorm => usize::from(family.block.qk_norm.is_some()),
                    Role::Query | Role::Key | Role::Value => 1 - has(Role::QueryKeyValue),
                    Role::Gate => {
                        let apart = matches!(family.tensor(Role::Up), Some(up) if up.shape != GATE_AND_UP);
                        usize::from(apart && family.block.ungated.is_none())
                    }
                    Role::RopeFactors => usize::from(family.block.has_rope()),
                    Role::Positions | Role::EmbeddingIn | Role::EmbeddingOut => usize::from(!family.block.has_rope()),
                    Role::RopeFactorsLong | Role::RopeFactorsShort => has(Role::RopeFactorsLong),
                    Role::AttentionNorm | Role::FeedForwardNorm => has(Role::FeedForwardNorm),
                    Role::AttentionPostNorm | Role::FeedForwardPostNorm => has(Role::FeedForwardPostNorm),
                    Role::QueryKeyValue => count.min(1),
                    Role::Router | Role::ExpertGate | Role::ExpertUp | Role::ExpertDown => {
                        usize::from(family.block.router.is_some())
                    }
                    Role::SharedGate | Role::SharedUp | Role::SharedDown => has(Role::SharedDown),
                    Role::Up | Role::Down => usize::from(family.block.router.is_none() || has(Role::Down) == 1),
                    _ => 1,
                };
                assert_eq!(count, expected, "{role:?} of {}", family.architecture);
            }
            assert!(roles.contains(&Role::FeedForwardNorm) || roles.contains(&Role::FeedForwardPostNorm));
            // A norm forgets the size of what it gets.
            let scaled = family.block.scales.residual != Scale::One;
            assert!(!(scaled && roles.contains(&Role::FeedForwardPostNorm)), "{}", family.architecture);
            let mut names: Vec<_> = family.tensors.iter().map(|tensor| tensor.hf).collect();
            names.sort_unstable();
            names.dedup();
            names.retain(|name| !name.is_empty());
            let stored = family.tensors.iter().filter(|tensor| {
                let half_of_one = tensor.rows == RowOrder::Columns(Half::Second);
                tensor.presence != Presence::Computed && !half_of_one
            });
            assert_eq!(names.len(), stored.count(), "{}: a name stands twice", family.architecture);
            // Hugging Face has the order of halves, but for Llama 4: whoever turns neighbours needs other rows of q and
            // k, and of no other matrix.
            for tensor in family.tensors {
                let neighbours = family.block.rope == RopePairs::Neighbours
                    && family.block.has_rope()
                    && family.architecture != "llama4";
                let turned = matches!(tensor.role, Role::Query | Role::Key) && neighbours;
                assert_eq!(tensor.rows == RowOrder::HalvesToNeighbours, turned, "{:?}", tensor.role);
                let is_product = !matches!(tensor.shape, Shape::Vector(_)) && tensor.role != Role::Positions;
                assert_eq!(is_product, tensor.role.input(0).is_some(), "{:?}", tensor.role);
                assert_eq!(matches!(tensor.shape, Shape::Bank(..)), tensor.role.is_bank(), "{:?}", tensor.role);
                // A layer has either a feed-forward layer or experts.
                let in_dense = matches!(tensor.role, Role::Gate | Role::Up | Role::Down);
                let with_experts = tensor.role.is_bank()
                    || matches!(tensor.role, Role::Router | Role::SharedGate | Role::SharedUp | Role::SharedDown);
                assert_eq!(!tensor.presence.is_in(false), with_experts, "{:?}", tensor.role);
                assert_eq!(!tensor.presence.is_in(true), in_dense && family.block.router.is_some());
            }
            assert_eq!(family.experts.is_some(), family.block.router.is_some(), "{}", family.model_types[0]);
            let mut metadata = Metadata::default();
            metadata.set(keys::ARCHITECTURE, Value::String(family.architecture.into()));
            metadata.set(family.key(keys::EXPERTS), Value::U32(family.experts.is_some().into()));
            let same = Family::of_metadata(&metadata).unwrap();
            let block = |family: &Family| BlockPlan { windows: Windows::None, ..family.block };
            assert_eq!((same.tensors, block(same)), (family.tensors, block(family)), "{}", family.model_types[0]);
        }
    }
}
