//! The order of tensors in a packed file: that in which a forward pass reads them, so that reading ahead is reading on.

/// A key that sorts tensors by name: rope factors, the layers, what else there is, the final norm, the head, the
/// embedding. (The embedding is needed first, but only a row of it; where it is the head too, all of it is needed
/// last.)
pub(super) fn forward_order(name: &str) -> impl Ord + use<> {
    let layer = name.strip_prefix("blk.").and_then(|rest| rest.split_once('.'));
    if let Some((number, rest)) = layer
        && let Ok(number) = number.parse::<u64>()
    {
        const STEPS: [&str; 9] =
            ["attn_norm", "attn_q", "attn_k", "attn_v", "attn_output", "ffn_norm", "ffn_gate", "ffn_up", "ffn_down"];
        let (step, kind) = rest.split_once('.').unwrap_or((rest, ""));
        let step = STEPS.iter().position(|s| *s == step).unwrap_or(STEPS.len());
        let kind = ["weight", "bias"].iter().position(|k| *k == kind).unwrap_or(2);
        return (1, number, step, kind);
    }
    let stage = match name {
        "rope_freqs.weight" => 0,
        "output_norm.weight" => 3,
        "output_norm.bias" => 4,
        "output.weight" => 5,
        "output.bias" => 6,
        "token_embd.weight" => 7,
        _ => 2,
    };
    (stage, 0, 0, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_the_forward_pass_reads() {
        let expected = [
            "rope_freqs.weight",
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
            "output.weight",
            "token_embd.weight",
        ];
        let mut sorted = expected;
        sorted.sort();
        sorted.sort_by_key(|name| forward_order(name));
        assert_eq!(sorted, expected);
    }
}
