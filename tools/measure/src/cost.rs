//! What a forward pass costs: bytes to read and products to compute, from the tensor directory alone.
//!
//! With what the machine can do ([`crate::roofline`]) this says how fast a model can be at most.

use quipu_formats::families::names::{TensorName, split_layer};
use quipu_formats::source::Source;
use quipu_quant::TensorType;
use quipu_quant::pack::PackedLayout;
use quipu_runtime::config::Config;
use quipu_runtime::kv::{KvType, bytes_per_position};
use quipu_runtime::model::activation_bytes;

/// What some of a model's matrices ask of the machine for one token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Bytes of the matrices as the kernels read them.
    pub bytes: u64,
    /// Multiplications with one token's activations: elements of the matrices.
    pub macs: u64,
}

/// The cost of a model's forward pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cost {
    /// The matrices of all layers, which every token passes; of experts, as many as a token takes.
    pub layers: Work,
    /// The output matrix, which only those tokens pass whose logits are wanted.
    pub head: Work,
    /// Bytes of all matrices in memory: the two above, and the embeddings unless they are the output matrix, too.
    pub resident_bytes: u64,
    /// Bytes of keys and values that one position adds, and that every later token reads.
    pub position_bytes: u64,
    /// Bytes of the activations of each token of a batch.
    pub token_bytes: u64,
    /// The type of the weights that most multiplications are with.
    pub ty: TensorType,
}

impl Cost {
    /// The cost of the model in `source`, whose configuration is `config`.
    pub fn new(source: &dyn Source, config: &Config, kv_type: KvType) -> Cost {
        let output = source.output_matrix().to_string();
        let (mut layers, mut head, mut resident_bytes) = (Work::default(), Work::default(), 0);
        let mut by_type = TensorType::ALL.map(|ty| (0, ty));
        for tensor in source.tensors() {
            // Vectors (norms, biases, RoPE's factors) stay out: they are a thousandth of the whole.
            let matrix = PackedLayout::new(tensor.ty(), tensor.rows(), tensor.cols()).filter(|l| l.rows() > 1);
            let Some(layout) = matrix else { continue };
            let bytes = layout.total_bytes() as u64;
            resident_bytes += bytes;
            let work = if tensor.name == output {
                &mut head
            } else if split_layer(&tensor.name).is_some() {
                &mut layers
            } else {
                continue;
            };
            // Of experts, a token reads those that it takes.
            let taken = |part: u64| match &config.plan.experts {
                Some(experts) if is_bank(&tensor.name) => {
                    (u128::from(part) * experts.used as u128 / experts.count as u128) as u64
                }
                _ => part,
            };
            let (bytes, macs) = (taken(bytes), taken(layout.rows() as u64 * layout.cols() as u64));
            work.bytes += bytes;
            work.macs += macs;
            for (sum, ty) in &mut by_type {
                *sum += if *ty == tensor.ty() { macs } else { 0 };
            }
        }
        let most = by_type.into_iter().max_by_key(|&(macs, _)| macs);
        Cost {
            layers,
            head,
            resident_bytes,
            position_bytes: bytes_per_position(config, kv_type) as u64,
            token_bytes: activation_bytes(config, 1),
            ty: most.map_or(TensorType::F32, |(_, ty)| ty),
        }
    }

    /// Bytes of weights that a decode step reads.
    pub fn decode_weight_bytes(&self) -> u64 {
        self.layers.bytes + self.head.bytes
    }

    /// Bytes that decoding `tokens` tokens of each of `sequences` reads after `depth` others: the weights once for each
    /// step, and the keys and values up to and with the token's own. A number that is too large is the largest.
    pub fn decode_bytes(&self, depth: u64, tokens: u64, sequences: u64) -> u64 {
        let [wide_depth, wide_tokens] = [depth, tokens].map(u128::from);
        let positions = wide_tokens * wide_depth + wide_tokens * (wide_tokens + 1) / 2;
        let positions = u64::try_from(positions).unwrap_or(u64::MAX);
        let context = positions.saturating_mul(self.position_bytes).saturating_mul(sequences);
        tokens.saturating_mul(self.decode_weight_bytes()).saturating_add(context)
    }

    /// Multiplications with weights for a prompt of `tokens` tokens, of which only the last wants logits. Attention is
    /// not counted: it computes with f32.
    pub fn prefill_macs(&self, tokens: u64) -> u64 {
        tokens.saturating_mul(self.layers.macs).saturating_add(self.head.macs)
    }
}

/// Whether these are matrices of experts, by the name of their tensor.
fn is_bank(name: &str) -> bool {
    TensorName::parse(name).is_some_and(|name| name.role.is_bank())
}

#[cfg(test)]
mod tests {
    use quipu_formats::families::names::Role;

    use super::*;

    /// The same numbers from the other side: the model's configuration.
    #[test]
    fn the_demo_model_costs_what_its_shape_says() {
        let source = quipu_runtime::open("demo").unwrap();
        let c = Config::from_metadata(source.metadata()).unwrap();
        let cost = Cost::new(&*source, &c, KvType::F16);
        let vocabulary = source.tensors()[source.find(&Role::TokenEmbedding.weight().to_string()).unwrap()].rows();
        let (q, kv) = (c.heads * c.head_dim, c.kv_heads * c.head_dim);
        let layer = 2 * c.hidden * q + 2 * c.hidden * kv + 3 * c.hidden * c.feed_forward;
        assert_eq!(cost.layers.macs, (c.layers * layer) as u64);
        assert_eq!(cost.head.macs, (vocabulary * c.hidden) as u64);
        // Keys and values of all layers in two bytes; the head dimension is a multiple of 16.
        assert_eq!(cost.position_bytes, (2 * 2 * c.layers * kv) as u64);
        let bits = 8.0 * cost.layers.bytes as f64 / cost.layers.macs as f64;
        assert!((bits - cost.ty.bits_per_weight()).abs() < 0.5, "{bits} bits per weight of {}", cost.ty);

        assert_eq!(cost.prefill_macs(7), 7 * cost.layers.macs + cost.head.macs);
        // Two tokens after ten: they see eleven and twelve positions.
        assert_eq!(cost.decode_bytes(10, 2, 1), 2 * cost.decode_weight_bytes() + 23 * cost.position_bytes);
        assert_eq!(cost.decode_bytes(10, 2, 5), 2 * cost.decode_weight_bytes() + 5 * 23 * cost.position_bytes);
        assert_eq!(cost.decode_bytes(u64::MAX, u64::MAX, u64::MAX), u64::MAX);
    }
}
