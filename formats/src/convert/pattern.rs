//! Types for single tensors, by patterns of their names.

use quipu_quant::TensorType;

/// A type for all tensors whose names match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorRule {
    /// What stands in the name, beginning at its start or right after a dot; `*` stands for any characters, also none.
    pub pattern: String,
    /// The type.
    pub ty: TensorType,
}

impl TensorRule {
    /// Whether the rule is for the tensor called `name`.
    pub fn matches(&self, name: &str) -> bool {
        let (first, pieces) = self.pattern.split_once('*').unwrap_or((&self.pattern, ""));
        let mut parts = std::iter::once(0).chain(name.match_indices('.').map(|(dot, _)| dot + 1));
        let begins = parts.find_map(|at| name[at..].strip_prefix(first));
        // Each piece as early as possible: if the pieces fit anywhere in this order, they fit there.
        begins.is_some_and(|mut rest| {
            pieces.split('*').all(|piece| match rest.find(piece) {
                Some(at) => {
                    rest = &rest[at + piece.len()..];
                    true
                }
                None => false,
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        let matches = |pattern: &str, name| TensorRule { pattern: pattern.into(), ty: TensorType::F16 }.matches(name);
        assert!(matches("ffn_down", "blk.3.ffn_down.weight"));
        assert!(matches("blk.3.*down", "blk.3.ffn_down.weight"));
        assert!(matches("*", "output.weight") && matches("", "output.weight"));
        assert!(!matches("blk.3.*up", "blk.3.ffn_down.weight"));
        assert!(!matches("down*blk", "blk.3.ffn_down.weight"));
        assert!(!matches("blk.1.", "blk.11.ffn_down.weight"));
        assert!(matches("output.weight", "output.weight") && matches("weight", "output.weight"));
        assert!(!matches("output.weight", "blk.0.attn_output.weight") && !matches("k.0", "blk.0.attn_q.weight"));
        assert!(matches("*output.weight", "blk.0.attn_output.weight"));
    }
}
