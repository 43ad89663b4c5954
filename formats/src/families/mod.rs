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
mod mistral;
pub mod names;
mod olmo2;
mod opt;
mod phi3;
mod plan;
mod qwen2;
mod qwen3;
mod smollm3;
mod yarn;

pub use family::{Bias, Defaults, Extent, Family, Presence, RowOrder, Shape, Sizes, Spelling, Tensor};
pub use plan::{
    Activation, AttentionScale, BlockPlan, Cap, LayerPlan, Layers, LocalRope, ModelPlan, NormKind, QkNorm, Rope,
    RopePairs, Scale, Scales, Ungated, Window, Windows,
};
pub use yarn::{YARN_BETAS, yarn_attention};

/// All families, as messages list them.
pub static FAMILIES: [&Family; 12] = [
    &llama::LLAMA,
    &mistral::MISTRAL,
    &qwen2::QWEN2,
    &qwen3::QWEN3,
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
    /// The family that GGUF calls `architecture`; the first of those that it calls alike, which have the same layers.
    pub fn of_architecture(architecture: &str) -> Option<&'static Family> {
        FAMILIES.into_iter().find(|family| family.architecture == architecture)
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
            let stored = family.tensors.iter().filter(|tensor| tensor.presence != Presence::Computed);
            assert_eq!(names.len(), stored.count(), "{}: a name stands twice", family.architecture);
            // Hugging Face has the order of halves: whoever turns neighbours needs other rows of q and k, and of no
            // other matrix.
            for tensor in family.tensors {
                let neighbours = family.block.rope == RopePairs::Neighbours && family.block.has_rope();
                let turned = matches!(tensor.role, Role::Query | Role::Key) && neighbours;
                assert_eq!(tensor.rows == RowOrder::HalvesToNeighbours, turned, "{:?}", tensor.role);
                let is_product = matches!(tensor.shape, Shape::Matrix(..)) && tensor.role != Role::Positions;
                assert_eq!(is_product, tensor.role.input(0).is_some(), "{:?}", tensor.role);
            }
            let same = Family::of_architecture(family.architecture).unwrap();
            let block = |family: &Family| BlockPlan { windows: Windows::None, ..family.block };
            assert_eq!((same.tensors, block(same)), (family.tensors, block(family)), "{}", family.model_types[0]);
        }
    }
}
