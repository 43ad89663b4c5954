//! The order of tensors in a packed file: that in which a forward pass reads them, so that reading ahead is sequential.

use crate::families::names::{Role, TensorName, split_layer};

/// A key that sorts tensors by name: rope factors, what follows the embedding, the layers, what else there is, the
/// final norm, the head, the embedding. (The embedding is needed first, but only a row of it; where it is the head too,
/// all of it is needed last.)
pub(super) fn forward_order(name: &str) -> impl Ord + use<> {
    let known = TensorName::parse(name).map(|n| (n.role, n.parameter));
    let layer = split_layer(name).map(|(layer, _)| layer);
    let stage = match (layer, known) {
        (_, Some((role, _))) if role.is_rope_factors() => 0,
        (_, Some((Role::Positions | Role::EmbeddingIn, _))) => 0,
        (Some(_), _) => 1,
        (None, None) => 2,
        (None, Some(_)) => 3,
    };
    // In a layer what is unheard of comes last.
    (stage, layer, known.is_none(), known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_the_forward_pass_reads() {
        let expected = [
            "rope_freqs.weight",
            "rope_factors_long.weight",
            "rope_factors_short.weight",
            "position_embd.weight",
            "token_embd_in.weight",
            "blk.0.attn_norm.weight",
            "blk.0.attn_q.weight",
            "blk.0.attn_q.bias",
            "blk.0.attn_k.weight",
            "blk.0.attn_v.weight",
            "blk.0.attn_output.weight",
            "blk.0.ffn_norm.weight",
            "blk.0.ffn_gate.weight",
            "blk.0.ffn_up.weight",
            "blk.0.ffn_down.weight",
            "blk.0.unheard_of.weight",
            "blk.2.attn_norm.weight",
            "blk.10.attn_norm.weight",
            "unheard_of.weight",
            "output_norm.weight",
            "token_embd_out.weight",
            "output.weight",
            "token_embd.weight",
        ];
        let mut sorted = expected;
        sorted.sort();
        sorted.sort_by_key(|name| forward_order(name));
        assert_eq!(sorted, expected);
    }
}
